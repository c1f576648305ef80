"""Copies of models, and parameters that follow another model's: `Model.copy` and `Model.set_params_from`."""

from __future__ import annotations

import copy
import threading
import tracemalloc
from typing import Any

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

import fastmlp
from fastmlp import Adam, Model

X = np.random.default_rng(0).standard_normal((12, 3))
Y = np.random.default_rng(1).standard_normal((12, 2))


def net(seed: int = 0, dtype: Any = "float64", **options: Any) -> Model:
    return Model([3, 8, 2], "tanh", dtype=dtype, rng=seed, **options)


# ---- copies ----------------------------------------------------------------------------------------------------------


@pytest.mark.small
def test_a_copy_is_what_deepcopy_makes() -> None:
    """Its memory too: it trains on with the same bits, and neither's steps move the other."""
    model = net(dropout=0.3)
    model.fit(X, Y, 3, optimizer=Adam(0.01, ema=0.5), rng=0)
    model.note = ["mine"]  # type: ignore[attr-defined]
    twins = model.copy(), copy.deepcopy(model)
    assert model.average is not None
    for twin in twins:
        assert type(twin) is Model
        assert twin.network == model.network
        np.testing.assert_array_equal(twin.params, model.params)
        np.testing.assert_array_equal(twin.average, model.average)  # type: ignore[arg-type]
        assert twin.note == ["mine"]  # type: ignore[attr-defined]
        assert twin.note is not model.note  # type: ignore[attr-defined]
    kept = model.params.copy()
    losses = [twin.fit(X, Y, 3, 5, optimizer=Adam(0.01, ema=0.5), rng=1)["loss"] for twin in twins]
    np.testing.assert_array_equal(model.params, kept)
    losses.append(model.fit(X, Y, 3, 5, optimizer=Adam(0.01, ema=0.5), rng=1)["loss"])
    assert losses[0] == losses[1] == losses[2]
    for twin in twins:
        np.testing.assert_array_equal(twin.params, model.params)


@pytest.mark.small
def test_a_copy_of_a_class_of_the_users() -> None:
    class Named(Model):
        """A model with a name."""

    model = Named([2, 1], rng=0)
    twin = model.copy()
    assert type(twin) is Named
    np.testing.assert_array_equal(twin.params, model.params)


# ---- following another -----------------------------------------------------------------------------------------------


@pytest.mark.small
@pytest.mark.parametrize("tau", [1e-3, 0.25, 0.5, 0.999, 1, 1.0, np.float32(0.5)])
def test_the_formula(tau: Any, dtype: Any) -> None:
    target, model = net(0, dtype), net(1, dtype)
    before, kept = target.params.copy(), model.params.copy()
    assert target.set_params_from(model, tau=tau) is None
    want = (1 - float(tau)) * before.astype(float) + float(tau) * kept.astype(float)
    assert reference.error(target.params, want) <= 4 * np.finfo(dtype).eps
    np.testing.assert_array_equal(model.params, kept)
    assert not np.shares_memory(target.params, model.params)


@pytest.mark.small
def test_without_tau_it_is_a_copy(dtype: Any) -> None:
    target, model = net(0, dtype), net(1, dtype)
    model.params[:3] = [np.inf, -0.0, np.nan]
    target.set_params_from(model)
    assert target.params.tobytes() == model.params.tobytes()


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(st.floats(1e-9, 1, exclude_max=True), st.sampled_from(["float32", "float64"]), st.integers(0, 99))
def test_it_lies_between_and_equal_stays_equal(tau: float, dtype: str, seed: int) -> None:
    target, model = net(seed, dtype), net(seed + 1, dtype)
    model.params[::3] = target.params[::3]
    before = target.params.copy()
    target.set_params_from(model, tau)
    np.testing.assert_array_equal(target.params[::3], before[::3])
    slack = 4 * np.finfo(dtype).eps * (np.abs(before) + np.abs(model.params))
    assert (target.params >= np.minimum(before, model.params) - slack).all()
    assert (target.params <= np.maximum(before, model.params) + slack).all()


@pytest.mark.small
def test_forms_of_a_vector() -> None:
    given_ = np.random.default_rng(3).standard_normal(net().params.size).astype("f4")
    forms: list[Any] = [given_.tolist(), given_, given_.astype("f8"), np.repeat(given_, 2)[::2], given_[::-1][::-1]]
    found = []
    for form in forms:
        target = net()
        target.set_params_from(form, tau=0.5)
        found.append(target.params.copy())
    for params in found:
        np.testing.assert_array_equal(params, found[0])
    target = net(dtype="float32")
    target.set_params_from(np.full(target.params.size, 1e300))
    assert np.isinf(target.params).all()


