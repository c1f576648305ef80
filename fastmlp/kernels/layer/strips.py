"""The weights' gradient and its update in one: a strip of rows of w at a time.

A strip's gradient is made in a block of scratch that stays in the cache and goes through the optimiser from there: the whole
gradient never exists in memory.
"""

from __future__ import annotations

from fastmlp.kernels.layer.dense import Shape
from fastmlp.kernels.layer.product import START, TALL, Extent, Finish, Rows, Strided, panel, tall_2
from fastmlp.kernels.layer.update import Place, Settings, moved, update
from fastmlp.kernels.machine.jit import Int, Pointer, kernel
from fastmlp.kernels.machine.pointer import nothing
from fastmlp.kernels.machine.target import VECTOR_BYTES
from fastmlp.kernels.tiles.tile import lanes, load, store
from fastmlp.kernels.tuning import STRIP_PANELS_BYTES

ADD, UPDATE = 1, 2


@kernel
def backward_strips(
    code: Int, settings: Settings, x: Pointer, panels: Pointer, strip: Pointer, place: Place, shape: Shape, mode: Int
) -> None:
    """One optimiser step of w (fan_in, fan_out) with the gradient x.T @ d; without UPDATE in `mode` it goes to place.grads.

    With ADD what place.grads holds is added. Only w's rows from `shape.lower` to `shape.upper` are treated, for the threads to
    share the rest. x is (rows, fan_in), `panels` d (rows, fan_out) as `pack` left it, `strip` scratch for TALL * fan_out
    numbers.
    """
    half = lanes(x)
    wide = 2 * half
    rows, fan_in, fan_out = shape.rows, shape.fan_in, shape.fan_out
    add, step = mode & ADD, mode & UPDATE
    # As many columns at a time as the second-level cache has room for their panels, which every strip goes through.
    span = max(STRIP_PANELS_BYTES * half // VECTOR_BYTES // rows // wide, 1) * wide
    for start in range(0, fan_out, span):
        columns = min(span, fan_out - start)
        for i in range(shape.lower, shape.upper, TALL):
            here = min(TALL, shape.upper - i)
            at = i * fan_out + start
            gradient, row = place.grads + at, fan_out
            if step:
                gradient, row = strip, columns
            if add and step:
                for r in range(here):
                    for j in range(0, columns, half):
                        left = columns - j
                        source = place.grads + (at + r * fan_out + j)
                        store(load(source, 0, 1, 1, left), strip + (r * columns + j), 0, left)
            # x's columns are read where they lie: they arrive while there is something to multiply; a copy made first would
            # wait for them (784-256-128-10: 5 % of a step).
            xi = Strided(x + i, 1, fan_in)
            begin = START if add else 0
            for j in range(0, columns, wide):
                d = Rows(panels + (start + j) * rows, wide)
                to = Rows(gradient + j, row)
                finish = Finish(begin, to, nothing(x))
                if here == TALL and columns - j >= wide:
                    tall_2(xi, d, finish, to, Extent(1, rows, wide))
                else:
                    panel(xi, d, finish, to, Extent(here, rows, columns - j))
            own = moved(place, at)
            if step and columns == fan_out:
                update(code, settings, Place(own.params, strip, own.first, own.second), here * columns)
            elif step:
                for r in range(here):
                    one = moved(own, r * fan_out)
                    one = Place(one.params, strip + r * columns, one.first, one.second)
                    update(code, settings, one, columns)
