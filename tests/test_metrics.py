"""Metrics: each against scikit-learn's."""

from __future__ import annotations

import functools
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


def test_every_direction_is_one() -> None:
    assert {metric.mode for metric in metrics.METRICS.values()} == {"min", "max"}


# ---- classes ---------------------------------------------------------------------------------------------------------


def binary(name: str) -> Any:
    """scikit-learn's, of labels, probabilities of 1 and weights."""
    return {
        "auc": lambda true, pred, w: oracle.roc_auc_score(true, pred, sample_weight=w),
        "f1": lambda true, pred, w: oracle.f1_score(true, pred > 0.5, sample_weight=w, zero_division=0),
        "log_loss": lambda true, pred, w: oracle.log_loss(true, pred, sample_weight=w, labels=[0, 1]),
        "balanced_accuracy": lambda true, pred, w: oracle.balanced_accuracy_score(true, pred > 0.5, sample_weight=w),
    }[name]


def several(name: str, classes: int) -> Any:
    """scikit-learn's, of labels, rows of probabilities and weights."""
    labels = range(classes)
    return {
        "auc": lambda true, pred, w: np.mean([oracle.roc_auc_score(true == k, pred[:, k], sample_weight=w) for k in labels]),
        "f1": lambda true, pred, w: oracle.f1_score(
            true, pred.argmax(axis=1), sample_weight=w, average="macro", zero_division=0
        ),
        "log_loss": lambda true, pred, w: oracle.log_loss(true, pred, sample_weight=w, labels=list(labels)),
        "balanced_accuracy": lambda true, pred, w: oracle.balanced_accuracy_score(true, pred.argmax(axis=1), sample_weight=w),
    }[name]


CLASSES = ["auc", "f1", "log_loss", "balanced_accuracy"]
exactly = functools.partial(pytest.approx, rel=0, abs=1e-12)


def softmax(rows: int, outputs: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of probabilities, of two decimals but for the last: there are ties."""
    pred = rng.dirichlet(np.ones(outputs), rows).round(2)
    pred[:, -1] = 1 - pred[:, :-1].sum(axis=1)
    return np.abs(pred)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("weighted", WEIGHTED)
@pytest.mark.parametrize("decimals", [1, 17])
def test_binary_scores(name: str, weighted: bool, decimals: int, rng: np.random.Generator) -> None:
    metric = metrics.METRICS[name].function
    for rows in (4, 50, 1000):
        true, pred, w = rng.permutation(np.arange(rows) % 2), rng.random(rows).round(decimals), weights(weighted, rows)
        want = binary(name)(true, pred, w)
        assert type(metric(true, pred, w)) is float
        assert metric(true, pred, w) == metric(true[:, None], pred[:, None], w) == exactly(want)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("weighted", WEIGHTED)
@pytest.mark.parametrize("outputs", [2, 5])
def test_scores_of_several_classes(name: str, weighted: bool, outputs: int, rng: np.random.Generator) -> None:
    labels, pred, w = rng.integers(0, outputs, 80), softmax(80, outputs, rng), weights(weighted, 80)
    want, metric = several(name, outputs)(labels, pred, w), metrics.METRICS[name].function
    for true in (labels, labels[:, None], np.eye(outputs)[labels]):
        assert metric(true, pred, w) == exactly(want)
    if name == "auc" and outputs > 2:
        assert want == exactly(oracle.roc_auc_score(labels, pred, multi_class="ovr", sample_weight=w))


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("weighted", WEIGHTED)
def test_scores_of_many_labels(name: str, weighted: bool, rng: np.random.Generator) -> None:
    true, pred, w = rng.integers(0, 2, (60, 4)), rng.random((60, 4)).round(2), weights(weighted, 60)
    want = np.mean([binary(name)(true[:, k], pred[:, k], w) for k in range(4)])
    assert metrics.METRICS[name].function(true, pred, w, multilabel=True) == exactly(want)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("name", CLASSES)
def test_a_class_without_rows(name: str, rng: np.random.Generator) -> None:
    """Of scikit-learn's numbers, but for the areas, which are NaN."""
    metric, w = metrics.METRICS[name].function, np.array([0.0] + [1.0] * 29)
    for label in (0, 1):
        true, pred = np.full(30, label), rng.random(30)
        want = np.nan if name == "auc" else binary(name)(true, pred, None)
        assert metric(true, pred) == pytest.approx(want, abs=1e-12, nan_ok=True)
        true[0] = 1 - label  # its weight is 0
        want = np.nan if name == "auc" else binary(name)(true, pred, w)
        assert metric(true, pred, w) == pytest.approx(want, abs=1e-12, nan_ok=True)
    labels, pred = rng.integers(0, 3, 30), softmax(30, 4, rng)
    want = np.nan if name == "auc" else several(name, 4)(labels, pred, None)
    assert metric(labels, pred) == pytest.approx(want, abs=1e-12, nan_ok=True)
    pred = np.concatenate([softmax(30, 3, rng), np.zeros((30, 1))], axis=1)  # nor is any said to be of it
    want = np.nan if name == "auc" else several(name, 4)(labels, pred, None)
    assert metric(labels, pred) == pytest.approx(want, abs=1e-12, nan_ok=True)


def test_f1_without_anything_to_find() -> None:
    assert metrics.f1([0, 0], [0.1, 0.2]) == 0


def test_scores_of_nan() -> None:
    assert np.isnan(metrics.auc([0, 1, 1], [0.1, np.nan, 0.3]))
    assert np.isnan(metrics.log_loss([0, 1, 1], [0.1, np.nan, 0.3]))


def test_log_loss_of_certainty_and_of_probabilities(dtype: Any) -> None:
    sure = np.array([0.0, 1.0, 1.0], dtype)
    assert metrics.log_loss([0, 1, 0], sure) == pytest.approx(oracle.log_loss([0, 1, 0], sure), rel=1e-6)
    p = np.array([[0.2, 0.8], [0.5, 0.5]])
    assert metrics.log_loss(p, p) == exactly(-(p * np.log(p)).sum() / 2)
    assert metrics.log_loss(p[:, 1], p[:, 1]) == exactly(-(p * np.log(p)).sum() / 2)


@pytest.mark.parametrize("name", CLASSES)
def test_labels_out_of_range(name: str) -> None:
    with pytest.raises(ValueError, match="y_true must hold labels from 0 to 2, got 3"):
        metrics.METRICS[name].function([0, 3], np.full((2, 3), 1 / 3))
