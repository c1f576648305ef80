"""The clipped losses, beside scikit-learn's functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn.neural_network as peers
from scipy.special import expit, softmax
from sklearn.datasets import load_wine
from sklearn.neural_network._base import binary_log_loss, log_loss

from fastmlp import MLPClassifier, Model
from fastmlp.kernels.layer.loss import CLIPPED_BCE, CLIPPED_CROSS_ENTROPY, CROSS_ENTROPY

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def _evaluated(
    z: np.ndarray, y: np.ndarray, loss: str, code: int, weights: np.ndarray | None
) -> tuple[float, float, np.ndarray]:
    """The loss by the engine's two ways, and its gradient by z: of a layer that hands z on."""
    columns = z.shape[1]
    model = Model.from_weights([np.eye(columns, dtype=z.dtype)], [np.zeros(columns, z.dtype)], [_OUTPUT[loss]], loss)
    y = y.reshape(len(y), -1).astype(z.dtype)
    y = y if weights is None else np.column_stack([y, weights]).astype(z.dtype)
    flat, dx = np.empty_like(model.params), np.empty_like(z)
    weighted = weights is not None
    loss_there = model._engine.gradient(z, y, code, flat, dx, True, weighted)
    return model._engine.loss(z, y, code, weighted), loss_there, dx


_OUTPUT = {"cross_entropy": "softmax", "bce": "sigmoid"}
_ENDS = {"float32": (2.0**-23, 23 * np.log(2)), "float64": (2.0**-52, 52 * np.log(2))}
SCALES = (1.0, 30.0, 1e3, 1e30)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("columns", [1, 2, 3, 10, 17, 40])
@pytest.mark.parametrize("rows", [*(pytest.param(rows, marks=pytest.mark.small) for rows in (1, 7)), 300])
def test_cross_entropy(rows: int, columns: int, weighted: bool, dtype: Any, rng: np.random.Generator) -> None:
    labels = rng.integers(0, columns, rows)
    weights = rng.integers(1, 4, rows).astype(dtype) if weighted else None
    onehot = np.eye(columns, dtype=bool)[labels]
    for scale in SCALES:
        z = (scale * rng.standard_normal((rows, columns))).astype(dtype)
        p = softmax(z, axis=1)
        got, same, dx = _evaluated(z, labels, "cross_entropy", CLIPPED_CROSS_ENTROPY, weights)
        # Of one column scikit-learn makes a binary loss; clip as it does.
        clipped = np.clip(p, np.finfo(dtype).eps, 1 - np.finfo(dtype).eps)[np.arange(rows), labels].astype(np.float64)
        want = log_loss(onehot, p, weights) if columns > 1 else np.average(-np.log(clipped), weights=weights)
        close = {"rtol": 1e-5, "atol": 1e-8} if dtype == np.float32 else {"rtol": 1e-12, "atol": 1e-15}
        np.testing.assert_allclose((got, same), want, **close)
        if columns > 1 and scale > 1e20:  # each label is right or at the clip
            right = z.argmax(axis=1) == labels
            np.testing.assert_allclose(got, np.average(np.where(right, *_ENDS[dtype.name]), weights=weights), rtol=1e-6)
        share = np.ones((rows, 1)) / rows if weights is None else weights[:, None] / weights.sum()
        np.testing.assert_allclose(dx, (p - onehot) * share, atol=2e-6 if dtype == np.float32 else 1e-14)
        np.testing.assert_array_equal(dx, _evaluated(z, labels, "cross_entropy", CROSS_ENTROPY, weights)[2])


@pytest.mark.small
@pytest.mark.parametrize("code", [CLIPPED_CROSS_ENTROPY, CLIPPED_BCE])
def test_nan_stays(code: int, dtype: Any) -> None:
    for columns, rows in ((3, 5), (40, 5), (3, 1)):
        z = np.zeros((rows, columns), dtype)
        z[-1, 0] = np.nan
        loss = "bce" if code == CLIPPED_BCE else "cross_entropy"
        y = np.zeros((rows, columns if loss == "bce" else 1))
        assert np.isnan(_evaluated(z, y, loss, code, None)[0])


def test_binary(dtype: Any, rng: np.random.Generator) -> None:
    for scale in SCALES:
        for columns in (1, 5):
            z = (scale * rng.standard_normal((90, columns))).astype(dtype)
            y = rng.integers(0, 2, (90, columns))
            want = binary_log_loss(y, expit(z)) / columns
            np.testing.assert_allclose(
                _evaluated(z, y, "bce", CLIPPED_BCE, None)[0], want, rtol=1e-5 if dtype == np.float32 else 1e-12
            )
            sure = np.where(y > 0, 1e4, -1e4).astype(dtype)
            want = binary_log_loss(y, expit(sure)) / columns
            np.testing.assert_allclose(_evaluated(sure, y, "bce", CLIPPED_BCE, None)[0], want, rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "dtype"),
    [
        ({}, np.float64),
        ({}, np.float32),
        ({"solver": "sgd"}, np.float64),
        ({"solver": "sgd"}, np.float32),
        ({"solver": "lbfgs"}, np.float64),
        ({"early_stopping": True}, np.float64),
        ({"early_stopping": True}, np.float32),
    ],
)
def test_data_that_are_not_scaled(settings: dict[str, Any], dtype: Any) -> None:
    X, y = load_wine(return_X_y=True)
    X = X.astype(dtype)
    theirs, ours = (cls(random_state=0, **settings).fit(X, y) for cls in (peers.MLPClassifier, MLPClassifier))
    assert ours.n_iter_ == theirs.n_iter_
    rtol = 1e-4 if dtype == np.float32 else 1e-9
    np.testing.assert_allclose(ours.loss_, theirs.loss_, rtol=rtol)
    for name in ("best_loss_", "loss_curve_", "validation_scores_"):
        if getattr(theirs, name, None) is not None:
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=rtol)


def test_validation_losses_are_clipped_too() -> None:
    X, y = load_wine(return_X_y=True)
    classifier = MLPClassifier(random_state=0, max_iter=1).fit(X, y, X_val=X, y_val=y)
    want = log_loss(np.eye(3, dtype=bool)[y], classifier.predict_proba(X))
    assert classifier.validation_loss_curve_ == pytest.approx([want])
