"""Estimators' checkpoints: a fit that goes on from one ends with the same numbers as the fit that was never stopped."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone

import fastmlp
from fastmlp import MLPClassifier, MLPRegressor, schedules
from fastmlp.sklearn import coefficients
from fastmlp.training.checkpoint import Checkpoint

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((300, 5))
LABELS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.3)
NUMBERS = X @ RNG.standard_normal((5, 2))
NOTES = ("t_", "n_iter_", "loss_", "best_loss_", "loss_curve_", "validation_loss_curve_", "validation_scores_")
SETTINGS: list[dict[str, Any]] = [
    {},
    {"early_stopping": True, "n_iter_no_change": 1},
    {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.1, "tol": 0.1, "n_iter_no_change": 1},
    {"solver": "sgd", "learning_rate": "invscaling", "dropout": 0.2},
    {"solver": fastmlp.Lion(schedules.ReduceOnPlateau(0.01, patience=1))},
    {"solver": "adamw", "learning_rate": schedules.Cosine(0.01), "shuffle": False},
]


class KilledError(Exception):
    """Where a process would have been."""


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Fits until a number of checkpoints are written, and then no more; whether it came to that."""

    def run(estimator: Any, writes: int, *data: Any, **how: Any) -> bool:
        numbers, write = itertools.count(), Checkpoint.write

        def watched(self: Checkpoint, *what: Any) -> None:
            write(self, *what)
            if next(numbers) == writes:
                raise KilledError

        with monkeypatch.context() as patch:
            patch.setattr(Checkpoint, "write", watched)
            try:
                estimator.fit(*data, **how)
            except KilledError:
                return True
        return False

    return run


def same(one: Any, other: Any) -> None:
    assert one._model.params.tobytes() == other._model.params.tobytes()
    for name in NOTES:
        assert getattr(one, name) == getattr(other, name), name


def net(kind: Any, **settings: Any) -> Any:
    return kind(**{"hidden_layer_sizes": 8, "max_iter": 6, "batch_size": 32, "random_state": 0} | settings)


