"""Engine: the memory of one network and of its optimiser, and the kernels' calls on it.

This is the gate: whoever calls, no kernel sees an array that does not fit the network. What users get wrong is told them
before, by `fastmlp.checks`. An exception between any two steps of the interpreter leaves the parameters at their last
completed step (the memory may be a new optimiser's by then): what belongs together is replaced by one assignment, and what
only says that something is ready is set last.
"""

from collections.abc import Callable
from functools import partial
from operator import call
from time import monotonic
from typing import Any

import numpy as np

from fastmlp import checks
from fastmlp.derivatives import ROWS
from fastmlp.engine import threads
from fastmlp.engine.route import Route
from fastmlp.engine.state import Job, Memory, fresh
from fastmlp.engine.turn import Turn
from fastmlp.engine.workspace import Workspace, aligned, roomy
from fastmlp.kernels import tuning
from fastmlp.kernels.layer.custom import CUSTOM
from fastmlp.kernels.layer.loss import numbers_of
from fastmlp.kernels.layer.update import Settings
from fastmlp.kernels.net import train as kernels
from fastmlp.kernels.net.plan import AS_THEY_LIE, BLOCKS, GIVEN, GROUPS, SHUFFLED, Progress, Task
from fastmlp.losses import UsersLoss
from fastmlp.network import Network
from fastmlp.optimizer import Optimizer
from fastmlp.optimizers import SGD

NO_ORDER, NO_RATES = np.zeros(1, np.int64), np.zeros(1)


