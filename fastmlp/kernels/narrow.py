"""Networks so narrow that a tile of their units would be mostly empty: here the batch lies on the lanes.

A block of as many rows as a register has lanes goes through the whole net before the next. Each register holds one unit's
numbers for the block, and meets one number of the weights at a time; the weights' gradient is summed over the lanes once, at
the end. Lanes beyond the batch hold zeros in x and in the output's gradient, and so add nothing to any sum.
"""

from __future__ import annotations

from typing import Any

from fastmlp.kernels.across import sum_lanes, total
from fastmlp.kernels.activation import IDENTITY, RELU, activate, multiply_derivative, needs_input
from fastmlp.kernels.apply import apply, penalty
from fastmlp.kernels.arithmetic import first_columns, fma, maximum, where
from fastmlp.kernels.epoch import begin, end
from fastmlp.kernels.jit import Doubles, Int, Integers, Pointer, inlined, kernel
from fastmlp.kernels.loss import BCE, evaluate, from_logits, hard_bce, soft_bce
from fastmlp.kernels.math import sigmoid
from fastmlp.kernels.plan import (
    A_AT,
    ACTIVATION,
    BATCH,
    BIASES,
    CURSOR,
    D_AT,
    FAN_IN,
    FAN_OUT,
    GRADIENT_AT,
    HEADER,
    LAYERS,
    LOSS,
    OPTIMIZER,
    P_AT,
    PARAMETERS,
    RATED,
    RECORD,
    SAMPLES,
    SHUFFLE,
    STEP,
    SUMS_AT,
    TARGETS,
    TICK,
    WEIGHTS,
    WHOLE,
    WITHIN,
    X_AT,
    Y_AT,
    Z_AT,
)
from fastmlp.kernels.tile import lanes, load, load_square, outer_add, splat, store
from fastmlp.kernels.update import LR, MASS, MOMENTUM, SGD, SO_FAR, WEIGHT_DECAY, prepare

# Rows behind which a call may end in the middle of a step: some hundredths of a second of the largest nets here.
NARROW_ROWS = 1 << 16


@kernel
def pack(x: Pointer, order: Integers, first: Int, shuffled: Int, out: Pointer, rows: Int, columns: Int) -> None:
    """Rows `first` on (of `order`, if `shuffled`) as blocks of registers, one a column, a row a lane; 0 beyond `rows`."""
    step = lanes(x)
    for start in range(0, rows, step):
        to = out + start * columns
        for i in range(step):
            at = first + start + i
            if start + i < rows:
                row = x + (order[at] if shuffled else at) * columns
                for j in range(columns):
                    to[j * step + i] = row[j]
            else:
                for j in range(columns):
                    to[j * step + i] = 0.0


@inlined
def _forward(plan: Any, params: Any, work: Any, x: Any) -> None:
    """All layers over one packed block, up to the logits if the loss starts there."""
    step = lanes(work)
    layers = plan[LAYERS]
    logits = from_logits(plan[LOSS])
    layer = plan + HEADER
    for index in range(layers):
        fan_in = layer[FAN_IN]
        fan_out = layer[FAN_OUT]
        name = layer[ACTIVATION]
        if logits and index == layers - 1:
            name = IDENTITY
        z = work + layer[Z_AT]
        w = params + layer[WEIGHTS]
        b = params + layer[BIASES]
        for u in range(fan_out):
            acc = splat(x, b[u], 1, 1)
            for p in range(fan_in):
                acc = outer_add(acc, w + (p * fan_out + u), 0, x + p * step, None)
            if name == RELU:
                acc = maximum(acc, 0.0)
            store(acc, z + u * step, 0, None)
        x = work + layer[A_AT]
        if name != IDENTITY and name != RELU:
            activate(name, z, x, fan_out, step)
        layer = layer + RECORD


@inlined
def _start_backward(plan: Any, work: Any, y: Any, p: Any, rows: int, scale: float) -> float:
    """The output's gradient of `rows` rows, and their loss; for bce the outputs instead, in p."""
    step = lanes(work)
    code = plan[LOSS]
    last = plan + (HEADER + (plan[LAYERS] - 1) * RECORD)
    out = work + last[A_AT]
    d = work + last[D_AT]
    outputs = last[FAN_OUT]
    result = 0.0
    for j in range(0, outputs * step, step):
        if code == BCE:
            output = sigmoid(load(out + j, 0, 1, 1, None))
            slope = (output - load(y + j, 0, 1, 1, None)) * scale
            store(where(first_columns(slope, rows), slope, 0.0), d + j, 0, None)
            store(output, p + j, 0, None)
        else:
            result += evaluate(code, out + j, y + j, d + j, rows, 1, scale)
    if not from_logits(code) and last[ACTIVATION] != IDENTITY:
        kept = work + last[Z_AT] if needs_input(last[ACTIVATION]) else out
        multiply_derivative(last[ACTIVATION], kept, d, outputs, step)
    return result


