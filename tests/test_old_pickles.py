"""Pickles that version 0.1.0 made, before the package had sub-packages: they load, predict the same, and train on the same."""

from __future__ import annotations

import importlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import InconsistentVersionWarning

import fastmlp
from fastmlp import MLPClassifier, MLPRegressor, Model

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings(f"ignore::{InconsistentVersionWarning.__module__}.InconsistentVersionWarning"),
]

DATA = Path(__file__).parent / "data"
X = np.random.default_rng(0).standard_normal((40, 3))
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)


def _load(name: str) -> Any:
    return pickle.loads((DATA / f"{name}.pickle").read_bytes())


def _outputs(trained: Any) -> np.ndarray:
    return trained.predict_proba(X) if isinstance(trained, MLPClassifier) else trained.predict(X)


def _fit_on(trained: Any) -> None:
    if isinstance(trained, Model):
        trained.fit(X, Y, 3, 8, optimizer=fastmlp.Adam(0.01), rng=1)
    else:
        for _ in range(3):
            trained.partial_fit(X, Y)


@pytest.mark.parametrize("name", ["model", "classifier", "regressor"])
def test_the_numbers_of_then(name: str) -> None:
    trained, saved = _load(name), np.load(DATA / f"{name}.npz")
    assert type(trained) is {"model": Model, "classifier": MLPClassifier, "regressor": MLPRegressor}[name]
    close = {"rtol": 1e-4, "atol": 1e-6} if name == "regressor" else {"rtol": 1e-9}  # float32
    np.testing.assert_allclose(_outputs(trained), saved["before"], **close)
    copied = pickle.loads(pickle.dumps(trained))  # by the version of now
    _fit_on(trained)
    np.testing.assert_allclose(_outputs(trained), saved["after"], **close)
    assert not np.allclose(saved["after"], saved["before"])
    _fit_on(copied)
    np.testing.assert_array_equal(_outputs(copied), _outputs(trained))


def test_the_loss_is_that_of_now() -> None:
    assert _load("model").network.loss == "cross_entropy"


def test_where_the_classes_were() -> None:
    old = importlib.import_module("fastmlp.estimators")
    assert (old.MLPClassifier, old.MLPRegressor) == (MLPClassifier, MLPRegressor)


@pytest.mark.parametrize(
    "address", ["metrics.Best", "lbfgs.LBFGS", "optimizers.SGD", "callbacks.EarlyStopping", "losses.Loss", "model.Gradients"]
)
def test_what_pickles_of_then_name_is_there(address: str) -> None:
    module, _, name = address.partition(".")
    assert isinstance(getattr(importlib.import_module(f"fastmlp.{module}"), name), type)


def test_a_schedule_that_follows_a_course_goes_on() -> None:
    model = Model([3, 1], rng=0)
    model.fit(X, Y, 2, lr=fastmlp.schedules.ReduceOnPlateau(0.1), validation_split=0.2)
    copied = pickle.loads(pickle.dumps(model).replace(b"fastmlp.monitor", b"fastmlp.metrics"))
    for one in (model, copied):
        one.fit(X, Y, 4, lr=fastmlp.schedules.ReduceOnPlateau(0.1), validation_split=0.2, initial_epoch=2)
    np.testing.assert_array_equal(copied.params, model.params)
