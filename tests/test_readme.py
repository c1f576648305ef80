"""The README's programs, as they stand there: in order, in one process."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from fastmlp.kernels.machine.interpreted import INTERPRETED

README = Path(__file__).parent.parent / "README.md"
TEXT = README.read_text(encoding="utf-8")
PROGRAMS = [dedent(text) for text in re.findall(r"^( *```python\n.*?)^ *```", TEXT, flags=re.M | re.S)]


@pytest.mark.skipif(INTERPRETED, reason="takes compiled code")
def test_programs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    for extra in ("tqdm", "pandas"):
        pytest.importorskip(extra)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    names: dict[str, Any] = {"__name__": "readme"}

    def run(number: int) -> str:
        exec(compile(PROGRAMS[number].partition("\n")[2], f"README: program {number}", "exec"), names)
        return capsys.readouterr().out

    with matplotlib.rc_context():
        run(0)
        printed = run(1)
        trained = [names[name].copy() for name in ("W1", "b1", "W2", "b2")]
        run(0)  # the weights to start from, anew
        assert run(2) == printed != ""
        w1, w2 = names["model"].weights
        b1, b2 = names["model"].biases
        for array, expected in zip((w1, b1, w2, b2), trained, strict=True):
            np.testing.assert_allclose(array, expected, rtol=1e-12)
        for number in range(3, len(PROGRAMS)):
            run(number)
        sys.modules["matplotlib.pyplot"].close("all")
    assert list(names["table"].columns[:2]) == ["epoch", "loss"]


def test_links() -> None:
    """Every page and picture that the pages name is there."""
    pages = [README, *(README.parent / name for name in PAGES)]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page}: {target}"


PAGES = (
    ".github/CONTRIBUTING.md",
    "asv_bench/README.md",
    "fastmlp/NUMBERS.md",
    "fastmlp/README.md",
    "tests/README.md",
    "tests/gallery/README.md",
)
