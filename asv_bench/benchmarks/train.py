"""Training, by the public interface."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pinned
from nets import Net, data
from peers import build_fastmlp
from speed import WORKLOADS

import fastmlp
from benchmarks.timed import Timed

STEPS = 1000
TURNS, TURN = 7, 0.5  # seconds, of one thread


def use(threads: int) -> None:
    """Set their number, or skip the benchmark where there are fewer cores."""
    if threads > len(pinned.cores()):
        raise NotImplementedError(f"{threads} threads on {len(pinned.cores())} cores")
    fastmlp.set_num_threads(threads)


@cache
def training(net: Net) -> tuple[Callable[..., None], int]:
    """A call that trains, and how many epochs that is."""
    return build_fastmlp(net)[:2]


class Epoch(Timed):
    """The networks of `speed.py`."""

    params = (list(WORKLOADS), [1, 2])
    param_names = ("net", "threads")

    def setup(self, net: str, threads: int) -> None:
        use(threads)
        self.training = training(WORKLOADS[net])

    def time_epoch(self, net: str, threads: int) -> None:
        self.take(*self.training, threads)


class Variant(Timed):
    """64-100-10 with relu, 1797 rows: every path through the batch, the dtype and the update."""

    params = ([1, 32, 200, 1797], ["float32", "float64"], ["sgd", "adam"])
    param_names = ("batch", "dtype", "optimizer")

    def setup(self, batch: int, dtype: str, optimizer: str) -> None:
        self.training = training(replace(WORKLOADS["digits"], batch=batch, dtype=dtype, optimizer=optimizer))

    def time_epoch(self, batch: int, dtype: str, optimizer: str) -> None:
        self.take(*self.training)


@cache
def model(net: Net) -> tuple[fastmlp.Model, np.ndarray, np.ndarray]:
    """It, and the rows of a step."""
    X, y, weights, biases = data(net)
    made = fastmlp.Model.from_weights(weights, biases, activations=net.activation, loss=net.loss)
    return made, X[: net.batch], y[: net.batch]


class Call(Timed):
    """A step from a loop in Python: what it takes beyond `Epoch` over `steps` is the call's own."""

    params = (["notebook", "tiny", "digits"],)
    param_names = ("net",)

    def setup(self, net: str) -> None:
        self.model, self.X, self.y = model(WORKLOADS[net])
        self.optimizer = fastmlp.SGD(WORKLOADS[net].lr)

    def time_step(self, net: str) -> None:
        step, X, y, optimizer = self.model.step, self.X, self.y, self.optimizer

        def work() -> None:
            for _ in range(STEPS):
                step(X, y, optimizer=optimizer)

        self.take(work, STEPS)

    def time_fit_one_epoch(self, net: str) -> None:
        fit, X, y, optimizer = self.model.fit, self.X, self.y, self.optimizer

        def work() -> None:
            for _ in range(STEPS):
                fit(X, y, epochs=1, optimizer=optimizer)

        self.take(work, STEPS)


class Threads:
    """Long trainings on two threads."""

    params = (["policy", "mnist", "wide", "matexp"],)
    param_names = ("net",)
    unit = "of one thread's time"

    def setup(self, net: str) -> None:
        use(2)

    def track_share(self, net: str) -> float:
        """The median over turns: one half is perfect."""
        epoch, _ = training(WORKLOADS[net])

        def seconds(threads: int, epochs: int) -> float:
            fastmlp.set_num_threads(threads)
            started = time.perf_counter()
            epoch(epochs)
            return time.perf_counter() - started

        seconds(2, 1)  # compiles
        epochs = max(round(TURN / seconds(1, 1)), 1)
        return statistics.median(seconds(2, epochs) / seconds(1, epochs) for _ in range(TURNS))
