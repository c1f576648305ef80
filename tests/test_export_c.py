"""Networks as C headers, compiled by the compilers that are here: what they compute, and which of their bits are promised."""

from __future__ import annotations

import ctypes
import os
import pickle
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from itertools import cycle, pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from headers import COMPILERS, NATIVE, STRICT, Library, compile_c, ctype

import fastmlp
from fastmlp import CustomActivation, Model, to_c
from fastmlp.activations import ACTIVATIONS
from fastmlp.interchange.rounding import bounds
from fastmlp.interchange.translate import Translator, literal
from fastmlp.kernels.machine.interpreted import INTERPRETED
from fastmlp.kernels.machine.target import FMA
from fastmlp.kernels.tiles.arithmetic import fma, maximum, where

HIDDEN = [name for name in ACTIVATIONS if name not in ("softmax", "exp")]
PLAIN = ["-std=c99", "-O2"]
UNFUSED = [["-O2", "-ffp-contract=off"], ["-O0"], *([["-O3", *NATIVE]] if NATIVE else [])]


@pytest.fixture(params=[*(COMPILERS or ["cc"])[:1], *(pytest.param(name, marks=pytest.mark.slow) for name in COMPILERS[1:])])
def compiler(request: pytest.FixtureRequest) -> str:
    """Each C compiler; without any, the tests are skipped, but not where everything must have run."""
    if not COMPILERS:
        assert "FASTMLP_CI" not in os.environ, "no C compiler"
        pytest.skip("needs a C compiler: gcc, clang or cc")
    return str(request.param)


def random_nets(count: int, seed: int = 0) -> list[Model]:
    """Of 1 to 6 layers up to 40 wide, in both dtypes, with all activations in turn."""
    rng = np.random.default_rng(seed)
    names = cycle(HIDDEN)
    found = []
    for i in range(count):
        sizes = rng.integers(1, 41, 2 + i % 6)
        activations: Any = [next(names) for _ in sizes[1:]]
        if i % 5 < 2:
            activations[-1] = ("softmax", "exp")[i % 5]
        weights = [rng.standard_normal((fan_in, fan_out)) / np.sqrt(fan_in) for fan_in, fan_out in pairwise(sizes)]
        biases = [0.3 * rng.standard_normal(size) for size in sizes[1:]]
        found.append(Model.from_weights(weights, biases, activations, dtype=("float32", "float64")[i % 2]))
    return found


def rows_for(models: Sequence[Model], count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.standard_normal((count, model.sizes[0])).astype(model.dtype) for model in models]


def alone(name: Any, dtype: Any) -> Model:
    """One unit whose z is its input."""
    return Model.from_weights([[[1.0]]], [[0.0]], [name], dtype=dtype)


def without_jit(python: Callable[..., str], folder: Path, models: Sequence[Model], rows: Sequence[Any]) -> list[np.ndarray]:
    """What the models predict when their kernels are plain Python."""
    if INTERPRETED:
        return [model.predict(X) for model, X in zip(models, rows, strict=True)]
    given, found = folder / "given.pickle", folder / "found.pickle"
    given.write_bytes(pickle.dumps((models, rows)))
    python(
        "import pathlib, pickle\n"
        f"models, rows = pickle.loads(pathlib.Path({str(given)!r}).read_bytes())\n"
        "found = [model.predict(X) for model, X in zip(models, rows, strict=True)]\n"
        f"pathlib.Path({str(found)!r}).write_bytes(pickle.dumps(found))",
        NUMBA_DISABLE_JIT="1",
    )
    return list(pickle.loads(found.read_bytes()))


def as_interpreted(count: int) -> list[str]:
    """The options for the bits of plain Python, for `count` headers."""
    return ["-ffp-contract=off", *(f"-DNET{i}_{what}" for i in range(count) for what in ("WIDE", f"FUSED={int(FMA)}"))]


def assert_bits(got: np.ndarray, want: np.ndarray) -> None:
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.signbit(got[got == 0]), np.signbit(want[got == 0]))


# ---- what it computes ------------------------------------------------------------------------------------------------


