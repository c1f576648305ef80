"""Any calls in any order: what a model must be after each of them, whatever came before (how many: see `machines`)."""

from __future__ import annotations

import copy
import pickle
import signal
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reference
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from machines import MARKS, ROWS, PlantedError, raise_at, run, seeds, signalled, struck

import fastmlp
from fastmlp import schedules

pytestmark = MARKS

OPTIMIZERS = (
    fastmlp.SGD(1e-3),
    fastmlp.SGD(1e-3, momentum=0.9, clip_norm=1.0),
    fastmlp.Adam(1e-3),
    fastmlp.Adam(1e-3, l2=0.01, ema=0.9),
    fastmlp.AdamW(1e-3),
    fastmlp.RMSprop(1e-4, momentum=0.5),
    fastmlp.Adagrad(1e-2),
    fastmlp.Nadam(1e-3, clip_value=1.0),
    fastmlp.Lion(1e-4),
)
optimizers = some.sampled_from(OPTIMIZERS)


WRONG: tuple[Callable[[Any, np.ndarray, np.ndarray], Any], ...] = (
    lambda m, X, y: m.fit(np.ones((5, X.shape[1] + 1)), y[:5]),
    lambda m, X, y: m.fit(X, y[:-1]),
    lambda m, X, y: m.fit(X[:0], y[:0]),
    lambda m, X, y: m.fit(X[None], y),
    lambda m, X, y: m.fit(X, y, epochs=0),
    lambda m, X, y: m.fit(X, y, epochs=2.5),
    lambda m, X, y: m.fit(X, y, batch_size=0),
    lambda m, X, y: m.fit(X, y, lr=-1.0),
    lambda m, X, y: m.fit(X, y, lr=0.1, optimizer=fastmlp.Adam()),
    lambda m, X, y: m.fit(X, y, optimizer="adam"),
    lambda m, X, y: m.fit(X, y, shuffle=2),
    lambda m, X, y: m.fit(X, y, rng="seed"),
    lambda m, X, y: m.fit(X, y, validation_split=1.0),
    lambda m, X, y: m.fit(X, y, validation_data=(X, y[:-1])),
    lambda m, X, y: m.fit(X, y, sample_weight=-np.ones(len(X))),
    lambda m, X, y: m.fit(X, y, metrics="no metric"),
    lambda m, X, y: m.fit(X, y, callbacks=3),
    lambda m, X, y: m.fit(X, y, nonfinite="sometimes"),
    lambda m, X, y: m.fit(X, y, label_smoothing=2.0),
    lambda m, X, y: m.fit_batches([]),
    lambda m, X, y: m.fit_batches([(X,)]),
    lambda m, X, y: m.step(X, y, lr=float("nan")),
    lambda m, X, y: m.step(X[:, None], y),
    lambda m, X, y: m.step(X),
    lambda m, X, y: m.step(X, y, output_gradient=np.ones((len(X), m.sizes[-1]))),
    lambda m, X, y: m.step(X, output_gradient=np.ones((len(X), m.sizes[-1] + 1))),
    lambda m, X, y: m.step(X, output_gradient=np.ones((len(X), m.sizes[-1])), optimizer="adma"),
    lambda m, X, y: m.backward(X, y, logits=True),
    lambda m, X, y: m.gradient(X, y, sample_weight=np.full(len(X), np.nan)),
    lambda m, X, y: m.layer_outputs(X[:, :0]),
    lambda m, X, y: m.set_params_from(m, tau=0.0),
    lambda m, X, y: m.set_params_from(np.ones(m.params.size + 1)),
    lambda m, X, y: m.predict("X"),
    lambda m, X, y: m.predict(X, out=np.empty((len(X), m.sizes[-1]), np.int64)),
    lambda m, X, y: m.predict(X, out=np.empty((len(X), m.sizes[-1] + 1), m.dtype)),
    lambda m, X, y: m.predict(X[:, :0]),
    lambda m, X, y: m.loss(X, y[:3]),
    lambda m, X, y: m.gradient(np.ones(X.shape, complex), y),
    lambda m, X, y: m.apply_gradient(np.ones(m.params.size + 1)),
    lambda m, X, y: m.apply_gradient(np.ones(m.params.size), lr=0.0),
)


