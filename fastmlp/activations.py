"""The activations that networks have by name, and users' own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fastmlp.custom import Custom
from fastmlp.kernels.layer.activation import ACTIVATIONS, Activation, Init
from fastmlp.kernels.layer.custom import compile_activation

__all__ = ["ACTIVATIONS", "ALIASES", "Activation", "CustomActivation"]

ALIASES = {alias: name for name, one in ACTIVATIONS.items() for alias in one.aliases}


@dataclass(frozen=True)
class CustomActivation(Custom):
    """An activation that is given by two scalar functions, for `Model`'s ``activations``; it runs in a compiled loop.

    Parameters
    ----------
    name : str
        What the model's summary calls it.
    value, derivative : function of a number
        a = value(z) and da/dz = derivative(z), such that Numba can compile them: plain Python functions, or ``@njit`` ones with
        options of their own. To be pickled with a model they must be importable.
    init : {"glorot", "he", "lecun"}
        The initialisation of the weights before it.

    Raises
    ------
    ValueError
        If the name is a built-in activation's, or `init` another.
    TypeError
        If the name is no string, or a function no function; by `Model`, if Numba cannot compile one.

    Notes
    -----
    What a function raises ends the call and is raised by it; the model then is as the last step left it. A division by zero is
    infinite or NaN; in an ``@njit`` function it raises, without ``error_model="numpy"``. A numeric constant in a float32 model
    makes float64 arithmetic of what it meets, as anywhere in Numba.

    The derivative is taken as it is: many a net is trained with another one than that of the value, such as that of a rounding.

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> square = fastmlp.CustomActivation("square", lambda z: z * z, lambda z: z + z)
    >>> model = fastmlp.Model.from_weights([np.eye(2)], [np.zeros(2)], activations=[square])
    >>> model.predict([[3.0, -4.0]])
    array([[ 9., 16.]])
    """

    _kind: ClassVar[str] = "activation"
    _functions: ClassVar[tuple[str, ...]] = ("value", "derivative")

    name: str
    value: Callable[[Any], Any]
    derivative: Callable[[Any], Any]
    init: Init = "glorot"

    def __post_init__(self) -> None:
        self._check({*ACTIVATIONS, *ALIASES})
        if self.init not in ("glorot", "he", "lecun"):
            raise ValueError(f"init must be 'glorot', 'he' or 'lecun', got {self.init!r}")

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


def code_of(activation: "str | CustomActivation", dtype: np.dtype) -> int:
    """The kernels' number for an activation."""
    return ACTIVATIONS[activation].code if isinstance(activation, str) else activation.code(dtype)


def init_of(activation: "str | CustomActivation") -> str:
    """The initialisation of the weights before an activation."""
    return ACTIVATIONS[activation].init if isinstance(activation, str) else activation.init
