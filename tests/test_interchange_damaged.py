"""Damaged and hostile files of other frameworks: a model, or one ValueError that names the file; never more, and little memory.

Files that are cut off, with bytes changed anywhere, and with bytes changed in an entry whose checksum is then right: a share of
them here, more in the slow tests, and with ``FASTMLP_THOROUGH=SECONDS`` 10,000 and new ones for as long.
"""

from __future__ import annotations

import os
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmlp import Model, from_keras, from_torch

DATA = Path(__file__).parent / "data"
SECONDS = float(os.environ.get("FASTMLP_THOROUGH", 0))
CONSTANT = 2**22  # bytes that reading takes beyond twice the file
OF_MODEL = ("source must be", "weights[", "biases[", "dropout must", "activations must")  # what is said of what was read


class Case(NamedTuple):
    """How a kind of files is read, small ones, and the entries that are programs or tables."""

    read: Callable[[Path], Model]
    files: list[Path]
    entries: list[str]


CASES = {
    "torch": Case(
        lambda path: from_torch(path, ["tanh", "gelu", "softmax"], key="ema" if path.stem == "two" else None),
        sorted((DATA / "torch").glob("*.pt")),
        ["data.pkl"],
    ),
    "keras": Case(from_keras, sorted((DATA / "keras").glob("[np]*.keras")), ["config.json", "model.weights.h5"]),
}


def survives(case: Case, path: Path, data: bytes) -> bool:
    """Whether the file was read; if not, it was refused as it should be."""
    path.write_bytes(data)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    said = ""
    try:
        model = case.read(path)
    except ValueError as error:
        said = str(error)
    else:
        assert np.isfinite(model.params).all()
    assert tracemalloc.get_traced_memory()[1] - before < 2 * len(data) + CONSTANT
    assert said.startswith(("", repr(str(path)), *OF_MODEL)[1 if said else 0 :])
    return not said


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def stored(entries: dict[str, bytes], path: Path) -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path.read_bytes()


def damaged(rng: np.random.Generator, data: bytes) -> bytes:
    """Bytes changed, left out, put in, or taken from elsewhere."""
    array = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(array)))
        match rng.integers(6):
            case 0:
                array[at] ^= 1 << int(rng.integers(8))
            case 1:
                array[at] = rng.integers(256)
            case 2:
                del array[at : at + int(rng.integers(1, 9))]
            case 3:
                array[at:at] = rng.bytes(int(rng.integers(1, 9)))
            case 4:
                other, length = int(rng.integers(len(array))), int(rng.integers(1, 33))
                array[at : at + length] = array[other : other + length]
            case 5:
                array[at : at + 8] = [b"\xff" * 8, b"\0" * 8, b"\xff" * 4 + b"\0" * 4, b"\0" * 7 + b"\x80"][rng.integers(4)]
        if not array:
            break
    return bytes(array)


def mutations(case: Case, rng: np.random.Generator, path: Path) -> Iterator[bytes]:
    """Whole files, and one entry with its right checksum, in turn."""
    whole = {file: file.read_bytes() for file in case.files}
    parts: dict[Path, dict[str, bytes]] = {}
    for file in case.files:
        with zipfile.ZipFile(file) as archive:
            parts[file] = {name: archive.read(name) for name in archive.namelist()}
    while True:
        file = case.files[rng.integers(len(case.files))]
        if rng.integers(3) == 0:
            yield damaged(rng, whole[file])
            continue
        entries = dict(parts[file])
        names = [name for name in entries if name.endswith(tuple(case.entries))]
        name = names[rng.integers(len(names))]
        entries[name] = damaged(rng, entries[name])
        yield stored(entries, path)


SHARES = [pytest.param(7, id="share"), pytest.param(1, id="all", marks=pytest.mark.slow)]


@pytest.mark.parametrize("step", SHARES)
@pytest.mark.parametrize("kind", CASES)
def test_truncations(kind: str, step: int, tmp_path: Path, traced: None) -> None:
    """Of the smallest file, at every byte."""
    case = CASES[kind]
    data = min((file.read_bytes() for file in case.files), key=len)
    path = tmp_path / "net.file"
    assert survives(case, path, data)
    assert not any(survives(case, path, data[:length]) for length in range(0, len(data), step))


@pytest.mark.parametrize("kind", CASES)
def test_mutations(kind: str, tmp_path: Path, traced: None) -> None:
    case = CASES[kind]
    path = tmp_path / "net.file"
    files = mutations(case, np.random.default_rng(0), path)
    read = sum(survives(case, path, next(files)) for _ in range(100))
    assert 0 < read < 100  # some bytes do not matter, and the others do


@pytest.mark.slow
@pytest.mark.parametrize("kind", CASES)
def test_many_mutations(kind: str, tmp_path: Path, traced: None) -> None:
    case = CASES[kind]
    path = tmp_path / "net.file"
    rng = np.random.default_rng(None if SECONDS else 1)
    files = mutations(case, rng, path)
    begun, number = time.monotonic(), 0
    while number < (10_000 if SECONDS else 600) or time.monotonic() - begun < SECONDS:
        data = next(files)
        started = time.monotonic()
        survives(case, path, data)
        assert time.monotonic() - started < 10
        number += 1


@pytest.mark.parametrize("kind", CASES)
@settings(max_examples=50, deadline=None)
@given(
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=12), st.integers(0, 12)), min_size=1),
    one=st.booleans(),
)
def test_edits(kind: str, edits: list[tuple[float, bytes, int]], one: bool, tmp_path_factory: Any) -> None:
    """Some places with other bytes, of other lengths, in the file or in its last program or table."""
    case = CASES[kind]
    path = tmp_path_factory.getbasetemp() / f"net.{kind}"
    tracemalloc.start()
    try:
        with zipfile.ZipFile(case.files[0]) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        name = next(name for name in reversed(entries) if name.endswith(tuple(case.entries)))
        data = bytearray(entries[name] if one else case.files[0].read_bytes())
        for share, new, old in edits:
            at = int(share * len(data))
            data[at : at + old] = new
        survives(case, path, stored({**entries, name: bytes(data)}, path) if one else bytes(data))
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("step", SHARES)
@pytest.mark.parametrize("kind", CASES)
def test_each_byte_of_the_small_tables(kind: str, step: int, tmp_path: Path, traced: None) -> None:
    """A pickle and the beginning of an HDF5 file with each byte as another, with the right checksum."""
    case = CASES[kind]
    file = min(case.files, key=lambda file: file.stat().st_size)
    path = tmp_path / "net.file"
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in reversed(entries) if name.endswith(tuple(case.entries)))
    whole = file.read_bytes()
    at, size = whole.index(entries[name]), min(len(entries[name]), 700)
    crc = zlib.crc32(entries[name]).to_bytes(4, "little")
    for i in range(0, size, step):
        other = bytearray(entries[name])
        other[i] ^= 0xFF if i % 2 else 0x01
        data = whole[:at] + bytes(other) + whole[at + len(other) :]
        survives(case, path, data.replace(crc, zlib.crc32(other).to_bytes(4, "little")))
