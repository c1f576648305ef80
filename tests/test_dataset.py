"""Data as the kernels read it: used where it lies, or converted by pieces; and as much memory as that takes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference

from fastmlp import LBFGS, Adam, Model, checks, schedules
from fastmlp.training import dataset

ROWS, COLUMNS = 103, 5


def mapped(folder: Path, X: np.ndarray, order: Any = "C") -> np.memmap:
    """The array as a read-only memory map."""
    path = folder / "X"
    path.write_bytes(X.tobytes(order))
    return np.memmap(path, X.dtype, "r", shape=X.shape, order=order)


def problem(dtype: Any = np.uint8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.integers(0, 4, (ROWS, COLUMNS)).astype(dtype), rng.integers(0, 3, ROWS)


def net(dtype: Any = "float64") -> Model:
    return Model([COLUMNS, 6, 3], "tanh", "cross_entropy", dtype, rng=1)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pieces of 16 float64 rows; the rows of each that was converted."""
    monkeypatch.setattr(dataset, "WHOLE", 100)
    monkeypatch.setattr(dataset, "PIECE", 16 * COLUMNS * 8)
    sizes = []
    converted = dataset.Data.converted

    def watched(self: dataset.Data, rows: Any) -> np.ndarray:
        X = converted(self, rows)
        if self.pieces:
            sizes.append(len(X))
        return X

    monkeypatch.setattr(dataset.Data, "converted", watched)
    return sizes


# ---- in place --------------------------------------------------------------------------------------------------------


@pytest.mark.small
def test_a_memory_map_is_read_where_it_lies(tmp_path: Path, dtype: Any) -> None:
    X, y = problem(dtype)
    file = mapped(tmp_path, X)
    model = net(dtype)
    whole = dataset.prepare(model.network, file, y, np.ones(ROWS))
    first, last = dataset.split(model.network, file, y, np.ones(ROWS), 0.25, False)
    for data in (whole, first, last):
        assert np.shares_memory(data.X, file)
        assert not data.pieces
    assert np.shares_memory(checks.features(file, COLUMNS, np.dtype(dtype)), file)


@pytest.mark.small
@pytest.mark.parametrize("settings", [{}, {"validation_split": 0.3, "sample_weight": np.arange(ROWS)}])
def test_a_memory_map_trains_as_its_array(settings: dict[str, Any], tmp_path: Path, dtype: Any) -> None:
    X, y = problem(dtype)
    arrays, files = net(dtype), net(dtype)
    want = arrays.fit(X, y, 3, 10, lr=0.1, rng=0, **settings)
    assert dict(files.fit(mapped(tmp_path, X), y, 3, 10, lr=0.1, rng=0, **settings)) == dict(want)
    np.testing.assert_array_equal(files.params, arrays.params)


# ---- by pieces -------------------------------------------------------------------------------------------------------

KINDS = {
    "bytes": (np.uint8, "C"),
    "the other float": (np.float32, "C"),
    "the other endian": (np.dtype(float).newbyteorder(), "C"),
    "columns": (np.float64, "F"),
}


@pytest.mark.small
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, 7, 16, 40, 200])
def test_pieces_in_order_are_the_same_fit(kind: str, batch: int, tmp_path: Path, small_pieces: list[int]) -> None:
    X, y = problem(KINDS[kind][0])
    file = mapped(tmp_path, X, KINDS[kind][1])
    arguments: dict[str, Any] = {"optimizer": Adam(schedules.Cosine(0.1)), "shuffle": False, "metrics": "accuracy"}
    arguments["sample_weight"] = np.arange(ROWS)
    whole, pieces = net(), net()
    want = whole.fit(X.astype(float, order="C"), y, 3, batch, **arguments)
    assert not small_pieces
    got = pieces.fit(file, y, 3, batch, **arguments)
    assert max(small_pieces) <= max(batch, 16)
    np.testing.assert_array_equal(pieces.params, whole.params)
    assert list(got) == list(want)
    for name, column in want.items():
        assert reference.error(got[name], column) < 1e-14


