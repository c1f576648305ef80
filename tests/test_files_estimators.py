"""Fitted estimators in files: they predict the same bits, and with the optimiser's memory they train on with the same."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from safetensors.numpy import load_file
from scipy.sparse import csr_matrix
from sklearn.exceptions import NotFittedError

import fastmlp
from fastmlp import CustomActivation, CustomLoss, MLPClassifier, MLPRegressor, schedules
from fastmlp.files import labels
from fastmlp.sklearn import files

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = np.random.default_rng(0).standard_normal((40, 3))
THREE = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)
SEVERAL = (X > 0).astype(int)
Y = np.abs(X @ [1.0, 2.0, 3.0])

SQUARE = CustomActivation("square", lambda z: z * z, lambda z: z + z)
PINBALL = CustomLoss("pinball", lambda p, y: max(0.9 * (y - p), 0.1 * (p - y)), lambda p, y: -0.9 if p < y else 0.1)
OWN = [PINBALL, SQUARE]

CLASSES: dict[str, np.ndarray] = {
    "int64": THREE,
    "int8": THREE.astype(np.int8),
    "uint64": THREE.astype(np.uint64),
    "float64": THREE * 1.0,
    "float32": THREE.astype(np.float32),
    "bool": THREE > 0,
    "str": np.array(["a", "longer", "\u00e9\u4e2d\U0001f600"])[THREE],
    "surrogate": np.array(["a", "b", "c\ud800"])[THREE],
    "object": np.array(["", "longer", "\u00e9\u4e2d\U0001f600"], object)[THREE],
    "one": np.full(40, "only"),
    "two": np.array(["no", "yes"])[(THREE > 0).astype(int)],
    "several": SEVERAL,
    "several, sparse": csr_matrix(SEVERAL),
}
SOLVERS: dict[str, dict[str, Any]] = {
    "adam": {},
    "sgd": {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.5, "n_iter_no_change": 1, "momentum": 0.5},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "nesterovs_momentum": False},
    "lbfgs": {"solver": "lbfgs"},
    "adamw": {"solver": "adamw"},
    "generator": {"random_state": np.random.RandomState(5), "shuffle": True},
    "early": {"early_stopping": True, "n_iter_no_change": inf},
    "plateau": {"learning_rate": schedules.ReduceOnPlateau(0.1, factor=0.5, patience=1, min_delta=10.0)},
    "cosine": {"solver": fastmlp.RMSprop(schedules.Cosine(0.01, warmup=1), momentum=0.5)},
    "ema": {"solver": fastmlp.SGD(0.01, momentum=0.5, ema=0.5, clip_norm=1.0, l1=0.01)},
    "dropout": {"dropout": [0.25, 0.5], "activation": ["tanh", "gelu"]},
    "one layer": {"hidden_layer_sizes": ()},
    "settings": {"hidden_layer_sizes": np.array([4, 3]), "alpha": np.float32(0.25), "verbose": 0, "batch_size": 7},
}


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "estimator"
    assert {one.name for one in tmp_path.iterdir()} <= {"estimator"}, "something is left over"


def _same(one: Any, other: Any) -> bool:
    """Whether two attributes are the same, to the last bit and the type of each number."""
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, np.random.RandomState):
        return all(map(np.array_equal, one.get_state(), other.get_state()))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if hasattr(one, "__dict__") and not hasattr(one, "network"):
        return _same(vars(one), vars(other))
    return bool(one == other) or one is other or (one != one and other != other)


def _outputs(of: Any, data: np.ndarray = X) -> np.ndarray:
    return of.predict_proba(data) if isinstance(of, MLPClassifier) else of.predict(data)


def _dense(predicted: Any) -> np.ndarray:
    return predicted.toarray() if hasattr(predicted, "toarray") else predicted


def _settings(of: Any) -> dict[str, Any]:
    """Those that a file has, as it has them."""
    plain = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in of.get_params().items()}
    return {name: value for name, value in plain.items() if not isinstance(value, np.random.RandomState)}


def _public(of: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(of).items() if name.endswith("_") and name[0] != "_"}


@pytest.mark.parametrize("kind", CLASSES)
def test_classes_of_each_dtype(path: Path, kind: str) -> None:
    one = MLPClassifier((4,), max_iter=3, random_state=0).fit(X, CLASSES[kind])
    one.save(path)
    other = fastmlp.load(path)
    assert type(other) is MLPClassifier
    for name, value in _public(one).items():
        assert _same(value, getattr(other, name)), name
    np.testing.assert_array_equal(other.predict_proba(X), one.predict_proba(X))
    predicted, expected = other.predict(X), one.predict(X)
    assert type(predicted) is type(expected)
    assert predicted.dtype == expected.dtype
    np.testing.assert_array_equal(_dense(predicted), _dense(expected))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_what_is_loaded_goes_on_with_the_same_bits(path: Path, kind: Any, solver: str) -> None:
    y = THREE if kind is MLPClassifier else Y
    settings = {"hidden_layer_sizes": (4, 3), "max_iter": 4, "random_state": 0, **copy.deepcopy(SOLVERS[solver])}
    one = kind(**settings).fit(X.astype("float32") if solver == "ema" else X, y)
    one.save(path, optimizer=True)
    other = fastmlp.load(path)
    assert _settings(other) == _settings(one)
    assert vars(other).keys() == vars(one).keys()
    for name in ["_optimizer", "_rates", "_no_improvement_count", "random_state", *_public(one)]:
        assert _same(getattr(one, name, None), getattr(other, name, None)), name
    np.testing.assert_array_equal(_outputs(other), _outputs(one))
    for estimator in (one, other):
        if solver != "lbfgs" or kind is MLPRegressor:
            estimator.set_params(early_stopping=False)
            for _ in range(3):
                estimator.partial_fit(X, y)
        estimator.set_params(warm_start=True).fit(X, y)
    np.testing.assert_array_equal(_outputs(other), _outputs(one))
    assert _same(getattr(other, "loss_curve_", None), getattr(one, "loss_curve_", None))


def test_without_its_memory_the_optimiser_starts_anew(path: Path) -> None:
    one = MLPRegressor(hidden_layer_sizes=4, random_state=0).fit(X, Y)
    one.save(path)
    assert not {name for name in load_file(path) if name.startswith("optimizer")}
    other = fastmlp.load(path)
    assert not hasattr(other, "_optimizer")
    np.testing.assert_array_equal(other.predict(X), one.predict(X))
    fresh = MLPRegressor(hidden_layer_sizes=4, random_state=0, warm_start=True, max_iter=1).fit(X, Y)
    for i in range(2):
        fresh.coefs_[i][...], fresh.intercepts_[i][...] = one.coefs_[i], one.intercepts_[i]
    np.testing.assert_array_equal(other.partial_fit(X, Y).predict(X), fresh.fit(X, Y).predict(X))


@pytest.mark.parametrize("loss", ["squared_error", "poisson", "huber", "absolute_error", PINBALL])
def test_each_loss(path: Path, loss: Any) -> None:
    one = MLPRegressor(loss, (3,), max_iter=3, random_state=0).fit(X, np.column_stack([Y, Y + 1]))
    one.save(path, optimizer=True)
    other = fastmlp.load(path, custom=OWN)
    assert other.loss == loss
    assert other.out_activation_ == one.out_activation_
    assert other.model_.network == one.model_.network
    np.testing.assert_array_equal(other.predict(X), one.predict(X))
    one.model_.save(path, optimizer=True)
    model = fastmlp.load(path, custom=[PINBALL])
    assert model.network == one.model_.network
    np.testing.assert_array_equal(model.params, one.model_.params)


def test_users_own_are_found_by_name(path: Path) -> None:
    loss = CustomLoss("shifted", PINBALL.value, PINBALL.derivative, output=SQUARE)
    one = MLPRegressor(loss, (3, 3), activation=[SQUARE, "tanh"], max_iter=3, random_state=0).fit(X, Y)
    one.save(path)
    other = fastmlp.load(path, custom=(loss, SQUARE))
    assert other.activation == [SQUARE, "tanh"]
    np.testing.assert_array_equal(other.predict(X), one.predict(X))
    for given, lacks in (([loss], "CustomActivation of the name 'square'"), ([SQUARE], "CustomLoss or RowLoss of the name")):
        with pytest.raises(ValueError, match=f"cannot be read: it needs the {lacks}"):
            fastmlp.load(path, custom=given)


def test_two_of_one_name_are_not_written(path: Path) -> None:
    another = CustomActivation("square", lambda z: 2 * z, lambda z: 2.0)
    one = MLPRegressor(hidden_layer_sizes=(3, 3), activation=[SQUARE, another], max_iter=1).fit(X, Y)
    for saved in (one, one.model_):
        with pytest.raises(ValueError, match=r"activations must have different names .*'square'"):
            saved.save(path)
    assert not path.exists()


def test_the_features_names(path: Path) -> None:
    frame = pandas.DataFrame(X, columns=["a", "\u00e9", ""])
    one = MLPClassifier(3, max_iter=2).fit(frame, THREE)
    one.save(path)
    other = fastmlp.load(path)
    assert other.feature_names_in_.tolist() == ["a", "\u00e9", ""]
    np.testing.assert_array_equal(other.predict(frame), one.predict(frame))
    with pytest.raises(ValueError, match="feature names should match"):
        other.predict(frame.rename(columns={"a": "b"}))


@pytest.mark.parametrize(
    "weight", [{0: 1.0, 1: 2.5, 2: 3}, {np.int64(0): 1, 1: np.float32(2), 2: 3.0}, "balanced", {}], ids=str
)
def test_class_weights(path: Path, weight: Any) -> None:
    one = MLPClassifier(3, class_weight=weight, max_iter=2, random_state=0)
    one.fit(X, THREE)
    one.save(path)
    assert fastmlp.load(path).class_weight == one.class_weight


def test_class_weights_of_names_and_of_several(path: Path) -> None:
    for y, weight in ((CLASSES["two"], {"no": 1.0, "yes": 2.0}), (SEVERAL, [{0: 1.0, 1: 2.0}] * 3), (THREE > 0, {True: 2.0})):
        one = MLPClassifier(3, class_weight=weight, max_iter=2).fit(X, y)
        one.save(path)
        assert fastmlp.load(path).class_weight == weight


def test_ten_thousand_classes_leave_the_header_small(path: Path) -> None:
    names = np.array([f"class {i:04}" for i in range(10_000)])
    one = MLPClassifier(2, max_iter=1, class_weight=dict.fromkeys(names.tolist(), 1.0))
    one.partial_fit(X[:2], names[:2], classes=names)
    one.save(path)
    assert int.from_bytes(path.read_bytes()[:8], "little") < 4000
    assert _same(fastmlp.load(path).classes_, names)


def test_numbers_that_json_has_not(path: Path) -> None:
    one = MLPRegressor(hidden_layer_sizes=3, max_iter=2, n_iter_no_change=inf).fit(X, Y)
    one.loss_, one.best_loss_, one.loss_curve_ = nan, -inf, [inf, nan, 0.1]
    one.save(path)
    other = fastmlp.load(path)
    assert other.n_iter_no_change == inf
    assert _same([other.loss_, other.best_loss_, other.loss_curve_], [nan, -inf, [inf, nan, 0.1]])


def test_arrays_that_replaced_those_of_the_fit(path: Path) -> None:
    one = MLPRegressor(hidden_layer_sizes=3, max_iter=3, random_state=0).fit(X, Y)
    one.coefs_[0] = one.coefs_[0] * 2
    one.set_params(activation="tanh")
    one.save(path, optimizer=True)
    other = fastmlp.load(path)
    np.testing.assert_array_equal(other.predict(X), one.predict(X))
    np.testing.assert_array_equal(other.partial_fit(X, Y).predict(X), one.partial_fit(X, Y).predict(X))


class _Halving(schedules.Schedule):
    def rates(self, first: int, count: int, steps: int, epochs: int) -> np.ndarray:
        return 0.1 * 0.5 ** (np.arange(first, first + count) // steps)


class _Derived(MLPClassifier):
    pass


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"callbacks": print}, "callbacks cannot be written: it is a builtins.builtin_function_or_method, and no file holds"),
        ({"callbacks": [fastmlp.Callback()]}, r"callbacks\.0 cannot be written"),
        ({"learning_rate": _Halving()}, "learning_rate cannot be written"),
        ({"solver": fastmlp.Adam(_Halving())}, "solver cannot be written"),
        ({"random_state": np.random.RandomState(np.random.PCG64())}, "random_state must be a RandomState of MT19937"),
    ],
)
def test_what_no_file_can_hold(path: Path, settings: dict[str, Any], message: str) -> None:
    one = MLPClassifier(3, max_iter=1, **settings).fit(X, THREE)
    path.write_text("before")
    with pytest.raises(ValueError, match=message):
        one.save(path)
    assert path.read_text() == "before"


def test_what_is_not_saved(path: Path) -> None:
    with pytest.raises(NotFittedError):
        MLPClassifier().save(path)
    with pytest.raises(TypeError, match="save writes MLPClassifier and MLPRegressor, not _Derived"):
        _Derived(3, max_iter=1).fit(X, THREE).save(path)
    one = MLPClassifier(3, max_iter=1).fit(X, THREE)
    with pytest.raises(TypeError, match="optimizer must be True or False"):
        one.save(path, optimizer=1)
    with pytest.raises(TypeError, match="path must be a string or a path"):
        one.save(3)
    one.set_params(alpha=-1)
    with pytest.raises(ValueError, match="'alpha' parameter"):
        one.save(path)
    one = MLPClassifier(3, max_iter=1).fit(X, THREE)
    one.classes_ = np.array([None, 1, 2])
    with pytest.raises(ValueError, match="classes must hold numbers or strings"):
        one.save(path)
    assert not path.exists()


def test_more_names_than_a_reader_would_make(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = MLPClassifier(3, max_iter=1).fit(pandas.DataFrame(X, columns=["a", "b", "c"]), THREE)
    one.save(path)
    monkeypatch.setattr(labels, "OBJECT", 10**9)
    with pytest.raises(ValueError, match="no more strings than a file of its size"):
        fastmlp.load(path)
    with pytest.raises(ValueError, match="features must have fewer names"):
        one.save(path)


def test_files_know_all_that_a_fit_leaves() -> None:
    """A new attribute of a fit must be written, or left out on purpose."""
    derived = {"n_features_in_", "n_outputs_", "n_layers_", "out_activation_", "classes_", "coefs_", "intercepts_"}
    for one in (
        MLPClassifier(3, max_iter=2, early_stopping=True).fit(X, THREE),
        MLPRegressor(hidden_layer_sizes=3, max_iter=2, learning_rate=schedules.Constant(0.1)).fit(X, Y),
        MLPClassifier(3, max_iter=2, solver="lbfgs").fit(X, THREE),
    ):
        private = {"_model", "_views", "_optimizer", "_rates", "_random_state", "_label_binarizer"}
        left = vars(one).keys() - set(one._get_param_names()) - derived - private - {"loss"}
        assert left <= files.FITTED.keys()


WITHOUT = """
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "sklearn":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refusing())
import fastmlp
try:
    fastmlp.load(PATH)
except ImportError as error:
    print(error)
"""


def test_without_scikit_learn(path: Path, python: Callable[..., str]) -> None:
    MLPClassifier(3, max_iter=1).fit(X, THREE).save(path)
    assert python(WITHOUT.replace("PATH", repr(str(path)))) == (
        'an estimator\'s file needs scikit-learn: pip install "fastmlp[sklearn]"\n'
    )
