"""Networks from ONNX files: those that others write, what is read and what is refused."""

# ruff: noqa: E501 (rows of tables)

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import Model, from_onnx, to_onnx

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

FILES = sorted((Path(__file__).parent / "data" / "onnx").glob("*.onnx"))
RNG = np.random.default_rng(0)
W, V = RNG.standard_normal((3, 4)).astype(np.float32), RNG.standard_normal((4, 2)).astype(np.float32)
B, ONE = RNG.standard_normal(4).astype(np.float32), np.float32(0.75)
X = RNG.standard_normal((20, 3)).astype(np.float32)
UNITS = np.ones(3, np.float32)


def made(
    *nodes: Any, dims: Any = ("rows", 3), outputs: Any = (("y", TensorProto.FLOAT),), opset: int = 13, **arrays: Any
) -> bytes:
    """A model of the input x, the nodes (an operator, its inputs, its output), and initialisers by name."""
    made = [
        node if hasattr(node, "op_type") else helper.make_node(node[0], node[1].split(), [node[2]], **dict(*node[3:]))
        for node in nodes
    ]
    tensors = [
        one if isinstance(one, TensorProto) else numpy_helper.from_array(np.asarray(one), name) for name, one in arrays.items()
    ]
    kind = (
        TensorProto.DOUBLE if any(getattr(one, "dtype", None) == np.float64 for one in arrays.values()) else TensorProto.FLOAT
    )
    inputs = [helper.make_tensor_value_info("x", kind, dims)]
    given = [helper.make_tensor_value_info(name, of if kind == 1 or of != 1 else kind, None) for name, of in outputs]
    graph = helper.make_graph(made, "g", inputs, given, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString()


def read(tmp_path: Path, data: bytes, **options: Any) -> Model:
    (tmp_path / "net.onnx").write_bytes(data)
    return from_onnx(tmp_path / "net.onnx", **options)


DENSE = ("MatMul", "x W", "h"), ("Add", "h B", "z")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_of_others(path: Path) -> None:
    data = np.load(path.with_suffix(".npz"))
    if "gelu_by_tanh" in path.stem:
        with pytest.raises(ValueError, match=r"the nearest is gelu, which differs by up to 0\.00047"):
            from_onnx(path)
        return
    model = from_onnx(path)
    want = data["outputs"]
    assert model.dtype == want.dtype or "skl2onnx" in path.stem
    np.testing.assert_allclose(
        model.predict(data["X"]), want, atol=1e-14 if want.dtype == np.float64 and "skl2" not in path.stem else 1e-6
    )


def test_there_are_files_of_others() -> None:
    assert {path.stem.partition("_")[0] for path in FILES} == {"torch", "keras", "skl2onnx"}


@pytest.mark.parametrize("options", [{}, {"zipmap": False}])
@pytest.mark.parametrize("classes", [2, 3])
def test_what_skl2onnx_writes_now(classes: int, options: Any, tmp_path: Path) -> None:
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.neural_network import MLPClassifier

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = MLPClassifier((6, 5), "relu", max_iter=5, random_state=0).fit(X, np.arange(20) % classes)
        data = skl2onnx.to_onnx(net, X[:1], options={id(net): options}).SerializeToString()
    got = read(tmp_path, data)
    np.testing.assert_allclose(got.predict(X), net.predict_proba(X)[:, 1 if classes == 2 else 0 :], atol=1e-6)


AFFINE = {
    "gemm": made(("Gemm", "x W B", "y"), W=W, B=B),
    "gemm without C": made(("Gemm", "x W", "y"), W=W),
    "alpha and beta": made(("Gemm", "x W B", "y", {"alpha": 0.5, "beta": 2.0}), W=W, B=B),
    "transB": made(("Gemm", "x W B", "y", {"transB": 1}), W=np.ascontiguousarray(W.T), B=B),
    "scalar C": made(("Gemm", "x W B", "y"), W=W, B=ONE),
    "bias first": made(("MatMul", "x W", "h"), ("Add", "B h", "y"), W=W, B=B),
    "bias of one row": made(("MatMul", "x W", "h"), ("Add", "h B", "y"), W=W, B=B[None]),
    "bias subtracted": made(("MatMul", "x W", "h"), ("Sub", "h B", "y"), W=W, B=B),
    "one column": made(("MatMul", "x W", "h"), ("Add", "h B", "z"), ("Tanh", "z", "y"), W=W[:, :1], B=B[:1]),
    "columns scaled": made(*DENSE, ("Mul", "z S", "t"), ("Div", "t B", "u"), ("Relu", "u", "y"), W=W, B=B, S=B + 3),
    "scaler": made(("Sub", "x M", "a"), ("Div", "a S", "b"), ("Mul", "b K", "c"), ("Add", "c M", "d"), ("Gemm", "d W B", "y"), W=W, B=B, M=UNITS * 2, S=UNITS / 3, K=ONE),
    "two layers without an activation": made(*DENSE, ("MatMul", "z V", "y"), W=W, B=B, V=V),
    "transposed constant": made(("Transpose", "U", "W", {"perm": [1, 0]}), ("MatMul", "x W", "y"), U=np.ascontiguousarray(W.T)),
    "shared constant": made(("Identity", "U", "B"), *DENSE, ("Relu", "z", "y"), W=W, U=B),
    "Constant": made(helper.make_node("Constant", [], ["B"], value=numpy_helper.from_array(B)), *DENSE, ("Relu", "z", "y"), W=W),
    "double": made(("Gemm", "x W B", "z"), ("Tanh", "z", "y"), W=W.astype(np.float64), B=B.astype(np.float64)),
    "float_data": made(*DENSE, ("Relu", "z", "y"), W=helper.make_tensor("W", TensorProto.FLOAT, W.shape, W.ravel()), B=B),
    "what changes nothing": made(("Flatten", "x", "a"), ("Identity", "a", "b"), ("Cast", "b", "c", {"to": 1}), ("Gemm", "c W B", "d"), ("Reshape", "d S", "e"), ("Dropout", "e", "f"), ("Relu", "f", "y"), W=W, B=B, S=np.array([-1, 4])),
    "squeezed": made(("Gemm", "x W", "a"), ("Squeeze", "a S", "b"), ("Sigmoid", "b", "c"), ("Unsqueeze", "c S", "y"), W=W[:, :1], S=np.array([1])),
    "hardswish by HardSigmoid": made(*DENSE, ("HardSigmoid", "z", "s", {"alpha": 1 / 6, "beta": 0.5}), ("Mul", "z s", "y"), W=W, B=B),
    "hardswish by Clip, no bias": made(("MatMul", "x W", "z"), ("Add", "z T", "a"), ("Clip", "a L H", "b"), ("Mul", "z b", "c"), ("Div", "c H", "y"), W=W, T=np.float32(3), L=np.float32(0), H=np.float32(6)),
    "mish": made(*DENSE, ("Softplus", "z", "s"), ("Tanh", "s", "t"), ("Mul", "z t", "y"), W=W, B=B),
    "gelu of opset 20": made(*DENSE, ("Gelu", "z", "y"), opset=20, W=W, B=B),
    "softmax, axis 1": made(*DENSE, ("Softmax", "z", "y", {"axis": 1}), W=W, B=B),
}  # fmt: skip


@pytest.mark.parametrize("name", AFFINE)
def test_forms(name: str, tmp_path: Path) -> None:
    data = AFFINE[name]
    model = read(tmp_path, data)
    rows = X.astype(model.dtype)
    (want,) = onnxruntime.InferenceSession(data).run(None, {"x": rows})
    np.testing.assert_allclose(model.predict(rows), want.reshape(len(rows), -1), atol=1e-13 if name == "double" else 2e-6)
    if name.startswith("two"):
        assert model.activations == ("identity", "identity")


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
@pytest.mark.parametrize("raw", [False, True])
def test_16_bits_are_widened(kind: int, raw: bool, tmp_path: Path) -> None:
    tensor = helper.make_tensor("W", kind, W.shape, W.ravel())
    exact = numpy_helper.to_array(tensor).astype(np.float32)
    if raw:
        tensor = numpy_helper.from_array(numpy_helper.to_array(tensor), "W")
    model = read(tmp_path, made(("MatMul", "x W", "z"), ("Tanh", "z", "y"), W=tensor))
    assert model.dtype == np.float32
    np.testing.assert_array_equal(model.weights[0], exact)


def test_losses_and_outputs(tmp_path: Path) -> None:
    data = made(*DENSE, ("Softmax", "z", "p"), ("ArgMax", "p", "y"), outputs=[("y", 7), ("p", 1)], W=W, B=B)
    assert read(tmp_path, data).loss_name == "cross_entropy"
    logits = read(tmp_path, data, output="z", loss="huber")
    assert (logits.activations, logits.loss_name) == (("identity",), "huber")
    assert read(tmp_path, made(*DENSE, ("Sigmoid", "z", "y"), W=W, B=B)).loss_name == "bce"
    assert read(tmp_path, made(*DENSE, ("Tanh", "z", "y"), W=W, B=B)).loss_name == "mse"
    with pytest.raises(ValueError, match="loss"):
        read(tmp_path, data, loss="none")
    with pytest.raises(TypeError, match="output must be a string"):
        read(tmp_path, data, output=3)


EXTERNAL = numpy_helper.from_array(W, "W")
EXTERNAL.data_location = TensorProto.EXTERNAL
EXTERNAL.external_data.add(key="location", value="/etc/passwd")
REFUSED = {
    "unknown operator": (made(*DENSE, ("Sin", "z", "y"), W=W, B=B), r"node 'y' \(Sin\): Sin is none of the operators that are read: Abs, Add"),
    "other domain": (made(helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")), "com.microsoft.Gelu is none"),
    "Scaler": (made(helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml")), "ai.onnx.ml.Scaler is none"),
    "residual": (made(*DENSE, ("MatMul", "z U", "a"), ("Add", "a z", "y"), W=W, B=B, U=V @ V.T), "from before the last layer: graphs that branch are not read"),
    "branch": (made(*DENSE, ("MatMul", "x W", "k"), ("Add", "k z", "y"), W=W, B=B), "graphs that branch are not read"),
    "leaky slope": (made(*DENSE, ("LeakyRelu", "z", "y", {"alpha": 0.011}), W=W, B=B), "nearest is leaky_relu, which differs by up to 0.01"),
    "elu alpha": (made(*DENSE, ("Elu", "z", "y", {"alpha": 0.9}), W=W, B=B), "no activation that fastmlp has"),
    "gelu by tanh": (made(*DENSE, ("Gelu", "z", "y", {"approximate": "tanh"}), opset=20, W=W, B=B), "nearest is gelu, which differs"),
    "relu6": (made(*DENSE, ("Clip", "z L H", "y"), W=W, B=B, L=np.float32(0), H=np.float32(6)), "nearest is relu"),
    "relu up to 1000": (made(*DENSE, ("Clip", "z L H", "y"), W=W, B=B, L=np.float32(0), H=np.float32(1000)), "nearest is relu"),
    "columns after an activation": (made(*DENSE, ("Relu", "z", "r"), ("Mul", "r B", "y"), W=W, B=B), "must come before an activation"),
    "LogSoftmax": (made(*DENSE, ("LogSoftmax", "z", "y"), W=W, B=B), "its outputs are logarithms"),
    "after softmax": (made(*DENSE, ("Softmax", "z", "p"), ("Relu", "p", "y"), W=W, B=B), "nothing may be computed"),
    "softmax over rows": (made(*DENSE, ("Softmax", "z", "y", {"axis": 0}), W=W, B=B), "axis 1 or -1"),
    "softmax after relu": (made(*DENSE, ("Relu", "z", "r"), ("Softmax", "r", "y"), W=W, B=B), "without an activation, got relu"),
    "transA": (made(("Gemm", "x W", "y", {"transA": 1}), W=W), "transA must be 0"),
    "widths": (made(*DENSE, ("MatMul", "z W", "y"), W=W, B=B), r"a matrix with 4 rows, got shape \(3, 4\)"),
    "input's width": (made(("MatMul", "x V", "y"), V=V), "a matrix with 3 rows"),
    "bias's width": (made(("MatMul", "x W", "h"), ("Add", "h B", "y"), W=W, B=B[:3]), r"1 or 4 numbers for the columns, got shape \(3,\)"),
    "C's width": (made(("Gemm", "x W B", "y"), W=W, B=B[:3]), "its C must be 4 numbers"),
    "three dimensions": (made(*DENSE, dims=("rows", 1, 3), outputs=[("z", 1)], W=W, B=B), r"the shape \(rows, columns\), got 3"),
    "transposed input": (made(("Transpose", "x", "a"), ("MatMul", "a W", "y"), W=W), "only constants may be transposed"),
    "reshape": (made(("MatMul", "x W", "h"), ("Reshape", "h S", "y"), W=W, S=np.array([-1, 2])), "must leave rows of 4"),
    "training": (made(("MatMul", "x W", "h"), ("Dropout", "h R T", "y"), W=W, R=ONE, T=np.array(True)), "in training mode"),
    "rounding": (made(("MatMul", "x W", "h"), ("Cast", "h", "y", {"to": 10}), W=W), "rounds to another type"),
    "external": (made(("MatMul", "x W", "y"), W=EXTERNAL), "in another file, which is not read"),
    "NaN": (made(("MatMul", "x W", "y"), W=W * np.nan), "must be finite in float32"),
    "no layer": (made(("Identity", "x", "y")), "must come from a layer"),
    "cycle": (made(("Add", "a B", "b"), ("Relu", "b", "a"), ("MatMul", "a V", "y"), B=B, V=V), "nodes must be in order"),
    "undefined": (made(("MatMul", "a V", "y"), V=V), "input 'a' is neither in the graph"),
    "name there twice": (made(("Relu", "x", "y"), ("MatMul", "x V", "y"), V=V), "'y' must have a name of its own"),
    "two outputs": (made(*DENSE, outputs=[("h", 1), ("z", 1)], W=W, B=B), "several outputs of floating-point numbers: 'h', 'z'"),
    "old opset": (made(*DENSE, outputs=[("z", 1)], opset=6, W=W, B=B), "opset must be 7 or newer, got 6"),
    "clipped input": (made(("Relu", "x", "r"), ("MatMul", "r W", "y"), W=W), "before the first layer only constants"),
    "labels only": (made(*DENSE, ("ArgMax", "z", "y"), outputs=[("y", 7)], W=W, B=B), "there is none"),
    "integers": (made(("MatMul", "x W", "y"), W=W.astype(np.int64)), "floating-point numbers, got int64"),
    "constants": (made(("Add", "B B", "C"), ("Gemm", "x W C", "y"), W=W, B=B), "computes a constant"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    data, message = REFUSED[name]
    with pytest.raises(ValueError, match=rf"net.onnx' cannot be read as a network: .*{message}"):
        read(tmp_path, data)


def test_sparse_initialisers_are_refused(tmp_path: Path) -> None:
    model = onnx.load_from_string(made(*DENSE, outputs=[("z", 1)], W=W, B=B))
    model.graph.sparse_initializer.add()
    with pytest.raises(ValueError, match="sparse initialisers are not read"):
        read(tmp_path, model.SerializeToString())


def test_layers_that_share_numbers_are_no_larger_than_the_file(tmp_path: Path) -> None:
    nodes = [("MatMul", f"{'x' if i == 0 else f'h{i}'} W", f"h{i + 1}") for i in range(400)]
    square = np.eye(64, dtype=np.float32)
    shared = made(*nodes[:20], dims=("rows", 64), outputs=[("h20", 1)], W=square)
    assert read(tmp_path, shared).sizes == (64,) * 21
    with pytest.raises(ValueError, match="its layers share numbers, and would be a model of 6656000 bytes"):
        read(tmp_path, made(*nodes, dims=("rows", 64), outputs=[("h400", 1)], W=square))


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nothing"):
        from_onnx(tmp_path / "nothing")
    with pytest.raises(TypeError, match="path must be a string or a path"):
        from_onnx(b"bytes")  # type: ignore[arg-type]
    if os.path.exists("/dev/zero"):
        with pytest.raises(ValueError, match="path must be a file, got '/dev/zero'"):
            from_onnx("/dev/zero")


def test_it_needs_no_onnx(python: Any, tmp_path: Path) -> None:
    to_onnx(Model([2, 1], rng=0), tmp_path / "net.onnx")
    said = python(f"import sys, fastmlp; fastmlp.from_onnx({str(tmp_path / 'net.onnx')!r}); print('onnx' in sys.modules)")
    assert said.split() == ["False"]
