"""Functions that users write, of activations and losses alike: what is said of those that do not compile, what they raise,
copies and pickles.
"""

from __future__ import annotations

import copy
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import njit
from row_losses import PPO, ppo_targets, squares

import fastmlp
from fastmlp import Adam, CustomActivation, CustomLoss, Model, RowLoss
from fastmlp.kernels.machine.interpreted import INTERPRETED

compiled = pytest.mark.skipif(INTERPRETED, reason="nothing is compiled")


def one(z):
    return z


def two(p, y):
    return p - y


MAKERS: dict[str, Callable[[Any], Any]] = {
    "activation's value": lambda f: CustomActivation("own", f, one),
    "activation's derivative": lambda f: CustomActivation("own", one, f),
    "loss's value": lambda f: CustomLoss("own", f, two),
    "loss's derivative": lambda f: CustomLoss("own", two, f),
    "row loss's function": lambda f: RowLoss("own", f, 2),
}


def model(custom: Any, sizes: Any = (3, 4, 2), **settings: Any) -> Model:
    if isinstance(custom, CustomActivation):
        return Model(sizes, [custom, "identity"], rng=0, **settings)
    return Model(sizes, "tanh", custom, rng=0, **settings)


# ---- what does not compile -------------------------------------------------------------------------------------------


def attribute(p, *more):
    return p.no_such_thing


def unknown(p, *more):
    return no_such_thing(p)  # noqa: F821


def unknown_row(p, t, d):
    return no_such_row(p)  # noqa: F821


@njit
def helper(p):
    return p.nor_this


def by_helper(p, *more):
    return helper(p)


def imports(p, *more):
    import os

    return os.getpid()


def nothing(p, *more):
    pass


def text(p, *more):
    return "text"


def opens(p, *more):
    with open("file") as file:
        return file


SAID = {
    attribute: (r"Unknown attribute 'no_such_thing' of type .*", "return p.no_such_thing"),
    unknown: (r"NameError: name 'no_such_thing' is not defined", "def unknown(p, *more):"),
    unknown_row: (r"NameError: name 'no_such_row' is not defined", "return no_such_row(p)  # noqa: F821"),
    by_helper: (r"Unknown attribute 'nor_this' of type .*", "return p.nor_this"),
    imports: (r"Use of unsupported opcode \(IMPORT_NAME\) found", "import os"),
    nothing: ("it returns none", "def nothing(p, *more):"),
    text: (r"it returns unicode_type", "def text(p, *more):"),
    opens: (r"The 'with \(context manager\) as \(variable\):' construct is not supported\.", "def opens(p, *more):"),
}


@compiled
@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("wrong", SAID, ids=lambda wrong: wrong.__name__)
def test_the_error_has_the_reason_and_the_line(wrong: Any, maker: str) -> None:
    reason, line = SAID[wrong]
    if wrong is unknown_row and maker != "row loss's function":
        return
    source = Path(__file__).read_text(encoding="utf-8").splitlines()
    number = next(i for i, found in enumerate(source, 1) if found.strip() == line)
    with pytest.raises(TypeError) as caught:
        model(MAKERS[maker](wrong))
    name = maker.split()[-1]
    what = {"a": "a number", "l": "two numbers", "r": "arrays p, t and d"}[maker[0]]
    start = f"{name} must be a function of {what} to a number that Numba can compile, got {wrong!r}: "
    message = str(caught.value)
    assert message.startswith(start)
    end = f" ({__file__}:{number}: {line})"
    assert message.endswith(end)
    assert re.fullmatch(reason, message[len(start) : -len(end)])
    assert caught.value.__suppress_context__  # nor is Numba's own text shown above it
    assert "\n" not in message


def overwrites(p, t, d):
    d[:] = 1
    p[0] = 2.0
    return p.sum()


def shifts(p, t, d):
    d[:] = 1
    t -= t.max()
    return t.sum()


@njit("float64(float64[::1], float64[::1], float64[::1])")
def strict(p, t, d):
    d[:] = 1
    return p.sum()


@compiled
@pytest.mark.parametrize("wrong", [overwrites, shifts, strict])
def test_outputs_and_targets_are_read_only(wrong: Any) -> None:
    with pytest.raises(
        TypeError, match=r"it writes to p or t, or takes .*; they are read-only \(.*test_users_functions.py:\d+: "
    ):
        model(RowLoss("own", wrong, 2))


def test_outputs_and_targets_are_read_only_to_python_too() -> None:
    if INTERPRETED:
        with pytest.raises(ValueError, match="read-only"):
            model(RowLoss("own", overwrites, 2, check_gradient=False)).loss(np.ones((5, 3)), np.ones((5, 2)))


