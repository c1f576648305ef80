"""What happens beneath Python leaves the process as it was: its signals, its interpreters, its children."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable

import pytest
from numba.core.compiler_lock import global_compiler_lock

from fastmlp.kernels.machine import native
from fastmlp.kernels.machine.interpreted import INTERPRETED

pytestmark = pytest.mark.skipif(INTERPRETED, reason="nothing is compiled")

BEGIN = """
import os, signal, sys, threading, time
import numpy as np
import fastmlp
from fastmlp.kernels import tuning
tuning.STEP_WORK = tuning.CALL_WORK = 0
tuning.THREAD_ROWS = 1
fastmlp.set_num_threads(3)
X = np.ones((90, 20))
"""

BLOCKED = """
fastmlp.Model([20, 40, 3], rng=0).fit(X, X[:, :3], 20, 30)
os.kill(os.getpid(), NUMBER)
print(signal.sigwait({NUMBER}) == NUMBER)
"""


@pytest.mark.skipif(not hasattr(signal, "sigwait"), reason="no such signals here")
@pytest.mark.parametrize("name", ["SIGUSR1", "SIGUSR2", "SIGTERM", "SIGALRM", "SIGBUS"])
def test_signals_that_are_waited_for_come_to_who_waits(name: str, python: Callable[..., str]) -> None:
    # First of all: NumPy has threads of its own.
    block = f"import signal\nNUMBER = signal.{name}\nsignal.pthread_sigmask(signal.SIG_BLOCK, {{NUMBER}})\n"
    assert python(block + BEGIN + BLOCKED) == "True\n"


INTERPRETER = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
interpreters.destroy(interpreters.create())
print(np.isfinite(fastmlp.Model([20, 40, 3], rng=0).fit(X, X[:, :3], 2, 30)["loss"]).all())
"""


def test_another_interpreter_may_have_been(python: Callable[..., str]) -> None:
    assert python(BEGIN + INTERPRETER) == "True\n"


CHILD = """
import math, warnings
warnings.simplefilter("ignore")  # Python warns of forks beside threads
def value(z): return math.tanh(z) * math.atan(z) + math.exp(-z * z)
def slope(z): return math.atan(z) * math.cos(z) + math.sin(z)
def make():
    fastmlp.Model([2, 3, 1], fastmlp.CustomActivation("c", value, slope), rng=0).predict(X[:, :2])
thread = threading.Thread(target=make)
thread.start()
time.sleep(float(sys.argv[1]))
child = os.fork()
if not child:
    signal.alarm(60)
    fastmlp.Model([2, 3, 1], rng=0).fit(X[:, :2], X[:, :1], optimizer=fastmlp.Lion(0.1))
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("after", [0.05, 0.2])
def test_a_fork_while_another_thread_compiles(after: float, python: Callable[..., str]) -> None:
    code = BEGIN + CHILD.replace("float(sys.argv[1])", str(after))
    assert python(code) == "0\n"


def test_work_apart_gives_its_result_or_its_exception() -> None:
    assert native.apart(lambda: threading.get_ident()) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        native.apart(lambda: 1 / 0)
    assert not native._jobs
    with global_compiler_lock:  # who compiles himself works in place
        assert native.apart(threading.get_ident) == threading.get_ident()


def test_a_handlers_exception_leaves_work_apart_at_once() -> None:
    if not hasattr(signal, "setitimer"):
        return

    def strike(number: int, frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, strike)
    ended = threading.Event()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            native.apart(lambda: time.sleep(1.5) or ended.set())
        assert time.monotonic() - started < 1
    finally:
        signal.signal(signal.SIGALRM, before)
    assert ended.wait(30)
    assert native.apart(lambda: 5) == 5


def test_a_lock_waits_and_is_woken() -> None:
    lock = native.Lock()
    assert not lock.acquire(1000)
    threading.Timer(0.05, lock.release).start()
    assert lock.acquire(10_000_000)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_compilation_goes_on_after_forks() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(3):
            child = os.fork()
            if not child:
                os._exit(native.apart(lambda: 7))
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            assert native.apart(lambda: 8) == 8
