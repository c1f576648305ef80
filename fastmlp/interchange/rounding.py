"""How far apart two evaluations of a network lie that differ in nothing but rounding."""

import numpy as np

from fastmlp.interchange.numpy import FORMULAS
from fastmlp.model import Model

# The activations' own errors: of the value, or, in far tails, of this number (`fastmlp.kernels.layer.activation`).
VALUE = {np.dtype(np.float32): (4e-7, 0.3), np.dtype(np.float64): (1e-14, 0.1)}
DEVIATIONS = 8.0


def bounds(model: Model, X: np.ndarray) -> np.ndarray:
    """How far the outputs for X may lie from another evaluation's: eight standard deviations.

    A sum of n products makes n + 1 roundings, each of at most eps / 2 of the sum of their sizes. These are taken as deviations
    of independent errors (Higham and Mary, 2019, "A new approach to probabilistic rounding error analysis"), which go on to the
    next layer through its weights' squares and the activation's slopes. The worst case grows by the sum of a unit's weights in
    each layer, and would let any weight of a deep net be wrong.

    Parameters
    ----------
    model : Model
        With built-in activations.
    X : (rows, inputs) array

    Returns
    -------
    (rows, outputs) array of float64
    """
    unit = np.finfo(model.dtype).eps / 2
    relative, least = VALUE[model.dtype]
    a = np.asarray(X, np.float64)
    variance = np.zeros_like(a)
    for W, b, activation in zip(model.weights, model.biases, model.activations, strict=True):
        weights, biases = W.astype(np.float64), b.astype(np.float64)
        size = np.abs(a) @ np.abs(weights) + np.abs(biases)
        z = a @ weights + biases
        variance = variance @ weights**2 + (len(weights) + 1) * (unit * size) ** 2
        f = FORMULAS[str(activation)]
        a = f(z)
        if activation == "softmax":
            variance = a**2 * (variance + np.sum(a**2 * variance, axis=1, keepdims=True))
        else:
            step = 1e-6 * np.maximum(np.abs(z), 1)
            variance *= (np.maximum(np.abs(f(z + step) - a), np.abs(f(z - step) - a)) / step) ** 2
        variance += (relative * np.maximum(np.abs(a), least)) ** 2
    return DEVIATIONS * np.sqrt(2 * variance)
