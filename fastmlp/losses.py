"""The losses that networks have by name, and users' own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastmlp.activations import ACTIVATIONS, ALIASES, CustomActivation, check_custom
from fastmlp.kernels.layer.custom import compile_loss
from fastmlp.kernels.layer.loss import LOSSES, Loss

__all__ = ["LOSSES", "CustomLoss", "Loss"]


@dataclass(frozen=True)
class CustomLoss:
    """A loss that is given by two scalar functions, for `Model`'s ``loss``: the mean over rows and outputs of value(p, y).

    Parameters
    ----------
    name : str
        What the model's summary calls it.
    value, derivative : function of two numbers
        The loss of an output p and its target y, and its derivative by p, such that Numba can compile them: plain Python
        functions, or ``@njit`` ones with options of their own. To be pickled with a model they must be importable.
    output : str or CustomActivation
        The output activation that it takes unless told otherwise.

    Raises
    ------
    ValueError
        If the name is a built-in loss's, or the output no activation's.
    TypeError
        If the name is no string, or a function no function; by `Model`, if Numba cannot compile one.

    Notes
    -----
    As for `CustomActivation`.

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> asymmetric = fastmlp.CustomLoss(
    ...     "pinball", lambda p, y: max(0.9 * (y - p), 0.1 * (p - y)), lambda p, y: -0.9 if p < y else 0.1
    ... )
    >>> model = fastmlp.Model.from_weights([np.zeros((1, 1))], [np.zeros(1)], loss=asymmetric)
    >>> model.loss([[1.0], [1.0]], [[1.0], [-1.0]])
    0.5
    """

    name: str
    value: Callable[[Any, Any], Any]
    derivative: Callable[[Any, Any], Any]
    output: str | CustomActivation = "identity"

    def __post_init__(self) -> None:
        check_custom(self, "loss", LOSSES)
        if not isinstance(self.output, CustomActivation) and self.output not in [*ACTIVATIONS, *ALIASES]:
            raise ValueError(f"output must be one of {', '.join(ACTIVATIONS)}; got {self.output!r}")

    def code(self, dtype: np.dtype) -> int:
        """The kernels' number for it; compiles at the first call.

        Parameters
        ----------
        dtype : numpy.dtype
            The network's, float32 or float64.
        """
        return compile_loss(self.value, self.derivative, dtype)
