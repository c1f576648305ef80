"""What a model's arguments must be: its sizes, activations, dropout and parameters, and the targets for its loss."""

from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from fastmlp import checks
from fastmlp.activations import ACTIVATIONS, ALIASES, CustomActivation
from fastmlp.losses import LOSSES, CustomLoss, RowLoss


def targets(y: Any, rows: int, outputs: int, loss: str | CustomLoss | RowLoss, dtype: np.dtype) -> np.ndarray:
    """y as a (rows, k) array of the model's dtype: k = outputs, 1 for the labels of cross_entropy, or what a `RowLoss` says."""
    array = y if type(y) is np.ndarray and y.dtype == dtype else checks.numbers("y", y)
    if loss == "cross_entropy" and not (
        array.ndim == 2 and array.shape[1] == outputs and (outputs > 1 or array.dtype.kind == "f")
    ):
        return _labels(array, rows, outputs, dtype)
    array = _rows("y", array, rows, *((loss.targets, "targets") if isinstance(loss, RowLoss) else (outputs, "outputs")))
    most = LOSSES[loss].most_target if isinstance(loss, str) else None
    if most is not None and not checks.within(array, most):
        outside = array[~((array >= 0) & (array <= most))]
        wanted = f"lie in [0, {most:g}]" if np.isfinite(most) else "be at least 0"
        raise ValueError(f"y must {wanted} for loss={loss!r}, got {outside[0].item()!r}")
    return checks.contiguous(array, dtype)


def output_gradient(value: Any, rows: int, outputs: int, dtype: np.dtype) -> np.ndarray:
    """The gradient by the outputs as a (rows, outputs) array of the model's dtype."""
    return checks.contiguous(
        _rows("output_gradient", checks.numbers("output_gradient", value), rows, outputs, "outputs"), dtype
    )


def _rows(name: str, array: np.ndarray, rows: int, columns: int, kind: str) -> np.ndarray:
    """The array as (rows, columns), of what `kind` says; of one column, (rows,) is the same."""
    whole = array[:, None] if array.ndim == 1 and columns == 1 else array
    if whole.ndim != 2 or whole.shape[1] != columns:
        raise ValueError(f"{name} must have shape ({rows}, {columns}) for {columns} {kind}, got {array.shape}")
    if len(whole) != rows:
        raise ValueError(_length_refused(name, whole, rows))
    return whole


def _labels(array: np.ndarray, rows: int, outputs: int, dtype: np.dtype) -> np.ndarray:
    wanted = f"integer labels of shape ({rows},), or probability rows of shape ({rows}, {outputs})"
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"y must be {wanted}, for cross_entropy; got shape {array.shape}")
    if array.dtype.kind not in "iub":
        raise TypeError(f"y must be {wanted}, for cross_entropy; got dtype {array.dtype}")
    if len(array) != rows:
        raise ValueError(_length_refused("y", array, rows))
    if not checks.within(array, outputs - 1):
        low, high = array.min(), array.max()
        raise ValueError(f"y must hold labels from 0 to {outputs - 1}, got {low if low < 0 else high}")
    # With one output every label is 0, and its row of probabilities [1.0].
    return checks.contiguous(array[:, None] if outputs > 1 else np.ones((rows, 1)), dtype)


def _length_refused(name: str, array: np.ndarray, rows: int) -> str:
    return f"{name} must have as many rows as X, {rows}; got {len(array)}"


def sizes(value: Any) -> tuple[int, ...]:
    """At least two positive widths."""
    if not _several(value):
        raise TypeError(f"sizes must be a sequence of integers, got {value!r}")
    widths = tuple(checks.count("sizes", width) for width in value)
    if len(widths) < 2:
        raise ValueError(f"sizes must hold at least two widths, inputs and outputs, got {value!r}")
    parameters = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(widths))
    if parameters > checks.MOST:
        raise ValueError(f"sizes must make at most {checks.MOST} parameters, got {value!r}, which make {parameters}")
    return widths


