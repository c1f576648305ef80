"""Single losses, gradients and steps, and copies: what loops of the user's own call."""

import copy
from typing import TYPE_CHECKING, NamedTuple, Self, TypeAlias, overload

import numpy as np

from fastmlp import arguments, checks
from fastmlp.engine.engine import Engine
from fastmlp.kernels.layer.loss import BY_SIZE, LOGIT_GRADIENT, OUTPUT_GRADIENT
from fastmlp.network import Network
from fastmlp.optimizers import choose
from fastmlp.training import dataset
from fastmlp.types import ArrayLike, SteppingOptimizer

if TYPE_CHECKING:
    from fastmlp.model import Model

# X and its targets as the kernels read them, the loss's code for these, and how the rows' weights make a mean, 0 without any.
_Given: TypeAlias = tuple[np.ndarray, np.ndarray, int, int]


class Gradients(NamedTuple):
    """What `Model.backward` returns: gradients of the mean loss, or of the loss whose ``output_gradient`` was given.

    Attributes
    ----------
    loss : float or None
        None if an ``output_gradient`` was given.
    weights : list of (fan_in, fan_out) arrays
    biases : list of (1, fan_out) arrays
    inputs : (rows, sizes[0]) array
    """

    loss: float | None
    weights: list[np.ndarray]
    biases: list[np.ndarray]
    inputs: np.ndarray


