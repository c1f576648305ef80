"""The oracle, continued: all optimisers, what is done to a gradient before their step, dropout and weighted rows.

As `reference`: plain NumPy, float64, from the papers' formulas, with nothing of the library's.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import reference
from reference import ACTIVATIONS, LOSSES, OUTPUT, Array, State, Step, adam_step, pull_back, settings, sgd_step

# ---- optimisers ------------------------------------------------------------------------------------------------------


def _each(update: Callable[..., tuple[Array, Any]]) -> Step:
    """A step of lists of arrays, from one of an array: p, kept = update(p, g, kept, t, **settings), kept None at first."""

    def step(params: Sequence[Array], grads: Sequence[Array], state: State, **settings: Any) -> tuple[list[Array], State]:
        t = state.get("t", 0) + 1
        memory = state.get("kept", [None] * len(params))
        done = [update(p, g, kept, t, **settings) for p, g, kept in zip(params, grads, memory, strict=True)]
        return [p for p, _ in done], {"t": t, "kept": [kept for _, kept in done]}

    return step


@_each
def adamw_step(p, g, kept, t, lr, beta1, beta2, epsilon, weight_decay):
    """Loshchilov and Hutter (2019), algorithm 2; the rate multiplies the decay too, as PyTorch has it."""
    m, v = kept or (0.0, 0.0)
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    direction = (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + epsilon)
    return p - lr * (direction + weight_decay * p), (m, v)


@_each
def rmsprop_step(p, g, kept, t, lr, alpha, epsilon, momentum, weight_decay):
    """Tieleman and Hinton (2012), lecture 6.5; momentum as PyTorch has it."""
    v, b = kept or (0.0, 0.0)
    g = g + weight_decay * p
    v = alpha * v + (1 - alpha) * g**2
    b = momentum * b + g / (np.sqrt(v) + epsilon)
    return p - lr * b, (v, b)


@_each
def adagrad_step(p, g, kept, t, lr, epsilon, weight_decay):
    """Duchi et al. (2011), the diagonal form."""
    g = g + weight_decay * p
    total = (0.0 if kept is None else kept) + g**2
    return p - lr * g / (np.sqrt(total) + epsilon), total


@_each
def adamax_step(p, g, kept, t, lr, beta1, beta2, epsilon, weight_decay):
    """Kingma and Ba (2015), algorithm 2; epsilon beside |g|, as PyTorch has it."""
    m, u = kept or (0.0, 0.0)
    g = g + weight_decay * p
    m = beta1 * m + (1 - beta1) * g
    u = np.maximum(beta2 * u, np.abs(g) + epsilon)
    return p - (lr / (1 - beta1**t)) * m / u, (m, u)


@_each
def nadam_step(p, g, kept, t, lr, beta1, beta2, epsilon, weight_decay, momentum_decay):
    """Dozat (2016), algorithm 8, with the schedule of the momentum that it proposes."""
    m, v = kept or (0.0, 0.0)
    mu = beta1 * (1 - 0.5 * 0.96 ** (momentum_decay * np.arange(1, t + 2)))  # mu_1 ... mu_(t+1)
    g = g + weight_decay * p
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    ahead = mu[t] * m / (1 - np.prod(mu)) + (1 - mu[t - 1]) * g / (1 - np.prod(mu[:t]))
    return p - lr * ahead / (np.sqrt(v / (1 - beta2**t)) + epsilon), (m, v)


@_each
def lion_step(p, g, kept, t, lr, beta1, beta2, weight_decay):
    """Chen et al. (2023), program 1."""
    m = 0.0 if kept is None else kept
    sign = np.sign(beta1 * m + (1 - beta1) * g)
    return p - lr * (sign + weight_decay * p), beta2 * m + (1 - beta2) * g


@_each
def radam_step(p, g, kept, t, lr, beta1, beta2, epsilon, weight_decay):
    """Liu et al. (2020), algorithm 2; epsilon and the place of weight decay as PyTorch has them."""
    m, v = kept or (0.0, 0.0)
    g = g + weight_decay * p
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * t * beta2**t / (1 - beta2**t)
    step = m / (1 - beta1**t)
    if length > 5:
        square = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        step = step * np.sqrt(square) * np.sqrt(1 - beta2**t) / (np.sqrt(v) + epsilon)
    return p - lr * step, (m, v)


STEPS: dict[str, Step] = {
    "SGD": sgd_step,
    "Adam": adam_step,
    "AdamW": adamw_step,
    "RMSprop": rmsprop_step,
    "Adagrad": adagrad_step,
    "Adamax": adamax_step,
    "Nadam": nadam_step,
    "Lion": lion_step,
    "RAdam": radam_step,
}


def penalty(weights: Sequence[Array], l1: float, l2: float) -> float:
    """What the penalties add to the loss."""
    return float(sum(l1 * np.sum(np.abs(w)) + l2 / 2 * np.sum(w**2) for w in weights))


def oracle(optimizer: Any) -> Step:
    """A whole step by these settings: penalties, clipping of values, of the norm, the optimiser, the parameters' mean.

    Of a list of weights and then as many biases; a list of one array holds no weights. state["mean"] is the mean.
    """
    own = partial(STEPS[type(optimizer).__name__], **settings(optimizer))

    def step(params: Sequence[Array], grads: Sequence[Array], state: State) -> tuple[list[Array], State]:
        weights = len(params) // 2
        changed = []
        for i, (p, g) in enumerate(zip(params, grads, strict=True)):
            if i < weights:
                g = g + optimizer.l1 * np.sign(p) + optimizer.l2 * p
            if optimizer.clip_value is not None:
                g = np.clip(g, -optimizer.clip_value, optimizer.clip_value)
            changed.append(g)
        if optimizer.clip_norm is not None:
            norm = math.sqrt(sum(float(np.sum(g**2)) for g in changed))
            changed = [g * min(1.0, optimizer.clip_norm / norm) for g in changed]
        new, inner = own(params, changed, state.get("own", {}))
        mean = state.get("mean", params)
        if optimizer.ema:
            mean = [optimizer.ema * m + (1 - optimizer.ema) * p for m, p in zip(mean, new, strict=True)]
        return new, {"own": inner, "mean": mean}

    return step


# ---- training --------------------------------------------------------------------------------------------------------

# Of a step, 1, 2, ..., and its number of rows: what each hidden layer's outputs are multiplied by.
Masks = Callable[[int, int], Sequence[Array | float]]


def weighted_gradients(
    X: Array,
    y: npt.ArrayLike,
    weights: Sequence[Array],
    biases: Sequence[Array],
    activations: Sequence[str],
    loss: Any,
    shares: Array,
    masks: Sequence[Array | float],
) -> reference.Gradients:
    """`reference.gradients` of the sum over rows of shares[i] * loss of row i, hidden outputs multiplied by the masks."""
    zs: list[Array] = []
    active = [X]
    for W, b, name, mask in zip(weights, biases, activations, [*masks, 1.0], strict=True):
        zs.append(active[-1] @ W + b)
        active.append(ACTIVATIONS[name][0](zs[-1]) * mask)
    y = reference.targets(y, active[-1].shape[1], loss) if isinstance(loss, str) else np.asarray(y)
    seen = zs[-1] if loss == "cross_entropy" else active[-1]
    value, slope = LOSSES[loss] if isinstance(loss, str) else loss
    rows = [slice(i, i + 1) for i in range(len(X))]
    mean = sum(share * value(seen[i], y[i]) for share, i in zip(shares, rows, strict=True))
    dz = np.concatenate([share * slope(seen[i], y[i]) for share, i in zip(shares, rows, strict=True)])
    if loss not in OUTPUT:
        dz = pull_back(activations[-1], zs[-1], dz)
    dWs: list[Array] = []
    dbs: list[Array] = []
    for layer in reversed(range(len(weights))):
        dWs.insert(0, active[layer].T @ dz)
        dbs.insert(0, dz.sum(axis=0, keepdims=True))
        da = dz @ weights[layer].T
        if layer > 0:
            dz = pull_back(activations[layer - 1], zs[layer - 1], da * masks[layer - 1])
    return reference.Gradients(float(mean), dWs, dbs, da)


class Run(NamedTuple):
    params: Array  # flat
    losses: list[float]  # one an epoch
    mean: Array  # of the parameters, flat
    state: State


def train(
    problem: reference.Problem,
    optimizer: Any,
    epochs: int,
    batch_size: int | None = None,
    row_weights: npt.ArrayLike | None = None,
    masks: Masks | None = None,
    order: npt.ArrayLike | None = None,
    rates: Sequence[float] | None = None,
    state: State | None = None,
) -> Run:
    """`reference.train` with all that an optimiser can be told; a step's reported loss contains the penalties."""
    X, y = np.asarray(problem.X, dtype=np.float64), np.asarray(problem.y)
    rows, depth = len(X), len(problem.weights)
    params = [np.array(W, dtype=np.float64) for W in problem.weights]
    params += [np.array(b, dtype=np.float64).reshape(1, -1) for b in problem.biases]
    importance = np.ones(rows) if row_weights is None else np.asarray(row_weights, dtype=np.float64)
    state = {} if state is None else state
    losses = []
    count = 0
    for turn in np.broadcast_to(np.arange(rows) if order is None else np.asarray(order), (epochs, rows)):
        total = 0.0
        for start in range(0, rows, batch_size or rows):
            batch = turn[start : start + (batch_size or rows)]
            step = oracle(optimizer if rates is None else _with_rate(optimizer, rates[count]))
            count += 1
            factors = [1.0] * (depth - 1) if masks is None else masks(count, len(batch))
            if row_weights is None and masks is None:
                g = reference.gradients(X[batch], y[batch], params[:depth], params[depth:], *problem[4:])
            else:
                mass = np.abs(importance[batch]).sum() or 1.0
                shares = importance[batch] / mass
                g = weighted_gradients(X[batch], y[batch], params[:depth], params[depth:], *problem[4:], shares, factors)
            total += (g.loss + penalty(params[:depth], optimizer.l1, optimizer.l2)) * len(batch)
            params, state = step(params, g.weights + g.biases, state)
        losses.append(total / rows)
    mean = state["mean"]
    return Run(reference.flat(params[:depth], params[depth:]), losses, reference.flat(mean[:depth], mean[depth:]), state)


