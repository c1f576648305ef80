"""Activations and losses that users write: the loops around their functions are compiled and called by address.

Their code is the address of a table of the loops' addresses. What a user's function raises ends the call of the kernels, as any
kernel's error does, and Python's call raises it.
"""

from __future__ import annotations

import linecache
import os
import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from inspect import CO_VARARGS
from itertools import pairwise
from pathlib import Path
from types import FunctionType
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.typing.templates import signature

from fastmlp.kernels.machine import interpreted, native
from fastmlp.kernels.machine.interpreted import INTERPRETED, intrinsic, quiet
from fastmlp.kernels.machine.jit import POLICY, call_at, compiled_at
from fastmlp.kernels.machine.pointer import WORD, PointerType, as_array, as_readonly

CUSTOM = 1 << 16  # codes from here on are addresses

TARGETS: dict[int, int] = {}  # of losses of rows, by their codes: the numbers in a row of y
_ALIVE: list[Any] = []  # for as long as a plan may hold their addresses: the process's life

# In Numba's messages: where something is, the innermost first; and what a message of no match ends with.
_PLACE = re.compile(r"(?:at|from) (\S.*?) \((\d+)\)$", re.MULTILINE)
_NO_MATCH = "found for signature:"
_OTHERS = tuple(folder + os.sep for folder in (*numba.__path__, *np.__path__, str(Path(__file__).parents[2])))  # not users'

Functions = list[tuple[str, Any, tuple[Any, ...]]]  # each with its name and its arguments' types


def _call(context: Any, builder: ir.IRBuilder, place: int, sig: Any, args: Any) -> ir.Value:
    """Call the function whose address lies at args[0][place]."""
    table = builder.inttoptr(args[0], ir.PointerType(WORD))
    function = builder.load(builder.gep(table, [WORD(place)]))
    return call_at(context, builder, function, signature(sig.return_type, *sig.args[1:]), args[1:])


@intrinsic(prefer_literal=True)
def call_elementwise(typingctx: Any, code: Any, place: Any, source: Any, to: Any, count: Any) -> Any:
    """The function at a place (a literal) of the table over `count` numbers."""
    which = place.literal_value

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        shorter = signature(types.none, types.intp, *sig.args[2:])
        return _call(context, builder, which, shorter, [args[0], *args[2:]])

    return types.none(types.intp, place, source, to, types.intp), codegen


@intrinsic
def call_loss(typingctx: Any, code: Any, p: Any, y: Any, d: Any, rows: Any, columns: Any, scale: Any) -> Any:
    """The sum of a loss over `rows` rows of `columns` outputs, with its gradient times `scale` in d."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return _call(context, builder, 0, sig, args)

    return types.float64(types.intp, p, y, d, types.intp, types.intp, types.float64), codegen


def _compiled(name: str, function: Callable[..., Any]) -> Any:
    """A Python function as one that compiled code can call; such as `math.exp` it knows."""
    if not callable(function):
        raise TypeError(f"{name} must be a function, got {function!r}")
    # Without Numba's `error_model` a division would have to be ready to raise, and no loop around it would be vectorised.
    if not isinstance(function, FunctionType) or INTERPRETED:
        return function
    return njit(error_model="numpy", forceinline=True)(function)


def _reason(error: Exception) -> str:
    """What is wrong, of Numba's message."""
    lines = [re.sub(r"\.? ?Raised from .*", "", line.strip()) for line in str(error).splitlines()]
    lines = [line for line in lines if line and not line.startswith("Failed in nopython mode")] or [type(error).__name__]
    if not lines[0].endswith(_NO_MATCH):
        return lines[0]
    return next((line for before, line in pairwise(lines) if before.endswith("a specific error:")), " ".join(lines[:2]))


def _where(error: Exception, function: Any) -> str:
    """The line of the user's source that a message is about, else the function's first one."""
    places = [(file, int(line)) for file, line in _PLACE.findall(str(error))]
    loc, code = getattr(error, "loc", None), getattr(function, "__code__", None)
    places += [(loc.filename, loc.line)] if loc else []
    places += [(code.co_filename, code.co_firstlineno)] if code else []
    file, line = next((place for place in places if not place[0].startswith(_OTHERS)), ("", 0))
    if not file:
        return ""
    text = linecache.getline(file, line).strip()
    return f" ({file}:{line}{': ' if text else ''}{text})"


def _alone(function: Any, count: int) -> Any:
    """What compiles a function by itself: its own dispatcher, whose errors say most, if it takes `count` arguments."""
    code = getattr(getattr(function, "py_func", None), "__code__", None)
    if code and code.co_argcount == count and not code.co_flags & CO_VARARGS and getattr(function, "_can_compile", False):
        return function

    def of_one(a: Any) -> Any:
        return function(a)

    def of_two(a: Any, b: Any) -> Any:
        return function(a, b)

    def of_three(a: Any, b: Any, c: Any) -> Any:
        return function(a, b, c)

    return njit((of_one, of_two, of_three)[count - 1])


