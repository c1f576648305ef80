"""Proximal policy optimisation (Schulman et al., 2017) on CartPole: environment and rollout in compiled code, nets included.

    python ppo.py [--steps 500000] [--seeds 5] [--heads] [--picture ppo.png]

The setting is that of PureJaxRL's and CleanRL's examples: 4 environments of 128 steps, 4 epochs of 4 minibatches, actor and
critic of 64-64 with tanh. With ``--heads`` they are one net of three outputs, two logits and the value.
"""

import argparse
import math
import time
from typing import Any, NamedTuple

import numba
import numpy as np
from cartpole import LONGEST, push, reset

import fastmlp

ENVIRONMENTS, STEPS, EPOCHS, PARTS = 4, 128, 4, 4
ROWS = ENVIRONMENTS * STEPS
RATE, DISCOUNT, LAMBDA, CLIP, ENTROPY, VALUE = 2.5e-4, 0.99, 0.95, 0.2, 0.01, 0.5
ACTIONS = 2


@numba.njit
def policy_loss(p: Any, t: Any, d: Any) -> float:
    """The clipped objective and the entropy's bonus, of logits p; t: action, advantage, old log-probability."""
    action, advantage = int(t[0]), t[1]
    high, total = p[:ACTIONS].max(), 0.0
    for k in range(ACTIONS):
        total += math.exp(p[k] - high)
    entropy = 0.0
    for k in range(ACTIONS):
        log = p[k] - high - math.log(total)
        entropy -= math.exp(log) * log
    ratio = math.exp(p[action] - high - math.log(total) - t[2])
    clipped = min(max(ratio, 1 - CLIP), 1 + CLIP)
    slope = -ratio * advantage if ratio * advantage <= clipped * advantage else 0.0
    for k in range(ACTIONS):
        log = p[k] - high - math.log(total)
        q = math.exp(log)
        d[k] = slope * ((k == action) - q) + ENTROPY * q * (log + entropy)
    return -min(ratio * advantage, clipped * advantage) - ENTROPY * entropy


@numba.njit
def value_loss(p: Any, t: Any, d: Any) -> float:
    """The clipped squared error of a value p[0]; t: old value, return."""
    step = min(max(p[0] - t[0], -CLIP), CLIP)
    error, clipped = p[0] - t[1], t[0] + step - t[1]
    if error * error >= clipped * clipped:
        d[0] = VALUE * error
        return VALUE * error * error / 2
    d[0] = VALUE * clipped if step == p[0] - t[0] else 0.0
    return VALUE * clipped * clipped / 2


@numba.njit
def both_losses(p: Any, t: Any, d: Any) -> float:
    """Of one net with the heads side by side: two logits, then the value."""
    return policy_loss(p, t, d) + value_loss(p[ACTIONS:], t[3:], d[ACTIONS:])


class Memory(NamedTuple):
    """What a rollout notes, a row a step of an environment."""

    states: np.ndarray  # (rows, 4)
    targets: np.ndarray  # (rows, 5): action, advantage, old log-probability, old value, return
    rewards: np.ndarray  # (rows,)
    ends: np.ndarray  # (rows,)


@numba.njit(nogil=True)
def rollout(rng: Any, nets: Any, memory: Any, states: Any, lasted: Any, lengths: Any, reward: float) -> int:
    """STEPS steps of all environments, their advantages and returns; how many episodes ended, whose lengths are noted."""
    logits, value = np.empty(nets[0].outputs, np.float32), np.empty(nets[-1].outputs, np.float32)
    ended = 0
    for row in range(ROWS):
        state = states[row % ENVIRONMENTS]
        memory.states[row] = state
        nets[0](state, logits)
        nets[-1](state, value)
        odds = math.exp(logits[1] - logits[0])
        right = rng.random() * (1 + odds) < odds
        memory.targets[row, 0] = right
        memory.targets[row, 2] = (math.log(odds) if right else 0.0) - math.log(1 + odds)
        memory.targets[row, 3] = value[-1]
        failed = push(state, right)
        lasted[row % ENVIRONMENTS] += 1
        memory.rewards[row] = reward
        memory.ends[row] = failed or lasted[row % ENVIRONMENTS] == LONGEST
        if memory.ends[row]:
            lengths[ended] = lasted[row % ENVIRONMENTS]
            ended += 1
            lasted[row % ENVIRONMENTS] = 0
            reset(rng, state)
    for e in range(ENVIRONMENTS):
        nets[-1](states[e], value)
        following, advantage = value[-1], 0.0
        for row in range(ROWS - ENVIRONMENTS + e, -1, -ENVIRONMENTS):
            goes_on = 0.0 if memory.ends[row] else DISCOUNT
            surprise = memory.rewards[row] + goes_on * following - memory.targets[row, 3]
            advantage = surprise + goes_on * LAMBDA * advantage
            following = memory.targets[row, 3]
            memory.targets[row, 1] = advantage
            memory.targets[row, 4] = advantage + following
    return ended


