from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numba import float32, float64, from_dtype, njit
from numba.core.errors import TypingError

from fastmlp.kernels.machine import jit
from fastmlp.kernels.machine.jit import Double, Doubles, Float, Int, Integers, Pointer, inlined, kernel
from fastmlp.kernels.machine.pointer import pointer


@kernel
def _scaled_sum(x: Pointer, factor: Float, count: Int) -> Float:
    result = x[0] * factor
    for i in range(1, count):
        result += x[i] * factor
    return result


@kernel
def _pick(x: Pointer, order: Integers, constants: Doubles, rate: Double, out: Pointer, count: Int) -> None:
    for i in range(count):
        out[i] = x[order[i]] * constants[0] + rate
    out[count] = _scaled_sum(x, rate, count)


@kernel
def _broken(x: Pointer, count: Int) -> None:
    x[0] = "text"


@kernel
def _unused(x: Pointer) -> Double:
    return x[0]


@inlined
def _run_pick(x: Any, order: Any, constants: Any, rate: float, out: Any) -> None:
    _pick(pointer(x), pointer(order), pointer(constants), rate, pointer(out), order.size)


@inlined
def _run_broken(x: Any) -> None:
    _broken(pointer(x), 1)


@inlined
def _run_unused(x: Any, wanted: bool) -> float:
    if wanted:
        return _unused(pointer(x))
    return -1.0


@inlined
def _run_argument(x: Any, count: int) -> float:
    return _scaled_sum(x, 1.0, count)


def _kernel_of(name: str) -> jit.Kernel:
    return next(made for made, _ in jit._KERNELS.values() if made.function.__name__ == name)


def test_kernel_compiles_when_it_first_runs() -> None:
    made = _kernel_of("_unused")
    assert _run_unused(np.array([3.0]), False) == -1.0
    assert not made.addresses
    assert _run_unused(np.array([3.0]), True) == 3.0
    assert set(made.addresses) == {float64}


def test_results_in_both_dtypes(dtype: Any) -> None:
    x = np.array([1.5, 2.5, 4.5, 8.5], dtype)
    order = np.array([3, 0, 2])
    out = np.zeros(4, dtype)
    _run_pick(x, order, np.array([2.0]), 0.25, out)
    np.testing.assert_array_equal(out, [17.25, 3.25, 9.25, 8.5 * 0.25])
    assert from_dtype(dtype) in _kernel_of("_pick").addresses


def test_one_compiled_version_per_dtype() -> None:
    order = np.array([0])
    for x in (np.ones(1, np.float32), np.ones(1), np.ones((1, 1)), np.ones(1)[:]):
        for size in (order, order.astype(np.int64)):
            _run_pick(x, size, np.ones(1), 1, np.zeros(2, x.dtype))
    assert set(_kernel_of("_pick").addresses) == {float32, float64}
    assert len(_kernel_of("_pick").dispatcher.overloads) == 2


def test_a_helper_is_made_for_who_calls_it() -> None:
    @inlined
    def half(x: float) -> float:
        return x / 2

    @inlined
    def quarter(x: float) -> float:
        return half(half(x))

    helper: Any = half
    assert not {"part", "whole"} & set(vars(helper))
    assert quarter(8.0) == 2.0
    assert "part" in vars(helper)
    assert "whole" not in vars(helper)
    assert half(8.0) == 4.0
    assert njit(lambda x: quarter(x) + half(x))(8.0) == 6.0


def test_collection_of_garbage_goes_on_after_a_compilation() -> None:
    for enabled in (False, True):
        (gc.enable if enabled else gc.disable)()
        with jit._collect_later():
            assert not gc.isenabled()
        assert gc.isenabled() == enabled


def test_identity_tells_kernels_and_dtypes_apart() -> None:
    kernels = {id(made): made for made, _ in jit._KERNELS.values()}.values()
    assert len(jit._KERNELS) == 2 * len(kernels)
    for made in kernels:
        assert made.identity(float32) != made.identity(float64)


def test_kernel_that_cannot_be_compiled_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="could not be compiled"):
        _run_broken(np.zeros(1))


def test_other_than_pointers_is_refused() -> None:
    with pytest.raises(TypingError, match="_scaled_sum"):
        _run_argument(np.zeros(1), 1)


def test_threads_share_a_kernel() -> None:
    def run(_: int) -> float:
        out = np.zeros(2)
        _run_pick(np.ones(1), np.array([0]), np.ones(1), 1.0, out)
        return out.sum()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(run, range(64))) == {3.0}
