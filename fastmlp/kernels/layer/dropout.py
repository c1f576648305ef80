"""Dropout: which units of which rows are left out of a step.

A hash of the seed, the step, the layer, the row and the unit decides, so that nothing is kept between the passes, and the same
units are left out whatever the number of threads.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from fastmlp.kernels.machine.interpreted import intrinsic
from fastmlp.kernels.machine.jit import Int, Pointer, kernel
from fastmlp.kernels.machine.random import mixed
from fastmlp.kernels.tiles.arithmetic import where
from fastmlp.kernels.tiles.tile import INT32, MaskType, lanes, load, pack, store

RATE_UNITS = 1 << 32  # rates are stored in parts, of which this is the whole
# Steps of the 32-bit hash "lowbias32" (C. Wellons, Prospecting for hash functions, 2018): shifts, multipliers in between.
SHIFTS, FACTORS = (16, 15, 16), (0x7FEB352D, 0x846CA68B)


def hashed(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """lowbias32 of each lane."""
    count = x.type.count
    for shift, factor in zip(SHIFTS, (*FACTORS, None), strict=True):
        x = builder.xor(x, builder.lshr(x, ir.Constant(x.type, [shift] * count)))
        if factor is not None:
            x = builder.mul(x, ir.Constant(x.type, [factor] * count))
    return x


@intrinsic
def kept(typingctx: Any, tile: Any, key: Any, index: Any, rate: Any) -> Any:
    """A mask of the numbers of a tile of one register that stay: all but `rate` parts of RATE_UNITS, by `key` and their places.

    Their places are `index` and on, a multiple of the lanes.
    """

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        _, key, index, rate = args
        kind = ir.VectorType(INT32, tile.lanes)

        def spread(word: ir.Value) -> ir.Value:
            first = builder.insert_element(ir.Constant(kind, ir.Undefined), builder.trunc(word, INT32), INT32(0))
            return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), ir.Constant(kind, [0] * tile.lanes))

        upper = [builder.lshr(word, word.type(32)) for word in (key, index)]
        places = builder.add(spread(index), ir.Constant(kind, list(range(tile.lanes))))
        bits = hashed(builder, builder.xor(places, spread(key)))
        bits = hashed(builder, builder.add(bits, spread(builder.add(*upper))))
        return pack(builder, [builder.icmp_unsigned(">=", bits, spread(rate))])

    return MaskType(tile)(tile, types.intp, types.intp, types.intp), codegen


@kernel
def layer_key(like: Pointer, seed: Int, step: Int, layer: Int) -> Int:
    """What decides for one layer in one step; never 0. `like` only tells the dtype."""
    return mixed(mixed(mixed(seed) + step) + layer) | 1


@kernel
def dropout(x: Pointer, out: Pointer, key: Int, rate: Int, first: Int, rows: Int, columns: Int) -> None:
    """out = x / (1 - rate) where a number stays, else 0, for rows from `first` on; x, out (rows, columns), out may be x.

    `rate` counts parts of RATE_UNITS; `first` times `columns` is a multiple of the lanes.
    """
    scale = RATE_UNITS / (RATE_UNITS - rate)
    start = first * columns
    count = rows * columns
    for i in range(0, count, lanes(x)):
        part = load(x + i, 0, 1, 1, count - i)
        store(where(kept(part, key, start + i, rate), part * scale, 0.0), out + i, 0, count - i)
