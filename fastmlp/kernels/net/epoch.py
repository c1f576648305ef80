"""Where training stands within its epochs: the next batch, the order of the rows, the losses so far."""

from __future__ import annotations

from typing import Any

from fastmlp.kernels.machine.jit import Int, Integers, Pointer, inlined, kernel
from fastmlp.kernels.machine.random import GOLDEN, mixed
from fastmlp.kernels.net.plan import SHUFFLED, Progress


@inlined
def begin(task: Any, params: Any, order: Any, progress: Any) -> int:
    """Start the next step: the number of rows in its batch, from progress.cursor on; 0 if all steps are done."""
    if progress.steps >= progress.stop:
        return 0
    if task.order == SHUFFLED and progress.cursor == 0:
        shuffle(params, order, progress, task.samples)
    return min(task.batch, task.samples - progress.cursor)


@inlined
def take_rate(task: Any, settings: Any, progress: Any, log: Any) -> None:
    """The step's learning rate goes to the settings, if each step has one."""
    if task.rated:
        settings.lr = log.rates[progress.tick]
        progress.tick = progress.tick + 1


@inlined
def end(task: Any, progress: Any, losses: Any, rows: int, loss: float) -> None:
    """Count the step and its mean loss, and go on to the next batch; losses[e] becomes the mean over epoch e's rows."""
    progress.steps = progress.steps + 1
    epoch = progress.epoch
    losses[epoch] = losses[epoch] + loss * (rows / task.samples)
    progress.cursor = progress.cursor + rows
    if progress.cursor == task.samples:
        progress.cursor = 0
        progress.epoch = epoch + 1


@inlined
def _random(progress: Any) -> int:
    """The next number of splitmix64, its upper 32 bits."""
    progress.random = progress.random + GOLDEN
    return (mixed(progress.random) >> 32) & 0xFFFFFFFF


@kernel
def shuffle(x: Pointer, order: Integers, progress: Progress, count: Int) -> None:
    """A random permutation of `order` (Fisher and Yates); x only tells the dtype."""
    for i in range(count - 1, 0, -1):
        j = (_random(progress) * (i + 1)) >> 32
        kept = order[i]
        order[i] = order[j]
        order[j] = kept
