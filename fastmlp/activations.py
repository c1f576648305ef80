"""The activations: one entry each."""

from dataclasses import dataclass

from fastmlp.kernels import activation as codes


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
