"""Fits that are stopped behind one of their checkpoints, and what they come to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmlp
from fastmlp import Model, schedules
from fastmlp.training import dataset
from fastmlp.training.checkpoint import Checkpoint


class StoppedError(Exception):
    """Where a process would have been killed."""


@contextmanager
def stopped(writes: int) -> Iterator[None]:
    """Each fit in here ends behind its checkpoint of this number, counted from 0."""
    write, done = Checkpoint.write, 0

    def watched(self: Checkpoint, *what: Any) -> None:
        nonlocal done
        write(self, *what)
        done += 1
        if done > writes:
            raise StoppedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "write", watched)
        yield


@dataclass(frozen=True)
class Case:
    """A fit: the net, the data, and `Model.fit`'s arguments.

    `callbacks` makes them, as each fit needs its own. `before` are epochs of another fit, which leave their moments.
    """

    sizes: tuple[int, ...] = (4, 6, 3)
    rows: int = 30
    loss: Any = "mse"
    net: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    callbacks: Callable[[], list[Any]] = list
    before: int = 0
    wild: int | None = None  # the row that is so large that training diverges in it

    def model(self) -> Model:
        return Model(self.sizes, loss=self.loss, **{"activations": "tanh", "rng": 1} | self.net)

    def data(self, rows: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        rng, rows, outputs = np.random.default_rng(5), rows or self.rows, self.sizes[-1]
        X = rng.standard_normal((rows, self.sizes[0]))
        y = (
            rng.integers(0, max(outputs, 2), rows)
            if self.loss in ("bce", "cross_entropy")
            else rng.standard_normal((rows, outputs))
        )
        if self.wild is not None:
            X[self.wild] = 1e300
        return X.astype(self.net.get("dtype", "float64")), y

    def run(self, **more: Any) -> dict[str, Any]:
        """All that a fit of a new model comes to, as text and bytes."""
        model, callbacks = self.model(), self.callbacks()
        X, y = self.data()
        if self.before:
            model.fit(X, y, self.before, 11, optimizer=fastmlp.Adam(0.01, ema=0.5), rng=3)
        return self.trained(model, X, y, callbacks, **more)

    def trained(self, model: Model, X: Any, y: Any, callbacks: list[Any], **more: Any) -> dict[str, Any]:
        given = {"epochs": 5, "batch_size": 8, "rng": 7} | self.options | more
        error, history = None, {}
        try:
            history = dict(model.fit(X, y, callbacks=callbacks or None, **given))
        except fastmlp.DivergenceError as diverged:
            error = diverged.epoch
        return outcome(model, history, callbacks) | {"error": error}


def outcome(model: Model, history: dict[str, Any], callbacks: list[Any]) -> dict[str, Any]:
    saved = model._engine.save()
    found: dict[str, Any] = {
        "params": saved["params"].tobytes(),
        "moments": saved["moments"].tobytes(),
        "steps": saved["steps"],
    }
    found["memory"] = saved["kind"].__name__, saved["averaged"]
    found["history"] = {name: [float(value).hex() for value in column] for name, column in history.items()}
    for one in callbacks:
        if isinstance(one, fastmlp.EarlyStopping):
            found["stopping"] = one.best, one.best_epoch, one.stopped_epoch
    return found


def same(got: dict[str, Any], want: dict[str, Any]) -> None:
    assert got.keys() == want.keys()
    for name in want:
        assert got[name] == want[name], name


def stops(case: Case, path: Path, every: Any, at: tuple[int, ...], want: dict[str, Any] | None = None) -> int:
    """Stop a fit behind some of its checkpoints, go on from there, and compare; how often it has been stopped.

    The numbers in `at` count the checkpoints of each try anew: the fit is stopped as often as there are numbers.
    """
    want = case.run() if want is None else want
    resume, ends = None, 0
    for writes in at:
        with stopped(writes):
            try:
                got = case.run(checkpoint=path, every=every, resume=resume)
            except StoppedError:
                ends += 1
            else:
                same(got, want)
        resume = path
    other = replace(case, net=case.net | {"rng": 99}, before=0)  # all that counts is in the file
    same(other.run(checkpoint=path, every=every, resume=path), want)
    same(other.run(resume=path), want)  # which says by now that it has ended
    return ends


@dataclass(frozen=True)
class Table(schedules.Schedule):
    """A user's schedule, which follows the losses too."""

    values: tuple[float, ...] = (0.1, 0.05, 0.02)

    def rates(self, first: int, count: int, steps: int, epochs: int) -> np.ndarray:
        return np.array(self.values)[np.arange(first, first + count) % len(self.values)]

    def start(self) -> schedules.Course:
        return Slower()


class Slower(schedules.Course):
    """Each epoch that is worse than the last makes the steps shorter."""

    def __init__(self) -> None:
        self._scale, self._losses = 1.0, [1e9]

    @property
    def scale(self) -> float:
        return self._scale

    def observe(self, logs: Any) -> None:
        self._scale *= 0.9 if logs["loss"] < self._losses[-1] else 0.5
        self._losses.append(logs["loss"])

    def state_dict(self) -> dict[str, Any]:
        return {"scale": self._scale, "losses": self._losses}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._scale, self._losses = state["scale"], list(state["losses"])


class Counter(fastmlp.Callback):
    """Remembers what it has seen, and changes the weights by it."""

    def __init__(self) -> None:
        self.seen: list[float] = []
        self.total = np.zeros(3)

    def on_epoch_end(self, model: Model, logs: dict[str, Any]) -> None:
        self.seen.append(logs["loss"])
        self.total += len(self.seen)
        model.params[:3] += self.total * 1e-3

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen, "total": self.total, "inner": {"none": None, "nan": float("nan"), "text": "ä", "is": True}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert np.isnan(state["inner"].pop("nan"))
        assert state["inner"] == {"none": None, "text": "ä", "is": True}
        self.seen, self.total = state["seen"], state["total"]


@contextmanager
def small_pieces() -> Iterator[None]:
    """Any X that has to be converted is, by pieces of 1 kB."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "WHOLE", 100)
        patch.setattr(dataset, "PIECE", 1024)
        yield
