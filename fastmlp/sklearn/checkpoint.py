"""What a checkpoint holds of an estimator's fit."""

from typing import Any

import numpy as np
from scipy.sparse import issparse

from fastmlp.callbacks import EarlyStopping, has_state, listed
from fastmlp.engine.state import Job
from fastmlp.files import description
from fastmlp.files.description import Custom
from fastmlp.optimizer import Optimizer
from fastmlp.schedules import Schedule
from fastmlp.sklearn.coefficients import dense, parts
from fastmlp.sklearn.solvers import schedule
from fastmlp.training.checkpoint import Checkpoint
from fastmlp.training.dataset import checksum
from fastmlp.training.feeding import AllAtOnce, ByPieces, Feed
from fastmlp.training.resuming import named

# What a fit notes from epoch to epoch.
NOTES = ("t_", "n_iter_", "loss_", "best_loss_", "best_validation_score_", "_no_improvement_count")
CURVES = ("loss_curve_", "validation_loss_curve_", "validation_scores_")
FREE = {"verbose", "n_threads", "callbacks", "random_state", "max_iter"}  # parameters that may be others
KINDS: dict[str, Any] = {"notes": dict, "rate": float, "start": dict, "generator": dict, "feed": dict, "logs": dict}
KINDS |= {"stopped": bool, "rates": (dict, type(None)), "best": (np.ndarray, type(None)), "callbacks": list}


class Rows:
    """A sparse X with its targets, made dense by pieces."""

    def __init__(self, X: Any, y: np.ndarray) -> None:
        self._X, self.y = X, y

    def parts(self, multiple: int = 1) -> Any:
        """All rows, in pieces of whole batches."""
        return parts(self._X, self.y.dtype, multiple)

    def converted(self, rows: Any) -> np.ndarray:
        """Some rows of X, dense."""
        return dense(self._X[rows], self.y.dtype)


def feed(engine: Any, job: Job) -> AllAtOnce | ByPieces:
    """How X comes to the engine."""
    if not issparse(job.X):
        return AllAtOnce(engine, job)
    found = ByPieces(engine, job, Rows(job.X, job.y))
    found.order = job.order
    return found


