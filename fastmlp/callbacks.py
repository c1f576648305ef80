"""Callbacks: what `Model.fit` calls after each epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp import checks
from fastmlp.files.description import parts
from fastmlp.monitor import MODES, Best, Mode

if TYPE_CHECKING:
    from fastmlp.model import Model

METHODS = ("on_train_begin", "on_epoch_end", "on_train_end")


class Callback:
    """What a callback may define; any object with one of these methods will do, and a function counts as `on_epoch_end`.

    A fit with callbacks goes epoch by epoch. An exception ends it: the model is then as that epoch left it. An object whose
    attribute ``monitor`` is a string watches what has that name in the logs: a fit that does not report it refuses the object.

    A callback that remembers something of the fit may have ``state_dict()``, which returns it (text, numbers, None, arrays, and
    lists and dicts of these), and ``load_state_dict(state)``: checkpoints keep it, and a fit that goes on from one calls the
    latter behind ``on_train_begin``, whose changes to the weights it takes back. One without them starts anew in such a fit.

    The logs are dicts. At an epoch's end they have its number ``epoch``, counted from 0, and what `Model.fit` reports of it. At
    the beginning they have the ``epochs``, and the ``steps`` of an epoch, which are None where they are not known.

    Examples
    --------
    >>> import fastmlp
    >>> class Target(fastmlp.Callback):
    ...     def on_epoch_end(self, model, logs):
    ...         return logs["loss"] < 0.5
    >>> history = fastmlp.Model([1, 1], rng=0).fit([[1.0]], [2.0], epochs=1000, lr=0.1, callbacks=[Target()])
    >>> len(history["loss"]) < 1000, history["loss"][-1] < 0.5
    (True, True)
    """

    def on_train_begin(self, model: Model, logs: dict[str, Any]) -> None:
        """Before the first epoch."""

    def on_epoch_end(self, model: Model, logs: dict[str, Any]) -> bool | None:
        """After each epoch; True, and nothing else, ends the fit."""

    def on_train_end(self, model: Model, logs: dict[str, Any]) -> None:
        """After the last epoch, with its logs; not after an exception."""


@dataclass
class EarlyStopping(Callback):
    """End the fit when what is monitored has not improved for some epochs, and go back to the best weights.

    The words are those of Keras's ``EarlyStopping``; the defaults of `patience` and `restore_best_weights` are not. It may be
    used for one fit after another: each starts it anew.

    The best weights are those after the best epoch, as in Keras. The ``loss`` of an epoch of several steps is the mean of the
    losses before each step, and no set of weights has it. But the ``loss`` of an epoch of one step is that of the weights
    before the step: then those are the best ones, and have that loss, unless a callback behind this one changed them. (With
    `LBFGS`, where no iteration raises the loss, the best weights are those after the epoch.)

    Parameters
    ----------
    monitor : str
        A name in the fit's logs; ``auto``: ``val_loss`` if there is validation data, else ``loss``.
    patience : int
        Epochs in a row without an improvement after which the fit ends; 0 does what 1 does.
    min_delta : float
        What an improvement has to exceed, at least 0.
    mode : {"auto", "min", "max"}
        The better direction; ``auto`` knows those of losses and of `fastmlp.metrics.METRICS`.
    restore_best_weights : bool
        Put the best epoch's weights back at the end, also of a fit that ran for all its epochs.
    baseline : float or None
        What has to be beaten: an epoch that is not better than this by more than `min_delta` counts towards `patience`, even
        if it is the best so far. An epoch that is the best so far never ends the fit.
    start_from_epoch : int
        The first epoch that counts, by its number in the logs; those before it are not looked at.
    restore_best : bool or None
        The former name of `restore_best_weights`, which it overrides unless it is None.

    Attributes
    ----------
    best : float or None
        The best value.
    best_epoch : int or None
        Its epoch.
    stopped_epoch : int or None
        The epoch after which this ended the fit.

    Raises
    ------
    ValueError, TypeError
        If a setting is out of its range or of the wrong kind.

    Examples
    --------
    >>> import fastmlp
    >>> stopping = fastmlp.EarlyStopping(monitor="loss", patience=3)
    >>> model = fastmlp.Model([1, 1], rng=0)
    >>> history = model.fit([[0.0]], [1.0], epochs=1000, lr=0.5, callbacks=[stopping])  # solved by the first step
    >>> stopping.best_epoch, stopping.stopped_epoch, history["loss"]
    (1, 4, [1.0, 0.0, 0.0, 0.0, 0.0])
    """

    monitor: str = "auto"
    patience: int = 10
    min_delta: float = 0.0
    mode: Mode = "auto"
    restore_best_weights: bool = True
    baseline: float | None = None
    start_from_epoch: int = 0
    restore_best: bool | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._check()
        self._start()

    def _check(self) -> None:
        """Raise unless the settings, which may have been changed, are right."""
        checks.text("monitor", self.monitor)
        checks.count("patience", self.patience, 0)
        checks.real("min_delta", self.min_delta, least=0.0)
        checks.choice("mode", self.mode, MODES)
        checks.flag("restore_best_weights", self.restore_best_weights)
        if self.baseline is not None:
            checks.real("baseline", self.baseline)
        checks.count("start_from_epoch", self.start_from_epoch, 0)
        if self.restore_best is not None:
            checks.flag("restore_best", self.restore_best)

    def _start(self) -> None:
        self._best, self._wait = Best(self.monitor, self.mode, self.min_delta), 0
        self._params = np.zeros(0)  # the best ones
        self._before: np.ndarray | None = None  # those that the epoch started from, where they are what its loss is of
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None

    @property
    def best(self) -> float | None:
        """The best value."""
        return self._best.value

    @property
    def _restores(self) -> bool:
        return self.restore_best_weights if self.restore_best is None else self.restore_best

    def on_train_begin(self, model: Model, logs: dict[str, Any]) -> None:
        self._start()
        if self._restores and logs.get("steps") == 1:
            self._before = model.params.copy()

    def on_epoch_end(self, model: Model, logs: dict[str, Any]) -> bool:
        counts = logs["epoch"] >= self.start_from_epoch
        improved = counts and self._best.improves(logs)
        before = self._before if self._best.name in (None, "loss") else None
        if before is not None:
            self._before = model.params.copy()
        if improved:
            self.best_epoch = logs["epoch"]
            if self._restores:
                self._params = model.params.copy() if before is None else before
        self._wait += counts
        if improved and (self.baseline is None or self._best.beats(self.baseline)):
            self._wait = 0
        if improved or self._wait < max(self.patience, 1):
            return False
        self.stopped_epoch = logs["epoch"]
        return True

    def state_dict(self) -> dict[str, Any]:
        """What it knows of the fit under way, for a checkpoint."""
        state = {**self._best.state_dict(), "wait": self._wait, "params": self._params, "before": self._before}
        return state | {"best_epoch": self.best_epoch, "stopped_epoch": self.stopped_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with what `state_dict` has returned; raises ValueError if it is no such state, before anything has changed."""
        self._check_state(state)
        self._best.load_state_dict(state)
        self._wait, self._params, self._before = state["wait"], state["params"], state["before"]
        self.best_epoch, self.stopped_epoch = state["best_epoch"], state["stopped_epoch"]

    def _check_state(self, state: Any, params: np.ndarray | None = None) -> None:
        """Raise ValueError unless `state_dict` may have returned it, in a fit of a model with such parameters."""
        text, number = (str, NoneType), (int, NoneType)
        kinds: dict[str, Any] = {"best": (float, NoneType), "watched": text, "mode": text, "wait": int, "params": np.ndarray}
        kinds |= {"before": (np.ndarray, NoneType), "best_epoch": number, "stopped_epoch": number}
        *_, wait, best, before, _, _ = parts("the state of EarlyStopping", state, **kinds)
        Best(self.monitor, self.mode, self.min_delta).load_state_dict(state)
        if wait < 0:
            raise ValueError(f"the state of EarlyStopping must have waited for at least 0 epochs, got {wait}")
        for name, array in (("params", best if best.size else None), ("before", before)):
            if array is not None and params is not None and (array.shape, array.dtype) != (params.shape, params.dtype):
                wanted = f"{params.size} {params.dtype} numbers as its {name}"
                raise ValueError(f"the state of EarlyStopping must have {wanted}, got {array.dtype} {array.shape}")

    def on_train_end(self, model: Model, logs: dict[str, Any]) -> None:
        if self._params.size:
            model.params[...] = self._params
        self._params, self._before = np.zeros(0), None  # the next fit may be of another model, and this one's weights are large


def has_state(owner: Any) -> bool:
    """Whether a checkpoint can hold what it remembers."""
    return all(callable(getattr(owner, name, None)) for name in ("state_dict", "load_state_dict"))


Hook = Callable[[Any, dict[str, Any]], object]


def listed(value: Any) -> Sequence[Any]:
    """None, one or several of something, as several."""
    if value is None:
        return ()
    return value if isinstance(value, list | tuple) else (value,)


def hooks(callbacks: Any) -> Mapping[str, list[Hook]]:
    """What to call when, from the argument of `Model.fit`: one callback or several."""
    found: dict[str, list[Hook]] = {name: [] for name in METHODS}
    for callback in listed(callbacks):
        methods = {name: getattr(callback, name) for name in METHODS if callable(getattr(callback, name, None))}
        if isinstance(callback, type) or not (methods or callable(callback)):
            raise TypeError(f"callbacks must hold functions, or objects that have {', '.join(METHODS)}; got {callback!r}")
        for name, method in (methods or {"on_epoch_end": callback}).items():
            found[name].append(method)
    return found
