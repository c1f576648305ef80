"""Networks as ONNX files: what ONNX Runtime computes from them, and that they come back."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_files import LIMITS, difference, inputs, nets

import fastmlp
from fastmlp import CustomActivation, MLPClassifier, MLPRegressor, Model, from_onnx, to_onnx
from fastmlp.activations import ACTIVATIONS
from fastmlp.interchange.onnx.forms import FORMS

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from sklearn import preprocessing  # noqa: E402
from sklearn.compose import TransformedTargetRegressor  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402

X = np.random.default_rng(0).standard_normal((60, 4)) * [1, 10, 0.1, 3] + [5, 0, 1, 2]


def run(data: bytes, inputs: np.ndarray, name: str = "X") -> list[np.ndarray]:
    onnx.checker.check_model(data, full_check=True)
    return onnxruntime.InferenceSession(data).run(None, {name: inputs})


def fitted(estimator: Any, y: Any, data: np.ndarray = X) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(data, y)


@pytest.mark.parametrize("count", [pytest.param(45), pytest.param(200, marks=pytest.mark.slow)])
def test_random_nets(count: int, tmp_path: Path) -> None:
    worst = dict.fromkeys(LIMITS, 0.0)
    for model in nets(count) if count == 200 else list(nets(count))[::3]:
        data = to_onnx(model, tmp_path / "net.onnx")
        assert (tmp_path / "net.onnx").read_bytes() == data
        rows = inputs(model.sizes[0], model.dtype)
        (got,) = run(data, rows)
        want = model.predict(rows)
        assert got.dtype == want.dtype
        worst[got.dtype.name] = max(worst[got.dtype.name], difference(got, want))
        assert worst[got.dtype.name] <= LIMITS[got.dtype.name], model
        back = from_onnx(tmp_path / "net.onnx")
        assert back.activations == model.activations
        assert back.dtype == model.dtype
        np.testing.assert_array_equal(back.params, model.params)
        np.testing.assert_array_equal(back.predict(rows), want)
    print(worst)


def test_every_activation_has_its_form() -> None:
    assert FORMS.keys() == ACTIVATIONS.keys()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "softmax"])
def test_large_numbers(name: Any, dtype: Any) -> None:
    model = Model.from_weights([[[1.0]]], [[0.0]], [name], dtype=dtype)
    z = np.array([np.inf, 1e30, 1000, 100, 40, 18, 1e-8, 0], dtype)
    z = np.concatenate([z, -z])[:, None]
    got, want = run(to_onnx(model), z)[0].astype(np.float64), model.predict(z).astype(np.float64)
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite])
    np.testing.assert_allclose(
        got[finite], want[finite], rtol=3e-6 if dtype == "float32" else 1e-13, atol=2e-6 if dtype == "float32" else 1e-15
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["softplus", "elu", "selu", "squareplus"])
def test_small_outputs_keep_their_figures_in_float64(name: Any, dtype: Any) -> None:
    model = Model.from_weights([[[1.0]]], [[0.0]], [name])
    z = np.array([[-30.0], [-700.0], [-1e-9]]) if name == "softplus" else np.array([[-1e-9], [-1e-12]])
    np.testing.assert_allclose(run(to_onnx(model), z)[0], model.predict(z), rtol=1e-13)


def test_softmax_of_large_numbers() -> None:
    model = Model.from_weights([np.eye(3)], [np.zeros(3)], ["softmax"])
    z = np.array([[1e30, 0, -1e30], [700.0, 710.0, 0.0]])
    np.testing.assert_allclose(run(to_onnx(model), z)[0], model.predict(z), rtol=1e-14)


LABELS: dict[str, Any] = {
    "binary": (X[:, 0] > 5).astype(int),
    "multiclass": np.digitize(X[:, 0], [4.5, 5.5]) * 10 - 10,
    "strings": np.array(["a", "bé", "c"])[np.digitize(X[:, 0], [4.5, 5.5])],
    "objects": np.where(X[:, 0] > 5, "yes", "no").astype(object),
    "whole": (X[:, 0] > 5) * 2.0,
    "booleans": X[:, 0] > 5,
    "multilabel": (X[:, :3] > 1).astype(int),
    "single": np.full(60, 7),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", LABELS)
def test_classifiers(kind: str, dtype: Any) -> None:
    rows = X.astype(dtype)
    net = fitted(MLPClassifier(7, "gelu", max_iter=3, random_state=0), LABELS[kind], rows)
    data = to_onnx(net)
    assert [value.name for value in onnx.load_from_string(data).graph.output] == ["label", "probabilities"]
    labels, probabilities = run(data, rows)
    np.testing.assert_array_equal(labels, net.predict(rows))
    assert labels.dtype == (object if kind in ("strings", "objects") else np.int64)
    assert probabilities.dtype == dtype
    np.testing.assert_allclose(probabilities, net.predict_proba(rows), atol=1e-6 if dtype == "float32" else 1e-14)


def test_a_classifier_comes_back(tmp_path: Path) -> None:
    for kind, output in (("binary", "sigmoid"), ("multiclass", "softmax"), ("multilabel", "sigmoid")):
        net = fitted(MLPClassifier((7, 3), "elu", max_iter=3, random_state=0), LABELS[kind])
        to_onnx(net, tmp_path / "net.onnx")
        back = from_onnx(tmp_path / "net.onnx")
        assert back.activations == ("elu", "elu", output)
        assert back.loss_name == {"sigmoid": "bce", "softmax": "cross_entropy"}[output]
        np.testing.assert_array_equal(back.predict(X), net.model_.predict(X))


SCALERS = [
    preprocessing.StandardScaler(),
    preprocessing.StandardScaler(with_mean=False),
    preprocessing.StandardScaler(with_std=False),
    preprocessing.MinMaxScaler((-1, 2)),
    preprocessing.MinMaxScaler(clip=True),
    preprocessing.MaxAbsScaler(),
    preprocessing.RobustScaler(),
    preprocessing.RobustScaler(with_centering=False, unit_variance=True),
    "passthrough",
]


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("scaler", SCALERS, ids=str)
def test_pipelines(scaler: Any, fold: bool, tmp_path: Path) -> None:
    pipeline = make_pipeline(
        preprocessing.RobustScaler(),
        make_pipeline(scaler, "passthrough"),
        MLPRegressor(hidden_layer_sizes=5, max_iter=3, random_state=0),
    )
    fitted(pipeline, X[:, 0])
    data = to_onnx(pipeline, tmp_path / "net.onnx", fold=fold)
    beyond = np.concatenate([X, 3 * X])
    np.testing.assert_allclose(run(data, beyond)[0][:, 0], pipeline.predict(beyond), rtol=1e-12, atol=1e-12)
    clips = getattr(scaler, "clip", False)
    kinds = [node.op_type for node in onnx.load_from_string(data).graph.node]
    assert (kinds[0] == "MatMul") == (fold and not clips)
    assert ("Max" in kinds) == clips
    if clips:
        with pytest.raises(ValueError, match=r"before the first layer only constants may be added or multiplied"):
            from_onnx(tmp_path / "net.onnx")
    else:  # the reader folds them
        np.testing.assert_allclose(
            from_onnx(tmp_path / "net.onnx").predict(beyond)[:, 0], pipeline.predict(beyond), rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
@pytest.mark.parametrize("scaler", [*SCALERS, None], ids=str)
def test_transformed_targets(scaler: Any, loss: Any, fold: bool, tmp_path: Path) -> None:
    if loss == "poisson" and not isinstance(scaler, preprocessing.MaxAbsScaler):
        scaler = preprocessing.MinMaxScaler()
    inner = make_pipeline(
        preprocessing.StandardScaler(), MLPRegressor(loss=loss, hidden_layer_sizes=5, max_iter=3, random_state=0)
    )
    net = fitted(TransformedTargetRegressor(inner, transformer=None if isinstance(scaler, str) else scaler), np.abs(X[:, :2]))
    data = to_onnx(net, tmp_path / "net.onnx", fold=fold)
    np.testing.assert_allclose(run(data, X)[0], net.predict(X), rtol=1e-12, atol=1e-12)
    if fold and loss == "squared_error":
        assert from_onnx(tmp_path / "net.onnx").activations == ("relu", "identity")
        assert "Mul" not in [node.op_type for node in onnx.load_from_string(data).graph.node]


def test_names_and_versions() -> None:
    data = to_onnx(Model([2, 3, 1], rng=0), input_name="W1", output_names=["Relu3"])
    model = onnx.load_from_string(data)
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["W1", "Relu3"]
    assert (model.ir_version, model.opset_import[0].version, len(model.opset_import)) == (4, 9, 1)
    assert (model.producer_name, model.producer_version) == ("fastmlp", fastmlp.__version__)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "rows"
    assert run(data, np.ones((7, 2)), "W1")[0].shape == (7, 1)
    classifier = fitted(MLPClassifier(3, max_iter=2), LABELS["strings"])
    outputs = onnx.load_from_string(to_onnx(classifier, output_names=["a", "b"])).graph.output
    assert [value.name for value in outputs] == ["a", "b"]


def _nonfinite() -> Model:
    model = Model([2, 1], rng=0)
    model.params[0] = np.nan
    return model


@pytest.mark.parametrize(
    ("make", "options", "error", "message"),
    [
        (lambda: 3, {}, TypeError, "model must be a fastmlp.Model"),
        (
            lambda: Model([1, 1], [CustomActivation("own", lambda z: z, lambda z: 1.0)]),
            {},
            ValueError,
            "CustomActivation, 'own'",
        ),
        (_nonfinite, {}, ValueError, "finite parameters, got nan"),
        (lambda: Model([1, 1]), {"path": 3}, TypeError, "path must be"),
        (lambda: Model([1, 1]), {"fold": 1}, TypeError, "fold must be True or False"),
        (lambda: Model([1, 1]), {"input_name": ""}, ValueError, "each another; got ''"),
        (lambda: Model([1, 1]), {"output_names": ["X"]}, ValueError, "each another; got 'X'"),
        (lambda: Model([1, 1]), {"output_names": "y"}, TypeError, "output_names must be a sequence"),
        (lambda: Model([1, 1]), {"output_names": ["a", "b"]}, ValueError, "output_names must be 1, for output; got 2"),
        (lambda: MLPRegressor(), {}, TypeError, "fitted estimator"),
        (
            lambda: make_pipeline(preprocessing.StandardScaler(), MLPRegressor()),
            {},
            ValueError,
            "model must be fitted, got StandardScaler",
        ),
        (
            lambda: make_pipeline(preprocessing.Normalizer(), Model([1, 1])),
            {},
            ValueError,
            "one of StandardScaler, .*got Normalizer.*skl2onnx",
        ),
        (lambda: TransformedTargetRegressor(MLPRegressor()), {}, ValueError, "model must be fitted"),
    ],
)
def test_what_is_refused(make: Any, options: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        to_onnx(make(), **options)


def test_labels_that_are_refused() -> None:
    net = fitted(MLPClassifier(3, max_iter=2), np.where(X[:, 0] > 5, 1, 2))
    net.classes_ = np.array([0.5, 1.5])
    with pytest.raises(ValueError, match=r"labels must be integers, .* got \[0.5, 1.5\]"):
        to_onnx(net)


def test_a_scaler_beyond_the_dtype_is_refused() -> None:
    rows = X.astype(np.float32)
    pipeline = fitted(
        make_pipeline(preprocessing.StandardScaler(), MLPRegressor(hidden_layer_sizes=3, max_iter=2)), X[:, 0], rows
    )
    pipeline[0].scale_ = np.full(4, 1e-60)
    with pytest.raises(ValueError, match="finite in float32: fold=False"):
        to_onnx(pipeline)


def test_a_file_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmlp.interchange.onnx.graph.MOST_BYTES", 100)
    with pytest.raises(ValueError, match="at most 100 bytes"):
        to_onnx(Model([1, 1]))
