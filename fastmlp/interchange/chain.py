"""Dense layers as other frameworks list them, one step at a time, and the model that they make."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastmlp.losses import CustomLoss, RowLoss
from fastmlp.model import Model
from fastmlp.types import LossName

HOMOGENEOUS = ("relu", "leaky_relu", "identity")  # f(c z) = c f(z): they commute with dropout
LOSS_OF: dict[str, LossName] = {"softmax": "cross_entropy", "sigmoid": "bce"}  # of output activations
OF_LOGITS = {loss: name for name, loss in LOSS_OF.items()}

Dropout = float | Sequence[float] | None
Loss = LossName | CustomLoss | RowLoss | None


def _widened(array: Any) -> Any:
    return array.astype(np.float32) if array is not None and array.dtype == np.float16 else array


class Layer:
    """A dense layer, of which no number has been read yet."""

    def __init__(self, what: str, fan_in: int, fan_out: int, read: Callable[[], tuple[Any, Any]]) -> None:
        self.what, self.fan_in, self.fan_out, self.read = what, fan_in, fan_out, read
        self.activation = "identity"
        self.dropout: float | None = None


class Chain:
    """Takes the steps from inputs to outputs; what does not fit raises ValueError.

    Parameters
    ----------
    refused : function of a str
        Makes the error of what was got instead of such a net.
    dropout : float, sequence of float or None
        The model's; None: that of the steps, which else are left out.
    """

    def __init__(self, refused: Callable[[str], Exception], dropout: Dropout = None) -> None:
        self.refused = refused
        self._given = dropout
        self._layers: list[Layer] = []

    def dense(self, what: str, fan_in: int, fan_out: int, read: Callable[[], tuple[Any, Any]]) -> None:
        """Add a layer: `what` it is called, and what reads its (fan_in, fan_out) weights and its biases or None."""
        if min(fan_in, fan_out) < 1:
            raise self.refused(f"{what} with {fan_in} inputs and {fan_out} outputs")
        if self._layers and self._layers[-1].fan_out != fan_in:
            raise self.refused(f"{what} with {fan_in} inputs behind {self._layers[-1].fan_out} outputs")
        self._layers.append(Layer(what, fan_in, fan_out, read))

    def activation(self, what: str, name: str) -> None:
        """Give the last layer its activation."""
        if name == "identity":
            return
        if not self._layers:
            raise self.refused(f"{what} before the first dense layer")
        last = self._layers[-1]
        if last.activation != "identity":
            raise self.refused(f"{what} behind another activation, {last.activation!r}")
        if last.dropout is not None and name not in HOMOGENEOUS:
            raise self.refused(
                f"{what} behind a dropout; fastmlp has it behind activations. Give dropout, such as 0.0, to set it"
            )
        last.activation = name

    def dropout(self, what: str, rate: float) -> None:
        """Give the last layer its dropout."""
        if self._given is not None or rate == 0:
            return
        if not self._layers:
            raise self.refused(f"{what} before the first dense layer. Give dropout, such as 0.0, to do without")
        if self._layers[-1].dropout is not None:
            raise self.refused(f"{what} behind another dropout. Give dropout, such as 0.0, to set it")
        self._layers[-1].dropout = rate

    def parameters(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """All weights and biases, which are read now; zeros where there is no bias."""
        if not self._layers:
            raise self.refused("no dense layer")
        weights, biases = [], []
        for layer in self._layers:
            W, b = map(_widened, layer.read())
            weights.append(np.ascontiguousarray(W))  # of a transposed view: what it looked at can go before the next is read
            biases.append(np.zeros(layer.fan_out, weights[-1].dtype) if b is None else b)
        return weights, biases

    def model(self, loss: Loss) -> Model:
        """The model; None: the loss of its output activation."""
        if self._layers and self._layers[-1].dropout is not None:
            raise self.refused("dropout behind the last dense layer. Give dropout, such as 0.0, to do without")
        names: list[Any] = [layer.activation for layer in self._layers]
        if loss is None:
            loss = LOSS_OF.get(names[-1], "mse") if names else "mse"
        elif names[-1:] == ["identity"] and isinstance(loss, str) and loss in OF_LOGITS:
            names[-1] = OF_LOGITS[loss]
        dropout = [layer.dropout or 0.0 for layer in self._layers[:-1]] if self._given is None else self._given
        return Model.from_weights(*self.parameters(), names, loss, dropout=dropout)
