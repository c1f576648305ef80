"""The command line: what each command does with good input."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmlp
from fastmlp import cli
from fastmlp.cli import convert, train

pd = pytest.importorskip("pandas")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """One command in this process: its exit code, and what it printed."""

    def one(*words: Any) -> tuple[int, str, str]:
        code = cli.main([str(word) for word in words])
        return code, *capfd.readouterr()

    return one


def houses(rows: int = 600) -> Any:
    """Prices of a noisy formula of two numbers, a category and a flag, with gaps in three of these."""
    rng = np.random.default_rng(0)
    city = rng.choice(["Berlin", "Paris", "Rome"], rows, p=[0.5, 0.3, 0.2])
    size, rooms, garden = rng.uniform(20, 200, rows), rng.integers(1, 7, rows), rng.random(rows) < 0.3
    metre = np.select([city == "Berlin", city == "Paris"], [4.0, 9.0], 5.0)
    price = size * metre * (1 + 0.2 * garden) + 20 * rooms + rng.normal(0, 30, rows)
    frame = pd.DataFrame({"city": city, "size": size, "rooms": rooms.astype(float), "garden": garden, "price": price})
    for name in ("city", "size", "rooms"):
        frame.loc[rng.random(rows) < 0.05, name] = None
    return frame


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tables, and a model of each."""
    folder = tmp_path_factory.mktemp("cli")
    frame = houses()
    frame.to_csv(folder / "houses.csv", index=False)
    frame.assign(dear=np.where(frame.price > 700, "yes", "no")).drop(columns="price").to_csv(folder / "dear.csv", index=False)
    for name, target in (("houses", "price"), ("dear", "dear")):
        words = ["train", folder / f"{name}.csv", "--target", target, "--out", folder / f"{name}.safetensors", "--quiet"]
        assert cli.main([str(word) for word in words]) == 0
    return folder


# ---- train -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "target"), [("cancer", "diagnosis"), ("diabetes", "progression")])
def test_plain_train_scores_well_on_known_tables(name: str, target: str, tmp_path: Path, run: Run) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    data = {"cancer": datasets.load_breast_cancer, "diabetes": datasets.load_diabetes}[name](as_frame=True)
    answer = data.target_names[data.target] if name == "cancer" else data.target
    data.data.assign(**{target: answer}).to_csv(tmp_path / "data.csv", index=False)
    code, out, err = run("train", tmp_path / "data.csv", "--target", target)
    assert (code, err) == (0, "")
    first, second, constant, other = (float(number) for number in re.findall(r"(?:accuracy|loss|R2|RMSE) (-?\d\S*\d)", out))
    if name == "cancer":
        assert first > 0.95 > 0.7 > constant > 0.6
        assert second < 0.2 < 0.6 < other
    else:
        assert first > 0.4 > 0.1 > abs(constant)
        assert second < 0.8 * other


def test_plain_train_scores_well_on_text_and_gaps(folder: Path, run: Run) -> None:
    for name, target, least in (("houses", "price", 0.75), ("dear", "dear", 0.88)):
        code, out, _ = run("train", folder / f"{name}.csv", "--target", target)
        assert code == 0
        assert float(out.partition("held out")[2].split()[1].rstrip(",")) > least
    assert "of categories: " in out
    assert "gaps (indicator)" in out


def test_train_says_all_its_settings_in_a_few_lines(folder: Path, run: Run) -> None:
    words = (
        "--hidden 8,4 --activation tanh --dropout 0.1 --optimizer adam --lr 0.01 --weight-decay 0.5 --epochs 3 --batch-size 50"
    )
    more = "--class-weight balanced --test-size 0.3 --no-early-stopping --dtype float64 --seed 7 --threads 1 --drop rooms"
    code, out, err = run("train", folder / "dear.csv", "--target", "dear", *words.split(), *more.split())
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "target      dear, classification: no, yes"
    assert lines[1] == "rows        420 to train on, 0 to stop by, 180 held out"
    assert lines[2].startswith("columns     1 number, 2 of categories: 10 inputs; ")
    assert lines[3] == "network     10-8-4-1, tanh, dropout 0.1, bce, float64, 129 parameters"
    assert lines[4] == "training    adam 0.01, weight decay 0.5, batches of 50, 3 epochs, seed 7, balanced classes"
    assert lines[5] == "epochs      3"
    assert len(lines) == 7


