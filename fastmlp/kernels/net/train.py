"""Whole trainings, gradients and predictions, each in one compiled call: what Python calls."""

from __future__ import annotations

from typing import Any

from fastmlp.kernels.layer.activation import IDENTITY, needs_input
from fastmlp.kernels.layer.dense import Affine, Outputs, Shape, layer_forward
from fastmlp.kernels.layer.loss import Extent, evaluate, evaluate_weighted, from_logits, weigh
from fastmlp.kernels.layer.update import Settings, prepare
from fastmlp.kernels.machine.jit import Int, entry, inlined, kernel
from fastmlp.kernels.machine.pointer import local, nothing, pointer, written
from fastmlp.kernels.net.apply import apply
from fastmlp.kernels.net.epoch import begin, end, take_rate
from fastmlp.kernels.net.gradient import NAN, gradient
from fastmlp.kernels.net.narrow import narrow_batches
from fastmlp.kernels.net.parallel import Team, crew, failed, meet
from fastmlp.kernels.net.plan import (
    AS_THEY_LIE,
    NARROW,
    RESIDENT,
    Batch,
    Data,
    Into,
    Layer,
    Log,
    Net,
    Optimizer,
    Part,
    Piece,
    Progress,
    Sums,
    Table,
    Task,
    count_parameters,
    cut_of,
    last_layer,
)
from fastmlp.kernels.net.resident import resident_batches
from fastmlp.kernels.net.step import forward
from fastmlp.kernels.tuning import STRETCH

TASK, LAYERS = Table.words, Table.words + Task.words  # where they start in the plan
BATCH, SQUARES = Settings.words, Settings.words + Batch.words  # likewise in the numbers that go with the settings
MEETING = Progress.words  # where threads meet, behind a training's progress


@inlined
def network(plan: Any, params: Any, work: Any) -> Any:
    """The tables of a plan, with parameters and a buffer."""
    return Net(Table(plan), Task(plan + TASK), Layer(plan + LAYERS), params, work)


