"""The safetensors layout: 8 bytes with the length of a header, the header in JSON, then the tensors' numbers, end to end.

Written and read without the package of that name, and checked as strictly: a header's sizes must be those of the file before
anything is made for them.
"""

import json
import math
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple, Self
from zlib import crc32

import numpy as np

DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "<u1",
    "BOOL": "?",
}
NAMES = {np.dtype(kind): name for name, kind in DTYPES.items()}
SIZES = {name: np.dtype(kind).itemsize for name, kind in DTYPES.items()} | {"BF16": 2}
SUM, NO_SUM = "crc32", "00000000"  # the checksum's name in the metadata, and what stands there while it is added up
MOST_HEADER = 100_000_000  # bytes: the package's own limit
PIECE = 1 << 22  # bytes that are converted, or put in another order, at a time
PLAIN = 1 << 18  # bytes of a header that may have any characters
ROOM = 1 << 20  # bytes that a header's objects may take beyond twice the file


class Entry(NamedTuple):
    """What a header says of a tensor.

    Attributes
    ----------
    dtype : str
        A key of `DTYPES`.
    shape : tuple of int
    start, stop : int
        Where its numbers lie, counted from the header's end.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def write(file: BinaryIO, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write tensors by their names, with a metadata of strings.

    Wider numbers come first, so that all of them are aligned. Arrays may have any strides: pieces of them are copied. The
    metadata gets a checksum of the whole file.
    """
    ordered = sorted(tensors.items(), key=lambda item: -item[1].itemsize)
    header: dict[str, Any] = {"__metadata__": {**metadata, SUM: NO_SUM}}
    at = 0
    for name, array in ordered:
        dtype = NAMES[array.dtype.newbyteorder("<")]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MOST_HEADER:
        raise ValueError(f"a file's description must have at most {MOST_HEADER} bytes, got {len(text)}")
    _plain(text)
    head = len(text).to_bytes(8, "little") + text
    if not file.seekable():  # the checksum comes before what it is of
        total = crc32(head)
        for data in _bytes(array for _, array in ordered):
            total = crc32(data, total)
        head = _sealed(head, total)
    total = crc32(head)
    file.write(head)
    for data in _bytes(array for _, array in ordered):
        total = crc32(data, total)
        file.write(data)
    if file.seekable():
        file.seek(0)
        file.write(_sealed(head, total))
        file.seek(0, os.SEEK_END)


def _sealed(head: bytes, total: int) -> bytes:
    """The beginning of a file, with its checksum in the place of zeros."""
    at = _place_of_sum(head)
    return head[:at] + f"{total:08x}".encode() + head[at + len(NO_SUM) :]


def _place_of_sum(head: bytes | memoryview) -> int:
    """Where the checksum's digits stand; -1: nowhere. Quotes within names and values are escaped: none looks like it."""
    found = re.search(rb'"crc32"\s*:\s*"([0-9a-f]{8})"', head)
    return found.start(1) if found else -1


def _without_sum(first: bytes, text: memoryview) -> tuple[str, int]:
    """A header's checksum, and the one of its bytes with zeros in its place."""
    at = _place_of_sum(text)
    if at < 0:
        return "", 0
    end = at + len(NO_SUM)
    return bytes(text[at:end]).decode(), crc32(text[end:], crc32(NO_SUM.encode(), crc32(text[:at], crc32(first))))


def _bytes(arrays: Iterable[np.ndarray]) -> Iterator[memoryview]:
    """The arrays' numbers, as a file has them."""
    for array in arrays:
        for part in _pieces(array):
            little = part
            kind = part.dtype.newbyteorder("<")
            if not part.flags.c_contiguous or part.dtype != kind:
                little = np.empty(part.shape, kind)
                _copy(little, part)
            yield little.reshape(-1).view(np.uint8).data


