"""Turns: one call at a time, in order; what has ended without a word is taken away, and a call within a call is an error."""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from typing import Any

import numpy as np
import pytest

from fastmlp import Model
from fastmlp.engine import turn
from fastmlp.engine.turn import Turn
from fastmlp.kernels.machine.interpreted import INTERPRETED


def _hold(one: Turn, started: threading.Event, done: threading.Event) -> None:
    with one:
        started.set()
        done.wait(30)


def test_one_at_a_time_and_in_order() -> None:
    one, started, done = Turn(), threading.Event(), threading.Event()
    order: list[int] = []

    def call(number: int) -> None:
        with one:
            order.append(number)

    holder = threading.Thread(target=_hold, args=(one, started, done))
    holder.start()
    started.wait(30)
    callers = [threading.Thread(target=call, args=(number,)) for number in range(5)]
    for number, caller in enumerate(callers):
        caller.start()
        while len(one._queue) < number + 2:
            time.sleep(0.001)
    time.sleep(0.05)
    assert not order
    done.set()
    for thread in (holder, *callers):
        thread.join(30)
    assert order == list(range(5))
    assert not one._queue
    assert not one._waiting


def test_many_threads_count_right() -> None:
    one, total = Turn(), 0

    def call() -> None:
        nonlocal total
        for _ in range(300):
            with one:
                now = total
                if now % 50 == 0:
                    time.sleep(0)
                total = now + 1

    callers = [threading.Thread(target=call) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert total == 2400


def test_what_ended_without_a_word_is_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Turn()

    def struck() -> None:
        with one:
            pass

    monkeypatch.setattr(Turn, "__exit__", lambda *args: None)  # as if struck before its first bytecode
    struck()
    struck_in_another = threading.Thread(target=struck)
    struck_in_another.start()
    struck_in_another.join(30)
    monkeypatch.undo()
    assert len(one._queue) == 1
    with one:
        assert len(one._queue) == 1
    assert not one._queue


def test_a_call_within_a_call_is_an_error_and_leaves_nothing() -> None:
    one = Turn()

    def inner() -> None:
        with one:
            pass

    with one:
        with pytest.raises(RuntimeError, match="in the middle of a call of this thread"):
            inner()
        assert len(one._queue) == 1
    inner()


def test_an_exception_while_waiting_leaves_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    one, started, done = Turn(), threading.Event(), threading.Event()
    holder = threading.Thread(target=_hold, args=(one, started, done))
    holder.start()
    started.wait(30)

    def strike(frame: Any) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(turn, "_ended", strike)
    with pytest.raises(KeyboardInterrupt), one:
        pass
    monkeypatch.undo()
    assert len(one._queue) == 1
    done.set()
    holder.join(30)
    with one:
        pass


def test_no_python_runs_when_one_goes() -> None:
    """A handler's exception would be printed and lost there: it has no caller."""
    seen: list[str] = []

    def trace(frame: Any, event: str, arg: Any) -> None:
        seen.append(frame.f_code.co_qualname)

    one = Turn()
    before = len(turn._turns)
    kept = sys.gettrace()
    sys.settrace(trace)
    try:
        del one
    finally:
        sys.settrace(kept)
    assert not seen
    assert len(turn._turns) == before - 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize(("name", "torn"), [("train", True), ("predict", False)])
def test_a_child_knows_whose_call_will_not_end(name: str, torn: bool) -> None:
    one, started, done = Turn("train"), threading.Event(), threading.Event()
    space: dict[str, Any] = {"one": one, "started": started, "done": done}
    exec(f"def {name}():\n    with one:\n        started.set()\n        done.wait(30)", space)
    holder = threading.Thread(target=space[name])
    holder.start()
    started.wait(30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of forks beside threads
        child = os.fork()
    if child == 0:
        try:
            with one:
                found = False
        except RuntimeError as error:
            found = "forked while another thread trained" in str(error)
        os._exit(0 if found == torn else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    done.set()
    holder.join(30)
    with one:
        pass


@pytest.mark.skipif(INTERPRETED, reason="the kernels take turns with Python")
def test_32_threads_on_one_model_give_right_numbers() -> None:
    X = np.random.default_rng(0).standard_normal((40, 6))
    model = Model([6, 20, 2], rng=0)
    want, loss = model.predict(X), model.loss(X, X[:, :2])
    wrong: list[Any] = []

    def call(number: int) -> None:
        for _ in range(20):
            if number % 2 and model.loss(X, X[:, :2]) != loss:
                wrong.append(number)
            if not np.array_equal(model.predict(X[number % 7 :]), want[number % 7 :]):
                wrong.append(number)

    callers = [threading.Thread(target=call, args=(number,)) for number in range(32)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert not any(caller.is_alive() for caller in callers)
    assert not wrong
