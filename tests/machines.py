"""What the state machines share: their time, the run of one, and what interrupts a call in the middle.

Some hundred calls each; ``FASTMLP_THOROUGH=<seconds>`` for as many as there is time for, drawn anew each time.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from interrupts import Striker, Struck

import fastmlp
from fastmlp.kernels import tuning
from fastmlp.kernels.machine.interpreted import INTERPRETED

MARKS = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(INTERPRETED, reason="takes minutes in plain Python"),
]
THOROUGH = float(os.environ.get("FASTMLP_THOROUGH") or 0)
PROFILE = settings(
    max_examples=50 if THOROUGH else 15,
    stateful_step_count=40 if THOROUGH else 25,
    deadline=None,
    database=None,
    derandomize=not THOROUGH,
    suppress_health_check=list(hypothesis.HealthCheck),
    phases=(Phase.generate, Phase.shrink),  # to explain a failure it would trace, as the strikes do
)
ROWS = 40
seeds = some.integers(0, 1 << 30)


class PlantedError(Exception):
    """Nobody else's."""


def raise_at(epoch: int, error: type[BaseException] = PlantedError) -> Callable[..., None]:
    def callback(model: Any, logs: dict[str, Any]) -> None:
        if logs["epoch"] == epoch:
            raise error

    return callback


def signalled(act: Callable[[], Any], after: float) -> bool:
    """Do it, unless a signal's handler raises in the middle of it; whether what was raised came out.

    What is raised in a hook of the garbage collector, of which hypothesis has one, is Python's to print and lose.
    """
    came = []

    def strike(number: int, frame: Any) -> None:
        came.append(number)
        raise Struck

    done = False
    before = signal.signal(signal.SIGALRM, strike)
    try:
        signal.setitimer(signal.ITIMER_REAL, after)
        act()
        done = True
        while not came:
            pass
    except Struck:
        return not done
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return False


def struck(act: Callable[[], Any], position: int) -> bool:
    """Do it, unless it is struck before its end; whether it was."""
    try:
        with Striker(position):
            act()
    except Struck:
        return True
    return False


def run(machine: type[RuleBasedStateMachine], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "STEP_WORK", 0)  # every step is shared
    monkeypatch.setattr(tuning, "CALL_WORK", 0)
    monkeypatch.setattr(tuning, "THREAD_ROWS", 1)
    started = time.monotonic()
    try:
        while True:
            run_state_machine_as_test(machine, settings=PROFILE)
            if time.monotonic() - started >= THOROUGH:
                break
    finally:
        fastmlp.set_num_threads(None)
