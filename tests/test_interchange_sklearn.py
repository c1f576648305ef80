"""Estimators from and to scikit-learn: what they predict, and how their training goes on."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import fastmlp
from fastmlp import Model, from_sklearn, to_sklearn

pytest.importorskip("sklearn")

from sklearn import neural_network as peers
from sklearn.exceptions import ConvergenceWarning

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
ACTIVATIONS = ["identity", "logistic", "tanh", "relu"]


def data(kind: str, rows: int = 40, columns: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rows + columns)
    X = rng.standard_normal((rows, columns))
    y = {
        "numbers": X[:, 0] + 0.1 * rng.standard_normal(rows),
        "several": X[:, :3] + 1,
        "counts": rng.poisson(np.exp(X[:, 0] / 2)),
        "two": np.where(X[:, 0] > 0, "yes", "no"),
        "three": np.array(["a", "b", "c"])[rng.integers(0, 3, rows)],
        "indicators": (X[:, :3] > 0).astype(int),
    }[kind]
    return X, y


KINDS = ("numbers", "several", "counts", "two", "three", "indicators")


def settings_of(kind: str, **settings: Any) -> tuple[Any, Any, dict[str, Any]]:
    """scikit-learn's class, fastmlp's, and settings for such targets."""
    if kind == "counts":
        if "loss" not in peers.MLPRegressor().get_params():
            pytest.skip("this scikit-learn has no loss='poisson'")
        settings["loss"] = "poisson"
    if kind in ("numbers", "several", "counts"):
        return peers.MLPRegressor, fastmlp.MLPRegressor, settings
    return peers.MLPClassifier, fastmlp.MLPClassifier, settings


def agree(one: Any, other: Any, X: np.ndarray, y: np.ndarray, rtol: float = 1e-12) -> None:
    """Their predictions, relative to the largest, and their scores are the same."""
    for method in ("predict", "predict_proba"):
        if hasattr(one, method):
            got, want = getattr(one, method)(X), getattr(other, method)(X)
            assert got.dtype == want.dtype
            if got.dtype.kind == "f":
                np.testing.assert_allclose(got, want, rtol=0, atol=rtol * np.abs(want).max())
            else:
                np.testing.assert_array_equal(got, want)
    np.testing.assert_allclose(one.score(X, y), other.score(X, y), rtol=rtol)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(25))
def test_there_and_back(seed: int, dtype: str) -> None:
    """Random nets of scikit-learn's, of each kind of targets."""
    rng = np.random.default_rng(seed)
    kind = KINDS[seed % len(KINDS)]
    X, y = data(kind, columns=int(rng.integers(3, 9)))
    X = X.astype(dtype)
    sizes = tuple(int(size) for size in rng.integers(1, 12, rng.integers(1, 4)))
    their_class, our_class, settings = settings_of(kind, hidden_layer_sizes=sizes, activation=ACTIVATIONS[seed % 4])
    theirs = their_class(**settings, max_iter=3, random_state=seed).fit(X, y)
    tolerance = 1e-6 if dtype == "float32" else 1e-12
    ours = from_sklearn(theirs)
    assert type(ours) is our_class
    agree(ours, theirs, X, y, tolerance)
    assert ours.get_params().items() >= theirs.get_params().items()
    assert ours.loss_curve_ == theirs.loss_curve_
    assert ours.n_iter_ == theirs.n_iter_ == 3
    again = to_sklearn(ours)
    assert type(again) is their_class
    agree(again, theirs, X, y, 0)
    assert again.get_params() == theirs.get_params()
    for one, other in zip((*again.coefs_, *again.intercepts_), (*theirs.coefs_, *theirs.intercepts_), strict=True):
        np.testing.assert_array_equal(one, other)
        assert not np.shares_memory(one, other)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("kind", KINDS)
def test_partial_fit_goes_on(kind: str, solver: str) -> None:
    """With the optimiser's moments, in both directions, as if there had been no conversion."""
    X, y = data(kind)
    their_class, _, settings = settings_of(
        kind, hidden_layer_sizes=(6, 4), activation="tanh", solver=solver, learning_rate_init=0.01, random_state=0, alpha=0.1
    )
    theirs = their_class(**settings)
    classes = {} if their_class is peers.MLPRegressor else {"classes": [0, 1, 2] if kind == "indicators" else np.unique(y)}
    for _ in range(3):
        theirs.partial_fit(X, y, **classes)
    ours = from_sklearn(theirs)
    for _ in range(3):
        theirs.partial_fit(X, y)
        ours.partial_fit(X, y)
    agree(ours, theirs, X, y, 1e-10)
    again = to_sklearn(ours)
    for _ in range(3):
        theirs.partial_fit(X, y)
        again.partial_fit(X, y)
    agree(again, theirs, X, y, 1e-10)
    assert again.t_ == theirs.t_
    np.testing.assert_allclose(again.loss_curve_, theirs.loss_curve_, rtol=1e-10)
    fresh = from_sklearn(theirs)
    del fresh._optimizer
    fresh.partial_fit(X, y)
    theirs.partial_fit(X, y)
    assert np.abs(fresh.coefs_[0] - theirs.coefs_[0]).max() > 1e-6  # the moments matter


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_warm_start_goes_on(solver: str) -> None:
    X, y = data("numbers", 60)
    settings: Any = {"hidden_layer_sizes": 6, "activation": "tanh", "solver": solver, "warm_start": True, "max_iter": 4}
    theirs = peers.MLPRegressor(**settings, random_state=0).fit(X, y)
    ours = from_sklearn(theirs).fit(X, y)
    again = to_sklearn(ours).fit(X, y)
    theirs.fit(X, y)
    agree(ours, theirs, X, y, 1e-8)
    theirs.fit(X, y)
    agree(again, theirs, X, y, 1e-8)


