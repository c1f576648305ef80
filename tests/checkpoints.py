"""Fits that are stopped behind one of their checkpoints, and what they come to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmlp
from fastmlp import Model, schedules
from fastmlp.kernels.net.plan import BLOCKS, GROUPS, NARROW, RESIDENT
from fastmlp.optimizer import OPTIMIZERS
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
    pieces: bool = False  # whether X has another dtype, and is converted piece by piece
    source: Callable[[list[Any]], Any] | None = None  # makes what `Model.fit_batches` takes of a list of batches

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
        kinds = ["float64", "float32"]
        return X.astype(kinds[(self.net.get("dtype") == "float32") != self.pieces]), y

    def run(self, **more: Any) -> dict[str, Any]:
        """All that a fit of a new model comes to, as text and bytes."""
        model, callbacks, error = self.model(), self.callbacks(), None
        X, y = self.data()
        if self.before:
            model.fit(X, y, self.before, 11, optimizer=fastmlp.Adam(0.01, ema=0.5), rng=3)
        given, history = {"epochs": 5, "batch_size": 8, "rng": 7} | self.options | more, {}
        try:
            if self.source is not None:
                size, rows = given.pop("batch_size"), len(X)
                batches = [(X[i : i + size], y[i : i + size]) for i in range(0, rows, size)]
                history = dict(model.fit_batches(self.source(batches), callbacks=callbacks or None, **given))
            elif self.pieces:
                with small_pieces():
                    history = dict(model.fit(X, y, callbacks=callbacks or None, **given))
            else:
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


# ---- kinds of fits ----------------------------------------------------------------------------------------------------

PATHS = {
    RESIDENT: Case((2, 2, 1), 21, "bce", options={"batch_size": 4, "lr": 0.5}),
    NARROW: Case((2, 3, 1), 50, options={"batch_size": 9, "optimizer": fastmlp.Adam(0.05)}),
    GROUPS: Case((4, 12, 3), 2300, "cross_entropy", options={"batch_size": 1100, "epochs": 3, "optimizer": fastmlp.Adam(0.01)}),
    BLOCKS: Case((5, 17, 3), 40, options={"batch_size": 16, "lr": 0.1}),
}
SCHEDULES: list[Any] = [
    schedules.Constant(0.05),
    schedules.Cosine(0.05, warmup=1.5),
    schedules.Exponential(0.05, 0.7),
    schedules.InverseScaling(0.05),
    schedules.OneCycle(0.05),
    schedules.Step(0.05, 2, 0.5),
    schedules.ReduceOnPlateau(0.05, patience=1, cooldown=1, min_delta=0.01),
    schedules.ReduceOnPlateau(0.05, patience=1, monitor="loss", min_lr=1e-3),
    Table(),
]
DIVERGING = Table((0.1,) * 9 + (1e200,))  # in the epoch 2 of steps by 8 of 30 rows, in its middle
STOPPINGS: list[dict[str, Any]] = [
    {"patience": 1},
    {"patience": 2, "restore_best_weights": False},
    {"patience": 3, "baseline": 0.5, "monitor": "loss"},
    {"patience": 1, "start_from_epoch": 2, "min_delta": 0.01},
]


class Seeded:
    """A source of batches in a new order each time, which can say where it stands: each iterator starts anew, but for one."""

    def __init__(self, batches: list[Any]) -> None:
        self._batches, self._epoch, self._at, self._loaded = batches, 0, 0, False

    def __iter__(self) -> Iterator[Any]:
        if not self._loaded:
            self._epoch, self._at = self._epoch + 1, 0
        self._loaded = False
        return self._others()

    def _others(self) -> Iterator[Any]:
        order = np.random.default_rng(self._epoch).permutation(len(self._batches))
        while self._at < len(order):
            self._at += 1
            yield self._batches[order[self._at - 1]]

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "at": self._at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._epoch, self._at, self._loaded = state["epoch"], state["at"], True


class Numbered:
    """A map-style dataset."""

    def __init__(self, batches: list[Any]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Any:
        return self._batches[index]


class NumberedSeeded(Numbered):
    """A map-style dataset whose batches depend on how many have been asked for."""

    def __init__(self, batches: list[Any]) -> None:
        super().__init__(batches)
        self._asked = 0

    def __getitem__(self, index: int) -> Any:
        self._asked += 1
        X, y = super().__getitem__(index)
        return X, y + self._asked

    def state_dict(self) -> dict[str, Any]:
        return {"asked": self._asked}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._asked = state["asked"]


SOURCES: dict[str, tuple[Callable[[list[Any]], Any], int | None]] = {
    "list": (list, None),
    "map-style": (Numbered, None),
    "map-style with a state": (NumberedSeeded, None),
    "function": (lambda batches: lambda: iter(batches), None),
    "function of map-style": (lambda batches: lambda: Numbered(batches), None),
    "iterator": (lambda batches: iter(batches * 10), 3),
    "with a state": (Seeded, None),
    "with a state, not exhausted": (Seeded, 3),
    "function of one with a state": (lambda batches: lambda: Seeded(batches), None),
}


def everything() -> list[Case]:
    """Fits in which each path, optimiser, schedule, stopping and way of feeding comes up."""
    found = [case for path in PATHS.values() for case in (path, replace(path, net={"dtype": "float32"}))]
    for i, kind in enumerate(OPTIMIZERS.values()):
        more: dict[str, Any] = [{}, {"ema": 0.9}, {"clip_norm": 0.1}, {"l1": 0.01, "l2": 0.1}][i % 4]
        more = more | ({"momentum": 0.9} if hasattr(kind, "momentum") else {})
        options = {"optimizer": kind(SCHEDULES[i % len(SCHEDULES)], **more), "nonfinite": ("ignore", "stop", "raise")[i % 3]}
        options |= {"validation_split": 0.3, "metrics": "mae"} if i % 2 else {"sample_weight": np.arange(30.0)}
        made = partial(_made, STOPPINGS[i % 4], i % 3 == 0)
        found.append(Case((4, 6, 3), 30, "mse", {"dropout": 0.2 * (i % 2)}, options, made, pieces=i % 4 == 3))
    found += [
        Case(options={"nonfinite": how, "lr": DIVERGING}, pieces=pieces)
        for how in ("stop", "raise")
        for pieces in (False, True)
    ]
    for make, steps in SOURCES.values():
        options = {"optimizer": fastmlp.Adam(0.05), "nonfinite": "stop", "steps_per_epoch": steps}
        found.append(Case(options=options, source=make, net={"dropout": 0.2}))
    return found


def _made(settings: dict[str, Any], counts: bool) -> list[Any]:
    return [fastmlp.EarlyStopping(**settings)] + [Counter()] * counts
