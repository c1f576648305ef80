"""A pytest plugin: fastmlp's estimators in place of scikit-learn's, for its own tests to run on.

    pytest -p sklearn_in_place --pyargs sklearn.neural_network.tests.test_mlp

It counts the kernels' calls. SKLEARN_FAULT plants a fault in training: ``sign``: uphill; ``share``: a gradient without its 1/n;
``epsilon``: Adam's added after the bias correction.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import sklearn.neural_network
from sklearn.neural_network import _multilayer_perceptron

import fastmlp
from fastmlp.engine.engine import Engine
from fastmlp.engine.state import Job

calls = dict.fromkeys(("train", "gradient", "predict"), 0)


def _faulty(job: Job, fault: str) -> Job:
    optimizer: Any = job.optimizer
    if fault == "epsilon":
        if not hasattr(optimizer, "epsilon"):
            return job
        return replace(job, optimizer=replace(optimizer, sklearn=0.0))
    factor = {"sign": -1.0, "share": job.batch}[fault]
    return replace(job, optimizer=replace(optimizer, gain=optimizer.gain * factor))


def _watch(name: str, method: Callable[..., Any], fault: str | None) -> None:
    def watched(self: Engine, *args: Any, **options: Any) -> Any:
        calls[name] += 1
        if fault and name == "train":
            args = (_faulty(args[0], fault), *args[1:])
        return method(self, *args, **options)

    setattr(Engine, name, watched)


def pytest_configure() -> None:
    for name in calls:
        _watch(name, getattr(Engine, name), os.environ.get("SKLEARN_FAULT"))
    for module in (sklearn.neural_network, _multilayer_perceptron):
        module.MLPClassifier, module.MLPRegressor = fastmlp.MLPClassifier, fastmlp.MLPRegressor


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.write_line(f"kernel calls: {sum(calls.values())}")