def test_warm_start_after_an_early_stop() -> None:
    """As fastmlp's goes on. In scikit-learn's second fit the best parameters are the last ones, unless a score is better."""
    X, y = data("numbers", 60)
    settings: Any = {"hidden_layer_sizes": 6, "early_stopping": True, "warm_start": True, "max_iter": 4, "random_state": 0}
    theirs = peers.MLPRegressor(**settings).fit(X, y)
    agree(from_sklearn(theirs).fit(X, y), fastmlp.MLPRegressor(**settings).fit(X, y).fit(X, y), X, y, 1e-8)
    assert to_sklearn(from_sklearn(theirs)).fit(X, y).n_iter_ == 4


def test_nothing_is_shared() -> None:
    X, y = data("numbers")
    theirs = peers.MLPRegressor(hidden_layer_sizes=4, max_iter=2, random_state=0).fit(X, y)
    before = theirs.predict(X)
    from_sklearn(theirs).partial_fit(X, y)
    np.testing.assert_array_equal(theirs.predict(X), before)
    assert len(theirs.loss_curve_) == 2


def test_names_of_features_stay() -> None:
    pandas = pytest.importorskip("pandas")
    X, y = data("numbers")
    frame = pandas.DataFrame(X, columns=list("abcde"))
    theirs = peers.MLPRegressor(hidden_layer_sizes=4, max_iter=2, random_state=0).fit(frame, y)
    with pytest.raises(ValueError, match="feature names"):
        from_sklearn(theirs).predict(frame[list("edcba")])


def test_without_scikit_learn(python: Any) -> None:
    said = python(
        "import sys\nsys.modules['sklearn'] = None\nimport fastmlp\n"
        "for work in (fastmlp.from_sklearn, fastmlp.to_sklearn):\n"
        "    try:\n        work(fastmlp.Model([1, 1]))\n    except ImportError as error:\n        print(error)\n"
    ).splitlines()
    assert said == [f'{name} needs scikit-learn: pip install "fastmlp[sklearn]"' for name in ("from_sklearn", "to_sklearn")]


def test_from_sklearn_refused() -> None:
    X, y = data("numbers")

    class Other(peers.MLPRegressor):
        pass

    for one in (3, Other(), fastmlp.MLPRegressor(hidden_layer_sizes=2), Model([1, 1])):
        with pytest.raises(
            TypeError, match=f"estimator must be scikit-learn's MLPClassifier or MLPRegressor, got {type(one).__name__}"
        ):
            from_sklearn(one)  # type: ignore[arg-type]
    theirs = peers.MLPRegressor(hidden_layer_sizes=2, max_iter=2)
    with pytest.raises(ValueError, match="estimator must be fitted"):
        from_sklearn(theirs)
    theirs.fit(X, y)
    del theirs.n_features_in_, theirs.max_fun
    with pytest.raises(ValueError, match=r"scikit-learn 1\.5 or newer, got one without max_fun, n_features_in_"):
        from_sklearn(theirs)


