"""The Numba type of a compiled net, and the calls that it has in users' code.

To compiled code the net is the address of its `Handle`. A call goes to a kernel whose address lies there: that needs neither
Python nor a lock, links none of this package's kernels into the user's code, and takes the net's shape from its plan, so that
a net of another shape compiles nothing. Kernels of the derivatives are found at their first call, as kernels find one another.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models, register_default
from numba.core.errors import TypingError
from numba.core.imputils import lower_builtin, lower_constant
from numba.core.typing.templates import signature
from numba.extending import NativeValue, overload_attribute, overload_method, unbox

from fastmlp.kernels.machine.cache import package_key
from fastmlp.kernels.machine.interpreted import INTERPRETED
from fastmlp.kernels.machine.jit import by_name, call_at, inlined
from fastmlp.kernels.machine.memory import between, place_of
from fastmlp.kernels.machine.pointer import CHECKED, WORD, PointerType
from fastmlp.kernels.machine.record import RecordType, field
from fastmlp.kernels.machine.target import VECTOR_BYTES
from fastmlp.kernels.net.rows import Handle, rows_forward, rows_jacobian, rows_pull
from fastmlp.kernels.tiles.tile import lanes

# The arrays of each call, those that are written to last, and how many dimensions they have for one row.
ARRAYS = {"forward": {"x": 1, "out": 1}, "pull": {"x": 1, "g": 1, "dx": 1}, "jacobian": {"x": 1, "J": 2}}

NAMES = inspect.Signature([inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ARRAYS["forward"]])


class NetType(types.Callable):
    """The Numba type of a compiled net of a dtype, whatever its shape.

    Its name has the package's key: what users cached with another version of it would take the handle for that version's.
    """

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        super().__init__(f"CompiledModel({dtype}, {package_key()})")

    def get_call_type(self, context: Any, args: Sequence[Any], kws: Mapping[str, Any]) -> Any:
        """That of f(x, out)."""
        left = list(ARRAYS["forward"])[len(args) :]
        if len(args) + len(kws) != 2 or set(left) != set(kws):
            raise TypingError("compiled code calls a compiled model as f(x, out)")
        arrays = (*args, *(kws[name] for name in left))
        _check(self, "forward", arrays)
        return signature(types.none, *arrays, recvr=self).replace(pysig=NAMES)

    def get_call_signatures(self) -> Any:
        """What it can be called with."""
        return [], True

    def get_impl_key(self, sig: Any) -> Any:
        """Whose code a call is."""
        return NetType


TYPES = {kind.name: NetType(kind) for kind in (types.float32, types.float64)}


def _check(net: NetType, call: str, arrays: Sequence[Any]) -> None:
    """Raise unless the arguments are C-contiguous arrays of the net's dtype, all for one row or all for several."""
    expected = ARRAYS[call]
    last = list(expected)[-1]
    for (name, least), kind in zip(expected.items(), arrays, strict=True):
        well = isinstance(kind, types.Array) and kind.dtype == net.dtype and kind.layout == "C"
        if not well or (name == last and not kind.mutable):
            wanted = f"a C-contiguous array of {net.dtype}" + (" that may be written to" if name == last else "")
            raise TypingError(f"{name} must be {wanted}, got {kind}")
        if kind.ndim not in (least, least + 1):
            raise TypingError(f"{name} must have {least} dimensions, or {least + 1} for several rows, got {kind}")
        if kind.ndim - least != arrays[0].ndim - 1:
            raise TypingError(f"{' and '.join(expected)} must all be for one row, or all for several; {name} is {kind}")


@register_default(NetType)
class _NetModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: NetType) -> None:
        super().__init__(manager, fe_type, WORD)


@unbox(NetType)
def _unbox(kind: NetType, value: Any, context: Any) -> NativeValue:
    at = context.pyapi.object_getattr_string(value, "_at")
    native = context.pyapi.long_as_longlong(at)
    context.pyapi.decref(at)
    return NativeValue(native)


_NAMED: list[Any] = []  # nets that compiled code knows as globals: it may run as long as the process does


@lower_constant(NetType)
def _constant(context: Any, builder: ir.IRBuilder, kind: NetType, value: Any) -> ir.Value:
    """The handle's address. Numba then keeps the code out of its cache: in another process it would mean nothing."""
    _NAMED.append(value)
    return builder.ptrtoint(context.add_dynamic_addr(builder, value._at, info="a compiled model"), WORD)


class Given(NamedTuple):
    """An array of a call, without its reference count: with it a call took 30 ns longer."""

    at: Any
    rows: int
    height: int  # of a matrix for each row
    columns: int
    size: int


def _given(context: Any, builder: ir.IRBuilder, kind: Any, value: ir.Value, least: int) -> tuple[Any, ir.Value]:
    """An array as `Given`, and the Numba type of that."""
    pointers = PointerType(kind.dtype)
    array = context.make_array(kind)(context, builder, value)
    shape = cgutils.unpack_tuple(builder, array.shape, kind.ndim)
    at = between(context, builder, pointers, builder.ptrtoint(array.data, WORD), array.nitems)
    rows = shape[0] if kind.ndim > least else WORD(1)
    parts = [at, rows, shape[-2] if least > 1 else WORD(1), shape[-1], array.nitems]
    made = types.BaseTuple.from_types([pointers, *[types.intp] * 4], Given)
    return made, context.make_tuple(builder, made, parts)


