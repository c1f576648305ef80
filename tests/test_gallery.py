"""The gallery's programs, as they stand on its page."""

from __future__ import annotations

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
