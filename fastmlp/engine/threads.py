"""How many threads train."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from fastmlp import checks
from fastmlp.engine.cores import threads_from_environment, usable_cores
from fastmlp.kernels import tuning
from fastmlp.kernels.machine.interpreted import INTERPRETED

_chosen: int | None = None
_limit: ContextVar[int | None] = ContextVar("limit", default=None)


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
    return min(threads_from_environment() or usable_cores(), usable_cores())


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

    Examples
    --------
    >>> import fastmlp
    >>> fastmlp.set_num_threads(1)
    >>> fastmlp.set_num_threads(None)
    """
    global _chosen
    _chosen = None if n is None else checks.count("n", n)


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
    return rows >= 2 * tuning.THREAD_ROWS and (
        work >= tuning.LARGE_STEP or (work >= tuning.STEP_WORK and work * calls >= tuning.CALL_WORK)
    )


def share(rows: int, work: int, calls: int) -> int:
    """How many threads pay for `calls` steps of `work` multiply-adds over `rows` rows each."""
    if not pays(rows, work, calls):
        return 1
    return max(min(get_num_threads(), rows // tuning.THREAD_ROWS), 1)
