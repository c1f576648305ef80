"""Arithmetic on tiles: operators, fused multiply-add, selection, exponents, polynomials."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature

from fastmlp.kernels.machine.interpreted import intrinsic
from fastmlp.kernels.machine.target import AVX512
from fastmlp.kernels.tiles.tile import (
    INT32,
    MaskType,
    TileType,
    call_llvm,
    lane_mask,
    multiply_add,
    pack,
    parts_of,
    splat_vector,
)

# ---- arithmetic ------------------------------------------------------------------------------------------------------


def _operand(context: Any, builder: ir.IRBuilder, tile: TileType, kind: Any, value: ir.Value) -> list[ir.Value]:
    """A tile's registers, or a number repeated over them."""
    if isinstance(kind, TileType):
        return parts_of(builder, tile, value)
    return [splat_vector(builder, tile.vector, value)] * tile.size


def _operands(args: Sequence[Any]) -> tuple[TileType, tuple[Any, ...]] | None:
    """The shape that an operation's arguments share, and the arguments' types, numbers taken to the tile's dtype."""
    tiles = [a for a in args if isinstance(a, TileType)]
    if not tiles or any(t != tiles[0] for t in tiles):
        return None
    if not all(isinstance(a, (TileType, types.Number)) for a in args):
        return None
    return tiles[0], tuple(a if isinstance(a, TileType) else tiles[0].dtype for a in args)


def _elementwise(args: Sequence[Any], emit: Callable[..., ir.Value], result: Any = None) -> Any:
    """Signature and code of an operation that treats each register alike."""
    shared = _operands(args)
    if shared is None:
        return None
    tile, kinds = shared

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> ir.Value:
        columns = [_operand(context, builder, tile, k, v) for k, v in zip(sig.args, values, strict=True)]
        return pack(builder, [emit(builder, tile, *terms) for terms in zip(*columns, strict=True)])

    return signature(tile if result is None else result(tile), *kinds), codegen


def _overload_operator(op: Callable[..., Any], emit: Callable[..., ir.Value], result: Any = None) -> None:
    class Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            found = _elementwise(args, emit, result)
            return found and found[0]

    infer_global(op)(Template)

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return _elementwise(sig.args, emit, result)[1](context, builder, sig, args)

    for kinds in ((TileType, TileType), (TileType, types.Number), (types.Number, TileType)):
        lower_builtin(op, *kinds)(lower)


for _op, _name in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"), (operator.truediv, "fdiv")):
    _overload_operator(_op, lambda builder, tile, a, b, name=_name: getattr(builder, name)(a, b))
for _op, _name in ((operator.lt, "<"), (operator.le, "<="), (operator.gt, ">"), (operator.ge, ">="), (operator.eq, "==")):
    _overload_operator(_op, lambda builder, tile, a, b, name=_name: builder.fcmp_ordered(name, a, b), MaskType)


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once; twice on a target without the instruction, as a plain x86-64."""
    return _elementwise((a, b, c), multiply_add)


def _estimate(builder: ir.IRBuilder, tile: TileType, name: str, x: ir.Value) -> ir.Value:
    """AVX-512's 14-bit estimate of 1 / x or 1 / sqrt(x)."""
    every = ir.Constant(ir.IntType(tile.lanes), -1)
    return call_llvm(builder, f"llvm.x86.avx512.{name}14.ps.512", tile.vector, [x, x, every])


@intrinsic
def quotient(typingctx: Any, a: Any, b: Any) -> Any:
    """a / b within one unit in the last place, for b neither 0 nor infinite nor subnormal; 0 for -0.

    In float32 on AVX-512 from an estimate and Newton's steps: 4 cycles for 16 where the division takes 16.
    """

    def emit(builder: ir.IRBuilder, tile: TileType, x: ir.Value, y: ir.Value) -> ir.Value:
        if not AVX512 or tile.dtype.bitwidth != 32:
            return builder.fdiv(x, y)
        # One step from 14 bits leaves an error of 2**-28, below that of the last rounding.
        estimate = _estimate(builder, tile, "rcp", y)
        value = builder.fmul(x, estimate)
        return multiply_add(builder, tile, multiply_add(builder, tile, builder.fneg(y), value, x), estimate, value)

    return _elementwise((a, b), emit)


