"""The parts of a training step over a whole network: forward, loss, backward, update; `fastmlp.kernels.gradient` joins them."""

from __future__ import annotations

from fastmlp.kernels.activation import IDENTITY, multiply_derivative, needs_input
from fastmlp.kernels.apply import share_start
from fastmlp.kernels.dropout import dropout, layer_key
from fastmlp.kernels.jit import Double, Doubles, Int, Integers, Pointer, inlined, kernel
from fastmlp.kernels.layer import (
    few_rows_backward_inputs,
    layer_backward_biases,
    layer_backward_inputs,
    layer_backward_weights,
    layer_forward,
    transpose,
)
from fastmlp.kernels.loss import evaluate, evaluate_weighted, from_logits
from fastmlp.kernels.pack import pack, pack_transposed
from fastmlp.kernels.plan import (
    A_AT,
    ACTIVATION,
    BIASES,
    D_AT,
    DROPPED,
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
    ROW_AT,
    ROW_SIZE,
    SEED,
    SPARE_AT,
    SPARE_ROW,
    STRIPS,
    TARGETS,
    TRANSPOSED_AT,
    WEIGHTED,
    WEIGHTS,
    Z_AT,
)
from fastmlp.kernels.product import COPIED_ROWS, TALL
from fastmlp.kernels.strips import backward_strips
from fastmlp.kernels.tile import lanes
from fastmlp.kernels.update import update

# Rows whose loss is summed at a time, and by which rows are shared out: whole registers for any number of outputs.
CHUNK = 32

# Up to so many rows the inputs' gradient is computed from w itself (256-256-256-256, one row, float32: 22, not 31 us).
FEW_ROWS = 4


@inlined
def whole(count: int, unit: int) -> int:
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
                pack_transposed(w, wt, lower, upper, fan_in, fan_out, whole(fan_out, step))
            elif fan_out > 1:
                transpose(w, wt, fan_in, fan_out, me, threads)


@kernel
def forward(
    plan: Integers,
    params: Pointer,
    work: Pointer,
    x: Pointer,
    out: Pointer,
    at: Int,
    first: Int,
    rows: Int,
    logits: Int,
    packed: Int,
    step: Int,
) -> None:
    """All layers over `rows` rows x, which are the batch's from `at` on, and the block's from `first` on.

    The last layer's outputs go to `out`, without their activation if `logits`. `packed`: large weights lie by panels. `step`:
    training, in which units are dropped; 0 for none.
    """
    seed = plan[SEED] if step else 0
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
        rate = layer[DROPPED] if seed else 0
        whole_outputs = z if rate and not needs_input(code) else to
        layer_forward(code, x, w, b, z, whole_outputs, spare, by_panels, rows, layer[FAN_IN], fan_out)
        if rate:
            dropout(whole_outputs, to, layer_key(x, seed, step, index), rate, at, rows, fan_out)
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
        if plan[WEIGHTED]:
            spare = work + (plan[ROW_AT] + i // CHUNK * plan[ROW_SIZE])
            partials[i // CHUNK] = evaluate_weighted(code, out, target, d, spare, here, outputs, plan[TARGETS], scale)
        else:
            partials[i // CHUNK] = evaluate(code, out, target, d, here, outputs, scale)
        if not from_logits(code):
            kept = out
            if needs_input(last[ACTIVATION]):
                kept = work + (last[Z_AT] + i * outputs)
            multiply_derivative(last[ACTIVATION], kept, d, here, outputs)


@kernel
def backward_rows(
    plan: Integers,
    params: Pointer,
    work: Pointer,
    dx: Pointer,
    at: Int,
    first: Int,
    rows: Int,
    height: Int,
    inputs: Int,
    step: Int,
) -> None:
    """From the last layer's gradient of z to all others', for `rows` rows of a block of `height`; x's too if `inputs`.

    `at`, `first` and `step` are as `forward` had them.
    """
    seed = plan[SEED] if step else 0
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
            rate = 0
            if index > 0:
                below = layer + (0 - RECORD)
                code = below[ACTIVATION]
                rate = below[DROPPED] if seed else 0
                kept = work + ((below[Z_AT] if needs_input(code) or rate else below[A_AT]) + first * fan_in)
                to = work + (below[D_AT] + first * fan_in)
            if height <= FEW_ROWS and fan_out > 1:
                few_rows_backward_inputs(code, d, params + layer[WEIGHTS], kept, to, rows, fan_in, fan_out)
            else:
                wt = work + layer[TRANSPOSED_AT]
                if fan_out == 1:
                    wt = params + layer[WEIGHTS]
                tall = whole(fan_out, lanes(work)) if layer[STRIPS] else 0
                layer_backward_inputs(code, d, wt, kept, to, spare, tall, rows, fan_in, fan_out)
            if rate:
                dropout(to, to, layer_key(d, seed, step, index - 1), rate, at, rows, fan_in)


@kernel
def backward_weights(
    plan: Integers,
    hyper: Doubles,
    params: Pointer,
    moments: Pointer,
    work: Pointer,
    strip: Pointer,
    x: Pointer,
    grads: Pointer,
    first: Int,
    rows: Int,
    add: Int,
    step: Int,
    me: Int,
    threads: Int,
) -> None:
    """All weights' and biases' gradients over a block's rows from `first` on, which x holds; a share of each layer.

    They are added to `grads` if `add`. With `step` they go through the optimiser at once; `grads` then is scratch, as `strip`.
    """
    optimizer = plan[OPTIMIZER]
    for index in range(plan[LAYERS]):
        layer = plan + (HEADER + index * RECORD)
        fan_in = layer[FAN_IN]
        fan_out = layer[FAN_OUT]
        d = work + (layer[D_AT] + first * fan_out)
        w = layer[WEIGHTS]
        b = layer[BIASES]
        mean = moments + w
        square = moments + (plan[PARAMETERS] + w)
        own = params + w
        dw = grads + w
        if layer[STRIPS]:
            lower = share_start(work, fan_in, TALL, me, threads)
            upper = share_start(work, fan_in, TALL, me + 1, threads)
            panels = work + layer[PANELS_AT]
            backward_strips(
                optimizer, hyper, x, panels, strip, own, mean, square, dw, rows, fan_in, fan_out, lower, upper, add, step
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
                update(optimizer, own + ours, dw + ours, mean + ours, square + ours, hyper, fan_out)
            update(optimizer, own + at, dw + at, mean + at, square + at, hyper, stop - at)
        x = work + (layer[A_AT] + first * fan_out)
