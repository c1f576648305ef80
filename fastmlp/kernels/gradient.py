"""The gradient of a whole network over a batch, and the update with it: one training step, shared by any number of threads.

Each thread takes a share of the batch's rows through all layers, forward and back, then a share of each layer's weights; or, of
small nets, whole groups of rows, whose gradients are then summed. Every number is computed by one thread in one fixed order, so
the bits do not depend on how many there are.
"""

from __future__ import annotations

from typing import Any

from fastmlp.kernels.apply import apply, penalty, share_start
from fastmlp.kernels.jit import Double, Doubles, Int, Integers, Pointer, inlined, kernel
from fastmlp.kernels.loss import from_logits, is_cross_entropy, weigh
from fastmlp.kernels.parallel import meet
from fastmlp.kernels.plan import (
    A_AT,
    BIASES,
    BLOCK,
    CHUNKS,
    FAN_IN,
    FAN_OUT,
    GROUPED,
    GROUPS_AT,
    HEADER,
    LAYERS,
    LOSS,
    OPTIMIZER,
    PARAMETERS,
    RECORD,
    STEP,
    STRIP_AT,
    STRIP_SIZE,
    TARGETS,
    WEIGHTED,
    WHOLE,
    X_AT,
    Y_AT,
)
from fastmlp.kernels.product import COPIED_ROWS
from fastmlp.kernels.step import (
    CHUNK,
    backward_rows,
    backward_weights,
    forward,
    pack_weights,
    start_backward,
    whole,
)
from fastmlp.kernels.tile import lanes, load, store
from fastmlp.kernels.update import GAIN, HYPER, MASS, SO_FAR, TERMS, update

# Small nets' large batches are cut into groups with gradients of their own, whatever the number of threads: these would share
# each layer's weights badly (4-32-16-4, 10,000 rows, Adam: two threads 1.9 times as fast as one, not 1.6; one loses 1 %).
GROUPS, GROUPED_ROWS = 16, 1024

NAN = float("nan")


@kernel
def gather(x: Pointer, order: Integers, out: Pointer, rows: Int, columns: Int) -> None:
    """out[i, :] = x[order[i], :]."""
    for i in range(rows):
        row = x + order[i] * columns
        to = out + i * columns
        for j in range(0, columns, lanes(x)):
            store(load(row + j, 0, 1, 1, columns - j), to + j, 0, columns - j)


