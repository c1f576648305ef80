"""What a checkpoint has of a fit's course, and how a fit takes it up again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp.callbacks import EarlyStopping, has_state
from fastmlp.files import models
from fastmlp.files.description import plain, read_course
from fastmlp.optimizers import KIND_NAMES
from fastmlp.schedules import Course, ReduceOnPlateau, Schedule
from fastmlp.training.checkpoint import Checkpoint
from fastmlp.training.dataset import Data
from fastmlp.training.feeding import Feed

if TYPE_CHECKING:
    from fastmlp.engine.engine import Engine
    from fastmlp.training.fit import Trainable

# The course's parts besides its settings, and their types.
COURSE: dict[str, Any] = {"done": int, "stopped": bool, "doubted": bool, "columns": dict, "callbacks": list, "feed": dict}
COURSE |= {"plateau": (dict, NoneType), "kept": (dict, NoneType)}
SETTINGS = [one.name for one in fields(EarlyStopping)]


class Resumable:
    """The part of `Epochs` that checkpoints are about."""

    _model: "Trainable"
    _engine: "Engine"
    _checkpoint: Checkpoint | None
    _initial: int
    _done: int
    _epochs: int
    _stopped: bool
    _doubted: bool
    _each: bool
    _verbose: int
    _printed: int
    _nonfinite: str
    _schedule: Schedule | None
    _course: Course | None
    _callbacks: Sequence[Any]
    _watched: list[tuple[str, Data]]
    _columns: dict[str, list[Any]]
    _last: dict[str, Any]
    _leg: tuple[int, np.ndarray | None]
    _settings: Mapping[str, Any] = {}
    _next_leg: Callable[[], tuple[int, np.ndarray | None]]

    def settings(self, **more: Any) -> None:
        """Note what a fit must have in common with one that it goes on with; raises ValueError if it has not."""
        if self._checkpoint is None:
            return
        watched = {prefix + name: found for prefix, data in self._watched for name, found in data.checksums().items()}
        of_schedule = {"epochs": self._epochs} if self._schedule else {}
        own = {"initial_epoch": self._initial, "nonfinite": self._nonfinite, "reported": list(self._columns)}
        self._settings = settings = {**more, **of_schedule, **watched, **own, "callbacks": list(map(named, self._callbacks))}
        if self._course and self._checkpoint.writes:
            self._course.state_dict()  # refused before anything happens if it has none
        self._checkpoint.compare(settings, self._model.network, **COURSE)

    def _write(self, feed: Feed, kept: dict[str, Any] | None) -> None:
        """Write a checkpoint, if there are to be any."""
        keeping = self._checkpoint
        if keeping is None or not keeping.writes:
            return
        state = {
            "settings": self._settings,
            "done": self._done,
            "stopped": self._stopped,
            "doubted": self._doubted,
            "columns": {name: np.array(column, np.float64) for name, column in self._columns.items()},
            "plateau": self._course.state_dict() if self._course else None,
            "callbacks": [callback.state_dict() if has_state(callback) else None for callback in self._callbacks],
            "feed": feed.state_dict(),
            "kept": kept | {"kind": KIND_NAMES[kept["kind"]]} if kept and feed.within else None,
        }
        keeping.write(self._engine, self._model.network, state)

    def _go_on(self, feed: Feed, found: dict[str, Any], draw: Callable[[], object]) -> dict[str, Any] | None:
        """Go back to where a checkpoint was written; the state at its epoch's start, if the fit may have to go back to that.

        Raises ValueError before anything has changed but a source of batches.
        """
        done, columns = found["done"], found["columns"]
        kept = None if found["kept"] is None else models.kept(found["kept"], self._model.network)
        place = feed.load_state_dict(found["feed"])
        if not self._initial <= done:
            raise ValueError(f"resume must be a checkpoint of epoch {self._initial} or later, got {done}")
        if done > self._epochs:
            raise ValueError(f"epochs must be at least {done}, which the checkpoint's fit has done, got {self._epochs}")
        for name in sorted(columns.keys() | self._columns.keys()):
            column = columns.get(name)
            good = isinstance(column, np.ndarray) and column.shape == (done - self._initial,) and column.dtype == np.float64
            if not good or name not in self._columns:
                raise ValueError(
                    f"resume must have a number of each of {done - self._initial} epochs for {', '.join(self._columns)}"
                )
        course = read_course("resume: its plateau", found["plateau"], self._schedule) if self._schedule else None
        if len(found["callbacks"]) != len(self._callbacks):
            raise ValueError(f"resume must have the states of {len(self._callbacks)} callbacks, got {len(found['callbacks'])}")
        watched = [found["plateau"]["watched"]] if isinstance(self._schedule, ReduceOnPlateau) else []
        for callback, state in zip(self._callbacks, found["callbacks"], strict=True):
            if isinstance(callback, EarlyStopping):
                callback._check_state(state, self._engine.params)
                watched.append(state["watched"])
        if unknown := set(watched) - {None, *self._columns}:
            raise ValueError(f"resume must watch one of {', '.join(self._columns)}; got {min(unknown)[:50]!r}")
        if (kept is None) != (self._nonfinite == "ignore" or not found["feed"]["cursor"]):
            raise ValueError("resume must have the state at its epoch's start if, and only if, nonfinite asks for that")
        draw()
        place()
        self._course = course
        self._done, self._stopped, self._doubted = done, found["stopped"], found["doubted"]
        self._columns = {name: columns[name].tolist() for name in self._columns}
        self._printed = -(-done // (self._verbose or 1)) * self._verbose
        if done < self._epochs:
            self._leg = self._next_leg()
        return kept

    def _remind(self, found: dict[str, Any]) -> None:
        """Tell the callbacks what they knew when a checkpoint was written."""
        for callback, state in zip(self._callbacks, found["callbacks"], strict=True):
            if state is not None:
                callback.load_state_dict(state)
        if self._each and self._done > self._initial:
            self._last = {"epoch": self._done - 1, **{name: column[-1] for name, column in self._columns.items()}}


def named(callback: Any) -> Any:
    """What tells a callback from another one, if it has a state: what its class is called, and what early stopping is told."""
    if not has_state(callback):
        return None
    told = vars(callback) if isinstance(callback, EarlyStopping) else {}
    return {"kind": type(callback).__name__} | {name: plain(value) for name, value in told.items() if name in SETTINGS}
