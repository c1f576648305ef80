"""Optimiser steps over whole trainings, on every path that a step can take, and what the optimisers remember."""

import copy
import pickle

import numpy as np
import pytest
from reference import error, flat
from reference_update import PATHS, oracle, path_problem, train
from test_optimizers import KINDS, SETTINGS

from fastmlp import SGD, Adagrad, Adam, Adamax, AdamW, Lion, Model, Nadam, RAdam, RMSprop
from fastmlp.engine.state import Job

# One of each arithmetic, with every setting away from what would hide it.
EACH = [
    SGD(0.02),
    SGD(0.02, momentum=0.9, weight_decay=0.01),
    SGD(0.02, momentum=0.9, nesterov=True, weight_decay=0.01),
    Adam(0.01, weight_decay=0.01),
    AdamW(0.01, weight_decay=0.1),
    RMSprop(0.001, weight_decay=0.01),
    RMSprop(0.001, momentum=0.9, weight_decay=0.01),
    Adagrad(0.01, weight_decay=0.01),
    Adamax(0.01, weight_decay=0.01),
    Nadam(0.01, weight_decay=0.01, momentum_decay=0.05),
    Lion(0.001, weight_decay=0.1),
    RAdam(0.01, weight_decay=0.01),
]
each = pytest.mark.parametrize("optimizer", EACH, ids=str)


def of(p):
    return Model.from_weights(*p[2:])


def clone(model, how):
    return copy.deepcopy(model) if how == "deep" else pickle.loads(pickle.dumps(model))


# ---- a thousand steps ------------------------------------------------------------------------------------------------


def small_gradients(steps, length, dtype):
    """Of all orders of size down to 1e-8, where epsilon's place decides; each number's own order drifts."""
    rng = np.random.default_rng(length)
    scales = 10.0 ** -np.abs(8 * np.sin(np.arange(length) + 0.003 * np.arange(steps)[:, None]))
    return (scales * rng.standard_normal((steps, length))).astype(dtype)


@pytest.mark.parametrize("optimizer", SETTINGS, ids=str)
def test_a_thousand_given_gradients(optimizer):
    """Each of the steps, not only the last."""
    model, step = Model([36, 1], rng=0), oracle(optimizer)
    params, state = [model.params.copy()], {}
    for g in small_gradients(1000, 37, "float64"):
        model.apply_gradient(g, optimizer=optimizer)
        params, state = step(params, [g], state)
        assert error(model.params, params[0]) <= 1e-12


@pytest.mark.parametrize("optimizer", SETTINGS, ids=str)
def test_a_thousand_given_gradients_in_float32(optimizer):
    """A thousand roundings of 6e-8 each, which mostly cancel; a moment's own roundings fade as its past does."""
    model, step = Model([36, 1], rng=0, dtype="float32"), oracle(optimizer)
    params, state = [model.params.astype(np.float64)], {}
    for g in small_gradients(1000, 37, "float32"):
        model.apply_gradient(g, optimizer=optimizer)
        params, state = step(params, [g.astype(np.float64)], state)
    assert error(model.params, params[0]) <= 2e-5


def agrees(optimizer, path, epochs):
    p, batch = path_problem(path), PATHS[path][2]
    model, want = of(p), train(p, optimizer, epochs, batch)
    losses = model.fit(p.X, p.y, epochs, batch, optimizer=optimizer, shuffle=False)["loss"]
    assert error(losses, want.losses) <= 1e-11
    assert error(model.params, want.params) <= 1e-11


@each
@pytest.mark.parametrize("path", PATHS)
def test_fit_equals_the_oracle(optimizer, path):
    """In one call."""
    agrees(optimizer, path, 20)


def follows(optimizer, path, epochs):
    """The moments' way over many epochs, each from other parameters and with other data.

    Were each to start where the last one ended, it would tell less: those that divide by a gradient's size are chaotic near a
    minimum, and make 1e-3 of 1e-16.
    """
    model, state, batch = Model(PATHS[path][0], "tanh"), {}, PATHS[path][2]
    for epoch in range(epochs):
        p = path_problem(path, seed=epoch)
        model.params[:] = flat(p.weights, p.biases)
        want = train(p, optimizer, 1, batch, state=state)
        state = want.state
        assert error(model.fit(p.X, p.y, 1, batch, optimizer=optimizer, shuffle=False)["loss"], want.losses) <= 1e-12
        assert error(model.params, want.params) <= 1e-12


@each
@pytest.mark.parametrize(("path", "epochs"), [("narrow", 334), ("small", 334), ("strips", 100), ("groups", 50)])
def test_many_steps_of_fit_each_equal_the_oracles(optimizer, path, epochs):
    follows(optimizer, path, epochs)


