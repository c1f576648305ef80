"""The estimators' settings that scikit-learn has not: optimisers, schedules, losses, and the fitted `model_`."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

import fastmlp
from fastmlp import CustomLoss, MLPClassifier, MLPRegressor, Model, schedules
from fastmlp.optimizer import Optimizer
from fastmlp.sklearn import coefficients
from fastmlp.sklearn.solvers import SOLVERS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

rng = np.random.default_rng(0)
X = rng.standard_normal((60, 4))
LABELS = np.digitize(X[:, 0] + X[:, 1], [-0.5, 0.5])
SEVERAL = (X[:, :3] > 0).astype(int)
TARGETS = X[:, :2] + 1
WEIGHTS = rng.uniform(0.5, 2, 60)
SETTINGS: dict[str, Any] = {
    "hidden_layer_sizes": (5,),
    "activation": "tanh",
    "max_iter": 4,
    "batch_size": 16,
    "random_state": 0,
}

OPTIMIZERS: list[Any] = [
    fastmlp.SGD(0.05),
    fastmlp.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    fastmlp.Adam(0.01, epsilon=1e-3, weight_decay=0.01, clip_norm=0.1),
    fastmlp.AdamW(0.01, epsilon=1e-3, weight_decay=0.1, clip_value=0.05),
    fastmlp.RMSprop(0.01, epsilon=1e-3, momentum=0.5, l1=1e-3),
    fastmlp.Adagrad(0.05, epsilon=1e-3, l2=0.01),
    fastmlp.Adamax(0.01, epsilon=1e-3),
    fastmlp.Nadam(0.01, epsilon=1e-3, ema=0.5),
    fastmlp.Lion(0.001, weight_decay=0.1),
]


def _classifier(**settings: Any) -> MLPClassifier:
    return MLPClassifier(**SETTINGS | settings)


def _regressor(loss: Any = "squared_error", **settings: Any) -> MLPRegressor:
    return MLPRegressor(loss, **SETTINGS | settings)


def _start(estimator: Any, y: np.ndarray, loss: Any, output: str = "identity") -> Model:
    """A model with the parameters that a fit starts from."""
    settings = {"solver": fastmlp.SGD(1e-300), "learning_rate": "constant", "callbacks": None, "max_iter": 1}
    first = clone(estimator).set_params(**settings).fit(X, y)
    return Model.from_weights(first.coefs_, first.intercepts_, ["tanh", output], loss)


def _check_close(one: Any, other: Any) -> None:
    for name in ("coefs_", "intercepts_", "loss_curve_"):
        for a, b in zip(getattr(one, name), getattr(other, name), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12, err_msg=name)


# ---- optimisers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize(
    ("estimator", "y"),
    [
        (_classifier(), LABELS),
        (_classifier(), SEVERAL),
        (_regressor(), TARGETS),
        (_regressor("poisson"), np.abs(TARGETS)),
    ],
    ids=["classes", "labels", "numbers", "counts"],
)
def test_the_same_step_as_scikit_learns(estimator: Any, y: np.ndarray, weights: Any) -> None:
    """Where the definitions agree; batches of 16 and of 12 rows, so that the penalty's division shows."""
    for named, optimizer in (
        ({"solver": "sgd", "learning_rate_init": 0.05}, fastmlp.SGD(0.05, momentum=0.9, nesterov=True)),
        ({"solver": "sgd", "learning_rate_init": 0.05, "momentum": 0}, fastmlp.SGD(0.05)),
        ({"solver": "adam", "epsilon": 1e-30}, fastmlp.Adam(0.001, epsilon=1e-30)),
    ):
        theirs = clone(estimator).set_params(alpha=0.5, **named).fit(X, y, weights)
        _check_close(clone(estimator).set_params(alpha=0.5, solver=optimizer).fit(X, y, weights), theirs)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda one: type(one).__name__)
def test_the_same_steps_as_a_models(optimizer: Optimizer) -> None:
    """Of scikit-learn's squared_error with two outputs, whose gradient is that of another multiple than its loss."""
    half = CustomLoss("half", _half, _half_slope)
    regressor = _regressor(solver=optimizer, alpha=0, shuffle=False)
    model = _start(regressor, TARGETS, half)
    model.fit(X, TARGETS, 4, 16, optimizer=optimizer, shuffle=False)
    np.testing.assert_allclose(regressor.fit(X, TARGETS).model_.params, model.params, rtol=1e-9)
    classifier = _classifier(solver=optimizer, alpha=0, shuffle=False)
    model = _start(classifier, LABELS, "cross_entropy", "softmax")
    history = model.fit(X, LABELS, 4, 16, optimizer=optimizer, shuffle=False)
    np.testing.assert_array_equal(classifier.fit(X, LABELS).model_.params, model.params)
    np.testing.assert_allclose(classifier.loss_curve_, history["loss"])
    if optimizer.ema:
        np.testing.assert_array_equal(classifier.model_.average, model.average)