def _with_rate(optimizer: Any, rate: float) -> Any:
    return type(optimizer)(**{**vars(optimizer), "lr": rate})


# ---- for the tests ---------------------------------------------------------------------------------------------------

# name -> (sizes, rows, batch): one net for each path that a training step can take (see `fastmlp.engine.workspace`).
PATHS: dict[str, tuple[tuple[int, ...], int, int | None]] = {
    "narrow": ((2, 3, 1), 20, 9),
    "small": ((5, 17, 3), 40, 16),
    "few rows": ((5, 17, 3), 6, 3),
    "strips": ((130, 140, 3), 24, None),
    "blocks": ((130, 140, 3), 300, 290),
    "groups": ((4, 12, 3), 1100, 1060),
    "panels": ((3, 1100, 20, 2), 70, None),
}


def path_problem(
    name: str, loss: str = "mse", hidden: str = "tanh", dtype: str = "float64", seed: int = 0
) -> reference.Problem:
    """A problem for one of the PATHS. Some inputs are small, so that their weights' gradients are down to about 1e-8."""
    sizes, rows, _ = PATHS[name]
    p = reference.problem(sizes, [hidden] * (len(sizes) - 2) + [OUTPUT.get(loss, "identity")], loss, rows, seed, dtype)
    p.X[:, 1::2] *= np.logspace(-8, 0, p.X[:, 1::2].shape[1], dtype=dtype)
    return p
