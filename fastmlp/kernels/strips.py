"""The weights' gradient and its update in one: a strip of rows of w at a time.

A strip's gradient is made in a block of scratch that stays in the cache and goes through the optimiser from there: the whole
gradient never exists in memory.
"""

from __future__ import annotations

from fastmlp.kernels.jit import Doubles, Int, Pointer, kernel
from fastmlp.kernels.pointer import local
from fastmlp.kernels.product import ADD, TALL, panel, tall_2
from fastmlp.kernels.tile import VECTOR_BYTES, lanes, load, store
from fastmlp.kernels.update import update

# Rows of the batch that are multiplied at a time: with them a strip of x takes 12 KB in float32, half a first-level cache.
DEEP = 256
STRIP = 16 * DEEP * 8  # bytes
PANELS = 1 << 19  # bytes


@kernel
def pack_panels(d: Pointer, out: Pointer, rows: Int, columns: Int, height: Int) -> None:
    """The columns of d (rows, columns) by panels of 2 registers, `height` rows apart; zeros beyond the last column."""
    wide = 2 * lanes(d)
    for j in range(0, columns, wide):
        to = out + j * height
        for i in range(rows):
            store(load(d + (i * columns + j), 0, 1, 2, columns - j), to + i * wide, 0, None)


@kernel
def backward_strips(
    code: Int,
    hyper: Doubles,
    x: Pointer,
    panels: Pointer,
    strip: Pointer,
    w: Pointer,
    first: Pointer,
    second: Pointer,
    dw: Pointer,
    rows: Int,
    fan_in: Int,
    fan_out: Int,
    lower: Int,
    upper: Int,
    add: Int,
    step: Int,
) -> None:
    """One optimiser step of w (fan_in, fan_out) with the gradient x.T @ d, plus dw if `add`; without `step` it goes to dw.

    Only w's rows from `lower` to `upper` are treated, for the threads to share the rest.

    x is (rows, fan_in), `panels` d (rows, fan_out) as `pack_panels` left it, `strip` scratch for TALL * fan_out numbers,
    `first` and `second` w's places in the optimiser's vectors.
    """
    half = lanes(x)
    wide = 2 * half
    width = -(-TALL // half) * half
    packed = local(x, STRIP)
    # As many columns at a time as the second-level cache has room for their panels, which every strip goes through.
    span = max(PANELS * half // VECTOR_BYTES // rows // wide, 1) * wide
    for start in range(0, fan_out, span):
        columns = min(span, fan_out - start)
        for i in range(lower, upper, TALL):
            here = min(TALL, upper - i)
            at = i * fan_out + start
            gradient, row = dw + at, fan_out
            if step:
                gradient, row = strip, columns
            if add and step:
                for r in range(here):
                    for j in range(0, columns, half):
                        left = columns - j
                        source = dw + (at + r * fan_out + j)
                        store(load(source, 0, 1, 1, left), strip + (r * columns + j), 0, left)
            for k in range(0, rows, DEEP):
                deep = min(DEEP, rows - k)
                for p in range(deep):
                    source = x + ((k + p) * fan_in + i)
                    for c in range(0, here, half):
                        store(load(source + c, 0, 1, 1, here - c), packed + (p * width + c), 0, None)
                mode = ADD if add or k > 0 else 0
                for j in range(0, columns, wide):
                    d = panels + ((start + j) * rows + k * wide)
                    to = gradient + j
                    if here == TALL and columns - j >= wide:
                        tall_2(packed, 1, width, d, wide, deep, d, d, to, row, mode, wide)
                    else:
                        panel(packed, 1, width, d, wide, d, d, to, row, mode, here, deep, columns - j)
            if step and columns == fan_out:
                update(code, w + at, strip, first + at, second + at, hyper, here * columns)
            elif step:
                for r in range(here):
                    to = at + r * fan_out
                    update(code, w + to, strip + r * columns, first + to, second + to, hyper, columns)