@compiled
def test_a_function_without_source() -> None:
    """As typed into a prompt of Python's own: the place is there, its text is not."""
    names: dict[str, Any] = {}
    exec(compile("def typed(p, t, d):\n    return p.this", "<stdin>", "exec"), names)
    with pytest.raises(TypeError, match=r"Unknown attribute 'this' of type .* \(<stdin>:2\)$"):
        model(RowLoss("own", names["typed"], 2))


@compiled
@pytest.mark.parametrize("wrong", [np.linalg.norm, type("Callable", (), {"__call__": lambda self, *args: 0.0})()])
def test_what_is_no_function_of_pythons(wrong: Any) -> None:
    with pytest.raises(TypeError, match="function must be a function of arrays p, t and d to a number") as caught:
        model(RowLoss("own", wrong, 2))
    assert "custom.py" not in str(caught.value)


# ---- what is raised --------------------------------------------------------------------------------------------------


def picky(z):
    if z > 2:
        raise ValueError("too large for me")
    return z


def picky_loss(p, y):
    if y > 2:
        raise ValueError("too large for me")
    return (p - y) ** 2


def slope(p, y):
    return 2 * (p - y)


def picky_row(p, t, d):
    for j in range(p.size):
        d[j] = p[j]
    if t[0] > 2:
        raise ValueError("too large for me")
    return (p * p).sum() / 2


PICKY = {
    "activation": CustomActivation("own", picky, lambda z: 1.0),
    "loss": CustomLoss("own", picky_loss, slope),
    "row loss": RowLoss("own", picky_row, 2),
}


@pytest.mark.small
@pytest.mark.parametrize("kind", PICKY)
def test_what_a_function_raises_is_raised(kind: str, capfd: Any) -> None:
    one, X, y = model(PICKY[kind], (3, 2, 2)), np.zeros((20, 3)), np.zeros((20, 2))
    one.weights[0][...] = np.eye(3, 2)
    one.fit(X, y)
    before = one.params.copy()
    X[13], y[13] = 3.0, 3.0
    calls = [one.loss, one.step, one.gradient, one.fit, *([lambda X, y: one.predict(X)] if kind == "activation" else [])]
    for call in calls:
        with pytest.raises(ValueError, match=r"^too large for me$"):
            call(X, y)
    np.testing.assert_array_equal(one.params, before)
    assert capfd.readouterr() == ("", "")
    assert np.isfinite(one.loss(X[:13], y[:13]))


@compiled
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("width", "batch"), [(20, 300), (20, 1500), (300, 300)], ids=["blocks", "groups", "strips"])
@pytest.mark.parametrize("row", [0, 700, 2999])
def test_a_training_ends_behind_its_last_whole_step(row: int, width: int, batch: int, threads: int, all_share: Any) -> None:
    """As if it had been asked for these steps only, in all threads; and goes on."""
    fastmlp.set_num_threads(threads)
    rng, optimizer = np.random.default_rng(0), Adam(1e-3)
    X, y, good = rng.standard_normal((3000, 5)), np.zeros((3000, 2)), row // batch * batch
    y[row] = 3
    broken, whole = (model(PICKY["row loss"], (5, width, 2)) for _ in range(2))
    with pytest.raises(ValueError, match="too large for me"):
        broken.fit(X, y, 2, batch, optimizer=optimizer, shuffle=False)
    if good:
        whole.fit(X[:good], y[:good], 1, batch, optimizer=optimizer, shuffle=False)
        assert broken._engine._memory.progress.steps == whole._engine._memory.progress.steps
    np.testing.assert_array_equal(broken.params, whole.params)
    y[row] = 0
    losses = [one.fit(X, y, 2, batch, optimizer=optimizer, shuffle=False)["loss"] for one in (broken, whole)]
    assert losses[0] == losses[1]
    np.testing.assert_array_equal(broken.params, whole.params)


OUTSIDE = """
import numpy as np, fastmlp
def outside(p, t, d):
    d[:] = p
    return t[int(t[0])]
X, y = np.ones((40, 3)), np.zeros((40, 2))
y[33, 0] = 2
model = fastmlp.Model([3, 2], loss=fastmlp.RowLoss("own", outside, 2, check_gradient=False), rng=0)
try:
    model.loss(X, y)
except IndexError as error:
    print(error)
"""


@pytest.mark.slow
def test_an_index_is_checked_where_all_are(python: Callable[..., str], tmp_path: Path) -> None:
    settings = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    assert python(OUTSIDE, **settings) == "index is out of bounds\n"


# ---- copies and pickles ----------------------------------------------------------------------------------------------


def of_here() -> list[Any]:
    """One of each kind, whose functions nobody else can import."""

    def value(z):
        return z * z

    def slope(z):
        return z + z

    def function(p, t, d):
        d[:] = p - t
        return ((p - t) ** 2).sum() / 2

    return [
        CustomActivation("mine", value, slope),
        CustomLoss("mine", lambda p, y: (p - y) ** 2, lambda p, y: 2 * (p - y)),
        RowLoss("mine", function, 2),
    ]


