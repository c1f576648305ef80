"""The estimators as skl2onnx converts them."""

from __future__ import annotations

import pickle
import sys
import warnings
from typing import Any

import numpy as np
import pytest

skl2onnx = pytest.importorskip("skl2onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

from fastmlp import CustomLoss, MLPClassifier, MLPRegressor  # noqa: E402
from fastmlp.onnx import register  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

X = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
LABELS: dict[str, Any] = {
    "binary": (X[:, 0] > 0).astype(int),
    "multiclass": np.digitize(X[:, 0], [-0.5, 0.5]),
    "strings": np.array(["a", "b", "c"])[np.digitize(X[:, 0], [-0.5, 0.5])],
    "multilabel": (X[:, :3] > 0).astype(int),  # of two labels its converter makes four probabilities
    "regression": X[:, 0] - X[:, 1],
}


def _converted(estimator: Any, **options: Any) -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = skl2onnx.to_onnx(estimator, X[:1], options={id(estimator): options} if options else None)
    return onnxruntime.InferenceSession(net.SerializeToString()).run(None, {"X": X})


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu", "sigmoid", ["relu", "relu"]])
def test_what_it_computes(activation: Any) -> None:
    for task, y in LABELS.items():
        kind = MLPRegressor if task == "regression" else MLPClassifier
        options = {} if task == "regression" else {"zipmap": False}
        ours = kind(hidden_layer_sizes=(7, 5), activation=activation, max_iter=5, random_state=0).fit(X, y)
        theirs = kind.__bases__[1](hidden_layer_sizes=(7, 5), max_iter=5, random_state=0).fit(X, y)
        theirs.activation = "logistic" if activation == "sigmoid" else "relu" if isinstance(activation, list) else activation
        theirs.coefs_, theirs.intercepts_ = ours.coefs_, ours.intercepts_
        for got, want in zip(_converted(ours, **options), _converted(theirs, **options), strict=True):
            np.testing.assert_array_equal(got, want)
        if task != "regression":
            np.testing.assert_array_equal(_converted(ours, **options)[0], ours.predict(X))
            np.testing.assert_allclose(_converted(ours, **options)[1], ours.predict_proba(X), atol=1e-6)
        assert ours.activation is activation


def test_another_loss_makes_no_difference() -> None:
    y = LABELS["regression"]
    regressor = MLPRegressor("huber", 5, solver="lion", max_iter=5, random_state=0).fit(X, y)
    np.testing.assert_allclose(_converted(regressor)[0].ravel(), regressor.predict(X), rtol=1e-4, atol=1e-6)


def test_in_a_pipeline_with_dictionaries() -> None:
    y = LABELS["multiclass"]
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(5, max_iter=5, random_state=0)).fit(X, y)
    labels, probabilities = _converted(pipeline)
    np.testing.assert_array_equal(labels, pipeline.predict(X))
    assert probabilities[0] == pytest.approx(dict(enumerate(pipeline.predict_proba(X)[0])), abs=1e-6)


_SQUARES = CustomLoss("squares", lambda p, y: (p - y) * (p - y), lambda p, y: 2 * (p - y), output="tanh")


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (MLPClassifier(5, "gelu"), "activation must be one of identity, logistic, tanh, relu"),
        (MLPClassifier((5, 4), ["relu", "tanh"]), "activation must be one of"),
        (MLPRegressor("poisson", 5), "loss='poisson' has no converter"),
        (MLPRegressor(_SQUARES, 5), "loss=CustomLoss.* has no converter"),
    ],
)
def test_what_it_cannot_compute(estimator: Any, message: str) -> None:
    y = LABELS["binary"]
    with pytest.raises(ValueError, match=message):
        _converted(estimator.set_params(max_iter=2).fit(X, y))


def test_it_is_told_when_an_estimator_is_fitted_or_unpickled() -> None:
    made = MLPClassifier(5, max_iter=2, random_state=0).fit(X, LABELS["binary"])
    known = skl2onnx._supported_operators.sklearn_operator_name_map
    for use in (
        lambda: made.fit(X, LABELS["binary"]),
        lambda: made.partial_fit(X, LABELS["binary"]),
        lambda: pickle.loads(pickle.dumps(made)),
        register,
    ):
        known.pop(MLPClassifier, None)
        register.cache_clear()
        use()
        assert MLPClassifier in known


def test_a_fit_does_not_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    register.cache_clear()
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    MLPClassifier(5, max_iter=2, random_state=0).fit(X, LABELS["binary"])
    with pytest.raises(ImportError):
        register()