@inlined
def sums_of(numbers: Any, net: Any) -> Any:
    """Where a step adds up, behind the settings."""
    squares = numbers + SQUARES
    return Sums(Batch(numbers + BATCH), squares, squares + -(-count_parameters(net) // STRETCH))


@inlined
def optimizer_of(numbers: Any, moments: Any, net: Any) -> Any:
    """The optimiser's settings and vectors; the parameters' running mean lies before these."""
    return Optimizer(Settings(numbers), moments + (net.table.parameters if net.task.averaged else 0))


@kernel
def batches(
    net: Net, data: Data, optimizer: Optimizer, sums: Sums, progress: Progress, log: Log, count: Int, team: Team
) -> None:
    """At most `count` blocks of rows of training's steps, from where `progress` stands; the epochs' mean losses go to the log.

    All threads make the same call, but for `team.me`. A step that is left in the middle has changed nothing but the work
    buffer, over which the next call goes on.
    """
    task = net.task
    settings = optimizer.settings
    if task.path == RESIDENT:
        resident_batches(net, data, settings, progress, log, count)
        return
    if task.path == NARROW:
        narrow_batches(net, data, optimizer, sums, progress, log, count, team)
        return
    into = Into(net.work + net.table.gradient_at, nothing(net.params), 0)
    within = progress.within
    while count > 0:
        if team.me == 0 and within == 0:
            progress.start = progress.cursor
            progress.rows = begin(task, net.params, data.order, progress)
            if progress.rows:  # there is no rate behind the last step's
                take_rate(task, settings, progress, log)
                prepare(task.optimizer, settings, progress.steps + 1, net.params)
        if not meet(team):
            return
        start, rows = progress.start, progress.rows
        if rows == 0:
            return
        x, y = data.x, data.y
        if not data.ordered:
            x = x + start * net.layers.fan_in
            y = y + start * task.targets
        block = cut_of(task, rows).block
        stop = min(within + count * block, rows)
        count -= -(-(stop - within) // block)
        here = Data(x, y, data.order + start, data.ordered)
        loss = gradient(net, here, optimizer, sums, into, Part(rows, within, stop), progress.steps + 1, team)
        if failed(team):  # this step is not done, whatever this thread has done of it
            return
        within = stop if stop < rows else 0
        if team.me == 0:
            progress.within = within
            if within == 0:
                end(task, progress, log.losses, rows, loss)


_batches_by_all = crew(batches)


@inlined
def fits(net: Any, numbers: int, room: int, x: Any, y: Any) -> bool:
    """Whether a call's arrays are those of the plan's network, with targets as its loss wants them, and there is room.

    x and y are their shapes: Numba would count references to the arrays (step of a small net: 0.1 us).
    """
    well = x[1] == net.layers.fan_in and y[0] == x[0] and y[1] == net.task.targets
    return well and numbers >= count_parameters(net) and room >= net.table.size


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
    """`batches` for arrays, by `threads` threads; False, and nothing done, if they do not fit.

    Losses and rates have room for all epochs and steps: those that are done, and those up to `progress.stop`.
    """
    net = network(pointer(plan), written(params), written(work))
    task, here = net.task, written(state)
    progress = Progress(here)
    many, ahead = x.shape[0], progress.stop - progress.steps
    steps = -(-many // task.batch)
    well = fits(net, params.size, work.size, x.shape, y.shape) and many == task.samples
    well = well and progress.epoch * steps + progress.cursor // task.batch + ahead <= losses.size * steps
    if not well or (task.order != AS_THEY_LIE and order.size < many):
        return False
    if task.rated and progress.tick - (1 if progress.within else 0) + ahead > rates.size:
        return False
    data = Data(pointer(x), pointer(y), written(order), 0 if task.order == AS_THEY_LIE else 1)
    numbers = written(hyper)
    optimizer = optimizer_of(numbers, written(moments), net)
    log = Log(written(losses), pointer(rates))
    _batches_by_all(net, data, optimizer, sums_of(numbers, net), progress, log, count, threads, here + MEETING)
    return True


@entry
def step(plan: Any, hyper: Any, params: Any, moments: Any, work: Any, x: Any, y: Any, state: Any) -> float:
    """`train` for one step from all rows of x; the loss before it, NaN if the arrays do not fit.

    Python pays for each argument: 30 ns an array. So what only this step needs is on the stack.
    """
    net = network(pointer(plan), written(params), written(work))
    if not fits(net, params.size, work.size, x.shape, y.shape) or x.shape[0] != net.task.samples:
        return NAN
    here = written(state)
    progress = Progress(here)
    progress.cursor = 0
    progress.epoch = 0
    progress.within = 0
    progress.stop = progress.steps + 1
    numbers = written(hyper)
    losses = local(numbers, 64)
    losses[0] = 0.0
    data = Data(pointer(x), pointer(y), nothing(here), 0)
    optimizer = optimizer_of(numbers, written(moments), net)
    log = Log(losses, nothing(losses))
    _batches_by_all(net, data, optimizer, sums_of(numbers, net), progress, log, x.shape[0], 1, here + MEETING)
    return losses[0]


@entry
def evaluate_gradient(
    plan: Any, hyper: Any, params: Any, work: Any, x: Any, y: Any, state: Any, grads: Any, dx: Any, inputs: int, count: int
) -> float:
    """`gradient` for arrays: all rows of x, in order; NaN if they do not fit.

    At most `count` blocks of rows, from row `within` of its progress on, which then is the row to go on from, or 0: it is done.
    """
    net = network(pointer(plan), written(params), written(work))
    rows = x.shape[0]
    if not fits(net, params.size, work.size, x.shape, y.shape) or rows != net.task.batch:
        return NAN
    here = written(state)
    progress = Progress(here)
    within = progress.within
    stop = min(within + count * cut_of(net.task, rows).block, rows)
    progress.within = stop if stop < rows else 0
    data = Data(pointer(x), pointer(y), nothing(here), 0)
    numbers = written(hyper)
    optimizer = Optimizer(Settings(numbers), nothing(net.params))
    into = Into(written(grads), written(dx), inputs)
    team = Team(0, 1, here + MEETING)
    return gradient(net, data, optimizer, sums_of(numbers, net), into, Part(rows, within, stop), 0, team)


@entry
def apply_gradient(plan: Any, hyper: Any, params: Any, moments: Any, grads: Any, state: Any) -> None:
    """`apply` for arrays: one more step, with the gradient in the first part of `grads`, which is changed."""
    net = network(pointer(plan), written(params), nothing(pointer(params)))
    numbers, here = written(hyper), written(state)
    progress = Progress(here)
    optimizer, sums = optimizer_of(numbers, written(moments), net), sums_of(numbers, net)
    sums.batch.mass = 1.0
    progress.steps = progress.steps + 1
    prepare(net.task.optimizer, optimizer.settings, progress.steps, net.params)
    apply(net, optimizer, sums, written(grads), Team(0, 1, here + MEETING))


@entry
def predict(plan: Any, params: Any, work: Any, x: Any, out: Any) -> bool:
    """The outputs for all rows of x, by blocks; False, and nothing done, if the arrays do not fit."""
    net = network(pointer(plan), pointer(params), written(work))
    rows, fan_in = x.shape
    outputs = out.shape[1]
    block = net.table.block
    if fan_in != net.layers.fan_in or outputs != last_layer(net).fan_out or rows != out.shape[0] or work.size < net.table.size:
        return False
    for start in range(0, rows, block):
        here = min(block, rows - start)
        forward(net, pointer(x) + start * fan_in, written(out) + start * outputs, Piece(start, 0, here, here, 0, 0), 0, 0)
    return True


@entry
def layer_outputs(plan: Any, params: Any, index: int, x: Any, z: Any, out: Any) -> bool:
    """The `index`-th layer's x @ w + b and its outputs for all rows of x; False, and nothing done, if the arrays do not fit.

    By the blocks of `predict`, and by its kernel: the outputs are the same to the last bit.
    """
    first, raw, to = pointer(x), written(z), written(out)
    net = network(pointer(plan), pointer(params), nothing(first))
    if index < 0 or index >= net.table.layers:
        return False
    layer = net.layers + index
    fan_in, fan_out, code = layer.fan_in, layer.fan_out, layer.activation
    rows = x.shape[0]
    if x.shape[1] != fan_in or z.shape != (rows, fan_out) or out.shape != (rows, fan_out):
        return False
    affine = Affine(net.params + layer.weights, net.params + layer.biases, 0)
    for start in range(0, rows, net.table.block):
        shape = Shape(min(net.table.block, rows - start), fan_in, fan_out, 0, fan_in)
        here, z_here, out_here = first + start * fan_in, raw + start * fan_out, to + start * fan_out
        layer_forward(code, here, affine, Outputs(z_here, out_here), nothing(first), shape)
        if not needs_input(code):
            layer_forward(IDENTITY, here, affine, Outputs(z_here, z_here), nothing(first), shape)
    return True


@entry
def evaluate_loss(plan: Any, params: Any, work: Any, x: Any, y: Any, start: int, stop: int, so_far: float) -> float:
    """The mean loss over all rows of x, by blocks; NaN if the arrays do not fit.

    From row `start` on to row `stop`, where a block ends, with `so_far` what the call before has returned: the sum, which is
    divided when `stop` is the last.
    """
    net = network(pointer(plan), pointer(params), written(work))
    if not fits(net, params.size, work.size, x.shape, y.shape):
        return NAN
    table, task, last = net.table, net.task, last_layer(net)
    code, outputs = task.loss, last.fan_out
    logits = 1 if from_logits(code) else 0
    out, d = net.work + last.a_at, net.work + last.d_at
    result = so_far
    for at in range(start, stop, table.block):
        here = min(table.block, stop - at)
        forward(net, pointer(x) + at * x.shape[1], out, Piece(at, 0, here, here, 0, 0), logits, 0)
        targets = pointer(y) + at * task.targets
        if task.weighted:
            extent = Extent(here, outputs, task.targets)
            result += evaluate_weighted(code, out, targets, d, net.work + table.weighing_at, extent, 0.0)
        else:
            result += evaluate(code, out, targets, d, here, outputs, 0.0)
    if stop < x.shape[0]:
        return result
    terms = x.shape[0] * 1.0
    if task.weighted:
        terms = weigh(pointer(y), nothing(pointer(plan)), 0, x.shape[0], task.targets, task.weighted)
    return result / (terms * task.terms if task.terms else 1.0)
