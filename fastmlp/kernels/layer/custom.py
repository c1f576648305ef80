"""Activations and losses that users write, as scalar functions: their loops are compiled and called by address.

Their code is the address of a table of its functions' addresses.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cfunc, njit, types
from numba.core.errors import NumbaError

from fastmlp.kernels.machine import interpreted, native
from fastmlp.kernels.machine.interpreted import INTERPRETED, intrinsic
from fastmlp.kernels.machine.pointer import CHECKED, WORD, PointerType, address, element

CUSTOM = 1 << 16  # codes from here on are addresses

_ALIVE: list[Any] = []  # for as long as a plan may hold their addresses: the process's life


def _call(builder: ir.IRBuilder, code: ir.Value, place: int, result: ir.Type, args: list[ir.Value]) -> ir.Value:
    """Call the function whose address lies at table[place]."""
    table = builder.inttoptr(code, ir.PointerType(WORD))
    function = builder.load(builder.gep(table, [WORD(place)]))
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(builder.inttoptr(function, ir.PointerType(kind)), args)


def _places(context: Any, builder: ir.IRBuilder, sig: Any, args: Any, count: ir.Value) -> list[ir.Value]:
    """The machine addresses of the arguments that are pointers to `count` elements."""
    kinds = [(kind, value) for kind, value in zip(sig.args, args, strict=True) if isinstance(kind, PointerType)]
    return [address(context, builder, kind, value, count if CHECKED else None) for kind, value in kinds]


@intrinsic(prefer_literal=True)
def call_elementwise(typingctx: Any, code: Any, place: Any, source: Any, to: Any, count: Any) -> Any:
    """The function at a place (a literal) of the table over `count` numbers."""
    which = place.literal_value

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        places = _places(context, builder, sig, args, args[4])
        _call(builder, args[0], which, ir.VoidType(), [*places, args[4]])
        return context.get_dummy_value()

    return types.none(types.intp, place, source, to, types.intp), codegen


@intrinsic
def call_loss(typingctx: Any, code: Any, p: Any, y: Any, d: Any, count: Any, scale: Any) -> Any:
    """The sum of a loss over `count` numbers, with its gradient times `scale` in d."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        places = _places(context, builder, sig, args, args[4])
        return _call(builder, args[0], 0, element(types.float64), [*places, args[4], args[5]])

    return types.float64(types.intp, p, y, d, types.intp, types.float64), codegen


def _compiled(name: str, function: Callable[..., Any]) -> Any:
    """A Python function as one that compiled code can call; such as `math.exp` it knows."""
    if not callable(function):
        raise TypeError(f"{name} must be a function, got {function!r}")
    # Without Numba's `error_model` a division would have to be ready to raise, and no loop around it would be vectorised.
    return njit(error_model="numpy")(function) if isinstance(function, FunctionType) and not INTERPRETED else function


def _reason(error: Exception) -> str:
    """The line of Numba's message that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line and not line.startswith("Failed in nopython mode")), type(error).__name__)


def _scalar(name: str, function: Any, number: Any, count: int) -> None:
    """Raise unless Numba can compile this function of `count` numbers to a number."""

    def of_one(a: Any) -> Any:
        return function(a)

    def of_two(a: Any, b: Any) -> Any:
        return function(a, b)

    try:
        native.apart(lambda: cfunc(number(*[number] * count))(of_one if count == 1 else of_two))
    except NumbaError as error:
        wanted = f"a function of {'a number' if count == 1 else 'two numbers'} to a number that Numba can compile"
        raise TypeError(f"{name} must be {wanted}, got {function!r}: {_reason(error)}") from error


def _table(value: Any, derivative: Any, number: Any, count: int, functions: list[tuple[Callable[..., Any], Any]]) -> int:
    """The code for functions of such signatures, which call `value` and `derivative` of `count` numbers."""
    if INTERPRETED:
        code = CUSTOM + len(interpreted.CUSTOM)
        interpreted.CUSTOM[code] = [function for function, _ in functions]
        return code
    try:
        made = native.apart(lambda: [cfunc(sig, error_model="numpy")(function) for function, sig in functions])
    except NumbaError:
        for name, function in (("value", value), ("derivative", derivative)):  # to find out which it is takes time
            _scalar(name, function, number, count)
        raise
    table = np.array([function.address for function in made], np.int64)
    _ALIVE.append((made, table))
    return int(table.ctypes.data)


@cache
def compile_activation(value: Callable[..., Any], derivative: Callable[..., Any], dtype: np.dtype) -> int:
    """The code of an activation a = value(z) with da/dz = derivative(z)."""
    f, slope = _compiled("value", value), _compiled("derivative", derivative)

    def forward(z: Any, out: Any, count: int) -> None:
        for i in range(count):
            out[i] = f(z[i])

    def backward(z: Any, d: Any, count: int) -> None:
        for i in range(count):
            d[i] *= slope(z[i])

    number = types.float32 if dtype == np.float32 else types.float64
    numbers = types.CPointer(number)
    sig = types.void(numbers, numbers, types.intp)
    return _table(f, slope, number, 1, [(forward, sig), (backward, sig)])


@cache
def compile_loss(value: Callable[..., Any], derivative: Callable[..., Any], dtype: np.dtype) -> int:
    """The code of a loss value(p, y) with dloss/dp = derivative(p, y)."""
    f, slope = _compiled("value", value), _compiled("derivative", derivative)

    def loss(p: Any, y: Any, d: Any, count: int, scale: float) -> float:
        total = 0.0
        for i in range(count):
            total += f(p[i], y[i])
            d[i] = slope(p[i], y[i]) * scale
        return total

    number = types.float32 if dtype == np.float32 else types.float64
    numbers = types.CPointer(number)
    return _table(f, slope, number, 2, [(loss, types.float64(numbers, numbers, numbers, types.intp, types.float64))])
