"""Estimators out of pickles whose arrays are not their own: memory maps, other objects' buffers, shallow copies."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import make_classification

from fastmlp import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = make_classification(120, 6, n_informative=4, n_classes=3, random_state=0)

# Of what a fault crashes, so in a process of its own. The layers are wide: workers map arrays from a megabyte on.
START = """
import sys, warnings; warnings.simplefilter("ignore")
import numpy as np, fastmlp
from fastmlp import MLPClassifier, MLPRegressor
X = np.random.default_rng(0).standard_normal((150, 40)); Y = X[:, :2] * 2
"""
MAPPED = """
import joblib
for solver in ("adam", "sgd"):
    for change in (False, True):
        one = MLPRegressor(hidden_layer_sizes=700, solver=solver, random_state=0).partial_fit(X, Y)
        if change:  # lists that the model's memory is no part of
            one.coefs_[0] = one.coefs_[0] * 2
        joblib.dump(one, {path!r})
        for mode in ("r", "c", None):
            other = joblib.load({path!r}, mmap_mode=mode)
            np.testing.assert_array_equal(other.predict(X), one.predict(X))
            for _ in range(2):
                other.partial_fit(X, Y)
            again = joblib.load({path!r}).partial_fit(X, Y).partial_fit(X, Y)
            np.testing.assert_array_equal(other.predict(X), again.predict(X))
            other.fit(X, Y)
            other.set_params(solver="lbfgs", warm_start=True, max_iter=2).fit(X, Y)
print("done")
"""
WORKERS = """
from sklearn.multioutput import MultiOutputRegressor
several = [MultiOutputRegressor(MLPRegressor(hidden_layer_sizes=2500, random_state=0), n_jobs=n) for n in (None, 2)]
for one in several:
    one.partial_fit(X, Y)
    one.partial_fit(X, Y)
np.testing.assert_array_equal(several[0].predict(X), several[1].predict(X))
print("done")
"""
OUT_OF_BAND = """
import pickle
one = MLPRegressor(hidden_layer_sizes=30, random_state=0).partial_fit(X, Y)
buffers = []
data = pickle.dumps(one, protocol=5, buffer_callback=buffers.append)
frozen = [bytes(buffer.raw()) for buffer in buffers]
kept = [bytes(bytearray(each)) for each in frozen]
a, b = (pickle.loads(data, buffers=frozen) for _ in range(2))
a.partial_fit(X, Y)
a.partial_fit(X, Y)
assert frozen == kept
b.partial_fit(X, Y)
one.partial_fit(X, Y)
np.testing.assert_array_equal(b.predict(X), one.predict(X))
assert all(array.flags.writeable for array in b.coefs_ + b.intercepts_)
print("done")
"""


@pytest.mark.slow
@pytest.mark.parametrize("program", [MAPPED, WORKERS, OUT_OF_BAND], ids=["memory map", "workers", "out of band"])
def test_memory_of_others(program: str, python: Callable[..., str], tmp_path: Path) -> None:
    assert python(START + program.replace("{path!r}", repr(str(tmp_path / "estimator")))) == "done\n"


def _fitted(**settings: Any) -> MLPClassifier:
    return MLPClassifier((8, 5), **{"max_iter": 5, "random_state": 0, **settings}).fit(X, Y)


@pytest.mark.parametrize(
    "settings", [{}, {"solver": "sgd"}, {"early_stopping": True}, {"random_state": np.random.RandomState(0)}]
)
@pytest.mark.parametrize("how", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one, 5))])
def test_nothing_is_shared(how: Callable[[Any], Any], settings: dict[str, Any]) -> None:
    one = _fitted(**settings)
    other = how(one)
    one.set_params(early_stopping=False)
    other.set_params(early_stopping=False)
    curve, scores, rate = list(other.loss_curve_), copy.copy(other.validation_scores_), vars(other._optimizer).copy()
    predicted = other.predict_proba(X)
    for _ in range(3):
        one.partial_fit(X, Y, sample_weight=np.ones(120))
    assert other.loss_curve_ == curve
    assert other.validation_scores_ == scores
    assert vars(other._optimizer) == rate
    np.testing.assert_array_equal(other.predict_proba(X), predicted)
    for _ in range(3):
        other.partial_fit(X, Y, sample_weight=np.ones(120))
    np.testing.assert_array_equal(other.predict_proba(X), one.predict_proba(X))
    assert other.loss_curve_ == one.loss_curve_


def test_read_only_lists_are_read_and_replaced() -> None:
    one = _fitted()
    for lists in (one.coefs_, one.intercepts_):
        for i, array in enumerate(lists):
            lists[i] = array.copy()
            lists[i].flags.writeable = False
    frozen = [array.copy() for array in one.coefs_]
    held = list(one.coefs_)
    other = pickle.loads(pickle.dumps(one))
    for estimator in (one, other):
        estimator.partial_fit(X, Y)
        assert all(array.flags.writeable for array in estimator.coefs_)
    for array, before in zip(held, frozen, strict=True):
        np.testing.assert_array_equal(array, before)
    np.testing.assert_array_equal(one.coefs_[0], other.coefs_[0])


def test_a_shallow_copy_shares_arrays_as_theirs_does() -> None:
    for ours in (MLPClassifier, MLPRegressor):
        for cls in (ours.__bases__[1], ours):
            one = cls(hidden_layer_sizes=5, max_iter=3, random_state=0).fit(X, Y)
            other = copy.copy(one)
            other.partial_fit(X, Y)
            np.testing.assert_array_equal(one.coefs_[0], other.coefs_[0])
            other.fit(X, Y)  # starts with arrays of its own
            assert not np.array_equal(one.coefs_[0], other.coefs_[0])
