"""Fitted estimators in files: their settings, what a fit has found, and what `partial_fit` needs to go on."""

import os
from collections.abc import Sequence
from types import NoneType
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from fastmlp import checks, onnx
from fastmlp.files import description, labels, models
from fastmlp.files.description import Custom
from fastmlp.files.safetensors import Reader
from fastmlp.model import Model
from fastmlp.sklearn import settings, solvers

ESTIMATORS: dict[str, Any] = {}  # by the names that files have; `estimators` fills it
NUMBER = (int, float)
# What a fit leaves beside the network. Curves are tensors, of which the description has the length.
FITTED: dict[str, Any] = {
    "n_iter_": int,
    "t_": int,
    "_no_improvement_count": int,
    "loss_": (*NUMBER, dict),
    "best_loss_": (*NUMBER, dict, NoneType),
    "best_validation_score_": (*NUMBER, dict, NoneType),
    "loss_curve_": int,
    "validation_loss_curve_": int,
    "validation_scores_": (int, NoneType),
}
CURVES = ("loss_curve_", "validation_loss_curve_", "validation_scores_")
TARGETS = ("binary", "multiclass", "multilabel-indicator")


def save(estimator: Any, path: str | os.PathLike[str], optimizer: bool) -> None:
    """Write a fitted estimator."""
    name = type(estimator).__name__
    if ESTIMATORS.get(name) is not type(estimator):
        known = " and ".join(ESTIMATORS)
        raise TypeError(f"save writes {known}, not {type(estimator).__qualname__}, which is derived from one: pickle it")
    optimizer = checks.flag("optimizer", optimizer)
    check_is_fitted(estimator, "coefs_")
    estimator._validate_params()
    tensors: dict[str, np.ndarray] = {}
    given = {name: settings.write(name, value, tensors) for name, value in estimator.get_params(deep=False).items()}
    model, memory, solver, rates = estimator._current(), None, None, None
    if optimizer:
        memory, solver, rates = _memory(estimator, model, tensors)
    parts = _labels(estimator, tensors) | {"fitted": _fitted(estimator, tensors)}
    tensors |= models.layers(model.network, model._engine.save()["params"])
    network = description.network(model.network)
    size = sum(array.nbytes for array in tensors.values())
    for one in ("classes", "features"):
        if one + labels.OFFSETS in tensors and labels.refused(len(tensors[one + labels.OFFSETS]), size):
            raise ValueError(f"{one} must have fewer names to be written: of a file of {size} bytes no reader makes so much")
    models.write(
        path,
        tensors,
        "estimator",
        estimator=name,
        settings=given,
        network=network,
        **parts,
        optimizer=memory,
        solver=solver,
        rates=rates,
    )


def _memory(estimator: Any, model: Model, tensors: dict[str, np.ndarray]) -> tuple[Any, Any, Any]:
    """The optimiser's memory, scikit-learn's settings of it, and the course of a schedule."""
    memory = solver = rates = None
    if (estimator._model.sizes, estimator._model.dtype) == (model.sizes, model.dtype):  # as `partial_fit` asks
        memory, moments = models.memory(estimator._model._engine.save())
        tensors |= moments
    if hasattr(estimator, "_optimizer"):
        solver = {name: description.plain(value) for name, value in solvers.held(estimator._optimizer).items()}
        if solver["kind"] == "fastmlp":
            solver["optimizer"] = settings.write("solver", estimator._optimizer.optimizer, tensors)
    if getattr(estimator, "_rates", None) is not None:
        rates = estimator._rates.held() | {"schedule": settings.write("learning_rate", estimator._rates.schedule, tensors)}
    return memory, solver, rates


