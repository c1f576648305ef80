from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastmlp.kernels.layer.pack import pack, pack_transposed
from fastmlp.kernels.machine.interpreted import INTERPRETED
from fastmlp.kernels.machine.jit import inlined
from fastmlp.kernels.machine.pointer import pointer
from fastmlp.kernels.machine.target import VECTOR_BYTES

pytestmark = pytest.mark.small

SHAPES = [(3, 40)] if INTERPRETED else [(1, 1), (3, 40), (17, 16), (40, 33), (64, 64), (15, 100), (70, 31)]


@inlined
def _pack(x: Any, out: Any, height: int) -> None:
    pack(pointer(x), pointer(out), x.shape[0], x.shape[1], height)


@inlined
def _pack_transposed(w: Any, out: Any, lower: int, upper: int, height: int) -> None:
    pack_transposed(pointer(w), pointer(out), lower, upper, w.shape[0], w.shape[1], height)


def _wide(dtype: Any) -> int:
    return 2 * VECTOR_BYTES // np.dtype(dtype).itemsize


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_panels(shape: tuple[int, int], dtype: Any, rng: np.random.Generator) -> None:
    rows, columns = shape
    wide, height = _wide(dtype), rows + 2
    x = rng.standard_normal(shape).astype(dtype)
    out = np.full((-(-columns // wide), height, wide), -99, dtype)
    _pack(x, out, height)
    want = np.zeros((rows, len(out) * wide), dtype)
    want[:, :columns] = x
    np.testing.assert_array_equal(out[:, :rows].transpose(1, 0, 2).reshape(rows, -1), want)
    assert (out[:, rows:] == -99).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_transposed_panels_by_shares(shape: tuple[int, int], dtype: Any, rng: np.random.Generator) -> None:
    fan_in, fan_out = shape
    wide = _wide(dtype)
    height = -(-fan_out // (wide // 2)) * (wide // 2)
    w = rng.standard_normal(shape).astype(dtype)
    out = np.full((-(-fan_in // wide), height, wide), -99, dtype)
    for lower in range(0, fan_in, wide):
        _pack_transposed(w, out, lower, min(lower + wide, fan_in), height)
    got = out[:, :fan_out].transpose(1, 0, 2).reshape(fan_out, -1)
    np.testing.assert_array_equal(got[:, :fan_in], w.T)
