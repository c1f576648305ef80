"""Whole trainings, gradients and predictions, each in one compiled call: what Python calls."""

from __future__ import annotations

from typing import Any

from fastmlp.kernels.apply import apply
from fastmlp.kernels.epoch import begin, end
from fastmlp.kernels.gradient import NAN, block_rows, gradient
from fastmlp.kernels.jit import Doubles, Int, Integers, Pointer, entry, inlined, kernel
from fastmlp.kernels.loss import evaluate, evaluate_weighted, from_logits, is_cross_entropy, is_labelled, weigh
from fastmlp.kernels.parallel import crew, meet
from fastmlp.kernels.plan import (
    A_AT,
    AVERAGED,
    BATCH,
    BIASES,
    BLOCK,
    CURSOR,
    D_AT,
    EPOCH,
    EPOCHS,
    FAN_IN,
    FAN_OUT,
    GRADIENT_AT,
    HEADER,
    LAYERS,
    LOSS,
    NARROW,
    OPTIMIZER,
    PARAMETERS,
    RATED,
    RECORD,
    ROW_AT,
    ROWS,
    SAMPLES,
    SHUFFLE,
    SIZE,
    START,
    STEP,
    TARGETS,
    TICK,
    WEIGHTED,
    WITHIN,
)
from fastmlp.kernels.pointer import local, pointer, written
from fastmlp.kernels.resident import small_batches
from fastmlp.kernels.step import forward
from fastmlp.kernels.update import LR, MASS, prepare


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
    rates: Doubles,
    count: Int,
    me: Int,
    threads: Int,
) -> None:
    """At most `count` blocks of rows of training's steps, from where `state` says; losses[e] gathers epoch e's mean loss.

    As the `me`-th of so many threads, which all make the same call but for `me`. `rates` has each step's learning rate, if
    plan[RATED]. A step that is left in the middle has changed nothing but the work buffer, over which the next call goes on.
    """
    if plan[AVERAGED]:
        moments = moments + plan[PARAMETERS]
    if plan[NARROW]:
        small_batches(plan, hyper, params, moments, work, x, y, order, state, losses, rates, count)
        return
    shuffled = plan[SHUFFLE]
    grads = work + plan[GRADIENT_AT]
    within = state[WITHIN]
    while count > 0:
        if me == 0 and within == 0:
            state[START] = state[CURSOR]
            state[ROWS] = begin(plan, params, order, state)
            if state[ROWS]:  # there is no rate behind the last step's
                if plan[RATED]:
                    hyper[LR] = rates[state[TICK]]
                    state[TICK] = state[TICK] + 1
                prepare(plan[OPTIMIZER], hyper, state[STEP] + 1, params)
        if not meet(state, threads):
            return
        start = state[START]
        rows = state[ROWS]
        if rows == 0:
            return
        xs = x
        ys = y
        if not shuffled:
            xs = x + start * plan[HEADER + FAN_IN]
            ys = y + start * plan[TARGETS]
        where = order + start
        block = block_rows(plan, rows)
        stop = min(within + count * block, rows)
        count -= -(-(stop - within) // block)
        loss = gradient(
            plan,
            hyper,
            params,
            moments,
            work,
            xs,
            ys,
            where,
            shuffled,
            rows,
            grads,
            params,
            0,
            1,
            state,
            within,
            stop,
            me,
            threads,
        )
        within = stop if stop < rows else 0
        if me == 0:
            state[WITHIN] = within
            if within == 0:
                end(plan, state, losses, rows, loss)


_batches_by_all = crew(batches)


@inlined
def fits(plan: Any, numbers: int, room: int, rows: int, columns: int, answers: int, targets: int) -> bool:
    """Whether a call's arrays are those of the plan's network, with targets as its loss wants them, and there is room.

    Of counts, not of arrays: Numba would count references to these (step of a small net: 0.1 us).
    """
    last = plan + (HEADER + (plan[LAYERS] - 1) * RECORD)
    wanted = 1 if is_labelled(plan[LOSS]) else last[FAN_OUT]
    well = columns == plan[HEADER + FAN_IN] and answers == rows and targets == plan[TARGETS]
    well = well and numbers >= last[BIASES] + last[FAN_OUT] and room >= plan[SIZE]
    return well and targets == wanted + (1 if plan[WEIGHTED] else 0)


@entry
def train(
    plan: Any,
    hyper: Any,
    params: Any,
    moments: Any,
    work: Any,
    x: Any,
    y: Any,
    order: Any,
    state: Any,
    losses: Any,
    rates: Any,
    count: int,
    threads: int,
) -> bool:
    """`batches` for arrays, by so many threads; False, and nothing done, if they do not fit."""
    table = pointer(plan)
    many = x.shape[0]
    well = fits(table, params.size, work.size, many, x.shape[1], y.shape[0], y.shape[1])
    well = well and many == table[SAMPLES] and losses.size >= table[EPOCHS]
    if not well or (table[SHUFFLE] and order.size < many):
        return False
    if table[RATED] and rates.size < table[EPOCHS] * -(-many // table[BATCH]):
        return False
    _batches_by_all(
        table,
        written(hyper),
        written(params),
        written(moments),
        written(work),
        pointer(x),
        pointer(y),
        written(order),
        written(state),
        written(losses),
        pointer(rates),
        count,
        threads,
    )
    return True


@entry
def step(plan: Any, hyper: Any, params: Any, moments: Any, work: Any, x: Any, y: Any, state: Any) -> float:
    """`train` for one step from all rows of x; the loss before it, NaN if the arrays do not fit.

    Python pays for each argument: 30 ns an array. So what only this step needs is on the stack.
    """
    table = pointer(plan)
    here = written(state)
    rows = x.shape[0]
    if not fits(table, params.size, work.size, rows, x.shape[1], y.shape[0], y.shape[1]) or rows != table[SAMPLES]:
        return NAN
    here[CURSOR] = 0
    here[EPOCH] = 0
    here[WITHIN] = 0
    settings = written(hyper)
    losses = local(settings, 64)
    losses[0] = 0.0
    _batches_by_all(
        table,
        settings,
        written(params),
        written(moments),
        written(work),
        pointer(x),
        pointer(y),
        here,
        here,
        losses,
        losses,
        rows,
        1,
    )
    return losses[0]


@entry
def evaluate_gradient(
    plan: Any, hyper: Any, params: Any, work: Any, x: Any, y: Any, state: Any, grads: Any, dx: Any, inputs: int, count: int
) -> float:
    """`gradient` for arrays: all rows of x, in order; NaN if they do not fit.

    At most `count` blocks of rows, from row state[WITHIN] on, which then is the row to go on from, or 0: it is done.
    """
    table = pointer(plan)
    if not fits(table, params.size, work.size, x.shape[0], x.shape[1], y.shape[0], y.shape[1]):
        return NAN
    here = written(state)
    rows = x.shape[0]
    within = here[WITHIN]
    stop = min(within + count * block_rows(table, rows), rows)
    here[WITHIN] = stop if stop < rows else 0
    return gradient(
        table,
        written(hyper),
        pointer(params),
        pointer(params),
        written(work),
        pointer(x),
        pointer(y),
        here,
        0,
        rows,
        written(grads),
        written(dx),
        inputs,
        0,
        here,
        within,
        stop,
        0,
        1,
    )


@entry
def apply_gradient(plan: Any, hyper: Any, params: Any, moments: Any, grads: Any, state: Any) -> None:
    """`apply` for arrays: one more step, with the gradient in the first part of `grads`, which is changed."""
    table = pointer(plan)
    settings = written(hyper)
    settings[MASS] = 1.0
    state[STEP] = state[STEP] + 1
    prepare(plan[OPTIMIZER], settings, state[STEP], written(params))
    first = written(moments) + (plan[PARAMETERS] if plan[AVERAGED] else 0)
    apply(table, settings, written(params), first, written(grads), table, 0, 1)


@entry
def predict(plan: Any, params: Any, work: Any, x: Any, out: Any) -> bool:
    """The outputs for all rows of x, by blocks; False, and nothing done, if the arrays do not fit."""
    fan_in = x.shape[1]
    outputs = out.shape[1]
    last = pointer(plan) + (HEADER + (plan[LAYERS] - 1) * RECORD)
    if fan_in != plan[HEADER + FAN_IN] or outputs != last[FAN_OUT] or x.shape[0] != out.shape[0] or work.size < plan[SIZE]:
        return False
    for start in range(0, x.shape[0], plan[BLOCK]):
        here = min(plan[BLOCK], x.shape[0] - start)
        rows = pointer(x) + start * fan_in
        to = written(out) + start * outputs
        forward(pointer(plan), pointer(params), written(work), rows, to, 0, 0, here, 0, 0, 0)
    return True


@entry
def evaluate_loss(plan: Any, params: Any, work: Any, x: Any, y: Any, start: int, stop: int, so_far: float) -> float:
    """The mean loss over all rows of x, by blocks; NaN if the arrays do not fit.

    From row `start` on to row `stop`, where a block ends, with `so_far` what the call before has returned: the sum, which is
    divided when `stop` is the last.
    """
    table = pointer(plan)
    if not fits(table, params.size, work.size, x.shape[0], x.shape[1], y.shape[0], y.shape[1]):
        return NAN
    last = table + (HEADER + (plan[LAYERS] - 1) * RECORD)
    code = plan[LOSS]
    buffer = written(work)
    result = so_far
    for at in range(start, stop, plan[BLOCK]):
        here = min(plan[BLOCK], stop - at)
        rows = pointer(x) + at * x.shape[1]
        out = buffer + last[A_AT]
        forward(table, pointer(params), buffer, rows, out, 0, 0, here, 1 if from_logits(code) else 0, 0, 0)
        targets = pointer(y) + at * plan[TARGETS]
        d = buffer + last[D_AT]
        if plan[WEIGHTED]:
            spare = buffer + plan[ROW_AT]
            result += evaluate_weighted(code, out, targets, d, spare, here, last[FAN_OUT], plan[TARGETS], 0.0)
        else:
            result += evaluate(code, out, targets, d, here, last[FAN_OUT], 0.0)
    if stop < x.shape[0]:
        return result
    terms = weigh(pointer(y), table, 0, x.shape[0], plan[TARGETS]) if plan[WEIGHTED] else x.shape[0] * 1.0
    return result / (terms if is_cross_entropy(code) else terms * last[FAN_OUT])
