"""Compiling at a moment of one's choosing."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmlp.activations import ACTIVATIONS
from fastmlp.losses import LOSSES
from fastmlp.model import Model
from fastmlp.optimizer import OPTIMIZERS
from fastmlp.optimizers import SGD, Adam, RMSprop
from fastmlp.types import DType


def warmup(dtype: DType | None = None) -> None:
    """Compile every kernel, or load it from the cache; those of `Model.compiled` too.

    Otherwise each is compiled when it first runs: nothing compiles at import.

    Parameters
    ----------
    dtype : {"float64", "float32"} or None
        None: both.

    Raises
    ------
    ValueError, TypeError
        If dtype is another.

    Examples
    --------
    >>> import fastmlp
    >>> fastmlp.warmup("float32")
    """
    for one in ("float64", "float32") if dtype is None else (dtype,):
        _warm_networks(one)


def _warm_networks(dtype: DType) -> None:
    loss: Any
    rows, width = 37, 60  # meets the tiles' every shape: whole and masked, of all heights
    X = np.zeros((rows, width))
    for name in ACTIVATIONS:
        layers: Any = ["relu", "relu", "softmax"] if name == "softmax" else [name, name, "identity"]
        model = Model([width, width, width, 2], layers, dtype=dtype)
        model.backward(X, X[:, :2])
        model.predict(X)
        model.backward(X[:6], X[:6, :2])
        model.backward(X[:1], X[:1, :2])
        compiled = model.compiled()
        compiled.pull(X[0], X[0, :2])
        compiled.jacobian(X[0])
    Model([2, 140, 2], dtype=dtype).predict(X[:1, :2])  # eight registers of a single row
    many = np.zeros((96, 16))  # wide layers, whose weights go by panels and strips
    Model([16, 1024, 64, 2], dtype=dtype).fit(many, many[:, :2])
    for units in (2, 4):  # nets that live in registers
        for loss in ("bce", "mse"):
            Model([2, units, 1], loss=loss, dtype=dtype).fit(X[:4, :2], X[:4, :1])
    Model([2, width], loss="cross_entropy", dtype=dtype).fit(X[:, :2], np.zeros(rows, int))  # more classes than lanes
    for loss in LOSSES:
        for sizes in ([width, width, 2], [width, 1], [2, 2, 1]):
            model = Model(sizes, loss=loss, dtype=dtype)
            x, y = X[:, : sizes[0]], X[:, : sizes[-1]]
            for optimizer in (SGD(), SGD(momentum=0.9), Adam()):
                model.fit(x, y, batch_size=20, optimizer=optimizer)
            if loss == "cross_entropy":
                model.fit(x, np.zeros(rows, int))
            model.loss(x, y)
            model.apply_gradient(model.gradient(x, y)[1])
    model = Model([2, width, 1], dropout=0.5, dtype=dtype)
    model.step(X[:, :2], output_gradient=X[:, :1])
    model.layer_outputs(X[:, :2])
    whole = SGD(l1=1, clip_value=1, clip_norm=1, ema=0.5)
    for one in [*(kind() for kind in OPTIMIZERS.values()), RMSprop(momentum=0.9), whole]:
        model.fit(X[:, :2], X[:, :1], optimizer=one, sample_weight=np.ones(rows))
