"""What crosses a register's lanes: sums, maxima, repetition, transposes."""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from fastmlp.kernels.machine.interpreted import intrinsic
from fastmlp.kernels.tiles.arithmetic import select_by
from fastmlp.kernels.tiles.tile import INT32, TileType, pack, parts_of


def _tree(builder: ir.IRBuilder, parts: Sequence[ir.Value], combine: Callable[..., ir.Value]) -> ir.Value:
    level = list(parts)
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [combine(a, b) for a, b in pairs] + (level[-1:] if len(level) % 2 else [])
    return level[0]


def _across(builder: ir.IRBuilder, tile: TileType, value: ir.Value, combine: Callable[..., ir.Value]) -> ir.Value:
    """Fold a register by halves: the order of the sum is fixed, so results do not depend on LLVM's choice."""
    undefined = ir.Constant(tile.vector, ir.Undefined)
    width = tile.lanes // 2
    while width:
        order = [i + width if i < width else i for i in range(tile.lanes)]
        moved = builder.shuffle_vector(value, undefined, ir.Constant(ir.VectorType(INT32, tile.lanes), order))
        value = combine(value, moved)
        width //= 2
    return builder.extract_element(value, INT32(0))


@intrinsic
def total(typingctx: Any, tile: Any) -> Any:
    """The sum of all numbers of a tile."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return _across(builder, tile, _tree(builder, parts_of(builder, tile, args[0]), builder.fadd), builder.fadd)

    return tile.dtype(tile), codegen


@intrinsic
def sum_across(typingctx: Any, tile: Any) -> Any:
    """The sum of each register, in all its lanes; the same bits as from `sum_lanes`."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        undefined = ir.Constant(tile.vector, ir.Undefined)
        sums = parts_of(builder, tile, args[0])
        width = tile.lanes // 2
        while width:
            order = ir.Constant(ir.VectorType(INT32, tile.lanes), [i ^ width for i in range(tile.lanes)])
            sums = [builder.fadd(part, builder.shuffle_vector(part, undefined, order)) for part in sums]
            width //= 2
        return pack(builder, sums)

    return tile(tile), codegen


@intrinsic(prefer_literal=True)
def repeat(typingctx: Any, tile: Any, rows: Any) -> Any:
    """A tile of one row, `rows` times."""
    many = TileType(tile.dtype, rows.literal_value, tile.vectors)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return pack(builder, parts_of(builder, tile, args[0]) * many.rows)

    return many(tile, rows), codegen


@intrinsic
def largest(typingctx: Any, tile: Any) -> Any:
    """The largest number of a tile; NaN where there is one."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        def combine(a: ir.Value, b: ir.Value) -> ir.Value:
            larger = select_by(builder, ">", a, b)
            return builder.select(builder.fcmp_unordered("uno", b, b), b, larger)

        return _across(builder, tile, _tree(builder, parts_of(builder, tile, args[0]), combine), combine)

    return tile.dtype(tile), codegen


@intrinsic
def sum_rows(typingctx: Any, tile: Any) -> Any:
    """The sum of a tile's rows: a tile of one row."""
    one = TileType(tile.dtype, 1, tile.vectors)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        parts = parts_of(builder, tile, args[0])
        return pack(builder, [_tree(builder, parts[v :: tile.vectors], builder.fadd) for v in range(tile.vectors)])

    return one(tile), codegen


@intrinsic
def sum_lanes(typingctx: Any, tile: Any) -> Any:
    """The sums of each row of a square tile, as one row: 14 shuffles for 8 rows where a transpose takes 24."""
    count = tile.lanes
    if tile.rows != count or tile.vectors != 1:
        return None

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        parts = parts_of(builder, tile, args[0])
        low, high = _interleave(count)
        while len(parts) > 1:
            half = len(parts) // 2
            pairs = zip(parts[:half], parts[half:], strict=True)
            parts = [builder.fadd(*(builder.shuffle_vector(a, b, order) for order in (low, high))) for a, b in pairs]
        return pack(builder, parts)

    return TileType(tile.dtype, 1, 1)(tile), codegen


def _interleave(count: int) -> tuple[ir.Constant, ir.Constant]:
    """Shuffles that interleave two registers' lower and upper halves."""
    kind = ir.VectorType(INT32, count)
    low = ir.Constant(kind, [i // 2 + (i % 2) * count for i in range(count)])
    high = ir.Constant(kind, [(i + count) // 2 + (i % 2) * count for i in range(count)])
    return low, high


@intrinsic
def transposed(typingctx: Any, tile: Any) -> Any:
    """The transpose of a square tile of lanes x lanes numbers."""
    count = tile.lanes
    if tile.rows != count or tile.vectors != 1:
        return None

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        # Interleaving row i with row i + n/2, log2(n) times over, transposes an n x n square.
        parts = parts_of(builder, tile, args[0])
        low, high = _interleave(count)
        for _ in range(count.bit_length() - 1):
            pairs = [(parts[i], parts[i + count // 2]) for i in range(count // 2)]
            parts = [builder.shuffle_vector(a, b, order) for a, b in pairs for order in (low, high)]
        return pack(builder, parts)

    return tile(tile), codegen
