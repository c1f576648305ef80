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