def _copy(to: np.ndarray, given: np.ndarray) -> None:
    """Copy by blocks if one of the two is a transposed matrix: 4096 x 4096 of float32 at 2.1 GB/s, as a whole at 0.5.

    Blocks of 256 x 32 take 4000 x 4000 at 3.2 GB/s instead of 2.1, but rows that are a power of two apart at 1.3.
    """
    if to.ndim != 2:
        to[...] = given
        return
    rows, columns = (512, 16) if to.flags.c_contiguous else (16, 512)
    for i in range(0, to.shape[0], rows):
        for j in range(0, to.shape[1], columns):
            to[i : i + rows, j : j + columns] = given[i : i + rows, j : j + columns]


def _pieces(array: np.ndarray) -> Iterator[np.ndarray]:
    """Views of all of it, in order: the whole if it lies as a file has it."""
    if array.flags.c_contiguous or not array.ndim or not array.size:
        yield array
        return
    rows = max(PIECE * len(array) // array.nbytes, 1)
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


class Reader:
    """An open file, whose header is right. As a context it closes the file, and adds its name to a ValueError.

    Parameters
    ----------
    path : str or os.PathLike

    Attributes
    ----------
    metadata : dict of str
    entries : dict of Entry
    size : int
        Bytes of the file.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is no safetensors file, or not a whole one.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._left = False  # early: nobody waits for the checksum
        self._thread: threading.Thread | None = None
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115
        try:
            self.size = os.fstat(self._file.fileno()).st_size
            self.metadata, self.entries, self._start = self._header(self.size)
            self._damaged = False
            if self._sum is not None and self.size > PIECE and hasattr(os, "pread"):
                # A thread, since zlib lets others run: a file of 134 MB is read at 0.8 GB/s, one after the other at 0.5.
                self._thread = threading.Thread(target=self._add_up, daemon=True)
                self._thread.start()
            elif self._sum is not None:
                self._add_up()
        except BaseException as error:
            self.__exit__(None, error)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        self._left = error is not None
        if self._thread is not None:
            self._thread.join()
        self._file.close()
        if error is None and self._damaged:
            error = ValueError("it is damaged: its checksum is another")
        if isinstance(error, ValueError | TypeError):  # which checks raise for a part of the wrong type
            raise ValueError(f"{self._path} cannot be read: {str(error)[:500]}") from None

    def entry(self, name: str) -> Entry:
        """A tensor's entry; raises ValueError if there is none of this name."""
        if name not in self.entries:
            raise ValueError(f"it has no tensor {name!r}")
        return self.entries[name]

    def expect(self, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> Entry:
        """A tensor's entry; raises ValueError if there is none of this name, or it has another dtype or shape."""
        entry = self.entry(name)
        wanted = NAMES.get(dtype.newbyteorder("<"))
        if entry.dtype != wanted or entry.shape != shape:
            raise ValueError(f"tensor {name!r} must be {wanted} {list(shape)}, got {entry.dtype} {list(entry.shape)}")
        return entry

    def read(self, name: str, out: np.ndarray) -> None:
        """Read a tensor into an array of its dtype and shape, of any strides; pieces are copied if it is not C-contiguous.

        Raises
        ------
        ValueError
            As `expect` does, or if the file is shorter by now.
        """
        entry = self.expect(name, out.dtype, out.shape)
        self._file.seek(self._start + entry.start)
        kind = np.dtype(DTYPES[entry.dtype])
        for part in _pieces(out):
            direct = part.flags.c_contiguous and part.dtype == kind
            lies = part if direct else np.empty(part.shape, kind)
            room = lies.reshape(-1).view(np.uint8).data
            while len(room):
                got = self._file.readinto(room)
                if not got:
                    raise ValueError(f"it ends within tensor {name!r}")
                room = room[got:]
            if not direct:
                _copy(part, lies)

    def array(self, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        """A tensor as a new array, made when the file is known to hold it."""
        self.expect(name, dtype, shape)
        out = np.empty(shape, dtype)
        self.read(name, out)
        return out

    def _header(self, size: int) -> tuple[dict[str, str], dict[str, Entry], int]:
        first = self._file.read(8)
        length = int.from_bytes(first, "little")
        if len(first) < 8 or length > min(size - 8, MOST_HEADER):
            raise ValueError(f"its first 8 bytes must be the length of a header within its {size} bytes")
        text = self._file.read(length)
        if len(text) != length or not text.startswith(b"{"):
            raise ValueError("its header must be a JSON object")
        _plain(text)
        if 120 * (text.count(b"{") + text.count(b"[")) + 60 * text.count(b",") > 2 * size + ROOM:
            raise ValueError("its header has more parts than a file of its size describes")
        digits, total = _without_sum(first, memoryview(text))
        whole = text.decode()
        del text
        header = parsed("its header", whole)
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(type(value) is str for value in metadata.values()):
            raise ValueError("its __metadata__ must hold strings")
        for word in (*header, *metadata, *metadata.values()):
            if not word.isascii():
                word.encode()  # a half of a surrogate pair is no character
        self._sum = None if SUM not in metadata else (digits, total)
        if metadata.pop(SUM, digits) != digits:
            raise ValueError("its checksum must be 8 hexadecimal digits")
        entries = {name: self._entry(name, value) for name, value in header.items()}
        at = 0
        for name, entry in sorted(entries.items(), key=lambda item: item[1][2:]):
            if entry.start != at:
                raise ValueError(f"tensor {name!r} must begin at {at}, where the one before ends; got {entry.start}")
            at = entry.stop
        if at != size - 8 - length:
            raise ValueError(f"its tensors must fill the {size - 8 - length} bytes behind the header, got {at}")
        return metadata, entries, 8 + length

    def _add_up(self) -> None:
        """Compare the checksum with the file."""
        assert self._sum is not None
        wanted, total = self._sum
        at = self._start
        while at < self.size and not self._left:
            if self._thread is None:
                self._file.seek(at)
                data = self._file.read(min(PIECE, self.size - at))
            else:
                data = os.pread(self._file.fileno(), min(PIECE, self.size - at), at)
            if not data:
                break
            total, at = crc32(data, total), at + len(data)
        self._damaged = f"{total:08x}" != wanted

    def _entry(self, name: str, value: Any) -> Entry:
        if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"tensor {name!r} must have a dtype, a shape and data_offsets")
        dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
        if not isinstance(dtype, str) or dtype not in SIZES:
            raise ValueError(f"tensor {name!r} must have a dtype of {', '.join(SIZES)}; got {str(dtype)[:20]!r}")
        for what, numbers in (("shape", shape), ("data_offsets", offsets)):
            if not isinstance(numbers, list) or not all(type(number) is int and number >= 0 for number in numbers):
                raise ValueError(f"tensor {name!r} must have whole numbers of at least 0 as its {what}")
        most = math.prod(max(width, 1) for width in shape[:32]) * SIZES[dtype]
        if len(shape) > 32 or most >= 2**63:
            raise ValueError(f"tensor {name!r} must have at most 32 sizes, whose product is below 2**63")
        if len(offsets) != 2 or offsets[1] - offsets[0] != math.prod(shape) * SIZES[dtype]:
            raise ValueError(f"tensor {name!r} must have as many bytes as its dtype and shape say")
        return Entry(dtype, tuple(shape), *offsets)


def _plain(text: bytes) -> None:
    """Raise if a long header has characters beyond ASCII, or escapes of any.

    One character beyond makes a string four times as wide, and JSON within the metadata may hide its brackets in escapes.
    """
    if len(text) > PLAIN and (not text.isascii() or b"\\u" in text):
        raise ValueError(f"its header must be ASCII without escapes of other characters from {PLAIN} bytes on")


def parsed(what: str, text: str) -> Any:
    """JSON in which no name stands twice, and each number is one.

    Raises
    ------
    ValueError
        If it is not.
    """
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_none, parse_float=_finite, parse_int=_whole)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} must be JSON: {error}") from None


def _whole(number: str) -> int:
    if number == "-0":
        raise ValueError("-0 is no whole number")
    return int(number)


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number[:20]} is too large a number")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands there twice")
    return found


def _none(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")
