"""Optimiser steps over stretches of the flat parameter vector."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any, NamedTuple

from fastmlp.kernels.layer.activation import spoil
from fastmlp.kernels.machine.jit import Double, Int, Pointer, inlined, kernel
from fastmlp.kernels.machine.record import Record
from fastmlp.kernels.tiles.arithmetic import fabs, fma, maximum, quotient, root, where
from fastmlp.kernels.tiles.tile import lanes, load, store

Tile = Any

SGD, ADAM, ADAMW, RMSPROP, ADAGRAD, ADAMAX, NADAM, LION = range(8)


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
def prepare(code: Int, settings: Settings, t: Int, like: Pointer) -> None:
    """What the t-th step's arithmetic needs of the settings, t >= 1; `like` only tells the dtype."""
    rate = 0.0 - settings.lr
    settings.rate = rate
    settings.tiny = settings.epsilon
    settings.share = rate * settings.weight_decay
    if code == SGD:
        return
    if code == ADAM or code == ADAMW or code == NADAM:
        settings.correction = 1.0 / sqrt(1.0 - settings.beta2**t)
        if settings.sklearn != 0.0:
            settings.tiny = settings.epsilon * settings.correction
    if code == ADAM or code == ADAMW or code == ADAMAX:
        settings.rate = rate / (1.0 - settings.beta1**t)
    if code == NADAM:
        _prepare_nadam(settings, t, like)


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


sgd = _sweep(0, "sgd", _sgd)
momentum = _sweep(1, "momentum", _momentum)
adam = _sweep(2, "adam", _adam)
adamw = _sweep(2, "adamw", _adamw)
rmsprop = _sweep(1, "rmsprop", _rmsprop)
rmsprop_momentum = _sweep(2, "rmsprop_momentum", _rmsprop_momentum)
adagrad = _sweep(1, "adagrad", _adagrad)
adamax = _sweep(2, "adamax", _adamax)
nadam = _sweep(2, "nadam", _nadam)
lion = _sweep(1, "lion", _lion)


@kernel
def update(code: Int, settings: Settings, place: Place, count: Int) -> None:
    """`count` parameters' share of the step that `prepare` began, by the optimiser named by `code`."""
    if code == ADAM:
        adam(place, settings, count)
    elif code == SGD and settings.momentum == 0.0:
        sgd(place, settings, count)
    elif code == SGD:
        momentum(place, settings, count)
    elif code == ADAMW:
        adamw(place, settings, count)
    elif code == RMSPROP and settings.momentum == 0.0:
        rmsprop(place, settings, count)
    elif code == RMSPROP:
        rmsprop_momentum(place, settings, count)
    elif code == ADAGRAD:
        adagrad(place, settings, count)
    elif code == ADAMAX:
        adamax(place, settings, count)
    elif code == NADAM:
        nadam(place, settings, count)
    elif code == LION:
        lion(place, settings, count)
    else:
        spoil(place.params, count)