@inlined
def _part_rows(rows: int, parts: int) -> int:
    """The rows of each of so many about equal parts, in whole chunks: a short last part would be slow for its few rows."""
    return whole(-(-rows // parts), CHUNK)


@kernel
def through(
    plan: Integers,
    partials: Doubles,
    params: Pointer,
    work: Pointer,
    x: Pointer,
    y: Pointer,
    order: Integers,
    shuffled: Int,
    at: Int,
    first: Int,
    rows: Int,
    height: Int,
    scale: Double,
    packed: Int,
    dx: Pointer,
    inputs: Int,
    step: Int,
) -> None:
    """`rows` rows of the data from `at` on (`order[at]` on if `shuffled`) through all layers and back.

    They are those from `first` on of a block of `height` rows. partials[c] becomes the loss of its c-th CHUNK of rows.
    `step` is the number of the step, 0 for none.
    """
    last = plan + (HEADER + (plan[LAYERS] - 1) * RECORD)
    fan_in = plan[HEADER + FAN_IN]
    targets = plan[TARGETS]
    xs = x + at * fan_in
    ys = y + at * targets
    if shuffled:
        xs = work + (plan[X_AT] + first * fan_in)
        ys = work + (plan[Y_AT] + first * targets)
        gather(x, order + at, xs, rows, fan_in)
        gather(y, order + at, ys, rows, targets)
    out = work + (last[A_AT] + first * last[FAN_OUT])
    forward(plan, params, work, xs, out, at, first, rows, 1 if from_logits(plan[LOSS]) else 0, packed, step)
    start_backward(plan, work, ys, partials, first, rows, scale)
    backward_rows(plan, params, work, dx + (at - first) * fan_in, at, first, rows, height, inputs, step)


@kernel
def sum_groups(groups: Pointer, out: Pointer, size: Int, count: Int, lower: Int, upper: Int) -> None:
    """out[i] = the sum of groups[:count, i] for lower <= i < upper: groups (count, size)."""
    for i in range(lower, upper, lanes(out)):
        total = load(groups + i, 0, 1, 1, upper - i)
        for g in range(1, count):
            total = total + load(groups + (g * size + i), 0, 1, 1, upper - i)
        store(total, out + i, 0, upper - i)


@kernel
def group_gradients(
    plan: Integers,
    hyper: Doubles,
    params: Pointer,
    work: Pointer,
    x: Pointer,
    y: Pointer,
    order: Integers,
    shuffled: Int,
    rows: Int,
    group: Int,
    block: Int,
    within: Int,
    until: Int,
    scale: Double,
    dx: Pointer,
    inputs: Int,
    step: Int,
    me: Int,
    threads: Int,
) -> None:
    """A thread's share of the groups: each one's gradient over its `group` rows, in blocks that are the thread's own.

    Of each group its rows from `within` on to row `until`, both of which end a block of `block` rows, or the group.
    """
    fan_in = plan[HEADER + FAN_IN]
    strip = work + (plan[STRIP_AT] + me * plan[STRIP_SIZE])
    first = me * block
    begin = share_start(work, rows, group, me, threads)
    end = share_start(work, rows, group, me + 1, threads)
    for start in range(begin, end, group):
        stop = min(start + group, rows)
        own = work + (plan[GROUPS_AT] + start // group * plan[PARAMETERS])
        for at in range(start + within, min(start + until, stop), block):
            here = min(block, stop - at)
            losses = hyper + (HYPER + plan[CHUNKS] + (at - first) // CHUNK)
            through(plan, losses, params, work, x, y, order, shuffled, at, first, here, here, scale, 0, dx, inputs, step)
            xs = work + (plan[X_AT] + first * fan_in) if shuffled else x + at * fan_in
            add = 1 if at > start else 0
            backward_weights(plan, hyper, params, params, work, strip, xs, own, first, here, add, 0, 0, 1)


@inlined
def block_rows(plan: Any, rows: int) -> int:
    """How many of a step's rows go through the net together: a call may end behind any of these, but not within.

    Of groups of rows that is a block of each; with groups of whole chunks, there are as many as a group has blocks.
    """
    if plan[GROUPED] and rows >= GROUPED_ROWS:
        group = _part_rows(rows, GROUPS)
        return GROUPS * _part_rows(group, -(-group // plan[BLOCK]))
    return _part_rows(rows, -(-rows // plan[BLOCK])) if rows > plan[BLOCK] else max(rows, 1)


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
    within: Int,
    stop: Int,
    me: Int,
    threads: Int,
) -> Double:
    """A thread's part of the mean loss over `rows` rows and its gradient, by blocks of rows that stay in the cache.

    From row `within` on to row `stop`, both where `block_rows` ends one; what it leaves unfinished goes on so from where it
    stopped, over the same work buffer. Before the last rows no parameter changes.

    If `shuffled`, x and y are the whole data and `order` lists the rows to take; else they start at the first row. `dx`
    receives the inputs' gradient if `inputs`. With `step` the parameters are updated on the way, and `grads` is scratch.
    The loss is the first thread's to know; it is NaN if a thread failed.
    """
    last = plan + (HEADER + (plan[LAYERS] - 1) * RECORD)
    fan_in = plan[HEADER + FAN_IN]
    partials = hyper + (HYPER + plan[CHUNKS])
    result = 0.0
    extra = 0.0
    packed = 1 if rows >= COPIED_ROWS else 0
    now = state[STEP] + 1 if step else 0
    if within == 0:
        pack_weights(plan, params, work, rows, inputs, me, threads)
    else:
        result = hyper[SO_FAR]
    if me == 0 and within == 0:
        weight = weigh(y, order, shuffled, rows, plan[TARGETS]) if plan[WEIGHTED] else rows * 1.0
        hyper[MASS] = weight
        hyper[TERMS] = weight if is_cross_entropy(plan[LOSS]) else weight * last[FAN_OUT]
    if me == 0 and step and plan[WHOLE]:
        extra = penalty(plan, hyper, params)
    if not meet(state, threads):
        return NAN
    terms = hyper[TERMS]
    scale = hyper[GAIN] / terms
    if plan[GROUPED] and rows >= GROUPED_ROWS:
        group = _part_rows(rows, GROUPS)
        block = block_rows(plan, rows) // GROUPS
        done = within // GROUPS
        until = group if stop == rows else stop // GROUPS
        group_gradients(
            plan,
            hyper,
            params,
            work,
            x,
            y,
            order,
            shuffled,
            rows,
            group,
            block,
            done,
            until,
            scale,
            dx,
            inputs,
            now,
            me,
            threads,
        )
        if not meet(state, threads) or stop < rows:
            return NAN
        if me == 0:
            result = 0.0
            for c in range(0, rows, CHUNK):
                result += partials[c // CHUNK]
        count = last[BIASES] + last[FAN_OUT]
        lower = share_start(work, count, CHUNK, me, threads)
        upper = share_start(work, count, CHUNK, me + 1, threads)
        sum_groups(work + plan[GROUPS_AT], grads, plan[PARAMETERS], -(-rows // group), lower, upper)
        if step and not plan[WHOLE]:
            first = moments + lower
            update(plan[OPTIMIZER], params + lower, grads + lower, first, first + plan[PARAMETERS], hyper, upper - lower)
        if not meet(state, threads):
            return NAN
    else:
        block = block_rows(plan, rows)
        strip = work + (plan[STRIP_AT] + me * plan[STRIP_SIZE])
        for start in range(within, stop, block):
            here = min(block, rows - start)
            first = share_start(work, here, CHUNK, me, threads)
            own = share_start(work, here, CHUNK, me + 1, threads) - first
            at = start + first
            through(plan, partials, params, work, x, y, order, shuffled, at, first, own, here, scale, packed, dx, inputs, now)
            if not meet(state, threads):
                return NAN
            if me == 0:
                for c in range(0, here, CHUNK):
                    result += partials[c // CHUNK]
            xs = work + plan[X_AT] if shuffled else x + start * fan_in
            add = 1 if start else 0
            final = 1 if step and start + here == rows and not plan[WHOLE] else 0
            backward_weights(plan, hyper, params, moments, work, strip, xs, grads, 0, here, add, final, me, threads)
            if not meet(state, threads):
                return NAN
    if stop < rows:
        if me == 0:
            hyper[SO_FAR] = result
        return NAN
    if step and plan[WHOLE] and not (apply(plan, hyper, params, moments, grads, state, me, threads) and meet(state, threads)):
        return NAN
    return result / terms + extra
