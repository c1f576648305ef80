"""Softmax and its derivative, row by row, and what it shares with cross-entropy."""

from __future__ import annotations

from typing import Any

from fastmlp.kernels.machine.jit import Int, Pointer, inlined, kernel
from fastmlp.kernels.tiles.across import largest, total
from fastmlp.kernels.tiles.arithmetic import first_columns, fma, maximum, where
from fastmlp.kernels.tiles.math import exp
from fastmlp.kernels.tiles.tile import lanes, load, splat, store


@inlined
def row_maximum(z: Any, columns: int) -> Any:
    """The largest of a row's numbers."""
    high = z[0]
    tallest = splat(z, high, 1, 1)
    for j in range(0, columns, lanes(z)):
        part = load(z + j, 0, 1, 1, columns - j)
        # Invalid lanes read 0, which may exceed the maximum: they take the row's first number instead.
        tallest = maximum(where(first_columns(part, columns - j), part, high), tallest)
    return largest(tallest)


@inlined
def store_powers(z: Any, out: Any, columns: int, high: float) -> Any:
    """out[j] = exp(z[j] - high) for a row; their sum."""
    powers = splat(z, 0.0, 1, 1)
    for j in range(0, columns, lanes(z)):
        part = load(z + j, 0, 1, 1, columns - j)
        power = where(first_columns(part, columns - j), exp(part - high), 0.0)
        store(power, out + j, 0, columns - j)
        powers = powers + power
    return total(powers)


@kernel
def softmax_forward(z: Pointer, out: Pointer, rows: Int, columns: Int) -> None:
    """out[i, :] = exp(z[i, :] - max) / sum, row by row; out may be z."""
    for i in range(rows):
        row = z + i * columns
        to = out + i * columns
        scale = 1.0 / store_powers(row, to, columns, row_maximum(row, columns))
        for j in range(0, columns, lanes(z)):
            store(load(to + j, 0, 1, 1, columns - j) * scale, to + j, 0, columns - j)


@kernel
def softmax_backward(a: Pointer, d: Pointer, rows: Int, columns: Int) -> None:
    """d[i, :] = a * (d - sum(d * a)): the product with softmax's Jacobian, row by row."""
    step = lanes(a)
    for i in range(rows):
        p = a + i * columns
        g = d + i * columns
        sums = splat(a, 0.0, 1, 1)
        for j in range(0, columns, step):
            sums = fma(load(p + j, 0, 1, 1, columns - j), load(g + j, 0, 1, 1, columns - j), sums)
        mean = total(sums)
        for j in range(0, columns, step):
            part = load(p + j, 0, 1, 1, columns - j) * (load(g + j, 0, 1, 1, columns - j) - mean)
            store(part, g + j, 0, columns - j)
