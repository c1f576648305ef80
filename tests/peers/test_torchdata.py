"""A fit over torchdata's StatefulDataLoader goes on from a checkpoint with the batches that it would have had."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import StoppedError, stopped

import fastmlp

if os.environ.get("FASTMLP_CI") and os.environ.get("FASTMLP_PEERS"):
    import torch
    from torchdata import stateful_dataloader
else:
    torch = pytest.importorskip("torch")
    stateful_dataloader = pytest.importorskip("torchdata.stateful_dataloader")

RandomSampler: Any = stateful_dataloader.sampler.RandomSampler

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*set_vital:UserWarning", "ignore:.*multi-threaded:DeprecationWarning"
)  # theirs
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((30, 4)), RNG.standard_normal((30, 3))


def loader(shuffle: bool, workers: int) -> Any:
    data = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    # With shuffle=True and a generator of the loader's, torchdata 0.11 itself has other orders from the next epoch on.
    sampler = RandomSampler(data, generator=torch.Generator().manual_seed(3)) if shuffle else None
    return stateful_dataloader.StatefulDataLoader(data, 8, sampler=sampler, num_workers=workers)


def trained(steps: int | None, source: Any, **more: Any) -> tuple[bytes, list[float]]:
    model = fastmlp.Model([4, 6, 3], "tanh", rng=1)
    history = model.fit_batches(source, 4, steps, optimizer=fastmlp.Adam(0.05), **more)
    return model.params.tobytes(), history["loss"]


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("steps", [None, 3])
def test_it_goes_on_with_the_batches_that_come(steps: int | None, shuffle: bool, workers: int, tmp_path: Path) -> None:
    want = trained(steps, loader(shuffle, workers))
    assert trained(steps, loader(shuffle, workers), checkpoint=tmp_path / "fit", every=1) == want
    for every, number in (("epoch", 0), ("epoch", 2), (1, 3), (1, 4), (1, 6)) if not workers else ((1, 6),):
        with stopped(number), pytest.raises(StoppedError):
            trained(steps, loader(shuffle, workers), checkpoint=tmp_path / "fit", every=every)
        with stopped(1), pytest.raises(StoppedError):
            trained(steps, loader(shuffle, workers), checkpoint=tmp_path / "fit", every=2, resume=tmp_path / "fit")
        assert trained(steps, loader(shuffle, workers), resume=tmp_path / "fit") == want


def test_batches_are_shuffled_anew_each_epoch() -> None:
    """Else the test above would show little."""
    source = loader(True, 0)
    first, second = ([batch[0].numpy().tobytes() for batch in islice(iter(source), 4)] for _ in range(2))
    assert first != second
