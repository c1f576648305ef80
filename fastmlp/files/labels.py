"""Labels and names as tensors: what a fitted estimator has besides its network."""

from typing import Any

import numpy as np

from fastmlp.files import description
from fastmlp.files.safetensors import DTYPES, NAMES, ROOM, Reader

OFFSETS = ".offsets"  # behind a name: where its strings end
LAST = 0x10FFFF  # of Unicode
OBJECT = 100  # bytes that a short string takes as an object, with what is made on the way to it


def write(name: str, labels: np.ndarray) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A vector's description and its tensors.

    Numbers are written as they are; NumPy's strings as their code points; Python's as one text in UTF-8, and where each ends.

    Raises
    ------
    ValueError
        If it holds anything else.
    """
    dtype = labels.dtype.newbyteorder("<")
    if dtype in NAMES:
        return {"kind": NAMES[dtype]}, {name: labels}
    if dtype.kind == "U":
        codes = np.ascontiguousarray(labels, dtype.newbyteorder("=")).view(np.uint32)
        return {"kind": "text"}, {name: codes.reshape(len(labels), dtype.itemsize // 4)}
    texts: list[Any] = labels.tolist()
    if dtype.kind != "O" or not all(isinstance(text, str) for text in texts):
        found = ", ".join(sorted({type(text).__name__ for text in texts}))
        raise ValueError(f"{name} must hold numbers or strings to be written, got dtype {labels.dtype} ({found})")
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    return {"kind": "object"}, {name: np.frombuffer(b"".join(encoded), np.uint8), name + OFFSETS: ends}


def read(reader: Reader, name: str, value: Any) -> tuple[np.ndarray, set[str]]:
    """The vector that `write` described, and the names of its tensors."""
    (kind,) = description.parts(name, value, kind=str)
    entry = reader.entry(name)
    if kind in DTYPES:
        return reader.array(name, np.dtype(DTYPES[kind]).newbyteorder("="), entry.shape[:1]), {name}
    if kind == "text":
        codes = reader.array(name, np.dtype(np.uint32), (*entry.shape, 0, 0)[:2])
        if codes.size and codes.max() > LAST:
            raise ValueError(f"tensor {name!r} must hold code points of Unicode, got {codes.max()}")
        return codes.view(f"U{codes.shape[1]}").reshape(len(codes)) if codes.size else np.zeros(len(codes), "U1"), {name}
    if kind != "object":
        raise ValueError(f"{name} must have a kind of {', '.join(DTYPES)}, text or object; got {kind[:20]!r}")
    text, ends = reader.entry(name), reader.entry(name + OFFSETS)
    if len(ends.shape) != 1 or refused(ends.shape[0], reader.size):
        raise ValueError(f"tensor {name + OFFSETS!r} must be a vector, of no more strings than a file of its size describes")
    found = _strings(name, reader, text.shape[:1], ends.shape)
    return found, {name, name + OFFSETS}


def refused(strings: int, size: int) -> bool:
    """Whether strings would take more memory than a file of some bytes can ask for."""
    return OBJECT * strings > 2 * size + ROOM


def _strings(name: str, reader: Reader, size: tuple[int, ...], count: tuple[int, ...]) -> np.ndarray:
    whole = reader.array(name, np.dtype(np.uint8), size).data
    ends = reader.array(name + OFFSETS, np.dtype(np.int64), count)
    if not (np.diff(ends, prepend=0) >= 0).all() or (ends[-1] if len(ends) else 0) != len(whole):
        raise ValueError(f"tensor {name + OFFSETS!r} must go up to the {len(whole)} bytes of {name!r}")
    found, start = np.empty(len(ends), object), 0
    for i, end in enumerate(ends):
        try:
            found[i] = str(whole[start:end], "utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise ValueError(f"tensor {name!r} must hold text in UTF-8: {error}") from None
        start = end
    return found