@inlined
def _backward(plan: Any, params: Any, work: Any, inputs: Any, add: bool) -> None:
    """Each parameter's gradient, one row a lane, to SUMS_AT; added to what is there if `add`."""
    step = lanes(work)
    sums = work + plan[SUMS_AT]
    layer = plan + (HEADER + (plan[LAYERS] - 1) * RECORD)
    for back in range(plan[LAYERS], 0, -1):
        fan_in = layer[FAN_IN]
        fan_out = layer[FAN_OUT]
        d = work + layer[D_AT]
        x = inputs
        if back > 1:
            below = layer + (0 - RECORD)
            name = below[ACTIVATION]
            x = work + below[A_AT]
            kept = work + below[Z_AT] if needs_input(name) else x
            to = work + below[D_AT]
            w = params + layer[WEIGHTS]
            for u in range(fan_in):
                acc = splat(d, 0.0, 1, 1)
                for p in range(fan_out):
                    acc = outer_add(acc, w + (u * fan_out + p), 0, d + p * step, None)
                if name == RELU:
                    acc = where(load(kept + u * step, 0, 1, 1, None) > 0.0, acc, 0.0)
                store(acc, to + u * step, 0, None)
            if name != IDENTITY and name != RELU:
                multiply_derivative(name, kept, to, fan_in, step)
        dw = sums + layer[WEIGHTS] * step
        db = sums + layer[BIASES] * step
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
        layer = layer + (0 - RECORD)


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
    plan: Integers,
    hyper: Doubles,
    params: Pointer,
    moments: Pointer,
    work: Pointer,
    x: Pointer,
    y: Pointer,
    order: Integers,
    state: Integers,
    losses: Doubles,
    rates: Doubles,
    count: Int,
) -> None:
    """`batches`, with the batch on the lanes: at most `count` parts of NARROW_ROWS rows, or the steps' fewer.

    A step that is left in the middle keeps its gradient so far in the work buffer.
    """
    step = lanes(work)
    fan_in = plan[HEADER + FAN_IN]
    outputs = plan[TARGETS]
    sums = work + plan[SUMS_AT]
    grads = work + plan[GRADIENT_AT]
    xs = work + plan[X_AT]
    ys = work + plan[Y_AT]
    ps = work + plan[P_AT]
    plain = plan[OPTIMIZER] == SGD and hyper[MOMENTUM] == 0.0 and not plan[WHOLE]
    packed = False
    within = state[WITHIN]
    while count > 0:
        first = state[CURSOR]
        result = 0.0
        if within:
            rows = min(plan[BATCH], plan[SAMPLES] - first)
            result = hyper[SO_FAR]
        else:
            rows = begin(plan, params, order, state)
            if rows == 0:
                return
            hyper[MASS] = rows
            if plan[RATED]:
                hyper[LR] = rates[state[TICK]]
                state[TICK] = state[TICK] + 1
        stop = min(within + count * NARROW_ROWS, rows)
        count -= -(-(stop - within) // NARROW_ROWS)
        if not packed or plan[SAMPLES] > plan[BATCH]:
            pack(x, order, first + within, plan[SHUFFLE], xs + within * fan_in, stop - within, fan_in)
            pack(y, order, first + within, plan[SHUFFLE], ys + within * outputs, stop - within, outputs)
            packed = stop - within == rows
        scale = 1.0 / (rows * outputs)
        extra = 0.0
        rate = 0.0 - hyper[LR]
        shrink = rate * hyper[WEIGHT_DECAY]
        for start in range(within, stop, step):
            here = min(rows - start, step)
            at = start * outputs
            _forward(plan, params, work, xs + start * fan_in)
            result += _start_backward(plan, work, ys + at, ps + at, here, scale)
            _backward(plan, params, work, xs + start * fan_in, start > 0)
        if stop == rows:
            for i in range(0, plan[PARAMETERS], step):
                g = sum_lanes(load_square(sums + i * step, step, None))
                if plain:
                    p = load(params + i, 0, 1, 1, None)
                    store(fma(g, rate, p + p * shrink), params + i, 0, None)
                else:
                    store(g, grads + i, 0, None)
            if not plain:
                prepare(plan[OPTIMIZER], hyper, state[STEP] + 1, params)
                if plan[WHOLE]:
                    extra = penalty(plan, hyper, params)
                apply(plan, hyper, params, moments, grads, state, 0, 1)
        if plan[LOSS] == BCE:
            # The logarithms come last: their latency then passes under the next step's forward pass instead of holding this
            # step's backward pass up (notebook: 92 against 115 ns a step).
            result = _bce(ps, ys, within, stop, outputs, result)
        if stop < rows:
            hyper[SO_FAR] = result
            state[WITHIN] = stop
            return
        within = 0
        state[WITHIN] = 0
        end(plan, state, losses, rows, result * scale + extra)
