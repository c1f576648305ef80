"""PyTorch's state_dicts, from mappings and files: what comes in, and what is refused. No PyTorch is needed."""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import re
import struct
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import Model, from_torch
from fastmlp.interchange import pt
from fastmlp.interchange.archive import Archive
from fastmlp.interchange.pickled import Machine

DATA = Path(__file__).parent / "data" / "torch"
CASES = json.loads((DATA / "cases.json").read_text())
EXPECTED = np.load(DATA / "expected.npz")
LAYERS = ["tanh", "gelu", "softmax"]


def read(path: Path, key: str | None = None) -> Model:
    return from_torch(path, LAYERS, loss="cross_entropy", key=key)


@pytest.mark.parametrize("name", CASES)
def test_a_file(name: str) -> None:
    model = read(DATA / f"{name}.pt", CASES[name]["key"])
    assert model.dtype == CASES[name]["dtype"]
    assert model.sizes == (3, 5, 4, 2)
    want = EXPECTED[name]
    np.testing.assert_allclose(model.predict(EXPECTED["X"]), want, rtol=0, atol=1e-6 if want.dtype == "float32" else 1e-12)


def test_every_file_has_its_case() -> None:
    assert {path.stem for path in DATA.glob("*.pt")} == CASES.keys()


# ---- mappings --------------------------------------------------------------------------------------------------------


def state(*names: str) -> dict[str, np.ndarray]:
    """Layers of one width, each with other numbers."""
    arrays = {}
    for i, name in enumerate(names):
        arrays[f"{name}.weight"] = np.arange(9.0).reshape(3, 3) + i
        arrays[f"{name}.bias"] = np.arange(3.0) - i
    return arrays


def test_a_mapping() -> None:
    rng = np.random.default_rng(0)
    W1, b1, W2 = rng.standard_normal((4, 3)), rng.standard_normal(4), rng.standard_normal((2, 4))
    model = from_torch({"a.weight": W1, "a.bias": b1, "weight": W2}, ["tanh", "identity"], dropout=0.25)
    X = rng.standard_normal((5, 3))
    np.testing.assert_allclose(model.predict(X), np.tanh(X @ W1.T + b1) @ W2.T, rtol=1e-12)
    assert model.dropout == (0.25,)
    assert model.loss_name == "mse"
    assert not model.biases[1].any()
    assert from_torch({"a.weight": W1.astype("f4")}, "relu").dtype == "float32"
    assert from_torch({"a.weight": W1.astype("f2"), "a.bias": b1.astype("f4")}, "relu").dtype == "float32"


def test_a_file_of_other_tensors_is_named(tmp_path: Path) -> None:
    path = with_pickle(tmp_path / "net.pt", named(tensor(storage(b"K\x0f"), shape=b"K\x0f\x85")))
    with pytest.raises(
        ValueError, match=rf"^{re.escape(repr(str(path)))} must be a state_dict of .*, got '0\.weight' of shape \(15,\)"
    ):
        read(path)


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["0", "10", "2"], [0, 2, 1]),  # as a file of safetensors lists them
        (["net.10", "net.8", "net.9"], [1, 2, 0]),
        (["b.1", "a.0"], [0, 1]),  # of two Sequentials
        (["fc10", "fc2"], [0, 1]),
    ],
)
def test_the_order_of_layers(names: list[str], order: list[int]) -> None:
    model = from_torch(state(*names), "relu")
    assert [int(b[0, 0]) for b in model.biases] == [-i for i in order]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"1.running_mean": np.ones(3)}, r"got '1\.running_mean' of shape \(3,\)"),
        ({"1.weight": np.ones(3)}, r"got '1\.weight' of shape \(3,\)"),
        ({"0.weight": np.ones((2, 2, 2))}, r"got '0\.weight' of shape \(2, 2, 2\)"),
        ({"0.bias": np.ones(2)}, r"got '0\.bias' of shape \(2,\) beside weights of shape \(3, 3\)"),
        ({"2.weight": np.ones((2, 4))}, r"got '2\.weight' with 4 inputs behind 3 outputs"),
        ({"0.weight": np.ones((0, 3)), "0.bias": np.ones(0)}, "got '0.weight' with 3 inputs and 0 outputs"),
        ({"epoch": 3}, "got 'epoch': int"),
        ({3: np.ones(3)}, "got 3: ndarray"),
    ],
)
def test_a_mapping_refused(change: dict[Any, Any], message: str) -> None:
    with pytest.raises(
        ValueError, match=rf"source must be a state_dict of Linear layers, NAME\.weight and NAME\.bias, {message}"
    ):
        from_torch({**state("0"), **change}, "relu")


