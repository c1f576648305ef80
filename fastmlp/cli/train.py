"""``fastmlp train``: a model from a table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastmlp
from fastmlp import display, metrics
from fastmlp.activations import ACTIVATIONS
from fastmlp.cli import reading
from fastmlp.cli.shared import SUFFIX, add_sep, count, decay, named, names, positive, seed, share, sizes, whole, writable
from fastmlp.optimizer import OPTIMIZERS, Optimizer
from fastmlp.tabular import cells
from fastmlp.tabular.columns import LEAST, MISSING, Category, Preparation, Target, gaps, listed, spread_of
from fastmlp.tabular.table import Table

NAME, SUMMARY = "train", "train a model to predict one column of a table from the others"
EXAMPLE = """\
example:
  fastmlp train houses.csv --target price --drop id --out houses.safetensors
  fastmlp predict houses.safetensors new_houses.csv --out prices.csv

The table is a CSV, TSV or Parquet file with heads. Columns of text become categories, each with an input of its own (the 100
most frequent ones that are in two rows or more, and one for all others); numbers are standardised with the mean and deviation
of the training rows, and so is a numeric target, whose predictions are put back. A target of text, or of at most 20 different
whole numbers, is a class (--task says otherwise). All of that is in the file that is written.

A part of the rows, drawn with the classes' shares kept, is held out (--test-size), and the score on it is printed beside that
of the best constant. Of the others a part (--validation-size) says when to stop. The model that is written is the one scored.
A model that is there is replaced: the file is written beside it, and takes its place in one step."""
FEW_CLASSES, FEWEST_ROWS = 20, 10


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("data", help="a .csv, .tsv (also .gz) or .parquet file")
    parser.add_argument("--target", required=True, metavar="COLUMN", help="the column to predict")
    parser.add_argument(
        "--out", metavar="FILE", help="where to write the model, .safetensors; without it there is only the score"
    )
    table = parser.add_argument_group("the table")
    table.add_argument("--task", choices=("auto", "classification", "regression"), default="auto")
    table.add_argument("--drop", type=names, default=[], metavar="COLUMN,...", help="columns to leave out")
    table.add_argument(
        "--categorical", type=names, default=[], metavar="COLUMN,...", help="columns of numbers that are categories"
    )
    table.add_argument(
        "--missing",
        choices=MISSING,
        default="indicator",
        help="missing values: an error; the column's mean; the mean and an input that says so (the default: that a value is"
        " missing often means something); leave such rows out. In columns of text a missing one is a category",
    )
    add_sep(table)
    net = parser.add_argument_group("the network and its training")
    net.add_argument("--hidden", type=sizes, default=[64, 64], metavar="N,...", help="units of the hidden layers (64,64)")
    net.add_argument(
        "--activation",
        choices=[name for name in ACTIVATIONS if name != "softmax"],
        default="relu",
        help="(relu)",
        metavar="NAME",
    )
    net.add_argument("--dropout", type=share, default=0.0, metavar="SHARE", help="of hidden units, in each step (0)")
    net.add_argument("--optimizer", choices=[*OPTIMIZERS], default="adamw", metavar="NAME", help="(adamw)")
    net.add_argument("--lr", type=positive, metavar="RATE", help="learning rate (the optimiser's default: 0.001 for adamw)")
    net.add_argument("--weight-decay", type=decay, metavar="RATE", help="(the optimiser's default: 0.01 for adamw)")
    net.add_argument("--epochs", type=whole, default=300, metavar="N", help="at most (300)")
    net.add_argument("--batch-size", type=whole, metavar="N", help="rows in a step (a fiftieth, between 16 and 256)")
    net.add_argument("--class-weight", choices=("balanced",), help="give rare classes the weight of frequent ones")
    net.add_argument(
        "--test-size", type=share, default=0.2, metavar="SHARE", help="of the rows, for the score; 0: no score (0.2)"
    )
    net.add_argument("--early-stopping", action=argparse.BooleanOptionalAction, default=True, help="(on)")
    net.add_argument("--patience", type=whole, default=20, metavar="N", help="epochs without an improvement (20)")
    net.add_argument("--validation-size", type=share, default=0.15, metavar="SHARE", help="of the other rows (0.15)")
    net.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="(float32)")
    net.add_argument("--seed", type=seed, default=0, metavar="N", help="of rows held out, weights and orders (0)")
    net.add_argument("--threads", type=whole, metavar="N", help="at most (all cores); of no influence on the numbers")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


class Rows(NamedTuple):
    """Some of a table's rows.

    Attributes
    ----------
    columns : mapping of (rows,) arrays
    y : (rows,) array
        Labels' numbers, or the targets as they came.
    """

    columns: Mapping[str, np.ndarray]
    y: np.ndarray

    def take(self, which: np.ndarray) -> Rows:
        """Those of some numbers."""
        return Rows({name: column[which] for name, column in self.columns.items()}, self.y[which])


def run(options: argparse.Namespace) -> None:
    """Train, say what came of it, and write it."""
    if options.out is not None and not options.out.endswith(SUFFIX):
        raise ValueError(f"--out must end in {SUFFIX}, got {options.out}: fastmlp convert makes other files of it")
    writable(options.out, options.data)
    frame = reading.read(options.data, options.sep)
    columns, target = _columns(frame, options)
    del frame
    found, classes = _target(target, options)
    all_rows, dropped = _without_gaps(Rows(columns, found), options)
    del columns, target, found
    rng = np.random.default_rng(options.seed)
    order = rng.permutation(len(all_rows.y))
    rest, test = _split(all_rows.y, order, options.test_size, classes is not None)
    chosen, val = _split(all_rows.y, rest, options.validation_size if options.early_stopping else 0.0, classes is not None)
    train = all_rows.take(chosen)
    table = _table(train, classes, options, rng)
    X = table.preparation.transform(train.columns, options.dtype)
    _say(options, _summary(options, table, train, len(dropped), len(val), len(test)))
    history = _fit(table, X, train, all_rows.take(val), options, rng)
    table.settle(X)
    lines = [f"epochs      {len(history['loss'])}"]
    if len(val):
        lines[0] += f"; the best was {int(np.argmin(history['val_loss'])) + 1}"
    if len(test):
        lines.append(_score(table, train.y, all_rows.take(test)))
    if options.out is not None:
        with named(options.out):
            table.save(options.out)
        lines.append(f"written     {options.out}, {Path(options.out).stat().st_size:,} bytes")
    _say(options, "\n".join(lines))


def _say(options: argparse.Namespace, text: str) -> None:
    if not options.quiet:
        print(text, flush=True)  # before what takes long


def _columns(frame: Any, options: argparse.Namespace) -> tuple[dict[str, np.ndarray], Any]:
    """The inputs as numbers or texts, and the target as it came."""
    for option in ("target", "drop", "categorical"):
        asked = [options.target] if option == "target" else getattr(options, option)
        if lost := [name for name in asked if name not in frame.columns]:
            raise ValueError(f"--{option}: {options.data} has no column {lost[0]!r}; it has {listed([*frame.columns])}")
    kept = [name for name in frame.columns if name != options.target and name not in options.drop]
    if not kept:
        raise ValueError(f"{options.data} has no column besides {options.target!r} to predict it from")
    found = {}
    for name in kept:
        column = (cells.texts if name in options.categorical else cells.guessed)(name, frame[name])
        if gaps(column).all():
            raise ValueError(f"column {name!r} has no values: leave it out with --drop")
        if options.missing == "error" and (gap := gaps(column)).any():
            row = int(gap.argmax()) + 1
            raise ValueError(f"column {name!r} has {count(int(gap.sum()), 'gap')}, the first in row {row}: see --missing")
        found[name] = column
    return found, frame[options.target]


def _target(column: Any, options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray | None]:
    """Numbers of classes, -1 where one is missing, and the classes; or numbers, NaN where one is, and None."""
    name = options.target
    if options.task == "regression":
        return cells.numbers(name, column), None
    whole_column = cells.cells(name, column)
    bools = whole_column.dtype == object and all(isinstance(cell, bool) for cell in whole_column if cell is not None)
    if options.task == "auto" and not bools:
        guess = cells.guessed(name, column)
        there = guess[~gaps(guess)]
        if guess.dtype != object and not ((there == np.floor(there)).all() and len(np.unique(there)) <= FEW_CLASSES):
            return guess, None
    texts = cells.texts(name, column)
    known = sorted({text for text in texts if text is not None})
    classes = np.array([*known, None], object)[:-1]
    if bools:
        classes = np.array([text == "True" for text in known], bool)
    elif all(text.removeprefix("-").isdecimal() and str(int(text)) == text and abs(int(text)) < 2**63 for text in known):
        known.sort(key=int)
        classes = np.array([int(text) for text in known], np.int64)
    place: dict[str | None, int] = {text: i for i, text in enumerate(known)}
    return np.array([place.get(text, -1) for text in texts.tolist()]), classes


def _without_gaps(rows: Rows, options: argparse.Namespace) -> tuple[Rows, np.ndarray]:
    """The rows that can be trained on, and which ones were left out."""
    lost = rows.y < 0 if rows.y.dtype.kind == "i" else np.isnan(rows.y)
    if options.missing == "drop":
        for column in rows.columns.values():
            lost = lost | gaps(column)
        rows = rows.take(np.flatnonzero(~lost))
    elif lost.any():
        gap = count(int(lost.sum()), "gap")
        raise ValueError(
            f"the target, column {options.target!r}, has {gap}, the first in row {int(lost.argmax()) + 1}: only --missing drop"
            " leaves such rows out"
        )
    if len(rows.y) < FEWEST_ROWS:
        behind = f", {count(int(lost.sum()), 'row')} with gaps left out" if lost.any() else ""
        raise ValueError(f"{options.data} must have at least {FEWEST_ROWS} rows to train on, got {len(rows.y)}{behind}")
    if len(np.unique(rows.y)) == 1:
        raise ValueError(f"the target, column {options.target!r}, must have two values or more, got the same in all rows")
    return rows, np.flatnonzero(lost) if options.missing == "drop" else np.zeros(0, int)


def _split(y: np.ndarray, order: np.ndarray, part: float, stratified: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows to keep, and a part of them; of each class the same part, rounded so that each keeps a row."""
    if not stratified:
        few = min(round(len(order) * part), len(order) - 2)
        return order[few:], order[:few]
    aside = np.zeros(len(order), bool)
    for label in np.unique(y):
        rows = np.flatnonzero(y[order] == label)
        aside[rows[: min(round(len(rows) * part), len(rows) - 1)]] = True
    return order[~aside], order[aside]


