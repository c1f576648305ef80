"""One row at a time in a user's compiled loop: `Model.compiled` beside the net's arithmetic alone, and beside loops in Python.

    python asv_bench/called.py [ROWS]

The loop goes over a million rows by default, on one thread, float32, 4-64-64-2 with tanh; each row depends on the outputs for
the one before. "Arithmetic alone" is this net's products and tanh written out in one kernel with its sizes as constants. All
are timed in turns, by the process's own time, and the fastest turn counts. Loops in Python run over fewer rows. PyTorch and
ONNX Runtime are left out where they are not installed. Then single dense layers, n -> n without activation, whose rows do not
depend on each other.
"""

import os
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from pinned import VARIABLES, cores

os.environ |= dict.fromkeys(VARIABLES, "1")  # before NumPy reads them
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, cores()[:1])

import numba
import numpy as np

import fastmlp
from fastmlp.kernels.machine.jit import entry
from fastmlp.kernels.machine.pointer import pointer, written
from fastmlp.kernels.machine.target import VECTOR_BYTES
from fastmlp.kernels.tiles.math import tanh
from fastmlp.kernels.tiles.tile import load, outer_add, splat, store

TURNS, SIZES, PYTHON_ROWS, MANY = 9, [4, 64, 64, 2], 20_000, 2048
VECTORS = 64 * 4 // VECTOR_BYTES
WIDTHS = (4, 8, 16, 32, 64, 256)


@numba.njit(nogil=True)
def loop(f: Any, x: np.ndarray, out: np.ndarray, rows: int) -> None:
    """A row at a time; each depends on the one before."""
    for _ in range(rows):
        f(x, out)
        x[0] = out[0]


@numba.njit(nogil=True)
def independent(f: Any, x: np.ndarray, out: np.ndarray, rows: int) -> None:
    """The same row again and again."""
    for _ in range(rows):
        f(x, out)


@entry
def alone(params: np.ndarray, x: np.ndarray, out: np.ndarray, scratch: np.ndarray, rows: int) -> None:
    """The same, of 4-64-64-2 alone; `scratch` has 128 numbers."""
    w, a, to = pointer(params), written(scratch), written(out)
    row, b = written(x), a + 64
    for _ in range(rows):
        acc = load(w + 256, 0, 1, VECTORS, None)
        for p in range(4):
            acc = outer_add(acc, row + p, 0, w + p * 64, None)
        store(tanh(acc), a, 0, None)
        acc = load(w + (320 + 4096), 0, 1, VECTORS, None)
        for p in range(64):
            acc = outer_add(acc, a + p, 0, w + (320 + p * 64), None)
        store(tanh(acc), b, 0, None)
        first, second = load(w + 4608, 0, 1, 1, 2), splat(w, 0.0, 1, 1)
        third, fourth = second, second
        for p in range(0, 64, 4):
            first = outer_add(first, b + p, 0, w + (4480 + 2 * p), None)
            second = outer_add(second, b + (p + 1), 0, w + (4480 + 2 * p + 2), None)
            third = outer_add(third, b + (p + 2), 0, w + (4480 + 2 * p + 4), None)
            fourth = outer_add(fourth, b + (p + 3), 0, w + (4480 + 2 * p + 6), None)
        store((first + second) + (third + fourth), to, 0, 2)
        row[0] = to[0]


def in_python(model: fastmlp.Model) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """What others call for a row from Python."""
    weights, biases = model.weights, model.biases

    def of_numpy(x: np.ndarray) -> np.ndarray:
        for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
            x = x @ w + b
            if i < len(weights) - 1:
                x = np.tanh(x)
        return x

    calls: dict[str, Callable[[np.ndarray], np.ndarray]] = {"NumPy": of_numpy}
    if find_spec("torch"):
        import torch

        torch.set_num_threads(1)
        layers: list[Any] = []
        for w, b in zip(weights, biases, strict=True):
            layer = torch.nn.Linear(*w.shape)
            layer.weight.data, layer.bias.data = torch.from_numpy(w.T.copy()), torch.from_numpy(b[0].copy())
            layers += [layer, torch.nn.Tanh()]
        net = torch.nn.Sequential(*layers[:-1])

        @torch.inference_mode()
        def of_torch(x: np.ndarray) -> np.ndarray:
            return net(torch.from_numpy(x)).numpy()

        calls["PyTorch"] = of_torch
    if find_spec("onnxruntime") and find_spec("onnx"):
        calls["ONNX Runtime"] = of_onnx(weights, biases)
    return calls


