"""What a fit warns of: numbers that are not finite, and targets so large that its steps do not reach them."""

import math
import sys
import warnings
from collections.abc import Sequence

import numpy as np

from fastmlp.losses import RowLoss
from fastmlp.network import Network
from fastmlp.training.dataset import WHOLE

LARGE = 1e3  # a size of numbers at which scaling them is the first thing to try
# A mean loss below which nothing is looked at: the square of LARGE, an error of the size of such numbers.
SUSPECT = 1e6
EPOCHS, FALL = 10, 0.01  # EPOCHS that lower the loss by no more than this share have done nothing
KEEP = "nonfinite='raise' or 'stop' ends a fit there, with the last finite weights"
SCALE_Y = "train on (y - y.mean()) / y.std() and scale the predictions back"


def after(
    network: Network, losses: Sequence[float] | np.ndarray, first: int, X: np.ndarray | None, y: np.ndarray | None
) -> None:
    """Warn if the losses of the epochs from `first` on are bad; X and y are the data that they are of, or None."""
    regression = network.loss not in ("bce", "cross_entropy") and not isinstance(network.loss, RowLoss)
    if not math.isfinite(losses[-1]):
        epoch, cause = int(np.argmin(np.isfinite(losses))), _cause(X, y, regression)
        warn(
            f"the loss was {losses[epoch]} in epoch {first + epoch}: {cause}. {KEEP}",
            RuntimeWarning,
        )
    elif X is not None and y is not None and _idle(network, losses, y):
        large = f"y of about {np.abs(y).mean():.3g}"
        warn(f"{len(losses)} epochs have not lowered a loss of {losses[-1]:.3g}: with {large}, {SCALE_Y}", UserWarning)


def weights(first: int, epochs: int) -> None:
    """Warn of a fit whose losses are finite, and which has ended with a weight that is not."""
    warn(f"a weight was not finite after epoch {first + epochs - 1}: {_cause(None, None, False)}. {KEEP}", RuntimeWarning)


def _cause(X: np.ndarray | None, y: np.ndarray | None, regression: bool) -> str:
    seen = [(name, array) for name, array in (("X", X), ("y", y)) if array is not None and array.nbytes <= WHOLE]
    for name, array in seen:
        if not (good := np.isfinite(array)).all():
            row = np.flatnonzero(~good.reshape(len(array), -1).all(axis=1))[0]
            return f"{name} is not finite in row {row}"
    for name, array in seen:
        if (regression or name == "X") and (largest := np.abs(array).max()) > LARGE:
            return f"{name} reaches {largest:.3g}; " + (SCALE_Y if name == "y" else "scale its columns to about 1")
    return f"{'' if seen else 'look for NaN in the data, '}try a smaller lr, or an optimiser with clip_norm"


def _idle(network: Network, losses: Sequence[float] | np.ndarray, y: np.ndarray) -> bool:
    """Whether large targets have kept training from any progress: its loss is that at first, and no less than a constant's."""
    squared = network.loss == "mse"
    if not (squared or network.loss in ("mae", "huber")):
        return False
    if len(losses) < EPOCHS or losses[-1] < (1 - FALL) * losses[0] or np.abs(y).mean() < LARGE:
        return False
    y = y.astype(np.float64)
    constant = y.var(axis=0).mean() if squared else np.abs(y - np.median(y, axis=0)).mean()
    return bool(losses[-1] >= (1 - FALL) * constant)


def warn(message: str, kind: type[Warning]) -> None:
    """Warn, with the line that called into this package as the place."""
    frame, level = sys._getframe(), 1
    while frame.f_back and frame.f_globals["__name__"].partition(".")[0] == "fastmlp":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, kind, stacklevel=level)
