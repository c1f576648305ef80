"""Networks that live in registers, against the oracle and against the path that they would take otherwise."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import reference
from reference import BOUND, error

from fastmlp import SGD, Adam, Model
from fastmlp.kernels.machine.target import VECTOR_BYTES
from fastmlp.kernels.net.plan import RESIDENT
from fastmlp.kernels.tuning import RESIDENT_WIDTH

pytestmark = pytest.mark.small


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("decay", [0.0, 0.01])
@pytest.mark.parametrize(("output", "loss"), [("sigmoid", "bce"), ("identity", "mse")])
@pytest.mark.parametrize("hidden", ["relu", "tanh", "sigmoid", "identity"])
def test_training_equals_the_oracle(hidden: str, output: str, loss: str, decay: float, dtype: str) -> None:
    """All widths; a batch of all lanes but one, of all, and several of a few rows with a remainder."""
    optimizer = SGD(0.1, weight_decay=decay)
    step = partial(reference.sgd_step, **reference.settings(optimizer))
    for inputs in range(1, RESIDENT_WIDTH + 1):
        for units in range(1, RESIDENT_WIDTH + 1):
            for rows, batch in ((7, None), (8, None), (7, 3)):
                p = reference.problem([inputs, units, 1], [hidden, output], loss, rows, dtype=dtype)
                model = Model.from_weights(*p[2:], dtype=dtype)
                history = model.fit(p.X, p.y, 3, batch, optimizer=optimizer, shuffle=False)
                want = reference.train(*p, step, 3, batch)
                assert error(history["loss"], want.losses) <= BOUND[dtype]
                assert error(model.params, reference.flat(want.weights, want.biases)) <= BOUND[dtype]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.filterwarnings("ignore:the loss was:RuntimeWarning")
def test_nan_and_infinity_reach_the_loss(bad: float) -> None:
    X, y = np.ones((4, 2)), np.ones((4, 1))
    X[1, 1] = bad
    history = Model([2, 2, 1], "tanh", "mse", rng=0).fit(X, y, 3, lr=0.1)
    assert not np.isfinite(history["loss"][-1])


@pytest.mark.parametrize(
    ("sizes", "names", "loss", "optimizer", "rows", "want"),
    [
        ((2, 2, 1), ("relu", "sigmoid"), "bce", SGD(0.1), 4, True),
        ((3, 3, 1), ("tanh", "identity"), "mse", SGD(0.1, weight_decay=0.1), 4, True),
        ((4, 4, 1), ("tanh", "identity"), "mse", SGD(0.1), 4, VECTOR_BYTES > 16),  # more parameters than four lanes pay for
        ((5, 4, 1), ("relu", "sigmoid"), "bce", SGD(0.1), 4, False),
        ((4, 5, 1), ("relu", "sigmoid"), "bce", SGD(0.1), 4, False),
        ((4, 4, 2), ("relu", "sigmoid"), "bce", SGD(0.1), 4, False),
        ((2, 2, 2, 1), ("relu", "relu", "sigmoid"), "bce", SGD(0.1), 4, False),
        ((2, 1), ("sigmoid",), "bce", SGD(0.1), 4, False),
        ((2, 2, 1), ("relu", "sigmoid"), "bce", SGD(0.1), 17, False),
        ((2, 2, 1), ("gelu", "sigmoid"), "bce", SGD(0.1), 4, False),
        ((2, 2, 1), ("relu", "tanh"), "mse", SGD(0.1), 4, False),
        ((2, 2, 1), ("relu", "identity"), "huber", SGD(0.1), 4, False),
        ((2, 2, 1), ("relu", "sigmoid"), "bce", SGD(0.1, momentum=0.5), 4, False),
        ((2, 2, 1), ("relu", "sigmoid"), "bce", Adam(0.1), 4, False),
    ],
)
def test_which_networks_fit(
    sizes: tuple[int, ...], names: tuple[str, ...], loss: str, optimizer: Any, rows: int, want: bool
) -> None:
    model = Model(sizes, names, loss, "float32", rng=0)
    model.fit(np.ones((rows, sizes[0])), np.ones((rows, sizes[-1])), 1, optimizer=optimizer)
    assert (model._engine._space.layout.task.path == RESIDENT) is want
