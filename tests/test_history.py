"""History: what fit returns."""

from collections.abc import Mapping

import numpy as np
import pytest

import fastmlp

pytestmark = pytest.mark.small

X, Y = np.arange(6.0).reshape(3, 2) / 6, np.ones((3, 1))


def test_is_a_mapping_of_lists():
    history = fastmlp.Model([2, 1], rng=0).fit(X, Y, epochs=4)
    assert isinstance(history, fastmlp.History)
    assert isinstance(history, Mapping)
    assert {"epoch", "loss"} <= set(history)
    assert len(history) == len(list(history))
    assert history["epoch"] == [0, 1, 2, 3]
    assert all(type(epoch) is int for epoch in history["epoch"])
    assert isinstance(history["loss"], list)
    assert all(type(loss) is float for loss in history["loss"])
    assert all(isinstance(key, str) and len(values) == 4 for key, values in history.items())
    assert "loss" in history
    assert "nothing" not in history
    assert history.get("nothing") is None
    assert dict(history) == {key: history[key] for key in history}


def test_an_unknown_key_is_a_key_error():
    with pytest.raises(KeyError, match="nothing"):
        fastmlp.Model([2, 1], rng=0).fit(X, Y)["nothing"]


def test_losses_are_those_before_each_update():
    model = fastmlp.Model([2, 1], rng=0)
    before = model.loss(X, Y)
    losses = model.fit(X, Y, epochs=50, lr=0.1)["loss"]
    assert losses[0] == pytest.approx(before, rel=1e-14)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


def test_each_fit_has_its_own():
    model = fastmlp.Model([2, 1], rng=0)
    first = model.fit(X, Y, epochs=2)
    second = model.fit(X, Y, epochs=3)
    assert first["epoch"] == [0, 1]
    assert len(first["loss"]) == 2
    assert second["epoch"] == [0, 1, 2]
    assert len(second["loss"]) == 3