def test_the_same_seed_gives_the_same_file_and_another_one_another(folder: Path, tmp_path: Path, run: Run) -> None:
    files = []
    for seed, threads in ((1, 1), (1, 2), (2, 1)):
        files.append(tmp_path / f"{len(files)}.safetensors")
        words = ["--epochs", 3, "--seed", seed, "--threads", threads, "--out", files[-1]]
        assert run("train", folder / "houses.csv", "--target", "price", *words)[0] == 0
    first, again, other = (file.read_bytes() for file in files)
    assert first == again != other


def test_a_rare_class_is_in_each_part_and_its_weight_counts(tmp_path: Path, run: Run) -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [1900, 100])  # at 2, nineteen times as rare and 7.4 times as dense
    pd.DataFrame({"x": rng.standard_normal(2000) + 2 * y, "y": y}).to_csv(tmp_path / "rare.csv", index=False)
    found = []
    for how in ([], ["--class-weight", "balanced"]):
        words = ["--test-size", 0.5, "--epochs", 50, "--lr", 0.01, "--out", tmp_path / "rare.safetensors"]
        assert run("train", tmp_path / "rare.csv", "--target", "y", *words, *how)[0] == 0
        table = fastmlp.load(tmp_path / "rare.safetensors")
        assert table.target.classes.tolist() == [0, 1]
        found.append(table.predict({"x": [2.0]})[0])
    assert found == [0, 1]


def test_what_a_training_consists_of(folder: Path) -> None:
    """Splits keep each class; the validation has the classes' weights; the model is the best epoch's."""
    y = np.array([0] * 50 + [1] * 3 + [2])
    for part in (0.2, 0.5, 0.9):
        kept, aside = train._split(y, np.random.default_rng(0).permutation(54), part, True)
        assert set(y[kept]) == {0, 1, 2}
        assert sorted([*kept, *aside]) == list(range(54))
        assert (y[aside] == 0).sum() == round(50 * part)
    options = cli.parser().parse_args(
        ["train", "", "--target", "y", "--class-weight", "balanced", "--lr", "0.05", "--hidden", "4"]
    )
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [80, 20])
    rows = train.Rows({"x": rng.standard_normal(100) + y}, y)
    val = rows.take(np.arange(0, 100, 7))
    table = train._table(rows, np.array([0, 1]), options, rng)
    X, Xv = (table.preparation.transform(some.columns, "float32") for some in (rows, val))
    np.testing.assert_array_equal(table.model.predict(X), 0.5)  # before: a constant
    history = train._fit(table, X, rows, val, options, rng)
    weighted = table.model.loss(Xv, val.y, sample_weight=np.where(val.y == 1, 4.0, 1.0))
    assert min(history["val_loss"]) == pytest.approx(weighted, rel=1e-6)
    assert weighted != pytest.approx(table.model.loss(Xv, val.y), rel=1e-2)


