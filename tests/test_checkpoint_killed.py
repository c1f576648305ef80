"""Processes that are killed while they train and write checkpoints: nothing but time is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
THOROUGH = float(os.environ.get("FASTMLP_THOROUGH") or 0)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs fork")
def test_fits_that_are_killed_end_with_the_same_bits(tmp_path: Path) -> None:
    kills, seed = (500, int(time.time())) if THOROUGH else (30, 0)
    path = os.pathsep.join([str(HERE.parent), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, str(HERE / "killed.py"), str(tmp_path), str(kills), str(seed)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, f"seed {seed}\n{done.stderr[-5000:]}"
    found = json.loads(done.stdout)
    assert found["killed"] >= kills
    assert found["killed while there was a checkpoint"] > kills // 3
    assert found["fits that went on"] > found["fits"] // 2
    print(found)
