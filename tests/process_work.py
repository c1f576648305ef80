"""What the tests of threads and processes have done in them: small trainings whose every bit is compared."""

from __future__ import annotations

import hashlib
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

import fastmlp

ROWS, SIZES, BATCH = 800, [300, 200, 10], 200  # steps that are large enough for two threads


@cache
def data() -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(0).standard_normal((ROWS, SIZES[0])).astype("float32")
    return X, np.tanh(X[:, : SIZES[-1]])


def model() -> fastmlp.Model:
    return fastmlp.Model(SIZES, dtype="float32", rng=0)


def fit(one: fastmlp.Model, epochs: int = 2, **options: Any) -> None:
    one.fit(*data(), epochs, BATCH, optimizer=fastmlp.Adam(1e-3), rng=1, **options)


def bits(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()[:16]


def predicted(one: fastmlp.Model) -> str:
    return bits(one.predict(data()[0]), one.predict(data()[0][:1]))


def trained(fits: int = 1) -> str:
    """The bits of a training from the start and of its predictions."""
    one = model()
    for _ in range(fits):
        fit(one)
    return bits(one.params) + predicted(one)


def together(functions: Iterable[Callable[[], Any]], limit: float = 60) -> list[Any]:
    """The results of functions, or what they raised, called at the same moment in threads of their own."""
    functions = list(functions)
    results: list[Any] = ["did not end"] * len(functions)
    start = threading.Barrier(len(functions))

    def call(place: int) -> None:
        start.wait()
        try:
            results[place] = functions[place]()
        except BaseException as error:
            results[place] = repr(error)

    workers = [threading.Thread(target=call, args=(place,), daemon=True) for place in range(len(functions))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(limit)
    return results


@contextmanager
def training(one: fastmlp.Model) -> Iterator[None]:
    """Another thread trains the model meanwhile, all of the time but for some microseconds."""
    begun, enough = threading.Event(), threading.Event()

    def train() -> None:
        fit(one)
        begun.set()
        while not enough.is_set():
            fit(one, 50)

    worker = threading.Thread(target=train)
    worker.start()
    try:
        begun.wait(60)
        time.sleep(0.02)
        yield
    finally:
        enough.set()
        worker.join()


def _report(pipe: Any, threads: int, function: Callable[..., str], arguments: tuple[Any, ...]) -> None:
    fastmlp.set_num_threads(threads)
    try:
        pipe.send(function(*arguments))
    except BaseException as error:
        pipe.send(repr(error))


def in_child(method: str, function: Callable[..., str], *arguments: Any, limit: float = 15) -> str:
    """A function's result in a child process, or what it raised or how it ended there."""
    context: Any = multiprocessing.get_context(method)
    mine, its = context.Pipe(duplex=False)
    child = context.Process(target=_report, args=(its, fastmlp.get_num_threads(), function, arguments))
    child.start()
    its.close()
    try:
        return mine.recv() if mine.poll(limit) else "hangs"
    except EOFError:
        child.join(5)
        return f"ended with {child.exitcode}"
    finally:
        child.kill()
        child.join()


def fitted(one: fastmlp.Model) -> str:
    """Whether a model can be trained and its weights are numbers."""
    fit(one)
    return "done" if np.isfinite(one.params).all() else "broken"


def trained_and_predicted(one: fastmlp.Model) -> str:
    return trained() + predicted(one)
