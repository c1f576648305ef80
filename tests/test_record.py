"""Records and tuples of them: the same memory for Python and for compiled code, in both dtypes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from fastmlp.kernels.machine.interpreted import INTERPRETED
from fastmlp.kernels.machine.jit import Double, Doubles, Int, Pointer, entry, kernel
from fastmlp.kernels.machine.pointer import CHECKED, nothing, part, pointer, written
from fastmlp.kernels.machine.record import Record

pytestmark = pytest.mark.small


class Shape(Record):
    """Two integers."""

    width: int
    height: int


class Rates(Record):
    """Two numbers."""

    rate: float
    decay: float


class Numbers(NamedTuple):
    """In float64 both are of one type."""

    x: Pointer
    doubles: Doubles


class All(NamedTuple):
    """Tuples within tuples, with records."""

    numbers: Numbers
    shapes: Shape
    rates: Rates
    count: Int


@kernel
def _inner(given: All, index: Int) -> Double:
    shape = given.shapes + index
    shape.width = shape.width + given.count
    given.rates.decay = 3
    return given.numbers.x[1] * given.rates.rate + shape.height + given.numbers.doubles[0]


@kernel
def _outer(given: All, index: Int) -> Double:
    moved = Numbers(given.numbers.x + 1, given.numbers.doubles + 2)
    return _inner(All(moved, given.shapes, given.rates, 7), index)


@entry
def _run(x: Any, doubles: Any, shapes: Any, index: int) -> float:
    place = pointer(doubles)
    return _outer(All(Numbers(pointer(x), place), Shape(pointer(shapes)), Rates(written(doubles)), 1), index)


def test_tuples_of_addresses_records_and_tuples(dtype: Any) -> None:
    x, doubles, shapes = np.array([1, 2, 4], dtype), np.array([10.0, 0.0, 0.5]), np.arange(6)
    assert _run(x, doubles, shapes, 2) == 4 * 10 + 5 + 0.5
    assert shapes.tolist() == [0, 1, 2, 3, 11, 5]
    assert doubles.tolist() == [10, 3, 0.5]
    assert Shape(shapes[4:]).width == 11
    Shape(shapes[2:]).height = 99
    assert shapes[3] == 99
    assert Rates(doubles).decay == 3


def test_a_record_knows_its_fields() -> None:
    assert (Shape.words, Shape.names) == (2, {"width": 0, "height": 1})
    with pytest.raises(AttributeError):
        Shape(np.zeros(2, np.int64)).depth  # noqa: B018
    with pytest.raises(ValueError, match="too small"):
        Shape(np.zeros(1, np.int64))


@entry
def _beyond(shapes: Any, index: int) -> int:
    return (Shape(part(pointer(shapes), 0, 4)) + index).height


@entry
def _of_nothing(x: Any) -> float:
    return nothing(pointer(x))[0]


@pytest.mark.skipif(not (CHECKED or INTERPRETED), reason="nothing is raised without bounds checking")
def test_records_beyond_their_array_and_what_is_not_there_are_errors() -> None:
    assert _beyond(np.arange(6), 1) == 3
    with pytest.raises(IndexError, match="left its array"):
        _beyond(np.arange(6), 2)
    with pytest.raises(IndexError, match="left its array"):
        _of_nothing(np.ones(1))
