from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from numba.core.errors import TypingError
from numpy.testing import assert_array_equal

from fastmlp.kernels.machine.interpreted import INTERPRETED, quiet
from fastmlp.kernels.machine.jit import inlined
from fastmlp.kernels.machine.pointer import pointer
from fastmlp.kernels.machine.target import FMA
from fastmlp.kernels.tiles.arithmetic import (
    copysign,
    exponent,
    fabs,
    first_columns,
    fma,
    horner,
    maximum,
    minimum,
    rint,
    scale,
    where,
)
from fastmlp.kernels.tiles.tile import lanes, load, store

pytestmark = pytest.mark.small

Array = np.ndarray[Any, Any]

# Each against itself shows every pairing of signs, zeros, infinities and NaN.
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -3.5, 1e-40, -1e-40, 3e38, -3e38, np.inf, -np.inf, np.nan]


@inlined
def _lanes(x: Any) -> int:
    return lanes(pointer(x))


def _pairs(dtype: Any) -> tuple[Array, Array]:
    a, b = np.meshgrid(np.array(SPECIAL, dtype), np.array(SPECIAL, dtype))
    return a.ravel(), b.ravel()


def _assert_same(got: Array, want: Array) -> None:
    """Equal, NaN and the signs of zeros included."""
    assert got.dtype == want.dtype
    assert_array_equal(got, want)
    numbers = ~np.isnan(want)
    assert_array_equal(np.signbit(got[numbers]), np.signbit(want[numbers]))


@lru_cache
def _binary(operation: Callable[[Any, Any], Any]) -> Any:
    compiled = inlined(operation)

    @inlined
    def run(a: Any, b: Any, out: Any) -> None:
        for i in range(0, a.size, lanes(pointer(a))):
            left = a.size - i
            x = load(pointer(a) + i, 0, 1, 1, left)
            y = load(pointer(b) + i, 0, 1, 1, left)
            store(compiled(x, y), pointer(out) + i, 0, left)

    return run


def _number_left(x: Any, y: Any) -> Any:
    return 2 + x * 0.5 - 1.0 / y


def _number_right(x: Any, y: Any) -> Any:
    return (x + 1) / 3.0 * y - 0.1


ELEMENTWISE: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "add": (lambda x, y: x + y, np.add),
    "subtract": (lambda x, y: x - y, np.subtract),
    "multiply": (lambda x, y: x * y, np.multiply),
    "divide": (lambda x, y: x / y, np.divide),
    "number left": (_number_left, _number_left),
    "number right": (_number_right, _number_right),
    "fabs": (lambda x, y: fabs(x), lambda x, y: np.abs(x)),
    "rint": (lambda x, y: rint(x), lambda x, y: np.rint(x)),
    "copysign": (lambda x, y: copysign(x, y), np.copysign),
    "less": (lambda x, y: where(x < y, x, y), lambda x, y: np.where(x < y, x, y)),
    "less equal": (lambda x, y: where(x <= y, 1.0, y), lambda x, y: np.where(x <= y, x.dtype.type(1), y)),
    "greater": (lambda x, y: where(x > y, x, 0), lambda x, y: np.where(x > y, x, x.dtype.type(0))),
    "greater equal": (lambda x, y: where(x >= y, 1.0, -2.0), lambda x, y: np.where(x >= y, 1, -2).astype(x.dtype)),
    "less than one": (lambda x, y: where(x < 1, x, y), lambda x, y: np.where(x < 1, x, y)),
    "maximum": (lambda x, y: maximum(x, y), lambda x, y: np.where(y > x, y, x)),
    "minimum": (lambda x, y: minimum(x, y), lambda x, y: np.where(y < x, y, x)),
    "relu": (lambda x, y: maximum(x, 0.0), lambda x, y: np.where(x < 0, x.dtype.type(0), x)),
}


@pytest.mark.parametrize(("operation", "expected"), ELEMENTWISE.values(), ids=list(ELEMENTWISE))
def test_elementwise(operation: Callable[..., Any], expected: Callable[..., Any], dtype: Any) -> None:
    a, b = _pairs(dtype)
    out = np.empty_like(a)
    _binary(operation)(a, b, out)
    _assert_same(out, quiet(expected)(a, b))


@inlined
def _fma(a: Any, b: Any, c: Any, out: Any) -> None:
    for i in range(0, a.size, lanes(pointer(a))):
        left = a.size - i
        x, y = load(pointer(a) + i, 0, 1, 1, left), load(pointer(b) + i, 0, 1, 1, left)
        store(fma(x, y, load(pointer(c) + i, 0, 1, 1, left)), pointer(out) + i, 0, left)


