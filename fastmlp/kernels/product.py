"""The matrix product behind every dense layer, forward and backward: tiles of registers over strided operands."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from fastmlp.kernels.arithmetic import maximum, where
from fastmlp.kernels.jit import Int, Pointer, kernel
from fastmlp.kernels.pointer import local
from fastmlp.kernels.tile import ROWS, VECTOR_BYTES, advance, broadcast_rows, lanes, load, outer_add, row_groups, splat, store

# What `product` does beside multiplying.
BIAS, RELU, GATE, ADD, SPARE = 1, 2, 4, 8, 16

TALL, MIDDLE = ROWS, 4

# From this many rows on, each panel of w is first copied to the stack: 32 KB of a first-level cache, aligned and without
# gaps. Registers loaded across two lines, and lines half used, cost more: (336, 256, 192) 89 against 78 % of the peak. Below,
# the copy costs more than it saves. Not on Windows, where a stack must be touched page by page.
PACKED_ROWS = 1 << 62 if sys.platform == "win32" else 96
PANEL = 32768  # bytes
DEEP = PANEL // (2 * VECTOR_BYTES)  # rows of w in a panel
SPAN = 512  # columns
FAR = 2048  # bytes
NEAR = DEEP + VECTOR_BYTES // 4  # numbers: a line more than the panel is deep


def _tile_product(rows: int, vectors: int, masked: bool) -> Callable[..., Any]:
    """The kernel that computes one tile of `rows` x (`vectors` registers)."""

    def tile_product(
        x: Pointer,
        x_row: Int,
        x_step: Int,
        w: Pointer,
        w_step: Int,
        depth: Int,
        bias: Pointer,
        gate: Pointer,
        out: Pointer,
        out_row: Int,
        mode: Int,
        columns: Int,
    ) -> None:
        if masked:
            valid = columns
        else:
            valid = None
        if mode & BIAS:
            acc = broadcast_rows(bias, rows, vectors, valid)
        elif mode & ADD:
            acc = load(out, out_row, rows, vectors, valid)
        else:
            acc = splat(x, 0.0, rows, vectors)
        groups = row_groups(x, x_row, rows)
        for _ in range(depth):
            acc = outer_add(acc, groups, x_row, w, valid)
            groups = advance(groups, x_step)
            w = w + w_step
        if mode & RELU:
            acc = maximum(acc, 0.0)
        elif mode & GATE:
            acc = where(load(gate, out_row, rows, vectors, valid) > 0.0, acc, 0.0)
        store(acc, out, out_row, valid)

    tile_product.__qualname__ = f"tile_product_{rows}x{vectors}{'_masked' if masked else ''}"
    return kernel(tile_product)


tall_2, middle_2, single_2 = (_tile_product(r, 2, False) for r in (TALL, MIDDLE, 1))
tall_2_masked, middle_2_masked, single_2_masked = (_tile_product(r, 2, True) for r in (TALL, MIDDLE, 1))
tall_1_masked, middle_1_masked, single_1_masked = (_tile_product(r, 1, True) for r in (TALL, MIDDLE, 1))
# A single row has no other rows to hide the latency of a multiply-add behind, only columns (784-256-128-10: 7.7, not 9.5 us).
single_8 = _tile_product(1, 8, False)


@kernel
def panel(
    x: Pointer,
    x_row: Int,
    x_step: Int,
    w: Pointer,
    w_step: Int,
    bias: Pointer,
    gate: Pointer,
    out: Pointer,
    out_row: Int,
    mode: Int,
    rows: Int,
    depth: Int,
    columns: Int,
) -> None:
    """`product` for the columns of one tile: two registers, or fewer."""
    half = lanes(x)
    i = 0
    while i < rows:
        left = rows - i
        xi = x + i * x_row
        to = out + i * out_row
        by = gate + i * out_row
        if left >= TALL:
            if columns >= 2 * half:
                tall_2(xi, x_row, x_step, w, w_step, depth, bias, by, to, out_row, mode, columns)
            elif columns > half:
                tall_2_masked(xi, x_row, x_step, w, w_step, depth, bias, by, to, out_row, mode, columns)
            else:
                tall_1_masked(xi, x_row, x_step, w, w_step, depth, bias, by, to, out_row, mode, columns)
            i += TALL
        elif left >= MIDDLE:
            if columns >= 2 * half:
                middle_2(xi, x_row, x_step, w, w_step, depth, bias, by, to, out_row, mode, columns)
            elif columns > half:
                middle_2_masked(xi, x_row, x_step, w, w_step, depth, bias, by, to, out_row, mode, columns)
            else:
                middle_1_masked(xi, x_row, x_step, w, w_step, depth, bias, by, to, out_row, mode, columns)
            i += MIDDLE
        else:
            if columns >= 2 * half:
                single_2(xi, x_row, x_step, w, w_step, depth, bias, by, to, out_row, mode, columns)
            elif columns > half:
                single_2_masked(xi, x_row, x_step, w, w_step, depth, bias, by, to, out_row, mode, columns)
            else:
                single_1_masked(xi, x_row, x_step, w, w_step, depth, bias, by, to, out_row, mode, columns)
            i += 1


@kernel
def product(
    x: Pointer,
    x_row: Int,
    x_step: Int,
    w: Pointer,
    w_step: Int,
    bias: Pointer,
    gate: Pointer,
    out: Pointer,
    out_row: Int,
    spare: Pointer,
    mode: Int,
    rows: Int,
    depth: Int,
    columns: Int,
) -> None:
    """out[i, j] = finish(sum over p of x[i, p] * w[p, j]), for i < rows, p < depth, j < columns.

    x[i, p] lies at ``x + i * x_row + p * x_step``, w[p, j] at ``w + p * w_step + j``, out[i, j] at ``out + i * out_row + j``.
    ``mode`` is a sum of BIAS (start from bias[j]) or ADD (start from out[i, j]), and RELU (take max(., 0), NaN kept) or GATE
    (keep where gate[i, j] > 0, gate laid out as out is); SPARE says that ``spare`` has room for `spare_room` numbers. Each
    element is one chain of fused multiply-adds in the order of p, whatever the tile.
    """
    wide = 2 * lanes(x)
    if rows < PACKED_ROWS or depth == 0:
        start = 0
        while rows == 1 and start + 4 * wide <= columns:
            to = out + start
            ws, bs, gs = w + start, bias + start, gate + start
            single_8(x, x_row, x_step, ws, w_step, depth, bs, gs, to, out_row, mode, 4 * wide)
            start += 4 * wide
        for j in range(start, columns, wide):
            to = out + j
            panel(x, x_row, x_step, w + j, w_step, bias + j, gate + j, to, out_row, mode, rows, depth, columns - j)
        return
    scratch = local(x, PANEL)
    xs, step_x = x, 0
    far = x_step == 1 and x_row * VECTOR_BYTES >= FAR * lanes(x)
    if mode & SPARE and far and columns >= 4 * wide:
        # Rows this far apart meet in the same few sets of the first-level cache: they are copied nearer to one another.
        step_x = rows * NEAR
        for k in range(0, depth, DEEP):
            for i in range(rows):
                to = spare + (k // DEEP * step_x + i * NEAR)
                for p in range(0, min(DEEP, depth - k), wide):
                    store(load(x + (i * x_row + k + p), 0, 1, 2, depth - k - p), to + p, 0, None)
        xs, x_row = spare, NEAR
    # x's rows, DEEP deep, and out's, SPAN wide, stay in the second-level cache while they go through all panels between.
    for start in range(0, columns, SPAN):
        for k in range(0, depth, DEEP):
            part = min(DEEP, depth - k)
            step = mode
            if k > 0:
                step = (step & (RELU + GATE)) + ADD
            if k + part < depth:
                step = step & (BIAS + ADD)
            xk = xs + (k // DEEP * step_x if step_x else k * x_step)
            for j in range(start, min(start + SPAN, columns), wide):
                here = columns - j
                for p in range(part):
                    store(load(w + ((k + p) * w_step + j), 0, 1, 2, here), scratch + p * wide, 0, None)
                panel(xk, x_row, x_step, scratch, wide, bias + j, gate + j, out + j, out_row, step, rows, part, here)


def spare_room(rows: int, depth: int) -> int:
    """How many numbers `spare` must hold."""
    return -(-depth // DEEP) * rows * NEAR
