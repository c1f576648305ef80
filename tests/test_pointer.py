from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numba.core.errors import TypingError

from fastmlp.kernels.machine.interpreted import INTERPRETED
from fastmlp.kernels.machine.jit import inlined
from fastmlp.kernels.machine.pointer import CHECKED, local, part, pointer
from fastmlp.kernels.tiles.across import total
from fastmlp.kernels.tiles.tile import broadcast_rows, lanes, load, load_square, outer_add, splat, store

pytestmark = pytest.mark.small

ROOM = 4096


@inlined
def _reverse(x: Any, out: Any) -> None:
    source = pointer(x) + (x.size - 1)
    target = pointer(out)
    for i in range(x.size):
        target[i] = source[0 - i]


@inlined
def _fill(x: Any, value: float) -> None:
    base = part(pointer(x), 1, 2)
    for i in range(2):
        base[i] = value


@pytest.mark.parametrize("kind", ["float32", "float64", "int64"])
def test_walk(kind: str) -> None:
    x = np.arange(5, dtype=kind)
    out = np.zeros_like(x)
    _reverse(x, out)
    np.testing.assert_array_equal(out, x[::-1])


@pytest.mark.parametrize("kind", ["float32", "float64", "int64"])
@pytest.mark.parametrize("value", [2, 2.0, np.float32(2)])
def test_store_converts(kind: str, value: float) -> None:
    x = np.zeros(4, kind)
    _fill(x, value)
    np.testing.assert_array_equal(x, [0, 2, 2, 0])


def test_contiguous_arrays_of_any_rank() -> None:
    x = np.zeros((2, 3))
    _fill(x, 1.0)
    np.testing.assert_array_equal(x.ravel(), [0, 1, 1, 0, 0, 0])


@pytest.mark.parametrize("x", [np.zeros((4, 4))[:, ::2], np.zeros((2, 3), order="F")], ids=["strided", "Fortran"])
def test_other_layouts_are_refused(x: Any) -> None:
    with pytest.raises((TypingError, ValueError), match="contiguous"):
        _fill(x, 1.0)


def _read(x: Any, start: int, columns: int) -> float:
    return (pointer(x) + start)[columns - 1]


def _write(x: Any, start: int, columns: int) -> float:
    (pointer(x) + start)[columns - 1] = 1.0
    return 0.0


def _narrowed(x: Any, start: int, columns: int) -> float:
    return part(pointer(x), start, columns)[columns - 1]


def _load(x: Any, start: int, columns: int) -> float:
    return total(load(pointer(x) + start, 1, 1, 2, columns))


def _load_full(x: Any, start: int, columns: int) -> float:
    base = pointer(x) + (start + columns - lanes(pointer(x)))
    return total(load(base, 0, 1, 1, None))


def _load_rows(x: Any, start: int, columns: int) -> float:
    return total(load(pointer(x) + (start - 100), 50, 3, 1, columns))


def _load_square(x: Any, start: int, columns: int) -> float:
    rows = lanes(pointer(x))
    return total(load_square(pointer(x) + (start - (rows - 1) * 20), 20, columns))


def _broadcast_rows(x: Any, start: int, columns: int) -> float:
    return total(broadcast_rows(pointer(x) + start, 3, 2, columns))


def _store(x: Any, start: int, columns: int) -> float:
    store(splat(pointer(x), 1.0, 3, 1), pointer(x) + (start - 100), 50, columns)
    return 0.0


def _outer_add_rows(x: Any, start: int, columns: int) -> float:
    base = pointer(x)
    return total(outer_add(splat(base, 0.0, 3, 1), base + (start + columns - 41), 20, base + 200, None))


def _outer_add_columns(x: Any, start: int, columns: int) -> float:
    base = pointer(x)
    return total(outer_add(splat(base, 0.0, 3, 1), base + 200, 0, base + start, columns))


ACCESSES = [
    _read,
    _write,
    _narrowed,
    _load,
    _load_full,
    _load_rows,
    _load_square,
    _broadcast_rows,
    _store,
    _outer_add_rows,
    _outer_add_columns,
]


@pytest.mark.skipif(not (CHECKED or INTERPRETED), reason="run by the test below")
@pytest.mark.parametrize("access", ACCESSES)
def test_access_outside_raises(access: Any) -> None:
    run = inlined(access)
    x = np.zeros(ROOM)
    count = x.size
    for columns in (1, 2):
        run(x, count - columns, columns)
        with pytest.raises(IndexError, match="left its array"):
            run(x, count - columns + 1, columns)
    assert not np.isnan(x).any()


@inlined
def _first_of_part(x: Any, start: int, count: int, i: int) -> float:
    return part(part(pointer(x), start, count), 0, count)[i]


@pytest.mark.skipif(not (CHECKED or INTERPRETED), reason="run by the test below")
def test_part_narrows() -> None:
    x = np.arange(10.0)
    assert _first_of_part(x, 2, 3, 2) == 4.0
    for start, count, i in ((2, 3, 3), (2, 3, -1), (8, 3, 0), (-1, 2, 1)):
        with pytest.raises(IndexError, match="left its array"):
            _first_of_part(x, start, count, i)


@inlined
def _in_local(x: Any, last: int) -> float:
    scratch = local(pointer(x), 64)
    for i in range(last + 1):
        scratch[i] = 1.0 * i
    return scratch[last]


@pytest.mark.skipif(not (CHECKED or INTERPRETED), reason="run by the test below")
def test_local_is_bounded() -> None:
    for x in (np.zeros(1), np.zeros(1, np.float32)):
        last = 64 // x.itemsize - 1
        assert _in_local(x, last) == last
        with pytest.raises(IndexError, match="left its array"):
            _in_local(x, last + 1)


@inlined
def _nothing(x: Any, out: Any, start: int) -> None:
    store(load(pointer(x) + start, 1, 2, 2, 0), pointer(out) + start, 1, 0)


def test_no_columns_touch_nothing() -> None:
    x = np.ones(3)
    for start in (-1000, 0, 3, 1000):
        _nothing(x, x, start)
    np.testing.assert_array_equal(x, 1.0)


@pytest.mark.slow  # compiles for that mode
@pytest.mark.skipif(CHECKED or INTERPRETED, reason="this is that mode")
def test_bounds_are_checked_on_request() -> None:
    names = "access_outside or part_narrows"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", names]
    done = subprocess.run(command, env={**os.environ, "NUMBA_BOUNDSCHECK": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert f"{len(ACCESSES) + 1} passed" in done.stdout
    assert "skipped" not in done.stdout
