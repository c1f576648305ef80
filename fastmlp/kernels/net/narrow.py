"""Networks so narrow that a tile of their units would be mostly empty: here the batch lies on the lanes.

A block of as many rows as a register has lanes goes through the whole net before the next. Each register holds one unit's
numbers for the block, and meets one number of the weights at a time; the weights' gradient is summed over the lanes once, at
the end. Lanes beyond the batch hold zeros in x and in the output's gradient, and so add nothing to any sum.
"""

from __future__ import annotations

from typing import Any

from fastmlp.kernels.layer.activation import IDENTITY, RELU, activate, multiply_derivative, needs_input
from fastmlp.kernels.layer.loss import BCE, evaluate, from_logits, hard_bce, soft_bce
from fastmlp.kernels.layer.update import SGD, prepare
from fastmlp.kernels.machine.jit import Int, Integers, Pointer, inlined, kernel
from fastmlp.kernels.net.apply import apply, penalty
from fastmlp.kernels.net.epoch import begin, end, take_rate
from fastmlp.kernels.net.parallel import Team
from fastmlp.kernels.net.plan import Data, Log, Net, Optimizer, Progress, Sums, last_layer
from fastmlp.kernels.tiles.across import sum_lanes, total
from fastmlp.kernels.tiles.arithmetic import first_columns, fma, maximum, where
from fastmlp.kernels.tiles.math import sigmoid
from fastmlp.kernels.tiles.tile import lanes, load, load_square, outer_add, splat, store
from fastmlp.kernels.tuning import NARROW_ROWS


@kernel
def pack_lanes(x: Pointer, order: Integers, ordered: Int, first: Int, out: Pointer, rows: Int, columns: Int) -> None:
    """Rows `first` on (of `order`, if `ordered`) as blocks of registers, one a column, a row a lane; 0 beyond `rows`."""
    step = lanes(x)
    for start in range(0, rows, step):
        to = out + start * columns
        for i in range(step):
            at = first + start + i
            if start + i < rows:
                row = x + (order[at] if ordered else at) * columns
                for j in range(columns):
                    to[j * step + i] = row[j]
            else:
                for j in range(columns):
                    to[j * step + i] = 0.0


@inlined
def _forward(net: Any, x: Any) -> None:
    """All layers over one packed block, up to the logits if the loss starts there."""
    params, work = net.params, net.work
    step = lanes(work)
    layers = net.table.layers
    logits = from_logits(net.task.loss)
    layer = net.layers
    for index in range(layers):
        fan_in = layer.fan_in
        fan_out = layer.fan_out
        name = layer.activation
        if logits and index == layers - 1:
            name = IDENTITY
        z = work + layer.z_at
        w = params + layer.weights
        b = params + layer.biases
        for u in range(fan_out):
            acc = splat(x, b[u], 1, 1)
            for p in range(fan_in):
                acc = outer_add(acc, w + (p * fan_out + u), 0, x + p * step, None)
            if name == RELU:
                acc = maximum(acc, 0.0)
            store(acc, z + u * step, 0, None)
        x = work + layer.a_at
        if name != IDENTITY and name != RELU:
            activate(name, z, x, fan_out, step)
        layer = layer + 1


@inlined
def _start_backward(net: Any, y: Any, p: Any, rows: int, scale: float) -> float:
    """The output's gradient of `rows` rows, and their loss; for bce the outputs instead, in p."""
    work = net.work
    step = lanes(work)
    code = net.task.loss
    last = last_layer(net)
    out = work + last.a_at
    d = work + last.d_at
    outputs = last.fan_out
    result = 0.0
    for j in range(0, outputs * step, step):
        if code == BCE:
            output = sigmoid(load(out + j, 0, 1, 1, None))
            slope = (output - load(y + j, 0, 1, 1, None)) * scale
            store(where(first_columns(slope, rows), slope, 0.0), d + j, 0, None)
            store(output, p + j, 0, None)
        else:
            result += evaluate(code, out + j, y + j, d + j, rows, 1, scale)
    if not from_logits(code) and last.activation != IDENTITY:
        kept = work + last.z_at if needs_input(last.activation) else out
        multiply_derivative(last.activation, kept, d, outputs, step)
    return result


