"""The gallery's programs, as they stand on its page and beside it."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp.kernels.machine.interpreted import INTERPRETED

FOLDER = Path(__file__).parent / "gallery"
PROGRAMS = re.findall(r"^```python\n(.*?)^```", (FOLDER / "README.md").read_text(encoding="utf-8"), flags=re.M | re.S)


def _recall(names: dict[str, Any]) -> list[float]:
    X, y = names["X"], names["y"]
    return [float(np.mean(model.predict(X[y == 1]) > 0.5)) for model in names["models"].values()]


# The picture that a program leaves, and what must have come out.
CHECKS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "digits": lambda names: names["history"]["val_accuracy"][-1] > 0.96,
    "regression": lambda names: names["history"]["val_r2"][names["best"]] > 0.85 and names["best"] < 1900,
    "search": lambda names: names["search"].best_score_ > 0.96,
    "imbalance": lambda names: _recall(names)[0] < 0.85 < 0.95 < _recall(names)[1],
}


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED, reason="takes compiled code")
@pytest.mark.parametrize(("picture", "program"), list(zip(CHECKS, PROGRAMS, strict=True)), ids=list(CHECKS))
def test_program(picture: str, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    matplotlib = pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    names: dict[str, Any] = {"__name__": picture}
    with matplotlib.rc_context():
        exec(compile(program, f"gallery: {picture}", "exec"), names)
    assert CHECKS[picture](names)
    made, shown = tmp_path / f"{picture}.png", FOLDER / f"{picture}.png"
    assert abs(made.stat().st_size / shown.stat().st_size - 1) < 0.5


# The programs that are files, shortened: their arguments, and how long episodes must last at the end (by chance 22 steps).
SHORT = {"ppo": ({"steps": 60_000, "seeds": 1, "heads": False}, 200), "dqn": ({"steps": 30_000, "seeds": 1}, 80)}


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED, reason="takes compiled code")
@pytest.mark.parametrize("name", SHORT)
def test_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.syspath_prepend(FOLDER)
    given, least = SHORT[name]
    with matplotlib.rc_context():
        results = importlib.import_module(name).main(**given, picture=str(tmp_path / "made.png"))
    assert min(results) > least
    assert (tmp_path / "made.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED, reason="takes compiled code")
def test_several_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    assert importlib.import_module("ppo").main(steps=60_000, seeds=1, heads=True, picture=None)[0] > 100


@pytest.mark.skipif(INTERPRETED, reason="takes compiled code")
def test_the_cart_is_gymnasiums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its published equations (Barto, Sutton and Anderson, 1983), one step, term by term."""
    monkeypatch.syspath_prepend(FOLDER)
    cartpole = importlib.import_module("cartpole")
    rng = np.random.default_rng(0)
    for _ in range(100):
        x, speed, angle, turning = before = rng.uniform(-0.2, 0.2, 4)
        right = bool(rng.integers(2))
        force = 10.0 if right else -10.0
        inner = (force + 0.05 * turning**2 * np.sin(angle)) / 1.1
        bend = (9.8 * np.sin(angle) - np.cos(angle) * inner) / (0.5 * (4 / 3 - 0.1 * np.cos(angle) ** 2 / 1.1))
        pull = inner - 0.05 * bend * np.cos(angle) / 1.1
        state = before.copy()
        failed = cartpole.push(state, right)
        wanted = [x + 0.02 * speed, speed + 0.02 * pull, angle + 0.02 * turning, turning + 0.02 * bend]
        np.testing.assert_allclose(state, wanted, rtol=1e-12)
        assert failed == (abs(state[0]) > 2.4 or abs(state[2]) > np.deg2rad(12))
