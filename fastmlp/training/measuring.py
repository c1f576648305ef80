"""The metrics of a fit: what they are called with, and what they return."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fastmlp import checks
from fastmlp.callbacks import listed
from fastmlp.metrics import METRICS
from fastmlp.network import Network


def resolve(metrics: Any, network: Network) -> dict[str, partial[Any]]:
    """Name -> function(y_true, y_pred, sample_weight), from the argument of `Model.fit`: one metric or several."""
    found: dict[str, partial[Any]] = {}
    for metric in listed(metrics):
        metric = next((name for name, known in METRICS.items() if known.function is metric), metric)
        if callable(metric):
            name = getattr(metric, "__name__", type(metric).__name__)
            function = partial(_unweighted, metric)
        elif isinstance(metric, str):
            name = checks.choice("metrics", metric, METRICS)
            known = METRICS[name]
            separate = {"multilabel": network.loss == "bce"} if known.classifies else {}
            function = partial(known.function, **separate)
        else:
            raise TypeError(f"metrics must hold functions, or names of {', '.join(METRICS)}; got {metric!r}")
        if name in found or name in ("epoch", "loss", "lr") or name.startswith("val_"):
            raise ValueError(f"metrics must have names that no other column of the history has, got {name!r}")
        found[name] = function
    return found


def fit(metrics: dict[str, partial[Any]], true: np.ndarray, outputs: int) -> None:
    """Raise unless the metrics take the targets, by a trial on one row. Users' functions are called after epochs only."""
    for name, metric in metrics.items():
        if metric.func is not _unweighted:
            try:
                metric(true[:1], np.zeros((1, outputs)))
            except (TypeError, ValueError) as error:
                raise type(error)(f"metrics: {name!r} is not for such a y: {error}") from None


def _unweighted(metric: Callable[..., Any], y_true: np.ndarray, y_pred: np.ndarray, weights: Any) -> Any:
    return metric(y_true, y_pred)


def number(name: str, value: Any) -> float:
    """What a metric has returned, as a number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"metrics must return a number, got {value!r} from {name}") from None
