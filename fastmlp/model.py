"""Model: a multilayer perceptron, as users see it. It validates; its `Engine` owns the buffers and calls the kernels."""

import os
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from fastmlp import arguments, checks, display
from fastmlp.activations import CustomActivation, init_of
from fastmlp.compiled import CompiledModel
from fastmlp.engine.engine import Engine
from fastmlp.files import description, models
from fastmlp.initialisation import INITS, initialise
from fastmlp.losses import CustomLoss, RowLoss
from fastmlp.network import Network
from fastmlp.optimizers import KIND_NAMES, KINDS
from fastmlp.training.fit import Trainable
from fastmlp.training.steps import Gradients as Gradients  # pickles look for it here
from fastmlp.types import Activations, ArrayLike, DType, InitName, LossName, Rng


class LayerOutput(NamedTuple):
    """One layer's part of what `Model.layer_outputs` returns.

    Attributes
    ----------
    z : (rows, width) array
        x @ W + b, with x the outputs of the layer before.
    a : (rows, width) array
        The outputs f(z).
    """

    z: np.ndarray
    a: np.ndarray


class Model(Trainable):
    """A multilayer perceptron: dense layers a = f(x @ W + b), trained by gradient descent.

    Parameters
    ----------
    sizes : sequence of int
        Widths, from the inputs to the outputs; at least two.
    activations : str, CustomActivation or sequence of these
        One for all hidden layers, with the output's set by the loss (sigmoid for ``bce``, softmax for ``cross_entropy``, else
        identity), or one for each layer. Names: `fastmlp.activations.ACTIVATIONS`.
    loss : str, CustomLoss or RowLoss
        A name from `fastmlp.losses.LOSSES`, or one of your own: of single outputs, or of whole rows.
    dtype : {"float64", "float32"}
    rng : int, numpy.random.Generator or None
        Draws the initial weights.
    init : {"auto", "he", "glorot", "lecun", "small"}
        ``he``: N(0, 2 / fan_in) (He et al., 2015). ``lecun``: N(0, 1 / fan_in) (LeCun et al., 1998). ``glorot``: uniform
        within sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010). ``auto``: the one that suits each layer's activation.
        ``small``: 0.01 N(0, 1). Biases are 0.
    dropout : float or sequence of float
        The share p of a hidden layer's outputs, in [0, 1), that `fit` and `step` set to 0, drawn anew for each row and step;
        the others are divided by 1 - p (Srivastava et al., 2014). One share, or one for each hidden layer.

    Attributes
    ----------
    network : Network
        What it is, apart from its parameters: its sizes, activations, loss, dtype and dropout, in one frozen object.
    sizes, activations, dropout : tuple
    loss_name : str
    dtype : numpy.dtype
    params : (n,) array
        All parameters, W1 b1 W2 b2 ..., in one vector; may be written to.
    weights, biases : list of arrays
        Views of `params`, (fan_in, fan_out) and (1, fan_out); may be written to.
    average : (n,) array or None
        A copy of the running mean of `params` that an optimiser with ``ema`` keeps.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of the wrong kind; the message names it.
    MemoryError
        If there is no room for the parameters.

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
        activations: Activations = "relu",
        loss: LossName | CustomLoss | RowLoss = "mse",
        dtype: DType = "float64",
        rng: Rng = None,
        init: InitName = "auto",
        dropout: float | Sequence[float] = 0.0,
    ) -> None:
        checks.choice("init", init, INITS)
        generator = checks.generator(rng)
        self._start(Network.of(sizes, activations, loss, dtype, dropout))
        for weights, activation in zip(self.weights, self.activations, strict=True):
            initialise(weights, init_of(activation) if init == "auto" else init, generator)

    @classmethod
    def from_weights(
        cls,
        weights: Sequence[ArrayLike],
        biases: Sequence[ArrayLike],
        activations: Activations = "relu",
        loss: LossName | CustomLoss | RowLoss = "mse",
        dtype: DType | None = None,
        dropout: float | Sequence[float] = 0.0,
    ) -> "Model":
        """A model that starts from copies of the arrays given.

        Parameters
        ----------
        weights : sequence of (fan_in, fan_out) arrays
        biases : sequence of (fan_out,) or (1, fan_out) arrays
        activations, loss, dropout : as for `Model`
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
            dtype = checks.dtype(dtype)
        matrices, vectors = arguments.parameters(weights, biases, dtype)
        model = cls.__new__(cls)
        sizes = len(matrices[0]), *(matrix.shape[1] for matrix in matrices)
        model._start(Network.of(sizes, activations, loss, matrices[0].dtype, dropout))
        for views, arrays in ((model.weights, matrices), (model.biases, vectors)):
            for view, array in zip(views, arrays, strict=True):
                view[...] = array
        return model

    def _start(self, network: Network) -> None:
        self.network, self._code = network, network.loss_code()
        try:
            self._engine = Engine(network)
        except MemoryError as error:
            raise MemoryError(f"sizes={list(network.sizes)} make a model that is larger than the memory: {error}") from None

    # By name: pages of the API show what a class itself has.
    fit, fit_batches = Trainable.fit, Trainable.fit_batches
    loss, backward, gradient = Trainable.loss, Trainable.backward, Trainable.gradient
    step, apply_gradient = Trainable.step, Trainable.apply_gradient
    copy, set_params_from = Trainable.copy, Trainable.set_params_from

    def __getstate__(self) -> dict[str, Any]:
        """Dicts, strings, numbers and arrays, besides what users have written themselves: what `skops` asks for."""
        state = {name: value for name, value in vars(self).items() if name != "_code"}
        saved = self._engine.save()
        kind = saved["kind"]
        state |= {"network": self.network.parts(), "_engine": saved | {"kind": KIND_NAMES.get(kind, kind)}}
        if self._followed is not None:
            state["_followed"] = tuple(map(description.held, self._followed))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        if isinstance(state.get("network"), dict):
            state["network"] = Network.from_parts(state["network"])
        elif "network" not in state:  # of fastmlp before it had a `Network`: the parts themselves
            name, known = state.pop("loss_name"), state.pop("_loss")
            sizes, activations, dtype, dropout = (state.pop(part) for part in ("sizes", "activations", "dtype", "dropout"))
            state["network"] = Network(sizes, activations, known if isinstance(known, CustomLoss) else name, dtype, dropout)
        saved = dict(state.pop("_engine"))
        saved["kind"] = KINDS.get(saved["kind"], saved["kind"])
        if state.get("_followed") is not None:
            schedule, course = map(description.given_back, state["_followed"])
            state["_followed"] = schedule, description.went_on(schedule, course)
        vars(self).update(state)
        self._start(self.network)
        self._engine.restore(saved)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Widths, from the inputs to the outputs."""
        return self.network.sizes

    @property
    def activations(self) -> tuple[str | CustomActivation, ...]:
        """Each layer's activation."""
        return self.network.activations

    @property
    def loss_name(self) -> str:
        """The loss's name."""
        return self.network.loss_name

    @property
    def dtype(self) -> np.dtype:
        """The parameters' dtype."""
        return self.network.dtype

    @property
    def dropout(self) -> tuple[float, ...]:
        """Each hidden layer's share of outputs that training sets to 0."""
        return self.network.dropout

    @property
    def params(self) -> np.ndarray:
        """All parameters, W1 b1 W2 b2 ..., as one (n,) vector that may be written to."""
        return self._engine.params

    @property
    def weights(self) -> list[np.ndarray]:
        """Each layer's (fan_in, fan_out) weights, views of `params`."""
        return self._engine.views(self._engine.params)[0]

    @property
    def biases(self) -> list[np.ndarray]:
        """Each layer's (1, fan_out) biases, views of `params`."""
        return self._engine.views(self._engine.params)[1]

    @property
    def average(self) -> np.ndarray | None:
        """A copy of the running mean of `params` that an optimiser with ``ema`` keeps, laid out as `params`; else None.

        Examples
        --------
        >>> import fastmlp
        >>> model = fastmlp.Model([1, 1], rng=0)
        >>> history = model.fit([[1.0]], [[2.0]], epochs=100, optimizer=fastmlp.SGD(0.1, ema=0.9))
        >>> model.params[...] = model.average
        """
        return self._engine.average()

    def predict(self, X: ArrayLike, out: np.ndarray | None = None) -> np.ndarray:
        """The output activations.

        Parameters
        ----------
        X : (rows, sizes[0]) array
        out : (rows, sizes[-1]) array or None
            The array to write to: C-contiguous, of the model's dtype, and apart from X and `params`. None: a new one.

        Returns
        -------
        (rows, sizes[-1]) array of the model's dtype
            `out` if it was given.

        Raises
        ------
        ValueError, TypeError
            If X has another shape or does not hold real numbers, or `out` is not as described.

        Examples
        --------
        >>> import numpy as np, fastmlp
        >>> model = fastmlp.Model.from_weights([np.array([[2.0], [3.0]])], [np.array([1.0])])
        >>> out = np.empty((1, 1))
        >>> model.predict([[10.0, 100.0]], out=out) is out
        True
        """
        network = self.network
        checked = checks.features(X, network.sizes[0], network.dtype)
        shape = len(checked), network.sizes[-1]
        if out is None:
            out = to = np.empty(shape, network.dtype)
        else:
            to = checks.output("out", out, shape, self._engine.params, X=X)
        self._engine.predict(checked, to)
        return out

    def forward(self, X: ArrayLike, out: np.ndarray | None = None) -> np.ndarray:
        """The same as `predict`, under the name that goes with `backward`.

        Examples
        --------
        >>> import fastmlp
        >>> fastmlp.Model.from_weights([[[2.0], [3.0]]], [[1.0]]).forward([[10.0, 100.0]])
        array([[321.]])
        """
        return self.predict(X, out)

    def layer_outputs(self, X: ArrayLike) -> list[LayerOutput]:
        """Each layer's z = x @ W + b and its outputs a = f(z), for teaching, probing and plots.

        Without dropout, as in `predict`, which returns the last layer's a, bit for bit.

        Parameters
        ----------
        X : (rows, sizes[0]) array

        Returns
        -------
        list of LayerOutput
            One a layer, from the first hidden one to the outputs: z and a of the model's dtype, each (rows, width).

        Raises
        ------
        ValueError, TypeError
            If X has another shape or does not hold real numbers.

        Examples
        --------
        >>> import numpy as np, fastmlp
        >>> model = fastmlp.Model.from_weights([[[1.0, -1.0]], [[2.0], [3.0]]], [[0.0, 0.0], [1.0]], "relu")
        >>> hidden, output = model.layer_outputs([[4.0]])
        >>> hidden
        LayerOutput(z=array([[ 4., -4.]]), a=array([[4., 0.]]))
        >>> output.a
        array([[9.]])
        """
        X = checks.features(X, self.sizes[0], self.dtype)
        return [LayerOutput(z, a) for z, a in self._engine.layer_outputs(X)]

    def compiled(self, live: bool = False) -> CompiledModel:
        """The net as a value that Numba knows, for users' own ``@njit`` functions and for C.

        Parameters
        ----------
        live : bool
            Whether it reads this model's own parameters, which training changes, or a copy of what they are now. Who reads them
            while another thread trains may get outputs of a step half done.

        Returns
        -------
        CompiledModel

        Examples
        --------
        >>> import numba, numpy as np, fastmlp
        >>> f = fastmlp.Model.from_weights([[[2.0]]], [[1.0]]).compiled()
        >>> @numba.njit
        ... def iterate(f, x, times):
        ...     out = np.empty_like(x)
        ...     for _ in range(times):
        ...         f(x, out)
        ...         x[:] = out
        ...     return x[0]
        >>> iterate(f, np.array([1.0]), 10)
        2047.0
        """
        live = checks.flag("live", live)
        return CompiledModel(self.network, self._engine.parameters(live), self if live else None)

    def save(self, path: str | os.PathLike[str], *, optimizer: bool = False) -> None:
        """Write the model to a file, from which `fastmlp.load` makes it again, to the last bit.

        In the safetensors layout, under the names that PyTorch has for an ``nn.Sequential`` of Linear, activation, Linear and
        so on: ``0.weight`` (fan_out, fan_in), ``0.bias`` (fan_out,), ``2.weight``. `fastmlp/files/FORMAT.md` has all of it.

        Parameters
        ----------
        path : str or os.PathLike
            Its folder must be there. A file that is there is replaced when all is written, and else stays as it is.
        optimizer : bool
            Whether to write what the optimiser remembers too, with which a next `fit` goes on as this model's would.

        Raises
        ------
        TypeError
            If an argument is of the wrong kind.
        OSError
            If the file cannot be written.

        Notes
        -----
        Of a `CustomActivation`, `CustomLoss` or `RowLoss` the file has the name: who reads it gives ``custom=[...]``.

        Examples
        --------
        >>> import fastmlp, tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.safetensors"
        >>> fastmlp.Model([784, 256, 10], rng=0, dtype="float32").save(path)
        >>> path.stat().st_size - 4 * (784 * 256 + 256 + 256 * 10 + 10) < 1000
        True
        """
        optimizer = checks.flag("optimizer", optimizer)
        saved = self._engine.save()
        memory, tensors = models.memory(saved) if optimizer else (None, {})
        tensors |= models.layers(self.network, saved["params"])
        models.write(path, tensors, "model", network=description.network(self.network), optimizer=memory)

    def trim(self) -> None:
        """Give back the memory that only makes the next calls faster: this model's scratch, and that which all models share.

        A model keeps at most 16 kB of scratch, and all models together 128 MB between calls. The next call takes what it needs.

        Examples
        --------
        >>> import fastmlp
        >>> model = fastmlp.Model([1, 1], rng=0)
        >>> history = model.fit([[1.0]], [2.0])
        >>> model.trim()
        """
        self._engine.trim()

    def summary(self) -> str:
        """A table of the layers: shape, activation, parameters, bytes.

        Examples
        --------
        >>> import fastmlp
        >>> print(fastmlp.Model([2, 3, 1]).summary())
        layer  shape   activation  parameters  bytes
        1      2 -> 3  relu                 9     72
        2      3 -> 1  identity             4     32
        total                              13    104
        """
        return display.table(*self._table())

    def _table(self) -> tuple[list[tuple[str, ...]], list[bool]]:
        rows: list[tuple[str, ...]] = [("layer", "shape", "activation", "parameters", "bytes")]
        for index, (fan_in, fan_out) in enumerate(pairwise(self.sizes)):
            parameters = (fan_in + 1) * fan_out
            size = parameters * self.dtype.itemsize
            rows.append(
                (str(index + 1), f"{fan_in} -> {fan_out}", str(self.activations[index]), f"{parameters:,}", f"{size:,}")
            )
        rows.append(("total", "", "", f"{self.params.size:,}", f"{self.params.nbytes:,}"))
        return rows, [False, False, False, True, True]

    def _repr_html_(self) -> str:
        """What a notebook shows: the summary as a table, below the loss and the dtype."""
        dropout = f", dropout {', '.join(f'{share:g}' for share in self.dropout)}" if any(self.dropout) else ""
        return display.html_table(f"fastmlp.Model: {self.loss_name}, {self.dtype}{dropout}", *self._table())

    def __repr__(self) -> str:
        layers = "-".join(map(str, self.sizes))
        names = ", ".join(map(str, self.activations))
        return f"Model({layers}, {names}; {self.loss_name}, {self.dtype}, {self.params.size:,} parameters)"