@pytest.mark.slow
@each
@pytest.mark.parametrize("path", ["strips", "blocks", "groups", "panels"])
def test_hundreds_of_steps_of_fit_each_equal_the_oracles(optimizer, path):
    """On the larger paths 150 epochs: a thousand steps of each took four minutes."""
    follows(optimizer, path, {"strips": 1000, "groups": 500}.get(path, 150))


@pytest.mark.small
@each
@pytest.mark.parametrize("sizes", [(2, 3, 1), (3, 20, 2)], ids=str)
def test_a_few_steps_of_a_tiny_fit(optimizer, sizes, monkeypatch):
    monkeypatch.setitem(PATHS, "tiny", (sizes, 5, 3))
    agrees(optimizer, "tiny", 2)


@each
@pytest.mark.parametrize("path", ["narrow", "small", "strips", "groups"])
def test_fit_in_float32(optimizer, path):
    """Few steps: where a gradient is lost in rounding, those that divide by its size still move by their rate."""
    p, batch = path_problem(path, dtype="float32"), PATHS[path][2]
    model, want = of(p), train(p, optimizer, 3, batch)
    losses = model.fit(p.X, p.y, 3, batch, optimizer=optimizer, shuffle=False)["loss"]
    assert error(losses, want.losses) <= 1e-5
    # All but a few of the parameters: those whose gradient is nearly zero by chance may go elsewhere.
    far = np.abs(model.params - want.params) > 2e-5
    assert np.mean(far) <= 0.002


# ---- rates a step ----------------------------------------------------------------------------------------------------


