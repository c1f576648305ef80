"""How a fit's rows come to the engine: all at once, by pieces, or batch by batch. Each can stop behind any step, and go on."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, Protocol

import numpy as np

from fastmlp.callbacks import has_state
from fastmlp.engine.engine import Engine
from fastmlp.engine.state import Job
from fastmlp.files.description import parts
from fastmlp.training.dataset import checksum

Look = Callable[[int], object]


class Feed(Protocol):
    """What trains an engine, epoch by epoch, from where it stands."""

    def train(self, losses: np.ndarray, rates: np.ndarray | None, look: Look, most: int | None) -> int:
        """Train the epochs that the losses have room for; how many are done.

        Parameters
        ----------
        losses : (epochs,) array of zeros
            Gets each epoch's mean loss.
        rates : (epochs * steps,) array or None
            A rate for each of their steps, those that are done included.
        look : function
            Called in between with the number of epochs that are done; if it says True, training stops behind the step.
        most : int or None
            Steps after which it stops.
        """
        ...

    @property
    def within(self) -> bool:
        """Whether an epoch has begun that is not done."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, for `load_state_dict` of another one over the same rows; a ``cursor`` of 0 is an epoch's start."""
        ...

    def load_state_dict(self, state: Any) -> Callable[[], None]:
        """What sets it to a state, which has been checked; raises ValueError if it is none."""
        ...


class Pieces(Protocol):
    """Rows that are converted by pieces: `Data`, or what has these parts of it."""

    y: np.ndarray

    def parts(self, multiple: int = 1, /) -> Iterator[slice]:
        """All rows, in pieces whose lengths are multiples of `multiple`."""
        ...

    def converted(self, rows: Any, /) -> np.ndarray:
        """Some rows of X, as the kernels read them."""
        ...


