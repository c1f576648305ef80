"""An estimator's parameters in files: numbers, strings, lists, and the objects of fastmlp's that they may be."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np

from fastmlp import checks
from fastmlp.activations import CustomActivation
from fastmlp.files import description, labels
from fastmlp.files.description import Custom
from fastmlp.files.safetensors import Reader
from fastmlp.losses import CustomLoss, UsersLoss
from fastmlp.optimizer import Optimizer
from fastmlp.schedules import Schedule

INFINITE = {"inf": np.inf, "-inf": -np.inf, "nan": np.nan}
WORDS = 624  # of the Mersenne Twister's state


def write(name: str, value: Any, tensors: dict[str, np.ndarray]) -> Any:
    """A parameter as JSON, and in `tensors` what is long.

    A NumPy number is written as Python's, and an array as a list.

    Raises
    ------
    ValueError
        If it is an object that a file cannot hold.
    """
    value = value.tolist() if isinstance(value, np.generic | np.ndarray) else value
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if isfinite(value) else {"float": str(value)}
    if isinstance(value, list | tuple):
        items = [write(f"{name}.{i}", item, tensors) for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, CustomActivation | CustomLoss):
        return {"custom": value.name}
    if isinstance(value, Optimizer | Schedule) and description.known(value):
        return description.held(value)
    if isinstance(value, np.random.RandomState):
        return _generator(name, value, tensors)
    if isinstance(value, dict):
        return _weights(name, value, tensors)
    what = f"{type(value).__module__}.{type(value).__qualname__}"
    raise ValueError(f"{name} cannot be written: it is a {what}, and no file holds code; set another, or pickle the estimator")


def _generator(name: str, value: np.random.RandomState, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    state: dict[str, Any] = value.get_state(legacy=False)
    if state["bit_generator"] != "MT19937":
        raise ValueError(f"{name} must be a RandomState of MT19937 to be written, got one of {state['bit_generator']}")
    tensors[name] = np.asarray(state["state"]["key"], np.uint32)
    at, has_normal, normal = state["state"]["pos"], state["has_gauss"], state["gauss"]
    return {"generator": {"at": int(at), "has_normal": bool(has_normal), "normal": float(normal)}}


def _weights(name: str, value: dict[Any, Any], tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    keys = [key.item() if isinstance(key, np.generic) else key for key in value]
    kinds = {type(key) for key in keys}
    if not kinds <= {str} and len(kinds) != 1:
        raise ValueError(f"{name} must have keys of one type to be written, got {', '.join(sorted(map(str, kinds)))}")
    array = np.empty(len(keys), object)
    array[:] = keys
    try:
        found, own = labels.write(name, array if kinds <= {str} else np.array(keys))
        own[f"{name}.weights"] = np.array([checks.real(name, weight) for weight in value.values()], np.float64)
    except TypeError as error:
        raise ValueError(str(error)) from None
    tensors |= own
    return {"weights": found}


def read(name: str, value: Any, reader: Reader, custom: Sequence[Custom], used: set[str]) -> Any:
    """The parameter that `write` has written; the tensors that it takes are added to `used`."""
    if value is None or isinstance(value, bool | int | str | float):
        return value
    if isinstance(value, list):
        return [read(f"{name}.{i}", item, reader, custom, used) for i, item in enumerate(value)]
    kind = next(iter(value), None)
    if kind == "float":
        (word,) = description.parts(name, value, float=str)
        return INFINITE[checks.choice(name, word, INFINITE)]
    if kind == "tuple":
        (items,) = description.parts(name, value, tuple=list)
        return tuple(read(name, items, reader, custom, used))
    if kind == "custom":
        return description.read_custom(value, custom, UsersLoss if name == "loss" else CustomActivation)
    if kind in ("optimizer", "schedule"):
        description.parts(name, value, **{kind: dict})
        return description.given_back(value)
    if kind == "generator":
        return _read_generator(name, value, reader, used)
    (found,) = description.parts(name, value, weights=dict)
    keys, own = labels.read(reader, name, found)
    weights = reader.array(f"{name}.weights", np.dtype(np.float64), keys.shape)
    used |= own | {f"{name}.weights"}
    made = dict(zip(keys.tolist(), weights.tolist(), strict=True))
    if len(made) != len(keys):
        raise ValueError(f"{name} must have different keys")
    return made


def _read_generator(name: str, value: dict[str, Any], reader: Reader, used: set[str]) -> np.random.RandomState:
    (state,) = description.parts(name, value, generator=dict)
    at, has_normal, normal = description.parts(name, state, at=int, has_normal=bool, normal=(float, int))
    if not 0 <= at <= WORDS:
        raise ValueError(f"{name} must be at a word from 0 to {WORDS}, got {at}")
    key = reader.array(name, np.dtype(np.uint32), (WORDS,))
    used.add(name)
    made = np.random.RandomState(0)
    made.set_state(("MT19937", key, at, int(has_normal), float(normal)))
    return made
