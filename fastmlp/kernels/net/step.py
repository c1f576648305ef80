"""The parts of a training step over a whole network: forward, loss, backward, update. `gradient` joins them."""

from __future__ import annotations

from fastmlp.kernels.layer.activation import IDENTITY, multiply_derivative, needs_input
from fastmlp.kernels.layer.dense import (
    Affine,
    Outputs,
    Shape,
    few_rows_backward_inputs,
    layer_backward_biases,
    layer_backward_inputs,
    layer_backward_weights,
    layer_forward,
    transpose,
)
from fastmlp.kernels.layer.dropout import dropout, layer_key
from fastmlp.kernels.layer.loss import Extent, evaluate, evaluate_weighted, from_logits
from fastmlp.kernels.layer.pack import pack, pack_transposed
from fastmlp.kernels.layer.product import TALL, Rows
from fastmlp.kernels.layer.strips import ADD, UPDATE, backward_strips
from fastmlp.kernels.layer.update import Place, moved, update
from fastmlp.kernels.machine.jit import Double, Doubles, Int, Pointer, inlined, kernel
from fastmlp.kernels.net.parallel import Team, share_start, share_stop
from fastmlp.kernels.net.plan import Into, Net, Optimizer, Piece, last_layer
from fastmlp.kernels.tiles.tile import lanes
from fastmlp.kernels.tuning import CHUNK_ROWS, FEW_ROWS