class Differentiable:
    """What `Model` has for loops of the user's own: its loss, its gradients, single updates, and copies."""

    network: Network
    _engine: Engine
    _code: int  # the loss's

    def loss(self, X: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
        """The mean loss over the rows of X, by the formula in `fastmlp.losses.LOSSES`.

        Parameters
        ----------
        X, y
            As for `fit`.
        sample_weight : (rows,) array or None
            As for `step`.

        Returns
        -------
        float

        Raises
        ------
        ValueError, TypeError
            As for `step`.

        Examples
        --------
        >>> import fastmlp
        >>> model = fastmlp.Model.from_weights([[[2.0]]], [[0.0]], loss="mse")
        >>> model.loss([[3.0]], [5.0])
        1.0
        >>> model.loss([[3.0], [1.0]], [5.0, 5.0], sample_weight=[3.0, -1.0])  # (3 * 1 - 1 * 9) / (3 + 1)
        -1.5
        """
        return self._engine.loss(*self._weighed(X, y, sample_weight))

    @overload
    def backward(self, X: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None) -> Gradients: ...

    @overload
    def backward(self, X: ArrayLike, y: None = None, *, output_gradient: ArrayLike, logits: bool = False) -> Gradients: ...

    def backward(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        output_gradient: ArrayLike | None = None,
        logits: bool = False,
    ) -> Gradients:
        """The mean loss over the rows of X and its gradients, or the gradients of a loss of the user's own.

        Parameters
        ----------
        X, y, sample_weight, output_gradient, logits
            As for `step`.

        Returns
        -------
        Gradients
            By weights, biases and inputs. With `output_gradient`, the vector-Jacobian products of G.

        Raises
        ------
        ValueError, TypeError
            As for `step`.

        Examples
        --------
        >>> import numpy as np, fastmlp
        >>> model = fastmlp.Model.from_weights([np.array([[2.0]])], [np.array([0.0])], loss="mse")
        >>> model.backward([[3.0]], [[5.0]])
        Gradients(loss=1.0, weights=[array([[6.]])], biases=[array([[2.]])], inputs=array([[4.]]))

        The outputs' slopes by the inputs, with L the sum of the outputs:

        >>> model.backward([[3.0]], output_gradient=[[1.0]]).inputs
        array([[2.]])
        """
        loss, flat, inputs = self._gradient(X, y, sample_weight, output_gradient, logits, True)
        return Gradients(loss, *self._engine.views(flat), inputs)

    @overload
    def gradient(self, X: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None) -> tuple[float, np.ndarray]: ...

    @overload
    def gradient(
        self, X: ArrayLike, y: None = None, *, output_gradient: ArrayLike, logits: bool = False
    ) -> tuple[None, np.ndarray]: ...

    def gradient(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        output_gradient: ArrayLike | None = None,
        logits: bool = False,
    ) -> tuple[float | None, np.ndarray]:
        """The mean loss over the rows of X and its gradient as one vector, or that of a loss of the user's own.

        For L-BFGS, evolution, or a sum over machines before `apply_gradient`.

        Parameters
        ----------
        X, y, sample_weight, output_gradient, logits
            As for `step`.

        Returns
        -------
        float or None
            The loss; None with `output_gradient`.
        (n,) array
            The gradient, laid out as `params`.

        Raises
        ------
        ValueError, TypeError
            As for `step`.

        Examples
        --------
        >>> import fastmlp
        >>> model = fastmlp.Model.from_weights([[[2.0]]], [[0.0]])
        >>> model.gradient([[3.0]], [5.0])
        (1.0, array([6., 2.]))
        >>> model.gradient([[3.0]], output_gradient=[[2.0]])
        (None, array([6., 2.]))
        """
        return self._gradient(X, y, sample_weight, output_gradient, logits, False)[:2]

    @overload
    def step(
        self,
        X: ArrayLike,
        y: ArrayLike,
        lr: float | None = None,
        optimizer: SteppingOptimizer = None,
        *,
        sample_weight: ArrayLike | None = None,
    ) -> float: ...

    @overload
    def step(
        self,
        X: ArrayLike,
        y: None = None,
        lr: float | None = None,
        optimizer: SteppingOptimizer = None,
        *,
        output_gradient: ArrayLike,
        logits: bool = False,
    ) -> None: ...

    def step(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        lr: float | None = None,
        optimizer: SteppingOptimizer = None,
        *,
        sample_weight: ArrayLike | None = None,
        output_gradient: ArrayLike | None = None,
        logits: bool = False,
    ) -> float | None:
        """One update from all rows of X: `fit` for one epoch of one batch, without its overhead.

        Parameters
        ----------
        X, y
            As for `fit`.
        lr, optimizer
            As for `fit`; without schedules, and without `LBFGS`.
        sample_weight : (rows,) array or None
            Weights w of the rows, negative ones too, such as advantages. The loss is sum(w * loss of row) / sum(abs(w)):
            the mean of `fit` where no weight is negative, and 0, with a gradient of 0, where all are 0.
        output_gradient : (rows, outputs) array or None
            In the place of y, G = dL/da: the gradient of a scalar L of the user's own by the output activations a, as `predict`
            returns them. Then dL/dz = G * f'(z) for an output activation a = f(z) (for softmax a * (G - sum(a * G)), row by
            row), and from there the chain rule leads to the parameters. L is what it is: nothing is divided by rows. The
            model's own loss takes no part. (rows,) is as good if there is one output.
        logits : bool
            Whether G is dL/dz, by the last layer's z = x @ W + b, in place of dL/da.

        Returns
        -------
        float or None
            The loss before the update; None with `output_gradient`.

        Raises
        ------
        ValueError, TypeError
            If an argument is out of range or of the wrong kind; if there are both y and `output_gradient`, or neither, or
            `output_gradient` with `sample_weight`, or `logits` without `output_gradient`. The model is then as it was.

        Notes
        -----
        The pass in which dropout leaves units out is the step's: `predict`, from which G is usually computed, leaves none out.

        Examples
        --------
        >>> import numpy as np, fastmlp
        >>> model = fastmlp.Model.from_weights([[[2.0]]], [[0.0]])
        >>> model.step([[3.0]], [5.0], lr=0.1), model.predict([[3.0]])
        (1.0, array([[4.]]))

        A loss of the user's own, L = sum(cosh(p - 5)), with dL/dp = sinh(p - 5):

        >>> for _ in range(100):
        ...     model.step([[3.0]], output_gradient=np.sinh(model.predict([[3.0]]) - 5), lr=0.05)
        >>> model.predict([[3.0]]).round(6)
        array([[5.]])
        """
        if y is not None and sample_weight is output_gradient is None and logits is False:
            # The usual case first, and `_data` in place: a tenth of the smallest net's step.
            network = self.network
            X = checks.features(X, network.sizes[0], network.dtype)
            y, code = dataset.targets(network, self._code, y, len(X))
            return self._engine.step(X, y, code, choose(lr, optimizer))
        X, y, code, weighted = self._given(X, y, sample_weight, output_gradient, logits)
        loss = self._engine.step(X, y, code, choose(lr, optimizer), weighted)
        return loss if output_gradient is None else None

    def apply_gradient(self, g: ArrayLike, lr: float | None = None, optimizer: SteppingOptimizer = None) -> None:
        """One update from a gradient laid out as `params`, as `fit` would make it.

        Parameters
        ----------
        g : (n,) array
            The gradient.
        lr, optimizer
            As for `fit`; without schedules, and without `LBFGS`.

        Raises
        ------
        ValueError, TypeError
            If g has another shape or does not hold real numbers, or as for `fit`.

        Examples
        --------
        >>> import fastmlp
        >>> model = fastmlp.Model.from_weights([[[2.0]]], [[0.0]])
        >>> model.apply_gradient([1.0, 0.0], lr=0.5)
        >>> model.params
        array([1.5, 0. ])
        """
        self._engine.apply(self._vector("g", g), choose(lr, optimizer))

    def copy(self) -> Self:
        """An independent model with the same network, parameters and optimiser's memory.

        It is what `copy.deepcopy` makes, and trains on with the same bits.

        Examples
        --------
        >>> import fastmlp
        >>> model = fastmlp.Model([2, 3, 1], rng=0)
        >>> target = model.copy()
        >>> loss = model.step([[1.0, 2.0]], [3.0])
        >>> (target.params == model.params).all()
        np.False_
        """
        return copy.deepcopy(self)

    def set_params_from(self, other: "Model | ArrayLike", tau: float = 1.0) -> None:
        """Move the parameters towards others: params = (1 - tau) * params + tau * other, computed as params + tau * difference.

        With a small tau, the slow target network of deep Q-learning (Polyak averaging; Lillicrap et al., 2016). The optimiser's
        memory stays as it is, and so does `average`.

        Parameters
        ----------
        other : Model or (n,) array
            A model of the same sizes and dtype, or parameters laid out as `params`. The model may be used by other threads
            meanwhile: its parameters are those between two of its calls.
        tau : float
            In (0, 1]; 1 copies.

        Raises
        ------
        ValueError, TypeError
            If `other` does not fit, does not hold real numbers, or tau is out of range; the model is then as it was.

        Examples
        --------
        >>> import fastmlp
        >>> target, model = fastmlp.Model([1, 1], rng=0), fastmlp.Model([1, 1], rng=0)
        >>> target.params[:], model.params[:] = [0.0, 4.0], [1.0, 8.0]
        >>> target.set_params_from(model, tau=0.25)
        >>> target.params
        array([0.25, 5.  ])
        """
        tau = checks.real("tau", tau, above=0, most=1)
        if isinstance(other, Differentiable):
            ours, theirs = self.network, other.network
            if (theirs.sizes, theirs.dtype) != (ours.sizes, ours.dtype):
                wanted, got = (f"sizes {one.sizes} and dtype {one.dtype}" for one in (ours, theirs))
                raise ValueError(f"other must be a model of {wanted}, got {got}")
            self._engine.blend(other._engine, tau)
            return
        self._engine.blend(self._vector("other", other), tau)

    def _vector(self, name: str, value: ArrayLike) -> np.ndarray:
        """An array that is laid out as `params`."""
        array, shape = checks.numbers(name, value), self._engine.params.shape
        if array.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
        return array

    def _gradient(
        self,
        X: ArrayLike,
        y: ArrayLike | None,
        sample_weight: ArrayLike | None,
        output_gradient: ArrayLike | None,
        logits: bool,
        inputs: bool,
    ) -> tuple[float | None, np.ndarray, np.ndarray]:
        X, y, code, weighted = self._given(X, y, sample_weight, output_gradient, logits)
        flat = np.empty_like(self._engine.params)
        dx = np.empty(X.shape if inputs else (1, 1), X.dtype)
        loss = self._engine.gradient(X, y, code, flat, dx, inputs, weighted)
        return loss if output_gradient is None else None, flat, dx

    def _data(self, X: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray, int]:
        """X and y as the kernels read them, and the loss's code for that form of y."""
        network = self.network
        X = checks.features(X, network.sizes[0], network.dtype)
        return X, *dataset.targets(network, self._code, y, len(X))

    def _weighed(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None) -> _Given:
        X, y, code = self._data(X, y)
        if sample_weight is None:
            return X, y, code, 0
        return X, dataset.weigh(y, sample_weight, signed=True), code, BY_SIZE

    def _given(
        self,
        X: ArrayLike,
        y: ArrayLike | None,
        sample_weight: ArrayLike | None,
        output_gradient: ArrayLike | None,
        logits: bool,
    ) -> _Given:
        if output_gradient is None:
            if y is None:
                raise TypeError("y must be given, or output_gradient in its place")
            if logits is not False and checks.flag("logits", logits):
                raise ValueError("logits=True must be given together with output_gradient, which it is about")
            return self._weighed(X, y, sample_weight)
        for name, other in (("y", y), ("sample_weight", sample_weight)):
            if other is not None:
                raise ValueError(f"output_gradient must not be given together with {name}")
        code = LOGIT_GRADIENT if checks.flag("logits", logits) else OUTPUT_GRADIENT
        network = self.network
        X = checks.features(X, network.sizes[0], network.dtype)
        return X, arguments.output_gradient(output_gradient, len(X), network.sizes[-1], network.dtype), code, 0
