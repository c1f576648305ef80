"""Sparse data that would be large as dense arrays: made dense by pieces, with the same results."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from fastmlp import MLPClassifier, MLPRegressor
from fastmlp.sklearn import coefficients

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

rng = np.random.default_rng(0)
X = rng.standard_normal((210, 12)) * (rng.random((210, 12)) < 0.3)
LABELS = np.digitize(X[:, 0] + X[:, 1], [-0.3, 0.3])
TARGETS = X[:, :2] - X[:, 2:4]
WEIGHTS = rng.integers(0, 3, 210).astype(float)


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pieces of at most 50 rows; their numbers of rows."""
    seen: list[int] = []
    monkeypatch.setattr(coefficients, "WHOLE", 0)
    monkeypatch.setattr(coefficients, "PIECE", 50 * 12 * 8)
    parts = coefficients.parts

    def noted(*args: Any) -> Any:
        for part in parts(*args):
            seen.append(part.stop - part.start)
            yield part

    monkeypatch.setattr(coefficients, "parts", noted)
    monkeypatch.setattr("fastmlp.sklearn.checkpoint.parts", noted)
    return seen


def _all(estimator: Any) -> dict[str, Any]:
    names = ("coefs_", "intercepts_", "loss_curve_", "validation_scores_", "validation_loss_curve_", "n_iter_", "loss_")
    return {name: getattr(estimator, name) for name in names if getattr(estimator, name, None) is not None}


SETTINGS: list[tuple[Any, dict[str, Any]]] = [
    (MLPClassifier, {}),
    (MLPClassifier, {"solver": "sgd", "batch_size": 7, "learning_rate": "invscaling"}),
    (MLPClassifier, {"shuffle": False, "batch_size": 20, "class_weight": "balanced"}),
    (MLPClassifier, {"dropout": 0.3, "batch_size": 16}),
    (MLPClassifier, {"early_stopping": True, "validation_fraction": 0.4, "batch_size": 100}),
    (MLPRegressor, {"batch_size": 50}),
    (MLPRegressor, {"early_stopping": True, "batch_size": 3}),
]


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array])
@pytest.mark.parametrize(("cls", "settings"), SETTINGS)
def test_the_same_bits(cls: Any, settings: dict[str, Any], kind: Any, pieces: list[int]) -> None:
    y = LABELS if cls is MLPClassifier else TARGETS
    made = [cls(hidden_layer_sizes=(9, 6), max_iter=6, random_state=0, **settings) for _ in range(2)]
    for estimator, data in zip(made, (X, kind(X)), strict=True):
        estimator.fit(data, y, sample_weight=WEIGHTS).fit(data, y)
    want, got = map(_all, made)
    assert want.keys() == got.keys()
    for name in want:
        if "curve" in name or name == "loss_":  # sums of pieces
            np.testing.assert_allclose(got[name], want[name], rtol=1e-13)
        else:
            for one, other in zip(
                *(each[name] if isinstance(each[name], list) else [each[name]] for each in (want, got)), strict=True
            ):
                np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(made[0].predict(X), made[1].predict(kind(X)))
    assert len(pieces) > 20
    assert max(pieces[-3:]) <= 50


def test_partial_fit(pieces: list[int]) -> None:
    one, other = (MLPClassifier(9, batch_size=16, random_state=0) for _ in range(2))
    for part in np.array_split(np.arange(210), 3):
        one.partial_fit(X[part], LABELS[part], classes=[0, 1, 2])
        other.partial_fit(sparse.csr_matrix(X[part]), LABELS[part], classes=[0, 1, 2])
    np.testing.assert_array_equal(one.coefs_[0], other.coefs_[0])
    np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(sparse.csr_matrix(X)))


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_lbfgs(weights: Any, pieces: list[int]) -> None:
    one, other = (MLPRegressor(hidden_layer_sizes=9, solver="lbfgs", max_iter=15, random_state=0) for _ in range(2))
    one.fit(X, TARGETS, sample_weight=weights)
    other.fit(sparse.csr_matrix(X), TARGETS, sample_weight=weights)
    np.testing.assert_allclose(other.coefs_[0], one.coefs_[0], rtol=1e-6, atol=1e-8)
    assert other.loss_ == pytest.approx(one.loss_)


def test_validation_data_that_is_given(pieces: list[int]) -> None:
    one, other = (MLPClassifier(9, max_iter=5, random_state=0) for _ in range(2))
    one.fit(X, LABELS, X_val=X, y_val=LABELS)
    other.fit(sparse.csr_matrix(X), LABELS, X_val=sparse.csc_matrix(X), y_val=LABELS)
    assert one.validation_scores_ == other.validation_scores_
    assert other.validation_loss_curve_ == pytest.approx(one.validation_loss_curve_, rel=1e-13)


def test_memory_of_many_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coefficients, "WHOLE", 1 << 24)
    monkeypatch.setattr(coefficients, "PIECE", 1 << 22)
    words = sparse.random(4000, 4000, 0.001, "csr", np.float64, np.random.default_rng(0))  # dense: 128 MB
    y = np.asarray(words.sum(axis=1)).ravel()
    regressor = MLPRegressor(hidden_layer_sizes=2, max_iter=1, random_state=0, batch_size=100)
    regressor.fit(words[:300], y[:300], X_val=words[:300], y_val=y[:300])  # all is compiled
    tracemalloc.start()
    regressor.fit(words, y, X_val=words, y_val=y)
    regressor.predict(words)
    regressor.set_params(solver="lbfgs").fit(words, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6
