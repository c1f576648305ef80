"""ONNX's messages, each decoded when it is asked for; their fields are those of onnx.proto."""

import struct
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import numpy as np

from fastmlp.interchange.onnx.protobuf import BYTES, FIXED32, KINDS, VARINT, Span, fields, read_varint, signed

Part: TypeAlias = tuple[int, int, int]  # a field's wire type and its two numbers, as `fields` gives them
Parts: TypeAlias = dict[str, list[Part]]
Kind: TypeAlias = dict[
    int, tuple[str, tuple[int, ...], int]
]  # by number: a field's name, its wire types, how many there may be

# Each counted thing costs some 400 bytes of memory, and of a file as few as two: 5000 are two MB. fastmlp's longest activation,
# gelu in float64, makes 60 nodes of a layer.
MOST = 5000  # nodes, initialisers, inputs or outputs of a graph
UNKNOWN = 20_000  # fields of a message that are passed over: a matter of time
FEW = 64  # inputs, outputs or attributes of a node; integers of an attribute; opsets
DIMENSIONS = 8  # of a tensor

INTEGERS = (VARINT, BYTES)  # packed or not
MODEL: Kind = {7: ("graph", (BYTES,), 1), 8: ("opset", (BYTES,), FEW)}
OPSET: Kind = {1: ("domain", (BYTES,), 1), 2: ("version", (VARINT,), 1)}
GRAPH: Kind = {
    1: ("node", (BYTES,), MOST),
    5: ("initializer", (BYTES,), MOST),
    11: ("input", (BYTES,), MOST),
    12: ("output", (BYTES,), MOST),
    15: ("sparse_initializer", (BYTES,), MOST),
}
NODE: Kind = {
    1: ("input", (BYTES,), FEW),
    2: ("output", (BYTES,), FEW),
    3: ("name", (BYTES,), 1),
    4: ("op_type", (BYTES,), 1),
    5: ("attribute", (BYTES,), FEW),
    7: ("domain", (BYTES,), 1),
}
ATTRIBUTE: Kind = {
    1: ("name", (BYTES,), 1),
    2: ("f", (FIXED32,), 1),
    3: ("i", (VARINT,), 1),
    4: ("s", (BYTES,), 1),
    5: ("t", (BYTES,), 1),
    7: ("floats", (FIXED32, BYTES), FEW),
    8: ("ints", INTEGERS, FEW),
}
TENSOR: Kind = {
    1: ("dims", INTEGERS, DIMENSIONS),
    2: ("data_type", (VARINT,), 1),
    3: ("segment", (BYTES,), 1),
    4: ("float_data", (BYTES,), 1),
    5: ("int32_data", (BYTES,), 1),
    7: ("int64_data", (BYTES,), 1),
    8: ("name", (BYTES,), 1),
    9: ("raw_data", (BYTES,), 1),
    10: ("double_data", (BYTES,), 1),
    13: ("external_data", (BYTES,), FEW),
    14: ("data_location", (VARINT,), 1),
}
VALUE: Kind = {1: ("name", (BYTES,), 1), 2: ("type", (BYTES,), 1)}
TYPE: Kind = {1: ("tensor", (BYTES,), 1), 4: ("sequence", (BYTES,), 1)}
TENSOR_TYPE: Kind = {1: ("elem_type", (VARINT,), 1), 2: ("shape", (BYTES,), 1)}
SHAPE: Kind = {1: ("dim", (BYTES,), FEW)}
DIMENSION: Kind = {1: ("value", (VARINT,), 1)}

# TensorProto.DataType: what is read, how its numbers are stored, and in which field if not in raw_data; uint16 is bfloat16.
STORED = {
    1: ("FLOAT", "<f4", "float_data"),
    6: ("INT32", "<i4", "int32_data"),
    7: ("INT64", "<i8", "int64_data"),
    9: ("BOOL", "|b1", "int32_data"),
    10: ("FLOAT16", "<f2", "int32_data"),
    11: ("DOUBLE", "<f8", "double_data"),
    16: ("BFLOAT16", "<u2", "int32_data"),
}


def decoded(data: memoryview, span: Span, kind: Kind, what: str) -> Parts:
    """A message's fields by name; unknown ones are passed over."""
    found: Parts = {name: [] for name, _, _ in kind.values()}
    unknown = 0
    for number, wire, first, last in fields(data, span):
        if number not in kind:
            unknown += 1
            if unknown > UNKNOWN:
                raise ValueError(f"{what}: it has more than {UNKNOWN} fields that are not needed")
            continue
        name, wires, most = kind[number]
        if wire not in wires:
            raise ValueError(f"{what}: its {name} must be {KINDS[wires[0]]}, got {KINDS[wire]}")
        if len(found[name]) == most:
            raise ValueError(f"{what}: it has more than {most} of {name}")
        found[name].append((wire, first, last))
    return found


def single(data: memoryview, parts: list[Part]) -> bytes:
    """The bytes of a field that is there at most once; empty without it."""
    return bytes(data[parts[0][1] : parts[0][2]]) if parts else b""


def number(parts: list[Part], default: int = 0) -> int:
    """The integer of a field that is there at most once."""
    return signed(parts[0][1]) if parts else default


