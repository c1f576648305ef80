"""Whether the derivative that a user's loss writes is that of the loss: a comparison with differences, in float64."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

ROWS = 8  # that are looked at
OUTPUTS = 64  # of a row; of more, the largest derivatives and others at equal distances
# Steps of an output p: these, and these times |p|. The smaller ones are for losses that bend within the larger ones.
STEPS = (1e-6, 1e-4)
TOLERANCE = 1e-4  # of a derivative, relative
ROUNDING = 1000 * np.finfo(np.float64).eps  # of a loss, relative to the largest number that it is computed from
DECISIVE = 1e-3  # the relative width of a range of slopes that is as good as a number

# A NaN by which numbers that a function leaves out are known; what is only added to keeps it.
UNWRITTEN = np.array(0x7FF8_0000_00C0_FFEE, np.int64)

RowFunction = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


class Slopes(NamedTuple):
    """Where the derivative lies, by the differences to both sides of a point; where they meet in a kink, between them."""

    least: float
    most: float
    rounding: float

    def width(self) -> float:
        return self.most - self.least + 2 * self.rounding

    def size(self) -> float:
        return max(abs(self.least), abs(self.most))

    def allow(self, slope: float) -> bool:
        """Whether a derivative is one of these, or near."""
        near = TOLERANCE * max(self.size(), abs(slope)) + self.rounding
        return math.isfinite(slope) and self.least - near <= slope <= self.most + near


def compare(what: str, function: RowFunction, P: np.ndarray, T: np.ndarray) -> bool:
    """Raise unless the derivative d that function(p, t, d) writes is that of the loss it returns, for each row of P and T.

    Parameters
    ----------
    what : str
        The loss, for messages.
    function : function of three arrays
    P, T : (rows, outputs) and (rows, targets) arrays of float64

    Returns
    -------
    bool
        Whether there was a row to look at: one whose outputs and loss are finite.

    Raises
    ------
    ValueError
        If a derivative is not written, not finite, or another; the message has the row, the output and both numbers.
    IndexError
        If the function leaves its arrays.
    """
    seen = False
    for row, (p, t) in enumerate(zip(P, T, strict=True)):
        if not np.isfinite(p).all():
            continue
        where = f"{what}: in row {row}, of outputs p = {_text(p)} and targets t = {_text(t)},"
        d = np.full(len(p), UNWRITTEN.view(np.float64))
        try:
            loss = _call(function, p, t, d)
        except IndexError as error:
            raise IndexError(f"{where} the function left its arrays, of {len(p)}, {len(t)} and {len(d)} numbers") from error
        if not np.isfinite(loss):  # which is for the training's own ways with such losses
            continue
        seen = True
        left = np.flatnonzero(d.view(np.int64) == UNWRITTEN)
        if len(left):
            raise ValueError(f"{where} the function does not set d[{left[0]}]: it must set all {len(d)} numbers of d")
        for j in _chosen(d):
            slopes = _slopes(function, p, t, loss, int(j), float(d[j]))
            if slopes is not None and not slopes.allow(float(d[j])):
                found = (
                    f"{slopes.least:.6g}"
                    if slopes.most - slopes.least <= DECISIVE * slopes.size()
                    else (f"between {slopes.least:.6g} and {slopes.most:.6g}")
                )
                raise ValueError(
                    f"{where} the derivative by p[{j}] is said to be {d[j]:.6g}, and is {found} by differences of the loss."
                    " check_gradient=False leaves this check out, for a derivative that is meant to be another"
                )
    return seen


def _call(function: RowFunction, p: np.ndarray, t: np.ndarray, d: np.ndarray) -> float:
    p, t = p.view(), t.view()
    p.flags.writeable = t.flags.writeable = False
    return float(function(p, t, d))


def _chosen(d: np.ndarray) -> np.ndarray:
    """The outputs whose derivatives are compared."""
    if len(d) <= OUTPUTS:
        return np.arange(len(d))
    largest = np.argsort(-np.abs(d))[: OUTPUTS // 2]
    return np.union1d(largest, np.linspace(0, len(d) - 1, OUTPUTS // 2, dtype=np.intp))


def _slopes(function: RowFunction, p: np.ndarray, t: np.ndarray, loss: float, j: int, slope: float) -> Slopes | None:
    """The slopes of the loss by p[j] that the narrowest differences leave; None where the loss is not finite around p.

    If some that are as good as a number allow the derivative, these: of a larger step a loss that bends may be wrong.
    """
    moved, unused, best = p.copy(), np.empty_like(p), None
    for step in [*STEPS, *(abs(p[j]) * one for one in STEPS)]:
        losses, widths = [], []
        for to in (p[j] - step, p[j] + step):
            moved[j] = to
            try:
                losses.append(_call(function, moved, t, unused))
            except Exception:  # a loss may be defined on one side only
                losses.append(np.nan)
            widths.append(abs(to - p[j]))
        if not (np.isfinite(losses).all() and all(widths)):
            continue
        sides = (loss - losses[0]) / widths[0], (losses[1] - loss) / widths[1]
        largest = max(abs(loss), *map(abs, losses), np.abs(p).max())
        found = Slopes(min(sides), max(sides), ROUNDING * largest / min(widths))
        if found.width() <= DECISIVE * max(found.size(), abs(slope)) and found.allow(slope):
            return found
        if best is None or found.width() < best.width():
            best = found
    return best


def _text(array: np.ndarray) -> str:
    return np.array2string(array, precision=6, threshold=12, edgeitems=4, max_line_width=200)