def check_outputs(library: Library, count: int) -> None:
    for i, (model, X) in enumerate(zip(library.models, rows_for(library.models, count), strict=True)):
        want = model.predict(X).astype(np.float64)
        assert (np.abs(library.predict(i, X) - want) <= bounds(model, X)).all(), model
        assert library.selftest(i) == 0, model


def test_every_activation(compiler: str, tmp_path: Path) -> None:
    """In layers of odd widths, of one unit and of whole registers."""
    names: Any = [*HIDDEN, "softmax", "exp"]
    pairs = [*zip(names[::2], names[1::2], strict=False), ("tanh", "exp")]
    sizes = [5, 3, 1], [1, 1, 16], [7, 17, 2], [20, 8, 1]
    models = [Model(sizes[i % 4], pair, dtype=("float32", "float64")[i // 2 % 2], rng=0) for i, pair in enumerate(pairs)]
    check_outputs(Library(tmp_path, compiler, PLAIN, models), 1000)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [PLAIN, *UNFUSED], ids=" ".join)
def test_random_nets(compiler: str, tmp_path: Path, flags: list[str]) -> None:
    models = random_nets(50)
    assert {name for model in models for name in model.activations} == set(ACTIVATIONS)
    check_outputs(Library(tmp_path, compiler, flags, models), 1000)


def test_bounds_are_not_wide() -> None:
    for model, X in zip(random_nets(24), rows_for(random_nets(24), 50), strict=True):
        size = np.abs(model.predict(X)).max()
        assert bounds(model, X).max() < 3000 * np.finfo(model.dtype).eps * max(size, 0.1), model


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_what_is_not_finite(compiler: str, tmp_path: Path, name: Any) -> None:
    models = [
        Model([2, 3, 2], [name if name != "softmax" else "relu", name], dtype=dtype, rng=0) for dtype in ("float32", "float64")
    ]
    library = Library(tmp_path, compiler, ["-O1"], models)
    for i, model in enumerate(models):
        X = np.array([[np.nan, 1.0], [np.inf, 0.5], [0.5, -np.inf], [1e30, -1e30]], model.dtype)
        np.testing.assert_allclose(library.predict(i, X), model.predict(X), rtol=1e-5)


# ---- bits ------------------------------------------------------------------------------------------------------------


@pytest.mark.small
def test_bits_of_plain_python(compiler: str, python: Any, tmp_path: Path) -> None:
    """Of small nets, and of each activation for numbers of all sizes: subnormal, huge, infinite, NaN."""
    models = random_nets(8)
    rows = rows_for(models, 20)
    z = np.concatenate([np.linspace(-12, 12, 61), *(sign * np.geomspace(1e-44, 1e38, 40) for sign in (-1, 1))])
    z = np.concatenate([z, [-745.2, -104.1, -87.5, 88.72, 709.8, 0.0, -0.0, np.inf, -np.inf, np.nan]])[:, None]
    for name, dtype in product(ACTIVATIONS, ("float32", "float64")):
        models.append(alone(name, dtype))
        rows.append(z.astype(dtype))
    library = Library(tmp_path, compiler, ["-O0", *as_interpreted(len(models))], models)
    for i, want in enumerate(without_jit(python, tmp_path, models, rows)):
        assert_bits(library.predict(i, rows[i]), want)


@pytest.mark.slow
def test_bits_of_plain_python_of_many(compiler: str, python: Any, tmp_path: Path) -> None:
    models = random_nets(50)
    rows = rows_for(models, 40)
    wanted = without_jit(python, tmp_path, models, rows)
    library = Library(tmp_path, compiler, [], models)
    for flags in (*UNFUSED, ["-O3"]):
        library.compile(tmp_path, compiler, [*flags, *as_interpreted(len(models))])
        for i, want in enumerate(wanted):
            assert_bits(library.predict(i, rows[i]), want)
    if FMA and NATIVE:  # float32 keeps them with the processor's own multiply-adds
        library.compile(tmp_path, compiler, ["-O3", *NATIVE, "-ffp-contract=off"])
        for i, want in enumerate(wanted):
            if want.dtype == np.float32:
                assert_bits(library.predict(i, rows[i]), want)


@pytest.mark.small
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_parameters_are_exact(compiler: str, tmp_path: Path, dtype: Any) -> None:
    limits = np.finfo(dtype)
    special = [
        0.0,
        -0.0,
        1e150 if dtype == "float64" else limits.max,
        limits.tiny,
        limits.smallest_subnormal,
        1 / 3,
        np.pi,
        1 + limits.eps,
    ]
    rng = np.random.default_rng(0)
    W = np.concatenate([special, rng.standard_normal(50) * np.exp2(rng.integers(-100, 100, 50))]).astype(dtype)[:, None]
    model = Model.from_weights([0 * W.T, W], [np.zeros(len(W)), [-1e-30]], "identity", dtype=dtype)
    number, name = ctype(model)
    more = f"const {name} *at(void);\nconst {name} *at(void) {{ return net0_weights2; }}\n"
    library = Library(tmp_path, compiler, [], [model], more)
    library.library.at.restype = ctypes.POINTER(number)
    read = np.ctypeslib.as_array(library.library.at(), (len(W),))
    np.testing.assert_array_equal(read.view(np.uint8), W.ravel().view(np.uint8))
    text = (tmp_path / "net0.h").read_text()
    written = re.search(r"net0_weights2\[\d+\] = \{(.*?)\}", text, re.DOTALL)
    assert written is not None
    numbers = [float.fromhex(one.strip().rstrip("f")) for one in written[1].split(",") if one.strip()]
    np.testing.assert_array_equal(np.array(numbers, dtype).view(np.uint8), W.ravel().view(np.uint8))


# ---- its own test ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_selftest_finds_what_is_wrong(compiler: str, tmp_path: Path, dtype: Any) -> None:
    library = Library(tmp_path, compiler, ["-O0"], [Model([5, 9, 4], "tanh", dtype=dtype, rng=0)])
    assert library.selftest(0) == 0
    path = tmp_path / "net0.h"
    text = path.read_text()

    def altered(array: str, place: int, change: float) -> int:
        """What the test returns when one number of an array is another."""
        start = text.index("{", text.index(f" {array}[")) + 1
        numbers = text[start : text.index("}", start)].split(",")
        value = float.fromhex(numbers[place].strip().rstrip("f"))
        numbers[place] = literal(value + change * max(abs(value), 0.1), np.dtype(dtype))
        path.write_text(text[:start] + ",".join(numbers) + text[text.index("}", start) :])
        library.compile(tmp_path, compiler, ["-O0"])
        return library.selftest(0)

    for array, place in (
        ("net0_weights1", 0),
        ("net0_weights1", 44),
        ("net0_biases1", 3),
        ("net0_weights2", 35),
        ("net0_biases2", 3),
    ):
        assert 1 <= altered(array, place, 0.001) <= 16
    for row in (0, 6, 15):
        assert altered("expected", 4 * row + 1, 0.001) == row + 1
    assert altered("inputs", 5 * 7, 0.01) == 8
    assert altered("net0_weights1", 0, 0.0) == 0


def test_rows_where_all_is_finite(compiler: str, tmp_path: Path) -> None:
    """exp of an input times 800 is infinite for most normal numbers."""
    model = Model.from_weights([[[800.0]]], [[0.0]], ["exp"])
    library = Library(tmp_path, compiler, [], [model])
    assert library.selftest(0) == 0
    with pytest.raises(ValueError, match="model must have finite outputs and rounding errors"):
        to_c(Model.from_weights([[[1.0]]], [[800.0]], ["exp"]), tmp_path / "infinite.h")
    with pytest.raises(ValueError, match="model must have finite outputs and rounding errors"):
        to_c(Model([2, 1], dtype="float32", rng=0), tmp_path / "infinite.h", mean=[1e39, 0.0], scale=[1e30, 1.0])
    assert not (tmp_path / "infinite.h").exists()


# ---- programs --------------------------------------------------------------------------------------------------------

MAIN = """
#include "one.h"
#include "two.h"
#include <stdio.h>

int other(void);

int main(void) {
    static const double x[ONE_INPUTS] = {0.5, -0.25, 1.0};
    double y[ONE_OUTPUTS];
    float z[TWO_OUTPUTS];
    static const float w[TWO_INPUTS] = {0.75f, 0.125f};
    one_predict(x, y);
    two_predict(w, z);
    printf("%.17g %.17g %.9g %d %d %d\\n", y[0], y[1], (double)z[0], one_selftest(), two_selftest(), other());
    return 0;
}
"""
OTHER = """
#include "two.h"
#include "one.h"

int other(void);
int other(void) { return one_selftest() + two_selftest(); }
"""


@pytest.mark.small
def test_two_headers_in_two_files(compiler: str, tmp_path: Path) -> None:
    one = Model([3, 7, 2], ["tanh", "softmax"], rng=0)
    two = Model([2, 5, 1], ["gelu", "sigmoid"], dtype="float32", rng=0)
    for name, model in (("one", one), ("two", two)):
        to_c(model, str(tmp_path / f"{name}.h"), name)
    (tmp_path / "main.c").write_text(MAIN)
    (tmp_path / "other.c").write_text(OTHER)
    command = [compiler, "-std=c99", *STRICT, tmp_path / "main.c", tmp_path / "other.c", "-o", tmp_path / "program", "-lm"]
    compile_c(command)
    said = subprocess.run([tmp_path / "program"], capture_output=True, text=True, check=True, timeout=60).stdout.split()
    np.testing.assert_allclose([float(number) for number in said[:2]], one.predict([[0.5, -0.25, 1.0]])[0], rtol=1e-13)
    np.testing.assert_allclose(float(said[2]), two.predict([[0.75, 0.125]]).item(), rtol=1e-6)
    assert said[3:] == ["0", "0", "0"]


@pytest.mark.parametrize("standard", ["gnu++11", "c++17"])
@pytest.mark.parametrize("which", [name for name in ("g++", "clang++") if shutil.which(name)] or ["c++"])
def test_cpp(which: str, standard: str, tmp_path: Path) -> None:
    if shutil.which(which) is None:
        assert "FASTMLP_CI" not in os.environ, "no C++ compiler"
        pytest.skip("needs a C++ compiler: g++, clang++ or c++")
    models = [Model([6, 17, 3], ["elu", "softmax"], dtype="float32", rng=0), Model([6, 3, 1], ["softplus", "tanh"], rng=0)]
    for i, model in enumerate(models):
        to_c(model, tmp_path / f"net{i}.h", f"net{i}")
    tests = "net0_selftest() + net1_selftest()"
    (tmp_path / "main.cpp").write_text(f'#include "net0.h"\n#include "net1.h"\nint main() {{ return {tests}; }}\n')
    strict = STRICT if standard == "c++17" else [flag for flag in STRICT if flag != "-Wpedantic"]
    compile_c([which, f"-std={standard}", *strict, tmp_path / "main.cpp", "-o", tmp_path / "program"])
    subprocess.run([tmp_path / "program"], check=True, timeout=60)


@pytest.mark.slow
@pytest.mark.skipif(not NATIVE, reason="the loops that gcc reports are those for x86-64")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [[4, 64, 64, 2], [17, 63, 31, 10]])
def test_gcc_vectorises(tmp_path: Path, sizes: list[int], dtype: Any) -> None:
    """Products and activations alike: each a loop of its own in the header."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    if int(compiled_version("gcc").partition(".")[0]) < 12:
        pytest.skip("older versions say it otherwise")
    for name in HIDDEN:
        library = Library(
            tmp_path, "gcc", ["-O3", *NATIVE, "-fno-math-errno", "-fopt-info-vec"], [Model(sizes, name, dtype=dtype, rng=0)]
        )
        header = (tmp_path / "net0.h").read_text().splitlines()
        found = {int(line) for line in re.findall(r"net0\.h:(\d+):\d+: optimized: loop vectorized", library.said)}
        loops = {header[line - 1].strip().removeprefix("NET0_LOOP ") for line in found}
        assert "for (int j = 0; j < columns; ++j) z[j] = net0_fma(x[i], w[j], z[j]);" in loops
        if name != "identity":
            steps = [line.strip() for line in header if re.search(r"NET0_LOOP for .*[ab]\[j\] = net0_\w+\([ab]\[j\]\);", line)]
            assert steps
            assert {step.removeprefix("NET0_LOOP ") for step in steps} <= loops, name


def compiled_version(compiler: str) -> str:
    return subprocess.run([compiler, "-dumpfullversion"], capture_output=True, text=True, check=True, timeout=60).stdout


# ---- what goes in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_inputs_as_they_were(compiler: str, tmp_path: Path, dtype: Any) -> None:
    mean, scale = np.array([1e3, -2.0, 0.5]), np.array([250.0, 1e-3, 1.0])
    model = Model([3, 8, 2], "tanh", dtype=dtype, rng=0)
    X = (mean + scale * np.random.default_rng(0).standard_normal((50, 3))).astype(dtype)
    for mean_given, scale_given in ((mean, scale), (mean, None), (None, scale)):
        moved = X - (0 if mean_given is None else mean_given)
        want = model.predict(moved / (1 if scale_given is None else scale_given))
        library = Library(tmp_path, compiler, ["-O1"], [model], mean=mean_given, scale=scale_given)
        tolerance = 2e-3 if dtype == "float32" else 1e-11  # the mean is thousands of times the scale
        np.testing.assert_allclose(library.predict(0, X), want, rtol=tolerance, atol=tolerance)
        assert library.selftest(0) == 0


def test_of_a_scaler(compiler: str, tmp_path: Path) -> None:
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    X = np.random.default_rng(0).standard_normal((40, 3)) * [1, 10, 0] + [0, 5, 2]
    scaler = preprocessing.StandardScaler().fit(X)
    model = Model([3, 4, 1], "silu", rng=0)
    library = Library(tmp_path, compiler, ["-O1"], [model], mean=scaler.mean_, scale=scaler.scale_)
    np.testing.assert_allclose(library.predict(0, X), model.predict(scaler.transform(X)), rtol=1e-12, atol=1e-13)


@pytest.mark.slow
def test_of_estimators(compiler: str, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    X = np.random.default_rng(0).standard_normal((60, 4))
    two, three, number = X[:, 0] > 0, np.digitize(X[:, 0], [-0.5, 0.5]), np.exp(X[:, 0])
    settings: Any = {"hidden_layer_sizes": (5,), "max_iter": 200, "tol": 1e-3, "random_state": 0, "learning_rate_init": 0.05}
    kinds = fastmlp.MLPClassifier, fastmlp.MLPClassifier, fastmlp.MLPRegressor, fastmlp.MLPRegressor
    fitted = [kind(**settings).fit(X, y) for kind, y in zip(kinds[:3], (two, three, number), strict=True)]
    fitted.append(fastmlp.MLPRegressor("poisson", **settings).fit(X, number))
    for i, estimator in enumerate(fitted):
        to_c(estimator, tmp_path / f"{i}.h")
    library = Library(tmp_path, compiler, ["-O1"], [estimator.model_ for estimator in fitted])
    assert [(tmp_path / f"{i}.h").read_text() for i in range(4)] == [
        re.sub(rf"\b(net|NET){i}_", r"\1_", (tmp_path / f"net{i}.h").read_text()) for i in range(4)
    ]
    same: Any = {"rtol": 1e-11, "atol": 1e-14}
    np.testing.assert_allclose(library.predict(0, X)[:, 0], fitted[0].predict_proba(X)[:, 1], **same)
    np.testing.assert_allclose(library.predict(1, X), fitted[1].predict_proba(X), **same)
    np.testing.assert_allclose(library.predict(2, X)[:, 0], fitted[2].predict(X), **same)
    np.testing.assert_allclose(np.exp(library.predict(3, X)[:, 0]), fitted[3].predict(X), **same)


# ---- what is refused -------------------------------------------------------------------------------------------------

SQUARE = CustomActivation("square", lambda z: z * z, lambda z: z + z)
NARROW = Model([2, 1], rng=0)


def diverged() -> Model:
    model = Model([2, 3, 1], rng=0)
    model.weights[1][2, 0] = np.inf
    return model


@pytest.mark.small
@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (lambda: "net", {}, TypeError, "model must be a fastmlp.Model or a fitted estimator, got 'net'"),
        (diverged, {}, ValueError, r"model must have finite parameters, got inf in weights\[1\]"),
        (
            lambda: alone(SQUARE, None),
            {},
            ValueError,
            "model must have built-in activations only, got a CustomActivation, 'square'",
        ),
        (
            lambda: Model([1, 131073, 1], rng=0),
            {},
            ValueError,
            "model must have hidden layers that fit into 1048576 bytes of stack",
        ),
        (lambda: NARROW, {"name": "2nd"}, ValueError, "name must be a C identifier that begins with a letter, got '2nd'"),
        (lambda: NARROW, {"name": "my net"}, ValueError, "name must be a C identifier"),
        (lambda: NARROW, {"name": "net\n"}, ValueError, "name must be a C identifier"),
        (lambda: NARROW, {"name": "größe"}, ValueError, "name must be a C identifier"),
        (lambda: NARROW, {"name": 3}, TypeError, "name must be a string, got 3"),
        (lambda: NARROW, {"path": 3}, TypeError, "path must be a string or a path, got 3"),
        (lambda: NARROW, {"mean": [1.0]}, ValueError, r"mean must have shape \(2,\), a number for each input, got \(1,\)"),
        (lambda: NARROW, {"mean": ["a", "b"]}, TypeError, "mean must hold real numbers"),
        (lambda: NARROW, {"scale": 1.0}, ValueError, r"scale must have shape \(2,\)"),
        (lambda: NARROW, {"scale": [1.0, np.nan]}, ValueError, "scale must be finite, got nan"),
        (lambda: NARROW, {"scale": [1.0, 0.0]}, ValueError, "scale must be above 0, got 0.0"),
        (lambda: NARROW, {"scale": [1.0, 1e-310]}, ValueError, "mean and scale must leave the first layer finite in float64"),
    ],
)
def test_refused(tmp_path: Path, model: Any, options: dict[str, Any], error: Any, message: str) -> None:
    path = tmp_path / "net.h"
    path.write_text("as before")
    with pytest.raises(error, match=message):
        to_c(model(), **{"path": path, **options})
    assert path.read_text() == "as before"


@pytest.mark.small
def test_an_estimator_before_its_fit(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    with pytest.raises(TypeError, match="or a fitted estimator, got MLPClassifier"):
        to_c(fastmlp.MLPClassifier(), tmp_path / "net.h")
    with pytest.raises(FileNotFoundError):
        to_c(NARROW, tmp_path / "nowhere" / "net.h")


# ---- functions of tiles ----------------------------------------------------------------------------------------------

FACTOR = (0.1, 0.2)


def chosen(z: Any) -> Any:
    """Names of both kinds, and a number of numbers."""
    z = maximum(z, 0.0 - 2.0 * FACTORS)
    small = z < 1.0 / 3.0
    return where(small, fma(z, z, -1.0), z / 3)


FACTORS = 0.1


def test_a_function_is_written() -> None:
    translator = Translator("net", np.dtype(np.float32))
    assert translator.function(chosen) == "net_chosen"
    assert list(translator.texts.values())[-1].splitlines() == [
        "",
        "/* Names of both kinds, and a number of numbers. */",
        "NET_INLINE float net_chosen(float z_) {",
        "    z_ = net_maximum(z_, -0x1.99999ap-3f);",
        "    int small_ = z_ < 0x1.555556p-2f;",
        "    return net_where(small_, net_fma(z_, z_, -0x1p+0f), z_ / 0x1.8p+1f);",
        "}",
    ]


def loops(z: Any) -> Any:
    for _ in range(3):
        z = z * z
    return z


def calls_numpy(z: Any) -> Any:
    return np.exp(z)


def calls_by_keyword(z: Any) -> Any:
    return fma(z, z, c=1.0)


def unknown(z: Any) -> Any:
    return z * NOWHERE  # type: ignore[name-defined] # noqa: F821


def else_too(z: Any) -> Any:
    if FMA:
        return z
    else:
        return z * z


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (loops, "for _ in range"),
        (calls_numpy, "np.exp"),
        (calls_by_keyword, "fma"),
        (unknown, "NOWHERE"),
        (else_too, "if FMA:"),
    ],
)
def test_a_function_is_refused(function: Any, text: str) -> None:
    with pytest.raises(TypeError, match=rf"{function.__name__} has no C for '{re.escape(text)}"):
        Translator("net", np.dtype(np.float64)).function(function)
