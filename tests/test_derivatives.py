"""The comparison of a users' loss's derivative with differences: what is wrong is found and named, and nothing else."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from row_losses import PPO, cross_entropy, huber, likelihood, mixed, ppo, ppo_targets, squares

import fastmlp
from fastmlp import CustomLoss, Model, RowLoss
from fastmlp.derivatives import OUTPUTS, ROWS, SMALLER, STEPS, compare
from fastmlp.kernels.machine.interpreted import INTERPRETED

pytestmark = pytest.mark.small

RNG = np.random.default_rng(0)


def look(function: Any, P: Any, T: Any = 0.0) -> bool:
    """Compare a function over rows of P; T is filled up to as many rows."""
    P = np.atleast_2d(np.asarray(P, float))
    T = np.broadcast_to(np.atleast_2d(np.asarray(T, float)), (len(P), np.size(T) if np.ndim(T) < 2 else np.shape(T)[1]))
    with np.errstate(all="ignore"):
        return compare("RowLoss 'own'", function, P, np.array(T))


def single(value: Callable[[float], float], derivative: Callable[[float], float]) -> Any:
    """A loss of the first output's distance from the first target."""

    def function(p: Any, t: Any, d: Any) -> float:
        d[:] = 0
        d[0] = derivative(p[0] - t[0])
        return value(p[0] - t[0])

    return function


# ---- right ones pass -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [squares, huber, mixed], ids=lambda one: one.__name__)
@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e-3, 1.0, 1e3, 1e6, 1e12])
def test_losses_of_numbers_of_any_size(function: Any, scale: float) -> None:
    if function is mixed and scale > 1e6:  # its waves are as wide as a step that such numbers can be moved by
        return
    P = scale * RNG.standard_normal((8, 3))
    T = P + RNG.standard_normal((8, 3)) * scale * np.logspace(-8, 1, 8)[:, None]
    assert look(function, P, T)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 30.0, 700.0, 1e4])
def test_logits_of_any_size(scale: float) -> None:
    P = scale * RNG.standard_normal((8, 5))
    assert look(cross_entropy, P, RNG.integers(0, 5, (8, 1)))
    assert look(ppo, P, ppo_targets(RNG, 8, 4)) or scale > 700


@pytest.mark.parametrize("least", [1e-300, 1e-30, 1e-9, 1e-3, 0.5])
def test_probabilities_near_the_edge_of_the_logarithms_domain(least: float) -> None:
    assert look(likelihood, np.full((8, 3), least), [0])


ROOT = math.sqrt(0.5)
KINKS = {
    "absolute": (abs, lambda e: float(np.sign(e))),
    "absolute, one side's": (abs, lambda e: 1.0 if e >= 0 else -1.0),
    "pinball": (lambda e: max(0.9 * e, -0.1 * e), lambda e: 0.9 if e > 0 else -0.1),
    "hinge": (lambda e: max(0.0, e), lambda e: float(e > 0)),
    "dead zone": (lambda e: max(0.0, abs(e) - 1e-7), lambda e: math.copysign(abs(e) > 1e-7, e)),
    "a spike's foot": (lambda e: max(0.0, 1e-6 - abs(e - 2e-6)), lambda e: 0.0 if abs(e - 2e-6) > 1e-6 else 1.0),
    "clipped": (lambda e: min(max(e, -0.2), 0.2), lambda e: float(-0.2 < e < 0.2)),
    "huber": (
        lambda e: e * e / 2 if abs(e) < 1e-6 else 1e-6 * (abs(e) - 5e-7),
        lambda e: min(max(e, -1e-6), 1e-6),
    ),
    "a jump": (lambda e: e + (e > 0), lambda e: 1.0),
    "root": (lambda e: math.sqrt(e) if e > 0 else 0.0, lambda e: 0.5 / math.sqrt(e) if e > 0 else 0.0),
    "bell": (lambda e: 1 - math.exp(-e * e), lambda e: 2 * e * math.exp(-e * e)),
}


@pytest.mark.parametrize("name", KINKS)
@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, -3.0, 1e3, 1e-9])
def test_kinks_are_no_fault(name: str, p: float) -> None:
    """At the kink, beside it by less than a step, and away from it."""
    value, derivative = KINKS[name]
    rounded = 1e-8 if name == "root" else 0.0  # nearer to a root's 0 no step is small enough
    beside = [0.0, 1e-16, 1e-12, 1e-9, 1e-7, 3e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.2, ROOT, 1.0, 5.0]
    for e in [*(one for one in beside if one >= rounded), *(-one for one in beside)]:
        look(single(value, derivative), [[p, 1.0]], [p - e])


