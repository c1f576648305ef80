"""Metrics: each against scikit-learn's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn.metrics as oracle

from fastmlp import metrics

ORACLES = {
    "mse": oracle.mean_squared_error,
    "mae": oracle.mean_absolute_error,
    "rmse": oracle.root_mean_squared_error,
    "r2": oracle.r2_score,
}
WEIGHTED = [False, True]


def weights(weighted: bool, rows: int) -> np.ndarray | None:
    return np.random.default_rng(9).integers(0, 4, rows) / 2 if weighted else None


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("weighted", WEIGHTED)
@pytest.mark.parametrize("shape", [(40,), (40, 1), (40, 3)])
def test_regression(name: str, weighted: bool, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    true, pred, w = rng.standard_normal(shape), rng.standard_normal(shape), weights(weighted, 40)
    got = metrics.METRICS[name].function(true, pred, w)
    assert type(got) is float
    assert got == pytest.approx(ORACLES[name](true, pred, sample_weight=w), rel=1e-13)


@pytest.mark.parametrize("name", ORACLES)
def test_float32_is_summed_in_float64(name: str, rng: np.random.Generator) -> None:
    true, pred = (rng.standard_normal((1000, 2)).astype(np.float32) + 100 for _ in range(2))
    want = ORACLES[name](true.astype(np.float64), pred.astype(np.float64))
    assert metrics.METRICS[name].function(true, pred) == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("pred", [[1.0, 1.0], [1.0, 2.0]])
def test_r2_of_a_constant(pred: list[float]) -> None:
    assert metrics.r2([1.0, 1.0], pred) == oracle.r2_score([1.0, 1.0], pred)


@pytest.mark.parametrize("weighted", WEIGHTED)
@pytest.mark.parametrize("column", [False, True])
def test_binary_accuracy(weighted: bool, column: bool, rng: np.random.Generator) -> None:
    true, pred, w = rng.integers(0, 2, 50), rng.random(50), weights(weighted, 50)
    want = oracle.accuracy_score(true, pred > 0.5, sample_weight=w)
    if column:
        true, pred = true[:, None], pred[:, None]
    assert metrics.accuracy(true, pred, w) == pytest.approx(want, rel=1e-14)


def test_one_half_says_no() -> None:
    assert metrics.accuracy([0, 1], [0.5, 0.5]) == 0.5


@pytest.mark.parametrize("weighted", WEIGHTED)
@pytest.mark.parametrize("form", ["labels", "column", "one-hot", "probabilities"])
def test_accuracy_of_classes(weighted: bool, form: str, rng: np.random.Generator) -> None:
    labels, pred, w = rng.integers(0, 4, 60), rng.random((60, 4)), weights(weighted, 60)
    true = {
        "labels": labels,
        "column": labels[:, None],
        "one-hot": np.eye(4)[labels],
        "probabilities": 0.7 * np.eye(4)[labels] + 0.075,
    }[form]
    want = oracle.accuracy_score(labels, pred.argmax(axis=1), sample_weight=w)
    assert metrics.accuracy(true, pred, w) == pytest.approx(want, rel=1e-14)


@pytest.mark.parametrize("weighted", WEIGHTED)
def test_accuracy_of_many_labels(weighted: bool, rng: np.random.Generator) -> None:
    true, pred, w = rng.integers(0, 2, (60, 4)), rng.random((60, 4)), weights(weighted, 60)
    want = np.mean([oracle.accuracy_score(true[:, i], pred[:, i] > 0.5, sample_weight=w) for i in range(4)])
    assert metrics.accuracy(true, pred, w, multilabel=True) == pytest.approx(want, rel=1e-14)


@pytest.mark.parametrize("name", metrics.METRICS)
def test_arguments_are_checked(name: str) -> None:
    metric: Any = metrics.METRICS[name].function
    for true, pred, w, message in (
        ([1.0, 2.0], [1.0], None, r"y_true must have shape \(1, 1\) .*, got \(2, 1\)"),
        ([[1.0, 2.0]], [[1.0, 2.0, 3.0]], None, r"y_true must have shape \(1, 3\) .*, got \(1, 2\)"),
        ([], [], None, r"y_true must have shape \(rows,\) or \(rows, outputs\), got \(0,\)"),
        ([1.0], [[[1.0]]], None, r"y_pred must have shape .*, got \(1, 1, 1\)"),
        ([1.0], [1.0], [1.0, 2.0], r"sample_weight must have shape \(1,\)"),
        ([1.0], [1.0], [-1.0], "sample_weight must be finite and at least 0, got -1.0"),
        ([1.0], [1.0], [0.0], "sample_weight must have a positive sum"),
    ):
        with pytest.raises(ValueError, match=message):
            metric(true, pred, w)
    with pytest.raises(TypeError, match="y_true must hold real numbers"):
        metric(["a"], [1.0])


def test_monitored() -> None:
    names = ("epoch", "loss", "lr", "val_loss", "accuracy", "val_accuracy", "val_mine")
    assert metrics.monitored("auto", "auto", ("epoch", "loss")) == ("loss", "min")
    assert metrics.monitored("auto", "auto", names) == ("val_loss", "min")
    assert metrics.monitored("val_accuracy", "auto", names) == ("val_accuracy", "max")
    assert metrics.monitored("val_accuracy", "min", names) == ("val_accuracy", "min")
    assert metrics.monitored("val_mine", "max", names) == ("val_mine", "max")
    with pytest.raises(ValueError, match="mode must be 'min' or 'max' for monitor='val_mine'"):
        metrics.monitored("val_mine", "auto", names)
    with pytest.raises(ValueError, match=r"monitor must be one of .* loss, val_loss, accuracy, .*; got 'val_r2'"):
        metrics.monitored("val_r2", "auto", names)


def test_every_direction_is_one() -> None:
    assert {metric.mode for metric in metrics.METRICS.values()} == {"min", "max"}