X, Y = np.random.default_rng(0).standard_normal((20, 3)), np.random.default_rng(1).standard_normal((20, 2))


@pytest.mark.small
@pytest.mark.parametrize("index", range(3))
def test_copies_of_functions_that_cannot_be_imported(index: int) -> None:
    custom = of_here()[index]
    assert copy.copy(custom) is copy.deepcopy(custom) is custom
    started = model(custom)
    started.fit(X, Y, 2, 7, optimizer=Adam(0.01), rng=0)
    twin = copy.deepcopy(started)
    losses = [one.fit(X, Y, 2, 7, optimizer=Adam(0.01), rng=0)["loss"] for one in (started, twin)]
    assert losses[0] == losses[1]
    np.testing.assert_array_equal(started.params, twin.params)


@pytest.mark.small
@pytest.mark.parametrize(("index", "role"), [(0, "value"), (1, "value"), (2, "function")])
def test_pickles_of_functions_that_cannot_be_imported_are_refused(index: int, role: str) -> None:
    custom = of_here()[index]
    start = rf"^{custom._kind} 'mine' cannot be pickled: its {role}, of_here\..* of .*test_users_functions.py:\d+, cannot be"
    for thing in (custom, model(custom)):
        with pytest.raises(pickle.PicklingError, match=start):
            pickle.dumps(thing)


@pytest.mark.small
def test_a_function_that_is_no_longer_what_its_name_says_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = CustomLoss("mine", two, slope)
    assert pickle.loads(pickle.dumps(loss)) == loss
    monkeypatch.setattr(sys.modules[__name__], "two", slope)
    with pytest.raises(pickle.PicklingError, match=r"its value, two of .*, cannot be imported"):
        pickle.dumps(loss)


@pytest.mark.small
@pytest.mark.parametrize("index", range(3))
def test_picklers_that_write_functions_write_them(index: int) -> None:
    cloudpickle = pytest.importorskip("cloudpickle")
    started = model(of_here()[index])
    started.fit(X, Y, 2, 7, optimizer=Adam(0.01), rng=0)
    twin = pickle.loads(cloudpickle.dumps(started))
    losses = [one.fit(X, Y, 2, 7, optimizer=Adam(0.01), rng=0)["loss"] for one in (started, twin)]
    assert losses[0] == losses[1]
    np.testing.assert_array_equal(started.params, twin.params)


def test_a_pickled_row_loss_trains_on_to_the_bit() -> None:
    y = ppo_targets(np.random.default_rng(0), 20, 4)
    started = Model([3, 8, 5], "tanh", PPO, rng=0)
    started.fit(X, y, 2, 7, optimizer=Adam(0.01), rng=0)
    twin = pickle.loads(pickle.dumps(started))
    assert twin.network == started.network
    losses = [one.fit(X, y, 2, 7, optimizer=Adam(0.01), rng=0)["loss"] for one in (started, twin)]
    assert losses[0] == losses[1]
    np.testing.assert_array_equal(started.params, twin.params)


ELSEWHERE = """
import pickle, numpy as np
model = pickle.loads(bytes.fromhex({pickled!r}))
print(model.loss_name, model.fit(np.ones((3, 2)), np.ones((3, 2)), 2, lr=0.1)["loss"])
"""
MODULE = """
def function(p, t, d):
    d[0] = p[0] - t[0] * t[1]
    return (p[0] - t[0] * t[1]) ** 2 / 2
"""


def test_a_pickle_opens_in_another_process(python: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the function's name."""
    (tmp_path / "somebodys_losses.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    import somebodys_losses

    one = Model([2, 5, 1], "tanh", RowLoss("theirs", somebodys_losses.function, 2), rng=0)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    printed = python(ELSEWHERE.format(pickled=pickle.dumps(one).hex()))
    assert printed == f"theirs {one.fit(np.ones((3, 2)), np.ones((3, 2)), 2, lr=0.1)['loss']}\n"


@pytest.mark.small
def test_pickles_from_before_there_was_a_check() -> None:
    old = object.__new__(CustomLoss)
    vars(old).update({"name": "mine", "value": two, "derivative": slope, "output": "identity"})
    assert old == CustomLoss("mine", two, slope, check_gradient=False)
    assert pickle.loads(pickle.dumps(old)).check_gradient is True


@pytest.mark.small
def test_a_row_loss_is_what_its_parts_are() -> None:
    assert RowLoss("a", squares, 2) == RowLoss("a", squares, 2)
    assert hash(RowLoss("a", squares, 2)) == hash(RowLoss("a", squares, 2))
    others = [RowLoss("b", squares, 2), RowLoss("a", picky_row, 2), RowLoss("a", squares, 3), RowLoss("a", squares, 2, "tanh")]
    assert all(other != RowLoss("a", squares, 2) for other in others)