@intrinsic
def root(typingctx: Any, a: Any) -> Any:
    """sqrt(a) within one unit in the last place, for normal a; 0 for smaller ones."""

    def emit(builder: ir.IRBuilder, tile: TileType, x: ir.Value) -> ir.Value:
        if not AVX512 or tile.dtype.bitwidth != 32:
            return call_llvm(builder, f"llvm.sqrt.{tile.suffix}", tile.vector, [x])
        half = ir.Constant(tile.vector, [0.5] * tile.lanes)
        estimate = _estimate(builder, tile, "rsqrt", x)
        value = builder.fmul(x, estimate)
        step = multiply_add(builder, tile, builder.fneg(value), value, x)
        value = multiply_add(builder, tile, step, builder.fmul(half, estimate), value)
        tiny = ir.Constant(tile.vector, [float.fromhex("0x1p-126")] * tile.lanes)
        return builder.select(builder.fcmp_ordered("<", x, tiny), ir.Constant(tile.vector, None), value)

    return _elementwise((a,), emit)


@intrinsic
def fabs(typingctx: Any, a: Any) -> Any:
    """The absolute value."""
    return _elementwise((a,), lambda builder, tile, x: call_llvm(builder, f"llvm.fabs.{tile.suffix}", tile.vector, [x]))


@intrinsic
def copysign(typingctx: Any, a: Any, b: Any) -> Any:
    """|a| with the sign of b."""
    return _elementwise(
        (a, b), lambda builder, tile, *terms: call_llvm(builder, f"llvm.copysign.{tile.suffix}", tile.vector, terms)
    )


@intrinsic
def rint(typingctx: Any, a: Any) -> Any:
    """The nearest integer, ties to even."""
    return _elementwise((a,), lambda builder, tile, x: call_llvm(builder, f"llvm.rint.{tile.suffix}", tile.vector, [x]))


def select_by(builder: ir.IRBuilder, relation: str, a: ir.Value, b: ir.Value) -> ir.Value:
    # Written as x86's maximum and minimum define themselves, so that each is one instruction.
    return builder.select(builder.fcmp_ordered(relation, b, a), b, a)


@intrinsic
def maximum(typingctx: Any, a: Any, b: Any) -> Any:
    """The larger; a NaN in `a` is kept, as `numpy.maximum` keeps it."""
    return _elementwise((a, b), lambda builder, tile, x, y: select_by(builder, ">", x, y))


@intrinsic
def minimum(typingctx: Any, a: Any, b: Any) -> Any:
    """The smaller; a NaN in `a` is kept."""
    return _elementwise((a, b), lambda builder, tile, x, y: select_by(builder, "<", x, y))


@intrinsic
def where(typingctx: Any, mask: Any, a: Any, b: Any) -> Any:
    """a where the mask's bit is set, else b; a and b are tiles or numbers."""
    if not isinstance(mask, MaskType):
        return None
    tile = mask.tile
    kinds = [k if isinstance(k, TileType) else tile.dtype for k in (a, b)]

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        columns = [_operand(context, builder, tile, k, v) for k, v in zip(sig.args[1:], args[1:], strict=True)]
        bits = parts_of(builder, tile, args[0])
        return pack(builder, [builder.select(*terms) for terms in zip(bits, *columns, strict=True)])

    return signature(tile, mask, *kinds), codegen


