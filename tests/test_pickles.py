"""Pickles and copies: pickle, copy, joblib and skops. They hold parameters and an optimiser's vectors, and no scratch."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import tracemalloc
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
from sklearn.base import clone

import fastmlp
from fastmlp import CustomActivation, MLPClassifier, MLPRegressor, Model, schedules

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

MORE = 2000  # bytes beside the numbers
SIZES = (40, 60, 3)
X = np.random.default_rng(0).standard_normal((300, 40))
Y = X[:, :3] ** 2
LABELS = np.array(["one", "two", "three"])[(X[:, 0] > 0).astype(int) + (X[:, 1] > 0)]


def _joblib(one: Any) -> Any:
    file = io.BytesIO()
    joblib.dump(one, file)
    file.seek(0)
    return joblib.load(file)


def _skops(one: Any) -> Any:
    data = skops.io.dumps(one)
    return skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))


WAYS: dict[str, Callable[[Any], Any]] = {
    "pickle 2": lambda one: pickle.loads(pickle.dumps(one, 2)),
    "pickle": lambda one: pickle.loads(pickle.dumps(one)),
    "deepcopy": copy.deepcopy,
    "joblib": _joblib,
    "skops": _skops,
}
MODELS: dict[str, Callable[[], Any]] = {
    "untrained": lambda: Model(SIZES, rng=0),
    "float32": lambda: _trained(fastmlp.Adam(), dtype="float32"),
    "sgd": lambda: _trained(fastmlp.SGD()),
    "ema": lambda: _trained(fastmlp.SGD(momentum=0.5, ema=0.9), dropout=0.5),
    "plateau": lambda: _trained(fastmlp.Adam(schedules.ReduceOnPlateau(0.1, patience=1, min_delta=100.0))),
    "classifier": lambda: MLPClassifier(60, max_iter=3, random_state=0).fit(X, LABELS),
    "generator": lambda: MLPClassifier(60, max_iter=3, random_state=np.random.RandomState(0)).fit(X, LABELS),
    "sgd classifier": lambda: MLPClassifier(60, solver="sgd", learning_rate="adaptive", max_iter=3).fit(X, LABELS),
    "several": lambda: MLPClassifier(60, max_iter=3, class_weight=[{0: 1, 1: 2}] * 3).fit(X, X[:, :3] > 0),
    "early": lambda: MLPClassifier(60, early_stopping=True, max_iter=3).fit(X, LABELS),
    "poisson": lambda: MLPRegressor("poisson", 60, max_iter=3).fit(X, Y),
    "course": lambda: MLPRegressor(
        hidden_layer_sizes=60, max_iter=3, learning_rate=schedules.ReduceOnPlateau(0.1, patience=1, min_delta=100.0)
    ).fit(X, Y),
    "lion": lambda: MLPRegressor(hidden_layer_sizes=60, solver=fastmlp.Lion(schedules.Cosine(0.01)), max_iter=3).fit(X, Y),
    "lbfgs": lambda: MLPRegressor(hidden_layer_sizes=60, solver="lbfgs", max_iter=3).fit(X, Y),
}


def _trained(optimizer: Any, **settings: Any) -> Model:
    model = Model(SIZES, rng=0, **settings)
    model.fit(X, Y, 3, optimizer=optimizer, rng=0)
    return model


def _model(one: Any) -> Model:
    return one if isinstance(one, Model) else one.model_


def _numbers(one: Any) -> int:
    """Bytes of the parameters, of the optimiser's vectors, and of a generator that is a parameter."""
    saved = _model(one)._engine.save()
    generator = getattr(one, "random_state", None)
    own = len(pickle.dumps(generator)) if isinstance(generator, np.random.RandomState) else 0
    return int(saved["params"].nbytes + saved["moments"].nbytes + own)


def _use(one: Any) -> None:
    """Leave scratch wherever a model may have any."""
    model = _model(one)
    rows = np.resize(X, (20_000, 40)).astype(model.dtype)
    model.predict(rows)
    model.layer_outputs(rows[:500])
    model.compiled()
    model.compiled(live=True)
    if not isinstance(one, Model):
        one.predict(X)
        one.score(X, LABELS if isinstance(one, MLPClassifier) and one.out_activation_ == "softmax" else one.predict(X))
    gradient = model.gradient(rows[:5000], np.zeros((5000, 3)) if model.loss_name != "cross_entropy" else np.zeros(5000, int))
    assert gradient is not None


@pytest.mark.parametrize("kind", MODELS)
def test_a_pickle_is_its_numbers_and_little_more(kind: str, all_share: None) -> None:
    fastmlp.set_num_threads(2)
    one = MODELS[kind]()
    _use(one)
    size = _numbers(one)
    for protocol in (4, 5):
        assert size < len(pickle.dumps(one, protocol)) <= size + MORE
    file = io.BytesIO()
    joblib.dump(one, file)
    assert len(file.getvalue()) <= size + 2 * MORE  # which begins each array at a multiple of 16, with a name of its own


