"""Engine: the memory of one network and of its optimiser, and the kernels' calls on it. What comes here is checked already."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from fastmlp import threads
from fastmlp.kernels import plan as at
from fastmlp.kernels import train as kernels
from fastmlp.kernels.update import HYPER
from fastmlp.optimizers import SGD, Optimizer
from fastmlp.workspace import Workspace, aligned

# Work of one compiled call of `train`, in multiply-adds: a tenth of a second or so, after which Ctrl-C and printing get their
# turn. A step's own overhead, and each parameter's update from memory, count as so many.
CALL_TURN, STEP_COST, UPDATE_COST = 1 << 32, 5000, 64
NO_ORDER = np.zeros(1, np.int64)


class Engine:
    """All calls take turns: each writes to the plan and to the buffers.

    Attributes
    ----------
    params : (n,) array
        All parameters; may be written to between calls.
    """

    def __init__(self, sizes: Sequence[int], activations: Sequence[str], loss: int, dtype: np.dtype) -> None:
        self._space = Workspace(sizes, activations, loss, dtype)
        self._store = aligned(self._space.padded, dtype)
        self.params = self._store[: self._space.parameters]
        self._kind: type[Optimizer] = SGD
        self._moments = np.zeros(1, dtype)
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
                "steps": int(self._state[at.STEP]),
            }

    def restore(self, saved: dict[str, Any]) -> None:
        """Become a copy of what `save` saw; of the same network."""
        self.params[...] = saved["params"]
        self._kind, self._moments, self._state[at.STEP] = saved["kind"], saved["moments"], saved["steps"]

    def views(self, flat: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The weights and the biases in a vector that is laid out as `params`."""
        weights, biases = [], []
        for (w, b), (fan_in, fan_out) in zip(self._space.offsets, pairwise(self._space.sizes), strict=True):
            weights.append(flat[w:b].reshape(fan_in, fan_out))
            biases.append(flat[b : b + fan_out].reshape(1, fan_out))
        return weights, biases

    def train(
        self,
        X: np.ndarray,
        y: np.ndarray,
        code: int,
        optimizer: Optimizer,
        batch: int,
        order: np.ndarray | None,
        seed: int,
        losses: np.ndarray,
        look: Callable[[int], None],
    ) -> None:
        """Run the epochs that `losses` has room for, shuffling the rows of `order`; in between, `look` at how many are done."""
        with self._turn:
            self._train(X, y, code, optimizer, batch, order, seed, losses, look)

    def step(self, X: np.ndarray, y: np.ndarray, code: int, optimizer: Optimizer) -> float:
        """One epoch of one batch; the loss before it."""
        wanted = len(X), y.shape[1], code, optimizer
        with self._turn:
            if wanted != self._ready:
                if threads.pays(len(X), 3 * len(X) * self._space.parameters, 1):
                    losses = np.zeros(1)
                    self._train(X, y, code, optimizer, len(X), None, 0, losses, lambda done: None)
                    return losses.item()
                self._prepare_training(optimizer, code, len(X), len(X), 1, y.shape[1], False, 1)
                self._ready = wanted
            space = self._space
            try:
                return kernels.step(space.plan, self._hyper, self._store, self._moments, space.buffer, X, y, self._state)
            except BaseException:
                kernels.count_subnormals()
                raise

    def _train(
        self,
        X: np.ndarray,
        y: np.ndarray,
        code: int,
        optimizer: Optimizer,
        batch: int,
        order: np.ndarray | None,
        seed: int,
        losses: np.ndarray,
        look: Callable[[int], None],
    ) -> None:
        space, state, samples, epochs = self._space, self._state, len(X), len(losses)
        work, steps = 3 * batch * space.parameters, epochs * -(-samples // batch)
        shares = 1 if space.narrow(batch, code) else threads.share(batch, work, steps)
        self._prepare_training(optimizer, code, samples, batch, epochs, y.shape[1], order is not None, shares)
        state[: at.STEP] = state[at.STEP + 1 :] = 0
        state[at.RANDOM] = seed
        if order is None:
            order = NO_ORDER
        data = space.plan, self._hyper, self._store, self._moments, space.buffer, X, y, order, state, losses
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

    def predict(self, X: np.ndarray, out: np.ndarray) -> None:
        """The outputs for all rows of X."""
        space = self._space
        with self._turn:
            if len(X) > space.capacity:
                space.reserve(len(X))
            kernels.predict(space.plan, self.params, space.buffer, X, out)

    def loss(self, X: np.ndarray, y: np.ndarray, code: int) -> float:
        """The mean loss over all rows."""
        with self._turn:
            self._prepare(code, len(X), y.shape[1])
            return kernels.evaluate_loss(self._space.plan, self.params, self._space.buffer, X, y)

    def gradient(self, X: np.ndarray, y: np.ndarray, code: int, flat: np.ndarray, dx: np.ndarray, inputs: bool) -> float:
        """The mean loss over all rows; its gradient goes to `flat` and, with `inputs`, to `dx`."""
        with self._turn:
            self._prepare(code, len(X), y.shape[1])
            space, state = self._space, self._state
            return kernels.evaluate_gradient(
                space.plan, self._hyper, self.params, space.buffer, X, y, state, flat, dx, int(inputs)
            )

    def apply(self, gradient: np.ndarray, optimizer: Optimizer) -> None:
        """One update from a gradient, of any dtype and layout."""
        with self._turn:
            self._prepare(int(self._space.plan[at.LOSS]), 1, 1)
            self._prepare_optimizer(optimizer)
            self._state[at.STEP] += 1
            start = self._space.plan[at.GRADIENT_AT]
            own = self._space.buffer[start : start + self._space.padded]
            own[: gradient.size] = gradient
            kernels.apply_gradient(self._space.plan, self._hyper, self._store, self._moments, own, int(self._state[at.STEP]))

    def _prepare(self, code: int, rows: int, targets: int, narrow: bool = False, shares: int = 1) -> None:
        """Make room for a call, and tell the plan what it is about."""
        self._ready = None
        self._space.reserve(rows, narrow, shares)
        self._space.plan[at.LOSS], self._space.plan[at.TARGETS] = code, targets
        count = HYPER + self._space.partials(rows)
        if len(self._hyper) < count:
            self._hyper, self._hyper_of = np.zeros(count), None

    def _prepare_training(
        self, optimizer: Optimizer, code: int, samples: int, batch: int, epochs: int, targets: int, shuffle: bool, shares: int
    ) -> None:
        narrow = self._space.narrow(batch, code)
        self._prepare(code, batch, targets, narrow, shares)
        self._prepare_optimizer(optimizer)
        plan = self._space.plan
        plan[at.SAMPLES : at.EPOCHS + 1] = samples, batch, epochs
        plan[at.SHUFFLE : at.NARROW + 1] = shuffle, narrow

    def _prepare_optimizer(self, optimizer: Optimizer) -> None:
        """The optimiser's settings and memory; its memory stays while its kind does."""
        self._space.plan[at.OPTIMIZER] = optimizer.code
        if type(optimizer) is not self._kind:
            self._kind, self._state[at.STEP] = type(optimizer), 0
            self._moments = np.zeros(1, self._store.dtype)
        if len(self._moments) < optimizer.moments * self._space.padded:
            self._moments = aligned(optimizer.moments * self._space.padded, self._store.dtype)
        if optimizer is not self._hyper_of:
            self._hyper[:HYPER] = optimizer.hyper()
            self._hyper_of = optimizer
