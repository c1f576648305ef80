"""A dense layer's kernels, on addresses: what training runs on; `fastmlp.kernels.layer.arrays` has them for plain arrays."""

from __future__ import annotations

from typing import NamedTuple

from fastmlp.kernels.layer.activation import IDENTITY, RELU, SIGMOID, TANH, activate, multiply_derivative, needs_input
from fastmlp.kernels.layer.product import (
    CLIP,
    GATE,
    MIDDLE,
    SIGMOID_SLOPE,
    START,
    TALL,
    TANH_SLOPE,
    Extent,
    Finish,
    Rows,
    Strided,
    packed_product,
    product,
)
from fastmlp.kernels.machine.jit import Float, Int, Pointer, inlined, kernel
from fastmlp.kernels.machine.pointer import nothing
from fastmlp.kernels.tiles.across import sum_lanes, sum_rows, total, transposed
from fastmlp.kernels.tiles.arithmetic import fma
from fastmlp.kernels.tiles.tile import lanes, load, load_square, outer_add, splat, store
from fastmlp.kernels.tuning import PASS_NUMBERS, PASS_TILES


@inlined
def _chunk_rows(rows: int, columns: int) -> int:
    return rows if rows * columns <= PASS_NUMBERS else max(PASS_NUMBERS // columns // TALL, PASS_TILES) * TALL


class Shape(NamedTuple):
    """Of a layer's call: x is (rows, fan_in), w (fan_in, fan_out); of w only rows from `lower` to `upper` are meant."""

    rows: Int
    fan_in: Int
    fan_out: Int
    lower: Int
    upper: Int


class Affine(NamedTuple):
    """A layer's weights w (fan_in, fan_out) and biases b (fan_out,); if `packed`, w by panels (see `pack`)."""

    w: Pointer
    b: Pointer
    packed: Int


class Outputs(NamedTuple):
    """Where a layer's x @ w + b goes if its derivative needs it, and its outputs; both (rows, fan_out)."""

    z: Pointer
    a: Pointer


@kernel
def layer_forward(code: Int, x: Pointer, affine: Affine, outputs: Outputs, spare: Pointer, shape: Shape) -> None:
    """a = f(x @ w + b): x (rows, fan_in).

    z receives x @ w + b if `needs_input(code)`, else it is not touched, and may be nothing. `spare` is scratch for
    `packed_product`, if the weights are packed.
    """
    rows, fan_in, fan_out = shape.rows, shape.fan_in, shape.fan_out
    w, b = affine.w, affine.b
    clipped = code == RELU and fan_out > 1
    # A layer of one output is one chunk: where its rows' squares begin must not depend on how many threads share them.
    height = rows if clipped or fan_out == 1 else _chunk_rows(rows, fan_out)
    finish = Finish(START + CLIP if clipped else START, Rows(b, 0), nothing(x))
    for i in range(0, rows, max(height, 1)):
        here = min(height, rows - i)
        to = outputs.a + i * fan_out
        raw = to
        if needs_input(code):
            raw = outputs.z + i * fan_out
        rows_x = x + i * fan_in
        extent = Extent(here, fan_in, fan_out)
        if fan_out == 1:
            dot_rows(rows_x, w, b[0], raw, here, fan_in)
        elif affine.packed:
            packed_product(Rows(rows_x, fan_in), Rows(w, fan_in), finish, Rows(raw, fan_out), spare, extent)
        else:
            product(Strided(rows_x, fan_in, 1), Rows(w, fan_out), finish, Rows(raw, fan_out), extent)
        if code != IDENTITY and not clipped:
            activate(code, raw, to, here, fan_out)


@kernel
def dot_rows(x: Pointer, w: Pointer, b: Float, out: Pointer, rows: Int, fan_in: Int) -> None:
    """out[i] = x[i, :] @ w + b: a layer of one output, for which the batch, not the outputs, could fill a tile.

    As many rows at a time as a register has lanes share the steps of their sums; the same sums in the same order as alone.
    """
    step = lanes(x)
    i = 0
    while i + step <= rows:
        square = x + i * fan_in
        products = load_square(w, 0, 0)  # no columns: zeros
        for p in range(0, fan_in, step):
            left = fan_in - p
            products = fma(load_square(square + p, fan_in, left), load_square(w + p, 0, left), products)
        store(sum_lanes(products) + b, out + i, 0, None)
        i += step
    while i < rows:
        row = x + i * fan_in
        acc = splat(x, 0.0, 1, 1)
        for p in range(0, fan_in, step):
            left = fan_in - p
            acc = fma(load(row + p, 0, 1, 1, left), load(w + p, 0, 1, 1, left), acc)
        out[i] = total(acc) + b
        i += 1


@kernel
def _weighted_sum(x: Pointer, d: Pointer, dw: Pointer, rows: Int, fan_in: Int, columns: Int, add: Int) -> None:
    """dw[j] = sum over i of d[i] * x[i, j], plus dw[j] if `add`, for j < columns; x's rows lie `fan_in` apart."""
    step = lanes(x)
    for j in range(0, columns, step):
        left = columns - j
        # Four sums side by side hide the multiply-add's latency.
        a = splat(x, 0.0, 1, 1)
        b, c, e = a, a, a
        i = 0
        while i + 4 <= rows:
            row = x + (i * fan_in + j)
            a = outer_add(a, d + i, 0, row, left)
            b = outer_add(b, d + (i + 1), 0, row + fan_in, left)
            c = outer_add(c, d + (i + 2), 0, row + 2 * fan_in, left)
            e = outer_add(e, d + (i + 3), 0, row + 3 * fan_in, left)
            i += 4
        while i < rows:
            a = outer_add(a, d + i, 0, x + (i * fan_in + j), left)
            i += 1
        whole = (a + b) + (c + e)
        if add:
            whole = whole + load(dw + j, 0, 1, 1, left)
        store(whole, dw + j, 0, left)


@kernel
def layer_backward_weights(x: Pointer, d: Pointer, dw: Pointer, spare: Pointer, room: Int, shape: Shape, add: Int) -> None:
    """dw = x.T @ d, or dw += x.T @ d if `add`: x (rows, fan_in), d (rows, fan_out), dw (fan_in, fan_out).

    Only dw's rows from `shape.lower` to `shape.upper` are computed, for the threads to share the rest. `spare` is scratch for
    ``2 * lanes * fan_in`` numbers if `room`.
    """
    rows, fan_in, fan_out = shape.rows, shape.fan_in, shape.fan_out
    x = x + shape.lower
    dw = dw + shape.lower * fan_out
    here = shape.upper - shape.lower
    if fan_out == 1:
        _weighted_sum(x, d, dw, rows, fan_in, here, add)
        return
    step = lanes(x)
    wide = 2 * step
    # A few columns beyond whole tiles fill a part of a register: their transposed product has whole ones (17-256-256-6: 2 % of
    # a step; 64-100-10: 3 %). In a tile of one register each multiply-add needs a load of its own.
    few = fan_out % wide
    if room == 0 or few > TALL or -(-few // MIDDLE) * MIDDLE * -(-fan_in // wide) * 2 > fan_in:
        few = 0
    if few < fan_out:
        to = Rows(dw, fan_out)
        finish = Finish(START if add else 0, to, nothing(x))
        product(Strided(x, 1, fan_in), Rows(d, fan_out), finish, to, Extent(here, rows, fan_out - few))
    if few:
        last = fan_out - few
        _few_columns(x, d + last, dw + last, spare, shape, few, add)


@kernel
def _few_columns(x: Pointer, d: Pointer, dw: Pointer, spare: Pointer, shape: Shape, few: Int, add: Int) -> None:
    """`few` columns of `layer_backward_weights`, by way of their transpose in `spare`; x and dw start at `shape.lower`."""
    step = lanes(x)
    fan_in, fan_out = shape.fan_in, shape.fan_out
    here = shape.upper - shape.lower
    finish = Finish(0, Rows(nothing(x), 0), nothing(x))
    product(Strided(d, 1, fan_out), Rows(x, fan_in), finish, Rows(spare, here), Extent(few, shape.rows, here))
    i = 0
    while i + step <= here:
        for j in range(0, few, step):
            square = transposed(load_square(spare + (j * here + i), here, None))
            to = dw + (i * fan_out + j)
            if add:
                square = square + load_square(to, fan_out, few - j)
            store(square, to, fan_out, few - j)
        i += step
    while i < here:
        for j in range(few):
            dw[i * fan_out + j] = spare[j * here + i] + (dw[i * fan_out + j] if add else 0.0)
        i += 1


@kernel
def layer_backward_biases(d: Pointer, db: Pointer, rows: Int, fan_out: Int, add: Int) -> None:
    """db = d.sum(axis=0), or db += if `add`: d (rows, fan_out), db (fan_out,)."""
    step = lanes(d)
    if fan_out == 1:
        whole = splat(d, 0.0, 1, 1)
        for i in range(0, rows, step):
            whole = whole + load(d + i, 0, 1, 1, rows - i)
        db[0] = total(whole) + (db[0] if add else 0.0)
        return
    for j in range(0, fan_out, step):
        left = fan_out - j
        # Four sums side by side hide the addition's latency.
        sums = splat(d, 0.0, 4, 1)
        i = 0
        while i + 4 <= rows:
            sums = sums + load(d + (i * fan_out + j), fan_out, 4, 1, left)
            i += 4
        column = sum_rows(sums)
        while i < rows:
            column = column + load(d + (i * fan_out + j), 0, 1, 1, left)
            i += 1
        if add:
            column = column + load(db + j, 0, 1, 1, left)
        store(column, db + j, 0, left)


@kernel
def transpose(w: Pointer, out: Pointer, fan_in: Int, fan_out: Int, share: Int, shares: Int) -> None:
    """out = w.T: w (fan_in, fan_out), out (fan_out rounded up to whole registers, fan_in); one of `shares` equal shares."""
    step = lanes(w)
    if fan_in < step:
        for i in range(share, fan_in, shares):
            for j in range(fan_out):
                out[j * fan_in + i] = w[i * fan_out + j]
        return
    for j in range(share * step, fan_out, shares * step):
        for block in range(0, fan_in, step):
            # The last block overlaps the one before: no rows beyond the array are touched.
            i = min(block, fan_in - step)
            square = load_square(w + (i * fan_out + j), fan_out, fan_out - j)
            store(transposed(square), out + (j * fan_in + i), fan_in, None)


@kernel
def few_rows_backward_inputs(
    code: Int, d: Pointer, w: Pointer, a: Pointer, dx: Pointer, rows: Int, fan_in: Int, fan_out: Int
) -> None:
    """`layer_backward_inputs` from w itself: for a few rows a transpose would cost more than the product."""
    for i in range(rows):
        dot_rows(w, d + i * fan_out, 0.0, dx + i * fan_in, fan_in, fan_out)
    if code != IDENTITY:
        multiply_derivative(code, a, dx, rows, fan_in)


@kernel
def layer_backward_inputs(
    code: Int, d: Pointer, wt: Rows, a: Pointer, dx: Pointer, spare: Pointer, shape: Shape, packed: Int
) -> None:
    """dx = (d @ w.T) * f'(.): d (rows, fan_out), wt = w.T (fan_out, fan_in), a and dx (rows, fan_in).

    `code` and `a` are the previous layer's: its outputs, or its pre-activations if `needs_input(code)`. If `packed`, wt lies by
    panels of `wt.row` rows (`fastmlp.kernels.layer.pack`), and `spare` is scratch for `packed_product`.
    """
    rows, fan_in, fan_out = shape.rows, shape.fan_in, shape.fan_out
    mode = 0
    if code == RELU:
        mode = GATE
    elif code == TANH:
        mode = TANH_SLOPE
    elif code == SIGMOID:
        mode = SIGMOID_SLOPE
    chunk = rows if mode else _chunk_rows(rows, fan_in)
    for i in range(0, rows, max(chunk, 1)):
        here = min(chunk, rows - i)
        to = Rows(dx + i * fan_in, fan_in)
        by = a + i * fan_in
        rows_d = d + i * fan_out
        finish = Finish(mode, Rows(nothing(d), 0), by)
        if packed:
            packed_product(Rows(rows_d, fan_out), wt, finish, to, spare, Extent(here, fan_out, fan_in))
        else:
            product(Strided(rows_d, fan_out, 1), wt, finish, to, Extent(here, fan_out, fan_in))
        if code != IDENTITY and not mode:
            multiply_derivative(code, by, to.at, here, fan_in)
