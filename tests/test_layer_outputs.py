"""Every layer's z and a, as `Model.layer_outputs` has them."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import BOUND, HIDDEN, SIZES, error
from reference_update import PATHS, path_problem

from fastmlp import CustomActivation, Model
from fastmlp.kernels import tuning
from fastmlp.kernels.net import train as kernels


def of(p: Any, **options: Any) -> Model:
    return Model.from_weights(p.weights, p.biases, p.activations, **options)


def check(p: Any) -> None:
    """Of the oracle's numbers; and the last outputs are the prediction, bit for bit."""
    model = of(p)
    zs, active = reference.layers(p.X, *p[2:5])
    got = model.layer_outputs(p.X)
    assert len(got) == len(p.weights)
    for layer, z, a in zip(got, zs, active[1:], strict=True):
        assert layer.z.dtype == layer.a.dtype == model.dtype
        assert error(layer.z, z) <= 2 * BOUND[str(model.dtype)]
        assert error(layer.a, a) <= 2 * BOUND[str(model.dtype)]
    np.testing.assert_array_equal(got[-1].a, model.predict(p.X))


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("output", reference.ACTIVATIONS)
@pytest.mark.parametrize("path", PATHS)
def test_each_path_and_output(path: str, output: str, dtype: str) -> None:
    p = path_problem(path, "mse", "gelu", dtype)
    check(p._replace(activations=[*p.activations[:-1], output]))


@pytest.mark.small
@pytest.mark.parametrize("name", HIDDEN)
def test_a_tiny_net(name: str) -> None:
    check(reference.problem([2, 3, 1], [name, "softmax"], "mse", rows=3))


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_any_net(data: Any) -> None:
    sizes = data.draw(st.lists(st.sampled_from(SIZES), min_size=2, max_size=6))
    hidden = [data.draw(st.sampled_from(HIDDEN)) for _ in sizes[2:]]
    output, dtype = data.draw(st.sampled_from(list(reference.ACTIVATIONS))), data.draw(st.sampled_from([*BOUND]))
    check(reference.problem(sizes, [*hidden, output], "mse", data.draw(st.integers(1, 70)), dtype=dtype))


@pytest.mark.parametrize("dtype", BOUND)
def test_many_rows(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks of rows, by one compiled call a layer, and by several."""
    p = reference.problem([40, 300, 70, 5], ["relu", "silu", "softmax"], "mse", 5000, dtype=dtype)
    check(p)
    whole = of(p).layer_outputs(p.X)
    monkeypatch.setattr(tuning, "CALL_TURN", 1)
    model = of(p)
    assert model._engine._space.piece < 5000
    for (z, a), (z_, a_) in zip(model.layer_outputs(p.X), whole, strict=True):
        np.testing.assert_array_equal(z, z_)
        np.testing.assert_array_equal(a, a_)
    np.testing.assert_array_equal(whole[-1].a, model.predict(p.X))


@pytest.mark.small
@pytest.mark.parametrize("dtype", BOUND)
def test_activations_of_the_users_own(dtype: str) -> None:
    """Hidden and on the output, beside built-in ones."""
    wave = CustomActivation("wave", math.sin, math.cos)
    p = reference.problem([3, 20, 7, 2], ["tanh", "relu", "identity"], "mse", rows=9, dtype=dtype)
    for activations in ([wave, "relu", "identity"], ["tanh", wave, "softmax"], ["relu", "tanh", wave]):
        model = Model.from_weights(p.weights, p.biases, activations)
        got = model.layer_outputs(p.X)
        np.testing.assert_array_equal(got[-1].a, model.predict(p.X))
        for (z, a), activation in zip(got, activations, strict=True):
            want = np.sin(z) if activation is wave else reference.ACTIVATIONS[str(activation)][0](z)
            assert error(a, want) <= BOUND[dtype]


@pytest.mark.small
def test_dropout_is_off() -> None:
    p = reference.problem([3, 20, 2], ["tanh", "identity"], "mse", rows=6)
    plain, dropped = of(p), of(p, dropout=0.5)
    dropped._engine.restore(plain._engine.save())
    dropped.step(p.X, p.y, lr=0.1)  # a step that drops units leaves nothing behind
    plain.params[:] = dropped.params
    for layer, other in zip(dropped.layer_outputs(p.X), plain.layer_outputs(p.X), strict=True):
        np.testing.assert_array_equal(layer, other)


@pytest.mark.small
def test_arrays_are_new_and_apart() -> None:
    p = reference.problem([4, 4, 4], ["identity", "identity"], "mse", rows=4)
    model, X = of(p), p.X.copy()
    arrays = [array for layer in (*model.layer_outputs(p.X), *model.layer_outputs(p.X)) for array in layer]
    for i, array in enumerate(arrays):
        assert array.flags.writeable
        assert array.flags.c_contiguous
        assert not any(np.shares_memory(array, other) for other in (p.X, model.params, *arrays[:i]))
    np.testing.assert_array_equal(p.X, X)
    (z, a), _ = model.layer_outputs(p.X.tolist())
    np.testing.assert_array_equal(z, arrays[0])
    np.testing.assert_array_equal(z, a)


@pytest.mark.small
def test_the_gate_refuses_what_does_not_fit() -> None:
    """Whoever calls: the engine, and its kernel."""
    model, params = Model([3, 5, 2], rng=0), np.ones(32)
    with pytest.raises(ValueError, match=r"X \(4, 2\) does not fit a network of sizes \(3, 5, 2\)"):
        model._engine.layer_outputs(np.ones((4, 2)))
    plan, x, wide = model._engine._space.layout.plan, np.ones((4, 3)), np.ones((4, 5))
    for index, z, out in ((-1, wide, wide), (2, wide, wide), (0, np.ones((4, 6)), wide), (0, wide, np.ones((3, 5)))):
        assert not kernels.layer_outputs(plan, params, index, x, z, out)
    assert kernels.layer_outputs(plan, params, 0, x, wide, wide.copy())


def test_it_takes_its_turn() -> None:
    """While another call has the model it waits; the layers that it then returns are of one set of parameters."""
    p = reference.problem([3, 30, 2], ["tanh", "identity"], "mse", rows=6)
    model, found, started = of(p), [], threading.Event()

    def call() -> None:
        started.set()
        found.append(model.layer_outputs(p.X))

    caller = threading.Thread(target=call)
    with model._engine._turn:
        caller.start()
        started.wait(30)
        time.sleep(0.05)
        assert not found
        model.params[:] = 0
    caller.join(30)
    assert all((array == 0).all() for layer in found[0] for array in layer)
