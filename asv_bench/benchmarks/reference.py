"""The same epochs in NumPy and, where they are installed, in other libraries."""

import os
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import pinned
from peers import BUILDERS
from speed import WORKLOADS

from benchmarks.timed import Timed
from fastmlp.__main__ import train_numpy

os.environ |= {"XLA_FLAGS": pinned.ONE_THREAD, "NPROC": "1"}

EPOCHS = 100


@cache
def training(library: str, net: str) -> tuple[Callable[..., None], int]:
    """A call that trains, and how many epochs that is."""
    return BUILDERS[library](WORKLOADS[net])[:2]


class Epoch(Timed):
    """As in `train.Epoch`, on one thread."""

    params = ([name for name in BUILDERS if name != "fastmlp"], ["notebook", "digits", "policy", "mnist"])
    param_names = ("library", "net")
    rounds, repeat = 2, 3

    def setup(self, library: str, net: str) -> None:
        if not find_spec(library):
            raise NotImplementedError(f"{library} is not installed")
        self.training = training(library, net)

    def time_epoch(self, library: str, net: str) -> None:
        self.take(*self.training)


class Notebook(Timed):
    """The notebook's own program."""

    rounds, repeat = 2, 3

    def time_epoch(self) -> None:
        self.take(lambda: train_numpy(EPOCHS), EPOCHS)