def of_onnx(weights: list[np.ndarray], biases: list[np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """A session's call."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    nodes, tensors, name = [], [], "x"
    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
        tensors += [numpy_helper.from_array(w, f"w{i}"), numpy_helper.from_array(b[0], f"b{i}")]
        nodes.append(helper.make_node("Gemm", [name, f"w{i}", f"b{i}"], [f"z{i}"]))
        name = f"z{i}"
        if i < len(weights) - 1:
            nodes.append(helper.make_node("Tanh", [name], [f"a{i}"]))
            name = f"a{i}"
    ends = [
        [helper.make_tensor_value_info(end, TensorProto.FLOAT, [1, size])]
        for end, size in (("x", len(weights[0])), (name, weights[-1].shape[1]))
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "net", *ends, tensors), opset_imports=[helper.make_opsetid("", 13)], ir_version=8
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return lambda x: session.run(None, {"x": x})[0]


def fastest(runs: dict[str, tuple[Callable[[], object], int]]) -> dict[str, float]:
    """Nanoseconds a row of each, taken in turns."""
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(TURNS):
        for name, (run, rows) in runs.items():
            started = time.process_time()
            run()
            best[name] = min(best[name], (time.process_time() - started) / rows * 1e9)
    return best


def whole_net(rows: int) -> None:
    """The table of 4-64-64-2."""
    model = fastmlp.Model(SIZES, activations="tanh", dtype="float32", rng=0)
    params = np.zeros(model.params.size + 64, np.float32)  # whole registers beyond
    params[: model.params.size] = model.params
    f, rng = model.compiled(), np.random.default_rng(0)
    x, out, scratch = rng.standard_normal(4).astype(np.float32), np.empty(2, np.float32), np.empty(128, np.float32)
    loop(f, x.copy(), out, 1)
    got = out.copy()
    alone(params, x.copy(), out, scratch, 1)
    np.testing.assert_allclose(out, got, rtol=1e-4, atol=1e-6)
    runs: dict[str, tuple[Callable[[], object], int]] = {
        "arithmetic alone": (lambda: alone(params, x.copy(), out, scratch, rows), rows),
        "`f(x, out)` in `@njit`": (lambda: loop(f, x.copy(), out, rows), rows),
    }
    batch = x[None].copy()
    for name, call in {"`model.predict`": model.predict, **in_python(model)}.items():
        np.testing.assert_allclose(call(batch)[0], got, rtol=1e-4, atol=1e-5)

        def repeat(call: Callable[[np.ndarray], np.ndarray] = call) -> None:
            for _ in range(PYTHON_ROWS):
                call(batch)

        runs[f"{name} from Python"] = repeat, PYTHON_ROWS
    many, to = rng.standard_normal((MANY, 4)).astype(np.float32), np.empty((MANY, 2), np.float32)
    runs[f"`f(X, out)` of {MANY} rows at once"] = lambda: f(many, to), MANY
    runs[f"`model.predict` of {MANY} rows at once"] = lambda: model.predict(many, out=to), MANY
    found = fastest(runs)
    print("| 4-64-64-2, tanh, float32 | ns a row | of `f(x, out)` |")
    print("|---|---|---|")
    for name, time_each in found.items():
        print(f"| {name} | {time_each:,.0f} | {time_each / found['`f(x, out)` in `@njit`']:.2f} |")


def single_layers() -> None:
    """The table of n -> n."""
    print("\n| dense n -> n, float32 | ns a row |")
    print("|---|---|")
    for width in WIDTHS:
        f = fastmlp.Model([width, width], activations=["identity"], dtype="float32", rng=0).compiled()
        x, out = np.random.default_rng(0).standard_normal(width).astype(np.float32), np.empty(width, np.float32)
        independent(f, x, out, 1)
        rows = 30_000_000 // (width * width + 300)
        found = fastest({"": (lambda f=f, x=x, out=out, rows=rows: independent(f, x, out, rows), rows)})
        print(f"| {width} | {found['']:.1f} |")


if __name__ == "__main__":
    whole_net(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
    single_layers()
