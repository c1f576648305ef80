"""Optimiser steps over stretches of the flat parameter vector."""

from __future__ import annotations

from math import sqrt
from typing import Any

from fastmlp.kernels.arithmetic import fma, quotient, root
from fastmlp.kernels.jit import Doubles, Int, Pointer, inlined, kernel
from fastmlp.kernels.tile import lanes, load, store

Tile = Any

SGD, ADAM = range(2)
# Places of the settings in `hyper`, then of what `prepare` works out for the step.
LR, MOMENTUM, NESTEROV, BETA1, BETA2, EPSILON, WEIGHT_DECAY, RATE, CORRECTION = range(9)
HYPER = 9


@inlined
def prepare(code: int, hyper: Any, t: int) -> None:
    """What the t-th step's arithmetic needs of the settings, t >= 1."""
    if code == ADAM:
        hyper[RATE] = 0.0 - hyper[LR] / (1.0 - hyper[BETA1] ** t)
        hyper[CORRECTION] = 1.0 / sqrt(1.0 - hyper[BETA2] ** t)
    else:
        hyper[RATE] = 0.0 - hyper[LR]


@kernel
def sgd(params: Pointer, grads: Pointer, hyper: Doubles, count: Int) -> None:
    """p -= lr * (g + weight_decay * p)."""
    rate = hyper[RATE]
    shrink = rate * hyper[WEIGHT_DECAY]
    step = lanes(params)
    i = 0
    while i + step <= count:
        p = load(params + i, 0, 1, 1, None)
        store(fma(load(grads + i, 0, 1, 1, None), rate, fma(p, shrink, p)), params + i, 0, None)
        i += step
    if i < count:
        p = load(params + i, 0, 1, 1, count - i)
        store(fma(load(grads + i, 0, 1, 1, count - i), rate, fma(p, shrink, p)), params + i, 0, count - i)


@inlined
def _momentum(params: Any, grads: Any, velocity: Any, columns: Any, rate: float, mu: float, ahead: float, decay: float) -> None:
    p = load(params, 0, 1, 1, columns)
    g = fma(p, decay, load(grads, 0, 1, 1, columns))
    v = fma(load(velocity, 0, 1, 1, columns), mu, g)
    store(v, velocity, 0, columns)
    if ahead != 0.0:
        v = fma(v, mu, g)
    store(fma(v, rate, p), params, 0, columns)


@kernel
def momentum(params: Pointer, grads: Pointer, velocity: Pointer, hyper: Doubles, count: Int) -> None:
    """g += weight_decay * p; v = momentum * v + g; p -= lr * v, or lr * (g + momentum * v) with Nesterov."""
    # Read before the loop: to LLVM each store may change them.
    rate, mu, ahead, decay = hyper[RATE], hyper[MOMENTUM], hyper[NESTEROV], hyper[WEIGHT_DECAY]
    step = lanes(params)
    i = 0
    while i + step <= count:
        _momentum(params + i, grads + i, velocity + i, None, rate, mu, ahead, decay)
        i += step
    if i < count:
        _momentum(params + i, grads + i, velocity + i, count - i, rate, mu, ahead, decay)


@inlined
def _adam(
    params: Any, grads: Any, first: Any, second: Any, columns: Any, rate: float, beta1: float, beta2: float, more: Any
) -> None:
    correction, epsilon, decay = more
    p = load(params, 0, 1, 1, columns)
    g = fma(p, decay, load(grads, 0, 1, 1, columns))
    m = load(first, 0, 1, 1, columns)
    m = fma(g - m, 1.0 - beta1, m)
    v = fma(load(second, 0, 1, 1, columns), beta2, g * g * (1.0 - beta2))
    store(m, first, 0, columns)
    store(v, second, 0, columns)
    store(p + quotient(m * rate, fma(root(v), correction, epsilon)), params, 0, columns)


@kernel
def adam(params: Pointer, grads: Pointer, first: Pointer, second: Pointer, hyper: Doubles, count: Int) -> None:
    """g += weight_decay * p; m and v are g's and g**2's running means; p -= lr * m^ / (sqrt(v^) + epsilon).

    m^ = m / (1 - beta1**t), v^ = v / (1 - beta2**t), for the t-th step, t >= 1 (Kingma and Ba, 2015, algorithm 1; epsilon
    outside the root, after the bias correction, as in PyTorch).
    """
    rate, beta1, beta2 = hyper[RATE], hyper[BETA1], hyper[BETA2]
    more = hyper[CORRECTION], hyper[EPSILON], hyper[WEIGHT_DECAY]
    step = lanes(params)
    i = 0
    while i + step <= count:
        _adam(params + i, grads + i, first + i, second + i, None, rate, beta1, beta2, more)
        i += step
    if i < count:
        _adam(params + i, grads + i, first + i, second + i, count - i, rate, beta1, beta2, more)


@kernel
def update(code: Int, params: Pointer, grads: Pointer, first: Pointer, second: Pointer, hyper: Doubles, count: Int) -> None:
    """`count` parameters' share of the step that `prepare` began, by the optimiser named by `code`.

    `first` and `second` are the parameters' places in the optimiser's vectors, read where it has them.
    """
    if code == ADAM:
        adam(params, grads, first, second, hyper, count)
    elif hyper[MOMENTUM] != 0.0:
        momentum(params, grads, first, hyper, count)
    else:
        sgd(params, grads, hyper, count)
