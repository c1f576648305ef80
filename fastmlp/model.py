"""Model: a multilayer perceptron. It validates, owns the buffers and calls the kernels; it does no arithmetic."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from fastmlp import threads, validation
from fastmlp.activations import ACTIVATIONS
from fastmlp.history import History
from fastmlp.initialisation import INITS, initialise
from fastmlp.kernels import plan as at
from fastmlp.kernels import train as kernels
from fastmlp.kernels.loss import CROSS_ENTROPY, CROSS_ENTROPY_ROWS
from fastmlp.kernels.update import HYPER
from fastmlp.losses import LOSSES
from fastmlp.optimizers import SGD, Optimizer
from fastmlp.workspace import Workspace, aligned

# Work of one compiled call of `fit`, in multiply-adds: a tenth of a second or so, after which Ctrl-C and printing get their
# turn. A step's own overhead, and each parameter's update from memory, count as so many.
CALL_TURN, STEP_COST, UPDATE_COST = 1 << 32, 5000, 64
NO_STATE = np.zeros(at.STATE, np.int64)
OWN = {"_space", "_store", "_lock", "_hyper", "_hyper_of"}  # what a copy makes for itself


@lru_cache(maxsize=64)
def _sgd(lr: float) -> SGD:
    return SGD(lr)


class Gradients(NamedTuple):
    """What `Model.backward` returns: gradients of the mean loss.

    Attributes
    ----------
    loss : float
    weights : list of (fan_in, fan_out) arrays
    biases : list of (1, fan_out) arrays
    inputs : (rows, sizes[0]) array
    """

    loss: float
    weights: list[np.ndarray]
    biases: list[np.ndarray]
    inputs: np.ndarray


class Model:
    """A multilayer perceptron: dense layers a = f(x @ W + b), trained by gradient descent.

    Parameters
    ----------
    sizes : sequence of int
        Widths, from the inputs to the outputs; at least two.
    activations : str or sequence of str
        One name for the hidden layers (the output then takes the loss's own: sigmoid for ``bce``, softmax for
        ``cross_entropy``, else identity), or a name for each layer. Names: `fastmlp.activations.ACTIVATIONS`.
    loss : str
        A name from `fastmlp.losses.LOSSES`.
    dtype : {"float64", "float32"}
    rng : int, numpy.random.Generator or None
        Draws the initial weights.
    init : {"auto", "he", "glorot", "small"}
        ``he``: N(0, 2 / fan_in) (He et al., 2015). ``glorot``: uniform within sqrt(6 / (fan_in + fan_out)) (Glorot and
        Bengio, 2010). ``auto``: the one that suits each layer's activation. ``small``: 0.01 N(0, 1). Biases are 0.

    Attributes
    ----------
    sizes, activations : tuple
    loss_name : str
    dtype : numpy.dtype
    params : (n,) array
        All parameters, W1 b1 W2 b2 ..., in one vector; may be written to.
    weights, biases : list of arrays
        Views of `params`, (fan_in, fan_out) and (1, fan_out); may be written to.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong kind; the message names it.

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> y = np.array([0, 1, 1, 0])
    >>> model = fastmlp.Model([2, 16, 1], activations="tanh", loss="bce", rng=0)
    >>> history = model.fit(X, y, epochs=500, optimizer=fastmlp.Adam(0.05))
    >>> model.predict(X).round().ravel()
    array([0., 1., 1., 0.])
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activations: str | Sequence[str] = "relu",
        loss: str = "mse",
        dtype: Any = "float64",
        rng: Any = None,
        init: str = "auto",
    ) -> None:
        validation.choice("init", init, INITS)
        generator = validation.generator(rng)
        self._build(validation.sizes(sizes), activations, loss, validation.dtype(dtype))
        for weights, name in zip(self.weights, self.activations, strict=True):
            initialise(weights, ACTIVATIONS[name].init if init == "auto" else init, generator)

    @classmethod
    def from_weights(
        cls,
        weights: Sequence[Any],
        biases: Sequence[Any],
        activations: str | Sequence[str] = "relu",
        loss: str = "mse",
        dtype: Any = None,
    ) -> "Model":
        """A model that starts from copies of the arrays given.

        Parameters
        ----------
        weights : sequence of (fan_in, fan_out) arrays
        biases : sequence of (fan_out,) or (1, fan_out) arrays
        activations, loss : as for `Model`
        dtype : {"float64", "float32"} or None
            None: float32 if all arrays are float32, else float64.

        Raises
        ------
        ValueError, TypeError
            If the arrays do not fit together or hold NaN or infinities, or as for `Model`.

        Examples
        --------
        >>> import numpy as np, fastmlp
        >>> model = fastmlp.Model.from_weights([np.array([[2.0], [3.0]])], [np.array([1.0])])
        >>> model.predict([[10.0, 100.0]])
        array([[321.]])
        """
        if dtype is not None:
            dtype = validation.dtype(dtype)
        matrices, vectors = validation.parameters(weights, biases, dtype)
        model = cls.__new__(cls)
        model._build((len(matrices[0]), *(matrix.shape[1] for matrix in matrices)), activations, loss, matrices[0].dtype)
        for views, arrays in ((model.weights, matrices), (model.biases, vectors)):
            for view, array in zip(views, arrays, strict=True):
                view[...] = array
        return model

    def _build(self, sizes: tuple[int, ...], activations: Any, loss: Any, dtype: np.dtype) -> None:
        self.sizes = sizes
        self.loss_name = validation.choice("loss", loss, LOSSES)
        self.activations = validation.activations(activations, len(sizes) - 1, self.loss_name)
        self.dtype = dtype
        self._optimizer: type[Optimizer] = SGD
        self._moments = np.zeros(1, self.dtype)
        self._steps = 0
        self._allocate()

    def _allocate(self) -> None:
        self._space = Workspace(self.sizes, self.activations, LOSSES[self.loss_name].code, self.dtype)
        self._store = aligned(self._space.padded, self.dtype)
        self._params = self._store[: self._space.parameters]
        self._hyper_of: Optimizer | None = None
        self._hyper = np.zeros(0)
        self._lock = threads.Turn()

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            state = {name: value for name, value in self.__dict__.items() if name not in OWN}
            return state | {"_params": self._params.copy(), "_moments": self._moments.copy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        params = self._params
        self._allocate()
        self._params[...] = params

    @property
    def params(self) -> np.ndarray:
        """All parameters, W1 b1 W2 b2 ..., as one (n,) vector that may be written to."""
        return self._params

    @property
    def weights(self) -> list[np.ndarray]:
        """Each layer's (fan_in, fan_out) weights, views of `params`."""
        return self._views(self._params)[0]

    @property
    def biases(self) -> list[np.ndarray]:
        """Each layer's (1, fan_out) biases, views of `params`."""
        return self._views(self._params)[1]

    def _views(self, flat: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        weights, biases = [], []
        for (w, b), (fan_in, fan_out) in zip(self._space.offsets, pairwise(self.sizes), strict=True):
            weights.append(flat[w:b].reshape(fan_in, fan_out))
            biases.append(flat[b : b + fan_out].reshape(1, fan_out))
        return weights, biases

    def fit(
        self,
        X: Any,
        y: Any,
        epochs: int = 1,
        batch_size: int | None = None,
        lr: float | None = None,
        optimizer: Optimizer | None = None,
        shuffle: bool = True,
        rng: Any = None,
        verbose: int = 0,
    ) -> History:
        """Train for some epochs of minibatches.

        Parameters
        ----------
        X : (rows, sizes[0]) array
        y : array
            (rows, outputs), or (rows,) for one output; in [0, 1] for ``bce``. For ``cross_entropy`` integer labels
            (rows,) or probability rows (rows, outputs).
        epochs : int
        batch_size : int or None
            Rows in a step; the last one of an epoch may have fewer. None: all rows.
        lr : float or None
            Shorthand for ``optimizer=SGD(lr)``; not together with `optimizer`.
        optimizer : SGD, Adam or None
            None: ``SGD(0.01)``. Momentum and Adam's means carry over from call to call while the kind of optimiser stays.
        shuffle : bool
            Visit the rows in a new random order each epoch; of no effect if a batch holds all rows.
        rng : int, numpy.random.Generator or None
            Draws the orders.
        verbose : int
            Print the loss every `verbose` epochs; 0 for never.

        Returns
        -------
        History
            ``epoch`` and ``loss``, an entry an epoch: the mean over the rows of the loss before each row's update.

        Raises
        ------
        ValueError, TypeError
            If an argument is out of range or of the wrong kind; the model is then as it was.

        Notes
        -----
        Ctrl-C is seen between steps, several times a second unless one step takes longer, and leaves a model that can be
        used and trained on.
        """
        X, y, code = self._data(X, y)
        samples = len(X)
        epochs = validation.count("epochs", epochs)
        batch = samples if batch_size is None else min(validation.count("batch_size", batch_size), samples)
        verbose = validation.count("verbose", verbose, 0)
        shuffle = validation.flag("shuffle", shuffle) and batch < samples
        chosen = self._choose(lr, optimizer)
        order = np.arange(samples) if shuffle else NO_STATE
        state = np.zeros(at.STATE, np.int64)
        if shuffle or rng is not None:
            state[at.RANDOM] = validation.generator(rng).integers(-(2**63), 2**63)
        losses = np.zeros(epochs)
        printed = 0

        def look() -> None:
            nonlocal printed
            while verbose and printed < state[at.EPOCH]:
                print(f"Epoch {printed}, Loss: {losses[printed]:.4f}")
                printed += verbose

        with self._lock:
            self._train(X, y, code, chosen, batch, order, state, losses, look)
        return History(epoch=range(epochs), loss=losses)

    def step(self, X: Any, y: Any, lr: float | None = None, optimizer: Optimizer | None = None) -> float:
        """One update from all rows of X: `fit` for one epoch of one batch, without its overhead.

        Returns
        -------
        float
            The loss before the update.
        """
        X, y, code = self._data(X, y)
        chosen = self._choose(lr, optimizer)
        state, losses = np.zeros(at.STATE, np.int64), np.zeros(1)
        with self._lock:
            self._train(X, y, code, chosen, len(X), NO_STATE, state, losses, None)
        return losses.item()

    def _train(
        self,
        X: np.ndarray,
        y: np.ndarray,
        code: int,
        optimizer: Optimizer,
        batch: int,
        order: np.ndarray,
        state: np.ndarray,
        losses: np.ndarray,
        look: Callable[[], None] | None,
    ) -> None:
        """Run the epochs that `losses` has room for, shuffled if `order` holds all rows, and `look` in between."""
        space, samples, epochs = self._space, len(X), len(losses)
        work = 3 * batch * space.parameters
        steps = epochs * -(-samples // batch)
        narrow = space.narrow(batch, code)
        shares = 1 if narrow else threads.share(batch, work, steps)
        hyper = self._prepare(optimizer, code, batch, y.shape[1], narrow, shares)
        plan = space.plan
        plan[at.SAMPLES : at.EPOCHS + 1] = samples, batch, epochs
        plan[at.SHUFFLE : at.NARROW + 1] = order is not NO_STATE, narrow
        state[at.STEP] = self._steps
        data = plan, hyper, self._store, self._moments, space.buffer, X, y, order, state, losses
        try:
            if shares > 1:
                threads.run(lambda me: kernels.train(*data, steps, me, shares), shares, state, look or (lambda: None))
            while state[at.EPOCH] < epochs:
                kernels.train(*data, CALL_TURN // (work + STEP_COST + UPDATE_COST * space.parameters) + 1, 0, 1)
                if look is not None:
                    look()
        except BaseException:
            kernels.count_subnormals()
            raise
        finally:
            self._steps = int(state[at.STEP])

    def predict(self, X: Any) -> np.ndarray:
        """The output activations.

        Parameters
        ----------
        X : (rows, sizes[0]) array

        Returns
        -------
        (rows, sizes[-1]) array of the model's dtype

        Raises
        ------
        ValueError, TypeError
            If X has another shape or does not hold real numbers.
        """
        X = validation.features(X, self.sizes[0], self.dtype)
        space = self._space
        out = np.empty((len(X), self.sizes[-1]), self.dtype)
        with self._lock:
            space.reserve(len(X))
            kernels.predict(space.plan, self._params, space.buffer, X, out)
        return out

    def forward(self, X: Any) -> np.ndarray:
        """`predict`, under the name that goes with `backward`."""
        return self.predict(X)

    def loss(self, X: Any, y: Any) -> float:
        """The mean loss over the rows of X, by the formula in `fastmlp.losses.LOSSES`; arguments and errors as for `fit`."""
        X, y, code = self._data(X, y)
        with self._lock:
            self._prepare(None, code, len(X), y.shape[1])
            return kernels.evaluate_loss(self._space.plan, self._params, self._space.buffer, X, y)

    def backward(self, X: Any, y: Any) -> Gradients:
        """The mean loss over the rows of X and its gradients; arguments and errors as for `fit`.

        Examples
        --------
        >>> import numpy as np, fastmlp
        >>> model = fastmlp.Model.from_weights([np.array([[2.0]])], [np.array([0.0])], loss="mse")
        >>> model.backward([[3.0]], [[5.0]])
        Gradients(loss=1.0, weights=[array([[6.]])], biases=[array([[2.]])], inputs=array([[4.]]))
        """
        loss, flat, inputs = self._gradient(X, y, True)
        return Gradients(loss, *self._views(flat), inputs)

    def gradient(self, X: Any, y: Any) -> tuple[float, np.ndarray]:
        """The mean loss over the rows of X and its gradient as one vector, laid out as `params`.

        For L-BFGS, evolution, or a sum over machines before `apply_gradient`. Arguments and errors as for `fit`.
        """
        return self._gradient(X, y, False)[:2]

    def _gradient(self, X: Any, y: Any, inputs: bool) -> tuple[float, np.ndarray, np.ndarray]:
        X, y, code = self._data(X, y)
        flat = np.empty_like(self._params)
        dx = np.empty(X.shape if inputs else (1, 1), self.dtype)
        with self._lock:
            hyper = self._prepare(None, code, len(X), y.shape[1])
            buffer = self._space.buffer
            loss = kernels.evaluate_gradient(
                self._space.plan, hyper, self._params, buffer, X, y, NO_STATE, flat, dx, int(inputs)
            )
        return loss, flat, dx

    def apply_gradient(self, g: Any, lr: float | None = None, optimizer: Optimizer | None = None) -> None:
        """One update from a gradient laid out as `params`, as `fit` would make it.

        Raises
        ------
        ValueError, TypeError
            If g has another shape or does not hold real numbers, or as for `fit`.
        """
        gradient = validation.numbers("g", g)
        if gradient.shape != self._params.shape:
            raise ValueError(f"g must have shape {self._params.shape}, got {gradient.shape}")
        chosen = self._choose(lr, optimizer)
        with self._lock:
            hyper = self._prepare(chosen, LOSSES[self.loss_name].code, 1, 1)
            self._steps += 1
            start = self._space.plan[at.GRADIENT_AT]
            own = self._space.buffer[start : start + self._space.padded]
            own[: gradient.size] = gradient
            kernels.apply_gradient(self._space.plan, hyper, self._store, self._moments, own, self._steps)

    def _data(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray, int]:
        """X and y as the kernels read them, and the loss's code for such a y."""
        X = validation.features(X, self.sizes[0], self.dtype)
        y = validation.targets(y, len(X), self.sizes[-1], self.loss_name, self.dtype)
        code = LOSSES[self.loss_name].code
        if code == CROSS_ENTROPY and y.shape[1] == self.sizes[-1]:
            code = CROSS_ENTROPY_ROWS
        return X, y, code

    @staticmethod
    def _choose(lr: float | None, optimizer: Optimizer | None) -> Optimizer:
        if optimizer is None:
            # Made once: checking its settings takes longer than a small net's step.
            return _sgd(lr) if type(lr) is float else SGD() if lr is None else SGD(lr)
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be a fastmlp.SGD or fastmlp.Adam, got {optimizer!r}")
        if lr is not None:
            raise ValueError(f"lr={lr!r} must not be given together with optimizer={optimizer!r}, which has its own")
        return optimizer

    def _prepare(
        self, optimizer: Optimizer | None, code: int, rows: int, targets: int, narrow: bool = False, shares: int = 1
    ) -> np.ndarray:
        """Set the plan, the work buffer and the optimiser's memory up for a call; its settings, for the kernels."""
        self._space.reserve(rows, narrow, shares)
        self._space.plan[at.LOSS] = code
        self._space.plan[at.TARGETS] = targets
        if optimizer is None:
            return np.zeros(HYPER + self._space.partials)
        self._space.plan[at.OPTIMIZER] = optimizer.code
        if type(optimizer) is not self._optimizer:
            self._optimizer, self._steps = type(optimizer), 0
            self._moments = np.zeros(1, self.dtype)
        if len(self._moments) < optimizer.moments * self._space.padded:
            self._moments = aligned(optimizer.moments * self._space.padded, self.dtype)
        if optimizer is not self._hyper_of or len(self._hyper) < HYPER + self._space.partials:
            self._hyper_of, self._hyper = optimizer, optimizer.hyper(self._space.partials)
        return self._hyper

    def summary(self) -> str:
        """A table of the layers: shape, activation, parameters, bytes."""
        rows = [("layer", "shape", "activation", "parameters", "bytes")]
        for index, (fan_in, fan_out) in enumerate(pairwise(self.sizes)):
            parameters = (fan_in + 1) * fan_out
            size = parameters * self.dtype.itemsize
            rows.append((str(index + 1), f"{fan_in} -> {fan_out}", self.activations[index], f"{parameters:,}", f"{size:,}"))
        rows.append(("total", "", "", f"{self._params.size:,}", f"{self._params.nbytes:,}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for row in rows:
            cells = [cell.rjust(w) if i > 2 else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)

    def __repr__(self) -> str:
        layers = "-".join(map(str, self.sizes))
        names = ", ".join(self.activations)
        return f"Model({layers}, {names}; {self.loss_name}, {self.dtype}, {self._params.size:,} parameters)"