@each
@pytest.mark.parametrize("path", ["narrow", "small", "strips", "groups"])
def test_rates_of_each_step(optimizer, path):
    p, batch = path_problem(path), PATHS[path][2]
    steps = 4 * -(-len(p.X) // (batch or len(p.X)))
    rates = 0.01 / np.arange(1, steps + 1)
    model, losses = of(p), np.zeros(4)
    job = Job(p.X, p.y, model._code, optimizer, batch or len(p.X), rates=rates)
    model._engine.train(job, losses, lambda done: None)
    want = train(p, optimizer, 4, batch, rates=rates)
    assert error(losses, want.losses) <= 1e-12
    assert error(model.params, want.params) <= 1e-11


@pytest.mark.small
@pytest.mark.parametrize("sizes", [(2, 3, 1), (3, 20, 2)], ids=str)
def test_rates_end_with_their_call(sizes):
    """There is none behind the last step's, and the same optimiser's own is back for the next call."""
    X, y = np.ones((4, sizes[0])), np.ones((4, sizes[-1]))
    optimizer, model = SGD(0.5), Model(sizes, rng=0)
    model.fit(X, y, 1, 2, optimizer=optimizer)  # no later call finds the settings' buffer too short
    job = Job(X, y, model._code, optimizer, 2, rates=np.full(4, 0.125))
    model._engine.train(job, np.zeros(2), lambda done: None)
    before = model.params.copy()
    model.apply_gradient(np.ones_like(before), optimizer=optimizer)
    np.testing.assert_allclose(model.params, before - 0.5, rtol=0, atol=1e-15)


# ---- what they remember ----------------------------------------------------------------------------------------------


@each
@pytest.mark.parametrize("how", ["deep", "pickle"])
@pytest.mark.parametrize("path", ["narrow", "small"])
def test_a_copy_goes_on_to_the_bit(optimizer, how, path):
    """Nadam's product of momenta among them: the copy works it out from the step's number."""
    p = path_problem(path)
    model = of(p)
    model.fit(p.X, p.y, 7, 5, optimizer=optimizer, rng=0)
    twin = clone(model, how)
    for one in (model, twin):
        one.fit(p.X, p.y, 5, 7, optimizer=optimizer, rng=1)
        one.apply_gradient(np.ones_like(one.params), optimizer=optimizer)
        one.step(p.X, p.y, optimizer=optimizer)
    np.testing.assert_array_equal(model.params, twin.params)


@pytest.mark.small
def test_nadams_product_survives_what_comes_between():
    """Other calls, a larger buffer for settings, an equal optimiser: the product is that of one uninterrupted training."""
    p = path_problem("small")
    once, pieces = of(p), of(p)
    once.fit(p.X[:4], p.y[:4], 12, optimizer=Nadam(0.01))
    for _ in range(4):
        pieces.fit(p.X[:4], p.y[:4], 3, optimizer=Nadam(0.01))
        pieces.loss(p.X, p.y)
        pieces.gradient(p.X, p.y)
    np.testing.assert_array_equal(once.params, pieces.params)


@pytest.mark.small
def test_other_settings_of_nadam_go_on_with_its_moments():
    """Its product then is that of the new settings from the first step on."""
    model, fresh = Model([6, 1], rng=0), Model([6, 1], rng=0)
    first, second = Nadam(0.01, momentum_decay=0.5), Nadam(0.02, momentum_decay=0.004)
    g = small_gradients(8, 7, "float64")
    params, state = [model.params.copy()], {}
    for i, gradient in enumerate(g):
        optimizer = first if i < 4 else second
        model.apply_gradient(gradient, optimizer=optimizer)
        params, state = oracle(optimizer)(params, [gradient], state)
    assert error(model.params, params[0]) <= 1e-14
    for gradient in g:
        fresh.apply_gradient(gradient, optimizer=second)
    assert error(fresh.params, params[0]) > 1e-6


@pytest.mark.small
def test_each_kind_after_each_other_starts_afresh():
    g = small_gradients(2, 7, "float64") + 1
    for before in KINDS:
        for after in KINDS:
            model, fresh = Model([6, 1], rng=0), Model([6, 1], rng=0)
            model.apply_gradient(g[0], optimizer=before(0.1))
            fresh.params[:] = model.params
            for _ in range(2):
                model.apply_gradient(g[1], optimizer=after(0.1))
                if before is not after:
                    fresh.apply_gradient(g[1], optimizer=after(0.1))
            assert (before is after) or model.params.tobytes() == fresh.params.tobytes()


@pytest.mark.small
def test_momentum_may_come_and_go():
    """The first vector stays where it is: the second moment of RMSprop, whether a second vector is there or not."""
    model, step = Model([6, 1], rng=0), None
    params, kept = [model.params.copy()], None
    for i, g in enumerate(small_gradients(6, 7, "float64")):
        optimizer = RMSprop(0.01, momentum=0.0 if i in (0, 1, 4) else 0.5)
        model.apply_gradient(g, optimizer=optimizer)
        step = oracle(optimizer)
        state = {} if kept is None else {"own": kept}
        params, state = step(params, [g], state)
        ((v, b),) = state["own"]["kept"]
        # Without momentum b is not kept: it is what it was when there was one.
        velocity = b if optimizer.momentum else (0.0 if kept is None else kept["kept"][0][1])
        kept = {"t": state["own"]["t"], "kept": [(v, velocity)]}
        assert error(model.params, params[0]) <= 1e-14


# ---- against PyTorch -------------------------------------------------------------------------------------------------

PEERS = [
    (SGD(0.1, weight_decay=0.01), "SGD", {"lr": 0.1, "weight_decay": 0.01}),
    (SGD(0.1, 0.9, weight_decay=0.01), "SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    (SGD(0.1, 0.9, True, 0.01), "SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    (Adam(0.01, 0.8, 0.99, 1e-6, 0.1), "Adam", {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.1}),
    (AdamW(0.01, 0.8, 0.99, 1e-6, 0.1), "AdamW", {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.1}),
    (RMSprop(0.01, 0.9, 1e-6, 0.0, 0.1), "RMSprop", {"lr": 0.01, "alpha": 0.9, "eps": 1e-6, "weight_decay": 0.1}),
    (
        RMSprop(0.01, 0.9, 1e-6, 0.9, 0.1),
        "RMSprop",
        {"lr": 0.01, "alpha": 0.9, "eps": 1e-6, "momentum": 0.9, "weight_decay": 0.1},
    ),
    (Adagrad(0.1, 1e-6, 0.1), "Adagrad", {"lr": 0.1, "eps": 1e-6, "weight_decay": 0.1}),
    (Adamax(0.01, 0.8, 0.99, 1e-6, 0.1), "Adamax", {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.1}),
    (
        Nadam(0.01, 0.8, 0.99, 1e-6, 0.1, 0.01),
        "NAdam",
        {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.1, "momentum_decay": 0.01},
    ),
    (RAdam(0.01, 0.8, 0.99, 1e-6, 0.1), "RAdam", {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.1}),
]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("optimizer", "name", "settings"), PEERS, ids=[str(peer[0]) for peer in PEERS])
def test_steps_equal_pytorchs(optimizer, name, settings):
    torch = pytest.importorskip("torch")
    model = Model([36, 1], rng=0)
    params = torch.nn.Parameter(torch.from_numpy(model.params.copy()))
    peer = getattr(torch.optim, name)([params], **settings)
    for g in small_gradients(200, 37, "float64"):
        model.apply_gradient(g, optimizer=optimizer)
        params.grad = torch.from_numpy(g)
        peer.step()
    # PyTorch keeps NAdam's product of momenta in float32.
    assert error(model.params, params.detach().numpy()) <= (1e-6 if name == "NAdam" else 1e-12)
