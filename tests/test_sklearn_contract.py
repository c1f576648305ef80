"""Refusals, class weights, validation data and changed settings: where the estimators have more than scikit-learn's."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import SGDClassifier

from fastmlp import CustomActivation, MLPClassifier, MLPRegressor
from fastmlp.engine.engine import Engine

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = make_classification(120, 6, n_informative=4, n_classes=3, random_state=0)
TARGETS = X[:, :2] + 1
LABELS = (X[:, :2] > 0).astype(int)


def _square(z: Any) -> Any:
    return z * z


def _double(z: Any) -> Any:
    return 2 * z


def _classifier(**settings: Any) -> MLPClassifier:
    return MLPClassifier(**{"hidden_layer_sizes": (8, 5), "max_iter": 4, "random_state": 0, **settings})


def _regressor(**settings: Any) -> MLPRegressor:
    return MLPRegressor(**{"hidden_layer_sizes": (8, 5), "max_iter": 4, "random_state": 0, **settings})


def _state(estimator: Any) -> dict[str, Any]:
    """All that it holds, copied, and what it predicts."""
    kept = {name: copy.deepcopy(value) for name, value in vars(estimator).items() if name not in ("_model", "_views")}
    return kept | {"predictions": estimator.predict(X)} if hasattr(estimator, "coefs_") else kept


def _check_same(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            _check_same(one[name], other[name])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            _check_same(a, b)
    elif hasattr(one, "__dict__"):
        _check_same(vars(one), vars(other))
    elif not isinstance(one, np.random.RandomState):
        np.testing.assert_array_equal(one, other)


# ---- widths -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize(
    ("estimator", "y", "y_val", "message"),
    [
        (_regressor(), TARGETS, TARGETS[:, 0], "y_val must have 2 outputs, as y has, got 1"),
        (_regressor(), TARGETS[:, 0], TARGETS, "y_val must have 1 outputs, as y has, got 2"),
        (_regressor(), TARGETS, X[:, :3], "y_val must have 2 outputs, as y has, got 3"),
        (_regressor(loss="poisson"), np.abs(TARGETS), np.abs(X), "y_val must have 2 outputs, as y has, got 6"),
        (_classifier(), LABELS, LABELS[:, 0], "y_val must have 2 outputs, as y has, got 1"),
        (_classifier(), LABELS, (X[:, :3] > 0).astype(int), "y_val"),
        (_classifier(), LABELS[:, 0], LABELS, "multilabel"),
        (_classifier(), Y, LABELS, "multilabel"),
    ],
)
def test_width_of_y_val(estimator: Any, y: Any, y_val: Any, message: str, early: bool) -> None:
    with pytest.raises(ValueError, match=message):
        copy.copy(estimator).set_params(early_stopping=early).fit(X, y, X_val=X, y_val=y_val)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("warm", [False, True])
def test_another_net_to_go_on_with(solver: str, warm: bool) -> None:
    bad = [
        (TARGETS, X, {}, "y must have 1 outputs"),
        (TARGETS[:, 0], X[:, :4], {}, "X has 4 features"),
        (TARGETS[:, 0], X, {"hidden_layer_sizes": 8}, "hidden_layer_sizes must be"),
        (TARGETS[:, 0], X, {"hidden_layer_sizes": (5, 8)}, "hidden_layer_sizes must be"),
        (TARGETS[:, 0], X, {"hidden_layer_sizes": (8, 5, 1)}, "hidden_layer_sizes must be"),
        (TARGETS[:, 0], X, {"loss": "poisson"}, "y must be at least 0|loss must be that"),
    ]
    for y, features, settings, message in bad:
        regressor = _regressor(solver=solver, warm_start=warm).fit(X, TARGETS[:, 0])
        regressor.set_params(**settings)
        before = _state(regressor)
        with pytest.raises(ValueError, match=message):
            (regressor.fit if warm else regressor.partial_fit)(features, y)
        _check_same(_state(regressor), before)


def test_replaced_parameters_to_train_on() -> None:
    narrow = [np.ones((6, 3)), np.ones((3, 3))]
    classifier = _classifier().fit(X, Y)
    classifier.coefs_, classifier.intercepts_ = narrow, [np.zeros(3), np.zeros(3)]
    for fit in (classifier.partial_fit, classifier.set_params(warm_start=True).fit):
        with pytest.raises(ValueError, match=r"hidden_layer_sizes must be \[3\], those of coefs_, .* got \[8, 5\]"):
            fit(X, Y)
    for method in ("partial_fit", "fit"):  # with the layers that they have, training starts anew
        before = classifier.predict_proba(X)
        getattr(classifier.set_params(hidden_layer_sizes=3), method)(X, Y)
        assert not np.array_equal(classifier.predict_proba(X), before)
        assert (narrow[0] == 1).all()
    classifier.coefs_[1] = np.ones((2, 3))
    for call in (classifier.partial_fit, classifier.fit, lambda *_: classifier.predict(X)):
        with pytest.raises(ValueError, match=r"coefs_\[1\] must have shape \(3, fan_out\), got \(2, 3\)"):
            call(X, Y)


# ---- class weights ------------------------------------------------------------------------------------------------------

NAMES = np.array(["a", "b", "rare"])[Y]


@pytest.mark.parametrize("batch", [["a"], ["b"], ["rare"], ["a", "b"], ["a", "b", "rare"]])
@pytest.mark.parametrize("class_weight", [{"rare": 10.0}, {"a": 2.0, "rare": 3.0}, {"a": 1.0, "b": 2.0, "rare": 3.0}])
def test_a_class_that_a_batch_lacks(class_weight: dict[str, float], batch: list[str]) -> None:
    rows = np.isin(NAMES, batch)
    SGDClassifier(class_weight=class_weight).partial_fit(X[rows], NAMES[rows], classes=["a", "b", "rare"])
    weighted, plain = (_classifier(class_weight=given) for given in (class_weight, None))
    each = np.array([class_weight.get(name, 1.0) for name in NAMES[rows]])
    for _ in range(2):
        weighted.partial_fit(X[rows], NAMES[rows], classes=["a", "b", "rare"])
        plain.partial_fit(X[rows], NAMES[rows], sample_weight=each, classes=["a", "b", "rare"])
    np.testing.assert_array_equal(weighted.coefs_[0], plain.coefs_[0])


@pytest.mark.parametrize("classes", [["a", "b"], [3, 7], [False, True]])
def test_one_of_two_classes(classes: list[Any]) -> None:
    y = np.array(classes)[np.zeros(120, int)]
    weighted = _classifier(class_weight={classes[1]: 5.0, classes[0]: 2.0}).partial_fit(X, y, classes=classes)
    plain = _classifier().partial_fit(X, y, sample_weight=np.full(120, 2.0), classes=classes)
    np.testing.assert_array_equal(weighted.coefs_[0], plain.coefs_[0])


@pytest.mark.parametrize("class_weight", [{"rare": 50.0}, "balanced"])
def test_a_class_that_the_training_part_lacks(class_weight: Any) -> None:
    names = np.array(["a", "b"] * 60, dtype=object)
    names[7] = "rare"
    for seed in range(15):
        classifier = _classifier(early_stopping=True, class_weight=class_weight, random_state=seed, validation_fraction=0.3)
        assert classifier.fit(X, names).classes_.tolist() == ["a", "b", "rare"]


def test_balanced_is_of_all_rows() -> None:
    each = {name: 120 / (3 * count) for name, count in enumerate(np.bincount(Y))}
    one, other = (_classifier(class_weight=given, early_stopping=True).fit(X, Y) for given in ("balanced", each))
    assert one.loss_curve_ == other.loss_curve_


def test_scores_are_not_weighted_by_class() -> None:
    classifier = _classifier(class_weight={0: 5.0}).fit(X, Y, X_val=X, y_val=Y)
    assert classifier.validation_scores_[-1] == classifier.score(X, Y)


def test_weights_of_labels() -> None:
    labels = LABELS.copy()
    labels[:, 1] = 0
    labels[3, 1] = 1  # in the training part or not
    for seed in range(6):
        settings = {"early_stopping": True, "validation_fraction": 0.3, "random_state": seed}
        _classifier(class_weight=[{0: 1.0, 1: 2.0}, {1: 30.0}], **settings).fit(X, labels)
        _classifier(class_weight="balanced", **settings).fit(X, labels)
    weighted = _classifier(class_weight=[{0: 1.0, 1: 2.0}, {1: 30.0}]).partial_fit(X[4:], labels[4:], classes=[0, 1])
    plain = _classifier().partial_fit(X[4:], labels[4:], sample_weight=1.0 + labels[4:, 0], classes=[0, 1])
    np.testing.assert_array_equal(weighted.coefs_[0], plain.coefs_[0])


@pytest.mark.parametrize(
    ("class_weight", "y", "message"),
    [
        ({"c": 3.0}, NAMES, "are not in class_weight"),
        ({"rare": 2.0, "c": 3.0}, NAMES, "are not in class_weight"),
        ({0: 2.0}, LABELS, "class_weight should be a list of dicts"),
        ([{0: 2.0}], LABELS, "number of elements in class_weight should match number of outputs"),
        ("equal", Y, "'class_weight' parameter"),
    ],
)
def test_class_weights_that_do_not_fit(class_weight: Any, y: Any, message: str) -> None:
    classifier = _classifier().fit(X, y).set_params(class_weight=class_weight)
    before = _state(classifier)
    for fit in (classifier.fit, classifier.partial_fit):
        with pytest.raises(ValueError, match=message):
            fit(X, y)
        _check_same(_state(classifier), before)


# ---- validation data ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("early", [False, True])
def test_validation_data_of_one_row(early: bool) -> None:
    with pytest.raises(ValueError, match="X_val must have at least two rows, since their score is R2"):
        _regressor(early_stopping=early).fit(X, TARGETS, X_val=X[:1], y_val=TARGETS[:1])
    classifier = _classifier(early_stopping=early).fit(X, Y, X_val=X[:1], y_val=Y[:1])
    assert set(classifier.validation_scores_) <= {0.0, 1.0}


def test_counts_below_zero() -> None:
    y = np.abs(TARGETS[:, 0])
    for bad in (-y, np.where(np.arange(120) == 7, -1e-9, y)):
        regressor = _regressor(loss="poisson")
        for fit in (regressor.fit, regressor.partial_fit):
            with pytest.raises(ValueError, match="y must be at least 0 for loss='poisson', got -"):
                fit(X, bad)
        with pytest.raises(ValueError, match="y_val must be at least 0 for loss='poisson', got -"):
            regressor.fit(X, y, X_val=X, y_val=bad)
        assert not hasattr(regressor, "coefs_")
    assert np.isfinite(_regressor(loss="poisson").fit(X, y * 0).loss_curve_).all()


@pytest.mark.parametrize("y_val", [TARGETS.astype("M8[s]"), TARGETS.astype(str), TARGETS.astype("m8[s]"), TARGETS.astype("S")])
def test_validation_targets_that_are_no_numbers(y_val: Any) -> None:
    with pytest.raises(TypeError, match="y_val must hold real numbers, got dtype"):
        _regressor().fit(X, TARGETS, X_val=X, y_val=y_val)


def test_scores_that_are_nan() -> None:
    # exp of the outputs overflows; the parameters stay finite.
    regressor = _regressor(loss="poisson", early_stopping=True, activation="identity", learning_rate_init=1e-9)
    with pytest.warns(ConvergenceWarning, match="No epoch had finite predictions for the validation data"):
        regressor.fit(X, np.ones(120), X_val=X * 1e6, y_val=np.ones(120))
    assert np.isnan(regressor.validation_scores_).all()
    start = _regressor(loss="poisson", activation="identity", learning_rate_init=1e-300, max_iter=1).fit(X, np.ones(120))
    np.testing.assert_allclose(regressor.coefs_[0], start.coefs_[0])


# ---- all or nothing -----------------------------------------------------------------------------------------------------

REFUSED: dict[str, Any] = {
    "rows": lambda m: m.fit(X, Y[:5]),
    "columns": lambda m: m.fit(X[:, :3], Y[:5]),
    "nan": lambda m: m.fit(np.where(X > 1, np.nan, X), Y),
    "targets": lambda m: m.fit(X[:, :3], np.where(Y == 1, np.nan, Y)),
    "weights": lambda m: m.fit(X[:, :3], Y > 0, sample_weight=[1.0]),
    "X_val": lambda m: m.fit(X[:, :3], Y > 0, X_val=X, y_val=Y > 0),
    "y_val": lambda m: m.fit(X[:, :3], Y, X_val=X[:, :3], y_val=Y[:7]),
    "y_val alone": lambda m: m.fit(X[:, :3], Y, y_val=Y),
    "batches": lambda m: m.partial_fit(X[:, :3], Y),
    "batch weights": lambda m: m.partial_fit(X, Y, sample_weight=[1.0]),
}
SETTINGS: list[dict[str, Any]] = [
    {"early_stopping": True, "validation_fraction": 0.001},
    {"alpha": -1},
    {"hidden_layer_sizes": (3, 0)},
    {"activation": ["relu"]},
    {"dropout": [0.1]},
    {"dropout": 0.1, "solver": "lbfgs"},
    {"random_state": "x"},
    {"learning_rate_init": 1e200, "solver": "sgd", "activation": "identity"},  # diverges
    {"callbacks": 3},
]


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("how", REFUSED)
@pytest.mark.parametrize("make", [_classifier, _regressor])
def test_a_refused_fit_leaves_all_as_it_was(make: Any, how: str, warm: bool) -> None:
    estimator = make(warm_start=warm).fit(X, Y, X_val=X, y_val=Y)
    before, coefs = _state(estimator), list(estimator.coefs_)
    with pytest.raises(ValueError, match=r"shape|features|inconsistent|NaN|y_val|missing"):
        REFUSED[how](estimator)
    _check_same(_state(estimator), before)
    assert all(one is other for one, other in zip(estimator.coefs_, coefs, strict=True))
    estimator.partial_fit(X, Y)
    if not warm:
        again = make().fit(X, Y, X_val=X, y_val=Y).partial_fit(X, Y)
        np.testing.assert_array_equal(estimator.coefs_[0], again.coefs_[0])


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("make", [_classifier, _regressor])
def test_a_fit_with_refused_settings_leaves_all_as_it_was(make: Any, settings: dict[str, Any]) -> None:
    estimator = make().fit(X, Y)
    old = {name: getattr(estimator, name) for name in settings}
    before = _state(estimator)
    with pytest.raises((ValueError, TypeError)):
        estimator.set_params(**settings).fit(X[:, :3] * 1e3, Y > 0)
    _check_same(_state(estimator.set_params(**old)), before)


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, TimeoutError])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_callback_that_fails(solver: str, error: type[BaseException]) -> None:
    def fail(model: Any, logs: dict[str, Any]) -> None:
        raise error("enough")

    for warm in (False, True):
        classifier = _classifier(solver=solver, warm_start=warm).fit(X, Y)
        before = _state(classifier)
        with pytest.raises(error, match="enough"):
            classifier.set_params(callbacks=fail).fit(X, Y)
        _check_same(_state(classifier.set_params(callbacks=None)), before)


def test_a_first_fit_that_is_refused_leaves_nothing() -> None:
    for call in (
        lambda m: m.fit(X, Y, sample_weight=[1.0]),
        lambda m: m.partial_fit(X, Y, classes=[0, 1]),
        lambda m: m.partial_fit(X[:5], Y, classes=[0, 1, 2]),
        lambda m: m.set_params(early_stopping=True).partial_fit(X, Y, classes=[0, 1, 2]),
    ):
        classifier = _classifier()
        with pytest.raises(ValueError, match=r"shape|classes|inconsistent|early_stopping"):
            call(classifier)
        assert [name for name in vars(classifier) if name.endswith("_") or name.startswith("_")] == []


def test_a_batch_that_is_trained_on_stays() -> None:
    def fail(model: Any, logs: dict[str, Any]) -> None:
        raise RuntimeError("after the epoch")

    classifier, plain = _classifier().fit(X, Y), _classifier().fit(X, Y).partial_fit(X, Y)
    with pytest.raises(RuntimeError, match="after the epoch"):
        classifier.set_params(callbacks=fail).partial_fit(X, Y)
    assert classifier.t_ == plain.t_
    assert classifier.loss_curve_ == plain.loss_curve_
    np.testing.assert_array_equal(classifier.predict_proba(X), plain.predict_proba(X))


def test_an_error_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    for method in ("fit", "partial_fit"):
        classifier = _classifier().fit(X, Y)
        before = _state(classifier)
        with monkeypatch.context() as patched:
            patched.setattr(Engine, "train", _no_memory)
            with pytest.raises(MemoryError):
                getattr(classifier, method)(X, Y)
        _check_same(_state(classifier), before)


def _no_memory(*args: Any) -> None:
    raise MemoryError


# ---- settings that change -------------------------------------------------------------------------------------------------


def test_activations_that_change() -> None:
    square = CustomActivation("square", _square, _double)
    for new in ("tanh", "gelu", ["relu", "tanh"], square, [square, "relu"]):
        changed = _classifier().fit(X, Y)
        other = _classifier(activation=new)
        other.coefs_, other.intercepts_ = [c.copy() for c in changed.coefs_], [b.copy() for b in changed.intercepts_]
        for name in ("n_features_in_", "n_outputs_", "n_layers_", "out_activation_", "classes_", "_label_binarizer", "t_"):
            setattr(other, name, getattr(changed, name))
        other.validation_scores_ = other.best_loss_ = None
        old = changed.predict_proba(X)
        np.testing.assert_array_equal(changed.set_params(activation=new).predict_proba(X), other.predict_proba(X))
        assert not np.array_equal(changed.predict_proba(X), old)
        np.testing.assert_array_equal(changed.set_params(activation="relu").predict_proba(X), old)
        changed.set_params(activation=new).partial_fit(X, Y)
        trained = changed.predict_proba(X)
        changed.set_params(activation="relu")
        assert not np.array_equal(changed.predict_proba(X), trained)
    with pytest.raises(ValueError, match="activation must hold 2 names"):
        changed.set_params(activation=["relu"]).predict(X)


def test_moments_go_on_when_the_activation_or_dropout_changes() -> None:
    whole = _classifier().fit(X, Y)
    for settings in ({"activation": ["relu", "relu"]}, {"dropout": [0.0, 0.0]}, {"activation": "tanh"}, {"dropout": 0.5}):
        changed = _classifier().fit(X, Y).set_params(**settings).partial_fit(X, Y)
        saved = changed._model._engine.save()
        assert saved["steps"] == whole._model._engine.save()["steps"] + 1


@pytest.mark.parametrize("rate", [0.5, [0.5, 0.0]])
def test_dropout_that_changes(rate: Any) -> None:
    plain, dropped, back = (_classifier().fit(X, Y) for _ in range(3))
    plain.partial_fit(X, Y)
    dropped.set_params(dropout=rate).partial_fit(X, Y)
    assert not np.array_equal(dropped.coefs_[0], plain.coefs_[0])
    np.testing.assert_array_equal(back.set_params(dropout=rate).predict(X), back.set_params(dropout=0.0).predict(X))
    back.set_params(dropout=0.0).partial_fit(X, Y)
    np.testing.assert_array_equal(back.coefs_[0], plain.coefs_[0])


def test_rates_that_change_and_go_on() -> None:
    settings = {"solver": "sgd", "learning_rate": "adaptive", "tol": 10.0, "n_iter_no_change": 1, "max_iter": 5}
    one = _regressor(**settings).fit(X, TARGETS)
    reached = one._optimizer.learning_rate
    assert reached < 0.001
    assert one.set_params(momentum=0.5).partial_fit(X, TARGETS)._optimizer.learning_rate in (reached, reached / 5)
    assert one.set_params(learning_rate_init=0.1).partial_fit(X, TARGETS)._optimizer.learning_rate in (0.1, 0.02)
    two = _regressor(solver="sgd", learning_rate="invscaling").fit(X, TARGETS).set_params(learning_rate_init=0.1)
    assert two.partial_fit(X, TARGETS)._optimizer.learning_rate == 0.1 / (two.t_ + 1) ** 0.5
    before = two.coefs_[0].copy()
    two.set_params(learning_rate_init=1e-300).partial_fit(X, TARGETS)
    assert 0 < np.abs(two.coefs_[0] - before).max() < 0.01  # the velocity of before goes on
