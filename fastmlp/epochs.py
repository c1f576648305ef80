"""Between the epochs of a fit: validation, metrics, callbacks, schedules, printing, and what ends it early."""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from fastmlp import validation
from fastmlp.callbacks import EarlyStopping, hooks
from fastmlp.dataset import Data, Network
from fastmlp.history import History
from fastmlp.losses import LOSSES
from fastmlp.metrics import METRICS, accuracy, monitored
from fastmlp.schedules import ReduceOnPlateau, Schedule

RATES = 1 << 16  # steps whose rates are worked out at a time, and trained in one call
BAR_TURN = 0.1  # seconds between updates of a progress bar's numbers
NONFINITE = ("ignore", "raise", "stop")

# Trains for the epochs that the losses have room for, with a rate for each step or None; looks at how many are done.
Train = Callable[[np.ndarray, np.ndarray | None, Callable[[int], None]], None]


class DivergenceError(ArithmeticError):
    """The loss or a weight was no longer finite, in a fit with ``nonfinite="raise"``.

    Attributes
    ----------
    epoch : int
        At whose end that was seen.
    """

    def __init__(self, message: str, epoch: int = -1) -> None:
        super().__init__(message)
        self.epoch = epoch


class Epochs:
    """One fit's course, epoch by epoch where something needs that, else by as few calls as it takes.

    Parameters
    ----------
    model : Model
    epochs : int
    verbose : int or "bar"
    metrics, callbacks, nonfinite
        The arguments of `Model.fit`.
    schedule : Schedule or None
    train, val : Data or None
        What metrics are computed from; val's loss as well.
    each : bool
        Whether the training itself goes epoch by epoch.
    """

    def __init__(
        self,
        model: Network,
        epochs: int,
        verbose: Any = 0,
        metrics: Any = None,
        callbacks: Any = None,
        nonfinite: Any = "ignore",
        schedule: Schedule | None = None,
        train: Data | None = None,
        val: Data | None = None,
        each: bool = False,
    ) -> None:
        self._model, self._engine, self._epochs, self._schedule = model, model._engine, epochs, schedule
        self._metrics = _resolve(metrics, model)
        self._watched = [(prefix, data) for prefix, data in (("", train), ("val_", val)) if data is not None]
        self._course = schedule.start() if schedule else None
        self._nonfinite = validation.choice("nonfinite", nonfinite, NONFINITE)
        self._hooks = hooks(callbacks)
        self._each = each or bool(val or self._metrics or any(self._hooks.values()) or self._course) or nonfinite != "ignore"
        names = ["loss", *(["lr"] if schedule else [])]
        for prefix, _ in self._watched:
            names += ["val_loss"] * bool(prefix) + [prefix + name for name in self._metrics]
        self._columns: dict[str, list[Any]] = {name: [] for name in names}
        for watcher in (schedule, *(hook.__self__ for hook in self._hooks["on_epoch_end"] if hasattr(hook, "__self__"))):
            if isinstance(watcher, EarlyStopping | ReduceOnPlateau):
                monitored(watcher.monitor, watcher.mode, names)
        if isinstance(verbose, str) and verbose != "bar":
            raise TypeError(f"verbose must be an integer or 'bar', got {verbose!r}")
        self._bar_kind = _tqdm() if verbose == "bar" else None
        self._verbose = 0 if self._bar_kind else validation.count("verbose", verbose, 0)
        self._bar: Any = None
        self._last: dict[str, Any] = {"epochs": epochs}  # the last epoch's logs
        self._printed = self._done = 0
        self._shown = -math.inf

    def run(self, train: Train, steps: int) -> History:
        """Run them, of so many steps each."""

        def go() -> None:
            kept = None if self._nonfinite == "ignore" else self._engine.save()
            stop = False
            while self._done < self._epochs and not stop:
                first, count = self._done, 1 if self._each else self._epochs
                rates = None
                if self._schedule:
                    count = min(count, max(RATES // steps, 1), self._epochs - first)
                    rates = self._rates(first * steps, count * steps, steps)
                losses = np.zeros(count)
                train(losses, rates, partial(self._look, losses, first))
                if kept and not (np.isfinite(losses).all() and np.isfinite(self._engine.params).all()):
                    self._engine.restore(kept)
                    self._done = first
                    self._diverged(first, losses.item())
                    break
                self._done = first + count
                self._columns["loss"] += losses.tolist()
                if rates is not None:
                    self._columns["lr"] += rates[steps - 1 :: steps].tolist()
                if self._each:
                    stop = self._end(first)
                    if kept:
                        kept = self._engine.save()

        return self._between(go)

    def follow(self, iterate: Callable[[Callable[[list[float]], None]], list[float]]) -> History:
        """Follow a training that calls back after each of its iterations, with their losses, and ends at StopIteration."""

        def look(losses: list[float]) -> None:
            self._done = len(losses)
            self._columns["loss"].append(losses[-1])
            if self._bar is not None:
                self._show(self._done, losses[-1])
            if self._end(self._done - 1):
                raise StopIteration

        def go() -> None:
            losses = iterate(look)
            if not self._done:  # it was at a minimum
                self._done, self._columns["loss"] = 1, losses
                self._end(0)

        return self._between(go)

    def _between(self, go: Callable[[], None]) -> History:
        """Train between the hooks of its begin and its end."""
        try:
            if self._bar_kind:
                self._bar = self._bar_kind(total=self._epochs, unit="epoch")
            for hook in self._hooks["on_train_begin"]:
                hook(self._model, {"epochs": self._epochs})
            go()
            for hook in self._hooks["on_train_end"]:
                hook(self._model, self._last)
        except KeyboardInterrupt as interrupt:
            interrupt.args = (interrupted(self._done, self._epochs),)
            raise
        finally:
            if self._bar is not None:
                self._bar.close()
        return History(epoch=range(self._done), **self._columns)

    def _end(self, epoch: int) -> bool:
        """What happens at an epoch's end; whether it ends the fit."""
        stop, self._last = False, self._logs(epoch)
        self._print(self._last)
        if self._course:
            self._course.observe(self._last)
        for hook in self._hooks["on_epoch_end"]:
            said = hook(self._model, self._last)
            stop = (isinstance(said, bool | np.bool_) and bool(said)) or stop
        return stop

    def _rates(self, first: int, count: int, steps: int) -> np.ndarray:
        assert self._schedule is not None
        rates = np.asarray(self._schedule.rates(first, count, steps, self._epochs), np.float64)
        if rates.shape != (count,) or not ((rates >= 0) & np.isfinite(rates)).all():
            name = type(self._schedule).__name__
            raise ValueError(f"{name}.rates must return {count} finite numbers of at least 0, got {rates!r}")
        return np.ascontiguousarray(rates * self._course.scale if self._course else rates)

    def _diverged(self, epoch: int, loss: float) -> None:
        if self._nonfinite == "raise":
            what = "a weight was not finite" if math.isfinite(loss) else f"the loss was {loss}"
            back = f"epoch {epoch - 1}" if epoch else "the start"
            raise DivergenceError(f"{what} at the end of epoch {epoch}; the model has the weights of {back}", epoch)

    def _logs(self, epoch: int) -> dict[str, Any]:
        logs = {"epoch": epoch, **{name: column[-1] for name, column in self._columns.items() if len(column) > epoch}}
        for prefix, data in self._watched:
            if prefix:
                logs["val_loss"] = data.loss(self._engine)
            if self._metrics:
                outputs = data.predict(self._engine, self._model.sizes[-1])
            for name, metric in self._metrics.items():
                logs[prefix + name] = _number(name, metric(data.true, outputs, data.weights))
        for name, column in self._columns.items():
            if len(column) == epoch:
                column.append(logs[name])
        return logs

    def _look(self, losses: np.ndarray, first: int, done: int) -> None:
        """Called in the middle of a training; what is done is known here before the call returns."""
        self._done = max(self._done, first + done)
        if self._bar is not None and done:
            self._show(first + done, losses[done - 1])
        while self._verbose and not self._each and self._printed < first + done:
            epoch, self._printed = self._printed, self._printed + self._verbose  # first: Ctrl-C may end the printing
            print(f"Epoch {epoch}, Loss: {losses[epoch - first]:.4f}")

    def _print(self, logs: dict[str, Any]) -> None:
        if self._verbose and logs["epoch"] % self._verbose == 0:
            more = "".join(f", {name}: {logs[name]:.4f}" for name in self._columns if name not in ("loss", "lr"))
            print(f"Epoch {logs['epoch']}, Loss: {logs['loss']:.4f}{more}")

    def _show(self, done: int, loss: float) -> None:
        now = time.monotonic()
        if now - self._shown >= BAR_TURN or done == self._epochs:
            self._shown = now
            self._bar.set_postfix_str(f"loss={loss:.4g}", refresh=False)
            self._bar.update(done - self._bar.n)


def interrupted(done: int, epochs: int) -> str:
    """What Ctrl-C says."""
    return f"the fit was interrupted after {done} of {epochs} epochs; the model can be used, with the weights it had then"


def _tqdm() -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError('verbose="bar" needs tqdm: pip install "fastmlp[progress]"') from error
    return tqdm


def _resolve(metrics: Any, model: Network) -> dict[str, Callable[..., Any]]:
    """Name -> function(y_true, y_pred, sample_weight), from the argument of `Model.fit`: one metric or several."""
    if metrics is None:
        metrics = ()
    elif not isinstance(metrics, list | tuple):
        metrics = (metrics,)
    found: dict[str, Callable[..., Any]] = {}
    for metric in metrics:
        metric = next((name for name, known in METRICS.items() if known.function is metric), metric)
        if callable(metric):
            name = getattr(metric, "__name__", type(metric).__name__)
            function = partial(_unweighted, metric)
        elif isinstance(metric, str):
            name = validation.choice("metrics", metric, METRICS)
            function = partial(METRICS[name].function)
            if METRICS[name].function is accuracy:
                function = partial(accuracy, multilabel=model._loss is LOSSES["bce"])
        else:
            raise TypeError(f"metrics must hold functions, or names of {', '.join(METRICS)}; got {metric!r}")
        if name in found or name in ("epoch", "loss", "lr") or name.startswith("val_"):
            raise ValueError(f"metrics must have names of their own, got {name!r}")
        found[name] = function
    return found


def _unweighted(metric: Callable[..., Any], y_true: np.ndarray, y_pred: np.ndarray, weights: Any) -> Any:
    return metric(y_true, y_pred)


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"metrics must return a number, got {value!r} from {name}") from None
