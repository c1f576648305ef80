"""Schedules: each against its formula, written as a loop over steps; PyTorch's own values were compared by hand."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest

from fastmlp import schedules

pytestmark = pytest.mark.small


def step(s: int, steps: int, epochs: int) -> float:
    return 0.3 * 0.5 ** (s // steps // 2)


def exponential(s: int, steps: int, epochs: int) -> float:
    return 0.3 * 0.9 ** (s // steps)


def cosine(s: int, steps: int, epochs: int) -> float:
    warm, total = 2 * steps, steps * epochs
    if s < warm:
        return 0.3 * (s + 1) / warm
    return 0.01 + (0.3 - 0.01) * (1 + math.cos(math.pi * (s - warm) / (total - warm))) / 2


def anneal(start: float, end: float, part: float) -> float:
    """As ``OneCycleLR._annealing_cos``."""
    return end + (start - end) / 2.0 * (math.cos(math.pi * part) + 1)


def one_cycle(s: int, steps: int, epochs: int) -> float:
    total = steps * epochs
    first, last = 0.25 * total - 1, total - 1
    if s <= first:
        return anneal(0.3 / 10, 0.3, s / first)
    return anneal(0.3, 0.3 / 10 / 100, (s - first) / (last - first))


CASES = {
    "constant": (schedules.Constant(0.3), lambda s, steps, epochs: 0.3),
    "step": (schedules.Step(0.3, 2, factor=0.5), step),
    "exponential": (schedules.Exponential(0.3, 0.9), exponential),
    "cosine": (schedules.Cosine(0.3, warmup=2, final=0.01), cosine),
    "one cycle": (schedules.OneCycle(0.3, 0.25, 10, 100), one_cycle),
    "inverse scaling": (schedules.InverseScaling(0.3, 0.7), lambda s, steps, epochs: 0.3 / (s + 1) ** 0.7),
    "plateau": (schedules.ReduceOnPlateau(0.3), lambda s, steps, epochs: 0.3),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("steps", "epochs"), [(1, 12), (7, 9), (50, 4)])
def test_each_step_equals_the_formula(name: str, steps: int, epochs: int) -> None:
    schedule, formula = CASES[name]
    total = steps * epochs
    rates = schedule.rates(0, total, steps, epochs)
    assert rates.dtype == np.float64
    assert rates.shape == (total,)
    np.testing.assert_allclose(rates, [formula(s, steps, epochs) for s in range(total)], rtol=1e-13)
    for first, count in ((0, 1), (total - 1, 1), (total // 3, total // 2), (5, 0)):
        np.testing.assert_array_equal(schedule.rates(first, count, steps, epochs), rates[first : first + count])


def test_warm_up_of_part_of_an_epoch_and_of_more_than_the_fit() -> None:
    rates = schedules.Cosine(1.0, warmup=0.5).rates(0, 8, 4, 2)
    np.testing.assert_allclose(rates[:3], [0.5, 1.0, 1.0])
    np.testing.assert_allclose(schedules.Cosine(1.0, warmup=5).rates(0, 4, 2, 2), [0.25, 0.5, 0.75, 1.0])


@pytest.mark.parametrize("total", [1, 2, 3, 4])
def test_one_cycle_over_a_few_steps(total: int) -> None:
    rates = schedules.OneCycle(1.0).rates(0, total, 1, total)
    assert np.isfinite(rates).all()
    assert rates[0] == rates.max() == 1.0 or total > 3
    assert ((rates > 0) & (rates <= 1)).all()


def followed(schedule: schedules.Schedule, losses: list[float], name: str = "loss") -> list[float]:
    course, scales = schedule.start(), []
    assert course is not None
    for epoch, loss in enumerate(losses):
        course.observe({"epoch": epoch, name: loss})
        scales.append(course.scale)
    return scales


def torch_plateau(losses: list[float], patience: int, cooldown: int, lowest: float) -> list[float]:
    """``torch.optim.lr_scheduler.ReduceLROnPlateau.step`` with threshold_mode="abs", as a loop."""
    best, bad, cool, scale, scales = math.inf, 0, 0, 1.0, []
    for loss in losses:
        if loss < best - 1e-3:
            best, bad = loss, 0
        else:
            bad += 1
        if cool > 0:
            cool -= 1
            bad = 0
        if bad > patience:
            scale, cool, bad = max(scale * 0.4, lowest), cooldown, 0
        scales.append(scale)
    return scales


def keras_plateau(losses: list[float], patience: int, cooldown: int, lowest: float) -> list[float]:
    """``keras.callbacks.ReduceLROnPlateau.on_epoch_end``, as a loop."""
    best, wait, cool, scale, scales = math.inf, 0, 0, 1.0, []
    for loss in losses:
        if cool > 0:
            cool, wait = cool - 1, 0
        if loss < best - 1e-3:
            best, wait = loss, 0
        elif not cool > 0:
            wait += 1
            if wait >= patience and scale > lowest:
                scale, cool, wait = max(scale * 0.4, lowest), cooldown, 0
        scales.append(scale)
    return scales


@pytest.mark.parametrize("patience", [1, 2, 5])
@pytest.mark.parametrize("cooldown", [0, 1, 2, 4])
@pytest.mark.parametrize("min_lr", [0.0, 0.05])
def test_reduce_on_plateau(patience: int, cooldown: int, min_lr: float) -> None:
    losses = (np.exp(-np.arange(80) / 9) + 0.05 * np.random.default_rng(0).random(80)).tolist()
    schedule = schedules.ReduceOnPlateau(0.5, 0.4, patience, 1e-3, cooldown, min_lr)
    want = keras_plateau(losses, patience, cooldown, min_lr / 0.5)
    assert len(set(want)) > 2
    assert torch_plateau(losses, patience - 1, max(cooldown - 1, 0), min_lr / 0.5) == want
    assert followed(schedule, losses) == want
    assert followed(schedule, losses) == want  # each fit has a course of its own
    upwards = schedules.ReduceOnPlateau(0.5, 0.4, patience, 1e-3, cooldown, min_lr, monitor="val_accuracy")
    assert followed(upwards, [-loss for loss in losses], "val_accuracy") == want
    custom = schedules.ReduceOnPlateau(0.5, 0.4, patience, 1e-3, cooldown, min_lr, monitor="mine", mode="max")
    assert followed(custom, [-loss for loss in losses], "mine") == want


def test_reduce_on_plateau_follows_the_validation_loss_where_there_is_one() -> None:
    course = schedules.ReduceOnPlateau(1.0, 0.5, patience=1).start()
    for loss in (3.0, 2.0, 1.0):
        course.observe({"loss": loss, "val_loss": 1.0})
    assert course.scale == 0.25


def test_reduce_on_plateau_takes_nan_for_no_improvement() -> None:
    assert followed(schedules.ReduceOnPlateau(1.0, 0.5, patience=2), [math.nan, math.nan, 1.0, math.nan]) == [
        1.0,
        0.5,
        0.5,
        0.5,
    ]


def test_others_follow_no_course() -> None:
    assert all(schedule.start() is None for name, (schedule, _) in CASES.items() if name != "plateau")


@pytest.mark.parametrize("name", CASES)
def test_settings_stay_and_are_compared(name: str) -> None:
    schedule = CASES[name][0]
    assert isinstance(schedule, schedules.Schedule)
    for twin in (copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule))):
        assert twin == schedule
        assert hash(twin) == hash(schedule)
    with pytest.raises(AttributeError):
        schedule.lr = 1.0  # type: ignore[attr-defined]


REFUSED: list[tuple[Any, dict[str, Any], Any, str]] = [
    (schedules.Constant, {"lr": 0.0}, ValueError, "lr must be .* above 0"),
    (schedules.Constant, {"lr": "0.1"}, TypeError, "lr must be a number, got '0.1'"),
    (schedules.Step, {"lr": 0.1, "epochs": 0}, ValueError, "epochs must be at least 1"),
    (schedules.Step, {"lr": 0.1, "epochs": 1.5}, TypeError, "epochs must be an integer"),
    (schedules.Step, {"lr": 0.1, "epochs": 1, "factor": 0}, ValueError, "factor must be .* above 0"),
    (schedules.Exponential, {"lr": 0.1, "factor": math.nan}, ValueError, "factor must be .* got nan"),
    (schedules.Cosine, {"lr": 0.1, "warmup": -1}, ValueError, "warmup must be .* at least 0"),
    (schedules.Cosine, {"lr": 0.1, "final": -1e-9}, ValueError, "final must be .* at least 0"),
    (schedules.OneCycle, {"lr": 0.1, "pct_start": 1.0}, ValueError, "pct_start must be .* below 1"),
    (schedules.OneCycle, {"lr": 0.1, "div_factor": 0.0}, ValueError, "div_factor must be .* above 0"),
    (schedules.OneCycle, {"lr": 0.1, "final_div_factor": True}, TypeError, "final_div_factor must be a number"),
    (schedules.InverseScaling, {"lr": 0.1, "power": -0.5}, ValueError, "power must be .* at least 0"),
    (schedules.ReduceOnPlateau, {"lr": 0.1, "factor": 1.0}, ValueError, "factor must be .* below 1"),
    (schedules.ReduceOnPlateau, {"lr": 0.1, "patience": 0}, ValueError, "patience must be at least 1"),
    (schedules.ReduceOnPlateau, {"lr": 0.1, "cooldown": -1}, ValueError, "cooldown must be at least 0"),
    (schedules.ReduceOnPlateau, {"lr": 0.1, "min_lr": -1}, ValueError, "min_lr must be .* at least 0"),
    (schedules.ReduceOnPlateau, {"lr": 0.1, "monitor": 3}, TypeError, "monitor must be a string"),
    (schedules.ReduceOnPlateau, {"lr": 0.1, "mode": "up"}, ValueError, "mode must be one of auto, min, max; got 'up'"),
]


@pytest.mark.parametrize(("kind", "arguments", "error", "message"), REFUSED)
def test_settings_are_checked(kind: Any, arguments: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        kind(**arguments)
