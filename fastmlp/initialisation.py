"""Initial weights."""

import numpy as np

INITS = ("auto", "he", "glorot", "lecun", "small")


def initialise(weights: np.ndarray, init: str, rng: np.random.Generator) -> None:
    """Fill a layer's (fan_in, fan_out) weights in place; drawn in float64, so that both dtypes start alike."""
    fan_in, fan_out = weights.shape
    if init in ("he", "lecun"):
        weights[...] = rng.standard_normal(weights.shape) * np.sqrt((2 if init == "he" else 1) / fan_in)
    elif init == "glorot":
        limit = np.sqrt(6 / (fan_in + fan_out))
        weights[...] = rng.uniform(-limit, limit, weights.shape)
    else:
        weights[...] = rng.standard_normal(weights.shape) * 0.01