def _table(train: Rows, classes: np.ndarray | None, options: argparse.Namespace, rng: np.random.Generator) -> Table:
    """The table with a network that is not trained yet."""
    preparation = Preparation.of(train.columns, options.missing)
    target = Target(options.target, classes)
    if classes is None:
        mean, scale = spread_of(train.y)
        if not np.isfinite([mean, scale]).all():
            raise ValueError(f"the target, column {options.target!r}, must hold numbers whose squares have a sum")
        target = replace(target, mean=mean, scale=scale or 1.0)
    outputs = 1 if classes is None or len(classes) == 2 else len(classes)
    loss: Any = "mse" if classes is None else "bce" if outputs == 1 else "cross_entropy"
    shape = [preparation.width, *options.hidden, outputs]
    model = fastmlp.Model(
        shape, options.activation, loss, options.dtype, rng, dropout=options.dropout if options.hidden else 0.0
    )
    # It starts from a constant prediction. Else it first unlearns what it was drawn as, and on some hundred rows early stopping
    # ends it there: R2 0.34 on scikit-learn's diabetes table, 0.46 with this (means of twelve seeds).
    model.weights[-1][...] = 0
    return Table(model, preparation, target)


def _fit(
    table: Table, X: np.ndarray, train: Rows, val: Rows, options: argparse.Namespace, rng: np.random.Generator
) -> fastmlp.History:
    def y(rows: Rows) -> np.ndarray:
        return (rows.y - table.target.mean) / table.target.scale if table.target.classes is None else rows.y

    more: dict[str, Any] = {}
    weights = np.ones(len(val.y))
    if options.class_weight and table.target.classes is not None:
        more["class_weight"] = options.class_weight
        counts = np.bincount(train.y, minlength=len(table.target.classes))
        weights = 1 / counts[val.y]  # else the frequent classes alone would say when to stop
    if len(val.y):
        Xv = table.preparation.transform(val.columns, options.dtype)
        more["validation_data"] = Xv, y(val), weights
        more["callbacks"] = fastmlp.EarlyStopping(patience=options.patience)
    shown = not options.quiet and sys.stderr.isatty() and find_spec("tqdm") is not None
    before = fastmlp.get_num_threads()
    if options.threads:
        fastmlp.set_num_threads(options.threads)
    try:
        return table.model.fit(
            X,
            y(train),
            options.epochs,
            _batch(options, len(X)),
            optimizer=_optimizer(options),
            rng=rng,
            verbose="bar" if shown else 0,
            nonfinite="raise",
            **more,
        )
    finally:
        if options.threads:
            fastmlp.set_num_threads(before)


