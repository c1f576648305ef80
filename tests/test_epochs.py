"""What happens between a fit's epochs that can be seen: printing, progress bars, Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmlp
from fastmlp import Model, display, schedules
from fastmlp.training.epochs import interrupted

X = np.random.default_rng(0).standard_normal((20, 2))
Y = (X[:, 0] > 0).astype(int)


def net() -> Model:
    return Model([2, 3, 1], "tanh", "bce", rng=0)


# ---- printing --------------------------------------------------------------------------------------------------------


@pytest.mark.small
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"callbacks": lambda model, logs: None},
        {"nonfinite": "raise"},
        {"lr": schedules.Constant(0.1)},
        {"sample_weight": np.ones(20)},
    ],
)
@pytest.mark.parametrize("every", [1, 3])
def test_losses_are_printed_as_ever(settings: dict[str, Any], every: int, capsys: pytest.CaptureFixture[str]) -> None:
    losses = net().fit(X, Y, 7, **{"lr": 0.1, **settings}, verbose=every)["loss"]
    want = [f"Epoch {epoch}, Loss: {losses[epoch]:.4f}" for epoch in range(0, 7, every)]
    assert capsys.readouterr().out.splitlines() == want


@pytest.mark.small
@pytest.mark.parametrize("settings", [{}, {"callbacks": lambda model, logs: None}])
def test_true_prints_each_epoch(settings: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for verbose in (True, 1, np.True_, False, 0):
        net().fit(X, Y, 3, lr=0.1, verbose=verbose, **settings)
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] == printed[2] != printed[3] == printed[4] == ""


@pytest.mark.small
def test_validation_and_metrics_are_printed_too(capsys: pytest.CaptureFixture[str]) -> None:
    history = net().fit(
        X, Y, 5, lr=schedules.Exponential(0.1, 0.5), verbose=2, validation_split=0.5, metrics=["accuracy", "mse"]
    )
    names = ["accuracy", "mse", "val_loss", "val_accuracy", "val_mse"]
    want = []
    for epoch in (0, 2, 4):
        more = (f", {name}: {history[name][epoch]:.4f}" for name in names)
        want.append(f"Epoch {epoch}, Loss: {history['loss'][epoch]:.4f}" + "".join(more))
    assert capsys.readouterr().out.splitlines() == want


@pytest.mark.small
def test_a_metric_must_return_a_number() -> None:
    def wrong(y_true: Any, y_pred: Any) -> str:
        return "good"

    with pytest.raises(TypeError, match="metrics must return a number, got 'good' from wrong"):
        net().fit(X, Y, metrics=wrong)


# ---- the bar ---------------------------------------------------------------------------------------------------------


@pytest.mark.small
def test_a_bar_without_tqdm_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    model = net()
    kept = model.params.copy()
    with pytest.raises(ImportError, match=r'verbose="bar" needs tqdm: pip install "fastmlp\[progress\]"'):
        model.fit(X, Y, verbose="bar")
    np.testing.assert_array_equal(model.params, kept)


@pytest.mark.parametrize("settings", [{}, {"validation_split": 0.5}, {"lr": schedules.Constant(0.1)}])
def test_a_bar_counts_the_epochs(settings: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    history = net().fit(X, Y, 3000, **settings, verbose="bar")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "3000/3000" in shown.err
    assert f"loss={display.number(history['loss'][-1])}" in shown.err


def test_a_bar_is_closed_after_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    tqdm = pytest.importorskip("tqdm.auto")
    bars = []

    class Watched(tqdm.tqdm):  # type: ignore[misc, name-defined]
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            bars.append(self)

    def fails(model: Model, logs: dict[str, Any]) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(tqdm, "tqdm", Watched)
    with pytest.raises(RuntimeError, match="planted"):
        net().fit(X, Y, 5, verbose="bar", callbacks=fails)
    assert len(bars) == 1
    assert bars[0].disable  # tqdm's word for closed


# ---- Ctrl-C ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(signal, "raise_signal"), reason="no signals here")
@pytest.mark.parametrize("way", ["plain", "legs", "rates", "batches"])
def test_ctrl_c_says_what_was_done(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    model, settings = net(), {"legs": {"callbacks": lambda model, logs: None}, "rates": {"lr": schedules.InverseScaling(0.1)}}
    model.fit(X, Y)  # compiled
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt, match=r"after \d+ of 100000000 epochs; the model can be used") as caught:  # noqa: PT012
        if way == "batches":
            model.fit_batches([(X, Y)], 10**8, verbose=1)
        else:
            model.fit(X, Y, 10**8, verbose=1, **settings.get(way, {}))
    timer.join()
    said = int(str(caught.value).split()[5])
    printed = len(capsys.readouterr().out.splitlines())
    assert said > 0
    assert printed <= said <= printed + 1  # the last line may not have been printed yet
    assert np.isfinite(model.fit(X, Y, 5)["loss"]).all()


@pytest.mark.small
def test_an_interrupt_between_epochs() -> None:
    """The epoch is done: its weights stay."""

    def interrupts(model: Model, logs: dict[str, Any]) -> None:
        if logs["epoch"] == 2:
            raise KeyboardInterrupt

    model, other = net(), net()
    with pytest.raises(KeyboardInterrupt) as caught:
        model.fit(X, Y, 9, callbacks=[fastmlp.EarlyStopping(), interrupts])
    assert str(caught.value) == interrupted(3, 9)
    other.fit(X, Y, 3)
    np.testing.assert_array_equal(model.params, other.params)


# ---- an exception at any line ----------------------------------------------------------------------------------------


class Planted(Exception):  # noqa: N818
    """What the tracer raises."""


def raise_at(place: int, call: Callable[[], Any], files: tuple[str, ...]) -> bool:
    """Raise at the place-th line that the call runs in some files of the package; whether there was one."""
    seen = 0

    def tracer(frame: Any, event: str, argument: Any) -> Any:
        nonlocal seen
        if not frame.f_code.co_filename.endswith(files):
            return None
        seen += event == "line"
        if event == "line" and seen == place:
            raise Planted
        return tracer

    sys.settrace(tracer)
    try:
        call()
    except Planted:
        return True
    finally:
        sys.settrace(None)
    return False


SPOILT = np.where(np.arange(20)[:, None] == 3, np.nan, X)


class Spoils(fastmlp.Callback):
    """Lets the third epoch's data be NaN."""

    def __init__(self) -> None:
        self.data = X.copy()

    def on_epoch_end(self, model: Model, logs: dict[str, Any]) -> None:
        if logs["epoch"] == 1:
            self.data[...] = SPOILT


