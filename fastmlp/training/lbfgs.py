"""L-BFGS over the full batch: SciPy's, on the kernels' gradients."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastmlp.engine.engine import Engine
from fastmlp.lbfgs import LBFGS


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
    weighted: int = 0,
) -> list[float]:
    """At most `epochs` iterations from where the parameters are; the loss before each, with the penalty.

    X, y, code and weighted are as in `fastmlp.engine.state.Job`. After each iteration the parameters are where it led, and
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
