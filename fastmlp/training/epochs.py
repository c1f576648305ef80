"""Between the epochs of a fit: validation, metrics, callbacks, schedules, printing, and what ends it early."""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp import checks, display
from fastmlp.callbacks import EarlyStopping, hooks, listed
from fastmlp.engine.engine import Engine
from fastmlp.engine.state import Job
from fastmlp.history import History
from fastmlp.monitor import monitored, reported
from fastmlp.network import Network
from fastmlp.schedules import Course, ReduceOnPlateau, Schedule
from fastmlp.training import doubts, measuring
from fastmlp.training.checkpoint import Checkpoint
from fastmlp.training.dataset import Data
from fastmlp.training.feeding import Feed
from fastmlp.training.resuming import Resumable

if TYPE_CHECKING:
    from fastmlp.training.fit import Trainable

RATES = 1 << 16  # steps whose rates are worked out at a time, and trained in one call
BAR_TURN = 0.1  # seconds between updates of a progress bar's numbers
NONFINITE = ("ignore", "raise", "stop")


class DivergenceError(ArithmeticError):
    """The loss or a weight was no longer finite, in a fit with ``nonfinite="raise"``.

    Attributes
    ----------
    epoch : int
        The epoch at whose end that was seen.
    """

    def __init__(self, message: str, epoch: int = -1) -> None:
        super().__init__(message)
        self.epoch = epoch


