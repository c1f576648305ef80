from __future__ import annotations

import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
import pytest
from numba.core.extending import _Intrinsic

from fastmlp import kernels
from fastmlp.kernels.layer import custom
from fastmlp.kernels.layer.custom import call_elementwise, call_loss
from fastmlp.kernels.layer.dropout import kept
from fastmlp.kernels.machine import interpreted
from fastmlp.kernels.machine.interpreted import INTERPRETED, Tile, quiet
from fastmlp.kernels.machine.jit import inlined
from fastmlp.kernels.machine.memory import borrow, give_back, numbers_at, place_of, words_at
from fastmlp.kernels.machine.pointer import as_array, as_readonly, local, nothing, part, pointer, written
from fastmlp.kernels.machine.target import VECTOR_BYTES
from fastmlp.kernels.net.parallel import atomic_add, atomic_load, atomic_store, give_way, pause
from fastmlp.kernels.tiles.across import largest, repeat, sum_across, sum_lanes, sum_rows, total, transposed
from fastmlp.kernels.tiles.arithmetic import (
    copysign,
    exponent,
    fabs,
    first_columns,
    fma,
    horner,
    is_single,
    maximum,
    minimum,
    quotient,
    rint,
    root,
    scale,
    where,
)
from fastmlp.kernels.tiles.tile import (
    advance,
    broadcast_rows,
    lanes,
    load,
    load_square,
    outer_add,
    row_groups,
    splat,
    store,
)

# ---- each intrinsic beside its NumPy meaning -------------------------------------------------------------------------

compiled_only = pytest.mark.skipif(INTERPRETED, reason="there are no intrinsics in this mode")
POLYNOMIAL = (0.25, -0.5, 2.0)


def _memory(x: Any, out: Any, codes: Any) -> None:
    a, to = pointer(x), written(out)
    step = lanes(a)
    to[0] = step
    scratch = local(nothing(a), 256)
    store(load(a, step, 2, 1, None), scratch, step, None)
    store(load(scratch + 1, step - 1, 2, 1, step - 1), to + step, step, None)
    store(load_square(a + 1, 3, step - 1), to + 3 * step, step, None)
    store(broadcast_rows(a, 2, 1, step - 1), to + 20 * step, step, None)
    store(splat(a, 0.1, 1, 2), to + 22 * step, 0, 2 * step - 1)
    again = numbers_at(a, place_of(a + 1), step)
    room = borrow(a, 2 * step)
    store(load(again, 0, 1, 1, None) + 1.0, room + step, 0, None)
    store(load(room + step, 0, 1, 1, None), to + 30 * step, 0, None)
    give_back(room)
    to[31 * step] = words_at(place_of(pointer(codes)), 3)[2] - codes[2] + 1
    tile = outer_add(splat(a, 0.5, 4, 1), a, 2, part(a, 5, step), None)
    store(outer_add(tile, advance(row_groups(a, 2, 4), 1), 2, a, step - 1), to + 24 * step, step, None)


def _arithmetic(x: Any, out: Any, codes: Any) -> None:
    to = written(out)
    step = lanes(to)
    a, b = load(pointer(x), 0, 1, 1, None), load(pointer(x) + step, 0, 1, 1, None)
    c = fabs(a) + 0.5
    store(fma(a, b, c), to, 0, None)
    store(quotient(a, c), to + step, 0, None)
    store(root(c), to + 2 * step, 0, None)
    store(copysign(c, a), to + 3 * step, 0, None)
    store(scale(c, rint(a * 3.0)), to + 4 * step, 0, None)
    store(maximum(a, b), to + 5 * step, 0, None)
    store(minimum(a, b), to + 6 * step, 0, None)
    store(where(a > b, a, 7.0), to + 7 * step, 0, None)
    store(where(first_columns(a, step - 1), a, b), to + 8 * step, 0, None)
    store(exponent(c), to + 9 * step, 0, None)
    store(horner(a, POLYNOMIAL, POLYNOMIAL), to + 10 * step, 0, None)
    store(splat(to, 1.0 if is_single(a) else 2.0, 1, 1), to + 11 * step, 0, None)
    store(where(kept(a, 2**40 + 12345, 3 * step, 2**31), a, 0.0), to + 12 * step, 0, None)


def _across(x: Any, out: Any, codes: Any) -> None:
    a, to = pointer(x), written(out)
    step = lanes(a)
    tile, square = load(a, step, 3, 1, None), load_square(a, step, None)
    to[0] = total(tile)
    to[1] = largest(tile)
    store(sum_across(tile), to + step, step, None)
    store(sum_rows(tile), to + 4 * step, 0, None)
    store(sum_lanes(square), to + 5 * step, 0, None)
    store(repeat(load(a, 0, 1, 1, None), 2), to + 6 * step, step, None)
    store(transposed(square), to + 8 * step, step, None)


