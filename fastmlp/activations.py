"""The activations: one entry each, and users' own."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastmlp.kernels.layer import activation as codes
from fastmlp.kernels.layer.custom import compile_activation


@dataclass(frozen=True)
class Activation:
    """What a name stands for.

    Attributes
    ----------
    code : int
        The kernels' number for it.
    formula : str
        a = f(z), element by element; row by row for softmax.
    init : {"he", "glorot"}
        The initialisation that keeps the variance of what passes through it.
    source : str
        Where it comes from.
    """

    code: int
    formula: str
    init: str
    source: str


ACTIVATIONS = {
    "identity": Activation(codes.IDENTITY, "z", "glorot", "-"),
    "relu": Activation(codes.RELU, "max(z, 0), NaN kept; derivative 0 at 0", "he", "Nair and Hinton, 2010"),
    "leaky_relu": Activation(codes.LEAKY_RELU, "z if z > 0 else 0.01 z", "he", "Maas et al., 2013"),
    "elu": Activation(codes.ELU, "z if z > 0 else exp(z) - 1", "he", "Clevert et al., 2016"),
    "gelu": Activation(codes.GELU, "z P(N(0, 1) < z), exact", "he", "Hendrycks and Gimpel, 2016"),
    "silu": Activation(codes.SILU, "z / (1 + exp(-z))", "he", "Elfwing et al., 2018"),
    "softplus": Activation(codes.SOFTPLUS, "log(1 + exp(z))", "he", "Dugas et al., 2001"),
    "sigmoid": Activation(codes.SIGMOID, "1 / (1 + exp(-z))", "glorot", "-"),
    "tanh": Activation(codes.TANH, "tanh(z)", "glorot", "LeCun et al., 1998"),
    "softmax": Activation(codes.SOFTMAX, "exp(z) / sum(exp(z)), on the output only", "glorot", "Bridle, 1990"),
}


@dataclass(frozen=True)
class CustomActivation:
    """An activation that is given by two scalar functions, for `Model`'s ``activations``; it runs in a compiled loop.

    Parameters
    ----------
    name : str
        What the model's summary calls it.
    value, derivative : function of a number
        a = value(z) and da/dz = derivative(z), such that Numba can compile them: plain Python functions, or ``@njit`` ones with
        options of their own. To be pickled with a model they must be importable.
    init : {"glorot", "he"}
        The initialisation of the weights before it.

    Raises
    ------
    ValueError
        If the name is a built-in activation's, or `init` another.
    TypeError
        If the name is no string, or a function no function; by `Model`, if Numba cannot compile one.

    Notes
    -----
    Compiled code cannot raise: what a function raises is printed, and the numbers that it leaves out are left as they were.
    A numeric constant in a float32 model makes float64 arithmetic of what it meets, as anywhere in Numba.

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> square = fastmlp.CustomActivation("square", lambda z: z * z, lambda z: z + z)
    >>> model = fastmlp.Model.from_weights([np.eye(2)], [np.zeros(2)], activations=[square])
    >>> model.predict([[3.0, -4.0]])
    array([[ 9., 16.]])
    """

    name: str
    value: Callable[[Any], Any]
    derivative: Callable[[Any], Any]
    init: str = "glorot"

    def __post_init__(self) -> None:
        check_custom(self, "activation", ACTIVATIONS)
        if self.init not in ("glorot", "he"):
            raise ValueError(f"init must be 'glorot' or 'he', got {self.init!r}")

    def code(self, dtype: np.dtype) -> int:
        """The kernels' number for it; compiles at the first call.

        Parameters
        ----------
        dtype : numpy.dtype
            The network's, float32 or float64.
        """
        return compile_activation(self.value, self.derivative, dtype)

    def __str__(self) -> str:
        return self.name


def check_custom(custom: Any, kind: str, known: Collection[str]) -> None:
    """Raise unless it has a name of its own and two functions."""
    if not isinstance(custom.name, str):
        raise TypeError(f"name must be a string, got {custom.name!r}")
    if custom.name in known:
        raise ValueError(f"name must not be that of a built-in {kind}, got {custom.name!r}")
    for name in ("value", "derivative"):
        if not callable(getattr(custom, name)):
            raise TypeError(f"{name} must be a function, got {getattr(custom, name)!r}")


def code_of(activation: "str | CustomActivation", dtype: np.dtype) -> int:
    """The kernels' number for an activation."""
    return ACTIVATIONS[activation].code if isinstance(activation, str) else activation.code(dtype)


def init_of(activation: "str | CustomActivation") -> str:
    """The initialisation of the weights before an activation."""
    return ACTIVATIONS[activation].init if isinstance(activation, str) else activation.init
