"""A fit that goes on from a checkpoint ends with the bits of the fit that was never stopped."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import (
    DIVERGING,
    PATHS,
    SCHEDULES,
    STOPPINGS,
    Case,
    Counter,
    StoppedError,
    everything,
    same,
    small_pieces,
    stopped,
    stops,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from row_losses import squares

import fastmlp
from fastmlp import CustomActivation, CustomLoss, EarlyStopping, RowLoss
from fastmlp.engine.route import Router
from fastmlp.kernels import tuning
from fastmlp.kernels.net.plan import BLOCKS, GROUPS, RESIDENT
from fastmlp.optimizer import OPTIMIZERS


@pytest.fixture(autouse=True)
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of small files do not wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


EVERY: list[Any] = ["epoch", 1, 7, 1e-9]


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
    case = replace(PATHS[path], net={"dtype": dtype})
    want = case.run()
    assert path in taken
    for every in EVERY:
        for at in ((0,), (2, 1, 0)):
            assert stops(case, tmp_path / "fit", every, at, want)


# ---- everything with everything ---------------------------------------------------------------------------------------

SQUARE = CustomLoss("square", lambda p, t: (p - t) ** 2, lambda p, t: 2 * (p - t))
ROWS = {targets: RowLoss("squares", squares, targets) for targets in (1, 2, 3)}
SOFT = CustomActivation("soft", lambda z: z / (1 + abs(z)), lambda z: 1 / (1 + abs(z)) ** 2)


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
    stops(replace(case, pieces=pieces), folder / "fit", every, at)


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
@settings(max_examples=int(os.environ.get("FASTMLP_THOROUGH") or 0) * 20 or 60, **quiet)  # type: ignore[arg-type]
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
def test_any_fit_at_length(folder: Path, case: Case, every: Any, at: tuple[int, ...], pieces: bool) -> None:
    any_fit(case, every, at, pieces, folder)


@pytest.mark.parametrize("number", range(len(everything())))
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
def test_each_kind_of_fit(number: int, tmp_path: Path) -> None:
    case = everything()[number]
    want = case.run()
    if case.options.get("lr") is DIVERGING:
        assert want["error"] == (2 if case.options["nonfinite"] == "raise" else None)
        assert want["steps"] == 8
    for every in ("epoch", 2):
        for at in ((0, 0), (3, 1), (5,)):
            stops(case, tmp_path / "fit", every, at, want)


def test_a_trained_model_of_another_optimiser_writes_as_often(tmp_path: Path) -> None:
    """Its count of steps begins anew with the fit."""
    for pieces in (False, True):
        numbers = []
        for before in (0, 3):
            case = Case(options={"epochs": 2, "lr": 0.1}, before=before, pieces=pieces)
            for writes in range(20):
                if not stops(case, tmp_path / f"{pieces}{before}{writes}", 3, (writes,)):
                    break
            numbers.append(writes)
        assert numbers == [4, 4]  # at the start, behind 3 and 6 of 8 steps, and at the end


@pytest.mark.parametrize(("path", "batch"), [(GROUPS, 1100), (BLOCKS, 600)])
def test_another_number_of_threads(path: int, batch: int, all_share: Any, tmp_path: Path) -> None:
    case = replace(PATHS[path], rows=2300, options=PATHS[path].options | {"batch_size": batch, "epochs": 3})
    fastmlp.set_num_threads(1)
    want = case.run()
    for first, then in ((2, 1), (1, 2)):
        fastmlp.set_num_threads(first)
        with stopped(3), pytest.raises(StoppedError):
            case.run(checkpoint=tmp_path / "fit", every=1)
        fastmlp.set_num_threads(then)
        same(case.run(resume=tmp_path / "fit"), want)


ELSEWHERE = """
from pathlib import Path
from checkpoints import PATHS
from fastmlp.kernels import tuning
from fastmlp.kernels.net.plan import BLOCKS, GROUPS, RESIDENT
tuning.STEP_WORK = tuning.CALL_WORK = 0
tuning.THREAD_ROWS = 1
print(PATHS[{path}].run(resume=Path({file!r}), epochs=7)["params"].hex())
"""


def test_another_process(tmp_path: Path, python: Any) -> None:
    case = PATHS[GROUPS]
    with stopped(4), pytest.raises(StoppedError):
        case.run(checkpoint=tmp_path / "fit", every=1)
    code = ELSEWHERE.format(path=GROUPS, file=str(tmp_path / "fit"))
    here = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", here)
        for threads in "12":
            assert python(code, FASTMLP_NUM_THREADS=threads).strip() == case.run(epochs=7)["params"].hex()


def test_what_is_printed_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verbose, more in ((1, {}), (2, {}), (3, {"validation_split": 0.3}), (True, {"metrics": "mae"})):
        case = Case(options={"lr": 0.1, "verbose": verbose, "epochs": 8, **more})
        want = case.run()
        lines = capsys.readouterr().out.splitlines()
        for every, writes in (("epoch", 3), (3, 5)):
            with stopped(writes), pytest.raises(StoppedError):
                case.run(checkpoint=tmp_path / "fit", every=every)
            first = capsys.readouterr().out.splitlines()
            same(case.run(resume=tmp_path / "fit"), want)
            assert first + capsys.readouterr().out.splitlines() == lines
            assert 0 < len(first) < len(lines)


def test_the_bar_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    case = Case(options={"lr": 0.1, "verbose": "bar"})
    want = case.run()
    with stopped(3), pytest.raises(StoppedError):
        case.run(checkpoint=tmp_path / "fit")
    capsys.readouterr()
    same(case.run(resume=tmp_path / "fit"), want)
    said = capsys.readouterr().err
    assert "3/5" in said.split("\r")[1]
    assert "5/5" in said


def test_memory_maps(tmp_path: Path) -> None:
    for dtype in ("float32", "float64"):
        case = Case(rows=50, net={"dtype": "float64"}, options={"lr": 0.1})
        X, y = case.data()
        np.save(tmp_path / "X.npy", X.astype(dtype))
        mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
        want, got = case.model(), case.model()
        given: dict[str, Any] = {"epochs": 5, "batch_size": 8, "lr": 0.1, "rng": 7}
        with small_pieces():
            history = want.fit(mapped, y, **given)
            with stopped(9), pytest.raises(StoppedError):
                case.model().fit(mapped, y, **given, checkpoint=tmp_path / "fit", every=2)
            assert dict(got.fit(mapped, y, **given, resume=tmp_path / "fit")) == dict(history)
            if dtype == "float32":
                with pytest.raises(ValueError, match="resume: pieces must be that of the checkpoint's fit, True, got False"):
                    got.fit(np.array(mapped, "float64"), y, **given, resume=tmp_path / "fit")
        np.testing.assert_array_equal(got.params, want.params)


def test_more_epochs_are_those_of_the_longer_fit(tmp_path: Path) -> None:
    for case in (Case(), Case(pieces=True), replace(PATHS[RESIDENT], callbacks=lambda: [EarlyStopping(patience=9), Counter()])):
        want = case.run(epochs=9)
        case.run(epochs=4, checkpoint=tmp_path / "fit")
        same(case.run(epochs=9, checkpoint=tmp_path / "fit", resume=tmp_path / "fit", every=2), want)
        with pytest.raises(ValueError, match="epochs must be at least 9"):
            case.run(epochs=8, resume=tmp_path / "fit")


def test_a_fit_that_was_stopped_early_has_ended(tmp_path: Path) -> None:
    case = Case(options={"lr": 0.5, "epochs": 50}, callbacks=lambda: [EarlyStopping(patience=1)])
    want = case.run(checkpoint=tmp_path / "fit")
    assert len(want["history"]["loss"]) < 50
    same(case.run(resume=tmp_path / "fit", epochs=60), want)


def test_schedules_give_each_step_the_same_rate_wherever_a_call_begins() -> None:
    rng = np.random.default_rng(0)
    for schedule in SCHEDULES:
        whole = schedule.rates(0, 300, steps=7, epochs=43)
        for first, count in zip(rng.integers(0, 250, 100), rng.integers(1, 50, 100), strict=True):
            np.testing.assert_array_equal(schedule.rates(int(first), int(count), 7, 43), whole[first : first + count])


def test_fits_without_checkpoints_go_the_plain_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("fastmlp.training.fit.Checkpoint", refused)
    monkeypatch.setattr("fastmlp.training.fit.Epochs", refused)
    Case().run()
