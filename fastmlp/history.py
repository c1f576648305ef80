"""What training reports."""

from collections.abc import Iterator, Mapping


class History(Mapping[str, list[float]]):
    """A mapping of lists with one entry an epoch: ``epoch`` (from 0), ``loss`` (before each update, mean over the rows).

    Examples
    --------
    >>> from fastmlp import History
    >>> history = History(epoch=[0, 1], loss=[0.5, 0.25])
    >>> history["loss"][-1]
    0.25
    """

    def __init__(self, **columns: list[float]) -> None:
        self._columns = columns

    def __getitem__(self, name: str) -> list[float]:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        losses = self._columns.get("loss", [])
        ends = f", loss {losses[0]:.4g} -> {losses[-1]:.4g}" if losses else ""
        return f"History({len(losses)} epochs{ends})"
