"""A network over rows, forward and back, without its model: what users' own compiled code calls, by as many threads as it has.

Nothing is shared or kept. What a call computes in lies on the stack up to STACK_BYTES, and beyond that in memory that it takes
from the system and gives back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastmlp.kernels.layer.activation import IDENTITY, RELU, SOFTMAX, activate, multiply_derivative, needs_input
from fastmlp.kernels.layer.custom import CUSTOM
from fastmlp.kernels.layer.dense import dot_rows, few_rows_backward_inputs
from fastmlp.kernels.machine.jit import Int, Pointer, entry, inlined, kernel
from fastmlp.kernels.machine.memory import borrow, give_back, numbers_at, words_at
from fastmlp.kernels.machine.pointer import local, nothing, pointer, written
from fastmlp.kernels.machine.record import Record
from fastmlp.kernels.machine.target import VECTOR_BYTES
from fastmlp.kernels.net.plan import Net, last_layer
from fastmlp.kernels.net.step import whole
from fastmlp.kernels.net.train import network
from fastmlp.kernels.tiles.arithmetic import maximum
from fastmlp.kernels.tiles.tile import lanes, load, outer_add, splat, store
from fastmlp.kernels.tuning import STACK_BYTES


class Handle(Record):
    """What compiled code knows of a net: addresses and counts."""

    forward: int  # address of the kernel `rows_forward`
    inputs: int
    outputs: int
    plan: int  # its address
    words: int  # how many it has
    params: int  # address of the parameters
    numbers: int  # how many of these, with what kernels may read beyond


@inlined
def _finish(acc: Any, to: Any, clip: int) -> None:
    """Store a tile of one row; max(., 0) of it if `clip`."""
    if clip:
        acc = maximum(acc, 0.0)
    store(acc, to, 0, None)


def _columns(vectors: int, chains: int) -> Callable[..., Any]:
    """A helper that computes `vectors` registers of a row's outputs, as the sum of `chains` sums over inputs in turn."""

    def one(x: Any, w: Any, b: Any, to: Any, fan_in: int, fan_out: int, clip: int) -> None:
        acc = load(b, 0, 1, vectors, None)
        for p in range(fan_in):
            acc = outer_add(acc, x + p, 0, w + p * fan_out, None)
        _finish(acc, to, clip)

    def two(x: Any, w: Any, b: Any, to: Any, fan_in: int, fan_out: int, clip: int) -> None:
        even, odd = load(b, 0, 1, vectors, None), splat(x, 0.0, 1, vectors)
        whole = fan_in - fan_in % 2
        for p in range(0, whole, 2):
            even = outer_add(even, x + p, 0, w + p * fan_out, None)
            odd = outer_add(odd, x + (p + 1), 0, w + (p + 1) * fan_out, None)
        if whole < fan_in:
            even = outer_add(even, x + whole, 0, w + whole * fan_out, None)
        _finish(even + odd, to, clip)

    def four(x: Any, w: Any, b: Any, to: Any, fan_in: int, fan_out: int, clip: int) -> None:
        first, second = load(b, 0, 1, vectors, None), splat(x, 0.0, 1, vectors)
        third, fourth = second, second
        p = 0
        while p + 4 <= fan_in:
            row = w + p * fan_out
            first = outer_add(first, x + p, 0, row, None)
            second = outer_add(second, x + (p + 1), 0, row + fan_out, None)
            third = outer_add(third, x + (p + 2), 0, row + 2 * fan_out, None)
            fourth = outer_add(fourth, x + (p + 3), 0, row + 3 * fan_out, None)
            p += 4
        while p < fan_in:
            first = outer_add(first, x + p, 0, w + p * fan_out, None)
            p += 1
        _finish((first + second) + (third + fourth), to, clip)

    return inlined({1: one, 2: two, 4: four}[chains])


# A multiply-add waits four cycles for the one before it in its chain, and a core starts two a cycle: eight chains keep it busy.
_columns_8, _columns_4, _columns_2, _columns_1 = _columns(8, 1), _columns(4, 2), _columns(2, 4), _columns(1, 4)


@inlined
def _row_product(x: Any, w: Any, b: Any, to: Any, fan_in: int, fan_out: int, clip: int) -> None:
    """to = x @ w + b for one row x (fan_in,): w (fan_in, fan_out); max(., 0) of it if `clip`.

    w, b and `to` are read and written in whole registers: without masks 4 -> 4 takes 13, not 30 ns (AVX2).
    """
    step = lanes(x)
    j = 0
    while fan_out - j >= 8 * step:
        _columns_8(x, w + j, b + j, to + j, fan_in, fan_out, clip)
        j += 8 * step
    if fan_out - j >= 4 * step:
        _columns_4(x, w + j, b + j, to + j, fan_in, fan_out, clip)
        j += 4 * step
    if fan_out - j >= 2 * step:
        _columns_2(x, w + j, b + j, to + j, fan_in, fan_out, clip)
        j += 2 * step
    while j < fan_out:
        _columns_1(x, w + j, b + j, to + j, fan_in, fan_out, clip)
        j += step


