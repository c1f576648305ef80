"""Networks as NumPy programs: what they compute, and that they need nothing else."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmlp
from fastmlp import CustomActivation, Model, to_numpy
from fastmlp.activations import ACTIVATIONS
from fastmlp.interchange.numpy import FORMULAS
from fastmlp.interchange.rounding import bounds

pytestmark = pytest.mark.small


def program(text: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(text, "program", "exec"), names)
    return names


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_what_it_computes(name: Any, dtype: Any) -> None:
    model = Model([4, 7, 3], [name if name != "softmax" else "tanh", name], dtype=dtype, rng=0)
    model.params[...] += 0.1
    X = np.random.default_rng(1).standard_normal((40, 4))
    got = program(to_numpy(model))["predict"](X)
    assert got.dtype == dtype
    want = model.predict(X)
    assert (np.abs(got.astype(np.float64) - want) <= bounds(model, X.astype(dtype))).all()


def test_every_activation_has_its_formula() -> None:
    assert FORMULAS.keys() == ACTIVATIONS.keys()


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "exp"])
def test_large_numbers(name: Any) -> None:
    """No warning of an overflow, which would be an error here, and no NaN."""
    model = Model.from_weights([np.eye(2)], [np.zeros(2)], [name])
    X = np.array([[-1000.0, 1000.0], [-40.0, 0.0], [30.0, -750.0]])
    np.testing.assert_allclose(program(to_numpy(model))["predict"](X), model.predict(X), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_parameters_are_exact(dtype: Any) -> None:
    limits = np.finfo(dtype)
    special = [0.0, -0.0, limits.max, limits.min, limits.tiny, limits.smallest_subnormal, 1 / 3, 0.1, 1 + limits.eps]
    rng = np.random.default_rng(0)
    W = np.concatenate([special, rng.standard_normal(51) * np.exp2(rng.integers(-100, 100, 51))]).reshape(6, 10).astype(dtype)
    names = program(to_numpy(Model.from_weights([W, W.T], [W[0], W[:, 0]], "identity", dtype=dtype)))
    for name, want in (("W1", W), ("b1", W[0]), ("W2", W.T), ("b2", W[:, 0])):
        assert names[name].dtype == dtype
        np.testing.assert_array_equal(names[name], want)
        np.testing.assert_array_equal(np.signbit(names[name]), np.signbit(want))


def test_it_is_short_and_needs_numpy_only(python: Any, tmp_path: Path) -> None:
    model = Model([3, 5, 5, 2], ["gelu", "tanh", "softmax"], rng=0)
    path = tmp_path / "net.py"
    text = to_numpy(model, path)
    assert path.read_text(encoding="ascii") == text
    tree = ast.parse(text)
    arrays = [node for node in tree.body if isinstance(node, ast.Assign)]
    lines = {line for node in tree.body if node not in arrays for line in range(node.lineno, (node.end_lineno or 0) + 1)}
    assert len(arrays) == 6
    assert len(lines) <= 20
    assert re.findall(r"^(?:import|from) .*", text, re.M) == ["import math", "import numpy as np"]
    X = [[0.5, -1.0, 2.0]]
    said = python(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import net\n"
        f"print(net.predict({X}).tolist(), 'fastmlp' in sys.modules, 'numba' in sys.modules)"
    )
    numbers, *loaded = said.rsplit(maxsplit=2)
    assert loaded == ["False", "False"]
    np.testing.assert_allclose(ast.literal_eval(numbers), model.predict(X), rtol=1e-13)


def test_of_an_estimator() -> None:
    pytest.importorskip("sklearn")
    X = np.random.default_rng(0).standard_normal((30, 4))
    classifier = fastmlp.MLPClassifier(hidden_layer_sizes=3, max_iter=2, tol=1e9, random_state=0)
    classifier.partial_fit(X, X[:, 0] > 0, classes=[False, True])
    predict = program(to_numpy(classifier))["predict"]
    np.testing.assert_allclose(predict(X)[:, 0], classifier.predict_proba(X)[:, 1], rtol=1e-12)


def test_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="or a fitted estimator, got 3"):
        to_numpy(3)  # type: ignore[arg-type]
    square = CustomActivation("square", lambda z: z * z, lambda z: z + z)
    with pytest.raises(ValueError, match="model must have built-in activations only, got a CustomActivation, 'square'"):
        to_numpy(Model([1, 1], [square]), tmp_path / "net.py")
    model = Model([2, 1], rng=0)
    with pytest.raises(TypeError, match=r"path must be a string or a path, got 1\.5"):
        to_numpy(model, 1.5)  # type: ignore[arg-type]
    model.biases[0][0, 0] = np.nan
    with pytest.raises(ValueError, match=r"model must have finite parameters, got nan in biases\[0\]"):
        to_numpy(model, tmp_path / "net.py")
    assert list(tmp_path.iterdir()) == []
