"""One training step of a whole network: forward, loss, backward and update, shared by any number of threads.

Each thread takes a share of the batch's rows through all layers, forward and back, then a share of each layer's weights.
Every number is computed by one thread in one fixed order, so the bits do not depend on how many there are.
"""

from __future__ import annotations

from fastmlp.kernels.activation import IDENTITY, multiply_derivative, needs_input
from fastmlp.kernels.jit import Double, Doubles, Int, Integers, Pointer, inlined, kernel
from fastmlp.kernels.layer import (
    few_rows_backward_inputs,
    layer_backward_biases,
    layer_backward_inputs,
    layer_backward_weights,
    layer_forward,
    transpose,
)
from fastmlp.kernels.loss import evaluate, from_logits, is_cross_entropy
from fastmlp.kernels.pack import pack, pack_transposed
from fastmlp.kernels.parallel import meet
from fastmlp.kernels.plan import (
    A_AT,
    ACTIVATION,
    BIASES,
    BLOCK,
    D_AT,
    FAN_IN,
    FAN_OUT,
    HEADER,
    LAYERS,
    LOSS,
    OPTIMIZER,
    PACKED,
    PACKED_AT,
    PANELS_AT,
    PARAMETERS,
    RECORD,
    SPARE_AT,
    SPARE_ROW,
    STRIP_AT,
    STRIP_SIZE,
    STRIPS,
    TARGETS,
    TRANSPOSED_AT,
    WEIGHTS,
    X_AT,
    Y_AT,
    Z_AT,
)
from fastmlp.kernels.product import COPIED_ROWS, TALL
from fastmlp.kernels.strips import backward_strips
from fastmlp.kernels.tile import lanes, load, store
from fastmlp.kernels.update import HYPER, update

# Rows whose loss is summed at a time, and by which rows are shared out: whole registers for any number of outputs.
CHUNK = 32

# Up to so many rows the inputs' gradient is computed from w itself (256-256-256-256, one row, float32: 22, not 31 us).
FEW_ROWS = 4

NAN = float("nan")


