"""What a file says in words: networks, optimisers and schedules as JSON, checked when it is read.

No name in a file leads to code: built-in things are looked up in fixed tables, and a user's own are given by the reader.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields as fields_of
from typing import Any

import numpy as np

from fastmlp.activations import CustomActivation
from fastmlp.files.safetensors import parsed
from fastmlp.losses import POISSON, CustomLoss, RowLoss, UsersLoss
from fastmlp.network import Network
from fastmlp.optimizer import OPTIMIZERS, Optimizer
from fastmlp.schedules import KINDS, Course, Schedule, _Plateau
from fastmlp.version import __version__

VERSION = 1  # of the format; `FORMAT.md` has what each one holds
KEY = "fastmlp"  # in a file's metadata
MOST = 2**62  # steps, rows or epochs: beyond use, and within a machine word
Custom = CustomActivation | CustomLoss | RowLoss


def metadata(kind: str, **parts: Any) -> dict[str, str]:
    """A file's metadata: what kind of thing is in it, and the description's parts that are not None."""
    head = {"version": VERSION, "kind": kind, "by": __version__}
    text = json.dumps(head | {name: part for name, part in parts.items() if part is not None}, allow_nan=False)
    return {KEY: text}


def read(found: Mapping[str, str]) -> dict[str, Any]:
    """The description in a file's metadata, with its ``kind``; raises ValueError if this version cannot read it."""
    if KEY not in found:
        raise ValueError(f"its metadata has no {KEY!r}: it may hold tensors, but no network of fastmlp")
    whole = parsed("its description", found[KEY])
    if not isinstance(whole, dict) or type(whole.get("version")) is not int or type(whole.get("kind")) is not str:
        raise ValueError("its description must be an object with a version and a kind")
    if whole["version"] != VERSION:
        raise ValueError(
            f"it is of version {whole['version']} of the format, by fastmlp {str(whole.get('by'))[:20]}; this fastmlp,"
            f" {__version__}, reads version {VERSION}"
        )
    return {name: value for name, value in whole.items() if name not in ("version", "by")}


def parts(what: str, value: Any, /, **kinds: type | tuple[type, ...]) -> list[Any]:
    """An object's values, in the order of `kinds`, which has the type of each; one that may be left out has NoneType too."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be an object, got {type(value).__name__}")
    if unknown := sorted(value.keys() - kinds.keys()):
        raise ValueError(f"{what} must have {', '.join(kinds)}; got {unknown[0]!r} too")
    found = []
    for name, kind in kinds.items():
        allowed = kind if isinstance(kind, tuple) else (kind,)
        if type(value.get(name)) not in allowed:
            wanted = " or ".join(one.__name__ for one in allowed)
            raise ValueError(f"{what} must have a {name} of type {wanted}, got {type(value.get(name)).__name__}")
        found.append(value.get(name))
    return found


def network(of: Network) -> dict[str, Any]:
    """A network's description; raises ValueError where two parts of users' own have one name, by which a reader finds them."""
    own: dict[str, Any] = {}
    for one in of.activations:
        if isinstance(one, CustomActivation) and own.setdefault(one.name, one) != one:
            raise ValueError(f"activations must have different names to be written, got two CustomActivation {one.name!r}")
    return {
        "sizes": list(of.sizes),
        "activations": [name if isinstance(name, str) else {"custom": name.name} for name in of.activations],
        "loss": of.loss if isinstance(of.loss, str) else {"custom": of.loss.name},
        "dtype": of.dtype.name,
        "dropout": list(of.dropout),
    }


def read_network(value: Any, custom: Iterable[Custom] = ()) -> Network:
    """The network that a description is of, with the reader's own activations and losses."""
    sizes, names, loss, dtype, dropout = parts(
        "network", value, sizes=list, activations=list, loss=(str, dict), dtype=str, dropout=list
    )
    own = [read_activation(name, custom) for name in names]
    if isinstance(loss, dict):
        loss = read_custom(loss, [*custom, POISSON], UsersLoss)
    try:
        return Network.of(sizes, own, loss, dtype, dropout)
    except TypeError as error:
        raise ValueError(str(error)) from None


def read_activation(value: Any, custom: Iterable[Custom]) -> Any:
    """A built-in activation's name, which is still to be checked, or the reader's own that a file names."""
    return read_custom(value, custom, CustomActivation) if isinstance(value, dict) else value


