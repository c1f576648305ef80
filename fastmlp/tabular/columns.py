"""What becomes of a table's columns: numbers are standardised, categories are spread to columns of 0 and 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fastmlp import checks
from fastmlp.tabular import cells

MISSING = ("error", "mean", "indicator", "drop")
MOST = 100  # categories of a column that have inputs of their own: the most frequent ones
LEAST = 2  # training rows that a category must be in


@dataclass(frozen=True)
class Number:
    """A column of numbers, of which (x - mean) / scale goes into the network; a gap is the mean, and so 0.

    Attributes
    ----------
    name : str
    mean, scale : float
    gaps : bool
        Whether a second input says where a number is missing.
    """

    name: str
    mean: float
    scale: float
    gaps: bool = False

    @property
    def width(self) -> int:
        """The number of inputs."""
        return 1 + int(self.gaps)

    @property
    def inputs(self) -> list[str]:
        """What the network's inputs are, in words."""
        return [self.name, *[f"{self.name} is missing"] * self.gaps]

    def write(self, column: np.ndarray, out: np.ndarray) -> None:
        """Fill this column's part, (rows, inputs), of an array of zeros."""
        gap = np.isnan(column)
        out[:, 0] = np.where(gap, 0.0, (column - self.mean) / self.scale)
        if self.gaps:
            out[:, 1] = gap


@dataclass(frozen=True)
class Category:
    """A column of categories, each with an input that is 1 in its rows; the last input is for all others.

    Attributes
    ----------
    name : str
    categories : tuple of str
    gaps : bool
        Whether what is missing is a category too.
    """

    name: str
    categories: tuple[str, ...]
    gaps: bool = False

    @property
    def width(self) -> int:
        """The number of inputs."""
        return len(self.categories) + self.gaps + 1

    @property
    def inputs(self) -> list[str]:
        """What the network's inputs are, in words."""
        return (
            [f"{self.name}={name}" for name in self.categories] + [f"{self.name} is missing"] * self.gaps + [f"{self.name}=*"]
        )

    def write(self, column: np.ndarray, out: np.ndarray) -> None:
        """Fill this column's part, (rows, inputs), of an array of zeros."""
        place: dict[str | None, int] = {name: i for i, name in enumerate(self.categories)}
        if self.gaps:
            place[None] = len(self.categories)
        other = out.shape[1] - 1
        out[np.arange(len(column)), [place.get(cell, other) for cell in column.tolist()]] = 1


@dataclass(frozen=True)
class Target:
    """What a table's model predicts.

    Attributes
    ----------
    name : str
        The column's.
    classes : (classes,) array or None
        Sorted labels: int64, or objects that are strings or bools. None: it is a number.
    mean, scale : float
        Of a number's training rows: the network predicts (y - mean) / scale.
    """

    name: str
    classes: np.ndarray | None = None
    mean: float = 0.0
    scale: float = 1.0