@inlined
def _backward(net: Any, inputs: Any, add: bool) -> None:
    """Each parameter's gradient, one row a lane, to SUMS_AT; added to what is there if `add`."""
    params, work = net.params, net.work
    step = lanes(work)
    sums = work + net.table.sums_at
    layer = last_layer(net)
    for back in range(net.table.layers, 0, -1):
        fan_in = layer.fan_in
        fan_out = layer.fan_out
        d = work + layer.d_at
        x = inputs
        if back > 1:
            below = layer + -1
            name = below.activation
            x = work + below.a_at
            kept = work + below.z_at if needs_input(name) else x
            to = work + below.d_at
            w = params + layer.weights
            for u in range(fan_in):
                acc = splat(d, 0.0, 1, 1)
                for p in range(fan_out):
                    acc = outer_add(acc, w + (u * fan_out + p), 0, d + p * step, None)
                if name == RELU:
                    acc = where(load(kept + u * step, 0, 1, 1, None) > 0.0, acc, 0.0)
                store(acc, to + u * step, 0, None)
            if name != IDENTITY and name != RELU:
                multiply_derivative(name, kept, to, fan_in, step)
        dw = sums + layer.weights * step
        db = sums + layer.biases * step
        for j in range(fan_out):
            dj = load(d + j * step, 0, 1, 1, None)
            acc = dj
            if add:
                acc = acc + load(db + j * step, 0, 1, 1, None)
            store(acc, db + j * step, 0, None)
            for i in range(fan_in):
                acc = load(x + i * step, 0, 1, 1, None) * dj
                at = dw + (i * fan_out + j) * step
                if add:
                    acc = acc + load(at, 0, 1, 1, None)
                store(acc, at, 0, None)
        layer = layer + -1


@inlined
def _bce(p: Any, y: Any, first: int, stop: int, outputs: int, so_far: float) -> float:
    """The sum of `bce` over packed outputs and targets, of rows `first` to `stop`, added to what there is."""
    step = lanes(p)
    result = so_far
    for start in range(first, stop, step):
        for j in range(outputs):
            at = start * outputs + j * step
            output = load(p + at, 0, 1, 1, None)
            target = load(y + at, 0, 1, 1, None)
            losses = hard_bce(output, target)
            if total(target * (1.0 - target)) != 0.0:
                losses = soft_bce(output, target)
            result += total(where(first_columns(output, stop - start), losses, 0.0))
    return result


@kernel
def narrow_batches(
    net: Net, data: Data, optimizer: Optimizer, sums: Sums, progress: Progress, log: Log, count: Int, team: Team
) -> None:
    """`batches`, with the batch on the lanes: at most `count` parts of NARROW_ROWS rows, or the steps' fewer.

    A step that is left in the middle keeps its gradient so far in the work buffer.
    """
    table, task, settings, batch = net.table, net.task, optimizer.settings, sums.batch
    params, work, order = net.params, net.work, data.order
    step = lanes(work)
    fan_in = net.layers.fan_in
    outputs = task.targets
    gradients = work + table.sums_at
    grads = work + table.gradient_at
    xs = work + table.x_at
    ys = work + table.y_at
    ps = work + table.outputs_at
    plain = task.optimizer == SGD and settings.momentum == 0.0 and not task.whole
    packed = False
    within = progress.within
    while count > 0:
        first = progress.cursor
        result = 0.0
        if within:
            rows = min(task.batch, task.samples - first)
            result = batch.so_far
        else:
            rows = begin(task, params, order, progress)
            if rows == 0:
                return
            batch.mass = rows
            take_rate(task, settings, progress, log)
        stop = min(within + count * NARROW_ROWS, rows)
        count -= -(-(stop - within) // NARROW_ROWS)
        if not packed or task.samples > task.batch:
            pack_lanes(data.x, order, data.ordered, first + within, xs + within * fan_in, stop - within, fan_in)
            pack_lanes(data.y, order, data.ordered, first + within, ys + within * outputs, stop - within, outputs)
            packed = stop - within == rows
        scale = 1.0 / (rows * outputs)
        extra = 0.0
        rate = 0.0 - settings.lr
        shrink = rate * settings.weight_decay
        for start in range(within, stop, step):
            here = min(rows - start, step)
            at = start * outputs
            _forward(net, xs + start * fan_in)
            result += _start_backward(net, ys + at, ps + at, here, scale)
            _backward(net, xs + start * fan_in, start > 0)
        if stop == rows:
            for i in range(0, table.parameters, step):
                g = sum_lanes(load_square(gradients + i * step, step, None))
                if plain:
                    p = load(params + i, 0, 1, 1, None)
                    store(fma(g, rate, p + p * shrink), params + i, 0, None)
                else:
                    store(g, grads + i, 0, None)
            if not plain:
                prepare(task.optimizer, settings, progress.steps + 1, params)
                if task.whole:
                    extra = penalty(net, settings, batch.mass)
                apply(net, optimizer, sums, grads, team)
        if task.loss == BCE:
            # The logarithms come last: their latency then passes under the next step's forward pass instead of holding this
            # step's backward pass up (notebook: 92 against 115 ns a step).
            result = _bce(ps, ys, within, stop, outputs, result)
        if stop < rows:
            batch.so_far = result
            progress.within = stop
            return
        within = 0
        progress.within = 0
        end(task, progress, log.losses, rows, result * scale + extra)
