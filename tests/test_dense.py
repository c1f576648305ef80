from __future__ import annotations

from itertools import cycle, product
from typing import Any

import numpy as np
import pytest
from numba import njit
from numpy.testing import assert_array_equal
from reference import ACTIVATIONS

from fastmlp import activations, kernels
from fastmlp.kernels.machine.interpreted import INTERPRETED

pytestmark = pytest.mark.small

SIZES = (1, 2, 17) if INTERPRETED else (1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 100)
SHAPES = list(product(SIZES, SIZES, SIZES))
# Chains of at most 100 rounded sums, then an activation: float32 loses 1e-5 of the largest terms.
BOUND = {"float64": 1e-12, "float32": 1e-5}


def _close(got: Any, want: Any, dtype: Any) -> bool:
    return bool((np.abs(got - want) <= BOUND[str(dtype)] * max(1.0, np.abs(want).max())).all())


def _normal(rng: np.random.Generator, dtype: Any, *shape: int) -> Any:
    return rng.standard_normal(shape).astype(dtype)


def test_forward(dtype: Any, rng: np.random.Generator) -> None:
    for (rows, fan_in, fan_out), name in zip(SHAPES, cycle(ACTIVATIONS), strict=False):
        x, w, b = _normal(rng, dtype, rows, fan_in), _normal(rng, dtype, fan_in, fan_out), _normal(rng, dtype, fan_out)
        out, z = np.full((2, rows, fan_out), np.nan, dtype)
        assert kernels.dense_forward(x, w, b, getattr(kernels, name.upper()), z, out) == 0
        want = x.astype(float) @ w + b
        assert _close(out, ACTIVATIONS[name][0](want), dtype), (rows, fan_in, fan_out, name)
        if activations.ACTIVATIONS[name].of_input:
            assert _close(z, want, dtype)
        else:
            assert np.isnan(z).all()


def test_backward_weights_and_biases(dtype: Any, rng: np.random.Generator) -> None:
    for rows, fan_in, fan_out in SHAPES:
        x, d = _normal(rng, dtype, rows, fan_in), _normal(rng, dtype, rows, fan_out)
        dw, db = np.empty((fan_in, fan_out), dtype), np.empty(fan_out, dtype)
        assert kernels.dense_backward_weights(x, d, dw) == 0
        assert kernels.dense_backward_biases(d, db) == 0
        assert _close(dw, x.astype(float).T @ d, dtype), (rows, fan_in, fan_out)
        assert _close(db, d.astype(float).sum(axis=0), dtype), (rows, fan_out)


def test_backward_inputs(dtype: Any, rng: np.random.Generator) -> None:
    names = cycle(name for name in ACTIVATIONS if name != "softmax")
    for (rows, fan_in, fan_out), name in zip(SHAPES, names, strict=False):
        d, w, z = _normal(rng, dtype, rows, fan_out), _normal(rng, dtype, fan_in, fan_out), _normal(rng, dtype, rows, fan_in)
        f, derivative = ACTIVATIONS[name]
        kept = z if activations.ACTIVATIONS[name].of_input else f(z.astype(float)).astype(dtype)
        scratch, dx = np.full((fan_out + 15) * fan_in, np.nan, dtype), np.empty((rows, fan_in), dtype)
        assert kernels.dense_backward_inputs(d, w, getattr(kernels, name.upper()), kept, scratch, dx) == 0
        want = (d.astype(float) @ w.T) * derivative(z.astype(float))
        assert _close(dx, want, dtype), (rows, fan_in, fan_out, name)


@pytest.mark.parametrize("wrong", ["x", "w", "b", "z", "out", "code"])
def test_shapes_that_do_not_fit_write_nothing(wrong: str) -> None:
    shapes = {"x": (4, 3), "w": (3, 2), "b": (2,), "z": (4, 2), "out": (4, 2)}
    if wrong in shapes:
        shapes[wrong] = (shapes[wrong][0] + 1, *shapes[wrong][1:])
    arrays = {name: np.full(shape, 7.0) for name, shape in shapes.items()}
    code = kernels.RELU if wrong != "code" else 99
    assert kernels.dense_forward(arrays["x"], arrays["w"], arrays["b"], code, arrays["z"], arrays["out"]) == 1
    assert_array_equal(arrays["out"], 7.0)
    assert_array_equal(arrays["z"], 7.0)


def test_backward_shapes_that_do_not_fit_write_nothing() -> None:
    x, d, w = np.ones((4, 3)), np.ones((4, 2)), np.ones((3, 2))
    dw, db, dx = np.full((3, 3), 7.0), np.full(3, 7.0), np.full((4, 4), 7.0)
    assert kernels.dense_backward_weights(x, d, dw) == 1
    assert kernels.dense_backward_biases(d, db) == 1
    assert kernels.dense_backward_inputs(d, w, kernels.RELU, x, np.ones(99), dx) == 1
    assert kernels.dense_backward_inputs(d, w, kernels.RELU, x, np.ones(3), np.full((4, 3), 7.0)) == 1
    for array in (dw, db, dx):
        assert_array_equal(array, 7.0)


def test_from_compiled_code(rng: np.random.Generator) -> None:
    @njit
    def two_layers(x: Any, w: Any, b: Any, hidden: Any, out: Any) -> int:
        status = kernels.dense_forward(x, w, b, kernels.RELU, hidden, hidden)
        return status + kernels.dense_forward(hidden, w, b, kernels.IDENTITY, out, out)

    x, w, b = rng.standard_normal((5, 4)), rng.standard_normal((4, 4)), rng.standard_normal(4)
    hidden, out = np.empty((2, 5, 4))
    assert two_layers(x, w, b, hidden, out) == 0
    np.testing.assert_allclose(out, np.maximum(x @ w + b, 0) @ w + b, rtol=1e-12, atol=1e-12)
