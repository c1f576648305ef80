"""Damaged and hostile ONNX files: a ValueError or a model, within the file's size and a bound of memory.

An hour or more of it: ``FASTMLP_THOROUGH=3600 python -m pytest -m slow tests/test_onnx_damaged.py``.
"""

# ruff: noqa: E501 (rows of tables)

from __future__ import annotations

import os
import re
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmlp import Model, from_onnx, to_onnx
from fastmlp.interchange.onnx.protobuf import Message, read_varint, varint

THOROUGH = float(os.environ.get("FASTMLP_THOROUGH", "0"))
CONSTANT = 5 * 2**19  # bytes beyond twice the file: five thousand nodes, 128 operators' values, what Python keeps for itself
SEEDS = [path.read_bytes() for path in sorted((Path(__file__).parent / "data" / "onnx").glob("*.onnx"))]
SEEDS += [
    to_onnx(Model([3, 4, 2], [name, "softmax"], dtype=dtype, rng=0))
    for name in ("gelu", "mish")
    for dtype in ("float32", "float64")
]


def outcome(path: Path, data: bytes) -> str:
    """What comes of reading it: "model", or the error's message. The peak of memory is held to the bound."""
    path.write_bytes(data)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    try:
        model = from_onnx(path)
    except ValueError as error:
        said = str(error)
        assert repr(str(path)) in said
    else:
        said = "model"
        assert np.isfinite(model.params).all()
    peak = tracemalloc.get_traced_memory()[1] - before
    assert peak <= 2 * len(data) + CONSTANT, (peak, len(data))
    return said


@pytest.fixture(autouse=True)
def traced(tmp_path: Path) -> Any:
    path = tmp_path / "before.onnx"
    for seed in SEEDS:  # what is loaded once does not count
        path.write_bytes(seed)
        with suppress(ValueError):
            from_onnx(path)
    tracemalloc.start()
    yield
    tracemalloc.stop()


