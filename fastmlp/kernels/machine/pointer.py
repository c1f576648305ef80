"""Pointers: how a kernel walks an array.

A `Pointer` is an address into an array of one dtype, with `p + n`, `p[i]` and `p[i] = v`. It is one machine word where
an array is seven, carries no reference count, and so costs neither registers nor atomics in the hot loops. Under
``NUMBA_BOUNDSCHECK=1`` it carries the bounds of its array too, and each access is checked against them.
"""

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import config
from numba.core.datamodel import models, register_default
from numba.core.errors import TypingError
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature

from fastmlp.kernels.machine.interpreted import intrinsic

CHECKED = bool(config.BOUNDSCHECK)
WORD = ir.IntType(64)


class PointerType(types.Type):
    """The Numba type of an address of `dtype` elements."""

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        super().__init__(f"Pointer({dtype})")


def element(dtype: types.Type) -> ir.Type:
    """The LLVM type of one element of a Numba number type."""
    if isinstance(dtype, types.Float):
        return ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType()
    return ir.IntType(dtype.bitwidth)


if CHECKED:

    @register_default(PointerType)
    class _PointerModel(models.StructModel):
        def __init__(self, manager: Any, fe_type: PointerType) -> None:
            super().__init__(manager, fe_type, [("at", types.intp), ("first", types.intp), ("last", types.intp)])

else:

    @register_default(PointerType)
    class _PointerModel(models.PrimitiveModel):  # type: ignore[no-redef]
        def __init__(self, manager: Any, fe_type: PointerType) -> None:
            super().__init__(manager, fe_type, ir.PointerType(element(fe_type.dtype)))