def _refuse(functions: Functions) -> None:
    """Raise for the first of the functions that Numba cannot compile, or that returns no number."""
    for name, function, kinds in functions:
        plain = getattr(function, "py_func", function)
        what = "arrays p, t and d" if name == "function" else "a number" if len(kinds) == 1 else "two numbers"
        wanted = f"{name} must be a function of {what} to a number that Numba can compile, got {plain!r}"
        dispatcher = _alone(function, len(kinds))
        try:
            native.apart(partial(dispatcher.compile, kinds))
        except Exception as error:
            reason = _reason(error)
            if name == "function":
                with suppress(Exception):
                    native.apart(partial(_alone(function, 3).compile, kinds[2:] * 3))
                    reason = "it writes to p or t, or takes them as arrays that may be written to; they are read-only"
            raise TypeError(f"{wanted}: {reason}{_where(error, plain)}") from None
        found = types.unliteral(dispatcher.overloads[kinds].signature.return_type)
        if not isinstance(found, types.Integer | types.Float | types.Boolean):
            raise TypeError(f"{wanted}: it returns {found}{_where(TypeError(), plain)}") from None


def _table(functions: Functions, loops: list[tuple[Callable[..., Any], Any]]) -> int:
    """The code of loops of such signatures, which call the users' functions."""
    if INTERPRETED:
        code = CUSTOM + len(interpreted.CUSTOM)
        interpreted.CUSTOM[code] = [loop for loop, _ in loops]
        return code

    def compile_all() -> list[tuple[Any, int]]:
        made = [(njit(**POLICY, no_cpython_wrapper=True)(loop), sig) for loop, sig in loops]
        for dispatcher, sig in made:
            dispatcher.compile(sig)  # with the result's type, which the functions' own must not change
        return [(dispatcher, compiled_at(dispatcher, sig)) for dispatcher, sig in made]

    try:
        made = native.apart(compile_all)
    except Exception:
        _refuse(functions)  # to find out which it is takes time
        raise
    table = np.array([address for _, address in made], np.int64)
    _ALIVE.append((made, table))
    return int(table.ctypes.data)


def _number(dtype: np.dtype) -> Any:
    return types.float32 if dtype == np.float32 else types.float64


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

    number = _number(dtype)
    pointer = PointerType(number)
    sig = types.void(pointer, pointer, types.intp)
    return _table([("value", f, (number,)), ("derivative", slope, (number,))], [(forward, sig), (backward, sig)])


def _loss_of(number: Any) -> Any:
    """The signature of a loss's loop."""
    pointer = PointerType(number)
    return types.float64(pointer, pointer, pointer, types.intp, types.intp, types.float64)


@cache
def compile_loss(value: Callable[..., Any], derivative: Callable[..., Any], dtype: np.dtype) -> int:
    """The code of a loss value(p, y) with dloss/dp = derivative(p, y)."""
    f, slope = _compiled("value", value), _compiled("derivative", derivative)

    def loss(p: Any, y: Any, d: Any, rows: int, columns: int, scale: float) -> float:
        total = 0.0
        for i in range(rows * columns):
            total += f(p[i], y[i])
            d[i] = slope(p[i], y[i]) * scale
        return total

    number = _number(dtype)
    return _table([("value", f, (number, number)), ("derivative", slope, (number, number))], [(loss, _loss_of(number))])


@cache
def compile_row_loss(function: Callable[..., Any], targets: int, dtype: np.dtype) -> int:
    """The code of a loss function(p, t, d) of a row's outputs p and `targets` targets t, which writes dloss/dp to d."""
    f, to_dtype = _compiled("function", function), dtype.type

    def loss(p: Any, y: Any, d: Any, rows: int, columns: int, scale: float) -> float:
        total = 0.0
        factor = to_dtype(scale)
        for i in range(rows):
            slopes = as_array(d + i * columns, columns)
            total += f(as_readonly(p + i * columns, columns), as_readonly(y + i * targets, targets), slopes)
            for j in range(columns):
                slopes[j] *= factor
        return total

    number = _number(dtype)
    code = _table([("function", f, _row(number))], [(loss, _loss_of(number))])
    TARGETS[code] = targets
    return code


def _row(number: Any) -> tuple[Any, ...]:
    """The types of a row loss's arguments."""
    given = types.Array(number, 1, "C", readonly=True)
    return given, given, types.Array(number, 1, "C")


@cache
def checked_row_loss(function: Callable[..., Any]) -> Callable[..., Any]:
    """A row loss's function for calls from Python, in float64; compiled with a check of each index."""
    if INTERPRETED:
        return quiet(function)
    options = {**getattr(function, "targetoptions", {"error_model": "numpy"}), "boundscheck": True}
    made = numba.jit(**options)(getattr(function, "py_func", function))
    native.apart(lambda: made.compile(_row(types.float64)))
    return made


@cache
def by_numbers(value: Callable[..., Any], derivative: Callable[..., Any]) -> Callable[..., Any]:
    """A loss of single numbers as one of a row: their sum."""
    f, slope = _compiled("value", value), _compiled("derivative", derivative)

    def total(p: Any, t: Any, d: Any) -> float:
        result = 0.0
        for j in range(p.size):
            d[j] = slope(p[j], t[j])
            result += f(p[j], t[j])
        return result

    return total
