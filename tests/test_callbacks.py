"""Callbacks: when they are called, with what, and what EarlyStopping makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastmlp
from fastmlp import Callback, EarlyStopping, Model

pytestmark = pytest.mark.small

X = np.random.default_rng(0).standard_normal((20, 2))
Y = X.sum(axis=1)


def run(callbacks: Any, epochs: int = 5, **settings: Any) -> tuple[Model, fastmlp.History]:
    model = Model([2, 1], rng=0)
    return model, model.fit(X, Y, epochs, lr=0.1, callbacks=callbacks, **settings)


def feed(stopping: EarlyStopping, losses: list[float], name: str = "loss") -> tuple[Model, int]:
    """A model whose weights are the epoch's number, and how many epochs there were."""
    model = Model([1, 1])
    stopping.on_train_begin(model, {"epochs": len(losses)})
    for epoch, loss in enumerate(losses):
        model.params[:] = epoch
        if stopping.on_epoch_end(model, {"epoch": epoch, name: loss}):
            break
    stopping.on_train_end(model, {})
    return model, epoch + 1


class Recorder(Callback):
    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def on_train_begin(self, model: Model, logs: dict[str, Any]) -> None:
        self.calls.append(("begin", dict(logs)))

    def on_epoch_end(self, model: Model, logs: dict[str, Any]) -> None:
        self.calls.append(("epoch", dict(logs)))

    def on_train_end(self, model: Model, logs: dict[str, Any]) -> None:
        self.calls.append(("end", dict(logs)))


def test_the_order_of_calls_and_their_logs() -> None:
    recorder = Recorder()
    _, history = run(recorder, 3, metrics=["mae"], validation_split=0.5)
    assert [name for name, _ in recorder.calls] == ["begin", "epoch", "epoch", "epoch", "end"]
    assert recorder.calls[0][1] == {"epochs": 3, "steps": 1}
    rows = [{name: column[epoch] for name, column in history.items()} for epoch in range(3)]
    assert [logs for _, logs in recorder.calls[1:4]] == rows
    assert list(rows[0]) == ["epoch", "loss", "mae", "val_loss", "val_mae"]
    assert recorder.calls[4][1] == rows[-1]


def test_functions_and_objects_with_some_of_the_methods() -> None:
    seen = []

    class Ends:
        def on_train_end(self, model: Model, logs: dict[str, Any]) -> None:
            seen.append("end")

    run([lambda model, logs: seen.append(logs["epoch"]), Ends()], 2)
    assert seen == [0, 1, "end"]


@pytest.mark.parametrize(("said", "epochs"), [(True, 1), (np.True_, 1), (False, 5), (1, 5), ("stop", 5), (None, 5)])
def test_true_and_nothing_else_stops(said: Any, epochs: int) -> None:
    seen = []
    _, history = run([lambda model, logs: said, lambda model, logs: seen.append(logs["epoch"])])
    assert history["epoch"] == list(range(epochs)) == seen  # the others hear of the last epoch, too
    assert len(history["loss"]) == epochs


def test_a_callback_may_use_and_change_the_model() -> None:
    def halve(model: Model, logs: dict[str, Any]) -> None:
        assert model.loss(X, Y) < logs["loss"]
        model.params[...] *= 0.5

    model, history = run(halve)
    other = Model([2, 1], rng=0)
    losses = []
    for _ in range(5):
        losses += other.fit(X, Y, lr=0.1)["loss"]
        other.params[...] *= 0.5
    assert history["loss"] == losses
    np.testing.assert_array_equal(model.params, other.params)


def test_an_exception_ends_the_fit_with_that_epochs_weights() -> None:
    def fails(model: Model, logs: dict[str, Any]) -> None:
        if logs["epoch"] == 2:
            raise RuntimeError("planted")

    model, ended = Model([2, 1], rng=0), Recorder()
    with pytest.raises(RuntimeError, match="planted"):
        model.fit(X, Y, 5, lr=0.1, callbacks=[fails, ended])
    assert "end" not in [name for name, _ in ended.calls]
    other = Model([2, 1], rng=0)
    other.fit(X, Y, 3, lr=0.1)
    np.testing.assert_array_equal(model.params, other.params)
    assert model.fit(X, Y, 2, lr=0.1)["loss"] == other.fit(X, Y, 2, lr=0.1)["loss"]


@pytest.mark.parametrize("callbacks", [3, "early", [None], [EarlyStopping], object(), {"a": 1}])
def test_what_is_no_callback_is_refused(callbacks: Any) -> None:
    model = Model([2, 1], rng=0)
    kept = model.params.copy()
    with pytest.raises(TypeError, match=r"callbacks must hold functions, or objects that have on_train_begin, .*; got "):
        model.fit(X, Y, callbacks=callbacks)
    np.testing.assert_array_equal(model.params, kept)


