"""Models in files: what is loaded is what was saved, to the last bit, and a file that is not whole is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import fastmlp
from fastmlp import Model

pytestmark = pytest.mark.small


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("sizes", [(2, 2, 1), (1, 1), (17, 5, 300, 3), (3, 600, 2)])
def test_what_is_loaded_is_what_was_saved(tmp_path: Path, sizes: tuple[int, ...], dtype: str) -> None:
    model = Model(sizes, "gelu", dtype=dtype, rng=0, dropout=0.25)
    model.save(tmp_path / "model")
    loaded = fastmlp.load(tmp_path / "model")
    assert loaded.network == model.network
    assert loaded.params.tobytes() == model.params.tobytes()
    tensors = load_file(tmp_path / "model")
    for i, (W, b) in enumerate(zip(model.weights, model.biases, strict=True)):
        np.testing.assert_array_equal(tensors.pop(f"{2 * i}.weight"), W.T)
        np.testing.assert_array_equal(tensors.pop(f"{2 * i}.bias"), b[0])
    assert not tensors


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model"
    Model([2, 3, 1], rng=0).save(path)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="cannot be read"):
            fastmlp.load(path)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_file_is_its_parameters_and_at_most_two_kilobytes(tmp_path: Path, dtype: str) -> None:
    model = Model([784, 256, 128, 10], "gelu", "cross_entropy", dtype, rng=0, dropout=0.1)
    model.save(tmp_path / "model")
    assert model.params.nbytes < (tmp_path / "model").stat().st_size <= model.params.nbytes + 2000
    model.step(np.zeros((1, 784)), [1], optimizer=fastmlp.Adam())
    model.save(tmp_path / "model", optimizer=True)
    assert (tmp_path / "model").stat().st_size <= 3 * model.params.nbytes + 2000


def test_what_the_optimiser_remembers(tmp_path: Path) -> None:
    class Mine(fastmlp.Adam):
        pass

    X, y = np.ones((8, 3)), np.ones((8, 1))
    for optimizer in (fastmlp.SGD(momentum=0.5, ema=0.5), fastmlp.RMSprop(momentum=0.5), fastmlp.Nadam(), fastmlp.Lion()):
        model = Model([3, 4, 1], "tanh", rng=0)
        model.fit(X, y, 3, optimizer=optimizer, rng=0)
        model.save(tmp_path / "model", optimizer=True)
        loaded = fastmlp.load(tmp_path / "model")
        for one in (model, loaded):
            one.fit(X, y, 3, optimizer=optimizer, rng=1)
        assert loaded.params.tobytes() == model.params.tobytes()
        assert (loaded.average is None) == (model.average is None)
    model.fit(X, y, optimizer=Mine())
    with pytest.raises(ValueError, match=r"optimizer=True needs an optimiser of fastmlp's, .* the model's last was Mine"):
        model.save(tmp_path / "model", optimizer=True)
    model.save(tmp_path / "model")
