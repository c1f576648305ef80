"""Any calls of an estimator in any order: what it must be after each of them, whatever came before (how many: see `machines`).

A call does what it says, or is refused and leaves the estimator as it was; which of these, the settings and the parameters of
now decide (`_refuses`).
"""

from __future__ import annotations

import copy
import pickle
import signal
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import reference
import sklearn
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from machines import MARKS, ROWS, PlantedError, raise_at, run, seeds, signalled, struck
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import fastmlp
from fastmlp import MLPClassifier, MLPRegressor, schedules

pytestmark = MARKS

SETTINGS: dict[str, Any] = {
    "hidden_layer_sizes": some.sampled_from(((), (3,), (17, 9), 5, (5,))),
    "activation": some.sampled_from(("relu", "tanh", "logistic", "tanh", "gelu", ["relu", "tanh"])),
    "dropout": some.sampled_from((0.0, 0.0, 0.2)),
    "solver": some.sampled_from(("adam", "sgd", "adam", "lbfgs", "rmsprop", fastmlp.Lion(1e-3))),
    "alpha": some.sampled_from((0.0, 1e-3)),
    "batch_size": some.sampled_from(("auto", 7, 1000)),
    "learning_rate": some.sampled_from(("constant", "invscaling", "adaptive", "constant", schedules.Step(1e-2, epochs=2))),
    "learning_rate_init": some.sampled_from((1e-3, 1e-2)),
    "max_iter": some.integers(1, 4),
    "shuffle": some.booleans(),
    "tol": some.sampled_from((1e-4, 10.0)),
    "n_iter_no_change": some.sampled_from((1, 10)),
    "warm_start": some.booleans(),
    "early_stopping": some.sampled_from((False, False, True)),
    "momentum": some.sampled_from((0.0, 0.9)),
    "random_state": some.integers(0, 9),
    "n_threads": some.sampled_from((None, 1, 2)),
}
kinds = some.sampled_from((None, None, None, 0, 1, 2))  # None: the data that it is fitted to
BAD: tuple[dict[str, Any], ...] = (
    {"hidden_layer_sizes": (0,)},
    {"activation": "cube"},
    {"dropout": 1.5},
    {"alpha": -1.0},
    {"batch_size": 0},
    {"max_iter": 0},
    {"solver": "newton"},
    {"solver": fastmlp.Lion},
    {"learning_rate": 0.1},
    {"learning_rate_init": -0.1},
    {"beta_1": 1.0},
    {"random_state": "seed"},
    {"n_threads": 0},
    {"callbacks": 3, "solver": "adam"},
)
DIVERGES: dict[str, Any] = {
    "solver": "sgd",
    "learning_rate_init": 1e200,
    "learning_rate": "constant",
    "hidden_layer_sizes": (3,),
    "activation": "identity",
    "dropout": 0.0,
    "max_iter": 4,
    "warm_start": False,
    "early_stopping": False,
}
WRONG_DATA: tuple[Callable[[Any, np.ndarray, np.ndarray], Any], ...] = (
    lambda m, X, y: m.fit(X, y[:-1]),
    lambda m, X, y: m.fit(X[:0], y[:0]),
    lambda m, X, y: m.fit(np.where(X > 0, np.inf, X), y),
    lambda m, X, y: m.fit(X[:, :3], y, np.ones(3)),
    lambda m, X, y: m.fit(X, y, X_val=X[:9]),
    lambda m, X, y: m.fit(X[:, :3], y, X_val=X, y_val=y),
    lambda m, X, y: m.fit(X, y, X_val=X, y_val=y[:9]),
    lambda m, X, y: m.partial_fit(X, y[:-1]),
    lambda m, X, y: m.partial_fit(np.where(X > 0, np.nan, X), y),
    lambda m, X, y: m.predict(X[:, :1]),
    lambda m, X, y: m.predict(np.full((2, 4), np.nan)),
    lambda m, X, y: m.score(X, y[:-1]),
)
CURVES = ("loss_curve_", "validation_loss_curve_")
NAMES = {"logistic": "sigmoid", "exp": "identity"}


class Planted:
    """A callback that fails in one of its hooks."""

    def __init__(self, hook: str) -> None:
        def fail(model: Any, logs: dict[str, Any]) -> None:
            raise PlantedError

        setattr(self, hook, fail)