# ---- EarlyStopping ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restore", [True, False])
def test_stops_after_patience_epochs_without_an_improvement(restore: bool) -> None:
    stopping = EarlyStopping(patience=3, restore_best_weights=restore)
    for _ in range(2):  # the second time it starts anew
        model, epochs = feed(stopping, [5.0, 4.0, 4.5, 3.0, 3.0, 3.1, 2.9, 3.0, 3.0, 3.0, 1.0])
        assert epochs == 10
        assert (stopping.best, stopping.best_epoch, stopping.stopped_epoch) == (2.9, 6, 9)
        assert (model.params == (6 if restore else 9)).all()


def test_the_best_weights_come_back_at_the_last_epoch_too() -> None:
    stopping = EarlyStopping(patience=10)
    model, epochs = feed(stopping, [5.0, 4.0, 4.5, 4.6])
    assert (epochs, stopping.stopped_epoch) == (4, None)
    assert (model.params == 1).all()


def test_min_delta() -> None:
    assert feed(EarlyStopping(patience=2), [1.0, 0.9, 0.8, 0.7])[1] == 4
    assert feed(EarlyStopping(patience=2, min_delta=0.15), [1.0, 0.9, 0.8, 0.7, 0.6])[1] == 5
    assert feed(EarlyStopping(patience=2, min_delta=0.25), [1.0, 0.9, 0.8, 0.7])[1] == 3


def test_more_is_better_of_some() -> None:
    rising = [0.1, 0.2, 0.3, 0.4, 0.5]
    for name in ("accuracy", "val_accuracy", "r2"):
        assert feed(EarlyStopping(name, patience=1), rising, name)[1] == 5
    assert feed(EarlyStopping("mine", patience=1, mode="max"), rising, "mine")[1] == 5
    assert feed(EarlyStopping("mse", patience=1), rising, "mse")[1] == 2
    assert feed(EarlyStopping("accuracy", patience=1, mode="min"), rising, "accuracy")[1] == 2


def test_nan_is_no_improvement() -> None:
    stopping = EarlyStopping(patience=2)
    model, epochs = feed(stopping, [float("nan"), float("nan"), 1.0])
    assert (epochs, stopping.best, stopping.best_epoch) == (2, None, None)
    assert (model.params == 1).all()  # there is nothing to go back to


def test_no_patience_is_one_epoch() -> None:
    for patience in (0, 1):
        stopping = EarlyStopping(patience=patience)
        assert feed(stopping, [5.0, 4.0, 4.5, 3.0])[1] == 3
        assert (stopping.best_epoch, stopping.stopped_epoch) == (1, 2)


def test_epochs_before_the_first_that_counts_are_not_looked_at() -> None:
    stopping = EarlyStopping(patience=2, start_from_epoch=3)
    model, epochs = feed(stopping, [1.0, 2.0, 3.0, 9.0, 8.0, 8.5, 8.1, 1.0])
    assert (epochs, stopping.best, stopping.best_epoch, stopping.stopped_epoch) == (7, 8.0, 4, 6)
    assert (model.params == 4).all()
    model, epochs = feed(EarlyStopping(patience=2, start_from_epoch=9), [1.0, 2.0, 3.0])
    assert epochs == 3
    assert (model.params == 2).all()  # there is nothing to go back to


def test_the_first_epoch_that_counts_may_be_of_one_step() -> None:
    """Its loss is that of the weights before it, which are kept although no epoch before it counts."""
    model, stopping = Model([2, 8, 1], "tanh", rng=0), EarlyStopping(patience=100, start_from_epoch=30)
    history = model.fit(X, Y, 40, lr=1.2, callbacks=stopping)
    assert stopping.best == min(history["loss"][30:])
    assert model.loss(X, Y) == pytest.approx(stopping.best, rel=1e-12)


def test_a_baseline_has_to_be_reached_within_the_patience() -> None:
    """As in Keras: an epoch that is the best so far, but no better than the baseline, counts and does not end the fit."""
    stopping = EarlyStopping(patience=3, baseline=2.0)
    assert feed(stopping, [9.0, 8.0, 7.0, 6.0, 6.5, 1.0])[1] == 5
    assert (stopping.best_epoch, stopping.stopped_epoch) == (3, 4)
    assert feed(stopping, [9.0, 8.0, 1.9, 2.1, 2.1, 2.1, 1.0])[1] == 6
    assert feed(EarlyStopping("r2", patience=2, baseline=0.5), [0.1, 0.2, 0.3, 0.2, 0.9], "r2")[1] == 4
    assert feed(EarlyStopping("r2", patience=2, baseline=0.5), [0.1, 0.6, 0.5, 0.9], "r2")[1] == 4
    assert feed(EarlyStopping(patience=2, baseline=2.0, min_delta=0.2), [1.9, 1.9, 1.0])[1] == 2