@pytest.mark.parametrize("every", ["epoch", 1, 7, 1e-9])
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: "-".join(settings) or "plain")
@pytest.mark.parametrize(("kind", "y"), [(MLPClassifier, LABELS), (MLPRegressor, NUMBERS)])
@pytest.mark.parametrize("sparse", [False, True])
def test_it_ends_with_the_same_numbers(
    kind: Any, y: Any, settings: Any, every: Any, sparse: bool, tmp_path: Path, killed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = X
    if sparse:
        monkeypatch.setattr(coefficients, "WHOLE", 1)
        monkeypatch.setattr(coefficients, "PIECE", 4000)
        given = scipy.sparse.csr_array(X)
    whole = net(kind, **settings).fit(given, y)
    for writes in (0, 2, 5):
        estimator = net(kind, **settings)
        if killed(estimator, writes, given, y, checkpoint=tmp_path / "fit", every=every):
            assert not hasattr(estimator, "coefs_")  # after an error it is as it was
            same(net(kind, **settings).fit(given, y, resume=tmp_path / "fit"), whole)


def test_a_fit_without_a_seed_goes_on_too(tmp_path: Path, killed: Any) -> None:
    settings = {"random_state": None, "early_stopping": True}
    assert killed(net(MLPClassifier, **settings), 4, X, LABELS, checkpoint=tmp_path / "fit", every=3)
    first = net(MLPClassifier, **settings).fit(X, LABELS, resume=tmp_path / "fit")
    state = np.random.mtrand._rand.get_state(legacy=False)["state"]["key"].tobytes()
    same(net(MLPClassifier, **settings).fit(X, LABELS, resume=tmp_path / "fit"), first)
    assert np.random.mtrand._rand.get_state(legacy=False)["state"]["key"].tobytes() == state


def test_a_fit_that_had_ended_ends_at_once(tmp_path: Path) -> None:
    for settings in ({}, {"early_stopping": True, "n_iter_no_change": 1}):
        whole = net(MLPClassifier, **settings).fit(X, LABELS, checkpoint=tmp_path / "fit", every=1000)
        same(net(MLPClassifier, **settings).fit(X, LABELS, resume=tmp_path / "fit"), whole)


def test_with_weights_and_validation_data_and_callbacks(tmp_path: Path, killed: Any) -> None:
    seen: list[Any] = []
    data = {"sample_weight": RNG.random(300), "X_val": X[:50], "y_val": LABELS[:50]}

    def make() -> Any:
        stopping = fastmlp.EarlyStopping(monitor="val_loss", patience=2)
        return net(MLPClassifier, class_weight="balanced", callbacks=[stopping, lambda model, logs: seen.append(logs)])

    whole = make().fit(X, LABELS, **data)
    ends = seen[-1]
    assert killed(make(), 3, X, LABELS, **data, checkpoint=tmp_path / "fit", every=13)
    same(make().fit(X, LABELS, **data, resume=tmp_path / "fit"), whole)
    assert seen[-1] == ends


def test_more_epochs_are_those_of_the_longer_fit(tmp_path: Path) -> None:
    net(MLPRegressor).fit(X, NUMBERS, checkpoint=tmp_path / "fit")
    same(net(MLPRegressor, max_iter=9).fit(X, NUMBERS, resume=tmp_path / "fit"), net(MLPRegressor, max_iter=9).fit(X, NUMBERS))


def test_the_file_is_a_model_too(tmp_path: Path) -> None:
    regressor = net(MLPRegressor).fit(X, NUMBERS, checkpoint=tmp_path / "fit")
    np.testing.assert_array_equal(fastmlp.load(tmp_path / "fit").predict(X), regressor.predict(X))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": X + 1}, "resume: data must be"),
        ({"X": X[:-1], "y": LABELS[:-1]}, "resume: (data|rows) must be"),
        ({"y": LABELS[::-1]}, "resume: data must be"),
        ({"sample_weight": np.full(300, 2.0)}, "resume: data must be"),
        ({"X_val": X, "y_val": LABELS}, "resume: val_data must be"),
        ({"alpha": 0.1}, "resume: alpha must be that of the checkpoint's fit, 0.0001, got 0.1"),
        ({"batch_size": 16}, "resume: batch_size must be"),
        ({"solver": fastmlp.Adam(0.1)}, "resume: solver must be"),
        ({"callbacks": fastmlp.EarlyStopping("loss")}, "resume: callbacks must be"),
        ({"hidden_layer_sizes": 9}, "resume must be a checkpoint of a model like this one"),
        ({"solver": "lbfgs"}, "checkpoint and resume must be None for solver='lbfgs'"),
    ],
)
def test_another_fit_does_not_go_on(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    net(MLPClassifier).fit(X, LABELS, checkpoint=tmp_path / "fit")
    before = (tmp_path / "fit").read_bytes()
    data = {name: change.get(name, given) for name, given in (("X", X), ("y", LABELS))}
    data |= {name: change[name] for name in ("sample_weight", "X_val", "y_val") if name in change}
    estimator = net(MLPClassifier, **{name: value for name, value in change.items() if name not in data})
    fitted = clone(estimator).fit(**data)
    kept = fitted.coefs_[0].copy()
    for one in (estimator, fitted):
        with pytest.raises(ValueError, match=message):
            one.fit(**data, resume=tmp_path / "fit")
    assert not hasattr(estimator, "coefs_")
    np.testing.assert_array_equal(fitted.coefs_[0], kept)
    assert (tmp_path / "fit").read_bytes() == before


def test_a_models_checkpoint_is_none_of_an_estimator(tmp_path: Path) -> None:
    model = fastmlp.Model([5, 8, 3], "relu", "cross_entropy", rng=0)
    model.fit(X, LABELS, 2, 32, checkpoint=tmp_path / "fit")
    with pytest.raises(ValueError, match=r"resume must have the state of a RandomState"):
        net(MLPClassifier).fit(X, LABELS, resume=tmp_path / "fit")
    net(MLPClassifier).fit(X, LABELS, checkpoint=tmp_path / "fit")
    with pytest.raises(ValueError, match=r"resume: the course of its fit must have"):
        fastmlp.Model([5, 8, 3], "relu", "cross_entropy", rng=0).fit(X, LABELS, 2, 32, resume=tmp_path / "fit")


KILLED = """
import os, signal, sys, time, warnings
import numpy as np, fastmlp
from fastmlp import MLPClassifier
warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
X = rng.standard_normal((300, 5))
y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.3)

def net():
    return MLPClassifier(8, max_iter=40, batch_size=32, random_state=0, early_stopping=True, n_iter_no_change=40)

def numbers(fitted):
    return fitted._model.params.tobytes(), fitted.loss_curve_, fitted.validation_scores_, fitted.t_

path, kills = sys.argv[1], int(sys.argv[2])
whole = numbers(net().fit(X, y))
fastmlp.set_num_threads(1)  # forks: no thread of a crew may be lost
died = 0
for kill in range(kills):
    child = os.fork()
    if not child:
        goes_on = path if os.path.exists(path) and kill % 5 else None
        net().fit(X, y, checkpoint=path, every=(1, 3, "epoch", 0.002)[kill % 4], resume=goes_on)
        os._exit(0)
    time.sleep(rng.uniform(0, 0.15))
    os.kill(child, signal.SIGKILL)
    died += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    if os.path.exists(path):
        fastmlp.load(path)
        assert numbers(net().fit(X, y, resume=path)) == whole, kill
print(died)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="it forks")
def test_a_process_that_is_killed_loses_no_number(tmp_path: Path) -> None:
    kills = 24
    command = [sys.executable, "-c", KILLED, str(tmp_path / "fit"), str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > kills / 4  # in the middle of a fit, not behind it
    assert {path.name for path in tmp_path.iterdir()} >= {"fit", "fit.previous"}
