"""Files that are damaged or hostile: changes of a file's bytes, of its header and of its description."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any
from zlib import crc32

HUGE = [2**31, 2**40, 2**53, 2**62, 2**63, 2**64, 10**30, int("9" * 400)]
VALUES: list[Any] = [
    *HUGE,
    *(-1, 0, 1, 2, 3, 0.5, 1.0, -0.0, 1e300, float("nan"), float("inf"), True, False, None),
    *("", "x", "F32", "F64", "BF16", "U8", "adam", "sgd", "mse", "cross_entropy", "softmax", "relu", "Model", "\ud800", "\0"),
    *("fastmlp.Model", "__class__", "object", "text", "multiclass", "binary", "exp", "x" * 3000),
    *([], {}, [[]], [0], [0, 8], [8, 0], [2**40, 2**40], {"custom": "x"}, {"custom": 3}, {"float": "inf"}, {"tuple": [1, 2]}),
    *(
        {"kind": "Cosine", "lr": 1},
        {"optimizer": {"kind": "lion"}},
        {"schedule": {"kind": "Step"}},
        {"weights": {"kind": "U8"}},
    ),
    *({"weights": {"kind": "U8"}}, {"generator": {}}, {"float": []}, [None], [[[[[[1]]]]]], ["relu"] * 40),
]
NUMBERS = ("NaN", "Infinity", "-Infinity", "1e999", "-0", "1E1", "0x1", "01", "1.", "+1")


def parts(data: bytes) -> tuple[bytes, bytes]:
    """The header and the body of a file that is whole."""
    length = int.from_bytes(data[:8], "little")
    return data[8 : 8 + length], data[8 + length :]


def whole(header: bytes, body: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + body


def sealed(data: bytes) -> bytes:
    """The file with the checksum that it should have, if it has any: damage that was meant."""
    found = re.search(rb'"crc32": ?"([0-9a-f]{8})"', data)
    if not found:
        return data
    a, b = found.span(1)
    return data[:a] + b"%08x" % crc32(data[:a] + b"0" * 8 + data[b:]) + data[b:]


def _paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to each value within JSON."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for name, one in inner for path in _paths(one, (*at, name)))]


def edited(rng: random.Random, value: Any) -> Any:
    """JSON with one of its values changed, left out, doubled, or under another name."""
    path = rng.choice(_paths(value)[1:] or [()])
    if not path:
        return deepcopy(rng.choice(VALUES))
    home = value
    for name in path[:-1]:
        home = home[name]
    last, how = path[-1], rng.randrange(8)
    if how == 0:
        del home[last]
    elif how == 1 and isinstance(home, dict):
        home[rng.choice(["x", "dtype", "kind", "shape", "lr", "__metadata__", "1.weight", "\ud800"])] = deepcopy(home[last])
    elif how == 2 and isinstance(home, list):
        home.insert(last, deepcopy(home[last]))
    elif how == 3 and isinstance(home[last], int):
        home[last] += rng.choice([-8, -1, 1, 8, 2**32, 2**63, 2**64])
    elif how == 4 and isinstance(home[last], list):
        home[last].reverse()
    elif how == 5:
        other = value
        for name in rng.choice(_paths(value)):
            other = other[name]
        home[last] = deepcopy(other)
    else:
        home[last] = deepcopy(rng.choice(VALUES))
    return value


def _text(value: Any) -> bytes:
    return json.dumps(value).encode()


def flipped(rng: random.Random, data: bytes) -> bytes:
    """Some bits changed, most of them in the header."""
    changed = bytearray(data)
    within = rng.choice([16, len(parts(data)[0]) + 8, len(data)])
    for _ in range(rng.choice([1, 1, 2, 8])):
        changed[rng.randrange(min(within, len(data)))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def of_header(rng: random.Random, data: bytes) -> bytes:
    header, body = parts(data)
    changed = json.loads(header)
    for _ in range(rng.choice([1, 1, 2])):
        changed = edited(rng, changed)
    return whole(_text(changed), body)


def of_description(rng: random.Random, data: bytes) -> bytes:
    header, body = parts(data)
    outer = json.loads(header)
    inner = json.loads(outer["__metadata__"]["fastmlp"])
    for _ in range(rng.choice([1, 1, 2])):
        inner = edited(rng, inner)
    outer["__metadata__"]["fastmlp"] = json.dumps(inner)
    return whole(_text(outer), body)


def swapped(rng: random.Random, data: bytes) -> bytes:
    """Two tensors' offsets, shapes or names exchanged; or tensors that overlap, or leave a hole."""
    header, body = parts(data)
    changed = json.loads(header)
    names = [name for name in changed if name != "__metadata__"]
    a, b = changed[rng.choice(names)], changed[rng.choice(names)]
    what = rng.choice(["data_offsets", "shape", "dtype", "hole", "overlap", "empty"])
    if what in a:
        a[what], b[what] = b[what], a[what]
    elif what == "empty":
        changed["empty"] = {"dtype": "F32", "shape": rng.choice([[0], [0, 2**40], [2**62, 4, 0]]), "data_offsets": [0, 0]}
    else:
        move = rng.choice([1, 4, 8]) * (1 if what == "hole" else -1)
        a["data_offsets"] = [number + move for number in a["data_offsets"]]
    return whole(_text(changed), body)


