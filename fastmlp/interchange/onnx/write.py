"""A trained network as an ONNX file."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastmlp import checks
from fastmlp.checks import REAL
from fastmlp.files.durable import writing
from fastmlp.interchange import given
from fastmlp.interchange.onnx.forms import FORMS
from fastmlp.interchange.onnx.graph import TYPES, Graph, file, value
from fastmlp.interchange.onnx.pipeline import Step, folded, whole
from fastmlp.model import Model
from fastmlp.types import Exported
from fastmlp.version import __version__

ROWS = "rows"  # the symbolic dimension


def to_onnx(
    model: Exported | Any,
    path: str | os.PathLike[str] | None = None,
    *,
    input_name: str = "X",
    output_names: Sequence[str] | None = None,
    fold: bool = True,
) -> bytes:
    """A network as an ONNX file of operators of the default domain: for ONNX Runtime, and all that reads ONNX.

    Parameters
    ----------
    model : Model, fitted estimator, or pipeline
        A scikit-learn ``Pipeline`` may have StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler and ``"passthrough"``
        before the estimator, and a ``TransformedTargetRegressor`` one of these around a regressor. For other transformers
        there is skl2onnx, which takes fastmlp's estimators too: `fastmlp.onnx`.
    path : str, os.PathLike or None
        A file to write as well; one that is there is replaced when all is written, and else stays as it is.
    input_name : str
        The name of the input, of shape (rows, inputs).
    output_names : sequence of str or None
        The outputs' names. None: ``output`` for a `Model`, and as skl2onnx has them ``variable`` for a regressor,
        and ``label`` and ``probabilities`` for a classifier.
    fold : bool
        Whether scalers are multiplied into the first and last layer's parameters, in float64, and then rounded to the dtype:
        where a mean is many times the scale, float32 loses figures. False: they are nodes of their own, as is what cannot be
        folded: a scaler that clips, what stands before it, and a target's scaler after an activation.

    Returns
    -------
    bytes
        The file. Inputs and outputs have the model's dtype, and the number of rows is the symbolic dimension ``rows``.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If the model has a `CustomActivation`, parameters that are not finite, a transformer that is none of those above, or
        2 GiB; if a name is empty or there twice; if a classifier's labels are neither whole numbers, booleans nor strings.
    OSError
        If the file cannot be written.

    Notes
    -----
    **Outputs.** Those of a `Model` are its `predict`'s. A regressor's are (rows, outputs), with ``exp`` applied for
    ``loss="poisson"``. A classifier's are those of its `predict` and `predict_proba`: labels (rows,) of int64 or strings, and
    probabilities (rows, classes); for indicators of several labels both are (rows, labels). There is never a ZipMap.

    **Versions.** Opset 9 and IR version 4 are the oldest that have all operators needed: ONNX 1.4, of January 2019.

    **Numbers.** The parameters are exact. All is computed in the model's dtype: in float64 some activations are several simpler
    operators, because ONNX Runtime has no float64 kernel for them. The outputs are those of `predict` up to rounding, and large
    numbers make no NaN.

    Examples
    --------
    >>> import numpy as np, onnxruntime
    >>> import fastmlp
    >>> model = fastmlp.Model.from_weights([[[2.0], [3.0]]], [[1.0]], activations=["tanh"])
    >>> session = onnxruntime.InferenceSession(fastmlp.to_onnx(model))
    >>> session.run(None, {"X": np.array([[0.1, -0.2]])})
    [array([[0.53704957]])]
    """
    found = whole(model)
    to = None if path is None else given.file(path)
    if checks.flag("fold", fold):
        found = folded(found)
    net, estimator = found.net, found.estimator
    classifier = hasattr(estimator, "classes_")
    usual = ["label", "probabilities"] if classifier else ["output" if estimator is net else "variable"]
    names = _names(input_name, output_names, usual)
    graph = Graph(net.dtype, names)
    a = _stepped(graph, names[0], found.before, "input")
    a = _layers(graph, net, a)
    if getattr(estimator, "out_activation_", "") == "exp":  # the network's outputs are the logarithms
        a = FORMS["exp"](graph, a)
    a = _stepped(graph, a, found.after, "output")
    dtype, width, outputs = net.dtype.name, net.sizes[-1], []
    if classifier:
        a, label, kind = _classified(graph, estimator, a)
        graph.rename(label, names[1])
        several = estimator._label_binarizer.y_type_.startswith("multilabel")
        outputs = [value(names[1], kind, [ROWS, width] if several else [ROWS])]
        width = width if several else max(width, 2)
    graph.rename(a, names[-1])
    outputs.append(value(names[-1], dtype, [ROWS, width]))
    message = graph.message([value(names[0], dtype, [ROWS, net.sizes[0]])], outputs, given.title(net))
    data = file(message, __version__)
    if to is not None:
        with writing(to) as opened:
            opened.write(data)
    return data


def _names(input_name: str, output_names: Sequence[str] | None, usual: list[str]) -> list[str]:
    """The input's name and the outputs'."""
    names = [checks.text("input_name", input_name)]
    if isinstance(output_names, str) or not isinstance(output_names, Sequence | None):
        raise TypeError(f"output_names must be a sequence of strings or None, got {output_names!r}")
    names += [checks.text(f"output_names[{i}]", name) for i, name in enumerate(usual if output_names is None else output_names)]
    if len(names) != 1 + len(usual):
        raise ValueError(f"output_names must be {len(usual)}, for {' and '.join(usual)}; got {len(names) - 1}")
    for name in names:
        if not name or names.count(name) > 1:
            raise ValueError(f"input_name and output_names must be names, each another; got {name!r}")
    return names


def _layers(graph: Graph, net: Model, x: str) -> str:
    for i, (W, b, name) in enumerate(zip(net.weights, net.biases, net.activations, strict=True), 1):
        names = graph.constant(f"W{i}", W), graph.constant(f"b{i}", b[0])
        # ONNX Runtime (1.15) makes one node of Gemm and the activation, which has no float64 kernel.
        z = graph.node("Gemm", x, *names) if graph.single else graph.node("Add", graph.node("MatMul", x, names[0]), names[1])
        x = FORMS[str(name)](graph, z)
    return x


def _stepped(graph: Graph, x: str, steps: list[Step], what: str) -> str:
    for i, (kind, numbers) in enumerate(steps, 1):
        x = graph.node(kind, x, graph.constant(f"{what}_{kind.lower()}{i}", numbers.astype(graph.dtype)))
    return x


def _classified(graph: Graph, estimator: Any, a: str) -> tuple[str, str, str]:
    """The names of the probabilities and of the labels, and the labels' type."""
    kind = estimator._label_binarizer.y_type_
    if kind.startswith("multilabel"):
        return a, graph.node("Cast", graph.node("Greater", a, 0.5), to=TYPES["int64"]), "int64"
    classes = _labels(estimator.classes_)
    if kind == "binary":
        a = graph.node("Concat", graph.node("Sub", 1.0, a), a, axis=1)
        if len(classes) == 1:  # the only label, whatever its probability
            classes = np.repeat(classes, 2)
    index = graph.node("ArgMax", a, axis=1, keepdims=0)
    return (
        a,
        graph.node("Gather", graph.constant("classes", classes), index, axis=0),
        "str" if classes.dtype.kind == "U" else "int64",
    )


def _labels(classes: np.ndarray) -> np.ndarray:
    """The classes as int64 or as strings."""
    if classes.dtype.kind in "OU" and all(isinstance(one, str) for one in classes.tolist()):
        return classes.astype(str)
    if classes.dtype.kind in REAL:
        whole = checks.silently(lambda: classes.astype(np.int64))
        if (whole == classes).all():
            return whole
    raise ValueError(f"model's labels must be integers, whole numbers, booleans or strings, got {classes[:3].tolist()}")
