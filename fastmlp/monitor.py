"""What a fit watches: the name among its logs, the better direction, and the best value so far."""

from collections.abc import Collection, Mapping
from typing import Any, Literal, get_args

import numpy as np

from fastmlp import metrics
from fastmlp.metrics import METRICS

Mode = Literal["auto", "min", "max"]
MODES: tuple[str, ...] = get_args(Mode)


def reported(monitor: str, names: Collection[str]) -> str:
    """The name among the logs' that `monitor` means."""
    name = monitor
    if monitor == "auto":
        name = "val_loss" if "val_loss" in names else "loss"
    if name not in names:
        known = ", ".join(name for name in names if name not in ("epoch", "lr"))
        raise ValueError(f"monitor must be one of what this fit reports, {known}; got {monitor!r}")
    return name


def monitored(monitor: str, mode: str, names: Collection[str]) -> tuple[str, str]:
    """The name among the logs' that `monitor` means, and whether less or more of it is better: "min" or "max"."""
    name = reported(monitor, names)
    if mode != "auto":
        return name, mode
    plain = name.removeprefix("val_")
    if plain != "loss" and plain not in METRICS:
        raise ValueError(
            f"mode must be 'min' or 'max' for monitor={monitor!r}, whose better direction is not known; got 'auto'"
        )
    return name, "min" if plain == "loss" else METRICS[plain].mode


class Best:
    """The best so far of what is monitored.

    Attributes
    ----------
    value : float or None
    name : str or None
        Of what is monitored, once there are logs.
    """

    def __init__(self, monitor: str, mode: str, min_delta: float) -> None:
        self._wanted, self._min_delta = (monitor, mode), min_delta
        self._found: tuple[str, str] | None = None
        self.value: float | None = None

    @property
    def name(self) -> str | None:
        """Of what is monitored, once there are logs."""
        return self._found[0] if self._found else None

    def saved(self) -> tuple[float | None, str | None, str | None]:
        """The best value, of what, and the better direction; None as long as there are no logs."""
        return self.value, *(self._found or (None, None))

    def restore(self, value: float | None, name: str | None, mode: str | None) -> None:
        """Go on from what `saved` returned."""
        self.value, self._found = value, (name, mode) if name is not None and mode is not None else None

    def improves(self, logs: Mapping[str, Any]) -> bool:
        """Whether an epoch's logs are better than all before by more than min_delta; they are the best then. NaN never is."""
        self._found = self._found or monitored(*self._wanted, logs)
        value = float(logs[self._found[0]])
        if np.isnan(value) or not (self.value is None or self._gain(value, self.value) > self._min_delta):
            return False
        self.value = value
        return True

    def beats(self, other: float) -> bool:
        """Whether the best value is better than another by more than min_delta."""
        return self.value is not None and self._gain(self.value, other) > self._min_delta

    def _gain(self, value: float, other: float) -> float:
        return other - value if self._found and self._found[1] == "min" else value - other


metrics.Best = Best  # type: ignore[attr-defined]  # where the pickles of version 0.1.0 look for it