@pytest.mark.small
def test_itself_and_its_own_memory() -> None:
    model = net()
    kept = model.params.copy()
    for other in (model, model.params):
        for tau in (0.3, 1.0):
            model.set_params_from(other, tau)
            np.testing.assert_array_equal(model.params, kept)
    model.set_params_from(model.params[::-1])
    np.testing.assert_array_equal(model.params, kept[::-1])


@pytest.mark.small
def test_nothing_else_moves() -> None:
    """Neither the target's optimiser nor its mean; and its next step reads the new parameters."""
    target, twin, model = net(), net(), net(1)
    for one in (target, twin):
        one.fit(X, Y, 3, optimizer=Adam(0.01, ema=0.5))
    target.set_params_from(model, 0.5)
    np.testing.assert_array_equal(target.average, twin.average)  # type: ignore[arg-type]
    twin.params[...] += 0.5 * (model.params - twin.params)
    for _ in range(2):
        assert target.step(X, Y, optimizer=Adam(0.01, ema=0.5)) == twin.step(X, Y, optimizer=Adam(0.01, ema=0.5))
        np.testing.assert_array_equal(target.params, twin.params)
    target.set_params_from(model)
    np.testing.assert_array_equal(target.predict(X), model.predict(X))


@pytest.mark.small
def test_another_net_is_refused() -> None:
    target = net()
    kept = target.params.copy()
    same_count = Model([24, 2], rng=0)
    assert same_count.params.size == target.params.size
    for other in (Model([3, 9, 2]), Model([8, 3, 2]), same_count):
        with pytest.raises(ValueError, match=r"^other must be a model of sizes \(3, 8, 2\) and dtype float64, got sizes \("):
            target.set_params_from(other)
    with pytest.raises(ValueError, match=r"and dtype float64, got sizes \(3, 8, 2\) and dtype float32$"):
        target.set_params_from(net(dtype="float32"))
    np.testing.assert_array_equal(target.params, kept)
    target.set_params_from(Model([3, 8, 2], "relu", "huber", rng=2))  # what is not in the parameters may differ


@pytest.mark.small
def test_the_gate_refuses_what_does_not_fit() -> None:
    target = net()
    for other in (Model([1, 1])._engine, np.ones(1), np.ones((target.params.size, 1))):
        with pytest.raises(ValueError, match="do not fit 50 parameters"):
            target._engine.blend(other, 0.5)


def test_beside_other_threads() -> None:
    """The other's parameters are those between two of its calls, and two models may follow each other."""
    size = 200_000
    model, targets = Model([size, 1], rng=0), [Model([size, 1], rng=0) for _ in range(2)]
    for one in (model, *targets):
        one.params[:] = 0
    done, torn = threading.Event(), []

    def train() -> None:
        for _ in range(200):
            model.apply_gradient(np.ones(size + 1), lr=0.25)  # all parameters move alike
        done.set()

    def follow(own: Model, other: Model) -> None:
        while not done.is_set():
            own.set_params_from(model)
            own.set_params_from(other, 0.5)
            if own.params.min() != own.params.max():
                torn.append(own.params.copy())

    threads = [threading.Thread(target=train), *(threading.Thread(target=follow, args=p) for p in (targets, targets[::-1]))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    assert not torn
    assert model.params[0] == -50


def test_the_second_time_allocates_nothing() -> None:
    target, model = (Model([300, 1000, 10], rng=seed) for seed in (0, 1))
    target.set_params_from(model, 0.01)
    tracemalloc.start()
    try:
        for tau in (0.01, 1.0):
            target.set_params_from(model, tau)
            target.set_params_from(model.params, tau)
        assert tracemalloc.get_traced_memory()[1] < target.params.nbytes / 100
    finally:
        tracemalloc.stop()


def test_deep_q_learning() -> None:
    """A walk of seven places with a reward at its end: values by a target network that follows slowly."""
    rng, gamma = np.random.default_rng(0), 0.9
    places, ends = np.eye(7), 6
    model = Model([7, 24, 2], "tanh", rng=0)
    target, optimizer = model.copy(), fastmlp.Adam(5e-3)
    for _ in range(1500):
        state, action = rng.integers(0, ends, 32), rng.integers(0, 2, 32)
        after = np.clip(state + 2 * action - 1, 0, ends)
        reward = (after == ends) * 1.0
        want = reward + gamma * (after < ends) * target.predict(places[after]).max(axis=1)
        chosen = np.arange(32), action
        G = np.zeros((32, 2))
        G[chosen] = np.clip(model.predict(places[state])[chosen] - want, -1, 1) / 32  # Huber's slope
        model.step(places[state], optimizer=optimizer, output_gradient=G)
        target.set_params_from(model, tau=0.02)
    value = model.predict(places[:ends]).max(axis=1)
    np.testing.assert_allclose(value, gamma ** np.arange(ends - 1, -1, -1), atol=0.05)
    assert (model.predict(places[:ends]).argmax(axis=1) == 1).all()
