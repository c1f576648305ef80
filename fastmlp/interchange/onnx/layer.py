"""What a graph is read as: layers, and values that are computed for each row."""

from dataclasses import dataclass, field

import numpy as np

from fastmlp.interchange.onnx.section import Column, Section, Slot

RANKS = {"float16": 0, "uint16": 0, "float32": 1, "float64": 2}  # by their figures; uint16 is bfloat16


@dataclass
class Layer:
    """A dense layer: alpha x @ W + beta C, what is then done to its columns, and its activation.

    W is a (fan_in, fan_out) view of the file, C one that broadcasts to (fan_out,), or None. `rank` is that of their dtype.
    """

    name: str
    W: np.ndarray
    C: np.ndarray | None
    rank: int
    alpha: float = 1.0
    beta: float = 1.0
    columns: list[Column] = field(default_factory=list)
    activation: str = "identity"


@dataclass(frozen=True)
class Row:
    """A value that is computed for each row: a slot of a section, of one or two dimensions."""

    section: Section
    slot: Slot
    flat: bool = False  # (rows,) in place of (rows, 1)
    complement: Slot | None = None  # the other of two columns, 1 minus this one
    last: bool = False  # nothing may be computed from it


def assign(to: np.ndarray, array: np.ndarray) -> None:
    """Copy numbers of the file, of any float type, to an array of float32 or float64."""
    if array.dtype == np.uint16:  # bfloat16: the upper half of a float32
        bits = to.view(np.uint32)
        bits[...] = array
        bits <<= 16
    else:
        to[...] = array


def wide(array: np.ndarray) -> np.ndarray:
    """A few numbers of the file as float64."""
    if array.dtype == np.uint16:
        single = np.empty(array.shape, np.float32)
        assign(single, array)
        array = single
    return array.astype(np.float64)
