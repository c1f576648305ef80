"""The same programs with scikit-learn's estimators and with fastmlp's: same values, dtypes, errors and warnings."""

from __future__ import annotations

import ast
import contextlib
import io
import warnings
from typing import Any

import numpy as np
import pytest
import sklearn
import sklearn.neural_network as peers
from scipy import sparse
from sklearn_programs import DIFFERENCES, PROGRAMS, data

from fastmlp import MLPClassifier, MLPRegressor

VERSION = tuple(map(int, sklearn.__version__.split(".")[:2]))
pytestmark = pytest.mark.skipif(VERSION < (1, 9), reason="earlier ones have other messages and fewer settings")


def _run(program: str, classifier: Any, regressor: Any) -> tuple[Any, Any, list[str], str]:
    """The last line's value, or the error; the warnings' categories; what was printed."""
    names, tree = data(classifier, regressor), ast.parse(program)
    value = error = None
    printed = io.StringIO()
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(printed):
        warnings.simplefilter("always")
        try:
            *lines, last = tree.body
            exec(compile(ast.Module(lines, []), "program", "exec"), names)
            assert isinstance(last, ast.Expr)
            value = eval(compile(ast.Expression(last.value), "program", "eval"), names)
        except Exception as caught_error:
            error = caught_error
    return value, error, sorted({warning.category.__name__ for warning in caught}), printed.getvalue()


def _compare(ours: Any, theirs: Any, where: str = "") -> None:
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for name in theirs:
            _compare(ours[name], theirs[name], f"{where} {name}")
    elif isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs), where
        for i, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            _compare(one, other, f"{where}[{i}]")
    elif isinstance(theirs, peers.MLPClassifier | peers.MLPRegressor):
        assert type(ours).__name__ == type(theirs).__name__
    else:
        one, other = (np.asarray(a.toarray() if sparse.issparse(a) else a) for a in (ours, theirs))
        assert one.dtype == other.dtype, f"{where}: {one.dtype} where theirs is {other.dtype}"
        if other.dtype.kind == "f":
            single = 40 if other.dtype == np.float32 else 1
            np.testing.assert_allclose(one, other, rtol=1e-6 * single, atol=1e-9 * single, err_msg=where)
        else:
            np.testing.assert_array_equal(one, other, err_msg=where)


def _difference(name: str) -> str:
    """How ours ends otherwise than theirs; empty if it does not."""
    ours, theirs = (
        _run(PROGRAMS[name], *pair) for pair in ((MLPClassifier, MLPRegressor), (peers.MLPClassifier, peers.MLPRegressor))
    )
    if (
        (ours[1] is None) != (theirs[1] is None)
        or type(ours[1]) is not type(theirs[1])
        or str(ours[1])[:30] != str(theirs[1])[:30]
    ):
        return f"{ours[1]!r:.90} where theirs is {theirs[1]!r:.90}"
    if ours[2] != theirs[2]:
        return f"warnings {ours[2]} where theirs are {theirs[2]}"
    if ours[3] != theirs[3]:
        return f"prints {ours[3]!r} where theirs prints {theirs[3]!r}"
    try:
        _compare(ours[0], theirs[0])
    except AssertionError as error:
        return "value: " + " ".join(str(error).split())[:150]
    return ""


NUMPYS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
STARTS = {name: start for _, start, names in DIFFERENCES for name in names}


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name: str) -> None:
    assert np.geterr() == NUMPYS, "a test before this one has left NumPy's warnings silenced"
    found = _difference(name)
    assert found.startswith(STARTS[name]) if name in STARTS else found == ""


def test_differences_are_of_programs_that_there_are() -> None:
    assert STARTS.keys() <= PROGRAMS.keys()
    assert len(PROGRAMS) > 500
