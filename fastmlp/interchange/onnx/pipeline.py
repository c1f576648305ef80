"""What stands around an estimator: scikit-learn's scalers of its inputs and targets, as arithmetic with a number a column."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fastmlp import checks
from fastmlp.interchange import given
from fastmlp.model import Model

Step: TypeAlias = tuple[str, np.ndarray]  # an operator of ONNX, and the float64 numbers that are its second operand

INVERSE = {"Sub": "Add", "Add": "Sub", "Div": "Mul", "Mul": "Div"}
REFUSED = (
    "model's {} must be one of {}; got {}: skl2onnx converts the others, and takes fastmlp's estimators too (see fastmlp.onnx)"
)


class Whole(NamedTuple):
    """A network with what is done before and after it."""

    net: Model
    estimator: Any  # whose `model_` the network is; or the model itself
    before: list[Step]
    after: list[Step]


def _standard(scaler: Any) -> list[Step]:
    steps = [("Sub", scaler.mean_)] if scaler.with_mean else []
    return steps + ([("Div", scaler.scale_)] if scaler.with_std else [])


def _min_max(scaler: Any) -> list[Step]:
    steps = [("Mul", scaler.scale_), ("Add", scaler.min_)]
    low, high = scaler.feature_range
    return steps + ([("Max", np.array([low])), ("Min", np.array([high]))] if scaler.clip else [])


def _max_abs(scaler: Any) -> list[Step]:
    clipped = [("Max", np.array([-1.0])), ("Min", np.array([1.0]))] if getattr(scaler, "clip", False) else []  # since 1.9
    return [("Div", scaler.scale_), *clipped]


def _robust(scaler: Any) -> list[Step]:
    steps = [("Sub", scaler.center_)] if scaler.with_centering else []
    return steps + ([("Div", scaler.scale_)] if scaler.with_scaling else [])


SCALERS: dict[str, Callable[[Any], list[Step]]] = {
    "StandardScaler": _standard,
    "MinMaxScaler": _min_max,
    "MaxAbsScaler": _max_abs,
    "RobustScaler": _robust,
}


def whole(model: Any) -> Whole:
    """The network of a model, an estimator or a pipeline; raises TypeError or ValueError for what it cannot be."""
    before: list[Step] = []
    after: list[Step] = []
    while True:
        kind = _kind(model)
        if kind == "Pipeline":
            for _, transformer in model.steps[:-1]:
                before += _steps("transformers", transformer)
            model = model.steps[-1][1]
        elif kind == "TransformedTargetRegressor":
            after = _inverse(_fitted(model, "transformer_")) + after
            model = model.regressor_
        else:
            break
    return Whole(given.network(model), model, before, after)


def _kind(thing: Any) -> str:
    """The name of scikit-learn's class that this is; empty if it is none. What a subclass does is not known."""
    return type(thing).__name__ if type(thing).__module__.partition(".")[0] == "sklearn" else ""


def _fitted(thing: Any, attribute: str) -> Any:
    if not hasattr(thing, attribute):
        raise ValueError(f"model must be fitted, got {thing!r}")
    return getattr(thing, attribute)


def _steps(what: str, transformer: Any) -> list[Step]:
    """What a scaler does; nested pipelines are gone through in order."""
    found: list[Step] = []
    ahead = [transformer]
    while ahead:
        one = ahead.pop()
        kind = _kind(one)
        if kind == "Pipeline":
            ahead += [step for _, step in reversed(one.steps)]
        elif kind in SCALERS:
            _fitted(one, "n_features_in_")
            found += [(name, np.asarray(numbers, np.float64)) for name, numbers in SCALERS[kind](one)]
        elif not _nothing(one, kind):
            raise ValueError(REFUSED.format(what, f"{', '.join(SCALERS)} and 'passthrough'", one))
    return found


def _nothing(transformer: Any, kind: str) -> bool:
    if kind == "FunctionTransformer":  # what TransformedTargetRegressor makes of no transformer
        return transformer.func is None and transformer.inverse_func is None
    return transformer is None or (isinstance(transformer, str) and transformer == "passthrough")


def _inverse(transformer: Any) -> list[Step]:
    """What takes a scaler's outputs back; clipping cannot be, and scikit-learn leaves it out."""
    steps = reversed(_steps("target transformer", transformer))
    return [(INVERSE[name], numbers) for name, numbers in steps if name in INVERSE]


def folded(found: Whole) -> Whole:
    """The same with the steps next to the network multiplied into its parameters, in float64; beyond a clipping they stay.

    Raises
    ------
    ValueError
        If parameters would not be finite in the network's dtype.
    """
    net, before, after = found.net, list(found.before), list(found.after)
    weights, biases = list(net.weights), [array[0] for array in net.biases]

    def fold() -> None:
        if before and before[-1][0] in INVERSE:
            W, b = weights[0].astype(np.float64), biases[0].astype(np.float64)
            while before and before[-1][0] in INVERSE:
                name, numbers = before.pop()
                if name in ("Sub", "Add"):
                    b = b + (numbers if name == "Add" else -numbers) @ W
                else:
                    W = W * numbers[:, None] if name == "Mul" else W / numbers[:, None]
            weights[0], biases[0] = W.astype(net.dtype), b.astype(net.dtype)
        if after and net.activations[-1] == "identity" and getattr(found.estimator, "out_activation_", "") != "exp":
            W, b = weights[-1].astype(np.float64), biases[-1].astype(np.float64)
            while after:
                name, numbers = after.pop(0)
                if name in ("Sub", "Add"):
                    b = b + (numbers if name == "Add" else -numbers)
                else:
                    W, b = (W * numbers, b * numbers) if name == "Mul" else (W / numbers, b / numbers)
            weights[-1], biases[-1] = W.astype(net.dtype), b.astype(net.dtype)

    checks.silently(fold)
    for array in (weights[0], biases[0], weights[-1], biases[-1]):
        if not np.isfinite(array).all():
            raise ValueError(f"model's scalers must leave its parameters finite in {net.dtype}: fold=False keeps them apart")
    activations: Any = net.activations
    changed = len(before) + len(after) < len(found.before) + len(found.after)
    made = Model.from_weights(weights, biases, activations, dtype=net.dtype) if changed else net
    return Whole(made, found.estimator, before, after)
