"""The compile policy, and how compiled functions find one another.

`entry` is for functions called from Python. `kernel` is for those called from other compiled code: each is compiled once
per dtype, by itself, and called by address. Numba links a callee into every caller and optimises it there anew; the
kernels' call tree would compile three to five times over (matrix product alone: 2.2 s against 0.6 s). The address is found by
name at the first call, so a caller loaded from a cache can never hold stale code of what it calls.

A kernel's annotations are its signature: the names below, records (`fastmlp.kernels.machine.record`), and classes of
NamedTuples of all these. To machine code a tuple is its members, one argument each.
"""

import ctypes
import gc
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial, update_wrapper
from typing import Any, TypeVar

from llvmlite import ir
from numba import njit, types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from fastmlp.kernels.machine import native
from fastmlp.kernels.machine.cache import PackageCache
from fastmlp.kernels.machine.interpreted import INTERPRETED, quiet
from fastmlp.kernels.machine.pointer import WORD, PointerType
from fastmlp.kernels.machine.record import RecordType

Pointer = Any  # an address of the kernel's dtype (float32 or float64)
Integers = Any  # an address of int64
Doubles = Any  # an address of float64, whatever the kernel's dtype
Int = int  # a machine word
Float = float  # a number of the kernel's dtype
Double = float  # a float64 number, whatever the kernel's dtype

# No fast-math flag at all: nnan and ninf would fold NaN checks away, reassociation and contraction would let a tile's
# variants round differently, and the kernels write their fused operations out. `nogil`: others may run meanwhile.
POLICY: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}

F = TypeVar("F", bound=Callable[..., Any])
_KERNELS: dict[int, tuple["Kernel", types.Float]] = {}