def _half(p: Any, y: Any) -> Any:
    return (p - y) * (p - y)


def _half_slope(p: Any, y: Any) -> Any:
    return 2 * (p - y)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_rate_is_the_same_number_in_any_type(kind: Any) -> None:
    settings = {"hidden_layer_sizes": 4, "max_iter": 5, "random_state": 0}
    one, other = (MLPRegressor(solver=fastmlp.SGD(rate), **settings).fit(X, TARGETS) for rate in (0.125, kind(0.125)))
    assert one.loss_curve_ == other.loss_curve_


def test_named_solvers() -> None:
    assert set(SOLVERS) >= {"adamw", "rmsprop", "adagrad", "adamax", "nadam", "lion"}
    for name, kind in SOLVERS.items():
        optimizer = kind(0.01)
        if name in ("adamw", "adamax", "nadam", "radam"):
            optimizer = replace(optimizer, beta1=0.8, beta2=0.99, epsilon=1e-4)
        named = {"solver": name, "learning_rate_init": 0.01, "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-4}
        one, other = _classifier(**named).fit(X, LABELS), _classifier(solver=optimizer).fit(X, LABELS)
        np.testing.assert_array_equal(one.coefs_[0], other.coefs_[0])
        assert one.loss_curve_ == other.loss_curve_


def test_a_penalty_of_its_own_takes_the_place_of_alpha() -> None:
    fitted = [_classifier(solver=fastmlp.SGD(0.1, l2=0.1), alpha=alpha).fit(X, LABELS) for alpha in (0.0, 10.0)]
    np.testing.assert_array_equal(fitted[0].coefs_[0], fitted[1].coefs_[0])


@pytest.mark.parametrize("solver", ["nadam", fastmlp.Lion(1e-3), fastmlp.RMSprop(schedules.Cosine(1e-2), momentum=0.5)])
def test_copies_and_parts(solver: Any) -> None:
    whole = _classifier(solver=solver, shuffle=False, n_iter_no_change=9).fit(X, LABELS)
    parted = _classifier(solver=solver, shuffle=False)
    assert clone(parted).get_params() == parted.get_params()
    for i in range(4):
        parted.partial_fit(X, LABELS, classes=[0, 1, 2])
        parted = (pickle.loads(pickle.dumps(parted)), copy.deepcopy(parted))[i % 2]
    np.testing.assert_array_equal(parted.coefs_[0], whole.coefs_[0])
    assert parted.loss_curve_ == whole.loss_curve_
    assert hasattr(parted, "partial_fit")
    assert not hasattr(parted.set_params(solver="lbfgs"), "partial_fit")


def test_a_search_over_solvers() -> None:
    grid = {"solver": ["sgd", "lbfgs", "lion", fastmlp.Adagrad(0.1)], "learning_rate_init": [1e-2]}
    search = GridSearchCV(_classifier(), grid, cv=2).fit(X, LABELS)
    assert len(set(search.cv_results_["mean_test_score"])) > 1
    assert search.best_params_["solver"] in grid["solver"]


# ---- schedules ----------------------------------------------------------------------------------------------------------


def _note_rate(rates: list[float], model: Model, logs: dict[str, Any]) -> None:
    rates.append(logs["lr"])


def test_a_schedule_is_that_of_a_model() -> None:
    course = schedules.Cosine(0.1, warmup=1)
    for settings in ({"solver": fastmlp.SGD(course)}, {"solver": "sgd", "learning_rate": course, "momentum": 0}):
        rates: list[float] = []
        note = partial(_note_rate, rates)
        classifier = _classifier(alpha=0, shuffle=False, callbacks=note, **settings)
        model = _start(classifier, LABELS, "cross_entropy", "softmax")
        history = model.fit(X, LABELS, 4, 16, lr=course, shuffle=False)
        np.testing.assert_allclose(classifier.fit(X, LABELS).model_.params, model.params, rtol=1e-12)
        assert rates == history["lr"]
    halves = _regressor(solver="sgd", momentum=0, alpha=0, shuffle=False, learning_rate=course)
    model = _start(halves, TARGETS, CustomLoss("half", _half, _half_slope))
    model.fit(X, TARGETS, 4, 16, lr=course, shuffle=False)
    np.testing.assert_allclose(halves.fit(X, TARGETS).model_.params, model.params, rtol=1e-9)


@pytest.mark.parametrize("solver", ["sgd", "adam", "adamw"])
def test_a_constant_schedule_changes_nothing(solver: str) -> None:
    for y, make in ((LABELS, _classifier), (TARGETS, _regressor)):
        one = make(solver=solver, learning_rate_init=0.02).fit(X, y)
        other = make(solver=solver, learning_rate=schedules.Constant(0.02)).fit(X, y)
        np.testing.assert_array_equal(one.coefs_[0], other.coefs_[0])


def test_a_schedule_over_partial_fits() -> None:
    rates: list[float] = []
    settings = {"callbacks": partial(_note_rate, rates), "batch_size": 60, "tol": 0}
    classifier = _classifier(learning_rate=schedules.Cosine(0.1, final=0.01), **settings)
    for _ in range(6):
        classifier.partial_fit(X, LABELS, classes=[0, 1, 2])
    np.testing.assert_allclose(rates[:4], schedules.Cosine(0.1, final=0.01).rates(0, 4, 1, 4))
    assert 0.01 <= max(rates[4:]) <= rates[3]
    rates.clear()
    with pytest.raises(ValueError, match="inconsistent"):
        classifier.partial_fit(X, LABELS[:5])
    classifier.set_params(learning_rate=schedules.Step(0.1, epochs=2)).partial_fit(X, LABELS).partial_fit(X, LABELS)
    classifier.partial_fit(X, LABELS)
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.01])


