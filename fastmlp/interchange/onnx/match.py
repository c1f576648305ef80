"""Which activation a few operators make up: they are computed, in float64, for some hundred numbers.

Exporters write an activation in many ways, and each of them changes from version to version. What they compute does not.
"""

import math
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from fastmlp.interchange.numpy import FORMULAS

T = TypeVar("T")
Array = np.ndarray

# Of the larger of an activation and 1: above the rounding of constants to float32 (6e-8), far below what tells two functions
# apart, as gelu and its approximation by tanh (5e-4).
TOLERANCE = 3e-7
NEAR = 30.0  # from here on an unstable form may overflow, and where it does it is not compared
_FAR = np.logspace(-6, 30, 73)
PROBES = np.concatenate([np.linspace(-NEAR, NEAR, 241), _FAR, -_FAR])

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: Array) -> Array:
    return FORMULAS["sigmoid"](x)


def _clip(x: Array, low: Any = None, high: Any = None, **limits: float) -> Array:
    low = limits.get("min", -np.inf) if low is None else low
    high = limits.get("max", np.inf) if high is None else high
    return np.minimum(np.maximum(x, low), high)


def _gelu(x: Array, approximate: float = 0) -> Array:
    if approximate:
        return 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))
    return FORMULAS["gelu"](x)


def _elu(x: Array, alpha: float = 1.0) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _celu(x: Array, alpha: float = 1.0) -> Array:
    return np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0) / alpha)


def _selu(x: Array, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875) -> Array:
    return gamma * _elu(x, alpha)


def _hard_sigmoid(x: Array, alpha: float = 0.2, beta: float = 0.5) -> Array:
    return np.clip(alpha * x + beta, 0, 1)


def _many(function: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    def fold(x: Array, *others: Array) -> Array:
        for other in others:
            x = function(x, other)
        return x

    return fold


@dataclass(frozen=True)
class Function:
    """An elementwise operator: a function of arrays, attributes that are numbers, and how many inputs it may have."""

    of: Callable[..., Array]
    attributes: tuple[str, ...] = ()
    least: int = 1
    most: int = 1


FUNCTIONS = {
    "Add": Function(np.add, least=2, most=2),
    "Sub": Function(np.subtract, least=2, most=2),
    "Mul": Function(np.multiply, least=2, most=2),
    "Div": Function(np.divide, least=2, most=2),
    "Pow": Function(np.power, least=2, most=2),
    "Max": Function(_many(np.maximum), most=64),
    "Min": Function(_many(np.minimum), most=64),
    "Where": Function(np.where, least=3, most=3),
    "Greater": Function(np.greater, least=2, most=2),
    "GreaterOrEqual": Function(np.greater_equal, least=2, most=2),
    "Less": Function(np.less, least=2, most=2),
    "LessOrEqual": Function(np.less_equal, least=2, most=2),
    "Neg": Function(np.negative),
    "Abs": Function(np.abs),
    "Sign": Function(np.sign),
    "Reciprocal": Function(np.reciprocal),
    "Sqrt": Function(np.sqrt),
    "Exp": Function(np.exp),
    "Log": Function(np.log),
    "Tanh": Function(np.tanh),
    "Erf": Function(_erf),
    "Sigmoid": Function(_sigmoid),
    "Relu": Function(lambda x: np.maximum(x, 0)),
    "Softplus": Function(FORMULAS["softplus"]),
    "Softsign": Function(lambda x: x / (1 + np.abs(x))),
    "Mish": Function(FORMULAS["mish"]),
    "HardSwish": Function(FORMULAS["hardswish"]),
    "Swish": Function(lambda x, alpha=1.0: x * _sigmoid(alpha * x), ("alpha",)),
    "Gelu": Function(_gelu, ("approximate",)),
    "LeakyRelu": Function(lambda x, alpha=0.01: np.where(x >= 0, x, alpha * x), ("alpha",)),
    "PRelu": Function(lambda x, slope: np.where(x >= 0, x, slope * x), least=2, most=2),
    "Elu": Function(_elu, ("alpha",)),
    "Celu": Function(_celu, ("alpha",)),
    "Selu": Function(_selu, ("alpha", "gamma")),
    "HardSigmoid": Function(_hard_sigmoid, ("alpha", "beta")),
    "Clip": Function(_clip, ("min", "max"), most=3),
}


def quietly(work: Callable[[], T]) -> T:
    """The result of work(), without NumPy's warnings; as `checks.silently`, and of divisions by zero too."""

    def run() -> T:
        np.seterr(all="ignore")
        return work()

    return copy_context().run(run)


def close(got: Array, want: Array) -> bool:
    """Whether two functions are the same at all probes, but for far ones at which one of them overflows."""
    near = np.abs(PROBES) <= NEAR
    finite = np.isfinite(got) & np.isfinite(want)
    within = np.abs(got - want) <= TOLERANCE * np.maximum(1, np.abs(want))
    return bool(np.where(finite, within, ~near).all())


KNOWN = quietly(lambda: {name: formula(PROBES) for name, formula in FORMULAS.items() if name != "softmax"})


def activation(got: Array) -> str | None:
    """The name of the activation that has these values at `PROBES`; None if it is none of fastmlp's."""
    return quietly(lambda: next((name for name, want in KNOWN.items() if close(got, want)), None))


def nearest(got: Array) -> str:
    """What a message says of a function that is no activation of fastmlp's."""
    small = np.abs(PROBES) <= 10
    off = quietly(lambda: {name: np.abs(got - want)[small] for name, want in KNOWN.items()})
    name = min(off, key=lambda one: off[one].mean() if np.isfinite(off[one]).all() else np.inf)
    return f"the nearest is {name}, which differs by up to {off[name].max():.2g} for inputs from -10 to 10"
