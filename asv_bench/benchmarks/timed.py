"""How a time is taken here."""

import time
from collections.abc import Callable
from math import inf

SAMPLE = 0.1  # seconds that the parts of a sample take together, at least


class Clock:
    """asv's timer for a sample: it shows the sum of the times that were handed to it."""

    shown = 0.0

    def __call__(self) -> float:
        return self.shown


class Timed:
    """A benchmark whose sample is the fastest of several parts: whatever else happens on the machine only adds to a time.

    On one thread a part is the time that the process had a core, so that sharing it counts for nothing: beside a second
    program parts of 5 ms took 9, even the fastest of a hundred. On several threads it is the time that passed.
    """

    timer = Clock()
    number = 1
    warmup_time = 0
    # One sample a process: those of one process share its places in memory, and asv's test takes samples to be independent.
    # With fewer than seven it could never call a difference significant.
    rounds = 8
    repeat = 1

    def take(self, work: Callable[[], object], calls: int = 1, threads: int = 1) -> None:
        """Hand asv the time of one call, where `work` makes `calls` of them: together a millisecond or more."""
        clock = time.process_time if threads == 1 else time.perf_counter
        work()  # compiles, or loads what is compiled
        fastest, parts, end = inf, 0, time.perf_counter() + SAMPLE
        while parts < 3 or time.perf_counter() < end:
            started = clock()
            work()
            fastest = min(fastest, clock() - started)
            parts += 1
        self.timer.shown += fastest / calls