def _labels(estimator: Any, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    """The classes or the output, and the features' names."""
    parts: dict[str, Any] = {}
    if is_classifier(estimator):
        binarizer = estimator._label_binarizer
        parts["classes"], own = labels.write("classes", estimator.classes_)
        tensors |= own
        if binarizer.y_type_ not in TARGETS:
            raise ValueError(f"y must have been of a type of {', '.join(TARGETS)}, got {binarizer.y_type_}")
        parts["targets"] = {"type": binarizer.y_type_, "sparse": bool(binarizer.sparse_input_)}
    else:
        out = estimator.out_activation_
        parts["output"] = out if isinstance(out, str) else {"custom": out.name}
    if hasattr(estimator, "feature_names_in_"):
        parts["features"], own = labels.write("features", estimator.feature_names_in_)
        tensors |= own
    return parts


def _fitted(estimator: Any, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    found = {}
    for name in FITTED:
        if not hasattr(estimator, name):
            continue
        value = getattr(estimator, name)
        if name in CURVES and value is not None:
            tensors[name] = np.array(value, np.float64)
            value = len(value)
        found[name] = settings.write(name, value, tensors)
    return found


def load(reader: Reader, found: dict[str, Any], custom: Sequence[Custom]) -> Any:
    """The estimator of a file, whose description is `found`."""
    name = found.get("estimator")
    kind = ESTIMATORS[checks.choice("estimator", name if isinstance(name, str) else str(name)[:20], ESTIMATORS)]
    own = {"classes": dict, "targets": dict} if is_classifier(kind()) else {"output": (str, dict)}
    types: dict[str, Any] = {"estimator": str, "settings": dict, "network": dict, "fitted": dict, **own}
    types |= dict.fromkeys(("features", "optimizer", "solver", "rates"), (dict, NoneType))
    values = dict(zip(types, description.parts("description", found, **types), strict=True))
    network = description.read_network(values["network"], custom)
    used = models.expected(reader, network)
    memory = None
    if values["optimizer"] is not None:
        memory = models.read_memory(reader, values["optimizer"], network)
        used |= {models.MOMENTS} if len(memory["moments"]) else set()
    estimator = _of_settings(kind, reader, values["settings"], custom, used)
    sizes = network.sizes
    estimator.n_features_in_, estimator.n_outputs_, estimator.n_layers_ = sizes[0], sizes[-1], len(sizes)
    _read_fitted(estimator, reader, values["fitted"], used)
    _read_features(estimator, reader, values["features"], used)
    if is_classifier(estimator):
        _read_classes(estimator, reader, values["classes"], values["targets"], used)
    else:
        estimator.out_activation_ = description.read_activation(values["output"], custom)
    if unknown := sorted(reader.entries.keys() - used):
        raise ValueError(f"it has a tensor {unknown[0]!r} that its description does not explain")
    wanted = (*estimator._activations(len(sizes) - 2), estimator._objective(sizes[-1]).activation)
    if network.activations != wanted:
        raise ValueError(f"network must have the activations of the settings, {wanted}; got {network.activations}")
    _read_solver(estimator, values["solver"], values["rates"])
    model = Model.__new__(Model)
    model._start(network)
    models.read_layers(reader, model.network, model.params)
    if memory is not None:
        model._engine.restore(memory | {"params": model.params})
    estimator._link(model)
    onnx.register_if_imported()
    return estimator


def _of_settings(kind: Any, reader: Reader, given: dict[str, Any], custom: Sequence[Custom], used: set[str]) -> Any:
    known = kind._get_param_names()
    if unknown := sorted(given.keys() - set(known)):
        raise ValueError(f"settings must be of {', '.join(known)}; got {unknown[0]!r} too")
    estimator = kind(**{name: settings.read(name, value, reader, custom, used) for name, value in given.items()})
    estimator._validate_params()
    estimator._random_state = check_random_state(estimator.random_state)
    return estimator


def _read_fitted(estimator: Any, reader: Reader, given: dict[str, Any], used: set[str]) -> None:
    names = [name for name in FITTED if name in given]
    values = description.parts("fitted", given, **{name: FITTED[name] for name in names})
    for name, value in zip(names, values, strict=True):
        if FITTED[name] is int and not 0 <= value < description.MOST:
            raise ValueError(f"fitted must have a {name} from 0 to 2**62, got {value}")
        if name in CURVES and value is not None:
            value = reader.array(name, np.dtype(np.float64), (value,)).tolist()
            used.add(name)
        elif isinstance(value, dict):
            value = settings.read(name, {"float": None} | value, reader, (), used)
        setattr(estimator, name, value)


def _read_features(estimator: Any, reader: Reader, given: dict[str, Any] | None, used: set[str]) -> None:
    if given is None:
        return
    names, own = labels.read(reader, "features", given)
    used |= own
    if names.dtype != object or len(names) != estimator.n_features_in_:
        raise ValueError(f"features must be {estimator.n_features_in_} names, one an input, got {len(names)} of {names.dtype}")
    estimator.feature_names_in_ = names


def _read_classes(estimator: Any, reader: Reader, given: dict[str, Any], targets: dict[str, Any], used: set[str]) -> None:
    kind, sparse = description.parts("targets", targets, type=str, sparse=bool)
    checks.choice("type", kind, TARGETS)
    classes, own = labels.read(reader, "classes", given)
    used |= own
    outputs = estimator.n_outputs_
    if len(classes) not in ((1, 2) if kind == "binary" else (outputs,)) or (kind == "binary" and outputs != 1):
        raise ValueError(f"classes must be those of {outputs} outputs for {kind} targets, got {len(classes)}")
    binarizer = LabelBinarizer()
    binarizer.y_type_, binarizer.sparse_input_, binarizer.classes_ = kind, sparse, classes
    estimator._label_binarizer, estimator.classes_ = binarizer, classes
    estimator.out_activation_ = "softmax" if kind == "multiclass" else "logistic"


def _read_solver(estimator: Any, solver: dict[str, Any] | None, rates: dict[str, Any] | None) -> None:
    """What goes on in `partial_fit`."""
    if solver is not None:
        kinds = dict(solvers.THEIRS.values()) | {"fastmlp": ("optimizer",)}
        kind = checks.choice("kind", str(solver.get("kind"))[:20], kinds)
        types: dict[str, Any] = {"kind": str, "rate": NUMBER} | dict.fromkeys(kinds[kind], NUMBER)
        types |= {name: of for name, of in (("optimizer", dict), ("lr_schedule", str), ("nesterov", bool)) if name in types}
        values = dict(zip(types, description.parts("solver", solver, **types), strict=True))
        if "lr_schedule" in values:
            checks.choice("lr_schedule", values["lr_schedule"], ("constant", "invscaling", "adaptive"))
        if kind == "fastmlp":
            description.parts("optimizer", values["optimizer"], optimizer=dict)
        estimator._optimizer = solvers.given_back(values)
    if rates is None:
        if solver is not None:
            estimator._rates = None
        return
    schedule, names, epoch, course = description.parts(
        "rates", rates, schedule=dict, names=list, epoch=int, course=(dict, NoneType)
    )
    (held,) = description.parts("schedule", schedule, schedule=dict)
    for name in names:
        checks.choice("names", name, ("loss", "val_loss", "val_score"))
    if not 0 <= epoch < description.MOST:
        raise ValueError(f"rates must have an epoch from 0 to 2**62, got {epoch}")
    of = description.read_schedule("schedule", held)
    estimator._rates = solvers.Rates.given_back({"schedule": of, "names": names, "epoch": epoch, "course": None})
    estimator._rates.course = description.read_course("course", course, of)
