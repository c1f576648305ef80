"""Deep Q-learning (Mnih et al., 2015) on CartPole: environment, replay and targets in compiled code, with the nets in it.

    python dqn.py [--steps 100000] [--seeds 5] [--picture dqn.png]

The net 4-120-84-2 with relu learns the value of each action by Huber's loss, every four steps from 128 of the last 100,000. A
target net follows it by Polyak averaging; it values the action that the other would choose (van Hasselt et al., 2016).
"""

import argparse
import time
from typing import Any, NamedTuple

import numba
import numpy as np
from cartpole import LONGEST, push, reset

import fastmlp

KEPT, ROWS, EVERY, WARMUP = 100_000, 128, 4, 1000
RATE, DISCOUNT, TAU = 5e-4, 0.99, 0.01
REWARD = 0.05  # a step's: errors then mostly lie where Huber's loss is a square
LEAST, EXPLORES = 0.05, 0.3  # the share of random actions at the end, and the share of the training until then


@numba.njit
def huber_of_action(p: Any, t: Any, d: Any) -> float:
    """Huber's loss of one action's value; t: the action, and its target."""
    d[:] = 0
    action = int(t[0])
    error = p[action] - t[1]
    d[action] = min(max(error, -1.0), 1.0)
    return error * error / 2 if abs(error) < 1 else abs(error) - 0.5


class Replay(NamedTuple):
    """The last KEPT steps."""

    states: np.ndarray  # (KEPT, 4)
    following: np.ndarray  # (KEPT, 4)
    actions: np.ndarray  # (KEPT,)
    failed: np.ndarray  # (KEPT,)


@numba.njit(nogil=True)
def act(rng: Any, q: Any, replay: Any, state: Any, first: int, exploring: float, lasted: int, lengths: Any) -> Any:
    """EVERY steps from step `first` on; how long the episode has lasted, and how many ended, whose lengths are noted."""
    values = np.empty(q.outputs, np.float32)
    ended = 0
    for step in range(first, first + EVERY):
        at = step % KEPT
        q(state, values)
        action = rng.integers(0, q.outputs) if rng.random() < exploring else np.argmax(values)
        replay.states[at] = state
        failed = push(state, action)
        replay.following[at], replay.actions[at], replay.failed[at] = state, action, failed
        lasted += 1
        if failed or lasted == LONGEST:
            lengths[ended] = lasted
            ended += 1
            lasted = 0
            reset(rng, state)
    return lasted, ended


@numba.njit(nogil=True)
def sample(rng: Any, q: Any, target: Any, replay: Any, known: int, X: Any, y: Any) -> None:
    """ROWS of the steps that are known, X, with their actions and the values that these should have, y."""
    following, best, values = np.empty_like(X), np.empty((ROWS, 2), np.float32), np.empty((ROWS, 2), np.float32)
    for i in range(len(X)):
        at = rng.integers(0, known)
        X[i], following[i] = replay.states[at], replay.following[at]
        y[i, 0], y[i, 1] = replay.actions[at], 0.0 if replay.failed[at] else DISCOUNT
    q(following, best)
    target(following, values)
    for i in range(len(X)):
        y[i, 1] = REWARD + y[i, 1] * values[i, np.argmax(best[i])]


def train(seed: int, steps: int) -> tuple[list[tuple[int, int]], float]:
    """Train with a seed; at which step each episode ended and how long it was, and the seconds that all took."""
    rng = np.random.default_rng(seed)
    loss = fastmlp.RowLoss("huber of action", huber_of_action, targets=2)
    online = fastmlp.Model([4, 120, 84, 2], "relu", loss, dtype="float32", rng=rng)
    followers = online.copy()
    q, target = online.compiled(live=True), followers.compiled(live=True)
    optimizer = fastmlp.Adam(RATE)
    state, lengths = np.empty(4, np.float32), np.empty(EVERY, np.int64)
    replay = Replay(
        np.empty((KEPT, 4), np.float32), np.empty((KEPT, 4), np.float32), np.empty(KEPT, np.float32), np.empty(KEPT, np.bool_)
    )
    X, y = np.empty((ROWS, 4), np.float32), np.empty((ROWS, 2), np.float32)
    reset(rng, state)
    episodes, lasted = [], 0
    started = time.perf_counter()
    for first in range(0, steps, EVERY):
        exploring = max(1 - (1 - LEAST) * first / (EXPLORES * steps), LEAST)
        lasted, ended = act(rng, q, replay, state, first, exploring, lasted, lengths)
        episodes += [(first, int(length)) for length in lengths[:ended]]
        if first + EVERY >= WARMUP:
            sample(rng, q, target, replay, min(first + EVERY, KEPT), X, y)
            online.step(X, y, optimizer=optimizer)
            followers.set_params_from(online, TAU)
    return episodes, time.perf_counter() - started


def main(steps: int, seeds: int, picture: str | None) -> list[float]:
    """Train with each seed and draw the curves; the mean lengths over each one's last tenth of steps."""
    train(0, 2 * WARMUP)  # compiles
    curves, results = [], []
    for seed in range(seeds):
        episodes, seconds = train(seed, steps)
        at, lengths = np.array(episodes).T
        last = float(lengths[at >= 0.9 * steps].mean())
        print(f"seed {seed}: {seconds:.1f} s, episodes of {last:.0f} steps at the end")
        curves.append((at, lengths))
        results.append(last)
    if picture:
        from matplotlib import pyplot

        pyplot.style.use("tableau-colorblind10")
        figure, axes = pyplot.subplots(figsize=(8, 4))
        for seed, (at, lengths) in enumerate(curves):
            smooth = np.convolve(lengths, np.ones(20) / 20, "valid")
            axes.plot(at[-len(smooth) :], smooth, label=f"seed {seed}")
        axes.set(xlabel="steps", ylabel="steps an episode lasts", title="DQN on CartPole: 4-120-84-2, relu")
        axes.legend()
        figure.savefig(picture)
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--picture")
    given = parser.parse_args()
    main(given.steps, given.seeds, given.picture)