@kernel
def row_forward(net: Net, x: Pointer) -> None:
    """All layers over one row x; each layer's outputs lie at `a_at` then, and its z at `z_at` if its derivative needs it."""
    for index in range(net.table.layers):
        layer = net.layers + index
        fan_in, fan_out, code = layer.fan_in, layer.fan_out, layer.activation
        w, b = net.params + layer.weights, net.params + layer.biases
        to = net.work + layer.a_at
        z = net.work + layer.z_at if needs_input(code) else to
        clipped = code == RELU and fan_out > 1
        if fan_out == 1:
            dot_rows(x, w, b[0], z, 1, fan_in)
        else:
            _row_product(x, w, b, z, fan_in, fan_out, clipped)
        if code != IDENTITY and not clipped:
            # Whole registers: a store with a mask takes some 20 cycles where there are no masks but by sign (AVX2).
            count = fan_out if code == SOFTMAX or code >= CUSTOM else whole(fan_out, lanes(x))
            activate(code, z, to, 1, count)
        x = to


@inlined
def _net(handle: Any, like: Any) -> Any:
    """The net of a handle, without a work buffer."""
    return network(words_at(handle.plan, handle.words), numbers_at(like, handle.params, handle.numbers), nothing(like))


@inlined
def _near(net: Any) -> bool:
    """Whether the stack has room for the work buffer."""
    return net.table.size * VECTOR_BYTES <= STACK_BYTES * lanes(net.params)


@inlined
def _with_work(net: Any, work: Any) -> Any:
    return Net(net.table, net.task, net.layers, net.params, work)


@kernel
def rows_forward(handle: Handle, x: Pointer, out: Pointer, rows: Int) -> None:
    """The outputs for x (rows, inputs), to out (rows, outputs)."""
    inputs, outputs = handle.inputs, handle.outputs
    net = _net(handle, x)
    work = local(x, STACK_BYTES)
    near = _near(net)
    if not near:
        work = borrow(x, net.table.size)
    own, result, step = _with_work(net, work), work + last_layer(net).a_at, lanes(x)
    for _ in range(rows):
        row_forward(own, x)
        j = 0
        while j + step <= outputs:
            store(load(result + j, 0, 1, 1, None), out + j, 0, None)
            j += step
        while j < outputs:
            out[j] = result[j]
            j += 1
        x = x + inputs
        out = out + outputs
    if not near:
        give_back(work)


@kernel
def _row_backward(net: Net, dx: Pointer) -> None:
    """dx (inputs,) from the last layer's gradient by its outputs, which lies at its `d_at`, after `row_forward`."""
    work = net.work
    last = last_layer(net)
    kept = work + (last.z_at if needs_input(last.activation) else last.a_at)
    multiply_derivative(last.activation, kept, work + last.d_at, 1, last.fan_out)
    for back in range(net.table.layers):
        index = net.table.layers - 1 - back
        layer = net.layers + index
        d, w = work + layer.d_at, net.params + layer.weights
        if index == 0:
            few_rows_backward_inputs(IDENTITY, d, w, dx, dx, 1, layer.fan_in, layer.fan_out)
        else:
            below = net.layers + (index - 1)
            kept = work + (below.z_at if needs_input(below.activation) else below.a_at)
            to = work + below.d_at
            few_rows_backward_inputs(below.activation, d, w, kept, to, 1, layer.fan_in, layer.fan_out)


@kernel
def rows_pull(handle: Handle, x: Pointer, g: Pointer, dx: Pointer, rows: Int) -> None:
    """dx[i] = (d out / d x).T @ g[i] at x[i]: x and dx (rows, inputs), g (rows, outputs)."""
    net = _net(handle, x)
    work = local(x, STACK_BYTES)
    near = _near(net)
    if not near:
        work = borrow(x, net.table.size)
    last, own, inputs = last_layer(net), _with_work(net, work), net.layers.fan_in
    d = work + last.d_at
    for i in range(rows):
        row_forward(own, x + i * inputs)
        for k in range(last.fan_out):
            d[k] = g[i * last.fan_out + k]
        _row_backward(own, dx + i * inputs)
    if not near:
        give_back(work)


@kernel
def rows_jacobian(handle: Handle, x: Pointer, jacobian: Pointer, rows: Int) -> None:
    """jacobian[i, k, j] = d out[k] / d x[j] at x[i]: x (rows, inputs), jacobian (rows, outputs, inputs)."""
    net = _net(handle, x)
    work = local(x, STACK_BYTES)
    near = _near(net)
    if not near:
        work = borrow(x, net.table.size)
    last, own, inputs = last_layer(net), _with_work(net, work), net.layers.fan_in
    outputs, d = last.fan_out, work + last.d_at
    for i in range(rows):
        row_forward(own, x + i * inputs)
        for k in range(outputs):
            for j in range(outputs):
                d[j] = 1.0 if j == k else 0.0
            _row_backward(own, jacobian + (i * outputs + k) * inputs)
    if not near:
        give_back(work)


def forward_at(dtype: Any) -> int:
    """The address of `rows_forward` for a Numba dtype."""
    return rows_forward.kernel.address(dtype)  # type: ignore[attr-defined]


@entry
def call_forward(handle: Any, x: Any, out: Any) -> None:
    """`rows_forward` for arrays."""
    rows_forward(Handle(pointer(handle)), pointer(x), written(out), x.shape[0])


@entry
def call_pull(handle: Any, x: Any, g: Any, dx: Any) -> None:
    """`rows_pull` for arrays."""
    rows_pull(Handle(pointer(handle)), pointer(x), pointer(g), written(dx), x.shape[0])


@entry
def call_jacobian(handle: Any, x: Any, J: Any) -> None:
    """`rows_jacobian` for arrays."""
    rows_jacobian(Handle(pointer(handle)), pointer(x), written(J), x.shape[0])
