"""fit_batches that goes on from a checkpoint: the batches come again as they came, or it says that they do not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import SOURCES, Case, Counter, Numbered, Seeded, StoppedError, same, stopped, stops

import fastmlp
from fastmlp import EarlyStopping, schedules
from fastmlp.training.checkpoint import Checkpoint

ANOTHER = r"batches must be those .* number 1 has another checksum"
EVERY: list[Any] = ["epoch", 1, 3, 1e-9]


def case(source: str, **more: Any) -> Case:
    make, steps = SOURCES[source]
    options = {"optimizer": fastmlp.Adam(0.05), "steps_per_epoch": steps, "validation_data": Case().data(9)}
    callbacks = lambda: [EarlyStopping(patience=1, monitor="val_loss"), Counter()]  # noqa: E731
    return Case(options=options | more, source=make, callbacks=callbacks, net={"dropout": 0.2})


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("source", list(SOURCES))
def test_each_source(source: str, every: Any, tmp_path: Path) -> None:
    given = case(source)
    want = given.run()
    assert sum(stops(given, tmp_path / "fit", every, at, want) for at in ((0, 0, 0), (1, 0, 2), (4,), (6, 0))) >= 4


@pytest.mark.parametrize("source", ["list", "iterator", "with a state, not exhausted"])
def test_with_schedules_and_what_diverges(source: str, tmp_path: Path) -> None:
    for optimizer in (fastmlp.SGD(schedules.Cosine(0.1, warmup=1)), fastmlp.SGD(schedules.ReduceOnPlateau(0.1, patience=1))):
        given = case(source, optimizer=optimizer, nonfinite="raise", steps_per_epoch=3)
        for every in (1, 2):
            assert stops(given, tmp_path / "fit", every, (5, 1))


@pytest.mark.parametrize("source", list(SOURCES))
def test_a_trained_model_of_another_optimiser(source: str, tmp_path: Path) -> None:
    make, steps = SOURCES[source]
    given = Case(options={"lr": 0.1, "steps_per_epoch": steps}, source=make, before=2)
    assert stops(given, tmp_path / "fit", 1, (2, 1))


@pytest.mark.parametrize("source", ["list", "map-style", "function", "function of map-style", "iterator"])
def test_other_batches_are_refused(source: str, tmp_path: Path) -> None:
    make = SOURCES[source][0]
    given, (X, y) = case(source), Case().data()
    with stopped(2), pytest.raises(StoppedError):
        given.run(checkpoint=tmp_path / "fit", every=1)
    batches = [(X[i : i + 8], y[i : i + 8]) for i in range(0, 30, 8)]
    for others, message in (
        (
            [batches[0], (batches[1][0] + 1, batches[1][1]), *batches[2:]],
            ANOTHER,
        ),
        (
            [batches[0], (batches[1][0], batches[1][1] + 1), *batches[2:]],
            ANOTHER,
        ),
        ([batches[0]], "batches must hold the 2 that the checkpoint's fit has had before, got 1"),
        ([], "batches must hold the 2 that the checkpoint's fit has had before, got 0"),
    ):
        model, options = given.model(), given.options
        kept, feed = model.params.copy(), make(others) if source != "iterator" else iter(others)
        with pytest.raises(ValueError, match=message):
            model.fit_batches(feed, 5, callbacks=given.callbacks(), **options, resume=tmp_path / "fit")
        np.testing.assert_array_equal(model.params, kept)


def test_other_sources_and_settings_are_refused(tmp_path: Path) -> None:
    given = case("with a state")
    with stopped(2), pytest.raises(StoppedError):
        given.run(checkpoint=tmp_path / "fit", every=1)
    X, y = Case().data()
    batches = [(X[i : i + 8], y[i : i + 8]) for i in range(0, 30, 8)]
    for source, more, message in (
        (batches, {}, "batches must have load_state_dict, as those of the checkpoint's fit had state_dict"),
        (Seeded(batches), {"steps_per_epoch": 4}, "steps_per_epoch must be"),
        (Seeded(batches), {"optimizer": fastmlp.Adam(0.04)}, "optimizer must be"),
        (Seeded(batches), {"validation_data": (X[:5], y[:5])}, "val_X must be"),
        (Seeded(batches), {"metrics": "mae"}, "reported must be"),
    ):
        model, callbacks = given.model(), given.callbacks()
        kept = model.params.copy()
        with pytest.raises(ValueError, match=message):
            model.fit_batches(source, 5, callbacks=callbacks, **given.options | more, resume=tmp_path / "fit")
        np.testing.assert_array_equal(model.params, kept)
    with pytest.raises(ValueError, match=r"resume: .* must be that of the checkpoint's fit"):
        given.model().fit(X, y, 5, 8, resume=tmp_path / "fit")


def test_a_map_style_dataset_is_asked_for_what_is_left(tmp_path: Path) -> None:
    asked: list[int] = []

    class Watched(Numbered):
        def __getitem__(self, index: int) -> Any:
            asked.append(index)
            return super().__getitem__(index)

    given = Case(options={"epochs": 2, "lr": 0.1}, source=Watched)
    with stopped(3), pytest.raises(StoppedError):
        given.run(checkpoint=tmp_path / "fit", every=1)
    asked.clear()
    given.run(resume=tmp_path / "fit")
    assert asked == [2, 3, 0, 1, 2, 3]  # number 2 once more, to be compared


def test_a_source_that_trains_the_model_too(tmp_path: Path) -> None:
    """Its steps do not count as the fit's own: checkpoints come as often."""
    X, y = Case().data()
    model, written, write = Case().model(), [], Checkpoint.write

    def batches() -> Iterator[Any]:
        for i in range(0, 30, 8):
            model.step(X[:3], y[:3], optimizer=fastmlp.Adam(0.01))
            yield X[i : i + 8], y[i : i + 8]

    def watched(self: Checkpoint, engine: Any, *what: Any) -> None:
        written.append(engine.steps)
        write(self, engine, *what)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "write", watched)
        model.fit_batches(batches, 3, optimizer=fastmlp.Adam(0.05), checkpoint=tmp_path / "fit", every=1)
    assert written == [0, *range(2, 25, 2), 24]


def test_more_epochs_are_those_of_the_longer_fit(tmp_path: Path) -> None:
    for source in (None, *SOURCES):
        steps = SOURCES[source][1] if source else None
        more = {"steps_per_epoch": steps} if source else {}
        given = Case(options={"optimizer": fastmlp.Adam(0.05), **more}, source=SOURCES[source][0] if source else None)
        want = given.run(epochs=7)
        given.run(epochs=3, checkpoint=tmp_path / "fit")
        same(given.run(epochs=7, resume=tmp_path / "fit"), want)
