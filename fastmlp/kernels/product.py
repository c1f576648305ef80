"""The matrix product behind every dense layer, forward and backward: tiles of registers over strided operands."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from fastmlp.kernels.arithmetic import fma, maximum, where
from fastmlp.kernels.jit import Int, Pointer, kernel
from fastmlp.kernels.pointer import local
from fastmlp.kernels.tile import (
    ROWS,
    VECTOR_BYTES,
    advance,
    broadcast_rows,
    lanes,
    load,
    outer_add,
    row_groups,
    splat,
    store,
)

# What a product does beside multiplying.
START, RELU, GATE, TANH_SLOPE, SIGMOID_SLOPE = 1, 2, 4, 8, 16

TALL, MIDDLE = ROWS, 4
HALF = TALL * 2 // 3  # of a single register's width MIDDLE rows are too few chains to hide a multiply-add's latency

# Of w with rows at least so far apart, `product` copies each panel to the stack first, 32 KB of a first-level cache, from so
# many rows of x on: read in place they share few of the caches' sets ((256, 1024, 2048): 87 against 71 % of the peak). Nearer
# rows are best left in place ((128, 784, 256): 96 against 92 %). Not on Windows: there a stack must be touched page by page.
FAR_WEIGHTS = 4096  # bytes
COPIED_ROWS = 1 << 62 if sys.platform == "win32" else 96
PANEL = 32768  # bytes
SHALLOW = PANEL // (2 * VECTOR_BYTES)  # rows of w in it

# What `packed_product` goes through at a time: x's rows, DEEP deep, and sums SPAN wide stay in the second-level cache.
DEEP = 512
SPAN = 256
# Rows of x at multiples of so many bytes meet in few sets of the caches, and are copied nearer to one another.
FAR = 2048
NEAR = DEEP + VECTOR_BYTES // 4  # numbers


def _tile_product(rows: int, vectors: int, masked: bool) -> Callable[..., Any]:
    """The kernel that computes `count` tiles of `rows` x (`vectors` registers), one below the other."""

    def tile_product(
        x: Pointer,
        x_row: Int,
        x_step: Int,
        w: Pointer,
        w_step: Int,
        depth: Int,
        start: Pointer,
        start_row: Int,
        gate: Pointer,
        out: Pointer,
        out_row: Int,
        mode: Int,
        columns: Int,
        count: Int,
    ) -> None:
        if masked:
            valid = columns
        else:
            valid = None
        for _ in range(count):
            if mode & START == 0:
                acc = splat(x, 0.0, rows, vectors)
            elif start_row == 0:  # a row read once, not `rows` times ((256, 17, 256): 5 % of the time)
                acc = broadcast_rows(start, rows, vectors, valid)
            else:
                acc = load(start, start_row, rows, vectors, valid)
            groups = row_groups(x, x_row, rows)
            wp = w
            for _ in range(depth):
                acc = outer_add(acc, groups, x_row, wp, valid)
                groups = advance(groups, x_step)
                wp = wp + w_step
            if mode & RELU:
                acc = maximum(acc, 0.0)
            elif mode & GATE:
                acc = where(load(gate, out_row, rows, vectors, valid) > 0.0, acc, 0.0)
            elif mode & TANH_SLOPE:
                a = load(gate, out_row, rows, vectors, valid)
                acc = acc * fma(0.0 - a, a, 1.0)
            elif mode & SIGMOID_SLOPE:
                a = load(gate, out_row, rows, vectors, valid)
                acc = acc * (a * (1.0 - a))
            store(acc, out, out_row, valid)
            x = x + rows * x_row
            start = start + rows * start_row
            out = out + rows * out_row
            gate = gate + rows * out_row

    tile_product.__qualname__ = f"tile_product_{rows}x{vectors}{'_masked' if masked else ''}"
    return kernel(tile_product)


tall_2, middle_2, single_2 = (_tile_product(r, 2, False) for r in (TALL, MIDDLE, 1))
tall_2_masked, middle_2_masked, single_2_masked = (_tile_product(r, 2, True) for r in (TALL, MIDDLE, 1))
tall_1_masked, middle_1_masked, single_1_masked = (_tile_product(r, 1, True) for r in (TALL, MIDDLE, 1))
half_1_masked = middle_1_masked if HALF == MIDDLE else _tile_product(HALF, 1, True)
pair_2 = _tile_product(2, 2, False)
# One row or two have no others to hide the latency of a multiply-add behind, only columns (784-256-128-10: 7.7, not 9.5 us).
single_8, pair_4 = _tile_product(1, 8, False), _tile_product(2, 4, False)


@kernel
def panel(
    x: Pointer,
    x_row: Int,
    x_step: Int,
    w: Pointer,
    w_step: Int,
    start: Pointer,
    start_row: Int,
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
        s = start + i * start_row
        by = gate + i * out_row
        to = out + i * out_row
        if left >= TALL:
            n = left // TALL
            i += n * TALL
            if columns >= 2 * half:
                tall_2(xi, x_row, x_step, w, w_step, depth, s, start_row, by, to, out_row, mode, columns, n)
            elif columns > half:
                tall_2_masked(xi, x_row, x_step, w, w_step, depth, s, start_row, by, to, out_row, mode, columns, n)
            else:
                tall_1_masked(xi, x_row, x_step, w, w_step, depth, s, start_row, by, to, out_row, mode, columns, n)
        elif left >= HALF and columns <= half:
            i += HALF
            half_1_masked(xi, x_row, x_step, w, w_step, depth, s, start_row, by, to, out_row, mode, columns, 1)
        elif left >= MIDDLE:
            n = left // MIDDLE
            i += n * MIDDLE
            if columns >= 2 * half:
                middle_2(xi, x_row, x_step, w, w_step, depth, s, start_row, by, to, out_row, mode, columns, n)
            elif columns > half:
                middle_2_masked(xi, x_row, x_step, w, w_step, depth, s, start_row, by, to, out_row, mode, columns, n)
            else:
                middle_1_masked(xi, x_row, x_step, w, w_step, depth, s, start_row, by, to, out_row, mode, columns, n)
        elif left >= 2 and columns >= 2 * half:
            i += 2
            pair_2(xi, x_row, x_step, w, w_step, depth, s, start_row, by, to, out_row, mode, columns, 1)
        else:
            i = rows
            if columns >= 2 * half:
                single_2(xi, x_row, x_step, w, w_step, depth, s, start_row, by, to, out_row, mode, columns, left)
            elif columns > half:
                single_2_masked(xi, x_row, x_step, w, w_step, depth, s, start_row, by, to, out_row, mode, columns, left)
            else:
                single_1_masked(xi, x_row, x_step, w, w_step, depth, s, start_row, by, to, out_row, mode, columns, left)


@kernel
def product(
    x: Pointer,
    x_row: Int,
    x_step: Int,
    w: Pointer,
    w_step: Int,
    start: Pointer,
    start_row: Int,
    gate: Pointer,
    out: Pointer,
    out_row: Int,
    mode: Int,
    rows: Int,
    depth: Int,
    columns: Int,
) -> None:
    """out[i, j] = finish(start[i, j] + sum over p of x[i, p] * w[p, j]), for i < rows, p < depth, j < columns.

    x[i, p] lies at ``x + i * x_row + p * x_step``, w[p, j] at ``w + p * w_step + j``, out[i, j] at ``out + i * out_row + j``,
    start[i, j] at ``start + i * start_row + j``: a bias, with start_row = 0, or what out holds. ``mode`` is a sum of START
    (else start counts as 0), and one of RELU (take max(., 0), NaN kept), GATE (keep where gate[i, j] > 0), TANH_SLOPE and
    SIGMOID_SLOPE (multiply by 1 - gate[i, j]**2, by gate[i, j] * (1 - gate[i, j])); gate is laid out as out is.
    Each element is one chain of fused multiply-adds in the order of p, whatever the tile.
    """
    half = lanes(x)
    wide = 2 * half
    if rows < COPIED_ROWS or w_step * VECTOR_BYTES < FAR_WEIGHTS * half or depth == 0:
        few = rows % MIDDLE if columns >= 2 * wide else 0
        main = rows - few
        for j in range(0, columns if main else 0, wide):
            s, by, to = start + j, gate + j, out + j
            panel(x, x_row, x_step, w + j, w_step, s, start_row, by, to, out_row, mode, main, depth, columns - j)
        while few:
            here = min(few, 2)
            few -= here
            xi, si, gi, oi = x + main * x_row, start + main * start_row, gate + main * out_row, out + main * out_row
            main += here
            j = 0
            if here == 2:
                while j + 2 * wide <= columns:
                    s, by, to = si + j, gi + j, oi + j
                    pair_4(xi, x_row, x_step, w + j, w_step, depth, s, start_row, by, to, out_row, mode, 2 * wide, 1)
                    j += 2 * wide
            else:
                while j + 4 * wide <= columns:
                    s, by, to = si + j, gi + j, oi + j
                    single_8(xi, x_row, x_step, w + j, w_step, depth, s, start_row, by, to, out_row, mode, 4 * wide, 1)
                    j += 4 * wide
            while j < columns:
                s, by, to = si + j, gi + j, oi + j
                panel(xi, x_row, x_step, w + j, w_step, s, start_row, by, to, out_row, mode, here, depth, columns - j)
                j += wide
        return
    scratch = local(x, PANEL)
    for k in range(0, depth, SHALLOW):
        deep = min(SHALLOW, depth - k)
        xk = x + k * x_step
        step = mode
        if k > 0:
            step = step | START
            start, start_row = out, out_row
        if k + deep < depth:
            step = step & START
        for j in range(0, columns, wide):
            here = columns - j
            for p in range(deep):
                store(load(w + ((k + p) * w_step + j), 0, 1, 2, here), scratch + p * wide, 0, None)
            s, by, to = start + j, gate + j, out + j
            panel(xk, x_row, x_step, scratch, wide, s, start_row, by, to, out_row, step, rows, deep, here)


@kernel
def packed_product(
    x: Pointer,
    x_row: Int,
    panels: Pointer,
    height: Int,
    start: Pointer,
    gate: Pointer,
    out: Pointer,
    out_row: Int,
    spare: Pointer,
    mode: Int,
    rows: Int,
    depth: Int,
    columns: Int,
) -> None:
    """`product` for contiguous rows of x, one row `start`, and w by panels of `height` rows (`fastmlp.kernels.pack`).

    `spare` is scratch for `spare_room` numbers.
    """
    half = lanes(x)
    wide = 2 * half
    parts = -(-depth // DEEP)
    deep = -(-depth // (parts * half)) * half  # of about equal size: a short last one would be slow
    xs, step_x = x, deep
    sums = spare + parts * rows * NEAR
    if x_row * VECTOR_BYTES % (FAR * half) == 0 and rows > TALL and columns >= 4 * wide:
        step_x = rows * NEAR
        for i in range(rows):
            for k in range(0, depth, deep):
                to = spare + (k // deep * step_x + i * NEAR)
                for p in range(0, min(deep, depth - k), wide):
                    store(load(x + (i * x_row + k + p), 0, 1, 2, depth - k - p), to + p, 0, None)
        xs, x_row = spare, NEAR
    for first in range(0, columns, SPAN):
        stop = min(first + SPAN, columns)
        for k in range(0, depth, deep):
            here = min(deep, depth - k)
            xk = xs + k // deep * step_x
            for j in range(first, stop, wide):
                w = panels + (j * height + k * wide)
                # Sums of parts lie close together, apart from out, whose rows may be a power of two apart.
                step, s, s_row, to, to_row = mode, start + j, 0, out + j, out_row
                if k > 0:
                    step, s, s_row = step | START, sums + (j - first) * rows, wide
                if k + here < depth:
                    step, to, to_row = step & START, sums + (j - first) * rows, wide
                left = columns - j
                panel(xk, x_row, 1, w, wide, s, s_row, gate + j, to, to_row, step, rows, here, left)


def spare_room(rows: int, depth: int) -> int:
    """How many numbers `spare` must hold."""
    return (-(-depth // DEEP) * NEAR + SPAN) * rows
