"""Losses: their value summed over a block of rows, and the gradient that starts the backward pass: a table of entries.

An entry is the functions of a tile and its line in `LOSSES`, and stands here alone: what the dispatchers below, the engine and
users (`fastmlp.losses`) know of a loss is made from the table. Compiled code knows the codes: new ones follow the last.

Those that contain their output activation read the output layer's pre-activations z and write the gradient by z: sigmoid,
softmax or exp are part of them, which is faster and cannot overflow. The others read the outputs p and write the gradient with
respect to p. `scale` is what each number's gradient is multiplied by: 1 / (rows * outputs) for a mean over all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, NamedTuple

from fastmlp.kernels.layer.cross_entropy import (
    EPSILON_32,
    EPSILON_64,
    clipped_cross_entropy,
    cross_entropy,
    cross_entropy_columns,
    cross_entropy_rows,
)
from fastmlp.kernels.layer.custom import CUSTOM, TARGETS, call_loss
from fastmlp.kernels.machine.dispatch import by_code
from fastmlp.kernels.machine.jit import Double, Int, Integers, Pointer, inlined, kernel
from fastmlp.kernels.tiles.across import total
from fastmlp.kernels.tiles.arithmetic import fabs, first_columns, fma, horner, maximum, minimum, where
from fastmlp.kernels.tiles.math import exp, log_normal, sigmoid
from fastmlp.kernels.tiles.tile import lanes, load, splat, store
from fastmlp.kernels.tuning import LOSS_RUN

Tile = Any

INFINITY = float("inf")


@dataclass(frozen=True)
class Loss:
    """What a name stands for.

    Attributes
    ----------
    code : int
        The kernels' number for it.
    formula : str
        The loss that is reported, for outputs p, pre-activations z and targets y.
    gradient : str
        What the backward pass starts from.
    output : str
        The output activation that it takes unless told otherwise.
    outputs : tuple of str
        The output activations that it can take; empty for any.
    most_target : float or None
        Targets must lie in [0, most_target]; None for any.
    from_logits : bool
        Whether it contains its output activation.
    row_mean : bool
        Whether it is a mean over rows, not over rows times outputs.
    labels : bool
        Whether a row's target is the number of its class.
    """

    code: int
    formula: str
    gradient: str
    output: str
    outputs: tuple[str, ...] = ()
    most_target: float | None = None
    from_logits: bool = False
    row_mean: bool = False
    labels: bool = False
    kernel: Any = field(default=None, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """By its name: a copy is the entry itself."""
        return Loss.named, (next(name for name, one in LOSSES.items() if one == self),)

    @staticmethod
    def named(name: str) -> Loss:
        """The entry of a name."""
        return LOSSES[name]


def _elementwise(name: str, value: Callable[[Tile, Tile], Tile], slope: Callable[[Tile, Tile], Tile]) -> Callable[..., Any]:
    """The kernel that sums value(p, y) and writes d = slope(p, y) * scale.

    p is read and d written in whole registers, d's last one with zeros beyond the count: a load soon after a masked store would
    wait for it to reach the cache.
    """

    def loss(p: Pointer, y: Pointer, d: Pointer, rows: Int, columns: Int, scale: Double) -> Double:
        count = rows * columns
        step = lanes(p)
        result = 0.0
        for start in range(0, count, LOSS_RUN * step):
            sums = splat(p, 0.0, 1, 1)
            for i in range(start, min(start + LOSS_RUN * step, count), step):
                left = count - i
                a = load(p + i, 0, 1, 1, None)
                b = load(y + i, 0, 1, 1, left)
                valid = first_columns(a, left)
                sums = sums + where(valid, value(a, b), 0.0)
                store(where(valid, slope(a, b) * scale, 0.0), d + i, 0, None)
            result += total(sums)
        return result

    loss.__qualname__ = name
    return kernel(loss)


@inlined
def _mse(p: Tile, y: Tile) -> Tile:
    return (p - y) * (p - y)


@inlined
def _mse_slope(p: Tile, y: Tile) -> Tile:
    return (p - y) * 2.0


@inlined
def _mae(p: Tile, y: Tile) -> Tile:
    return fabs(p - y)


@inlined
def _mae_slope(p: Tile, y: Tile) -> Tile:
    e = p - y
    return where(e > 0.0, 1.0, where(e < 0.0, -1.0, e))  # 0 at 0, NaN at NaN


@inlined
def _huber(p: Tile, y: Tile) -> Tile:
    """e**2 / 2 up to |e| = 1, |e| - 1/2 beyond, as q * (e - q / 2) with q = e clipped to [-1, 1]."""
    q = _huber_slope(p, y)
    return q * fma(q, -0.5, p - y)


@inlined
def _huber_slope(p: Tile, y: Tile) -> Tile:
    return minimum(maximum(p - y, -1.0), 1.0)


@inlined
def hard_bce(p: Tile, y: Tile) -> Tile:
    """-(y log(p + 1e-8) + (1 - y) log(1 - p + 1e-8)) where y is 0 or 1: one logarithm."""
    return 0.0 - log_normal(where(y > 0.5, p, 1.0 - p) + 1e-8)


@inlined
def soft_bce(p: Tile, y: Tile) -> Tile:
    """The same for any y."""
    return 0.0 - (y * log_normal(p + 1e-8) + (1.0 - y) * log_normal(1.0 - p + 1e-8))


@kernel
def bce(z: Pointer, y: Pointer, d: Pointer, rows: Int, columns: Int, scale: Double) -> Double:
    """Sum of -(y log(p + 1e-8) + (1 - y) log(1 - p + 1e-8)), p = sigmoid(z); d = (p - y) * scale.

    Where all y are 0 or 1, as they are almost always, one logarithm tells the loss.
    """
    count = rows * columns
    step = lanes(z)
    result = 0.0
    for start in range(0, count, LOSS_RUN * step):
        stop = min(start + LOSS_RUN * step, count)
        sums = splat(z, 0.0, 1, 1)
        soft = splat(z, 0.0, 1, 1)
        for i in range(start, stop, step):
            p = sigmoid(load(z + i, 0, 1, 1, None))
            target = load(y + i, 0, 1, 1, stop - i)
            valid = first_columns(p, stop - i)
            store(where(valid, (p - target) * scale, 0.0), d + i, 0, None)
            soft = fma(target, 1.0 - target, soft)
            sums = sums + where(valid, hard_bce(p, target), 0.0)
        if total(soft) != 0.0:
            sums = splat(z, 0.0, 1, 1)
            for i in range(start, stop, step):
                p = sigmoid(load(z + i, 0, 1, 1, None))
                target = load(y + i, 0, 1, 1, stop - i)
                sums = sums + where(first_columns(p, stop - i), soft_bce(p, target), 0.0)
        result += total(sums)
    return result


@inlined
def _clipped_bce(z: Tile, y: Tile) -> Tile:
    """-log(q) for the probability q of a label y of 0 or 1, clipped to the dtype's epsilon; NaN kept."""
    p = sigmoid(z)
    q = where(y > 0.5, p, 1.0 - p)
    least = horner(q, EPSILON_32, EPSILON_64)
    return 0.0 - log_normal(minimum(maximum(q, least), 1.0 - least))


