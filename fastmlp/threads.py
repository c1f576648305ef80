"""How many threads train, and how they are run."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, partial
from queue import SimpleQueue

import numpy as np

from fastmlp import validation
from fastmlp.kernels import plan as at
from fastmlp.kernels.interpreted import INTERPRETED

# Multiply-adds in a step below which a second thread does not pay: some 20 us of work against four meetings and colder caches.
STEP_WORK = 2_000_000
# The same for a whole call of such steps: late helpers hold up each meeting (nine steps of 64-100-10 took 415 us on two
# threads, 315 on one). Or of steps so large that one alone is worth it (4-32-16-4: 203, not 310 us).
CALL_WORK, LARGE_STEP = 500_000_000, 12_000_000
# Rows of a batch that a thread should have, for its products to be tall.
THREAD_ROWS = 64
WAIT = 0.05  # seconds between looks at the state of things: Ctrl-C and printing get their turn

_chosen: int | None = None
_limit: ContextVar[int | None] = ContextVar("limit", default=None)


class Turn:
    """A lock whose holder gets an error, not a deadlock and not a second entry, when he asks for it again."""

    def __init__(self) -> None:
        self.lock, self.holder = threading.Lock(), 0

    def __enter__(self) -> None:
        me = threading.get_ident()
        if self.holder == me:
            raise RuntimeError("the model is in the middle of a call of this thread: a signal handler or print may not call it")
        self.lock.acquire()
        self.holder = me

    def __exit__(self, *exception: object) -> None:
        self.holder = 0
        self.lock.release()


@lru_cache(maxsize=1)
def _quota() -> int | None:
    """The cores' worth of time that a container has; read once, not in every call."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
        return None if quota == "max" else max(int(quota) // int(period), 1)
    except (OSError, ValueError):
        return None


def _usable_cores() -> int:
    """The cores that this process may run on, and no more than its share of the machine's time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _quota() or cores)


def get_num_threads() -> int:
    """The most threads that training uses.

    What `set_num_threads` was given last; else the first of the environment's ``FASTMLP_NUM_THREADS``, ``OMP_NUM_THREADS``
    and ``NUMBA_NUM_THREADS`` that is a positive number, at most the usable cores; else the usable cores. A training uses fewer
    where its steps are too small to share. The number never changes a result.

    Examples
    --------
    >>> import fastmlp
    >>> fastmlp.set_num_threads(1)
    >>> fastmlp.get_num_threads()
    1
    >>> fastmlp.set_num_threads(None)
    """
    chosen = _limit.get() or _chosen
    if chosen is not None:
        return chosen
    cores = _usable_cores()
    for name in ("FASTMLP_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        value = os.environ.get(name, "").strip()
        if value.isascii() and value.isdigit() and int(value) > 0:
            return min(int(value), cores)
    return cores


def set_num_threads(n: int | None) -> None:
    """Set the most threads that training uses; None goes back to the environment's number.

    Parameters
    ----------
    n : int or None
        More threads than cores are allowed, and slow.

    Raises
    ------
    ValueError, TypeError
        If n is not a positive integer.
    """
    global _chosen
    _chosen = None if n is None else validation.count("n", n)


@contextmanager
def limit(n: int | None) -> Iterator[None]:
    """Within the block, `n` as the most threads for what this thread calls; None leaves it as it is."""
    token = _limit.set(n or _limit.get())
    try:
        yield
    finally:
        _limit.reset(token)


def pays(rows: int, work: int, calls: int) -> bool:
    """Whether `calls` steps of `work` multiply-adds over `rows` rows each are worth a second thread."""
    if INTERPRETED:  # plain Python has no barrier to meet at
        return False
    return rows >= 2 * THREAD_ROWS and (work >= LARGE_STEP or (work >= STEP_WORK and work * calls >= CALL_WORK))


def share(rows: int, work: int, calls: int) -> int:
    """How many threads pay for `calls` steps of `work` multiply-adds over `rows` rows each."""
    if not pays(rows, work, calls):
        return 1
    return max(min(get_num_threads(), rows // THREAD_ROWS), 1)


class _Helper(threading.Thread):
    """A thread that waits for work: starting one anew would take longer than a short call's work."""

    def __init__(self) -> None:
        super().__init__(name="fastmlp-helper", daemon=True)
        self.jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.ended: SimpleQueue[None] = SimpleQueue()

    def run(self) -> None:
        while True:
            self.jobs.get()()
            self.ended.put(None)


_idle: list[_Helper] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # a child has none of its parent's threads


def _hire() -> _Helper:
    try:
        return _idle.pop()
    except IndexError:
        helper = _Helper()
        helper.start()
        return helper


def run_short(target: Callable[[int], None], threads: int, state: np.ndarray) -> None:
    """Call target(0) here and target(1) ... target(threads - 1) in helpers, at the same time.

    For calls of at most some tenths of a second: an interrupt is seen when target(0) is done.
    """
    failures: list[BaseException] = []
    helpers: list[_Helper] = []
    given = 0
    try:
        for _ in range(1, threads):
            helpers.append(_hire())
        for me, helper in enumerate(helpers, 1):
            helper.jobs.put(partial(_attempt, target, me, state, failures))
            given += 1
    except BaseException as failure:
        _fail(state, failures, failure)
    else:
        _attempt(target, 0, state, failures)
    for helper in helpers[:given]:
        ended = False
        while not ended:
            try:
                helper.ended.get()
                ended = True
            except BaseException as failure:  # nobody may train on behind the caller's back
                _fail(state, failures, failure)
    _idle.extend(helpers if given == len(helpers) else helpers[:given])
    if failures:
        raise failures[0]


def _fail(state: np.ndarray, failures: list[BaseException], failure: BaseException) -> None:
    state[at.ABORT] = 1  # the others would wait at the barrier
    failures.append(failure)


def _attempt(target: Callable[[int], None], me: int, state: np.ndarray, failures: list[BaseException]) -> None:
    try:
        target(me)
    except BaseException as failure:
        _fail(state, failures, failure)


def run(target: Callable[[int], None], threads: int, state: np.ndarray, look: Callable[[], None]) -> None:
    """Call target(0) ... target(threads - 1), each in a thread of its own, while this one calls `look` now and then.

    An interrupt or an exception here ends all of them after the step they are at, and is raised then; so is one of theirs.
    """
    failures: list[BaseException] = []

    def start(me: int) -> threading.Thread:
        return threading.Thread(target=_attempt, args=(target, me, state, failures), name=f"fastmlp-{me}")

    workers = [start(me) for me in range(threads)]
    raised: BaseException | None = None
    try:
        for worker in workers:
            worker.start()
    except BaseException as failure:
        state[at.ABORT] = 1  # those that started would wait for the others
        raised = failure
    while any(worker.is_alive() for worker in workers):
        try:
            for worker in workers:
                if worker.ident is not None:
                    worker.join(WAIT)
            if raised is None:
                look()
        except BaseException as failure:  # whatever it is, nobody may train on behind the caller's back
            raised = raised or failure
            state[at.STOP] = 1
    if raised is not None or failures:
        raise raised or failures[0]
