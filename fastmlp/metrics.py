"""Metrics by name, as `Model.fit` reports them, and what counts as an improvement of one."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from fastmlp import validation


def accuracy(y_true: Any, y_pred: Any, sample_weight: Any = None, multilabel: bool = False) -> float:
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
        Each of several outputs is a question of its own, 1 above 0.5, and each answer counts (`Model.fit` does so for ``bce``).

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
    if validation.flag("multilabel", multilabel) or pred.shape[1] == 1:
        _check_shape(true, pred.shape)
        right = ((true > 0.5) == (pred > 0.5)).mean(axis=1)
    else:
        if true.shape[1] != 1:
            _check_shape(true, pred.shape)
            true = true.argmax(axis=1)[:, None]
        _check_shape(true, (len(pred), 1))
        right = true[:, 0] == pred.argmax(axis=1)
    return _mean(right, sample_weight).item()


def mse(y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
    """Mean squared error: mean((y_true - y_pred)**2) over rows and outputs; arguments and errors as for `r2`.

    Examples
    --------
    >>> from fastmlp.metrics import mse
    >>> mse([1.0, 2.0], [1.0, 4.0])
    2.0
    """
    return _mean(_errors(y_true, y_pred) ** 2, sample_weight).mean().item()


def mae(y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
    """Mean absolute error: mean(|y_true - y_pred|) over rows and outputs; arguments and errors as for `r2`.

    Examples
    --------
    >>> from fastmlp.metrics import mae
    >>> mae([1.0, 2.0], [1.0, 4.0])
    1.0
    """
    return _mean(np.abs(_errors(y_true, y_pred)), sample_weight).mean().item()


def rmse(y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
    """Root mean squared error: sqrt(mean((y_true - y_pred)**2)) over rows, and the mean of that over outputs.

    As scikit-learn's ``root_mean_squared_error``; arguments and errors as for `r2`.

    Examples
    --------
    >>> from fastmlp.metrics import rmse
    >>> rmse([1.0, 1.0], [3.0, -1.0])
    2.0
    """
    return np.sqrt(_mean(_errors(y_true, y_pred) ** 2, sample_weight)).mean().item()


def r2(y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
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


def _array(name: str, value: Any) -> np.ndarray:
    array = validation.numbers(name, value)
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(f"{name} must have shape (rows,) or (rows, outputs), got {array.shape}")
    array = array.astype(np.float64, copy=False)
    return array[:, None] if array.ndim == 1 else array


def _check_shape(true: np.ndarray, shape: tuple[int, ...]) -> None:
    if true.shape != shape:
        raise ValueError(f"y_true must have shape {shape} for such a y_pred, got {true.shape}")


def _errors(y_true: Any, y_pred: Any) -> np.ndarray:
    true, pred = _array("y_true", y_true), _array("y_pred", y_pred)
    _check_shape(true, pred.shape)
    return true - pred


def _mean(values: np.ndarray, sample_weight: Any) -> np.ndarray:
    """The mean over rows; `sample_weight` is checked."""
    if sample_weight is None:
        return np.mean(values, axis=0)
    return np.average(values, axis=0, weights=validation.weights("sample_weight", sample_weight, len(values)))


class Metric(NamedTuple):
    """What a name stands for.

    Attributes
    ----------
    function : callable
        ``function(y_true, y_pred, sample_weight=None)``, a float.
    mode : {"min", "max"}
        The better direction.
    """

    function: Callable[..., float]
    mode: str


METRICS = {
    "accuracy": Metric(accuracy, "max"),
    "mse": Metric(mse, "min"),
    "mae": Metric(mae, "min"),
    "rmse": Metric(rmse, "min"),
    "r2": Metric(r2, "max"),
}
MODES = ("auto", "min", "max")


def reported(monitor: str, names: Collection[str]) -> str:
    """The name among the logs' that `monitor` means."""
    name = monitor
    if monitor == "auto":
        name = "val_loss" if "val_loss" in names else "loss"
    if name not in names:
        known = ", ".join(name for name in names if name not in ("epoch", "lr"))
        raise ValueError(f"monitor must be one of what this fit reports, {known}; got {monitor!r}")
    return name


def monitored(monitor: str, mode: str, names: Collection[str]) -> tuple[str, str]:
    """The name among the logs' that `monitor` means, and whether less or more of it is better: "min" or "max"."""
    name = reported(monitor, names)
    if mode != "auto":
        return name, mode
    plain = name.removeprefix("val_")
    if plain != "loss" and plain not in METRICS:
        raise ValueError(
            f"mode must be 'min' or 'max' for monitor={monitor!r}, whose better direction is not known; got 'auto'"
        )
    return name, "min" if plain == "loss" else METRICS[plain].mode


class Best:
    """The best so far of what is monitored.

    Attributes
    ----------
    value : float or None
    name : str or None
        Of what is monitored, once there are logs.
    """

    def __init__(self, monitor: str, mode: str, min_delta: float) -> None:
        self._wanted, self._min_delta = (monitor, mode), min_delta
        self._found: tuple[str, str] | None = None
        self.value: float | None = None

    @property
    def name(self) -> str | None:
        """Of what is monitored, once there are logs."""
        return self._found[0] if self._found else None

    def improves(self, logs: Mapping[str, Any]) -> bool:
        """Whether an epoch's logs are better than all before by more than min_delta; they are the best then. NaN never is."""
        name, mode = self._found = self._found or monitored(*self._wanted, logs)
        value = float(logs[name])
        gain = np.inf if self.value is None else self.value - value if mode == "min" else value - self.value
        if np.isnan(value) or not gain > self._min_delta:
            return False
        self.value = value
        return True
