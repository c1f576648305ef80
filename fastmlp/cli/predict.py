"""``fastmlp predict``: a table's predictions, row by row."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from typing import Any

import numpy as np

import fastmlp
from fastmlp.cli import reading
from fastmlp.cli.shared import add_sep, named, writable
from fastmlp.files import durable
from fastmlp.tabular.table import Table

NAME, SUMMARY = "predict", "predict the rows of a table with a model that fastmlp train has written"
EXAMPLE = """\
example:
  fastmlp predict houses.safetensors new_houses.csv --out prices.csv
  fastmlp predict flowers.safetensors flowers.csv --proba | head

The output is CSV with a head: the target's name, and with --proba each class's probability behind it. Rows are those of the
table, in their order. Columns that the model does not know are ignored, and so is the target's. Categories that it has not seen
are taken for rare ones."""
ROWS = 1 << 16  # written at a time


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("model", help="a .safetensors file")
    parser.add_argument("data", help="a .csv, .tsv (also .gz) or .parquet file")
    parser.add_argument("--out", metavar="FILE", help="where to write (to standard output); a file that is there is replaced")
    parser.add_argument("--proba", action="store_true", help="each class's probability too")
    add_sep(parser)


def run(options: argparse.Namespace) -> None:
    """Predict, and write."""
    writable(options.out, options.data, options.model)
    table = fastmlp.load(options.model)
    if not isinstance(table, Table):
        raise ValueError(f"{options.model} holds no table's preprocessing, but a {type(table).__name__}: use it from Python")
    classes = table.target.classes
    if options.proba and classes is None:
        raise ValueError(f"--proba: {table.target.name!r} is a number, which has no probabilities")
    frame = reading.read(options.data, options.sep)
    try:
        probabilities = table.predict_proba(frame) if classes is not None else None
        found = table.predict(frame) if classes is None else classes[probabilities.argmax(axis=1)]  # type: ignore[union-attr]
    except ValueError as error:
        raise ValueError(f"{options.data}: {error}") from None
    head = [table.target.name]
    if options.proba and classes is not None:
        head += [f"probability of {label}" for label in classes.tolist()]
    else:
        probabilities = None
    if options.out is None:
        _write(sys.stdout, head, found, probabilities)
        return
    with named(options.out), durable.writing(options.out) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        _write(text, head, found, probabilities)
        text.flush()
        text.detach()


def _write(to: Any, head: list[str], found: np.ndarray, probabilities: np.ndarray | None) -> None:
    rows = csv.writer(to, lineterminator="\n")
    rows.writerow(head)
    for start in range(0, len(found), ROWS):
        some: list[Any] = found[start : start + ROWS].tolist()
        if probabilities is None:
            rows.writerows([one] for one in some)
        else:
            beside = probabilities[start : start + ROWS].tolist()
            rows.writerows([one, *more] for one, more in zip(some, beside, strict=True))
