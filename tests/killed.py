"""Fits in child processes that are killed at any moment, again and again, and go on; a program, as it forks.

``python killed.py FOLDER KILLS SEED`` prints what came of it, as JSON.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import sys
import time
import warnings
from collections import Counter as Counts
from pathlib import Path
from typing import Any

from checkpoints import Case, everything

import fastmlp
from fastmlp.training.checkpoint import BEFORE


def child(case: Case, path: Path, every: Any, threads: int) -> int:
    """A process that runs a fit from its newest checkpoint on, and leaves what it comes to in a file."""
    number = os.fork()
    if not number:
        try:
            fastmlp.set_num_threads(threads)
            got = case.run(checkpoint=path, every=every, resume=path if path.exists() else None)
            path.with_suffix(".written").write_bytes(pickle.dumps(got))
            path.with_suffix(".written").rename(path.with_suffix(".done"))
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    return number


def whole(path: Path, case: Case, counts: Counts[str]) -> None:
    """The newest generation is whole, and so is the one before it."""
    counts["left beside"] += any(one.name.endswith(".part") for one in path.parent.iterdir())
    for one in (path, Path(str(path) + BEFORE)):
        if one.exists():
            loss = [case.loss] if not isinstance(case.loss, str) else []
            assert fastmlp.load(one, custom=loss).network == case.model().network
            counts["loaded"] += 1


def main(folder: Path, kills: int, seed: int) -> None:
    warnings.simplefilter("ignore")
    os.fsync = lambda descriptor: None  # a killed process's writes are the system's: nothing of them is lost
    chance, counts = random.Random(seed), Counts[str]()
    todo = [(case, case.run()) for case in everything()]  # which compiles what the children need
    path, number = folder / "fit", 0
    while counts["killed"] < kills:
        case, want = todo[number % len(todo)]
        every, number = chance.choice(["epoch", 1, 2, 5, 1e-9, 0.002]), number + 1
        for one in folder.iterdir():
            one.unlink()
        started, again = time.monotonic(), 0
        spans = [0.02]  # seconds that the fit takes
        while not path.with_suffix(".done").exists():
            begun = time.monotonic()
            process = child(case, path, every, chance.choice([1, 2]))
            if again < 4:
                time.sleep(chance.uniform(0, 1.5 * spans[-1]))
                os.kill(process, signal.SIGKILL)
            _, status = os.waitpid(process, 0)
            if os.WIFSIGNALED(status):
                counts["killed"] += 1
                counts["killed while there was a checkpoint"] += path.exists()
                whole(path, case, counts)
                spans.append(spans[-1] * 1.3)  # nearer to the end
            else:
                assert os.WEXITSTATUS(status) == 0, (number, case, every)
            again += 1
            assert time.monotonic() - begun < 60
        got = pickle.loads(path.with_suffix(".done").read_bytes())
        for name in want:
            assert got[name] == want[name], (number, case, every, name)
        left = sorted(one.name for one in folder.iterdir() if one.name.endswith(".part"))
        assert not left, left
        counts["fits"] += 1
        counts["fits that went on"] += again > 1
        counts["milliseconds"] += round(1000 * (time.monotonic() - started))
    print(json.dumps(counts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
