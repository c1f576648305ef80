from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastmlp.kernels.machine.interpreted import INTERPRETED, quiet
from fastmlp.kernels.machine.jit import inlined
from fastmlp.kernels.machine.pointer import pointer
from fastmlp.kernels.machine.target import FMA
from fastmlp.kernels.tiles import math
from fastmlp.kernels.tiles.tile import lanes, load, store

pytestmark = pytest.mark.small

PI = np.longdouble("3.14159265358979323846264338327950288")
WIDER = {"float32": np.float64, "float64": np.longdouble}


def _normal_density(x: Any) -> Any:
    return np.exp(x * x * x.dtype.type(-0.5)) / np.sqrt(2 * PI).astype(x.dtype)


def _normal_cdf(x: Any) -> Any:
    """A power series near 0 and a continued fraction in the tail (Abramowitz and Stegun 26.2.10 and 26.2.14)."""
    a = np.minimum(np.abs(x), 50)
    near, far = np.minimum(a, 2), np.maximum(a, 2)
    term = series = near
    for n in range(1, 50):
        term = term * near * near / (2 * n + 1)
        series = series + term
    fraction = far
    for n in range(200, 0, -1):
        fraction = far + n / fraction
    tail = np.where(a < 2, 0.5 - _normal_density(near) * series, _normal_density(far) / fraction)
    return np.where(x < 0, tail, 1 - tail)


# The true function, and the ULPs it may be missed by.
FUNCTIONS: dict[str, tuple[Callable[[Any], Any], float]] = {
    "exp": (np.exp, 1.5),
    "exp_negative": (np.exp, 1.5),
    "expm1": (np.expm1, 2.5),
    "log": (np.log, 1.0),
    "log_normal": (np.log, 1.0),
    "log1p": (np.log1p, 1.5),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 2.5),
    "tanh": (np.tanh, 3.0),
    "normal_density": (_normal_density, 3.0),
    "normal_cdf": (_normal_cdf, 8.0),
}
SINGLE = {"tanh": 6.0}  # where float32 is held to another bound: a rational function, a third cheaper


def _mapping(function: Callable[[Any], Any]) -> Callable[[Any, Any], None]:
    """The tile function for arrays."""

    @inlined
    def run(x: Any, out: Any) -> None:
        source = pointer(x)
        target = pointer(out)
        for i in range(0, x.size, lanes(source)):
            store(function(load(source + i, 0, 1, 1, x.size - i)), target + i, 0, x.size - i)

    return run


MAPPINGS = {name: _mapping(getattr(math, name)) for name in FUNCTIONS}


def _apply(name: str, x: Any) -> Any:
    out = np.empty_like(x)
    MAPPINGS[name](x, out)
    return out


@quiet
def _numbers(dtype: Any, rng: np.random.Generator, name: str) -> Any:
    """Numbers of every magnitude, and more where the function bends or switches from one formula to another."""
    count = 2**12 if INTERPRETED else 2**20 if dtype == np.float32 else 2**17
    whole = np.dtype(f"int{8 * dtype.itemsize}")
    info = np.finfo(dtype)
    if name == "log1p":
        return np.concatenate([rng.random(count), 2.0 ** rng.uniform(info.minexp, 0, count), [0, 1]]).astype(dtype)
    patterns = rng.integers(np.iinfo(whole).min, np.iinfo(whole).max, count, whole).view(dtype)
    powers = 2.0 ** np.arange(info.minexp, info.maxexp, 1.0)
    limits = [88.72284, 709.782713, info.max, info.smallest_subnormal, 0]
    edges = np.concatenate([powers, np.arange(0.25, 64, 0.25), limits]).astype(dtype)
    around = np.concatenate([edges, np.nextafter(edges, dtype.type(0)), np.nextafter(edges, dtype.type(np.inf))])
    widths = [rng.uniform(-w, w, count // 4) for w in (2, 6, 40, 120 if dtype == np.float32 else 800)]
    numbers = np.concatenate([patterns, around, -around, np.concatenate(widths).astype(dtype), [np.nan]]).astype(dtype)
    if name == "log_normal":
        return np.clip(np.abs(numbers), info.tiny, info.max)
    return -np.abs(numbers) if name == "exp_negative" else numbers


@quiet
def _ulps(got: Any, want: Any) -> Any:
    """The distance of two arrays in units in the last place of the second; infinity counts as the next number up."""
    info = np.finfo(got.dtype)
    limit = want.dtype.type(2) ** info.maxexp
    assert (np.isnan(got) == np.isnan(want)).all()
    got, want = (np.nan_to_num(v, nan=0, posinf=limit, neginf=-limit) for v in (got.astype(want.dtype), want))
    want = np.clip(want, -limit, limit)
    unit = np.spacing(np.clip(np.abs(want), 0, info.max).astype(info.dtype)).astype(want.dtype)
    return np.abs(got - want) / unit


@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_in_last_place(name: str, dtype: Any, rng: np.random.Generator) -> None:
    if np.finfo(WIDER[dtype.name]).nmant == np.finfo(dtype).nmant:
        pytest.skip("no wider type to compare with")
    function, bound = FUNCTIONS[name]
    if dtype == np.float32:
        bound = SINGLE.get(name, bound)
    x = _numbers(dtype, rng, name)
    error = _ulps(_apply(name, x), quiet(lambda: function(x.astype(WIDER[dtype.name])))())
    if not FMA and not INTERPRETED and name.startswith("normal"):
        error = error - np.nan_to_num(np.minimum(np.abs(x), 50)) ** 2 / 2
    assert error.max() <= bound, x[error.argmax()]


def test_limits_and_zeros(dtype: Any) -> None:
    limits = np.array([-np.inf, -0.0, 0.0, np.inf, np.nan], dtype)
    wanted = {
        "exp": [0, 1, 1, np.inf, np.nan],
        "expm1": [-1, 0, 0, np.inf, np.nan],
        "log": [np.nan, -np.inf, -np.inf, np.inf, np.nan],
        "sigmoid": [0, 0.5, 0.5, 1, np.nan],
        "tanh": [-1, -0.0, 0, 1, np.nan],
        "normal_density": [0, *[np.sqrt(0.5 / np.pi)] * 2, 0, np.nan],
        "normal_cdf": [0, 0.5, 0.5, 1, np.nan],
    }
    for name, want in wanted.items():
        got = _apply(name, limits)
        np.testing.assert_allclose(got, np.array(want, dtype), rtol=2 * np.finfo(dtype).eps, err_msg=name)
    assert np.signbit(_apply("tanh", limits)[1])


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "normal_cdf"])
def test_bounded(name: str, dtype: Any, rng: np.random.Generator) -> None:
    got = _apply(name, _numbers(dtype, rng, name))
    got = got[~np.isnan(got)]
    assert got.max() == 1
    assert got.min() == (-1 if name == "tanh" else 0)
