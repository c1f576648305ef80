"""coefs_ and intercepts_ as users handle them: read, changed, replaced, copied, pickled."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import make_classification

from fastmlp import CustomActivation, MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = make_classification(120, 6, n_informative=4, n_classes=3, random_state=0)


def _fitted(**settings: Any) -> MLPClassifier:
    return MLPClassifier((8, 5), **{"max_iter": 5, "random_state": 0, **settings}).fit(X, Y)


def _forward(classifier: MLPClassifier) -> np.ndarray:
    a = X
    for W, b in zip(classifier.coefs_, classifier.intercepts_, strict=True):
        z = a @ W + b
        a = np.maximum(z, 0)
    p = np.exp(z)
    return p / p.sum(axis=1, keepdims=True)


def test_ordinary_lists_of_writable_arrays() -> None:
    classifier = _fitted()
    assert type(classifier.coefs_) is type(classifier.intercepts_) is list
    assert [a.shape for a in classifier.coefs_ + classifier.intercepts_] == [(6, 8), (8, 5), (5, 3), (8,), (5,), (3,)]
    assert all(type(a) is np.ndarray and a.flags.writeable for a in classifier.coefs_ + classifier.intercepts_)


def test_predictions_are_of_what_the_lists_hold_now() -> None:
    classifier = _fitted()
    classifier.coefs_[1][...] *= 2
    np.testing.assert_allclose(classifier.predict_proba(X), _forward(classifier))
    kept = classifier.coefs_[0].copy()
    old = classifier.coefs_[0]
    classifier.coefs_[0] = np.asfortranarray(kept[:, ::-1])
    for _ in range(2):
        np.testing.assert_allclose(classifier.predict_proba(X), _forward(classifier))
        classifier.coefs_[0][0, 0] += 1  # the user's own array
    np.testing.assert_array_equal(old, kept)  # nobody wrote to what was there before
    classifier.coefs_ = [np.ones((6, 2)), np.ones((2, 3))]
    classifier.intercepts_ = [np.zeros(2), np.arange(3.0)]
    np.testing.assert_allclose(classifier.predict_proba(X), _forward(classifier))


def test_training_goes_on_from_what_the_lists_hold_now() -> None:
    one, other = _fitted(), _fitted()
    kept = one.coefs_[0]
    before = kept.copy()
    one.coefs_[0] = before * 0.5
    other.coefs_[0][...] *= 0.5
    for _ in range(3):
        one.partial_fit(X, Y)
        other.partial_fit(X, Y)
    np.testing.assert_array_equal(one.coefs_[1], other.coefs_[1])
    np.testing.assert_array_equal(kept, before)


def test_a_new_fit_leaves_the_old_arrays_alone() -> None:
    classifier = _fitted()
    old = classifier.coefs_
    before = [a.copy() for a in old]
    classifier.fit(X[:60], Y[:60])
    for a, b in zip(old, before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("how", [lambda e: pickle.loads(pickle.dumps(e)), copy.deepcopy], ids=["pickle", "deepcopy"])
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_copies_train_on_with_the_same_bits(how: Any, solver: str) -> None:
    classifier = _fitted(solver=solver)
    copied = how(classifier)
    np.testing.assert_array_equal(copied.predict_proba(X), classifier.predict_proba(X))
    if solver != "lbfgs":
        for _ in range(3):
            classifier.partial_fit(X, Y)
            copied.partial_fit(X, Y)
    for a, b in zip(classifier.coefs_ + classifier.intercepts_, copied.coefs_ + copied.intercepts_, strict=True):
        assert a is not b
        np.testing.assert_array_equal(a, b)
    copied.coefs_[0][...] = 0
    assert classifier.coefs_[0].any()
    np.testing.assert_allclose(copied.predict_proba(X), _forward(copied))


def test_copies_of_changed_lists() -> None:
    classifier = _fitted()
    classifier.coefs_[0] = np.ones((6, 8))
    copied = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(copied.coefs_[0], np.ones((6, 8)))
    np.testing.assert_array_equal(copied.predict_proba(X), classifier.predict_proba(X))
    shallow = copy.copy(_fitted())
    np.testing.assert_allclose(shallow.predict_proba(X), _forward(shallow))
    assert "coefs_" not in vars(clone(classifier))


def test_parameters_that_are_not_finite_predict_nan() -> None:
    classifier = _fitted()
    classifier.coefs_[2][...] = np.nan
    for one in (classifier, pickle.loads(pickle.dumps(classifier))):
        assert np.isnan(one.predict_proba(X)).all()


def test_lists_without_a_fit() -> None:
    regressor = MLPRegressor(hidden_layer_sizes=2, activation=CustomActivation("square", lambda z: z * z, lambda z: 2 * z))
    regressor.coefs_, regressor.intercepts_ = [np.eye(2), np.ones((2, 1))], [np.zeros(2), np.array([1.0])]
    regressor.n_features_in_, regressor.n_outputs_, regressor.out_activation_ = 2, 1, "identity"
    np.testing.assert_array_equal(regressor.predict([[2.0, 3.0]]), [14.0])


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array])
def test_sparse_data(kind: Any) -> None:
    dense, early = _fitted(), {"early_stopping": True}
    np.testing.assert_array_equal(_fitted().fit(kind(X), Y).predict_proba(kind(X)), dense.predict_proba(X))
    scores = _fitted(**early).validation_scores_
    assert _fitted(**early).fit(kind(X), Y).validation_scores_ == scores


def test_data_of_any_layout() -> None:
    want = _fitted().predict_proba(X)
    frozen = X.copy()
    frozen.flags.writeable = False
    for same in (np.asfortranarray(X), frozen, X.tolist(), np.repeat(X, 2, axis=0)[::2], X.astype(object)):
        np.testing.assert_array_equal(_fitted().fit(same, Y).predict_proba(same), want)
