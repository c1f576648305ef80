"""The weights' gradient and its update in one: a strip of rows of w at a time.

A strip's gradient is made in a block of scratch that stays in the cache and goes through the optimiser from there: the whole
gradient never exists in memory.
"""

from __future__ import annotations

from fastmlp.kernels.jit import Doubles, Int, Pointer, kernel
from fastmlp.kernels.product import START, TALL, panel, tall_2
from fastmlp.kernels.tile import VECTOR_BYTES, lanes, load, store
from fastmlp.kernels.update import update

PANELS = 1 << 19  # bytes


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

    x is (rows, fan_in), `panels` d (rows, fan_out) as `pack` left it, `strip` scratch for TALL * fan_out numbers,
    `first` and `second` w's places in the optimiser's vectors.
    """
    half = lanes(x)
    wide = 2 * half
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
            # x's columns are read where they lie: they arrive while there is something to multiply; a copy made first would
            # wait for them (784-256-128-10: 5 % of a step).
            xi = x + i
            mode = START if add else 0
            for j in range(0, columns, wide):
                d = panels + (start + j) * rows
                to = gradient + j
                if here == TALL and columns - j >= wide:
                    tall_2(xi, 1, fan_in, d, wide, rows, to, row, d, to, row, mode, wide, 1)
                else:
                    panel(xi, 1, fan_in, d, wide, to, row, d, to, row, mode, here, rows, columns - j)
            if step and columns == fan_out:
                update(code, w + at, strip, first + at, second + at, hyper, here * columns)
            elif step:
                for r in range(here):
                    to = at + r * fan_out
                    update(code, w + to, strip + r * columns, first + to, second + to, hyper, columns)
