"""Model.fit and fit_batches: each way to ask for something against the same thing done by hand."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reference
from fits import LOSSES, data, net, plain, same

import fastmlp
from fastmlp import LBFGS, SGD, Adam, Model, metrics, schedules
from fastmlp.training import epochs

pytestmark = pytest.mark.small


# ---- one fit, however it is divided ----------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("settings", [{"dropout": 0.4}, {}])
@pytest.mark.parametrize("shuffle", [True, False])
def test_epoch_by_epoch_is_the_same_fit(loss: str, settings: dict[str, Any], shuffle: bool) -> None:
    X, y = data(loss)
    straight, legs = net(loss, **settings), net(loss, **settings)
    for batch in (7, None):
        arguments: dict[str, Any] = {"optimizer": Adam(0.01), "rng": 3, "shuffle": shuffle}
        want = straight.fit(X, y, 6, batch, **arguments)
        got = legs.fit(X, y, 6, batch, callbacks=plain, **arguments)
        assert dict(got) == dict(want)
        same(legs, straight)


def test_a_plain_fit_is_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = data("mse")
    model, lengths = net("mse"), []
    train = model._engine.train

    def watched(job: Any, losses: np.ndarray, look: Any) -> int:
        lengths.append(len(losses))
        return train(job, losses, look)

    monkeypatch.setattr(model._engine, "train", watched)
    model.fit(X, y, 50, 7, verbose=0)
    model.fit(X, y, 50, 7, sample_weight=np.ones(30))
    model.fit(X, y, 50, 7, lr=schedules.Cosine(0.1))
    model.fit(X, y, 50, 7, metrics=[], callbacks=[])
    assert lengths == [50, 50, 50, 50]
    model.fit(X, y, 3, 7, nonfinite="raise")
    assert lengths[4:] == [1, 1, 1]


def test_the_order_of_arguments_stays() -> None:
    names = list(inspect.signature(Model.fit).parameters)
    assert names[1:10] == ["X", "y", "epochs", "batch_size", "lr", "optimizer", "shuffle", "rng", "verbose"]


# ---- schedules -------------------------------------------------------------------------------------------------------

SCHEDULES = {
    "step": schedules.Step(0.1, 2, 0.5),
    "exponential": schedules.Exponential(0.1, 0.7),
    "cosine": schedules.Cosine(0.1, warmup=1),
    "one cycle": schedules.OneCycle(0.1),
    "inverse scaling": schedules.InverseScaling(0.1),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("optimizer", [lambda lr: SGD(lr, momentum=0.9), Adam, fastmlp.AdamW])
def test_a_schedule_is_a_rate_for_each_step(name: str, optimizer: Callable[[Any], Any]) -> None:
    X, y = data("mse")
    scheduled, stepped = net("mse"), net("mse")
    history = scheduled.fit(X, y, 5, 8, optimizer=optimizer(SCHEDULES[name]), shuffle=False)
    rates = SCHEDULES[name].rates(0, 20, 4, 5).tolist()
    losses = []
    for step, rate in enumerate(rates):
        rows = slice(step % 4 * 8, step % 4 * 8 + 8)
        losses.append(stepped.step(X[rows], y[rows], optimizer=optimizer(rate)) * len(X[rows]) / 30)
    assert reference.error(scheduled.params, stepped.params) < 1e-13
    assert reference.error(history["loss"], np.reshape(losses, (5, 4)).sum(axis=1)) < 1e-13
    assert history["lr"] == rates[3::4]


def test_lr_takes_a_schedule() -> None:
    X, y = data("mse")
    short, long = net("mse"), net("mse")
    short.fit(X, y, 5, 8, lr=SCHEDULES["cosine"], rng=0)
    long.fit(X, y, 5, 8, optimizer=SGD(SCHEDULES["cosine"]), rng=0)
    same(short, long)


def test_a_constant_schedule_is_that_rate() -> None:
    X, y = data("bce")
    scheduled, constant = net("bce"), net("bce")
    history = scheduled.fit(X, y, 5, 8, lr=schedules.Constant(0.1), rng=0)
    assert history["loss"] == constant.fit(X, y, 5, 8, lr=0.1, rng=0)["loss"]
    assert history["lr"] == [0.1] * 5
    same(scheduled, constant)


def test_rates_come_by_the_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = data("mse")
    whole, parts = net("mse"), net("mse")
    want = whole.fit(X, y, 7, 8, lr=SCHEDULES["cosine"], rng=0)
    for most in (1, 9):  # an epoch is the least
        monkeypatch.setattr(epochs, "RATES", most)
        parts = net("mse")
        assert dict(parts.fit(X, y, 7, 8, lr=SCHEDULES["cosine"], rng=0)) == dict(want)
        same(parts, whole)


def test_reduce_on_plateau_reduces() -> None:
    X, y = data("mse")
    model = net("mse")
    schedule = schedules.ReduceOnPlateau(0.5, factor=0.5, patience=2, monitor="val_loss")
    history = model.fit(X, y, 40, 8, lr=schedule, rng=0, validation_split=0.3)
    course, want = schedule.start(), []
    for loss in history["val_loss"]:
        want.append(0.5 * course.scale)
        course.observe({"val_loss": loss})
    assert history["lr"] == want
    assert want[-1] < want[0]


def test_a_wrong_schedule_is_refused() -> None:
    X, y = data("mse")
    model = net("mse")
    kept = model.params.copy()

    class Wrong(schedules.Schedule):
        def __init__(self, rates: Any) -> None:
            self.wrong = rates

        def rates(self, first: int, count: int, steps: int, epochs: int) -> Any:
            return self.wrong

    class Duck:
        def rates(self, *arguments: int) -> Any:
            return [0.1]

    for rates in ([0.1, 0.1], [np.nan], [-0.1], [np.inf]):
        with pytest.raises(ValueError, match=r"Wrong.rates must return 1 finite numbers of at least 0, got "):
            model.fit(X, y, lr=Wrong(np.array(rates)))
    with pytest.raises(TypeError, match=r"lr must be a number, got "):
        model.fit(X, y, lr=Duck())
    with pytest.raises(ValueError, match="monitor must be one of what this fit reports, loss; got 'val_loss'"):
        model.fit(X, y, lr=schedules.ReduceOnPlateau(0.1, monitor="val_loss"))
    np.testing.assert_array_equal(model.params, kept)


# ---- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_are_repetitions(loss: str) -> None:
    X, y = data(loss)
    counts = np.random.default_rng(0).integers(0, 4, 30)
    weighted, repeated = net(loss), net(loss)
    got = weighted.fit(X, y, 20, lr=0.1, sample_weight=counts / 2)
    want = repeated.fit(np.repeat(X, counts, axis=0), np.repeat(y, counts, axis=0), 20, lr=0.1)
    assert reference.error(weighted.params, repeated.params) < 1e-12
    assert reference.error(got["loss"], want["loss"]) < 1e-12


def test_weights_go_with_their_rows_when_shuffled() -> None:
    """Rows of weight 0 have nonsense for targets."""
    X, y = data("mse")
    weights = np.arange(30) % 2
    spoilt = np.where(weights[:, None] == 1, y, 1e6)
    first, second = net("mse"), net("mse")
    got = first.fit(X, spoilt, 10, 8, lr=0.01, rng=0, sample_weight=weights)
    want = second.fit(X, y, 10, 8, lr=0.01, rng=0, sample_weight=weights)
    assert got["loss"] == want["loss"]
    same(first, second)


def test_class_weight() -> None:
    for loss, given, factors in (
        ("cross_entropy", {0: 2.0, np.int64(2): 0.5}, [2.0, 1.0, 0.5]),
        ("bce", {1: 3}, [1.0, 3.0]),
    ):
        X, y = data(loss)
        own = np.random.default_rng(0).random(30)
        for sample_weight in (None, own):
            classes, rows = net(loss), net(loss)
            classes.fit(X, y, 5, 8, lr=0.1, rng=0, class_weight=given, sample_weight=sample_weight)
            product = np.take(factors, y) * (1 if sample_weight is None else own)
            rows.fit(X, y, 5, 8, lr=0.1, rng=0, sample_weight=product)
            same(classes, rows)


@pytest.mark.parametrize("given", [{0: 2.0, 2: 0.5}, "balanced"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("outputs", [1, 3])
def test_one_hot_rows_have_classes_too(given: Any, weighted: bool, outputs: int) -> None:
    X, labels = data("cross_entropy")
    y = np.eye(outputs, dtype=np.float32)[np.minimum(labels, outputs - 1)]
    w = np.random.default_rng(0).random(30) if weighted else None
    if outputs == 1 and isinstance(given, dict):
        given = {0: 2.0}
    of_rows, of_labels = (Model([4, 6, outputs], "tanh", "cross_entropy", rng=1) for _ in range(2))
    of_rows.fit(X, y, 5, 8, lr=0.1, rng=0, class_weight=given, sample_weight=w)
    of_labels.fit(X, y.argmax(axis=1), 5, 8, lr=0.1, rng=0, class_weight=given, sample_weight=w)
    assert reference.error(of_rows.params, of_labels.params) < 1e-14


@pytest.mark.parametrize("loss", ["bce", "cross_entropy"])
def test_balanced_classes(loss: str) -> None:
    from sklearn.utils.class_weight import compute_sample_weight

    X, y = data(loss)
    y = np.minimum(y, 1)  # one class of three is missing
    classes, rows = net(loss), net(loss)
    classes.fit(X, y, 5, lr=0.1, class_weight="balanced")
    rows.fit(X, y, 5, lr=0.1, sample_weight=compute_sample_weight("balanced", y))
    assert reference.error(classes.params, rows.params) < 1e-14


def test_metrics_do_not_see_the_classes_weights() -> None:
    X, y = data("bce")
    model = net("bce")
    w = np.random.default_rng(0).random(30)
    history = model.fit(X, y, lr=0.1, class_weight={0: 100.0}, sample_weight=w, metrics="accuracy")
    assert history["accuracy"][0] == metrics.accuracy(y, model.predict(X), w)


# ---- label smoothing -------------------------------------------------------------------------------------------------


def test_label_smoothing() -> None:
    for loss, smoothed in (("bce", lambda y: 0.8 * y + 0.1), ("cross_entropy", lambda y: 0.8 * np.eye(3)[y] + 0.2 / 3)):
        X, y = data(loss)
        w = np.random.default_rng(0).random(30)
        for weights in (None, w):
            smooth, by_hand, rows = net(loss), net(loss), net(loss)
            arguments: dict[str, Any] = {"lr": 0.1, "rng": 0, "sample_weight": weights}
            got = smooth.fit(X, y, 5, 8, label_smoothing=0.2, validation_data=(X, y), metrics="accuracy", **arguments)
            want = by_hand.fit(X, smoothed(y), 5, 8, **arguments)
            assert reference.error(smooth.params, by_hand.params) < 1e-13
            assert reference.error(got["loss"], want["loss"]) < 1e-13
            assert got["val_loss"][-1] == smooth.loss(X, y)
            assert got["accuracy"][-1] == metrics.accuracy(y, smooth.predict(X), weights)
            onehot = y if loss == "bce" else np.eye(3)[y]
            rows.fit(X, onehot, 5, 8, label_smoothing=0.2, **arguments)
            same(rows, smooth)


# ---- validation and metrics ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
def test_validation_split_is_the_last_rows(loss: str, weighted: bool) -> None:
    X, y = data(loss)
    w = np.random.default_rng(0).random(30) if weighted else None
    split, by_hand = net(loss), net(loss)
    parts = [slice(22), slice(22, None)]
    first, last = ((X[part], y[part], *([] if w is None else [w[part]])) for part in parts)
    arguments: dict[str, Any] = {"epochs": 4, "batch_size": 8, "lr": 0.1, "rng": 0}
    got = split.fit(X, y, validation_split=0.25, sample_weight=w, **arguments)
    want = by_hand.fit(*first[:2], sample_weight=first[2] if weighted else None, validation_data=last, **arguments)
    assert dict(got) == dict(want)
    assert list(got) == ["epoch", "loss", "val_loss"]
    same(split, by_hand)


def test_the_validation_loss_is_that_after_the_epoch() -> None:
    X, y = data("cross_entropy")
    model, other = net("cross_entropy"), net("cross_entropy")
    history = model.fit(X[:20], y[:20], 4, lr=0.1, validation_data=(X[20:], y[20:]))
    want = []
    for _ in range(4):
        other.fit(X[:20], y[:20], lr=0.1)
        want.append(other.loss(X[20:], y[20:]))
    assert history["val_loss"] == want


def test_a_weighted_validation_loss_is_that_of_repetitions() -> None:
    X, y = data("bce")
    counts = np.random.default_rng(0).integers(0, 3, 30)
    model = net("bce")
    history = model.fit(X, y, lr=0.1, validation_data=(X, y, counts), metrics=["accuracy"])
    repeated = np.repeat(X, counts, axis=0), np.repeat(y, counts)
    assert history["val_loss"][0] == pytest.approx(model.loss(*repeated), rel=1e-13)
    assert history["val_accuracy"][0] == pytest.approx(metrics.accuracy(repeated[1], model.predict(repeated[0])), rel=1e-13)


def test_metrics_by_name_and_by_function() -> None:
    X, y = data("mse")

    def largest(y_true: np.ndarray, y_pred: np.ndarray) -> Any:
        return np.abs(y_true - y_pred).max()

    model = net("mse")
    history = model.fit(X[:20], y[:20], 2, lr=0.1, metrics=["mse", "r2", largest], validation_data=(X[20:], y[20:]))
    assert list(history) == ["epoch", "loss", "mse", "r2", "largest", "val_loss", "val_mse", "val_r2", "val_largest"]
    assert all(len(column) == 2 for column in history.values())
    for prefix, rows in (("", slice(20)), ("val_", slice(20, None))):
        for name, metric in (("mse", metrics.mse), ("r2", metrics.r2), ("largest", largest)):
            assert history[prefix + name][-1] == metric(y[rows], model.predict(X[rows]))
    assert history["val_loss"][-1] == pytest.approx(history["val_mse"][-1], rel=1e-13)


def test_a_function_sees_the_targets_as_they_came() -> None:
    X, y = data("cross_entropy")
    seen = []

    def labels(y_true: np.ndarray, y_pred: np.ndarray) -> float:
        seen.append((y_true.dtype, y_true.shape, y_pred.shape))
        return 0.0

    net("cross_entropy").fit(X, y.tolist(), metrics=labels)
    assert seen == [(np.dtype(int), (30,), (30, 3))]


def test_accuracy_of_bce_with_many_outputs_counts_each() -> None:
    X, _ = data("bce")
    y = np.random.default_rng(0).integers(0, 2, (30, 3))
    model = Model([4, 3], loss="bce", rng=0)
    for metric in ("accuracy", metrics.accuracy):
        history = model.fit(X, y, lr=0.1, metrics=metric)
        assert history["accuracy"][0] == ((model.predict(X) > 0.5) == y).mean()


@pytest.mark.parametrize("loss", ["bce", "cross_entropy"])
def test_every_metric_of_classes(loss: str) -> None:
    """Each is tried on a row before the first epoch, which is of one class; of bce's outputs each is a question."""
    names = [name for name, metric in metrics.METRICS.items() if metric.classifies]
    X, y = data("cross_entropy")
    separate = loss == "bce"
    model, true = Model([4, 3], loss=loss, rng=0), np.eye(3)[y] if separate else y
    history = model.fit(X, true, 2, lr=0.1, metrics=names, validation_data=(X, true))
    for name in names:
        want = metrics.METRICS[name].function(true, model.predict(X), multilabel=separate)
        assert history[name][-1] == history[f"val_{name}"][-1] == want
        assert np.isfinite(want)


