"""The compiled kernels. Those of a dense layer are public: they take plain arrays, from Python or from compiled code.

An activation's code has its name in capitals: ``RELU``, ``TANH`` and so on, for all of `fastmlp.activations.ACTIVATIONS`.
"""

from typing import TYPE_CHECKING

from fastmlp.kernels.layer.activation import ACTIVATIONS
from fastmlp.kernels.layer.arrays import (
    dense_backward_biases,
    dense_backward_inputs,
    dense_backward_weights,
    dense_forward,
)

CODES = {name.upper(): one.code for name, one in ACTIVATIONS.items()}
globals().update(CODES)

__all__ = ["dense_backward_biases", "dense_backward_inputs", "dense_backward_weights", "dense_forward"]
__all__ += list(CODES)

if TYPE_CHECKING:

    def __getattr__(name: str) -> int: ...
