"""Penalties, clipping and the parameters' mean: whole trainings against the oracle, on every path that a step can take."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest
import reference
from reference import error
from reference_update import PATHS, oracle, path_problem, penalty, train

from fastmlp import SGD, Adagrad, Adam, Adamax, AdamW, Lion, Model, Nadam, RMSprop

# Each setting alone, then together, where their order shows: a penalty that clipping cuts, values cut before the norm.
SETTINGS = [
    {"l1": 0.05},
    {"l2": 0.3},
    {"l1": 0.01, "l2": 0.1},
    {"clip_value": 0.02},
    {"clip_norm": 0.3},
    {"clip_norm": 1e6},
    {"ema": 0.9},
    {"l1": 0.05, "l2": 0.1, "clip_value": 0.04, "clip_norm": 0.25, "ema": 0.5},
]
IDS = [" ".join(f"{name}={value}" for name, value in setting.items()) for setting in SETTINGS]
each = pytest.mark.parametrize("setting", SETTINGS, ids=IDS)
ALL = SETTINGS[-1]


def of(p):
    return Model.from_weights(*p[2:])


def agrees(optimizer, p, epochs, batch, bound=1e-12):
    model, want = of(p), train(p, optimizer, epochs, batch)
    losses = model.fit(p.X, p.y, epochs, batch, optimizer=optimizer, shuffle=False)["loss"]
    assert error(losses, want.losses) <= bound
    assert error(model.params, want.params) <= bound
    if optimizer.ema:
        assert error(model.average, want.mean) <= bound
        assert error(model.average, want.params) > 1e3 * bound  # lags behind
    else:
        assert model.average is None
    return model


# ---- whole trainings -------------------------------------------------------------------------------------------------


@each
@pytest.mark.parametrize("path", PATHS)
def test_fit_equals_the_oracle(setting, path):
    p, batch = path_problem(path), PATHS[path][2]
    plain, changed = agrees(SGD(0.1), p, 5, batch), agrees(SGD(0.1, **setting), p, 5, batch)
    same = set(setting) == {"ema"} or setting.get("clip_norm") == 1e6  # as they should be, the others must show
    assert (error(changed.params, plain.params) <= 1e-14) == same


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD(0.1, momentum=0.9, nesterov=True, **ALL),
        Adam(0.01, **ALL),
        AdamW(0.01, **ALL),
        RMSprop(0.001, **ALL),
        RMSprop(0.001, momentum=0.9, **ALL),
        Adagrad(0.01, **ALL),
        Adamax(0.01, **ALL),
        Nadam(0.01, **ALL),
        Lion(0.001, **ALL),
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["narrow", "small", "strips", "groups"])
def test_with_each_optimizer(optimizer, path):
    agrees(optimizer, path_problem(path), 5, PATHS[path][2])


@pytest.mark.parametrize(("loss", "hidden"), [("bce", "relu"), ("cross_entropy", "gelu"), ("huber", "silu"), ("mae", "elu")])
@pytest.mark.parametrize("path", ["narrow", "small", "strips", "groups"])
def test_with_other_losses(loss, hidden, path):
    agrees(SGD(0.1, **ALL), path_problem(path, loss, hidden), 4, PATHS[path][2])


@pytest.mark.small
@each
@pytest.mark.parametrize("sizes", [(2, 3, 1), (3, 20, 2)], ids=str)
def test_a_tiny_fit(setting, sizes):
    agrees(SGD(0.1, **setting), reference.problem(sizes, ["tanh", "identity"], "mse", 5), 2, 3)


@each
@pytest.mark.parametrize("path", ["narrow", "small", "strips", "groups"])
def test_in_float32(setting, path):
    p, batch = path_problem(path, dtype="float32"), PATHS[path][2]
    model, want = of(p), train(p, SGD(0.1, **setting), 5, batch)
    losses = model.fit(p.X, p.y, 5, batch, optimizer=SGD(0.1, **setting), shuffle=False)["loss"]
    assert error(losses, want.losses) <= 2e-6
    assert error(model.params, want.params) <= 2e-6


# ---- given gradients: each setting by itself -------------------------------------------------------------------------


@pytest.mark.small
@pytest.mark.parametrize("length", [1, 7, 17, 255, 256, 600])  # about a stretch of squares, and beyond
@each
def test_apply_gradient_equals_the_oracle(setting, length):
    rng = np.random.default_rng(length)
    model, optimizer = Model([length, 1], rng=0), SGD(0.1, **setting)
    model.weights[0][0] = 0.0  # where l1 has no slope
    params, state = [w.copy() for w in (*model.weights, *model.biases)], {}
    for _ in range(3):
        g = 0.1 * rng.standard_normal(length + 1)
        model.apply_gradient(g, optimizer=optimizer)
        params, state = oracle(optimizer)(params, [g[:-1, None], g[-1:, None]], state)
        assert error(model.params, np.concatenate([p.ravel() for p in params])) <= 1e-14


@pytest.mark.small
def test_penalties_spare_the_biases():
    model = Model.from_weights([np.full((2, 3), -2.0), np.full((3, 1), 4.0)], [np.full(3, 5.0), np.full(1, 6.0)])
    model.apply_gradient(np.zeros_like(model.params), optimizer=SGD(1.0, l1=0.5, l2=0.125))
    np.testing.assert_array_equal(model.weights[0], np.full((2, 3), -2 + 0.5 + 0.25))
    np.testing.assert_array_equal(model.weights[1], np.full((3, 1), 4 - 0.5 - 0.5))
    np.testing.assert_array_equal(model.params[6:9], 5)
    assert model.params[-1] == 6


@pytest.mark.small
def test_weight_decay_takes_the_biases_too():
    model = Model.from_weights([np.full((1, 1), -2.0)], [np.full(1, 4.0)])
    model.apply_gradient([0.0, 0.0], optimizer=SGD(1.0, weight_decay=0.25))
    np.testing.assert_array_equal(model.params, [-1.5, 3])


@pytest.mark.small
@pytest.mark.parametrize(
    ("setting", "want"),
    [
        ({"clip_value": 2.0}, [2, -2, 0, 1.5]),
        ({"clip_norm": 13.0}, [3, -12, 0, 1.5]),  # its norm is 12.46
        ({"clip_norm": 155.25**0.5}, [3, -12, 0, 1.5]),
        ({"clip_norm": 155.25**0.5 / 2}, [1.5, -6, 0, 0.75]),
        ({"clip_value": 3.0, "clip_norm": 2.25}, [1.5, -1.5, 0, 0.75]),  # the other order would change nothing but -12
    ],
)
def test_clipping_by_hand(setting, want):
    model = Model.from_weights([np.zeros((3, 1))], [np.zeros(1)])
    model.apply_gradient([3.0, -12.0, 0.0, 1.5], optimizer=SGD(1.0, **setting))
    np.testing.assert_allclose(model.params, -np.array(want), rtol=1e-15)


@pytest.mark.small
@pytest.mark.parametrize("setting", [{"clip_value": 1.0}, {"clip_norm": 1.0}, {"l1": 0.1}, {"l2": 0.1}, ALL], ids=str)
def test_nan_is_not_clipped_away(setting):
    model = Model([3, 1], rng=0)
    model.apply_gradient([1.0, np.nan, 1.0, 1.0], optimizer=SGD(0.1, **setting))
    assert np.isnan(model.params[1])
    assert np.isfinite(model.params[[0, 2, 3]]).all()


@pytest.mark.small
def test_the_given_gradient_stays_as_it_was():
    model, g = Model([3, 1], rng=0), np.array([3.0, 2, 1, 0])
    model.apply_gradient(g, optimizer=SGD(0.1, **ALL))
    np.testing.assert_array_equal(g, [3, 2, 1, 0])


# ---- the loss --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_the_reported_loss_contains_the_penalty_and_model_loss_does_not(path):
    p = path_problem(path)
    plain, model = of(p), of(p)
    want = plain.loss(p.X, p.y) + penalty(p.weights, 0.1, 0.2)
    assert error(model.step(p.X, p.y, optimizer=SGD(0.1, l1=0.1, l2=0.2)), want) <= 1e-13
    model.params[:] = plain.params
    assert error(model.fit(p.X, p.y, optimizer=SGD(0.1, l1=0.1, l2=0.2))["loss"], [want]) <= 1e-13
    model.params[:] = plain.params
    assert model.loss(p.X, p.y) == plain.loss(p.X, p.y)
    assert model.gradient(p.X, p.y)[0] == plain.gradient(p.X, p.y)[0]
    np.testing.assert_array_equal(model.gradient(p.X, p.y)[1], plain.gradient(p.X, p.y)[1])


# ---- the mean of the parameters --------------------------------------------------------------------------------------


def test_it_is_kept_over_fits_kinds_and_copies():
    """SGD starts it at its first parameters, Adam goes on with it, Lion leaves it, a copy keeps it."""
    p = path_problem("small")
    model, want = of(p), reference.flat(p.weights, p.biases)
    assert model.average is None

    def fit(optimizer, decay):
        nonlocal want
        for _ in range(3):
            model.step(p.X, p.y, optimizer=optimizer)
            want = decay * want + (1 - decay) * model.params
        assert error(model.average, want) <= 1e-14

    fit(SGD(0.1, ema=0.5), 0.5)
    fit(SGD(0.1, momentum=0.9, ema=0.5), 0.5)
    fit(SGD(0.1, ema=0.75), 0.75)
    fit(Adam(0.01, ema=0.5), 0.5)
    fit(Lion(0.01), 1.0)
    for clone in (copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))):
        model = clone(model)
        fit(Lion(0.01, ema=0.5), 0.5)
        fit(SGD(0.1, momentum=0.5), 1.0)
        fit(Nadam(0.1, ema=0.5), 0.5)


@pytest.mark.parametrize("path", ["narrow", "small", "strips", "groups"])
@pytest.mark.parametrize("optimizer", [SGD(0.05, 0.9), Adam(0.01), RMSprop(0.01, momentum=0.5), Nadam(0.01)], ids=str)
def test_moments_go_on_where_a_mean_joins_them(optimizer, path):
    """They move up in memory to make room for it; and with it kept, but not asked for, steps are the usual ones."""
    p, batch = path_problem(path), PATHS[path][2]
    plain, model = of(p), of(p)
    for one, ema in ((plain, 0.0), (model, 0.9)):
        one.fit(p.X, p.y, 2, batch, optimizer=optimizer, shuffle=False)
        one.fit(p.X, p.y, 2, batch, optimizer=dataclasses.replace(optimizer, ema=ema), shuffle=False)
        one.fit(p.X, p.y, 2, batch, optimizer=optimizer, shuffle=False)
    assert error(model.params, plain.params) <= 1e-13  # the whole gradient is added up in another order
    assert model.average is not None


@pytest.mark.small
def test_it_is_a_copy():
    model = Model([2, 1], rng=0)
    model.step(np.ones((3, 2)), np.ones((3, 1)), optimizer=SGD(0.1, ema=0.5))
    taken = model.average
    taken[:] = np.nan
    assert np.isfinite(model.average).all()
