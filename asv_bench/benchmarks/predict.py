"""Prediction, of one row and of many."""

from functools import cache

import numpy as np
from nets import data
from speed import WORKLOADS

import fastmlp
from benchmarks.timed import Timed

CALLS = 1000
ROWS = 10_000


@cache
def model(name: str) -> tuple[fastmlp.Model, np.ndarray]:
    """It, and some rows."""
    net = WORKLOADS[name]
    X, _, weights, biases = data(net)
    made = fastmlp.Model.from_weights(weights, biases, activations=net.activation, loss=net.loss)
    return made, np.resize(X, (ROWS, X.shape[1]))


class Predict(Timed):
    """Into an array that is there already."""

    params = (["notebook", "policy", "mnist"],)
    param_names = ("net",)

    def setup(self, net: str) -> None:
        self.model, self.X = model(net)

    def time_one_row(self, net: str) -> None:
        predict, x = self.model.predict, self.X[:1]
        out = predict(x)

        def work() -> None:
            for _ in range(CALLS):
                predict(x, out)

        self.take(work, CALLS)

    def time_many_rows(self, net: str) -> None:
        predict, X = self.model.predict, self.X
        out = predict(X)
        self.take(lambda: predict(X, out))
