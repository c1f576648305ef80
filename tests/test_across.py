from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp.kernels.machine.jit import inlined
from fastmlp.kernels.machine.pointer import pointer
from fastmlp.kernels.tiles.across import largest, repeat, sum_across, sum_lanes, sum_rows, total, transposed
from fastmlp.kernels.tiles.tile import lanes, load, load_square, store

pytestmark = pytest.mark.small


@inlined
def _lanes(x: Any) -> int:
    return lanes(pointer(x))


@lru_cache
def _fold(operation: Callable[[Any], Any], rows: int, vectors: int) -> Any:
    @inlined
    def run(x: Any, stride: int) -> float:
        return operation(load(pointer(x), stride, rows, vectors, None))

    return run


@pytest.mark.parametrize(("rows", "vectors"), [(1, 1), (3, 1), (5, 2)])
def test_total_and_largest(rows: int, vectors: int, dtype: Any, rng: np.random.Generator) -> None:
    x = rng.integers(-99, 99, (rows, vectors * _lanes(np.empty(1, dtype)))).astype(dtype)
    assert _fold(total, rows, vectors)(x, x.shape[1]) == x.sum()
    assert _fold(largest, rows, vectors)(x, x.shape[1]) == x.max()
    for place in np.ndindex(x.shape):
        spoiled = x.copy()
        spoiled[place] = np.nan
        assert np.isnan(_fold(total, rows, vectors)(spoiled, x.shape[1]))
        assert np.isnan(_fold(largest, rows, vectors)(spoiled, x.shape[1]))
        spoiled[place] = 1000
        assert _fold(largest, rows, vectors)(spoiled, x.shape[1]) == 1000


@inlined
def _sum_rows(x: Any, stride: int, out: Any) -> None:
    store(sum_rows(load(pointer(x), stride, 5, 2, None)), pointer(out), 0, None)


def test_sum_rows(dtype: Any, rng: np.random.Generator) -> None:
    x = rng.integers(-99, 99, (5, 2 * _lanes(np.empty(1, dtype)))).astype(dtype)
    out = np.zeros(x.shape[1], dtype)
    _sum_rows(x, x.shape[1], out)
    assert_array_equal(out, x.sum(axis=0))


@inlined
def _squares(x: Any, sums: Any, turned: Any, everywhere: Any) -> None:
    square = load_square(pointer(x), x.shape[1], None)
    store(sum_lanes(square), pointer(sums), 0, None)
    store(transposed(square), pointer(turned), x.shape[1], None)
    store(sum_across(square), pointer(everywhere), x.shape[1], None)


def test_transposed_and_sums_across_lanes(dtype: Any, rng: np.random.Generator) -> None:
    """Of numbers whose sums are exact; and of any: both sums have the same bits."""
    step = _lanes(np.empty(1, dtype))
    x = rng.integers(-99, 99, (step, step)).astype(dtype)
    sums, turned, everywhere = np.zeros(step, dtype), np.zeros_like(x), np.zeros_like(x)
    _squares(x, sums, turned, everywhere)
    assert_array_equal(turned, x.T)
    assert_array_equal(sums, x.sum(axis=1))
    x = rng.standard_normal((step, step)).astype(dtype)
    _squares(x, sums, turned, everywhere)
    assert_array_equal(everywhere, np.broadcast_to(sums[:, None], x.shape))


@inlined
def _repeated(x: Any, out: Any) -> None:
    store(repeat(load(pointer(x), 0, 1, 2, None), 3), pointer(out), x.size, None)


def test_repeat(dtype: Any, rng: np.random.Generator) -> None:
    x = rng.standard_normal(2 * _lanes(np.empty(1, dtype))).astype(dtype)
    out = np.zeros((3, x.size), dtype)
    _repeated(x, out)
    assert_array_equal(out, [x] * 3)