def test_a_plateau() -> None:
    rates: list[float] = []
    plateau = schedules.ReduceOnPlateau(0.1, factor=0.5, patience=1, min_delta=100.0)
    settings = {"callbacks": partial(_note_rate, rates), "learning_rate": plateau}
    classifier = _classifier(**settings).fit(X, LABELS, X_val=X, y_val=LABELS)
    assert rates == [0.1, 0.1, 0.05, 0.025]
    classifier.partial_fit(X, LABELS).partial_fit(X, LABELS)
    assert rates[4:] == [0.0125, 0.0125]  # without the validation data that it watches
    rates.clear()
    classifier = _classifier(**settings).fit(X, LABELS)
    for _ in range(2):
        pickle.loads(pickle.dumps(classifier.set_params(callbacks=None))).partial_fit(X, LABELS)
        classifier.set_params(callbacks=settings["callbacks"]).partial_fit(X, LABELS)
    assert rates == [0.1, 0.1, 0.05, 0.025, 0.0125, 0.00625]
    for bad, message in (("val_score", "mode must be"), ("accuracy", "monitor must be one of what this fit reports")):
        with pytest.raises(ValueError, match=message):
            classifier.set_params(learning_rate=replace(plateau, monitor=bad)).fit(X, LABELS, X_val=X, y_val=LABELS)


def test_a_schedule_over_pieces_of_sparse_data(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"solver": "rmsprop", "learning_rate": schedules.Cosine(0.1)}
    whole = _classifier(**settings).fit(X, LABELS)
    monkeypatch.setattr(coefficients, "WHOLE", 0)
    monkeypatch.setattr(coefficients, "PIECE", 40 * X.itemsize * X.shape[1])
    np.testing.assert_array_equal(_classifier(**settings).fit(sparse.csr_matrix(X), LABELS).coefs_[0], whole.coefs_[0])


# ---- losses -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("loss", "name"), [("huber", "huber"), ("absolute_error", "mae")])
def test_losses_of_models(loss: str, name: str) -> None:
    regressor = _regressor(loss, solver=fastmlp.AdamW(0.01), alpha=0, shuffle=False)
    model = _start(regressor, TARGETS, name)
    history = model.fit(X, TARGETS, 4, 16, optimizer=fastmlp.AdamW(0.01), shuffle=False)
    regressor.fit(X, TARGETS, X_val=X, y_val=TARGETS)
    np.testing.assert_array_equal(regressor.model_.params, model.params)
    assert regressor.loss_curve_ == history["loss"]
    assert regressor.validation_loss_curve_[-1] == pytest.approx(model.loss(X, TARGETS))
    assert (regressor.out_activation_, regressor.model_.loss_name) == ("identity", name)
    by_lbfgs = _regressor(loss, solver="lbfgs", alpha=0).fit(X, TARGETS)
    assert by_lbfgs.loss_ == pytest.approx(by_lbfgs.model_.loss(X, TARGETS))


def test_a_weight_is_a_repetition() -> None:
    settings = {"solver": "lion", "batch_size": "auto", "alpha": 1.0}
    counts = np.arange(60) % 3
    one = _regressor("huber", **settings).fit(X, TARGETS, counts)
    other = _regressor("huber", **settings).fit(np.repeat(X, counts, axis=0), np.repeat(TARGETS, counts, axis=0))
    np.testing.assert_allclose(one.coefs_[0], other.coefs_[0], rtol=1e-9)


LOGISTIC = CustomLoss("logistic", lambda p, y: (p - y) * (p - y), lambda p, y: 2 * (p - y), output="sigmoid")


