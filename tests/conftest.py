from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmlp
from fastmlp.kernels import tuning

collect_ignore = ["gallery", "data"]  # programs

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job: tests that interrupt would never end
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Any:
    return np.dtype(request.param)


@pytest.fixture(autouse=True)
def numpys_warnings() -> Iterator[None]:
    """A test that leaves NumPy's warnings changed is named, not the one that it breaks."""
    before = np.geterr()
    yield
    after = np.geterr()
    np.seterr(**before)
    assert after == before, "the test has left NumPy's warnings changed"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def all_share(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Every step is shared by as many threads as are allowed, however small it is."""
    monkeypatch.setattr(tuning, "STEP_WORK", 0)
    monkeypatch.setattr(tuning, "CALL_WORK", 0)
    monkeypatch.setattr(tuning, "THREAD_ROWS", 1)
    yield
    fastmlp.set_num_threads(None)


@pytest.fixture
def python() -> Callable[..., str]:
    """Run code in another process, with settings added to the environment; its output."""

    def run(code: str, **settings: str) -> str:
        source = str(Path(__file__).parent.parent)
        environment = {**os.environ, **settings}
        environment["PYTHONPATH"] = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
