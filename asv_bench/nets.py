"""Networks to train, their data, and one formula of the loss for all libraries."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class Net:
    """A network and its training.

    Attributes
    ----------
    activation : {"relu", "tanh", "sigmoid"}
        Of the hidden layers; the output's is the loss's own.
    loss : {"bce", "cross_entropy", "mse"}
    optimizer : {"sgd", "adam"}
    """

    name: str
    sizes: tuple[int, ...]
    activation: str
    loss: str
    rows: int
    batch: int
    optimizer: str
    lr: float
    dtype: str

    @property
    def steps(self) -> int:
        """In an epoch; the last one may have fewer rows."""
        return -(-self.rows // self.batch)

    @property
    def row_flops(self) -> int:
        """A row's share of a step: three products a layer, but the first layer needs no inputs' gradient."""
        return sum(6 * a * b for a, b in pairwise(self.sizes)) - 2 * self.sizes[0] * self.sizes[1]

    def epochs(self, call: int = 150_000_000, step: int = 5_000) -> int:
        """How many make up a call whose own overhead does not count; work in multiply-adds, a step's own included."""
        return max(call // (self.rows * self.row_flops // 2 + self.steps * step), 1)

    def __str__(self) -> str:
        batch = "full batch" if self.batch == self.rows else f"batch {self.batch}"
        widths = "-".join(map(str, self.sizes))
        return f"{widths} {self.activation}, {self.loss}, {self.dtype}, {self.rows} rows, {batch}, {self.optimizer} {self.lr:g}"


def data(net: Net) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Inputs, targets, weights (fan_in, fan_out) and biases (fan_out,): the same for each library."""
    rng = np.random.default_rng(0)
    inputs, outputs = net.sizes[0], net.sizes[-1]
    X = rng.standard_normal((net.rows, inputs))
    signal = X @ (rng.standard_normal((inputs, outputs)) / np.sqrt(inputs))
    if net.loss == "cross_entropy":
        y = signal.argmax(axis=1)
    else:
        y = (signal > 0 if net.loss == "bce" else np.tanh(signal)).astype(net.dtype)
    gain = 2 if net.activation == "relu" else 1
    weights = [(rng.standard_normal((a, b)) * np.sqrt(gain / a)).astype(net.dtype) for a, b in pairwise(net.sizes)]
    return X.astype(net.dtype), y, weights, [np.zeros(b, net.dtype) for b in net.sizes[1:]]


def activate(z: np.ndarray, name: str) -> np.ndarray:
    """The activation, in place."""
    if name == "relu":
        return np.maximum(z, 0, out=z)
    if name == "sigmoid":  # by tanh, for exp would overflow
        z *= 0.5
    if name in ("tanh", "sigmoid"):
        np.tanh(z, out=z)
    if name == "sigmoid":
        z += 1
        z *= 0.5
    if name == "softmax":
        z -= z.max(axis=1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(axis=1, keepdims=True)
    return z


def mean_loss(net: Net, weights: list[np.ndarray], biases: list[np.ndarray]) -> float:
    """The loss over all rows, in float64: one formula for all libraries, so that their parameters are what is compared."""
    X, y, _, _ = data(net)
    z = X.astype(np.float64)
    for index, (w, b) in enumerate(zip(weights, biases, strict=True)):
        z = (activate(z, net.activation) if index else z) @ w.astype(np.float64) + b
    if net.loss == "bce":
        return float(np.mean(np.logaddexp(0, z) - y * z))
    if net.loss == "mse":
        return float(np.mean((z - y) ** 2))
    z -= z.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(net.rows), y]))
