"""The gradient of a whole network over a batch, and the update with it: one training step, shared by any number of threads.

Each thread takes a share of the batch's rows through all layers, forward and back, then a share of each layer's weights; or, of
small nets, whole groups of rows, whose gradients are then summed. Every number is computed by one thread in one fixed order, so
the bits do not depend on how many there are.
"""

from __future__ import annotations

from fastmlp.kernels.layer.loss import from_logits, weigh
from fastmlp.kernels.layer.update import Place, moved, update
from fastmlp.kernels.machine.jit import Double, Doubles, Int, Integers, Pointer, inlined, kernel
from fastmlp.kernels.net.apply import apply, penalty
from fastmlp.kernels.net.parallel import Team, meet, share_start, share_stop
from fastmlp.kernels.net.plan import GROUPS, Data, Into, Net, Optimizer, Part, Piece, Sums, count_parameters, cut_of, last_layer
from fastmlp.kernels.net.step import (
    backward_rows,
    backward_weights,
    forward,
    pack_weights,
    start_backward,
    whole,
)
from fastmlp.kernels.tiles.tile import lanes, load, store
from fastmlp.kernels.tuning import CHUNK_ROWS
from fastmlp.kernels.tuning import GROUPS as COUNT

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
def _group_rows(rows: int) -> int:
    """The rows of a group: of all about the same, in whole chunks."""
    return whole(-(-rows // COUNT), CHUNK_ROWS)


@kernel
def through(net: Net, data: Data, losses: Doubles, piece: Piece, scale: Double, into: Into, step: Int) -> None:
    """A piece's rows, `data`'s from `piece.at` on, through all layers and back.

    losses[c] becomes the loss of the block's c-th CHUNK_ROWS. `step` is the number of the step, 0 for none.
    """
    last = last_layer(net)
    at, first, rows = piece.at, piece.first, piece.rows
    fan_in, targets = net.layers.fan_in, net.task.targets
    xs = data.x + at * fan_in
    ys = data.y + at * targets
    if data.ordered:
        xs = net.work + (net.table.x_at + first * fan_in)
        ys = net.work + (net.table.y_at + first * targets)
        gather(data.x, data.order + at, xs, rows, fan_in)
        gather(data.y, data.order + at, ys, rows, targets)
    out = net.work + (last.a_at + first * last.fan_out)
    forward(net, xs, out, piece, 1 if from_logits(net.task.loss) else 0, step)
    start_backward(net, ys, losses, first, rows, scale)
    backward_rows(net, into, piece, step)


@kernel
def sum_groups(groups: Pointer, out: Pointer, size: Int, count: Int, lower: Int, upper: Int) -> None:
    """out[i] = the sum of groups[:count, i] for lower <= i < upper: groups (count, size)."""
    for i in range(lower, upper, lanes(out)):
        total = load(groups + i, 0, 1, 1, upper - i)
        for g in range(1, count):
            total = total + load(groups + (g * size + i), 0, 1, 1, upper - i)
        store(total, out + i, 0, upper - i)


@kernel
def by_groups(net: Net, data: Data, optimizer: Optimizer, sums: Sums, into: Into, part: Part, step: Int, team: Team) -> Int:
    """`gradient` by groups of rows, each in blocks that are a thread's own; of each group the rows that `part` says.

    Then the groups' sum, the update with it, and the loss's sum in the batch's `so_far`; 0 if rows are left or a thread failed.
    """
    table, task, rows = net.table, net.task, part.rows
    group = _group_rows(rows)
    block = cut_of(task, rows).block // COUNT
    within = part.within // COUNT
    until = group if part.stop == rows else part.stop // COUNT
    fan_in = net.layers.fan_in
    strip = net.work + (table.strip_at + team.me * table.strip_size)
    first = team.me * block
    begin = share_start(net.work, rows, group, team)
    end = share_stop(net.work, rows, group, team)
    for start in range(begin, end, group):
        stop = min(start + group, rows)
        own = net.work + (table.groups_at + start // group * table.parameters)
        for at in range(start + within, min(start + until, stop), block):
            here = min(block, stop - at)
            piece = Piece(at, first, here, here, 0, 1 if at > start else 0)
            through(net, data, sums.losses + (at - first) // CHUNK_ROWS, piece, sums.batch.scale, into, step)
            xs = net.work + (table.x_at + first * fan_in) if data.ordered else data.x + at * fan_in
            backward_weights(net, optimizer, strip, xs, own, piece, 0, Team(0, 1, team.barrier))
    if not meet(team) or part.stop < rows:
        return 0
    if team.me == 0:
        result = 0.0
        for c in range(0, rows, CHUNK_ROWS):
            result += sums.losses[c // CHUNK_ROWS]
        sums.batch.so_far = result
    count = count_parameters(net)
    lower = share_start(net.work, count, CHUNK_ROWS, team)
    upper = share_stop(net.work, count, CHUNK_ROWS, team)
    sum_groups(net.work + table.groups_at, into.grads, table.parameters, -(-rows // group), lower, upper)
    if step and not task.whole:
        place = Place(net.params, into.grads, optimizer.moments, optimizer.moments + table.parameters)
        update(task.optimizer, optimizer.settings, moved(place, lower), upper - lower)
    return 1 if meet(team) else 0


@kernel
def gradient(net: Net, data: Data, optimizer: Optimizer, sums: Sums, into: Into, part: Part, step: Int, team: Team) -> Double:
    """A thread's part of the mean loss over `part.rows` rows and its gradient, by blocks of rows that stay in the cache.

    What a part leaves unfinished goes on from where it stopped, over the same work buffer. Before the last rows no parameter
    changes. `step` is the number of the step that updates the parameters on the way, and into.grads is scratch then; 0 for
    none. The loss is the first thread's to know; it is NaN if a thread failed, or if rows are left.
    """
    table, task, batch = net.table, net.task, sums.batch
    rows, within, stop = part.rows, part.within, part.stop
    fan_in = net.layers.fan_in
    result = 0.0
    extra = 0.0
    cut = cut_of(task, rows)
    if within == 0:
        pack_weights(net, rows, into.inputs, cut.copied, team)
    else:
        result = batch.so_far
    if team.me == 0 and within == 0:
        weight = weigh(data.y, data.order, data.ordered, rows, task.targets, task.weighted) if task.weighted else rows * 1.0
        batch.mass = weight
        batch.terms = weight * task.terms if task.terms else 1.0
        batch.scale = optimizer.settings.gain / batch.terms
    if team.me == 0 and step and task.whole:
        extra = penalty(net, optimizer.settings, batch.mass)
    if not meet(team):
        return NAN
    terms, scale = batch.terms, batch.scale
    if cut.path == GROUPS:
        if not by_groups(net, data, optimizer, sums, into, part, step, team):
            return NAN
        result = batch.so_far
    else:
        strip = net.work + (table.strip_at + team.me * table.strip_size)
        for start in range(within, stop, cut.block):
            here = min(cut.block, rows - start)
            first = share_start(net.work, here, CHUNK_ROWS, team)
            own = share_stop(net.work, here, CHUNK_ROWS, team) - first
            through(net, data, sums.losses, Piece(start + first, first, own, here, cut.copied, 0), scale, into, step)
            if not meet(team):
                return NAN
            if team.me == 0:
                for c in range(0, here, CHUNK_ROWS):
                    result += sums.losses[c // CHUNK_ROWS]
            xs = net.work + table.x_at if data.ordered else data.x + start * fan_in
            final = 1 if step and start + here == rows and not task.whole else 0
            piece = Piece(start, 0, here, here, cut.copied, 1 if start else 0)
            backward_weights(net, optimizer, strip, xs, into.grads, piece, final, team)
            if not meet(team):
                return NAN
    if stop < rows:
        if team.me == 0:
            batch.so_far = result
        return NAN
    if step and task.whole and not (apply(net, optimizer, sums, into.grads, team) and meet(team)):
        return NAN
    return result / terms + extra
