"""A network from an ONNX file."""

import os
import stat
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from fastmlp import checks
from fastmlp.interchange import given
from fastmlp.interchange.onnx import chain
from fastmlp.interchange.onnx.layer import Layer, assign
from fastmlp.interchange.onnx.match import quietly
from fastmlp.interchange.onnx.section import Column
from fastmlp.losses import LOSSES, CustomLoss, RowLoss
from fastmlp.model import Model
from fastmlp.network import Network
from fastmlp.types import LossName

ROOM = 2**20  # bytes that a model may have beyond twice its file's
BY_OUTPUT = {"softmax": "cross_entropy", "sigmoid": "bce"}


def from_onnx(
    path: str | os.PathLike[str],
    *,
    output: str | None = None,
    loss: LossName | CustomLoss | RowLoss | None = None,
) -> Model:
    """A network from an ONNX file that holds a chain of dense layers, whoever wrote it; the onnx package is not needed.

    Parameters
    ----------
    path : str or os.PathLike
    output : str or None
        The name of the value that is the network's output, any in the graph. None: the only output that holds floating-point
        numbers, such as the probabilities of a classifier that has labels too.
    loss : str, CustomLoss, RowLoss or None
        The model's loss. None: ``cross_entropy`` after a softmax, ``bce`` after a sigmoid, else ``mse``.

    Returns
    -------
    Model
        In float64 if the layers' parameters are; else in float32, also if they are float16 or bfloat16.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If the file is damaged, or holds anything but such a network: the message names the file, and the node.
    OSError
        If the file cannot be read.

    Notes
    -----
    **Layers** are Gemm, or MatMul by a constant. What is added to or multiplied with their columns by constants before the
    activation becomes part of their parameters; a layer after another without an activation is an identity layer. Arithmetic
    by constants before the first layer, a scaler's, is multiplied into it in float64: the inputs are then the raw ones.

    **Activations** are recognised by what they compute, not by how they are written: any of fastmlp's, from whatever
    elementwise operators, if it agrees to 3e-7 at some 400 numbers. Another function, such as gelu's approximation by tanh, a
    leaky ReLU of another slope, or LogSoftmax, is an error. A Softmax must be over the columns, and the last.

    **What changes nothing** is passed over: Identity, Dropout, Cast, and Flatten, Reshape, Squeeze and Unsqueeze of a single
    column or of rows that stay rows. Of a binary classifier's probabilities, 1 - p and p, the model has the one output p.

    **Not read**: other domains (but ZipMap), branches, loops, functions, sparse and external data, and opsets below 7. Nothing
    in the file is executed. Besides the model, whose size is compared with the file's first, the file is in memory once.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import fastmlp
    >>> model = fastmlp.Model([3, 8, 2], "gelu", loss="cross_entropy", rng=0)
    >>> path = pathlib.Path(tempfile.mkdtemp(), "net.onnx")
    >>> data = fastmlp.to_onnx(model, path)
    >>> fastmlp.from_onnx(path)
    Model(3-8-2, gelu, softmax; cross_entropy, float64, 50 parameters)
    """
    file = given.file(path)
    name = None if output is None else checks.text("output", output).encode()
    if not isinstance(loss, CustomLoss | RowLoss | None):
        checks.choice("loss", loss, LOSSES)
    with open(file, "rb") as opened:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise ValueError(f"path must be a file, got {str(file)!r}")
        data = memoryview(opened.read())
    try:
        layers, columns = chain.read(data, name)
        return _built(layers, columns, len(data), loss)
    except ValueError as error:
        raise ValueError(f"{str(file)!r} cannot be read as a network: {error}") from None


def _built(layers: list[Layer], columns: list[Column], size: int, loss: Any) -> Model:
    dtype = np.dtype(np.float64 if max(layer.rank for layer in layers) == 2 else np.float32)
    sizes = (layers[0].W.shape[0], *(layer.W.shape[1] for layer in layers))
    room = dtype.itemsize * sum((a + 1) * b for a, b in pairwise(sizes))
    if room > 2 * size + ROOM:
        raise ValueError(f"its layers share numbers, and would be a model of {room} bytes from a file of {size}")
    activations: Any = [layer.activation for layer in layers]
    loss = BY_OUTPUT.get(activations[-1], "mse") if loss is None else loss
    model = Model.__new__(Model)
    model._start(Network.of(sizes, activations, loss, dtype, 0.0))
    for i, (layer, W, b) in enumerate(zip(layers, model.weights, model.biases, strict=True)):
        quietly(partial(_fill, layer, W, b, [] if i else columns))
        for array in (W, b):
            if not (np.isfinite(array.min()) and np.isfinite(array.max())):
                raise ValueError(f"{layer.name}: its parameters must be finite in {dtype}")
    return model


def _fill(layer: Layer, W: np.ndarray, b: np.ndarray, before: list[Column]) -> None:
    """Write a layer's parameters to where they belong, with what is done to its inputs before and to its columns after it.

    Each step is in place: a second copy of a matrix is never made.
    """
    assign(W, layer.W)
    b[...] = 0
    if layer.C is not None:
        assign(b, layer.C.reshape(1, -1))
    for array, factor in ((W, layer.alpha), (b, layer.beta)):
        if factor != 1:
            array *= factor
    shift = np.zeros(b.shape[1])
    for kind, numbers in reversed(before):
        numbers = np.broadcast_to(numbers.reshape(-1), (len(W),))
        if kind in ("Add", "Sub"):
            moved = np.einsum("i,ij->j", numbers, W, dtype=np.float64)
            shift += moved if kind == "Add" else -moved
        else:
            _times(W, kind, numbers[:, None])
    if before:
        b += shift
    for kind, numbers in layer.columns:
        row = numbers.reshape(1, -1)
        if kind in ("Add", "Sub"):
            np.add(b, row if kind == "Add" else -row, out=b, casting="same_kind")
        else:
            _times(W, kind, row)
            _times(b, kind, row)


def _times(array: np.ndarray, kind: str, numbers: np.ndarray) -> None:
    (np.multiply if kind == "Mul" else np.divide)(array, numbers, out=array, casting="same_kind")
