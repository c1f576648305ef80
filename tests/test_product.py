from __future__ import annotations

import re
from itertools import product as pairings
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp.kernels.layer.pack import pack
from fastmlp.kernels.layer.product import (
    CLIP,
    COPIED_ROWS,
    FAR_ROWS,
    FAR_WEIGHTS,
    GATE,
    PACKED_DEPTH,
    SHALLOW,
    SIGMOID_SLOPE,
    START,
    TALL,
    TANH_SLOPE,
    Extent,
    Finish,
    Rows,
    Strided,
    packed_product,
    product,
    spare_room,
)
from fastmlp.kernels.machine.interpreted import INTERPRETED
from fastmlp.kernels.machine.jit import inlined
from fastmlp.kernels.machine.pointer import CHECKED, pointer
from fastmlp.kernels.machine.target import FMA, VECTOR_BYTES

pytestmark = pytest.mark.small

Array = np.ndarray[Any, Any]

SIZES = (1, 3, 17, 33) if INTERPRETED else (1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 100)
HELD = 32  # the tests' own: start from what out holds, not from a bias
BIAS, ADD = START, START + HELD
MODES = {
    "plain": 0,
    "bias": BIAS,
    "add": ADD,
    "relu": CLIP,
    "gate": GATE,
    "bias relu": BIAS + CLIP,
    "add relu": ADD + CLIP,
    "bias gate": BIAS + GATE,
    "add gate": ADD + GATE,
    "tanh's slope": TANH_SLOPE,
    "add sigmoid's slope": ADD + SIGMOID_SLOPE,
}
CANARY = -99
MARGIN = 5


@inlined
def _product(
    x: Any,
    strides: Any,
    w: Any,
    w_step: int,
    start: Any,
    start_row: int,
    gate: Any,
    out: Any,
    out_row: int,
    mode: int,
    shape: Any,
) -> None:
    row, step = strides
    rows, depth, columns = shape
    finish = Finish(mode, Rows(pointer(start), start_row), pointer(gate))
    extent = Extent(rows, depth, columns)
    product(Strided(pointer(x), row, step), Rows(pointer(w), w_step), finish, Rows(pointer(out), out_row), extent)


@inlined
def _packed(x: Any, x_row: int, w: Any, panels: Any, bias: Any, gate: Any, out: Any, spare: Any, mode: int, shape: Any) -> None:
    rows, depth, columns = shape
    pack(pointer(w), pointer(panels), depth, columns, depth)
    finish = Finish(mode, Rows(pointer(bias), 0), pointer(gate))
    to, extent = Rows(pointer(out), columns), Extent(rows, depth, columns)
    packed_product(Rows(pointer(x), x_row), Rows(pointer(panels), depth), finish, to, pointer(spare), extent)


def _run(x: Array, w: Array, bias: Array, gate: Array, start: Array, mode: int, layout: int = 0) -> Array:
    """The product of x and w, laid out in memory in one of several ways; `gate` and `start` have its shape."""
    (rows, depth), columns = x.shape, w.shape[1]
    frame = np.full((rows + 1, columns + MARGIN), CANARY, x.dtype)
    frame[:rows, :columns] = start
    gates = np.full_like(frame, np.nan)
    gates[:rows, :columns] = gate
    if layout == 0:
        held, strides = x.copy(), (depth, 1)
    elif layout == 1:
        held, strides = x.T.copy(), (1, rows)
    else:
        held, strides = np.full((rows, 2 * depth + 3), np.nan, x.dtype), (2 * depth + 3, 2)
        held[:, : 2 * depth : 2] = x
    wide = np.full((depth, columns + layout), np.nan, w.dtype)
    wide[:, :columns] = w
    shape = rows, depth, columns
    source = (frame, columns + MARGIN) if mode & HELD else (bias, 0)
    _product(held, strides, wide, columns + layout, *source, gates, frame, columns + MARGIN, mode & ~HELD, shape)
    assert (frame[rows:] == CANARY).all()
    assert (frame[:, columns:] == CANARY).all()
    return frame[:rows, :columns]


def _operands(rows: int, depth: int, columns: int, dtype: Any, rng: np.random.Generator) -> tuple[Array, ...]:
    shapes = (rows, depth), (depth, columns), (columns,), (rows, columns), (rows, columns)
    return tuple(rng.standard_normal(shape).astype(dtype) for shape in shapes)


@pytest.mark.parametrize("mode", MODES.values(), ids=list(MODES))
def test_against_numpy(mode: int, dtype: Any, rng: np.random.Generator) -> None:
    wide = np.float64 if dtype == np.float32 else np.longdouble
    for index, (rows, depth, columns) in enumerate(pairings(SIZES, SIZES, SIZES)):
        operands = _operands(rows, depth, columns, dtype, rng)
        got = _run(*operands, mode, index % 3)
        x, w, bias, gate, start = (v.astype(wide) for v in operands)
        first = start if mode & HELD else np.broadcast_to(bias, start.shape) if mode & START else np.zeros_like(start)
        want = x @ w + first
        terms = np.abs(x) @ np.abs(w) + np.abs(first)
        if mode & CLIP:
            want = np.maximum(want, 0)
        elif mode & GATE:
            want = np.where(gate > 0, want, 0)
        elif mode & TANH_SLOPE:
            want, terms = want * (1 - gate**2), terms * (1 + gate**2)
        elif mode & SIGMOID_SLOPE:
            want, terms = want * (gate * (1 - gate)), terms * (np.abs(gate) + gate**2)
        # A chain of roundings, each of at most half a unit of the terms so far; two chains without fused adds.
        assert (np.abs(got - want) <= (depth + 3) * np.finfo(dtype).eps * terms).all(), (rows, depth, columns)


