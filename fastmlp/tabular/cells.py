"""A column's cells, from a CSV file's text, pandas or NumPy, as numbers or as text."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

MOSTLY = 0.9  # of a column's values: with more numbers than that among them, the others are taken for mistakes


def cells(name: str, column: Any) -> np.ndarray:
    """A column as float64 with NaN for what is missing, or as objects with None.

    Raises
    ------
    ValueError
        If it is no column.
    """
    if hasattr(column, "iloc"):
        kind = getattr(column.dtype, "kind", "O")
        whole = column.to_numpy(np.float64, na_value=np.nan) if kind in "iuf" else column.to_numpy(object, na_value=None)
    else:
        # A list's numbers, strings and bools keep their types; as an array they would have one.
        whole = column if isinstance(column, np.ndarray) else np.asarray(column, object)
        whole = whole.astype(np.float64) if whole.dtype.kind in "iuf" else whole.astype(object)
    if whole.ndim != 1:
        raise ValueError(f"column {name!r} must be a vector, got shape {whole.shape}")
    if whole.dtype == object:
        plain = [cell.item() if isinstance(cell, np.generic) else cell for cell in whole]
        whole = np.array([None if _missing(cell) else cell for cell in plain] + [None], object)[:-1]
    return whole


def _missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell)) or (isinstance(cell, str) and not cell.strip())


def numbers(name: str, column: Any) -> np.ndarray:
    """A column of numbers, or of their text, as float64; NaN where one is missing.

    Raises
    ------
    ValueError
        If something else is there, or infinity: it names the row, counted from 1.
    """
    whole = cells(name, column)
    if whole.dtype == object:
        found = np.array([_number(cell) for cell in whole], np.float64)
        wrong = np.isnan(found) & _present(whole)
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(f"column {name!r} must hold numbers, got {_short(whole[row])} in row {row + 1}")
        whole = found
    if np.isinf(whole).any():
        row = int(np.isinf(whole).argmax())
        raise ValueError(f"column {name!r} must hold finite numbers, got {whole[row]} in row {row + 1}")
    return whole


def _number(cell: Any) -> float:
    if isinstance(cell, str):
        try:
            return math.nan if "_" in cell else float(cell)
        except ValueError:
            return math.nan
    known = isinstance(cell, int | float) and not isinstance(cell, bool)
    return float(cell) if known else math.nan


def _present(whole: np.ndarray) -> np.ndarray:
    return np.array([cell is not None for cell in whole], bool)


def texts(name: str, column: Any) -> np.ndarray:
    """A column of categories as text; None where one is missing. A whole number is the same text whatever its type.

    Raises
    ------
    ValueError
        If something is there that is no string, number or bool.
    """
    whole = cells(name, column)
    found = np.empty(len(whole), object)
    for row, cell in enumerate(whole.tolist()):
        if isinstance(cell, str):
            found[row] = cell.strip()
        elif isinstance(cell, bool | int):
            found[row] = str(cell)
        elif isinstance(cell, float):
            found[row] = None if math.isnan(cell) else str(int(cell)) if cell.is_integer() else repr(cell)
        elif cell is not None:
            raise ValueError(f"column {name!r} must hold numbers, strings or bools, got {_short(cell)} in row {row + 1}")
    return found


def guessed(name: str, column: Any) -> np.ndarray:
    """A column as `numbers` has it if all that is there are numbers, else as `texts` does.

    Raises
    ------
    ValueError
        If it is neither the one nor the other: as they do, or because a few of many numbers are none.
    """
    whole = cells(name, column)
    if whole.dtype != object:
        return numbers(name, whole)
    present = _present(whole)
    good = np.array([cell is not None and not math.isnan(_number(cell)) for cell in whole], bool)
    if good.sum() == present.sum():
        return numbers(name, whole)
    if good.sum() > MOSTLY * present.sum():
        row = int((present & ~good).argmax())
        raise ValueError(
            f"column {name!r} holds numbers, but {_short(whole[row])} in row {row + 1}: correct that, or name it in"
            " --categorical or --drop"
        )
    return texts(name, whole)


def _short(cell: Any) -> str:
    return repr(cell) if len(repr(cell)) < 40 else f"{repr(cell)[:36]}..."
