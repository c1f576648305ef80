"""Arrays in HDF5 files as h5py writes them by default, read without the HDF5 library.

That library is made for trusted files: damaged ones can end the process. This reads the part of the format that Keras's files
need, version 0 of its superblock with groups by symbol tables and contiguous arrays of floats, and refuses all else: other
files, links, filters, chunks and virtual arrays. Source: the HDF5 File Format Specification, version 3.0.
"""

import struct
from typing import Any, NamedTuple

import numpy as np

UNDEFINED = 2**64 - 1
FLOATS: dict[bytes, np.dtype] = {  # datatype messages of little-endian IEEE floats: what stands before the size, and after it
    bytes([0x11, 0x20, 0x0F, 0x00]) + struct.pack("<I", 2) + struct.pack("<HHBBBBI", 0, 16, 10, 5, 0, 10, 15): np.dtype("<f2"),
    bytes([0x11, 0x20, 0x1F, 0x00]) + struct.pack("<I", 4) + struct.pack("<HHBBBBI", 0, 32, 23, 8, 0, 23, 127): np.dtype("<f4"),
    bytes([0x11, 0x20, 0x3F, 0x00]) + struct.pack("<I", 8) + struct.pack("<HHBBBBI", 0, 64, 52, 11, 0, 52, 1023): np.dtype(
        "<f8"
    ),
}
DATASPACE, DATATYPE, EXTERNAL, LAYOUT, FILTERS, CONTINUATION, SYMBOLS = 0x01, 0x03, 0x07, 0x08, 0x0B, 0x10, 0x11
IGNORED = {0x00, 0x04, 0x05, 0x0C, 0x0D, 0x0E, 0x12, 0x15}  # padding, fill values, attributes, comments and times
NAMES = {0x02: "links of a newer format", 0x06: "links of a newer format", EXTERNAL: "external storage", FILTERS: "a filter"}
LONGEST_NAME = 256
MOST_ENTRIES = 10_000  # members of all groups, and parts of the trees that list them
MOST_MESSAGES = 200  # of an object


class Array(NamedTuple):
    """An array in the file."""

    shape: tuple[int, ...]
    dtype: np.dtype
    start: int


