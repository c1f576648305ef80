"""Keras's files: what comes in, and what is refused. No Keras is needed."""

from __future__ import annotations

import io
import json
import re
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import Model, from_keras
from fastmlp.interchange import hdf5

DATA = Path(__file__).parent / "data" / "keras"
EXPECTED: dict[str, np.ndarray] = {}
for _path in sorted(DATA.glob("*.npz")):
    EXPECTED |= np.load(_path)
FILES = sorted(EXPECTED.keys() - {"X"})
PLAIN = DATA / "plain-float32-3.15.keras"


@pytest.mark.parametrize("name", FILES)
def test_a_file(name: str) -> None:
    model = from_keras(DATA / f"{name}.keras")
    dtype = name.split("-")[1]
    assert model.dtype == dtype
    want = EXPECTED[name]
    # Keras with PyTorch multiplies matrices of float64 in float32; the bits of what is read are compared below.
    np.testing.assert_allclose(model.predict(EXPECTED["X"]), want, rtol=0, atol=1e-6 * max(1, np.abs(want).max()))
    assert model.dropout == ((0.25,) if name.startswith("named") else (0.0,) * (len(model.sizes) - 2))


def test_every_file_has_its_outputs() -> None:
    assert {path.stem for path in DATA.glob("*.keras")} == set(FILES)


def test_the_loss() -> None:
    assert from_keras(DATA / "named-float32-3.15.keras").loss_name == "cross_entropy"
    assert from_keras(DATA / "normalized-float32-3.15.keras").loss_name == "bce"
    plain = from_keras(PLAIN)
    assert (plain.loss_name, plain.activations[-1]) == ("mse", "identity")
    logits = from_keras(PLAIN, loss="cross_entropy", dropout=0.5)
    assert (logits.loss_name, logits.activations[-1], logits.dropout) == ("cross_entropy", "softmax", (0.5,))
    powers = np.exp(plain.predict(EXPECTED["X"]))
    np.testing.assert_allclose(logits.predict(EXPECTED["X"]), powers / powers.sum(axis=1, keepdims=True), rtol=1e-5)


# ---- files that are refused ------------------------------------------------------------------------------------------


def entries(path: Path = PLAIN) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def changed(path: Path, method: int = zipfile.ZIP_STORED, **data: Any) -> Path:
    """The plain file, with another config or other weights."""
    parts = entries()
    if "config" in data:
        config = data["config"]
        parts["config.json"] = config if isinstance(config, bytes) else json.dumps(config).encode()
    if "weights" in data:
        parts["model.weights.h5"] = data["weights"]
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def refuses(path: Path, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(repr(str(path)))} must be a file that Keras 3 wrote.*{message}"):
        from_keras(path)


def settings(*layers: dict[str, Any]) -> dict[str, Any]:
    return {"module": "keras", "class_name": "Sequential", "config": {"layers": list(layers)}, "registered_name": None}