def mutated(rng: np.random.Generator, data: bytes) -> bytes:
    """Bytes changed, left out, doubled, or taken from another file."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        if not changed:
            break
        at, length = int(rng.integers(len(changed))), int(rng.integers(1, 1 + min(40, len(changed))))
        kind = rng.integers(6)
        if kind < 2:
            changed[at] = int(rng.integers(256))
        elif kind == 2:
            changed[at] ^= 1 << int(rng.integers(8))
        elif kind == 3:
            del changed[at : at + length]
        elif kind == 4:
            changed[at:at] = changed[at : at + length] * int(rng.integers(1, 4))
        else:
            other = SEEDS[int(rng.integers(len(SEEDS)))]
            start = int(rng.integers(len(other)))
            changed[at : at + length] = other[start : start + length]
    return bytes(changed)


@pytest.mark.parametrize("count", [400, pytest.param(10_000 if THOROUGH else 800, marks=pytest.mark.slow)])
def test_mutated_files(count: int, tmp_path: Path) -> None:
    seed = int(time.time()) if THOROUGH and count > 400 else 0
    rng, started, done, models, slowest = np.random.default_rng(seed), time.monotonic(), 0, 0, 0.0
    while done < count or (count > 400 and time.monotonic() - started < THOROUGH):
        data, began = mutated(rng, SEEDS[done % len(SEEDS)]), time.monotonic()
        models += outcome(tmp_path / "net.onnx", data) == "model"
        slowest = max(slowest, time.monotonic() - began)
        done += 1
    assert 0 < models < done
    print(f"seed {seed}: {done} files, {models} of them models, the slowest in {slowest:.3f} s")


def test_any_bytes(tmp_path: Path) -> None:
    @given(st.binary(max_size=200))
    @settings(max_examples=200, deadline=None, database=None)
    def check(data: bytes) -> None:
        outcome(tmp_path / "net.onnx", data)

    check()


@given(st.integers(-(2**63), 2**64 - 1))
def test_integers_come_back(value: int) -> None:
    data = varint(value)
    assert read_varint(memoryview(data), 0, len(data)) == (value % 2**64, len(data))


def test_cut_off_at_every_byte(tmp_path: Path) -> None:
    data = to_onnx(Model([1, 2, 1], rng=0))
    assert outcome(tmp_path / "net.onnx", data) == "model"
    for end in range(len(data)):
        said = outcome(tmp_path / "net.onnx", data[:end])
        assert said != "model", end


def graph(fill: Callable[[Message], None]) -> bytes:
    body, opset, model = Message(), Message(), Message()
    fill(body)
    opset.integer(2, 13)
    model.message(7, body)
    model.message(8, opset)
    return b"".join(model.parts)


def repeated(number: int, value: bytes, count: int) -> Callable[[Message], None]:
    return lambda body: body._put((varint(number << 3 | 2) + varint(len(value)) + value) * count)


def message(*parts: tuple[int, Any]) -> bytes:
    made = Message()
    for number, value in parts:
        if isinstance(value, int):
            made.integer(number, value)
        else:
            made.data(number, value)
    return b"".join(made.parts)


def nodes(count: int, kind: bytes = b"Relu") -> Callable[[Message], None]:
    """A chain of operators behind the input "0"."""

    def fill(body: Message) -> None:
        for i in range(count):
            body.data(1, message((1, b"%d" % i), (2, b"%d" % (i + 1)), (4, kind)))
        body.data(11, message((1, b"0")))
        body.data(12, message((1, b"%d" % count)))

    return fill


def weight(dims: list[int], data: bytes = b"") -> bytes:
    return message(*[(1, width) for width in dims], (2, 1), (8, b"W"), (9, data))


def dense(body: Message, tensor: bytes) -> None:
    body.data(1, message((1, b"x"), (1, b"W"), (2, b"y"), (4, b"MatMul")))
    body.data(5, tensor)
    body.data(11, message((1, b"x")))
    body.data(12, message((1, b"y")))


HOSTILE = {
    "two million empty nodes": (lambda: graph(repeated(1, b"", 2_000_000)), "more than 5000 of node"),
    "empty nodes": (lambda: graph(repeated(1, b"", 4000)), "node 0 must have an operator and an output"),
    "two million empty initialisers": (lambda: graph(repeated(5, b"", 2_000_000)), "more than 5000 of initializer"),
    "two million unknown fields": (lambda: graph(repeated(99, b"", 2_000_000)), "more than 20000 fields that are not needed"),
    "a million inputs of a node": (lambda: graph(repeated(1, message((4, b"Max"), (2, b"y")) + b"\x0a\x00" * 1_000_000, 1)), "more than 64 of input"),
    "a million attributes": (lambda: graph(repeated(1, message((4, b"Max"), (2, b"y")) + b"\x2a\x00" * 1_000_000, 1)), "more than 64 of attribute"),
    "a million dimensions": (lambda: graph(lambda body: dense(body, b"\x08\x01" * 1_000_000 + weight([]))), "more than 8 of dims"),
    "a million packed dimensions": (lambda: graph(lambda body: dense(body, message((1, b"\x01" * 1_000_000)) + weight([]))), "more than 8 integers"),
    "five thousand operators in a row": (lambda: graph(nodes(5000)), "more than 128 operators stand between"),
    "five thousand things that change nothing": (lambda: graph(nodes(5000, b"Identity")), "must come from a layer"),
    "a matrix of 2**62 numbers": (lambda: graph(lambda body: dense(body, weight([2**31, 2**31]))), "4611686018427387904 numbers of FLOAT must be"),
    "a matrix of 2**80 numbers": (lambda: graph(lambda body: dense(body, weight([2**40, 2**40]))), "numbers of FLOAT must be"),
    "a negative dimension": (lambda: graph(lambda body: dense(body, weight([-1, 4]))), "dimensions must be at least 0"),
    "an empty matrix": (lambda: graph(lambda body: dense(body, weight([0, 2**40]))), "must be a matrix"),
    "a wide bias of one number": (lambda: graph(lambda body: dense(body, weight([2**50, 0]))), "must be a matrix"),
    "a wrong wire type": (lambda: b"\x38\x05", "its graph must be bytes, got a varint"),
    "a group": (lambda: b"\x3b\x3c", "wire type 3"),
    "field 0": (lambda: b"\x02\x00", "has the number 0"),
    "a varint of 11 bytes": (lambda: b"\x08" + b"\x80" * 10 + b"\x01", "longer than its number needs"),
    "a varint of 70 bits": (lambda: b"\x08" + b"\xff" * 9 + b"\x7f", "longer than its number needs"),
    "an overlong varint": (lambda: b"\x08\x85\x00", "longer than its number needs"),
    "a varint that is cut off": (lambda: b"\x08\x85", "a varint is cut off at byte 2"),
    "a length beyond the end": (lambda: b"\x3a\xff\xff\xff\xff\x0f", "has 4294967295 bytes, where 0 are left"),
    "a negative length": (lambda: b"\x3a" + varint(-1), "bytes, where 0 are left"),
    "two graphs": (lambda: b"\x3a\x00\x3a\x00", "more than 1 of graph"),
    "nothing": (lambda: b"", "has no graph"),
    "text": (lambda: b"<html><body>Not found</body></html>", "cannot be read as a network"),
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if re.search("million|thousand", name) else []) for name in HOSTILE]
)
def test_hostile_files(name: str, tmp_path: Path) -> None:
    make, message = HOSTILE[name]
    data, began = make(), time.monotonic()
    assert message in outcome(tmp_path / "net.onnx", data)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_large_file_is_held_once(dtype: Any, tmp_path: Path) -> None:
    data = to_onnx(Model([1500, 1500, 3], "tanh", dtype=dtype, rng=0))
    assert len(data) > 2 * CONSTANT
    assert outcome(tmp_path / "net.onnx", data) == "model"


@pytest.mark.slow
def test_the_slowest_that_a_file_can_ask_for(tmp_path: Path) -> None:
    """Sections of as many operators as may be, each the most expensive one, with the most beginnings that are tried."""

    def fill(body: Message) -> None:
        last, number, erf = b"x", 0, 0
        body.data(5, weight([1, 1], np.float32(1).tobytes()))
        for _ in range(38):
            for kind in [b"MatMul", *[b"Add"] * 9, *[b"Erf"] * 118]:
                number += 1
                name = b"%d" % number
                second = [] if kind == b"Erf" else [(1, b"W")]
                body.data(1, message((1, last), *second, (2, name), (4, kind)))
                last = name
                erf += kind == b"Erf"
        body.data(11, message((1, b"x")))
        body.data(12, message((1, last)))

    data, began = graph(fill), time.monotonic()
    assert "no activation that fastmlp has" in outcome(tmp_path / "net.onnx", data)
    assert time.monotonic() - began < 60
