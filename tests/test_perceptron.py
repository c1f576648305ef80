"""Training as scikit-learn's: the same trajectories, from the same seeds."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits, make_classification, make_multilabel_classification, make_regression
from sklearn.exceptions import ConvergenceWarning

import fastmlp
from fastmlp import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def _data(task: str) -> tuple[np.ndarray, np.ndarray]:
    if task == "digits":
        X, y = load_digits(return_X_y=True)
        return X[:450] / 16, y[:450]
    if task in ("binary", "multiclass"):
        return make_classification(230, 7, n_informative=5, n_classes=2 if task == "binary" else 4, random_state=0)
    if task == "multilabel":
        return make_multilabel_classification(230, 7, n_classes=5, random_state=0)
    X, y = make_regression(230, 7, n_targets=3 if task == "outputs" else 1, noise=5, random_state=0)
    return X, np.abs(y) / y.std() if task == "poisson" else y / y.std()


CLASSIFIED = ("digits", "binary", "multiclass", "multilabel")
TASKS = (*CLASSIFIED, "regression", "outputs", "poisson")


def _pair(task: str, **settings: Any) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """scikit-learn's estimator and fastmlp's, and what to fit."""
    ours = MLPClassifier if task in CLASSIFIED else MLPRegressor
    settings = {"random_state": 3, "hidden_layer_sizes": (20, 9), **settings}
    if task == "poisson":
        settings["loss"] = "poisson"
        if "loss" not in inspect.signature(ours.__bases__[1]).parameters:
            pytest.skip("this scikit-learn has no such loss")
    return ours.__bases__[1](**settings), ours(**settings), *_data(task)


def _same(theirs: Any, ours: Any, X: np.ndarray, rtol: float = 1e-9) -> None:
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "n_features_in_", "out_activation_", "_no_improvement_count"):
        assert getattr(ours, name, None) == getattr(theirs, name, None), name
    arrays = zip(theirs.coefs_ + theirs.intercepts_, ours.coefs_ + ours.intercepts_, strict=True)
    for their, our in arrays:
        assert our.dtype == their.dtype
        np.testing.assert_allclose(our, their, rtol=rtol, atol=rtol * np.abs(their).max())
    for name in ("loss_", "best_loss_", "loss_curve_"):
        if getattr(theirs, name, None) is None:
            assert getattr(ours, name, None) is None
        else:
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=rtol, err_msg=name)
    for name in ("validation_scores_", "best_validation_score_"):
        if getattr(theirs, name, None) is None:
            assert getattr(ours, name, None) is None
        else:
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=rtol, err_msg=name)
    np.testing.assert_allclose(ours._forward_pass_fast(X), theirs._forward_pass_fast(X), rtol=100 * rtol, atol=rtol)
    if hasattr(theirs, "classes_"):
        np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=100 * rtol, atol=rtol)


SOLVERS: dict[str, dict[str, Any]] = {
    "sgd": {"solver": "sgd", "learning_rate_init": 0.05},
    "plain": {"solver": "sgd", "momentum": 0.0, "batch_size": 32, "alpha": 0.1},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False, "activation": "tanh"},
    "unshuffled": {"solver": "sgd", "shuffle": False, "alpha": 0.0},
    "adam": {"solver": "adam", "alpha": 0.3},
    "epsilon": {"solver": "adam", "epsilon": 1e-3, "batch_size": 70, "activation": "logistic", "beta_1": 0.8, "beta_2": 0.9},
    "lbfgs": {"solver": "lbfgs", "alpha": 0.01, "activation": "tanh"},
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("task", TASKS)
def test_trajectory(task: str, solver: str, weighted: bool) -> None:
    theirs, ours, X, y = _pair(task, max_iter=15, **SOLVERS[solver])
    options = {"sample_weight": np.random.default_rng(0).uniform(0.1, 2, len(X))} if weighted else {}
    if weighted and "sample_weight" not in inspect.signature(theirs.fit).parameters:
        pytest.skip("this scikit-learn has no weights")
    # A line search multiplies differences of rounding.
    _same(theirs.fit(X, y, **options), ours.fit(X, y, **options), X, 1e-6 if solver == "lbfgs" else 1e-9)


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_losses_of_sure_errors(task: str) -> None:
    theirs, ours, X, y = _pair(task, max_iter=3, learning_rate_init=1e-6)
    for dtype, rtol in ((np.float64, 1e-12), (np.float32, 1e-5)):
        Z = (300 * X).astype(dtype)
        _same(theirs.fit(Z, y), ours.fit(Z, y), Z, rtol)
        assert ours.loss_ > 5


@pytest.mark.parametrize("learning_rate", ["invscaling", "adaptive"])
def test_learning_rates(learning_rate: str, capsys: Any) -> None:
    settings = {"solver": "sgd", "learning_rate": learning_rate, "learning_rate_init": 0.2, "power_t": 0.3}
    theirs, ours, X, y = _pair("multiclass", tol=0.02, n_iter_no_change=2, max_iter=150, verbose=True, **settings)
    theirs.fit(X, y)
    printed = capsys.readouterr().out
    _same(theirs, ours.fit(X, y), X)
    assert capsys.readouterr().out == printed
    assert ours._optimizer.learning_rate == theirs._optimizer.learning_rate < 0.2


@pytest.mark.parametrize("task", ["digits", "binary", "multilabel", "outputs"])
def test_early_stopping(task: str, capsys: Any) -> None:
    theirs, ours, X, y = _pair(task, early_stopping=True, learning_rate_init=0.01, tol=1e-3, n_iter_no_change=4, verbose=1)
    theirs.fit(X, y)
    printed = capsys.readouterr().out
    _same(theirs, ours.fit(X, y), X, 1e-8)
    assert "Stopping" in printed
    assert capsys.readouterr().out == printed
    assert len(ours.validation_loss_curve_) == ours.n_iter_


def test_early_stopping_with_weights() -> None:
    theirs, ours, X, y = _pair("digits", early_stopping=True, learning_rate_init=0.01, max_iter=30)
    weights = np.random.default_rng(0).uniform(0.1, 2, len(X))
    if "sample_weight" in inspect.signature(theirs.fit).parameters:
        _same(theirs.fit(X, y, sample_weight=weights), ours.fit(X, y, sample_weight=weights), X)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "outputs"])
def test_partial_fit(task: str, solver: str) -> None:
    theirs, ours, X, y = _pair(task, solver=solver, batch_size=16, learning_rate_init=0.01)
    for estimator in (theirs, ours):
        estimator.fit(X, y)
        for part in np.array_split(np.arange(len(X)), 5):
            estimator.partial_fit(X[part], y[part])
    _same(theirs, ours, X)


def test_partial_fit_from_the_start() -> None:
    theirs, ours, X, y = _pair("multiclass", solver="adam")
    for part in np.array_split(np.arange(len(X)), 4):
        for estimator in (theirs, ours):
            estimator.partial_fit(X[part], y[part], classes=np.unique(y))
        _same(theirs, ours, X)


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_warm_start(task: str, solver: str) -> None:
    theirs, ours, X, y = _pair(task, solver=solver, warm_start=True, max_iter=7)
    for _ in range(3):
        _same(theirs.fit(X, y), ours.fit(X, y), X, 1e-7)


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("task", ["binary", "multiclass", "outputs"])
def test_float32(task: str, solver: str) -> None:
    theirs, ours, X, y = _pair(task, solver=solver, max_iter=10)
    X = X.astype(np.float32)
    _same(theirs.fit(X, y), ours.fit(X, y), X, 2e-5)
    assert ours._forward_pass_fast(X).dtype == theirs._forward_pass_fast(X).dtype


def test_going_on_with_other_settings() -> None:
    X, y = _data("multiclass")
    classifier = MLPClassifier(9, solver="lbfgs", warm_start=True, max_iter=20, random_state=0).fit(X, y)
    for settings in ({"solver": "adam"}, {"early_stopping": True}, {"early_stopping": False}):
        before = classifier.score(X, y)
        assert classifier.set_params(**settings).fit(X, y).score(X, y) > before - 0.1


def test_one_random_state_for_several_fits() -> None:
    theirs, ours, X, y = _pair("binary", max_iter=3)
    for estimator in (theirs, ours):
        estimator.set_params(random_state=np.random.RandomState(0)).fit(X, y).fit(X, y)
    _same(theirs, ours, X)


def test_no_hidden_layer() -> None:
    theirs, ours, X, y = _pair("multiclass", hidden_layer_sizes=(), activation="logistic", max_iter=5)
    _same(theirs.fit(X, y), ours.fit(X, y), X)


def test_class_weights_multiply_sample_weights() -> None:
    X, y = _data("multiclass")
    weights = np.random.default_rng(0).uniform(0.1, 2, len(X))
    counts = np.bincount(y)
    for given, each in (({0: 3.0, 2: 0.5}, np.array([3, 1, 0.5, 1])), ("balanced", len(y) / (4 * counts))):
        for solver in ("adam", "lbfgs"):
            balanced = MLPClassifier(9, solver=solver, class_weight=given, max_iter=5, random_state=0)
            weighted = MLPClassifier(9, solver=solver, max_iter=5, random_state=0)
            balanced.fit(X, y, sample_weight=weights)
            weighted.fit(X, y, sample_weight=weights * each[y])
            np.testing.assert_array_equal(balanced.coefs_[0], weighted.coefs_[0])


def test_class_weights_of_several_labels_and_strings() -> None:
    X, Y = _data("multilabel")
    counted = MLPClassifier(9, class_weight="balanced", max_iter=5, random_state=0).fit(X, Y)
    assert np.isfinite(counted.loss_)
    X, y = _data("binary")
    names = np.array(["no", "yes"])[y]
    rare = np.flatnonzero((y == 0) | (np.arange(len(y)) % 8 == 0))
    recall = []
    for class_weight in (None, {"no": 1.0, "yes": 30.0}):
        classifier = MLPClassifier(9, class_weight=class_weight, learning_rate_init=0.01, max_iter=30, random_state=0)
        classifier.fit(X[rare], names[rare])
        recall.append((classifier.predict(X[names == "yes"]) == "yes").mean())
    assert recall[1] > recall[0] + 0.2


def test_balanced_is_not_for_partial_fit() -> None:
    X, y = _data("binary")
    with pytest.raises(ValueError, match="class_weight 'balanced' is not supported for partial_fit"):
        MLPClassifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1])
    MLPClassifier(class_weight={0: 2.0}).partial_fit(X, y, classes=[0, 1])


def test_activations_by_layer() -> None:
    X, y = _data("multiclass")

    def fit(activation: Any, **options: Any) -> list[np.ndarray]:
        return MLPClassifier((9, 8), activation, max_iter=4, random_state=0, **options).fit(X, y).coefs_

    for one, other in ((["relu", "relu"], "relu"), ("sigmoid", "logistic"), (("logistic", "sigmoid"), "logistic")):
        for a, b in zip(fit(one), fit(other), strict=True):
            np.testing.assert_array_equal(a, b)
    tanh = fastmlp.CustomActivation("my_tanh", np.tanh, _tanh_slope)
    for a, b in zip(fit(["gelu", tanh], solver="lbfgs"), fit(["gelu", "tanh"], solver="lbfgs"), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)
    assert not np.allclose(fit("silu")[0], fit("softplus")[0])


def _tanh_slope(z: Any) -> Any:
    return 1 - np.tanh(z) ** 2


def test_dropout_trains_otherwise_and_predicts_alike() -> None:
    X, y = _data("multiclass")
    fitted = [MLPClassifier((30, 20), dropout=rate, max_iter=20, random_state=0).fit(X, y) for rate in (0.0, 0.3, [0.3, 0.3])]
    assert not np.allclose(fitted[0].coefs_[0], fitted[1].coefs_[0])
    np.testing.assert_array_equal(fitted[1].coefs_[0], fitted[2].coefs_[0])
    np.testing.assert_array_equal(fitted[1].predict_proba(X), fitted[1].predict_proba(X))
    with pytest.raises(ValueError, match="dropout needs a stochastic solver"):
        MLPClassifier(dropout=0.1, solver="lbfgs").fit(X, y)


class _Notes:
    def __init__(self, stop: int) -> None:
        self.stop, self.began, self.logs, self.ended = stop, 0, [], 0

    def on_train_begin(self, model: Any, logs: dict[str, Any]) -> None:
        self.began += 1

    def on_epoch_end(self, model: Any, logs: dict[str, Any]) -> bool:
        assert isinstance(model, fastmlp.Model)
        self.logs.append(logs)
        return len(self.logs) == self.stop

    def on_train_end(self, model: Any, logs: dict[str, Any]) -> None:
        self.ended += 1


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_callbacks(solver: str) -> None:
    X, y = _data("multiclass")
    notes, seen = _Notes(4), []
    classifier = MLPClassifier(9, solver=solver, random_state=0, callbacks=[lambda model, logs: seen.append(logs), notes])
    classifier.fit(X, y)
    assert (classifier.n_iter_, len(seen), notes.began, notes.ended) == (4, 4, 1, 1)
    assert [logs["epoch"] for logs in notes.logs] == [0, 1, 2, 3]
    if solver != "lbfgs":
        assert [logs["loss"] for logs in seen] == classifier.loss_curve_
    assert seen[-1]["loss"] == pytest.approx(classifier.loss_)
    plain = MLPClassifier(9, solver=solver, random_state=0, max_iter=4).fit(X, y)
    np.testing.assert_allclose(classifier.coefs_[0], plain.coefs_[0], rtol=1e-12)


def test_number_of_threads_for_one_fit_only() -> None:
    X, y = np.random.default_rng(0).standard_normal((600, 100)), np.arange(600.0)
    before, seen, results = fastmlp.get_num_threads(), [], []

    def note(model: Any, logs: dict[str, Any]) -> None:
        seen.append(fastmlp.get_num_threads())

    for n in (1, 2, 3):
        settings = {"hidden_layer_sizes": 200, "batch_size": 600, "max_iter": 6, "random_state": 0, "callbacks": note}
        results.append(MLPRegressor(n_threads=n, **settings).fit(X, y).coefs_[0])
        assert fastmlp.get_num_threads() == before
    assert seen == [1] * 6 + [2] * 6 + [3] * 6
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])

    def fail(model: Any, logs: dict[str, Any]) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        MLPRegressor(n_threads=3, callbacks=fail).fit(X, y)
    assert fastmlp.get_num_threads() == before


def test_validation_data_that_is_given() -> None:
    X, y = _data("multiclass")
    train, held = np.arange(150), np.arange(150, 230)
    followed = MLPClassifier(20, max_iter=40, random_state=0).fit(X[train], y[train], X_val=X[held], y_val=y[held])
    plain = MLPClassifier(20, max_iter=40, random_state=0).fit(X[train], y[train])
    np.testing.assert_array_equal(followed.coefs_[0], plain.coefs_[0])
    assert len(followed.validation_scores_) == len(followed.validation_loss_curve_) == 40
    assert followed.validation_scores_[-1] == plain.score(X[held], y[held])
    p = plain.predict_proba(X[held])
    assert followed.validation_loss_curve_[-1] == pytest.approx(-np.log(p[np.arange(80), y[held]]).mean())
    stopped = MLPClassifier(20, early_stopping=True, learning_rate_init=0.02, random_state=0, n_iter_no_change=3)
    stopped.fit(X[train], y[train], X_val=X[held], y_val=y[held])
    assert stopped.n_iter_ < 200
    assert stopped.score(X[held], y[held]) == stopped.best_validation_score_ == max(stopped.validation_scores_)
    X, Y = _data("outputs")
    regressor = MLPRegressor(hidden_layer_sizes=20, max_iter=5, random_state=0).fit(X, Y, X_val=X, y_val=Y)
    assert regressor.validation_scores_[-1] == pytest.approx(regressor.score(X, Y))


def test_validation_data_that_does_not_fit() -> None:
    X, y = _data("multiclass")
    classifier = MLPClassifier(5)
    for options, message in (
        ({"X_val": X}, "X_val is provided, but y_val was not provided."),
        ({"y_val": y}, "y_val is provided, but X_val was not provided."),
        ({"X_val": X[:, :3], "y_val": y}, "X has 3 features, but MLPClassifier is expecting 7 features"),
        ({"X_val": X, "y_val": y + 1}, "classes not in `self.classes_`"),
    ):
        with pytest.raises(ValueError, match=message):
            classifier.fit(X, y, **options)
    with pytest.raises(ValueError, match="need a stochastic solver"):
        MLPClassifier(5, solver="lbfgs").fit(X, y, X_val=X, y_val=y)


def test_an_interrupt_keeps_what_was_reached() -> None:
    X, y = _data("multiclass")

    def interrupt(model: Any, logs: dict[str, Any]) -> None:
        if logs["epoch"] == 2:
            raise KeyboardInterrupt

    classifier = MLPClassifier(9, random_state=0, callbacks=interrupt)
    with pytest.warns(UserWarning, match=r"Training interrupted by user\."):
        classifier.fit(X, y)
    plain = MLPClassifier(9, random_state=0, max_iter=3).fit(X, y)
    np.testing.assert_array_equal(classifier.predict_proba(X), plain.predict_proba(X))


def test_convergence_warnings_are_theirs() -> None:
    for solver in ("sgd", "lbfgs"):
        texts = []
        theirs, ours, X, y = _pair("multiclass", solver=solver, max_iter=3)
        for estimator in (theirs, ours):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                estimator.fit(X, y)
            texts.append([str(warning.message) for warning in caught if warning.category is ConvergenceWarning])
        assert texts[0] == texts[1] != []


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_errors_are_theirs(task: str) -> None:
    bad: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"alpha": -1}, {}),
        ({"hidden_layer_sizes": (5, 0)}, {}),
        ({"early_stopping": True, "validation_fraction": 0.001}, {}),
        ({}, {"X": np.full((230, 7), np.nan)}),
        ({}, {"y": np.zeros(3)}),
        ({}, {"X": np.zeros(7)}),
        ({"learning_rate_init": 1e200, "solver": "sgd", "activation": "identity"}, {}),
    ]
    for settings, data in bad:
        messages = []
        theirs, ours, X, y = _pair(task, **settings)
        for estimator in (theirs, ours):
            with warnings.catch_warnings(), pytest.raises(ValueError) as caught:  # noqa: PT011, PT012
                warnings.simplefilter("ignore")
                estimator.fit(**{"X": X, "y": y, **data})
            messages.append(str(caught.value))
        assert messages[0] == messages[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"activation": ["relu"]}, "activation must hold 2 names"),
        ({"activation": ["relu", "softmax"]}, "softmax"),
        ({"activation": ["relu", "rellu"]}, "rellu"),
        ({"activation": "softmax"}, "'activation' parameter"),
        ({"dropout": [0.1]}, "dropout must hold 2 rates"),
        ({"dropout": 1.0}, "'dropout' parameter"),
        ({"n_threads": 0}, "'n_threads' parameter"),
    ],
)
def test_errors_of_our_own(settings: dict[str, Any], message: str) -> None:
    _, _, X, y = _pair("binary")
    classifier = MLPClassifier((4, 3), **settings)
    with pytest.raises(ValueError, match=message):
        classifier.fit(X, y)
    assert not hasattr(classifier, "coefs_")


def test_what_is_relied_on_of_scikit_learn() -> None:
    for ours in (MLPClassifier, MLPRegressor):
        theirs = ours.__bases__[1]
        assert list(inspect.signature(theirs._validate_input).parameters) == ["self", "X", "y", "incremental", "reset"]
        assert "self._fit(" in inspect.getsource(theirs.partial_fit)
        assert {"random_state", "solver"} <= set(theirs._parameter_constraints)