@inlined
def whole(count: int, unit: int) -> int:
    """`count` rounded up to whole units."""
    return -(-count // unit) * unit


@kernel
def pack_weights(net: Net, rows: Int, inputs: Int, copied: Int, team: Team) -> None:
    """A thread's share of the copies a step of `rows` rows reads weights from: w.T, by panels or whole; w, if `copied`."""
    work = net.work
    step = lanes(work)
    for index in range(net.table.layers):
        layer = net.layers + index
        fan_in, fan_out = layer.fan_in, layer.fan_out
        w = net.params + layer.weights
        wt = work + layer.transposed_at
        if copied and layer.packed:
            lower = share_start(work, fan_in, 1, team)
            upper = share_stop(work, fan_in, 1, team)
            pack(w + lower * fan_out, work + (layer.packed_at + lower * 2 * step), upper - lower, fan_out, fan_in)
        if rows > FEW_ROWS and (index > 0 or inputs):
            if layer.strips:
                lower = share_start(work, fan_in, 2 * step, team)
                upper = share_stop(work, fan_in, 2 * step, team)
                pack_transposed(w, wt, lower, upper, fan_in, fan_out, whole(fan_out, step))
            elif fan_out > 1:
                transpose(w, wt, fan_in, fan_out, team.me, team.threads)


@kernel
def forward(net: Net, x: Pointer, out: Pointer, piece: Piece, logits: Int, step: Int) -> None:
    """All layers over a piece's rows x.

    The last layer's outputs go to `out`, without their activation if `logits`. `step`: training, in which units are dropped; 0
    for none.
    """
    work = net.work
    seed = net.task.seed if step else 0
    count = net.table.layers
    first, rows = piece.first, piece.rows
    spare = work + (net.table.spare_at + first * net.table.spare_size)
    for index in range(count):
        layer = net.layers + index
        fan_out = layer.fan_out
        code = layer.activation
        to = work + (layer.a_at + first * fan_out)
        if index == count - 1:
            to = out
            if logits:
                code = IDENTITY
        z = work + (layer.z_at + first * fan_out)
        w = net.params + layer.weights
        by_panels = piece.packed and layer.packed
        if by_panels:
            w = work + layer.packed_at
        rate = layer.dropped if seed else 0
        whole_outputs = z if rate and not needs_input(code) else to
        shape = Shape(rows, layer.fan_in, fan_out, 0, layer.fan_in)
        layer_forward(code, x, Affine(w, net.params + layer.biases, by_panels), Outputs(z, whole_outputs), spare, shape)
        if rate:
            dropout(whole_outputs, to, layer_key(x, seed, step, index), rate, piece.at, rows, fan_out)
        x = to


@kernel
def start_backward(net: Net, y: Pointer, losses: Doubles, first: Int, rows: Int, scale: Double) -> None:
    """The gradient of the last layer's z for `rows` rows from `first` on; losses[c] is that of the c-th CHUNK_ROWS."""
    work, task = net.work, net.task
    code = task.loss
    last = last_layer(net)
    outputs = last.fan_out
    for i in range(first, first + rows, CHUNK_ROWS):
        here = min(CHUNK_ROWS, first + rows - i)
        out = work + (last.a_at + i * outputs)
        d = work + (last.d_at + i * outputs)
        target = y + (i - first) * task.targets
        if task.weighted:
            spare = work + (net.table.weighing_at + i // CHUNK_ROWS * net.table.weighing_size)
            extent = Extent(here, outputs, task.targets)
            losses[i // CHUNK_ROWS] = evaluate_weighted(code, out, target, d, spare, extent, scale)
        else:
            losses[i // CHUNK_ROWS] = evaluate(code, out, target, d, here, outputs, scale)
        if not from_logits(code):
            kept = out
            if needs_input(last.activation):
                kept = work + (last.z_at + i * outputs)
            multiply_derivative(last.activation, kept, d, here, outputs)


@kernel
def backward_rows(net: Net, into: Into, piece: Piece, step: Int) -> None:
    """From the last layer's gradient of z to all others', for a piece's rows; x's too if `into.inputs`.

    `piece` and `step` are as `forward` had them.
    """
    work = net.work
    seed = net.task.seed if step else 0
    first, rows = piece.first, piece.rows
    spare = work + (net.table.spare_at + first * net.table.spare_size)
    for back in range(net.table.layers):
        index = net.table.layers - 1 - back
        layer = net.layers + index
        fan_in, fan_out = layer.fan_in, layer.fan_out
        d = work + (layer.d_at + first * fan_out)
        if layer.strips:
            pack(d, work + (layer.panels_at + first * 2 * lanes(work)), rows, fan_out, piece.height)
        if index > 0 or into.inputs:
            code = IDENTITY
            kept = into.dx
            to = into.dx + (piece.at * fan_in)
            rate = 0
            if index > 0:
                below = net.layers + (index - 1)
                code = below.activation
                rate = below.dropped if seed else 0
                kept = work + ((below.z_at if needs_input(code) or rate else below.a_at) + first * fan_in)
                to = work + (below.d_at + first * fan_in)
            if piece.height <= FEW_ROWS and fan_out > 1:
                few_rows_backward_inputs(code, d, net.params + layer.weights, kept, to, rows, fan_in, fan_out)
            else:
                wt = work + layer.transposed_at
                if fan_out == 1:
                    wt = net.params + layer.weights
                tall = whole(fan_out, lanes(work)) if layer.strips else fan_in
                shape = Shape(rows, fan_in, fan_out, 0, fan_in)
                layer_backward_inputs(code, d, Rows(wt, tall), kept, to, spare, shape, layer.strips)
            if rate:
                dropout(to, to, layer_key(d, seed, step, index - 1), rate, piece.at, rows, fan_in)


@kernel
def backward_weights(
    net: Net, optimizer: Optimizer, strip: Pointer, x: Pointer, grads: Pointer, piece: Piece, step: Int, team: Team
) -> None:
    """All weights' and biases' gradients over a block's rows from `piece.first` on, which x holds; a share of each layer.

    They are added to `grads` if `piece.later`. With `step` they go through the optimiser at once; `grads` then is scratch, as
    `strip`.
    """
    work, task = net.work, net.task
    rows, add = piece.height, piece.later
    memory = Place(net.params, grads, optimizer.moments, optimizer.moments + net.table.parameters)
    for index in range(net.table.layers):
        layer = net.layers + index
        fan_in, fan_out = layer.fan_in, layer.fan_out
        d = work + (layer.d_at + piece.first * fan_out)
        w = layer.weights
        b = layer.biases
        own = moved(memory, w)
        unit = TALL if layer.strips else 4
        lower = share_start(work, fan_in, unit, team)
        upper = share_stop(work, fan_in, unit, team)
        shape = Shape(rows, fan_in, fan_out, lower, upper)
        if layer.strips:
            panels = work + layer.panels_at
            mode = (ADD if add else 0) + (UPDATE if step else 0)
            backward_strips(task.optimizer, optimizer.settings, x, panels, strip, own, shape, mode)
        else:
            layer_backward_weights(x, d, own.grads, strip, 1, shape, add)
        biases = index % team.threads == team.me
        if biases:
            layer_backward_biases(d, grads + b, rows, fan_out, add)
        if step:
            # What is left: the weights, unless they went by strips, and the biases, which lie behind the last of them.
            at = (upper if layer.strips else lower) * fan_out
            stop = upper * fan_out
            if biases and stop == b - w:
                stop += fan_out
            elif biases:
                update(task.optimizer, optimizer.settings, moved(memory, b), fan_out)
            update(task.optimizer, optimizer.settings, moved(own, at), stop - at)
        x = work + (layer.a_at + piece.first * fan_out)
