"""The compiled kernels. Those of a dense layer are public: they take plain arrays, from Python or from compiled code."""

from fastmlp.kernels.layer.activation import (
    ELU,
    GELU,
    IDENTITY,
    LEAKY_RELU,
    RELU,
    SIGMOID,
    SILU,
    SOFTMAX,
    SOFTPLUS,
    TANH,
)
from fastmlp.kernels.layer.arrays import (
    dense_backward_biases,
    dense_backward_inputs,
    dense_backward_weights,
    dense_forward,
)

__all__ = [
    "ELU",
    "GELU",
    "IDENTITY",
    "LEAKY_RELU",
    "RELU",
    "SIGMOID",
    "SILU",
    "SOFTMAX",
    "SOFTPLUS",
    "TANH",
    "dense_backward_biases",
    "dense_backward_inputs",
    "dense_backward_weights",
    "dense_forward",
]
