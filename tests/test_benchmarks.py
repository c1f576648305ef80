"""The benchmarks run: each once, small, in a process of its module's own. What they measure is not looked at."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "asv_bench"
SUITE = sorted(path.stem for path in (BENCH / "benchmarks").glob("*.py") if path.stem not in ("__init__", "timed"))
SCRIPTS = sorted(path.stem for path in BENCH.glob("*.py"))
NEEDS = {"kernels": "asv_runner", "estimators": "sklearn", "files": "safetensors"}

pytestmark = pytest.mark.skipif(not SUITE, reason="tests without the repository's benchmarks")

BEGIN = f"import sys; sys.path.insert(0, {str(BENCH)!r})\n"
# Small nets, single parts and steps. What starts processes does so for its first parameters only.
ONCE = """
import importlib, itertools, math, subprocess
from dataclasses import replace
import speed, nets

for name, net in speed.WORKLOADS.items():
    speed.WORKLOADS[name] = replace(net, rows=min(net.rows, 2 * net.batch))
nets.Net.epochs = lambda *_, **__: 1
from benchmarks import timed

timed.SAMPLE = 0.0
module = importlib.import_module("benchmarks." + MODULE)
for name, few in {"CALLS": 3, "STEPS": 3, "ROWS": 30, "WORK": 3e7, "TURNS": 1, "TURN": 0.0}.items():
    if hasattr(module, name):
        setattr(module, name, few)
if MODULE == "quality":
    module.EPOCHS = dict.fromkeys(module.EPOCHS, 1)

for kind in vars(module).values():
    if not isinstance(kind, type) or kind.__module__ != module.__name__:
        continue
    for name in dir(kind):
        if not name.startswith(("time_", "timeraw_", "track_", "peakmem_", "mem_")):
            continue
        done = 0
        for values in itertools.product(*getattr(kind, "params", ())):
            made = kind()
            work = getattr(made, name)
            if any(value in skipped for skipped, value in zip(*getattr(work, "skip_params", [()]), values)):
                continue
            processes = name.startswith("timeraw_") or kind.__name__ == "Peak"
            if processes and done:
                break
            try:
                getattr(made, "setup", lambda *_: None)(*values)
            except NotImplementedError:
                continue
            if name.startswith("time_"):
                before = made.timer()
                work(*values)
                assert made.timer() >= before, (name, values)
            elif name.startswith("timeraw_"):
                code = work(*values)
                statement, before = (code, "") if isinstance(code, str) else code
                subprocess.run([sys.executable, "-c", before + statement], check=True)
            else:
                assert math.isfinite(work(*values)), (name, values)
            done += 1
        print(kind.__name__, name, done)
"""


@pytest.mark.slow
@pytest.mark.parametrize("module", SUITE)
def test_each_runs(python: Callable[..., str], module: str) -> None:
    pytest.importorskip(NEEDS.get(module, "fastmlp"))
    ran = python(f"{BEGIN}MODULE = {module!r}\n{ONCE}").splitlines()
    assert ran
    assert all(int(line.rpartition(" ")[2]) for line in ran), ran


@pytest.mark.slow
def test_scripts_are_imported(python: Callable[..., str]) -> None:
    python(BEGIN + "\n".join(f"import {script}" for script in SCRIPTS if find_spec(NEEDS.get(script, "fastmlp"))))


@pytest.mark.slow
def test_bits_tells_versions_apart(tmp_path: Path) -> None:
    """Over the first two cases, one of which another version would have computed otherwise."""
    few = f"{BEGIN}import bits, itertools; every = bits.cases; bits.cases = lambda: itertools.islice(every(), 2); bits.main()"
    environment = os.environ | {"PYTHONPATH": str(BENCH.parent)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", few, "--threads", "1", *arguments]
        return subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=300)

    one, other = run().stdout.splitlines()
    before = tmp_path / "before.txt"
    before.write_text(f"{int(one[:16], 16) ^ 1:016x}{one[16:]}\n{other}\n")
    compared = run("--than", str(before))
    assert (compared.returncode, compared.stdout) == (1, "2 cases, 1 differ; 0 new, 0 gone\n"), compared.stderr


@pytest.mark.slow
def test_asv_finds_nothing_wrong(tmp_path: Path) -> None:
    pytest.importorskip("asv")
    environment = os.environ | {"ASV_PYTHONPATH": str(BENCH.parent), "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "asv", "check", "--python=same"]
    done = subprocess.run(command, cwd=BENCH, env=environment, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
