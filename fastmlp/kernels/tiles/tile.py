"""Tile: a block of SIMD registers as a Numba value.

A `Tile` has `rows` x `vectors` registers of `lanes` numbers: `rows` rows, `vectors * lanes` columns. Its operations are
intrinsics (memory here, arithmetic in its own file), so kernels are written in Python and LLVM keeps the registers in
registers. Shapes (`rows`, `vectors`) are literals; `columns` is None for a full tile, or the number of valid columns,
from 0 to any, the others being neither read nor written.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.datamodel import models, register_default

from fastmlp.kernels.machine.interpreted import intrinsic
from fastmlp.kernels.machine.pointer import CHECKED, WORD, PointerType, address, element, offset
from fastmlp.kernels.machine.target import FMA, VECTOR_BYTES

BIT = ir.IntType(1)
INT32 = ir.IntType(32)


class TileType(types.Type):
    """The Numba type of `rows` x `vectors` registers of `dtype`."""

    def __init__(self, dtype: types.Float, rows: int, vectors: int) -> None:
        self.dtype, self.rows, self.vectors = dtype, rows, vectors
        self.lanes = VECTOR_BYTES * 8 // dtype.bitwidth
        super().__init__(f"Tile({dtype}, {rows}x{vectors})")

    @property
    def vector(self) -> ir.VectorType:
        return ir.VectorType(element(self.dtype), self.lanes)

    @property
    def integers(self) -> ir.VectorType:
        return ir.VectorType(ir.IntType(self.dtype.bitwidth), self.lanes)

    @property
    def size(self) -> int:
        return self.rows * self.vectors

    @property
    def suffix(self) -> str:
        return f"v{self.lanes}f{self.dtype.bitwidth}"


class MaskType(types.Type):
    """The Numba type of a comparison of two tiles: a bit for each of their numbers."""

    def __init__(self, tile: TileType) -> None:
        self.tile = tile
        super().__init__(f"Mask({tile})")


@register_default(TileType)
class _TileModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: TileType) -> None:
        super().__init__(manager, fe_type, ir.ArrayType(fe_type.vector, fe_type.size))


@register_default(MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: MaskType) -> None:
        tile = fe_type.tile
        super().__init__(manager, fe_type, ir.ArrayType(ir.VectorType(BIT, tile.lanes), tile.size))


# ---- building blocks -------------------------------------------------------------------------------------------------


def call_llvm(builder: ir.IRBuilder, name: str, result: ir.Type, args: Sequence[ir.Value]) -> ir.Value:
    """Call an LLVM intrinsic by its mangled name: `Module.declare_intrinsic` refuses vector types."""
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(result, [a.type for a in args]), name)
    return builder.call(function, args)


def parts_of(builder: ir.IRBuilder, tile: TileType, value: ir.Value) -> list[ir.Value]:
    return [builder.extract_value(value, i) for i in range(tile.size)]


def pack(builder: ir.IRBuilder, parts: Sequence[ir.Value]) -> ir.Value:
    value = ir.Constant(ir.ArrayType(parts[0].type, len(parts)), ir.Undefined)
    for i, v in enumerate(parts):
        value = builder.insert_value(value, v, i)
    return value


def splat_vector(builder: ir.IRBuilder, kind: ir.VectorType, scalar: ir.Value) -> ir.Value:
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, scalar, INT32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(INT32, kind.count), [0] * kind.count))


def multiply_add(builder: ir.IRBuilder, tile: TileType, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """a * b + c on registers, rounded once where the target can."""
    if FMA:
        return call_llvm(builder, f"llvm.fma.{tile.suffix}", tile.vector, [a, b, c])
    return builder.fadd(builder.fmul(a, b), c)


def lane_mask(builder: ir.IRBuilder, tile: TileType, vector: int, columns: ir.Value) -> ir.Value:
    """Bits of the lanes of the tile's `vector`-th register that lie before `columns`."""
    narrow = ir.VectorType(INT32, tile.lanes)
    numbers = ir.Constant(narrow, list(range(vector * tile.lanes, (vector + 1) * tile.lanes)))
    # The count is far below 2**31: comparing 32-bit lanes takes one instruction for 16 of them, 64-bit ones two.
    return builder.icmp_signed("<", numbers, splat_vector(builder, narrow, builder.trunc(columns, INT32)))


