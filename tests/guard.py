"""Random nets whose every compiled call finds its arrays between protected pages: one number too far is a fault.

An array lies flush against the pages behind it, or before it. Nothing is granted beyond what the kernels' contract reserves:
the parameters and the moments are whole registers, the work buffer is what its plan says, and all others end with their last
byte. What a kernel only reads is protected from writing; what it must fill is full of NaN. Results are those of NumPy, and of
the same calls outside, on one thread, bit by bit.

``python tests/guard.py float32 SECONDS [FIRST_SEED]`` goes through seeds, printing each before it is tried.
"""

from __future__ import annotations

import copy
import ctypes
import faulthandler
import inspect
import mmap
import os
import sys
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import reference
import reference_update
from row_losses import mixed

import fastmlp
from fastmlp import kernels, schedules
from fastmlp.activations import ACTIVATIONS
from fastmlp.engine import engine
from fastmlp.engine.workspace import aligned
from fastmlp.kernels import tuning
from fastmlp.kernels.net.plan import SHUFFLED, Table, Task
from fastmlp.kernels.net.train import TASK

NONE, READ = 0, 1  # of mprotect
MOAT = 64 * mmap.PAGESIZE
PADDED = ("params", "moments")  # whole registers
WRITES = {  # of each function, what it writes to
    "train": ("hyper", "params", "moments", "work", "state", "losses", "order"),
    "step": ("hyper", "params", "moments", "work", "state"),
    "evaluate_gradient": ("hyper", "work", "state", "grads", "dx"),
    "apply_gradient": ("hyper", "params", "moments", "grads", "state"),
    "predict": ("work", "out"),
    "layer_outputs": ("z", "out"),
    "evaluate_loss": ("work",),
    "dense_forward": ("z", "out"),
    "dense_backward_weights": ("dw",),
    "dense_backward_biases": ("db",),
    "dense_backward_inputs": ("scratch", "dx"),
}
FILLED = ("work", "z", "out", "dx", "dw", "db", "scratch")  # whatever was there


ROOM: dict[int, tuple[Callable[[], Any], int]] = {}  # of arrays' ids, the array and the numbers that the engine has reserved


def _noted(count: int, dtype: np.dtype) -> np.ndarray:
    made = aligned(count, dtype)
    ROOM[id(made.base)] = weakref.ref(made.base), count
    return made


engine.aligned = _noted


def _protect(pages: np.ndarray, to: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(pages.ctypes.data), ctypes.c_size_t(pages.nbytes), to):
        raise OSError(ctypes.get_errno(), "mprotect")