def layer(kind: str, module: str = "keras.layers", registered: str | None = None, **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": kind, "config": {"name": "it", **config}, "registered_name": registered}


FIRST, LAST = layer("Dense", units=4, activation="tanh"), layer("Dense", units=2, activation="linear")
RELU: dict[str, Any] = {"max_value": None, "negative_slope": 0.0, "threshold": 0.0}
DEEP = settings(FIRST, LAST)
for _ in range(10):
    DEEP = settings(DEEP)

NESTED: list[Any] = []
for _ in range(500):
    NESTED = [NESTED]
CONFIGS: dict[str, tuple[Any, str]] = {
    "Lambda": (settings(FIRST, layer("Lambda", function="..."), LAST), "a layer Lambda 'it'"),
    "a custom layer": (
        settings(layer("Dense", "builtins", "Custom>Dense", units=4)),
        "builtins.Dense, which is not Keras's own",
    ),
    "a registered name": (
        settings(layer("Dense", registered="mine>Dense", units=4)),
        "keras.layers.Dense, which is not Keras's",
    ),
    "another module": (settings(layer("system", "os", command="true")), "a layer os.system, which is not Keras's own"),
    "BatchNormalization": (settings(FIRST, layer("BatchNormalization"), LAST), "a layer BatchNormalization 'it'"),
    "a Functional": (layer("Functional", "keras.src.models.functional"), "Functional, which is not"),
    "a Model": (layer("Functional", "keras"), "a Functional, where a Sequential is read"),
    "an activation": (settings(layer("Dense", units=4, activation="log_softmax"), LAST), "with activation='log_softmax'"),
    "leaky_relu": (settings(layer("Dense", units=4, activation="leaky_relu"), LAST), "with activation='leaky_relu'"),
    "a function": (
        settings(layer("Dense", units=4, activation={"class_name": "function", "config": "f", "module": "m"})),
        "no layer",
    ),
    "LeakyReLU": (settings(FIRST, layer("LeakyReLU", negative_slope=0.3), LAST), r"LeakyReLU 'it' with negative_slope=0\.3"),
    "LeakyReLU of Keras 2": (settings(FIRST, layer("LeakyReLU", alpha=0.3), LAST), "LeakyReLU 'it' with negative_slope=None"),
    "a nested name": (settings({**LAST, "class_name": "Other", "config": {"name": NESTED}}), "a layer Other a list"),
    "nested units": (settings(layer("Dense", units=NESTED)), "units=a list"),
    "an activation's layer": (settings(layer("Dense", units=4, activation=layer("PReLU")), LAST), "with an activation 'PReLU'"),
    "two activations": (settings(FIRST, layer("ReLU", **RELU), LAST), "ReLU 'it' behind another activation, 'tanh'"),
    "an activation first": (settings(layer("ReLU", **RELU), FIRST, LAST), "ReLU 'it' before the first dense layer"),
    "dropout first": (
        settings(layer("Dropout", rate=0.5), FIRST, LAST),
        "before the first dense layer. Give dropout, such as 0.0",
    ),
    "dropout last": (settings(FIRST, LAST, layer("Dropout", rate=0.5)), "dropout behind the last dense layer"),
    "dropout twice": (settings(FIRST, layer("Dropout", rate=0.5), layer("Dropout", rate=0.5), LAST), "behind another dropout"),
    "a rate of text": (
        settings(FIRST, layer("Dropout", rate="half"), LAST),
        r"Dropout 'it' of rate='half'",
    ),
    "a rate of 1": (settings(FIRST, layer("Dropout", rate=1), LAST), "Dropout 'it' of rate=1 and"),
    "a noise's shape": (settings(FIRST, layer("Dropout", rate=0.5, noise_shape=[1, 4]), LAST), "noise_shape=a list"),
    "LoRA": (settings(layer("Dense", units=4, lora_rank=2), LAST), "Dense 'it', quantized or adapted by LoRA"),
    "quantized": (settings(layer("Dense", units=4, quantization_config={}), LAST), "Dense 'it', quantized or adapted by LoRA"),
    "other units": (
        settings(layer("Dense", units=5, activation="tanh"), LAST),
        r"of 5 units with arrays of shapes \(3, 4\), \(4,\)",
    ),
    "units of text": (settings(layer("Dense", units="4")), "of units='4' and use_bias=True"),
    "more layers": (settings(FIRST, LAST, LAST), "weights without a group 'layers/dense_2/vars'"),
    "another order": (settings(FIRST, FIRST), r"of 4 units with arrays of shapes \(4, 2\), \(2,\)"),
    "no layers": (settings(), "no dense layer"),
    "layers of text": ({**settings(), "config": {"layers": "Dense"}}, "a Sequential without layers"),
    "Normalization behind": (
        settings(FIRST, layer("Normalization", axis=[-1]), LAST),
        "Normalization 'it' behind another layer",
    ),
    "Normalization of numbers": (settings(layer("Normalization", axis=[-1], mean=3.0), FIRST, LAST), "with other settings"),
    "deep": (DEEP, "too deep in others"),
    "no settings": ({"a": 1}, "settings that are no layer's"),
    "a number": (3, "settings that are no layer's"),
    "no JSON": (b"{", "not JSON"),
    "no text": (b"\xff\xfe", "not JSON"),
    "nested JSON": (b"[" * 100_000, "not JSON"),
    "long JSON": (b"[" + b"{}," * 10**6 + b"1]", "a 'config.json' of 3000003 bytes"),
    "long numbers": (b"1" * 100_000, "not JSON"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_refused(name: str, tmp_path: Path) -> None:
    config, message = CONFIGS[name]
    refuses(changed(tmp_path / "net.keras", config=config), message)


def test_other_files_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    path.write_bytes(entries()["model.weights.h5"])  # as a whole model in .h5
    refuses(path, "no zip archive")
    refuses(changed(path, zipfile.ZIP_DEFLATED), "a compressed entry")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", b"{}")
    refuses(path, r"a zip archive without 'model\.weights\.h5'")
    with pytest.raises(TypeError, match=r"source must be a keras\.Sequential or a path, got int"):
        from_keras(3)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        from_keras(tmp_path / "none.keras")


# ---- HDF5 ------------------------------------------------------------------------------------------------------------

ARRAYS = {
    "layers/dense/vars/0": np.arange(12, dtype="f4").reshape(3, 4),
    "layers/dense/vars/1": np.arange(4, dtype="f4"),
    "layers/dense_1/vars/0": np.arange(8, dtype="f4").reshape(4, 2),
    "layers/dense_1/vars/1": np.arange(2, dtype="f4"),
}


def written(change: Callable[[Any], None] | None = None, **options: Any) -> bytes:
    """The weights of a plain net as h5py writes them."""
    h5py = pytest.importorskip("h5py")
    memory = io.BytesIO()
    with h5py.File(memory, "w", **options) as file:
        for name, array in ARRAYS.items():
            file[name] = array
        if change is not None:
            change(file)
    return memory.getvalue()


def replaced(file: Any, **options: Any) -> None:
    array = file["layers/dense/vars/0"][...]
    del file["layers/dense/vars/0"]
    if array.shape and options:
        file.create_dataset("layers/dense/vars/0", **{"data": array, **options})


def linked(file: Any, link: Any) -> None:
    del file["layers/dense/vars/0"]
    file["layers/dense/vars/0"] = link


def virtual(file: Any) -> None:
    import h5py

    layout = h5py.VirtualLayout((3, 4), "f4")
    layout[...] = h5py.VirtualSource("other.h5", "data", (3, 4))
    del file["layers/dense/vars/0"]
    file.create_virtual_dataset("layers/dense/vars/0", layout)


def typed(file: Any) -> None:
    file["type"] = np.dtype("f4")
    replaced(file, dtype=file["type"])


def external(file: Any) -> None:
    del file["layers/dense/vars/0"]
    file.create_dataset("layers/dense/vars/0", (3, 4), "f4", external=[("/etc/passwd", 0, 48)])


WEIGHTS: dict[str, tuple[Callable[[Any], None] | None, dict[str, Any], str]] = {
    "a soft link": (lambda file: linked(file, __import__("h5py").SoftLink("/layers/dense/vars/1")), {}, "a link '0'"),
    "an external link": (
        lambda file: linked(file, __import__("h5py").ExternalLink("a.h5", "/b")),
        {},
        "links of a newer|a link",
    ),
    "a missing array": (replaced, {}, "weights without 'layers/dense/vars/0'"),
    "a missing group": (lambda file: file.pop("layers/dense_1"), {}, "weights without a group 'layers/dense_1/vars'"),
    "a filter": (lambda file: replaced(file, compression="gzip"), {}, "a filter"),
    "chunks": (lambda file: replaced(file, chunks=(1, 4)), {}, "chunked, compact, virtual"),
    "resizable": (lambda file: replaced(file, maxshape=(None, 4)), {}, "chunked, compact, virtual"),
    "virtual": (virtual, {}, "chunked, compact, virtual|links of a newer|what is not read|no HDF5 file of version 0"),
    "external storage": (external, {}, "external storage"),
    "a named type": (typed, {}, "what is not read"),
    "big-endian": (lambda file: replaced(file, dtype=">f4"), {}, "another dtype"),
    "integers": (lambda file: replaced(file, dtype="i4"), {}, "another dtype"),
    "text": (lambda file: replaced(file, data="text"), {}, "another dtype"),
    "a scalar": (lambda file: replaced(file, data=np.float32(3)), {}, r"of 4 units with arrays of shapes \(\), \(4,\)"),
    "another shape": (lambda file: replaced(file, data=np.ones((3, 5), "f4")), {}, r"shapes \(3, 5\), \(4,\)"),
    "no numbers": (lambda file: replaced(file, data=np.ones((0, 4), "f4")), {}, "with 0 inputs and 4 outputs|in 0 bytes"),
    "a newer format": (None, {"libver": "latest"}, "no HDF5 file of version 0"),
    "a group": (lambda file: (replaced(file), file.create_group("layers/dense/vars/0")), {}, "no array"),
    "a user's block": (None, {"userblock_size": 512}, "no HDF5 file of version 0"),
    "an array as a group": (
        lambda file: (file.pop("layers/dense/vars"), file.create_dataset("layers/dense/vars", data=1.0)),
        {},
        "a group of another format",
    ),
    "ordered": (None, {"track_order": True}, "a newer format|another format"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_refused(name: str, tmp_path: Path) -> None:
    change, options, message = WEIGHTS[name]
    refuses(changed(tmp_path / "net.keras", weights=written(change, **options)), message)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_weights_of_h5py(dtype: str, tmp_path: Path) -> None:
    def cast(file: Any) -> None:
        for name, array in ARRAYS.items():
            del file[name]
            file[name] = array.astype(dtype)

    model = from_keras(changed(tmp_path / "net.keras", weights=written(cast)))
    assert model.dtype == ("float64" if dtype == "float64" else "float32")
    np.testing.assert_array_equal(model.weights[0], ARRAYS["layers/dense/vars/0"])
    np.testing.assert_array_equal(model.biases[1][0], ARRAYS["layers/dense_1/vars/1"])


def test_all_that_h5py_reads() -> None:
    """Groups with many members, which lie in trees of several levels, and each array's numbers."""
    h5py = pytest.importorskip("h5py")
    memory = io.BytesIO()
    rng = np.random.default_rng(0)
    arrays = {str(i): rng.standard_normal((2, i % 5 + 1)).astype(["f4", "f8"][i % 2]) for i in range(1000)}
    with h5py.File(memory, "w") as file:
        for name, array in arrays.items():
            file[f"a/{name}"] = array
        file["a"].attrs["text"] = "words"
    read = hdf5.File(memory.getvalue())
    members = read.group(("a",))
    assert members.keys() == arrays.keys()
    for name, at in members.items():
        np.testing.assert_array_equal(read.numbers(read.array(at, name)), arrays[name])


@pytest.mark.parametrize(
    ("means", "variances", "message"),
    [
        (np.zeros(2), np.ones(2), "Dense 'it' of 3 inputs behind a Normalization of 2"),
        (np.zeros(3), np.ones(2), r"Normalization 'it' with arrays of shapes \(3,\) and \(2,\)"),
        (np.zeros((1, 3)), np.ones((1, 3)), r"with arrays of shapes \(1, 3\) and"),
    ],
)
def test_a_normalization_refused(means: np.ndarray, variances: np.ndarray, message: str, tmp_path: Path) -> None:
    def scaled(file: Any) -> None:
        file["layers/normalization/vars/0"], file["layers/normalization/vars/1"] = means, variances

    config = settings(layer("Normalization", axis=[-1]), FIRST, LAST)
    refuses(changed(tmp_path / "net.keras", weights=written(scaled), config=config), message)


def nowhere(data: bytearray, at: int, form: str, value: int) -> None:
    struct.pack_into(form, data, at, value)


def second_name(data: bytearray) -> None:
    """The first two members of a group have one name."""
    at = data.index(b"SNOD")
    data[at + 48 : at + 56] = data[at + 8 : at + 16]


def ring(data: bytearray) -> None:
    """A tree is its own child."""
    at = data.index(b"TREE")
    struct.pack_into("<Q", data, at + 32, at)


def shape_at(data: bytearray) -> int:
    return data.index(struct.pack("<2Q", 3, 4)) - 8


DAMAGED: dict[str, tuple[Callable[[bytearray], None], str]] = {
    "a base": (lambda data: nowhere(data, 24, "<Q", 512), "of another length than it says"),
    "a length": (lambda data: nowhere(data, 40, "<Q", 512), "of another length than it says"),
    "a driver": (lambda data: nowhere(data, 48, "<Q", 96), "of another length than it says, or with other files"),
    "a root": (lambda data: nowhere(data, 64, "<Q", 2**64 - 1), "points beyond its end"),
    "a version": (lambda data: nowhere(data, 8, "<B", 2), "no HDF5 file of version 0"),
    "an object's version": (lambda data: nowhere(data, 96, "<B", 2), "an object of another format"),
    "many messages": (lambda data: nowhere(data, 98, "<H", 60_000), "an object of another format"),
    "a message's length": (lambda data: nowhere(data, 114, "<H", 65_535), "a message that does not fit into its header"),
    "a message's kind": (lambda data: nowhere(data, 112, "<H", 99), "what is not read"),
    "a shape's version": (lambda data: nowhere(data, shape_at(data), "<B", 9), "a shape that is none"),
    "a rank": (lambda data: nowhere(data, shape_at(data) + 1, "<B", 200), "a shape that is none"),
    "no names": (lambda data: nowhere(data, data.index(b"HEAP"), "<I", 0), "a group that has no names"),
    "no members": (lambda data: nowhere(data, data.index(b"SNOD"), "<I", 0), "a group that has no members"),
    "a name's place": (lambda data: nowhere(data, data.index(b"SNOD") + 8, "<Q", 2**40), "a name that does not end"),
    "a name twice": (second_name, "' twice"),
    "a ring": (ring, "more than 10000 objects"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_weights(name: str, tmp_path: Path) -> None:
    change, message = DAMAGED[name]
    weights = bytearray(entries()["model.weights.h5"])
    change(weights)
    refuses(changed(tmp_path / "net.keras", weights=bytes(weights)), message)


def test_arrays_of_one_place_refused(tmp_path: Path) -> None:
    """Many layers of the same numbers would be larger than the file."""
    import_h5py = pytest.importorskip("h5py")
    side, count = 200, 12

    def fill(file: Any) -> None:
        del file["layers"]
        file["w"], file["b"] = np.ones((side, side), "f4"), np.ones(side, "f4")
        for i in range(count):
            file[f"layers/dense{f'_{i}' if i else ''}/vars/0"] = file["w"]
            file[f"layers/dense{f'_{i}' if i else ''}/vars/1"] = file["b"]

    assert import_h5py
    many = settings(*[layer("Dense", units=side)] * count)
    refuses(changed(tmp_path / "net.keras", weights=written(fill), config=many), "arrays of 320800 bytes in")


def test_a_large_file_is_read_once(tmp_path: Path) -> None:
    side = 1000

    def fill(file: Any) -> None:
        del file["layers"]
        file["layers/dense/vars/0"], file["layers/dense/vars/1"] = np.ones((side, side), "f4"), np.ones(side, "f4")

    path = changed(tmp_path / "net.keras", weights=written(fill), config=settings(layer("Dense", units=side)))
    tracemalloc.start()
    try:
        assert from_keras(path).sizes == (side, side)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * path.stat().st_size + 4 * 2**20


def test_a_shape_beyond_the_file(tmp_path: Path) -> None:
    """Whatever an array's header says, nothing is allocated for it."""
    weights = bytearray(entries()["model.weights.h5"])
    at = weights.index(struct.pack("<2Q", 3, 4))
    struct.pack_into("<Q", weights, at, 2**40)
    tracemalloc.start()
    try:
        refuses(changed(tmp_path / "net.keras", weights=bytes(weights)), "of shape")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_a_model_is_returned() -> None:
    assert type(from_keras(str(PLAIN))) is Model
