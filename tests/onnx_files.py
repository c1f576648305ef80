"""Random nets as ONNX files, and what any version of ONNX Runtime computes from them.

python onnx_files.py write FOLDER       with fastmlp
python onnx_files.py run FOLDER         with onnxruntime, however old, and NumPy only
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

LIMITS = {"float32": 1e-5, "float64": 1e-12}  # of the difference, relative to the largest output


def nets(count: int) -> Iterator[Any]:
    """Nets of 1 to 6 layers, of all activations in turn, in both dtypes."""
    from fastmlp import Model
    from fastmlp.activations import ACTIVATIONS

    rng = np.random.default_rng(0)
    names = [name for name in ACTIVATIONS if name not in ("softmax", "exp")]
    for i in range(count):
        sizes = rng.integers(1, 20, rng.integers(2, 8)).tolist()
        hidden = [names[(i + j) % len(names)] for j in range(len(sizes) - 2)]
        output = list(ACTIVATIONS)[i % len(ACTIVATIONS)]
        model = Model(sizes, [*hidden, output], dtype=("float32", "float64")[i // len(ACTIVATIONS) % 2], rng=i)
        for bias in model.biases:
            bias[...] = rng.normal(size=bias.shape)
        yield model


def inputs(columns: int, dtype: Any) -> np.ndarray:
    return np.random.default_rng(columns).normal(0, 2, (30, columns)).astype(dtype)


def difference(got: np.ndarray, want: np.ndarray) -> float:
    """Relative to the largest output."""
    return float(np.abs(got.astype(np.float64) - want).max() / max(np.abs(want).max(), np.finfo(want.dtype).tiny))


def write(folder: Path) -> None:
    from fastmlp import to_onnx

    for i, model in enumerate(nets(200)):
        X = inputs(model.sizes[0], model.dtype)
        to_onnx(model, folder / f"{i}.onnx")
        np.savez(folder / f"{i}.npz", X=X, want=model.predict(X))


def run(folder: Path) -> None:
    import onnxruntime

    worst = dict.fromkeys(LIMITS, 0.0)
    for path in sorted(folder.glob("*.onnx")):
        data = np.load(path.with_suffix(".npz"))
        (got,) = onnxruntime.InferenceSession(str(path)).run(None, {"X": data["X"]})
        assert got.dtype == data["want"].dtype, path
        worst[got.dtype.name] = max(worst[got.dtype.name], difference(got, data["want"]))
        assert worst[got.dtype.name] <= LIMITS[got.dtype.name], path
    print(f"onnxruntime {onnxruntime.__version__}: differences up to {worst}")


if __name__ == "__main__":
    {"write": write, "run": run}[sys.argv[1]](Path(sys.argv[2]))
