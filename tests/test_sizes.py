"""Sizes at the ends: no rows, one row, more numbers than 32 bits count, very many layers, very wide ones."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference

from fastmlp import SGD, Adam, Model
from fastmlp.kernels import tuning
from fastmlp.kernels.machine.interpreted import INTERPRETED

compiled = pytest.mark.skipif(INTERPRETED, reason="takes minutes in plain Python")
THOROUGH = bool(os.environ.get("FASTMLP_THOROUGH"))
NO_X, NO_Y = np.empty((0, 3)), np.empty((0, 2))

EMPTY: dict[str, Callable[[Model], Any]] = {
    "fit": lambda m: m.fit(NO_X, NO_Y),
    "fit with weights": lambda m: m.fit(NO_X, NO_Y, sample_weight=np.empty(0)),
    "fit by batches": lambda m: m.fit(NO_X, NO_Y, 2, 10),
    "fit_batches": lambda m: m.fit_batches([(NO_X, NO_Y)]),
    "no batches": lambda m: m.fit_batches([]),
    "validation_data": lambda m: m.fit(np.ones((4, 3)), np.ones((4, 2)), validation_data=(NO_X, NO_Y)),
    "step": lambda m: m.step(NO_X, NO_Y),
    "predict": lambda m: m.predict(NO_X),
    "forward": lambda m: m.forward(NO_X),
    "predict to": lambda m: m.predict(NO_X, np.empty((0, 2))),
    "loss": lambda m: m.loss(NO_X, NO_Y),
    "gradient": lambda m: m.gradient(NO_X, NO_Y),
    "backward": lambda m: m.backward(NO_X, NO_Y),
    "no columns": lambda m: m.predict(np.empty((3, 0))),
    "a list": lambda m: m.predict([]),
}


@pytest.mark.small
@pytest.mark.parametrize("name", EMPTY)
def test_no_rows_are_an_error(name: str) -> None:
    model = Model([3, 4, 2], rng=0)
    before = model.params.copy()
    with pytest.raises(ValueError, match=r"X|batches|validation_data") as caught:
        EMPTY[name](model)
    assert "row" in str(caught.value) or "shape" in str(caught.value) or "hold" in str(caught.value)
    np.testing.assert_array_equal(model.params, before)


@pytest.mark.small
@pytest.mark.parametrize("sizes", [(), (3,), (3, 0), (0, 3), (3, 0, 2)])
def test_layers_without_units_are_an_error(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="sizes"):
        Model(sizes)


@pytest.mark.small
def test_weights_without_numbers_are_an_error() -> None:
    for W, b in ((np.empty((0, 2)), np.zeros(2)), (np.empty((2, 0)), np.zeros(0))):
        with pytest.raises(ValueError, match="weights"):
            Model.from_weights([W], [b])


@pytest.mark.small
@pytest.mark.parametrize("sizes", [(1, 1), (1, 3, 1), (5, 7, 4)])
@pytest.mark.parametrize("rows", [1, 2])
def test_one_row_and_one_column(sizes: tuple[int, ...], rows: int, dtype: Any) -> None:
    p = reference.problem(sizes, ["tanh"] * (len(sizes) - 2) + ["identity"], "mse", rows, dtype=str(dtype))
    model = Model.from_weights(p.weights, p.biases, p.activations, "mse")
    want = reference.gradients(p.X, p.y, *p[2:])
    got = model.backward(p.X, p.y)
    bound = reference.BOUND[str(dtype)]
    assert reference.error(model.predict(p.X), reference.forward(p.X, *p[2:5]), 1.0) < bound
    assert reference.error(reference.flat(got.weights, got.biases), reference.flat(want.weights, want.biases), 1.0) < bound
    assert reference.error(got.inputs, want.inputs, 1.0) < bound
    twin = Model.from_weights(p.weights, p.biases, p.activations, "mse")
    # A batch that no data fill is all of them.
    losses = [one.fit(p.X, p.y, 3, batch, rng=0)["loss"] for one, batch in ((model, None), (twin, 10**9))]
    assert losses[0] == losses[1]
    np.testing.assert_array_equal(model.params, twin.params)


@compiled
def test_five_hundred_layers(dtype: Any) -> None:
    sizes = [3, *[4] * 499, 2]
    p = reference.problem(sizes, ["tanh"] * 499 + ["identity"], "mse", 50, dtype=str(dtype))
    weights = [np.eye(*w.shape, dtype=dtype) + w / 20 for w in p.weights]
    model = Model.from_weights(weights, [b / 20 for b in p.biases], p.activations, "mse")
    assert len(model.weights) == 500
    want = reference.gradients(p.X, p.y, model.weights, model.biases, p.activations, "mse")
    got = model.backward(p.X, p.y)
    bound = 1e-9 if dtype == np.float64 else 1e-3
    assert got.loss == pytest.approx(want.loss, rel=bound)
    assert reference.error(reference.flat(got.weights, got.biases), reference.flat(want.weights, want.biases)) < bound
    for batch in (None, 7):
        assert np.isfinite(model.fit(p.X, p.y, 2, batch, optimizer=Adam(1e-4), rng=0)["loss"]).all()
    assert model.summary().count("\n") == 501


@compiled
@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(2, 1_000_000, 2), (1_000_000, 2)])
def test_a_million_wide(sizes: tuple[int, ...]) -> None:
    p = reference.problem(sizes, ["relu"] * (len(sizes) - 2) + ["identity"], "mse", 3, dtype="float32")
    model = Model.from_weights(p.weights, p.biases, p.activations, "mse")
    want = reference.gradients(p.X, p.y, *p[2:])
    got = model.backward(p.X, p.y)
    assert reference.error(model.predict(p.X), reference.forward(p.X, *p[2:5])) < 1e-4
    assert reference.error(reference.flat(got.weights, got.biases), reference.flat(want.weights, want.biases)) < 1e-4
    assert reference.error(got.inputs, want.inputs) < 1e-4
    before = model.params.copy()
    model.step(p.X, p.y, optimizer=SGD(1e-3))
    assert reference.error(before - model.params, 1e-3 * reference.flat(want.weights, want.biases)) < 1e-2


def _holes(path: Path, shape: tuple[int, int], dtype: Any) -> np.memmap:
    """A file of zeros that takes no room on the disk."""
    with open(path, "wb") as file:
        file.truncate(shape[0] * shape[1] * np.dtype(dtype).itemsize)
    return np.memmap(path, dtype, "r+", shape=shape)


def _folded(path: Path, shape: tuple[int, int], dtype: Any) -> np.ndarray:
    """An array whose every 67 MB lie in the same memory: what is written last stays. A power of two would hide a lost bit."""
    piece = 1025 * (1 << 16)
    size = shape[0] * shape[1] * np.dtype(dtype).itemsize
    whole = np.frombuffer(mmap.mmap(-1, -(-size // piece) * piece), np.uint8)
    path.write_bytes(bytes(piece))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    with open(path, "r+b") as file:
        for start in range(0, len(whole), piece):
            at = whole.ctypes.data + start
            here = libc.mmap(at, piece, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | 0x10, file.fileno(), 0)  # MAP_FIXED
            assert here == at
    return whole[:size].view(dtype).reshape(shape)


@pytest.fixture
def in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions are not cut into calls that give signals their turn."""
    monkeypatch.setattr(tuning, "CALL_TURN", 1 << 60)


