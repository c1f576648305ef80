"""What the exports take: a model or a fitted estimator of built-in activations and finite parameters, and a path."""

import numpy as np

from fastmlp.files.models import file as file
from fastmlp.model import Model
from fastmlp.types import Exported


def network(model: Exported) -> Model:
    """The model, or the estimator's `model_`, if it can be exported."""
    found = getattr(model, "model_", model)
    if not isinstance(found, Model):
        raise TypeError(f"model must be a fastmlp.Model or a fitted estimator, got {model!r}")
    for activation in found.activations:
        if not isinstance(activation, str):
            raise ValueError(f"model must have built-in activations only, got a CustomActivation, {activation.name!r}")
    for name, arrays in (("weights", found.weights), ("biases", found.biases)):
        for i, array in enumerate(arrays):
            bad = ~np.isfinite(array)
            if bad.any():
                raise ValueError(f"model must have finite parameters, got {array[bad][0].item()!r} in {name}[{i}]")
    return found


def title(model: Model) -> str:
    """Its sizes, activations and dtype, and who has written it."""
    sizes = "-".join(map(str, model.sizes))
    return f"A network of sizes {sizes} ({', '.join(map(str, model.activations))}; {model.dtype}), written by fastmlp"
