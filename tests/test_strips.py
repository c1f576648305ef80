from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from reference import adam_step, sgd_step

from fastmlp import SGD, Adam
from fastmlp.kernels.layer.dense import Shape
from fastmlp.kernels.layer.pack import pack
from fastmlp.kernels.layer.strips import ADD, UPDATE, backward_strips
from fastmlp.kernels.layer.update import Place, Settings, prepare
from fastmlp.kernels.machine.interpreted import INTERPRETED
from fastmlp.kernels.machine.jit import inlined
from fastmlp.kernels.machine.pointer import pointer

pytestmark = pytest.mark.small

# Rows beyond one chunk, columns beyond one block of panels, remainders everywhere.
SHAPES = [(5, 7, 33)] if INTERPRETED else [(5, 7, 33), (300, 25, 65), (16, 13, 40), (600, 30, 1100), (257, 12, 32)]
BOUND = {"float64": 1e-12, "float32": 2e-5}


@inlined
def _run(code: int, hyper: Any, x: Any, d: Any, w: Any, moments: Any, dw: Any, panels: Any, strip: Any, mode: int) -> None:
    (rows, fan_in), fan_out = x.shape, d.shape[1]
    settings = Settings(pointer(hyper))
    prepare(code, settings, 1, pointer(w))
    pack(pointer(d), pointer(panels), rows, fan_out, rows)
    first = pointer(moments)
    place = Place(pointer(w), pointer(dw), first, first + w.size)
    shape = Shape(rows, fan_in, fan_out, 0, fan_in)
    backward_strips(code, settings, pointer(x), pointer(panels), pointer(strip), place, shape, mode)


def _strips(code: int, hyper: Any, x: Any, d: Any, w: Any, moments: Any, dw: Any, add: int, step: int) -> None:
    # Scratch is made here: in compiled code an array would be freed after its last use, whatever points into it.
    rows, fan_out = d.shape
    panels, strip = np.full(rows * (fan_out + 32), np.nan, x.dtype), np.full(16 * fan_out, np.nan, x.dtype)
    _run(code, hyper, x, d, w, moments, dw, panels, strip, (ADD if add else 0) + (UPDATE if step else 0))


@pytest.mark.parametrize("add", [0, 1])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "optimizer", [SGD(0.1, weight_decay=0.1), SGD(0.1, momentum=0.9), Adam(0.1)], ids=["sgd", "momentum", "adam"]
)
def test_one_step_equals_the_oracle(optimizer: Any, shape: Any, add: int, dtype: Any, rng: np.random.Generator) -> None:
    rows, fan_in, fan_out = shape
    x, d, w, dw = (
        rng.standard_normal(s).astype(dtype) for s in ((rows, fan_in), (rows, fan_out), (fan_in, fan_out), (fan_in, fan_out))
    )
    want_gradient = x.astype(float).T @ d + add * dw
    start, before = w.astype(float), dw.copy()
    moments = np.zeros(2 * w.size, dtype)
    _strips(optimizer.code, optimizer.hyper(), x, d, w, moments, dw, add, 1)
    if isinstance(optimizer, Adam):
        want = adam_step([start], [want_gradient], {}, lr=0.1)[0][0]
    else:
        settings = {"momentum": optimizer.momentum, "weight_decay": optimizer.weight_decay}
        want = sgd_step([start], [want_gradient], {}, lr=0.1, **settings)[0][0]
    np.testing.assert_allclose(w, want, rtol=0, atol=BOUND[str(dtype)] * np.abs(want_gradient).max())
    np.testing.assert_array_equal(dw, before)


@pytest.mark.parametrize("add", [0, 1])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_without_a_step_the_gradient_is_kept(shape: Any, add: int, dtype: Any, rng: np.random.Generator) -> None:
    rows, fan_in, fan_out = shape
    x, d, w, dw = (
        rng.standard_normal(s).astype(dtype) for s in ((rows, fan_in), (rows, fan_out), (fan_in, fan_out), (fan_in, fan_out))
    )
    want = x.astype(float).T @ d + add * dw
    before = w.copy()
    _strips(0, SGD(0.1).hyper(), x, d, w, np.zeros(2 * w.size, dtype), dw, add, 0)
    np.testing.assert_allclose(dw, want, rtol=0, atol=BOUND[str(dtype)] * np.abs(want).max())
    np.testing.assert_array_equal(w, before)
