"""Whose turn it is to call a model: a lock that no exception can leave locked, wherever it strikes."""

import os
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType, TracebackType
from weakref import ref

from fastmlp.kernels.machine import native

# Microseconds that the next call waits for its bell before it looks whether the head of the queue has ended without a word;
# twice as long each time, up to native.LOOK. The others only wait: 30 of them that looked each millisecond took a whole core.
PATIENCE = 1_000

_turns: "set[ref[Turn]]" = set()
_bells: list[native.Lock] = []  # those that nobody waits for; a late ring only makes the next one look too early


class Turn:
    """Calls take turns, in the order in which they came. A call within a call of the same thread is an error.

    A call is known by its frame, which one step of the interpreter puts into the queue before anything else happens. So a
    signal's handler or a trace function that raises between any two steps leaves nothing behind but a frame that has ended,
    and whoever finds that at the head of the queue takes it away: nothing has to be released.

    Parameters
    ----------
    writers : names of functions
        Those whose calls change the model: it is of no use to a process that is forked in the middle of one.
    """

    def __init__(self, *writers: str) -> None:
        self._queue: deque[FrameType] = deque()
        self._waiting: dict[FrameType, native.Lock] = {}
        self._writers, self._torn = writers, False
        # What takes it out again is no Python, in which a signal handler's exception would be printed and lost.
        _turns.add(ref(self, _turns.discard))

    def __enter__(self) -> None:
        frame = sys._getframe(1)
        queue = self._queue
        queue.append(frame)
        if queue[0] is not frame:
            self._wait(frame)

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._queue.popleft()
        if self._waiting:
            self._ring()

    def _ring(self) -> None:
        """Wake up the call whose turn it is; an exception here costs it some PATIENCE."""
        with suppress(IndexError):  # nobody is left
            bell = self._waiting.get(self._queue[0])
            if bell is not None:
                bell.release()

    def _wait(self, frame: FrameType) -> None:
        queue = self._queue
        if not set(_callers(frame)).isdisjoint(queue.copy()):  # another thread may change it meanwhile
            self._leave(frame)
            raise RuntimeError("the model is in the middle of a call of this thread: a signal handler or print may not call it")
        bell = self._waiting[frame] = _bells.pop() if _bells else native.Lock()
        patience = PATIENCE
        try:
            while queue[0] is not frame:
                head = queue[0]
                if self._torn:
                    raise RuntimeError(
                        "this process was forked while another thread trained the model, whose parameters may be those of the"
                        " middle of a step: load it anew, or fork when no training runs"
                    )
                if _ended(head):
                    self._leave(head)
                elif queue.index(frame) > 1:
                    bell.acquire(native.LOOK)
                elif not bell.acquire(patience):
                    patience = min(2 * patience, native.LOOK)
                    if not _runs(head) and not _ended(head):
                        raise RuntimeError("the model is in the middle of a call of a coroutine that waits")
        except BaseException:
            self._leave(frame)
            raise
        finally:
            self._waiting.pop(frame, None)
            _bells.append(bell)

    def _leave(self, frame: FrameType) -> None:
        try:
            self._queue.remove(frame)
        except ValueError:  # another call has taken it away
            return
        self._ring()


def _callers(frame: FrameType | None) -> Iterator[FrameType]:
    """The frames below a frame."""
    while frame is not None and (frame := frame.f_back) is not None:
        yield frame


def _ended(frame: FrameType) -> bool:
    """Whether a frame is no longer executed; its variables are gone then."""
    try:
        frame.clear()
    except RuntimeError:
        return False
    return True


def _runs(frame: FrameType) -> bool:
    """Whether a thread is at a frame, or at one that it called."""
    return any(frame is top or frame in _callers(top) for top in sys._current_frames().values())


def _forked() -> None:
    """In a child, which has none of its parent's threads: their calls will not end."""
    own = set(_callers(sys._getframe()))
    for turn in filter(None, [one() for one in tuple(_turns)]):
        turn._waiting.clear()
        for frame in tuple(turn._queue):
            if frame not in own and not _ended(frame):
                if frame is turn._queue[0] and frame.f_code.co_name in turn._writers:
                    turn._torn = True
                    break
                turn._queue.remove(frame)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