@numba.njit
def minibatch(memory: Any, rows: Any, X: Any, y: Any) -> None:
    """Those rows, with the advantages brought to one scale."""
    for i in range(len(rows)):
        X[i], y[i] = memory.states[rows[i]], memory.targets[rows[i]]
    y[:, 1] = (y[:, 1] - y[:, 1].mean()) / (y[:, 1].std() + 1e-8)


def net(outputs: int, gains: list[float], loss: Any, rng: np.random.Generator) -> fastmlp.Model:
    """4-64-64-outputs with tanh, its weights orthogonal."""
    weights = []
    for (rows, columns), gain in zip([(4, 64), (64, 64), (64, outputs)], gains, strict=True):
        q, _ = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
        weights.append(gain * (q if rows >= columns else q.T))
    biases = [np.zeros(w.shape[1]) for w in weights]
    return fastmlp.Model.from_weights(weights, biases, "tanh", loss, dtype="float32")


def train(seed: int, steps: int, heads: bool = False) -> tuple[np.ndarray, float]:
    """Train with a seed; each update's mean length of the episodes that ended in it (NaN if none did), and the seconds."""
    rng = np.random.default_rng(seed)
    root = math.sqrt(2)
    if heads:
        models = [net(3, [root, root, 0.1], fastmlp.RowLoss("ppo", both_losses, targets=5), rng)]
        columns = [slice(0, 5)]
    else:
        models = [
            net(2, [root, root, 0.01], fastmlp.RowLoss("policy", policy_loss, targets=3), rng),
            net(1, [root, root, 1.0], fastmlp.RowLoss("value", value_loss, targets=2), rng),
        ]
        columns = [slice(0, 3), slice(3, 5)]
    reward = 0.05 if heads else 1.0  # values of 100 in one net with the logits would leave these no gradient
    nets = tuple(model.compiled(live=True) for model in models)
    memory = Memory(
        np.empty((ROWS, 4), np.float32), np.empty((ROWS, 5), np.float32), np.empty(ROWS, np.float32), np.empty(ROWS, np.bool_)
    )
    states, lasted, lengths = (
        np.empty((ENVIRONMENTS, 4), np.float32),
        np.zeros(ENVIRONMENTS, np.int64),
        np.empty(ROWS, np.int64),
    )
    X, y = np.empty((ROWS // PARTS, 4), np.float32), np.empty((ROWS // PARTS, 5), np.float32)
    for state in states:
        reset(rng, state)
    curve = np.full(steps // ROWS, np.nan)
    started = time.perf_counter()
    for update in range(len(curve)):
        ended = rollout(rng, nets, memory, states, lasted, lengths, reward)
        if ended:
            curve[update] = lengths[:ended].mean()
        optimizer = fastmlp.Adam(RATE * (1 - update / len(curve)), epsilon=1e-5, clip_norm=0.5)
        for _ in range(EPOCHS):
            for rows in rng.permutation(ROWS).reshape(PARTS, -1):
                minibatch(memory, rows, X, y)
                for model, part in zip(models, columns, strict=True):
                    model.step(X, y[:, part], optimizer=optimizer)
    return curve, time.perf_counter() - started


def main(steps: int, seeds: int, heads: bool, picture: str | None) -> list[float]:
    """Train with each seed and draw the curves; the last tenths' mean lengths."""
    train(0, 2 * ROWS, heads)  # compiles
    curves, results = [], []
    for seed in range(seeds):
        curve, seconds = train(seed, steps, heads)
        last = float(np.nanmean(curve[-max(len(curve) // 10, 1) :]))
        print(f"seed {seed}: {seconds:.1f} s, episodes of {last:.0f} steps at the end")
        curves.append(curve)
        results.append(last)
    if picture:
        from matplotlib import pyplot

        pyplot.style.use("tableau-colorblind10")
        figure, axes = pyplot.subplots(figsize=(8, 4))
        width = max(len(curves[0]) // 50, 1)
        for seed, curve in enumerate(curves):
            known = np.flatnonzero(~np.isnan(curve))
            smooth = np.convolve(np.interp(np.arange(len(curve)), known, curve[known]), np.ones(width) / width, "valid")
            axes.plot((np.arange(len(smooth)) + width) * ROWS, smooth, label=f"seed {seed}")
        axes.set(xlabel="steps", ylabel="steps an episode lasts", title="PPO on CartPole: 64-64 actor and critic, tanh")
        axes.legend()
        figure.savefig(picture)
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--heads", action="store_true")
    parser.add_argument("--picture")
    given = parser.parse_args()
    main(given.steps, given.seeds, given.heads, given.picture)
