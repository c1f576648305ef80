"""Losses of rows, as users write them, and what they must come to, in NumPy: pairs for `reference.gradients`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from reference import Array

from fastmlp import RowLoss

CLIP, ENTROPY = 0.2, 0.01


def squares(p, t, d):
    """As the loss `mse`."""
    total = 0.0
    for j in range(p.size):
        e = p[j] - t[j]
        d[j] = 2 * e / p.size
        total += e * e
    return total / p.size


def huber(p, t, d):
    total = 0.0
    for j in range(p.size):
        e = p[j] - t[j]
        d[j] = min(max(e, -1.0), 1.0) / p.size
        total += d[j] * (e - d[j] * p.size / 2)
    return total


def cross_entropy(p, t, d):
    """Of logits, t a label."""
    top = p.max()
    mass = 0.0
    for j in range(p.size):
        d[j] = math.exp(p[j] - top)
        mass += d[j]
    for j in range(p.size):
        d[j] /= mass
    d[int(t[0])] -= 1
    return math.log(mass) + top - p[int(t[0])]


def likelihood(p, t, d):
    """Of probabilities, t a label."""
    d[:] = 0
    d[int(t[0])] = -1 / p[int(t[0])]
    return -math.log(p[int(t[0])])


def ppo(p, t, d):
    """Proximal policy optimisation (Schulman et al., 2017): p are the actions' logits and the state's value.

    t are the action, its advantage, the logarithm of its probability before, and the return.
    """
    actions, action = p.size - 1, int(t[0])
    top = p[:actions].max()
    mass = 0.0
    for j in range(actions):
        d[j] = math.exp(p[j] - top)
        mass += d[j]
    log_mass = math.log(mass) + top
    ratio = math.exp(p[action] - log_mass - t[2])
    gain, least = ratio * t[1], min(max(ratio, 1 - CLIP), 1 + CLIP) * t[1]
    entropy = 0.0
    for j in range(actions):
        d[j] /= mass
        entropy -= d[j] * (p[j] - log_mass)
    slope = -gain if gain <= least else 0.0
    for j in range(actions):
        d[j] *= ENTROPY * (p[j] - log_mass + entropy) - slope
    d[action] += slope
    wrong = p[actions] - t[3]
    d[actions] = wrong
    return wrong * wrong / 2 - min(gain, least) - ENTROPY * entropy


def mixed(p, t, d):
    """Of any numbers of outputs and targets; each output's slope depends on all of both."""
    sum_p, sum_t = 0.0, 0.0
    for j in range(p.size):
        sum_p += p[j] / (j + 1)
    for j in range(t.size):
        sum_t += t[j] / (j + 1)
    waves = 0.0
    for j in range(p.size):
        d[j] = (sum_p - sum_t) / (j + 1) + math.cos(p[j]) * t[j % t.size]
        waves += math.sin(p[j]) * t[j % t.size]
    return (sum_p - sum_t) ** 2 / 2 + waves


SQUARES, HUBER = RowLoss("squares", squares, 3), RowLoss("own huber", huber, 3)
ENTROPIES = RowLoss("own cross-entropy", cross_entropy, 1)
PPO = RowLoss("ppo", ppo, 4)


# ---- in NumPy --------------------------------------------------------------------------------------------------------


def ppo_rows(P: Array, T: Array) -> tuple[Array, Array]:
    """Each row's loss, and its gradient by P."""
    logits, value = P[:, :-1], P[:, -1]
    action, advantage, before, wanted = T[:, 0].astype(int), *T[:, 1:].T
    log_q = logits - logits.max(axis=1, keepdims=True)
    log_q = log_q - np.log(np.exp(log_q).sum(axis=1, keepdims=True))
    q, taken = np.exp(log_q), np.eye(logits.shape[1])[action]
    ratio = np.exp((log_q * taken).sum(axis=1) - before)
    entropy = -(q * log_q).sum(axis=1)
    gain, least = ratio * advantage, np.clip(ratio, 1 - CLIP, 1 + CLIP) * advantage
    losses = -np.minimum(gain, least) - ENTROPY * entropy + (value - wanted) ** 2 / 2
    by_log = np.where(gain <= least, -gain, 0.0)[:, None]
    by_logits = by_log * (taken - q) + ENTROPY * q * (log_q + entropy[:, None])
    return losses, np.column_stack([by_logits, value - wanted])


def mixed_rows(P: Array, T: Array) -> tuple[Array, Array]:
    outputs, factors = np.arange(P.shape[1]), T[:, np.arange(P.shape[1]) % T.shape[1]]
    apart = P @ (1 / (outputs + 1)) - T @ (1 / (np.arange(T.shape[1]) + 1))
    losses = apart**2 / 2 + (np.sin(P) * factors).sum(axis=1)
    return losses, apart[:, None] / (outputs + 1) + np.cos(P) * factors


def pair(rows: Any) -> Any:
    """The mean loss and its gradient, from those of rows."""
    return lambda P, T: float(rows(P, T)[0].mean()), lambda P, T: rows(P, T)[1] / len(P)


def ppo_targets(rng: np.random.Generator, rows: int, actions: int, dtype: Any = np.float64) -> Array:
    """Ratios lie to both sides of both clips."""
    action, advantage = rng.integers(0, actions, rows), rng.standard_normal(rows)
    before = np.log(1 / actions) + 0.4 * rng.standard_normal(rows)
    return np.column_stack([action, advantage, before, rng.standard_normal(rows)]).astype(dtype)
