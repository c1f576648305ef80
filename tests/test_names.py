"""Optimisers by name, the names that editors and Tab complete, and that these are the registries'."""

from __future__ import annotations

import inspect
import re
from typing import Any, get_args

import numpy as np
import pytest

import fastmlp
from fastmlp import LBFGS, SGD, Adam, Model, metrics, schedules, types
from fastmlp.activations import ACTIVATIONS, ALIASES
from fastmlp.initialisation import INITS
from fastmlp.losses import LOSSES
from fastmlp.optimizer import Optimizer
from fastmlp.optimizers import NAMED, choose
from fastmlp.training.epochs import NONFINITE

pytestmark = pytest.mark.small

X, Y = np.random.default_rng(0).standard_normal((8, 2)), np.ones((8, 1))


# ---- optimisers ------------------------------------------------------------------------------------------------------


def test_every_optimiser_has_its_name() -> None:
    kinds = {kind.__name__.lower(): kind for kind in vars(fastmlp).values() if inspect.isclass(kind)}
    for name, kind in NAMED.items():
        assert kinds[name] is kind
        assert choose(None, name, by="fit") == kind()
    shown = {kind for kind in kinds.values() if issubclass(kind, Optimizer | LBFGS)}
    assert shown == set(NAMED.values())


@pytest.mark.parametrize("name", [name for name in NAMED if name != "lbfgs"])
@pytest.mark.parametrize("lr", [None, 0.125, 1, np.float32(0.25)])
def test_a_name_is_the_optimiser_with_its_defaults(name: Any, lr: Any) -> None:
    kind: Any = NAMED[name]
    made = kind() if lr is None else kind(lr)
    assert choose(lr, name) == choose(lr, name, by="epochs") == choose(lr, name, by="fit") == made

    def train(**how: Any) -> np.ndarray:
        model = Model([2, 3, 1], rng=0)
        model.fit(X, Y, 2, **how)
        model.fit_batches([(X, Y)], **how)
        model.step(X, Y, **how)
        model.apply_gradient(np.ones(13), **how)
        return model.params

    np.testing.assert_array_equal(train(optimizer=name, lr=lr), train(optimizer=made))


def test_a_name_takes_a_schedule() -> None:
    lr, models = schedules.Cosine(0.1), (Model([2, 1], rng=0), Model([2, 1], rng=0))
    models[0].fit(X, Y, 5, optimizer="adam", lr=lr)
    models[1].fit(X, Y, 5, optimizer=Adam(lr))
    np.testing.assert_array_equal(models[0].params, models[1].params)
    with pytest.raises(ValueError, match="a single step has no epochs for Cosine"):
        models[0].step(X, Y, lr, "adam")  # type: ignore[arg-type]


def test_an_instance_is_made_once() -> None:
    """Else each step would check settings and tell the kernels of them."""
    assert choose(None, "adam") is choose(None, "adam")
    assert choose(0.5, "adam") is choose(0.5, "adam")
    assert choose(0.5, None) is choose(0.5, "sgd")
    assert choose(None, None) is choose(None, None)


def test_lbfgs_by_name() -> None:
    pytest.importorskip("scipy.optimize")
    models = Model([2, 3, 1], "tanh", rng=0), Model([2, 3, 1], "tanh", rng=0)
    histories = [model.fit(X, Y, 5, optimizer=how) for model, how in zip(models, ("lbfgs", LBFGS()), strict=True)]
    assert dict(histories[0]) == dict(histories[1])
    np.testing.assert_array_equal(models[0].params, models[1].params)


@pytest.mark.parametrize(
    ("lr", "optimizer", "by", "error", "message"),
    [
        (None, "Adam", "fit", ValueError, "optimizer must be one of sgd, adam, .*, lbfgs; got 'Adam'"),
        (0.1, "momentum", "fit", ValueError, "optimizer must be one of sgd, .*; got 'momentum'"),
        (None, Adam, "fit", TypeError, "optimizer must be one of sgd, .*, or an optimiser such as fastmlp.Adam.., got <class"),
        (0.1, Adam(), "fit", ValueError, "lr=0.1 must not be given together with optimizer=Adam.*, which has one already"),
        (0.1, LBFGS(), "fit", ValueError, "lr=0.1 must not be given together with optimizer=LBFGS.*, which has none"),
        (0.1, "lbfgs", "fit", ValueError, "lr=0.1 must not be given together with optimizer='lbfgs', which has none"),
        (None, "lbfgs", "epochs", TypeError, "optimizer must be one that makes single steps, got LBFGS.* for Model.fit alone"),
        (None, LBFGS(), "steps", TypeError, "optimizer must be one that makes single steps"),
        (-1.0, "adam", "steps", ValueError, "lr must be a finite number above 0, got -1.0"),
        (True, "adam", "steps", TypeError, "lr must be a number, got True"),
        (None, SGD(schedules.Cosine(0.1)), "steps", ValueError, "lr must be a number: a single step has no epochs for Cosine"),
    ],
)
def test_what_choose_refuses(lr: Any, optimizer: Any, by: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        choose(lr, optimizer, by)


# ---- what editors complete -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("literal", "registry"),
    [
        (types.ActivationName, [*ACTIVATIONS, *ALIASES]),
        (types.LossName, LOSSES),
        (types.OptimizerName, NAMED),
        (types.MetricName, metrics.METRICS),
        (types.InitName, INITS),
        (types.Nonfinite, NONFINITE),
    ],
)
def test_the_types_list_the_registries_names(literal: Any, registry: Any) -> None:
    assert get_args(literal) == tuple(registry)


def test_numpys_typing_is_not_imported(python: Any) -> None:
    assert python("import sys, fastmlp, fastmlp.types; print('numpy.typing' in sys.modules)") == "False\n"


# ---- what Tab completes ----------------------------------------------------------------------------------------------


def listed(documentation: str) -> set[str]:
    """The names under a docstring's Attributes."""
    lines = documentation.partition("Attributes\n    ----------\n")[2].partition("\n\n")[0].splitlines()
    return {name for line in lines if (found := re.match(r"    (\w[\w, ]*) : ", line)) for name in found[1].split(", ")}


def test_the_packages_names() -> None:
    shown = dir(fastmlp)
    assert shown == sorted({*fastmlp.__all__, "MLPClassifier", "MLPRegressor", "__version__"})
    for name in fastmlp.__all__:
        assert inspect.getdoc(getattr(fastmlp, name)), name


@pytest.mark.parametrize("module", [metrics, schedules])
def test_the_modules_names(module: Any) -> None:
    """All that is defined there and public, and nothing that is only imported."""
    own = {name for name, found in vars(module).items() if getattr(found, "__module__", None) == module.__name__}
    assert {name for name in dir(module) if name != "METRICS"} == {name for name in own if not name.startswith("_")}


def test_a_models_names() -> None:
    model = Model([2, 1], rng=0)
    model.fit(X, Y)
    shown = {name for name in dir(model) if not name.startswith("_")}
    methods = {name for name in shown if callable(getattr(model, name))}
    assert methods == {
        "apply_gradient", "backward", "compiled", "copy", "fit", "fit_batches", "forward", "from_weights", "gradient",
        "layer_outputs", "loss", "predict", "save", "set_params_from", "step", "summary", "trim",
    }  # fmt: skip
    assert shown - methods == listed(Model.__doc__ or "")
    for name in methods:
        assert inspect.getdoc(getattr(model, name)), name


def test_a_historys_names() -> None:
    history = Model([2, 1], rng=0).fit(X, Y)
    assert {name for name in dir(history) if not name.startswith("_")} == {"get", "items", "keys", "plot", "to_frame", "values"}