def test_arguments_refused() -> None:
    with pytest.raises(TypeError, match=r"source must be an nn\.Sequential, a state_dict or a path, got int"):
        from_torch(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="activations must be given for a state_dict"):
        from_torch(state("0"))
    with pytest.raises(ValueError, match="key must be a name in a file, and else None, got 'model'"):
        from_torch(state("0"), "relu", key="model")
    with pytest.raises(ValueError, match="activations must hold 1 names"):
        from_torch(state("0"), ["relu", "relu"])
    with pytest.raises(ValueError, match="got no dense layer"):
        from_torch({}, "relu")
    with pytest.raises(ValueError, match=r"biases\[0\] must be finite"):
        from_torch({**state("0"), "0.bias": np.full(3, np.nan)}, "relu")


# ---- files that are refused ------------------------------------------------------------------------------------------


def zipped(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def entries(name: str = "state_dict") -> dict[str, bytes]:
    with zipfile.ZipFile(DATA / f"{name}.pt") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def with_pickle(path: Path, data: bytes) -> Path:
    return zipped(path, {**entries(), "state_dict/data.pkl": data})


def refuses(path: Path, message: str, key: str | None = None) -> None:
    with pytest.raises(ValueError, match=f"{re.escape(repr(str(path)))} must be a file that torch.save wrote.*{message}"):
        read(path, key)


def test_other_files_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    path.write_bytes(b"")
    refuses(path, "no zip archive")
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) * 20)  # as PyTorch before 1.6 began a file
    refuses(path, "no zip archive, or one that is cut off")
    refuses(zipped(path, {"a/b": b""}), r"without a 'data\.pkl', or with several")
    refuses(zipped(path, {"a/data.pkl": b"", "b/data.pkl": b""}), r"without a 'data\.pkl', or with several")
    for order in (b"big", b"big   ", b"little" * 1000):
        refuses(zipped(path, {**entries(), "state_dict/byteorder": order}), "byte order is not 'little'")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.pt")
    refuses(tmp_path, "no regular file")
    refuses(DATA / "two.pt", "got 'model', 'ema' as mappings of tensors: one of them must be named, by `key`")
    refuses(DATA / "two.pt", "no mapping of tensors under key='other'; there are 'model', 'ema'", key="other")
    refuses(DATA / "state_dict.pt", "no mapping of tensors under key='0.weight'; there are none", key="0.weight")


def test_entries_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    refuses(zipped(path, entries(), zipfile.ZIP_DEFLATED), "a compressed entry")
    bomb = {**entries(), "state_dict/data/9": bytes(10**7)}
    refuses(zipped(path, bomb, zipfile.ZIP_DEFLATED), "a compressed entry")
    few = entries()
    del few["state_dict/data/2"]
    refuses(zipped(path, few), "none where the 20 numbers of tensor '2.weight' should be")
    refuses(zipped(path, {**entries(), "state_dict/data/2": b"1"}), "1 bytes where the 20 numbers")
    refuses(zipped(path, {f"{i}": b"" for i in range(10_001)}), "10001 entries")
    whole = zipped(path, entries()).read_bytes()
    at = whole.index(entries()["state_dict/data/0"])
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    refuses(path, "an entry 'state_dict/data/0' that is damaged")


def test_overlapping_entries_refused(tmp_path: Path) -> None:
    """The second entry's place in the directory is the first one's, or within it."""
    path = tmp_path / "net.pt"
    whole = bytearray(zipped(path, {"a/data.pkl": bytes(200), "b/data.pkl": bytes(200)}).read_bytes())
    second = whole.rindex(b"PK\1\2")
    for offset in (0, 60):
        struct.pack_into("<I", whole, second + 42, offset)
        path.write_bytes(whole)
        refuses(path, "lies over another|has another header")
    inner = zipped(tmp_path / "inner.pt", {"b": bytes(10)}).read_bytes()[:60]  # a header within another entry's bytes
    whole = bytearray(zipped(path, {"a": inner, "b": bytes(10)}).read_bytes())
    struct.pack_into("<I", whole, whole.rindex(b"PK\1\2") + 42, 31)
    path.write_bytes(whole)
    refuses(path, "entry 'b' lies over another")


