"""Protocol Buffers' wire format: what writes messages, and what reads them where they lie.

The format is that of https://protobuf.dev/programming-guides/encoding. The reader makes no objects but those it is asked for.
"""

from collections.abc import Iterator
from typing import TypeAlias

Span: TypeAlias = tuple[int, int]  # where a field's bytes begin and end in the file

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types; 3 and 4 are groups, which nobody has written since 2008
KINDS = {VARINT: "a varint", FIXED64: "64 bits", BYTES: "bytes", FIXED32: "32 bits"}
MOST_NUMBER = 2**29 - 1  # of a field


# ---- writing ---------------------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    """An integer from -2**63 to 2**64 - 1, seven bits a byte; negative ones in two's complement of 64 bits."""
    value &= 2**64 - 1
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


class Message:
    """A message that grows field by field; nothing is copied before all is joined.

    Attributes
    ----------
    parts : list of bytes or memoryview
    size : int
        Their bytes.
    """

    def __init__(self) -> None:
        self.parts: list[bytes | memoryview] = []
        self.size = 0

    def _put(self, part: bytes | memoryview) -> None:
        self.parts.append(part)
        self.size += len(part)

    def integer(self, number: int, value: int) -> None:
        """A field of an integer, or of an enumeration."""
        self._put(varint(number << 3 | VARINT) + varint(value))

    def single(self, number: int, bits: bytes) -> None:
        """A field of a float32, given by its four bytes."""
        self._put(varint(number << 3 | FIXED32) + bits)

    def data(self, number: int, value: bytes | memoryview) -> None:
        """A field of bytes; a view must be of bytes."""
        self._put(varint(number << 3 | BYTES) + varint(len(value)))
        self._put(value)

    def text(self, number: int, value: str) -> None:
        """A field of text."""
        self.data(number, value.encode())

    def message(self, number: int, value: "Message") -> None:
        """A field that is itself a message."""
        self._put(varint(number << 3 | BYTES) + varint(value.size))
        self.parts += value.parts
        self.size += value.size


# ---- reading ---------------------------------------------------------------------------------------------------------


def read_varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    """The unsigned integer that begins at `at`, in the shortest form, and where the next thing begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise ValueError(f"a varint is cut off at byte {at}")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if value >= 2**64 or (byte == 0 and shift):
                break
            return value, at
    raise ValueError(f"a varint before byte {at} is longer than its number needs, or than 64 bits")


def fields(data: memoryview, span: Span) -> Iterator[tuple[int, int, int, int]]:
    """Each field of a message: its number, its wire type, and two numbers.

    They are an integer and where it ends, or else where the field's bytes begin and end.
    """
    at, end = span
    while at < end:
        start = at
        key, at = read_varint(data, at, end)
        number, wire = key >> 3, key & 7
        if not 1 <= number <= MOST_NUMBER:
            raise ValueError(f"a field at byte {start} has the number {number}")
        if wire == VARINT:
            value, at = read_varint(data, at, end)
            yield number, wire, value, at
            continue
        if wire == BYTES:
            size, at = read_varint(data, at, end)
        elif wire in (FIXED32, FIXED64):
            size = 4 if wire == FIXED32 else 8
        else:
            raise ValueError(f"a field at byte {start} has the wire type {wire}")
        if size > end - at:
            raise ValueError(f"a field at byte {start} has {size} bytes, where {end - at} are left")
        yield number, wire, at, at + size
        at += size


def signed(value: int) -> int:
    """What a varint says of an int64."""
    return value - 2**64 if value >= 2**63 else value
