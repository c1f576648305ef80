from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp.kernels.machine.jit import inlined
from fastmlp.kernels.machine.pointer import pointer
from fastmlp.kernels.tiles.tile import broadcast_rows, lanes, load, load_square, outer_add, splat, store

pytestmark = pytest.mark.small

Array = np.ndarray[Any, Any]

CANARY = -99
MARGIN = 3
shapes = pytest.mark.parametrize(("rows", "vectors"), [(1, 1), (3, 1), (4, 2)])


@inlined
def _lanes(x: Any) -> int:
    return lanes(pointer(x))


def _columns(dtype: Any, vectors: int) -> list[int | None]:
    """Counts of valid columns at the edges of registers, and beyond the tile; None for all of them."""
    step = _lanes(np.empty(1, dtype))
    return [None, 0, 1, step - 1, step, step + 1, vectors * step - 1, vectors * step, vectors * step + 5]


def _frame(dtype: Any, rows: int, vectors: int) -> Array:
    """Room for a tile amid canaries, its rows apart."""
    return np.full((rows + 1, vectors * _lanes(np.empty(1, dtype)) + 2 * MARGIN), CANARY, dtype)


def _within(frame: Array, tile: Array, columns: int | None) -> Array:
    """The frame with the tile's valid columns in their place."""
    want = np.full_like(frame, CANARY)
    width = tile.shape[1] if columns is None else min(columns, tile.shape[1])
    want[: len(tile), MARGIN : MARGIN + width] = tile[:, :width]
    return want


def _source(dtype: Any, rows: int, width: int, valid: int | None, rng: np.random.Generator) -> tuple[Array, Array]:
    """Rows of small integers with NaN after the valid columns, and the tile that loading them should give."""
    x = rng.integers(-8, 9, (rows, width + MARGIN)).astype(dtype)
    tile = x[:, :width].copy()
    if valid is not None:
        tile[:, valid:] = 0
        x[:, valid:] = np.nan
    return x, tile


@lru_cache
def _load_store(rows: int, vectors: int) -> Any:
    @inlined
    def run(x: Any, stride: int, out: Any, row: int, read: Any, written: Any) -> None:
        store(load(pointer(x), stride, rows, vectors, read), pointer(out) + MARGIN, row, written)

    return run


@shapes
def test_load_and_store(rows: int, vectors: int, dtype: Any, rng: np.random.Generator) -> None:
    run = _load_store(rows, vectors)
    for columns in _columns(dtype, vectors):
        for read, written in ((columns, None), (None, columns), (columns, columns)):
            out = _frame(dtype, rows, vectors)
            x, tile = _source(dtype, rows, out.shape[1] - 2 * MARGIN, read, rng)
            run(x, x.shape[1], out, out.shape[1], read, written)
            assert_array_equal(out, _within(out, tile, written))


def test_overlapping_rows(dtype: Any, rng: np.random.Generator) -> None:
    run = _load_store(3, 1)
    step = _lanes(np.empty(1, dtype))
    for stride, order in ((0, [0, 0, 0]), (1, [0, 1, 2])):
        x, out = rng.random(step + 2).astype(dtype), _frame(dtype, 3, 1)
        run(x, stride, out, out.shape[1], None, None)
        assert_array_equal(out, _within(out, np.array([x[i : i + step] for i in order]), None))


@lru_cache
def _broadcast(rows: int, vectors: int) -> Any:
    @inlined
    def run(x: Any, out: Any, row: int, columns: Any) -> None:
        store(broadcast_rows(pointer(x), rows, vectors, columns), pointer(out) + MARGIN, row, None)

    return run


@shapes
def test_broadcast_rows(rows: int, vectors: int, dtype: Any, rng: np.random.Generator) -> None:
    for columns in _columns(dtype, vectors):
        out = _frame(dtype, rows, vectors)
        x, tile = _source(dtype, 1, out.shape[1] - 2 * MARGIN, columns, rng)
        _broadcast(rows, vectors)(x, out, out.shape[1], columns)
        assert_array_equal(out, _within(out, np.repeat(tile, rows, 0), None))


@lru_cache
def _splat(rows: int, vectors: int) -> Any:
    @inlined
    def run(out: Any, value: float, row: int) -> None:
        store(splat(pointer(out), value, rows, vectors), pointer(out) + MARGIN, row, None)

    return run


@shapes
@pytest.mark.parametrize("value", [0.1, np.inf, np.nan, 3])
def test_splat(rows: int, vectors: int, value: float, dtype: Any) -> None:
    out = _frame(dtype, rows, vectors)
    _splat(rows, vectors)(out, value, out.shape[1])
    tile = np.full((rows, out.shape[1] - 2 * MARGIN), value, dtype)
    assert_array_equal(out, _within(out, tile, None))


@lru_cache
def _outer_add(rows: int, vectors: int) -> Any:
    @inlined
    def run(x: Any, stride: int, w: Any, start: float, out: Any, row: int, columns: Any) -> None:
        acc = splat(pointer(w), start, rows, vectors)
        acc = outer_add(acc, pointer(x), stride, pointer(w), columns)
        store(acc, pointer(out) + MARGIN, row, None)

    return run


@shapes
@pytest.mark.parametrize("stride", [0, 1, 5])
def test_outer_add(rows: int, vectors: int, stride: int, dtype: Any, rng: np.random.Generator) -> None:
    for columns in _columns(dtype, vectors):
        out = _frame(dtype, rows, vectors)
        w, tile = _source(dtype, 1, out.shape[1] - 2 * MARGIN, columns, rng)
        x = rng.integers(-8, 9, (rows - 1) * stride + 1).astype(dtype)
        _outer_add(rows, vectors)(x, stride, w, 2.0, out, out.shape[1], columns)
        assert_array_equal(out, _within(out, x[np.arange(rows) * stride, None] * tile + 2, None))


@inlined
def _load_square(x: Any, stride: int, out: Any, row: int, columns: Any) -> None:
    store(load_square(pointer(x), stride, columns), pointer(out) + MARGIN, row, None)


def test_load_square(dtype: Any, rng: np.random.Generator) -> None:
    step = _lanes(np.empty(1, dtype))
    for columns in _columns(dtype, 1):
        out = _frame(dtype, step, 1)
        x, tile = _source(dtype, step, step, columns, rng)
        _load_square(x, x.shape[1], out, out.shape[1], columns)
        assert_array_equal(out, _within(out, tile, None))