def test_what_training_has_not_seen_has_the_mean_effect(folder: Path) -> None:
    table = fastmlp.load(folder / "houses.safetensors")
    inputs, W = table.preparation.inputs, table.model.weights[0]
    seen = [inputs.index("garden=False"), inputs.index("garden=True")]
    unseen = W[inputs.index("garden=*")]
    share = (unseen - W[seen[0]]) / (W[seen[1]] - W[seen[0]])
    np.testing.assert_allclose(share, share[0], rtol=1e-2)
    assert 0.2 < share[0] < 0.4  # three gardens in ten


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (["b", "a", "c"], "auto", ["a", "b", "c"]),
        ([3, 1, 10], "auto", [1, 3, 10]),
        ([0.5, 1.5, 2.0], "auto", None),
        ([0.5, 1.5, 2.0], "classification", ["0.5", "1.5", "2.0"]),
        ([3, 1, 10], "regression", None),
        (["01", "02", "03"], "auto", ["01", "02", "03"]),
        (["True", "False"], "auto", ["False", "True"]),
        (range(30), "auto", None),
    ],
)
def test_a_target_is_a_class_or_a_number(values: Any, task: str, classes: Any, tmp_path: Path, run: Run) -> None:
    targets = [str(value) for value in values] * (60 // len(values))
    pd.DataFrame({"x": range(len(targets)), "y": targets}).to_csv(tmp_path / "data.csv", index=False)
    words = ["--target", "y", "--task", task, "--epochs", 1, "--test-size", 0, "--out", tmp_path / "m.safetensors"]
    assert run("train", tmp_path / "data.csv", *words)[0] == 0
    table = fastmlp.load(tmp_path / "m.safetensors")
    assert (table.target.classes is None) == (classes is None)
    if classes is not None:
        assert table.target.classes.tolist() == classes
        code, out, _ = run("predict", tmp_path / "m.safetensors", tmp_path / "data.csv", "--proba")
        lines = out.splitlines()
        assert (code, lines[0].split(",")) == (0, ["y", *[f"probability of {label}" for label in classes]])
        assert {line.split(",")[0] for line in lines[1:]} <= {str(label) for label in classes}
        np.testing.assert_allclose([sum(map(float, line.split(",")[1:])) for line in lines[1:]], 1, rtol=1e-6)


def test_missing_values_are_treated_as_asked(folder: Path, tmp_path: Path, run: Run) -> None:
    def one(missing: str) -> tuple[str, Any]:
        words = ["--missing", missing, "--epochs", 1, "--out", tmp_path / "m.safetensors"]
        code, out, _ = run("train", folder / "houses.csv", "--target", "price", *words)
        assert code == 0
        return out, fastmlp.load(tmp_path / "m.safetensors")

    frame = houses()
    clean, holes = frame.dropna(), int(frame.isna().any(axis=1).sum())
    out, table = one("drop")
    assert f"{holes} with gaps left out" in out
    assert table.preparation.inputs[-5:] == ["size", "rooms", "garden=False", "garden=True", "garden=*"]
    assert len(table.predict(clean)) == len(clean)
    with pytest.raises(ValueError, match="has no value in row 1: the model was trained with --missing drop"):
        table.predict({"city": [None], "size": [1], "rooms": [1], "garden": [True]})
    _, table = one("mean")
    assert "size is missing" not in table.preparation.inputs
    size = next(column for column in table.preparation.columns if column.name == "size")
    row = {"city": ["Rome"], "rooms": [3], "garden": [True]}
    assert table.predict({**row, "size": [None]}) == pytest.approx(table.predict({**row, "size": [size.mean]}), rel=1e-6)
    _, table = one("indicator")
    assert {"size is missing", "rooms is missing", "city is missing"} <= {*table.preparation.inputs}
    assert "garden is missing" not in table.preparation.inputs


def test_numbers_become_categories_when_asked(folder: Path, tmp_path: Path, run: Run) -> None:
    words = ["--categorical", "rooms", "--epochs", 1, "--out", tmp_path / "m.safetensors"]
    assert run("train", folder / "houses.csv", "--target", "price", *words)[0] == 0
    found = [name for name in fastmlp.load(tmp_path / "m.safetensors").preparation.inputs if name.startswith("rooms")]
    assert found == [*[f"rooms={n}.0" for n in range(1, 7)], "rooms is missing", "rooms=*"]


# ---- predict ---------------------------------------------------------------------------------------------------------


def test_predictions_are_the_loaded_tables_in_the_rows_order(folder: Path, tmp_path: Path, run: Run) -> None:
    frame = houses()
    table = fastmlp.load(folder / "houses.safetensors")
    want = table.predict(frame)
    code, out, err = run("predict", folder / "houses.safetensors", folder / "houses.csv")
    assert (code, err, out.splitlines()[0]) == (0, "", "price")
    np.testing.assert_allclose([float(line) for line in out.splitlines()[1:]], want, rtol=1e-5)
    mixed = frame[["garden", "rooms", "city", "size"]].assign(more="x")[::-1]  # other order, another column, no target
    mixed.to_csv(tmp_path / "mixed.tsv", sep="\t", index=False)
    code, _, _ = run("predict", folder / "houses.safetensors", tmp_path / "mixed.tsv", "--out", tmp_path / "out.csv")
    assert code == 0
    np.testing.assert_allclose(pd.read_csv(tmp_path / "out.csv").price[::-1], want, rtol=1e-5)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["data.csv.gz", "data.parquet", "data.txt"])
