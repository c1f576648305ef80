"""Damaged and hostile files: each is refused with one ValueError that names it, or it is a model; and takes little memory."""

from __future__ import annotations

import json
import os
import random
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import safetensors
from damage import damaged, parts, sealed, whole
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

import fastmlp
from fastmlp import MLPClassifier, MLPRegressor, Model, schedules
from fastmlp.files import description
from fastmlp.files.safetensors import DTYPES, SIZES, Reader, write

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

THOROUGH = float(os.environ.get("FASTMLP_THOROUGH") or 0)
ROOM = 2_000_000  # bytes beyond twice the file
X = np.random.default_rng(0).standard_normal((30, 3))
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
SQUARE = fastmlp.CustomActivation("square", lambda z: z * z, lambda z: z + z)


def _files(folder: Path) -> dict[str, bytes]:
    """A file of each kind, as bytes."""
    frame = pandas.DataFrame(X, columns=["a", "b", "\u00e9"])
    model = Model([3, 4, 3], "tanh", "cross_entropy", "float32", rng=0, dropout=0.25)
    model.fit(X, Y, optimizer=fastmlp.Adam(0.01, ema=0.5))
    made = {
        "model": model,
        "custom": Model([3, 2, 1], [SQUARE, "identity"], rng=0),
        "classifier": MLPClassifier(
            (4,), class_weight={"a": 1.0, "bb": 2.0, "c": 1.0}, random_state=np.random.RandomState(0), max_iter=2
        ).fit(frame, np.array(["a", "bb", "c"])[Y]),
        "regressor": MLPRegressor(
            "poisson", (3, 2), solver=fastmlp.Lion(schedules.ReduceOnPlateau(0.01)), early_stopping=True, max_iter=3
        ).fit(X, Y),
    }
    for name, one in made.items():
        one.save(folder / name, optimizer=True)
    return {name: (folder / name).read_bytes() for name in made}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return _files(tmp_path_factory.mktemp("good"))


def _load(path: Path, data: bytes) -> Any:
    """What the file is loaded as; None if it is refused as it should be."""
    path.write_bytes(data)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    try:
        found = fastmlp.load(path, custom=[SQUARE])
    except ValueError as error:
        found, said = None, str(error)
    assert found is not None or said.startswith(f"{path} cannot be read: ")
    assert tracemalloc.get_traced_memory()[1] - before < 2 * len(data) + ROOM
    return found


def _usable(found: Any, path: Path) -> None:
    """What is loaded can be used, and is written and read again as the same."""
    X = np.zeros((2, found.sizes[0] if isinstance(found, Model) else found.n_features_in_))
    with np.errstate(all="ignore"):
        model = found if isinstance(found, Model) else found.model_
        model.predict(X)
    found.save(path, optimizer=True)
    again = fastmlp.load(path, custom=[SQUARE])
    _same(again, found)


def _same(one: Any, other: Any) -> None:
    one, other = (found if isinstance(found, Model) else found.model_ for found in (one, other))
    assert one.network == other.network
    assert one.params.tobytes() == other.params.tobytes()


def _refused_by_the_package(data: bytes) -> bool:
    try:
        safetensors.deserialize(data)
    except safetensors.SafetensorError:
        return True
    return False


def _read(path: Path) -> bool:
    """Whether the layout is right."""
    try:
        with Reader(path):
            return True
    except ValueError:
        return False


def _try(path: Path, good: dict[str, bytes], seed: int) -> bool:
    """Whether a damaged file was loaded."""
    rng = random.Random(seed)
    original = good[rng.choice(list(good))]
    data = damaged(rng, original)
    found = _load(path, data)
    if found is not None and data != original and b'"crc32"' in data:
        _load(path, original)
        _same(found, fastmlp.load(path, custom=[SQUARE]))  # what was struck says nothing
    data = sealed(data)
    found = _load(path, data)
    if _refused_by_the_package(data):
        assert found is None, "the package refuses it"
        assert not _read(path), "the package refuses its layout"
    if found is not None:
        _usable(found, path)
    return found is not None


