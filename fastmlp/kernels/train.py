"""Whole networks: forward, gradient, and epochs of minibatches, each in one compiled call."""

from __future__ import annotations

from typing import Any

from fastmlp.kernels.activation import IDENTITY, multiply_derivative, needs_input
from fastmlp.kernels.dense import (
    layer_backward_biases,
    layer_backward_inputs,
    layer_backward_weights,
    layer_forward,
    transpose,
)
from fastmlp.kernels.epoch import begin, end
from fastmlp.kernels.jit import Double, Doubles, Int, Integers, Pointer, entry, kernel
from fastmlp.kernels.loss import evaluate, from_logits, is_cross_entropy
from fastmlp.kernels.narrow import narrow_batches
from fastmlp.kernels.plan import (
    A_AT,
    ACTIVATION,
    BIASES,
    BLOCK,
    CURSOR,
    D_AT,
    FAN_IN,
    FAN_OUT,
    GRADIENT_AT,
    HEADER,
    LAYERS,
    LOSS,
    NARROW,
    OPTIMIZER,
    PANELS_AT,
    PARAMETERS,
    RECORD,
    SHUFFLE,
    STEP,
    STRIP_AT,
    STRIPS,
    TARGETS,
    TRANSPOSED_AT,
    WEIGHTS,
    X_AT,
    Y_AT,
    Z_AT,
)
from fastmlp.kernels.pointer import pointer
from fastmlp.kernels.product import SPARE, TALL
from fastmlp.kernels.strips import backward_strips, pack_panels
from fastmlp.kernels.subnormals import flush_subnormals, restore_subnormals
from fastmlp.kernels.tile import lanes, load, store
from fastmlp.kernels.update import prepare, update


@kernel
def forward(plan: Integers, params: Pointer, work: Pointer, x: Pointer, out: Pointer, rows: Int, logits: Int) -> None:
    """All layers over `rows` rows of x; the last layer's outputs go to `out`, without their activation if `logits`."""
    count = plan[LAYERS]
    for index in range(count):
        layer = plan + (HEADER + index * RECORD)
        code = layer[ACTIVATION]
        to = work + layer[A_AT]
        if index == count - 1:
            to = out
            if logits:
                code = IDENTITY
        z = work + layer[Z_AT]
        spare = work + plan[PANELS_AT]
        w = params + layer[WEIGHTS]
        b = params + layer[BIASES]
        layer_forward(code, x, w, b, z, to, spare, SPARE, rows, layer[FAN_IN], layer[FAN_OUT])
        x = to


@kernel
def transpose_all(plan: Integers, params: Pointer, work: Pointer, first: Int) -> None:
    """w.T of each layer from the `first` on. A single output's w is its own transpose."""
    for index in range(first, plan[LAYERS]):
        layer = plan + (HEADER + index * RECORD)
        if layer[FAN_OUT] > 1:
            transpose(params + layer[WEIGHTS], work + layer[TRANSPOSED_AT], layer[FAN_IN], layer[FAN_OUT])