@pytest.mark.parametrize("kind", MODELS)
def test_a_deep_copy_holds_no_scratch(kind: str) -> None:
    one = MODELS[kind]()
    copy.deepcopy(one)
    _use(one)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        other = copy.deepcopy(one)
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert _numbers(one) < held < _numbers(one) + 25_000  # a plan, records, an estimator's attributes
    assert _numbers(other) == _numbers(one)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", MODELS)
def test_a_copy_is_the_same_and_goes_on_the_same(kind: str, way: str) -> None:
    one = MODELS[kind]()
    other = WAYS[way](one)
    assert type(other) is type(one)
    assert _model(other).network == _model(one).network
    np.testing.assert_array_equal(_model(other).params, _model(one).params)
    for each in (one, other):
        if isinstance(each, Model):
            lr = schedules.ReduceOnPlateau(0.1, patience=1, min_delta=100.0) if kind == "plateau" else 0.01
            each.fit(
                X,
                Y,
                5,
                optimizer=fastmlp.Adam(lr) if kind in ("plateau", "float32") else fastmlp.SGD(lr, 0.5),
                rng=1,
                initial_epoch=3,
            )
        else:
            each.set_params(early_stopping=False, random_state=3)
            for _ in range(2):
                if kind != "lbfgs":
                    each.partial_fit(
                        X, LABELS if kind != "several" and isinstance(each, MLPClassifier) else each.predict(X[:, :])
                    )
    np.testing.assert_array_equal(_model(other).params, _model(one).params)
    if not isinstance(one, Model):
        assert repr(clone(other)) == repr(clone(one))


@pytest.mark.parametrize("kind", MODELS)
def test_skops_asks_for_the_class_alone(kind: str) -> None:
    one = MODELS[kind]()
    kinds = skops.io.get_untrusted_types(data=skops.io.dumps(one))
    assert kinds == [f"{type(one).__module__}.{type(one).__name__}"]
    if not isinstance(one, Model):
        assert kinds[0].startswith("fastmlp.sklearn.estimators.MLP")


def _plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(type(name) in (str, int) and _plain(one) for name, one in value.items())
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    if type(value).__module__ == "sklearn.preprocessing._label":
        return _plain(value.__getstate__())
    known = (str, int, float, bool, type(None), np.ndarray, np.float64, np.random.RandomState)
    return type(value) in known and getattr(value, "dtype", None) != np.dtype(object)


@pytest.mark.parametrize("kind", MODELS)
def test_a_state_is_of_plain_parts(kind: str) -> None:
    assert _plain(MODELS[kind]().__getstate__())
    assert not _plain({"a": [fastmlp.Adam()]})


def _square(z: float) -> float:
    return z * z


def _slope(z: float) -> float:
    return 2 * z


class _Halving(schedules.Schedule):
    def rates(self, first: int, count: int, steps: int, epochs: int) -> np.ndarray:
        return 0.1 * 0.5 ** (np.arange(first, first + count) // steps)

    def __eq__(self, other: object) -> bool:
        return type(other) is _Halving

    __hash__ = None  # type: ignore[assignment]


class _Mine(fastmlp.Adam):
    pass


def test_what_users_have_written_is_in_a_pickle() -> None:
    square = CustomActivation("square", _square, _slope)
    model = Model([40, 5, 3], [square, "identity"], rng=0)
    model.fit(X, Y, 1, optimizer=_Mine(_Halving()))
    model.note = "a user's own"  # type: ignore[attr-defined]
    other = pickle.loads(pickle.dumps(model))
    assert (other.activations, other.note) == (model.activations, "a user's own")
    for one in (model, other):
        one.fit(X, Y, 1, optimizer=_Mine(0.01), rng=0)
    np.testing.assert_array_equal(model.params, other.params)
    regressor = MLPRegressor(hidden_layer_sizes=3, activation=square, solver=_Mine(_Halving()), max_iter=2).fit(X, Y)
    again = pickle.loads(pickle.dumps(regressor))
    assert type(again.solver) is _Mine
    assert again.solver.lr == _Halving()
    for one in (regressor, again):
        one.set_params(random_state=0).partial_fit(X, Y)
    np.testing.assert_array_equal(again.predict(X), regressor.predict(X))


def test_the_generator_is_the_parameter() -> None:
    one = pickle.loads(
        pickle.dumps(MLPRegressor(hidden_layer_sizes=3, max_iter=1, random_state=np.random.RandomState(0)).fit(X, Y))
    )
    assert one._random_state is one.random_state