def _state(value: Any) -> Any:
    """All that it holds, copied, in terms that `_same` compares."""
    if isinstance(value, fastmlp.Model):
        return value._engine.save(), value.activations, value.dropout
    if isinstance(value, MLPClassifier | MLPRegressor):
        return {name: _state(part) for name, part in vars(value).items() if name not in ("_views", "callbacks")}
    if isinstance(value, np.random.RandomState):
        return None  # each fit makes its own
    if hasattr(value, "__dict__") and not isinstance(value, type):
        return type(value), _state(vars(value))
    if isinstance(value, dict):
        return {name: _state(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_state(part) for part in value]
    return copy.copy(value)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return bool(one == other or (one != one and other != other))


def _counts(state: dict[str, Any]) -> dict[str, Any]:
    """What the attributes say but for the parameters' values."""
    return {name: value for name, value in state.items() if name not in ("coefs_", "intercepts_", "_model")}


def _hidden(estimator: Any) -> list[int]:
    hidden = estimator.hidden_layer_sizes
    return [hidden] if isinstance(hidden, int) else list(hidden)


def _widths(estimator: Any) -> list[int]:
    return [len(estimator.coefs_[0]), *(coef.shape[1] for coef in estimator.coefs_)]


def _names_fit(estimator: Any, hidden: int) -> bool:
    return isinstance(estimator.activation, str) or len(estimator.activation) == hidden


class EstimatorMachine(RuleBasedStateMachine):
    """`MLPClassifier` or `MLPRegressor`, and data of several kinds for it."""

    of: tuple[str, int] | None = None  # the data that it is fitted to: their targets, and their columns

    @initialize(
        classifies=some.booleans(), seed=seeds, warm=some.booleans(), settings=some.fixed_dictionaries({}, optional=SETTINGS)
    )
    def build(self, classifies: bool, seed: int, warm: bool, settings: dict[str, Any]) -> None:
        self.X = X = np.random.default_rng(seed).standard_normal((ROWS, 4))
        self.classifies = classifies
        if classifies:
            self.targets = {
                "binary": np.array(["a", "b"])[np.arange(ROWS) % 2],
                "classes": np.arange(ROWS) % 3,
                "labels": (X[:, :2] > 0).astype(int),
            }
        else:
            self.targets = {"number": np.abs(X[:, 0]), "numbers": np.abs(X[:, :2])}
        kind = MLPClassifier if classifies else MLPRegressor
        self.estimator: Any = kind(**{"max_iter": 3, "random_state": 0, "warm_start": warm, **settings})

    def _refuses(self, kind: str, columns: int, incremental: bool = False, validates: bool = False) -> bool:
        estimator, hidden = self.estimator, _hidden(self.estimator)
        lbfgs = estimator.solver == "lbfgs"
        if not _names_fit(estimator, len(hidden)) or (lbfgs and (validates or (hidden and estimator.dropout))):
            return True
        if isinstance(estimator.learning_rate, schedules.Schedule) and (lbfgs or not isinstance(estimator.solver, str)):
            return True
        if incremental and (estimator.early_stopping or (lbfgs and self.classifies)):
            return True
        if self.of is None or not (incremental or estimator.warm_start):
            return False
        goes = estimator.out_activation_ == "exp" if estimator.loss == "poisson" else estimator.out_activation_ != "exp"
        return self.of != (kind, columns) or _widths(estimator)[1:-1] != hidden or not goes

    def _data(self, kind: int | None, columns: int, rows: int = ROWS) -> tuple[tuple[str, int], np.ndarray, np.ndarray]:
        name = list(self.targets)[(kind or 0) % len(self.targets)]
        if kind is None and self.of:
            name, columns = self.of
        return (name, columns), self.X[:rows, :columns], self.targets[name][:rows]

    def _try(self, call: Callable[[], Any], refused: bool, of: tuple[str, int]) -> None:
        before = _state(self.estimator)
        if not refused:
            assert call() is self.estimator
            self.of = of
        else:
            with pytest.raises((ValueError, TypeError, AttributeError)):
                call()
            assert _same(_state(self.estimator), before)

    @rule(
        kind=kinds,
        columns=some.sampled_from((4, 4, 3)),
        weighted=some.booleans(),
        validates=some.sampled_from((False, False, True)),
    )
    def fit(self, kind: int | None, columns: int, weighted: bool, validates: bool) -> None:
        of, X, y = self._data(kind, columns)
        weights = np.arange(ROWS) % 4 + 0.5 if weighted else None
        held_out = {"X_val": X[:9], "y_val": y[:9]} if validates else {}
        refused = self._refuses(*of, validates=validates)
        self._try(lambda: self.estimator.fit(X, y, weights, **held_out), refused, of)

    def _partial_fit(self, estimator: Any, X: np.ndarray, y: np.ndarray) -> Any:
        first = (
            {} if hasattr(estimator, "coefs_") or not self.classifies else {"classes": [0, 1] if y.ndim > 1 else np.unique(y)}
        )
        return estimator.partial_fit(X, y, **first)

    @rule(kind=kinds, columns=some.sampled_from((4, 4, 3)), rows=some.integers(9, ROWS))
    def partial_fit(self, kind: int | None, columns: int, rows: int) -> None:
        of, X, y = self._data(kind, columns, rows)
        refused = self._refuses(*of, incremental=True)
        self._try(lambda: self._partial_fit(self.estimator, X, y), refused, of)

    @precondition(lambda self: self.classifies and self.of)
    @rule(classes=some.sampled_from(([0, 1, 2, 3], ["a", "c"], [])))
    def partial_fit_for_other_classes(self, classes: list[Any]) -> None:
        name, columns = self.of
        self._try(lambda: self.estimator.partial_fit(self.X[:, :columns], self.targets[name], classes=classes), True, self.of)

    @rule(settings=some.fixed_dictionaries({}, optional=SETTINGS))
    def set_params(self, settings: dict[str, Any]) -> None:
        self.estimator.set_params(**settings)

    @precondition(lambda self: not self.classifies)
    @rule(loss=some.sampled_from(("squared_error", "poisson", "huber", "absolute_error")))
    def set_loss(self, loss: str) -> None:
        self.estimator.set_params(loss=loss)

    @rule(count=some.integers(1, 3))
    def set_threads(self, count: int) -> None:
        fastmlp.set_num_threads(count)

    @rule(protocol=some.integers(2, 5))
    def pickle(self, protocol: int) -> None:
        self.estimator = pickle.loads(pickle.dumps(self.estimator, protocol))

    @rule()
    def deepcopy(self) -> None:
        self.estimator = copy.deepcopy(self.estimator)

    @rule()
    def clone(self) -> None:
        settings = self.estimator.get_params()
        self.estimator, self.of = clone(self.estimator), None
        assert self.estimator.get_params() == settings

    @precondition(lambda self: self.of)
    @rule(seed=seeds, replaced=some.booleans())
    def write_parameters(self, seed: int, replaced: bool) -> None:
        rng, estimator = np.random.default_rng(seed), self.estimator
        for arrays in (estimator.coefs_, estimator.intercepts_):
            for i, array in enumerate(arrays):
                values = rng.standard_normal(array.shape) / 3
                if replaced:
                    arrays[i] = values
                else:
                    array[...] = values

    @precondition(lambda self: self.of)
    @rule(seed=seeds, width=some.sampled_from((3, 5, 6)), depth=some.integers(0, 2))
    def replace_by_other_widths(self, seed: int, width: int, depth: int) -> None:
        """As many features and outputs: predictions are theirs."""
        rng, estimator = np.random.default_rng(seed), self.estimator
        shapes = list(pairwise([estimator.n_features_in_, *[width] * depth, estimator.n_outputs_]))
        estimator.coefs_ = [rng.standard_normal(shape) / 3 for shape in shapes]
        estimator.intercepts_ = [rng.standard_normal(shape[1]) / 3 for shape in shapes]
        estimator.n_layers_ = depth + 2

    @precondition(lambda self: self.of)
    @rule(
        spoil=some.sampled_from(
            (
                lambda coefs, intercepts: coefs.__setitem__(0, np.ones((9, coefs[0].shape[1]))),
                lambda coefs, intercepts: coefs.__setitem__(-1, np.ones((len(coefs[-1]), 9))),
                lambda coefs, intercepts: coefs.__setitem__(0, np.ones(4)),
                lambda coefs, intercepts: coefs.__setitem__(0, coefs[0].astype(str)),
                lambda coefs, intercepts: coefs.pop(),
                lambda coefs, intercepts: intercepts.pop(),
                lambda coefs, intercepts: intercepts.__setitem__(0, np.ones(99)),
                lambda coefs, intercepts: (coefs.clear(), intercepts.clear()),
            )
        )
    )
    def refused_parameters(self, spoil: Callable[[Any, Any], Any]) -> None:
        """Neither used nor trained on, until others are there."""
        estimator, (name, columns) = self.estimator, self.of
        X, y = self.X[:, :columns], self.targets[name]
        good = list(estimator.coefs_), list(estimator.intercepts_)
        spoil(estimator.coefs_, estimator.intercepts_)
        before = _state(estimator)
        calls = [lambda: estimator.predict(X), lambda: estimator.score(X, y), lambda: estimator.partial_fit(X, y)]
        if estimator.warm_start:
            calls.append(lambda: estimator.fit(X, y))
        for call in calls:
            with pytest.raises((ValueError, TypeError, AttributeError)):
                call()
            assert _same(_state(estimator), before)
        pickle.dumps(estimator)
        estimator.coefs_[:], estimator.intercepts_[:] = good

    @rule(bad=some.sampled_from(BAD), incremental=some.booleans(), kind=kinds)
    def refused_settings(self, bad: dict[str, Any], incremental: bool, kind: int | None) -> None:
        estimator = self.estimator
        _, X, y = self._data(kind, 4)
        good = {name: getattr(estimator, name) for name in bad}
        before = _state(estimator.set_params(**bad))
        with pytest.raises((ValueError, TypeError, AttributeError)):
            self._partial_fit(estimator, X, y) if incremental else estimator.fit(X, y)
        assert _same(_state(estimator), before)
        estimator.set_params(**good)

    @rule(kind=kinds)
    def diverges(self, kind: int | None) -> None:
        estimator, (_, X, y) = self.estimator, self._data(kind, 4)
        good = {name: getattr(estimator, name) for name in DIVERGES}
        before = _state(estimator.set_params(**DIVERGES))
        with pytest.raises(ValueError, match="Solver produced non-finite parameter weights"):
            estimator.fit(X * 1e3, y)
        assert _same(_state(estimator), before)
        estimator.set_params(**good)

    @rule(call=some.sampled_from(WRONG_DATA), kind=kinds)
    def refused_data(self, call: Callable[..., Any], kind: int | None) -> None:
        before = _state(self.estimator)
        with pytest.raises((ValueError, TypeError, AttributeError)):
            call(self.estimator, *self._data(kind or 0, 4)[1:])
        assert _same(_state(self.estimator), before)

    @rule(
        callback=some.sampled_from((raise_at(0), raise_at(1), Planted("on_train_begin"), Planted("on_train_end"))),
        kind=kinds,
        incremental=some.booleans(),
    )
    def callback_raises(self, callback: Any, kind: int | None, incremental: bool) -> None:
        self._interrupted(kind, incremental, lambda call: self._planted(callback, call))

    def _planted(self, callback: Any, call: Callable[[], Any]) -> bool:
        self.estimator.set_params(callbacks=callback)
        try:
            call()
        except PlantedError:
            return True
        finally:
            self.estimator.set_params(callbacks=None)
        return False

    def _interrupted(self, kind: int | None, incremental: bool, strike: Callable[..., bool], again: bool = False) -> None:
        """A fit is whole or undone; of a batch of `partial_fit`'s, some steps may stay.

        With `again` it is done once more, so that what comes next does not depend on when a strike came.
        """
        of, X, y = self._data(kind, 4)
        if self._refuses(*of, incremental):
            return
        estimator = self.estimator
        act = self._partial_fit if incremental else lambda m, X, y: m.fit(X, y)
        before, whole = _state(estimator), copy.deepcopy(estimator)
        act(whole, X, y)
        after = _state(whole)
        came_out = strike(lambda: act(estimator, X, y))
        now = _state(estimator)
        done = _same(now, after)
        steps = incremental and self.of and estimator.solver != "lbfgs"
        assert done or (came_out and _same(*map(_counts if steps else dict, (now, before))))
        if again:
            act(estimator, X, y)
        if again or done:
            self.of = of

    @rule(kind=kinds, epoch=some.integers(0, 3))
    def ctrl_c(self, kind: int | None, epoch: int) -> None:
        """What was reached stays, as from a fit of as many epochs."""
        of, X, y = self._data(kind, 4)
        if self._refuses(*of) or self.estimator.solver == "lbfgs":
            return
        most = self.estimator.max_iter
        whole = copy.deepcopy(self.estimator).set_params(max_iter=min(epoch + 1, most)).fit(X, y)
        self.estimator.set_params(callbacks=raise_at(epoch, KeyboardInterrupt)).fit(X, y)
        self.of = of
        assert _same(_state(self.estimator.set_params(callbacks=None)), _state(whole.set_params(max_iter=most)))

    @precondition(lambda self: sys.gettrace() is None)
    @rule(position=some.integers(0, 6000), kind=kinds, incremental=some.booleans())
    def struck_at_a_bytecode(self, position: int, kind: int | None, incremental: bool) -> None:
        self._interrupted(kind, incremental, lambda call: struck(call, position), again=True)

    @precondition(lambda self: hasattr(signal, "setitimer"))
    @rule(after=some.floats(1e-5, 1e-2), kind=kinds, incremental=some.booleans())
    def struck_by_a_signal(self, after: float, kind: int | None, incremental: bool) -> None:
        """Whose exception may leave NumPy's and scikit-learn's own settings as a block of theirs had set them."""
        numpys, sklearns = np.geterr(), sklearn.get_config()

        def strike(call: Callable[[], Any]) -> bool:
            try:
                return signalled(call, after)
            finally:
                np.seterr(**numpys)
                sklearn.set_config(**sklearns)

        self._interrupted(kind, incremental, strike, again=True)

    @precondition(lambda self: self.of and not self._refuses(*self.of, True))
    @rule()
    def copies_train_on_as_it_does(self) -> None:
        name, columns = self.of
        twins = pickle.loads(pickle.dumps(self.estimator)), copy.deepcopy(self.estimator)
        for one in (self.estimator, *twins):
            one.partial_fit(self.X[:, :columns], self.targets[name])
        for twin in twins:
            assert _same(_state(twin), _state(self.estimator))

    @invariant()
    def predicts_what_numpy_does(self) -> None:
        estimator = self.estimator
        if self.of is None:
            assert [name for name in vars(estimator) if name.endswith("_") or name.startswith("_")] == []
            with pytest.raises(NotFittedError):
                estimator.predict(self.X)
            return
        kind, columns = self.of
        X, y = self.X[:, :columns], self.targets[kind]
        assert all(np.isfinite(array).all() for array in (*estimator.coefs_, *estimator.intercepts_))
        hidden = len(estimator.coefs_) - 1
        if not _names_fit(estimator, hidden):
            with pytest.raises(ValueError, match="activation must hold"):
                estimator.predict(X)
            return
        given = estimator.activation
        names = [NAMES.get(name, name) for name in ([given] * hidden if isinstance(given, str) else given)]
        out = (
            "identity"
            if estimator.out_activation_ == "exp"
            else NAMES.get(estimator.out_activation_, estimator.out_activation_)
        )
        want = reference.forward(X, estimator.coefs_, estimator.intercepts_, [*names, out])
        assert reference.error(estimator.model_.predict(X), want, 1.0) < 1e-10
        want = np.exp(want) if estimator.out_activation_ == "exp" else want
        if self.classifies:
            got = estimator.predict_proba(X)
            want = np.hstack([1 - want, want]) if kind == "binary" else want
            chosen = (want > 0.5).astype(int) if kind == "labels" else estimator.classes_[want.argmax(axis=1)]
            clear = np.abs(np.sort(want)[:, -2:] - 0.5).min(axis=1) > 1e-9
            np.testing.assert_array_equal(estimator.predict(X)[clear], chosen[clear])
        else:
            got = estimator.predict(X)
            assert got.shape == y.shape
            got = got.reshape(want.shape)
        assert reference.error(got, want, 1.0) < 1e-10
        assert np.isfinite(estimator.score(X, y))

    @precondition(lambda self: self.of)
    @invariant()
    def attributes_agree(self) -> None:
        estimator, (kind, columns) = self.estimator, self.of
        widths = _widths(estimator)
        assert estimator.n_features_in_ == widths[0] == columns
        assert estimator.n_outputs_ == widths[-1] == {"classes": 3, "labels": 2, "numbers": 2}.get(kind, 1)
        assert estimator.n_layers_ == len(widths)
        assert [coef.shape for coef in estimator.coefs_] == list(pairwise(widths))
        assert [intercept.shape for intercept in estimator.intercepts_] == [(width,) for width in widths[1:]]
        if self.classifies:
            assert list(estimator.classes_) == ([0, 1] if kind == "labels" else list(np.unique(self.targets[kind])))
            assert estimator.out_activation_ == ("softmax" if kind == "classes" else "logistic")
        if not hasattr(estimator, "loss_curve_"):  # all by lbfgs
            return
        curve, scores = estimator.loss_curve_, estimator.validation_scores_
        assert np.isfinite(curve).all()
        assert np.isfinite(estimator.loss_)
        assert len(estimator.validation_loss_curve_) == len(scores or ())
        assert len(scores or ()) <= len(curve)
        if scores:
            assert estimator.best_validation_score_ == max(scores)
        assert estimator.best_loss_ in (None, np.inf, *curve)


def test_any_calls_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    run(EstimatorMachine, monkeypatch)
