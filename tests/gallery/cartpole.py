"""A pole on a cart (Barto, Sutton and Anderson, 1983), with Gymnasium's constants for CartPole-v1, for compiled code.

A state is the cart's position (m) and velocity, and the pole's angle (rad) and angular velocity. Each step that the pole stays
up earns 1; an episode ends when it falls, when the cart leaves the track, or after 500 steps.
"""

import math
from typing import Any

import numba

GRAVITY, CART, POLE, HALF_LENGTH, FORCE, SECONDS = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
EDGE, TILT, LONGEST = 2.4, 12 * math.pi / 180, 500


@numba.njit
def reset(rng: Any, state: Any) -> None:
    """A new episode: all near 0."""
    for i in range(4):
        state[i] = rng.uniform(-0.05, 0.05)


@numba.njit
def push(state: Any, right: int) -> bool:
    """One step of Euler's method, with the cart pushed to the right or the left; whether the episode has failed."""
    x, speed, angle, turning = state[0], state[1], state[2], state[3]
    force = FORCE if right else -FORCE
    sine, cosine = math.sin(angle), math.cos(angle)
    pull = (force + POLE * HALF_LENGTH * turning * turning * sine) / (CART + POLE)
    bend = (GRAVITY * sine - cosine * pull) / (HALF_LENGTH * (4 / 3 - POLE * cosine * cosine / (CART + POLE)))
    state[0] = x + SECONDS * speed
    state[1] = speed + SECONDS * (pull - POLE * HALF_LENGTH * bend * cosine / (CART + POLE))
    state[2] = angle + SECONDS * turning
    state[3] = turning + SECONDS * bend
    return abs(state[0]) > EDGE or abs(state[2]) > TILT
