"""Activations and losses that users write, as scalar functions: their loops are compiled and called by address.

Such a one's code is the address of a table of its functions' addresses.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cfunc, njit, types

from fastmlp.kernels import interpreted
from fastmlp.kernels.interpreted import INTERPRETED, intrinsic
from fastmlp.kernels.pointer import CHECKED, WORD, PointerType, address, element

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


def _compiled(function: Callable[..., Any]) -> Any:
    """A Python function as one that compiled code can call; such as `math.exp` it knows."""
    return njit(function) if isinstance(function, FunctionType) and not INTERPRETED else function


def _table(functions: list[tuple[Callable[..., Any], Any]]) -> int:
    """The code for functions of such signatures."""
    if INTERPRETED:
        code = CUSTOM + len(interpreted.CUSTOM)
        interpreted.CUSTOM[code] = [function for function, _ in functions]
        return code
    made = [cfunc(sig, error_model="numpy")(function) for function, sig in functions]
    table = np.array([function.address for function in made], np.int64)
    _ALIVE.append((made, table))
    return int(table.ctypes.data)


@cache
def compile_activation(value: Callable[..., Any], derivative: Callable[..., Any], dtype: np.dtype) -> int:
    """The code of an activation a = value(z) with da/dz = derivative(z)."""
    f, slope = _compiled(value), _compiled(derivative)

    def forward(z: Any, out: Any, count: int) -> None:
        for i in range(count):
            out[i] = f(z[i])

    def backward(z: Any, d: Any, count: int) -> None:
        for i in range(count):
            d[i] *= slope(z[i])

    numbers = types.CPointer(types.float32 if dtype == np.float32 else types.float64)
    sig = types.void(numbers, numbers, types.intp)
    return _table([(forward, sig), (backward, sig)])


@cache
def compile_loss(value: Callable[..., Any], derivative: Callable[..., Any], dtype: np.dtype) -> int:
    """The code of a loss value(p, y) with dloss/dp = derivative(p, y)."""
    f, slope = _compiled(value), _compiled(derivative)

    def loss(p: Any, y: Any, d: Any, count: int, scale: float) -> float:
        total = 0.0
        for i in range(count):
            total += f(p[i], y[i])
            d[i] = slope(p[i], y[i]) * scale
        return total

    numbers = types.CPointer(types.float32 if dtype == np.float32 else types.float64)
    return _table([(loss, types.float64(numbers, numbers, numbers, types.intp, types.float64))])
