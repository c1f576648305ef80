"""How numbers, tables and curves are shown: in text, and in a notebook's HTML."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import fastmlp
from fastmlp import History, Model, display

pytestmark = pytest.mark.small
X, Y = np.arange(6.0).reshape(3, 2) / 6, np.ones((3, 1))


class Page(HTMLParser):
    """What a browser would make of a fragment: its elements, its rows of cells, and its other text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text: dict[str, str] = {}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        else:
            self.text[self.open[-1]] = self.text.get(self.open[-1], "") + data

    def points(self) -> list[list[tuple[float, float]]]:
        """Each line's points."""
        paths = [str(attrs["d"]) for tag, attrs in self.elements if tag == "path"][1:]
        return [[(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.-]+) ([\d.-]+)", path)] for path in paths]


# ---- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.69314, "0.6931"),
        (np.float32(0.5), "0.5000"),
        (0.0, "0.0000"),
        (0.001, "0.0010"),
        (0.00099, "9.900e-04"),
        (3.2e-6, "3.200e-06"),
        (-3.2e-6, "-3.200e-06"),
        (5e-324, "4.941e-324"),
        (12345.678, "12345.6780"),
        (1e9, "1.000e+09"),
        (-1.5e300, "-1.500e+300"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (math.nan, "nan"),
        (1, "1.0000"),
    ],
)
def test_a_number(value: float, shown: str) -> None:
    assert display.number(value) == shown