@compiled
@pytest.mark.slow
@pytest.mark.parametrize(
    "file", [False, pytest.param(True, marks=pytest.mark.skipif(not THOROUGH, reason="8 GB of the system's cache"))]
)
def test_more_numbers_than_32_bits_count(file: bool, in_one_call: None, tmp_path: Path) -> None:
    """A prediction, a loss and a step that reach the far end of an X of more than 2**31 numbers, most of them in no memory."""
    columns = 1 << 14
    rows = (1 << 31) // columns + 3
    X = _holes(tmp_path / "X", (rows, columns), np.float32) if file else np.zeros((rows, columns), np.float32)
    assert X.size > 2**31
    rng = np.random.default_rng(0)
    marked = np.array([0, 1, rows // 2, rows - 4, rows - 1])
    X[marked] = rng.standard_normal((len(marked), columns))
    model = Model([columns, 1], rng=0, dtype="float32")
    model.biases[0][...] = 0.5
    out = model.predict(X)
    want = reference.forward(X[marked], model.weights, model.biases, ["identity"])
    assert reference.error(out[marked], want) < 1e-4
    out[marked] = 0.5
    np.testing.assert_array_equal(out, np.float32(0.5))

    y = np.full((rows, 1), 0.5, np.float32)
    y[marked] = 2.0
    loss = model.loss(X, y)
    assert loss == pytest.approx(float(np.sum((want - 2) ** 2)) / rows, rel=1e-4)
    grads = reference.gradients(X[marked], y[marked], model.weights, model.biases, ["identity"], "mse")
    before = model.params.copy()
    assert model.step(X, y, lr=1.0) == pytest.approx(loss, rel=1e-4)
    expected = reference.flat(grads.weights, grads.biases) * len(marked) / rows
    assert reference.error(before - model.params, expected) < 1e-2


@compiled
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="another system's MAP_FIXED")
def test_more_outputs_than_32_bits_count(in_one_call: None, tmp_path: Path) -> None:
    outputs = 1 << 14
    rows = (1 << 31) // outputs + 1024
    out = _folded(tmp_path / "out", (rows, outputs), np.float32)
    assert out.size > 2**31
    X = np.zeros((rows, 1), np.float32)
    X[-2:] = [[2], [1]]
    model = Model([1, outputs], rng=0, dtype="float32")
    assert model.predict(X, out=out) is out
    np.testing.assert_array_equal(out[-2:], [2 * model.weights[0][0], model.weights[0][0]])
    assert not out[-1024:-2].any()
    assert out[:1025].any()  # the same memory as the last rows'


@compiled
@pytest.mark.slow
@pytest.mark.skipif(not THOROUGH, reason="9 GB of memory")
def test_parameters_beyond_two_gigabytes() -> None:
    """2.2 GB of weights."""
    width = 33_000
    model = Model.from_weights([np.zeros((width, 16_600), np.float32)], [np.zeros(16_600, np.float32)])
    assert model.params.nbytes > 2**31
    last = model.weights[0][-1]
    last[-5:] = np.arange(1, 6)
    X = np.zeros((2, width), np.float32)
    X[1, -1] = 2
    out = model.predict(X)
    np.testing.assert_array_equal(out[1, -6:], [0, 2, 4, 6, 8, 10])
    assert not out[0].any()
    model.step(X, out + 1, lr=1.0)
    step = np.float32(2 / out.size)  # each error is 1, in two rows of the biases and one of these weights
    np.testing.assert_allclose(model.biases[0][0, -5:], 2 * step, rtol=1e-5)
    np.testing.assert_allclose(last[-5:], np.arange(1, 6) + 2 * step, rtol=1e-5)