def test_directories_refused(tmp_path: Path) -> None:
    """Each number at the file's end that says where the directory is, as another."""
    path = tmp_path / "net.pt"
    whole = (DATA / "state_dict.pt").read_bytes()  # ends with an end of 64 bits, where that lies, and an end of 32 bits
    end, locator, wide = len(whole) - 22, len(whole) - 42, len(whole) - 98
    assert (whole[end:][:4], whole[locator:][:4], whole[wide:][:4]) == (b"PK\5\6", b"PK\6\7", b"PK\6\6")
    changes: list[tuple[int, str, int, str]] = [
        (locator + 8, "<Q", 2**64 - 1, "whose parts would lie outside"),
        (locator + 8, "<Q", 0, "no end of 64 bits where it says so"),
        (wide + 16, "<I", 1, "not where it says"),  # disks
        (wide + 20, "<I", 1, "not where it says"),
        (wide + 24, "<Q", 9, "not where it says"),  # entries
        (wide + 40, "<Q", 1, "not where it says"),  # the directory's length
        (wide + 48, "<Q", 1, "not where it says"),  # its start
        (end + 20, "<H", 1, "not where it says"),  # a comment
    ]
    for at, form, value, message in changes:
        data = bytearray(whole)
        struct.pack_into(form, data, at, value)
        path.write_bytes(data)
        refuses(path, message)
    data = bytearray(zipped(path, {"n" * 100: b""}).read_bytes())
    for at in (8, 10):
        struct.pack_into("<H", data, len(data) - 22 + at, 2)
    path.write_bytes(data)
    refuses(path, "its directory ends early")
    data = bytearray(zipped(path, {"a": b""}).read_bytes())
    (length,) = struct.unpack_from("<I", data, len(data) - 10)
    struct.pack_into("<I", data, len(data) - 10, length + 3)
    path.write_bytes(data[:-22] + b"abc" + data[-22:])
    refuses(path, "its directory has another length")


def test_headers_refused(tmp_path: Path) -> None:
    """Each number of an entry in the directory as another, and each in the entry's own header."""
    path = tmp_path / "net.pt"
    whole = zipped(path, {"a/data.pkl": b"}."}).read_bytes()
    entry = whole.index(b"PK\1\2")
    changes: list[tuple[int, str, int, str]] = [
        (entry, "<I", 0, "an entry that is none"),
        (entry + 8, "<H", 1, "an encrypted entry"),
        (entry + 10, "<H", 12, "a compressed entry"),
        (entry + 20, "<I", 1, "of 2 bytes that is stored in 1"),
        (entry + 28, "<H", 9999, "an entry that is none"),  # the name's length
        (entry + 42, "<I", 2**31, "whose parts would lie outside"),
        (0, "<I", 0, "has another header"),
        (8, "<H", 8, "has another header"),
        (26, "<H", 2, "has another header"),
    ]
    for at, form, value, message in changes:
        data = bytearray(whole)
        struct.pack_into(form, data, at, value)
        path.write_bytes(data)
        refuses(path, message)
    data = bytearray(whole)
    for at in (20, 24):
        struct.pack_into("<I", data, entry + at, 5000)
    path.write_bytes(data)
    refuses(path, "an entry 'a/data.pkl' of 5000 bytes, more than the file has")
    data = bytearray(zipped(path, {"a/data.pkl": b"", "b/data.pkl": b""}).read_bytes())
    path.write_bytes(data.replace(b"b/data.pkl", b"a/data.pkl"))
    refuses(path, "two entries 'a/data.pkl'")


def test_a_file_that_shrinks(tmp_path: Path) -> None:
    path = zipped(tmp_path / "net.pt", {"a": bytes(10_000)})
    for read in (lambda archive: archive.read("a"), lambda archive: archive.numbers("a", np.dtype("f4"), 0, 2500)):
        data = path.read_bytes()
        with Archive(path, "whole") as archive:
            archive._checked.add("a")
            path.write_bytes(b"")
            with pytest.raises(ValueError, match="a file that ends early"):
                read(archive)
        path.write_bytes(data)


# ---- hostile pickles -------------------------------------------------------------------------------------------------

RAN: list[str] = []


def _ran(*arguments: Any) -> None:
    RAN.append("ran")


class Reduced:
    """Unpickled, it calls a function."""

    def __reduce__(self) -> Any:
        return _ran, ("now",)


