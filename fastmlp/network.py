"""Network: what a multilayer perceptron is, apart from its parameters."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np

from fastmlp import arguments, checks
from fastmlp.activations import CustomActivation, code_of
from fastmlp.losses import LOSSES, POISSON, CustomLoss, RowLoss, UsersLoss


@dataclass(frozen=True)
class Network:
    """The description that a model, its engine and its files share; it has been checked.

    Attributes
    ----------
    sizes : tuple of int
        Widths, from the inputs to the outputs.
    activations : tuple of str or CustomActivation
        One for each layer.
    loss : str, CustomLoss or RowLoss
    dtype : numpy.dtype
    dropout : tuple of float
        A rate for each hidden layer; or none at all.
    """

    sizes: tuple[int, ...]
    activations: tuple[str | CustomActivation, ...]
    loss: str | CustomLoss | RowLoss
    dtype: np.dtype
    dropout: tuple[float, ...] = ()

    @classmethod
    def of(cls, sizes: Any, activations: Any, loss: Any, dtype: Any, dropout: Any) -> Self:
        """The network that `Model`'s arguments describe; raises ValueError or TypeError if they do not."""
        widths = arguments.sizes(sizes)
        known = loss if isinstance(loss, UsersLoss) else LOSSES[checks.choice("loss", loss, LOSSES)]
        name = loss.name if isinstance(loss, UsersLoss) else loss
        names = arguments.activations(activations, len(widths) - 1, name, known.output)
        return cls(widths, names, loss, checks.dtype(dtype), arguments.dropout(dropout, len(widths) - 2))

    @classmethod
    def from_parts(cls, parts: dict[str, Any]) -> Self:
        """The network that `parts` is of."""
        loss = POISSON if parts["loss"] == POISSON.name else parts["loss"]
        return cls(parts["sizes"], parts["activations"], loss, np.dtype(parts["dtype"]), parts["dropout"])

    def parts(self) -> dict[str, Any]:
        """It in strings and numbers, but for users' own activations and losses."""
        loss = POISSON.name if self.loss == POISSON else self.loss
        own = {"sizes": self.sizes, "activations": self.activations, "loss": loss}
        return own | {"dtype": self.dtype.name, "dropout": self.dropout}

    @property
    def loss_name(self) -> str:
        """The loss's name."""
        return self.loss if isinstance(self.loss, str) else self.loss.name

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Each layer's (fan_in, fan_out)."""
        return list(pairwise(self.sizes))

    @property
    def parameters(self) -> int:
        """The number of parameters."""
        return sum((fan_in + 1) * fan_out for fan_in, fan_out in self.shapes)

    def views(self, flat: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The weights and the biases in a vector of all parameters."""
        weights, biases, at = [], [], 0
        for fan_in, fan_out in self.shapes:
            b = at + fan_in * fan_out
            weights.append(flat[at:b].reshape(fan_in, fan_out))
            at = b + fan_out
            biases.append(flat[b:at].reshape(1, fan_out))
        return weights, biases

    def codes(self) -> list[int]:
        """The kernels' numbers for the activations; a custom one is compiled at the first call."""
        return [code_of(activation, self.dtype) for activation in self.activations]

    def loss_code(self) -> int:
        """The kernels' number for the loss; a custom one is compiled at the first call."""
        return LOSSES[self.loss].code if isinstance(self.loss, str) else self.loss.code(self.dtype)
