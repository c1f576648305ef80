"""`fastmlp convert` to PyTorch's files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import fastmlp
from fastmlp import cli

if os.environ.get("FASTMLP_CI") and os.environ.get("FASTMLP_PEERS"):
    import torch
else:
    torch = pytest.importorskip("torch")


def test_convert_writes_a_state_dict_that_pytorch_loads(tmp_path: Path) -> None:
    model = fastmlp.Model([3, 4, 2], "tanh", rng=0)
    model.save(tmp_path / "m.safetensors")
    assert cli.main(["convert", str(tmp_path / "m.safetensors"), str(tmp_path / "m.pt")]) == 0
    found = torch.load(tmp_path / "m.pt", weights_only=True)
    module = fastmlp.to_torch(model)
    module.load_state_dict(found)
    X = np.random.default_rng(0).standard_normal((5, 3))
    np.testing.assert_allclose(module(torch.from_numpy(X)).detach().numpy(), model.predict(X), rtol=1e-12)