class Stateful:
    """Unpickled, it is given a state."""

    def __init__(self) -> None:
        self.state = 1

    def __setstate__(self, state: Any) -> None:
        RAN.append("ran")


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def storage(count: bytes = b"K\x04", kind: bytes = b"ctorch\nFloatStorage\n", key: bytes = text("0")) -> bytes:
    return b"(" + text("storage") + kind + key + text("cpu") + count + b"tQ"


TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"


def tensor(
    of: bytes, offset: bytes = b"K\0", shape: bytes = b"K\x04\x85", strides: bytes = b"K\1\x85", rest: bytes = b"\x89)"
) -> bytes:
    return TENSOR + b"(" + of + offset + shape + strides + rest + b"tR"


def named(value: bytes) -> bytes:
    return b"\x80\x02}" + text("0.weight") + value + b"s."


HOSTILE: dict[str, tuple[bytes, str]] = {
    "reduce of os.system": (b"\x80\x02cos\nsystem\n" + text("touch /tmp/fastmlp") + b"\x85R.", "names os.system"),
    "reduce of eval": (b"\x80\x02cbuiltins\neval\n" + text("1") + b"\x85R.", "names builtins.eval"),
    "stack_global": (b"\x80\x04" + text("os") + text("system") + b"\x93" + text("true") + b"\x85R.", "names os.system"),
    "a name of numbers": (b"\x80\x04K\1K\2\x93.", "a name that is none"),
    "a name of two parts": (b"\x80\x04" + text("torch") + text("_utils.os.system") + b"\x93.", "names torch._utils.os.system"),
    "torch.load": (b"\x80\x02ctorch\nload\n" + text("x.pt") + b"\x85R.", "names torch.load"),
    "inst": (b"\x80\x02(" + text("true") + b"ios\nsystem\n.", "the operation b'i'"),
    "obj": (b"\x80\x02(cos\nsystem\n" + text("true") + b"o.", "names os.system"),
    "obj alone": (b"\x80\x02(ccollections\nOrderedDict\no.", "the operation b'o'"),
    "newobj": (b"\x80\x02ccollections\nOrderedDict\n)\x81.", r"the operation b'\\x81'"),
    "newobj_ex": (b"\x80\x04ccollections\nOrderedDict\n)}\x92.", r"the operation b'\\x92'"),
    "ext1": (b"\x80\x02\x82\x01.", r"the operation b'\\x82'"),
    "ext2": (b"\x80\x02\x83\x01\0.", r"the operation b'\\x83'"),
    "ext4": (b"\x80\x02\x84\x01\0\0\0.", r"the operation b'\\x84'"),
    "persid": (b"\x80\x02Pstorage\n.", "the operation b'P'"),
    "buffers": (b"\x80\x05\x97.", r"the operation b'\\x97'"),
    "build of a tensor": (named(tensor(storage()) + b"}b"), "adds to a dict that is none"),
    "build of a name": (b"\x80\x02ccollections\nOrderedDict\n}b.", "adds to a dict that is none"),
    "reduce of a class": (b"\x80\x02ctorch\nFloatStorage\n)R.", "calls what is no function of a state_dict"),
    "reduce of a dictionary": (b"\x80\x02})R.", "calls what is no function of a state_dict"),
    "reduce of a list": (b"\x80\x02ccollections\nOrderedDict\n]R.", "calls what is no function of a state_dict"),
    "an OrderedDict of something": (b"\x80\x02ccollections\nOrderedDict\n]\x85R.", "an OrderedDict with arguments"),
    "a storage of another kind": (named(tensor(storage(kind=b"cos\nsystem\n"))), "names os.system"),
    "a function as a storage": (named(tensor(storage(kind=b"ccollections\nOrderedDict\n"))), "a persistent id that is no"),
    "a storage's id of text": (b"\x80\x02" + text("storage") + b"Q.", "a persistent id that is no storage's"),
    "a module's id": (b"\x80\x02(" + text("module") + b"NNNtQ.", "a persistent id that is no storage's"),
    "a negative count": (named(tensor(storage(b"J\xff\xff\xff\xff"))), "a persistent id that is no storage's"),
    "a key with a path": (named(tensor(storage(key=text("../../data.pkl")))), "got none where the 4 numbers"),
    "another count": (named(tensor(storage(b"K\x05"))), "60 bytes where the 5 numbers of tensor '0.weight'"),
    "beyond the storage": (named(tensor(storage(b"K\x0f"), b"K\x0c")), "reaches beyond its storage of 15 numbers"),
    "strides beyond": (named(tensor(storage(b"K\x0f"), strides=b"K\x05\x85")), "reaches beyond its storage of 15 numbers"),
    "huge strides": (named(tensor(storage(b"K\x0f"), strides=b"\x8a\x08" + b"\xff" * 7 + b"\x7f\x85")), "no such numbers"),
    "a negative stride": (named(tensor(storage(b"K\x0f"), b"K\x05", strides=b"J\xff\xff\xff\xff\x85")), "no such numbers"),
    "a negative offset": (named(tensor(storage(b"K\x0f"), b"J\xff\xff\xff\xff")), "no such numbers"),
    "a negative length": (named(tensor(storage(b"K\x0f"), shape=b"J\xff\xff\xff\xff\x85")), "no such numbers"),
    "expanded": (named(tensor(storage(b"K\x0f"), shape=b"J\0\0\0\x40K\1\x86", strides=b"K\0K\1\x86")), "lie over one another"),
    "a length of True": (named(tensor(storage(b"K\x0f"), shape=b"\x88\x85")), "no such numbers"),
    "many dimensions": (named(tensor(storage(b"K\x0f"), shape=b"(" + b"K\1" * 99 + b"t")), "no such numbers"),
    "other strides": (named(tensor(storage(b"K\x0f"), strides=b")")), "no such numbers"),
    "no storage": (named(tensor(b"N")), "made of something else"),
    "few arguments": (named(TENSOR + b"K\1\x85R"), "with 1 arguments"),
    "a Parameter of nothing": (named(b"ctorch._utils\n_rebuild_parameter\nN\x88)\x87R"), "a Parameter that is made of"),
    "integers": (
        named(tensor(storage(b"K\x0f", b"ctorch\nIntStorage\n"), shape=b"K\3K\5\x86", strides=b"K\5K\1\x86")),
        "no real numbers",
    ),
    "long text": (b"\x80\x04\x8d" + b"\xff" * 8 + b"abc.", "ends early"),
    "long bytes": (b"\x80\x04B\xff\xff\xff\xffabc.", "ends early"),
    "a long integer": (b"\x80\x02\x8b\xff\xff\xff\x7f.", r"the operation b'\\x8b'"),
    "lines": (b"\x80\x02I" + b"9" * 10_000 + b"\n.", "the operation b'I'"),
    "a name without an end": (b"\x80\x02c" + b"a" * 10_000, "a name that does not end"),
    "doubled tuples": (b"\x80\x02)" + b"q\0h\0\x86" * 100_000 + b".", "more than 2.... operations"),
    "nested tuples": (b"\x80\x02)" + b"\x85" * 10_000 + b".", "something else than a mapping"),
    "nested lists": (b"\x80\x02" + b"]" * 9_000 + b"a" * 8_999 + b".", "something else than a mapping"),
    "marks": (b"\x80\x02" + b"(" * 10**6, "more than 2.... operations"),
    "memo": (b"\x80\x02" + b"}r\xff\xff\xff\xff" * 10**5, "more than 2.... operations"),
    "no memo": (b"\x80\x02h\0.", "what it has not noted"),
    "nothing to note": (b"\x80\x02q\0.", "notes what is not there"),
    "an empty stack": (b"\x80\x02.", "does not end where it should"),
    "two on the stack": (b"\x80\x02}}.", "does not end where it should"),
    "more behind": (b"\x80\x02}.}", "does not end where it should"),
    "below the mark": (b"\x80\x02}(R.", "takes what is not there"),
    "no mark": (b"\x80\x02}u.", "no mark where it needs one"),
    "a tuple as a key": (b"\x80\x02})Ns.", "neither text nor integers"),
    "an odd item": (b"\x80\x02}(K\1u.", "neither text nor integers"),
    "a list that is none": (b"\x80\x02}Na.", "adds to a list that is none"),
    "itself": (b"\x80\x02}q\0" + text("a") + b"h\0s.", "none as mappings of tensors"),
    "protocol 9": (b"\x80\x09}.", "protocol 9"),
    "no operation": (b"\x80\x02\xff.", r"the operation b'\\xff'"),
    "our own reduce": (pickle.dumps(Reduced(), 2), "names .*_ran"),
    "our own newobj": (pickle.dumps(Stateful(), 2), "names .*Stateful"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused, runs nothing, and allocates no more than twice its size and 4 MB."""
    data, message = HOSTILE[name]

    def forbidden(*arguments: Any, **settings: Any) -> Any:
        raise AssertionError("a pickle was run")

    for place in ("load", "loads", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, place, forbidden)
    monkeypatch.setattr("os.system", forbidden)
    RAN.clear()
    path = with_pickle(tmp_path / "net.pt", data)
    tracemalloc.start()
    try:
        refuses(path, message)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not RAN
    assert peak < 2 * path.stat().st_size + 4 * 2**20


def test_the_hostile_pickles_would_run() -> None:
    """What pickle does with two of them."""
    RAN.clear()
    pickle.loads(HOSTILE["our own reduce"][0])
    pickle.loads(HOSTILE["our own newobj"][0])
    assert RAN == ["ran", "ran"]


def test_the_machine_makes_what_pickle_makes() -> None:
    """Of all that it knows but names and tensors; text as bytes."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {plain(key): plain(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(map(plain, value))
        return value.encode() if isinstance(value, str) else value

    value = {
        "a": [1, -1, 255, 256, 65536, 2**31, -(2**40), 1.5, None, True, False],
        "é": ((), (1,), (1, 2), (1, 2, 3), (1,) * 4),
    }
    value |= {
        5: {},
        "b": [[]],
        "c": list(range(3000)),
        "d": dict.fromkeys(range(3000), "x"),
        "e": "y" * 70_000,
        "f": OrderedDict(),
    }
    for protocol in range(2, 6):
        assert Machine(pickle.dumps(value, protocol), 10**5).run() == plain(value)
    assert Machine(pickle.dumps([b"bytes", bytearray(3), 2**99][::2], 4), 100).run() == [None, None]
    opcodes = {code.code.encode("latin-1") for code, _, _ in pickletools.genops(entries("protocol4")["protocol4/data.pkl"])}
    assert b"\x93" in opcodes


def test_tied_tensors(tmp_path: Path) -> None:
    """Two small layers may share their numbers; no file makes a net that is larger than itself."""
    one = tensor(storage(b"K\x0f"), shape=b"K\3K\3\x86", strides=b"K\3K\1\x86")
    path = with_pickle(tmp_path / "net.pt", b"\x80\x02}(" + text("0.weight") + one + text("1.weight") + one + b"u.")
    model = from_torch(path, "relu")
    np.testing.assert_array_equal(*model.weights)
    side = 300
    numbers = np.ones((side, side), "f4")
    count, length = b"J" + struct.pack("<i", side * side), b"M" + struct.pack("<H", side)
    large = tensor(storage(count), shape=length * 2 + b"\x86", strides=length + b"K\1\x86")
    many = b"\x80\x02}(" + b"".join(text(f"{i}.weight") + large for i in range(3)) + b"u."
    zipped(path, {"net/data.pkl": many, "net/data/0": numbers.tobytes()})
    with pytest.raises(ValueError, match=r"tensors of 1080000 bytes, more than the 36.... bytes of the file"):
        from_torch(path, "relu")


def test_a_large_file_is_read_once(tmp_path: Path) -> None:
    """The file's numbers and the model's are all that lies in memory."""
    side = 1000
    numbers = np.random.default_rng(0).standard_normal((side, side)).astype("f4")
    count, length = b"J" + struct.pack("<i", side * side), b"M" + struct.pack("<H", side)
    one = tensor(storage(count), shape=length * 2 + b"\x86", strides=length + b"K\1\x86")
    path = zipped(tmp_path / "net.pt", {"net/data.pkl": named(one), "net/data/0": numbers.tobytes()})
    tracemalloc.start()
    try:
        model = from_torch(path, "relu")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(model.weights[0], numbers.T)
    assert peak < 2 * path.stat().st_size + 4 * 2**20


def test_a_file_of_64_bits(tmp_path: Path) -> None:
    """As zipfile writes large ones: sizes and offsets in a field of their own."""
    path = tmp_path / "net.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries().items():
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(data)
    np.testing.assert_array_equal(read(path).params, read(DATA / "state_dict.pt").params)


def test_the_archive_reads_what_zipfile_reads() -> None:
    for name in CASES:
        with Archive(DATA / f"{name}.pt", pt.WHAT) as archive:
            assert {one: archive.read(one) for one in archive.entries} == entries(name)


def test_a_stream_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"source must be an nn\.Sequential, a state_dict or a path, got BytesIO"):
        from_torch(io.BytesIO(), "relu")  # type: ignore[arg-type]
