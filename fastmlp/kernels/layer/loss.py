"""Losses: their value summed over a block of rows, and the gradient that starts the backward pass.

`bce`, `cross_entropy` and their clipped kinds read the output layer's pre-activations z and write the gradient by z:
sigmoid and softmax are part of them, which is faster and cannot overflow. The others read the outputs p and write the gradient
with respect to p. `scale` is what each number's gradient is multiplied by: 1 / (rows * outputs) for a mean over all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastmlp.kernels.layer.activation import row_maximum, spoil, store_powers
from fastmlp.kernels.layer.custom import CUSTOM, call_loss
from fastmlp.kernels.machine.jit import Double, Int, Integers, Pointer, inlined, kernel
from fastmlp.kernels.machine.pointer import local
from fastmlp.kernels.machine.target import VECTOR_BYTES
from fastmlp.kernels.tiles.across import largest, total, transposed
from fastmlp.kernels.tiles.arithmetic import fabs, first_columns, fma, horner, maximum, minimum, where
from fastmlp.kernels.tiles.math import exp, log, log_normal, sigmoid
from fastmlp.kernels.tiles.tile import lanes, load, load_square, splat, store
from fastmlp.kernels.tuning import LOSS_RUN

Tile = Any

BCE, CROSS_ENTROPY, CROSS_ENTROPY_ROWS, MSE, MAE, HUBER = range(6)
CLIPPED_BCE, CLIPPED_CROSS_ENTROPY = -1, -2  # scikit-learn's
EPSILON_32, EPSILON_64 = (2.0**-23,), (2.0**-52,)
INFINITY, NAN = float("inf"), float("nan")

SQUARES = 2 * VECTOR_BYTES * VECTOR_BYTES // 4  # bytes: two registers by as many as a register has lanes


@inlined
def from_logits(code: int) -> bool:
    """Whether the loss contains the output activation."""
    return code <= CROSS_ENTROPY_ROWS


@inlined
def is_cross_entropy(code: int) -> bool:
    """Whether the loss is a mean over rows, not over rows times outputs."""
    return code == CROSS_ENTROPY or code == CROSS_ENTROPY_ROWS or code == CLIPPED_CROSS_ENTROPY


def takes_labels(code: int) -> bool:
    """Whether a row's target is the number of its class."""
    return code == CROSS_ENTROPY or code == CLIPPED_CROSS_ENTROPY


is_labelled = inlined(takes_labels)  # for the kernels


def _elementwise(name: str, value: Callable[[Tile, Tile], Tile], slope: Callable[[Tile, Tile], Tile]) -> Callable[..., Any]:
    """The kernel that sums value(p, y) and writes d = slope(p, y) * scale.

    p is read and d written in whole registers, d's last one with zeros beyond `count`: a load soon after a masked store would
    wait for it to reach the cache.
    """

    def loss(p: Pointer, y: Pointer, d: Pointer, count: Int, scale: Double) -> Double:
        step = lanes(p)
        result = 0.0
        for start in range(0, count, LOSS_RUN * step):
            sums = splat(p, 0.0, 1, 1)
            for i in range(start, min(start + LOSS_RUN * step, count), step):
                left = count - i
                a = load(p + i, 0, 1, 1, None)
                b = load(y + i, 0, 1, 1, left)
                valid = first_columns(a, left)
                sums = sums + where(valid, value(a, b), 0.0)
                store(where(valid, slope(a, b) * scale, 0.0), d + i, 0, None)
            result += total(sums)
        return result

    loss.__qualname__ = name
    return kernel(loss)


@inlined
def _mse(p: Tile, y: Tile) -> Tile:
    return (p - y) * (p - y)


@inlined
def _mse_slope(p: Tile, y: Tile) -> Tile:
    return (p - y) * 2.0


@inlined
def _mae(p: Tile, y: Tile) -> Tile:
    return fabs(p - y)


@inlined
def _mae_slope(p: Tile, y: Tile) -> Tile:
    e = p - y
    return where(e > 0.0, 1.0, where(e < 0.0, -1.0, e))  # 0 at 0, NaN at NaN


@inlined
def _huber(p: Tile, y: Tile) -> Tile:
    """e**2 / 2 up to |e| = 1, |e| - 1/2 beyond, as q * (e - q / 2) with q = e clipped to [-1, 1]."""
    q = _huber_slope(p, y)
    return q * fma(q, -0.5, p - y)


@inlined
def _huber_slope(p: Tile, y: Tile) -> Tile:
    return minimum(maximum(p - y, -1.0), 1.0)


@inlined
def hard_bce(p: Tile, y: Tile) -> Tile:
    """-(y log(p + 1e-8) + (1 - y) log(1 - p + 1e-8)) where y is 0 or 1: one logarithm."""
    return 0.0 - log_normal(where(y > 0.5, p, 1.0 - p) + 1e-8)


@inlined
def soft_bce(p: Tile, y: Tile) -> Tile:
    """The same for any y."""
    return 0.0 - (y * log_normal(p + 1e-8) + (1.0 - y) * log_normal(1.0 - p + 1e-8))