def test_ties_of_a_maximum() -> None:
    """Any of the derivatives of those that tie."""

    def hinges(p: Any, t: Any, d: Any) -> float:
        d[:] = 0
        d[int(p.argmax())] = 1
        return p.max()

    def shared(p: Any, t: Any, d: Any) -> float:
        d[:] = (p == p.max()) / (p == p.max()).sum()
        return p.max()

    for function in (hinges, shared):
        for p in ([0.0, 0.0, 0.0], [2.0, 2.0, 1.0], [1.0, 1.0 + 1e-9, 0.0]):
            assert look(function, [p])


def test_a_policy_at_its_clips() -> None:
    """Where the ratio is 1, as in each first step, and where it is just at a clip."""
    P = RNG.standard_normal((8, 5))
    for ratio in (1.0, 0.8, 1.2, 1.2 * (1 + 1e-9), 0.8 * (1 + 1e-9)):
        T = ppo_targets(RNG, 8, 4)
        log_q = P[:, :4] - np.log(np.exp(P[:, :4]).sum(axis=1, keepdims=True))
        T[:, 2] = log_q[np.arange(8), T[:, 0].astype(int)] - np.log(ratio)
        assert look(ppo, P, T)


@settings(max_examples=150, deadline=None)
@given(
    factors=st.lists(st.integers(-24, 24).map(lambda one: one / 8), min_size=5, max_size=5),
    p=st.lists(st.integers(-320, 320).map(lambda one: one / 64), min_size=1, max_size=4),
    scale=st.sampled_from([1e-5, 1.0, 1e5]),
    offset=st.sampled_from([0.0, 1.0, 1e6]),
)
def test_smooth_losses_pass_and_wrong_ones_do_not(factors: list[float], p: list[float], scale: float, offset: float) -> None:
    def function(p: Any, t: Any, d: Any, wrong: float = 1.0) -> float:
        a, b, c, e, f = factors
        total = offset
        for j in range(len(p)):
            x = p[j] / scale
            total += a * x**3 + b * x + c * math.sin(x) + e * math.exp(-x * x) + f * math.cos(2 * x)
            d[j] = (3 * a * x * x + b + c * math.cos(x) - 2 * x * e * math.exp(-x * x) - 2 * f * math.sin(2 * x)) / scale
            if d[j] * scale > 0.01:
                d[j] *= wrong
        return total

    P = scale * np.array([p])
    assert look(function, P)
    d = np.zeros(len(p))
    function(P[0], None, d)
    if scale <= 1 >= offset and (d * scale > 0.01).any():  # else the slopes are lost in the rounding of larger numbers
        for wrong in (0.98, -1.0, 0.0, 1.02):
            with pytest.raises(ValueError, match="by differences of the loss"):
                look(lambda p, t, d, wrong=wrong: function(p, t, d, wrong), P)


# ---- wrong ones are found --------------------------------------------------------------------------------------------


def spoilt(function: Any, how: Callable[[Any], None]) -> Any:
    def other(p: Any, t: Any, d: Any) -> float:
        loss = function(p, t, d)
        how(d)
        return loss

    return other


def _swap(d: Any) -> None:
    d[:2] = d[1::-1]


def _set(j: int, value: float) -> Callable[[Any], None]:
    def change(d: Any) -> None:
        d[j] = value

    return change