class Preparation:
    """What a table's columns become, and in which order.

    Parameters
    ----------
    columns : sequence of Number and Category
    missing : {"error", "mean", "indicator", "drop"}
        What is done about missing values. With ``error`` and ``drop`` a row to predict may have none.
    """

    def __init__(self, columns: Sequence[Number | Category], missing: str) -> None:
        self.columns, self.missing = tuple(columns), missing

    @property
    def width(self) -> int:
        """The number of the network's inputs."""
        return sum(column.width for column in self.columns)

    @property
    def inputs(self) -> list[str]:
        """The network's inputs, in words."""
        return [name for column in self.columns for name in column.inputs]

    @classmethod
    def of(cls, found: Mapping[str, np.ndarray], missing: str) -> Preparation:
        """What suits the training rows, from the columns that `cells.guessed` made of them.

        Raises
        ------
        ValueError
            If the numbers of a column are too large to be standardised.
        """
        made: list[Number | Category] = []
        for name, column in found.items():
            if column.dtype == object:
                counts = Counter(column.tolist())
                gaps = counts.pop(None, 0) > 0 and missing in ("mean", "indicator")
                often = [(text, count) for text, count in counts.items() if count >= LEAST]
                kept = sorted(sorted(often, key=lambda one: (-one[1], one[0]))[:MOST])
                made.append(Category(name, tuple(text for text, _ in kept), gaps))
                continue
            there = column[~np.isnan(column)]
            mean, scale = spread_of(there) if len(there) else (0.0, 1.0)
            if not np.isfinite([mean, scale]).all():
                raise ValueError(f"column {name!r} must hold numbers whose squares have a sum, got {np.abs(there).max():g}")
            # Of a constant column the differences from the mean are roundings.
            if scale <= 1e-12 * abs(mean) or scale < np.finfo(np.float64).tiny:
                scale = abs(mean) or 1.0
            made.append(Number(name, mean, scale, missing == "indicator" and len(there) < len(column)))
        return cls(made, missing)

    def read(self, data: Any) -> dict[str, np.ndarray]:
        """The columns that are needed, as `of` takes them, from a frame, a mapping of columns, or an array of all columns.

        Raises
        ------
        ValueError
            If one is missing, or a number, or holds what it must not.
        """
        found: dict[str, np.ndarray] = {}
        given = self._named(data)
        for column in self.columns:
            name = column.name
            values = (cells.numbers if isinstance(column, Number) else cells.texts)(name, given[name])
            if self.missing in ("error", "drop") and (gap := gaps(values)).any():
                raise ValueError(
                    f"column {name!r} has no value in row {int(gap.argmax()) + 1}: the model was trained with"
                    f" --missing {self.missing}, on rows without gaps"
                )
            found[name] = values
        if len(lengths := {len(values) for values in found.values()}) > 1:
            raise ValueError(f"the columns must be of one length, got {sorted(lengths)}")
        return found

    def _named(self, data: Any) -> Mapping[str, Any]:
        names = [column.name for column in self.columns]
        if hasattr(data, "iloc") and hasattr(data, "columns"):
            data = {str(label): data[label] for label in data.columns}
        elif not isinstance(data, Mapping):
            array = np.asarray(data)
            if array.ndim != 2 or array.shape[1] != len(names):
                raise ValueError(f"the data must have {len(names)} columns, {listed(names)}; got shape {array.shape}")
            return dict(zip(names, array.T, strict=True))
        if lost := [name for name in names if name not in data]:
            raise ValueError(f"the data has no column {lost[0]!r}, which the model needs; it has {listed([*data])}")
        return data

    def transform(self, found: Mapping[str, np.ndarray], dtype: Any) -> np.ndarray:
        """The network's (rows, inputs) array, from what `read` gives."""
        rows = len(next(iter(found.values())))
        out, at = np.zeros((rows, self.width), dtype), 0
        for column in self.columns:
            width = column.width
            part = out[:, at : at + width]
            checks.silently(partial(column.write, found[column.name], part))
            at += width
        return out

    def spread(self) -> tuple[np.ndarray, np.ndarray]:
        """Each input's mean and scale: 0 and 1 for those that are 0 or 1 by themselves."""
        means, scales = [], []
        for column in self.columns:
            mean, scale = [0.0] * column.width, [1.0] * column.width
            if isinstance(column, Number):
                mean[0], scale[0] = column.mean, column.scale
            means += mean
            scales += scale
        return np.array(means), np.array(scales)


def spread_of(numbers: np.ndarray) -> tuple[float, float]:
    """The mean and the standard deviation, which are not finite where the squares are too large."""
    return checks.silently(lambda: (float(numbers.mean()), float(numbers.std())))


def gaps(column: np.ndarray) -> np.ndarray:
    """Where a column has no value."""
    return np.array([cell is None for cell in column.tolist()], bool) if column.dtype == object else np.isnan(column)


def listed(names: Sequence[Any], most: int = 8) -> str:
    """A few names, and how many more there are."""
    shown = ", ".join(str(name)[:40] for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
