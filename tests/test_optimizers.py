"""The optimisers: what they hold, what they refuse, and their steps against the oracle's, for a given gradient."""

import dataclasses
import math
from functools import partial

import numpy as np
import pytest
import reference
from reference import error
from reference_update import STEPS, oracle

import fastmlp
from fastmlp import SGD, Adagrad, Adam, Adamax, AdamW, Lion, Nadam, RAdam, RMSprop
from fastmlp.optimizer import OPTIMIZERS

# Every setting that changes the arithmetic, alone and together.
SETTINGS = [
    SGD(0.1),
    SGD(0.1, weight_decay=0.01),
    SGD(0.1, momentum=0.9),
    SGD(0.1, momentum=0.9, nesterov=True),
    SGD(0.1, momentum=0.5, nesterov=True, weight_decay=0.1),
    Adam(0.01),
    Adam(0.01, weight_decay=0.1),
    Adam(0.01, beta1=0.0, beta2=0.5),
    Adam(0.1, beta1=0.5, beta2=0.99, epsilon=1e-3, weight_decay=0.01),
    AdamW(0.01, weight_decay=0.0),
    AdamW(0.1, beta1=0.5, beta2=0.99, epsilon=1e-3, weight_decay=0.1),
    RMSprop(0.01),
    RMSprop(0.01, alpha=0.5, epsilon=1e-3, weight_decay=0.1),
    RMSprop(0.01, momentum=0.5, weight_decay=0.1),
    Adagrad(0.1),
    Adagrad(0.1, epsilon=1e-2, weight_decay=0.1),
    Adamax(0.01),
    Adamax(0.1, beta1=0.5, beta2=0.5, epsilon=0.1, weight_decay=0.1),
    Nadam(0.01),
    Nadam(0.01, momentum_decay=0.0),
    Nadam(0.1, beta1=0.5, beta2=0.99, epsilon=1e-3, weight_decay=0.1, momentum_decay=0.5),
    Lion(0.01),
    Lion(0.01, beta1=0.5, beta2=0.6, weight_decay=0.1),
    RAdam(0.01),
    RAdam(0.1, beta1=0.5, beta2=0.99, epsilon=1e-3, weight_decay=0.01),
    RAdam(0.01, beta2=0.5),  # never rectified
]
IDS = [str(optimizer) for optimizer in SETTINGS]
KINDS = list(OPTIMIZERS.values())
COMMON = {"l1": 0.0, "l2": 0.0, "clip_value": None, "clip_norm": None, "ema": 0.0}


# ---- as objects ------------------------------------------------------------------------------------------------------


@pytest.mark.small
def test_fields():
    assert reference.settings(SGD()) == {"lr": 0.01, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
    assert reference.settings(Adam()) == {
        "lr": 1e-3,
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-8,
        "weight_decay": 0.0,
    }
    moments = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
    assert reference.settings(AdamW()) == {"lr": 1e-3, **moments, "weight_decay": 0.01}
    assert reference.settings(RMSprop()) == {"lr": 1e-2, "alpha": 0.99, "epsilon": 1e-8, "momentum": 0.0, "weight_decay": 0.0}
    assert reference.settings(Adagrad()) == {"lr": 1e-2, "epsilon": 1e-10, "weight_decay": 0.0}
    assert reference.settings(Adamax()) == {"lr": 2e-3, **moments, "weight_decay": 0.0}
    assert reference.settings(Nadam()) == {"lr": 2e-3, **moments, "weight_decay": 0.0, "momentum_decay": 4e-3}
    assert reference.settings(Lion()) == {"lr": 1e-4, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0}
    assert reference.settings(RAdam()) == {"lr": 1e-3, **moments, "weight_decay": 0.0}
    for kind in KINDS:
        assert {name: getattr(kind(), name) for name in COMMON} == COMMON
    assert SGD(0.1, 0.9, True, 0.2) == SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.2)
    assert Adam(0.1, 0.8, 0.9, 1e-4, 0.2) == Adam(lr=0.1, beta1=0.8, beta2=0.9, epsilon=1e-4, weight_decay=0.2)