def read_custom(value: dict[str, Any], custom: Iterable[Custom], kind: Any) -> Any:
    """Among what the reader gave, what a file knows by its name only."""
    (name,) = parts("a custom part", value, custom=str)
    for one in custom:
        if isinstance(one, kind) and one.name == name:
            return one
    what = "CustomActivation" if kind is CustomActivation else "CustomLoss or RowLoss"
    raise ValueError(f"it needs the {what} of the name {name!r}, whose functions no file holds: give it in custom=[...]")


def optimizer(of: Optimizer) -> dict[str, Any]:
    """An optimiser's settings."""
    found: dict[str, Any] = {"kind": type(of).__name__.lower()}
    for one in fields_of(of):
        value = getattr(of, one.name)
        found[one.name] = schedule(value) if isinstance(value, Schedule) else plain(value)
    return found


def known(of: Any) -> bool:
    """Whether an optimiser or a schedule is a built-in one, with a built-in schedule in it; so that its settings are all."""
    if isinstance(of, Optimizer):
        return OPTIMIZERS.get(type(of).__name__.lower()) is type(of) and (not isinstance(of.lr, Schedule) or known(of.lr))
    return isinstance(of, Schedule) and KINDS.get(type(of).__name__) is type(of)


def schedule(of: Schedule) -> dict[str, Any]:
    """A schedule's settings; of one that a user wrote, only what its class is called."""
    name = type(of).__name__
    if KINDS.get(name) is not type(of):
        return {"custom": name}
    return {"kind": name} | {one.name: plain(getattr(of, one.name)) for one in fields_of(of)}  # type: ignore[arg-type]


def course(of: Course | None) -> dict[str, Any] | None:
    """What a built-in schedule remembers of a training."""
    return None if of is None else {name: plain(value) for name, value in of.state_dict().items()}


def read_course(what: str, value: Any, of: Schedule) -> Course | None:
    """The course of a schedule, as `course` described it."""
    if (value is None) != (of.start() is None):
        raise ValueError(f"{what} must be there if, and only if, a schedule follows one; got {value!r} for {type(of).__name__}")
    try:
        return went_on(of, value)
    except TypeError as error:
        raise ValueError(f"{what}: {error}") from None


def went_on(schedule: Schedule, course: Any) -> Course | None:
    """A schedule's course, from its `state_dict` or as it is."""
    made = schedule.start() if isinstance(course, dict) else course
    if made is not None and isinstance(course, dict):
        made.load_state_dict(course)
    return made


def held(of: Any) -> Any:
    """An optimiser or a schedule for a pickle: as its settings, if they are all, and else itself; likewise a course."""
    if isinstance(of, _Plateau):
        return of.state_dict()
    if not known(of):
        return of
    return {"optimizer": optimizer(of)} if isinstance(of, Optimizer) else {"schedule": schedule(of)}


def given_back(value: Any) -> Any:
    """What `held` was given."""
    if isinstance(value, dict) and value.keys() == {"optimizer"}:
        return read_optimizer(value["optimizer"])
    if isinstance(value, dict) and value.keys() == {"schedule"}:
        return read_schedule("schedule", value["schedule"])
    return value


def plain(value: Any) -> Any:
    """A number of NumPy's as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def read_optimizer(value: Any) -> Optimizer:
    """The optimiser of a description."""
    return _settings("optimizer", value, OPTIMIZERS)


def read_schedule(what: str, value: Any) -> Schedule:
    """The schedule of a description."""
    found: Schedule = _settings(what, value, KINDS)
    return found


def _settings(what: str, value: Any, kinds: Mapping[str, Any]) -> Any:
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str) or value["kind"] not in kinds:
        raise ValueError(f"{what} must be an object with a kind of {', '.join(kinds)}")
    kind = kinds[value["kind"]]
    names = {one.name for one in fields_of(kind)}
    if value.keys() - {"kind"} - names:
        raise ValueError(f"{what} must have {', '.join(sorted(names))}; got {sorted(value.keys() - names - {'kind'})[0]!r} too")
    given = {name: part for name, part in value.items() if name != "kind"}
    if isinstance(given.get("lr"), dict):
        given["lr"] = read_schedule("lr", given["lr"])
    try:
        return kind(**given)
    except TypeError as error:
        raise ValueError(f"{what}: {error}") from None