class ModelMachine(RuleBasedStateMachine):
    """A `Model`, and what may be done with it."""

    @initialize(
        seed=seeds,
        widths=some.lists(some.sampled_from((1, 2, 3, 5, 8, 17, 40, 140)), min_size=2, max_size=5),
        hidden=some.sampled_from(reference.HIDDEN),
        loss=some.sampled_from(list(reference.LOSSES)),
        dtype=some.sampled_from(("float32", "float64")),
        rate=some.sampled_from((0.0, 0.0, 0.25)),
    )
    def build(self, seed: int, widths: list[int], hidden: str, loss: str, dtype: str, rate: float) -> None:
        activations = [hidden] * (len(widths) - 2) + [reference.OUTPUT.get(loss, "identity")]
        problem = reference.problem(widths, activations, loss, ROWS, seed, dtype)
        self.X, self.y, self.dtype, self.sizes = problem.X, problem.y, np.dtype(dtype), tuple(widths)
        self.model = fastmlp.Model(widths, activations, loss, dtype, seed, dropout=rate)
        self.optimizer: Any = OPTIMIZERS[0]

    @rule(optimizer=optimizers, epochs=some.integers(1, 3), batch=some.none() | some.integers(1, ROWS + 9), seed=seeds)
    def fit(self, optimizer: Any, epochs: int, batch: int | None, seed: int) -> None:
        self.optimizer = optimizer
        self.model.fit(self.X, self.y, epochs, batch, optimizer=optimizer, rng=seed)

    @rule(
        epochs=some.integers(1, 3),
        seed=seeds,
        options=some.fixed_dictionaries(
            {},
            optional={
                "validation_split": some.just(0.3),
                "sample_weight": some.just(np.arange(ROWS) % 3 + 0.5),
                "metrics": some.just(lambda y, p: float(np.mean(p))),
                "callbacks": some.builds(lambda: fastmlp.EarlyStopping("loss", patience=1)),
                "nonfinite": some.sampled_from(("stop", "raise")),
                "shuffle": some.booleans(),
            },
        ),
    )
    def fit_with_options(self, epochs: int, seed: int, options: dict[str, Any]) -> None:
        self.optimizer = fastmlp.Adam(1e-3)
        by = fastmlp.Adam(schedules.Cosine(1e-3))
        self.model.fit(self.X, self.y, epochs, 16, optimizer=by, rng=seed, **options)

    @rule(first=some.integers(1, ROWS - 1), seed=seeds)
    def fit_batches(self, first: int, seed: int) -> None:
        batches = [(self.X[:first], self.y[:first]), (self.X[first:], self.y[first:])]
        self.model.fit_batches(batches, 2, optimizer=self.optimizer, rng=seed)

    @rule(rows=some.integers(1, ROWS), optimizer=optimizers)
    def step(self, rows: int, optimizer: Any) -> None:
        self.optimizer = optimizer
        self.model.step(self.X[:rows], self.y[:rows], optimizer=optimizer)

    @rule(rows=some.integers(1, ROWS), optimizer=optimizers, seed=seeds)
    def step_by_weights(self, rows: int, optimizer: Any, seed: int) -> None:
        self.optimizer = optimizer
        w = np.random.default_rng(seed).standard_normal(rows) + 0.5
        if self.model.loss_name == "poisson":  # minus an exponential has no end
            w = abs(w)
        self.model.step(self.X[:rows], self.y[:rows], optimizer=optimizer, sample_weight=w)

    @rule(rows=some.integers(1, ROWS), optimizer=optimizers, logits=some.booleans(), seed=seeds)
    def step_by_output_gradient(self, rows: int, optimizer: Any, logits: bool, seed: int) -> None:
        """Of a loss that pulls what is given to nothing: no step makes it large."""
        self.optimizer, X = optimizer, self.X[:rows]
        layer = self.model.layer_outputs(X)[-1]
        G = np.clip(layer.z if logits else layer.a, -1, 1) / rows
        want = reference.pulled(X, G, self.model.weights, self.model.biases, self.model.activations, logits)
        got = self.model.gradient(X, output_gradient=G, logits=logits)[1]
        bound = 1e-10 if self.dtype == float else 1e-3
        assert reference.error(got, reference.flat(want.weights, want.biases), 1.0) < bound
        self.model.step(X, optimizer=optimizer, output_gradient=G, logits=logits)

    @rule(tau=some.sampled_from((0.01, 0.5, 1.0)), seed=seeds)
    def follow(self, tau: float, seed: int) -> None:
        other = fastmlp.Model(self.sizes, self.model.activations, self.model.network.loss, self.dtype, seed)
        self.model.set_params_from(other, tau)

    @rule(rows=some.integers(1, ROWS))
    def step_by_gradient(self, rows: int) -> None:
        """The same as a step, but for what dropout leaves out and rounding."""
        other = copy.deepcopy(self.model)
        loss, g = self.model.gradient(self.X[:rows], self.y[:rows])
        assert loss == pytest.approx(self.model.loss(self.X[:rows], self.y[:rows]), rel=1e-4)
        plain = fastmlp.SGD(1e-3)
        self.optimizer = plain
        self.model.apply_gradient(g, optimizer=plain)
        other.step(self.X[:rows], self.y[:rows], optimizer=plain)
        if not any(self.model.dropout):
            assert reference.error(self.model.params, other.params, 1.0) < 1e-5

    @rule(seed=seeds)
    def write_weights(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        for view in (*self.model.weights, *self.model.biases):
            view[...] = rng.standard_normal(view.shape) / np.sqrt(len(view) + 1)

    @rule()
    def pickle(self) -> None:
        self.model = pickle.loads(pickle.dumps(self.model))

    @rule()
    def deepcopy(self) -> None:
        self.model = copy.deepcopy(self.model)

    @rule()
    def copy(self) -> None:
        self.model = self.model.copy()

    @rule()
    def trim(self) -> None:
        self.model.trim()

    @rule(rows=some.sampled_from((1, 300, 3000)))
    def predict_many(self, rows: int) -> None:
        X = np.resize(self.X, (rows, self.sizes[0]))
        out = np.full((rows, self.sizes[-1]), np.nan, self.dtype)
        assert self.model.predict(X, out=out) is out
        few = min(rows, ROWS)
        assert reference.error(out[:few], self.model.predict(self.X[:few]), 1.0) < (1e-12 if self.dtype == float else 1e-5)

    @rule(count=some.integers(1, 3))
    def set_threads(self, count: int) -> None:
        fastmlp.set_num_threads(count)

    @rule(epoch=some.integers(0, 2), seed=seeds)
    def callback_raises(self, epoch: int, seed: int) -> None:
        """All completed epochs stay."""
        self.optimizer = adam = fastmlp.Adam(1e-3)
        other = copy.deepcopy(self.model)
        with pytest.raises(PlantedError):
            self.model.fit(self.X, self.y, 4, 16, optimizer=adam, rng=seed, callbacks=raise_at(epoch))
        other.fit(self.X, self.y, epoch + 1, 16, optimizer=adam, rng=seed)
        np.testing.assert_array_equal(self.model.params, other.params)

    def _call(self, which: int, optimizer: Any) -> Callable[[], Any]:
        model, X, y = self.model, self.X, self.y
        self.optimizer = optimizer
        return (
            lambda: model.fit(X, y, 2, 16, optimizer=optimizer, rng=0, validation_split=0.3),
            lambda: model.fit(X, y, 2, 16, optimizer=optimizer),
            lambda: model.step(X, y, optimizer=optimizer),
            lambda: model.backward(X, y),
            lambda: model.predict(np.resize(X, (3000, X.shape[1]))),
            lambda: model.apply_gradient(np.zeros(model.params.size), optimizer=optimizer),
            lambda: pickle.loads(pickle.dumps(model)),
            lambda: model.step(X, optimizer=optimizer, output_gradient=np.ones((ROWS, self.sizes[-1])) * 1e-3),
            lambda: model.step(X, y, optimizer=optimizer, sample_weight=np.arange(ROWS) % 5 - 1.0),
            lambda: model.set_params_from(model.params * 0.5, 0.5),
            lambda: model.layer_outputs(X),
        )[which]

    @precondition(lambda self: sys.gettrace() is None)
    @rule(position=some.integers(0, 2500), which=some.integers(0, 10), optimizer=optimizers)
    def struck_at_a_bytecode(self, position: int, which: int, optimizer: Any) -> None:
        struck(self._call(which, optimizer), position)

    @precondition(lambda self: hasattr(signal, "setitimer"))
    @rule(after=some.floats(1e-6, 1e-3), which=some.integers(0, 10), optimizer=optimizers)
    def struck_by_a_signal(self, after: float, which: int, optimizer: Any) -> None:
        signalled(self._call(which, optimizer), after)

    @rule(call=some.sampled_from(WRONG))
    def refused(self, call: Callable[..., Any]) -> None:
        before = self.model._engine.save()
        with pytest.raises((ValueError, TypeError)):
            call(self.model, self.X, self.y)
        for name, value in self.model._engine.save().items():
            assert np.array_equal(value, before[name]), name

    @invariant()
    def computes_what_numpy_does(self) -> None:
        model = self.model
        assert np.isfinite(model.params).all()
        want = reference.forward(self.X, model.weights, model.biases, model.activations)
        scale = 1 + max(float(np.abs(view).max()) for view in model.weights)
        assert reference.error(model.predict(self.X), want, scale) < (1e-11 if self.dtype == float else 1e-4)

    @invariant()
    def says_what_it_is(self) -> None:
        model = self.model
        assert model.sizes == self.sizes
        assert model.dtype == model.params.dtype == self.dtype
        assert [view.shape for view in model.weights] == list(zip(self.sizes, self.sizes[1:], strict=False))
        assert [view.shape for view in model.biases] == [(1, width) for width in self.sizes[1:]]
        np.testing.assert_array_equal(reference.flat(model.weights, model.biases), model.params)
        assert all(np.shares_memory(view, model.params) for view in (*model.weights, *model.biases))

    @invariant()
    def copies_train_on_as_it_does(self) -> None:
        twins = pickle.loads(pickle.dumps(self.model)), copy.deepcopy(self.model)
        loss = self.model.step(self.X, self.y, optimizer=self.optimizer)
        for twin in twins:
            assert twin.step(self.X, self.y, optimizer=self.optimizer) == loss
            np.testing.assert_array_equal(twin.params, self.model.params)


# ---- estimators ------------------------------------------------------------------------------------------------------

STRUCTURE = {
    "hidden_layer_sizes": some.sampled_from(((), (3,), (17, 9), 5)),
    "activation": some.sampled_from(("relu", "tanh", "logistic", "identity", "gelu")),
    "dropout": some.sampled_from((0.0, 0.0, 0.2)),
    "solver": some.sampled_from(("adam", "sgd", "adam", "lbfgs")),
}
OTHERS = {
    "alpha": some.sampled_from((0.0, 1e-3)),
    "batch_size": some.sampled_from(("auto", 7, 1000)),
    "learning_rate": some.sampled_from(("constant", "invscaling", "adaptive")),
    "learning_rate_init": some.sampled_from((1e-3, 1e-2)),
    "max_iter": some.integers(1, 4),
    "shuffle": some.booleans(),
    "warm_start": some.booleans(),
    "early_stopping": some.booleans(),
    "momentum": some.sampled_from((0.0, 0.9)),
    "random_state": some.integers(0, 9),
    "n_threads": some.sampled_from((None, 1, 2)),
}
BAD = (
    {"hidden_layer_sizes": (0,)},
    {"activation": "cube"},
    {"dropout": 1.5},
    {"alpha": -1.0},
    {"batch_size": 0},
    {"max_iter": 0},
    {"solver": "newton"},
    {"learning_rate_init": -0.1},
    {"validation_fraction": 2.0, "early_stopping": True},
    {"beta_1": 1.0},
)
NAMES = {"logistic": "sigmoid"}


def test_any_calls_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    run(ModelMachine, monkeypatch)