@pytest.mark.parametrize("mode", MODES.values(), ids=list(MODES))
def test_copied_panels(mode: int, dtype: Any, rng: np.random.Generator) -> None:
    """Enough rows for a w of far rows to be copied, deeper than one copy: the same bits as from single rows, read in place."""
    columns = FAR_WEIGHTS // np.dtype(dtype).itemsize + 5
    rows, depth = (COPIED_ROWS + 1, 3) if INTERPRETED else (COPIED_ROWS + 5, 2 * SHALLOW + 3)
    x, w, bias, gate, start = _operands(rows, depth, columns, dtype, rng)
    for layout in (0,) if INTERPRETED else range(3):
        got = _run(x, w, bias, gate, start, mode, layout)
        for i in range(0, rows, 25):
            part = slice(i, i + 1)
            assert_array_equal(got[part], _run(x[part], w, bias, gate[part], start[part], mode, layout))


@pytest.mark.parametrize("mode", [0, BIAS, BIAS + CLIP, GATE])
def test_packed_weights(mode: int, dtype: Any, rng: np.random.Generator) -> None:
    """By panels, in parts of the depth, with rows near and far: the same bits as in place."""
    far = FAR_ROWS // np.dtype(dtype).itemsize
    shapes = (
        [(5, 7, 40)]
        if INTERPRETED
        else [(1, 7, 3), (29, PACKED_DEPTH, 65), (14, 2 * PACKED_DEPTH + 37, 300), (13, far, 8 * 16), (40, 2 * far, 600)]
    )
    for rows, depth, columns in shapes:
        operands = _operands(rows, depth, columns, dtype, rng)
        x, w, bias, gate, start = operands
        panels = np.full(depth * (columns + 32), np.nan, dtype)
        spare = np.full(spare_room(rows, depth), np.nan, dtype)
        out = np.full_like(start, np.nan)
        _packed(x, depth, w, panels, bias, gate, out, spare, mode, (rows, depth, columns))
        assert_array_equal(out, _run(*operands, mode))


ASSEMBLY = """
from numba.core.caching import NullCache
from fastmlp.kernels.layer import product
from fastmlp.kernels.machine.jit import _KERNELS
for kernel, dtype in _KERNELS.values():
    if kernel.function.__qualname__ == f"tile_product_{product.TALL}x2":
        kernel.dispatcher._cache = NullCache()
        kernel.address(dtype)
        for text in kernel.dispatcher.inspect_asm().values():
            print(text)
        print("END")
"""


@pytest.mark.skipif(INTERPRETED or CHECKED or not FMA, reason="plain machine code with fused multiply-adds is looked at")
def test_the_inner_loop_is_all_multiply_adds(python: Any) -> None:
    register = {64: "zmm", 32: "ymm"}[VECTOR_BYTES]
    for text in python(ASSEMBLY).split("END\n")[:2]:
        # The loop is the straight piece of code, up to a jump back to its own label, with the most fused multiply-adds.
        pieces = re.split(r"^(\.L\w+):", text, flags=re.MULTILINE)
        loops = [body for label, body in zip(pieces[1::2], pieces[2::2], strict=True) if re.search(rf"j\w+\s+\{label}\b", body)]
        body = max(loops, key=lambda piece: piece.count("vfmadd"))
        assert len(re.findall(rf"vfmadd\w+\s.*%{register}", body)) % (2 * TALL) == 0
        assert body.count("vfmadd") >= 2 * TALL
        assert not re.search(rf"vmov\w*\s.*%{register}.*\(%rsp\)|vmov\w*\s.*\(%rsp\).*%{register}", body), body


@pytest.mark.parametrize("mode", [0, BIAS, ADD + CLIP, BIAS + GATE])
def test_nothing_to_multiply(mode: int, dtype: Any, rng: np.random.Generator) -> None:
    for rows, depth, columns in ((0, 3, 4), (4, 3, 0), (5, 0, 20)):
        x, w, bias, gate, start = _operands(rows, depth, columns, dtype, rng)
        want = start if mode & HELD else np.broadcast_to(bias, start.shape) if mode & START else np.zeros_like(start)
        if mode & CLIP:
            want = np.maximum(want, 0)
        if mode & GATE:
            want = np.where(gate > 0, want, 0)
        source = (start, columns) if mode & HELD else (bias, 0)
        _product(x, (depth, 1), w, columns, *source, gate, start, columns, mode & ~HELD, (rows, depth, columns))
        assert_array_equal(start, want)


def test_nan_and_infinity_pass_relu(dtype: Any) -> None:
    for rows, columns in ((1, 3), (5, 17), (13, 40)):
        x = np.ones((rows, 2), dtype)
        w = np.ones((2, columns), dtype)
        x[0, 0], w[1, columns - 1] = np.nan, np.inf
        unused = np.zeros((rows, columns), dtype)
        got = _run(x, w, unused[0], unused, unused, CLIP)
        assert np.isnan(got[0]).all()
        assert (got[1:, -1] == np.inf).all()
        assert (got[1:, :-1] == 2).all()


def test_bits_do_not_depend_on_the_tile(dtype: Any, rng: np.random.Generator) -> None:
    rows, depth, columns = (13, 5, 20) if INTERPRETED else (29, 50, 53)
    x, w, bias, gate, start = _operands(rows, depth, columns, dtype, rng)
    whole = _run(x, w, bias, gate, start, BIAS)
    for i in range(rows):
        assert_array_equal(_run(x[i : i + 1], w, bias, gate[:1], start[:1], BIAS)[0], whole[i])
    for j in range(columns):
        assert_array_equal(_run(x, w[:, j:], bias[j:], gate[:, j:], start[:, j:], BIAS), whole[:, j:])