class File:
    """An HDF5 file in memory; ValueError says what is wrong, as it goes on from "got".

    Parameters
    ----------
    data : bytes
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        head = self._unpack("<8s8BHHI", 0)
        if head[0] != b"\x89HDF\r\n\x1a\n" or head[1:6] != (0, 0, 0, 0, 0) or head[6:8] != (8, 8):
            raise ValueError("weights that are no HDF5 file of version 0, as h5py writes it by default")
        base, _, end, driver = self._unpack("<4Q", 24)
        if base or end != len(data) or driver != UNDEFINED:
            raise ValueError("an HDF5 file of another length than it says, or with other files")
        self._root = self._unpack("<QQII", 56)[1]
        self._groups: dict[int, dict[str, int]] = {}
        self._entries = self._bytes = 0

    def group(self, path: tuple[str, ...]) -> dict[str, int]:
        """Where the members of a group lie; an empty path is the root."""
        at = self._root
        for name in path:
            members = self._members(at)
            if name not in members:
                raise ValueError(f"weights without a group {'/'.join(path)!r}")
            at = members[name]
        return self._members(at)

    def array(self, at: int, what: str) -> Array:
        """An array of floats that starts there; its numbers are within the file."""
        messages = self._messages(at)
        if not {DATASPACE, DATATYPE, LAYOUT} <= messages.keys():
            raise ValueError(f"{what} that is no array")
        shape, kind, (version, layout) = self._shape(messages[DATASPACE]), messages[DATATYPE], messages[LAYOUT][:2] or (0, 0)
        dtype = FLOATS.get(kind[:20])
        if dtype is None:
            raise ValueError(f"{what} of another dtype than float16, float32 and float64")
        if (version, layout) != (3, 1) or len(messages[LAYOUT]) < 18:
            raise ValueError(f"{what} that is chunked, compact, virtual or of another format")
        start, size = struct.unpack_from("<QQ", messages[LAYOUT], 2)
        count = 1
        for length in shape:
            count *= length
        if count * dtype.itemsize != size or start + size > len(self._data):
            raise ValueError(
                f"{what} of shape {shape} and dtype {dtype} in {size} bytes at {start}, in {len(self._data)} bytes"
            )
        self._bytes += size
        if self._bytes > len(self._data):
            raise ValueError(f"arrays of {self._bytes} bytes in {len(self._data)} bytes")
        return Array(shape, dtype, start)

    def numbers(self, array: Array) -> np.ndarray:
        """An array's numbers, as a view of the file."""
        count = int(np.prod(array.shape, dtype=np.int64))
        return np.frombuffer(self._data, array.dtype, count, array.start).reshape(array.shape)

    # ---- the format ----

    def _unpack(self, form: str, at: int) -> tuple[Any, ...]:
        if at + struct.calcsize(form) > len(self._data):
            raise ValueError("a damaged HDF5 file, which points beyond its end")
        return struct.unpack_from(form, self._data, at)

    def _messages(self, at: int) -> dict[int, bytes]:
        """What an object's header says of it, by kind."""
        version, _, count, _, size = self._unpack("<BBHII", at)
        if version != 1 or count > MOST_MESSAGES:
            raise ValueError("an HDF5 file with an object of another format")
        blocks, messages = [(at + 16, size)], {}
        for start, length in blocks:  # which grows
            end = start + length
            while start + 8 <= end and count:
                kind, size, flags = self._unpack("<HHB3x", start)
                start, count = start + 8 + size, count - 1
                if start > min(end, len(self._data)):
                    raise ValueError("a damaged HDF5 file, with a message that does not fit into its header")
                body = self._data[start - size : start]
                if kind == CONTINUATION and size >= 16:
                    blocks.append(struct.unpack_from("<QQ", body))
                elif kind in messages or kind not in (*IGNORED, DATASPACE, DATATYPE, LAYOUT, SYMBOLS) or flags & 2:
                    raise ValueError(f"an HDF5 file with {NAMES.get(kind, 'what is not read')}")
                elif kind not in IGNORED:
                    messages[kind] = body
        return messages

    def _shape(self, body: bytes) -> tuple[int, ...]:
        version, rank = body[:2] if len(body) >= 2 else (0, 0)
        start = {1: 8, 2: 4}.get(version)
        if start is None or rank > 8 or len(body) < start + 8 * rank:
            raise ValueError("a damaged HDF5 file, with a shape that is none")
        return struct.unpack_from(f"<{rank}Q", body, start)

    def _members(self, at: int) -> dict[str, int]:
        """A group's, by name."""
        if at in self._groups:
            return self._groups[at]
        messages = self._messages(at)
        if len(messages.get(SYMBOLS, b"")) < 16:
            raise ValueError("an HDF5 file with a group of another format")
        tree, heap = struct.unpack_from("<QQ", messages[SYMBOLS])
        mark, version, _, size, _, text = self._unpack("<4sB3sQQQ", heap)
        if mark != b"HEAP" or version or text + size > len(self._data):
            raise ValueError("a damaged HDF5 file, with a group that has no names")
        members: dict[str, int] = {}
        nodes = [tree]
        for node in nodes:  # which grows
            mark, kind, _, used = self._unpack("<4sBBH", node)
            self._entries += used + 1
            if self._entries > MOST_ENTRIES:
                raise ValueError(f"an HDF5 file with more than {MOST_ENTRIES} objects")
            if mark == b"TREE" and kind == 0:
                nodes += self._unpack(f"<{2 * used}Q", node + 24)[1::2]
            elif mark == b"SNOD":
                for i in range(used):
                    name, header, cache = self._unpack("<QQI", node + 8 + 40 * i)
                    self._add(members, text, size, name, header, cache)
            else:
                raise ValueError("a damaged HDF5 file, with a group that has no members")
        self._groups[at] = members
        return members

    def _add(self, members: dict[str, int], text: int, size: int, name: int, header: int, cache: int) -> None:
        """Note a group's member, whose name stands in the group's text."""
        end = self._data.find(b"\0", text + name, text + min(size, name + LONGEST_NAME))
        if name >= size or end < 0:
            raise ValueError("a damaged HDF5 file, with a name that does not end")
        word = self._data[text + name : end].decode("utf-8", "replace")
        if cache == 2:
            raise ValueError(f"an HDF5 file with a link {word!r}")
        if word in members:
            raise ValueError(f"a damaged HDF5 file, with {word!r} twice")
        members[word] = header
