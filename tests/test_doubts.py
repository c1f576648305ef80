"""Fits that come to nothing: what is said, once, as of which line; and of which fits nothing is."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastmlp import LBFGS, Adam, Model, schedules

pytestmark = pytest.mark.small


def data(rows: int = 30) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    return rng.standard_normal((rows, 4)), rng.standard_normal((rows, 2))


def net() -> Model:
    return Model([4, 6, 2], "tanh", rng=1)


def plain(model: Model, logs: dict[str, Any]) -> None:
    """A callback that makes the fit go epoch by epoch, and does nothing."""


def warned(call: Callable[[], Any]) -> list[str]:
    """What a call warns of, each as of the line that made it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert {one.filename for one in caught} <= {__file__}
    return [f"{one.category.__name__}: {one.message}" for one in caught]


WAYS: dict[str, Callable[[Model, Any, Any], Any]] = {
    "plain": lambda model, X, y: model.fit(X, y, 5, 8, lr=0.01, shuffle=False),
    "schedule": lambda model, X, y: model.fit(X, y, 5, 8, lr=schedules.Constant(0.01), shuffle=False),
    "epoch by epoch": lambda model, X, y: model.fit(X, y, 5, 8, lr=0.01, shuffle=False, callbacks=plain),
    "batches": lambda model, X, y: model.fit_batches([(X[:8], y[:8]), (X[8:], y[8:])], 5, lr=0.01),
    "lbfgs": lambda model, X, y: model.fit(X, y, 5, optimizer=LBFGS()),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("spoilt", ["X", "y"])
def test_a_loss_that_is_not_finite_is_said_once(way: str, spoilt: str) -> None:
    X, y = data()
    assert warned(lambda: WAYS[way](net(), X, y)) == []
    {"X": X, "y": y}[spoilt][11, 1] = np.nan
    said = warned(lambda: WAYS[way](net(), X, y))
    assert len(said) == 1
    cause = "look for NaN in the data" if way == "batches" else f"{spoilt} is not finite in row 11"
    assert said[0].startswith(f"RuntimeWarning: the loss was nan in epoch 0: {cause}")
    assert said[0].endswith("nonfinite='raise' or 'stop' ends a fit there, with the last finite weights")


@pytest.mark.parametrize("way", ["plain", "schedule", "epoch by epoch"])
def test_a_divergence_names_its_epoch_and_what_to_do(way: str) -> None:
    X, y = data()
    X = 1e10 * X
    straight, model = Model([4, 2], rng=0), Model([4, 2], rng=0)
    steps = [straight.step(X[start : start + 8], y[start : start + 8], lr=0.01) for start in 5 * [0, 8, 16, 24]]
    first = int(np.argmin(np.isfinite(steps))) // 4
    assert 0 < first < 5
    said = warned(lambda: WAYS[way](model, X, y))
    assert len(said) == 1
    assert f" in epoch {first}: X reaches 2" in said[0]
    assert "scale its columns to about 1. nonfinite=" in said[0]
    np.testing.assert_array_equal(model.params, straight.params)  # NumPy's numbers all the same
    said = warned(lambda: Model([4, 2], rng=0).fit(X / 1e10, 1e5 * y, 50, lr=1e10))
    assert "y reaches 2" in said[0]
    assert "train on (y - y.mean()) / y.std() and scale the predictions back. nonfinite=" in said[0]
    assert ": try a smaller lr" in warned(lambda: Model([4, 2], rng=0).fit(X / 1e10, y, 50, lr=1e10))[0]


def test_labels_are_no_numbers_to_scale() -> None:
    model = Model([1, 2000], loss="cross_entropy", rng=0)
    said = warned(lambda: model.fit([[1.0], [2.0]], [1999, 0], 9, lr=1.7e308))
    assert len(said) == 1
    assert "try a smaller lr" in said[0]


def test_a_weight_that_is_not_finite_is_said_at_the_end() -> None:
    def spoil(model: Model, logs: dict[str, Any]) -> None:
        model.params[0] = np.inf

    X, y = data()
    said = warned(lambda: net().fit(X, y, lr=0.01, callbacks=spoil))
    assert len(said) == 1
    assert said[0].startswith("RuntimeWarning: a weight was not finite after epoch 0: ")


def test_a_step_says_nan_by_itself() -> None:
    X, y = data()
    assert np.isnan(net().step(X * np.nan, y))


def scaled(loss: str = "mse", y: Any = None, **settings: Any) -> list[str]:
    """What a fit to targets around six million, or those given, warns of."""
    X, _ = data(100)
    y = 6e6 + 1e4 * X[:, 0] if y is None else y
    settings = {"optimizer": Adam(), "rng": 0, "epochs": 20, "batch_size": 10, **settings}
    return warned(lambda: Model([4, 6, 1], "tanh", loss, rng=1).fit(X, y, **settings))


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
@pytest.mark.parametrize("settings", [{}, {"callbacks": plain}, {"optimizer": Adam(schedules.Constant(1e-3))}])
def test_targets_out_of_reach_are_said(loss: str, settings: dict[str, Any]) -> None:
    said = scaled(loss, **settings)
    assert len(said) == 1
    assert said[0].startswith("UserWarning: 20 epochs have not lowered a loss of ")
    assert "with y of about 6e+06, train on (y - y.mean()) / y.std()" in said[0]


def test_targets_within_reach_are_no_matter() -> None:
    """Small ones; a fit too short to tell; one that gets on; one that is done, with what is left a large loss."""
    X, _ = data(100)
    noise = np.random.default_rng(0).standard_normal(100)
    assert scaled(y=noise) == []
    assert scaled(epochs=9) == []
    assert scaled(optimizer=Adam(1e3)) == []
    y = 6e6 + 1e5 * X[:, 0] + 1e4 * noise
    model = Model([4, 1], rng=1)
    model.weights[0][...] = np.linalg.lstsq(np.column_stack([X, np.ones(100)]), y, rcond=None)[0][:4, None]
    model.biases[0][...] = np.linalg.lstsq(np.column_stack([X, np.ones(100)]), y, rcond=None)[0][4]
    assert model.loss(X, y) > 1e7
    assert warned(lambda: model.fit(X, y, 20, optimizer=Adam())) == []