@pytest.mark.small
def test_the_oracle_knows_all():
    assert [kind.__name__ for kind in KINDS] == list(STEPS)
    assert {type(optimizer) for optimizer in SETTINGS} == set(KINDS)
    assert {kind.__name__ for kind in KINDS} <= set(fastmlp.__all__)


@pytest.mark.small
@pytest.mark.parametrize("kind", KINDS)
def test_are_values(kind):
    assert kind(0.1) == kind(0.1) != kind(0.2)
    assert hash(kind(0.1)) == hash(kind(0.1))
    assert "lr=0.1" in repr(kind(0.1))
    assert dataclasses.replace(kind(0.1), lr=0.2) == kind(0.2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind().lr = 1
    assert kind(np.float32(0.5)) == kind(0.5)
    assert kind(1).lr == 1
    assert kind(l2=0.1) == kind(l2=0.1) != kind()
    assert "clip" not in repr(kind())
    assert repr(kind(clip_norm=2.0)).endswith(", clip_norm=2.0)")
    with pytest.raises(TypeError, match="positional"):
        kind(*[0.5] * (len(reference.settings(kind())) + 1))  # those that all have are named


NAN, INF = math.nan, math.inf
LIMITS = {  # of each setting: what is just outside
    "lr": (-0.5, 0.0, NAN, INF),
    "weight_decay": (-0.5, NAN, INF),
    "momentum": (-0.5, 1.0, 1.5, NAN),
    "beta1": (-0.5, 1.0, 1.5, NAN),
    "beta2": (-0.5, 1.0, 1.5, NAN),
    "alpha": (-0.5, 1.0, 1.5, NAN),
    "epsilon": (-0.5, 0.0, NAN, INF),
    "momentum_decay": (-0.5, NAN, INF),
    "l1": (-0.5, NAN, INF),
    "l2": (-0.5, NAN, INF),
    "clip_value": (-0.5, 0.0, NAN, INF),
    "clip_norm": (-0.5, 0.0, NAN, INF),
    "ema": (-0.5, 1.0, 1.5, NAN),
}
NUMBERS = [(kind, field.name) for kind in KINDS for field in dataclasses.fields(kind) if field.type is not bool]
REFUSED = [
    *[(kind, {name: value}, ValueError) for kind, name in NUMBERS for value in LIMITS[name]],
    *[(kind, {name: value}, TypeError) for kind, name in NUMBERS for value in ("0.5", [0.5], True, 1j)],
    *[(kind, {name: None}, TypeError) for kind, name in NUMBERS if not name.startswith("clip")],
    (SGD, {"nesterov": "yes"}, TypeError),
]


@pytest.mark.small
@pytest.mark.parametrize(("kind", "setting", "refusal"), REFUSED)
def test_refuses(kind, setting, refusal):
    ((name, value),) = setting.items()
    with pytest.raises(refusal) as caught:
        kind(**setting)
    assert name in str(caught.value)
    assert str(value) in str(caught.value)


@pytest.mark.small
def test_nesterov_needs_momentum():
    with pytest.raises(ValueError, match=r"(?s)nesterov.*momentum|momentum.*nesterov"):
        SGD(nesterov=True)


# ---- steps -----------------------------------------------------------------------------------------------------------


def run(optimizer, params, gradients, dtype, oracle_step):
    """The library's parameters and the oracle's after these gradients."""
    model = fastmlp.Model([len(params) - 1, 1], dtype=dtype)  # a vector of any length above one
    model.params[:] = params
    want, state = [params.astype(np.float64)], {}
    for g in gradients:
        model.apply_gradient(g, optimizer=optimizer)
        want, state = oracle_step(want, [g.astype(np.float64)], state)
    return model.params, want[0]


def vectors(length, count, dtype, scale=1.0):
    rng = np.random.default_rng(length)
    return rng.standard_normal(length).astype(dtype), (scale * rng.standard_normal((count, length))).astype(dtype)


CASES = [
    *(pytest.param(optimizer, 3, marks=pytest.mark.small, id=f"{optimizer}-3") for optimizer in SETTINGS),
    *(pytest.param(o, n, id=f"{o}-{n}") for o in SETTINGS for n in (2, 7, 8, 15, 16, 17, 31, 33, 64, 100, 1000)),
]


@pytest.mark.parametrize(("optimizer", "length"), CASES)
def test_steps_equal_the_oracle(optimizer, length):
    params, gradients = vectors(length, 5, "float64")
    got, want = run(optimizer, params, gradients, "float64", oracle(optimizer))
    assert error(got, want) <= 1e-14


@pytest.mark.parametrize("optimizer", SETTINGS, ids=IDS)
def test_steps_in_float32(optimizer):
    params, gradients = vectors(33, 5, "float32")
    got, want = run(optimizer, params, gradients, "float32", oracle(optimizer))
    assert error(got, want) <= 1e-6  # five steps, each a few roundings of 6e-8


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("scale", [1e-12, 1e-9, 1e-8, 1e-6, 1.0, 1e6])
def test_adam_of_tiny_and_huge_gradients(scale, dtype):
    """About epsilon it shows where epsilon is added: before the bias correction the first step is 30 times as long."""
    params, gradients = vectors(33, 3, dtype, scale)
    got, want = run(Adam(0.5), np.zeros_like(params), gradients, dtype, oracle(Adam(0.5)))
    assert error(got, want) <= (1e-13 if dtype == "float64" else 2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_zero_gradients_move_nothing(kind):
    still = kind(0.5, weight_decay=0.0)
    got, _ = run(still, np.ones(9), np.zeros((3, 9)), "float64", oracle(still))
    np.testing.assert_array_equal(got, 1)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_adam_after_many_steps(dtype):
    """The bias corrections must not be a product that drifts: 3000 steps, each of nearly the whole rate."""
    params, gradients = vectors(17, 3000, dtype)
    got, want = run(Adam(1e-3), params, np.abs(gradients) + np.float32(1), dtype, oracle(Adam(1e-3)))
    assert error(got, want) <= (1e-12 if dtype == "float64" else 1e-4)  # 3000 roundings to the nearest of 6e-8


@pytest.mark.small
@pytest.mark.parametrize("kind", KINDS)
def test_nan_gradients_reach_the_parameters(kind):
    params, gradients = vectors(5, 1, "float64")
    gradients[0, 3] = np.nan
    got, _ = run(kind(), params, gradients, "float64", oracle(kind()))
    np.testing.assert_array_equal(np.isnan(got), [False, False, False, True, False])


# ---- the state between steps -----------------------------------------------------------------------------------------


def test_settings_may_change_and_the_moments_stay():
    """A schedule is a new rate each step: equal or not, optimisers of one kind go on with one state."""
    params, gradients = vectors(17, 4, "float64")
    for kind, step in (
        (partial(SGD, momentum=0.9), partial(reference.sgd_step, momentum=0.9)),
        (Adam, reference.adam_step),
    ):
        model = fastmlp.Model([16, 1])
        model.params[:] = params
        want, state = [params], {}
        for turn, g in enumerate(gradients):
            model.apply_gradient(g, optimizer=kind(lr=0.1 / (turn + 1)))
            want, state = step(want, [g], state, lr=0.1 / (turn + 1))
        assert error(model.params, want[0]) <= 1e-14


def test_another_kind_starts_afresh():
    params, gradients = vectors(17, 3, "float64")
    model, fresh = fastmlp.Model([16, 1]), fastmlp.Model([16, 1])
    model.params[:] = params
    for g in gradients:
        model.apply_gradient(g, optimizer=Adam())
    fresh.params[:] = model.params
    for each in (model, fresh):
        each.apply_gradient(gradients[0], optimizer=SGD(0.1, momentum=0.9))
        each.apply_gradient(gradients[1], optimizer=SGD(0.1, momentum=0.9))
    np.testing.assert_array_equal(model.params, fresh.params)


@pytest.mark.small
def test_apply_gradient_leaves_the_gradient_and_takes_a_rate():
    model = fastmlp.Model([2, 1], rng=0)
    before, g = model.params.copy(), np.array([1.0, 2.0, 3.0])
    model.apply_gradient(g, lr=0.5)
    np.testing.assert_array_equal(model.params, before - 0.5 * g)
    np.testing.assert_array_equal(g, [1, 2, 3])
    model.apply_gradient([1, 0, 0], optimizer=SGD(0.25))
    np.testing.assert_allclose(model.params, before - [0.75, 1, 1.5], rtol=1e-15)
