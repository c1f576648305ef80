"""What the intrinsics mean, in NumPy: with ``NUMBA_DISABLE_JIT=1`` the kernels run as plain Python on these.

For stepping through a kernel with a debugger, and for coverage. Every access is checked against its array's bounds.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numba import extending
from numba.core import config

if TYPE_CHECKING:
    from numpy.typing import NDArray  # takes 9 ms to import

INTERPRETED = bool(config.DISABLE_JIT)
VECTOR_BYTES = 64  # any size would do: only the order of a sum across lanes depends on it

Array: TypeAlias = "NDArray[Any]"


def intrinsic(*define: Callable[..., Any], **options: Any) -> Any:
    """Numba's `intrinsic`; with the JIT off, this file's function of the same name."""
    if not INTERPRETED:
        return extending.intrinsic(*define, **options)
    return globals()[define[0].__name__] if define else intrinsic


def quiet(function: Any) -> Any:
    """The function without NumPy's warnings: compiled code overflows in silence."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)

    return run


# ---- pointers --------------------------------------------------------------------------------------------------------


def _number(value: Any) -> Any:
    """A float32 as float64, which is what compiled code makes of it wherever it meets another number."""
    return np.float64(value) if isinstance(value, np.float32) else value


class Pointer:
    """A place in a flat array, and the bounds of what may be reached from there."""

    __slots__ = ("array", "at", "first", "last")

    def __init__(self, array: Array, at: int, first: int, last: int) -> None:
        self.array, self.at, self.first, self.last = array, int(at), int(first), int(last)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def __add__(self, count: int) -> Pointer:
        return Pointer(self.array, self.at + count, self.first, self.last)

    def __getitem__(self, i: int) -> Any:
        return _number(self.array[(self + i).span(1)][0])

    def __setitem__(self, i: int, value: Any) -> None:
        self.array[(self + i).span(1)] = value

    def span(self, count: int) -> slice:
        """The next `count` elements' places."""
        if count > 0 and (self.at < self.first or self.at + count > self.last):
            raise IndexError("a kernel left its array")
        return slice(self.at, self.at + max(count, 0))


def pointer(array: Array) -> Pointer:
    if not array.flags.c_contiguous:
        raise ValueError("a kernel needs a C-contiguous array")
    flat = array.ravel()
    return Pointer(flat, 0, 0, flat.size)


written = pointer


