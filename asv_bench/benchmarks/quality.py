"""What trainings of a fixed length reach. A change of the last bits moves these a little, a wrong update by much."""

from functools import cache

import numpy as np
from nets import data, mean_loss
from speed import WORKLOADS

import fastmlp

EPOCHS = {"notebook": 1000, "tiny": 100, "digits": 20, "tabular": 2, "policy": 10, "mnist": 2, "matexp": 100}


@cache
def trained(name: str) -> fastmlp.Model:
    """The model after its epochs, with the rows shuffled."""
    net = WORKLOADS[name]
    X, y, weights, biases = data(net)
    model = fastmlp.Model.from_weights(weights, biases, activations=net.activation, loss=net.loss)
    optimizer = fastmlp.SGD(net.lr) if net.optimizer == "sgd" else fastmlp.Adam(net.lr)
    model.fit(X, y, epochs=EPOCHS[name], batch_size=net.batch, optimizer=optimizer, rng=0)
    return model


class Loss:
    """Over the rows trained on, by the formula in `nets.py`."""

    params = (list(EPOCHS),)
    param_names = ("net",)
    unit = "loss"

    def track_loss(self, net: str) -> float:
        model = trained(net)
        return mean_loss(WORKLOADS[net], model.weights, model.biases)


class Errors:
    """The share of the rows whose class is wrong."""

    params = ([name for name in EPOCHS if WORKLOADS[name].loss != "mse"],)
    param_names = ("net",)
    unit = "of the rows"

    def track_errors(self, net: str) -> float:
        X, y, _, _ = data(WORKLOADS[net])
        p = trained(net).predict(X)
        wrong = p.argmax(axis=1) != y if WORKLOADS[net].loss == "cross_entropy" else (p > 0.5) != y
        return float(np.mean(wrong))
