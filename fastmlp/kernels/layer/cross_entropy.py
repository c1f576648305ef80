"""Cross-entropy: its value summed over a block of rows of logits, and its gradient by them."""

from __future__ import annotations

from fastmlp.kernels.layer.softmax import row_maximum, store_powers
from fastmlp.kernels.machine.jit import Double, Int, Pointer, kernel
from fastmlp.kernels.machine.pointer import local
from fastmlp.kernels.machine.target import VECTOR_BYTES
from fastmlp.kernels.tiles.across import largest, total, transposed
from fastmlp.kernels.tiles.arithmetic import first_columns, horner, maximum, minimum, where
from fastmlp.kernels.tiles.math import exp, log, log_normal
from fastmlp.kernels.tiles.tile import lanes, load, load_square, splat, store
from fastmlp.kernels.tuning import LOSS_RUN

EPSILON_32, EPSILON_64 = (2.0**-23,), (2.0**-52,)
NAN = float("nan")

SQUARES = 2 * VECTOR_BYTES * VECTOR_BYTES // 4  # bytes: two registers by as many as a register has lanes


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