class Engine:
    """All calls take turns: each writes to the plan and to the buffers.

    Attributes
    ----------
    params : (n,) array
        All parameters; may be written to between calls.
    views : function
        `Network.views`.
    unchecked : UsersLoss or None
        The loss, as long as its derivative has yet to be compared with differences.
    """

    def __init__(self, network: Network) -> None:
        dtype, self.views = network.dtype, network.views
        self._space = Workspace(network)
        self._store = roomy(self._space.parameters, dtype)
        self.params = self._store[: self._space.parameters]
        self._memory = Memory(SGD, np.zeros(1, dtype), False, *fresh())
        self._hyper = np.zeros(0)
        self._hyper_of: Optimizer | None = None
        self._ready: tuple[Any, ...] | None = None  # the `step` that a plan is set for, and what it takes
        self._scratch = self._space.scratch  # a call that fails does not give its buffer back: the next one gets another
        self._turn = Turn("train", "step", "apply", "blend", "restore")
        self.unchecked = network.loss if isinstance(network.loss, UsersLoss) and network.loss.check_gradient else None

    def save(self) -> dict[str, Any]:
        """All that a copy needs to train on with the same bits."""
        with self._turn:
            kind, moments, averaged, _, progress = self._memory
            vectors = moments[: moments.size // self._space.padded * self._space.padded].reshape(-1, self._space.padded)
            return {
                "params": self.params.copy(),
                "kind": kind,
                "moments": vectors[:, : self.params.size].copy(),
                "averaged": averaged,
                "steps": progress.steps,
            }

    def restore(self, saved: dict[str, Any]) -> None:
        """Become a copy of what `save` saw; of the same network. Nothing is shared with what is given.

        Raises
        ------
        ValueError
            If that is another network's.
        """
        with self._turn:
            params, given = np.asarray(saved["params"]), np.asarray(saved["moments"])
            dtype, padded, count = self._store.dtype, self._space.padded, self.params.size
            if params.shape != self.params.shape or params.dtype != dtype:
                raise ValueError(f"params must be {count} {dtype} numbers, got {params.dtype} {params.shape}")
            if given.ndim == 1 and (given.size == 1 or not given.size % padded):  # of fastmlp before it left out the padding
                given = given[: given.size // padded * padded].reshape(-1, padded)[:, :count]
            if given.ndim != 2 or given.dtype != dtype or given.shape[1] != count:
                raise ValueError(f"moments must be vectors of {count} {dtype} numbers, got {given.dtype} {given.shape}")
            moments = aligned(max(len(given) * padded, 1), dtype)
            if len(given):
                moments.reshape(-1, padded)[:, :count] = given
            memory = Memory(saved["kind"], moments, bool(saved["averaged"]) and len(given) > 0, *fresh(saved["steps"]))
            self._hyper_of = self._ready = None
            # One step of the interpreter: calls of C functions by C functions, between which no exception can come.
            tuple(map(call, (partial(setattr, self, "_memory", memory), partial(np.copyto, self.params, params))))

    def parameters(self, live: bool) -> np.ndarray:
        """The parameters with the room behind them that kernels may read: themselves if `live`, else a copy."""
        if live:
            return self._store
        copied = roomy(self.params.size, self._store.dtype)
        with self._turn:
            copied[: self.params.size] = self.params
        return copied

    def train(self, job: Job, losses: np.ndarray, look: Callable[[int], object]) -> int:
        """Run the epochs that `losses` has room for; in between, `look` at how many are done. How many there are at the end.

        It ends before if there is a most of steps, or behind the step under way if a look says True. A next call with the same
        job goes on in the middle of the epoch, whose loss so far is the first of the losses.
        """
        with self._turn:
            self._check(job.X, job.y, job.code, job.weighted)
            return self._train(job, losses, look)

    def step(self, X: np.ndarray, y: np.ndarray, code: int, optimizer: Optimizer, weighted: int = 0) -> float:
        """One epoch of one batch; the loss before it."""
        wanted = len(X), y.shape[1], code, optimizer, weighted
        with self._turn:
            ready = self._ready
            if ready is None or wanted != ready[0]:
                self._check(X, y, code, weighted)
                job = Job(X, y, code, optimizer, len(X), weighted=weighted)
                if threads.pays(len(X), 3 * len(X) * self._space.parameters, 1):
                    losses = np.zeros(1)
                    self._train(job, losses, lambda done: None)
                    return losses.item()
                self._prepare_training(job, self._route(job), 1)
                layout, memory = self._space.layout, self._memory
                self._ready = ready = wanted, layout.plan, layout.own, layout.size, memory.moments, memory.state
            _, plan, own, size, moments, state = ready
            work = self._scratch.take(size) if own is None else own
            loss = kernels.step(plan, self._hyper, self._store, moments, work, X, y, state)
            if own is None:
                self._scratch.give(work)
        if loss != loss:
            self._admit(X, y, code, weighted)
        return loss

    def _train(self, job: Job, losses: np.ndarray, look: Callable[[int], object]) -> int:
        space = self._space
        steps = len(losses) * -(-len(job.X) // job.batch) - job.cursor // job.batch
        work = 3 * job.batch * space.parameters
        route = self._route(job)
        shares = threads.share(job.batch, work, steps) if route.path in (GROUPS, BLOCKS) else 1
        self._prepare_training(job, route, shares)
        layout, memory = space.layout, self._memory
        state, progress = memory.state, memory.progress
        progress.epoch = progress.tick = progress.within = 0
        progress.cursor, progress.random = job.cursor, job.seed
        progress.stop = progress.steps + (steps if job.most is None else min(job.most, steps))
        if shares > 1:
            state[Progress.words :] = 0
        order = NO_ORDER if job.order is None else job.order
        rates = NO_RATES if job.rates is None else job.rates
        buffer = self._scratch.take(layout.size) if layout.own is None else layout.own
        data = layout.plan, self._hyper, self._store, memory.moments, buffer, job.X, job.y, order, state, losses, rates
        count = tuning.CALL_TURN * shares * route.parts // (work + tuning.STEP_COST + tuning.UPDATE_COST * space.parameters) + 1
        started = 0.0  # so the first two calls are as long: of the smallest nets' fits, a look at the clock would be 1 %
        while True:
            if not kernels.train(*data, count, shares):
                self._admit(job.X, job.y, job.code, job.weighted)
                raise ValueError(f"order {order.shape} and rates {rates.shape} do not fit {len(job.X)} rows and {steps} steps")
            if look(progress.epoch):
                progress.stop = min(progress.stop, progress.steps + (progress.within > 0))
            if progress.steps >= progress.stop:
                break
            before, started = started, monotonic()
            if before:
                count = int(count * min(tuning.CALL_SECONDS / (started - before + 1e-6), 8)) + 1
        job.seed, job.cursor = progress.random, progress.cursor
        if layout.own is None:
            self._scratch.give(buffer)
        return progress.epoch

    def check(self, X: np.ndarray, y: np.ndarray, code: int, weighted: int) -> None:
        """Raise if a user's loss is `unchecked`, and its derivative on the first rows is not that of the loss."""
        with self._turn:
            self._check(X, y, code, weighted)

    def _check(self, X: np.ndarray, y: np.ndarray, code: int, weighted: int) -> None:
        if self.unchecked is None or code < CUSTOM:  # known, or not what this call is about
            return
        self._admit(X, y, code, weighted)
        X, y = X[:ROWS], y[:ROWS]
        P = np.empty((len(X), self._space.sizes[-1]), self._store.dtype)
        self._predict_many(checks.contiguous(X, P.dtype), P)
        if weighted:
            P, y = P[y[:, -1] != 0], y[y[:, -1] != 0, :-1]
        if self.unchecked.compare(P, y):
            self.unchecked = None

    def predict(self, X: np.ndarray, out: np.ndarray) -> None:
        """The outputs for all rows of X."""
        with self._turn:
            layout = self._space.layout
            if len(X) > layout.capacity:
                well = self._predict_many(X, out)
            else:
                work = layout.own
                if work is None:
                    work = self._scratch.take(layout.size)
                well = kernels.predict(layout.plan, self.params, work, X, out)
                if layout.own is None:
                    self._scratch.give(work)
        if not well:
            raise ValueError(f"X {X.shape} and out {out.shape} do not fit a network of sizes {self._space.sizes}")

    def _predict_many(self, X: np.ndarray, out: np.ndarray) -> bool:
        """`predict` of more rows than a block, by several calls if they are very many."""
        space, rows = self._space, len(X)
        layout = space.reserve(rows)
        piece = space.piece
        work = self._scratch.take(layout.size) if layout.own is None else layout.own
        well = len(out) == rows
        for start in range(0, rows, piece):
            part = slice(start, start + piece)
            well = well and kernels.predict(layout.plan, self.params, work, X[part], out[part])
        if layout.own is None:
            self._scratch.give(work)
        return well

    def layer_outputs(self, X: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Each layer's z and outputs for all rows of X."""
        space, found = self._space, []
        with self._turn:
            for index, width in enumerate(space.sizes[1:]):
                z, a = (np.empty((len(X), width), self._store.dtype) for _ in range(2))
                for start in range(0, len(X), space.piece):
                    part = slice(start, start + space.piece)
                    if not kernels.layer_outputs(space.layout.plan, self.params, index, X[part], z[part], a[part]):
                        raise ValueError(f"X {X.shape} does not fit a network of sizes {space.sizes}")
                found.append((z, a))
                X = a
        return found

    def loss(self, X: np.ndarray, y: np.ndarray, code: int, weighted: int = 0) -> float:
        """The mean loss over all rows."""
        with self._turn:
            self._prepare(code, len(X), weighted)
            layout = self._space.layout
            work = self._scratch.take(layout.size) if layout.own is None else layout.own
            piece, loss = self._space.piece, 0.0
            for start in range(0, len(X), piece):
                loss = kernels.evaluate_loss(layout.plan, self.params, work, X, y, start, min(start + piece, len(X)), loss)
            if layout.own is None:
                self._scratch.give(work)
        if loss != loss:
            self._admit(X, y, code, weighted)
        return loss

    def gradient(
        self,
        X: np.ndarray,
        y: np.ndarray,
        code: int,
        flat: np.ndarray,
        dx: np.ndarray,
        inputs: bool,
        weighted: int = 0,
    ) -> float:
        """The mean loss over all rows; its gradient goes to `flat` and, with `inputs`, to `dx`."""
        if flat.shape != self.params.shape or (inputs and dx.shape != X.shape):
            raise ValueError(f"flat {flat.shape} and dx {dx.shape} do not fit {self.params.size} parameters and X {X.shape}")
        with self._turn:
            self._check(X, y, code, weighted)
            route = self._space.router.step(len(X))
            self._prepare(code, len(X), weighted, route.path)
            task = self._space.layout.task
            task.batch = len(X)
            self._cut(task, route, 0)
            settings = Settings(self._hyper)
            if settings.gain != 1:
                self._hyper_of = None
                settings.gain = 1
            layout, state, progress = self._space.layout, self._memory.state, self._memory.progress
            work = self._scratch.take(layout.size) if layout.own is None else layout.own
            given = layout.plan, self._hyper, self.params, work, X, y, state, flat, dx, int(inputs)
            work_of_all = 3 * len(X) * self._space.parameters
            progress.within, count = 0, tuning.CALL_TURN * route.parts // work_of_all + 1
            loss = kernels.evaluate_gradient(*given, count)
            while progress.within:
                loss = kernels.evaluate_gradient(*given, count)
            if layout.own is None:
                self._scratch.give(work)
        if loss != loss:
            self._admit(X, y, code, weighted)
        return loss

    def read(self, to: np.ndarray) -> None:
        """Copy the parameters to a vector of any dtype."""
        with self._turn:
            np.copyto(to, self.params, casting="unsafe")

    def blend(self, other: "Engine | np.ndarray", tau: float) -> None:
        """Move the parameters by tau of the way to another network's, or to a vector of any dtype and layout."""
        source = other.params if isinstance(other, Engine) else other
        if source.shape != self.params.shape:
            raise ValueError(f"parameters {source.shape} do not fit {self.params.size} parameters")
        buffer = self._scratch.take(source.size)
        to = buffer[: source.size]
        if isinstance(other, Engine):
            other.read(to)  # its turn is over before this one's begins: two models may be each other's targets
        else:
            checks.silently(lambda: np.copyto(to, other, casting="unsafe"))

        def move() -> None:
            if tau < 1:
                np.subtract(to, self.params, out=to)
                np.multiply(to, tau, out=to)
                np.add(self.params, to, out=self.params)
            else:
                np.copyto(self.params, to)

        with self._turn:
            checks.silently(move)
        self._scratch.give(buffer)

    def apply(self, gradient: np.ndarray, optimizer: Optimizer) -> None:
        """One update from a gradient, of any dtype and layout."""
        if gradient.shape != self.params.shape:
            raise ValueError(f"gradient {gradient.shape} does not fit {self.params.size} parameters")
        with self._turn:
            own = aligned(self._space.padded, self._store.dtype)
            own[: gradient.size] = gradient  # first: whoever makes NumPy's warnings errors loses no optimiser's memory
            self._prepare(self._space.layout.task.loss, 1)
            self._prepare_optimizer(optimizer)
            layout, memory = self._space.layout, self._memory
            kernels.apply_gradient(layout.plan, self._hyper, self._store, memory.moments, own, memory.state)

    def trim(self) -> None:
        """Give the memory back that only speeds calls up: what this model keeps, and what all models share."""
        with self._turn:
            self._ready = None
            self._space.forget()
            self._hyper_of = None
            self._hyper = np.zeros(0)
            self._scratch.trim()

    @property
    def epochs_done(self) -> int:
        """Of the training that is under way, or was the last."""
        return self._memory.progress.epoch

    @property
    def steps(self) -> int:
        """That the optimiser has done."""
        return self._memory.progress.steps

    @property
    def kind(self) -> type[Optimizer]:
        """Of the optimiser that has done them."""
        return self._memory.kind

    def average(self) -> np.ndarray | None:
        """A copy of the parameters' running mean, where there is one."""
        with self._turn:
            return self._memory.moments[: self.params.size].copy() if self._memory.averaged else None

    def _admit(self, X: np.ndarray, y: np.ndarray, code: int, weighted: int) -> None:
        """Say what is wrong with arrays that a kernel has refused; nothing, if it has not."""
        sizes = self._space.sizes
        targets = numbers_of(code, sizes[-1])[0] + bool(weighted)
        if X.shape[1] != sizes[0] or y.shape != (len(X), targets):
            raise ValueError(
                f"X {X.shape} and y {y.shape} do not fit a network of sizes {sizes}, whose loss takes {targets} numbers a row"
            )

    def _route(self, job: Job) -> Route:
        return self._space.router.training(job.batch, job.code, job.optimizer, job.weighted, job.rates is not None)

    def _prepare(self, code: int, rows: int, weighted: int = 0, path: int = BLOCKS, shares: int = 1) -> None:
        """Make room for a call, and tell the plan what it is about."""
        self._ready = None
        layout = self._space.reserve(rows, path, shares)
        task = layout.task
        targets, terms = numbers_of(code, self._space.sizes[-1])
        task.loss, task.targets, task.terms, task.weighted = code, targets + bool(weighted), terms, weighted
        if len(self._hyper) < self._space.settings + layout.partials:
            hyper = np.zeros(self._space.settings + layout.partials)
            Settings(hyper).gain = 1
            self._hyper_of = None
            self._hyper = hyper

    def _prepare_training(self, job: Job, route: Route, shares: int) -> None:
        if type(job.optimizer) is not self._memory.kind:  # the memory of the kind before must outlive what is refused
            self._admit(job.X, job.y, job.code, job.weighted)
        self._prepare(job.code, job.batch, job.weighted, route.path, shares)
        self._prepare_optimizer(job.optimizer)
        task = self._space.layout.task
        task.samples, task.batch = len(job.X), job.batch
        task.order = AS_THEY_LIE if job.order is None else SHUFFLED if job.shuffle else GIVEN
        task.rated = job.rates is not None
        self._cut(task, route, len(job.X) % job.batch)
        task.seed = job.dropout | 1 if self._space.drops else 0
        if job.rates is not None:
            self._hyper_of = None  # its rate will be overwritten

    def _cut(self, task: Task, route: Route, rest: int) -> None:
        """Tell the kernels how steps over a whole batch are cut, and over the `rest` of an epoch's rows."""
        task.path, task.block, task.copied = route.path, route.block, route.copied
        if rest:
            route = self._space.router.step(rest)
        task.rest_path, task.rest_block, task.rest_copied = route.path, route.block, route.copied

    def _prepare_optimizer(self, optimizer: Optimizer) -> None:
        """The optimiser's settings and memory; its memory stays while its kind does."""
        if optimizer is self._hyper_of:
            return
        self._hyper_of = None
        task, padded, dtype = self._space.layout.task, self._space.padded, self._store.dtype
        kind, moments, averaged, state, progress = self._memory
        if type(optimizer) is not kind:
            kind, (state, progress) = type(optimizer), fresh()
            moments = moments[:padded].copy() if averaged else np.zeros(1, dtype)
        mean = averaged or optimizer.ema > 0
        if len(moments) < (mean + optimizer.moments) * padded or mean != averaged:
            wider = aligned((mean + optimizer.moments) * padded, dtype)
            own = wider[padded if mean else 0 :]
            if mean:
                wider[: self.params.size] = moments[: self.params.size] if averaged else self.params
            kept = moments[padded if averaged else 0 :]
            own[: min(len(kept), len(own))] = kept[: len(own)]
            moments = wider
        if kind is not self._memory.kind or moments is not self._memory.moments:
            self._memory = Memory(kind, moments, mean, state, progress)
        task.optimizer, task.whole, task.averaged = optimizer.code, optimizer.whole, mean
        self._hyper[: Settings.words] = optimizer.hyper()
        self._hyper_of = optimizer
