"""What strikes Python wherever it is: an exception at the n-th bytecode of fastmlp's code, as a handler may raise it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastmlp

HOME = str(Path(fastmlp.__file__).parent)


class Struck(BaseException):
    """Nobody catches this by mistake."""


class Striker:
    """Raises at the `position`-th bytecode, or beginning of a line, that this thread executes in fastmlp's files.

    Attributes
    ----------
    seen : int
        Bytecodes and lines so far.
    where : str
        Where it struck.
    """

    def __init__(self, position: int) -> None:
        self.position, self.seen, self.where = position, 0, ""

    def __enter__(self) -> Striker:
        sys.settrace(self._enter)
        return self

    def __exit__(self, *exception: object) -> None:
        sys.settrace(None)

    def _enter(self, frame: Any, event: str, arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(HOME):
            return None
        frame.f_trace_opcodes = True
        return self._look

    def _look(self, frame: Any, event: str, arg: Any) -> Any:
        if event in ("opcode", "line"):
            self.seen += 1
            if self.seen > self.position and not self.where:
                self.where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name} {event}"
                sys.settrace(None)
                raise Struck(self.where)
        return self._look


def strikes(act: Callable[[], Any], start: int = 0, stride: int = 1) -> Iterator[str | None]:
    """Do it again and again, struck at every `stride`-th position; where it was, and None when it came to its end."""
    position = start
    while True:
        striker = Striker(position)
        try:
            with striker:
                act()
        except Struck:
            yield striker.where
            position += stride
        else:
            yield None
            return
