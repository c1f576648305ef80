"""The estimators among scikit-learn's tools, and under its own tests."""

from __future__ import annotations

import inspect
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastmlp
from fastmlp import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.slow  # scikit-learn's own checks and tests: two minutes; test_perceptron.py has the numbers

ESTIMATORS = (MLPClassifier, MLPRegressor)
quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([MLPClassifier(), MLPRegressor()])
def test_scikit_learn_checks(estimator: Any, check: Callable[..., None]) -> None:
    check(estimator)


@pytest.mark.parametrize("ours", ESTIMATORS)
def test_parameters_and_defaults_are_theirs(ours: Any) -> None:
    theirs = ours.__bases__[1]
    own = {"dropout": 0.0, "callbacks": None, "n_threads": None}
    if ours is MLPClassifier:
        own["class_weight"] = None
    assert {"loss": "squared_error"} | ours().get_params() == {"loss": "squared_error"} | theirs().get_params() | own
    shared = [name for name in inspect.signature(theirs).parameters if name != "loss"]
    assert [name for name in inspect.signature(ours).parameters if name in shared] == shared
    assert isinstance(ours(), theirs)
    assert repr(ours(alpha=0.5)) == f"{ours.__name__}(alpha=0.5)"
    for cls in (ours, ours.fit):  # each parameter has its documentation
        text = inspect.getdoc(cls) or ""
        names = [name for name in inspect.signature(cls).parameters if name != "self"]
        assert all(re.search(rf"\b{name}\b.* : ", text) for name in names)


@quiet
@pytest.mark.parametrize("ours", ESTIMATORS)
def test_pipelines_searches_and_scores_are_theirs(ours: Any) -> None:
    X, y = (load_iris if ours is MLPClassifier else load_diabetes)(return_X_y=True)
    results = []
    for cls in (ours.__bases__[1], ours):
        estimator = cls(hidden_layer_sizes=12, max_iter=20, learning_rate_init=0.02, random_state=0)
        pipeline = make_pipeline(StandardScaler(), estimator)
        name = f"{cls.__name__.lower()}__"
        grid = {name + "alpha": [1e-4, 3.0], name + "hidden_layer_sizes": [(4,), (9, 5)]}
        search = GridSearchCV(pipeline, grid, n_jobs=2, cv=3).fit(X, y)
        scores = search.cv_results_["mean_test_score"]
        assert pickle.loads(pickle.dumps(search)).score(X, y) == search.score(X, y)
        results.append(np.array([*scores, *cross_val_score(clone(pipeline), X, y, cv=4), search.score(X, y)]))
    np.testing.assert_allclose(results[1], results[0], rtol=1e-7)


@quiet
@pytest.mark.parametrize("ours", ESTIMATORS)
def test_feature_names(ours: Any) -> None:
    pandas = pytest.importorskip("pandas")
    X, y = load_iris(return_X_y=True, as_frame=True)
    assert isinstance(X, pandas.DataFrame)
    fitted = [cls(hidden_layer_sizes=4, max_iter=5, random_state=0).fit(X, y) for cls in (ours.__bases__[1], ours)]
    theirs, mine = fitted
    assert list(mine.feature_names_in_) == list(theirs.feature_names_in_) == list(X.columns)
    np.testing.assert_allclose(mine.predict(X), theirs.predict(X))
    messages = []
    for estimator in fitted:
        with pytest.raises(ValueError, match="feature names") as caught:
            estimator.predict(X.rename(columns={X.columns[0]: "other"}))
        messages.append(str(caught.value))
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            estimator.predict(X.to_numpy())
    assert messages[0] == messages[1]


def test_scikit_learn_is_imported_when_it_is_needed(python: Callable[..., str]) -> None:
    code = """
import sys, fastmlp
assert "sklearn" not in sys.modules
assert {"MLPClassifier", "MLPRegressor"} <= set(dir(fastmlp))
from fastmlp import MLPClassifier
assert MLPClassifier is fastmlp.MLPClassifier is fastmlp.estimators.MLPClassifier
print("sklearn" in sys.modules)
"""
    assert python(code) == "True\n"
    code = """
import sys, fastmlp
sys.modules["sklearn"] = None
try:
    fastmlp.MLPRegressor
except ImportError as error:
    print(error)
"""
    assert python(code) == 'MLPRegressor needs scikit-learn: pip install "fastmlp[sklearn]"\n'
    with pytest.raises(AttributeError, match="no attribute 'MLPTransformer'"):
        fastmlp.MLPTransformer  # noqa: B018


def _their_tests(*arguments: str, fault: str = "") -> tuple[set[str], set[str], str]:
    """Names of what failed and of what passed under the plugin, and all that was printed."""
    here = Path(__file__).parent
    environment = os.environ | {"SKLEARN_FAULT": fault, "PYTHONPATH": os.pathsep.join([str(here.parent), str(here)])}
    if "PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] += os.pathsep + os.environ["PYTHONPATH"]
    command = [sys.executable, "-m", "pytest", "-p", "sklearn_in_place", "-p", "no:cacheprovider", "-rA", "--tb=no", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    outcomes = re.findall(r"^(PASSED|FAILED|ERROR) \S*::(\w+)", done.stdout, re.MULTILINE)
    failed = {name for outcome, name in outcomes if outcome != "PASSED"}
    return failed, {name for _, name in outcomes} - failed, done.stdout + done.stderr


IN_PLACE = ("-c", os.devnull, "--rootdir", os.sep, "--pyargs", "sklearn.neural_network.tests.test_mlp")


@pytest.mark.slow
def test_their_tests_pass_in_place() -> None:
    failed, passed, printed = _their_tests(*IN_PLACE)
    # Before 1.7 there are fewer, and one of them calls a private method with the arguments that it had then.
    old = tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 7)
    assert failed <= ({"test_gradient"} if old else set()), printed
    assert len(passed) >= (35 if old else 40), printed
    calls = re.search(r"kernel calls: (\d+)", printed)
    assert calls is not None
    assert int(calls[1]) > 5000


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["sign", "share"])
def test_their_tests_see_a_fault(fault: str) -> None:
    failed, _, printed = _their_tests(*IN_PLACE, "--maxfail=3", fault=fault)
    assert len(failed) >= 3, printed


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["sign", "share", "epsilon"])
def test_trajectories_see_a_fault(fault: str) -> None:
    tests = str(Path(__file__).parent / "test_perceptron.py")
    failed, _, printed = _their_tests(tests, "-k", "test_trajectory and multiclass", "--maxfail=1", fault=fault)
    assert failed == {"test_trajectory"}, printed
