"""Tables: what becomes of their columns, and their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmlp
from fastmlp.files import models
from fastmlp.files.safetensors import Reader
from fastmlp.tabular import cells, files
from fastmlp.tabular.columns import MOST, Category, Number, Preparation, Target
from fastmlp.tabular.table import Table

pytestmark = pytest.mark.small


def example(classes: Any = None, dtype: Any = "float64") -> Table:
    """A table with all that a file may have."""
    columns = [Number("x", 2.0, 4.0, True), Category("c", ("a", "ö\nb"), True), Number("z", -1e3, 0.5), Category("d", ())]
    outputs = 1 if classes is None or len(classes) == 2 else len(classes)
    loss: Any = "mse" if classes is None else "bce" if outputs == 1 else "cross_entropy"
    model = fastmlp.Model([8, 5, outputs], "tanh", loss, dtype, rng=0)
    return Table(model, Preparation(columns, "indicator"), Target("y", classes, *((10.0, 3.0) if classes is None else ())))


# ---- cells -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "column", [[1, 2.5, None], ["1", " 2.5 ", ""], [1, np.float32(2.5), float("nan")], np.array([1, 2.5, np.nan])]
)
def test_numbers_of_any_kind(column: Any) -> None:
    np.testing.assert_array_equal(cells.numbers("x", column), [1, 2.5, np.nan])
    np.testing.assert_array_equal(cells.guessed("x", column), [1, 2.5, np.nan])


def test_texts_of_any_kind() -> None:
    column = ["a ", 3, 3.0, np.int8(3), True, np.bool_(False), 0.1, None, " "]
    assert cells.texts("x", column).tolist() == ["a", "3", "3", "3", "True", "False", "0.1", None, None]


def test_pandas_columns() -> None:
    pd = pytest.importorskip("pandas")
    for kind in ("int64", "Int64", "float32", "Float64", "object", "string"):
        series = pd.Series([1, 2, None if kind[0] in "IFos" else 3], dtype=kind)
        np.testing.assert_array_equal(cells.numbers("x", series), [1, 2, np.nan if kind[0] in "IFos" else 3])
    assert cells.texts("x", pd.Series(["b", None, "a"], dtype="category")).tolist() == ["b", None, "a"]
    assert cells.guessed("x", pd.Series([True, None, False], dtype="boolean")).tolist() == ["True", None, "False"]


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ([1, "two"], "column 'x' must hold numbers, got 'two' in row 2"),
        ([1, True], "column 'x' must hold numbers, got True in row 2"),
        (["1_0"], "column 'x' must hold numbers, got '1_0' in row 1"),
        ([0, "inf"], "column 'x' must hold finite numbers, got inf in row 2"),
        ([0, -np.inf], "column 'x' must hold finite numbers, got -inf in row 2"),
        ([[1], [2]], r"column 'x' must be a vector, got shape \(2, 1\)"),
        (["y" * 99], "got 'y{35}... in row 1"),
    ],
)
def test_what_is_no_number(column: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        cells.numbers("x", column)


def test_what_is_no_category() -> None:
    with pytest.raises(ValueError, match=r"column 'x' must hold numbers, strings or bools, got \(1, 2\) in row 2"):
        cells.texts("x", ["a", (1, 2)])


def test_a_few_words_among_many_numbers_are_taken_for_mistakes() -> None:
    column = [*map(str, range(20)), "oops"]
    with pytest.raises(ValueError, match="column 'x' holds numbers, but 'oops' in row 21"):
        cells.guessed("x", column)
    assert cells.guessed("x", [*"0123", "oops"]).tolist() == [*"0123", "oops"]


# ---- preparation -----------------------------------------------------------------------------------------------------


def prepared(columns: dict[str, Any], missing: str = "indicator") -> Preparation:
    return Preparation.of({name: cells.guessed(name, column) for name, column in columns.items()}, missing)


def test_numbers_are_standardised_and_categories_spread() -> None:
    data = {"x": [1.0, 3.0, None, 8.0], "c": ["b", "a", "b", "a"], "k": [7, 7, 7, 7]}
    made = prepared(data)
    assert made.inputs == ["x", "x is missing", "c=a", "c=b", "c=*", "k"]
    out = made.transform(made.read(data), np.float64)
    np.testing.assert_allclose(out[[0, 1, 3], 0].mean(), 0, atol=1e-15)
    np.testing.assert_allclose(out[[0, 1, 3], 0].std(), 1)
    assert out[2, :2].tolist() == [0, 1]
    assert out[:, 1].tolist() == [0, 0, 1, 0]
    assert out[:, 2:5].tolist() == [[0, 1, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0]]
    assert out[:, 5].tolist() == [0, 0, 0, 0]
    unseen = made.transform(made.read({"x": [None], "c": [None], "k": [None]}), np.float32)
    assert unseen.tolist() == [[0, 1, 0, 0, 1, 0]]


def test_rare_and_too_many_categories_share_an_input() -> None:
    data = {"c": [f"{i:03}x" for i in range(MOST + 50) for _ in range(2)] + ["once"]}
    (column,) = prepared(data).columns
    assert isinstance(column, Category)
    assert column.categories == tuple(f"{i:03}x" for i in range(MOST))
    assert prepared({"c": ["a", "b", "c", "c"]}).inputs == ["c=c", "c=*"]


@pytest.mark.parametrize("value", [1e-300, 1e150, 3.3])
def test_constant_columns_of_any_size_are_zero(value: float) -> None:
    made = prepared({"x": [value] * 7})
    np.testing.assert_allclose(made.transform(made.read({"x": [value] * 7}), np.float64), 0, atol=1e-15)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"x": [1]}, "the data has no column 'c', which the model needs; it has x"),
        ({"x": [1, 2], "c": ["a"]}, r"the columns must be of one length, got \[1, 2\]"),
        (np.ones((2, 3)), r"the data must have 2 columns, x, c; got shape \(2, 3\)"),
        (3.0, r"the data must have 2 columns, x, c; got shape \(\)"),
    ],
)
def test_data_that_does_not_fit(data: Any, said: str) -> None:
    made = prepared({"x": [1.0, 2.0], "c": ["a", "b"]})
    with pytest.raises(ValueError, match=said):
        made.read(data)


@pytest.mark.parametrize("missing", ["error", "drop"])
def test_without_gaps_in_training_there_may_be_none_later(missing: str) -> None:
    made = prepared({"x": [1.0, 2.0], "c": ["a", "a"]}, missing)
    for data, name in (({"x": [1, None], "c": ["a", "a"]}, "x"), ({"x": [1, 2], "c": ["a", None]}, "c")):
        with pytest.raises(ValueError, match=f"column '{name}' has no value in row 2"):
            made.read(data)


# ---- tables ----------------------------------------------------------------------------------------------------------

DATA = {"x": [1.0, None, 3.0], "c": ["a", None, "new"], "z": [-1000, -999.5, -998], "d": ["p", "q", None], "more": [0, 0, 0]}


def test_predictions_are_the_networks_put_back() -> None:
    table = example()
    X = table.preparation.transform(table.preparation.read(DATA), np.float64)
    np.testing.assert_array_equal(table.predict(DATA), table.model.predict(X)[:, 0] * 3 + 10)
    pd = pytest.importorskip("pandas")
    np.testing.assert_array_equal(table.predict(pd.DataFrame(DATA)), table.predict(DATA))
    rows = np.array([DATA[name] for name in "xczd"], object).T
    np.testing.assert_array_equal(table.predict(rows), table.predict(DATA))
    assert table.predict({name: [] for name in DATA}).shape == (0,)
    with pytest.raises(ValueError, match="'y' is a number, which has no probabilities"):
        table.predict_proba(DATA)


@pytest.mark.parametrize("classes", [["no", "yes"], ["a", "b", "c"], [-1, 5], [False, True]])
def test_labels_are_the_most_probable_ones(classes: list[Any]) -> None:
    dtype = object if isinstance(classes[0], str) else None
    table = example(np.array(classes, dtype))
    found = table.predict_proba(DATA)
    assert found.shape == (3, len(classes))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert table.predict(DATA).tolist() == [classes[i] for i in found.argmax(axis=1)]


@pytest.mark.parametrize("classes", [None, np.array(["no", "yes"], object)])
def test_the_raw_network_takes_numbers_as_they_are(classes: Any) -> None:
    table = example(classes)
    X = table.preparation.transform(table.preparation.read(DATA), np.float64)
    mean, scale = table.preparation.spread()
    want = table.predict(DATA) if classes is None else table.predict_proba(DATA)[:, 1]
    np.testing.assert_allclose(table.raw().predict(X * scale + mean)[:, 0], want, rtol=1e-10)


def test_inputs_that_no_row_had_get_the_mean_effect_of_the_others() -> None:
    columns = [Category("c", ("a", "b")), Category("d", ("p",))]
    table = Table(fastmlp.Model([5, 3, 1], rng=0), Preparation(columns, "mean"), Target("y"))
    before = table.model.weights[0].copy()
    X = np.array([[1, 0, 0, 1, 0], [0, 1, 0, 1, 0], [1, 0, 0, 0, 1], [1, 0, 0, 1, 0]], float)
    table.settle(X)
    W = table.model.weights[0]
    np.testing.assert_allclose(W[2], (3 * W[0] + W[1]) / 4)
    np.testing.assert_array_equal(W[[0, 1, 3, 4]], before[[0, 1, 3, 4]])


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [None, ["no", "yes"], ["a", "b", "ü\0"], [-(2**60), 5], [False, True]])
def test_a_file_gives_the_same_table(classes: Any, dtype: str, tmp_path: Path) -> None:
    found = None if classes is None else np.array(classes, object if isinstance(classes[0], str) else None)
    table = example(found, dtype)
    table.save(tmp_path / "t.safetensors")
    loaded = fastmlp.load(tmp_path / "t.safetensors")
    assert isinstance(loaded, Table)
    assert repr(loaded) == repr(table)
    assert loaded.preparation.columns == table.preparation.columns
    assert loaded.preparation.missing == table.preparation.missing
    assert loaded.predict(DATA).tolist() == table.predict(DATA).tolist()
    assert loaded.predict(DATA).dtype == table.predict(DATA).dtype
    if found is not None:
        np.testing.assert_array_equal(loaded.predict_proba(DATA), table.predict_proba(DATA))
    assert b"pandas" not in (tmp_path / "t.safetensors").read_bytes()
    safetensors = pytest.importorskip("safetensors.numpy")
    assert set(safetensors.load_file(tmp_path / "t.safetensors")) >= {"0.weight", "table.numbers", "table.categories"}


def _with(value: Any, *path: Any) -> Any:
    def change(about: dict[str, Any]) -> None:
        at: Any = about
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_with([], "table", "names"), "must have a names of type dict"),
        (_with("text", "table", "columns", 0, "kind"), "column 'x' must be a number, or a category"),
        (_with("number", "table", "columns", 1, "kind"), "must be a number, or a category"),
        (_with(1, "table", "columns", 0, "gaps"), "must have a gaps of type bool, got int"),
        (_with(False, "table", "columns", 0, "gaps"), "need a network of 7 inputs and 1 outputs"),
        (_with(1, "table", "columns", 1, "categories"), "have all of its categories"),
        (_with(3, "table", "columns", 1, "categories"), "must have (3|-1) different categories"),
        (_with(-1, "table", "columns", 1, "categories"), "must have (3|-1) different categories"),
        (_with([], "table", "columns"), "a name for each column"),
        (_with({}, "table", "columns", 0), "must have a kind of type str"),
        (_with(None, "table", "columns", 0), "must be an object, got NoneType"),
        (_with("never", "table", "missing"), "missing must be one of error, mean, indicator, drop; got 'never'"),
        (_with({}, "table", "target"), "no tensor 'table.target'"),
        (_with("I64", "table", "target", "classes", "kind"), "table.classes"),
        (_with("object", "table", "categories", "kind"), None),
        (_with(1, "table", "more"), "got 'more' too"),
        (_with({}, "table"), "table must have a columns of type list"),
    ],
)
def test_a_description_that_is_wrong(change: Any, said: str | None, tmp_path: Path) -> None:
    described, tensors = files.described(example(np.array(["no", "yes"], object)))
    about = json.loads(json.dumps(described))
    change(about)
    models.write(tmp_path / "t.safetensors", tensors, "table", **about)
    if said is None:  # as it was
        fastmlp.load(tmp_path / "t.safetensors")
        return
    with pytest.raises(ValueError, match=r"t\.safetensors cannot be read: .*" + said):
        fastmlp.load(tmp_path / "t.safetensors")


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        ("table.numbers", np.array([[1.0, 0.0], [1.0, 1.0]]), "finite means and positive scales"),
        ("table.numbers", np.array([[np.nan, 1.0], [1.0, 1.0]]), "finite means and positive scales"),
        ("table.numbers", np.ones((3, 2)), "'table.numbers' must be F64"),
        ("table.names", np.frombuffer(b"xcxdy", np.uint8), "of different names"),
        ("table.names.offsets", np.arange(3), "names"),
        ("table.target", np.array([0.0, -1.0]), "a finite mean and a positive scale"),
        ("table.target", np.array([np.inf, 1.0]), "a finite mean and a positive scale"),
        ("table.categories", np.frombuffer(b"a" * 6, np.uint8), "categories"),
        ("table.more", np.ones(1), "a tensor 'table.more' that its description does not explain"),
    ],
)
def test_tensors_that_are_wrong(name: str, array: np.ndarray, said: str, tmp_path: Path) -> None:
    described, tensors = files.described(example())
    models.write(tmp_path / "t.safetensors", tensors | {name: array}, "table", **described)
    with pytest.raises(ValueError, match=said):
        fastmlp.load(tmp_path / "t.safetensors")


@pytest.mark.parametrize(
    ("classes", "said"), [(["a"], "two or more"), (["a", "a"], "two or more"), ([0.5, 1.5], "two or more")]
)
def test_classes_that_are_wrong(classes: Any, said: str, tmp_path: Path) -> None:
    good = example(np.array(["no", "yes"], object))
    bad = Table(good.model, good.preparation, Target("y", np.array(classes, object if isinstance(classes[0], str) else None)))
    bad.save(tmp_path / "t.safetensors")
    with pytest.raises(ValueError, match=said):
        fastmlp.load(tmp_path / "t.safetensors")


EXPECTED = [
    [0.17396254364682562, 0.6138267884325737, 0.2122106679206007],
    [0.5647338244810349, 0.35383071601508875, 0.08143545950387633],
    [0.6022949280768184, 0.18323569016780722, 0.2144693817553743],
]


def test_the_first_version_is_read() -> None:
    table = fastmlp.load(Path(__file__).parent / "data" / "tabular" / "version-1.safetensors")
    data = {"x": [1.0, None, 3.0], "city": ["Rome", None, "new"], "z": [-1000, -999.5, -998], "d": ["p", "q", None]}
    assert table.preparation.inputs == ["x", "x is missing", "city=Köln", "city=Rome", "city is missing", "city=*", "z", "d=*"]
    np.testing.assert_allclose(table.predict_proba(data), EXPECTED, rtol=1e-12)


def test_many_columns_of_any_name_are_read_again(tmp_path: Path) -> None:
    columns = [Number(f"\u0394 {i}", 0.0, 1.0) for i in range(8000)]
    table = Table(fastmlp.Model([8000, 1], rng=0), Preparation(columns, "mean"), Target("\u0394"))
    table.save(tmp_path / "t.safetensors")
    assert fastmlp.load(tmp_path / "t.safetensors").preparation.columns == table.preparation.columns


def test_the_header_names_its_version(tmp_path: Path) -> None:
    example().save(tmp_path / "t.safetensors")
    with Reader(tmp_path / "t.safetensors") as reader:
        head = json.loads(reader.metadata["fastmlp"])
    assert (head["kind"], head["version"]) == ("table", 1)