def _several(value: Any) -> bool:
    """Whether it is a sequence, not text or one number."""
    return isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes) and getattr(value, "ndim", 1) > 0


def activations(value: Any, layers: int, loss: str, output: str | CustomActivation) -> tuple[str | CustomActivation, ...]:
    """An activation for each layer, the last one fit for the loss; it is `output` if only the hidden layers' was given."""
    if isinstance(value, str | CustomActivation):
        hidden = _activation(value, [name for name in ACTIVATIONS if name != "softmax"])
        names = (hidden,) * (layers - 1) + (_activation(output, ACTIVATIONS),)
    elif isinstance(value, Sequence):
        names = tuple(_activation(name, ACTIVATIONS) for name in value)
    else:
        raise TypeError(f"activations must be a name or a sequence of names, got {value!r}")
    if len(names) != layers:
        raise ValueError(f"activations must hold {layers} names, one a layer, got {len(names)}")
    if "softmax" in names[:-1]:
        raise ValueError(f"activations must have softmax on the output only, got {value!r}")
    wanted = LOSSES[loss].outputs if loss in LOSSES else ()
    if wanted and names[-1] not in wanted:
        ends = " or ".join(map(repr, wanted))
        raise ValueError(f"activations must end in {ends} for loss={loss!r}, got {names[-1]!r}")
    return names


def _activation(value: Any, known: Collection[str]) -> str | CustomActivation:
    if isinstance(value, CustomActivation):
        return value
    return checks.choice("activations", ALIASES.get(value, value) if isinstance(value, str) else value, known)


def dropout(value: Any, hidden: int) -> tuple[float, ...]:
    """A rate for each hidden layer."""
    rates = value if _several(value) else (value,) * hidden
    if len(rates) != hidden:
        raise ValueError(f"dropout must hold {hidden} rates, one a hidden layer, got {len(rates)}")
    return tuple(checks.real("dropout", rate, least=0.0, below=1.0) for rate in rates)


def parameters(weights: Any, biases: Any, dtype: np.dtype | None) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights and biases that fit together, of one dtype and finite in it; None: float32 if all are, else float64."""
    for name, value in (("weights", weights), ("biases", biases)):
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise TypeError(f"{name} must be a sequence of arrays, got {value!r}")
    matrices = [checks.numbers(f"weights[{i}]", value) for i, value in enumerate(weights)]
    vectors = [checks.numbers(f"biases[{i}]", value) for i, value in enumerate(biases)]
    if not matrices or len(matrices) != len(vectors):
        raise ValueError(f"weights and biases must hold an array each a layer, got {len(matrices)} and {len(vectors)}")
    for i, (matrix, vector) in enumerate(zip(matrices, vectors, strict=True)):
        if matrix.ndim != 2 or matrix.size == 0:
            raise ValueError(f"weights[{i}] must have shape (fan_in, fan_out), got {matrix.shape}")
        if i and len(matrix) != matrices[i - 1].shape[1]:
            fan_in = matrices[i - 1].shape[1]
            raise ValueError(f"weights[{i}] must have {fan_in} rows, the layer before's outputs; got shape {matrix.shape}")
        if vector.shape not in ((matrix.shape[1],), (1, matrix.shape[1])):
            raise ValueError(f"biases[{i}] must have shape ({matrix.shape[1]},), got {vector.shape}")
    if dtype is None:
        dtype = np.dtype(np.float32 if all(array.dtype == np.float32 for array in (*matrices, *vectors)) else np.float64)
    for name, arrays in (("weights", matrices), ("biases", vectors)):
        for i, array in enumerate(arrays):
            arrays[i] = checks.contiguous(array, dtype)
            bad = ~np.isfinite(arrays[i])
            if bad.any():
                raise ValueError(f"{name}[{i}] must be finite in {dtype}, got {array[bad][0].item()!r}")
    return matrices, vectors
