"""What training reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp import display

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

ROWS = 8  # of a printed table, besides the best epoch's
LOG_SCALE = 10  # a loss that falls by more than this is drawn on a logarithmic scale


class History(Mapping[str, list[Any]]):
    """A mapping of lists with an entry for each epoch: its number ``epoch``, from 0, and its ``loss``.

    The loss is the mean over the rows, each before its update. Where `Model.fit` was asked for them there are also ``lr`` (of
    the epoch's last step), ``val_loss``, and each metric by its name and by ``val_`` with its name.

    Parameters
    ----------
    **columns : sequences
        Of one length, by their names.

    Examples
    --------
    >>> from fastmlp import History
    >>> history = History(epoch=range(2), loss=[0.5, 0.25])
    >>> history["epoch"], history["loss"][-1]
    ([0, 1], 0.25)
    >>> print(history)
    2 epochs; the lowest loss is that of epoch 1
    epoch    loss
        0  0.5000
        1  0.2500  best
    """

    def __init__(self, **columns: Any) -> None:
        self._columns = columns

    def __getitem__(self, name: str) -> list[Any]:
        # Lists are made when they are asked for: they take 20 ns an epoch, a quarter of the time of the smallest net's epoch.
        column = self._columns[name]
        if not isinstance(column, list):
            column = self._columns[name] = column.tolist() if hasattr(column, "tolist") else list(column)
        return column

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the loss over the epochs, and the validation's where there is one.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None
            Where to draw; None: in a new figure. The scale is made logarithmic if a loss falls to less than a tenth.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        TypeError
            If `ax` cannot be drawn in.
        ImportError
            Without matplotlib.
        """
        if ax is not None and not hasattr(ax, "plot"):
            raise TypeError(f"ax must be a matplotlib Axes or None, got {ax!r}")
        if ax is None:
            try:
                from matplotlib import pyplot
            except ImportError as error:
                raise ImportError('History.plot needs matplotlib: pip install "fastmlp[plot]"') from error
            ax = pyplot.subplots(layout="constrained")[1]
        drawn = self._drawn()
        for name in drawn:
            few = len(self["epoch"]) <= 30  # then the points can be told apart, and a single one is seen at all
            ax.plot(self["epoch"], self[name], label=name, marker="." if few else None)
        if self._logarithmic():
            ax.set_yscale("log")
        ax.locator_params(axis="x", integer=True)
        ax.set_xlabel("epoch")
        ax.set_ylabel("loss")
        ax.legend()
        return ax

    def to_frame(self) -> DataFrame:
        """The columns as a pandas table, whose index is the epoch.

        Returns
        -------
        pandas.DataFrame
            A row for each epoch, and a column for each thing that is reported besides its number.

        Raises
        ------
        ImportError
            Without pandas.

        Examples
        --------
        >>> from fastmlp import History
        >>> History(epoch=range(2), loss=[0.5, 0.25]).to_frame().loss.to_dict()
        {0: 0.5, 1: 0.25}
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("History.to_frame needs pandas: pip install pandas") from error
        index = pd.Index(self._epochs(), name="epoch")
        return pd.DataFrame({name: self[name] for name in self if name != "epoch"}, index=index)

    def _epochs(self) -> list[int]:
        return self["epoch"] if "epoch" in self else list(range(len(next(iter(self.values()), []))))

    def _drawn(self) -> list[str]:
        return [name for name in ("loss", "val_loss") if name in self]

    def _logarithmic(self) -> bool:
        """Whether a loss falls so far that a linear scale would show nothing of its end."""
        curves = [[loss for loss in self[name] if loss == loss and loss != float("inf")] for name in self._drawn()]
        return all(min(curve, default=0) > 0 for curve in curves) and any(max(c) > LOG_SCALE * min(c) for c in curves)

    def _table(self) -> tuple[str, list[list[str]], list[bool]]:
        """What is printed: a line, the rows of some epochs behind those of the heads, and which columns are numbers."""
        epochs, names = self._epochs(), [name for name in self if name != "epoch"]
        caption, best = f"{len(epochs)} epoch{'s' * (len(epochs) != 1)}", None
        monitor = next((name for name in ("val_loss", "loss") if name in self), None)
        losses = np.array(self[monitor] if monitor else [], np.float64)
        if not np.isnan(losses).all():
            best = int(np.nanargmin(losses))
            caption += f"; the lowest {monitor} is that of epoch {epochs[best]}"
        some = (
            {round(i * (len(epochs) - 1) / (ROWS - 1)) for i in range(ROWS)} if len(epochs) > ROWS else set(range(len(epochs)))
        )
        rows = [["epoch", *names, ""]]
        for i in sorted(some | ({best} if best is not None else set())):
            cells = [display.number(self[name][i]) for name in names]
            rows.append([str(epochs[i]), *cells, "best" if i == best else ""])
        return caption, rows, [True] * (len(names) + 1) + [False]

    def __str__(self) -> str:
        caption, rows, right = self._table()
        return f"{caption}\n{display.table(rows, right)}"

    def _repr_html_(self) -> str:
        """What a notebook shows: the table, and the losses as a picture."""
        picture = display.curves(self._epochs(), {name: self[name] for name in self._drawn()}, self._logarithmic())
        return f"<div>{display.html_table(*self._table())}{picture}</div>"

    def __repr__(self) -> str:
        losses = self.get("loss", [])
        ends = f", loss {display.number(losses[0])} -> {display.number(losses[-1])}" if losses else ""
        return f"History({len(losses)} epochs{ends})"