class Keeping:
    """A fit's checkpoint, if there are to be any or there is one to go on from."""

    def __init__(self, estimator: Any, checkpoint: Any = None, every: Any = "epoch", resume: Any = None) -> None:
        own = estimator.activation if isinstance(estimator.activation, list | tuple) else [estimator.activation]
        self._estimator, self._file = estimator, Checkpoint(checkpoint, every, resume, [*own, getattr(estimator, "loss", None)])
        self._asked = bool(self._file)
        if self._asked and not estimator._stochastic():
            raise ValueError(f"checkpoint and resume must be None for solver={estimator.solver!r}, whose memory is SciPy's")
        self._settings: dict[str, Any] = {}
        self._start: Any = {}
        self.found = self._file.found

    def random_state(self, given: np.random.RandomState) -> np.random.RandomState:
        """What the fit draws from: as it was when the fit to go on with began."""
        if self.found is not None:
            given = random_state(self.found.get("start"))
        if self._asked:
            self._start = given.get_state(legacy=False)
        return given

    def compare(self, network: Any, X: Any, y: np.ndarray, held_out: Any) -> None:
        """Note the fit's settings; raise ValueError if they are not those of the fit to go on with."""
        if not self._asked:
            return
        estimator = self._estimator
        scheduled = schedule(estimator) is not None
        for name, value in estimator.get_params(deep=False).items():
            if name not in FREE or (name == "max_iter" and scheduled):
                self._settings[name] = _described(value)
        self._settings |= {"rows": y.shape[0], "data": _checksum(X, y)}
        self._settings["callbacks"] = [named(callback) for callback in listed(estimator.callbacks)]
        self._settings["val_data"] = None if held_out is None else _checksum(*held_out)
        self._file.compare(self._settings, network, **KINDS)
        found = self.found
        if found is not None and found["notes"].keys() != {*NOTES, *CURVES}:
            raise ValueError(f"resume must have the notes of a fit, {', '.join((*NOTES, *CURVES))}")

    def go_on(self, feed: Feed, best: np.ndarray | None) -> tuple[dict[str, Any], bool]:
        """Begin, where the checkpoint was written if there is one: the last epoch's logs, and whether the fit ended with it."""
        estimator, found, file = self._estimator, self.found, self._file
        self._feed, self._best = feed, best
        logs: dict[str, Any] = {}
        stopped = False
        if found is not None and file.saved is not None:
            callbacks = list(zip(listed(estimator.callbacks), found["callbacks"], strict=True))
            for callback, state in callbacks:
                if isinstance(callback, EarlyStopping):
                    callback._check_state(state, estimator._model.params)
            place = feed.load_state_dict(found["feed"])
            kept = found["best"]
            if (kept is None) != (best is None) or (best is not None and (kept.shape, kept.dtype) != (best.shape, best.dtype)):
                raise ValueError("resume must have the best parameters if, and only if, early_stopping is set")
            estimator._random_state = random_state(found["generator"])
            place()
            estimator._model._engine.restore(file.saved)
            if best is not None:
                best[:] = kept
            for name in NOTES:
                setattr(estimator, name, found["notes"][name])
            for name in CURVES:
                curve = found["notes"][name]
                setattr(estimator, name, None if curve is None else curve.tolist())
            estimator._optimizer.learning_rate = found["rate"]
            if estimator._rates is not None:
                estimator._rates.load_state_dict(found["rates"])
            for callback, state in callbacks:
                if state is not None:
                    callback.load_state_dict(state)
            logs, stopped = found["logs"], found["stopped"]
        file.begin(estimator._model._engine)
        self.write(logs, stopped)
        return logs, stopped

    def epoch(self, rates: np.ndarray | None, logs: dict[str, Any]) -> float:
        """Train to the epoch's end, with checkpoints in its middle; its mean loss. `logs` are those of the epoch before."""
        file, losses = self._file, np.zeros(1)
        engine = self._estimator._model._engine
        while not self._feed.train(losses, rates, lambda done: file.late(), file.most(engine)):
            if file.due(engine, False):
                self.write(logs, False)
        return losses.item()

    def epoch_ended(self, logs: dict[str, Any], stopped: bool) -> None:
        """Write a checkpoint if one is due, or the fit ends."""
        last = stopped or self._estimator.n_iter_ >= self._estimator.max_iter
        if last or self._file.due(self._estimator._model._engine, True):
            self.write(logs, stopped)

    def write(self, logs: dict[str, Any], stopped: bool) -> None:
        """Write a checkpoint, if there are to be any."""
        if not self._file.writes:
            return
        estimator = self._estimator
        notes = {name: getattr(estimator, name, None) for name in NOTES}
        for name in CURVES:
            curve = getattr(estimator, name)
            notes[name] = None if curve is None else np.array(curve, np.float64)
        course = {
            "settings": self._settings,
            "start": self._start,
            "generator": estimator._random_state.get_state(legacy=False),
            "feed": self._feed.state_dict(),
            "notes": notes,
            "rate": float(estimator._optimizer.learning_rate),
            "rates": None if estimator._rates is None else estimator._rates.state_dict(),
            "best": self._best,
            "logs": logs,
            "stopped": stopped,
            "callbacks": [one.state_dict() if has_state(one) else None for one in listed(estimator.callbacks)],
        }
        self._file.write(estimator._model._engine, estimator._model.network, course)


def random_state(state: Any) -> np.random.RandomState:
    """A RandomState from a file; raises ValueError if that has none."""
    try:
        found = np.random.RandomState()
        found.set_state(state)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise ValueError(f"resume must have the state of a RandomState: {error!r}") from None
    return found


def _described(value: Any) -> Any:
    """A parameter as a file has it."""
    if isinstance(value, Optimizer):
        return description.optimizer(value)
    if isinstance(value, Schedule):
        return description.schedule(value)
    if isinstance(value, Custom):
        return {"custom": value.name}
    if isinstance(value, list | tuple | np.ndarray):
        return [_described(part) for part in value]
    value = description.plain(value)
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def _checksum(X: Any, y: np.ndarray) -> str:
    arrays = [X.data, X.indices, X.indptr] if issparse(X) else [X]
    return checksum([*arrays, y])
