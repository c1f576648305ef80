"""Learning-rate schedules: give one to an optimiser, or to `Model.fit`, in the place of ``lr``.

All are functions of the step, counted from epoch 0, except `ReduceOnPlateau`, which follows the fit's course. A schedule goes
on from fit to fit with ``initial_epoch``: ``fit(X, y, epochs=20, lr=lr, initial_epoch=10)`` takes the rates of the epochs 10 to
19 of 20, for a model that an earlier fit has trained for ten.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from fastmlp import checks
from fastmlp.monitor import MODES, Best, Mode

__docformat__ = "numpy"

__all__ = [
    "Constant",
    "Cosine",
    "Course",
    "Exponential",
    "InverseScaling",
    "OneCycle",
    "ReduceOnPlateau",
    "Schedule",
    "Step",
]


def __dir__() -> list[str]:
    return __all__


class Course(ABC):
    """What a schedule remembers of a training whose course it follows; `Schedule.start` makes one for each fit.

    The model keeps it for a next fit with an equal schedule and an ``initial_epoch`` above 0.
    """

    @property
    @abstractmethod
    def scale(self) -> float:
        """The factor of the next epoch's rates."""

    @abstractmethod
    def observe(self, logs: Mapping[str, Any]) -> None:
        """Note an epoch's logs, which are those that callbacks get."""

    def state_dict(self) -> dict[str, Any]:
        """What it remembers, for a checkpoint: text, numbers, None, arrays, and lists and dicts of these."""
        raise TypeError(f"lr must be a schedule whose course has state_dict and load_state_dict, got {type(self).__name__}")

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remember what `state_dict` has returned."""
        raise TypeError(f"lr must be a schedule whose course has state_dict and load_state_dict, got {type(self).__name__}")


class Schedule(ABC):
    """A learning rate for each step of a fit.

    To write another one, define `rates`.

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> class Halving(fastmlp.schedules.Schedule):
    ...     def rates(self, first, count, steps, epochs):
    ...         return 0.1 * 0.5 ** (np.arange(first, first + count) // steps)
    >>> history = fastmlp.Model([1, 1], rng=0).fit([[1.0]], [2.0], epochs=3, lr=Halving())
    >>> history["lr"]
    [0.1, 0.05, 0.025]
    """

    @abstractmethod
    def rates(self, first: int, count: int, steps: int, epochs: int) -> np.ndarray:
        """The learning rates of some steps.

        Parameters
        ----------
        first, count : int
            The steps are first, ..., first + count - 1, counted from epoch 0.
        steps : int
            Steps in an epoch.
        epochs : int
            The argument of `Model.fit`.

        Returns
        -------
        (count,) float64 array
        """

    def start(self) -> Course | None:
        """What follows the course of a fit; None if the rates depend on the step alone."""
        return None


@dataclass(frozen=True)
class _Settings(Schedule):
    """What the schedules here share: settings that are checked."""

    lr: float

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if name in ("epochs", "patience"):
                checks.count(name, value)
            elif name == "cooldown":
                checks.count(name, value, 0)
            elif name in ("warmup", "final", "power", "min_delta", "min_lr"):
                checks.real(name, value, least=0.0)
            elif name == "pct_start":
                checks.real(name, value, above=0.0, below=1.0)
            elif name == "mode":
                checks.choice(name, value, MODES)
            elif name == "monitor":
                checks.text(name, value)
            else:
                checks.real(name, value, above=0.0)


@dataclass(frozen=True)
class Constant(_Settings):
    """The same rate at each step: lr.

    Parameters
    ----------
    lr : float
        Above 0.

    Raises
    ------
    ValueError, TypeError
        If a setting is out of its range or not a number.

    Examples
    --------
    >>> from fastmlp import schedules
    >>> schedules.Constant(0.1).rates(0, 3, steps=1, epochs=3)
    array([0.1, 0.1, 0.1])
    """

    def rates(self, first: int, count: int, steps: int, epochs: int) -> np.ndarray:
        return np.full(count, float(self.lr))


@dataclass(frozen=True)
class Step(_Settings):
    """Multiply the rate by a factor each time `epochs` have passed, as ``torch.optim.lr_scheduler.StepLR``::

        lr * factor**floor(epoch / epochs)

    Parameters
    ----------
    lr : float
        The first rate, above 0.
    epochs : int
        Epochs between changes.
    factor : float
        Above 0.

    Raises
    ------
    ValueError, TypeError
        If a setting is out of its range or not a number.

    Examples
    --------
    >>> from fastmlp import schedules
    >>> schedules.Step(1.0, epochs=2, factor=0.5).rates(0, 5, steps=1, epochs=5)
    array([1.  , 1.  , 0.5 , 0.5 , 0.25])
    """

    epochs: int
    factor: float = 0.1

    def rates(self, first: int, count: int, steps: int, epochs: int) -> np.ndarray:
        return self.lr * self.factor ** (_epoch(first, count, steps) // self.epochs)


@dataclass(frozen=True)
class Exponential(_Settings):
    """Multiply the rate by a factor every epoch, as ``torch.optim.lr_scheduler.ExponentialLR``: lr * factor**floor(epoch).

    Parameters
    ----------
    lr : float
        The first rate, above 0.
    factor : float
        Above 0.

    Raises
    ------
    ValueError, TypeError
        If a setting is out of its range or not a number.

    Examples
    --------
    >>> from fastmlp import schedules
    >>> schedules.Exponential(1.0, 0.5).rates(0, 4, steps=2, epochs=2)
    array([1. , 1. , 0.5, 0.5])
    """

    factor: float

    def rates(self, first: int, count: int, steps: int, epochs: int) -> np.ndarray:
        return self.lr * self.factor ** _epoch(first, count, steps)


@dataclass(frozen=True)
class Cosine(_Settings):
    """Linear warm-up, then half a cosine down to the end of the fit (Loshchilov and Hutter, 2017, without restarts).

    At step s = 0, 1, ... of S in the fit, W of them in the warm-up::

        s < W:  lr * (s + 1) / W
        else:   final + (lr - final) * (1 + cos(pi * (s - W) / (S - W))) / 2

    The second line is ``torch.optim.lr_scheduler.CosineAnnealingLR`` called at each step.

    Parameters
    ----------
    lr : float
        The highest rate, above 0.
    warmup : float
        Epochs of warm-up; the whole fit if it is shorter.
    final : float
        The rate that the cosine comes to when the fit is over, at least 0.

    Raises
    ------
    ValueError, TypeError
        If a setting is out of its range or not a number.

    Examples
    --------
    >>> from fastmlp import schedules
    >>> schedules.Cosine(1.0, warmup=2).rates(0, 6, steps=1, epochs=6).round(3)
    array([0.5  , 1.   , 1.   , 0.854, 0.5  , 0.146])
    """

    warmup: float = 0
    final: float = 0.0

    def rates(self, first: int, count: int, steps: int, epochs: int) -> np.ndarray:
        step, total = np.arange(first, first + count, dtype=np.float64), steps * epochs
        warm = min(round(self.warmup * steps), total)
        part = np.maximum(step - warm, 0) / max(total - warm, 1)
        return np.where(step < warm, self.lr * (step + 1) / max(warm, 1), _cosine(self.lr, self.final, part))


@dataclass(frozen=True)
class OneCycle(_Settings):
    """Up along half a cosine, then down to next to nothing (Smith and Topin, 2019), step by step.

    As ``torch.optim.lr_scheduler.OneCycleLR(max_lr=lr)``, with S steps in the fit and the peak at step
    P = pct_start * S - 1; low = lr / div_factor, end = low / final_div_factor::

        s <= P:  lr + (low - lr) * (1 + cos(pi * s / P)) / 2
        else:    end + (lr - end) * (1 + cos(pi * (s - P) / (S - 1 - P))) / 2

    The momentum stays as it is.

    Parameters
    ----------
    lr : float
        The highest rate, above 0.
    pct_start : float
        The part of the fit in which the rate goes up, in (0, 1).
    div_factor, final_div_factor : float
        Above 0.

    Raises
    ------
    ValueError, TypeError
        If a setting is out of its range or not a number.

    Examples
    --------
    >>> from fastmlp import schedules
    >>> schedules.OneCycle(1.0).rates(0, 10, steps=5, epochs=2).round(3)
    array([0.04 , 0.52 , 1.   , 0.95 , 0.812, 0.611, 0.389, 0.188, 0.05 ,
           0.   ])
    """

    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def rates(self, first: int, count: int, steps: int, epochs: int) -> np.ndarray:
        step, last = np.arange(first, first + count, dtype=np.float64), steps * epochs - 1
        peak = max(self.pct_start * (last + 1) - 1, 0.0)
        low = self.lr / self.div_factor
        # A fit of a few steps may have no way up.
        up = _cosine(low, self.lr, np.minimum(step / peak, 1) if peak else np.ones(count))
        down = _cosine(self.lr, low / self.final_div_factor, np.maximum(step - peak, 0) / max(last - peak, 1e-9))
        return np.where(step <= peak, up, down)


@dataclass(frozen=True)
class InverseScaling(_Settings):
    """A power of the step: lr / t**power at step t = 1, 2, ... (scikit-learn's ``invscaling``).

    Parameters
    ----------
    lr : float
        The first rate, above 0.
    power : float
        At least 0.

    Raises
    ------
    ValueError, TypeError
        If a setting is out of its range or not a number.

    Examples
    --------
    >>> from fastmlp import schedules
    >>> schedules.InverseScaling(1.0).rates(0, 4, steps=4, epochs=1).round(3)
    array([1.   , 0.707, 0.577, 0.5  ])
    """

    power: float = 0.5

    def rates(self, first: int, count: int, steps: int, epochs: int) -> np.ndarray:
        return self.lr / np.arange(first + 1, first + count + 1, dtype=np.float64) ** self.power


@dataclass(frozen=True)
class ReduceOnPlateau(_Settings):
    """Multiply the rate by a factor whenever what is monitored has not improved for some epochs.

    As Keras's ``ReduceLROnPlateau``; and as PyTorch's, with ``threshold_mode="abs"`` and a patience and a cooldown (above 0)
    that are one less. The fit goes epoch by epoch.

    Parameters
    ----------
    lr : float
        The first rate, above 0.
    factor : float
        In (0, 1).
    patience : int
        Epochs in a row without an improvement after which the rate is reduced, at least 1.
    min_delta : float
        What an improvement has to exceed.
    cooldown : int
        Epochs after a reduction; all but the last of them do not count towards `patience`, as in Keras. So 1 does what 0 does.
    min_lr : float
        The rate goes no lower.
    monitor : str
        A name in the fit's logs; ``auto``: ``val_loss`` if there is validation data, else ``loss``.
    mode : {"auto", "min", "max"}
        The better direction; ``auto`` knows those of losses and of `fastmlp.metrics.METRICS`.

    Raises
    ------
    ValueError, TypeError
        If a setting is out of its range or of the wrong kind.

    Examples
    --------
    >>> import fastmlp
    >>> schedule = fastmlp.schedules.ReduceOnPlateau(0.5, factor=0.5, patience=1)
    >>> history = fastmlp.Model([1, 1], rng=0).fit([[0.0]], [0.0], epochs=4, lr=schedule)  # nothing to learn
    >>> history["lr"]
    [0.5, 0.5, 0.25, 0.125]
    """

    factor: float = 0.1
    patience: int = 10
    min_delta: float = 1e-4
    cooldown: int = 0
    min_lr: float = 0.0
    monitor: str = "auto"
    mode: Mode = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.real("factor", self.factor, above=0.0, below=1.0)

    def rates(self, first: int, count: int, steps: int, epochs: int) -> np.ndarray:
        return np.full(count, float(self.lr))

    def start(self) -> Course:
        return _Plateau(self)


class _Plateau(Course):
    def __init__(self, settings: ReduceOnPlateau) -> None:
        self._settings, self._scale = settings, 1.0
        self._best = Best(settings.monitor, settings.mode, settings.min_delta)
        self._wait = self._cooldown = 0

    @property
    def scale(self) -> float:
        return self._scale

    def observe(self, logs: Mapping[str, Any]) -> None:
        self._cooldown = max(self._cooldown - 1, 0)
        if self._best.improves(logs):
            self._wait = 0
        elif not self._cooldown:
            self._wait += 1
        if self._wait >= self._settings.patience:
            lowest = min(self._settings.min_lr / self._settings.lr, self._scale)
            self._scale = max(self._scale * self._settings.factor, lowest)
            self._wait, self._cooldown = 0, self._settings.cooldown

    def state_dict(self) -> dict[str, Any]:
        return {"scale": self._scale, "wait": self._wait, "cooldown": self._cooldown, **self._best.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        scale, wait, cooldown = (state.get(name) for name in ("scale", "wait", "cooldown"))
        if not isinstance(scale, float) or not 0 <= scale <= 1 or len(state) != 6:
            raise ValueError(f"a plateau must have a scale in [0, 1], wait, cooldown, best, watched and mode; got {state!r}")
        wait, cooldown = checks.count("wait", wait, 0), checks.count("cooldown", cooldown, 0)
        self._best.load_state_dict(state)
        self._scale, self._wait, self._cooldown = scale, wait, cooldown


KINDS: dict[str, type[Schedule]] = {
    kind.__name__: kind for kind in (Constant, Cosine, Exponential, InverseScaling, OneCycle, ReduceOnPlateau, Step)
}


def _epoch(first: int, count: int, steps: int) -> np.ndarray:
    return np.arange(first, first + count) // steps


def _cosine(start: float, end: float, part: np.ndarray) -> np.ndarray:
    return end + (start - end) * (1 + np.cos(np.pi * part)) / 2