@pytest.mark.parametrize("how", [{}, {"validation_data": (X, Y), "metrics": ["mse"]}])
def test_a_small_loss_is_seen_while_it_falls(how: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    model = Model.from_weights([[[0.0], [0.0]]], [[1.001]])
    losses = model.fit(X, Y, epochs=2, lr=0.1, verbose=1, **how)["loss"]  # type: ignore[arg-type]
    assert 1e-7 < losses[1] < losses[0] < 1e-5
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(f"Epoch 0, Loss: {losses[0]:.3e}")
    if how:
        assert re.fullmatch(r"Epoch 0, Loss: \S+e-\d+, mse: \S+e-\d+, val_loss: \S+e-\d+, val_mse: \S+e-\d+", first)


# ---- histories -------------------------------------------------------------------------------------------------------


def falling(epochs: int) -> History:
    return History(epoch=range(epochs), loss=[1 / (1 + i) for i in range(epochs)])


def test_a_printed_history_has_the_first_some_the_best_and_the_last_epochs() -> None:
    scores = [(i - 50.0) ** 2 + 1 for i in range(100)]
    history = History(epoch=range(100), loss=np.arange(100.0), lr=[1e-5] * 100, val_loss=scores)
    lines = str(history).splitlines()
    assert lines[0] == "100 epochs; the lowest val_loss is that of epoch 50"
    assert lines[1].split() == ["epoch", "loss", "lr", "val_loss"]
    rows = [line.split() for line in lines[2:]]
    assert [row[0] for row in rows] == ["0", "14", "28", "42", "50", "57", "71", "85", "99"]
    assert rows[4] == ["50", "50.0000", "1.000e-05", "1.0000", "best"]
    assert [row for row in rows if row[-1] == "best"] == [rows[4]]
    assert len({line.index(row[3]) + len(row[3]) for line, row in zip(lines[2:], rows, strict=True)}) == 1  # they end together
    assert repr(history) == "History(100 epochs, loss 0.0000 -> 99.0000)"


@pytest.mark.parametrize("epochs", [1, 2, 7, 8, 9])
def test_a_short_history_is_printed_whole_or_nearly(epochs: int) -> None:
    lines = str(falling(epochs)).splitlines()
    assert len(lines) == 2 + min(epochs, 8)
    assert (lines[2].split()[0], lines[-1].split()[0], lines[-1].split()[-1]) == ("0", str(epochs - 1), "best")
    assert lines[0].startswith("1 epoch;" if epochs == 1 else f"{epochs} epochs;")


def test_a_history_that_began_later_and_has_numbers_of_all_kinds() -> None:
    history = History(epoch=range(5, 8), loss=[math.nan, math.inf, 2.0])
    assert str(history).splitlines()[0] == "3 epochs; the lowest loss is that of epoch 7"
    assert [line.split()[:2] for line in str(history).splitlines()[2:]] == [["5", "nan"], ["6", "inf"], ["7", "2.0000"]]
    nowhere = History(epoch=range(2), loss=[math.nan, math.nan])
    assert str(nowhere).splitlines()[0] == "2 epochs"
    assert "<path" not in nowhere._repr_html_()
    assert str(History(epoch=range(0), loss=[])).splitlines()[0] == "0 epochs"
    assert Page(History(epoch=range(0), loss=[])._repr_html_()).rows == [["epoch", "loss", ""]]
    assert str(History(accuracy=[0.5, 1.0])).splitlines()[-1].split() == ["1", "1.0000"]


def test_a_notebook_shows_a_historys_table_and_its_curves() -> None:
    history = Model([2, 1], rng=0).fit(X, Y, 4, lr=0.1, validation_data=(X, Y))
    page = Page(history._repr_html_())
    assert page.rows == [line.split() + [""] * (len(line.split()) < 4) for line in str(history).splitlines()[1:]]
    assert page.text["caption"] == str(history).splitlines()[0]
    assert page.text["title"] == "loss, val_loss over the epochs"
    first, second = page.points()
    assert len(first) == len(second) == 4
    heights = [y for _, y in first]
    assert heights == sorted(heights)  # y grows downwards: the loss falls
    assert min(y for _, y in first + second) == 8
    assert max(y for _, y in first + second) == 8 + display.HEIGHT


def test_a_curve_is_logarithmic_where_plot_is() -> None:
    history = History(epoch=range(3), loss=[1.0, 0.1, 0.01])
    page = Page(history._repr_html_())
    assert page.text["title"] == "loss over the epochs, logarithmic"
    (line,) = page.points()
    assert [y for _, y in line] == [8, 8 + display.HEIGHT / 2, 8 + display.HEIGHT]
    assert {"1.0000", "0.0100"} <= set(re.findall(r"\d\.\d{4}", page.text["text"]))


def test_of_many_epochs_a_curve_has_each_pixels_extremes() -> None:
    losses = np.random.default_rng(0).uniform(1, 2, 100_000)
    losses[[123, 77_777]] = 3.0, 0.5
    history = History(epoch=range(100_000), loss=losses, val_loss=losses + 1)
    html = history._repr_html_()
    assert len(html) < 20_000
    (first, _) = Page(html).points()
    assert len(first) <= 2 * (display.WIDTH + 1)
    assert abs(max(y for _, y in first) - (8 + display.HEIGHT)) < 0.1  # 0.5, the lowest of both


def test_a_curve_has_gaps_and_points_without_neighbours_are_seen() -> None:
    html = History(epoch=range(6), loss=[1.0, 1.5, math.nan, 1.2, math.inf, 1.1])._repr_html_()
    path = re.findall(r'd="(M[^"]*)"', html)[1]
    assert [part.count("L") for part in path.split("M")[1:]] == [1, 0, 0]
    assert path.count("h0") == 3


@pytest.mark.parametrize("losses", [[2.0], [2.0, 2.0], [1e308, -1e308], [5e-324, 1e-320], [1e308, 1e-308], [0.0, -0.0]])
def test_a_curve_of_any_numbers_lies_within_its_picture(losses: list[float]) -> None:
    history = History(epoch=range(len(losses)), loss=losses)
    page = Page(history._repr_html_())
    (line,) = page.points()
    assert len(line) == len(losses)
    assert all(8 <= y <= 8 + display.HEIGHT and 0 <= x < 600 for x, y in line)


def test_names_are_escaped_and_nothing_runs_or_is_loaded() -> None:
    evil = "</td><script>alert(1)</script>&"
    history = History(epoch=range(2), loss=[1.0, 0.5], **{evil: [1.0, 2.0]})
    page = Page(history._repr_html_())
    assert page.rows[0] == ["epoch", "loss", evil, ""]
    activation = fastmlp.CustomActivation("<b onload=x>", lambda z: z + 1, lambda z: 1.0 + 0 * z)
    shown = Page(Model([2, 3, 1], [activation, "identity"])._repr_html_())
    assert shown.rows[1] == ["1", "2 -> 3", "<b onload=x>", "9", "72"]
    for one in (page, shown):
        assert {tag for tag, _ in one.elements} <= {"div", "table", "caption", "tr", "th", "td", "svg", "title", "path", "text"}
        names = {name for _, attrs in one.elements for name in attrs}
        assert not any(name.startswith("on") or name in ("src", "href", "xlink:href") for name in names)
        assert not any("url(" in (value or "") for _, attrs in one.elements for value in attrs.values())


def test_colours_are_the_notebooks_or_seen_on_black_and_on_white() -> None:
    page = Page(falling(3)._repr_html_())
    said = " ".join(str(value) for _, attrs in page.elements for value in attrs.values())
    assert set(re.findall(r"#\w+", said)) <= set(display.COLOURS)
    assert "background" not in said
    for colour in display.COLOURS:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        # The contrast that WCAG 2.2 asks of graphics (1.4.11), with white and with JupyterLab's #111.
        assert (1.05 / (light + 0.05)) > 3
        assert (light + 0.05) / (0.0056 + 0.05) > 3


# ---- models ----------------------------------------------------------------------------------------------------------


def test_a_notebook_shows_a_models_layers() -> None:
    model = Model([2, 3, 1], "tanh", "bce", "float32", dropout=0.25)
    page = Page(model._repr_html_())
    assert page.text["caption"] == "fastmlp.Model: bce, float32, dropout 0.25"
    assert page.rows == [re.split(r"  +", line) for line in model.summary().splitlines()[:-1]] + [["total", "", "", "13", "52"]]
    assert "dropout" not in Model([2, 1])._repr_html_()
