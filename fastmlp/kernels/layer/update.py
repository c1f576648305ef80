"""Optimiser steps over stretches of the flat parameter vector: a table of rules.

A rule is the function of a tile, what of `prepare` it needs and its line in `RULES`; its settings are a class of
`fastmlp.optimizers`. Compiled code knows the codes: new ones follow the last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import sqrt
from typing import Any, NamedTuple

from fastmlp.kernels.machine.dispatch import by_code
from fastmlp.kernels.machine.jit import Double, Int, Pointer, inlined, kernel
from fastmlp.kernels.machine.record import Record
from fastmlp.kernels.tiles.arithmetic import fabs, fma, maximum, quotient, root, where
from fastmlp.kernels.tiles.tile import lanes, load, store

Tile = Any


class Settings(Record):
    """An optimiser's settings, as `fastmlp.optimizers` explains them, and what `prepare` makes of them for a step."""

    lr: float
    momentum: float
    nesterov: float  # 1: look ahead along the momentum
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float
    momentum_decay: float
    l1: float
    l2: float
    clip_value: float  # 0: the gradient is not clipped
    clip_norm: float  # likewise
    ema: float  # 0: there is no running mean of the parameters
    sklearn: float  # 1: where the definitions differ, scikit-learn's
    by_mass: float  # 1: the penalty l2 is divided by the batch's rows, or the sum of their weights
    gain: float  # times the loss's gradient
    rate: float  # the learning rate with its sign, and with the first moment's bias correction
    share: float  # what weight decay, or Nadam's momentum, makes of the rate
    correction: float  # of the second moment's bias
    tiny: float  # epsilon, as it is added here
    product: float  # of Nadam's momenta up to
    product_step: float  # this step


class Rates(NamedTuple):
    """What a step reads of `Settings`."""

    rate: Double
    share: Double
    correction: Double
    tiny: Double
    weight_decay: Double
    beta1: Double
    beta2: Double
    momentum: Double
    nesterov: Double
    sklearn: Double


class Place(NamedTuple):
    """Some parameters, their gradients, and what the optimiser remembers of them: addresses of as many numbers each."""

    params: Pointer
    grads: Pointer
    first: Pointer
    second: Pointer


@inlined
def moved(place: Any, count: int) -> Any:
    """The place `count` parameters further on."""
    return Place(place.params + count, place.grads + count, place.first + count, place.second + count)


@inlined
def _nadam_momentum(settings: Any, t: int) -> float:
    return settings.beta1 * (1.0 - 0.5 * 0.96 ** (t * settings.momentum_decay))


@kernel
def _prepare_nadam(settings: Settings, t: Int, like: Pointer) -> None:
    """Nadam's own part of `prepare`."""
    if settings.product_step != t - 1.0 or t == 1:  # another optimiser's, or one from before a copy
        settings.product = 1.0
        for i in range(1, t):
            settings.product = settings.product * _nadam_momentum(settings, i)
    now = _nadam_momentum(settings, t)
    product = settings.product * now
    ahead = _nadam_momentum(settings, t + 1)
    rate = settings.rate
    settings.product = product
    settings.product_step = t
    settings.rate = rate * (1.0 - now) / (1.0 - product)
    settings.share = rate * ahead / (1.0 - product * ahead)


@kernel
def _prepare_radam(settings: Settings, t: Int, like: Pointer) -> None:
    """RAdam's own part of `prepare`: Adam's step at a rectified rate; at first over 0 sqrt(v) + 1, the momentum's alone."""
    decay = settings.beta2**t
    most = 2.0 / (1.0 - settings.beta2) - 1.0
    length = most - 2.0 * t * decay / (1.0 - decay)
    settings.correction = 0.0
    settings.tiny = 1.0
    if length > 5.0:
        share = (length - 4.0) * (length - 2.0) * most / ((most - 4.0) * (most - 2.0) * length)
        settings.rate = settings.rate * sqrt(share * (1.0 - decay))
        settings.correction = 1.0
        settings.tiny = settings.epsilon


