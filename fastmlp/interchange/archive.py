"""A zip file of others', read strictly: entries are stored as they are, lie apart, and fit into the file."""

import os
import stat
import struct
import zlib
from typing import NamedTuple, Self

import numpy as np

from fastmlp.interchange import given

MOST_ENTRIES = 10_000  # their names and places take 3 MB then
LONGEST_NAME = 1024
PIECE = 2**20  # bytes that are read at a time to compare a checksum

END = struct.Struct("<4s4H2IH")
WIDE_END = struct.Struct("<4sQ2H2I4Q")
LOCATOR = struct.Struct("<4sIQI")
ENTRY = struct.Struct("<4s6H3I5H2I")
LOCAL = struct.Struct("<4s5H3I2H")
NARROW = 0xFFFFFFFF  # of a size or an offset: it stands in a field of 64 bits


class Entry(NamedTuple):
    """Where an entry's bytes lie in the file, and their CRC-32."""

    start: int
    size: int
    crc: int


class Archive:
    """An open zip file; what it raises names the file.

    Parameters
    ----------
    path : str or os.PathLike
    what : str
        What the file should be, for messages.

    Attributes
    ----------
    path : str
    size : int
        The file's, in bytes.
    entries : dict of str to Entry
    """

    def __init__(self, path: str | os.PathLike[str], what: str) -> None:
        file, self._what = given.file(path), what
        self.path = str(file)
        if not stat.S_ISREG(file.stat().st_mode):
            raise self.refused("no regular file")
        self._file = file.open("rb")
        try:
            self.size = self._file.seek(0, os.SEEK_END)
            self._checked: set[str] = set()
            self.entries = self._apart(self._directory())
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def refused(self, why: str) -> ValueError:
        """The error to raise."""
        return ValueError(f"{self.path!r} must be {self._what}, got {why}")

    def read(self, name: str) -> bytes:
        """An entry's bytes; it is there."""
        entry = self._entry(name)
        return self._bytes(entry.start, entry.size)

    def numbers(self, name: str, dtype: np.dtype, first: int, count: int) -> np.ndarray:
        """Some numbers of an entry, which is there and has them."""
        entry = self._entry(name)
        array = np.empty(count, dtype)
        self._file.seek(entry.start + first * dtype.itemsize)
        if self._file.readinto(array.view(np.uint8).data) != array.nbytes:
            raise self.refused("a file that ends early")
        return array

    def _entry(self, name: str) -> Entry:
        """The entry, whose checksum is compared at the first call."""
        entry = self.entries[name]
        if name not in self._checked:
            crc = 0
            for start in range(entry.start, entry.start + entry.size, PIECE):
                crc = zlib.crc32(self._bytes(start, min(PIECE, entry.start + entry.size - start)), crc)
            if crc != entry.crc:
                raise self.refused(f"an entry {name!r} that is damaged, or was written without a CRC-32: its checksum differs")
            self._checked.add(name)
        return entry

    def _bytes(self, start: int, count: int) -> bytes:
        if not 0 <= start <= self.size - count:
            raise self.refused("a damaged file, whose parts would lie outside of it")
        self._file.seek(start)
        data = self._file.read(count)
        if len(data) != count:
            raise self.refused("a file that ends early")
        return data

    def _directory(self) -> list[tuple[int, str, Entry]]:
        """Each entry as the directory at the file's end has it: where its own header starts, and its name."""
        if self.size < END.size:
            raise self.refused("a file that is no zip archive")
        end = self.size - END.size
        mark, disk, first_disk, here, count, length, start, comment = END.unpack(self._bytes(end, END.size))
        if mark != b"PK\5\6":
            raise self.refused("a file that is no zip archive, or one that is cut off")
        if end >= LOCATOR.size + WIDE_END.size:
            found, _, at, _ = LOCATOR.unpack(self._bytes(end - LOCATOR.size, LOCATOR.size))
            if found == b"PK\6\7":
                end = at
                mark, _, _, _, disk, first_disk, here, count, length, start = WIDE_END.unpack(self._bytes(at, WIDE_END.size))
                if mark != b"PK\6\6":
                    raise self.refused("a damaged zip archive: it has no end of 64 bits where it says so")
        if disk or first_disk or here != count or comment or start + length != end:
            raise self.refused("a damaged zip archive: its directory is not where it says")
        if count > MOST_ENTRIES or count * ENTRY.size > length:
            raise self.refused(
                f"a zip archive of {count} entries in a directory of {length} bytes, at most {MOST_ENTRIES} are read"
            )
        data, at, found_entries = memoryview(self._bytes(start, length)), 0, []
        for _ in range(count):
            entry, at = self._entry_at(data, at)
            found_entries.append(entry)
        if at != length:
            raise self.refused("a damaged zip archive: its directory has another length")
        return found_entries

    def _entry_at(self, data: memoryview, at: int) -> tuple[tuple[int, str, Entry], int]:
        """The directory's entry that starts there, and where the next one does."""
        if at + ENTRY.size > len(data):
            raise self.refused("a damaged zip archive: its directory ends early")
        mark, _, _, flags, method, _, _, crc, packed, size, *lengths, _, _, _, start = ENTRY.unpack_from(data, at)
        at += ENTRY.size
        after = at + sum(lengths)
        if mark != b"PK\1\2" or after > len(data) or lengths[0] > LONGEST_NAME:
            raise self.refused("a damaged zip archive: its directory has an entry that is none")
        name = bytes(data[at : at + lengths[0]]).decode("utf-8", "replace")
        if flags & 1:
            raise self.refused(f"an encrypted entry {name!r}")
        if method:
            raise self.refused(f"a compressed entry {name!r}; they must be stored as they are")
        sizes = self._wide([size, packed, start], data[at + lengths[0] : at + lengths[0] + lengths[1]])
        if sizes[0] != sizes[1]:
            raise self.refused(f"an entry {name!r} of {sizes[0]} bytes that is stored in {sizes[1]}")
        return (sizes[2], name, Entry(0, sizes[0], crc)), after

    def _wide(self, numbers: list[int], extra: memoryview) -> list[int]:
        """The numbers, those of 64 bits from the field of them."""
        wanted = [i for i, number in enumerate(numbers) if number == NARROW]
        while wanted and len(extra) >= 4:
            kind, length = struct.unpack_from("<HH", extra)
            field, extra = extra[4 : 4 + length], extra[4 + length :]
            if kind == 1 and len(field) >= 8 * len(wanted):
                for i, number in zip(wanted, struct.unpack_from(f"<{len(wanted)}Q", field), strict=True):
                    numbers[i] = number
                break
        return numbers

    def _apart(self, entries: list[tuple[int, str, Entry]]) -> dict[str, Entry]:
        """The entries by name, each behind its own header, and none over another."""
        found: dict[str, Entry] = {}
        end = 0
        for header, name, entry in sorted(entries):
            if header < end:
                raise self.refused(f"a zip archive whose entry {name!r} lies over another")
            mark, _, _, method, *_, length, extra = LOCAL.unpack(self._bytes(header, LOCAL.size))
            own = self._bytes(header + LOCAL.size, length).decode("utf-8", "replace") if length <= LONGEST_NAME else ""
            if mark != b"PK\3\4" or own != name or method:
                raise self.refused(f"a damaged zip archive: entry {name!r} has another header")
            start = header + LOCAL.size + length + extra
            end = start + entry.size
            if end > self.size:
                raise self.refused(f"an entry {name!r} of {entry.size} bytes, more than the file has")
            if name in found:
                raise self.refused(f"a zip archive with two entries {name!r}")
            found[name] = entry._replace(start=start)
        return found