class AllAtOnce:
    """Rows that lie as the kernels read them: many epochs are one call."""

    def __init__(self, engine: Engine, job: Job) -> None:
        self._engine, self._job = engine, job
        self._loss = 0.0  # of the epoch under way, so far

    def train(self, losses: np.ndarray, rates: np.ndarray | None, look: Look, most: int | None) -> int:
        job = self._job
        job.most, job.rates = most, None if rates is None else rates[job.cursor // job.batch :]
        losses[0] = self._loss
        try:
            done = self._engine.train(job, losses, look)
        except KeyboardInterrupt:
            look(min(self._engine.epochs_done, len(losses)))  # the last look is some tenths of a second old
            raise
        self._loss = losses.item(done) if job.cursor else 0.0
        return done

    @property
    def order(self) -> np.ndarray | None:
        """The rows in order of visit, which may be set between epochs; None: as they lie."""
        return self._job.order

    @order.setter
    def order(self, order: np.ndarray | None) -> None:
        self._job.order = order

    @property
    def within(self) -> bool:
        return self._job.cursor > 0

    def state_dict(self) -> dict[str, Any]:
        job, order = self._job, _saved(self._job.order)
        return {"cursor": job.cursor, "loss": self._loss, "order": order, "random": job.seed, "dropout": job.dropout}

    def load_state_dict(self, state: Any) -> Callable[[], None]:
        job, kind = self._job, type(None) if self._job.order is None else np.ndarray
        cursor, loss, order, random, dropout = parts(
            "its place", state, cursor=int, loss=float, order=kind, random=int, dropout=int
        )
        _check(cursor, len(job.X), job.batch, random, dropout)
        order = _order(order, len(job.X))

        def go() -> None:
            job.cursor, job.seed, job.dropout, job.order, self._loss = cursor, random, dropout, order, loss

        return go


class ByPieces:
    """Rows that are converted by pieces, in an order that NumPy draws for each epoch if there is a generator.

    Attributes
    ----------
    order : (rows,) array or None
        That of the epoch under way, if there is a generator; else one that may be set between epochs. None: as they lie.
    """

    def __init__(self, engine: Engine, job: Job, data: Pieces, orders: np.random.Generator | None = None) -> None:
        self._engine, self._job, self._data, self._orders = engine, job, data, orders
        self.order: np.ndarray | None = None
        self._before = self._generator()  # before it was drawn
        self._cursor, self._loss, self._of_piece = 0, 0.0, 0.0

    def train(self, losses: np.ndarray, rates: np.ndarray | None, look: Look, most: int | None) -> int:
        engine, batch, rows, paused = self._engine, self._job.batch, len(self._data.y), False
        self._draw()

        def watch(done: int) -> bool:
            nonlocal paused
            paused = bool(look(0))
            return paused

        for part in self._data.parts(batch):
            if part.stop <= self._cursor:
                continue
            piece, first = self._piece(part), self._cursor
            piece.cursor, piece.most = first - part.start, most
            piece.rates = None if rates is None else rates[first // batch : -(-part.stop // batch)]
            mean = np.array([self._of_piece])
            if engine.train(piece, mean, watch):
                self._loss += mean.item() * (len(piece.X) / rows)
                self._cursor, self._of_piece = part.stop, 0.0
            else:
                self._cursor, self._of_piece = part.start + piece.cursor, mean.item()
            # Not from the engine's count of steps, which begins anew with another kind of optimiser.
            most = None if most is None else most - -(-(self._cursor - first) // batch)
            if self._cursor < rows and (paused or self._cursor < part.stop or most == 0):
                return 0
        losses[0] = self._loss
        self._cursor, self._loss = 0, 0.0
        if self._orders is not None:
            self.order = None
        look(1)
        return 1

    def _draw(self) -> None:
        if self._orders is not None and self.order is None:
            self._before = self._generator()
            self.order = self._orders.permutation(len(self._data.y))

    def _piece(self, part: slice) -> Job:
        data, job = self._data, self._job
        if self.order is None:
            return replace(job, X=data.converted(part), y=data.y[part], order=None)
        rows = self.order[part]
        sort = np.argsort(rows)  # a file is read forwards, whatever the order of visit
        visit = np.empty_like(sort)
        visit[sort] = np.arange(len(sort))
        return replace(job, X=data.converted(rows[sort]), y=data.y[rows[sort]], order=visit)

    def _generator(self) -> dict[str, Any] | None:
        return None if self._orders is None else dict(self._orders.bit_generator.state)

    @property
    def within(self) -> bool:
        return self._cursor > 0

    def state_dict(self) -> dict[str, Any]:
        drawn: dict[str, Any] = {"generator": self._generator() if self.order is None else self._before}
        drawn["order"] = None if self._orders is not None else _saved(self.order)
        return {"cursor": self._cursor, "loss": self._loss, "of_piece": self._of_piece, "dropout": self._job.dropout, **drawn}

    def load_state_dict(self, state: Any) -> Callable[[], None]:
        kind = type(None) if self._orders is None else dict
        of_order = type(None) if self.order is None or self._orders is not None else np.ndarray
        cursor, loss, of_piece, dropout, generator, order = parts(
            "its place", state, cursor=int, loss=float, of_piece=float, dropout=int, generator=kind, order=of_order
        )
        _check(cursor, len(self._data.y), self._job.batch, dropout)
        order = _order(order, len(self._data.y))
        drawn = None
        if generator is not None:
            try:
                drawn = np.random.Generator(np.random.PCG64())
                drawn.bit_generator.state = generator
            except (TypeError, ValueError, KeyError, OverflowError) as error:
                raise ValueError(f"its generator must have the state of a PCG64: {error!r}") from None

        def go() -> None:
            self._cursor, self._loss, self._of_piece, self._job.dropout = cursor, loss, of_piece, dropout
            self._orders, self.order = drawn, order
            if cursor:
                self._draw()

        return go


class ByBatches:
    """Batches as they come, a step each.

    Parameters
    ----------
    engine : Engine
    batches : iterable, map-style dataset, or function that returns either
    steps : int or None
        Batches in an epoch; None: all.
    check : function
        Makes a job of a batch and its number.
    seed : function
        The seed of dropout, asked for once, when there is a good batch.
    """

    def __init__(
        self, engine: Engine, batches: Any, steps: int | None, check: Callable[[Any, int], Job], seed: Callable[[], int]
    ) -> None:
        self._engine, self._batches, self._steps, self._check, self._seed = engine, batches, steps, check, seed
        self._source: Any = None  # what the epoch under way iterates over
        self._left: Iterator[Any] | None = None  # its batches that are still to come
        self._last: Job | str | None = None  # or its checksum
        self._dropout: int | None = None
        self._count = self._rows = self._taken = 0
        self._total = 0.0

    def train(self, losses: np.ndarray, rates: np.ndarray | None, look: Look, most: int | None) -> int:
        engine, mean, until = self._engine, np.zeros(1), None if most is None else self._taken + most
        if self._left is None:
            self._left = self._opened()
        for batch in self._left:
            job = self._check(batch, self._count)
            if self._dropout is None:
                self._dropout = self._seed()
            job.dropout, job.rates = self._dropout, None if rates is None else rates[self._count : self._count + 1]
            mean[0] = 0
            engine.train(job, mean, lambda done: None)
            self._rows, self._total = self._rows + len(job.X), self._total + len(job.X) * mean.item()
            self._count, self._taken, self._last = self._count + 1, self._taken + 1, job
            if look(0) or self._taken == until:
                return 0
        if self._count < (self._steps or 1):
            raise ValueError(f"batches must hold {self._steps or 'at least one'} for an epoch, got {self._count}")
        losses[0] = self._total / self._rows
        self._left = self._source = None
        self._count, self._rows, self._total = 0, 0, 0.0
        look(1)
        return 1

    def _opened(self, at: int = 0, last: str | None = None) -> Iterator[Any]:
        """An epoch's batches, from number `at` on; the one before has the checksum `last`."""
        self._source = source = self._batches() if callable(self._batches) else self._batches
        if not iterable(source):
            raise TypeError(f"batches must return an iterable, got {source!r}")
        if _by_number(source):
            if at:
                self._compare(at, min(at, len(source)), source[at - 1] if at <= len(source) else None, last)
            return self._rest(source, at)
        each = islice(iter(source), self._steps)
        self._pass_over(each, at, last)
        return each

    def _rest(self, source: Any, at: int) -> Iterator[Any]:
        """An epoch's batches from number `at` on, of an iterable that stands there or a map-style dataset."""
        each = map(source.__getitem__, range(at, len(source))) if _by_number(source) else iter(source)
        return islice(each, None if self._steps is None else self._steps - at)

    def _pass_over(self, each: Iterator[Any], count: int, last: str | None) -> None:
        """Go on by some batches, which must be those that the fit of the checkpoint had."""
        if count:
            had, batch = next(iter(deque(enumerate(islice(each, count), 1), maxlen=1)), (0, None))
            self._compare(count, had, batch, last)

    def _compare(self, count: int, had: int, batch: Any, last: str | None) -> None:
        """Raise unless there were batches enough, and the last of them has the checksum that it had."""
        if had < count:
            raise ValueError(f"batches must hold the {count} that the checkpoint's fit has had before, got {had}")
        if last != _checksum(self._check(batch, count - 1)):
            raise ValueError(f"batches must be those of the checkpoint's fit: number {count - 1} has another checksum")

    @property
    def within(self) -> bool:
        return self._count > 0

    def state_dict(self) -> dict[str, Any]:
        if self._left is None and has_state(self._batches):
            self._left = self._opened()  # a source that an epoch has not exhausted may say where that has ended
        sums = {"cursor": self._count, "taken": self._taken, "rows": self._rows, "total": self._total}
        last = _checksum(self._last) if isinstance(self._last, Job) else self._last
        own = [self._source.state_dict()] if has_state(self._source) else None
        return {**sums, "dropout": self._dropout, "last": last, "source": own}

    def load_state_dict(self, state: Any) -> Callable[[], None]:
        none = type(None)
        count, taken, rows, total, dropout, last, own = parts(
            "its place",
            state,
            cursor=int,
            taken=int,
            rows=int,
            total=float,
            dropout=(int, none),
            last=(str, none),
            source=(list, none),
        )
        good = 0 <= count <= (taken if self._steps is None else min(taken, self._steps)) and (own is None or len(own) == 1)
        if not good or not 0 <= rows < 2**62 or (dropout is not None and not -(2**63) <= dropout < 2**63):
            raise ValueError(f"its place must be that of a training, got {count} batches of {taken}, with {rows} rows")

        def go() -> None:
            self._count, self._taken, self._rows, self._total, self._dropout = count, taken, rows, total, dropout
            self._last = last
            source: Any = self._batches
            if own is not None:
                source = source() if callable(source) and count else source
                if not has_state(source):
                    raise ValueError("batches must have load_state_dict, as those of the checkpoint's fit had state_dict")
                source.load_state_dict(own[0])
            elif isinstance(source, Iterator):
                self._pass_over(source, taken, last)
            else:
                self._left = self._opened(count, last) if count else None
                return
            if count:
                self._source, self._left = source, self._rest(source, count)

        return go


def iterable(value: Any) -> bool:
    """Whether it can be iterated over, or asked for its items by number."""
    return isinstance(value, Iterable) or hasattr(value, "__getitem__")


def _by_number(source: Any) -> bool:
    """Whether it is a map-style dataset that knows its length."""
    return not isinstance(source, Iterable) and hasattr(source, "__len__")


def _checksum(job: Job) -> str:
    return checksum([job.X, job.y], job.code, job.weighted)


def _saved(order: np.ndarray | None) -> np.ndarray | None:
    """An order as a file has it, in half the bytes."""
    return None if order is None else order.astype(np.uint32 if len(order) < 2**32 else np.uint64)


def _order(saved: np.ndarray | None, rows: int) -> np.ndarray | None:
    """An order from a file; raises ValueError if it is none of all rows."""
    if saved is None:
        return None
    if saved.dtype.kind != "u" or saved.shape != (rows,) or not np.array_equal(np.sort(saved), np.arange(rows)):
        raise ValueError(f"its order must hold each of the {rows} rows once")
    return saved.astype(np.int64)


def _check(cursor: int, rows: int, batch: int, *words: int) -> None:
    """Raise unless an epoch of `rows` rows can stand before row `cursor`, and the words have 64 bits."""
    if not 0 <= cursor < rows or cursor % batch or not all(-(2**63) <= word < 2**63 for word in words):
        raise ValueError(f"its place must be before one of {rows} rows, behind a batch of {batch}; got {cursor}")