def fitted(way: str, model: Model) -> None:
    """Up to three epochs of training, of a kind."""
    adam = fastmlp.Adam(0.1)
    if way == "plain":
        model.fit(X, Y, 3, 7, optimizer=adam, shuffle=False)
    elif way == "course":
        stopping = fastmlp.EarlyStopping(patience=2)
        model.fit(X, Y, 3, 7, optimizer=adam, shuffle=False, callbacks=stopping, validation_data=(X, Y), metrics="mae")
    elif way == "stop":
        spoils = Spoils()
        model.fit(spoils.data, Y, 3, 7, optimizer=adam, shuffle=False, nonfinite="stop", callbacks=spoils)
    elif way == "batches":
        model.fit_batches([(X, Y)], 3, optimizer=adam)
    else:
        model.fit(X, Y, 3, optimizer=fastmlp.LBFGS())


@pytest.mark.parametrize("way", ["plain", "course", "stop", "batches", "lbfgs"])
def test_an_exception_at_any_line_leaves_a_completed_epoch(way: str) -> None:
    """And the moments that go with it: trained on, the model comes to where others come from there."""
    names = ("training/fit", "training/epochs", "training/lbfgs", "training/dataset", "callbacks", "monitor", "schedules")
    files = tuple(str(Path("fastmlp", f"{name}.py")) for name in names)

    def on(model: Model) -> bytes:
        model.fit(X, Y, 2, 7, optimizer=fastmlp.Adam(0.1), shuffle=False)
        return model.params.tobytes()

    def trained(epochs: int) -> Model:
        model = net()
        if epochs and way == "lbfgs":
            model.fit(X, Y, epochs, optimizer=fastmlp.LBFGS())
        elif epochs:
            model.fit(X, Y, epochs, None if way == "batches" else 7, optimizer=fastmlp.Adam(0.1), shuffle=False)
        return model

    known = {model.params.tobytes(): on(model) for model in map(trained, range(4))}
    place, reached = 0, set()
    while True:
        model, place = net(), place + 1
        if not raise_at(place, lambda model=model: fitted(way, model), files):
            break
        left = model.params.tobytes()
        assert left in known, place
        reached.add(left)
        assert on(model) == known[left], place
    assert place > 20
    assert len(reached) == {"plain": 2, "stop": 3}.get(way, 4)