# ---- nonfinite -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nonfinite", ["raise", "stop"])
@pytest.mark.parametrize("at", [0, 3])
def test_nonfinite(at: int, nonfinite: str) -> None:
    """A callback spoils the data, so that the loss of epoch `at` is NaN; at 0 they come spoilt."""
    X, y = data("mse")
    spoilt = X.copy()

    def spoil(model: Model, logs: dict[str, Any]) -> None:
        if logs["epoch"] == at - 1:
            spoilt[0, 0] = np.nan

    good, model, adam = net("mse"), net("mse"), Adam(0.01)
    if at == 0:
        spoilt[0, 0] = np.nan
    else:
        good.fit(X, y, at, 8, optimizer=adam, shuffle=False)
    arguments: dict[str, Any] = {"optimizer": adam, "shuffle": False, "nonfinite": nonfinite, "callbacks": spoil}
    if nonfinite == "raise":
        back = f"epoch {at - 1}" if at else "the start"
        with pytest.raises(fastmlp.DivergenceError, match=f"loss was nan at the end of epoch {at};.*of {back}$") as caught:
            model.fit(spoilt, y, 6, 8, **arguments)
        assert caught.value.epoch == at
        assert isinstance(caught.value, ArithmeticError)
    else:
        history = model.fit(spoilt, y, 6, 8, **arguments)
        assert history["epoch"] == list(range(at))
        assert len(history["loss"]) == at
    same(model, good)
    for each in (model, good):  # the moments are as they were, too
        each.fit(X, y, 2, 8, optimizer=adam, shuffle=False)
    same(model, good)


