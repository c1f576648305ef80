"""A fit that goes on from a checkpoint ends with the bits of the fit that was never stopped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import Case, Counter, Table, small_pieces, stops
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from row_losses import squares

import fastmlp
from fastmlp import CustomActivation, CustomLoss, EarlyStopping, RowLoss, schedules
from fastmlp.engine.route import Router
from fastmlp.kernels import tuning
from fastmlp.kernels.net.plan import BLOCKS, GROUPS, NARROW, RESIDENT
from fastmlp.optimizer import OPTIMIZERS


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of small files do not wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


EVERY: list[Any] = ["epoch", 1, 7, 1e-9]
PATHS = {
    RESIDENT: Case((2, 2, 1), 21, "bce", options={"batch_size": 4, "lr": 0.5}),
    NARROW: Case((2, 3, 1), 50, options={"batch_size": 9, "optimizer": fastmlp.Adam(0.05)}),
    GROUPS: Case((4, 12, 3), 2300, "cross_entropy", options={"batch_size": 1100, "epochs": 3, "optimizer": fastmlp.Adam(0.01)}),
    BLOCKS: Case((5, 17, 3), 40, options={"batch_size": 16, "lr": 0.1}),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("path", list(PATHS), ids=["resident", "narrow", "groups", "blocks"])
def test_each_path(path: int, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, route = set(), Router.training

    def watched(self: Router, *call: Any) -> Any:
        found = route(self, *call)
        taken.add(found.path)
        return found

    monkeypatch.setattr(Router, "training", watched)
    monkeypatch.setattr(tuning, "CALL_TURN", 0)  # so that a fit of milliseconds looks at the clock
    case = PATHS[path]
    case = Case(case.sizes, case.rows, case.loss, {"dtype": dtype}, case.options)
    want = case.run()
    assert path in taken
    for every in EVERY:
        for at in ((0,), (2, 1, 0)):
            assert stops(case, tmp_path / "fit", every, at, want)


# ---- everything with everything ---------------------------------------------------------------------------------------

SCHEDULES: list[Any] = [
    schedules.Constant(0.05),
    schedules.Cosine(0.05, warmup=1.5),
    schedules.Exponential(0.05, 0.7),
    schedules.InverseScaling(0.05),
    schedules.OneCycle(0.05),
    schedules.Step(0.05, 2, 0.5),
    schedules.ReduceOnPlateau(0.05, patience=1, cooldown=1, min_delta=0.01),
    schedules.ReduceOnPlateau(0.05, patience=1, monitor="loss", min_lr=1e-3),
    Table(),
]
SQUARE = CustomLoss("square", lambda p, t: (p - t) ** 2, lambda p, t: 2 * (p - t))
ROWS = {targets: RowLoss("squares", squares, targets) for targets in (1, 2, 3)}
SOFT = CustomActivation("soft", lambda z: z / (1 + abs(z)), lambda z: 1 / (1 + abs(z)) ** 2)
STOPPINGS: list[dict[str, Any]] = [
    {"patience": 1},
    {"patience": 2, "restore_best_weights": False},
    {"patience": 3, "baseline": 0.5, "monitor": "loss"},
    {"patience": 1, "start_from_epoch": 2, "min_delta": 0.01},
]


@some.composite
def cases(draw: Any) -> Case:
    """Any fit."""
    loss = draw(some.sampled_from(["mse", "bce", "cross_entropy", "huber", SQUARE, RowLoss]))
    sizes = draw(some.sampled_from([(2, 2, 1), (2, 3, 1), (4, 6, 3), (3, 1), (5, 17, 9, 2)]))
    if loss == "cross_entropy":
        sizes = (*sizes[:-1], 3)
    if loss == "bce":
        sizes = (*sizes[:-1], 1)
    if loss is RowLoss:
        loss = ROWS[sizes[-1]]
    net: dict[str, Any] = {"dtype": draw(some.sampled_from(["float32", "float64"]))}
    hidden = draw(some.sampled_from(["tanh", "relu", "gelu", SOFT]))
    if isinstance(hidden, CustomActivation) or draw(some.booleans()):
        net["activations"] = hidden
    if draw(some.booleans()) and len(sizes) > 2:
        net["dropout"] = 0.3
    kind = draw(some.sampled_from(list(OPTIMIZERS.values())))
    more = draw(some.sampled_from([{}, {}, {"ema": 0.9}, {"clip_norm": 0.1}, {"clip_value": 0.01}, {"l1": 0.01, "l2": 0.1}]))
    if hasattr(kind, "momentum") and draw(some.booleans()):
        more = more | {"momentum": 0.8}
    rate = draw(some.sampled_from([0.02, 0.3, *SCHEDULES]))
    rows = draw(some.integers(3, 40))
    options: dict[str, Any] = {"optimizer": kind(rate, **more), "epochs": draw(some.integers(1, 7))}
    options["batch_size"] = draw(some.sampled_from([None, 1, 4, 7, 8, 100]))
    options["shuffle"] = draw(some.booleans())
    options["nonfinite"] = draw(some.sampled_from(["ignore", "stop", "raise"]))
    rng = np.random.default_rng(0)
    if draw(some.booleans()):
        options["sample_weight"] = rng.random(rows) + (np.arange(rows) % 3 > 0)
    labels = loss in ("bce", "cross_entropy")
    if labels and sizes[-1] > 1 and draw(some.booleans()):
        options["class_weight"] = {0: 2.0, 1: 0.5}
    if labels and sizes[-1] > 1 and draw(some.booleans()):
        options["label_smoothing"] = 0.1
    if draw(some.booleans()):
        options["validation_split"] = 0.3
    if draw(some.booleans()):
        options["metrics"] = ["accuracy" if labels else "mae", mean]
    if draw(some.booleans()):
        options["initial_epoch"] = draw(some.integers(0, options["epochs"] - 1))
    made: list[Any] = []
    if draw(some.booleans()):
        made.append(draw(some.sampled_from(STOPPINGS)))
    if draw(some.booleans()):
        made.append(Counter)
    return Case(
        sizes,
        rows,
        loss,
        net,
        options,
        lambda: [one() if isinstance(one, type) else EarlyStopping(**one) for one in made],
        draw(some.sampled_from([0, 0, 2])),
    )


def mean(y_true: Any, y_pred: Any) -> float:
    return float(np.mean(y_pred))


stop_numbers = some.lists(some.integers(0, 12), min_size=1, max_size=3).map(tuple)
mixed = given(case=cases(), every=some.sampled_from(EVERY), at=stop_numbers, pieces=some.booleans())


def any_fit(case: Case, every: Any, at: tuple[int, ...], pieces: bool, folder: Path) -> None:
    (folder / "fit").unlink(missing_ok=True)
    if not pieces:
        stops(case, folder / "fit", every, at)
        return
    X, y = case.data()
    other = "float64" if X.dtype == "float32" else "float32"

    class ByPieces(Case):
        def data(self, rows: int | None = None) -> tuple[np.ndarray, np.ndarray]:
            return X.astype(other), y

    with small_pieces():
        stops(ByPieces(**vars(case)), folder / "fit", every, at)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


quiet = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


@mixed
@settings(max_examples=25, derandomize=True, **quiet)  # type: ignore[arg-type]
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
def test_any_fit(folder: Path, case: Case, every: Any, at: tuple[int, ...], pieces: bool) -> None:
    any_fit(case, every, at, pieces, folder)


@pytest.mark.slow
@mixed
@settings(max_examples=int(os.environ.get("FASTMLP_THOROUGH") or 0) * 20 or 1000, **quiet)  # type: ignore[arg-type]
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
def test_any_fit_at_length(folder: Path, case: Case, every: Any, at: tuple[int, ...], pieces: bool) -> None:
    any_fit(case, every, at, pieces, folder)
