"""What users name says what it takes, returns and raises, and shows an example."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import fastmlp
from fastmlp import kernels, metrics, schedules

# What lacks something, and why.
EXCEPTIONS = {
    "Callback.on_train_begin": "the class says what model and logs are",
    "Callback.on_epoch_end": "the class says what model and logs are",
    "Callback.on_train_end": "the class says what model and logs are",
    "EarlyStopping.on_train_begin": "see Callback",
    "EarlyStopping.on_epoch_end": "see Callback",
    "EarlyStopping.on_train_end": "see Callback",
    "EarlyStopping.state_dict": "see Callback",
    "EarlyStopping.load_state_dict": "see Callback",
    "Gradients": "`Model.backward` shows them",
    "LayerOutput": "`Model.layer_outputs` shows it",
    "schedules.Course": "a fit calls it: `ReduceOnPlateau` shows what comes of it",
    "schedules.Course.observe": "see Course",
    "schedules.Course.scale": "see Course",
    "schedules.Course.state_dict": "see Course",
    "schedules.Course.load_state_dict": "see Course",
}
SHAPED = re.compile("ndarray|tuple|list|dict|Any")  # results of which a summary cannot say all


def ours(thing: Any) -> bool:
    return inspect.isfunction(thing) and thing.__module__.startswith("fastmlp")


def public() -> Iterator[tuple[str, Any, str]]:
    """Each public class, function, method and property: its name, itself and its class's docstring."""
    named = [(name, getattr(fastmlp, name)) for name in fastmlp.__all__]
    with suppress(ImportError):
        named += [(name, getattr(fastmlp, name)) for name in ("MLPClassifier", "MLPRegressor")]
    named += [(f"metrics.{name}", metric.function) for name, metric in metrics.METRICS.items()]
    named += [(f"kernels.{name}", getattr(kernels, name)) for name in kernels.__all__]
    for name, thing in vars(schedules).items():
        if inspect.isclass(thing) and thing.__module__ == schedules.__name__ and not name.startswith("_"):
            named.append((f"schedules.{name}", thing))
    for name, thing in named:
        if not callable(thing):  # a module, a number
            continue
        yield name, thing, ""
        if not inspect.isclass(thing):
            continue
        for attribute in sorted(set(dir(thing))):
            one = inspect.getattr_static(thing, attribute)
            function = one.fget if isinstance(one, property) else getattr(one, "__func__", one)
            if ours(function) and not attribute.startswith("_"):
                shown = "".join(above.__doc__ or "" for above in thing.__mro__)
                yield f"{name}.{attribute}", one if isinstance(one, property) else getattr(thing, attribute), shown


def lacking(thing: Any, shown: str = "") -> list[str]:
    """What its docstring does not say; `shown` may have the example."""
    text = inspect.getdoc(thing) or ""
    if not text:
        return ["a docstring"]
    if inspect.isclass(thing) and issubclass(thing, BaseException):
        return []  # nobody makes one
    lacks = [] if ">>>" in text + shown else ["an example"]
    if isinstance(thing, property) or re.search(r"arguments\s+and\s+errors\s+as\s+for\s+`|`\w+`, under the name", text, re.I):
        return lacks
    head = re.findall(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: : .*)?$", text, re.M)
    known = {name.strip("*") for names in head for name in names.split(", ")}
    signature = inspect.signature(thing)
    missing = sorted(signature.parameters.keys() - known - {"self", "cls"})
    if missing:
        lacks.append(f"parameters: {', '.join(missing)}")
    function = inspect.unwrap(thing)
    if inspect.isclass(thing):  # a dataclass's `__init__` has no source
        function = getattr(thing, "__post_init__", thing.__init__)
    returns = signature.return_annotation
    returns = getattr(returns, "__name__", str(returns))
    if not inspect.isclass(thing) and SHAPED.search(returns) and "Returns\n---" not in text:
        lacks.append(f"what it returns: {returns}")
    if ours(function):
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        if any(isinstance(node, ast.Raise) for node in ast.walk(tree)) and "Raises\n---" not in text:
            lacks.append("what it raises")
    return lacks


def test_public_names_are_documented() -> None:
    names = {name: lacking(thing, shown) for name, thing, shown in public()}
    assert len(names) > 60
    found = {name: lacks for name, lacks in names.items() if lacks}
    assert {name: lacks for name, lacks in found.items() if name not in EXCEPTIONS} == {}
    assert EXCEPTIONS.keys() - found.keys() == set()  # no longer exceptions


def test_what_lacks_is_found() -> None:
    def whole(a: Any, b: Any) -> tuple[int, int]:
        """Say something.

        Parameters
        ----------
        a, b : int

        Returns
        -------
        tuple

        Raises
        ------
        ValueError

        Examples
        --------
        >>> 1
        """
        raise ValueError

    whole.__module__ = "fastmlp"
    assert lacking(whole) == []
    text = whole.__doc__ or ""
    for without, what in (
        ("a, b : int", "parameters: a, b"),
        ("Returns\n", "what it returns: tuple[int, int]"),
        ("Raises\n", "what it raises"),
        (">>>", "an example"),
    ):
        whole.__doc__ = text.replace(without, "")
        assert lacking(whole) == [what]
    whole.__doc__ = None
    assert lacking(whole) == ["a docstring"]