WRONG = {
    "half": lambda d: d.__imul__(0.5),
    "sign": lambda d: d.__imul__(-1),
    "nearly": lambda d: d.__imul__(1.001),
    "swapped": _swap,
    "zero": _set(1, 0.0),
    "infinite": _set(0, math.inf),
    "NaN": _set(2, math.nan),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("function", [squares, mixed, cross_entropy, ppo], ids=lambda one: one.__name__)
def test_wrong_derivatives_are_found(function: Any, name: str) -> None:
    P, T = RNG.standard_normal((8, 3)), RNG.integers(0, 2, (8, 3)).astype(float)
    if function is ppo:
        P, T = RNG.standard_normal((8, 4)), ppo_targets(RNG, 8, 3)
    assert look(function, P, T)
    with pytest.raises(ValueError, match=r"RowLoss 'own': in row \d, of outputs p = \[.*\] and targets t = \[.*\], the "):
        look(spoilt(function, WRONG[name]), P, T)


def test_a_term_that_is_left_out_is_found() -> None:
    """One of a hundredth: the entropy's."""

    def without(p: Any, t: Any, d: Any) -> float:
        loss = ppo(p, t, d)
        other = np.zeros_like(d)
        q = np.exp(p[:-1] - p[:-1].max())
        q /= q.sum()
        other[:-1] = 0.01 * q * (np.log(q) - (q * np.log(q)).sum())
        d -= other
        return loss

    with pytest.raises(ValueError, match="by differences of the loss"):
        look(without, RNG.standard_normal((8, 5)), ppo_targets(RNG, 8, 4))


def test_the_message_has_both_numbers() -> None:
    said = (
        "RowLoss 'own': in row 0, of outputs p = [1. 2. 3.] and targets t = [1. 1. 1.], the derivative by p[1] is said to be"
        " -3, and is 0.666667 by differences of the loss. check_gradient=False leaves this check out, for a derivative that is"
        " meant to be another"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        look(spoilt(squares, _set(1, -3.0)), [[1.0, 2.0, 3.0]] * 2, [1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="said to be 2, and is between -1 and 1 by differences"):
        look(single(abs, lambda e: 2.0), [[0.0, 1.0]], [0.0])


@pytest.mark.parametrize("left", [0, 2])
def test_what_is_not_set_is_named(left: int) -> None:
    def forgets(p: Any, t: Any, d: Any) -> float:
        for j in range(3):
            if j != left:
                d[j] = 2 * p[j]
        return float((p * p).sum() - p[left] ** 2)

    def adds(p: Any, t: Any, d: Any) -> float:
        for j in range(3):
            d[j] = 2 * p[j] + (d[j] if j == left else 0)
        return float((p * p).sum())

    for function in (forgets, adds):
        with pytest.raises(ValueError, match=rf"does not set d\[{left}\]: it must set all 3 numbers of d"):
            look(function, [[1.0, 2.0, 3.0]])


def test_of_many_outputs_some_are_looked_at() -> None:
    """The largest derivatives, and others."""
    outputs, calls = 1000, []

    def function(p: Any, t: Any, d: Any, wrong: int = -1) -> float:
        calls.append(1)
        d[:] = 1e-3 * p
        d[700] = 5 * p[700]
        if wrong >= 0:
            d[wrong] *= 2
        return float(5e-4 * (p * p).sum() + 2.4995 * p[700] ** 2)

    P = np.ones((1, outputs))
    assert look(function, P)
    assert len(calls) <= 1 + 2 * OUTPUTS * (2 * len(STEPS) + len(SMALLER))
    for wrong in (700, 0, 999):
        with pytest.raises(ValueError, match=rf"by p\[{wrong}\]"):
            look(lambda p, t, d, wrong=wrong: function(p, t, d, wrong), P)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_rows_whose_loss_is_not_finite_are_passed_over(bad: float) -> None:
    wrong = single(lambda e: e * e, lambda e: e)
    P = [[1.0, 0.0], [2.0, 0.0]]
    assert not look(wrong, P, [bad])
    assert not look(wrong, [[bad, 0.0]], [0.0])
    with pytest.raises(ValueError, match="in row 1"):
        look(wrong, P, [[bad], [0.0]])


# ---- in a model ------------------------------------------------------------------------------------------------------


def off(p, t, d):
    for j in range(p.size):
        d[j] = 3 * (p[j] - t[j])
    return ((p - t) ** 2).sum()


def forgetful(p, t, d):
    d[0] = 2 * (p[0] - t[0])
    return (p[0] - t[0]) ** 2


def outside(p, t, d):
    d[:] = 0
    return p[0] * t[int(t[0])] * 0


def steep(p, y):
    return 3 * (p - y)


def square(p, y):
    return (p - y) ** 2


X = RNG.standard_normal((20, 3))
Y = RNG.standard_normal((20, 2))
WAYS: dict[str, Callable[[Model], Any]] = {
    "fit": lambda model: model.fit(X, Y, rng=GENERATOR),
    "weighted fit": lambda model: model.fit(X, Y, sample_weight=np.ones(20), validation_split=0.5, callbacks=CALLED.append),
    "batches": lambda model: model.fit_batches([(X, Y)], rng=GENERATOR),
    "lbfgs": lambda model: model.fit(X, Y, optimizer="lbfgs"),
    "step": lambda model: model.step(X, Y),
    "gradient": lambda model: model.gradient(X, Y),
    "backward": lambda model: model.backward(X, Y),
}
GENERATOR = np.random.default_rng(0)
CALLED: list[Any] = []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_wrong_derivative_changes_nothing(way: str, dtype: Any) -> None:
    if way == "lbfgs":
        pytest.importorskip("scipy")
    for loss in (RowLoss("own", off, 2), CustomLoss("own", square, steep)):
        model = Model([3, 4, 2], "tanh", loss, dtype, rng=0)
        model.loss(X, Y)  # which needs no derivative
        before, state = model._engine.save(), GENERATOR.bit_generator.state
        for _ in range(2):
            with pytest.raises(ValueError, match=rf"^{type(loss).__name__} 'own': in row 0, .* is said to be"):
                WAYS[way](model)
        after = model._engine.save()
        assert after["params"].tobytes() == before["params"].tobytes()
        assert after["steps"] == 0
        assert after["kind"] is before["kind"]
        assert GENERATOR.bit_generator.state == state
        assert not CALLED


@pytest.mark.parametrize("way", WAYS)
def test_the_check_can_be_left_out(way: str) -> None:
    if way == "lbfgs":
        pytest.importorskip("scipy")
    if way == "weighted fit":  # whose callback takes one argument
        return
    for loss in (RowLoss("own", off, 2, check_gradient=False), CustomLoss("own", square, steep, check_gradient=False)):
        WAYS[way](Model([3, 4, 2], "tanh", loss, rng=0))


def test_what_is_left_out_and_where_a_function_leaves_its_arrays() -> None:
    with pytest.raises(ValueError, match=r"RowLoss 'own': in row 0, .* does not set d\[1\]"):
        Model([3, 2], loss=RowLoss("own", forgetful, 2), rng=0).fit(X, Y)
    y = np.zeros((20, 2))
    y[3, 0] = 2
    with pytest.raises(IndexError, match=r"'own': in row 3, .*left its arrays, of 2, 2 and 2 numbers"):
        Model([3, 2], loss=RowLoss("own", outside, 2), rng=0).fit(X, y)


def test_it_is_done_once_for_each_dtype_and_number_of_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    plain = compare

    def counted(what: str, function: Any, P: Any, T: Any) -> bool:
        rows.append(len(P))
        return plain(what, function, P, T)

    monkeypatch.setattr(fastmlp.losses.derivatives, "compare", counted)

    def loss() -> RowLoss:
        return RowLoss("mixed", again, 2)

    def again(p, t, d):
        d[:] = 1
        return p.sum()

    for _ in range(2):
        model = Model([3, 4, 2], loss=loss(), rng=0)
        model.fit(X, Y)
        model.fit(X[:5], Y[:5])
        model.step(X, Y)
    assert rows == [ROWS]
    Model([3, 4, 1], loss=loss(), rng=0).step(X[:5], Y[:5])
    Model([3, 4, 2], loss=loss(), dtype="float32", rng=0).step(X[:5], Y[:5])
    assert rows == [ROWS, 5, 5]


def test_rows_of_weight_zero_are_not_looked_at() -> None:
    """They may hold anything; and what has not been looked at comes later."""

    def own(p, t, d):
        d[:] = 0
        d[0] = p[0] * t[0]
        return p[0] * p[0] * t[0]

    y = Y.copy()
    y[:ROWS] = np.nan
    model = Model([3, 2], loss=RowLoss("own", own, 2), rng=0)
    weights = np.ones(20)
    weights[:ROWS] = 0
    model.fit(X, y, sample_weight=weights)
    with pytest.raises(ValueError, match="is said to be"):
        model.fit(X[ROWS:], y[ROWS:])


def test_a_right_one_trains() -> None:
    y = ppo_targets(RNG, 20, 4)
    for dtype in ("float32", "float64"):
        model = Model([3, 4, 5], "tanh", PPO, dtype, rng=0)
        assert model._engine.unchecked is PPO
        model.fit(X, y)
        assert model._engine.unchecked is None


@pytest.mark.skipif(INTERPRETED, reason="without compiled code an index is checked everywhere")
def test_a_users_own_compilation_is_kept() -> None:
    """The function that is compared has the same options, and checks its indices besides."""
    from numba import njit

    @njit
    def raises(p, t, d):  # Numba's own error model
        d[:] = 0
        return t[0] / t[1]

    with pytest.raises(ZeroDivisionError):
        Model([3, 2], loss=RowLoss("own", raises, 2), rng=0).fit(X, np.zeros((20, 2)))
