"""Optimiser steps over stretches of the flat parameter vector."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

from fastmlp.kernels.activation import spoil
from fastmlp.kernels.arithmetic import fabs, fma, maximum, quotient, root, where
from fastmlp.kernels.jit import Doubles, Int, Pointer, inlined, kernel
from fastmlp.kernels.tile import lanes, load, store

Tile = Any
Settings = Any

SGD, ADAM, ADAMW, RMSPROP, ADAGRAD, ADAMAX, NADAM, LION = range(8)
# Places in `hyper`: of the settings,
LR, MOMENTUM, NESTEROV, BETA1, BETA2, EPSILON, WEIGHT_DECAY, MOMENTUM_DECAY = range(8)
L1, L2, CLIP_VALUE, CLIP_NORM, EMA = range(8, 13)
SKLEARN = 13  # 1: where the definitions differ, scikit-learn's
GAIN = 14  # times the loss's gradient
# then of what `prepare` works out for the step: the rate, with its sign; what weight decay, or momentum's part of the rate, is
# multiplied by; the second moment's bias correction; Nadam's product of momenta and the step that it is of;
RATE, SHARE, CORRECTION, TINY, PRODUCT, PRODUCT_STEP = range(15, 21)
MASS, TERMS = 21, 22  # and the batch's rows, or their weights' sum, and what its loss is divided by;
SO_FAR = 23  # and the sum of its losses before a call ended in the middle of it.
HYPER = 24


@inlined
def _nadam_momentum(hyper: Any, t: int) -> float:
    return hyper[BETA1] * (1.0 - 0.5 * 0.96 ** (t * hyper[MOMENTUM_DECAY]))


@kernel
def _prepare_nadam(hyper: Doubles, t: Int, like: Pointer) -> None:
    """Nadam's own part of `prepare`."""
    if hyper[PRODUCT_STEP] != t - 1.0 or t == 1:  # another optimiser's, or one from before a copy
        hyper[PRODUCT] = 1.0
        for i in range(1, t):
            hyper[PRODUCT] = hyper[PRODUCT] * _nadam_momentum(hyper, i)
    now = _nadam_momentum(hyper, t)
    product = hyper[PRODUCT] * now
    ahead = _nadam_momentum(hyper, t + 1)
    rate = hyper[RATE]
    hyper[PRODUCT] = product
    hyper[PRODUCT_STEP] = t
    hyper[RATE] = rate * (1.0 - now) / (1.0 - product)
    hyper[SHARE] = rate * ahead / (1.0 - product * ahead)


@kernel
def prepare(code: Int, hyper: Doubles, t: Int, like: Pointer) -> None:
    """What the t-th step's arithmetic needs of the settings, t >= 1; `like` only tells the dtype."""
    rate = 0.0 - hyper[LR]
    hyper[RATE] = rate
    hyper[TINY] = hyper[EPSILON]
    hyper[SHARE] = rate * hyper[WEIGHT_DECAY]
    if code == SGD:
        return
    if code == ADAM or code == ADAMW or code == NADAM:
        hyper[CORRECTION] = 1.0 / sqrt(1.0 - hyper[BETA2] ** t)
        if hyper[SKLEARN] != 0.0:
            hyper[TINY] = hyper[EPSILON] * hyper[CORRECTION]
    if code == ADAM or code == ADAMW or code == ADAMAX:
        hyper[RATE] = rate / (1.0 - hyper[BETA1] ** t)
    if code == NADAM:
        _prepare_nadam(hyper, t, like)


def _sweep(moments: int, name: str, step: Callable[[Tile, Tile, Tile, Tile, Settings], Any]) -> Callable[..., Any]:
    """The kernel of one step of `count` parameters: p, m, v = step(p, g, m, v, settings), with so many of m and v kept."""

    @inlined
    def part(params: Any, grads: Any, first: Any, second: Any, columns: Any, settings: Any) -> None:
        p = load(params, 0, 1, 1, columns)
        g = load(grads, 0, 1, 1, columns)
        m = load(first, 0, 1, 1, columns) if moments > 0 else p
        v = load(second, 0, 1, 1, columns) if moments > 1 else p
        p, m, v = step(p, g, m, v, settings)
        if moments > 0:
            store(m, first, 0, columns)
        if moments > 1:
            store(v, second, 0, columns)
        store(p, params, 0, columns)

    def sweep(params: Pointer, grads: Pointer, first: Pointer, second: Pointer, hyper: Doubles, count: Int) -> None:
        # Read before the loop: to LLVM each store may change them.
        rates = hyper[RATE], hyper[SHARE], hyper[CORRECTION], hyper[TINY]
        means = hyper[BETA1], hyper[BETA2], hyper[MOMENTUM], hyper[NESTEROV], hyper[SKLEARN]
        settings = rates, hyper[WEIGHT_DECAY], means
        width = lanes(params)
        i = 0
        while i + width <= count:
            part(params + i, grads + i, first + i, second + i, None, settings)
            i += width
        if i < count:
            part(params + i, grads + i, first + i, second + i, count - i, settings)

    sweep.__qualname__ = name
    return kernel(sweep)


@inlined
def _sgd(p: Tile, g: Tile, m: Tile, v: Tile, settings: Settings) -> Any:
    rate, shrink = settings[0][0], settings[0][1]
    return fma(g, rate, fma(p, shrink, p)), m, v