@inlined
def _clipped_bce_slope(z: Tile, y: Tile) -> Tile:
    return sigmoid(z) - y


@inlined
def _poisson(z: Tile, y: Tile) -> Tile:
    """exp(z) - y z; of a target of 0 the limit, if z is -inf."""
    return exp(z) - where(y == 0.0, 0.0, y * z)


@inlined
def _poisson_slope(z: Tile, y: Tile) -> Tile:
    return exp(z) - y


@inlined
def _product(p: Tile, g: Tile) -> Tile:
    return p * g


@inlined
def _given(p: Tile, g: Tile) -> Tile:
    return g


LOSSES = {
    "bce": Loss(
        0,
        "-mean(y log(p + 1e-8) + (1 - y) log(1 - p + 1e-8))",
        "dz = (p - y) / (rows * outputs)",
        "sigmoid",
        ("sigmoid",),
        1.0,
        from_logits=True,
        kernel=bce,
    ),
    "cross_entropy": Loss(
        1,
        "mean over rows of log(sum(exp(z))) - z[label], or of -sum(y log(softmax(z)))",
        "dz = (p sum(y) - y) / rows",
        "softmax",
        ("softmax",),
        1.0,
        from_logits=True,
        row_mean=True,
        labels=True,
        kernel=cross_entropy,
    ),
    "mse": Loss(
        3,
        "mean((p - y)**2)",
        "dp = 2 (p - y) / (rows * outputs)",
        "identity",
        kernel=_elementwise("mse", _mse, _mse_slope),
    ),
    "mae": Loss(
        4,
        "mean(|p - y|)",
        "dp = sign(p - y) / (rows * outputs)",
        "identity",
        kernel=_elementwise("mae", _mae, _mae_slope),
    ),
    "huber": Loss(
        5,
        "mean(e**2 / 2 if |e| <= 1 else |e| - 1/2), e = p - y",
        "dp = clip(e, -1, 1) / (rows * outputs)",
        "identity",
        kernel=_elementwise("huber", _huber, _huber_slope),
    ),
    "poisson": Loss(
        6,
        "mean(exp(z) - y z): of log-rates z, the outputs, or of rates exp(z), if the outputs are exp's",
        "dz = (exp(z) - y) / (rows * outputs)",
        "identity",
        ("identity", "exp"),
        INFINITY,
        from_logits=True,
        kernel=_elementwise("poisson", _poisson, _poisson_slope),
    ),
}
# Those that other kernels know by name.
BCE, CROSS_ENTROPY = (LOSSES[name].code for name in ("bce", "cross_entropy"))
MSE, MAE, HUBER = (LOSSES[name].code for name in ("mse", "mae", "huber"))
CROSS_ENTROPY_ROWS = 2  # of rows of probabilities
CLIPPED_BCE, CLIPPED_CROSS_ENTROPY = -1, -2  # scikit-learn's
# sum(p g) and sum(z g), whose "targets" g are the gradient of a loss that only its user knows.
OUTPUT_GRADIENT, LOGIT_GRADIENT = -3, -4
# How rows' weights, if there are any, make a mean: over their sum, or over the sum of their absolute values.
BY_SUM, BY_SIZE = 1, 2