@kernel
def backward(
    plan: Integers,
    hyper: Doubles,
    params: Pointer,
    moments: Pointer,
    work: Pointer,
    x: Pointer,
    grads: Pointer,
    dx: Pointer,
    rows: Int,
    add: Int,
    inputs: Int,
    step: Int,
) -> None:
    """From the last layer's gradient of z to all weights and biases (added up over blocks if `add`), and x's if `inputs`.

    With `step` each layer's parameters are updated as soon as their gradient is complete; `prepare` comes before.
    """
    optimizer = plan[OPTIMIZER]
    for back in range(plan[LAYERS]):
        index = plan[LAYERS] - 1 - back
        layer = plan + (HEADER + index * RECORD)
        fan_in = layer[FAN_IN]
        fan_out = layer[FAN_OUT]
        d = work + layer[D_AT]
        before = x
        code = IDENTITY
        kept = x
        to = dx
        if index > 0:
            below = layer + (0 - RECORD)
            code = below[ACTIVATION]
            before = work + below[A_AT]
            kept = before
            if needs_input(code):
                kept = work + below[Z_AT]
            to = work + below[D_AT]
        if index > 0 or inputs:
            wt = work + layer[TRANSPOSED_AT]
            if fan_out == 1:
                wt = params + layer[WEIGHTS]
            layer_backward_inputs(code, d, wt, kept, to, work + plan[PANELS_AT], SPARE, rows, fan_in, fan_out)
        w = layer[WEIGHTS]
        b = layer[BIASES]
        first = moments + w
        second = moments + (plan[PARAMETERS] + w)
        layer_backward_biases(d, grads + b, rows, fan_out, add)
        if layer[STRIPS]:
            panels = work + plan[PANELS_AT]
            strip = work + plan[STRIP_AT]
            own = params + w
            pack_panels(d, panels, rows, fan_out)
            backward_strips(
                optimizer, hyper, before, panels, strip, own, first, second, grads + w, rows, fan_in, fan_out, add, step
            )
            if step:
                last = second + (b - w)
                update(optimizer, params + b, grads + b, moments + b, last, hyper, fan_out)
        else:
            layer_backward_weights(before, d, grads + w, rows, fan_in, fan_out, add)
            if step:
                update(optimizer, params + w, grads + w, first, second, hyper, b - w + fan_out)


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
) -> Double:
    """The mean loss over `rows` rows and its gradient, by blocks of rows whose activations stay in the cache.

    If `shuffled`, x and y are the whole data and `order` lists the rows to take; else they start at the first row. `dx`
    receives the inputs' gradient if `inputs`. With `step` the parameters are updated on the way, and `grads` is scratch.
    """
    code = plan[LOSS]
    last = plan + (HEADER + (plan[LAYERS] - 1) * RECORD)
    fan_in = plan[HEADER + FAN_IN]
    outputs = last[FAN_OUT]
    targets = plan[TARGETS]
    terms = rows if is_cross_entropy(code) else rows * outputs
    out = work + last[A_AT]
    d = work + last[D_AT]
    result = 0.0
    transpose_all(plan, params, work, 0 if inputs else 1)
    # Blocks of about equal size: a short last one would be slow for its few rows.
    blocks = -(-rows // plan[BLOCK])
    block = -(-rows // (blocks * TALL)) * TALL
    for start in range(0, rows, block):
        here = min(block, rows - start)
        if shuffled:
            xs = work + plan[X_AT]
            ys = work + plan[Y_AT]
            gather(x, order + start, xs, here, fan_in)
            gather(y, order + start, ys, here, targets)
        else:
            xs = x + start * fan_in
            ys = y + start * targets
        forward(plan, params, work, xs, out, here, 1 if from_logits(code) else 0)
        result += evaluate(code, out, ys, d, here, outputs, 1.0 / terms)
        if not from_logits(code):
            kept = out
            if needs_input(last[ACTIVATION]):
                kept = work + last[Z_AT]
            multiply_derivative(last[ACTIVATION], kept, d, here, outputs)
        at = dx + start * fan_in
        final = 1 if step and start + here == rows else 0
        backward(plan, hyper, params, moments, work, xs, grads, at, here, 1 if start else 0, inputs, final)
    return result / terms


@kernel
def batches(
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
    count: Int,
) -> None:
    """At most `count` steps of training, from where `state` says; losses[e] gathers the mean loss of epoch e."""
    if plan[NARROW]:
        narrow_batches(plan, hyper, params, moments, work, x, y, order, state, losses, count)
        return
    shuffled = plan[SHUFFLE]
    grads = work + plan[GRADIENT_AT]
    for _ in range(count):
        start = state[CURSOR]
        rows = begin(plan, params, order, state)
        if rows == 0:
            return
        xs = x
        ys = y
        if not shuffled:
            xs = x + start * plan[HEADER + FAN_IN]
            ys = y + start * plan[TARGETS]
        prepare(plan[OPTIMIZER], hyper, state[STEP])
        ordered = order + start
        loss = gradient(plan, hyper, params, moments, work, xs, ys, ordered, shuffled, rows, grads, params, 0, 1)
        end(plan, state, losses, rows, loss)


@entry
def train(
    plan: Any, hyper: Any, params: Any, moments: Any, work: Any, x: Any, y: Any, order: Any, state: Any, losses: Any, count: int
) -> None:
    """`batches` for arrays."""
    before = flush_subnormals()
    batches(
        pointer(plan),
        pointer(hyper),
        pointer(params),
        pointer(moments),
        pointer(work),
        pointer(x),
        pointer(y),
        pointer(order),
        pointer(state),
        pointer(losses),
        count,
    )
    restore_subnormals(before)


@entry
def evaluate_gradient(
    plan: Any, hyper: Any, params: Any, work: Any, x: Any, y: Any, order: Any, grads: Any, dx: Any, inputs: int
) -> float:
    """`gradient` for arrays: all rows of x, in order."""
    return gradient(
        pointer(plan),
        pointer(hyper),
        pointer(params),
        pointer(params),
        pointer(work),
        pointer(x),
        pointer(y),
        pointer(order),
        0,
        x.shape[0],
        pointer(grads),
        pointer(dx),
        inputs,
        0,
    )


@entry
def apply_gradient(plan: Any, hyper: Any, params: Any, moments: Any, grads: Any, step: int) -> None:
    """`update` for arrays: the step-th step, with the gradient in the first part of `grads`."""
    first = pointer(moments)
    prepare(plan[OPTIMIZER], pointer(hyper), step)
    count = plan[PARAMETERS]
    update(plan[OPTIMIZER], pointer(params), pointer(grads), first, first + count, pointer(hyper), count)


@entry
def predict(plan: Any, params: Any, work: Any, x: Any, out: Any) -> None:
    """The outputs for all rows of x, by blocks."""
    fan_in = x.shape[1]
    outputs = out.shape[1]
    for start in range(0, x.shape[0], plan[BLOCK]):
        here = min(plan[BLOCK], x.shape[0] - start)
        rows = pointer(x) + start * fan_in
        to = pointer(out) + start * outputs
        forward(pointer(plan), pointer(params), pointer(work), rows, to, here, 0)


@entry
def evaluate_loss(plan: Any, params: Any, work: Any, x: Any, y: Any) -> float:
    """The mean loss over all rows of x, by blocks."""
    table = pointer(plan)
    last = table + (HEADER + (plan[LAYERS] - 1) * RECORD)
    code = plan[LOSS]
    buffer = pointer(work)
    result = 0.0
    for start in range(0, x.shape[0], plan[BLOCK]):
        here = min(plan[BLOCK], x.shape[0] - start)
        rows = pointer(x) + start * x.shape[1]
        out = buffer + last[A_AT]
        forward(table, pointer(params), buffer, rows, out, here, 1 if from_logits(code) else 0)
        targets = pointer(y) + start * plan[TARGETS]
        result += evaluate(code, out, targets, buffer + last[D_AT], here, last[FAN_OUT], 0.0)
    return result / (x.shape[0] * (1 if is_cross_entropy(code) else last[FAN_OUT]))
