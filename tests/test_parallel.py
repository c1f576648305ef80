"""Several threads within one compiled call: they all run, they meet, and whatever one of them raises is raised."""

from __future__ import annotations

import os
import threading
import warnings
from typing import Any

import numpy as np
import pytest

from fastmlp.kernels.machine.interpreted import INTERPRETED
from fastmlp.kernels.machine.jit import Int, Integers, Pointer, entry, kernel
from fastmlp.kernels.machine.pointer import CHECKED, part, pointer
from fastmlp.kernels.machine.program import MOST_HELPERS
from fastmlp.kernels.net.parallel import BARRIER, Team, atomic_add, crew, meet

pytestmark = pytest.mark.skipif(INTERPRETED, reason="without compiled code there is one thread")

FIRST = BARRIER  # what the kernels below write lies behind where they meet


@kernel
def _count(x: Pointer, state: Integers, turns: Int, team: Team) -> None:
    """Each thread notes that it was there; then all add up what the others wrote before the last meeting."""
    for turn in range(turns):
        state[FIRST + team.me] = turn + 1
        if not meet(team):
            return
        for other in range(team.threads):
            if state[FIRST + other] != turn + 1:
                atomic_add(state, FIRST + 600, 1)
        if not meet(team):
            return
    atomic_add(state, FIRST + 601, 1)


_count_by_all = crew(_count)


@entry
def _run(x: Any, state: Any, turns: int, threads: int) -> None:
    _count_by_all(pointer(x), pointer(state), turns, threads, pointer(state))


@kernel
def _leave(x: Pointer, state: Integers, bad: Int, team: Team) -> None:
    """The one called `bad` leaves its array, while the others wait for it."""
    only = part(x, 0, 1)
    if team.me == bad:
        only[1] = 1.0
    meet(team)


_leave_by_all = crew(_leave)


@entry
def _run_leave(x: Any, state: Any, bad: int, threads: int) -> None:
    _leave_by_all(pointer(x), pointer(state), bad, threads, pointer(state))


@kernel
def _broken(x: Pointer) -> None:
    x.nothing()  # type: ignore[attr-defined]


@kernel
def _need_broken(x: Pointer, state: Integers, bad: Int, team: Team) -> None:
    if team.me == bad:
        _broken(x)
    meet(team)


_need_broken_by_all = crew(_need_broken)


@entry
def _run_broken(x: Any, state: Any, bad: int, threads: int) -> None:
    _need_broken_by_all(pointer(x), pointer(state), bad, threads, pointer(state))


def _state() -> np.ndarray:
    return np.zeros(FIRST + 602, np.int64)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_all_threads_run_and_meet(count: int, dtype: Any) -> None:
    state = _state()
    _run(np.ones(1, dtype), state, 50, count)
    assert state[FIRST : FIRST + count].tolist() == [50] * count
    assert state[FIRST + 600] == 0
    assert state[FIRST + 601] == count


def test_calls_at_the_same_time_have_helpers_of_their_own() -> None:
    states = [_state() for _ in range(8)]
    calls = [threading.Thread(target=_run, args=(np.ones(1), state, 200, 3)) for state in states]
    for call in calls:
        call.start()
    for call in calls:
        call.join(60)
    assert [state[FIRST + 601] for state in states] == [3] * 8


@pytest.mark.skipif(not CHECKED, reason="nothing is raised without bounds checking")
@pytest.mark.parametrize("bad", range(3))
def test_what_a_thread_raises_is_raised(bad: int) -> None:
    for _ in range(3):
        with pytest.raises(IndexError, match="left its array"):
            _run_leave(np.ones(2), _state(), bad, 3)
    state = _state()
    _run(np.ones(1), state, 5, 3)
    assert state[FIRST + 601] == 3


@pytest.mark.parametrize("bad", range(3))
def test_a_kernel_that_one_thread_cannot_compile_fails_the_call(bad: int, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="could not be compiled"):
        _run_broken(np.ones(2), _state(), bad, 3)
    assert "nothing" in capfd.readouterr().err


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_hires_its_own_helpers() -> None:
    _run(np.ones(1), _state(), 5, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of forks beside threads
        child = os.fork()
    if child == 0:
        state = _state()
        _run(np.ones(1), state, 5, 3)
        os._exit(0 if state[FIRST + 601] == 3 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_more_threads_than_can_be_had_are_fewer() -> None:
    state = _state()
    _run(np.ones(1), state, 2, 500)
    assert state[FIRST + 601] == np.count_nonzero(state[FIRST : FIRST + 500]) == MOST_HELPERS + 1
    assert state[FIRST + 600] == 0