def test_other_files_give_the_same(name: str, folder: Path, tmp_path: Path, run: Run) -> None:
    frame = houses()
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
        frame.to_parquet(tmp_path / name)
    else:
        frame.to_csv(tmp_path / name, index=False, sep=";" if name == "data.txt" else ",")
    how = ["--sep", ";"] if name == "data.txt" else []
    found = run("predict", folder / "houses.safetensors", tmp_path / name, *how)[1].splitlines()
    want = run("predict", folder / "houses.safetensors", folder / "houses.csv")[1].splitlines()
    np.testing.assert_allclose([float(line) for line in found[1:]], [float(line) for line in want[1:]], rtol=1e-5)


def test_classes_and_their_probabilities(folder: Path, run: Run) -> None:
    code, out, _ = run("predict", folder / "dear.safetensors", folder / "dear.csv", "--proba")
    assert code == 0
    table, frame = fastmlp.load(folder / "dear.safetensors"), pd.read_csv(folder / "dear.csv")
    lines = [line.split(",") for line in out.splitlines()]
    assert lines[0] == ["dear", "probability of no", "probability of yes"]
    probabilities = table.predict_proba(frame)
    np.testing.assert_allclose([[float(n) for n in line[1:]] for line in lines[1:]], probabilities, rtol=1e-5, atol=1e-7)
    assert [line[0] for line in lines[1:]] == table.predict(frame).tolist()
    assert (table.predict(frame) == frame.dear).mean() > 0.85


# ---- info, convert, warmup, bench ------------------------------------------------------------------------------------


def test_info_says_what_is_in_a_file(folder: Path, tmp_path: Path, run: Run) -> None:
    code, out, _ = run("info", folder / "dear.safetensors")
    assert code == 0
    for said in ("kind        table, format version 1, by fastmlp", "12-64-64-1", "relu, relu, sigmoid", "bce", "float32"):
        assert said in out
    assert "target      dear: classes no, yes" in out
    assert "  city: category, Berlin, Paris, Rome, with gaps" in out
    found = json.loads(run("info", folder / "dear.safetensors", "--json")[1])
    table = fastmlp.load(folder / "dear.safetensors")
    assert found["network"]["sizes"] == list(table.model.sizes)
    assert (found["parameters"], found["bytes"]) == (table.model.params.size, (folder / "dear.safetensors").stat().st_size)
    assert found["target"] == {"name": "dear", "classes": ["no", "yes"]}
    assert [column["name"] for column in found["columns"]] == ["city", "size", "rooms", "garden"]
    fastmlp.Model([2, 3, 1], rng=0).save(tmp_path / "plain.safetensors")
    plain = json.loads(run("info", tmp_path / "plain.safetensors", "--json")[1])
    assert (plain["kind"], plain["parameters"], "columns" in plain) == ("model", 13, False)


