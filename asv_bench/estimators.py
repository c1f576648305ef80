"""fastmlp's estimators beside scikit-learn's: the time of a fit and the score on held-out data, over some seeds, on one thread.

    python asv_bench/estimators.py [SEEDS]

Both have the same parameters, split and random_state, and are fitted in turns; printed are the medians of the times, the means
of the scores, and the largest difference between two scores with the same seed.
"""

import os
import statistics
import sys
import time
import warnings
from typing import Any

from pinned import VARIABLES, cores

os.environ |= dict.fromkeys(VARIABLES, "1")  # before NumPy reads them
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, cores()[:1])

import numpy as np
import sklearn.neural_network as peers
from sklearn.datasets import load_diabetes, load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale

import fastmlp

SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("MLPClassifier", {}),
    ("MLPClassifier", {"early_stopping": True}),
    ("MLPClassifier", {"solver": "sgd", "learning_rate": "adaptive"}),
    ("MLPClassifier", {"solver": "lbfgs"}),
    ("MLPRegressor", {}),
]


def data(name: str, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Digits to classify, diabetes to predict."""
    X, y = (load_digits if name == "MLPClassifier" else load_diabetes)(return_X_y=True)
    return (X if name == "MLPClassifier" else scale(X)).astype(dtype), y


def fit(module: Any, name: str, settings: dict[str, Any], seed: int, dtype: str) -> tuple[float, float]:
    """Seconds and score of one fit."""
    X, X_test, y, y_test = train_test_split(*data(name, dtype), random_state=seed)
    estimator = getattr(module, name)(random_state=seed, **settings)
    started = time.perf_counter()
    estimator.fit(X, y)
    return time.perf_counter() - started, estimator.score(X_test, y_test)


def main() -> None:
    """Print a line for each of the settings and dtypes."""
    seeds = range(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
    warnings.simplefilter("ignore")
    print("| estimator | dtype | scikit-learn | fastmlp | times as fast | score of each | largest difference |")
    print("|---|---|---|---|---|---|---|")
    for name, settings in SETTINGS:
        for dtype in ("float64", "float32"):
            fit(fastmlp, name, settings, 0, dtype)  # compiles, or loads what is compiled
            runs = [[fit(module, name, settings, seed, dtype) for module in (peers, fastmlp)] for seed in seeds]
            theirs, ours = (statistics.median(run[i][0] for run in runs) for i in range(2))
            scores = [statistics.mean(run[i][1] for run in runs) for i in range(2)]
            apart = max(abs(run[0][1] - run[1][1]) for run in runs)
            call = f"{name}({', '.join(f'{key}={value!r}' for key, value in settings.items())})"
            print(
                f"| `{call}` | {dtype} | {theirs:.3f} s | {ours:.3f} s | {theirs / ours:.2f} | "
                f"{scores[0]:.4f} {scores[1]:.4f} | {apart:.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