def local(like: Pointer, size: int) -> Pointer:
    return pointer(np.empty(size // like.dtype.itemsize, like.dtype))


def nothing(like: Pointer) -> Pointer:
    return Pointer(like.array, 0, 0, 0)


def part(base: Pointer, start: int, count: int) -> Pointer:
    moved = base + start
    moved.span(count)
    return Pointer(base.array, moved.at, moved.at, moved.at + count)


def borrow(like: Pointer, count: int) -> Pointer:
    return pointer(np.empty(count, like.dtype))


def give_back(base: Pointer) -> None:
    pass


def place_of(base: Pointer) -> int:
    return int(base.array.ctypes.data) + base.at * base.dtype.itemsize


def numbers_at(like: Pointer, place: int, count: int) -> Pointer:
    kind = ctypes.c_float if like.dtype == np.float32 else ctypes.c_double
    return pointer(np.frombuffer(memoryview((kind * int(count)).from_address(int(place))), like.dtype))


def words_at(place: int, count: int) -> Pointer:
    return pointer(np.frombuffer(memoryview((ctypes.c_int64 * int(count)).from_address(int(place))), np.int64))


def as_array(base: Pointer, count: int) -> Array:
    return base.array[base.span(count)]


def as_readonly(base: Pointer, count: int) -> Array:
    found = as_array(base, count)
    found.flags.writeable = False
    return found


class Record:
    """Numbers with names: those from a place on."""

    __slots__ = ("_base", "_names")

    def __init__(self, base: Pointer, names: dict[str, int]) -> None:
        object.__setattr__(self, "_base", base)
        object.__setattr__(self, "_names", names)

    def __getattr__(self, name: str) -> Any:
        return self._base[self._names[name]]

    def __setattr__(self, name: str, value: Any) -> None:
        self._base[self._names[name]] = value

    def __add__(self, count: int) -> Record:
        return Record(self._base + count * len(self._names), self._names)


# ---- tiles -----------------------------------------------------------------------------------------------------------


class Tile(np.ndarray[Any, Any]):
    """A (rows, columns) array that computes in its own dtype, and takes other numbers to it, as a compiled tile does.

    A mask is a tile of ones and zeros.
    """

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        kwargs.pop("out", None)  # tiles are values: `a += b` makes a new one
        return _on_tiles(getattr(ufunc, method))(*inputs, **kwargs)


def _on_tiles(function: Callable[..., Any]) -> Callable[..., Any]:
    """An operation of tiles and numbers, at least one a tile, from one of arrays."""

    def operation(*args: Any, **kwargs: Any) -> Any:
        dtype = next(a.dtype for a in args if isinstance(a, Tile))
        return function(*(np.asarray(a, dtype) for a in args), **kwargs).astype(dtype).view(Tile)

    return operation


def lanes(base: Any) -> int:
    return VECTOR_BYTES // base.dtype.itemsize


def _load(base: Pointer, stride: int, rows: int, width: int, columns: int | None) -> Tile:
    count = width if columns is None else min(columns, width)
    tile = np.zeros((rows, width), base.dtype)
    for r in range(rows):
        tile[r, : max(count, 0)] = base.array[(base + r * stride).span(count)]
    return tile.view(Tile)


def load(base: Pointer, stride: int, rows: int, vectors: int, columns: int | None) -> Tile:
    return _load(base, stride, rows, vectors * lanes(base), columns)


def load_square(base: Pointer, stride: int, columns: int | None) -> Tile:
    return _load(base, stride, lanes(base), lanes(base), columns)


def broadcast_rows(base: Pointer, rows: int, vectors: int, columns: int | None) -> Tile:
    return load(base, 0, rows, vectors, columns)


def splat(like: Any, value: float, rows: int, vectors: int) -> Tile:
    return np.full((rows, vectors * lanes(like)), value, like.dtype).view(Tile)


def store(tile: Tile, base: Pointer, stride: int, columns: int | None) -> None:
    count = tile.shape[1] if columns is None else min(columns, tile.shape[1])
    for r in range(tile.shape[0]):
        base.array[(base + r * stride).span(count)] = tile[r, : max(count, 0)]


def row_groups(base: Pointer, stride: int, rows: int) -> tuple[Pointer, ...]:
    height = 3 if rows % 3 == 0 else min(rows, 2)
    return tuple(base + r * stride for r in range(0, rows, height))


def advance(groups: tuple[Pointer, ...], count: int) -> tuple[Pointer, ...]:
    return tuple(base + count for base in groups)


def outer_add(tile: Tile, x: Pointer | tuple[Pointer, ...], stride: int, w: Pointer, columns: int | None) -> Tile:
    bases = x if isinstance(x, tuple) else (x,)
    height = tile.shape[0] // len(bases)
    factors = np.array([[base[r * stride]] for base in bases for r in range(height)], tile.dtype)
    return fma(_load(w, 0, 1, tile.shape[1], columns), factors, tile)


# ---- arithmetic ------------------------------------------------------------------------------------------------------


@_on_tiles
def fma(a: Array, b: Array, c: Array) -> Array:
    """Rounded twice all the same, to a wider type first: exact but for rare ties, where there is a wider type."""
    wide = np.float64 if a.dtype == np.float32 else np.longdouble
    return a.astype(wide) * b + c


@_on_tiles
def quotient(a: Array, b: Array) -> Array:
    return np.asarray(a / b)


@_on_tiles
def root(a: Array) -> Array:
    return np.asarray(np.sqrt(a))


def is_single(tile: Tile) -> bool:
    return bool(tile.dtype == np.float32)


@_on_tiles
def maximum(a: Array, b: Array) -> Array:
    return np.where(b > a, b, a)


@_on_tiles
def minimum(a: Array, b: Array) -> Array:
    return np.where(b < a, b, a)


@_on_tiles
def where(mask: Array, a: Array, b: Array) -> Array:
    return np.where(mask != 0, a, b)


fabs, copysign, rint = (_on_tiles(f) for f in (np.fabs, np.copysign, np.rint))


@_on_tiles
def scale(a: Array, n: Array) -> Array:
    return np.ldexp(a, n.astype(np.int32))


@_on_tiles
def exponent(a: Array) -> Array:
    mantissa, exponents = np.frexp(a)
    return exponents - (mantissa < np.sqrt(a.dtype.type(0.5)))


def first_columns(tile: Tile, count: int) -> Tile:
    return np.broadcast_to(np.arange(tile.shape[1]) < count, tile.shape).astype(tile.dtype).view(Tile)


def kept(tile: Tile, key: int, index: int, rate: int) -> Tile:
    words = (index + np.arange(tile.shape[1]) ^ key) & 0xFFFFFFFF
    for added in ((key >> 32) + (index >> 32), None):
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
            words = ((words ^ words >> shift) * factor) & 0xFFFFFFFF
        if added is not None:
            words = (words + added) & 0xFFFFFFFF
    return (words >= rate).astype(tile.dtype)[None, :].view(Tile)


def horner(x: Tile, single: Sequence[float], double: Sequence[float]) -> Tile:
    first, *others = single if x.dtype == np.float32 else double
    value = np.full_like(x, first)
    for number in others:
        value = fma(value, x, number)
    return value


def _tree(parts: Array) -> Array:
    """The sum of the rows, in the order of the compiled code."""
    while len(parts) > 1:
        even = len(parts) // 2 * 2
        parts = np.concatenate([parts[:even:2] + parts[1:even:2], parts[even:]])
    return parts[:1]


def _across(values: Array) -> Array:
    """The sum of the columns, likewise."""
    while values.shape[1] > 1:
        left, right = np.split(values, 2, axis=1)
        values = left + right
    return values


def total(tile: Tile) -> Any:
    return _number(_across(_tree(np.asarray(tile).reshape(-1, lanes(tile))))[0, 0])


def largest(tile: Tile) -> Any:
    return _number(np.asarray(tile).max())


def sum_rows(tile: Tile) -> Tile:
    return _tree(np.asarray(tile)).view(Tile)


def sum_lanes(tile: Tile) -> Tile:
    return _across(np.asarray(tile)).T.view(Tile)


def sum_across(tile: Tile) -> Tile:
    rows = np.asarray(tile).reshape(-1, lanes(tile))
    return np.broadcast_to(_across(rows), rows.shape).reshape(tile.shape).copy().view(Tile)


def repeat(tile: Tile, rows: int) -> Tile:
    return np.repeat(np.asarray(tile), rows, axis=0).view(Tile)


def transposed(tile: Tile) -> Tile:
    return tile.T.copy()


# ---- users' own functions --------------------------------------------------------------------------------------------

CUSTOM: dict[int, list[Callable[..., Any]]] = {}


def call_elementwise(code: int, place: int, source: Pointer, to: Pointer, count: int) -> None:
    CUSTOM[code][place](source, to, count)


def call_loss(code: int, p: Pointer, y: Pointer, d: Pointer, rows: int, columns: int, scale: float) -> Any:
    return CUSTOM[code][0](p, y, d, rows, columns, scale)


# ---- threads: without compiled code there is one ---------------------------------------------------------------------


def atomic_add(base: Pointer, index: int, value: int) -> int:
    before: int = base[index]
    base[index] = before + value
    return before


def atomic_load(base: Pointer, index: int) -> int:
    value: int = base[index]
    return value


def atomic_store(base: Pointer, index: int, value: int) -> None:
    base[index] = value


def pause() -> None:
    pass


def give_way(turn: int) -> None:
    pass
