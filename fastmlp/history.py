"""What training reports."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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

    def plot(self, ax: "Axes | None" = None) -> "Axes":
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
        drawn = [name for name in ("loss", "val_loss") if name in self]
        for name in drawn:
            few = len(self["epoch"]) <= 30  # then the points can be told apart, and a single one is seen at all
            ax.plot(self["epoch"], self[name], label=name, marker="." if few else None)
        curves = [[loss for loss in self[name] if loss == loss and loss != float("inf")] for name in drawn]
        if all(min(curve, default=0) > 0 for curve in curves) and any(max(c) > LOG_SCALE * min(c) for c in curves):
            ax.set_yscale("log")
        ax.locator_params(axis="x", integer=True)
        ax.set_xlabel("epoch")
        ax.set_ylabel("loss")
        ax.legend()
        return ax

    def __repr__(self) -> str:
        losses = self.get("loss", [])
        ends = f", loss {losses[0]:.4g} -> {losses[-1]:.4g}" if losses else ""
        return f"History({len(losses)} epochs{ends})"
