"""Where training stands within its epochs: the next batch, the order of the rows, the losses so far."""

from __future__ import annotations

from typing import Any

from fastmlp.kernels.jit import Int, Integers, Pointer, inlined, kernel
from fastmlp.kernels.plan import BATCH, CURSOR, EPOCH, EPOCHS, RANDOM, REORDER, SAMPLES, SHUFFLE, STEP

# Multipliers of splitmix64, as signed numbers.
GOLDEN, MIX_1, MIX_2 = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


@inlined
def begin(plan: Any, params: Any, order: Any, state: Any) -> int:
    """Start the next step: the number of rows in its batch, from state[CURSOR] on; 0 if all epochs are done."""
    if state[EPOCH] >= plan[EPOCHS]:
        return 0
    if plan[SHUFFLE] == REORDER and state[CURSOR] == 0:
        shuffle(params, order, state, plan[SAMPLES])
    return min(plan[BATCH], plan[SAMPLES] - state[CURSOR])


@inlined
def end(plan: Any, state: Any, losses: Any, rows: int, loss: float) -> None:
    """Count the step and its mean loss, and go on to the next batch; losses[e] becomes the mean over epoch e's rows."""
    state[STEP] = state[STEP] + 1
    epoch = state[EPOCH]
    losses[epoch] = losses[epoch] + loss * (rows / plan[SAMPLES])
    state[CURSOR] = state[CURSOR] + rows
    if state[CURSOR] == plan[SAMPLES]:
        state[CURSOR] = 0
        state[EPOCH] = epoch + 1


@inlined
def mixed(z: int) -> int:
    """splitmix64's output for a state (Steele, Lea and Flood, 2014)."""
    z = (z ^ ((z >> 30) & 0x3FFFFFFFF)) * MIX_1
    z = (z ^ ((z >> 27) & 0x1FFFFFFFFF)) * MIX_2
    return z ^ ((z >> 31) & 0x1FFFFFFFF)


@inlined
def _random(state: Integers) -> int:
    """The next number of splitmix64, its upper 32 bits."""
    state[RANDOM] = state[RANDOM] + GOLDEN
    return (mixed(state[RANDOM]) >> 32) & 0xFFFFFFFF


@kernel
def shuffle(x: Pointer, order: Integers, state: Integers, count: Int) -> None:
    """A random permutation of `order` (Fisher and Yates); x only tells the dtype."""
    for i in range(count - 1, 0, -1):
        j = (_random(state) * (i + 1)) >> 32
        kept = order[i]
        order[i] = order[j]
        order[j] = kept
