"""The losses that networks have by name, and users' own."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from fastmlp import checks, derivatives
from fastmlp.activations import ACTIVATIONS, ALIASES, CustomActivation
from fastmlp.custom import Custom
from fastmlp.kernels.layer.custom import by_numbers, checked_row_loss, compile_loss, compile_row_loss
from fastmlp.kernels.layer.loss import LOSSES, Loss

__all__ = ["LOSSES", "CustomLoss", "Loss", "RowLoss"]

_compared: set[tuple[Any, ...]] = set()  # functions, and the dtypes and numbers of outputs that they have been compared for


class UsersLoss(Custom):
    """What `CustomLoss` and `RowLoss` share."""

    _kind: ClassVar[str] = "loss"
    output: str | CustomActivation
    check_gradient: bool

    def _check_loss(self) -> None:
        self._check(LOSSES)
        if not isinstance(self.output, CustomActivation) and self.output not in [*ACTIVATIONS, *ALIASES]:
            raise ValueError(f"output must be one of {', '.join(ACTIVATIONS)}; got {self.output!r}")
        checks.flag("check_gradient", self.check_gradient)

    def compare(self, P: np.ndarray, T: np.ndarray) -> bool:
        """Raise if the derivative is not that of the loss, for rows of outputs P and targets T; nothing, where that is known.

        Parameters
        ----------
        P, T : (rows, outputs) and (rows, targets) arrays of the network's dtype

        Returns
        -------
        bool
            Whether it is known now: a row whose loss is not finite tells nothing.
        """
        functions = tuple(getattr(self, name) for name in self._functions)
        key = *functions, P.shape[1], P.dtype
        if self.check_gradient and key not in _compared:
            row = functions[0] if len(functions) == 1 else by_numbers(*functions)
            wide = P.astype(np.float64), T.astype(np.float64)
            if not derivatives.compare(f"{type(self).__name__} {self.name!r}", checked_row_loss(row), *wide):
                return False
            _compared.add(key)
        return True


@dataclass(frozen=True)
class CustomLoss(UsersLoss):
    """A loss that is given by two scalar functions, for `Model`'s ``loss``: the mean over rows and outputs of value(p, y).

    Parameters
    ----------
    name : str
        What the model's summary calls it.
    value, derivative : function of two numbers
        The loss of an output p and its target y, and its derivative by p, such that Numba can compile them: plain Python
        functions, or ``@njit`` ones with options of their own. To be pickled with a model they must be importable.
    output : str or CustomActivation
        The output activation that it takes unless told otherwise.
    check_gradient : bool
        Compare the derivative with differences of the loss before the first training, as `RowLoss` explains.

    Raises
    ------
    ValueError
        If the name is a built-in loss's, or the output no activation's; by the first training, if the derivative is wrong.
    TypeError
        If the name is no string, or a function no function; by `Model`, if Numba cannot compile one.

    Notes
    -----
    As for `CustomActivation`. A loss that looks at a row as a whole is a `RowLoss`.

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> asymmetric = fastmlp.CustomLoss(
    ...     "pinball", lambda p, y: max(0.9 * (y - p), 0.1 * (p - y)), lambda p, y: -0.9 if p < y else 0.1
    ... )
    >>> model = fastmlp.Model.from_weights([np.zeros((1, 1))], [np.zeros(1)], loss=asymmetric)
    >>> model.loss([[1.0], [1.0]], [[1.0], [-1.0]])
    0.5
    """

    _functions: ClassVar[tuple[str, ...]] = ("value", "derivative")

    name: str
    value: Callable[[Any, Any], Any]
    derivative: Callable[[Any, Any], Any]
    output: str | CustomActivation = "identity"
    check_gradient: bool = field(default=True, compare=False)  # no part of what a loss is

    def __post_init__(self) -> None:
        self._check_loss()

    def code(self, dtype: np.dtype) -> int:
        """The kernels' number for it; compiles at the first call.

        Parameters
        ----------
        dtype : numpy.dtype
            The network's, float32 or float64.
        """
        return compile_loss(self.value, self.derivative, dtype)


@dataclass(frozen=True)
class RowLoss(UsersLoss):
    """A loss over a whole row, for `Model`'s ``loss``: of all its outputs, and of as many targets as the loss wants.

    The loss that is reported and trained on is the mean over rows, (1 / rows) sum_i function(p_i, t_i, d_i); with weights w it
    is sum_i w_i function(p_i, t_i, d_i) / sum_i w_i. The function runs in a compiled loop, in all threads of the training.

    Parameters
    ----------
    name : str
        What the model's summary calls it.
    function : function of three arrays
        ``function(p, t, d)`` returns the loss of a row, and writes its gradient by the outputs to d, all of it. p (outputs,)
        are the row's outputs and t (targets,) its row of y, both read-only; d (outputs,) may hold anything before. All are
        C-contiguous and of the model's dtype. Numba must be able to compile it: a plain Python function, or an ``@njit`` one
        with options of its own. To be pickled with a model it must be importable.
    targets : int
        Numbers in a row of y, which is (rows, targets), or (rows,) for one; any real numbers, such as an action's index, an
        advantage and an old log-probability.
    output : str or CustomActivation
        The output activation that it takes unless told otherwise; p are what comes out of it. Its derivative, softmax's too,
        is not the function's to know.
    check_gradient : bool
        Compare d with differences of the loss before the first training, and raise if it is wrong.

    Raises
    ------
    ValueError
        If the name is a built-in loss's, the output no activation's, or `targets` below 1; by the first training, if d is
        wrong.
    TypeError
        If the name is no string, the function no function, or `targets` no integer; by `Model`, if Numba cannot compile the
        function.
    IndexError
        By the first training, if the function leaves its arrays.

    Notes
    -----
    The check of the gradient takes the first 8 rows that `fit`, `fit_batches`, `step`, `gradient` or `backward` meets, those of
    weight 0 left out, with the net's outputs for them; once for each number of outputs and dtype, in float64. Each number of d
    (of a row of more than 64, those of 64 outputs) must lie between the loss's slopes to both sides, or near, so that kinks are
    no fault. d is NaN before, so that what the function leaves out is found. Rows whose loss is not finite are passed over,
    which `nonfinite` of `fit` is for. A finite loss whose derivative is not finite is refused.

    Indices are checked on these rows only: elsewhere one outside an array reads or writes whatever lies there, as in any
    compiled code of Numba's. With ``NUMBA_BOUNDSCHECK=1`` in the environment all are checked.

    What the function raises ends the call and is raised by it; the model then is as the last step left it. A division by zero
    is infinite or NaN; in an ``@njit`` function it raises, without ``error_model="numpy"``. An array that the function makes is
    allocated anew for each row, which is slow. A numeric constant in a float32 model makes float64 arithmetic of what it meets.
    An ``@njit`` function with a signature must take read-only arrays for p and t.

    Examples
    --------
    Two heads in one net: outputs 0 and 1 are a mean and the logarithm of a standard deviation, whose loss is that of the
    normal distribution.

    >>> import numpy as np, fastmlp
    >>> def normal(p, t, d):
    ...     z = (t[0] - p[0]) * np.exp(-p[1])
    ...     d[0] = -z * np.exp(-p[1])
    ...     d[1] = 1 - z * z
    ...     return p[1] + z * z / 2
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-1, 1, (2000, 1))
    >>> y = X[:, 0] + (0.1 + X[:, 0] ** 2) * rng.standard_normal(2000)
    >>> loss = fastmlp.RowLoss("normal", normal, targets=1)
    >>> model = fastmlp.Model([1, 32, 2], "tanh", loss, rng=0)
    >>> history = model.fit(X, y, 100, 100, optimizer=fastmlp.Adam(0.01), rng=0)
    >>> mean, log_sigma = model.predict([[-0.9], [0.0]]).T
    >>> bool(np.exp(log_sigma)[0] > 3 * np.exp(log_sigma)[1])
    True
    """

    _functions: ClassVar[tuple[str, ...]] = ("function",)

    name: str
    function: Callable[[Any, Any, Any], Any]
    targets: int
    output: str | CustomActivation = "identity"
    check_gradient: bool = field(default=True, compare=False)  # no part of what a loss is

    def __post_init__(self) -> None:
        self._check_loss()
        object.__setattr__(self, "targets", checks.count("targets", self.targets))

    def code(self, dtype: np.dtype) -> int:
        """The kernels' number for it; compiles at the first call.

        Parameters
        ----------
        dtype : numpy.dtype
            The network's, float32 or float64.
        """
        return compile_row_loss(self.function, self.targets, dtype)


def _poisson(z: Any, y: Any) -> Any:
    return np.exp(z) - y + (y * (np.log(y) - z) if y != 0 else 0.0)


def _poisson_slope(z: Any, y: Any) -> Any:
    return np.exp(z) - y


# The regressors' poisson, of the logarithm of what is predicted, where (p - y) has no 0 / 0.
POISSON = CustomLoss("poisson_deviance", _poisson, _poisson_slope, check_gradient=False)
