"""Model.fit_batches and L-BFGS against the same done by hand."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import reference
from fits import data, net, same

import fastmlp
from fastmlp import LBFGS, Adam, schedules

pytestmark = pytest.mark.small


# ---- fit_batches -----------------------------------------------------------------------------------------------------


def batches(weighted: bool = False) -> list[Any]:
    X, y = data("cross_entropy")
    w = np.random.default_rng(0).random(30)
    return [(X[i : i + 8], y[i : i + 8], *([w[i : i + 8]] * weighted)) for i in range(0, 30, 8)]


@pytest.mark.parametrize("kind", ["list", "function", "iterator"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("lr", [0.1, schedules.Cosine(0.1)])
def test_batches_are_a_fit_in_order(kind: str, weighted: bool, lr: Any) -> None:
    X, y = data("cross_entropy")
    w = np.random.default_rng(0).random(30) if weighted else None
    whole, parts = net("cross_entropy", dropout=0.2), net("cross_entropy", dropout=0.2)
    want = whole.fit(X, y, 3, 8, optimizer=Adam(lr), shuffle=False, sample_weight=w, rng=5)
    given: Any = {
        "list": batches(weighted),
        "function": lambda: iter(batches(weighted)),
        "iterator": iter(3 * batches(weighted)),
    }
    steps = None if kind == "list" else 4
    got = parts.fit_batches(given[kind], 3, steps, optimizer=Adam(lr), rng=5)
    assert list(got) == list(want)
    for name, column in want.items():
        assert reference.error(got[name], column) < 1e-14
    same(parts, whole)


def test_batches_with_all_that_happens_between_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    X, y = data("cross_entropy")
    stopping = fastmlp.EarlyStopping(patience=2)
    model = net("cross_entropy")
    history = model.fit_batches(
        batches, 500, lr=0.5, verbose=1, validation_data=(X[::-1], y), metrics="accuracy", callbacks=stopping
    )
    assert list(history) == ["epoch", "loss", "val_loss", "val_accuracy"]
    assert 2 < len(history["loss"]) < 500
    assert model.loss(X[::-1], y) == min(history["val_loss"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(history["loss"])
    assert lines[0].startswith(f"Epoch 0, Loss: {history['loss'][0]:.4f}, val_loss: {history['val_loss'][0]:.4f}, val_acc")


def test_an_iterator_for_one_epoch_needs_no_steps() -> None:
    assert len(net("cross_entropy").fit_batches(iter(batches()))["loss"]) == 1


class Numbered:
    """A map-style dataset that knows its length."""

    def __init__(self, given: list[Any]) -> None:
        self.given, self.asked = given, []

    def __len__(self) -> int:
        return len(self.given)

    def __getitem__(self, index: int) -> Any:
        self.asked.append(index)
        return self.given[index % len(self.given)]  # never an IndexError


class Unbounded:
    """One that ends by an IndexError, as Python's protocol has it."""

    def __getitem__(self, index: int) -> Any:
        return batches()[index]


def test_map_style_datasets() -> None:
    want, lr = net("cross_entropy"), schedules.Cosine(0.1)
    history = want.fit_batches(batches(), 3, lr=lr)
    for given, steps in ((Numbered(batches()), None), (Unbounded(), 4), (lambda: Numbered(batches()), 4)):
        model = net("cross_entropy")
        assert dict(model.fit_batches(given, 3, steps, lr=lr)) == dict(history)
        same(model, want)
        if isinstance(given, Numbered):
            assert given.asked == [0, 1, 2, 3] * 3
    first = Numbered(batches())
    net("cross_entropy").fit_batches(first, 2, steps_per_epoch=3)
    assert first.asked == [0, 1, 2] * 2
    assert len(net("cross_entropy").fit_batches(Unbounded(), 2)["loss"]) == 2
    with pytest.raises(ValueError, match="steps_per_epoch must be given for lr=Cosine"):
        net("cross_entropy").fit_batches(Unbounded(), 2, lr=lr)


def test_batches_are_asked_for_one_at_a_time() -> None:
    model, seen = net("cross_entropy"), []

    def lazy() -> Iterator[Any]:
        for batch in batches():
            seen.append(model.params.copy())
            yield batch

    model.fit_batches(lazy, lr=0.1)
    assert len({params.tobytes() for params in seen}) == 4


def test_batches_are_refused() -> None:
    model, good = net("cross_entropy"), batches()
    kept = model.params.copy()
    for given, settings, error, message in (
        (3, {}, TypeError, "batches must be an iterable or a function that returns one, got 3"),
        (iter(good), {"epochs": 2}, ValueError, "steps_per_epoch must be given for an iterator that is to last for 2 epochs"),
        (batches, {"lr": schedules.Cosine(0.1)}, ValueError, "steps_per_epoch must be given for lr=Cosine"),
        (good, {"steps_per_epoch": 0}, ValueError, "steps_per_epoch must be at least 1"),
        (good, {"metrics": "accuracy"}, ValueError, "metrics must have validation_data to be computed from"),
        ([], {}, ValueError, "batches must hold at least one for an epoch, got 0"),
        ([good[0][0]], {}, TypeError, r"batches must hold \(X, y\) or .* got ndarray as batch 0"),
        ([(good[0][0], good[1][1][:3])], {}, ValueError, "batches: number 0 is refused: y must have as many rows"),
    ):
        with pytest.raises(error, match=message):
            model.fit_batches(given, **settings)
        np.testing.assert_array_equal(model.params, kept)
    other = net("cross_entropy")
    other.step(*good[0])
    for bad, message in (([good[0], (good[0][0][:, :2], good[0][1])], "batches: number 1"), (good[:1], "must hold 2 for an")):
        model = net("cross_entropy")
        with pytest.raises(ValueError, match=message):
            model.fit_batches(bad, steps_per_epoch=2)
        same(model, other)


# ---- L-BFGS ----------------------------------------------------------------------------------------------------------


def test_l_bfgs_goes_by_iterations() -> None:
    X, y = data("cross_entropy")
    model = net("cross_entropy")
    seen: list[int] = []
    history = model.fit(
        X,
        y,
        12,
        optimizer=LBFGS(l2=1e-3),
        validation_data=(X[:9], y[:9]),
        metrics="accuracy",
        callbacks=lambda model, logs: seen.append(logs["epoch"]),
        sample_weight=np.linspace(0, 1, len(X)),
    )
    assert seen == history["epoch"] == list(range(len(seen)))
    assert len(history["val_loss"]) == len(history["accuracy"]) == len(seen) > 5
    assert all(later <= before for before, later in pairwise(history["loss"]))
    assert history["val_loss"][-1] == pytest.approx(model.loss(X[:9], y[:9]))


def test_l_bfgs_ends_when_it_is_told_to() -> None:
    X, y = data("mse")
    model = net("mse")
    history = model.fit(X, y, 50, optimizer=LBFGS(), callbacks=lambda model, logs: logs["epoch"] == 3)
    assert history["epoch"] == [0, 1, 2, 3]
    kept = model.params.copy()
    for arguments, message in (
        ({"lr": 0.1}, "lr=0.1 must not be given together with optimizer=LBFGS"),
        ({"batch_size": 5}, "batch_size must be None"),
        ({"nonfinite": "raise"}, "nonfinite must be 'ignore'"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(X, y, optimizer=LBFGS(), **arguments)
    with pytest.raises(TypeError, match="optimizer must be"):
        model.step(X, y, optimizer=LBFGS())  # type: ignore[arg-type]
    np.testing.assert_array_equal(model.params, kept)