@pytest.mark.parametrize("solver", ["adam", "lbfgs", "lion"])
def test_a_loss_of_users(solver: str) -> None:
    regressor = _regressor(LOGISTIC, solver=solver).fit(X, SEVERAL, X_val=X, y_val=SEVERAL) if solver != "lbfgs" else None
    regressor = regressor or _regressor(LOGISTIC, solver=solver).fit(X, SEVERAL)
    assert regressor.out_activation_ == "sigmoid"
    predicted = regressor.predict(X)
    assert ((predicted > 0) & (predicted < 1)).all()
    a = np.tanh(X @ regressor.coefs_[0] + regressor.intercepts_[0])
    np.testing.assert_allclose(predicted, 1 / (1 + np.exp(-(a @ regressor.coefs_[1] + regressor.intercepts_[1]))))
    if solver != "lbfgs":
        assert regressor.validation_scores_[-1] == pytest.approx(regressor.score(X, SEVERAL))
    regressor.coefs_[0] = regressor.coefs_[0].copy()
    np.testing.assert_array_equal(regressor.predict(X), predicted)


def test_another_loss_to_go_on_with() -> None:
    one = _regressor("huber").fit(X, TARGETS)
    assert one.set_params(loss="absolute_error").partial_fit(X, TARGETS).model_.loss_name == "mae"
    before = one.predict(X)
    for loss in ("poisson", LOGISTIC):
        with pytest.raises(ValueError, match="loss must be that of the fit before"):
            one.set_params(loss=loss).partial_fit(X, np.abs(TARGETS))
        np.testing.assert_array_equal(one.predict(X), before)
    assert one.fit(X, SEVERAL).out_activation_ == "sigmoid"


# ---- what is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"solver": "newton"}, r"The 'solver' parameter of MLPRegressor must be a str among .*'lion'.* or an instance of"),
        ({"solver": fastmlp.Lion}, "The 'solver' parameter"),
        ({"solver": None}, "The 'solver' parameter"),
        ({"learning_rate": "cosine"}, "The 'learning_rate' parameter of MLPRegressor must be a str among"),
        ({"learning_rate": 0.1}, "The 'learning_rate' parameter"),
        ({"loss": "mse"}, "The 'loss' parameter of MLPRegressor must be a str among .*'huber'"),
        ({"learning_rate": schedules.Constant(0.1), "solver": "lbfgs"}, "needs a stochastic solver, got solver='lbfgs'"),
        ({"learning_rate": schedules.Constant(0.1), "solver": fastmlp.Lion()}, r"must not be given together with solver=Lion"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], message: str) -> None:
    regressor = _regressor(**settings)
    with pytest.raises(ValueError, match=message):
        regressor.fit(X, TARGETS)
    with pytest.raises(ValueError, match=message):
        regressor.partial_fit(X, TARGETS)
    assert not hasattr(regressor, "coefs_")


# ---- model_ -------------------------------------------------------------------------------------------------------------


def test_the_model_shares_the_parameters() -> None:
    classifier = _classifier()
    assert not hasattr(classifier, "model_")
    model = classifier.fit(X, LABELS).model_
    assert model is classifier.model_
    np.testing.assert_array_equal(model.predict(X), classifier.predict_proba(X))
    model.fit(X, LABELS, epochs=3, optimizer=fastmlp.Adam(0.1))
    np.testing.assert_array_equal(model.predict(X), classifier.predict_proba(X))
    classifier.coefs_[0][...] = 0
    assert not model.weights[0].any()
    classifier.partial_fit(X, LABELS)
    np.testing.assert_array_equal(model.predict(X), classifier.predict_proba(X))


def test_the_model_of_replaced_parameters_is_a_copy() -> None:
    classifier = _classifier().fit(X, LABELS)
    classifier.coefs_[0] = own = np.ones((4, 5))
    model = classifier.model_
    np.testing.assert_array_equal(model.predict(X), classifier.predict_proba(X))
    model.fit(X, LABELS)
    assert classifier.coefs_[0] is own
    assert (own == 1).all()
    classifier.coefs_[0] = np.ones((3, 5))
    with pytest.raises(AttributeError, match="model_ cannot be made: coefs_"):
        _ = classifier.model_
    classifier._repr_html_()  # goes through the attributes


def test_the_model_is_not_pickled_twice() -> None:
    classifier = _classifier(hidden_layer_sizes=2000, solver="sgd", momentum=0, max_iter=1).fit(X, LABELS)
    size = classifier.model_.params.nbytes
    assert size < len(pickle.dumps(classifier)) < 1.5 * size
    assert "coefs_" not in vars(clone(classifier))
    copied = pickle.loads(pickle.dumps(classifier))
    assert copied.model_.weights[0].base is not None
    assert np.shares_memory(copied.model_.params, copied.coefs_[0])
