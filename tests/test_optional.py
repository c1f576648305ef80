"""What is optional: without it fastmlp is imported, trains and predicts, and what needs it names the extra to install."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

# Each extra: the packages that it brings, what needs them, and what that says.
FEATURES = {
    "sklearn": (["sklearn", "scipy"], "fastmlp.MLPClassifier", "MLPClassifier needs scikit-learn"),
    "lbfgs": (["scipy"], "fit(optimizer=fastmlp.LBFGS())", "optimizer=LBFGS() needs SciPy"),
    "plot": (["matplotlib"], "fit().plot()", "History.plot needs matplotlib"),
    "progress": (["tqdm"], "fit(verbose='bar')", 'verbose="bar" needs tqdm'),
    "cli": (["pandas"], "cli.reading.read('no.csv')", "tables need pandas"),
    "torch": (["torch"], "fastmlp.to_torch(fastmlp.Model([1, 1]))", "to_torch needs PyTorch"),
    "onnx": (["skl2onnx"], "fastmlp.onnx.register()", "fastmlp.onnx needs skl2onnx"),
}
OTHERS = ["pyarrow"]  # of which another part of an extra has a test of its own
PACKAGES = sorted({package for packages, _, _ in FEATURES.values() for package in packages} | set(OTHERS))

REFUSING = """
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refusing())
import fastmlp, fastmlp.onnx
from fastmlp import cli

X, y = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [1.0, 2.0, 3.0]

def fit(**settings):
    model = fastmlp.Model([2, 3, 1], rng=0)
    history = model.fit(X, y, epochs=2, **settings)
    assert model.predict(X).shape == (3, 1)
    return history

fit()
if ESTIMATORS:
    assert fastmlp.MLPRegressor(hidden_layer_sizes=3, solver="sgd", max_iter=2).fit(X, y).predict(X).shape == (3,)
for work in WORKS:
    try:
        eval(work)
    except ImportError as error:
        print(error)
    else:
        print(work, "needs none of", REFUSED)
"""


@pytest.mark.parametrize(
    "refused", [pytest.param(PACKAGES, id="all"), *(pytest.param([p], id=p, marks=pytest.mark.slow) for p in PACKAGES)]
)
def test_without(python: Callable[..., str], refused: list[str]) -> None:
    lost = {extra: rest for extra, (packages, *rest) in FEATURES.items() if set(packages) & set(refused)}
    works = [work for work, _ in lost.values()]
    estimators = "sklearn" not in lost and find_spec("sklearn") is not None
    said = python(f"REFUSED, WORKS, ESTIMATORS = {refused}, {works}, {estimators}\n{REFUSING}").splitlines()
    assert said == [f'{message}: pip install "fastmlp[{extra}]"' for extra, (_, message) in lost.items()]


def test_each_extra_is_here() -> None:
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    assert extras.keys() - {"test", "peers", "bench", "dev", "docs"} == FEATURES.keys()
