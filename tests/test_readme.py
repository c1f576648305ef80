"""The README's programs, as they stand there: in order, in one process."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
from headers import COMPILERS, STRICT, compile_c

from fastmlp.kernels.machine.interpreted import INTERPRETED
from fastmlp.kernels.net import plan

README = Path(__file__).parent.parent / "README.md"
TEXT = README.read_text(encoding="utf-8")
PROGRAMS = [dedent(text) for text in re.findall(r"^( *```python\n.*?)^ *```", TEXT, flags=re.M | re.S)]


@pytest.mark.skipif(INTERPRETED, reason="takes compiled code")
def test_programs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    for extra in ("tqdm", "pandas"):
        pytest.importorskip(extra)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)  # some write files
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
        exported: dict[str, Any] = {}
        for number in range(3, len(PROGRAMS)):
            run(number)
            exported = exported or {name: names[name] for name in ("model", "mean", "scale") if "to_c(" in PROGRAMS[number]}
        sys.modules["matplotlib.pyplot"].close("all")
    assert (names["table"].index.name, names["table"].columns[0]) == ("epoch", "loss")
    assert (tmp_path / "net.py").read_text() == names["program"]
    if COMPILERS:
        main, program = tmp_path / "main.c", tmp_path / "program"
        main.write_text(re.findall(r"^```c\n(.*?)^```", TEXT, flags=re.M | re.S)[0])
        compile_c([COMPILERS[0], "-std=c99", *STRICT, main, "-o", program, "-lm"])
        said = subprocess.run([program], capture_output=True, text=True, check=True, timeout=60).stdout
        x = np.concatenate([[0.5, -1.0], np.zeros(len(exported["mean"]) - 2)])
        want = exported["model"].predict([(x - exported["mean"]) / exported["scale"]])[0, 0]
        np.testing.assert_allclose(float(said), want, rtol=1e-5)


PAGES = (
    "README.md",
    ".github/CONTRIBUTING.md",
    "asv_bench/README.md",
    "fastmlp/NUMBERS.md",
    "fastmlp/README.md",
    "fastmlp/files/FORMAT.md",
    "tests/README.md",
    "tests/gallery/README.md",
)


def broken(page: Path) -> list[str]:
    """What a page refers to that is not there: pages, pictures, headings."""
    wrong = []
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file, _, heading = target.partition("#")
        found = page.parent / file if file else page
        headings = re.findall(r"^#+ (.*)", found.read_text(encoding="utf-8"), flags=re.M) if heading else []
        anchors = [re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings]
        if not found.exists() or (heading and heading not in anchors):
            wrong.append(target)
    return wrong


@pytest.mark.parametrize("name", PAGES)
def test_links(name: str) -> None:
    assert broken(README.parent / name) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A heading\n[a](page.md) [b](#a-heading) [c](gone.md) ![d](gone.png) [e](#no-heading) [f](https://g.h)")
    assert broken(page) == ["gone.md", "gone.png", "#no-heading"]


def test_glossary() -> None:
    """Each word once, in order; and what kernels are given is among them."""
    text = (README.parent / "fastmlp" / "README.md").read_text(encoding="utf-8").partition("## Glossary")[2]
    words = [word.lower() for word in re.findall(r"^\| (.*?) \|", text, flags=re.M)][1:]
    assert words == sorted(set(words))
    kernels = {name for name, one in vars(plan).items() if inspect.isclass(one) and one.__module__ == plan.__name__}
    assert {name.lower() for name in kernels} - {"layer"} <= set(words)
    assert "layer record" in words