@pytest.mark.parametrize("name", ["houses", "dear"])
def test_a_converted_table_takes_raw_numbers(name: str, folder: Path, tmp_path: Path, run: Run) -> None:
    code, out, err = run("convert", folder / f"{name}.safetensors", tmp_path / "net.py")
    assert (code, out) == (0, "")
    table = fastmlp.load(folder / f"{name}.safetensors")
    listed = [line.split(maxsplit=1)[1] for line in err.splitlines()[1:]]
    assert listed == table.preparation.inputs
    rows = [("Paris", 120.0, 3.0, True), ("Rome", 55.5, 1.0, False), ("nowhere", 80.0, 5.0, False)]
    raw = np.zeros((3, len(listed)))
    for i, (city, size, rooms, garden) in enumerate(rows):
        other = "city=*" if city == "nowhere" else f"city={city}"
        for inputs, value in ((other, 1), ("size", size), ("rooms", rooms), (f"garden={garden}", 1)):
            raw[i, listed.index(inputs)] = value
    program: dict[str, Any] = {}
    exec((tmp_path / "net.py").read_text(), program)
    frame = pd.DataFrame(rows, columns=["city", "size", "rooms", "garden"])
    want = table.predict(frame) if name == "houses" else table.predict_proba(frame)[:, 1]
    np.testing.assert_allclose(program["predict"](raw)[:, 0], want, rtol=1e-3)


def test_convert_writes_c_and_keeps_a_plain_model(folder: Path, tmp_path: Path, run: Run) -> None:
    model = fastmlp.Model([2, 3, 1], rng=0)
    model.save(tmp_path / "plain.safetensors")
    assert run("convert", tmp_path / "plain.safetensors", tmp_path / "net.h") == (0, "", "")
    fastmlp.to_c(model, tmp_path / "want.h")
    assert (tmp_path / "net.h").read_text() == (tmp_path / "want.h").read_text()
    assert run("convert", tmp_path / "plain.safetensors", tmp_path / "copy.safetensors")[0] == 0
    np.testing.assert_array_equal(fastmlp.load(tmp_path / "copy.safetensors").params, model.params)
    assert run("convert", folder / "dear.safetensors", tmp_path / "copy.safetensors")[0] == 0
    assert (tmp_path / "copy.safetensors").read_bytes() == (folder / "dear.safetensors").read_bytes()


DATA = Path(__file__).parent / "data"
OTHERS = [
    (DATA / "onnx" / "torch_script_tanh.onnx", fastmlp.from_onnx, {}),
    (DATA / "torch" / "state_dict.pt", fastmlp.from_torch, {"activations": "tanh", "loss": "mse"}),
    (DATA / "keras" / "plain-float32-3.15.keras", fastmlp.from_keras, {"loss": "mae"}),
]


@pytest.mark.parametrize(("path", "function", "how"), OTHERS, ids=[path.suffix for path, _, _ in OTHERS])
def test_convert_reads_other_formats(path: Path, function: Any, how: dict[str, str], tmp_path: Path, run: Run) -> None:
    words = [word for name, value in how.items() for word in (f"--{name}", value)]
    assert run("convert", path, tmp_path / "m.safetensors", *words) == (0, "", "")
    want, found = function(path, **how), fastmlp.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(found.params, want.params)
    assert repr(found) == repr(want)


def test_convert_writes_onnx(folder: Path, tmp_path: Path, run: Run) -> None:
    code, _, err = run("convert", folder / "houses.safetensors", tmp_path / "net.onnx")
    assert (code, err.splitlines()[0]) == (0, "The network alone is written. Its output is price. Its inputs are:")
    np.testing.assert_array_equal(
        fastmlp.from_onnx(tmp_path / "net.onnx").params, fastmlp.load(folder / "houses.safetensors").raw().params
    )


