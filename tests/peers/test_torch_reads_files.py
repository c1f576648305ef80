"""PyTorch reads what `Model.save` writes, as the README says."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import fastmlp

if not ("FASTMLP_CI" in os.environ and "FASTMLP_PEERS" in os.environ):
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")

import torch
from safetensors.torch import load_file, save_file


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_state_dict(tmp_path: Path, dtype: str) -> None:
    X = np.random.default_rng(0).standard_normal((20, 4)).astype(dtype)
    model = fastmlp.Model([4, 16, 3], "gelu", "cross_entropy", dtype, rng=0)
    model.fit(X, X[:, :3].argmax(axis=1), optimizer="adam", rng=0)
    model.save(tmp_path / "net.safetensors")
    net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.GELU(), torch.nn.Linear(16, 3))
    net.to(getattr(torch, dtype)).load_state_dict(load_file(tmp_path / "net.safetensors"))
    with torch.no_grad():
        outputs = torch.softmax(net(torch.from_numpy(X)), 1).numpy()
    np.testing.assert_allclose(outputs, model.predict(X), rtol=1e-5 if dtype == "float32" else 1e-9, atol=1e-7)


def test_what_torch_writes_is_not_ours(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match="its metadata has no 'fastmlp': it may hold tensors, but no network of fastmlp"):
        fastmlp.load(tmp_path / "net.safetensors")