def test_to_sklearn_refused() -> None:
    X, y = data("numbers")
    with pytest.raises(TypeError, match=r"model must be a fastmlp\.Model or a fitted estimator, got int"):
        to_sklearn(3)  # type: ignore[arg-type]
    ours = fastmlp.MLPRegressor(
        "huber",
        hidden_layer_sizes=4,
        solver=fastmlp.Lion(0.01),
        learning_rate="constant",
        dropout=0.1,
        callbacks=lambda model, logs: None,
        n_threads=1,
        max_iter=2,
    )
    with pytest.raises(ValueError, match="model must be fitted"):
        to_sklearn(ours)
    ours.fit(X, y)
    with pytest.raises(
        ValueError, match=r"unless drop_settings=True, got solver=Lion.*, loss='huber', dropout=0\.1, callbacks="
    ):
        to_sklearn(ours)
    with pytest.raises(ValueError, match="classes must be None for an estimator"):
        to_sklearn(ours, classes=[0])
    theirs = to_sklearn(ours, drop_settings=True)
    assert theirs.solver == "adam"
    agree(theirs, ours, X, y)
    theirs.partial_fit(X, y)
    for activation in ("gelu", ["relu", "tanh"], fastmlp.CustomActivation("twice", lambda z: 2 * z, lambda z: 2.0)):
        other = fastmlp.MLPRegressor(hidden_layer_sizes=(4, 4), activation=activation, max_iter=2).fit(X, y)
        with pytest.raises(ValueError, match=r"model must have (one of identity, sigmoid|built-in activations)"):
            to_sklearn(other, drop_settings=True)
    loss = fastmlp.CustomLoss("own", lambda p, y: (p - y) ** 2, lambda p, y: 2 * (p - y), output="softplus")
    other = fastmlp.MLPRegressor(loss, hidden_layer_sizes=4, max_iter=2).fit(X, y)
    with pytest.raises(ValueError, match="model must have an output activation that scikit-learn has"):
        to_sklearn(other, drop_settings=True)
    schedule = fastmlp.MLPRegressor(hidden_layer_sizes=4, learning_rate=fastmlp.schedules.Cosine(0.1), max_iter=2).fit(X, y)
    with pytest.raises(ValueError, match="got learning_rate=Cosine"):
        to_sklearn(schedule)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_of_models(dtype: Any) -> None:
    X = RNG.standard_normal((20, 4)).astype(dtype)
    tolerance = 1e-6 if dtype == "float32" else 1e-12
    regressor = Model([4, 5, 2], "tanh", dtype=dtype, rng=0)
    np.testing.assert_allclose(to_sklearn(regressor).predict(X), regressor.predict(X), rtol=0, atol=tolerance * 10)
    many = Model([4, 5, 3], loss="cross_entropy", dtype=dtype, rng=0)
    theirs = to_sklearn(many, classes=["a", "b", "c"])
    np.testing.assert_allclose(theirs.predict_proba(X), many.predict(X), rtol=0, atol=tolerance)
    np.testing.assert_array_equal(theirs.predict(X), np.array(["a", "b", "c"])[many.predict(X).argmax(axis=1)])
    assert to_sklearn(many).classes_.tolist() == [0, 1, 2]
    two = Model([4, 5, 1], loss="bce", dtype=dtype, rng=0)
    np.testing.assert_allclose(to_sklearn(two, classes=[-1, 1]).predict_proba(X)[:, 1:], two.predict(X), rtol=0, atol=tolerance)
    np.testing.assert_array_equal(to_sklearn(two, classes=[-1, 1]).predict(X), np.where(two.predict(X)[:, 0] > 0.5, 1, -1))
    several = Model([4, 3], loss="bce", dtype=dtype, rng=0)
    theirs = to_sklearn(several)
    np.testing.assert_allclose(theirs.predict_proba(X), several.predict(X), rtol=0, atol=tolerance)
    np.testing.assert_array_equal(theirs.predict(X), several.predict(X) > 0.5)


def test_of_models_training_goes_on() -> None:
    X, y = data("three")
    model = Model([5, 6, 3], "tanh", loss="cross_entropy", rng=0)
    theirs = to_sklearn(model, classes=["a", "b", "c"]).set_params(random_state=0)
    ours = from_sklearn(theirs)
    theirs.partial_fit(X, y)
    ours.partial_fit(X, y)
    agree(ours, theirs, X, y, 1e-10)
    assert np.abs(theirs.coefs_[0] - model.weights[0]).max() > 0
    X, y = data("indicators")
    theirs = to_sklearn(Model([5, 6, 3], "relu", loss="bce", rng=0)).partial_fit(X, y)
    assert theirs.n_iter_ == 1
    theirs = to_sklearn(Model([5, 6, 1], "relu", rng=0)).set_params(warm_start=True, max_iter=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        assert theirs.fit(*data("numbers")).n_iter_ == 2


def test_models_refused() -> None:
    with pytest.raises(ValueError, match="'bce' and sigmoid for scikit-learn, got 'mae', 'identity' and 1 outputs"):
        to_sklearn(Model([1, 1], loss="mae"))
    with pytest.raises(ValueError, match="got 'cross_entropy', 'softmax' and 1 outputs"):
        to_sklearn(Model([1, 1], loss="cross_entropy"))
    with pytest.raises(ValueError, match="in all hidden layers for scikit-learn, got \\('gelu',\\)"):
        to_sklearn(Model([1, 1, 1], "gelu"))
    with pytest.raises(ValueError, match="classes must be None for a model of loss='mse'"):
        to_sklearn(Model([1, 1]), classes=[0])
    for classes in ([0], [1, 0, 2], [0, 0, 1], [[0, 1, 2]]):
        with pytest.raises(ValueError, match="classes must be 3 different ones, sorted"):
            to_sklearn(Model([1, 3], loss="cross_entropy"), classes=classes)
    with pytest.raises(ValueError, match="integers from 0 on, for several sigmoids"):
        to_sklearn(Model([1, 3], loss="bce"), classes=["a", "b", "c"])