@intrinsic
def first_columns(typingctx: Any, tile: Any, count: Any) -> Any:
    """A mask of the columns before `count`."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return pack(builder, [lane_mask(builder, tile, v, args[1]) for v in range(tile.vectors)] * tile.rows)

    return MaskType(tile)(tile, types.intp), codegen


def _biased(builder: ir.IRBuilder, tile: TileType, bits: ir.Value) -> ir.Value:
    """Move integers to where a float keeps its exponent."""
    mantissa = 23 if tile.dtype.bitwidth == 32 else 52
    return builder.shl(bits, ir.Constant(tile.integers, [mantissa] * tile.lanes))


@intrinsic
def scale(typingctx: Any, a: Any, n: Any) -> Any:
    """a * 2**n for an integral tile n, in two steps so that overflow and subnormal results come out right.

    |n| must stay below twice the largest exponent (252 in float32, 2044 in float64).
    """

    def emit(builder: ir.IRBuilder, tile: TileType, x: ir.Value, power: ir.Value) -> ir.Value:
        if AVX512:  # one instruction for the lot
            name = f"llvm.x86.avx512.mask.scalef.{'ps' if tile.dtype.bitwidth == 32 else 'pd'}.512"
            every = ir.Constant(ir.IntType(tile.lanes), -1)
            return call_llvm(builder, name, tile.vector, [x, power, x, every, INT32(4)])
        bias = 127 if tile.dtype.bitwidth == 32 else 1023
        whole = builder.fptosi(power, tile.integers)
        half = builder.ashr(whole, ir.Constant(tile.integers, [1] * tile.lanes))
        for share in (half, builder.sub(whole, half)):
            bits = _biased(builder, tile, builder.add(share, ir.Constant(tile.integers, [bias] * tile.lanes)))
            x = builder.fmul(x, builder.bitcast(bits, tile.vector))
        return x

    return _elementwise((a, n), emit)


@intrinsic
def exponent(typingctx: Any, a: Any) -> Any:
    """The integer e of a = m * 2**e with m in [sqrt(1/2), sqrt(2)), for normal positive a."""

    def emit(builder: ir.IRBuilder, tile: TileType, x: ir.Value) -> ir.Value:
        # Subtracting sqrt(1/2)'s bits moves the boundary between exponents from 1 to sqrt(1/2).
        single = tile.dtype.bitwidth == 32
        mantissa, root = (23, 0x3F3504F3) if single else (52, 0x3FE6A09E667F3BCD)
        bits = builder.sub(builder.bitcast(x, tile.integers), ir.Constant(tile.integers, [root] * tile.lanes))
        return builder.sitofp(builder.ashr(bits, ir.Constant(tile.integers, [mantissa] * tile.lanes)), tile.vector)

    return _elementwise((a,), emit)


def _polynomial(builder: ir.IRBuilder, tile: TileType, x: ir.Value, numbers: Sequence[ir.Value]) -> ir.Value:
    """Horner's rule; for long ones Estrin's, which is half as deep (a float64 exp: 20 against 40 cycles)."""
    if len(numbers) > 6:
        level = list(numbers[::-1])
        while len(level) > 1:
            pairs = zip(level[1::2], level[::2], strict=False)
            level = [multiply_add(builder, tile, high, x, low) for high, low in pairs] + level[len(level) // 2 * 2 :]
            if len(level) > 1:
                x = builder.fmul(x, x)
        return level[0]
    value = numbers[0]
    for number in numbers[1:]:
        value = multiply_add(builder, tile, value, x, number)
    return value


@intrinsic
def horner(typingctx: Any, x: Any, single: Any, double: Any) -> Any:
    """The polynomial of x with the coefficients, highest power first, that are meant for x's dtype."""
    chosen = 1 if x.dtype.bitwidth == 32 else 2

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        scalars = [builder.extract_value(args[chosen], i) for i in range(len(sig.args[chosen]))]
        numbers = [splat_vector(builder, x.vector, context.cast(builder, s, types.float64, x.dtype)) for s in scalars]
        values = [_polynomial(builder, x, part, numbers) for part in parts_of(builder, x, args[0])]
        return pack(builder, values)

    return x(x, single, double), codegen


@intrinsic
def is_single(typingctx: Any, tile: Any) -> Any:
    """Whether a tile's dtype is float32: a constant in each kernel."""
    value = ir.IntType(1)(tile.dtype.bitwidth == 32)
    return types.boolean(tile), lambda context, builder, sig, args: value