@pytest.mark.parametrize("restore", [True, False])
def test_the_former_name_of_restore_best_weights(restore: bool) -> None:
    made = EarlyStopping(patience=1, restore_best=restore)
    changed = EarlyStopping(patience=1)
    changed.restore_best = restore
    for stopping in (made, changed):
        model, _ = feed(stopping, [1.0, 2.0])
        assert (model.params == (0 if restore else 1)).all()


def test_within_a_fit() -> None:
    """Of what is reported, the loss of an epoch is that before its updates, the validation's after them."""
    stopping = EarlyStopping(patience=5)
    model = Model([2, 8, 1], "tanh", rng=0)
    noise = np.random.default_rng(1).standard_normal(20)
    history = model.fit(X, noise, 10_000, lr=0.2, validation_split=0.5, callbacks=[stopping])
    assert stopping.stopped_epoch == len(history["loss"]) - 1 < 9_999
    assert stopping.best_epoch == int(np.argmin(history["val_loss"])) == stopping.stopped_epoch - 5
    assert model.loss(X[10:], noise[10:]) == stopping.best == min(history["val_loss"])


@pytest.mark.parametrize("way", ["fit", "patience", "batches"])
def test_the_weights_of_a_full_batchs_best_loss(way: str) -> None:
    """The loss that an epoch of one step reports is that of the weights before it."""
    model = Model([2, 8, 1], "tanh", rng=0)
    stopping = EarlyStopping("auto" if way == "fit" else "loss", patience=3 if way == "patience" else 100)
    if way == "batches":
        history = model.fit_batches([(X, Y)], 40, lr=1.2, callbacks=stopping)
    else:
        history = model.fit(X, Y, 40, lr=1.2, callbacks=stopping)
    assert sorted(history["loss"], reverse=True) != history["loss"]
    assert (stopping.stopped_epoch is not None) == (way == "patience")
    assert stopping.best == min(history["loss"])
    assert model.loss(X, Y) == pytest.approx(stopping.best, rel=1e-12)


def test_the_best_weights_of_minibatches_are_those_after_the_epoch() -> None:
    """As in Keras: such an epoch's loss is of no single weights. So are a metric's, which is computed after the epoch."""
    cases: list[tuple[str, dict[str, Any]]] = [("loss", {"batch_size": 5, "shuffle": False}), ("mae", {"metrics": "mae"})]
    for monitor, settings in cases:
        stopping, model, kept = EarlyStopping(monitor, patience=100), Model([2, 8, 1], "tanh", rng=0), []

        def keep(model: Model, logs: dict[str, Any], kept: list[Any] = kept) -> None:
            kept.append(model.params.copy())

        history = model.fit(X, Y, 40, lr=0.3, callbacks=[stopping, keep], **settings)
        assert stopping.best_epoch == int(np.argmin(history[monitor]))
        np.testing.assert_array_equal(model.params, kept[stopping.best_epoch])
    stopping, model = EarlyStopping("loss"), Model([2, 8, 1], "tanh", rng=0)
    model.fit(X, Y, 20, optimizer=fastmlp.LBFGS(), callbacks=stopping)
    assert model.loss(X, Y) <= stopping.best


def test_what_it_watches_has_to_be_reported() -> None:
    model = Model([2, 1], rng=0)
    kept = model.params.copy()
    for stopping, message in (
        (EarlyStopping("val_loss"), "monitor must be one of what this fit reports, loss; got 'val_loss'"),
        (EarlyStopping("mae"), "monitor must be one of .*got 'mae'"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(X, Y, callbacks=stopping)
    with pytest.raises(ValueError, match="mode must be 'min' or 'max' for monitor='mine'"):
        model.fit(X, Y, callbacks=EarlyStopping("mine"), metrics=mine)
    np.testing.assert_array_equal(model.params, kept)


def mine(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    return 1.0


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"patience": -1}, ValueError, "patience must be at least 0"),
        ({"patience": 1.5}, TypeError, "patience must be an integer"),
        ({"min_delta": -1}, ValueError, "min_delta must be .* at least 0"),
        ({"mode": "down"}, ValueError, "mode must be one of auto, min, max; got 'down'"),
        ({"monitor": None}, TypeError, "monitor must be a string"),
        ({"restore_best_weights": 1}, TypeError, "restore_best_weights must be True or False"),
        ({"restore_best": 1}, TypeError, "restore_best must be True or False"),
        ({"baseline": "0.1"}, TypeError, "baseline must be a number"),
        ({"start_from_epoch": -1}, ValueError, "start_from_epoch must be at least 0"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        EarlyStopping(**settings)
