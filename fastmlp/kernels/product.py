"""The matrix product behind every dense layer, forward and backward: tiles of registers over strided operands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastmlp.kernels.arithmetic import maximum, where
from fastmlp.kernels.jit import Int, Pointer, kernel
from fastmlp.kernels.tile import ROWS, broadcast_rows, lanes, load, outer_add, splat, store

# What `product` does beside multiplying.
BIAS, RELU, GATE, ADD = 1, 2, 4, 8

TALL, MIDDLE = ROWS, 4


def _tile_product(rows: int, vectors: int, masked: bool) -> Callable[..., Any]:
    """The kernel that computes one tile of `rows` x (`vectors` registers)."""

    def tile_product(
        x: Pointer,
        x_row: Int,
        x_step: Int,
        w: Pointer,
        w_step: Int,
        depth: Int,
        bias: Pointer,
        gate: Pointer,
        out: Pointer,
        out_row: Int,
        mode: Int,
        columns: Int,
    ) -> None:
        if masked:
            valid = columns
        else:
            valid = None
        if mode & BIAS:
            acc = broadcast_rows(bias, rows, vectors, valid)
        elif mode & ADD:
            acc = load(out, out_row, rows, vectors, valid)
        else:
            acc = splat(x, 0.0, rows, vectors)
        for _ in range(depth):
            acc = outer_add(acc, x, x_row, w, valid)
            x = x + x_step
            w = w + w_step
        if mode & RELU:
            acc = maximum(acc, 0.0)
        elif mode & GATE:
            acc = where(load(gate, out_row, rows, vectors, valid) > 0.0, acc, 0.0)
        store(acc, out, out_row, valid)

    tile_product.__qualname__ = f"tile_product_{rows}x{vectors}{'_masked' if masked else ''}"
    return kernel(tile_product)


tall_2, middle_2, single_2 = (_tile_product(r, 2, False) for r in (TALL, MIDDLE, 1))
tall_2_masked, middle_2_masked, single_2_masked = (_tile_product(r, 2, True) for r in (TALL, MIDDLE, 1))
tall_1_masked, middle_1_masked, single_1_masked = (_tile_product(r, 1, True) for r in (TALL, MIDDLE, 1))


@kernel
def product(
    x: Pointer,
    x_row: Int,
    x_step: Int,
    w: Pointer,
    w_step: Int,
    bias: Pointer,
    gate: Pointer,
    out: Pointer,
    out_row: Int,
    mode: Int,
    rows: Int,
    depth: Int,
    columns: Int,
) -> None:
    """out[i, j] = finish(sum over p of x[i, p] * w[p, j]), for i < rows, p < depth, j < columns.

    x[i, p] lies at ``x + i * x_row + p * x_step``, w[p, j] at ``w + p * w_step + j``, out[i, j] at ``out + i * out_row + j``.
    ``mode`` is a sum of BIAS (start from bias[j]) or ADD (start from out[i, j]), and RELU (take max(., 0), NaN kept) or GATE
    (keep where gate[i, j] > 0, gate laid out as out is). Each element is one chain of fused multiply-adds in the order of p,
    whatever the tile.
    """
    wide = 2 * lanes(x)
    j = 0
    while j < columns:
        here = columns - j
        i = 0
        while i < rows:
            left = rows - i
            xi = x + i * x_row
            wj = w + j
            bj = bias + j
            to = out + (i * out_row + j)
            by = gate + (i * out_row + j)
            if left >= TALL:
                if here >= wide:
                    tall_2(xi, x_row, x_step, wj, w_step, depth, bj, by, to, out_row, mode, here)
                elif here > wide // 2:
                    tall_2_masked(xi, x_row, x_step, wj, w_step, depth, bj, by, to, out_row, mode, here)
                else:
                    tall_1_masked(xi, x_row, x_step, wj, w_step, depth, bj, by, to, out_row, mode, here)
                i += TALL
            elif left >= MIDDLE:
                if here >= wide:
                    middle_2(xi, x_row, x_step, wj, w_step, depth, bj, by, to, out_row, mode, here)
                elif here > wide // 2:
                    middle_2_masked(xi, x_row, x_step, wj, w_step, depth, bj, by, to, out_row, mode, here)
                else:
                    middle_1_masked(xi, x_row, x_step, wj, w_step, depth, bj, by, to, out_row, mode, here)
                i += MIDDLE
            else:
                if here >= wide:
                    single_2(xi, x_row, x_step, wj, w_step, depth, bj, by, to, out_row, mode, here)
                elif here > wide // 2:
                    single_2_masked(xi, x_row, x_step, wj, w_step, depth, bj, by, to, out_row, mode, here)
                else:
                    single_1_masked(xi, x_row, x_step, wj, w_step, depth, bj, by, to, out_row, mode, here)
                i += 1
        j += wide