class Epochs(Resumable):
    """One fit's course: epoch by epoch where something needs that, else by as few calls as possible.

    Parameters
    ----------
    model : Model
    initial, epochs : int
        The first epoch's number, and the last one's plus 1.
    steps : int or None
        Steps in an epoch, each with an update after its loss; None: not known.
    verbose : int or "bar"
    metrics, callbacks, nonfinite
        The arguments of `Model.fit`.
    schedule : Schedule or None
    train, val : Data or None
        What metrics are computed from, and the validation's loss.
    each : bool
        Whether the training itself goes epoch by epoch.
    checkpoint : Checkpoint or None
    """

    def __init__(
        self,
        model: "Trainable",
        initial: Any,
        epochs: int,
        steps: int | None,
        verbose: Any = 0,
        metrics: Any = None,
        callbacks: Any = None,
        nonfinite: Any = "ignore",
        schedule: Schedule | None = None,
        train: Data | None = None,
        val: Data | None = None,
        each: bool = False,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._model, self._engine, self._epochs, self._schedule = model, model._engine, epochs, schedule
        self._initial, self._steps = checks.count("initial_epoch", initial, 0), steps
        if epochs <= self._initial:
            raise ValueError(f"epochs must be more than initial_epoch={self._initial}: it is where the fit ends; got {epochs}")
        self._metrics = measuring.resolve(metrics, model.network)
        self._seen = (None, None) if train is None or train.weighted or train.pieces else (train.X, train.true)
        self._watched = [(prefix, data) for prefix, data in (("", train), ("val_", val)) if data is not None]
        self._nonfinite = checks.choice("nonfinite", nonfinite, NONFINITE)
        self._hooks, self._callbacks = hooks(callbacks), listed(callbacks)
        self._checkpoint = checkpoint
        self._course = schedule.start() if schedule else None
        if self._course and self._initial and model._followed and model._followed[0] == schedule:
            self._course = model._followed[1]
        self._each = each or bool(val or self._metrics or any(self._hooks.values()) or self._course) or nonfinite != "ignore"
        names = ["loss", *(["lr"] if schedule else [])]
        for prefix, _ in self._watched:
            names += ["val_loss"] * bool(prefix) + [prefix + name for name in self._metrics]
        self._columns: dict[str, list[Any]] = {name: [] for name in names}
        for watcher in (schedule, *self._callbacks):
            if isinstance(watcher, EarlyStopping):
                watcher._check()
            if isinstance(watcher, EarlyStopping | ReduceOnPlateau):
                monitored(watcher.monitor, watcher.mode, names)
            elif isinstance(monitor := getattr(watcher, "monitor", None), str):
                reported(monitor, names)
        for _, data in self._watched:
            measuring.fit(self._metrics, data.true, model.network.sizes[-1])
        if isinstance(verbose, str) and verbose != "bar":
            raise TypeError(f"verbose must be an integer, True, False or 'bar', got {verbose!r}")
        self._bar_kind = _tqdm() if isinstance(verbose, str) else None
        self._verbose = 0 if self._bar_kind else checks.verbose(verbose)
        self._bar: Any = None
        self._last: dict[str, Any] = {"epochs": epochs, "steps": steps}  # the last epoch's logs
        self._done = self._initial
        self._printed = -(-self._initial // (self._verbose or 1)) * self._verbose
        self._shown = -math.inf
        self._doubted = self._stopped = False
        self._leg = self._next_leg()  # so that a schedule is refused before anything happens

    def run(self, feed: Feed, draw: Callable[[], object] = lambda: None) -> History:
        """Run them; `draw` sets the seeds, when everything has been checked."""
        engine, keeping = self._engine, self._checkpoint
        found, saved = (None, None) if keeping is None else (keeping.found, keeping.saved)
        kept: dict[str, Any] | None = None
        if found is None or saved is None:
            draw()
        else:
            kept = self._go_on(feed, found, draw)
            engine.restore(saved)

        def go() -> None:
            nonlocal kept
            if found is not None and saved is not None:
                engine.restore(saved)  # once more: a callback may have changed the weights as the training began
                self._remind(found)
            if kept is None and self._nonfinite != "ignore":
                kept = engine.save()
            if keeping is not None:
                keeping.begin(engine)
                self._write(feed, kept)
            try:
                while not self._stopped and self._done < self._epochs:
                    first, (count, rates) = self._done, self._leg
                    losses = np.zeros(count)
                    most = None if keeping is None else keeping.most(engine)
                    done = feed.train(losses, rates, partial(self._look, losses, first), most)
                    losses = losses[:done]
                    if kept and not (np.isfinite(losses).all() and self._finite()):
                        engine.restore(kept)
                        self._done = first
                        self._diverged(first, losses.item() if done else math.nan)
                        break
                    self._done = first + done
                    self._columns["loss"] += losses.tolist()
                    if rates is not None and self._steps:
                        self._columns["lr"] += rates[self._steps - 1 :: self._steps][:done].tolist()
                    if done:
                        self._doubt(losses, first)
                        self._stopped = self._each and self._end(first)
                        if kept:
                            kept = engine.save()
                    ended = self._stopped or self._done == self._epochs
                    if not ended:
                        self._leg = self._next_leg()
                    if keeping is not None and (ended or keeping.due(engine, done > 0)):
                        self._write(feed, kept)
            finally:  # an exception may have come before the restoration
                if kept and not self._finite():
                    engine.restore(kept)

        return self._between(go)

    def follow(self, iterate: Callable[[Callable[[list[float]], None]], list[float]]) -> History:
        """Follow a training that calls back after each of its iterations, with their losses, and ends at StopIteration."""

        def look(losses: list[float]) -> None:
            self._done = self._initial + len(losses)
            self._columns["loss"].append(losses[-1])
            self._doubt(np.array(losses[-1:]), self._done - 1)
            if self._bar is not None:
                self._show(self._done, losses[-1])
            if self._end(self._done - 1):
                raise StopIteration

        def go() -> None:
            losses = iterate(look)
            if self._done == self._initial:  # it was at a minimum
                self._done, self._columns["loss"] = self._initial + 1, losses
                self._doubt(np.array(losses), self._initial)
                self._end(self._initial)

        return self._between(go)

    def _between(self, go: Callable[[], None]) -> History:
        """Train between the hooks of its begin and its end."""
        try:
            if self._bar_kind:
                self._bar = self._bar_kind(total=self._epochs, initial=self._done, unit="epoch")
            for hook in self._hooks["on_train_begin"]:
                hook(self._model, dict(self._last))
            if self._schedule and self._course:
                self._model._followed = self._schedule, self._course
            go()
            for hook in self._hooks["on_train_end"]:
                hook(self._model, self._last)
        except KeyboardInterrupt as interrupt:
            interrupt.args = (interrupted(self._done, self._epochs),)
            raise
        finally:
            if self._bar is not None:
                self._bar.close()
        self._judge(self._columns["loss"])
        return History(epoch=range(self._initial, self._done), **self._columns)

    def _end(self, epoch: int) -> bool:
        """Do what comes at an epoch's end; whether the fit ends with it."""
        stop, self._last = False, self._logs(epoch)
        self._print(self._last)
        if self._course:
            self._course.observe(self._last)
        for hook in self._hooks["on_epoch_end"]:
            said = hook(self._model, self._last)
            stop = (isinstance(said, bool | np.bool_) and bool(said)) or stop
        return stop

    def _next_leg(self) -> tuple[int, np.ndarray | None]:
        """How many epochs are trained at a time, and with which rate each of their steps."""
        single = self._each or (self._checkpoint is not None and self._checkpoint.each_epoch)
        count = 1 if single else self._epochs - self._done
        if self._schedule is None or self._steps is None:
            return count, None
        count = min(count, max(RATES // self._steps, 1))
        steps = count * self._steps
        return count, rates(self._schedule, self._course, self._done * self._steps, steps, self._steps, self._epochs)

    def _finite(self) -> bool:
        return bool(np.isfinite(self._engine.params).all())

    def _doubt(self, losses: np.ndarray, first: int) -> None:
        """Warn of the first loss that is not finite."""
        if not (self._doubted or math.isfinite(losses[-1])):
            self._doubted = True
            doubts.after(self._model.network, losses, first, *self._seen)

    def _judge(self, losses: list[float]) -> None:
        """Warn of a fit that has been in vain."""
        if losses and not self._doubted:
            if not self._finite():
                doubts.weights(self._initial, len(losses))
            elif not losses[-1] < doubts.SUSPECT:
                doubts.after(self._model.network, losses, self._initial, *self._seen)

    def _diverged(self, epoch: int, loss: float) -> None:
        if self._nonfinite == "raise":
            what = "a weight was not finite" if math.isfinite(loss) else f"the loss was {loss}"
            back = f"epoch {epoch - 1}" if epoch else "the start"
            raise DivergenceError(f"{what} at the end of epoch {epoch}; the model has the weights of {back}", epoch)

    def _logs(self, epoch: int) -> dict[str, Any]:
        row = epoch - self._initial
        logs = {"epoch": epoch, **{name: column[-1] for name, column in self._columns.items() if len(column) > row}}
        for prefix, data in self._watched:
            if prefix:
                logs["val_loss"] = data.loss(self._engine)
            if self._metrics:
                outputs = data.predict(self._engine, self._model.network.sizes[-1])
            for name, metric in self._metrics.items():
                logs[prefix + name] = measuring.number(name, metric(data.true, outputs, data.weights))
        for name, column in self._columns.items():
            if len(column) == row:
                column.append(logs[name])
        return logs

    def _look(self, losses: np.ndarray, first: int, done: int) -> bool:
        """Note how many epochs are done: called during a training, before its call returns. True: it is to pause."""
        self._done = max(self._done, first + done)
        if self._bar is not None and done:
            self._show(first + done, losses[done - 1])
        while self._verbose and not self._each and self._printed < first + done:
            epoch, self._printed = self._printed, self._printed + self._verbose  # first: Ctrl-C may end the printing
            print(f"Epoch {epoch}, Loss: {display.number(losses[epoch - first])}")
        return self._checkpoint is not None and self._checkpoint.late()

    def _print(self, logs: dict[str, Any]) -> None:
        if self._verbose and logs["epoch"] % self._verbose == 0:
            more = "".join(f", {name}: {display.number(logs[name])}" for name in self._columns if name not in ("loss", "lr"))
            print(f"Epoch {logs['epoch']}, Loss: {display.number(logs['loss'])}{more}")

    def _show(self, done: int, loss: float) -> None:
        now = time.monotonic()
        if now - self._shown >= BAR_TURN or done == self._epochs:
            self._shown = now
            self._bar.set_postfix_str(f"loss={display.number(loss)}", refresh=False)
            self._bar.update(done - self._bar.n)


def plain(engine: Engine, network: Network, job: Job, losses: np.ndarray, verbose: int) -> History:
    """A fit that is one call: nothing but losses is printed between its epochs."""
    epochs, printed = len(losses), 0

    def look(done: int) -> None:
        nonlocal printed
        while verbose and printed < done:
            epoch, printed = printed, printed + verbose  # first: Ctrl-C may end the printing
            print(f"Epoch {epoch}, Loss: {display.number(losses[epoch])}")

    try:
        engine.train(job, losses, look)
    except KeyboardInterrupt as interrupt:
        done = min(engine.epochs_done, epochs)  # the last look is some tenths of a second old
        look(done)
        interrupt.args = (interrupted(done, epochs),)
        raise
    if not losses.item(-1) < doubts.SUSPECT:
        doubts.after(network, losses, 0, job.X, job.y)
    return History(epoch=range(epochs), loss=losses)


def rates(schedule: Schedule, course: Course | None, first: int, count: int, steps: int, epochs: int) -> np.ndarray:
    """A schedule's rates, as `Schedule.rates` explains them, with what its course makes of them; raises where they are none."""
    name = f"{type(schedule).__name__}.rates"
    found = checks.numbers(name, schedule.rates(first, count, steps, epochs)) * (course.scale if course else 1.0)
    if found.shape != (count,) or not ((found >= 0) & np.isfinite(found)).all():
        raise ValueError(f"{name} must return {count} finite numbers of at least 0, got {found!r}")
    return np.ascontiguousarray(found, np.float64)


def interrupted(done: int, epochs: int) -> str:
    """What Ctrl-C says."""
    return f"the fit was interrupted after {done} of {epochs} epochs; the model can be used, with the weights it had then"


def _tqdm() -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError('verbose="bar" needs tqdm: pip install "fastmlp[progress]"') from error
    return tqdm