def integers(data: memoryview, parts: list[Part], most: int, what: str) -> list[int]:
    """The integers of a repeated field, packed or not."""
    found: list[int] = []
    for wire, first, last in parts:
        at = first
        while wire == VARINT or at < last:
            if len(found) == most:
                raise ValueError(f"{what}: it has more than {most} integers")
            value, at = (first, last) if wire == VARINT else read_varint(data, at, last)
            found.append(signed(value))
            if wire == VARINT:
                break
    return found


def text(name: bytes) -> str:
    """A name as messages show it."""
    return repr(name[:100].decode(errors="replace"))


@dataclass(frozen=True)
class Node:
    """An operator of a graph.

    Attributes
    ----------
    kind : str
        The operator; with its domain before it, if that is not the default one.
    name : str
        What messages call it.
    inputs, outputs : list of bytes
    attributes : dict
        Of each its fields.
    """

    kind: str
    name: str
    inputs: list[bytes]
    outputs: list[bytes]
    attributes: dict[bytes, Parts]

    def number(self, data: memoryview, name: bytes, default: float) -> float:
        """An attribute that is one number."""
        parts = self.attributes.get(name)
        if parts is None:
            return default
        if parts["f"]:
            return float(struct.unpack("<f", data[parts["f"][0][1] : parts["f"][0][2]])[0])
        if not parts["i"]:
            raise ValueError(f"{self.name}: its attribute {text(name)} must be a number")
        return number(parts["i"])

    def integers(self, data: memoryview, name: bytes) -> list[int] | None:
        """An attribute that is a list of integers; None if it is not there."""
        parts = self.attributes.get(name)
        return None if parts is None else integers(data, parts["ints"], FEW, self.name)


def node(data: memoryview, span: Span, index: int) -> Node:
    """A node; raises ValueError if it has no operator or no output."""
    parts = decoded(data, span, NODE, f"node {index}")
    inputs, outputs = ([bytes(data[first:last]) for _, first, last in parts[side]] for side in ("input", "output"))
    kind, domain = (single(data, parts[name])[:100].decode(errors="replace") for name in ("op_type", "domain"))
    shown = f"node {text(single(data, parts['name']) or b''.join(outputs[:1]))} ({kind})"
    if not kind or not any(outputs):
        raise ValueError(f"node {index} must have an operator and an output")
    attributes = {}
    for _, first, last in parts["attribute"]:
        attribute = decoded(data, (first, last), ATTRIBUTE, shown)
        name = single(data, attribute["name"])
        if name in attributes:
            raise ValueError(f"{shown}: its attribute {text(name)} is there twice")
        attributes[name] = attribute
    return Node(kind if domain in ("", "ai.onnx") else f"{domain}.{kind}", shown, inputs, outputs, attributes)


def tensor(data: memoryview, span: Span, what: str) -> np.ndarray:
    """A tensor's numbers, where they lie in the file if they can be read there; its size is compared with the file's first."""
    parts = decoded(data, span, TENSOR, what)
    if parts["external_data"] or number(parts["data_location"]):
        raise ValueError(f"{what}: its numbers are in another file, which is not read: save the model as one file")
    if parts["segment"]:
        raise ValueError(f"{what}: it is a segment of a tensor, which is not read")
    kind = number(parts["data_type"])
    if kind not in STORED:
        known = ", ".join(name for name, _, _ in STORED.values())
        raise ValueError(f"{what}: its data type must be one of {known}; got number {kind}")
    shape = integers(data, parts["dims"], DIMENSIONS, what)
    if min(shape, default=0) < 0:
        raise ValueError(f"{what}: its dimensions must be at least 0, got {shape}")
    name, form, field = STORED[kind]
    stored, count = np.dtype(form), prod(shape)
    if parts[field] and not parts["raw_data"] and field.startswith("int"):
        return _packed(data, parts[field][0][1:], count, stored, what).reshape(shape)
    holding = parts["raw_data"] or parts[field]
    first, last = holding[0][1:] if holding else (0, 0)
    if count * stored.itemsize != last - first:
        raise ValueError(f"{what}: {count} numbers of {name} must be {count * stored.itemsize} bytes, got {last - first}")
    return np.frombuffer(data[first:last], stored).reshape(shape)


def _packed(data: memoryview, span: Span, count: int, stored: np.dtype, what: str) -> np.ndarray:
    """Packed integers: a few, such as a shape, or the bits of 16-bit numbers. Their count is compared with the bytes first."""
    at, end = span
    halves = stored.itemsize == 2
    if count > (end - at if halves else FEW):
        raise ValueError(f"{what}: it must have at most {end - at if halves else FEW} numbers in {end - at} bytes, got {count}")
    found = np.empty(count, np.uint16 if halves else np.int64)
    for i in range(count):
        value, at = read_varint(data, at, end)
        if halves and value > 65535:
            raise ValueError(f"{what}: its numbers must have 16 bits, got {value}")
        found[i] = signed(value)
    if at != end:
        raise ValueError(f"{what}: it must have {count} numbers, and has more")
    return found.view(stored) if halves else found
