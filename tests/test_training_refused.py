"""Model.fit and fit_batches: what is refused, and what fails on the way, leaves the model as it was."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from fits import data, net, plain, same

import fastmlp
from fastmlp import Adam, Model, metrics, schedules

pytestmark = pytest.mark.small


class Watches:
    """A callback of nobody's class; it notes what is called."""

    def __init__(self, monitor: Any = "loss") -> None:
        self.monitor, self.calls = monitor, 0

    def on_train_begin(self, model: Model, logs: dict[str, Any]) -> None:
        self.calls += 1


class Wrong(schedules.Schedule):
    """Rates that cannot be."""

    def rates(self, first: int, count: int, steps: int, epochs: int) -> Any:
        return np.full(count, -1.0)


def changed(stopping: fastmlp.EarlyStopping, **settings: Any) -> fastmlp.EarlyStopping:
    """With settings that were put in later."""
    vars(stopping).update(settings)
    return stopping


@pytest.mark.parametrize("batches", [False, True])
@pytest.mark.parametrize(
    ("loss", "arguments", "message"),
    [
        ("cross_entropy", {"metrics": "mse"}, r"metrics: 'mse' is not for such a y: y_true must have shape \(1, 3\)"),
        ("cross_entropy", {"metrics": ["accuracy", metrics.r2]}, "metrics: 'r2' is not for such a y"),
        ("mse", {"callbacks": Watches("val_los")}, "monitor must be one of what this fit reports, loss.*; got 'val_los'"),
        ("mse", {"callbacks": changed(fastmlp.EarlyStopping(), monitor="mae")}, "monitor must be one of .*; got 'mae'"),
        ("mse", {"callbacks": changed(fastmlp.EarlyStopping(), mode="up")}, "mode must be one of auto, min, max; got 'up'"),
        ("mse", {"callbacks": changed(fastmlp.EarlyStopping(), patience=-1)}, "patience must be at least 0, got -1"),
        ("mse", {"lr": schedules.ReduceOnPlateau(0.1, monitor="mae")}, "monitor must be one of .*; got 'mae'"),
        ("mse", {"lr": Wrong()}, "Wrong.rates must return . finite numbers"),
        ("mse", {"nonfinite": "skip"}, "nonfinite must be one of"),
        ("mse", {"verbose": -1}, "verbose must be at least 0"),
        ("mse", {"validation_data": (np.zeros((3, 4)), np.zeros((4, 2)))}, "validation_data is refused: y must have"),
        ("mse", {"initial_epoch": 5}, "epochs must be more than initial_epoch=5: it is where the fit ends; got 5"),
        ("mse", {"initial_epoch": -1}, "initial_epoch must be at least 0"),
        ("mse", {"rng": -1}, "rng must be at least 0"),
    ],
)
def test_refused_before_anything_begins(loss: str, arguments: dict[str, Any], message: str, batches: bool) -> None:
    """Parameters, moments, generators and other callbacks are as they were."""
    X, y = data(loss)
    model, kept, rng, begun = net(loss), net(loss), np.random.default_rng(0), Watches()
    for one in (model, kept):
        one.fit(X, y, 2, optimizer=Adam(0.1))
    state = rng.bit_generator.state
    arguments = {"lr": 0.1, "rng": rng, "validation_data": (X, y), "callbacks": [], **arguments}
    callbacks = [begun, arguments.pop("callbacks")]
    call: Any = (lambda **settings: model.fit_batches([(X, y)], 5, **settings)) if batches else partial(model.fit, X, y, 5)
    with pytest.raises(ValueError, match=message):
        call(**arguments, callbacks=[one for one in callbacks if one])
    assert rng.bit_generator.state == state
    assert begun.calls == 0
    same(model, kept)
    for one in (model, kept):
        one.fit(X, y, 2, optimizer=Adam(0.1))
    same(model, kept)


