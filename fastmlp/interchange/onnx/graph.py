"""A graph of ONNX's operators on its way to a file."""

import struct
from collections.abc import Iterable

import numpy as np

from fastmlp.interchange.onnx.protobuf import Message

# The oldest that have all that networks need, with Erf, in ONNX 1.4 of January 2019. ONNX Runtime (1.15 to 1.32) has float64
# kernels of opset 9 for all operators that are written here. From IR version 4 on, parameters need not be inputs too.
OPSET, IR = 9, 4
MOST_BYTES = 2**31 - 1  # of a message: Protocol Buffers' own limit

TYPES = {"float32": 1, "int64": 7, "str": 8, "bool": 9, "float64": 11}  # TensorProto.DataType
FLOAT, INT = 1, 2  # AttributeProto.AttributeType


class Graph:
    """Nodes, and the constants that they read, each value by its name.

    Parameters
    ----------
    dtype : numpy.dtype
        The network's, float32 or float64.
    reserved : iterable of str
        Names that others choose: those of the inputs and outputs.

    Attributes
    ----------
    single : bool
        Whether the dtype is float32.
    """

    def __init__(self, dtype: np.dtype, reserved: Iterable[str]) -> None:
        self.dtype, self.single = dtype, dtype == np.float32
        self._taken = set(reserved)
        self._nodes: list[tuple[str, list[str], str, dict[str, float | int]]] = []
        self._constants: dict[str, tuple[str, np.ndarray]] = {}
        self._scalars: dict[float, str] = {}

    def node(self, kind: str, *inputs: str | float, **attributes: float | int) -> str:
        """A node of the default domain; its output's name. A number among the inputs is a constant of the graph's dtype."""
        names = [one if isinstance(one, str) else self._scalar(one) for one in inputs]
        output = self._fresh(f"{kind}{len(self._nodes) + 1}")
        self._nodes.append((kind, names, output, attributes))
        return output

    def constant(self, name: str, array: np.ndarray) -> str:
        """A constant of any of `TYPES`; the name that it got."""
        name = self._fresh(name)
        self._constants[name] = ("str" if array.dtype.kind == "U" else array.dtype.name, array)
        return name

    def rename(self, old: str, new: str) -> None:
        """Give a node's output a reserved name."""
        self._nodes = [
            (kind, [new if one == old else one for one in names], new if output == old else output, attributes)
            for kind, names, output, attributes in self._nodes
        ]

    def _scalar(self, value: float) -> str:
        if value not in self._scalars:
            self._scalars[value] = self.constant(f"number{len(self._scalars) + 1}", np.array(value, self.dtype))
        return self._scalars[value]

    def _fresh(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def message(self, inputs: Iterable[Message], outputs: Iterable[Message], text: str) -> Message:
        """The GraphProto, with the inputs and outputs that `value` describes, and the text as its docstring."""
        graph = Message()
        for index, (kind, names, output, attributes) in enumerate(self._nodes, 1):
            graph.message(1, _node(kind, names, output, attributes, f"{kind}_{index}"))
        graph.text(2, "fastmlp")
        for name, (kind, array) in self._constants.items():
            graph.message(5, _tensor(name, kind, array))
        graph.text(10, text)
        for number, values in ((11, inputs), (12, outputs)):
            for one in values:
                graph.message(number, one)
        return graph


def _node(kind: str, inputs: list[str], output: str, attributes: dict[str, float | int], name: str) -> Message:
    node = Message()
    for one in inputs:
        node.text(1, one)
    node.text(2, output)
    node.text(3, name)
    node.text(4, kind)
    for key, value in attributes.items():
        attribute = Message()
        attribute.text(1, key)
        if isinstance(value, float):
            attribute.single(2, struct.pack("<f", value))
        else:
            attribute.integer(3, value)
        attribute.integer(20, FLOAT if isinstance(value, float) else INT)
        node.message(5, attribute)
    return node


def _tensor(name: str, kind: str, array: np.ndarray) -> Message:
    tensor = Message()
    for width in array.shape:
        tensor.integer(1, width)
    tensor.integer(2, TYPES[kind])
    if kind == "str":
        for one in array.ravel().tolist():
            tensor.text(6, one)
    tensor.text(8, name)
    if kind != "str":
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))  # a view of what is so already
        tensor.data(9, little.reshape(-1).view(np.uint8).data)
    return tensor


def value(name: str, kind: str, shape: Iterable[int | str]) -> Message:
    """The ValueInfoProto of an input or output: a tensor of one of `TYPES`; a text in its shape is a symbolic dimension."""
    dimensions = Message()
    for width in shape:
        dimension = Message()
        if isinstance(width, str):
            dimension.text(2, width)
        else:
            dimension.integer(1, width)
        dimensions.message(1, dimension)
    tensor, of_type, described = Message(), Message(), Message()
    tensor.integer(1, TYPES[kind])
    tensor.message(2, dimensions)
    of_type.message(1, tensor)
    described.text(1, name)
    described.message(2, of_type)
    return described


def file(graph: Message, version: str) -> bytes:
    """The ModelProto; raises ValueError if it is larger than a message may be."""
    opset, model = Message(), Message()
    opset.text(1, "")
    opset.integer(2, OPSET)
    model.integer(1, IR)
    model.text(2, "fastmlp")
    model.text(3, version)
    model.message(7, graph)
    model.message(8, opset)
    if model.size > MOST_BYTES:
        raise ValueError(f"model must make a file of at most {MOST_BYTES} bytes, Protocol Buffers' limit, got {model.size}")
    return b"".join(model.parts)
