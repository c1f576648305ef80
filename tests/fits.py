"""Data and nets of the tests of `Model.fit` and `fit_batches`."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmlp import Model

LOSSES = {"mse": 2, "bce": 1, "cross_entropy": 3}  # and how many outputs


def data(loss: str, rows: int = 30) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    X = rng.standard_normal((rows, 4))
    if loss == "mse":
        return X, rng.standard_normal((rows, 2))
    return X, rng.integers(0, max(LOSSES[loss], 2), rows)


def net(loss: str, **settings: Any) -> Model:
    return Model([4, 6, LOSSES[loss]], "tanh", loss, rng=1, **settings)


def same(first: Model, second: Model) -> None:
    np.testing.assert_array_equal(first.params, second.params)


def plain(model: Model, logs: dict[str, Any]) -> None:
    """A callback that makes the fit go epoch by epoch, and does nothing."""
