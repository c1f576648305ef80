"""The command line's errors: a line each, which says what to do, and no file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmlp
from fastmlp import cli

pd = pytest.importorskip("pandas")
ROWS = [f"{i},{'ab'[i % 2]},{i % 3}\n" for i in range(30)]
GOOD = "x,c,y\n" + "".join(ROWS)
Fails = Callable[..., str]


@pytest.fixture
def fails(capfd: pytest.CaptureFixture[str]) -> Fails:
    """What the one line says that a command ends with."""

    def one(*words: Any) -> str:
        assert cli.main([str(word) for word in words]) == 1
        _, err = capfd.readouterr()
        assert err.count("\n") == 1
        assert err.startswith("fastmlp: error: ")
        return err.removeprefix("fastmlp: error: ").rstrip()

    return one


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of x and c, and the table of it beside it."""
    folder = tmp_path_factory.mktemp("errors")
    (folder / "data.csv").write_text(GOOD)
    words = ["train", folder / "data.csv", "--target", "y", "--epochs", "1", "--quiet", "--out", folder / "m.safetensors"]
    assert cli.main([str(word) for word in words]) == 0
    return folder / "m.safetensors"


@pytest.mark.parametrize(
    ("text", "more", "said"),
    [
        ("", [], "data.csv is empty"),
        ("\n\n", [], "data.csv is empty"),
        ("x,c,y\n", [], "data.csv has no rows"),
        (GOOD + "1,2\n", [], "data.csv: line 32 has 2 fields, and the heads in line 1 are 3"),
        (GOOD + "1,a,0,5\n", [], "data.csv: line 32 has 4 fields, and the heads in line 1 are 3"),
        (GOOD + '"1,a,0\n', [], "data.csv: line 32 has 1 field, and"),
        ("x,x,y\n" + "".join(ROWS), [], "data.csv must have different heads for its columns, got 'x' twice"),
        (GOOD.encode() + b"1,\xe9,0\n", [], "data.csv: line 32 is not UTF-8 (byte 0xe9): convert it first, such as with iconv"),
        (GOOD + "1," + "a" * 200_000 + ",0\n", [], "data.csv: line 32 cannot be read: field larger than field limit"),
        (GOOD.replace(",y", ",z", 1), [], "--target: "),
        (GOOD, ["--drop", "u"], "--drop: "),
        (GOOD, ["--categorical", "c,u"], "data.csv has no column 'u'; it has x, c, y"),
        (GOOD, ["--drop", "x,c"], "data.csv has no column besides 'y' to predict it from"),
        (GOOD, ["--sep", ";;"], "--sep must be a single character, got ';;'"),
        (GOOD, ["--sep", ";"], "has no column 'y'; it has x,c,y"),
        (
            GOOD + "9,a,\n",
            [],
            "the target, column 'y', has 1 gap, the first in row 31: only --missing drop leaves such rows out",
        ),
        ("x,y\n" + "1,a\n2,a\n" * 9, [], "the target, column 'y', must have two values or more"),
        ("x,y\n" + "1,0.5\n2,0.5\n" * 9, ["--task", "regression"], "the target, column 'y', must have two values or more"),
        (GOOD, ["--target", "c", "--task", "regression"], "column 'c' must hold numbers, got 'a' in row 1"),
        ("x,g,y\n" + "1,,a\n2,,b\n" * 9, [], "column 'g' has no values: leave it out with --drop"),
        ("x,y\n" + "1,a\n2,b\n" * 4, [], "data.csv must have at least 10 rows to train on, got 8"),
        ("x,y\n" + "1,a\n,b\n" * 9, ["--missing", "drop"], "got 9, 9 rows with gaps left out"),
        ("x,y\n" + "1,a\n,b\n" * 9, ["--missing", "error"], "column 'x' has 9 gaps, the first in row 2: see --missing"),
        (GOOD + "12x,a,0\n", [], "column 'x' holds numbers, but '12x' in row 31: correct that, or name it in --categorical or"),
        (GOOD + "inf,a,0\n", [], "column 'x' must hold finite numbers, got inf in row 31"),
        (GOOD + "1e300,a,0\n", [], "column 'x' must hold numbers whose squares have a sum, got 1e+300"),
        (GOOD.replace("0\n", "1e300\n"), ["--task", "regression"], "the target, column 'y', must hold numbers whose squares"),
        (GOOD, ["--lr", "1e30", "--optimizer", "sgd"], "was not finite at the end of epoch"),
    ],
)
def test_tables_that_cannot_be_trained_on(text: str | bytes, more: list[str], said: str, tmp_path: Path, fails: Fails) -> None:
    (tmp_path / "data.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    target = [] if "--target" in more else ["--target", "y"]
    words = ["train", tmp_path / "data.csv", *target, *more, "--seed", 1, "--test-size", 0, "--out", tmp_path / "m.safetensors"]
    found = fails(*words)
    assert said in found or ("the loss was" in found and "finite" in said)
    assert [file.name for file in tmp_path.iterdir()] == ["data.csv"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x,d\n1,a\n", "the data has no column 'c', which the model needs; it has x, d"),
        ("x,c\n1,a\nfive,b\n", "column 'x' must hold numbers, got 'five' in row 2"),
        ("x,c\n1,a\ninf,b\n", "column 'x' must hold finite numbers, got inf in row 2"),
        ("x,c\n", "has no rows"),
        ("x,c\n1\n", "line 2 has 1 field, and the heads in line 1 are 2"),
    ],
)
def test_tables_that_cannot_be_predicted(text: str, said: str, model: Path, tmp_path: Path, fails: Fails) -> None:
    (tmp_path / "data.csv").write_text(text)
    (tmp_path / "out.csv").write_text("before")
    found = fails("predict", model, tmp_path / "data.csv", "--out", tmp_path / "out.csv")
    assert said in found
    assert str(tmp_path / "data.csv") in found
    assert (tmp_path / "out.csv").read_text() == "before"


