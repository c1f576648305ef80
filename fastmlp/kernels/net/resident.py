"""Networks so small that all their parameters stay in registers: one hidden layer, a batch of at most a register's lanes.

As in `fastmlp.kernels.net.narrow` a register holds one unit's numbers for the whole batch, a row a lane; here a parameter has a
register of its own too, its value in every lane. A gradient's sum over the batch is left in every lane, so a step writes
nothing that the next one would have to wait for: it is one chain of arithmetic from weights to weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastmlp.kernels.layer.activation import RELU, SIGMOID, TANH
from fastmlp.kernels.layer.loss import BCE, hard_bce, soft_bce
from fastmlp.kernels.layer.update import Settings
from fastmlp.kernels.machine.jit import Int, inlined, kernel
from fastmlp.kernels.machine.pointer import local
from fastmlp.kernels.machine.target import VECTOR_BYTES
from fastmlp.kernels.net.epoch import begin, end
from fastmlp.kernels.net.narrow import pack_lanes
from fastmlp.kernels.net.plan import Data, Log, Net, Progress
from fastmlp.kernels.tiles.across import repeat, sum_across, sum_rows, total
from fastmlp.kernels.tiles.arithmetic import first_columns, fma, maximum, where
from fastmlp.kernels.tiles.math import sigmoid, tanh
from fastmlp.kernels.tiles.tile import lanes, load, outer_add, splat, store
from fastmlp.kernels.tuning import RESIDENT_WIDTH

SCRATCH = 16 * VECTOR_BYTES  # bytes


@inlined
def _stepped(parameter: Any, gradient: Any, rate: Any, shrink: float) -> Any:
    return fma(gradient, rate, parameter + parameter * shrink)


def _resident(rows: int) -> Callable[..., Any]:
    """The kernel for up to `rows` units: a unit that the net lacks costs as much as one that it has."""

    @inlined
    def spread(numbers: Any, count: int, scratch: Any) -> Any:
        """A tile whose row r is full of numbers[r]; of 0 from `count` on."""
        for r in range(rows):
            scratch[r] = numbers[r] if r < count else 0.0
        one = scratch + rows
        store(splat(one, 1.0, 1, 1), one, 0, None)
        return outer_add(splat(one, 0.0, rows, 1), scratch, 1, one, None)

    @inlined
    def collect(tile: Any, numbers: Any, count: int, scratch: Any) -> None:
        """The reverse of `spread`."""
        step = lanes(scratch)
        store(tile, scratch, step, None)
        for r in range(count):
            numbers[r] = scratch[r * step]

    def resident(net: Net, data: Data, settings: Settings, progress: Progress, log: Log, count: Int) -> None:
        task, hidden, params, x, y, order = net.task, net.layers, net.params, data.x, data.y, data.order
        step = lanes(x)
        fan_in = hidden.fan_in
        units = hidden.fan_out
        name = hidden.activation
        code = task.loss
        w = params + hidden.weights
        b = params + hidden.biases
        v = params + (hidden + 1).weights
        scratch = local(x, SCRATCH)
        # The batch, a register an input and one for the targets; inputs that the net lacks stay 0, and so do their weights.
        xs = scratch + 8 * step
        ys = xs + RESIDENT_WIDTH * step
        store(splat(x, 0.0, RESIDENT_WIDTH, 1), xs, step, None)
        w0 = spread(w, units, scratch)
        w1 = spread(w + units, units if fan_in > 1 else 0, scratch)
        w2 = spread(w + 2 * units, units if fan_in > 2 else 0, scratch)
        w3 = spread(w + 3 * units, units if fan_in > 3 else 0, scratch)
        b0 = spread(b, units, scratch)
        v0 = spread(v, units, scratch)
        c0 = splat(x, v[units], 1, 1)
        rate = 0.0 - settings.lr
        shrink = rate * settings.weight_decay
        # Units that the net lacks may have an output (a sigmoid's): it must not give them a weight.
        for r in range(rows):
            scratch[r] = 1.0
        rates = spread(scratch, units, scratch) * rate
        valid = c0 * 0.0
        scale = 0.0
        soft = False
        packed = False
        for _ in range(count):
            start = progress.cursor
            here = begin(task, params, order, progress)
            if here == 0:
                break
            if not packed or task.samples > task.batch:
                pack_lanes(x, order, data.ordered, start, xs, here, fan_in)
                pack_lanes(y, order, data.ordered, start, ys, here, 1)
                packed = True
                target = load(ys, 0, 1, 1, None)
                soft = total(target * (1.0 - target)) != 0.0
                scale = 1.0 / here
                valid = where(first_columns(c0, here), splat(x, scale if code == BCE else 2.0 * scale, 1, 1), 0.0)
            x0, x1 = load(xs, 0, rows, 1, None), load(xs + step, 0, rows, 1, None)
            x2, x3 = load(xs + 2 * step, 0, rows, 1, None), load(xs + 3 * step, 0, rows, 1, None)
            target = load(ys, 0, 1, 1, None)
            a = fma(w1, x1, fma(w0, x0, b0))
            if fan_in > 2:
                a = fma(w3, x3, fma(w2, x2, a))
            if name == RELU:
                a = maximum(a, 0.0)
            elif name == TANH:
                a = tanh(a)
            elif name == SIGMOID:
                a = sigmoid(a)
            p = sum_rows(a * v0) + c0
            if code == BCE:
                p = sigmoid(p)
            e = p - target
            d = e * valid
            across = repeat(d, rows)
            below = v0 * across
            if name == RELU:
                below = where(a > 0.0, below, 0.0)
            elif name == TANH:
                below = below * fma(0.0 - a, a, 1.0)
            elif name == SIGMOID:
                below = below * (a * (1.0 - a))
            v0 = _stepped(v0, sum_across(a * across), rates, shrink)
            c0 = _stepped(c0, sum_across(d), rate, shrink)
            w0 = _stepped(w0, sum_across(x0 * below), rate, shrink)
            w1 = _stepped(w1, sum_across(x1 * below), rate, shrink)
            if fan_in > 2:
                w2 = _stepped(w2, sum_across(x2 * below), rate, shrink)
                w3 = _stepped(w3, sum_across(x3 * below), rate, shrink)
            b0 = _stepped(b0, sum_across(below), rate, shrink)
            if code == BCE:
                loss = hard_bce(p, target)
                if soft:
                    loss = soft_bce(p, target)
            else:
                loss = e * e
            end(task, progress, log.losses, here, total(where(first_columns(loss, here), loss, 0.0)) * scale)
        collect(w0, w, units, scratch)
        if fan_in > 1:
            collect(w1, w + units, units, scratch)
        if fan_in > 2:
            collect(w2, w + 2 * units, units, scratch)
        if fan_in > 3:
            collect(w3, w + 3 * units, units, scratch)
        collect(b0, b, units, scratch)
        collect(v0, v, units, scratch)
        store(c0, scratch, 0, None)
        v[units] = scratch[0]

    resident.__qualname__ = f"resident_{rows}"
    return kernel(resident)


resident_2, resident_4 = _resident(2), _resident(4)


@kernel
def resident_batches(net: Net, data: Data, settings: Settings, progress: Progress, log: Log, count: Int) -> None:
    """`batches` of a net of which all lives in registers: at most `count` steps."""
    if net.layers.fan_out <= 2:
        resident_2(net, data, settings, progress, log, count)
    else:
        resident_4(net, data, settings, progress, log, count)
