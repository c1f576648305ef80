"""The route of a step: where it turns, and that another one leads to the same numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from fastmlp import SGD, Adam, Model, schedules
from fastmlp.engine.route import Router
from fastmlp.kernels import tuning
from fastmlp.kernels.layer.loss import LOGIT_GRADIENT, OUTPUT_GRADIENT
from fastmlp.kernels.machine.interpreted import INTERPRETED
from fastmlp.kernels.machine.target import VECTOR_BYTES
from fastmlp.kernels.net.plan import BLOCKS, GROUPS, NARROW, RESIDENT
from fastmlp.network import Network

pytestmark = pytest.mark.small

LANES = VECTOR_BYTES // 4
HIDDEN = ("tanh", "sigmoid")


def _network(*sizes: int, activations: Any = HIDDEN, loss: str = "bce", dropout: Any = ()) -> Network:
    return Network(sizes, activations, loss, np.dtype("float32"), dropout)


@pytest.mark.parametrize(
    ("network", "rows", "optimizer", "weighted", "rated", "path"),
    [
        (_network(2, 2, 1), LANES, SGD(), False, False, RESIDENT),
        (_network(2, 2, 1), LANES + 1, SGD(), False, False, NARROW),
        (_network(2, 2, 1), LANES, SGD(), False, True, NARROW),
        (_network(2, 2, 1), LANES, SGD(momentum=0.5), False, False, NARROW),
        (_network(2, 2, 1), LANES, SGD(l2=0.1), False, False, NARROW),
        (_network(2, 2, 1), LANES, Adam(), False, False, NARROW),
        (_network(2, 2, 1), LANES, SGD(), True, False, BLOCKS),
        (_network(2, 2, 1, dropout=(0.5,)), LANES, SGD(), False, False, BLOCKS),
        (_network(2, 2, 1, activations=("tanh", "softmax"), loss="cross_entropy"), LANES, SGD(), False, False, BLOCKS),
        (_network(9, 40, 3), tuning.GROUPED_ROWS - 1, Adam(), False, False, BLOCKS),
        (_network(9, 40, 3), tuning.GROUPED_ROWS, Adam(), True, True, GROUPS),
        (_network(90, 100, 1), tuning.GROUPED_ROWS, Adam(), False, False, BLOCKS),
    ],
)
def test_where_it_turns(network: Network, rows: int, optimizer: Any, weighted: bool, rated: bool, path: int) -> None:
    loss = network.loss_code()
    assert Router(network).training(rows, loss, optimizer, weighted, rated).path == path


@pytest.mark.parametrize("loss", [OUTPUT_GRADIENT, LOGIT_GRADIENT])
def test_gradients_of_the_users_own_are_not_narrow(loss: int) -> None:
    """Those paths divide by rows and outputs, whatever the loss."""
    for sizes, rows in (((2, 2, 1), LANES), ((2, 3, 2), LANES), ((2, 2, 1), 5 * tuning.GROUPED_ROWS)):
        assert Router(_network(*sizes)).training(rows, loss, SGD(), False, False).path in (BLOCKS, GROUPS)


@pytest.mark.parametrize("rows", [1, 31, 255, 256, 257, 1023, 1024, 1025, 5000, 70_000])
@pytest.mark.parametrize("sizes", [(9, 40, 3), (300, 400, 10), (9, 3000, 2)])
def test_blocks_are_whole_chunks_and_hold_all_rows(sizes: tuple[int, ...], rows: int) -> None:
    router = Router(_network(*sizes, loss="mse"))
    route = router.step(rows)
    assert route.block * route.parts >= rows
    assert route.block * (route.parts - 1) < rows
    assert route.parts == 1 or route.block % tuning.CHUNK_ROWS == 0
    assert route.block <= router.block * (tuning.GROUPS if route.path == GROUPS else 1)
    assert route.copied == (route.path == BLOCKS and rows >= tuning.COPIED_ROWS)


def test_layers_by_strips_and_panels() -> None:
    wide = tuning.FAR_WEIGHTS // 4
    router = Router(_network(2, wide, wide - LANES, 3, activations=("relu",) * 3, loss="mse"))
    assert router.strips == [False, True, False]
    assert router.packed == [False, False, False]
    assert Router(_network(wide, wide, activations=("identity",), loss="mse")).packed == [True]


@pytest.mark.parametrize("batch", [None, 7])
def test_another_route_leads_to_the_same_numbers(batch: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained() -> tuple[np.ndarray, list[float]]:
        rng = np.random.default_rng(0)
        model = Model([2, 2, 1], "tanh", "bce", rng=0)
        history = model.fit(rng.standard_normal((900, 2)), rng.integers(0, 2, 900), 2, batch, lr=0.5, shuffle=False)
        return model.params, history["loss"]

    want, losses = trained()
    monkeypatch.setattr(Router, "training", lambda router, rows, *call: router.step(rows))
    got, others = trained()
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(others, losses, rtol=1e-12)
    if not INTERPRETED:
        assert not np.array_equal(got, want)  # so it was another one


def test_an_equal_optimizer_of_another_gain_goes_another_way() -> None:
    router, one, other = Router(_network(2, 2, 1)), SGD(0.1), SGD(0.1)
    object.__setattr__(other, "gain", 2.0)
    assert one == other
    paths = [router.training(9, _network(2, 2, 1).loss_code(), optimizer, False, False).path for optimizer in (one, other, one)]
    assert paths[0] == paths[2] != paths[1] == BLOCKS


def test_a_schedule_that_holds_an_array_trains_twice() -> None:
    @dataclass(frozen=True)
    class Table(schedules.Schedule):
        values: np.ndarray

        def rates(self, first: int, count: int, steps: int, epochs: int) -> np.ndarray:
            return np.resize(self.values, count)

    model = Model([2, 1], rng=0)
    for _ in range(2):
        model.fit(np.ones((4, 2)), np.ones(4), 2, lr=Table(np.array([0.1, 0.2])))
