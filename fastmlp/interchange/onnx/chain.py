"""A graph as a chain of dense layers."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastmlp.interchange.onnx import schema
from fastmlp.interchange.onnx.layer import RANKS, Layer, Row, wide
from fastmlp.interchange.onnx.match import FUNCTIONS
from fastmlp.interchange.onnx.protobuf import Span
from fastmlp.interchange.onnx.schema import Node, Parts
from fastmlp.interchange.onnx.section import Call, Column, Section

OLDEST = 7  # opset: before it operands were broadcast otherwise
CASTS = {1: 1, 10: 0, 11: 2, 16: 0}  # ranks by TensorProto.DataType


def read(data: memoryview, output: bytes | None) -> tuple[list[Layer], list[Column]]:
    """The layers of an ONNX file up to the output, and what is done to the columns of the inputs before the first of them."""
    model = schema.decoded(data, (0, len(data)), schema.MODEL, "the file")
    if not model["graph"]:
        raise ValueError("it must be an ONNX model, and has no graph")
    opset = 0
    for _, first, last in model["opset"]:
        parts = schema.decoded(data, (first, last), schema.OPSET, "its opset")
        if schema.single(data, parts["domain"]) in (b"", b"ai.onnx"):
            opset = schema.number(parts["version"])
    if opset < OLDEST:
        raise ValueError(f"its opset must be {OLDEST} or newer, got {opset}")
    graph = schema.decoded(data, model["graph"][0][1:], schema.GRAPH, "the graph")
    if graph["sparse_initializer"]:
        raise ValueError("its sparse initialisers are not read: convert them to dense ones")
    return Chain(data, graph).walk(output)


class Chain:
    """The way from a graph's input to one of its values.

    Nodes are decoded twice: once for their outputs' names, once when it is their turn. So a graph costs a name a node.
    """

    def __init__(self, data: memoryview, graph: Parts) -> None:
        self.data = data
        self.nodes = graph["node"]
        self.outputs: list[Span] = [part[1:] for part in graph["output"]]
        self.initialisers: dict[bytes, Span] = {}
        for _, first, last in graph["initializer"]:
            parts = schema.decoded(data, (first, last), schema.TENSOR, "an initialiser")
            self._new(self.initialisers, schema.single(data, parts["name"]), (first, last), "initialiser")
        self.inputs: dict[bytes, Span] = {}
        for _, first, last in graph["input"]:
            parts = schema.decoded(data, (first, last), schema.VALUE, "an input")
            name = schema.single(data, parts["name"])
            if name not in self.initialisers:  # before IR version 4 they are inputs too
                self._new(self.inputs, name, (first, last), "input")
        self.made: dict[bytes, int] = {}  # by a value's name, the node that it comes from
        for index, part in enumerate(self.nodes):
            for name in schema.node(data, part[1:], index).outputs:
                if name:
                    taken = name in self.initialisers or name in self.inputs
                    self._new({name: 0} if taken else self.made, name, index, "value")
        self.values: dict[bytes, Row | np.ndarray] = {}  # of the present section, and constants
        self.past: set[bytes] = set()  # the values of sections before
        self.layers: list[Layer] = []
        self.section = Section()
        self.before: list[Column] = []
        self.width: int | None = None
        self.input: bytes | None = None
        self.casts: list[tuple[int, str]] = []

    @staticmethod
    def _new(names: dict[bytes, Any], name: bytes, value: Any, what: str) -> None:
        if not name or name in names:
            raise ValueError(f"the {what} {schema.text(name)} must have a name of its own")
        names[name] = value

    # ---- which nodes ------------------------------------------------------------------------------------------------

    def walk(self, output: bytes | None) -> tuple[list[Layer], list[Column]]:
        """Go through the nodes that the output needs, in the order of the file, which is that of computation."""
        name = self._chosen() if output is None else output
        if name not in self.made:
            raise ValueError(f"output must be a value that the graph computes, got {schema.text(name)}")
        for index in sorted(self._needed(name)):
            node = schema.node(self.data, self.nodes[index][1:], index)
            self.values[node.outputs[0]] = self._result(node)
        row = self.values.get(name)
        if not isinstance(row, Row):  # all that it needs comes before it: it is in the last section
            raise ValueError(f"output {schema.text(name)} must be computed from the input")
        self._finish(row)
        if not self.layers:
            raise ValueError(f"output {schema.text(name)} must come from a layer, Gemm or MatMul, and there is none before it")
        rank = max(layer.rank for layer in self.layers)
        for cast, shown in self.casts:
            if cast < rank:
                raise ValueError(f"{shown}: it rounds to another type than the layers' own")
        return self.layers, self.before

    def _chosen(self) -> bytes:
        """The only output that is a tensor of floating-point numbers, or what a ZipMap has put them into."""
        found = []
        for span in self.outputs:
            value = schema.decoded(self.data, span, schema.VALUE, "an output")
            kind = schema.decoded(self.data, value["type"][0][1:], schema.TYPE, "an output's type") if value["type"] else {}
            tensor = kind.get("tensor")
            of = schema.decoded(self.data, tensor[0][1:], schema.TENSOR_TYPE, "an output's type") if tensor else {}
            if kind.get("sequence") or (tensor and schema.number(of["elem_type"]) in CASTS) or not kind:
                found.append(schema.single(self.data, value["name"]))
        if len(found) != 1:
            names = ", ".join(map(schema.text, found[:10]))
            raise ValueError(f"output must name one of several outputs of floating-point numbers: {names or 'there is none'}")
        return found[0]

    def _needed(self, name: bytes) -> set[int]:
        found: set[int] = set()
        ahead = [name]
        while ahead:
            index = self.made.get(ahead.pop())
            if index is not None and index not in found:
                found.add(index)
                ahead += filter(None, schema.node(self.data, self.nodes[index][1:], index).inputs)
        return found

    # ---- values -----------------------------------------------------------------------------------------------------

    def _value(self, node: Node, name: bytes) -> Row | np.ndarray:
        """An input of a node: a row, or a constant's numbers where they lie in the file."""
        if name in self.past:
            raise ValueError(f"{node.name}: {schema.text(name)} is from before the last layer: graphs that branch are not read")
        if name in self.values:
            return self.values[name]
        if name in self.initialisers:
            return schema.tensor(self.data, self.initialisers[name], f"initialiser {schema.text(name)}")
        if name in self.inputs:
            return self._input(node, name)
        if name in self.made:
            raise ValueError(f"{node.name}: {schema.text(name)} is computed after it, or from it: nodes must be in order")
        raise ValueError(f"{node.name}: its input {schema.text(name)} is neither in the graph nor computed by it")

    def _input(self, node: Node, name: bytes) -> Row:
        if self.input not in (None, name):
            raise ValueError(f"{node.name}: it needs a second input, {schema.text(name)}")
        self.input = name
        what = f"input {schema.text(name)}"
        value = schema.decoded(self.data, self.inputs[name], schema.VALUE, what)
        kind = schema.decoded(self.data, value["type"][0][1:], schema.TYPE, what) if value["type"] else {}
        tensor = schema.decoded(self.data, kind["tensor"][0][1:], schema.TENSOR_TYPE, what) if kind.get("tensor") else {}
        if tensor.get("shape"):
            dims = schema.decoded(self.data, tensor["shape"][0][1:], schema.SHAPE, what)["dim"]
            if len(dims) != 2:
                raise ValueError(f"{what} must have the shape (rows, columns), got {len(dims)} dimensions")
            parts = schema.decoded(self.data, dims[1][1:], schema.DIMENSION, what)["value"]
            self.width = schema.number(parts) if parts else None
        row = self.values[name] = Row(self.section, 0)
        return row

    def _constant(self, node: Node, index: int) -> np.ndarray | None:
        """An input that must be a constant; None if it is left out."""
        if index >= len(node.inputs) or not node.inputs[index]:
            return None
        found = self._value(node, node.inputs[index])
        if isinstance(found, Row):
            raise ValueError(f"{node.name}: its input {schema.text(node.inputs[index])} must be a constant")
        return found

    # ---- what nodes do ----------------------------------------------------------------------------------------------

    def _result(self, node: Node) -> Row | np.ndarray:
        if node.kind == "Constant":
            return self._literal(node)
        if not node.inputs or not node.inputs[0]:
            raise ValueError(f"{node.name}: it must have an input")
        own = SPECIAL.get(node.kind)
        if own is None and node.kind not in FUNCTIONS:
            known = ", ".join(sorted({*SPECIAL, *FUNCTIONS, "Constant"}))
            raise ValueError(f"{node.name}: {node.kind} is none of the operators that are read: {known}")
        first = self._value(node, node.inputs[0])
        if isinstance(first, np.ndarray) and node.kind in ("Identity", "Transpose", "Cast"):
            return self._same_constant(node, first)
        if isinstance(first, Row) and first.last and node.kind not in PASSING:
            raise ValueError(f"{node.name}: nothing may be computed from the probabilities before it")
        return own(self, node, first) if own else self._call(node)

    def _literal(self, node: Node) -> np.ndarray:
        for name in (b"value", b"value_float", b"value_int", b"value_ints"):
            parts = node.attributes.get(name)
            if parts is not None and name == b"value" and parts["t"]:
                return schema.tensor(self.data, parts["t"][0][1:], node.name)
            if parts is not None and name == b"value_ints":
                return np.array(node.integers(self.data, name), np.int64)
            if parts is not None:
                kind = np.float32 if name == b"value_float" else np.int64
                return np.array(node.number(self.data, name, 0), kind)
        raise ValueError(f"{node.name}: its value must be a tensor, a number or integers")

    def _same_constant(self, node: Node, array: np.ndarray) -> np.ndarray:
        """A constant that only has another name or order."""
        if node.kind == "Transpose":
            axes = node.integers(self.data, b"perm")
            if array.ndim > 2 or axes not in (None, [1, 0], [0]):
                raise ValueError(f"{node.name}: only matrices are transposed, by perm [1, 0]")
            return array.T
        if node.kind == "Cast":
            to = CASTS.get(int(node.number(self.data, b"to", 0)), -1)
            if to < RANKS.get(array.dtype.name, 3):
                raise ValueError(f"{node.name}: it rounds a constant of {array.dtype}, which is not read")
        return array

    def _call(self, node: Node) -> Row:
        """An elementwise operator."""
        inputs: list[Any] = []
        flat = False
        for name in node.inputs:
            found = self._value(node, name) if name else None
            if isinstance(found, Row):
                flat = flat or found.flat
                if found.last:
                    raise ValueError(f"{node.name}: nothing may be computed from the probabilities before it")
                inputs.append(found.slot)
            else:
                inputs.append(None if found is None else self._numbers(node, found))
        if not any(isinstance(one, int) for one in inputs):
            raise ValueError(f"{node.name}: it computes a constant, which is not read: fold the graph's constants")
        function = FUNCTIONS[node.kind]
        if not function.least <= len(inputs) <= function.most:
            raise ValueError(f"{node.name}: it must have {function.least} to {function.most} inputs, got {len(inputs)}")
        attributes = {}
        for attribute in function.attributes:
            parts = node.attributes.get(attribute.encode())
            if parts is not None and parts["s"]:  # Gelu's
                attributes[attribute] = float(schema.single(self.data, parts["s"]) != b"none")
            elif parts is not None:
                attributes[attribute] = node.number(self.data, attribute.encode(), 0)
        slot = self.section.add(Call(node.kind, node.name, tuple(inputs), attributes))
        return Row(self.section, slot, flat)

    def _numbers(self, node: Node, array: np.ndarray) -> np.ndarray:
        """A constant operand: one number, or one a column."""
        if array.size == 1 and array.ndim <= 2:
            return wide(array).reshape(())
        if array.ndim not in (1, 2) or array.shape[-1] != array.size or self.width not in (None, array.size):
            wanted = "one" if self.width is None else f"1 or {self.width}"
            raise ValueError(f"{node.name}: it must have {wanted} numbers for the columns, got shape {array.shape}")
        self.width = array.size
        return wide(array)

    def _layer(self, node: Node, row: Row | np.ndarray, W: np.ndarray | None) -> Layer:
        """The layer that begins with a product; it ends the section before."""
        if not isinstance(row, Row) or W is None:
            raise ValueError(f"{node.name}: it must multiply what is computed from the input by a constant")
        if W.ndim != 2 or not W.size or row.flat or self.width not in (None, W.shape[0]):
            rows = "" if self.width is None else f" with {self.width} rows"
            raise ValueError(f"{node.name}: its constant must be a matrix{rows}, got shape {W.shape}")
        if W.dtype.name not in RANKS:
            raise ValueError(f"{node.name}: its constant must hold floating-point numbers, got {W.dtype}")
        self._finish(row)
        self._leave()
        self.layers.append(Layer(node.name, W, None, RANKS[W.dtype.name]))
        self.section, self.width = Section(), W.shape[1]
        return self.layers[-1]

    def _leave(self) -> None:
        """Forget the values of this section."""
        self.past |= {name for name, value in self.values.items() if isinstance(value, Row)}
        self.values = {name: value for name, value in self.values.items() if not isinstance(value, Row)}

    def _finish(self, row: Row) -> None:
        """Find the last layer's activation, or what is done to the inputs before the first one."""
        if self.layers:
            layer = self.layers[-1]
            if layer.activation != "softmax":
                layer.columns, layer.activation = self.section.activation(row.slot, row.complement)
            return
        self.before = self.section.columns()
        if len(self.before) != row.slot or len(self.section.calls) != row.slot:
            shown = self.section.calls[len(self.before)].name if len(self.before) < len(self.section.calls) else "the graph"
            raise ValueError(f"{shown}: before the first layer only constants may be added or multiplied")

    def gemm(self, node: Node, row: Row | np.ndarray) -> Row:
        if node.number(self.data, b"transA", 0):
            raise ValueError(f"{node.name}: transA must be 0, where rows are samples")
        W = self._constant(node, 1)
        layer = self._layer(node, row, W.T if W is not None and node.number(self.data, b"transB", 0) else W)
        layer.alpha, layer.beta = (node.number(self.data, name, 1.0) for name in (b"alpha", b"beta"))
        C = layer.C = self._constant(node, 2)
        if C is not None:
            if C.dtype.name not in RANKS or C.ndim > 2 or C.size not in (1, self.width) or C.shape[-1:] not in ((), (C.size,)):
                raise ValueError(f"{node.name}: its C must be {self.width} numbers, got {C.dtype} of shape {C.shape}")
            layer.rank = max(layer.rank, RANKS[C.dtype.name])
        return Row(self.section, 0)

    def matmul(self, node: Node, row: Row | np.ndarray) -> Row:
        self._layer(node, row, self._constant(node, 1))
        return Row(self.section, 0)

    def softmax(self, node: Node, row: Row | np.ndarray) -> Row:
        if not isinstance(row, Row) or row.flat or not self.layers or node.number(self.data, b"axis", -1) not in (1, -1):
            raise ValueError(f"{node.name}: it must be over the columns of a layer's outputs, with axis 1 or -1")
        self._finish(row)
        layer = self.layers[-1]
        if layer.activation != "identity":
            raise ValueError(f"{node.name}: it must follow a layer without an activation, got {layer.activation}")
        layer.activation = "softmax"
        self._leave()
        self.section = Section()
        return Row(self.section, 0, last=True)

    def refused(self, node: Node, row: Row | np.ndarray) -> Row:
        raise ValueError(f"{node.name}: its outputs are logarithms: name the value before it as output, which gives the logits")

    def concat(self, node: Node, row: Row | np.ndarray) -> Row:
        other = self._value(node, node.inputs[-1])
        two = len(node.inputs) == 2 and node.number(self.data, b"axis", 1) in (1, -1) and bool(self.layers)
        if isinstance(row, Row) and isinstance(other, Row) and two and self.width == 1 and not (row.flat or other.flat):
            return Row(self.section, other.slot, complement=row.slot, last=True)
        raise ValueError(f"{node.name}: only the columns 1 - p and p of a binary classifier are concatenated")

    # ---- what changes nothing ---------------------------------------------------------------------------------------

    def same(self, node: Node, row: Row | np.ndarray) -> Row:
        if not isinstance(row, Row):
            raise ValueError(f"{node.name}: of a constant it is not read")
        if node.kind == "Dropout" and (training := self._constant(node, 2)) is not None and training.any():
            raise ValueError(f"{node.name}: it is in training mode: export the network for inference")
        if node.kind == "Cast":
            to = int(node.number(self.data, b"to", 0))
            if to not in CASTS:
                raise ValueError(f"{node.name}: it must be to a floating-point type, got number {to}")
            self.casts.append((CASTS[to], node.name))
        return row

    def transposed(self, node: Node, row: Row | np.ndarray) -> Row:
        raise ValueError(f"{node.name}: only constants may be transposed")

    def shaped(self, node: Node, row: Row | np.ndarray) -> Row:
        """Flatten, Reshape, Squeeze and Unsqueeze, where rows stay rows."""
        if not isinstance(row, Row):
            raise ValueError(f"{node.name}: of a constant it is not read")
        flat = self._reshaped(node) if node.kind == "Reshape" else None
        if node.kind == "Flatten" and not row.flat and node.number(self.data, b"axis", 1) in (1, -1):
            flat = False
        if node.kind in ("Squeeze", "Unsqueeze"):
            axes = self._constant(node, 1)
            chosen = node.integers(self.data, b"axes") if axes is None else axes.ravel()[:2].tolist()
            if chosen in ([1], [-1]) and self.width == 1 and row.flat == (node.kind == "Unsqueeze"):
                flat = node.kind == "Squeeze"
        if flat is None:
            raise ValueError(f"{node.name}: it must leave rows of {self.width or 'the columns'} as they are")
        return Row(row.section, row.slot, flat, row.complement, row.last)

    def _reshaped(self, node: Node) -> bool | None:
        """Whether a Reshape makes (rows,) of (rows, 1), or leaves (rows, columns); None if it does something else."""
        shape = self._constant(node, 1)
        sizes = [] if shape is None or shape.size > 2 else shape.ravel().tolist()
        if len(sizes) == 2 and (sizes[1] == self.width or (sizes[0] == 0 and sizes[1] in (0, -1))):
            return False
        return True if sizes == [-1] and self.width == 1 else None


SPECIAL: dict[str, Callable[[Chain, Node, Any], Row]] = {
    "Gemm": Chain.gemm,
    "MatMul": Chain.matmul,
    "Softmax": Chain.softmax,
    "LogSoftmax": Chain.refused,
    "Concat": Chain.concat,
    "Identity": Chain.same,
    "Dropout": Chain.same,
    "Cast": Chain.same,
    "ai.onnx.ml.ZipMap": Chain.same,
    "Transpose": Chain.transposed,
    "Flatten": Chain.shaped,
    "Reshape": Chain.shaped,
    "Squeeze": Chain.shaped,
    "Unsqueeze": Chain.shaped,
}
PASSING = ("Identity", "Dropout", "Cast", "ai.onnx.ml.ZipMap", "Flatten", "Reshape", "Squeeze", "Unsqueeze")
