"""L-BFGS's settings. `fastmlp.training.lbfgs` runs it."""

from dataclasses import dataclass

from fastmlp import checks


@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS (Liu and Nocedal, 1989), by ``scipy.optimize.minimize``'s L-BFGS-B; for `Model.fit` alone.

    For small data: an epoch is an iteration over the full batch, and the fit ends before ``epochs`` of them if `tol` or `ftol`
    is met. There is no learning rate. It works on a float64 vector whatever the model's dtype, and needs
    ``pip install "fastmlp[lbfgs]"``.

    Parameters
    ----------
    history : int
        Steps that it remembers, at least 1.
    tol : float
        The fit ends where no entry of the gradient is larger than this; at least 0.
    ftol : float
        The fit ends where an iteration lowers the loss by no more than ``ftol * max(loss before it, 1)``; at least 0.
    max_evaluations : int
        The most evaluations of the loss and its gradient, each over all rows; an iteration usually takes little more than one.
    l2 : float
        Penalty, at least 0: ``l2 / 2 * sum(w**2)`` over the weights, not the biases, is added to the loss. For an L1 penalty,
        whose gradient jumps at 0, take another optimiser.

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
        checks.count("history", self.history)
        checks.count("max_evaluations", self.max_evaluations)
        for name in ("tol", "ftol", "l2"):
            checks.real(name, getattr(self, name), least=0.0)