@pytest.mark.parametrize("count", [250, pytest.param(10_000 if THOROUGH else 600, marks=pytest.mark.slow)])
def test_damaged_files(tmp_path: Path, good: dict[str, bytes], count: int) -> None:
    tracemalloc.start()
    try:
        loaded = 0
        for seed in range(count):
            loaded += _try(tmp_path / "damaged", good, seed)
        began, seed = time.monotonic(), random.randrange(2**40)
        while count > 250 and time.monotonic() - began < THOROUGH:
            seed += 1
            try:
                loaded += _try(tmp_path / "damaged", good, seed)
            except BaseException:
                print(f"seed {seed}")
                raise
            count += 1
        print(f"{count} files, {loaded} of them loaded")
    finally:
        tracemalloc.stop()
    assert count / 100 < loaded < count / 2


def test_files_that_end_early(tmp_path: Path, good: dict[str, bytes]) -> None:
    tracemalloc.start()
    try:
        for data, step in ((good["model"], 1), (good["classifier"], 7)):
            header = len(parts(data)[0]) + 8
            for size in (*range(0, header + 1, step), *np.linspace(header + 1, len(data) - 1, 100).astype(int).tolist()):
                assert _load(tmp_path / "cut", data[:size]) is None
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("sizes", [[3, 4, 3], [1100, 1000, 1]])  # the larger one is added up by a thread
def test_each_bit_counts(tmp_path: Path, sizes: list[int]) -> None:
    path = tmp_path / "model"
    Model(sizes, rng=0).save(path)
    data = path.read_bytes()
    at = data.index(b"crc32") + len('crc32":"')
    places = set(np.random.default_rng(0).integers(8, len(data), 60).tolist()) | {at, at + 7, len(data) - 1}
    for place in places - set(range(at - 8, at)):  # another name is no checksum
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(ValueError, match="cannot be read"):
            fastmlp.load(path)
    path.write_bytes(data)
    fastmlp.load(path)


def test_a_file_without_a_checksum_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model"
    Model([3, 4, 3], rng=0).save(path)
    header, body = parts(path.read_bytes())
    outer = json.loads(header)
    del outer["__metadata__"]["crc32"]
    path.write_bytes(whole(json.dumps(outer).encode(), body))
    assert fastmlp.load(path).sizes == (3, 4, 3)


def test_a_file_that_ends_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model"
    Model([30, 30], rng=0).save(path)
    whole = description.read

    def and_cut(found: Any) -> Any:
        os.truncate(path, 4000)
        return whole(found)

    monkeypatch.setattr(description, "read", and_cut)
    with pytest.raises(ValueError, match=r"model cannot be read: it ends within tensor '0\."):
        fastmlp.load(path)


# ---- what a description says ------------------------------------------------------------------------------------------------


def _described(data: bytes, **changed: Any) -> bytes:
    header, body = parts(data)
    outer = json.loads(header)
    outer["__metadata__"]["fastmlp"] = json.dumps(json.loads(outer["__metadata__"]["fastmlp"]) | changed)
    return whole(json.dumps(outer).encode(), body)


MEMORY = {"kind": "adam", "steps": 1, "averaged": True, "vectors": 3}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"version": 2, "by": "9.0"}, r"it is of version 2 of the format, by fastmlp 9\.0; this fastmlp, .*, reads version 1"),
        ({"kind": "forest"}, "kind must be one of model, checkpoint, estimator"),
        ({"color": "red"}, "description must have .*; got 'color' too"),
        ({"version": True}, "its description must be an object with a version and a kind"),
        ({"network": None}, "description must have a network of type dict, got NoneType"),
        (
            {"optimizer": {"kind": "adam", "steps": -1, "averaged": True, "vectors": 3}},
            "optimizer must have a kind of .* and a number of steps",
        ),
        (
            {"optimizer": {"kind": "adam", "steps": 1, "averaged": True, "vectors": 2**40}},
            "optimizer must have at most 3 vectors",
        ),
        ({"optimizer": None}, "it has a tensor 'optimizer.moments' that its description does not explain"),
    ],
)
def test_what_a_description_may_not_say(tmp_path: Path, good: dict[str, bytes], changed: Any, message: str) -> None:
    path = tmp_path / "model"
    path.write_bytes(_described(good["model"], **changed))
    with pytest.raises(ValueError, match=f"model cannot be read: {message}"):
        fastmlp.load(path)


