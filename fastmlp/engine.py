"""Engine: the memory of one network and of its optimiser, and the kernels' calls on it. What comes here is checked already."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from fastmlp import threads
from fastmlp.kernels import plan as at
from fastmlp.kernels import train as kernels
from fastmlp.kernels.update import GAIN, HYPER
from fastmlp.optimizers import SGD, Optimizer
from fastmlp.workspace import Workspace, aligned

# Work of one compiled call of `train`, in multiply-adds: a tenth of a second or so, after which Ctrl-C and printing get their
# turn. A step's own overhead, and each parameter's update from memory, count as so many.
CALL_TURN, STEP_COST, UPDATE_COST = 1 << 32, 5000, 64
NO_ORDER, NO_RATES = np.zeros(1, np.int64), np.zeros(1)


@dataclass
class Job:
    """What to train on, and how: all that goes on from one call of `Engine.train` to the next.

    Attributes
    ----------
    X : (rows, inputs) array
    y : (rows, targets) array
        With one more column, the rows' weights, if `weighted`.
    code : int
        The loss's.
    optimizer : Optimizer
    batch : int
        Rows in a step.
    order : (rows,) int64 array or None
        The rows in order of visit; None: as they lie.
    shuffle : bool
        Whether each epoch starts with a new `order`, made from the last one.
    seed : int
        State of the generator that shuffles; moves on.
    dropout : int
        Seed of the units that are dropped.
    weighted : bool
    rates : (steps,) array or None
        A learning rate for each step of the call; None: the optimiser's.
    """

    X: np.ndarray
    y: np.ndarray
    code: int
    optimizer: Optimizer
    batch: int
    order: np.ndarray | None = None
    shuffle: bool = False
    seed: int = 0
    dropout: int = 0
    weighted: bool = False
    rates: np.ndarray | None = None


class Engine:
    """All calls take turns: each writes to the plan and to the buffers.

    Attributes
    ----------
    params : (n,) array
        All parameters; may be written to between calls.
    """

    def __init__(
        self, sizes: Sequence[int], activations: Sequence[int], loss: int, dtype: np.dtype, dropout: Sequence[float]
    ) -> None:
        self._space = Workspace(sizes, activations, loss, dtype, dropout)
        self._store = aligned(self._space.padded, dtype)
        self.params = self._store[: self._space.parameters]
        self._kind: type[Optimizer] = SGD
        self._moments = np.zeros(1, dtype)
        self._averaged = False  # whether they start with the parameters' running mean
        self._state = np.zeros(at.STATE, np.int64)  # STEP goes on from call to call, the rest starts anew
        self._hyper = np.zeros(0)
        self._hyper_of: Optimizer | None = None
        self._ready: tuple[Any, ...] | None = None  # the `step` that the plan is set for
        self._turn = threads.Turn()

    def save(self) -> dict[str, Any]:
        """All that a copy needs to train on with the same bits."""
        with self._turn:
            return {
                "params": self.params.copy(),
                "kind": self._kind,
                "moments": self._moments.copy(),
                "averaged": self._averaged,
                "steps": int(self._state[at.STEP]),
            }

    def restore(self, saved: dict[str, Any]) -> None:
        """Become a copy of what `save` saw; of the same network."""
        self.params[...] = saved["params"]
        self._kind, self._moments, self._state[at.STEP] = saved["kind"], saved["moments"], saved["steps"]
        self._averaged = saved["averaged"]

    def views(self, flat: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The weights and the biases in a vector that is laid out as `params`."""
        weights, biases = [], []
        for (w, b), (fan_in, fan_out) in zip(self._space.offsets, pairwise(self._space.sizes), strict=True):
            weights.append(flat[w:b].reshape(fan_in, fan_out))
            biases.append(flat[b : b + fan_out].reshape(1, fan_out))
        return weights, biases

    def train(self, job: Job, losses: np.ndarray, look: Callable[[int], None]) -> None:
        """Run the epochs that `losses` has room for; in between, `look` at how many are done."""
        with self._turn:
            self._train(job, losses, look)

    def step(self, X: np.ndarray, y: np.ndarray, code: int, optimizer: Optimizer) -> float:
        """One epoch of one batch; the loss before it."""
        wanted = len(X), y.shape[1], code, optimizer
        with self._turn:
            if wanted != self._ready:
                job = Job(X, y, code, optimizer, len(X))
                if threads.pays(len(X), 3 * len(X) * self._space.parameters, 1):
                    losses = np.zeros(1)
                    self._train(job, losses, lambda done: None)
                    return losses.item()
                self._prepare_training(job, 1, 1)
                self._ready = wanted
            space = self._space
            try:
                return kernels.step(space.plan, self._hyper, self._store, self._moments, space.buffer, X, y, self._state)
            except BaseException:
                kernels.count_subnormals()
                raise

    def _train(self, job: Job, losses: np.ndarray, look: Callable[[int], None]) -> None:
        space, state, epochs = self._space, self._state, len(losses)
        work, steps = 3 * job.batch * space.parameters, epochs * -(-len(job.X) // job.batch)
        shares = 1 if self._narrow(job) else threads.share(job.batch, work, steps)
        self._prepare_training(job, epochs, shares)
        state[: at.STEP] = state[at.STEP + 1 :] = 0
        state[at.RANDOM] = job.seed
        order = NO_ORDER if job.order is None else job.order
        rates = NO_RATES if job.rates is None else job.rates
        data = space.plan, self._hyper, self._store, self._moments, space.buffer, job.X, job.y, order, state, losses, rates
        try:
            if shares > 1:

                def train(me: int) -> None:
                    kernels.train(*data, steps, me, shares)

                if work * steps < CALL_TURN:
                    threads.run_short(train, shares, state)
                    look(epochs)
                else:
                    threads.run(train, shares, state, lambda: look(int(state[at.EPOCH])))
            while state[at.EPOCH] < epochs:
                kernels.train(*data, CALL_TURN // (work + STEP_COST + UPDATE_COST * space.parameters) + 1, 0, 1)
                look(int(state[at.EPOCH]))
        except BaseException:
            kernels.count_subnormals()
            raise
        job.seed = int(state[at.RANDOM])

    def predict(self, X: np.ndarray, out: np.ndarray) -> None:
        """The outputs for all rows of X."""
        space = self._space
        with self._turn:
            if len(X) > space.capacity:
                space.reserve(len(X))
            kernels.predict(space.plan, self.params, space.buffer, X, out)

    def loss(self, X: np.ndarray, y: np.ndarray, code: int, weighted: bool = False) -> float:
        """The mean loss over all rows."""
        with self._turn:
            self._prepare(code, len(X), y.shape[1], weighted)
            return kernels.evaluate_loss(self._space.plan, self.params, self._space.buffer, X, y)

    def gradient(
        self,
        X: np.ndarray,
        y: np.ndarray,
        code: int,
        flat: np.ndarray,
        dx: np.ndarray,
        inputs: bool,
        weighted: bool = False,
    ) -> float:
        """The mean loss over all rows; its gradient goes to `flat` and, with `inputs`, to `dx`."""
        with self._turn:
            self._prepare(code, len(X), y.shape[1], weighted)
            if self._hyper[GAIN] != 1:
                self._hyper[GAIN], self._hyper_of = 1, None
            space, state = self._space, self._state
            return kernels.evaluate_gradient(
                space.plan, self._hyper, self.params, space.buffer, X, y, state, flat, dx, int(inputs)
            )

    def apply(self, gradient: np.ndarray, optimizer: Optimizer) -> None:
        """One update from a gradient, of any dtype and layout."""
        with self._turn:
            space = self._space
            self._prepare(int(space.plan[at.LOSS]), 1, 1)
            self._prepare_optimizer(optimizer)
            self._state[at.STEP] += 1
            start = space.plan[at.GRADIENT_AT]
            own = space.buffer[start : start + space.padded]
            own[: gradient.size] = gradient
            kernels.apply_gradient(space.plan, self._hyper, self._store, self._moments, own, int(self._state[at.STEP]))

    def average(self) -> np.ndarray | None:
        """A copy of the parameters' running mean, where there is one."""
        with self._turn:
            return self._moments[: self.params.size].copy() if self._averaged else None

    def _narrow(self, job: Job) -> bool:
        plain = not job.weighted and job.optimizer.gain == 1 and not self._space.drops
        return plain and self._space.narrow(job.batch, job.code)

    def _prepare(
        self, code: int, rows: int, targets: int, weighted: bool = False, narrow: bool = False, shares: int = 1
    ) -> None:
        """Make room for a call, and tell the plan what it is about."""
        self._ready = None
        space = self._space
        space.reserve(rows, narrow, shares)
        space.plan[at.LOSS], space.plan[at.TARGETS], space.plan[at.WEIGHTED] = code, targets, weighted
        count = HYPER + int(space.plan[at.CHUNKS]) + space.partials(rows)
        if len(self._hyper) < count:
            self._hyper, self._hyper_of = np.zeros(count), None
            self._hyper[GAIN] = 1

    def _prepare_training(self, job: Job, epochs: int, shares: int) -> None:
        narrow = self._narrow(job)
        self._prepare(job.code, job.batch, job.y.shape[1], job.weighted, narrow, shares)
        self._prepare_optimizer(job.optimizer)
        plan = self._space.plan
        plan[at.SAMPLES : at.EPOCHS + 1] = len(job.X), job.batch, epochs
        plan[at.SHUFFLE] = 0 if job.order is None else at.REORDER if job.shuffle else 1
        plan[at.NARROW], plan[at.RATED] = narrow, job.rates is not None
        plan[at.SEED] = job.dropout | 1 if self._space.drops else 0

    def _prepare_optimizer(self, optimizer: Optimizer) -> None:
        """The optimiser's settings and memory; its memory stays while its kind does."""
        plan, padded = self._space.plan, self._space.padded
        plan[at.OPTIMIZER], plan[at.WHOLE] = optimizer.code, optimizer.whole
        if type(optimizer) is not self._kind:
            self._kind, self._state[at.STEP] = type(optimizer), 0
            self._moments = self._moments[:padded].copy() if self._averaged else np.zeros(1, self._store.dtype)
        averaged = self._averaged or optimizer.ema > 0
        if len(self._moments) < (averaged + optimizer.moments) * padded or averaged != self._averaged:
            moments = aligned((averaged + optimizer.moments) * padded, self._store.dtype)
            own = moments[padded if averaged else 0 :]
            if averaged:
                moments[:padded] = self._moments[:padded] if self._averaged else self._store
            kept = self._moments[padded if self._averaged else 0 :]
            own[: min(len(kept), len(own))] = kept[: len(own)]
            self._moments, self._averaged = moments, averaged
        plan[at.AVERAGED] = averaged
        if optimizer is not self._hyper_of:
            self._hyper[:HYPER] = optimizer.hyper()
            self._hyper_of = optimizer