def _sweep(moments: int, name: str, step: Callable[[Tile, Tile, Tile, Tile, Any], Any]) -> Callable[..., Any]:
    """The kernel of one step of `count` parameters: p, m, v = step(p, g, m, v, rates), with `moments` of m and v kept."""

    @inlined
    def part(place: Any, columns: Any, rates: Any) -> None:
        p = load(place.params, 0, 1, 1, columns)
        g = load(place.grads, 0, 1, 1, columns)
        m = load(place.first, 0, 1, 1, columns) if moments > 0 else p
        v = load(place.second, 0, 1, 1, columns) if moments > 1 else p
        p, m, v = step(p, g, m, v, rates)
        if moments > 0:
            store(m, place.first, 0, columns)
        if moments > 1:
            store(v, place.second, 0, columns)
        store(p, place.params, 0, columns)

    def sweep(place: Place, settings: Settings, count: Int) -> None:
        # Read before the loop: to LLVM each store may change them.
        rates = Rates(
            settings.rate,
            settings.share,
            settings.correction,
            settings.tiny,
            settings.weight_decay,
            settings.beta1,
            settings.beta2,
            settings.momentum,
            settings.nesterov,
            settings.sklearn,
        )
        width = lanes(place.params)
        i = 0
        while i + width <= count:
            part(moved(place, i), None, rates)
            i += width
        if i < count:
            part(moved(place, i), count - i, rates)

    sweep.__qualname__ = name
    return kernel(sweep)


@inlined
def _sgd(p: Tile, g: Tile, m: Tile, v: Tile, rates: Any) -> Any:
    return fma(g, rates.rate, fma(p, rates.share, p)), m, v


@inlined
def _momentum(p: Tile, g: Tile, m: Tile, v: Tile, rates: Any) -> Any:
    rate, mu = rates.rate, rates.momentum
    g = fma(p, rates.weight_decay, g)
    if rates.sklearn != 0.0:  # the rate is in the velocity: a change of it reaches only what comes
        g = g * rate
        rate = 1.0
    m = fma(m, mu, g)
    step = m
    if rates.nesterov != 0.0:
        step = fma(m, mu, g)
    return fma(step, rate, p), m, v


@inlined
def _means(g: Tile, m: Tile, v: Tile, beta1: float, beta2: float) -> Any:
    """The running means of g and g**2."""
    return fma(g - m, 1.0 - beta1, m), fma(v, beta2, g * g * (1.0 - beta2))


@inlined
def _adam(p: Tile, g: Tile, m: Tile, v: Tile, rates: Any) -> Any:
    m, v = _means(fma(p, rates.weight_decay, g), m, v, rates.beta1, rates.beta2)
    return p + quotient(m * rates.rate, fma(root(v), rates.correction, rates.tiny)), m, v


@inlined
def _adamw(p: Tile, g: Tile, m: Tile, v: Tile, rates: Any) -> Any:
    m, v = _means(g, m, v, rates.beta1, rates.beta2)
    return fma(p, rates.share, p) + quotient(m * rates.rate, fma(root(v), rates.correction, rates.tiny)), m, v


@inlined
def _rmsprop(p: Tile, g: Tile, m: Tile, v: Tile, rates: Any) -> Any:
    beta2 = rates.beta2
    g = fma(p, rates.weight_decay, g)
    m = fma(m, beta2, g * g * (1.0 - beta2))
    return p + quotient(g * rates.rate, root(m) + rates.tiny), m, v


@inlined
def _rmsprop_momentum(p: Tile, g: Tile, m: Tile, v: Tile, rates: Any) -> Any:
    beta2 = rates.beta2
    g = fma(p, rates.weight_decay, g)
    m = fma(m, beta2, g * g * (1.0 - beta2))
    v = fma(v, rates.momentum, quotient(g, root(m) + rates.tiny))
    return fma(v, rates.rate, p), m, v


@inlined
def _adagrad(p: Tile, g: Tile, m: Tile, v: Tile, rates: Any) -> Any:
    g = fma(p, rates.weight_decay, g)
    m = fma(g, g, m)
    return p + quotient(g * rates.rate, root(m) + rates.tiny), m, v


@inlined
def _adamax(p: Tile, g: Tile, m: Tile, v: Tile, rates: Any) -> Any:
    g = fma(p, rates.weight_decay, g)
    m = fma(g - m, 1.0 - rates.beta1, m)
    v = maximum(fabs(g) + rates.tiny, v * rates.beta2)
    return p + quotient(m * rates.rate, v), m, v