def test_a_generator_moves_on_last() -> None:
    X, y = data("mse")
    rng = np.random.default_rng(0)
    state = rng.bit_generator.state
    for settings in ({"epochs": 0}, {"verbose": "x"}, {"verbose": -1}, {"batch_size": 0}, {"shuffle": 1}):
        with pytest.raises((TypeError, ValueError)):
            net("mse").fit(X, y, **{"batch_size": 8, "rng": rng, **settings})
        assert rng.bit_generator.state == state, settings


def test_functions_of_users_are_called_after_epochs_only() -> None:
    X, y = data("mse")
    calls = []

    def rmse(y_true: Any, y_pred: Any) -> float:
        calls.append(len(y_pred))
        return 0.0

    net("mse").fit(X, y, 3, lr=0.1, metrics=rmse, validation_split=0.2)
    assert calls == [24, 6] * 3


@pytest.mark.parametrize("nonfinite", ["ignore", "stop"])
def test_what_fails_later_leaves_the_last_epoch(nonfinite: str) -> None:
    X, y = data("mse")
    calls = 0

    def fails(*arguments: Any) -> float:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise RuntimeError("planted")
        return 0.0

    class Late(schedules.Schedule):
        def rates(self, first: int, count: int, steps: int, epochs: int) -> Any:
            return np.full(count, np.nan if first >= 4 * steps else 0.1)

    other = net("mse")
    other.fit(X, y, 4, 8, lr=0.1, rng=0)
    for settings in ({"metrics": fails, "lr": 0.1}, {"callbacks": fails, "lr": 0.1}, {"callbacks": plain, "lr": Late()}):
        model, calls = net("mse"), 0
        with pytest.raises((RuntimeError, ValueError), match=r"planted|Late\.rates must return"):
            model.fit(X, y, 9, 8, rng=0, nonfinite=nonfinite, **settings)
        same(model, other)