def test_fma_rounds_once_or_twice(dtype: Any, rng: np.random.Generator) -> None:
    info = np.finfo(dtype)
    a, b, c = (rng.standard_normal(1000).astype(dtype) for _ in range(3))
    c[:500] = -(a[:500] * b[:500])  # what is left is the product's rounding error
    out = np.empty_like(a)
    _fma(a, b, c, out)
    wide = np.float64 if dtype == np.float32 else np.longdouble
    want = a.astype(wide) * b + c
    product = np.zeros_like(a) if FMA or INTERPRETED else np.abs(a * b)
    slack = np.finfo(wide).eps * np.abs(a * b)  # the product itself does not fit the wide type in float64
    assert (np.abs(out - want) <= np.spacing(np.abs(out)) * 0.5 + product * info.eps * 0.5 + slack).all()


def test_fma_keeps_what_the_product_loses(dtype: Any) -> None:
    half = 12 if dtype == np.float32 else 30
    x = np.array([1 + 2.0**-half], dtype)
    out = np.empty_like(x)
    _fma(x, x, -(x * x), out)
    exact = FMA or (INTERPRETED and (dtype == np.float32 or np.finfo(np.longdouble).nmant >= 60))
    assert out[0] == (2.0 ** (-2 * half) if exact else 0)


@lru_cache
def _count_columns(rows: int, vectors: int) -> Any:
    @inlined
    def run(x: Any, count: int, out: Any, stride: int) -> None:
        tile = load(pointer(x), 0, rows, vectors, None)
        store(where(first_columns(tile, count), tile, -1.0), pointer(out), stride, None)

    return run


@pytest.mark.parametrize(("rows", "vectors"), [(1, 1), (3, 2)])
def test_first_columns(rows: int, vectors: int, dtype: Any) -> None:
    width = vectors * _lanes(np.empty(1, dtype))
    x = np.arange(width).astype(dtype)
    for count in (-1, 0, 1, width // vectors, width // vectors + 1, width, width + 1, 2**31 - 1):
        out = np.zeros((rows, width), dtype)
        _count_columns(rows, vectors)(x, count, out, width)
        assert_array_equal(out, np.broadcast_to(np.where(x < count, x, -1), out.shape))


def test_scale_by_powers_of_two(dtype: Any) -> None:
    info = np.finfo(dtype)
    run = _binary(lambda x, n: scale(x, n))
    powers = np.arange(2 * info.minexp + 2, 2 * info.maxexp - 2).astype(dtype)
    for number in (1.0, -1.7, info.tiny, info.max, np.inf, np.nan, 0.0):
        x = np.full_like(powers, number)
        out = np.empty_like(x)
        run(x, powers, out)
        _assert_same(out, quiet(np.ldexp)(x, powers.astype(np.int32)))


def test_exponent_is_that_of_the_nearest_power(dtype: Any) -> None:
    info = np.finfo(dtype)
    run = _binary(lambda x, y: exponent(x))
    root = np.sqrt(dtype.type(0.5))
    powers = np.arange(info.minexp + 1, info.maxexp)
    for factor, less in ((1, 0), (root, 0), (np.nextafter(root, dtype.type(0)), 1), (dtype.type(1.4142), 0)):
        x = np.ldexp(dtype.type(factor), powers).astype(dtype)
        out = np.empty_like(x)
        run(x, x, out)
        assert_array_equal(out, powers - less)


def _polynomial(x: Any, y: Any) -> Any:
    return horner(x, (2.0, 0.5, -1.0), (-3.0, 0.25, 4.0, 1.0, 0.1))


def _long_polynomial(x: Any, y: Any) -> Any:
    coefficients = (1.0, -2.0, 3.0, 4.0, -5.0, 6.0, 7.0, -8.0)
    return horner(x, coefficients, coefficients)


def _constant(x: Any, y: Any) -> Any:
    return horner(x, (0.1,), (0.2,))


@pytest.mark.parametrize(
    ("operation", "single", "double"),
    [
        (_polynomial, (2.0, 0.5, -1.0), (-3.0, 0.25, 4.0, 1.0, 0.1)),
        (_long_polynomial, (1.0, -2.0, 3.0, 4.0, -5.0, 6.0, 7.0, -8.0), (1.0, -2.0, 3.0, 4.0, -5.0, 6.0, 7.0, -8.0)),
        (_constant, (0.1,), (0.2,)),
    ],
    ids=["short", "long", "constant"],
)
def test_horner(operation: Any, single: Any, double: Any, dtype: Any, rng: np.random.Generator) -> None:
    x = rng.uniform(-2, 2, 500).astype(dtype)
    out = np.empty_like(x)
    _binary(operation)(x, x, out)
    wanted = single if dtype == np.float32 else double
    want = np.polyval(wanted, x.astype(np.float64))
    terms = np.polyval(np.abs(wanted), np.abs(x))
    assert (np.abs(out - want) <= (len(wanted) + 1) * np.finfo(dtype).eps * terms).all()


@inlined
def _mixed(x: Any, y: Any) -> None:
    store(load(pointer(x), 0, 1, 1, None) + load(pointer(y), 0, 1, 1, None), pointer(x), 0, None)


@pytest.mark.skipif(INTERPRETED, reason="a check of the compiler's")
def test_tiles_of_two_dtypes_do_not_mix() -> None:
    with pytest.raises(TypingError):
        _mixed(np.zeros(64), np.zeros(64, np.float32))
