"""What goes on from call to call of an engine: what to train on, and what an optimiser remembers."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fastmlp.kernels.net.parallel import BARRIER
from fastmlp.kernels.net.plan import Progress
from fastmlp.optimizer import Optimizer


@dataclass
class Job:
    """What to train on, and how: all that goes on from one call of `Engine.train` to the next.

    Attributes
    ----------
    X : (rows, inputs) array
    y : (rows, targets) array
        With one more column, the rows' weights, if `weighted`.
    code : int
        The loss's.
    optimizer : Optimizer
    batch : int
        Rows in a step.
    order : (rows,) int64 array or None
        The rows in order of visit; None: as they lie.
    shuffle : bool
        Whether each epoch starts with a new `order`, made from the last one.
    seed : int
        State of the generator that shuffles; moves on.
    dropout : int
        Seed of the units that are dropped.
    weighted : int
        0, or how weights make a mean: `fastmlp.kernels.layer.loss`.
    rates : (steps,) array or None
        A learning rate for each step of the call; None: the optimiser's.
    cursor : int
        Rows of the first epoch that earlier calls have done; moves on.
    most : int or None
        Steps after which the call ends, if its epochs are not done before.
    """

    X: np.ndarray
    y: np.ndarray
    code: int
    optimizer: Optimizer
    batch: int
    order: np.ndarray | None = None
    shuffle: bool = False
    seed: int = 0
    dropout: int = 0
    weighted: int = 0
    rates: np.ndarray | None = None
    cursor: int = 0
    most: int | None = None


class Memory(NamedTuple):
    """What an optimiser remembers, replaced as a whole.

    Attributes
    ----------
    kind : type of Optimizer
    moments : flat array
        Its vectors, behind the parameters' running mean if `averaged`.
    averaged : bool
    state : int64 array
        A training's progress, and where its threads meet.
    progress : Progress
        Its first part. `steps` goes on from call to call, the rest starts anew.
    """

    kind: type[Optimizer]
    moments: np.ndarray
    averaged: bool
    state: np.ndarray
    progress: Progress


def fresh(steps: int = 0) -> tuple[np.ndarray, Progress]:
    """State and progress of a training after `steps` steps."""
    state = np.zeros(Progress.words + BARRIER, np.int64)
    progress = Progress(state)
    progress.steps = steps
    return state, progress
