"""How many threads train, and how they are run."""

import os
import threading
from collections.abc import Callable

import numpy as np

from fastmlp import validation
from fastmlp.kernels import plan as at

# Multiply-adds in a step below which a second thread does not pay: some 20 us of work against four meetings and colder caches.
STEP_WORK = 2_000_000
# The same for a whole call: starting the threads takes 0.1 to 0.3 ms.
CALL_WORK = 500_000_000
# Rows of a batch that a thread should have, for its products to be tall.
THREAD_ROWS = 64
WAIT = 0.05  # seconds between looks at the state of things: Ctrl-C and printing get their turn

_chosen: int | None = None


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


def _usable_cores() -> int:
    """The cores that this process may run on, and no more than its share of the machine's time (a container's)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
        if quota != "max":
            cores = min(cores, max(int(quota) // int(period), 1))
    except (OSError, ValueError):
        pass
    return cores


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
    if _chosen is not None:
        return _chosen
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


def pays(work: int, calls: int) -> bool:
    """Whether `calls` steps of `work` multiply-adds each are worth a second thread."""
    return work >= STEP_WORK and work * calls >= CALL_WORK


def share(rows: int, work: int, calls: int) -> int:
    """How many threads pay for `calls` steps of `work` multiply-adds over `rows` rows each."""
    if not pays(work, calls):
        return 1
    return max(min(get_num_threads(), rows // THREAD_ROWS), 1)


def run(target: Callable[[int], None], threads: int, state: np.ndarray, look: Callable[[], None]) -> None:
    """Call target(0) ... target(threads - 1), each in a thread of its own, while this one calls `look` now and then.

    An interrupt or an exception here ends all of them after the step they are at, and is raised then; so is one of theirs.
    """
    failures: list[BaseException] = []

    def work(me: int) -> None:
        try:
            target(me)
        except BaseException as failure:
            state[at.ABORT] = 1
            failures.append(failure)

    workers = [threading.Thread(target=work, args=(me,), name=f"fastmlp-{me}") for me in range(threads)]
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