def spliced(rng: random.Random, data: bytes) -> bytes:
    """A part of the header once more elsewhere, or left out: names that stand twice, and broken JSON."""
    header, body = parts(data)
    start = rng.randrange(len(header))
    end = min(start + rng.choice([1, 2, 10, 100, 1000]), len(header))
    if rng.random() < 0.5:
        return whole(header[:start] + header[end:], body)
    at = rng.randrange(len(header))
    return whole(header[:at] + header[start:end] + header[at:], body)


def doubled(rng: random.Random, data: bytes) -> bytes:
    """A name that stands twice, in the header or in the description."""
    header, body = parts(data)
    if rng.random() < 0.5:
        outer = json.loads(header)
        outer["__metadata__"]["fastmlp"] = '{"kind":"model",' + outer["__metadata__"]["fastmlp"][1:]
        return whole(_text(outer), body)
    name = rng.choice([*json.loads(header)])
    return whole(b"{" + _text(name) + b":" + _text(json.loads(header)[name]) + b"," + header[1:], body)


def numbered(rng: random.Random, data: bytes) -> bytes:
    """Another number's text where a number stands."""
    header, body = parts(data)
    places = [i for i in range(1, len(header)) if header[i : i + 1].isdigit() and header[i - 1 : i] in b"[,:"]
    at = rng.choice(places)
    end = at
    while header[end : end + 1].isdigit():
        end += 1
    return whole(header[:at] + rng.choice(NUMBERS).encode() + header[end:], body)


def nested(rng: random.Random, data: bytes) -> bytes:
    """Deep nesting."""
    header, body = parts(data)
    depth = rng.choice([100, 1000, 100_000])
    deep = rng.choice(["[", '{"a":']) * depth
    how = rng.randrange(3)
    if how == 0:
        return whole(deep.encode(), body)
    outer = json.loads(header)
    if how == 1:
        outer["__metadata__"]["fastmlp"] = deep
        return whole(_text(outer), body)
    return whole(header[:-1].rstrip(b" }") + b',"x":' + b"[" * depth + b"]" * depth + b"}}", body)


def cut(rng: random.Random, data: bytes) -> bytes:
    """Shorter, longer, or with a wrong length of the header."""
    how = rng.randrange(4)
    if how == 0:
        return data[: rng.randrange(len(data))]
    if how == 1:
        return data + bytes(rng.choice([1, 8, 1000]))
    if how == 2:
        return (
            rng.choice([0, 1, 7, 2**31, 2**63, 2**64 - 1, len(data), len(data) - 8, 10**8 + 1]).to_bytes(8, "little") + data[8:]
        )
    header, body = parts(data)
    return whole(header + rng.choice([b" ", b"\0", b"\n", b"}", b"{}"]) * rng.choice([1, 3, 8]), body)


WAYS: list[Callable[[random.Random, bytes], bytes]] = [
    *(flipped, of_header, of_description, of_description, swapped, spliced, doubled, numbered, nested, cut)
]


def damaged(rng: random.Random, data: bytes) -> bytes:
    """The file, changed in one of these ways."""
    return rng.choice(WAYS)(rng, data)