@kernel
def share_start(like: Pointer, count: Int, unit: Int, me: Int, threads: Int) -> Int:
    """Where the `me`-th thread's share of `count` things starts, in whole units; the next one's start is its end.

    A kernel, not an inlined helper: Numba would compile one of these anew for each unit. `like` only tells the dtype.
    """
    if threads == 1:  # divisions take as long as a small layer
        return count if me else 0
    return min(me * -(-count // unit) // threads * unit, count)


@inlined
def _whole(count: int, unit: int) -> int:
    """`count` rounded up to whole units."""
    return -(-count // unit) * unit


@kernel
def pack_weights(plan: Integers, params: Pointer, work: Pointer, rows: Int, inputs: Int, me: Int, threads: Int) -> None:
    """A thread's share of the copies a step of `rows` rows reads the weights from: w.T, by panels or whole; w by panels."""
    step = lanes(work)
    for index in range(plan[LAYERS]):
        layer = plan + (HEADER + index * RECORD)
        fan_in = layer[FAN_IN]
        fan_out = layer[FAN_OUT]
        w = params + layer[WEIGHTS]
        wt = work + layer[TRANSPOSED_AT]
        if rows >= COPIED_ROWS and layer[PACKED]:
            lower = share_start(work, fan_in, 1, me, threads)
            upper = share_start(work, fan_in, 1, me + 1, threads)
            pack(w + lower * fan_out, work + (layer[PACKED_AT] + lower * 2 * step), upper - lower, fan_out, fan_in)
        if rows > FEW_ROWS and (index > 0 or inputs):
            if layer[STRIPS]:
                lower = share_start(work, fan_in, 2 * step, me, threads)
                upper = share_start(work, fan_in, 2 * step, me + 1, threads)
                pack_transposed(w, wt, lower, upper, fan_in, fan_out, _whole(fan_out, step))
            elif fan_out > 1:
                transpose(w, wt, fan_in, fan_out, me, threads)


@kernel
def forward(
    plan: Integers, params: Pointer, work: Pointer, x: Pointer, out: Pointer, first: Int, rows: Int, logits: Int, packed: Int
) -> None:
    """All layers over `rows` rows x, which are the block's from `first` on.

    The last layer's outputs go to `out`, without their activation if `logits`. `packed`: large weights lie by panels.
    """
    count = plan[LAYERS]
    spare = work + (plan[SPARE_AT] + first * plan[SPARE_ROW])
    for index in range(count):
        layer = plan + (HEADER + index * RECORD)
        fan_out = layer[FAN_OUT]
        code = layer[ACTIVATION]
        to = work + (layer[A_AT] + first * fan_out)
        if index == count - 1:
            to = out
            if logits:
                code = IDENTITY
        z = work + (layer[Z_AT] + first * fan_out)
        w = params + layer[WEIGHTS]
        by_panels = packed and layer[PACKED]
        if by_panels:
            w = work + layer[PACKED_AT]
        b = params + layer[BIASES]
        layer_forward(code, x, w, b, z, to, spare, by_panels, rows, layer[FAN_IN], fan_out)
        x = to


@kernel
def start_backward(plan: Integers, work: Pointer, y: Pointer, partials: Doubles, first: Int, rows: Int, scale: Double) -> None:
    """The gradient of the last layer's z for `rows` rows from `first` on; partials[c] is the loss of the c-th CHUNK of rows."""
    code = plan[LOSS]
    last = plan + (HEADER + (plan[LAYERS] - 1) * RECORD)
    outputs = last[FAN_OUT]
    for i in range(first, first + rows, CHUNK):
        here = min(CHUNK, first + rows - i)
        out = work + (last[A_AT] + i * outputs)
        d = work + (last[D_AT] + i * outputs)
        target = y + (i - first) * plan[TARGETS]
        partials[i // CHUNK] = evaluate(code, out, target, d, here, outputs, scale)
        if not from_logits(code):
            kept = out
            if needs_input(last[ACTIVATION]):
                kept = work + (last[Z_AT] + i * outputs)
            multiply_derivative(last[ACTIVATION], kept, d, here, outputs)


@kernel
def backward_rows(
    plan: Integers, params: Pointer, work: Pointer, dx: Pointer, first: Int, rows: Int, height: Int, inputs: Int
) -> None:
    """From the last layer's gradient of z to all others', for `rows` rows of a block of `height`; x's too if `inputs`."""
    spare = work + (plan[SPARE_AT] + first * plan[SPARE_ROW])
    for back in range(plan[LAYERS]):
        index = plan[LAYERS] - 1 - back
        layer = plan + (HEADER + index * RECORD)
        fan_in = layer[FAN_IN]
        fan_out = layer[FAN_OUT]
        d = work + (layer[D_AT] + first * fan_out)
        if layer[STRIPS]:
            pack(d, work + (layer[PANELS_AT] + first * 2 * lanes(work)), rows, fan_out, height)
        if index > 0 or inputs:
            code = IDENTITY
            kept = dx
            to = dx + first * fan_in
            if index > 0:
                below = layer + (0 - RECORD)
                code = below[ACTIVATION]
                kept = work + ((below[Z_AT] if needs_input(code) else below[A_AT]) + first * fan_in)
                to = work + (below[D_AT] + first * fan_in)
            if height <= FEW_ROWS and fan_out > 1:
                few_rows_backward_inputs(code, d, params + layer[WEIGHTS], kept, to, rows, fan_in, fan_out)
                continue
            wt = work + layer[TRANSPOSED_AT]
            if fan_out == 1:
                wt = params + layer[WEIGHTS]
            tall = _whole(fan_out, lanes(work)) if layer[STRIPS] else 0
            layer_backward_inputs(code, d, wt, kept, to, spare, tall, rows, fan_in, fan_out)


@kernel
def backward_weights(
    plan: Integers,
    hyper: Doubles,
    params: Pointer,
    moments: Pointer,
    work: Pointer,
    x: Pointer,
    grads: Pointer,
    rows: Int,
    add: Int,
    step: Int,
    me: Int,
    threads: Int,
) -> None:
    """All weights' and biases' gradients over a block (added to `grads` if `add`), a thread's share of each layer.

    With `step` they go through the optimiser at once, and `grads` is scratch.
    """
    optimizer = plan[OPTIMIZER]
    strip = work + (plan[STRIP_AT] + me * plan[STRIP_SIZE])
    for index in range(plan[LAYERS]):
        layer = plan + (HEADER + index * RECORD)
        fan_in = layer[FAN_IN]
        fan_out = layer[FAN_OUT]
        d = work + layer[D_AT]
        w = layer[WEIGHTS]
        b = layer[BIASES]
        first = moments + w
        second = moments + (plan[PARAMETERS] + w)
        own = params + w
        dw = grads + w
        if layer[STRIPS]:
            lower = share_start(work, fan_in, TALL, me, threads)
            upper = share_start(work, fan_in, TALL, me + 1, threads)
            panels = work + layer[PANELS_AT]
            backward_strips(
                optimizer, hyper, x, panels, strip, own, first, second, dw, rows, fan_in, fan_out, lower, upper, add, step
            )
        else:
            lower = share_start(work, fan_in, 4, me, threads)
            upper = share_start(work, fan_in, 4, me + 1, threads)
            layer_backward_weights(x, d, dw, strip, 1, rows, fan_in, fan_out, lower, upper, add)
        biases = index % threads == me
        if biases:
            layer_backward_biases(d, grads + b, rows, fan_out, add)
        if step:
            # What is left: the weights, unless they went by strips, and the biases, which lie behind the last of them.
            at = (upper if layer[STRIPS] else lower) * fan_out
            stop = upper * fan_out
            if biases and stop == b - w:
                stop += fan_out
            elif biases:
                ours = b - w
                update(optimizer, own + ours, dw + ours, first + ours, second + ours, hyper, fan_out)
            update(optimizer, own + at, dw + at, first + at, second + at, hyper, stop - at)
        x = work + layer[A_AT]


@kernel
def gather(x: Pointer, order: Integers, out: Pointer, rows: Int, columns: Int) -> None:
    """out[i, :] = x[order[i], :]."""
    for i in range(rows):
        row = x + order[i] * columns
        to = out + i * columns
        for j in range(0, columns, lanes(x)):
            store(load(row + j, 0, 1, 1, columns - j), to + j, 0, columns - j)


@kernel
def gradient(
    plan: Integers,
    hyper: Doubles,
    params: Pointer,
    moments: Pointer,
    work: Pointer,
    x: Pointer,
    y: Pointer,
    order: Integers,
    shuffled: Int,
    rows: Int,
    grads: Pointer,
    dx: Pointer,
    inputs: Int,
    step: Int,
    state: Integers,
    me: Int,
    threads: Int,
) -> Double:
    """A thread's part of the mean loss over `rows` rows and its gradient, by blocks of rows that stay in the cache.

    If `shuffled`, x and y are the whole data and `order` lists the rows to take; else they start at the first row. `dx`
    receives the inputs' gradient if `inputs`. With `step` the parameters are updated on the way, and `grads` is scratch.
    The loss is the first thread's to know; it is NaN if a thread failed.
    """
    code = plan[LOSS]
    last = plan + (HEADER + (plan[LAYERS] - 1) * RECORD)
    fan_in = plan[HEADER + FAN_IN]
    targets = plan[TARGETS]
    terms = rows if is_cross_entropy(code) else rows * last[FAN_OUT]
    partials = hyper + HYPER
    result = 0.0
    packed = 1 if rows >= COPIED_ROWS else 0
    pack_weights(plan, params, work, rows, inputs, me, threads)
    if not meet(state, threads):
        return NAN
    # Blocks of about equal size: a short last one would be slow for its few rows.
    block = max(rows, 1)
    if rows > plan[BLOCK]:
        block = -(-rows // (-(-rows // plan[BLOCK]) * CHUNK)) * CHUNK
    for start in range(0, rows, block):
        here = min(block, rows - start)
        first = share_start(work, here, CHUNK, me, threads)
        stop = share_start(work, here, CHUNK, me + 1, threads)
        own = stop - first
        at = start + first
        if shuffled:
            xs = work + plan[X_AT]
            ys = work + (plan[Y_AT] + first * targets)
            gather(x, order + at, xs + first * fan_in, own, fan_in)
            gather(y, order + at, ys, own, targets)
        else:
            xs = x + start * fan_in
            ys = y + at * targets
        out = work + (last[A_AT] + first * last[FAN_OUT])
        forward(plan, params, work, xs + first * fan_in, out, first, own, 1 if from_logits(code) else 0, packed)
        start_backward(plan, work, ys, partials, first, own, 1.0 / terms)
        backward_rows(plan, params, work, dx + start * fan_in, first, own, here, inputs)
        if not meet(state, threads):
            return NAN
        if me == 0:
            for c in range(0, here, CHUNK):
                result += partials[c // CHUNK]
        add = 1 if start else 0
        final = 1 if step and start + here == rows else 0
        backward_weights(plan, hyper, params, moments, work, xs, grads, here, add, final, me, threads)
        if not meet(state, threads):
            return NAN
    return result / terms