def test_a_weight_that_is_not_finite_counts_too() -> None:
    X, y = data("mse")
    model = net("mse", dtype="float32")
    kept = model.params.copy()
    with pytest.raises(fastmlp.DivergenceError, match="a weight was not finite at the end of epoch 0"):
        model.fit(X, 1e10 * y, lr=1e30, nonfinite="raise")
    np.testing.assert_array_equal(model.params, kept)
    with pytest.warns(RuntimeWarning, match="the loss was nan in epoch 1: y reaches"):
        assert not np.isfinite(model.fit(X, 1e10 * y, 3, lr=1e30)["loss"]).all()


# ---- a fit that goes on ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["fit", "batches"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_goes_on_from_fit_to_fit(name: str, way: str) -> None:
    X, y = data("mse")
    whole, parts = net("mse"), net("mse")

    def run(model: Model, **settings: Any) -> fastmlp.History:
        settings["optimizer"] = Adam(SCHEDULES[name])
        if way == "batches":
            return model.fit_batches([(X[:16], y[:16]), (X[16:], y[16:])], 7, **settings)
        return model.fit(X, y, 7, 16, shuffle=False, **settings)

    want = run(whole)
    first = run(parts, callbacks=lambda model, logs: logs["epoch"] == 2)
    rest = run(parts, initial_epoch=3)
    assert first["epoch"] + rest["epoch"] == list(range(7))
    assert first["loss"] + rest["loss"] == want["loss"]
    assert first["lr"] + rest["lr"] == want["lr"]
    same(parts, whole)


