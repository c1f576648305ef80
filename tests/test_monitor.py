"""What a fit watches."""

from __future__ import annotations

import pytest

from fastmlp.monitor import Best, monitored

pytestmark = pytest.mark.small


def test_monitored() -> None:
    names = ("epoch", "loss", "lr", "val_loss", "accuracy", "val_accuracy", "val_mine")
    assert monitored("auto", "auto", ("epoch", "loss")) == ("loss", "min")
    assert monitored("auto", "auto", names) == ("val_loss", "min")
    assert monitored("val_accuracy", "auto", names) == ("val_accuracy", "max")
    assert monitored("val_accuracy", "min", names) == ("val_accuracy", "min")
    assert monitored("val_mine", "max", names) == ("val_mine", "max")
    with pytest.raises(ValueError, match="mode must be 'min' or 'max' for monitor='val_mine'"):
        monitored("val_mine", "auto", names)
    with pytest.raises(ValueError, match=r"monitor must be one of .* loss, val_loss, accuracy, .*; got 'val_r2'"):
        monitored("val_r2", "auto", names)


def test_best() -> None:
    best = Best("auto", "auto", 0.5)
    assert best.value is best.name is None
    assert not best.beats(9.0)
    assert [best.improves({"loss": loss}) for loss in (float("nan"), 3.0, 2.6, 2.4, float("nan"), 1.0)] == [
        False,
        True,
        False,
        True,
        False,
        True,
    ]
    assert (best.name, best.value) == ("loss", 1.0)
    assert best.beats(2.0)
    assert not best.beats(1.5)
    rising = Best("val_r2", "auto", 0.0)
    assert [rising.improves({"val_r2": score}) for score in (0.1, 0.1, 0.2)] == [True, False, True]
    assert rising.beats(0.1)
    assert not rising.beats(0.2)