def _lowered(call: str) -> Callable[..., Any]:
    """The code of a call: its function below, of the net and the arrays as they are given."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        arrays = zip(sig.args[1:], args[1:], ARRAYS[call].values(), strict=True)
        given = [_given(context, builder, *array) for array in arrays]
        inner = signature(types.none, sig.args[0], *(kind for kind, _ in given))
        return context.compile_internal(builder, FUNCTIONS[call], inner, [args[0], *(value for _, value in given)])

    return codegen


def _define_handle(typingctx: Any, net: Any) -> Any:
    """The handle of a net."""
    kind = RecordType(Handle)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        if not CHECKED:
            return builder.inttoptr(args[0], context.get_value_type(kind))
        last = builder.add(args[0], WORD(8 * Handle.words))
        value = ir.Constant(context.get_value_type(kind), ir.Undefined)
        for i, part in enumerate((args[0], args[0], last)):
            value = builder.insert_value(value, part, i)
        return value

    return kind(net), codegen


def _define_forward(typingctx: Any, *args: Any) -> Any:
    """`rows_forward` by its address in the handle, its first argument."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> ir.Value:
        place = builder.load(field(context, builder, sig.args[0], values[0], "forward"))
        return call_at(context, builder, place, sig, values)

    made = rows_forward.kernel  # type: ignore[attr-defined]
    return made.signature(made.dtype(args)), codegen


@inlined
def _apart(read: Any, to: Any) -> None:
    """Raise if two arrays share memory."""
    a, b = place_of(read.at), place_of(to.at)
    size = VECTOR_BYTES // lanes(to.at)
    if a < b + to.size * size and b < a + read.size * size:
        raise ValueError("an array that a compiled model writes to must not overlap one that it reads")


if not INTERPRETED:
    _handle = by_name(["net"], _define_handle, _define_handle)
    _call_forward = by_name(["handle", "x", "out", "rows"], _define_forward, _define_forward)

    def _forward(net: Any, x: Any, out: Any) -> None:
        handle = _handle(net)
        if x.columns != handle.inputs:
            raise ValueError("x must have as many columns as the compiled model has inputs")
        if out.columns != handle.outputs or out.rows != x.rows:
            raise ValueError("out must have x's rows, and as many columns as the compiled model has outputs")
        _apart(x, out)
        _call_forward(handle, x.at, out.at, x.rows)

    def _pull(net: Any, x: Any, g: Any, dx: Any) -> None:
        handle = _handle(net)
        if x.columns != handle.inputs:
            raise ValueError("x must have as many columns as the compiled model has inputs")
        if g.columns != handle.outputs or g.rows != x.rows:
            raise ValueError("g must have x's rows, and as many columns as the compiled model has outputs")
        if dx.columns != x.columns or dx.rows != x.rows:
            raise ValueError("dx must have x's shape")
        _apart(x, dx)
        _apart(g, dx)
        rows_pull(handle, x.at, g.at, dx.at, x.rows)

    def _jacobian(net: Any, x: Any, J: Any) -> None:
        handle = _handle(net)
        if x.columns != handle.inputs:
            raise ValueError("x must have as many columns as the compiled model has inputs")
        if J.columns != x.columns or J.height != handle.outputs or J.rows != x.rows:
            raise ValueError("J must have the shape (outputs, inputs), behind x's rows if there are several")
        _apart(x, J)
        rows_jacobian(handle, x.at, J.at, x.rows)

    FUNCTIONS: dict[str, Any] = {"forward": _forward, "pull": _pull, "jacobian": _jacobian}
    lower_builtin(NetType, NetType, types.Array, types.Array)(_lowered("forward"))

    def _method(call: str) -> Any:
        """An intrinsic for a method's call."""

        def define(typingctx: Any, net: Any, *arrays: Any) -> Any:
            return types.none(net, *arrays), _lowered(call)

        return by_name(["net", *ARRAYS[call]], FUNCTIONS[call], define)

    _pull_arrays, _jacobian_arrays = _method("pull"), _method("jacobian")

    def _overload_pull(net: Any, x: Any, g: Any, dx: Any) -> Any:
        _check(net, "pull", (x, g, dx))

        def pull(net: Any, x: Any, g: Any, dx: Any) -> Any:
            return _pull_arrays(net, x, g, dx)

        return pull

    def _overload_jacobian(net: Any, x: Any, J: Any) -> Any:
        _check(net, "jacobian", (x, J))

        def jacobian(net: Any, x: Any, J: Any) -> Any:
            return _jacobian_arrays(net, x, J)

        return jacobian

    def _overload_inputs(net: Any) -> Any:
        def inputs(net: Any) -> Any:
            return _handle(net).inputs

        return inputs

    def _overload_outputs(net: Any) -> Any:
        def outputs(net: Any) -> Any:
            return _handle(net).outputs

        return outputs

    for _type in TYPES.values():  # of a callable type's methods Numba wants each type's
        overload_method(_type, "pull")(_overload_pull)
        overload_method(_type, "jacobian")(_overload_jacobian)
        overload_attribute(_type, "inputs")(_overload_inputs)
        overload_attribute(_type, "outputs")(_overload_outputs)
