"""Memory that is not an array's: the system's, and what lies at an address."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from fastmlp.kernels.machine.interpreted import intrinsic
from fastmlp.kernels.machine.pointer import CHECKED, WORD, PointerType, element

BYTE = ir.IntType(8).as_pointer()
LINE = 64  # bytes: to what address memory is aligned


def between(context: Any, builder: ir.IRBuilder, kind: PointerType, at: ir.Value, count: ir.Value) -> ir.Value:
    """The pointer to `count` elements that start at this machine word."""
    if not CHECKED:
        return builder.inttoptr(at, ir.PointerType(element(kind.dtype)))
    last = builder.add(at, builder.mul(count, WORD(kind.dtype.bitwidth // 8)))
    value = ir.Constant(context.get_value_type(kind), ir.Undefined)
    for i, part in enumerate((at, at, last)):
        value = builder.insert_value(value, part, i)
    return value


@intrinsic
def place_of(typingctx: Any, base: Any) -> Any:
    """A pointer's machine address."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.extract_value(args[0], 0) if CHECKED else builder.ptrtoint(args[0], WORD)

    return types.intp(base), codegen


@intrinsic
def numbers_at(typingctx: Any, like: Any, place: Any, count: Any) -> Any:
    """The pointer, of `like`'s dtype, to `count` numbers at a machine address."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return between(context, builder, like, args[1], args[2])

    return like(like, types.intp, types.intp), codegen


@intrinsic
def words_at(typingctx: Any, place: Any, count: Any) -> Any:
    """The pointer to `count` integers of 64 bits at a machine address."""
    kind = PointerType(types.int64)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return between(context, builder, kind, args[0], args[1])

    return kind(types.intp, types.intp), codegen


@intrinsic
def borrow(typingctx: Any, like: Any, count: Any) -> Any:
    """Room for `count` numbers of `like`'s dtype from the system, aligned to a cache line, for `give_back`.

    MemoryError where there is none.
    """

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        shape = ir.FunctionType(BYTE, [WORD])
        allocate = cgutils.get_or_insert_function(builder.module, shape, "PyMem_RawMalloc")
        size = builder.mul(args[1], WORD(like.dtype.bitwidth // 8))
        raw = builder.ptrtoint(builder.call(allocate, [builder.add(size, WORD(LINE))]), WORD)
        with builder.if_then(builder.icmp_signed("==", raw, WORD(0)), likely=False):
            context.call_conv.return_user_exc(builder, MemoryError, ("fastmlp: no memory for a layer's outputs",))
        # What came from the system is noted just before what is used.
        at = builder.and_(builder.add(raw, WORD(LINE)), WORD(-LINE))
        builder.store(raw, builder.inttoptr(builder.sub(at, WORD(8)), WORD.as_pointer()))
        return between(context, builder, like, at, args[1])

    return like(like, types.intp), codegen


@intrinsic
def give_back(typingctx: Any, base: Any) -> Any:
    """Return what `borrow` gave."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        at = builder.extract_value(args[0], 0) if CHECKED else builder.ptrtoint(args[0], WORD)
        raw = builder.load(builder.inttoptr(builder.sub(at, WORD(8)), WORD.as_pointer()))
        free = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), [BYTE]), "PyMem_RawFree")
        builder.call(free, [builder.inttoptr(raw, BYTE)])
        return context.get_dummy_value()

    return types.none(base), codegen
