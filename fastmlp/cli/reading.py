"""Tables from CSV, TSV and Parquet files, through pandas."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
PARQUET = (".parquet", ".pq")


def read(path: str, separator: str | None = None) -> DataFrame:
    """A file's table: text as it stands there, whatever it looks like, or a Parquet file's own types.

    Raises
    ------
    ValueError
        If its name ends otherwise, or it is no such table: no rows, a row that is too long or too short, not UTF-8.
    ImportError
        Without pandas, or without pyarrow for Parquet.
    OSError
        If it cannot be read.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError('tables need pandas: pip install "fastmlp[cli]"') from error
    suffix = Path(path.removesuffix(".gz")).suffix.lower()
    if suffix in PARQUET:
        frame = _parquet(pd, path)
    elif suffix in SEPARATORS or separator is not None:
        frame = _text(pd, path, separator or SEPARATORS[suffix])
    else:
        known = ", ".join([*SEPARATORS, *PARQUET])
        raise ValueError(f"{path} must end in {known} (or .csv.gz, .tsv.gz), or --sep must say what separates its columns")
    if not len(frame):
        raise ValueError(f"{path} has no rows")
    return frame


def _parquet(pd: Any, path: str) -> DataFrame:
    with open(path, "rb"):  # an error that names the file, whatever the package would say
        pass
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError('Parquet files need pyarrow: pip install "fastmlp[cli]"') from error
    try:
        frame = pd.read_parquet(path, engine="pyarrow")
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}") from None
    frame.columns = [str(name) for name in frame.columns]
    if not frame.columns.is_unique:
        raise ValueError(f"{path} must have different names for its columns")
    return frame


def _text(pd: Any, path: str, separator: str) -> DataFrame:
    if len(separator) != 1 or separator in '"\r\n':
        raise ValueError(f"--sep must be a single character, got {separator!r}")
    _check(path, separator)
    how = {"sep": separator, "dtype": str, "skipinitialspace": True, "index_col": False, "encoding": "utf-8-sig"}
    try:
        return pd.read_csv(path, **how)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None


def _check(path: str, separator: str) -> None:
    """Raise unless all rows are as long as the first: pandas takes what is missing at a row's end for gaps."""
    line = 0
    with _opened(path) as lines:
        rows = csv.reader(lines, delimiter=separator, skipinitialspace=True)
        try:
            names: list[str] = next((row for row in rows if row), [])
            if not names:
                raise ValueError(f"{path} is empty")
            line = rows.line_num
            for row in rows:
                if len(row) != len(names) and row:
                    got = f"{len(row)} field{'s' * (len(row) != 1)}"
                    raise ValueError(f"{path}: line {rows.line_num} has {got}, and the heads in line {line} are {len(names)}")
        except (csv.Error, EOFError) as error:
            raise ValueError(f"{path}: line {rows.line_num} cannot be read: {error}") from None
        except UnicodeDecodeError:
            raise ValueError(f"{path}: {_not_utf8(path)}") from None
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{path} must have different heads for its columns, got {twice!r} twice")


def _not_utf8(path: str) -> str:
    """Where: what decodes a whole buffer at a time does not tell the line."""
    with gzip.open(path) if path.endswith(".gz") else open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                where = f"line {number} is not UTF-8 (byte 0x{line[error.start]:02x})"
                return f"{where}: convert it first, such as with iconv -f latin1 -t utf-8"
    return "it is not UTF-8"


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    how: dict[str, Any] = {"encoding": "utf-8-sig", "newline": ""}
    with gzip.open(path, "rt", **how) if path.endswith(".gz") else open(path, **how) as file:
        yield file