@kernel
def bce(z: Pointer, y: Pointer, d: Pointer, count: Int, scale: Double) -> Double:
    """Sum of -(y log(p + 1e-8) + (1 - y) log(1 - p + 1e-8)), p = sigmoid(z); d = (p - y) * scale.

    Where all y are 0 or 1, as they are almost always, one logarithm tells the loss.
    """
    step = lanes(z)
    result = 0.0
    for start in range(0, count, LOSS_RUN * step):
        stop = min(start + LOSS_RUN * step, count)
        sums = splat(z, 0.0, 1, 1)
        soft = splat(z, 0.0, 1, 1)
        for i in range(start, stop, step):
            p = sigmoid(load(z + i, 0, 1, 1, None))
            target = load(y + i, 0, 1, 1, stop - i)
            valid = first_columns(p, stop - i)
            store(where(valid, (p - target) * scale, 0.0), d + i, 0, None)
            soft = fma(target, 1.0 - target, soft)
            sums = sums + where(valid, hard_bce(p, target), 0.0)
        if total(soft) != 0.0:
            sums = splat(z, 0.0, 1, 1)
            for i in range(start, stop, step):
                p = sigmoid(load(z + i, 0, 1, 1, None))
                target = load(y + i, 0, 1, 1, stop - i)
                sums = sums + where(first_columns(p, stop - i), soft_bce(p, target), 0.0)
        result += total(sums)
    return result


@inlined
def _clipped_bce(z: Tile, y: Tile) -> Tile:
    """-log(q) for the probability q of a label y of 0 or 1, clipped to the dtype's epsilon; NaN kept."""
    p = sigmoid(z)
    q = where(y > 0.5, p, 1.0 - p)
    least = horner(q, EPSILON_32, EPSILON_64)
    return 0.0 - log_normal(minimum(maximum(q, least), 1.0 - least))


@inlined
def _clipped_bce_slope(z: Tile, y: Tile) -> Tile:
    return sigmoid(z) - y


clipped_bce = _elementwise("clipped_bce", _clipped_bce, _clipped_bce_slope)
mse = _elementwise("mse", _mse, _mse_slope)
mae = _elementwise("mae", _mae, _mae_slope)
huber = _elementwise("huber", _huber, _huber_slope)


@kernel
def cross_entropy(z: Pointer, labels: Pointer, d: Pointer, rows: Int, columns: Int, scale: Double) -> Double:
    """Sum of log(sum(exp(z[i, :]))) - z[i, labels[i]]; d = (softmax(z) - onehot(labels)) * scale.

    Labels come as numbers of the kernel's dtype, so that targets of every kind are one array: exact up to 2**24 classes.
    """
    step = lanes(z)
    sums = splat(z, 0.0, 1, 1)
    result = 0.0
    for i in range(rows):
        row = z + i * columns
        to = d + i * columns
        high = row_maximum(row, columns)
        mass = store_powers(row, to, columns, high)
        sums = sums + log(splat(z, mass, 1, 1))
        share = scale / mass
        for j in range(0, columns, step):
            store(load(to + j, 0, 1, 1, columns - j) * share, to + j, 0, columns - j)
        # Labels were checked when they came; but they lie where they came from, which others may write to meanwhile.
        if labels[i] >= 0.0 and labels[i] < columns:
            label = int(labels[i])
            result += high - row[label]
            to[label] = to[label] - scale
        else:
            result = NAN
    return result + largest(sums)


@kernel
def cross_entropy_columns(
    z: Pointer, labels: Pointer, d: Pointer, rows: Int, columns: Int, scale: Double, least: Double, most: Double
) -> Double:
    """`cross_entropy` for at most two registers of classes: as many rows at a time as a register has lanes, a row a lane.

    Then a maximum or a sum over the classes crosses no lanes, and one logarithm serves all rows: 200 rows of 10 take a fifth
    of the time. z is read and d written up to a whole number of registers of rows. Each row's loss is clipped to [least, most].
    """
    step = lanes(z)
    square = local(z, SQUARES)
    result = 0.0
    for start in range(0, rows, LOSS_RUN * step):
        sums = splat(z, 0.0, 1, 1)
        for i in range(start, min(start + LOSS_RUN * step, rows), step):
            for j in range(0, columns, step):
                store(transposed(load_square(z + (i * columns + j), columns, columns - j)), square + j * step, step, None)
            high = load(square, 0, 1, 1, None)
            for j in range(1, columns):
                high = maximum(load(square + j * step, 0, 1, 1, None), high)
            label = load(labels + i, 0, 1, 1, rows - i)
            mass = splat(z, 0.0, 1, 1)
            picked = mass
            for j in range(columns):
                part = load(square + j * step, 0, 1, 1, None) - high
                picked = where(label == j, part, picked)
                power = exp(part)
                store(power, square + j * step, 0, None)
                mass = mass + power
            share = scale / mass
            for j in range(columns):
                slope = load(square + j * step, 0, 1, 1, None) * share
                store(where(label == j, slope - scale, slope), square + j * step, 0, None)
            for j in range(0, columns, step):
                store(transposed(load_square(square + j * step, step, None)), d + (i * columns + j), columns, columns - j)
            loss = minimum(maximum(log_normal(mass) - picked, least), most)
            sums = sums + where(first_columns(sums, rows - i), loss, 0.0)
        result += total(sums)
    return result


