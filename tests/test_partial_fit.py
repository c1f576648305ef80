"""What a `partial_fit` that does not come to its end leaves: all that it notes of a batch, or nothing."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from interrupts import strikes

from fastmlp import MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = np.random.default_rng(0).standard_normal((30, 4))
Y = X[:, :2] + 1
SETTINGS: list[dict[str, Any]] = [
    {},
    {"solver": "sgd", "learning_rate": "invscaling"},
    {"solver": "sgd", "learning_rate": "adaptive", "tol": 10.0, "n_iter_no_change": 1},
]


def _fail(model: Any, logs: dict[str, Any]) -> None:
    raise RuntimeError("after the epoch")


def _notes(regressor: Any) -> tuple[Any, ...]:
    settings = vars(regressor._optimizer)
    return (
        *(regressor.n_iter_, regressor.t_, regressor.loss_, regressor.best_loss_, list(regressor.loss_curve_)),
        *(regressor._no_improvement_count, settings["learning_rate"]),
    )


def _regressor(settings: dict[str, Any]) -> Any:
    return MLPRegressor(hidden_layer_sizes=5, max_iter=3, random_state=0, **settings).fit(X, Y)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_callback_that_fails(settings: dict[str, Any]) -> None:
    one, other = _regressor(settings), _regressor(settings).partial_fit(X, Y)
    with pytest.raises(RuntimeError, match="after the epoch"):
        one.set_params(callbacks=_fail).partial_fit(X, Y)
    assert _notes(one) == _notes(other)
    one.set_params(callbacks=None).partial_fit(X, Y)
    other.partial_fit(X, Y)
    np.testing.assert_array_equal(one.coefs_[0], other.coefs_[0])


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_an_exception_anywhere(settings: dict[str, Any]) -> None:
    start = _regressor(settings)
    before, after = _notes(start), _notes(copy.deepcopy(start).partial_fit(X, Y))
    assert before != after
    regressors, seen = [copy.deepcopy(start)], set()
    for where in strikes(lambda: regressors[-1].partial_fit(X, Y), 0, 23):
        notes = _notes(regressors[-1])
        assert notes in (before, after), where
        seen.add(notes == after)
        regressors.append(copy.deepcopy(start))
    assert seen == {False, True}