@inlined
def _momentum(p: Tile, g: Tile, m: Tile, v: Tile, settings: Settings) -> Any:
    rate, decay = settings[0][0], settings[1]
    mu, ahead, sklearn = settings[2][2], settings[2][3], settings[2][4]
    g = fma(p, decay, g)
    if sklearn != 0.0:  # the rate is in the velocity: a change of it reaches only what comes
        g = g * rate
        rate = 1.0
    m = fma(m, mu, g)
    step = m
    if ahead != 0.0:
        step = fma(m, mu, g)
    return fma(step, rate, p), m, v


@inlined
def _means(g: Tile, m: Tile, v: Tile, beta1: float, beta2: float) -> Any:
    """The running means of g and g**2."""
    return fma(g - m, 1.0 - beta1, m), fma(v, beta2, g * g * (1.0 - beta2))


@inlined
def _adam(p: Tile, g: Tile, m: Tile, v: Tile, settings: Settings) -> Any:
    rate, _, correction, tiny = settings[0]
    m, v = _means(fma(p, settings[1], g), m, v, settings[2][0], settings[2][1])
    return p + quotient(m * rate, fma(root(v), correction, tiny)), m, v


@inlined
def _adamw(p: Tile, g: Tile, m: Tile, v: Tile, settings: Settings) -> Any:
    rate, shrink, correction, tiny = settings[0]
    m, v = _means(g, m, v, settings[2][0], settings[2][1])
    return fma(p, shrink, p) + quotient(m * rate, fma(root(v), correction, tiny)), m, v


@inlined
def _rmsprop(p: Tile, g: Tile, m: Tile, v: Tile, settings: Settings) -> Any:
    rate, _, _, tiny = settings[0]
    beta2 = settings[2][1]
    g = fma(p, settings[1], g)
    m = fma(m, beta2, g * g * (1.0 - beta2))
    return p + quotient(g * rate, root(m) + tiny), m, v


@inlined
def _rmsprop_momentum(p: Tile, g: Tile, m: Tile, v: Tile, settings: Settings) -> Any:
    rate, _, _, tiny = settings[0]
    beta2, mu = settings[2][1], settings[2][2]
    g = fma(p, settings[1], g)
    m = fma(m, beta2, g * g * (1.0 - beta2))
    v = fma(v, mu, quotient(g, root(m) + tiny))
    return fma(v, rate, p), m, v


@inlined
def _adagrad(p: Tile, g: Tile, m: Tile, v: Tile, settings: Settings) -> Any:
    rate, _, _, tiny = settings[0]
    g = fma(p, settings[1], g)
    m = fma(g, g, m)
    return p + quotient(g * rate, root(m) + tiny), m, v


@inlined
def _adamax(p: Tile, g: Tile, m: Tile, v: Tile, settings: Settings) -> Any:
    rate, _, _, tiny = settings[0]
    beta1, beta2 = settings[2][0], settings[2][1]
    g = fma(p, settings[1], g)
    m = fma(g - m, 1.0 - beta1, m)
    v = maximum(fabs(g) + tiny, v * beta2)
    return p + quotient(m * rate, v), m, v


@inlined
def _nadam(p: Tile, g: Tile, m: Tile, v: Tile, settings: Settings) -> Any:
    rate, share, correction, tiny = settings[0]
    g = fma(p, settings[1], g)
    m, v = _means(g, m, v, settings[2][0], settings[2][1])
    return p + quotient(fma(m, share, g * rate), fma(root(v), correction, tiny)), m, v


@inlined
def _lion(p: Tile, g: Tile, m: Tile, v: Tile, settings: Settings) -> Any:
    rate, shrink = settings[0][0], settings[0][1]
    beta1, beta2 = settings[2][0], settings[2][1]
    c = fma(m - g, beta1, g)
    sign = where(c > 0.0, 1.0, where(c < 0.0, -1.0, c))  # 0 and NaN are their own
    return fma(sign, rate, fma(p, shrink, p)), fma(m - g, beta2, g), v


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
def update(code: Int, params: Pointer, grads: Pointer, first: Pointer, second: Pointer, hyper: Doubles, count: Int) -> None:
    """`count` parameters' share of the step that `prepare` began, by the optimiser named by `code`.

    `first` and `second` are the parameters' places in the optimiser's vectors, read where it has them.
    """
    if code == ADAM:
        adam(params, grads, first, second, hyper, count)
    elif code == SGD and hyper[MOMENTUM] == 0.0:
        sgd(params, grads, first, second, hyper, count)
    elif code == SGD:
        momentum(params, grads, first, second, hyper, count)
    elif code == ADAMW:
        adamw(params, grads, first, second, hyper, count)
    elif code == RMSPROP and hyper[MOMENTUM] == 0.0:
        rmsprop(params, grads, first, second, hyper, count)
    elif code == RMSPROP:
        rmsprop_momentum(params, grads, first, second, hyper, count)
    elif code == ADAGRAD:
        adagrad(params, grads, first, second, hyper, count)
    elif code == ADAMAX:
        adamax(params, grads, first, second, hyper, count)
    elif code == NADAM:
        nadam(params, grads, first, second, hyper, count)
    elif code == LION:
        lion(params, grads, first, second, hyper, count)
    else:
        spoil(params, count)
