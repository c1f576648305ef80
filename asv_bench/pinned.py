"""A benchmark's child processes: each bound to as many cores as it may have threads, with each library told so."""

import json
import os
import signal
import subprocess
import sys
from typing import Any

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "FASTMLP_NUM_THREADS", "NPROC")
# Without these JAX hands each product to a pool of one thread and waits for it.
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


class DiedError(Exception):
    """A child that brought no result; says why."""


def cores() -> list[int]:
    """The cores that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def run(script: str, arguments: list[str], threads: int, limit: float) -> Any:
    """What the script prints as JSON on its last line, if it ends within `limit` seconds.

    Raises
    ------
    DiedError
        If it fails, is killed, takes longer or prints something else.
    """
    environment = os.environ | dict.fromkeys(VARIABLES, str(threads)) | {"XLA_FLAGS": ONE_THREAD if threads == 1 else ""}
    mine = cores()[:threads]

    def pin() -> None:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, mine)

    command = [sys.executable, script, *arguments]
    try:
        done = subprocess.run(command, env=environment, preexec_fn=pin, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        raise DiedError(f"no result in {limit:g} s") from None
    if done.returncode < 0:
        raise DiedError(f"killed by {signal.Signals(-done.returncode).name}")
    if done.returncode:
        raise DiedError(f"exit status {done.returncode}: {' '.join(done.stderr.strip().splitlines()[-1:])}")
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise DiedError(f"no result in its output: {done.stdout[-200:]!r}") from None