_linear = _elementwise("linear", _product, _given)
_ALL = (
    *LOSSES.values(),
    replace(LOSSES["cross_entropy"], code=CROSS_ENTROPY_ROWS, labels=False, kernel=cross_entropy_rows),
    replace(LOSSES["cross_entropy"], code=CLIPPED_CROSS_ENTROPY, kernel=clipped_cross_entropy),
    replace(LOSSES["bce"], code=CLIPPED_BCE, kernel=_elementwise("clipped_bce", _clipped_bce, _clipped_bce_slope)),
    Loss(OUTPUT_GRADIENT, "sum(p g)", "dp = g", "identity", kernel=_linear),
    Loss(LOGIT_GRADIENT, "sum(z g)", "dz = g", "identity", from_logits=True, kernel=_linear),
)
BY_NUMBERS = tuple(one.code for one in LOSSES.values() if not one.row_mean)  # those that look at each output for itself


_SHIFT = 4  # the least code's place in these is 0


def _bits(codes: Iterable[int]) -> int:
    return sum(1 << code + _SHIFT for code in codes)


FROM_LOGITS = _bits(one.code for one in _ALL if one.from_logits)
ROW_MEAN = frozenset(one.code for one in _ALL if one.row_mean)
LABELS = frozenset(one.code for one in _ALL if one.labels)

_sum_of = by_code({one.code: one.kernel for one in _ALL})


@inlined
def from_logits(code: int) -> bool:
    """Whether the loss contains the output activation."""
    return code < CUSTOM and FROM_LOGITS >> code + _SHIFT & 1 != 0


@cache
def numbers_of(code: int, outputs: int) -> tuple[int, int]:
    """How many numbers a row has for the loss named by `code`: in its target; and of those that the loss is a mean of.

    0 of the latter: it is a sum.
    """
    if code >= CUSTOM:
        targets = TARGETS.get(code)
        return (targets, 1) if targets else (outputs, outputs)
    if code in (OUTPUT_GRADIENT, LOGIT_GRADIENT):
        return outputs, 0
    return 1 if code in LABELS else outputs, 1 if code in ROW_MEAN else outputs


class Extent(NamedTuple):
    """How many rows there are, of how many outputs and targets; a row's weight is one of the latter."""

    rows: Int
    columns: Int
    targets: Int


@kernel
def evaluate(code: Int, p: Pointer, y: Pointer, d: Pointer, rows: Int, columns: Int, scale: Double) -> Double:
    """The loss named by `code`, summed, with its gradient times `scale` in d."""
    if code >= CUSTOM:
        return call_loss(code, p, y, d, rows, columns, scale)
    if code == CROSS_ENTROPY and columns <= 2 * lanes(p) and rows > 1:
        return cross_entropy_columns(p, y, d, rows, columns, scale, -INFINITY, INFINITY)
    return _sum_of(code, p, y, d, rows, columns, scale)


@kernel
def evaluate_weighted(code: Int, p: Pointer, y: Pointer, d: Pointer, spare: Pointer, extent: Extent, scale: Double) -> Double:
    """`evaluate`, each row times its weight, which is the last number in its row of y.

    A row of weight 0 does not count even if its loss is infinite. `spare` is scratch for a row, in whole registers: `evaluate`
    writes beyond a row, which may be another thread's there.
    """
    columns = extent.columns
    result = 0.0
    for i in range(extent.rows):
        row = y + i * extent.targets
        weight = row[extent.targets - 1]
        if weight != 0.0:
            result += weight * evaluate(code, p + i * columns, row, spare, 1, columns, scale * weight)
        for j in range(0, columns, lanes(p)):
            slope = splat(p, 0.0, 1, 1)
            if weight != 0.0:
                slope = load(spare + j, 0, 1, 1, columns - j)
            store(slope, d + (i * columns + j), 0, columns - j)
    return result


@kernel
def weigh(y: Pointer, order: Integers, ordered: Int, rows: Int, targets: Int, weighted: Int) -> Double:
    """The sum of the weights of `rows` rows of y (of those in `order`, if `ordered`); 1 where it is 0: none counts.

    Of their absolute values, if `weighted` is BY_SIZE.
    """
    result = 0.0
    for i in range(rows):
        weight = y[(order[i] if ordered else i) * targets + targets - 1] * 1.0
        result += abs(weight) if weighted == BY_SIZE else weight
    return result if result != 0.0 else 1.0
