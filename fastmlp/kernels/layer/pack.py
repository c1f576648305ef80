"""Matrices by panels: two registers of columns at a time, one row below the other, as `packed_product` reads them.

Read in place, a panel of a wide matrix has its rows a page apart: each costs a walk of its own through the caches, and rows a
power of two apart share so few of a cache's sets that they push one another out. So the weights are copied once a step, row
by row as they lie in memory, and every block of the batch reads the copy.
"""

from __future__ import annotations

from fastmlp.kernels.machine.jit import Int, Pointer, kernel
from fastmlp.kernels.tiles.across import transposed
from fastmlp.kernels.tiles.tile import lanes, load, load_square, store


@kernel
def pack(x: Pointer, out: Pointer, rows: Int, columns: Int, height: Int) -> None:
    """The columns of x (rows, columns) by panels of `height` rows: x[i, j] goes to ``out + j // wide * wide * height + i * wide
    + j % wide``, with wide = 2 registers; zeros beyond the last column.
    """
    wide = 2 * lanes(x)
    for i in range(rows):
        row = x + i * columns
        to = out + i * wide
        j = 0
        while j + wide <= columns:
            store(load(row + j, 0, 1, 2, None), to + j * height, 0, None)
            j += wide
        if j < columns:
            store(load(row + j, 0, 1, 2, columns - j), to + j * height, 0, None)


@kernel
def pack_transposed(w: Pointer, out: Pointer, lower: Int, upper: Int, fan_in: Int, fan_out: Int, height: Int) -> None:
    """The rows `lower` to `upper` of w (fan_in, fan_out) as columns of panels of `height` rows: w[i, j] goes to
    ``out + i // wide * wide * height + j * wide + i % wide``.

    `lower` is a multiple of a panel's width, `height` fan_out rounded up to whole registers.
    """
    step = lanes(w)
    wide = 2 * step
    for i in range(lower, upper, step):
        to = out + (i // wide * wide * height + i % wide)
        if i + step <= fan_in:
            for j in range(0, fan_out, step):
                square = load_square(w + (i * fan_out + j), fan_out, fan_out - j)
                store(transposed(square), to + j * wide, wide, None)
        else:
            for r in range(upper - i):
                for j in range(fan_out):
                    to[j * wide + r] = w[(i + r) * fan_out + j]