GENERATOR = {"generator": {"at": 625, "has_normal": False, "normal": 0.0}}


def _with(data: bytes, **changed: Any) -> bytes:
    """The file with other settings."""
    given = json.loads(json.loads(parts(data)[0])["__metadata__"]["fastmlp"])["settings"]
    return _described(data, settings=given | changed)


def _tensor(data: bytes, name: str, kind: str, values: list[int]) -> bytes:
    """The file with the first numbers of a tensor changed."""
    header, body = parts(data)
    start, new = json.loads(header)[name]["data_offsets"][0], np.array(values, kind).tobytes()
    return whole(header, body[:start] + new + body[start + len(new) :])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: _tensor(data, "classes", "<u4", [0x110000]), "tensor 'classes' must hold code points of Unicode"),
        (lambda data: _tensor(data, "features.offsets", "<i8", [2, 1]), "tensor 'features.offsets' must go up to the 4 bytes"),
        (
            lambda data: _tensor(data, "features.offsets", "<i8", [1, 2, 3]),
            "tensor 'features.offsets' must go up to the 4 bytes",
        ),
        (lambda data: _tensor(data, "features", "u1", [0xFF]), "tensor 'features' must hold text in UTF-8"),
        (lambda data: _tensor(data, "class_weight", "u1", list(b"abba")), "class_weight must have different keys"),
        (lambda data: _described(data, features={"kind": "U8"}), "features must be 3 names, one an input, got 4 of uint8"),
        (lambda data: _described(data, targets={"type": "binary", "sparse": False}), "classes must be those of 3 outputs"),
        (lambda data: _described(data, fitted={"n_iter_": -1}), "fitted must have a n_iter_ from 0"),
        (lambda data: _described(data, fitted={"color_": 1}), "fitted must have .*got 'color_' too"),
        (lambda data: _with(data, random_state=GENERATOR), "random_state must be at a word from 0 to 624"),
        (
            lambda data: data.replace(b'\\"alpha\\": 0.0001', b'\\"alpha\\": 10e999'),
            "its description must be JSON: 10e999 is too large a number",
        ),
        (lambda data: data.replace(b'\\"alpha\\": 0.0001', b'\\"alpha\\": -0.001'), "The 'alpha' parameter"),
        (lambda data: data.replace(b'\\"alpha\\"', b'\\"beta_\\"'), "settings must be of .*got 'beta_' too"),
        (
            lambda data: data.replace(b'\\"activation\\": \\"relu\\"', b'\\"activation\\": \\"tanh\\"'),
            "network must have the activations of the settings",
        ),
    ],
)
def test_what_an_estimators_file_may_not_say(tmp_path: Path, good: dict[str, bytes], change: Any, message: str) -> None:
    path = tmp_path / "classifier"
    changed = change(good["classifier"])
    assert changed != good["classifier"]
    path.write_bytes(changed)
    with pytest.raises(ValueError, match=f"classifier cannot be read: {message}"):
        fastmlp.load(path)


def test_what_is_of_the_wrong_type_far_down(tmp_path: Path, good: dict[str, bytes]) -> None:
    rates = {"schedule": {"schedule": {"kind": "Constant", "lr": 0.1}}, "names": [0], "epoch": 1}
    path = tmp_path / "regressor"
    path.write_bytes(_described(good["regressor"], rates=rates))
    with pytest.raises(ValueError, match="regressor cannot be read: names must be one of loss, val_loss, val_score; got 0"):
        fastmlp.load(path, custom=[SQUARE])


def test_a_foreign_file(tmp_path: Path) -> None:
    path = tmp_path / "foreign"
    path.write_bytes(save({"0.weight": np.zeros((3, 2), np.float32)}, {"format": "pt"}))
    with pytest.raises(ValueError, match="foreign cannot be read: its metadata has no 'fastmlp': it may hold tensors, but"):
        fastmlp.load(path)
    path.write_bytes(b"\x80\x04\x95 a pickle, not a file of this kind")
    with pytest.raises(ValueError, match="foreign cannot be read: its first 8 bytes must be the length of a header"):
        fastmlp.load(path)