def test_an_exception_amid_a_divergence_leaves_finite_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = data("mse")
    model, good = net("mse"), net("mse")
    for one in (model, good):
        one.fit(X, y, 2, 8, optimizer=Adam(0.1), shuffle=False)
    train = model._engine.train

    def interrupted(*arguments: Any) -> None:
        train(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(model._engine, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X * np.nan, y, 9, 8, optimizer=Adam(0.1), nonfinite="stop")
    monkeypatch.undo()
    for one in (model, good):
        one.fit(X, y, 2, 8, optimizer=Adam(0.1), shuffle=False)
    same(model, good)


X4, Y4 = data("mse")
V = "validation_data is refused: "
REFUSED: list[tuple[dict[str, Any], Any, str]] = [
    ({"sample_weight": np.ones(29)}, ValueError, r"sample_weight must have shape \(30,\), .*got \(29,\)"),
    ({"sample_weight": np.ones((30, 1))}, ValueError, r"sample_weight must have shape \(30,\)"),
    ({"sample_weight": -np.ones(30)}, ValueError, "sample_weight must be finite and at least 0, got -1.0"),
    ({"sample_weight": np.full(30, np.nan)}, ValueError, "sample_weight must be finite .*got nan"),
    ({"sample_weight": np.zeros(30)}, ValueError, "sample_weight must have a positive sum"),
    ({"sample_weight": ["a"] * 30}, TypeError, "sample_weight must hold real numbers"),
    ({"class_weight": {0: 1.0}}, ValueError, "class_weight needs the integer labels or .*got loss='mse'"),
    ({"validation_split": 1.0}, ValueError, "validation_split must be .* below 1, got 1.0"),
    ({"validation_split": -0.1}, ValueError, "validation_split must be .* at least 0"),
    ({"validation_split": "0.1"}, TypeError, "validation_split must be a number"),
    ({"validation_split": 0.999}, ValueError, "validation_split must leave rows on both sides, got 0.999 of 30 rows"),
    ({"validation_split": 0.5, "validation_data": (X4, Y4)}, ValueError, "validation_split must not be given together"),
    (
        {"validation_split": 0.5, "sample_weight": np.arange(30) < 15},
        ValueError,
        "sample_weight must have a positive sum in the last part of validation_split",
    ),
    ({"validation_data": X4}, TypeError, r"validation_data must be \(X, y\) or .*got a ndarray"),
    ({"validation_data": (X4,)}, TypeError, r"validation_data must be .*got a tuple of 1"),
    ({"validation_data": (X4[:, :2], Y4)}, ValueError, V + r"X must have shape \(rows, 4\), got \(30, 2\)"),
    ({"validation_data": (X4, Y4[:5])}, ValueError, V + "y must have as many rows as X, 30; got 5"),
    ({"validation_data": (X4, Y4, -np.ones(30))}, ValueError, V + "sample_weight must be finite"),
    ({"metrics": "acuracy"}, ValueError, "metrics must be one of accuracy, .*, mse, .*got 'acuracy'"),
    ({"metrics": [3]}, TypeError, "metrics must hold functions, or names of accuracy, .*got 3"),
    ({"metrics": ["mse", "mse"]}, ValueError, "metrics must have names that no other column of the history has, got 'mse'"),
    ({"metrics": "accuracy", "callbacks": 3}, TypeError, "callbacks must hold functions"),
    ({"label_smoothing": 1.0}, ValueError, "label_smoothing must be .* below 1"),
    ({"label_smoothing": 0.1}, ValueError, "label_smoothing is for loss='bce' and 'cross_entropy', got loss='mse'"),
    ({"nonfinite": "skip"}, ValueError, "nonfinite must be one of ignore, raise, stop; got 'skip'"),
    ({"nonfinite": None}, TypeError, "nonfinite must be one of ignore, raise, stop; got None"),
    ({"verbose": "all"}, TypeError, "verbose must be an integer, True, False or 'bar', got 'all'"),
    ({"metrics": "mse", "shuffle": 1}, TypeError, "shuffle must be True or False"),
    ({"metrics": "mse", "batch_size": 0}, ValueError, "batch_size must be at least 1"),
    ({"metrics": "mse", "epochs": 0}, ValueError, "epochs must be at least 1"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), REFUSED)
def test_refused_before_anything_changes(arguments: dict[str, Any], error: Any, message: str) -> None:
    model = net("mse")
    kept, rng = model.params.copy(), np.random.default_rng(0)
    state = rng.bit_generator.state
    with pytest.raises(error, match=message):
        model.fit(X4, Y4, rng=rng, **arguments)
    np.testing.assert_array_equal(model.params, kept)
    assert rng.bit_generator.state == state


@pytest.mark.parametrize(
    ("loss", "y", "weights", "error", "message"),
    [
        ("cross_entropy", None, {3: 1.0}, ValueError, "class_weight must have labels from 0 to 2 for its keys, got 3"),
        ("cross_entropy", None, {"a": 1.0}, ValueError, "class_weight must have labels from 0 to 2 .*got 'a'"),
        ("cross_entropy", None, {0: -1.0}, ValueError, r"class_weight\[0\] must be .* at least 0"),
        ("cross_entropy", None, {0: 0, 1: 0, 2: 0}, ValueError, "class_weight must leave some row a weight above 0"),
        ("cross_entropy", None, "balance", TypeError, "class_weight must be a dict .*got 'balance'"),
        ("cross_entropy", np.full((30, 3), 1 / 3), "balanced", ValueError, r"class_weight needs .*shape \(30, 3\)"),
        ("cross_entropy", np.ones((30, 3)), "balanced", ValueError, r"class_weight needs .*one-hot rows"),
        ("bce", np.full(30, 0.5), "balanced", ValueError, "class_weight needs the integer labels"),
    ],
)
def test_class_weight_is_refused(loss: str, y: Any, weights: Any, error: Any, message: str) -> None:
    X, labels = data(loss)
    model = net(loss)
    kept = model.params.copy()
    with pytest.raises(error, match=message):
        model.fit(X, labels if y is None else y, class_weight=weights)
    np.testing.assert_array_equal(model.params, kept)