class Inlined:
    """A helper that becomes part of each kernel that calls it.

    To compiled code it is a function without an entry for Python, which would be a tenth of all compilation and is not used; to
    Python it is one with. Each is made when it is asked for: for all helpers that would take 3 ms of the import.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        update_wrapper(self, function)

    @cached_property
    def part(self) -> Any:
        return njit(**POLICY, no_cpython_wrapper=True)(self.function)

    @cached_property
    def whole(self) -> Any:
        return njit(**POLICY)(self.function)

    @property
    def _numba_type_(self) -> Any:
        return self.part._numba_type_

    def __call__(self, *args: Any) -> Any:
        return self.whole(*args)


def inlined(function: F) -> F:
    """A helper that becomes part of each kernel that calls it."""
    made: Any = quiet(function) if INTERPRETED else Inlined(function)
    return made


def entry(function: F) -> F:
    """Compile for calls from Python (and from users' own compiled code)."""
    if INTERPRETED:
        return quiet(function)
    made = _cached(function)
    # An exception of a signal's handler in the middle of a compilation would leave Numba broken for good.
    compile_for = made._compile_for_args
    made._compile_for_args = lambda *args, **kwargs: native.apart(partial(compile_for, *args, **kwargs))
    return made


def _cached(function: Callable[..., Any], **options: bool) -> Any:
    dispatcher = njit(**POLICY, **options)(function)
    dispatcher._cache = PackageCache(function)
    return dispatcher


PLAIN: dict[Any, Any] = {"Integers": PointerType(types.int64), "Doubles": PointerType(types.float64), "Int": types.intp}
PLAIN |= {"Double": types.float64, "None": types.none, None: types.none}


def _members(mark: Any, names: dict[str, Any]) -> list[Any] | None:
    """The marks of a NamedTuple's members; None if the mark is not of one."""
    found = names.get(mark)
    if not (isinstance(found, type) and issubclass(found, tuple)):
        return None
    return [getattr(one, "__forward_arg__", one) for one in found.__annotations__.values()]


def _kind(mark: Any, names: dict[str, Any], dtype: types.Float) -> Any:
    """The type that a mark stands for, among a module's names."""
    if mark in PLAIN:
        return PLAIN[mark]
    if mark in ("Pointer", "Float"):
        return PointerType(dtype) if mark == "Pointer" else dtype
    found = names[mark]
    members = _members(mark, names)
    if members is None:
        return RecordType(found)
    inner = vars(sys.modules[found.__module__])
    return types.BaseTuple.from_types([_kind(one, inner, dtype) for one in members], found)


def _dtype(marks: Sequence[Any], names: dict[str, Any], kinds: Sequence[Any]) -> types.Float | None:
    """The dtype of the first address of so marked types."""
    for mark, kind in zip(marks, kinds, strict=False):
        if mark == "Pointer":
            return kind.dtype if isinstance(kind, PointerType) else None
        members = _members(mark, names)
        if members is not None and isinstance(kind, types.BaseTuple):
            found = _dtype(members, vars(sys.modules[names[mark].__module__]), kind.types)
            if found is not None:
                return found
    return None


def compiled_at(dispatcher: Any, sig: Any) -> int:
    """The machine address of a function's version of this signature, which is compiled."""
    dispatcher.compile(sig.args)
    made = dispatcher.overloads[sig.args]
    return made.library.get_pointer_to_function(made.fndesc.llvm_func_name)


class Kernel:
    """A function with one compiled version a dtype, reached by address."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.names = function.__code__.co_varnames[: function.__code__.co_argcount]
        self.marks = [function.__annotations__[name] for name in self.names]
        self.result = function.__annotations__.get("return")
        self.addresses: dict[types.Float, int] = {}

    @cached_property
    def dispatcher(self) -> Any:
        return _cached(self.function, no_cpython_wrapper=True)

    def signature(self, dtype: types.Float) -> Any:
        names = self.function.__globals__
        return signature(_kind(self.result, names, dtype), *(_kind(mark, names, dtype) for mark in self.marks))

    def dtype(self, args: Sequence[Any]) -> types.Float | None:
        """What a call with arguments of these types computes in."""
        return _dtype(self.marks, self.function.__globals__, args)

    def identity(self, dtype: types.Float) -> int:
        """A number that names this kernel at this dtype: the same in each process, another for another signature."""
        name = f"{self.function.__module__}.{self.function.__qualname__}{self.signature(dtype)}{dtype}"
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") >> 1

    def address(self, dtype: types.Float) -> int:
        """The machine address; compiles, or loads from the cache, on the first call."""
        found = self.addresses.get(dtype)
        if found is None:
            with _collect_later():
                self.addresses[dtype] = found = compiled_at(self.dispatcher, self.signature(dtype))
        return found


@contextmanager
def _collect_later() -> Iterator[None]:
    """No garbage collection within: a compiler leaves little garbage, and looking for it takes a tenth of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _resolve(identity: int, slot: int) -> None:
    """Write the address of the kernel so named to `slot`: asked for by compiled code, once per call site's module.

    Nothing can be raised through machine code: a slot that stays 0 makes the caller fail.
    """
    kernel, dtype = _KERNELS[identity]
    ctypes.c_int64.from_address(slot).value = kernel.address(dtype)


if not INTERPRETED:
    native.begin(_resolve)


def target(builder: ir.IRBuilder, context: Any, identity: int) -> ir.Value:
    """The address of a kernel, kept in a variable of the calling module."""
    module, name = builder.module, f"fastmlp_kernel_{identity:x}"
    slot = module.globals.get(name)
    if slot is None:
        slot = ir.GlobalVariable(module, WORD, name)
        slot.linkage, slot.initializer = "internal", WORD(0)
    resolve = module.globals.get("fastmlp_resolve")
    if resolve is None:
        resolve = ir.Function(module, ir.FunctionType(ir.VoidType(), [WORD, WORD]), "fastmlp_resolve")
    known = builder.load(slot)
    before = builder.block
    with builder.if_then(builder.icmp_signed("==", known, WORD(0)), likely=False):
        builder.call(resolve, [WORD(identity), builder.ptrtoint(slot, WORD)])
        fresh = builder.load(slot)
        with builder.if_then(builder.icmp_signed("==", fresh, WORD(0)), likely=False):
            context.call_conv.return_user_exc(builder, RuntimeError, ("fastmlp: a kernel could not be compiled",))
        after = builder.block
    target = builder.phi(WORD)
    target.add_incoming(known, before)
    target.add_incoming(fresh, after)
    return target


def call_at(context: Any, builder: ir.IRBuilder, place: ir.Value, sig: Any, values: Sequence[ir.Value]) -> ir.Value:
    """The result of the kernel of this signature at an address; its error is the caller's."""
    shape = context.call_conv.get_function_type(sig.return_type, sig.args)
    callee = builder.inttoptr(place, ir.PointerType(shape))
    status, result = context.call_conv.call_function(builder, callee, sig.return_type, sig.args, values)
    with builder.if_then(status.is_error, likely=False):
        context.call_conv.return_status_propagate(builder, status)
    return result


def by_name(names: Sequence[str], function: Callable[..., Any], define: Callable[..., Any]) -> Any:
    """An intrinsic of arguments so named, with a function's name and text."""
    context = inspect.Parameter("typingctx", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    own = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    define.__signature__ = inspect.Signature([context, *own])  # type: ignore[attr-defined]
    define.__name__ = function.__name__
    define.__doc__ = function.__doc__
    return intrinsic(define)


def _callable(kernel: Kernel) -> Any:
    """The kernel as an object that compiled code can call by its Python name."""

    def define(typingctx: Any, *args: Any) -> Any:
        dtype = kernel.dtype(args)
        if dtype is None:
            return None
        sig = kernel.signature(dtype)

        def codegen(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> ir.Value:
            return call_at(context, builder, target(builder, context, kernel.identity(dtype)), sig, values)

        return sig, codegen

    made = by_name(kernel.names, kernel.function, define)
    made.kernel = kernel
    return made


def kernel(function: F) -> F:
    """Make a function a kernel, compiled when it first runs: nobody waits for code that no network uses."""
    if INTERPRETED:
        return quiet(function)
    made = Kernel(function)
    for dtype in (types.float32, types.float64):
        if _KERNELS.setdefault(made.identity(dtype), (made, dtype))[0] is not made:
            raise ValueError(f"a second kernel is called {function.__module__}.{function.__qualname__}")
    return _callable(made)