def _masks(builder: ir.IRBuilder, tile: TileType, kind: Any, columns: ir.Value) -> list[ir.Value] | None:
    if isinstance(kind, types.NoneType):
        return None
    return [lane_mask(builder, tile, v, columns) for v in range(tile.vectors)]


def _load(builder: ir.IRBuilder, tile: TileType, place: ir.Value, mask: ir.Value | None) -> ir.Value:
    size = tile.dtype.bitwidth // 8
    at = builder.bitcast(place, ir.PointerType(tile.vector))
    if mask is None:
        value = builder.load(at)
        value.align = size
        return value
    # Where the target has no masked access LLVM makes a branch for each lane.
    terms = [at, INT32(size), mask, ir.Constant(tile.vector, None)]
    return call_llvm(builder, f"llvm.masked.load.{tile.suffix}.p0", tile.vector, terms)


def _store(builder: ir.IRBuilder, tile: TileType, value: ir.Value, place: ir.Value, mask: ir.Value | None) -> None:
    size = tile.dtype.bitwidth // 8
    at = builder.bitcast(place, ir.PointerType(tile.vector))
    if mask is None:
        builder.store(value, at).align = size
    else:
        call_llvm(builder, f"llvm.masked.store.{tile.suffix}.p0", ir.VoidType(), [value, at, INT32(size), mask])


def _columns_type(columns: Any) -> Any:
    return types.none if isinstance(columns, types.NoneType) else types.intp


def _row(
    context: Any, builder: ir.IRBuilder, tile: TileType, kind: PointerType, base: ir.Value, columns: ir.Value | None
) -> list[ir.Value]:
    """Addresses of one row's registers, checked as a whole."""
    count = WORD(tile.vectors * tile.lanes)
    if CHECKED and columns is not None:
        count = builder.select(builder.icmp_signed("<", columns, count), columns, count)
    start = address(context, builder, kind, base, count)
    return [builder.gep(start, [WORD(v * tile.lanes)]) for v in range(tile.vectors)]


def _load_tile(
    context: Any, builder: ir.IRBuilder, tile: TileType, base: ir.Value, stride: ir.Value, kind: Any, columns: Any
) -> list[ir.Value]:
    """Registers of a tile whose rows lie `stride` elements apart; `kind` is the type of `columns`."""
    masks = _masks(builder, tile, kind, columns)
    pointers = PointerType(tile.dtype)
    parts = []
    for r in range(tile.rows):
        row = offset(builder, pointers, base, builder.mul(stride, WORD(r)))
        for v, place in enumerate(_row(context, builder, tile, pointers, row, columns if masks else None)):
            parts.append(_load(builder, tile, place, masks and masks[v]))
    return parts


# ---- memory ----------------------------------------------------------------------------------------------------------


@intrinsic
def lanes(typingctx: Any, base: Any) -> Any:
    """The number of `base`'s elements in one register."""
    count = VECTOR_BYTES * 8 // base.dtype.bitwidth
    return types.intp(base), lambda context, builder, sig, args: WORD(count)


@intrinsic(prefer_literal=True)
def load(typingctx: Any, base: Any, stride: Any, rows: Any, vectors: Any, columns: Any) -> Any:
    """A tile from memory, its rows `stride` elements apart; invalid columns are 0."""
    tile = TileType(base.dtype, rows.literal_value, vectors.literal_value)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return pack(builder, _load_tile(context, builder, tile, args[0], args[1], sig.args[4], args[4]))

    return tile(base, types.intp, rows, vectors, _columns_type(columns)), codegen


@intrinsic(prefer_literal=True)
def broadcast_rows(typingctx: Any, base: Any, rows: Any, vectors: Any, columns: Any) -> Any:
    """A tile each of whose rows is the vector at `base`."""
    tile = TileType(base.dtype, rows.literal_value, vectors.literal_value)
    one = TileType(base.dtype, 1, vectors.literal_value)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        row = _load_tile(context, builder, one, args[0], WORD(0), sig.args[3], args[3])
        return pack(builder, row * tile.rows)

    return tile(base, rows, vectors, _columns_type(columns)), codegen


@intrinsic(prefer_literal=True)
def splat(typingctx: Any, like: Any, value: Any, rows: Any, vectors: Any) -> Any:
    """A tile full of `value`, of the dtype of `like`'s elements."""
    tile = TileType(like.dtype, rows.literal_value, vectors.literal_value)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return pack(builder, [splat_vector(builder, tile.vector, args[1])] * tile.size)

    return tile(like, tile.dtype, rows, vectors), codegen