def _optimizer(options: argparse.Namespace) -> Optimizer:
    settings = {"lr": options.lr, "weight_decay": options.weight_decay}
    return OPTIMIZERS[options.optimizer](**{name: value for name, value in settings.items() if value is not None})


def _batch(options: argparse.Namespace, rows: int) -> int:
    return options.batch_size or min(max(rows // 50, 16), 256)


def _summary(options: argparse.Namespace, table: Table, train: Rows, dropped: int, val: int, test: int) -> str:
    columns, classes = table.preparation.columns, table.target.classes
    categories = [column for column in columns if isinstance(column, Category)]
    holes = sum(int(gaps(column).sum()) for column in train.columns.values())
    what = "regression" if classes is None else f"classification: {listed(classes.tolist())}"
    optimizer: Any = _optimizer(options)
    stops = f"at most {options.epochs} epochs, patience {options.patience}" if val else f"{options.epochs} epochs"
    lines = [
        f"target      {options.target}, {what}",
        f"rows        {len(train.y):,} to train on, {val:,} to stop by, {test:,} held out"
        + (f"; {dropped:,} with gaps left out" if dropped else ""),
        f"columns     {count(len(columns) - len(categories), 'number')}, {len(categories)} of categories:"
        f" {count(table.preparation.width, 'input')}" + (f"; {count(holes, 'gap')} ({options.missing})" if holes else ""),
        f"network     {'-'.join(map(str, table.model.sizes))}, {options.activation}, dropout {options.dropout:g},"
        f" {table.model.loss_name}, {options.dtype}, {table.model.params.size:,} parameters",
        f"training    {options.optimizer} {optimizer.lr:g}, weight decay {optimizer.weight_decay:g},"
        f" batches of {_batch(options, len(train.y))}, {stops}, seed {options.seed}"
        + (f", {options.class_weight} classes" if options.class_weight else ""),
    ]
    lines += [
        f"note        {column.name}: no value is in {LEAST} training rows, so it tells nothing: --drop it"
        for column in categories
        if not column.categories and not column.gaps
    ]
    return "\n".join(lines)


def _score(table: Table, y: np.ndarray, test: Rows) -> str:
    outputs = table.model.predict(table.preparation.transform(test.columns, table.model.dtype)).astype(np.float64)
    shown = display.number
    if table.target.classes is None:
        found, mean = outputs[:, 0] * table.target.scale + table.target.mean, np.full(len(test.y), y.mean())
        ours, constant = (
            f"R2 {shown(metrics.r2(test.y, one))}, RMSE {shown(metrics.rmse(test.y, one))}" for one in (found, mean)
        )
        return f"held out    {ours} (the mean: {constant})"
    shares = np.bincount(y, minlength=len(table.target.classes)) / len(y)
    return (
        f"held out    accuracy {metrics.accuracy(test.y, outputs):.4f}, log loss {shown(metrics.log_loss(test.y, outputs))}"
        f" (the most frequent class: accuracy {(test.y == shares.argmax()).mean():.4f}; the classes' shares: log loss"
        f" {shown(-np.log(shares[test.y]).mean())})"
    )
