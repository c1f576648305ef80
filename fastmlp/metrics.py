"""Metrics by name, as `Model.fit` reports them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastmlp import checks

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__docformat__ = "numpy"


def accuracy(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None, multilabel: bool = False) -> float:
    """The fraction of rows that are classified rightly.

    Parameters
    ----------
    y_true : array
        One output: 0 or 1, (rows,) or (rows, 1). Several: integer labels (rows,) or (rows, 1), or one-hot or probability rows
        (rows, outputs), whose largest entry is the label.
    y_pred : (rows,) or (rows, outputs) array
        Probabilities. One output says 1 above 0.5; of several the largest counts.
    sample_weight : (rows,) array or None
    multilabel : bool
        Whether each of several outputs answers a separate yes-or-no question, with 1 above 0.5. The score is then the mean over
        the questions. `Model.fit` does so for ``bce``.

    Raises
    ------
    ValueError, TypeError
        If the arrays do not fit together or do not hold real numbers.

    Examples
    --------
    >>> from fastmlp.metrics import accuracy
    >>> accuracy([0, 1, 1, 1], [0.2, 0.9, 0.4, 0.8])
    0.75
    >>> accuracy([2, 0], [[0.1, 0.2, 0.7], [0.3, 0.4, 0.3]])
    0.5
    >>> accuracy([[1, 0], [1, 1]], [[0.9, 0.1], [0.8, 0.3]], multilabel=True)
    0.75
    """
    true, pred = _array("y_true", y_true), _array("y_pred", y_pred)
    if checks.flag("multilabel", multilabel) or pred.shape[1] == 1:
        _check_shape(true, pred.shape)
        right = ((true > 0.5) == (pred > 0.5)).mean(axis=1)
    else:
        if true.shape[1] != 1:
            _check_shape(true, pred.shape)
            true = true.argmax(axis=1)[:, None]
        _check_shape(true, (len(pred), 1))
        right = true[:, 0] == pred.argmax(axis=1)
    return _mean(right, sample_weight).item()


def auc(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None, multilabel: bool = False) -> float:
    """The area under the ROC curve: how often a row of the class gets more than another row does; a tie counts 1/2.

    Of several outputs, the mean over the classes, each against the others, as scikit-learn's ``roc_auc_score`` with
    ``multi_class="ovr"``. NaN if a class has no rows, or all of them, or if a prediction is NaN; rows with a weight of 0 are
    left out. Arguments and errors as for `accuracy`.

    Examples
    --------
    >>> from fastmlp.metrics import auc
    >>> auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    >>> auc([1, 1], [0.3, 0.8])
    nan
    """
    rows = _classes(y_true, y_pred, sample_weight, multilabel)
    areas = [_area(true, pred, rows.weights) for true, pred in zip(rows.true.T, rows.pred.T, strict=True)]
    return float(np.mean(areas))


def _area(true: np.ndarray, pred: np.ndarray, weights: np.ndarray) -> float:
    values, place = np.unique(pred, return_inverse=True)
    inside, outside = (np.bincount(place, weights * side) for side in (true, ~true))
    pairs = float(inside.sum() * outside.sum())
    if pairs == 0 or np.isnan(values[-1]):  # NaN is sorted last
        return np.nan
    return float(inside @ (np.cumsum(outside) - outside / 2)) / pairs


def balanced_accuracy(
    y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None, multilabel: bool = False
) -> float:
    """The mean over the classes of the fraction of their rows that are classified rightly.

    As scikit-learn's ``balanced_accuracy_score``: a class without rows does not count, so that of one class alone this is
    `accuracy`; rows with a weight of 0 are left out. Arguments and errors as for `accuracy`.

    Examples
    --------
    >>> from fastmlp.metrics import balanced_accuracy
    >>> balanced_accuracy([0, 1, 1, 1, 1], [0.2, 0.9, 0.4, 0.3, 0.8])
    0.75
    """
    rows = _classes(y_true, y_pred, sample_weight, multilabel)
    sides = [(rows.true, rows.said)] if rows.several else [(rows.true, rows.said), (~rows.true, ~rows.said)]
    sums = np.array([rows.weights @ true for true, _ in sides])
    right = np.array([rows.weights @ (true & said) for true, said in sides])
    recalls = np.where(sums > 0, right / np.where(sums > 0, sums, 1), np.nan)
    return float(np.nanmean(recalls) if rows.several else np.nanmean(recalls, axis=0).mean())


def f1(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None, multilabel: bool = False) -> float:
    """The F1 score, 2 tp / (2 tp + fp + fn), of class 1; of several outputs, the mean over the classes.

    As scikit-learn's ``f1_score``, with ``average="macro"`` for several outputs: a class that no row has, and none is said to
    have, does not count. Of one output, 0 if no row is 1 and none is said to be. Arguments and errors as for `accuracy`.

    Examples
    --------
    >>> from fastmlp.metrics import f1
    >>> f1([0, 1, 1, 1], [0.2, 0.9, 0.4, 0.8])
    0.8
    >>> f1([2, 0], [[0.1, 0.2, 0.7], [0.3, 0.4, 0.3]])
    0.3333333333333333
    """
    rows = _classes(y_true, y_pred, sample_weight, multilabel)
    both = rows.weights @ rows.true + rows.weights @ rows.said  # 2 tp + fp + fn
    scores = 2 * (rows.weights @ (rows.true & rows.said)) / np.where(both > 0, both, 1)
    return float(scores[(rows.true | rows.said).any(axis=0)].mean() if rows.several else scores.mean())


def log_loss(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None, multilabel: bool = False) -> float:
    """Minus the mean logarithm of the probability that each row's class was given.

    As scikit-learn's ``log_loss``: probabilities are clipped to [e, 1 - e], where e is ``numpy.finfo(dtype).eps``. Where y_true
    has probabilities, the logarithms are weighted with them. Rows of one class alone are nothing special. Arguments and errors
    as for `accuracy`.

    Examples
    --------
    >>> from fastmlp.metrics import log_loss
    >>> round(log_loss([0, 1, 1], [0.2, 0.9, 0.4]), 4)
    0.4149
    """
    rows = _classes(y_true, y_pred, sample_weight, multilabel)
    kind = checks.numbers("y_pred", y_pred).dtype
    eps = float(np.finfo(kind if kind.kind == "f" else np.float64).eps)
    p = np.clip(rows.pred, eps, 1 - eps)
    if rows.several:
        gains = (rows.shares * np.log(p)).sum(axis=1)
    else:
        gains = (rows.shares * np.log(p) + (1 - rows.shares) * np.log1p(-p)).mean(axis=1)
    return -float(np.average(gains, weights=rows.weights))


class _Classes(NamedTuple):
    """Rows, and what a model says of their classes; arrays of shape (rows, outputs) but for the weights."""

    true: np.ndarray  # whether it is of the class
    said: np.ndarray  # whether the model says so
    shares: np.ndarray  # y_true as it came, or one-hot rows of its labels
    pred: np.ndarray
    weights: np.ndarray
    several: bool  # whether the outputs are the classes of one question, not each a question


def _classes(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None, multilabel: bool) -> _Classes:
    shares, pred = _array("y_true", y_true), _array("y_pred", y_pred)
    several = not checks.flag("multilabel", multilabel) and pred.shape[1] > 1
    if several:
        numbers = np.arange(pred.shape[1])
        if shares.shape[1] == 1:
            _check_shape(shares, (len(pred), 1))
            true = shares == numbers
            if not (known := true.any(axis=1)).all():
                raise ValueError(f"y_true must hold labels from 0 to {numbers[-1]}, got {shares[~known][0].item()!r}")
            shares = true
        else:
            _check_shape(shares, pred.shape)
            true = shares.argmax(axis=1)[:, None] == numbers
        said = pred.argmax(axis=1)[:, None] == numbers
    else:
        _check_shape(shares, pred.shape)
        true, said = shares > 0.5, pred > 0.5
    weights = np.ones(len(pred))
    if sample_weight is not None:
        weights = checks.weights("sample_weight", sample_weight, len(pred))
    return _Classes(true, said, shares, pred, weights, several)


def mse(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Mean squared error: mean((y_true - y_pred)**2) over rows and outputs; arguments and errors as for `r2`.

    Examples
    --------
    >>> from fastmlp.metrics import mse
    >>> mse([1.0, 2.0], [1.0, 4.0])
    2.0
    """
    return _mean(_errors(y_true, y_pred) ** 2, sample_weight).mean().item()