def test_headers_that_would_fill_the_memory(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        for filler in ("[],", "[[[]]],", '{"a":1},', "1,", '"x",'):
            many = filler * (3_000_000 // len(filler))
            inner = json.dumps('{"version":1,"kind":"model","network":[' + many + "0]}")
            hidden = inner.replace("[", "\\u005b").replace("{", "\\u007b").replace(",", "\\u002c")
            for text in (inner, hidden):
                header = f'{{"__metadata__":{{"fastmlp":{text}}}}}'.encode()
                assert _load(tmp_path / "large", whole(header, b"")) is None
            header = f'{{"__metadata__":{{"fastmlp":""}},"x":[{many}0]}}'.encode()
            assert _load(tmp_path / "large", whole(header, b"")) is None
        for wide in ("\U0001f600", "\\ud83d\\ude00"):
            header = f'{{"__metadata__":{{"fastmlp":"{"x" * 3_000_000}{wide}"}}}}'.encode()
            assert _load(tmp_path / "large", whole(header, b"")) is None
    finally:
        tracemalloc.stop()


# ---- beside the package -----------------------------------------------------------------------------------------------------

NAMED = st.sampled_from(["a", "b", "\u00e9", "__metadata__", ""]) | st.text(max_size=3)
NUMBER = st.integers(-1, 12) | st.sampled_from([2**31, 2**63, 2**64, -(2**63)])
LEAF = st.none() | st.booleans() | NUMBER | st.floats() | st.text(max_size=5) | st.sampled_from([*SIZES, "F8_E4M3", "C64"])
JSON = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMED, inner, max_size=3), max_leaves=8)
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*SIZES]) | LEAF,
        "shape": st.lists(NUMBER | JSON, max_size=3) | st.lists(st.integers(0, 3), max_size=2),
        "data_offsets": st.tuples(st.integers(0, 16), st.integers(0, 16)).map(sorted) | JSON,
    },
    optional={"more": JSON},
)