def fenced(array: np.ndarray, end: bool, read_only: bool = False, beyond: int = 0) -> np.ndarray:
    """A copy between protected pages, flush against the last ones if `end`, else the first; `beyond` of its bytes lie there."""
    room = -(-max(array.nbytes, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
    pages = np.frombuffer(mmap.mmap(-1, room + 2 * MOAT), np.uint8)
    start = MOAT + (room - array.nbytes + beyond if end else -beyond)
    made = pages[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    made[...] = array
    _protect(pages[:MOAT], NONE)
    _protect(pages[MOAT + room :], NONE)
    if read_only:
        _protect(pages[MOAT : MOAT + room], READ)
    return made


class Guarded:
    """Calls of a module's compiled functions, their arrays between protected pages.

    Parameters
    ----------
    module
    rng
        Says for each array at which end it is flush.
    plant : (name, bytes, end)
        An argument, and how many of its bytes lie on protected pages. If that is not found the process ends, with status 0.

    Attributes
    ----------
    calls : int
    """

    def __init__(self, module: Any, rng: np.random.Generator, plant: tuple[str, int, bool] | None = None) -> None:
        self._module, self._rng, self._plant, self.calls = module, rng, plant, 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(self._module, name)
        names = list(inspect.signature(function.py_func).parameters)

        def call(*args: Any) -> Any:
            self.calls += 1
            given = dict(zip(names, args, strict=True))
            inside: dict[int, np.ndarray] = {}
            passed, back = [], []
            for name, value in given.items():
                if not isinstance(value, np.ndarray):
                    passed.append(value)
                    continue
                if id(value) not in inside:
                    writes = name in WRITES[function.__name__]
                    writes = writes and (name != "order" or Task(given["plan"][TASK:]).order == SHUFFLED)
                    inside[id(value)] = made = self._place(name, value, given, not writes)
                    if writes and name != "work":
                        back.append((value, made))
                passed.append(inside[id(value)])
            result = function(*passed)
            if self._plant is not None and self._plant[0] in given:
                os._exit(0)
            for value, made in back:
                value[...] = made
            return result

        return call

    def _place(self, name: str, value: np.ndarray, given: dict[str, Any], read_only: bool) -> np.ndarray:
        if name == "work":
            value = value[: Table(given["plan"]).size]
        elif name in PADDED:
            owner, count = ROOM.get(id(value.base), (lambda: None, 0))
            padded = np.full(value.size if value.base is None or owner() is not value.base else count, np.nan, value.dtype)
            padded[: value.size] = value
            end, beyond = self._where(name)
            return fenced(padded, end, read_only, beyond)[: value.size]
        if name in FILLED:
            value = np.full_like(value, np.nan)
        end, beyond = self._where(name)
        return fenced(value, end, read_only, beyond)

    def _where(self, name: str) -> tuple[bool, int]:
        if self._plant is not None and self._plant[0] == name:
            return self._plant[2], self._plant[1]
        return bool(self._rng.integers(2)), 0


@contextmanager
def guarded(rng: np.random.Generator, plant: tuple[str, int, bool] | None = None) -> Iterator[Guarded]:
    """Within the block, all compiled calls of models are so."""
    plain = engine.kernels
    guard = Guarded(plain, rng, plant)
    engine.kernels = guard  # type: ignore[assignment]
    try:
        yield guard
    finally:
        engine.kernels = plain


def share_all() -> None:
    """From now on every step is shared by as many threads as are allowed, however small it is."""
    tuning.STEP_WORK = tuning.CALL_WORK = 0
    tuning.THREAD_ROWS = 1


# ---- random nets and calls -------------------------------------------------------------------------------------------

SMOOTH = ("identity", "elu", "gelu", "silu", "softplus", "sigmoid", "tanh", "softmax")  # float32 cannot miss a kink
CURVED = fastmlp.CustomActivation("curved", lambda z: z / (1 + abs(z)), lambda z: 1 / (1 + abs(z)) ** 2)
TILTED = fastmlp.CustomLoss(
    "tilted", lambda p, y: (p - y) ** 2 + 0.1 * (p - y), lambda p, y: 2 * (p - y) + 0.1, output="identity"
)
ROWS = [fastmlp.RowLoss("rows", mixed, k) for k in (1, 5)]


def _pick(rng: np.random.Generator, things: Any) -> Any:
    return things[int(rng.integers(len(things)))]


def _scale(rng: np.random.Generator, most: float) -> int:
    """A whole number from 1 to `most`, as likely small as large, mostly odd."""
    number = int(np.exp(rng.uniform(0, np.log(most + 1))))
    return number | 1 if number > 1 and rng.random() < 0.8 else number


def optimizer(rng: np.random.Generator, plain: bool = False) -> Any:
    """Any optimiser with any settings; a `plain` one's steps do not magnify what rounding leaves."""
    kinds = [fastmlp.SGD, fastmlp.Adam, fastmlp.AdamW, fastmlp.Adamax, fastmlp.Nadam, fastmlp.RMSprop]
    kind = _pick(rng, kinds if plain else [*kinds, fastmlp.Adagrad, fastmlp.Lion])
    options: dict[str, Any] = {"lr": float(10 ** rng.uniform(-4, -2))}
    if rng.random() < 0.5 and kind is not fastmlp.Lion:
        options["weight_decay"] = 0.01
    if kind is fastmlp.SGD and rng.random() < 0.6:
        options |= {"momentum": 0.9, "nesterov": bool(rng.integers(2))}
    if kind is fastmlp.RMSprop and rng.random() < 0.5:
        options["momentum"] = 0.5
    if plain and kind is not fastmlp.SGD:
        options["epsilon"] = 1e-3
    for name, value in (("l1", 1e-3), ("l2", 1e-2), ("clip_value", 0.1), ("clip_norm", 0.5), ("ema", 0.9)):
        if rng.random() < 0.2 and not (plain and name == "clip_norm"):  # of zeros, NumPy's norm is no divisor
            options[name] = value
    if not plain and rng.random() < 0.2:
        options["lr"] = _pick(rng, (schedules.Cosine(1e-2), schedules.OneCycle(1e-2), schedules.Step(1e-2, 2)))
    return kind(**options)


class Net:
    """A problem drawn from a seed, and a model for it."""

    def __init__(self, seed: int, dtype: str) -> None:
        self.rng = rng = np.random.default_rng(seed)
        depth = int(rng.integers(1, 7))
        most = _pick(rng, (5, 20, 70, 300))
        sizes = [_scale(rng, most) for _ in range(depth + 1)]
        if rng.random() < 0.05:  # rows of weights far apart
            sizes[int(rng.integers(1, depth + 1))] = 8192 // np.dtype(dtype).itemsize - int(rng.integers(-20, 20))
        parameters = sum((i + 1) * o for i, o in pairwise(sizes))
        rows = int(rng.integers(1000, 3000)) if rng.random() < 0.1 else _scale(rng, 1500)
        rows = max(min(rows, 10_000_000 // parameters), 1)
        loss = _pick(rng, list(reference.LOSSES))
        hidden = [_pick(rng, reference.HIDDEN) for _ in range(depth - 1)]
        output = reference.OUTPUT.get(loss) or _pick(rng, [*reference.HIDDEN, "softmax"])
        self.problem = p = reference.problem(sizes, [*hidden, output], loss, rows, seed, dtype)
        self.X, self.y, self.sizes, self.dtype = p.X, p.y, sizes, np.dtype(dtype)
        if loss == "cross_entropy" and rng.random() < 0.3:
            self.y = reference.targets(p.y, sizes[-1], loss).astype(dtype)
        activations: list[Any] = list(p.activations)
        self.custom = rng.random() < 0.05
        if self.custom:
            activations = [CURVED if rng.random() < 0.5 else name for name in activations[:-1]] + activations[-1:]
        self.rate = 0.3 if rng.random() < 0.2 and depth > 1 else 0.0
        chosen: Any = _pick(rng, (TILTED, *ROWS)) if self.custom and loss in reference.ELEMENTWISE else loss
        if chosen in ROWS:
            self.y = rng.standard_normal((rows, chosen.targets)).astype(dtype)
        self.model = fastmlp.Model.from_weights(p.weights, p.biases, activations, chosen, dtype, self.rate)
        smooth = set(p.activations) <= set(SMOOTH) and loss not in ("mae", "huber")
        self.exact = dtype == "float64" or smooth

    def part(self) -> slice:
        """Some of the rows."""
        first = int(self.rng.integers(len(self.X)))
        return slice(first, first + _scale(self.rng, len(self.X) - first))

    def close(self, got: Any, want: Any, factor: float = 1.0) -> None:
        bound = factor * (1e-9 if self.dtype == np.float64 else 2e-4)
        assert reference.error(got, want, 1e-3) < bound, f"{reference.error(got, want, 1e-3)} from NumPy's"

    def calls(self) -> Iterator[Callable[[fastmlp.Model], Any]]:
        """Calls of all kinds, in any order."""
        rng, X, y = self.rng, self.X, self.y
        kinds = ("predict", "out", "loss", "gradient", "backward", "apply", "step", "fit", "fit", "fit", "stream", "trim")
        kinds += "layers", "weighted", "pulled"
        for kind in rng.permutation(kinds)[: rng.integers(3, len(kinds))]:
            rows, best, seed = self.part(), optimizer(rng), int(rng.integers(1 << 30))
            if kind == "predict":
                yield lambda m, rows=rows: m.predict(X[rows])
            elif kind == "out":
                yield lambda m, rows=rows: m.predict(X[rows], np.empty((len(X[rows]), self.sizes[-1]), self.dtype))
            elif kind == "loss":
                yield lambda m, rows=rows: m.loss(X[rows], y[rows])
            elif kind == "gradient":
                yield lambda m, rows=rows: m.gradient(X[rows], y[rows])
            elif kind == "backward":
                yield lambda m, rows=rows: m.backward(X[rows], y[rows])[3]
            elif kind == "apply":
                g = rng.standard_normal(self.model.params.size)
                if not isinstance(best.lr, float):
                    continue
                yield lambda m, g=g, best=best: m.apply_gradient(g, optimizer=best)
            elif kind == "step":
                if not isinstance(best.lr, float):
                    continue
                yield lambda m, rows=rows, best=best: [m.step(X[rows], y[rows], optimizer=best) for _ in range(2)]
            elif kind == "layers":
                yield lambda m, rows=rows: m.layer_outputs(X[rows])
            elif kind == "weighted":
                w = rng.standard_normal(len(X[rows]))
                yield lambda m, rows=rows, w=w: m.backward(X[rows], y[rows], sample_weight=w)
            elif kind == "pulled":
                G, logits = rng.standard_normal((len(X[rows]), self.sizes[-1])), bool(rng.integers(2))
                yield lambda m, rows=rows, G=G, logits=logits: [
                    m.backward(X[rows], output_gradient=G, logits=logits),
                    m.step(X[rows], lr=1e-3, output_gradient=G, logits=logits),
                ]
            elif kind == "stream":
                parts = [(X[part], y[part]) for part in (rows, self.part())]
                yield lambda m, parts=parts, best=best, seed=seed: m.fit_batches(parts, 2, 2, optimizer=best, rng=seed)["loss"]
            elif kind == "trim":
                yield lambda m: m.trim()
            else:
                count = len(X[rows])
                options: dict[str, Any] = {
                    "epochs": int(rng.integers(1, 4)),
                    "batch_size": None if rng.random() < 0.3 else _scale(rng, min(count + 3, 400)),
                    "shuffle": bool(rng.random() < 0.7),
                    "rng": seed,
                    "optimizer": best,
                }
                if rng.random() < 0.3:
                    options["sample_weight"] = rng.uniform(size=count) + 0.01
                if rng.random() < 0.2 and count > 4:
                    options["validation_split"] = 0.3
                if rng.random() < 0.2:
                    options["nonfinite"] = "stop"
                yield lambda m, rows=rows, options=options: m.fit(X[rows], y[rows], **options)["loss"]


def _same(got: Any, want: Any) -> None:
    if isinstance(want, tuple | list):
        for one, other in zip(got, want, strict=True):
            _same(one, other)
    elif want is not None:
        assert np.array_equal(np.asarray(got), np.asarray(want), equal_nan=True), "other bits than outside, on one thread"


def try_net(seed: int, dtype: str) -> int:
    """A net, and what is done with it; the number of compiled calls."""
    net = Net(seed, dtype)
    rng, p, model = net.rng, net.problem, net.model
    share = int(_pick(rng, (1, 2, 3, 7)))
    with guarded(rng) as guard:
        fastmlp.set_num_threads(share)
        if not net.custom:
            y = reference.targets(p.y, net.sizes[-1], p.loss)
            want = reference.gradients(p.X, p.y, *p[2:])
            net.close(model.predict(net.X), reference.forward(p.X, *p[2:5]))
            net.close(model.loss(net.X, net.y), want.loss)
            got = model.backward(net.X, net.y)
            net.close(got.loss, want.loss)
            if net.exact:
                scale = np.abs(y).max() + 1
                net.close(reference.flat(got.weights, got.biases), reference.flat(want.weights, want.biases), scale)
                net.close(got.inputs, want.inputs, scale)
    if not net.custom and not net.rate and net.exact and dtype == "float64":
        plain, pupil = optimizer(rng, plain=True), copy.deepcopy(model)
        batch = max(_scale(rng, len(p.X)), len(p.X) // 8)  # after thousands of steps what rounding left has grown
        with guarded(rng):
            history = pupil.fit(net.X, net.y, 2, batch, optimizer=plain, shuffle=False)
        run = reference_update.train(p, plain, 2, batch)
        net.close(pupil.params, run.params, 1000)
        net.close(history["loss"], run.losses, 1000)
    twin = copy.deepcopy(model)
    for call in net.calls():
        with guarded(rng) as inner:
            fastmlp.set_num_threads(share)
            got_here = call(model)
        guard.calls += inner.calls
        fastmlp.set_num_threads(1)
        _same(got_here, call(twin))
        _same(model.params, twin.params)
    return guard.calls


def try_dense(seed: int, dtype: str) -> None:
    """The public kernels, of any shape."""
    rng = np.random.default_rng(seed)
    inside = Guarded(kernels, rng)
    rows, fan_in, fan_out = (_scale(rng, 200) for _ in range(3))
    x, w, b, d = (
        rng.standard_normal(shape).astype(dtype) for shape in ((rows, fan_in), (fan_in, fan_out), fan_out, (rows, fan_out))
    )
    bound = 1e-10 if dtype == "float64" else 1e-4
    name = _pick(rng, list(ACTIVATIONS))
    z, out = np.empty((2, rows, fan_out), dtype)
    assert inside.dense_forward(x, w, b, ACTIVATIONS[name].code, z, out) == 0
    assert reference.error(out, reference.forward(x, [w], [b], [name]), 1.0) < bound
    dw, db, dx = np.empty((fan_in, fan_out), dtype), np.empty(fan_out, dtype), np.empty((rows, fan_in), dtype)
    assert inside.dense_backward_weights(x, d, dw) == 0
    assert inside.dense_backward_biases(d, db) == 0
    assert reference.error(dw, x.astype(float).T @ d, 1.0) < bound
    assert reference.error(db, d.astype(float).sum(axis=0), 1.0) < bound
    name = _pick(rng, SMOOTH[:-1])
    f, slope = reference.ACTIVATIONS[name]
    kept = x if name in ("gelu", "silu") else f(x.astype(float)).astype(dtype)
    scratch = np.empty((fan_out + 15) * fan_in, dtype)
    assert inside.dense_backward_inputs(d, w, ACTIVATIONS[name].code, kept, scratch, dx) == 0
    assert reference.error(dx, (d.astype(float) @ w.T) * slope(x.astype(float)), 1.0) < bound


def faults(act: Callable[[], Any]) -> bool:
    """Whether it ends in a fault; it is done in a child."""
    child = os.fork()
    if not child:
        faulthandler.disable()
        try:
            act()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or not os.WEXITSTATUS(status), "it raised"
    return os.WIFSIGNALED(status)


def main(dtype: str, seconds: float, seed: int = 0, most: int = 1 << 62) -> None:
    """Go through seeds; print each before it is tried, and in the end what was done."""
    faulthandler.enable()
    share_all()
    started, calls, first = time.monotonic(), 0, seed
    while seed < first + most and (seed < first + 5 or time.monotonic() - started < seconds):
        print("seed", seed, flush=True)
        with np.errstate(all="ignore"):
            calls += try_net(seed, dtype)
            try_dense(seed, dtype)
        seed += 1
    print(f"{dtype}: {seed - first} nets, {calls} calls, {time.monotonic() - started:.0f} s, no fault")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), *map(int, sys.argv[3:]))
