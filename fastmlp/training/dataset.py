"""What a fit trains on and validates with: rows, targets and weights as the kernels read them, converted by pieces if large."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastmlp import arguments, checks
from fastmlp.engine.engine import Engine
from fastmlp.kernels.layer.loss import BY_SUM, CROSS_ENTROPY, CROSS_ENTROPY_ROWS
from fastmlp.network import Network

WHOLE = 1 << 28  # bytes of a converted X up to which it is converted as a whole
PIECE = 1 << 26  # bytes of a converted piece of a larger one


@dataclass
class Data:
    """Rows with their targets.

    Attributes
    ----------
    X : (rows, inputs) array
        As the kernels read it; as it came, if `pieces`.
    y : (rows, targets) array
        With the weights as one more column if `weighted`.
    code : int
        The loss's code for that form of y.
    weighted : int
        0, or how weights make a mean: `fastmlp.kernels.layer.loss`.
    true : array
        y as it came.
    weights : (rows,) array or None
        What metrics are weighted with.
    pieces : bool
        Whether X has to be converted, and is too large to be converted as a whole.
    """

    X: np.ndarray
    y: np.ndarray
    code: int
    weighted: int
    true: np.ndarray
    weights: np.ndarray | None
    pieces: bool

    def parts(self, multiple: int = 1) -> Iterator[slice]:
        """All rows, in pieces whose lengths are multiples of `multiple`."""
        rows = PIECE // (self.X.shape[1] * self.y.itemsize) // multiple * multiple
        rows = max(rows, multiple) if self.pieces else len(self.X)
        for start in range(0, len(self.X), rows):
            yield slice(start, min(start + rows, len(self.X)))

    def loss(self, engine: Engine) -> float:
        """The mean loss over all rows."""
        if not self.pieces:
            return engine.loss(self.X, self.y, self.code, self.weighted)
        total, sizes = 0.0, 0.0
        for part in self.parts():
            y = self.y[part]
            size = float(y[:, -1].sum(dtype=np.float64)) if self.weighted else len(y)
            total += size * engine.loss(self.converted(part), y, self.code, self.weighted)
            sizes += size
        return total / sizes

    def predict(self, engine: Engine, outputs: int) -> np.ndarray:
        """The outputs for all rows."""
        out = np.empty((len(self.X), outputs), self.y.dtype)
        for part in self.parts():
            engine.predict(self.converted(part), out[part])
        return out

    def checksums(self) -> dict[str, str | None]:
        """Of all that a training reads of them: the rows, the targets, and the weights with those of classes."""
        targets, weights = (self.y[:, :-1], self.y[:, -1]) if self.weighted else (self.y, None)
        own = None if weights is None else checksum([weights], self.weighted)
        return {"X": checksum(map(self.converted, self.parts())), "y": checksum([targets], self.code), "weights": own}

    def converted(self, rows: Any) -> np.ndarray:
        """Some rows of X, as the kernels read them."""
        return checks.contiguous(self.X[rows], self.y.dtype)


def prepare(network: Network, X: Any, y: Any, sample_weight: Any = None, *, whole: bool = False) -> Data:
    """Checked data; `whole`: X is converted as a whole, however large."""
    X = checks.features(X, network.sizes[0], network.dtype, np.inf if whole else WHOLE)
    weights = None if sample_weight is None else checks.weights("sample_weight", sample_weight, len(X))
    return _data(network, X, checks.numbers("y", y), weights)


def targets(network: Network, code: int, y: Any, rows: int) -> tuple[np.ndarray, int]:
    """y as the kernels read it, and the loss's code for that form of y."""
    y = arguments.targets(y, rows, network.sizes[-1], network.loss, network.dtype)
    if code == CROSS_ENTROPY and y.shape[1] == network.sizes[-1]:
        return y, CROSS_ENTROPY_ROWS
    return y, code


def _data(network: Network, X: np.ndarray, true: np.ndarray, weights: np.ndarray | None) -> Data:
    y, code = targets(network, network.loss_code(), true, len(X))
    data = Data(X, y, code, 0, true, weights, not checks.readable(X, network.dtype))
    return data if weights is None else _weighted(data, weights)


def split(network: Network, X: Any, y: Any, sample_weight: Any, fraction: Any, whole: bool) -> tuple[Data, Data]:
    """The first rows, to train on, and the last ones, a fraction of all, to validate with; they are views of X, not copies."""
    fraction = checks.real("validation_split", fraction, least=0.0, below=1.0)
    X = checks.features(X, network.sizes[0], network.dtype, np.inf if whole else WHOLE)
    weights = None if sample_weight is None else checks.weights("sample_weight", sample_weight, len(X))
    y = checks.numbers("y", y)
    if y.ndim == 0 or len(y) != len(X):
        raise ValueError(f"y must have as many rows as X, {len(X)}; got shape {y.shape}")
    at = int(len(X) * (1 - fraction))
    if at == 0 or at == len(X):
        raise ValueError(f"validation_split must leave rows on both sides, got {fraction!r} of {len(X)} rows")
    parts = []
    for part, name in ((slice(at), "first"), (slice(at, None), "last")):
        own = None if weights is None else weights[part]
        if own is not None and not own.any():
            raise ValueError(f"sample_weight must have a positive sum in the {name} part of validation_split, got only zeros")
        parts.append(_data(network, X[part], y[part], own))
    return parts[0], parts[1]