def offset(builder: ir.IRBuilder, kind: PointerType, value: ir.Value, count: ir.Value) -> ir.Value:
    """The pointer `count` elements further on."""
    if not CHECKED:
        return builder.gep(value, [count])
    at = builder.extract_value(value, 0)
    step = builder.mul(count, WORD(kind.dtype.bitwidth // 8))
    return builder.insert_value(value, builder.add(at, step), 0)


def address(context: Any, builder: ir.IRBuilder, kind: PointerType, value: ir.Value, count: ir.Value | None = None) -> ir.Value:
    """The machine address, for an access to `count` elements from there on (one, if None).

    In checked mode an access outside the array raises IndexError.
    """
    if not CHECKED:
        return value
    at, first, last = (builder.extract_value(value, i) for i in range(3))
    size = builder.mul(WORD(1) if count is None else count, WORD(kind.dtype.bitwidth // 8))
    outside = builder.or_(builder.icmp_signed("<", at, first), builder.icmp_signed(">", builder.add(at, size), last))
    bad = builder.and_(outside, builder.icmp_signed(">", size, WORD(0)))
    with builder.if_then(bad, likely=False):
        context.call_conv.return_user_exc(builder, IndexError, ("a kernel left its array",))
    return builder.inttoptr(at, ir.PointerType(element(kind.dtype)))


def unchecked(builder: ir.IRBuilder, kind: PointerType, value: ir.Value) -> ir.Value:
    """The machine address, for an access that is within the array."""
    return builder.inttoptr(builder.extract_value(value, 0), ir.PointerType(element(kind.dtype))) if CHECKED else value


def _first_element(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    data = context.make_array(sig.args[0])(context, builder, args[0])
    if not CHECKED:
        return data.data
    at = builder.ptrtoint(data.data, WORD)
    last = builder.add(at, builder.mul(data.nitems, data.itemsize))
    value = ir.Constant(context.get_value_type(sig.return_type), ir.Undefined)
    for i, part in enumerate((at, at, last)):
        value = builder.insert_value(value, part, i)
    return value


@intrinsic
def pointer(typingctx: Any, array: Any) -> Any:
    """The address of a contiguous array's first element, to read from."""
    if not isinstance(array, types.Array) or array.layout != "C":
        raise TypingError("a kernel needs a C-contiguous array")
    return PointerType(array.dtype)(array), _first_element


@intrinsic
def written(typingctx: Any, array: Any) -> Any:
    """`pointer`, to write to: an array that is read-only is refused."""
    if not isinstance(array, types.Array) or array.layout != "C" or not array.mutable:
        raise TypingError("a kernel needs a C-contiguous array that may be written to")
    return PointerType(array.dtype)(array), _first_element


@intrinsic(prefer_literal=True)
def local(typingctx: Any, like: Any, size: Any) -> Any:
    """Scratch of `size` bytes (a literal) on the stack for `like`'s dtype, aligned to a cache line."""
    count = size.literal_value * 8 // like.dtype.bitwidth

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        with builder.goto_entry_block():  # Numba's own helper would fill it with zeros
            place = builder.alloca(ir.ArrayType(element(like.dtype), count))
        place.align = 64
        if not CHECKED:
            return builder.bitcast(place, ir.PointerType(element(like.dtype)))
        at = builder.ptrtoint(place, WORD)
        last = builder.add(at, WORD(size.literal_value))
        value = ir.Constant(context.get_value_type(sig.return_type), ir.Undefined)
        for i, part in enumerate((at, at, last)):
            value = builder.insert_value(value, part, i)
        return value

    return like(like, size), codegen


@intrinsic
def nothing(typingctx: Any, like: Any) -> Any:
    """The address, of `like`'s kind, of what a call does not have; in checked mode each access to it is an error."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return ir.Constant(context.get_value_type(sig.return_type), None)

    return like(like), codegen


@intrinsic
def part(typingctx: Any, base: Any, start: Any, count: Any) -> Any:
    """The pointer `start` elements on; in checked mode only `count` elements may be reached through it."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        kind = sig.args[0]
        value = offset(builder, kind, args[0], args[1])
        if not CHECKED:
            return value
        address(context, builder, kind, value, args[2])
        at = builder.extract_value(value, 0)
        value = builder.insert_value(value, at, 1)
        last = builder.add(at, builder.mul(args[2], WORD(kind.dtype.bitwidth // 8)))
        return builder.insert_value(value, last, 2)

    return base(base, types.intp, types.intp), codegen


def _rank_one(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    from numba.np.arrayobj import populate_array

    kind = sig.return_type
    made = context.make_array(kind)(context, builder)
    size = WORD(kind.dtype.bitwidth // 8)
    data = address(context, builder, sig.args[0], *args)
    populate_array(made, data=data, shape=[args[1]], strides=[size], itemsize=size, meminfo=None)
    return made._getvalue()


@intrinsic
def as_array(typingctx: Any, base: Any, count: Any) -> Any:
    """The next `count` elements as an array, for users' functions: nobody owns it, so it costs no counting of references."""
    return types.Array(base.dtype, 1, "C")(base, types.intp), _rank_one


@intrinsic
def as_readonly(typingctx: Any, base: Any, count: Any) -> Any:
    """`as_array`, of a type that compiled code cannot write to."""
    return types.Array(base.dtype, 1, "C", readonly=True)(base, types.intp), _rank_one


@infer_global(operator.add)
class _Add(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        if len(args) == 2 and isinstance(args[0], PointerType) and isinstance(args[1], types.Integer):
            return signature(args[0], args[0], types.intp)
        return None


@lower_builtin(operator.add, PointerType, types.Integer)
def _add(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    return offset(builder, sig.args[0], args[0], args[1])


@infer_global(operator.getitem)
class _GetItem(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        if isinstance(args[0], PointerType) and isinstance(args[1], types.Integer):
            return signature(args[0].dtype, args[0], types.intp)
        return None


@lower_builtin(operator.getitem, PointerType, types.Integer)
def _getitem(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    place = offset(builder, sig.args[0], args[0], args[1])
    return builder.load(address(context, builder, sig.args[0], place))


@infer_global(operator.setitem)
class _SetItem(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        if isinstance(args[0], PointerType) and isinstance(args[1], types.Integer):
            return signature(types.none, args[0], types.intp, args[0].dtype)
        return None


@lower_builtin(operator.setitem, PointerType, types.Integer, types.Number)
def _setitem(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    place = offset(builder, sig.args[0], args[0], args[1])
    builder.store(args[2], address(context, builder, sig.args[0], place))
    return context.get_dummy_value()