@inlined
def _nadam(p: Tile, g: Tile, m: Tile, v: Tile, rates: Any) -> Any:
    g = fma(p, rates.weight_decay, g)
    m, v = _means(g, m, v, rates.beta1, rates.beta2)
    return p + quotient(fma(m, rates.share, g * rates.rate), fma(root(v), rates.correction, rates.tiny)), m, v


@inlined
def _lion(p: Tile, g: Tile, m: Tile, v: Tile, rates: Any) -> Any:
    c = fma(m - g, rates.beta1, g)
    sign = where(c > 0.0, 1.0, where(c < 0.0, -1.0, c))  # 0 and NaN are their own
    return fma(sign, rates.rate, fma(p, rates.share, p)), fma(m - g, rates.beta2, g), v


class Rule(NamedTuple):
    """What an optimiser computes.

    Attributes
    ----------
    code : int
    sweep : kernel of one step
    moments : int
        How many vectors of the parameters' length it keeps.
    with_momentum : (kernel, int) or None
        The other two, where momentum is above 0.
    first, second : bool
        Whether `prepare` corrects the bias of the first moment, in the rate, and of the second.
    prepare : kernel or None
        What it needs besides.
    """

    code: int
    sweep: Any
    moments: int
    with_momentum: tuple[Any, int] | None = None
    first: bool = False
    second: bool = False
    prepare: Any = None


_adam_sweep = _sweep(2, "adam", _adam)

RULES = {
    "SGD": Rule(0, _sweep(0, "sgd", _sgd), 0, (_sweep(1, "momentum", _momentum), 1)),
    "Adam": Rule(1, _adam_sweep, 2, first=True, second=True),
    "AdamW": Rule(2, _sweep(2, "adamw", _adamw), 2, first=True, second=True),
    "RMSprop": Rule(3, _sweep(1, "rmsprop", _rmsprop), 1, (_sweep(2, "rmsprop_momentum", _rmsprop_momentum), 2)),
    "Adagrad": Rule(4, _sweep(1, "adagrad", _adagrad), 1),
    "Adamax": Rule(5, _sweep(2, "adamax", _adamax), 2, first=True),
    "Nadam": Rule(6, _sweep(2, "nadam", _nadam), 2, second=True, prepare=_prepare_nadam),
    "Lion": Rule(7, _sweep(1, "lion", _lion), 1),
    "RAdam": Rule(8, _adam_sweep, 2, first=True, prepare=_prepare_radam),
}
SGD = RULES["SGD"].code  # the kernels know it by name


def _bits(codes: Iterable[int]) -> int:
    return sum(1 << code for code in codes)


FIRST = _bits(one.code for one in RULES.values() if one.first)
SECOND = _bits(one.code for one in RULES.values() if one.second)
OTHERS = _bits(one.code for one in RULES.values() if one.prepare)

_prepare_of = by_code({one.code: one.prepare for one in RULES.values() if one.prepare})
# Twice the code is the plain sweep's, one more that with momentum.
_sweep_of = by_code(
    {2 * one.code: one.sweep for one in RULES.values()}
    | {2 * one.code + 1: one.with_momentum[0] for one in RULES.values() if one.with_momentum}
)


@kernel
def prepare(code: Int, settings: Settings, t: Int, like: Pointer) -> None:
    """What the t-th step's arithmetic needs of the settings, t >= 1; `like` only tells the dtype."""
    rate = 0.0 - settings.lr
    settings.rate = rate
    settings.tiny = settings.epsilon
    settings.share = rate * settings.weight_decay
    if SECOND >> code & 1:
        settings.correction = 1.0 / sqrt(1.0 - settings.beta2**t)
        if settings.sklearn != 0.0:
            settings.tiny = settings.epsilon * settings.correction
    if FIRST >> code & 1:
        settings.rate = rate / (1.0 - settings.beta1**t)
    if OTHERS >> code & 1:
        _prepare_of(code, settings, t, like)


@kernel
def update(code: Int, settings: Settings, place: Place, count: Int) -> None:
    """`count` parameters' share of the step that `prepare` began, by the optimiser named by `code`."""
    _sweep_of(2 * code + (0 if settings.momentum == 0.0 else 1), place, settings, count)
