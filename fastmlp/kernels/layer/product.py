"""The matrix product behind every dense layer, forward and backward: tiles of registers over strided operands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fastmlp.kernels.machine.jit import Int, Pointer, inlined, kernel
from fastmlp.kernels.machine.pointer import local
from fastmlp.kernels.machine.target import TILE_ROWS, VECTOR_BYTES
from fastmlp.kernels.tiles.arithmetic import fma, maximum, where
from fastmlp.kernels.tiles.tile import advance, broadcast_rows, lanes, load, outer_add, row_groups, splat, store
from fastmlp.kernels.tuning import COPIED_ROWS, FAR_ROWS, FAR_WEIGHTS, MIDDLE_ROWS, PACKED_COLUMNS, PACKED_DEPTH, PANEL_BYTES

# What a product does beside multiplying.
START, CLIP, GATE, TANH_SLOPE, SIGMOID_SLOPE = 1, 2, 4, 8, 16

TALL, MIDDLE = TILE_ROWS, MIDDLE_ROWS
HALF = TALL * 2 // 3  # of a single register's width MIDDLE rows are too few chains to hide a multiply-add's latency

SHALLOW = PANEL_BYTES // (2 * VECTOR_BYTES)  # rows of w in a panel that is copied

NEAR = PACKED_DEPTH + VECTOR_BYTES // 4  # numbers


class Strided(NamedTuple):
    """A matrix of any strides: m[i, p] lies at ``at + i * row + p * step``."""

    at: Pointer
    row: Int
    step: Int


class Rows(NamedTuple):
    """A matrix whose rows lie in one piece each: m[i, j] lies at ``at + i * row + j``."""

    at: Pointer
    row: Int


class Finish(NamedTuple):
    """What a product does beside multiplying: `mode`, a sum of START and one of CLIP, GATE, TANH_SLOPE and SIGMOID_SLOPE.

    ``start`` is read for START, ``gate`` for the last three, laid out as the output is.
    """

    mode: Int
    start: Rows
    gate: Pointer


class Extent(NamedTuple):
    """How many rows, summands and columns a product has."""

    rows: Int
    depth: Int
    columns: Int


@inlined
def below(finish: Any, rows: int, out_row: int) -> Any:
    """`finish` for the output `rows` rows further down."""
    start = finish.start
    return Finish(finish.mode, Rows(start.at + rows * start.row, start.row), finish.gate + rows * out_row)


@inlined
def right(finish: Any, columns: int) -> Any:
    """`finish` for the output `columns` columns further on."""
    start = finish.start
    return Finish(finish.mode, Rows(start.at + columns, start.row), finish.gate + columns)


def _tile_product(rows: int, vectors: int, masked: bool) -> Callable[..., Any]:
    """The kernel that computes tiles of `rows` x (`vectors` registers), one below the other: of `product`, all rows.

    There `extent.rows` counts tiles.
    """

    def tile_product(x: Strided, w: Rows, finish: Finish, out: Rows, extent: Extent) -> None:
        mode = finish.mode
        if masked:
            valid = extent.columns
        else:
            valid = None
        xp, start, gate, to = x.at, finish.start.at, finish.gate, out.at
        for _ in range(extent.rows):
            if mode & START == 0:
                acc = splat(x.at, 0.0, rows, vectors)
            elif finish.start.row == 0:  # a row read once, not `rows` times ((256, 17, 256): 5 % of the time)
                acc = broadcast_rows(start, rows, vectors, valid)
            else:
                acc = load(start, finish.start.row, rows, vectors, valid)
            groups = row_groups(xp, x.row, rows)
            wp = w.at
            for _ in range(extent.depth):
                acc = outer_add(acc, groups, x.row, wp, valid)
                groups = advance(groups, x.step)
                wp = wp + w.row
            if mode & CLIP:
                acc = maximum(acc, 0.0)
            elif mode & GATE:
                acc = where(load(gate, out.row, rows, vectors, valid) > 0.0, acc, 0.0)
            elif mode & TANH_SLOPE:
                a = load(gate, out.row, rows, vectors, valid)
                acc = acc * fma(0.0 - a, a, 1.0)
            elif mode & SIGMOID_SLOPE:
                a = load(gate, out.row, rows, vectors, valid)
                acc = acc * (a * (1.0 - a))
            store(acc, to, out.row, valid)
            xp = xp + rows * x.row
            start = start + rows * finish.start.row
            gate = gate + rows * out.row
            to = to + rows * out.row

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
def panel(x: Strided, w: Rows, finish: Finish, out: Rows, extent: Extent) -> None:
    """`product` for the columns of one tile: two registers, or fewer."""
    half = lanes(x.at)
    columns = extent.columns
    i = 0
    while i < extent.rows:
        left = extent.rows - i
        xi = Strided(x.at + i * x.row, x.row, x.step)
        end = below(finish, i, out.row)
        to = Rows(out.at + i * out.row, out.row)
        if left >= TALL:
            n = left // TALL
            i += n * TALL
            tiles = Extent(n, extent.depth, columns)
            if columns >= 2 * half:
                tall_2(xi, w, end, to, tiles)
            elif columns > half:
                tall_2_masked(xi, w, end, to, tiles)
            else:
                tall_1_masked(xi, w, end, to, tiles)
        elif left >= HALF and columns <= half:
            i += HALF
            half_1_masked(xi, w, end, to, Extent(1, extent.depth, columns))
        elif left >= MIDDLE:
            n = left // MIDDLE
            i += n * MIDDLE
            tiles = Extent(n, extent.depth, columns)
            if columns >= 2 * half:
                middle_2(xi, w, end, to, tiles)
            elif columns > half:
                middle_2_masked(xi, w, end, to, tiles)
            else:
                middle_1_masked(xi, w, end, to, tiles)
        elif left >= 2 and columns >= 2 * half:
            i += 2
            pair_2(xi, w, end, to, Extent(1, extent.depth, columns))
        else:
            i = extent.rows
            tiles = Extent(left, extent.depth, columns)
            if columns >= 2 * half:
                single_2(xi, w, end, to, tiles)
            elif columns > half:
                single_2_masked(xi, w, end, to, tiles)
            else:
                single_1_masked(xi, w, end, to, tiles)


@kernel
def product(x: Strided, w: Rows, finish: Finish, out: Rows, extent: Extent) -> None:
    """out[i, j] = finish(start[i, j] + sum over p of x[i, p] * w[p, j]), for i < rows, p < depth, j < columns.

    ``finish.start`` is a bias, with rows of the stride 0, or what out holds; without START it counts as 0. CLIP takes max(.,
    0), NaN kept; GATE keeps where gate[i, j] > 0; TANH_SLOPE and SIGMOID_SLOPE multiply by 1 - gate[i, j]**2, and by gate[i,
    j] * (1 - gate[i, j]). Each element is one chain of fused multiply-adds in the order of p, whatever the tile.
    """
    half = lanes(x.at)
    wide = 2 * half
    rows, depth, columns = extent.rows, extent.depth, extent.columns
    if rows < COPIED_ROWS or w.row * VECTOR_BYTES < FAR_WEIGHTS * half or depth == 0:
        few = rows % MIDDLE if columns >= 2 * wide else 0
        main = rows - few
        for j in range(0, columns if main else 0, wide):
            to = Rows(out.at + j, out.row)
            panel(x, Rows(w.at + j, w.row), right(finish, j), to, Extent(main, depth, columns - j))
        while few:
            here = min(few, 2)
            few -= here
            xi = Strided(x.at + main * x.row, x.row, x.step)
            end = below(finish, main, out.row)
            oi = out.at + main * out.row
            main += here
            j = 0
            if here == 2:
                while j + 2 * wide <= columns:
                    pair_4(xi, Rows(w.at + j, w.row), right(end, j), Rows(oi + j, out.row), Extent(1, depth, 2 * wide))
                    j += 2 * wide
            else:
                while j + 4 * wide <= columns:
                    single_8(xi, Rows(w.at + j, w.row), right(end, j), Rows(oi + j, out.row), Extent(1, depth, 4 * wide))
                    j += 4 * wide
            while j < columns:
                panel(xi, Rows(w.at + j, w.row), right(end, j), Rows(oi + j, out.row), Extent(here, depth, columns - j))
                j += wide
        return
    scratch = local(x.at, PANEL_BYTES)
    start, mode = finish.start, finish.mode
    for k in range(0, depth, SHALLOW):
        deep = min(SHALLOW, depth - k)
        xk = Strided(x.at + k * x.step, x.row, x.step)
        step = mode
        if k > 0:
            step = step | START
            start = out
        if k + deep < depth:
            step = step & START
        end = Finish(step, start, finish.gate)
        for j in range(0, columns, wide):
            here = columns - j
            for p in range(deep):
                store(load(w.at + ((k + p) * w.row + j), 0, 1, 2, here), scratch + p * wide, 0, None)
            panel(xk, Rows(scratch, wide), right(end, j), Rows(out.at + j, out.row), Extent(rows, deep, here))


@kernel
def packed_product(x: Rows, w: Rows, finish: Finish, out: Rows, spare: Pointer, extent: Extent) -> None:
    """`product` for contiguous rows of x, one row to start from, and w by panels of `w.row` rows (see `pack`).

    `spare` is scratch for `spare_room` numbers.
    """
    half = lanes(x.at)
    wide = 2 * half
    rows, depth, columns = extent.rows, extent.depth, extent.columns
    parts = -(-depth // PACKED_DEPTH)
    deep = -(-depth // (parts * half)) * half  # of about equal size: a short last one would be slow
    xs, x_row, step_x = x.at, x.row, deep
    sums = spare + parts * rows * NEAR
    if x_row * VECTOR_BYTES % (FAR_ROWS * half) == 0 and rows > TALL and columns >= 4 * wide:
        step_x = rows * NEAR
        for i in range(rows):
            for k in range(0, depth, deep):
                to = spare + (k // deep * step_x + i * NEAR)
                for p in range(0, min(deep, depth - k), wide):
                    store(load(x.at + (i * x_row + k + p), 0, 1, 2, depth - k - p), to + p, 0, None)
        xs, x_row = spare, NEAR
    for first in range(0, columns, PACKED_COLUMNS):
        stop = min(first + PACKED_COLUMNS, columns)
        for k in range(0, depth, deep):
            here = min(deep, depth - k)
            xk = Strided(xs + k // deep * step_x, x_row, 1)
            for j in range(first, stop, wide):
                # Sums of parts lie close together, apart from out, whose rows may be a power of two apart.
                part = Rows(sums + (j - first) * rows, wide)
                step, start, to = finish.mode, Rows(finish.start.at + j, 0), Rows(out.at + j, out.row)
                if k > 0:
                    step, start = step | START, part
                if k + here < depth:
                    step, to = step & START, part
                left = Extent(rows, here, columns - j)
                panel(xk, Rows(w.at + (j * w.row + k * wide), wide), Finish(step, start, finish.gate + j), to, left)


def spare_room(rows: int, depth: int) -> int:
    """How many numbers `spare` must hold."""
    return (-(-depth // PACKED_DEPTH) * NEAR + PACKED_COLUMNS) * rows