@pytest.mark.small
def test_shuffled_pieces_visit_each_row_once_in_a_new_order(small_pieces: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    X = np.arange(ROWS, dtype=np.float32)[:, None] * np.ones(COLUMNS, np.float32)
    y = np.arange(ROWS) % 3
    model, seen = net(), []

    def watched(job: Any, losses: np.ndarray, look: Any) -> None:
        order = np.arange(len(job.X)) if job.order is None else job.order
        seen.extend(job.X[order, 0].astype(int).tolist())
        assert (job.y[order, 0] == job.X[order, 0].astype(int) % 3).all()

    with monkeypatch.context() as patch:
        patch.setattr(model._engine, "train", watched)
        model.fit(X, y, 3, 8, rng=0)
    orders = np.reshape(seen, (3, ROWS))
    assert (np.sort(orders) == np.arange(ROWS)).all()
    assert len({tuple(order) for order in [*orders.tolist(), range(ROWS)]}) == 4
    generator = np.random.default_rng(checks.seed(0) % 2**64)
    np.testing.assert_array_equal(orders, [generator.permutation(ROWS) for _ in range(3)])
    assert model.fit(X, y, 3, 8, lr=1e-3, rng=0)["loss"] == net().fit(X, y, 3, 8, lr=1e-3, rng=0)["loss"]
    assert model.fit(X, y, 3, 8, lr=1e-3)["loss"] != net().fit(X, y, 3, 8, lr=1e-3)["loss"]


@pytest.mark.small
@pytest.mark.parametrize("weighted", [False, True])
def test_validation_by_pieces(weighted: bool, small_pieces: list[int]) -> None:
    X, y = problem()
    w = [np.arange(ROWS) % 4] * weighted
    model, other = net(), net()
    got = model.fit(X.astype(float), y, lr=0.1, validation_data=(X, y, *w), metrics="accuracy")
    assert small_pieces == [16] * 6 + [7] + [16] * 6 + [7]
    want = other.fit(X.astype(float), y, lr=0.1, validation_data=(X.astype(float), y, *w), metrics="accuracy")
    assert got["val_loss"][0] == pytest.approx(want["val_loss"][0], rel=1e-14)
    assert got["val_accuracy"] == want["val_accuracy"]
    split = net().fit(X, y, 2, 8, lr=0.1, validation_split=0.3, shuffle=False)
    halves = net().fit(X.astype(float), y, 2, 8, lr=0.1, validation_split=0.3, shuffle=False)
    assert reference.error(split["val_loss"], halves["val_loss"]) < 1e-14


@pytest.mark.small
def test_a_full_batch_is_converted_as_a_whole(small_pieces: list[int]) -> None:
    X, y = problem()
    model, other = net(), net()
    model.fit(X, y, 3, lr=0.1)
    assert not small_pieces
    other.fit(X.astype(float), y, 3, lr=0.1)
    np.testing.assert_array_equal(model.params, other.params)


@pytest.mark.small
@pytest.mark.parametrize("settings", [{}, {"validation_split": 0.3}])
def test_l_bfgs_takes_whole_batches_of_any_size(settings: dict[str, Any], small_pieces: list[int]) -> None:
    """Also if `batch_size` says so: its gradient is over all rows at once, as the kernels read them."""
    X, y = problem()
    arguments: dict[str, Any] = {"epochs": 3, "batch_size": ROWS, "optimizer": LBFGS(), **settings}
    model, other = net(), net()
    assert model.fit(X, y, **arguments)["loss"] == other.fit(X.astype(float), y, **arguments)["loss"]
    np.testing.assert_array_equal(model.params, other.params)
    assert not small_pieces


LARGE = """
import resource, sys
import numpy as np, fastmlp

rows, columns = 200_000, 2_000
X = np.memmap(sys.argv[1], np.uint8, "r", shape=(rows, columns))
y = np.zeros(rows, np.int64)
small, few = np.zeros((20_000, columns), np.uint8), y[:20_000]
model = fastmlp.Model([columns, 2], loss="cross_entropy", dtype="float32", rng=0)
model.fit(small, few, batch_size=1000, metrics="accuracy")  # compiled
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
most = int(status["VmData"].split()[0]) * 1024 + 150 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (most, most))
for shuffle in (False, True):
    history = model.fit(X, y, batch_size=1000, lr=0.1, shuffle=shuffle, metrics="accuracy", validation_split=0.2)
    print(history["loss"][0] < 1, history["val_accuracy"])
try:
    np.ones((rows, columns), np.float32)
except MemoryError:
    print("no room")
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory are Linux's")
def test_a_file_larger_than_memory_trains(tmp_path: Path, python: Callable[..., str]) -> None:
    """0.4 GB of zeros that take no place on the disk, 1.6 GB once converted, with 150 MB to do it in."""
    path = tmp_path / "X"
    with open(path, "wb") as file:
        os.truncate(file.fileno(), 200_000 * 2_000)
    code = LARGE.replace("sys.argv[1]", repr(str(path)))
    assert python(code).split("\n")[:3] == ["True [1.0]", "True [1.0]", "no room"]
