"""Whether the derivative that a user's loss writes is that of the loss: a comparison with differences, in float64.

A loss may have kinks, may bend within any step, and be computed from numbers much larger than its changes. So each output is
moved by steps of many sizes to both sides. A derivative is wrong if none of those that can tell allows it.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

ROWS = 8  # that are looked at
OUTPUTS = 64  # of a row; of more, the largest derivatives and others at equal distances
STEPS = (1e-6, 1e-4)  # of an output p: these, these times |p|, and these times its row's largest
SMALLER = (1e-8, 1e-10, 1e-12)  # and these, where a loss may bend within the others
TOLERANCE = 1e-4  # of a derivative, relative
ROUNDING = 1000 * np.finfo(np.float64).eps  # of a loss, relative to the largest number that it is known to be computed from
SMALL = 1e-3  # of a slope: what it may be uncertain by and still tell

# A NaN by which numbers that a function leaves out are known; what is only added to keeps it.
UNWRITTEN = np.array(0x7FF8_0000_00C0_FFEE, np.int64)

RowFunction = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


class Slopes(NamedTuple):
    """The slopes of a loss to both sides of a point, by one step.

    Attributes
    ----------
    step : float
    least, most : float
        In a kink any number between them is a derivative.
    rounding : float
        What they may be wrong by because the loss is rounded.
    bend : float
        And because it bends: by how much the next step's slopes are others.
    """

    step: float
    least: float
    most: float
    rounding: float
    bend: float = 0.0

    def center(self) -> float:
        return (self.least + self.most) / 2

    def width(self) -> float:
        return self.most - self.least

    def size(self) -> float:
        return max(abs(self.least), abs(self.most))

    def doubt(self) -> float:
        return self.width() + 2 * self.rounding

    def meets(self, smaller: "Slopes") -> bool:
        """Whether these may be the slopes that a smaller step has; if not, the loss bends within this one."""
        room = self.rounding + smaller.rounding
        return self.least - room <= smaller.most and smaller.least <= self.most + room

    def allow(self, slope: float) -> bool:
        """Whether a derivative is one of these, or near."""
        near = TOLERANCE * max(self.size(), abs(slope)) + self.rounding + self.bend
        return math.isfinite(slope) and self.least - near <= slope <= self.most + near

    def __str__(self) -> str:
        sure = self.width() <= SMALL * self.size()
        return f"{self.center():.6g}" if sure else f"between {self.least:.6g} and {self.most:.6g}"


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
            refuted = _refuted(function, p, t, loss, int(j), float(d[j]))
            if refuted is not None:
                raise ValueError(
                    f"{where} the derivative by p[{j}] is said to be {d[j]:.6g}, and is {refuted} by differences of the loss."
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


def _refuted(function: RowFunction, p: np.ndarray, t: np.ndarray, loss: float, j: int, slope: float) -> Slopes | None:
    """The slopes by p[j] that show a derivative to be wrong; None if there are none."""
    found, allowed = [], 0
    sizes = dict.fromkeys((1.0, abs(p[j]), np.abs(p).max()))
    for step in [*(size * one for size in sizes for one in STEPS), *SMALLER]:
        one = _slopes(function, p, t, loss, j, step)
        if one is not None:
            found.append(one)
            allowed += one.doubt() <= SMALL * one.size() and one.allow(slope)
            if allowed == 2:  # nearly always the first two
                return None
    if not found:
        return None
    found.sort()
    sound = [one for i, one in enumerate(found) if all(one.meets(smaller) for smaller in found[:i])]
    telling = [one for one in sound if one.rounding <= SMALL * one.size()]
    # The smallest step that tells knows best; larger ones too, where they are no wider than a kink makes it.
    best = telling[0] if telling else min(sound, key=Slopes.doubt)
    at = found.index(best)
    other = found[at + 1] if at + 1 < len(found) else found[at - 1]
    telling = [one for one in telling if one.width() <= SMALL * one.size() + 3 * best.width()]
    if any(one.allow(slope) for one in [*telling, best._replace(bend=abs(best.center() - other.center()))]):
        return None
    return min([*telling, best], key=Slopes.doubt)


def _slopes(function: RowFunction, p: np.ndarray, t: np.ndarray, loss: float, j: int, step: float) -> Slopes | None:
    """Those by p[j]; None where the loss is not finite, or p so large that it does not move."""
    moved, unused, sides, largest = p.copy(), np.empty_like(p), [], max(abs(loss), np.abs(p).max())
    for to in (p[j] - step, p[j] + step):
        moved[j] = to
        try:
            there = _call(function, moved, t, unused)
        except Exception:  # a loss may be defined on one side only
            return None
        if to == p[j] or not math.isfinite(there):
            return None
        sides.append((there - loss) / (to - p[j]))
        largest = max(largest, abs(there))
    return Slopes(step, min(sides), max(sides), ROUNDING * largest / step) if all(map(math.isfinite, sides)) else None


def _text(array: np.ndarray) -> str:
    return np.array2string(array, precision=6, threshold=12, edgeitems=4, max_line_width=200)