def validation_data(network: Network, value: Any) -> Data:
    """Data from (X, y) or (X, y, sample_weight)."""
    if not isinstance(value, tuple | list) or len(value) not in (2, 3):
        got = f"{type(value).__name__}" + (f" of {len(value)}" if isinstance(value, tuple | list) else "")
        raise TypeError(f"validation_data must be (X, y) or (X, y, sample_weight), got a {got}")
    try:
        return prepare(network, *value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"validation_data is refused: {error}") from None


def _weighted(data: Data, weights: np.ndarray) -> Data:
    """The data with other weights."""
    y = data.y[:, :-1] if data.weighted else data.y
    return replace(data, y=weigh(y, weights), weighted=BY_SUM)


def weigh(y: np.ndarray, weights: Any, *, signed: bool = False) -> np.ndarray:
    """The targets with the rows' checked weights as one more column."""
    column = checks.weights("sample_weight", weights, len(y), y.dtype, signed=signed)
    return np.concatenate([y, column[:, None]], axis=1)


def weigh_classes(network: Network, data: Data, class_weight: Any) -> Data:
    """The data with its weights multiplied by those of the rows' classes; metrics keep the weights from before."""
    labels = _labels(network, data)
    if labels is None:
        raise ValueError(
            "class_weight needs the integer labels or one-hot rows of loss='cross_entropy', or the labels 0 and 1 of one output"
            f" with loss='bce'; got loss={network.loss_name!r} with y of shape {data.true.shape}"
        )
    classes = max(network.sizes[-1], 2)
    if isinstance(class_weight, Mapping):
        factors = np.ones(classes)
        for label, weight in class_weight.items():
            if label not in range(classes):
                raise ValueError(f"class_weight must have labels from 0 to {classes - 1} for its keys, got {label!r}")
            factors[int(label)] = checks.real(f"class_weight[{label}]", weight, least=0.0)
    elif isinstance(class_weight, str) and class_weight == "balanced":
        counts = np.bincount(labels, minlength=classes)
        factors = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    else:
        raise TypeError(f"class_weight must be a dict of labels and weights, or 'balanced', got {class_weight!r}")
    weights = factors[labels] if data.weights is None else data.weights * factors[labels]
    if not weights.any():
        raise ValueError(f"class_weight must leave some row a weight above 0, got {class_weight!r}")
    return _weighted(data, weights)


def _labels(network: Network, data: Data) -> np.ndarray | None:
    """The rows' labels, if their targets are these, or one-hot rows of them."""
    y = data.y[:, : network.sizes[-1]]
    if data.code == CROSS_ENTROPY:
        return y[:, 0].astype(np.intp)
    exact = bool(((y == 0) | (y == 1)).all())
    if data.code == CROSS_ENTROPY_ROWS and exact and (y.sum(axis=1) == 1).all():
        return y.argmax(axis=1)
    if network.loss == "bce" and y.shape[1] == 1 and exact:
        return y[:, 0].astype(np.intp)
    return None


def smooth(network: Network, data: Data, smoothing: float) -> Data:
    """The data with label smoothing (Szegedy et al., 2016): (1 - e) y + e / k, where k = 2 for each output of bce."""
    outputs = network.sizes[-1]
    y, weights = data.y[:, :outputs], data.y[:, -1:]
    code, classes = data.code, outputs
    if network.loss == "bce":
        classes = 2
    elif data.code == CROSS_ENTROPY:
        y, code = np.zeros((len(y), outputs), y.dtype), CROSS_ENTROPY_ROWS
        y[np.arange(len(y)), data.y[:, 0].astype(np.intp)] = 1
    elif data.code != CROSS_ENTROPY_ROWS:
        raise ValueError(f"label_smoothing is for loss='bce' and 'cross_entropy', got loss={network.loss_name!r}")
    y = y * y.dtype.type(1 - smoothing) + y.dtype.type(smoothing / classes)
    return replace(data, y=np.concatenate([y, weights], axis=1) if data.weighted else y, code=code)


def checksum(arrays: Iterable[np.ndarray], *more: int) -> str:
    """SHA-256 of arrays, one behind the other, and of some numbers."""
    found = hashlib.sha256(repr(more).encode())
    for array in arrays:
        found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return found.hexdigest()