def mae(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Mean absolute error: mean(|y_true - y_pred|) over rows and outputs; arguments and errors as for `r2`.

    Examples
    --------
    >>> from fastmlp.metrics import mae
    >>> mae([1.0, 2.0], [1.0, 4.0])
    1.0
    """
    return _mean(np.abs(_errors(y_true, y_pred)), sample_weight).mean().item()


def rmse(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Root mean squared error: sqrt(mean((y_true - y_pred)**2)) over rows, and the mean of that over outputs.

    As scikit-learn's ``root_mean_squared_error``; arguments and errors as for `r2`.

    Examples
    --------
    >>> from fastmlp.metrics import rmse
    >>> rmse([1.0, 1.0], [3.0, -1.0])
    2.0
    """
    return np.sqrt(_mean(_errors(y_true, y_pred) ** 2, sample_weight)).mean().item()


def r2(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Coefficient of determination: 1 - sum((y_true - y_pred)**2) / sum((y_true - mean(y_true))**2), the mean over outputs.

    A target that is constant counts 1 if it is predicted exactly, else 0, as scikit-learn's ``r2_score`` has it.

    Parameters
    ----------
    y_true, y_pred : (rows,) or (rows, outputs) arrays
    sample_weight : (rows,) array or None

    Raises
    ------
    ValueError, TypeError
        If the arrays do not fit together or do not hold real numbers.

    Examples
    --------
    >>> from fastmlp.metrics import r2
    >>> r2([1.0, 2.0, 3.0], [1.0, 2.0, 4.0])
    0.5
    """
    left = _mean(_errors(y_true, y_pred) ** 2, sample_weight)
    true = _array("y_true", y_true)
    spread = _mean((true - _mean(true, sample_weight)) ** 2, sample_weight)
    constant = spread == 0
    scores = np.where(constant, left == 0, 1 - left / np.where(constant, 1, spread))
    return scores.mean().item()


def _array(name: str, value: ArrayLike) -> np.ndarray:
    array = checks.numbers(name, value)
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(f"{name} must have shape (rows,) or (rows, outputs), got {array.shape}")
    array = array.astype(np.float64, copy=False)
    return array[:, None] if array.ndim == 1 else array


def _check_shape(true: np.ndarray, shape: tuple[int, ...]) -> None:
    if true.shape != shape:
        raise ValueError(f"y_true must have shape {shape} for such a y_pred, got {true.shape}")


def _errors(y_true: ArrayLike, y_pred: ArrayLike) -> np.ndarray:
    true, pred = _array("y_true", y_true), _array("y_pred", y_pred)
    _check_shape(true, pred.shape)
    return true - pred


def _mean(values: np.ndarray, sample_weight: ArrayLike | None) -> np.ndarray:
    """The mean over rows; `sample_weight` is checked."""
    if sample_weight is None:
        return np.mean(values, axis=0)
    return np.average(values, axis=0, weights=checks.weights("sample_weight", sample_weight, len(values)))


@dataclass(frozen=True)
class Metric:
    """What a name stands for.

    Attributes
    ----------
    function : callable
        ``function(y_true, y_pred, sample_weight=None)``, a float.
    mode : {"min", "max"}
        The better direction.
    classifies : bool
        Whether it is for classes; its function then has the parameter ``multilabel``.
    """

    function: Callable[..., float]
    mode: str
    classifies: bool = False


METRICS = {
    "accuracy": Metric(accuracy, "max", classifies=True),
    "balanced_accuracy": Metric(balanced_accuracy, "max", classifies=True),
    "auc": Metric(auc, "max", classifies=True),
    "f1": Metric(f1, "max", classifies=True),
    "log_loss": Metric(log_loss, "min", classifies=True),
    "mse": Metric(mse, "min"),
    "mae": Metric(mae, "min"),
    "rmse": Metric(rmse, "min"),
    "r2": Metric(r2, "max"),
}
__all__ = ["METRICS", "Metric", *METRICS]


def __dir__() -> list[str]:
    return __all__