def test_a_plateau_goes_on_with_what_it_has_seen() -> None:
    X, y = data("mse")
    noise = np.random.default_rng(0).standard_normal(y.shape)
    schedule = schedules.ReduceOnPlateau(0.5, 0.5, patience=3, cooldown=2, min_delta=0.01)
    arguments: dict[str, Any] = {"lr": schedule, "shuffle": False, "validation_data": (X, noise)}
    whole, parts = net("mse"), net("mse")
    want = whole.fit(X, y, 30, 8, **arguments)
    first = parts.fit(X, y, 11, 8, **arguments)
    parts = pickle.loads(pickle.dumps(parts))
    rest = parts.fit(X, y, 30, 8, initial_epoch=11, **arguments)
    assert first["lr"] + rest["lr"] == want["lr"]
    assert len(set(first["lr"])) > 1
    same(parts, whole)
    assert parts.fit(X, y, 1, 8, **arguments)["lr"] == [0.5]  # a fit from epoch 0 starts anew
    assert first["lr"][-1] < 0.5
    other = schedules.ReduceOnPlateau(0.4)
    assert parts.fit(X, y, 40, 8, initial_epoch=39, **{**arguments, "lr": other})["lr"] == [0.4]


@pytest.mark.parametrize("settings", [{}, {"callbacks": plain}])
def test_epochs_are_counted_on(settings: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    X, y = data("mse")
    history = net("mse").fit(X, y, 12, lr=0.1, initial_epoch=4, verbose=3, **settings)
    assert history["epoch"] == list(range(4, 12))
    losses = net("mse").fit(X, y, 8, lr=0.1)["loss"]
    assert history["loss"] == losses
    assert capsys.readouterr().out.splitlines() == [f"Epoch {e}, Loss: {losses[e - 4]:.4f}" for e in (6, 9)]
    spoilt = X * np.nan
    with pytest.raises(fastmlp.DivergenceError, match="at the end of epoch 4; ") as caught:
        net("mse").fit(spoilt, y, 9, initial_epoch=4, nonfinite="raise")
    assert caught.value.epoch == 4
    with pytest.warns(RuntimeWarning, match="nan in epoch 4:"):
        net("mse").fit(spoilt, y, 9, initial_epoch=4)
    assert net("mse").fit(X, y, 9, optimizer=LBFGS(), initial_epoch=4)["epoch"] == list(range(4, 9))