def _users_functions(x: Any, out: Any, codes: Any) -> None:
    a, to = pointer(x), written(out)
    call_elementwise(codes[0], 0, a, to, 5)
    call_elementwise(codes[0], 1, a, to, 4)
    to[9] = call_loss(codes[1], a, a + 7, to + 10, 5, 1, 0.5)
    to[15] = call_loss(codes[2], a, a + 7, to + 16, 2, 3, 0.5)
    to[22] = as_readonly(a + 2, 3).sum()
    as_array(to + 23, 2)[1] = 5.0


def _threads(x: Any, out: Any, codes: Any) -> None:
    numbers, to = written(codes), written(out)
    atomic_store(numbers, 2, 40)
    to[0] = atomic_add(numbers, 2, 3)
    to[1] = atomic_load(numbers, 2)
    pause()
    give_way(0)


CASES = [_memory, _arithmetic, _across, _users_functions, _threads]


def _square(z: Any) -> Any:
    return z * z


def _product(p: Any, y: Any) -> Any:
    return p * y


def _first(p: Any, t: Any, d: Any) -> Any:
    d[:] = t[1]
    return p.sum() * t[0]


@compiled_only
@pytest.mark.parametrize("case", CASES)
def test_computes_as_its_numpy_meaning(
    case: Any, dtype: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = rng.standard_normal(64 * VECTOR_BYTES // dtype.itemsize).astype(dtype)
    got, want = np.zeros((2, len(x)), dtype)
    functions = custom.compile_activation, custom.compile_loss, custom.compile_row_loss

    def codes() -> Any:
        """Of the same functions: addresses, or with the JIT off places in a table."""
        activation, loss, row_loss = (make.__wrapped__ for make in functions)
        return np.array([activation(_square, _square, dtype), loss(_product, _product, dtype), row_loss(_first, 2, dtype)])

    inlined(case)(x, got, codes())
    monkeypatch.setattr(interpreted, "VECTOR_BYTES", VECTOR_BYTES)
    for name in ("as_array", "as_readonly"):
        monkeypatch.setattr(custom, name, getattr(interpreted, name))
    monkeypatch.setattr(custom, "INTERPRETED", True)
    FunctionType(case.__code__, {**case.__globals__, **vars(interpreted)})(x, want, codes())
    assert want.any()
    np.testing.assert_allclose(got, want, rtol=4 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps)


@compiled_only
def test_each_intrinsic_has_its_numpy_meaning_and_is_compared_with_it() -> None:
    found: dict[str, Any] = {}
    for module in pkgutil.walk_packages(kernels.__path__, kernels.__name__ + "."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, _Intrinsic) and not hasattr(value._defn, "__signature__"):  # which calls of kernels have
                found[value._defn.__name__] = value
    assert "fma" in found
    for name, value in found.items():
        names = list(inspect.signature(value._defn).parameters)[1:]
        plain = inspect.signature(getattr(interpreted, name))
        assert list(plain.parameters) in (names, ["args", "kwargs"]), name
    assert found.keys() - {name for case in CASES for name in case.__code__.co_names} == set()


@pytest.mark.small
def test_quiet_is_local() -> None:
    @quiet
    def overflow(x: float) -> float:
        inner = quiet(lambda y: y * y)
        return inner(x) * inner(x)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert overflow(np.float32(1e30)) == np.inf
        with pytest.raises(RuntimeWarning):
            np.float32(1e30) * np.float32(1e30)


@pytest.mark.small
def test_tile_keeps_its_dtype_and_its_value() -> None:
    a = np.array([[1.0, 2.0]], np.float32).view(Tile)
    for b in (a + np.float64(0.1), 0.1 * a, a < 1.5, a / a):
        assert isinstance(b, Tile)
        assert b.dtype == np.float32
    b = a
    b += 1.0
    assert a.tolist() == [[1.0, 2.0]]
    assert b.tolist() == [[2.0, 3.0]]


def test_kernels_run_without_the_compiler(python: Callable[..., str]) -> None:
    code = """
import numpy as np
from numba.core import event
from fastmlp.kernels.layer.arrays import dense_forward
from fastmlp.kernels.layer.activation import TANH
with event.install_recorder("numba:compile") as compiled:
    x, w = np.arange(6.0).reshape(2, 3) / 9, np.arange(12.0).reshape(3, 4) / 9
    out = np.empty((2, 4))
    assert dense_forward(x, w, np.ones(4), TANH, out, out) == 0
np.testing.assert_allclose(out, np.tanh(x @ w + 1), rtol=1e-14)
print(len(compiled.buffer))
"""
    assert python(code, NUMBA_DISABLE_JIT="1").strip() == "0"
