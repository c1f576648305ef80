"""What a fit watches: the name among its logs, the better direction, and the best value so far."""

from collections.abc import Collection, Mapping
from types import NoneType
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

    def improves(self, logs: Mapping[str, Any]) -> bool:
        """Whether an epoch's logs are better than all before by more than min_delta; they are the best then. NaN never is."""
        self._found = self._found or monitored(*self._wanted, logs)
        value = float(logs[self._found[0]])
        if np.isnan(value) or not (self.value is None or self._gain(value, self.value) > self._min_delta):
            return False
        self.value = value
        return True

    def state_dict(self) -> dict[str, Any]:
        """What it knows of the fit: the best value, of what, and the better direction; None as long as there are no logs."""
        watched, mode = self._found or (None, None)
        return {"best": self.value, "watched": watched, "mode": mode}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Know what another one knew; raises ValueError if that is none of its states."""
        best, watched, mode = state.get("best"), state.get("watched"), state.get("mode")
        found = isinstance(watched, str) and mode in ("min", "max")
        if not (found or (watched is mode is best is None)) or not isinstance(best, float | NoneType):
            raise ValueError(
                f"a best value must have what it is of and a mode of 'min' or 'max', got {best!r}, {watched!r}, {mode!r}"
            )
        self.value, self._found = best, (str(watched), str(mode)) if found else None

    def beats(self, other: float) -> bool:
        """Whether the best value is better than another by more than min_delta."""
        return self.value is not None and self._gain(self.value, other) > self._min_delta

    def _gain(self, value: float, other: float) -> float:
        return other - value if self._found and self._found[1] == "min" else value - other


metrics.Best = Best  # type: ignore[attr-defined]  # where the pickles of version 0.1.0 look for it