def test_unknown_categories_and_gaps_are_predicted(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data.csv").write_text("x,c\n1,never\n,a\n2,\n,\n")
    assert cli.main(["predict", str(model), str(tmp_path / "data.csv"), "--proba"]) == 0
    lines = capfd.readouterr().out.splitlines()[1:]
    assert len(lines) == 4
    assert all(np.isfinite([float(number) for number in line.split(",")[1:]]).all() for line in lines)


def test_files_that_are_not_there_or_are_others(model: Path, tmp_path: Path, fails: Fails) -> None:
    data = model.parent / "data.csv"
    assert fails("train", tmp_path / "no.csv", "--target", "y") == f"{tmp_path / 'no.csv'}: No such file or directory"
    assert fails("predict", tmp_path / "no", data) == f"{tmp_path / 'no'}: No such file or directory"
    assert fails("info", tmp_path) == f"{tmp_path}: Is a directory"
    assert "must end in .csv, .tsv, .tab, .parquet, .pq" in fails("train", tmp_path / "data.xls", "--target", "y")
    assert fails("predict", data, data).startswith(f"{data} cannot be read: its first 8 bytes must be the length of a header")
    (tmp_path / "data.parquet").write_text(GOOD)
    (tmp_path / "data.csv.gz").write_text(GOOD)
    pytest.importorskip("pyarrow")
    assert "data.parquet cannot be read as Parquet" in fails("train", tmp_path / "data.parquet", "--target", "y")
    assert fails("train", tmp_path / "data.csv.gz", "--target", "y")
    fastmlp.Model([2, 1]).save(tmp_path / "plain.safetensors")
    assert "holds no table's preprocessing, but a Model" in fails("predict", tmp_path / "plain.safetensors", data)
    numbers = model.parent / "numbers.csv"
    pd.DataFrame({"x": np.arange(30.0), "y": np.arange(30) / 7}).to_csv(numbers, index=False)
    words = ["train", numbers, "--target", "y", "--epochs", "1", "--quiet", "--out", tmp_path / "n.safetensors"]
    assert cli.main([str(word) for word in words]) == 0
    assert (
        fails("predict", tmp_path / "n.safetensors", numbers, "--proba")
        == "--proba: 'y' is a number, which has no probabilities"
    )


def test_dates_are_refused(tmp_path: Path, fails: Fails) -> None:
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"when": pd.date_range("2020-01-01", periods=20), "y": [0, 1] * 10})
    frame.to_parquet(tmp_path / "data.parquet")
    found = fails("train", tmp_path / "data.parquet", "--target", "y")
    assert found.startswith("column 'when' must hold numbers, strings or bools, got Timestamp(")
    assert found.endswith("in row 1")