def test_convert_knows_what_fastmlp_has() -> None:
    assert convert.here(convert.READERS) == [*convert.READERS]
    assert convert.here(convert.WRITERS) == [*convert.WRITERS]
    assert convert.here({".new": "from_what_is_not_there", ".onnx": "from_onnx"}) == [".onnx"]


def test_bench_measures_both(run: Run) -> None:
    before = fastmlp.get_num_threads()
    code, out, _ = run("bench", "--sizes", "8-16-1", "--batch", 32, "--seconds", 0.05, "--threads", 1)
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert [line[0] for line in lines[1:]] == ["train", "predict"]
    # 2 for each multiply-add: 144 weights forward and back, and the 16 of the second layer for its inputs.
    for line, flops in zip(lines[1:], (32 * 2 * (144 + 144 + 16), 32 * 2 * 144), strict=True):
        a_second, rate = float(line[1].replace(",", "")), float(line[-2])
        assert rate == pytest.approx(a_second * flops / 1e9, abs=0.006, rel=1e-3)
    assert fastmlp.get_num_threads() == before


@pytest.mark.parametrize("words", [[], ["--dtype", "float32"]])
def test_warmup_says_where_the_code_is(words: list[str], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []
    monkeypatch.setattr(fastmlp, "warmup", asked.append)  # which compiles for a minute, in a test of its own
    code, out, _ = run("warmup", *words)
    assert code == 0
    assert " s; the code is in " in out
    assert asked == [words[1] if words else None]


# ---- the process -----------------------------------------------------------------------------------------------------


def process(*words: Any, **how: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fastmlp", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **how)


def test_help_explains_each_command_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for command in cli.COMMANDS:
        with pytest.raises(SystemExit) as left:
            cli.main([command.NAME, "--help"])
        assert left.value.code == 0
        text = capsys.readouterr().out
        assert f"  fastmlp {command.NAME} " in text.partition("example:")[2]
        assert command.SUMMARY in " ".join(text.split())


def test_as_a_module(folder: Path) -> None:
    found = process("predict", folder / "dear.safetensors", folder / "dear.csv")
    assert (found.returncode, found.stderr, len(found.stdout.splitlines())) == (0, "", 601)
    found = process("predict", folder / "no.safetensors", folder / "dear.csv")
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr == f"fastmlp: error: {folder / 'no.safetensors'}: No such file or directory\n"


def test_a_usage_error_is_argparses(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        [],
        ["train"],
        ["trian", "data.csv"],
        ["bench", "--sizes", "8-x"],
        ["train", "a.csv", "--target", "y", "--lr", "0"],
    ):
        with pytest.raises(SystemExit) as left:
            cli.main(words)
        assert left.value.code == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith("fastmlp")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals and pipes of POSIX")
def test_when_nobody_reads_it_ends_quietly(folder: Path, tmp_path: Path) -> None:
    pd.concat([houses()] * 100).to_csv(tmp_path / "many.csv", index=False)
    command = [sys.executable, "-m", "fastmlp", "predict", folder / "houses.safetensors", tmp_path / "many.csv"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == "price\n"
        child.stdout.close()
        assert child.stderr.read() == ""
        assert child.wait(60) == 141


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_ends_a_training_and_leaves_no_file(folder: Path, tmp_path: Path) -> None:
    words = ["train", folder / "houses.csv", "--target", "price", "--hidden", "512,512", "--epochs", 10**9, "--out"]
    argv = [str(word) for word in [*words, tmp_path / "m.safetensors", "--no-early-stopping"]]
    # Where this run ignores the signal, a child would too.
    program = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from fastmlp import cli
from fastmlp.cli import convert, train
sys.exit(cli.main({argv}))
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stderr is not None
            assert child.stdout.readline().startswith("target ")
            child.send_signal(signal.SIGINT)
            assert child.wait(120) == 130
            assert child.stderr.read() == "fastmlp: interrupted\n"
        finally:
            child.kill()
    assert list(tmp_path.iterdir()) == []
