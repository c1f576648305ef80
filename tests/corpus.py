"""What the files of each version hold, nets and estimators of each kind and option; as a program it writes this version's.

    python tests/corpus.py

A file that is there stays as it is: readers of all later versions must read it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas

import fastmlp
from fastmlp import CustomActivation, CustomLoss, MLPClassifier, MLPRegressor, Model, RowLoss, schedules
from fastmlp.files.description import VERSION

FOLDER = Path(__file__).parent / "data" / "files"
X = np.random.default_rng(0).standard_normal((24, 3))
LABELS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
SEVERAL = (X > 0).astype(int)
NAMES = np.array(["low", "middle", "h\u00f6chst"])[LABELS]
FRAME = pandas.DataFrame(X, columns=["a", "b", "\u00e9"])
WEIGHTS = {"low": 1.0, "middle": 2.0, "h\u00f6chst": 0.5}
Y = np.abs(X @ [1.0, 2.0, 3.0])

SQUARE = CustomActivation("square", lambda z: z * z, lambda z: z + z)
PINBALL = CustomLoss("pinball", lambda p, y: max(0.9 * (y - p), 0.1 * (p - y)), lambda p, y: -0.9 if p < y else 0.1)


def _halves(p: np.ndarray, t: np.ndarray, d: np.ndarray) -> float:
    d[0] = p[0] - t[0]
    return (p[0] - t[0]) ** 2 / 2


HALVES = RowLoss("halves", _halves, targets=1)
CUSTOM = [SQUARE, PINBALL, HALVES]


def _model(sizes: tuple[int, ...], *settings: Any, optimizer: Any = None, **more: Any) -> Model:
    model = Model(sizes, *settings, rng=0, **more)
    if optimizer is not None:
        train(model, optimizer)
    return model


def targets(of: Any) -> np.ndarray:
    """What it is trained on."""
    if isinstance(of, MLPClassifier):
        several = of._label_binarizer.y_type_.startswith("multilabel")
        return SEVERAL if several else NAMES if of.classes_.dtype.kind == "U" else LABELS > 0
    if isinstance(of, MLPRegressor):
        return Y
    return LABELS if of.loss_name == "cross_entropy" else np.tile(Y[:, None], of.sizes[-1])


def rows(of: Any) -> Any:
    """What it is trained on, and predicts of."""
    if isinstance(of, Model):
        return np.resize(X, (24, of.sizes[0]))
    return FRAME if hasattr(of, "feature_names_in_") else X


def train(of: Any, optimizer: Any = None) -> None:
    """Some steps more."""
    if not isinstance(of, Model):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            of.set_params(early_stopping=False)
            go_on = of.set_params(warm_start=True).fit if of.solver == "lbfgs" else of.partial_fit
            go_on(rows(of), targets(of))
        return
    of.fit(rows(of), targets(of), 3, 8, optimizer=optimizer or fastmlp.Adam(0.01), rng=1)


def outputs(of: Any) -> np.ndarray:
    return np.asarray((of.predict_proba if isinstance(of, MLPClassifier) else of.predict)(rows(of)))


def params(of: Any) -> np.ndarray:
    return of.params if isinstance(of, Model) else of.model_.params


def _fit(kind: Any, y: Any, *settings: Any, X: Any = X, **more: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind(*settings, **{"random_state": 0, "max_iter": 3, "hidden_layer_sizes": (4, 3), **more}).fit(X, y)


PLATEAU = schedules.ReduceOnPlateau(0.05, factor=0.5, patience=1, min_delta=10.0)
MADE: dict[str, Callable[[], Any]] = {
    "float32": lambda: _model((3, 4, 2), "gelu", dtype="float32"),
    "one": lambda: _model((1, 1)),
    "entropy": lambda: _model((3, 5, 3), "silu", "cross_entropy", optimizer=fastmlp.SGD(0.1)),
    "custom": lambda: _model((3, 4, 2), [SQUARE, "identity"], PINBALL),
    "row-loss": lambda: _model((3, 4, 1), "tanh", HALVES),
    "adam": lambda: _model((3, 4, 2), "tanh", optimizer=fastmlp.Adam(0.01)),
    "adam-float32": lambda: _model((3, 4, 2), "tanh", dtype="float32", optimizer=fastmlp.Adam(0.01)),
    "average": lambda: _model((3, 4, 2), "tanh", optimizer=fastmlp.Adam(0.01, ema=0.9), dropout=0.5),
    "classifier": lambda: _fit(MLPClassifier, NAMES),
    "names": lambda: _fit(MLPClassifier, NAMES, X=FRAME, class_weight=WEIGHTS, n_iter_no_change=np.inf),
    "two": lambda: _fit(MLPClassifier, LABELS > 0, solver="sgd", learning_rate="adaptive", early_stopping=True),
    "multilabel": lambda: _fit(
        MLPClassifier, (X > 0).astype(int), solver=fastmlp.Lion(PLATEAU), class_weight=[{0: 1, 1: 2}] * 3
    ),
    "regressor": lambda: _fit(MLPRegressor, Y, solver="lbfgs"),
    "poisson": lambda: _fit(MLPRegressor, Y, "poisson", dropout=[0.25, 0.5], activation=["tanh", "gelu"]),
    "generator": lambda: _fit(MLPRegressor, Y, random_state=np.random.RandomState(3), hidden_layer_sizes=[4]),
    "custom-regressor": lambda: _fit(MLPRegressor, Y, PINBALL, activation=SQUARE, solver="radam", learning_rate=PLATEAU),
}
WITHOUT = {"float32", "one", "custom", "row-loss", "classifier", "regressor"}  # written without what the optimiser remembers


def main() -> None:
    """Write the files of this version, and what comes out of them."""
    expected = {}
    for name, make in MADE.items():
        path = FOLDER / f"{name}-{VERSION}.safetensors"
        made = make()
        if path.exists():
            made = fastmlp.load(path, custom=CUSTOM)
        else:
            made.save(path, optimizer=name not in WITHOUT)
        expected |= {f"{name}.params": params(made).copy(), f"{name}.outputs": outputs(made)}
        made = fastmlp.load(path, custom=CUSTOM)
        train(made)
        expected[f"{name}.after"] = outputs(made)
    np.savez_compressed(FOLDER / f"expected-{VERSION}.npz", **expected)


if __name__ == "__main__":
    main()
