"""L-BFGS over the full batch: SciPy's, on the kernels' gradients."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastmlp.engine.engine import Engine
from fastmlp.validation import count, real


@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS (Liu and Nocedal, 1989), by ``scipy.optimize.minimize``'s L-BFGS-B.

    For small data: each of `Model.fit`'s ``epochs`` is an iteration of the full batch, and it may stop before them; there is no
    learning rate. It works on a float64 vector whatever the model's dtype, and needs ``pip install "fastmlp[lbfgs]"``.

    Parameters
    ----------
    history : int
        Steps that it remembers, at least 1.
    tol : float
        At least 0. It stops where no entry of the gradient is larger than this,
    ftol : float
        or where an iteration lowers the loss by no more than this share of the larger of the loss before it and 1; at least 0.
    max_evaluations : int
        Of the loss and its gradient, each over all rows; usually little more than one an iteration.
    l2 : float
        Penalty, at least 0: ``l2 / 2 * sum(w**2)`` over the weights, not the biases, is added to the loss. There is no ``l1``,
        which has no gradient where it matters most: see `Adam`.

    Raises
    ------
    ValueError
        If a setting is out of its range.
    TypeError
        If a setting is not a number.

    Examples
    --------
    >>> import fastmlp
    >>> model = fastmlp.Model([2, 4, 1], "tanh", rng=0)
    >>> X, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    >>> history = model.fit(X, y, epochs=200, optimizer=fastmlp.LBFGS())
    >>> history["loss"][-1] < 1e-4
    True
    """

    history: int = 10
    tol: float = 1e-5
    ftol: float = 2.2e-9
    max_evaluations: int = 15000
    l2: float = 0.0

    def __post_init__(self) -> None:
        count("history", self.history)
        count("max_evaluations", self.max_evaluations)
        for name in ("tol", "ftol", "l2"):
            real(name, getattr(self, name), least=0.0)


def check(batch_size: int, rows: int, dropout: bool) -> None:
    """Raise unless the loss is one function of the parameters, of all rows, with all units; and SciPy is there."""
    if batch_size < rows:
        raise ValueError(f"batch_size must be None, or all {rows} rows, for optimizer=LBFGS(), got {batch_size}")
    if dropout:
        raise ValueError("optimizer=LBFGS() needs a model without dropout: its loss must be the same each time")
    try:
        import scipy.optimize  # noqa: F401
    except ImportError as error:
        raise ImportError('optimizer=LBFGS() needs SciPy: pip install "fastmlp[lbfgs]"') from error


def minimize(
    engine: Engine,
    X: np.ndarray,
    y: np.ndarray,
    code: int,
    optimizer: LBFGS,
    epochs: int,
    look: Callable[[list[float]], None],
    weighted: bool = False,
) -> list[float]:
    """At most `epochs` iterations from where the parameters are; the loss before each, with the penalty.

    X, y, code and weighted are as in `fastmlp.engine.engine.Job`. After each iteration the parameters are where it led, and
    `look` gets the losses so far; it may raise StopIteration to end. Whatever ends it, the parameters stay where the last
    iteration led; none raises the loss. Where there is no step to make, the list holds the loss all the same. It has passed
    `check`.
    """
    from scipy import optimize

    params = engine.params
    flat, unused = np.empty_like(params), np.empty((1, 1), params.dtype)
    accepted = params.copy()
    losses: list[float] = []
    here = np.nan  # the loss at `accepted`, once it is known

    def value(x: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal here
        params[...] = x
        loss = float(engine.gradient(X, y, code, flat, unused, False, weighted))
        slope = flat.astype(np.float64)
        for w, g in zip(engine.views(params)[0], engine.views(slope)[0], strict=True):
            wide = w.astype(np.float64)
            g += optimizer.l2 * wide
            loss += 0.5 * optimizer.l2 * float(np.vdot(wide, wide))
        here = loss if np.isnan(here) else here
        return loss, slope

    def iterated(intermediate_result: Any) -> None:
        nonlocal here
        params[...] = intermediate_result.x
        accepted[...] = params
        losses.append(here)
        here = float(intermediate_result.fun)
        look(losses)

    options = {
        "maxcor": optimizer.history,
        "gtol": optimizer.tol,
        "ftol": optimizer.ftol,
        "maxfun": optimizer.max_evaluations,
        "maxiter": epochs,
    }
    try:
        optimize.minimize(value, params.astype(np.float64), jac=True, method="L-BFGS-B", callback=iterated, options=options)
    finally:
        params[...] = accepted
    return losses or [here]
