"""Optimiser steps over the flat parameter vector.

`count` is a multiple of the lanes: the vectors end in zeros, which stay zeros, so that no access needs a mask (a load soon
after a masked store would wait for it to reach the cache).
"""

from __future__ import annotations

from math import sqrt as scalar_sqrt

from fastmlp.kernels.arithmetic import sqrt
from fastmlp.kernels.jit import Doubles, Int, Pointer, kernel
from fastmlp.kernels.tile import lanes, load, store

SGD, ADAM = range(2)
# Places of the settings in `hyper`.
LR, MOMENTUM, NESTEROV, BETA1, BETA2, EPSILON, WEIGHT_DECAY = range(7)
HYPER = 7


@kernel
def sgd(params: Pointer, grads: Pointer, hyper: Doubles, count: Int) -> None:
    """p -= lr * (g + weight_decay * p)."""
    rate = 0.0 - hyper[LR]
    decay = hyper[WEIGHT_DECAY]
    for i in range(0, count, lanes(params)):
        p = load(params + i, 0, 1, 1, None)
        g = load(grads + i, 0, 1, 1, None)
        if decay != 0.0:
            g = g + p * decay
        store(p + g * rate, params + i, 0, None)


@kernel
def sgd_momentum(params: Pointer, grads: Pointer, velocity: Pointer, hyper: Doubles, count: Int) -> None:
    """g += weight_decay * p; v = momentum * v + g; p -= lr * v, or lr * (g + momentum * v) with Nesterov."""
    rate = 0.0 - hyper[LR]
    momentum = hyper[MOMENTUM]
    decay = hyper[WEIGHT_DECAY]
    nesterov = hyper[NESTEROV] != 0.0
    for i in range(0, count, lanes(params)):
        p = load(params + i, 0, 1, 1, None)
        g = load(grads + i, 0, 1, 1, None)
        g = g + p * decay
        v = load(velocity + i, 0, 1, 1, None) * momentum + g
        store(v, velocity + i, 0, None)
        if nesterov:
            v = g + v * momentum
        store(p + v * rate, params + i, 0, None)


@kernel
def adam(params: Pointer, grads: Pointer, first: Pointer, second: Pointer, hyper: Doubles, count: Int, t: Int) -> None:
    """g += weight_decay * p; m and v are g's and g**2's running means; p -= lr * m^ / (sqrt(v^) + epsilon).

    m^ = m / (1 - beta1**t), v^ = v / (1 - beta2**t), for the t-th step, t >= 1 (Kingma and Ba, 2015, algorithm 1; epsilon
    outside the root, after the bias correction, as in PyTorch).
    """
    beta1 = hyper[BETA1]
    beta2 = hyper[BETA2]
    rate = 0.0 - hyper[LR] / (1.0 - beta1**t)
    root = 1.0 / scalar_sqrt(1.0 - beta2**t)
    epsilon = hyper[EPSILON]
    decay = hyper[WEIGHT_DECAY]
    for i in range(0, count, lanes(params)):
        p = load(params + i, 0, 1, 1, None)
        g = load(grads + i, 0, 1, 1, None)
        g = g + p * decay
        m = load(first + i, 0, 1, 1, None) * beta1 + g * (1.0 - beta1)
        v = load(second + i, 0, 1, 1, None) * beta2 + g * g * (1.0 - beta2)
        store(m, first + i, 0, None)
        store(v, second + i, 0, None)
        store(p + m * rate / (sqrt(v) * root + epsilon), params + i, 0, None)


@kernel
def update(code: Int, params: Pointer, grads: Pointer, moments: Pointer, hyper: Doubles, count: Int, t: Int) -> None:
    """One step, the t-th, of the optimiser named by `code`; `moments` holds 0, 1 or 2 vectors as long as `params`."""
    if code == ADAM:
        adam(params, grads, moments, moments + count, hyper, count, t)
    elif hyper[MOMENTUM] != 0.0:
        sgd_momentum(params, grads, moments, hyper, count)
    else:
        sgd(params, grads, hyper, count)