def test_places_that_cannot_be_written_are_known_before_the_work(model: Path, tmp_path: Path, fails: Fails) -> None:
    data = model.parent / "data.csv"
    train = "train", data, "--target", "y", "--epochs", 1, "--out"
    assert fails(*train, tmp_path / "no" / "m.safetensors").endswith(f"there is no folder {tmp_path / 'no'}")
    assert fails(*train, tmp_path / "m.csv").startswith("--out must end in .safetensors, got ")
    (tmp_path / "f.safetensors").mkdir()
    assert fails(*train, tmp_path / "f.safetensors").endswith("it is a folder")
    (tmp_path / "l.safetensors").symlink_to(data)
    assert fails(*train, tmp_path / "l.safetensors").endswith("is what is read, and would be replaced")
    assert fails("predict", model, data, "--out", data).endswith("is what is read, and would be replaced")
    assert data.read_text() == GOOD
    assert fails("convert", model, model).endswith("is what is read, and would be replaced")


def test_what_convert_refuses(model: Path, tmp_path: Path, fails: Fails) -> None:
    found = fails("convert", model, tmp_path / "net.xyz")
    assert found.startswith("out must end in .safetensors, .h, .c, .py")
    assert found.endswith(f"; got {tmp_path / 'net.xyz'}")
    assert fails("convert", tmp_path / "net.h", tmp_path / "net.py").startswith("model must end in .safetensors")
    assert fails("convert", model, tmp_path / "net.h", "--loss", "mse").startswith("--loss is for networks that are not")
    assert fails("convert", model, tmp_path / "net.h", "--activations", "tanh").startswith("--activations is for .pt files")
    assert list(tmp_path.iterdir()) == []


def test_bench_refuses_a_single_width(fails: Fails) -> None:
    assert fails("bench", "--sizes", "8") == "--sizes must have at least an input's and an output's width"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is full")
def test_a_full_disk(model: Path, tmp_path: Path, fails: Fails) -> None:
    place = tmp_path / "m.safetensors"
    place.symlink_to("/dev/full")
    data = model.parent / "data.csv"
    assert fails("train", data, "--target", "y", "--epochs", 1, "--out", place) == f"{place}: No space left on device"
    assert fails("predict", model, data, "--out", place) == f"{place}: No space left on device"


def test_damaged_models_are_one_line_each(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole, data = model.read_bytes(), str(model.parent / "data.csv")
    rng, place = np.random.default_rng(0), tmp_path / "m.safetensors"
    refused = 0
    for attempt in range(300):
        damaged = bytearray(whole)
        if attempt % 3:
            for at in rng.integers(0, 2500, rng.integers(1, 4)):  # the header, which is most of what can be told
                damaged[at] = rng.integers(0, 256)
        else:
            del damaged[rng.integers(0, len(whole)) :]
        place.write_bytes(damaged)
        code = cli.main(["predict", str(place), data])
        err = capfd.readouterr().err
        assert (code, err.count("\n")) in ((0, 0), (1, 1)), err
        refused += code
    assert refused > 200
