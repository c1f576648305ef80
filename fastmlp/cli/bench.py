"""``fastmlp bench``: how fast this machine trains and predicts."""

import argparse
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

import fastmlp
from fastmlp.activations import ACTIVATIONS
from fastmlp.cli.shared import count, positive, sizes, whole
from fastmlp.losses import LOSSES
from fastmlp.optimizer import OPTIMIZERS

NAME, SUMMARY = "bench", "measure how fast this machine trains and predicts"
EXAMPLE = """\
example:
  fastmlp bench --sizes 784-256-128-10 --batch 128 --dtype float32

GFLOP/s count the multiplications and additions of the layers' products: 2 for a weight and row forward, 2 for its gradient, and
2 for the gradient by the inputs of all layers but the first."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--sizes", type=sizes, default=[784, 256, 128, 10], metavar="N-N-...", help="(784-256-128-10)")
    parser.add_argument("--batch", type=whole, default=128, metavar="N", help="rows in a step (128)")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="(float32)")
    hidden = [name for name in ACTIVATIONS if name != "softmax"]
    parser.add_argument("--activation", choices=hidden, default="relu", metavar="NAME", help="(relu)")
    parser.add_argument("--loss", choices=[*LOSSES], default="mse", metavar="NAME", help="(mse)")
    parser.add_argument("--optimizer", choices=[*OPTIMIZERS], default="adam", metavar="NAME", help="(adam)")
    parser.add_argument("--seconds", type=positive, default=1.0, metavar="S", help="for each of the two (1)")
    parser.add_argument("--threads", type=whole, metavar="N", help="at most (all cores)")


def run(options: argparse.Namespace) -> None:
    """Measure, and print."""
    if len(options.sizes) < 2:
        raise ValueError("--sizes must have at least an input's and an output's width")
    before = fastmlp.get_num_threads()
    if options.threads:
        fastmlp.set_num_threads(options.threads)
    try:
        _measure(options)
    finally:
        fastmlp.set_num_threads(before)


def _measure(options: argparse.Namespace) -> None:
    rng, loss = np.random.default_rng(0), options.loss
    model = fastmlp.Model(options.sizes, options.activation, loss, options.dtype, rng)
    products = [fan_in * fan_out for fan_in, fan_out in pairwise(options.sizes)]
    forward = 2 * options.batch * sum(products)
    steps = max(min(2**24 // (options.batch * options.sizes[0]), 64), 1)
    X = rng.standard_normal((steps * options.batch, options.sizes[0])).astype(options.dtype)
    y: Any = rng.random((len(X), options.sizes[-1])).astype(options.dtype)
    if loss == "cross_entropy":
        y = rng.integers(0, options.sizes[-1], len(X))
    batch = X[: options.batch]
    out = model.predict(batch)

    def train(times: int) -> None:
        model.fit(X, y, times, options.batch, optimizer=options.optimizer, rng=0)

    def predict(times: int) -> None:
        for _ in range(times * steps):
            model.predict(batch, out=out)

    names = f"{'-'.join(map(str, options.sizes))} {options.activation}, {loss}, {options.dtype}, batch {options.batch}"
    print(f"{names}, {options.optimizer}, at most {count(fastmlp.get_num_threads(), 'thread')}")
    for name, work, flops in (("train", train, 3 * forward - 2 * options.batch * products[0]), ("predict", predict, forward)):
        each = _time(work, options.seconds) / steps
        rate = f"{flops / each / 1e9:8.2f} GFLOP/s"
        print(f"{name:8}{1 / each:14,.0f} {'steps' if name == 'train' else 'calls'} a second{each * 1e6:12.2f} us each {rate}")


def _time(work: Callable[[int], None], seconds: float) -> float:
    """Seconds of one time, in the fastest of five turns: other programs only ever add to one."""
    work(1)  # compiles
    started = time.perf_counter()
    work(1)
    times = max(int(seconds / 5 / max(time.perf_counter() - started, 1e-9)), 1)
    turns = []
    for _ in range(5):
        started = time.perf_counter()
        work(times)
        turns.append((time.perf_counter() - started) / times)
    return min(turns)