@kernel
def cross_entropy_rows(z: Pointer, y: Pointer, d: Pointer, rows: Int, columns: Int, scale: Double) -> Double:
    """Sum of -y * log(softmax(z)) for rows y of probabilities; d = (softmax(z) * sum(y) - y) * scale."""
    step = lanes(z)
    result = 0.0
    for i in range(rows):
        row = z + i * columns
        want = y + i * columns
        to = d + i * columns
        high = row_maximum(row, columns)
        mass = store_powers(row, to, columns, high)
        weights = splat(z, 0.0, 1, 1)
        products = splat(z, 0.0, 1, 1)
        for j in range(0, columns, step):
            left = columns - j
            part = load(row + j, 0, 1, 1, left) - high
            target = load(want + j, 0, 1, 1, left)
            weights = weights + target
            products = products + where(target > 0.0, target * part, part * 0.0)
        weight = total(weights)
        result += weight * largest(log(splat(z, mass, 1, 1))) - total(products)
        share = weight / mass
        for j in range(0, columns, step):
            left = columns - j
            slope = load(to + j, 0, 1, 1, left) * share - load(want + j, 0, 1, 1, left)
            store(slope * scale, to + j, 0, left)
    return result


@kernel
def clipped_cross_entropy(z: Pointer, labels: Pointer, d: Pointer, rows: Int, columns: Int, scale: Double) -> Double:
    """`cross_entropy` with the labels' probabilities clipped to [epsilon, 1 - epsilon]; its gradient is that of the others."""
    epsilon = horner(splat(z, 0.0, 1, 1), EPSILON_32, EPSILON_64)
    least, most = largest(0.0 - log(1.0 - epsilon)), largest(0.0 - log(epsilon))
    if columns <= 2 * lanes(z) and rows > 1:
        return cross_entropy_columns(z, labels, d, rows, columns, scale, least, most)
    result = 0.0
    for i in range(rows):
        loss = cross_entropy(z + i * columns, labels + i, d + i * columns, 1, columns, scale)
        result += least if loss < least else most if loss > most else loss  # NaN stays
    return result


@kernel
def evaluate(code: Int, p: Pointer, y: Pointer, d: Pointer, rows: Int, columns: Int, scale: Double) -> Double:
    """The loss named by `code`, summed, with its gradient times `scale` in d."""
    count = rows * columns
    if code == BCE:
        return bce(p, y, d, count, scale)
    if code == CLIPPED_BCE:
        return clipped_bce(p, y, d, count, scale)
    if code == CROSS_ENTROPY and columns <= 2 * lanes(p) and rows > 1:
        return cross_entropy_columns(p, y, d, rows, columns, scale, -INFINITY, INFINITY)
    if code == CROSS_ENTROPY:
        return cross_entropy(p, y, d, rows, columns, scale)
    if code == CLIPPED_CROSS_ENTROPY:
        return clipped_cross_entropy(p, y, d, rows, columns, scale)
    if code == CROSS_ENTROPY_ROWS:
        return cross_entropy_rows(p, y, d, rows, columns, scale)
    if code == MSE:
        return mse(p, y, d, count, scale)
    if code == MAE:
        return mae(p, y, d, count, scale)
    if code >= CUSTOM:
        return call_loss(code, p, y, d, count, scale)
    if code == HUBER:
        return huber(p, y, d, count, scale)
    spoil(d, count)
    return NAN


@kernel
def evaluate_weighted(
    code: Int, p: Pointer, y: Pointer, d: Pointer, spare: Pointer, rows: Int, columns: Int, scale: Double
) -> Double:
    """`evaluate`, each row times its weight, which is one more number in each row of y.

    A row of weight 0 does not count even if its loss is infinite. `spare` is scratch for a row, in whole registers: `evaluate`
    writes beyond a row, which may be another thread's there.
    """
    targets = (1 if is_labelled(code) else columns) + 1
    result = 0.0
    for i in range(rows):
        row = y + i * targets
        weight = row[targets - 1]
        if weight != 0.0:
            result += weight * evaluate(code, p + i * columns, row, spare, 1, columns, scale * weight)
        for j in range(0, columns, lanes(p)):
            slope = splat(p, 0.0, 1, 1)
            if weight != 0.0:
                slope = load(spare + j, 0, 1, 1, columns - j)
            store(slope, d + (i * columns + j), 0, columns - j)
    return result


@kernel
def weigh(y: Pointer, order: Integers, ordered: Int, rows: Int, targets: Int) -> Double:
    """The sum of the weights of `rows` rows of y (of those in `order`, if `ordered`); 1 where it is 0: nothing counts then."""
    result = 0.0
    for i in range(rows):
        result += y[(order[i] if ordered else i) * targets + targets - 1]
    return result if result != 0.0 else 1.0