@given(st.dictionaries(NAMED, ENTRY | JSON, max_size=3) | JSON, st.integers(0, 24), st.sampled_from([b"", b" ", b"\0"]))
@example({"a": {"dtype": "F32", "shape": [2**63, 4, 0], "data_offsets": [0, 0]}}, 0, b"")
@example({"\ud800": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}, 0, b"")
@settings(
    max_examples=20_000 if THOROUGH else 300,
    derandomize=not THOROUGH,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_what_the_package_refuses_is_refused(tmp_path: Path, header: Any, size: int, more: bytes) -> None:
    data = whole(json.dumps(header).encode() + more, bytes(size))
    path = tmp_path / "file"
    path.write_bytes(data)
    if _read(path):
        assert not _refused_by_the_package(data)


ZERO = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
FOUR = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'


@pytest.mark.parametrize(
    ("header", "size", "theirs"),
    [  # the package's own cases of invalid headers and attacks; whether it takes them too
        (f'{{"a":{FOUR}}}', 4, True),
        ("{}", 0, True),
        (f'{{"a":{FOUR}}}   ', 4, True),
        (f'{{"a":{ZERO}}}', 0, True),
        ('{"a":{"dtype":"F32","shape":[2,0],"data_offsets":[0,0]}}', 0, True),
        ('{"a":{"dtype":"I32","shape":[],"data_offsets":[0,4]}}', 4, True),
        (f'{{"__metadata__":{{"a":"b"}},"a":{FOUR}}}', 4, True),
        (f'{{"a":{FOUR}}}', 5, False),  # bytes that no tensor has
        (f'{{"a":{FOUR}}}', 3, False),
        ("", 0, False),
        ("[]", 0, False),
        ('{"a":', 0, False),
        ("\xff", 0, False),
        (f'{{"a":{FOUR},"b":{FOUR}}}', 4, False),  # the same bytes twice
        (f'{{"a":{FOUR.replace("[0,4]", "[0,4,8]")}}}', 4, False),
        (f'{{"a":{FOUR.replace("[0,4]", "[4,8]")}}}', 8, False),  # a hole
        (f'{{"a":{FOUR.replace("[0,4]", "[4,0]")}}}', 4, False),
        (f'{{"a":{FOUR.replace("[1]", "[2]")}}}', 4, False),
        (f'{{"a":{FOUR.replace("[1]", "[18446744073709551615,2]")}}}', 4, False),
        (f'{{"a":{ZERO.replace("[0]", "[9223372036854775808,4,0]")}}}', 0, False),  # a product that does not fit a word
        (f'{{"a":{FOUR.replace("F32", "F33")}}}', 4, False),
        (f'{{"a":{FOUR.replace("[1]", "[1.0]")}}}', 4, False),
        (f'{{"a":{FOUR.replace("[1]", "[true]")}}}', 4, False),
        (f'{{"a":{FOUR.replace("[1]", "[-1]")}}}', 4, False),
        (f'{{"a":{FOUR.replace("[0,4]", "[-0,4]")}}}', 4, False),
        (f'{{"a":{FOUR.replace("[0,4]", "[NaN,4]")}}}', 4, False),
        ('{"__metadata__":{"a":1}}', 0, False),
        ('{"__metadata__":[]}', 0, False),
        ('{"\\ud800":' + ZERO + "}", 0, False),
    ],
)
def test_headers(tmp_path: Path, header: str, size: int, theirs: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(whole(header.encode("latin-1"), bytes(size)))
    assert _read(path) == theirs
    assert _refused_by_the_package(path.read_bytes()) != theirs


@pytest.mark.parametrize(
    ("header", "size"),
    [  # what the package takes, and is refused here: what nobody writes who means well
        (f'{{"a":{FOUR},"a":{FOUR}}}', 4),
        (f' {{"a":{FOUR}}}', 4),
        (f'{{"a":{FOUR[:-1]},"more":1}}}}', 4),
        ('{"__metadata__":null}', 0),
        (f'{{"a":{FOUR.replace("F32", "F8_E4M3").replace("[1]", "[4]")}}}', 4),
    ],
)
def test_what_is_refused_beyond_the_package(tmp_path: Path, header: str, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(whole(header.encode(), bytes(size)))
    assert not _read(path)
    assert not _refused_by_the_package(path.read_bytes())


def _arrays(rng: np.random.Generator) -> dict[str, np.ndarray]:
    shapes = [(), (0,), (1,), (3,), (2, 3), (3, 0, 2), (2, 1, 3), (130, 70)]
    return {f"{kind}{shape}": rng.integers(0, 2, shape).astype(np.dtype(kind)) for kind in DTYPES.values() for shape in shapes}


def test_what_the_package_writes_is_read(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = _arrays(rng)
    path = tmp_path / "file"
    path.write_bytes(save(arrays, {"a": "b", "\u00e9": "\n"}))
    with Reader(path) as reader:
        assert reader.metadata == {"a": "b", "\u00e9": "\n"}
        assert reader.entries.keys() == arrays.keys()
        for name, array in arrays.items():
            read = reader.array(name, array.dtype, array.shape)
            np.testing.assert_array_equal(read, array)
            assert read.dtype == array.dtype
    half = {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}
    path.write_bytes(whole(json.dumps({"a": half}).encode(), bytes(6)))
    with Reader(path) as reader:
        assert reader.entries["a"].shape == (3,)
    with pytest.raises(ValueError, match=r"tensor 'a' must be F32 \[3\], got BF16 \[3\]"), Reader(path) as reader:
        reader.array("a", np.dtype("float32"), (3,))


def test_what_is_written_the_package_reads(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = _arrays(rng)
    arrays |= {f"{name}, transposed": array.T for name, array in arrays.items()}
    arrays |= {f"{name}, of the other order": array.astype(array.dtype.newbyteorder()) for name, array in arrays.items()}
    with open(tmp_path / "file", "wb") as file:
        write(file, arrays, {"a": "b", "\u00e9": "\n"})
    with safetensors.safe_open(tmp_path / "file", "numpy") as opened:
        found = opened.metadata()
        assert len(found.pop("crc32")) == 8
        assert found == {"a": "b", "\u00e9": "\n"}
        assert set(opened.keys()) == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(opened.get_tensor(name), array)