@intrinsic
def store(typingctx: Any, tile: Any, base: Any, stride: Any, columns: Any) -> Any:
    """Write a tile's valid columns, its rows `stride` elements apart."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        masks = _masks(builder, tile, sig.args[3], args[3])
        columns = None if masks is None else args[3]
        for r in range(tile.rows):
            row = offset(builder, sig.args[1], args[1], builder.mul(args[2], WORD(r)))
            for v, place in enumerate(_row(context, builder, tile, sig.args[1], row, columns)):
                value = builder.extract_value(args[0], r * tile.vectors + v)
                _store(builder, tile, value, place, masks and masks[v])
        return context.get_dummy_value()

    return types.none(tile, base, types.intp, _columns_type(columns)), codegen


def _opaque(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """The same pointer, by an empty piece of assembly: LLVM must not see that it is another one's neighbour."""
    if not isinstance(value.type, ir.PointerType):
        return value
    return builder.asm(ir.FunctionType(value.type, [value.type]), "", "=r,0", [value], False)


@intrinsic(prefer_literal=True)
def row_groups(typingctx: Any, base: Any, stride: Any, rows: Any) -> Any:
    """Pointers to every third of `rows` rows (every second, if three do not divide them), for `outer_add` to start from.

    From one pointer LLVM reaches the rows by a chain of additions, as long as the multiply-adds it is to feed; a machine
    addresses one and two strides beyond each of several pointers for nothing ((336, 256, 192): 89 against 85 % of the peak).
    """
    count = rows.literal_value
    height = 3 if count % 3 == 0 else min(count, 2)
    kind = types.UniTuple(base, count // height)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        steps = [builder.mul(args[1], WORD(r)) for r in range(0, count, height)]
        starts = [offset(builder, base, args[0], step) for step in steps]
        return context.make_tuple(builder, kind, starts[:1] + [_opaque(builder, start) for start in starts[1:]])

    return kind(base, types.intp, rows), codegen


@intrinsic
def advance(typingctx: Any, groups: Any, count: Any) -> Any:
    """Each pointer `count` elements further on."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        moved = [offset(builder, groups.dtype, builder.extract_value(args[0], i), args[1]) for i in range(groups.count)]
        return context.make_tuple(builder, groups, moved)

    return groups(groups, types.intp), codegen


@intrinsic
def outer_add(typingctx: Any, tile: Any, x: Any, stride: Any, w: Any, columns: Any) -> Any:
    """tile[r, :] + x[r * stride] * w[:]: `rows * vectors` multiply-adds; x is a pointer, or its `row_groups`."""
    one = TileType(tile.dtype, 1, tile.vectors)
    several = isinstance(x, types.UniTuple)
    kind, height = (x.dtype, tile.rows // x.count) if several else (x, tile.rows)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        acc, bases, step, row, columns = args
        masks = _masks(builder, tile, sig.args[4], columns)
        places = _row(context, builder, one, sig.args[3], row, None if masks is None else columns)
        weights = [_load(builder, one, place, masks and masks[v]) for v, place in enumerate(places)]
        for r in range(tile.rows):
            base = builder.extract_value(bases, r // height) if several else bases
            place = offset(builder, kind, base, builder.mul(step, WORD(r % height)))
            factor = splat_vector(builder, tile.vector, builder.load(address(context, builder, kind, place)))
            for v in range(tile.vectors):
                i = r * tile.vectors + v
                terms = [factor, weights[v], builder.extract_value(acc, i)]
                acc = builder.insert_value(acc, multiply_add(builder, tile, *terms), i)
        return acc

    return tile(tile, x, types.intp, w, _columns_type(columns)), codegen


@intrinsic
def load_square(typingctx: Any, base: Any, stride: Any, columns: Any) -> Any:
    """A tile of lanes x lanes numbers, its rows `stride` elements apart; invalid columns are 0."""
    tile = TileType(base.dtype, VECTOR_BYTES * 8 // base.dtype.bitwidth, 1)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return pack(builder, _load_tile(context, builder, tile, args[0], args[1], sig.args[2], args[2]))

    return tile(base, types.intp, _columns_type(columns)), codegen
