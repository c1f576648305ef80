"""PyTorch's files: the tensors of a state_dict, read without PyTorch by what can make nothing else."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from fastmlp.interchange.archive import Archive
from fastmlp.interchange.pickled import STORAGES, Machine, Tensor

WHAT = "a file that torch.save wrote of a state_dict"
# A state_dict's tensor takes some 40 operations, and each may make an object of 100 bytes.
STEPS, BYTES_A_STEP = 20_000, 256
ROOM = 2**16  # bytes of the tensors beyond those of the file: of small nets with shared storages
REAL = ("torch.FloatStorage", "torch.DoubleStorage", "torch.HalfStorage", "torch.BFloat16Storage")
AGAIN = 8  # how many times the file may be read for tensors whose numbers lie far apart


class Stored(NamedTuple):
    """A tensor in an open file."""

    archive: Archive
    entry: str
    tensor: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.tensor.shape

    def read(self) -> np.ndarray:
        """Its numbers, as a view of those of its storage; bfloat16, which NumPy lacks, is widened to float32."""
        kind = self.tensor.storage.kind
        if kind not in REAL:
            raise self.archive.refused(f"weights in a {kind}, which holds no real numbers")
        numbers = self.archive.numbers(self.entry, np.dtype(STORAGES[kind]), self.tensor.offset, self.tensor.extent)
        if kind == "torch.BFloat16Storage":
            numbers = (numbers.astype("<u4") << 16).view("<f4")
        strides = tuple(stride * numbers.itemsize for stride in self.tensor.strides)
        return np.ndarray(self.shape, numbers.dtype, numbers, 0, strides)


@contextmanager
def state_dict(path: str | os.PathLike[str], key: str | None) -> Iterator[dict[str, Stored]]:
    """A file's tensors by name, to be read within.

    Raises
    ------
    ValueError
        If the file is no such file, or has several state_dicts and `key` names none of them.
    """
    with Archive(path, WHAT) as archive:
        found = [name for name in archive.entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        folder = found[0].removesuffix("data.pkl") if len(found) == 1 else ""
        if not folder:
            raise archive.refused("a zip archive without a 'data.pkl', or with several")
        order = f"{folder}byteorder"
        if order in archive.entries and (archive.entries[order].size != 6 or archive.read(order) != b"little"):
            raise archive.refused("a file whose byte order is not 'little'")
        machine = Machine(archive.read(found[0]), STEPS + archive.size // BYTES_A_STEP)
        try:
            made = machine.run()
            tensors = _chosen(made, key)
        except ValueError as error:
            raise archive.refused(str(error)) from None
        stored = {name: Stored(archive, f"{folder}data/{tensor.storage.key}", tensor) for name, tensor in tensors.items()}
        _check_sizes(archive, stored)
        yield stored


def _chosen(made: Any, key: str | None) -> dict[str, Tensor]:
    """The one mapping of tensors: all of what was saved, or one of its items."""
    if type(made) is not dict:
        raise ValueError("a pickle of something else than a mapping of names to tensors")
    inner = {_name(name): value for name, value in made.items()}
    tensors = {name: found for name, value in inner.items() if (found := _tensors(value))}
    if key is not None:
        if key not in tensors:
            raise ValueError(f"no mapping of tensors under key={key!r}; there are {_listed(tensors)}")
        return tensors[key]
    whole = _tensors(made)
    if whole:
        return whole
    if len(tensors) != 1:
        raise ValueError(f"{_listed(tensors)} as mappings of tensors: one of them must be named, by `key`")
    return tensors.popitem()[1]


def _tensors(value: Any) -> dict[str, Tensor] | None:
    """The value, if it is a mapping of tensors."""
    if type(value) is not dict or not all(type(one) is Tensor for one in value.values()):
        return None
    return {_name(name): tensor for name, tensor in value.items()}


def _name(key: bytes | int) -> str:
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"


def _check_sizes(archive: Archive, stored: dict[str, Stored]) -> None:
    """Raise unless the storages are there, and all tensors together are no larger than the file."""
    numbers = extents = 0
    for name, (_, entry, tensor) in stored.items():
        size = np.dtype(STORAGES[tensor.storage.kind]).itemsize
        has = archive.entries[entry].size if entry in archive.entries else None
        if has != size * tensor.storage.numbers:
            got = "none" if has is None else f"{has} bytes"
            raise archive.refused(f"{got} where the {tensor.storage.numbers} numbers of tensor {name!r} should be")
        numbers += size * tensor.numbers
        extents += size * tensor.extent
    if numbers > archive.size + ROOM or extents > AGAIN * (archive.size + ROOM):
        raise archive.refused(f"tensors of {numbers} bytes, more than the {archive.size} bytes of the file")
