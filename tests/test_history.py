"""History: what fit returns."""

import sys
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


# ---- plot ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def axes():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield pyplot.subplots()[1]
    pyplot.close("all")


def test_plot_draws_both_losses(axes):
    history = fastmlp.History(epoch=range(3), loss=[3.0, 2.0, 1.0], val_loss=[3.0, 2.5, float("nan")], accuracy=[0.1, 0.2, 0.3])
    assert history.plot(axes) is axes
    assert [line.get_label() for line in axes.get_lines()] == ["loss", "val_loss"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["loss", "val_loss"]
    assert axes.get_lines()[0].get_xydata().tolist() == [[0, 3.0], [1, 2.0], [2, 1.0]]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == ("epoch", "loss", "linear")


@pytest.mark.parametrize(
    ("losses", "scale"),
    [
        ([1.0, 0.05], "log"),
        ([float("nan"), 1.0, 0.05, float("inf")], "log"),
        ([1.0, 0.2], "linear"),
        ([1.0, 0.0], "linear"),
        ([1.0, -5.0], "linear"),
        ([], "linear"),
    ],
)
def test_plot_takes_a_logarithmic_scale_where_it_suits(losses, scale, axes):
    fastmlp.History(epoch=range(len(losses)), loss=losses).plot(axes)
    assert axes.get_yscale() == scale


def test_plot_makes_a_figure_of_its_own(axes):
    other = fastmlp.History(epoch=range(1), loss=[1.0]).plot()
    assert other is not axes
    assert other.figure is not axes.figure


def test_plot_without_matplotlib_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "fastmlp\[plot\]"'):
        fastmlp.History(epoch=range(1), loss=[1.0]).plot()


# ---- to_frame --------------------------------------------------------------------------------------------------------


def test_to_frame_is_a_table_by_epochs():
    pandas = pytest.importorskip("pandas")
    model = fastmlp.Model([2, 1], rng=0)
    history = model.fit(X, Y, epochs=5, lr=0.1, metrics=["mse"], validation_data=(X, Y), initial_epoch=2)
    frame = history.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert (frame.index.name, frame.index.tolist()) == ("epoch", [2, 3, 4])
    assert frame.columns.tolist() == [name for name in history if name != "epoch"]
    assert all(frame[name].tolist() == history[name] for name in frame)
    assert fastmlp.History(epoch=range(0), loss=[]).to_frame().shape == (0, 1)


def test_to_frame_without_pandas_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"History\.to_frame needs pandas: pip install pandas"):
        fastmlp.History(epoch=range(1), loss=[1.0]).to_frame()
