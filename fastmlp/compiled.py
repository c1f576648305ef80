"""CompiledModel: a trained net that users' own compiled code calls."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp import checks
from fastmlp.engine.workspace import Parts, Workspace, layers_of, roomy
from fastmlp.kernels.layer.activation import takes_input
from fastmlp.kernels.machine.callback import Callback
from fastmlp.kernels.machine.interpreted import INTERPRETED
from fastmlp.kernels.net import rows as kernels
from fastmlp.kernels.net.numba_type import TYPES
from fastmlp.kernels.net.plan import Table

if TYPE_CHECKING:
    from fastmlp.model import Model
    from fastmlp.network import Network
    from fastmlp.types import ArrayLike

__docformat__ = "numpy"


def _plan(network: Network) -> np.ndarray:
    """A plan for one row at a time, whose work buffer holds the layers' values and gradients."""
    plan = Workspace(network).layout.plan
    parts = Parts()
    for layer in layers_of(plan):
        layer.a_at = parts.place(layer.fan_out)
        layer.z_at = parts.place(layer.fan_out) if takes_input(layer.activation) else layer.a_at
        layer.d_at = parts.place(layer.fan_out)
    Table(plan).size = parts.end
    return plan


def _frozen(network: Network, params: np.ndarray) -> CompiledModel:
    """What was pickled, with a copy of its parameters."""
    own = roomy(len(params), network.dtype)
    own[: len(params)] = params
    return CompiledModel(network, own)


def _live(owner: Model) -> CompiledModel:
    """What was pickled together with its model."""
    return owner.compiled(live=True)


class CompiledModel:
    """A net as a value that Numba knows: ``f(x, out)`` within ``@njit`` functions; `Model.compiled` makes it.

    Within compiled code it is an argument or a global. A call takes some nanoseconds beyond the net's arithmetic, allocates
    nothing, takes no lock, and runs in as many threads at once as the caller has. Nets of one dtype have one type, whatever
    their shape: none of them compiles the caller anew. A row's outputs are the same whatever rows are beside it, and agree with
    `Model.predict` to rounding: sums over a row are taken in another order than sums over a batch.

    ``f(x, out)``
        Writes the outputs: x (inputs,) and out (outputs,), or for several rows x (rows, inputs) and out (rows, outputs).
    ``f.pull(x, g, dx)``
        Writes dx = (d out / d x)^T g, the vector-Jacobian product: dx has x's shape, g that of the outputs.
    ``f.jacobian(x, J)``
        Writes J[k, j] = d out[k] / d x[j]: J (outputs, inputs), or (rows, outputs, inputs).

    Arrays are C-contiguous and of the net's dtype; those that are written to must not overlap the others. In compiled code
    another kind of array is a typing error, another shape or an overlap a ValueError; nothing has been written then.

    Parameters
    ----------
    network : Network
        The model's.
    params : (n,) array
        The parameters, laid out as `Model.params`, from a cache line on and with room for 16 more behind them.
    owner : Model or None
        Whose parameters these are, if they are not a copy.

    Attributes
    ----------
    network : Network
        What it is, apart from its parameters.
    sizes : tuple of int
    inputs, outputs : int
        The first and the last of `sizes`; in compiled code too.
    dtype : numpy.dtype
    live : bool
        Whether it reads the parameters of the model it was made from, or a copy.
    address : int
        That of a C function ``void (*)(const T *x, T *out)`` for one row, T being float or double: for ctypes,
        `scipy.LowLevelCallable`, and hosts in C, C++ or Fortran. It may be called without Python's lock, by several threads at
        once. It is valid as long as this object lives: who calls it keeps a reference. Where a call fails (no memory for a
        large net, or a `CustomActivation` that raises), `out` stays as it was: C is told nothing.

    Notes
    -----
    What a call computes in lies on the stack, up to 64 kB: enough for some 4000 units in float64. A larger net takes memory
    from the system for a call, and raises MemoryError if there is none.

    `Model.compiled` compiles, or loads from the cache, what ``f(x, out)`` runs. What ``pull`` and ``jacobian`` run, their first
    calls do.

    A caller with ``@njit(cache=True)`` is cached if the net is its argument. As a global the net is an address that means
    nothing in another process: Numba says so, and compiles the caller in each. A net that compiled code has met as a global
    stays in memory.

    An error within ``prange`` is a SystemError that names the ValueError as its cause: Numba's way.

    Examples
    --------
    >>> import numba, numpy as np, fastmlp
    >>> model = fastmlp.Model.from_weights([np.array([[0.5], [0.25]])], [np.array([1.0])])
    >>> f = model.compiled()
    >>> @numba.njit
    ... def simulate(f, x, steps):
    ...     out = np.empty(1)
    ...     for _ in range(steps):
    ...         f(x, out)
    ...         x[0], x[1] = x[1], out[0]
    ...     return x
    >>> simulate(f, np.array([0.0, 1.0]), 3)
    array([1.8125  , 2.078125])
    >>> f([[0.0, 1.0], [1.0, 1.25]])
    array([[1.25  ],
           [1.8125]])
    """

    def __init__(self, network: Network, params: np.ndarray, owner: Model | None = None) -> None:
        self.network, self._params, self._owner = network, params, owner
        self._plan = _plan(network)
        inputs, outputs = network.sizes[0], network.sizes[-1]
        self._handle = np.zeros(kernels.Handle.words, np.int64)
        self._at = self._handle.ctypes.data
        told = kernels.Handle(self._handle)
        told.inputs, told.outputs = inputs, outputs
        told.plan, told.words = self._plan.ctypes.data, len(self._plan)
        told.params, told.numbers = params.ctypes.data, len(params)
        if INTERPRETED:
            return
        # A call finds all kernels, so that users' compiled code waits for none.
        kernels.call_forward(self._handle, np.zeros((1, inputs), network.dtype), np.empty((1, outputs), network.dtype))
        told.forward = kernels.forward_at(self._numba_type_.dtype)

    @property
    def _numba_type_(self) -> Any:
        return TYPES[self.network.dtype.name]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Widths, from the inputs to the outputs."""
        return self.network.sizes

    @property
    def inputs(self) -> int:
        """The number of inputs."""
        return self.network.sizes[0]

    @property
    def outputs(self) -> int:
        """The number of outputs."""
        return self.network.sizes[-1]

    @property
    def dtype(self) -> np.dtype:
        """The parameters' and all arrays' dtype."""
        return self.network.dtype

    @property
    def live(self) -> bool:
        """Whether it reads the parameters of the model it was made from."""
        return self._owner is not None

    @cached_property
    def _callback(self) -> Callback:
        told, size = kernels.Handle(self._handle), self.dtype.itemsize
        return Callback(told.forward, (self._at, self._handle.nbytes), told.inputs * size, told.outputs * size)

    @property
    def address(self) -> int:
        """A C function's, ``void (*)(const T *x, T *out)`` for one row; valid as long as this object lives.

        Raises
        ------
        RuntimeError
            With ``NUMBA_DISABLE_JIT=1``: there is no machine code then.

        Examples
        --------
        >>> import ctypes, numpy as np, fastmlp
        >>> f = fastmlp.Model.from_weights([[[2.0]]], [[1.0]]).compiled()
        >>> call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(f.address)
        >>> x, out = np.array([3.0]), np.empty(1)
        >>> call(x.ctypes.data, out.ctypes.data)
        >>> out
        array([7.])
        """
        if INTERPRETED:
            raise RuntimeError("address needs compiled code, which NUMBA_DISABLE_JIT=1 switches off")
        return self._callback.address

    def __call__(self, x: ArrayLike, out: np.ndarray | None = None) -> np.ndarray:
        """The output activations, from Python.

        Parameters
        ----------
        x : (inputs,) or (rows, inputs) array
        out : (outputs,) or (rows, outputs) array or None
            The array to write to: C-contiguous, of the net's dtype, apart from x. None: a new one.

        Returns
        -------
        (outputs,) or (rows, outputs) array
            `out` if it was given.

        Raises
        ------
        ValueError, TypeError
            If x has another shape or does not hold real numbers, or `out` is not as described.
        """
        X, lead = self._rows("x", x, self.inputs)
        out, to = self._output("out", out, (*lead, self.outputs), x=X)
        kernels.call_forward(self._handle, X, to.reshape(len(X), -1))
        return out

    def pull(self, x: ArrayLike, g: ArrayLike, dx: np.ndarray | None = None) -> np.ndarray:
        """The vector-Jacobian product dx = (d out / d x)^T g, from Python.

        Parameters
        ----------
        x : (inputs,) or (rows, inputs) array
        g : (outputs,) or (rows, outputs) array
            The gradient of some number by the outputs; a row for each of x.
        dx : array of x's shape, or None
            The array to write to, as `out` for a call.

        Returns
        -------
        array of x's shape
            The gradient of that number by x; `dx` if it was given.

        Raises
        ------
        ValueError, TypeError
            As for a call.

        Examples
        --------
        >>> import fastmlp
        >>> f = fastmlp.Model.from_weights([[[2.0], [3.0]]], [[1.0]]).compiled()
        >>> f.pull([1.0, 1.0], [10.0])
        array([20., 30.])
        """
        X, lead = self._rows("x", x, self.inputs)
        G, led = self._rows("g", g, self.outputs)
        if lead != led:
            raise ValueError(f"g must have a row for each of x's, got shape {np.shape(g)} for x {np.shape(x)}")
        dx, to = self._output("dx", dx, (*lead, self.inputs), x=X, g=G)
        kernels.call_pull(self._handle, X, G, to.reshape(X.shape))
        return dx

    def jacobian(self, x: ArrayLike, J: np.ndarray | None = None) -> np.ndarray:
        """The derivatives J[k, j] = d out[k] / d x[j], from Python.

        Parameters
        ----------
        x : (inputs,) or (rows, inputs) array
        J : (outputs, inputs) or (rows, outputs, inputs) array or None
            The array to write to, as `out` for a call.

        Returns
        -------
        (outputs, inputs) or (rows, outputs, inputs) array
            `J` if it was given.

        Raises
        ------
        ValueError, TypeError
            As for a call.

        Examples
        --------
        >>> import fastmlp
        >>> f = fastmlp.Model.from_weights([[[2.0], [3.0]]], [[1.0]]).compiled()
        >>> f.jacobian([1.0, 1.0])
        array([[2., 3.]])
        """
        X, lead = self._rows("x", x, self.inputs)
        J, to = self._output("J", J, (*lead, self.outputs, self.inputs), x=X)
        kernels.call_jacobian(self._handle, X, to.reshape(len(X), self.outputs, self.inputs))
        return J

    def _rows(self, name: str, value: Any, columns: int) -> tuple[np.ndarray, tuple[int, ...]]:
        """An argument as a (rows, columns) array that the kernels read, and what leads its shape."""
        array = checks.numbers(name, value)
        if array.ndim not in (1, 2) or array.shape[-1] != columns:
            raise ValueError(f"{name} must have shape ({columns},) or (rows, {columns}), got {array.shape}")
        return checks.contiguous(array.reshape(-1, columns), self.dtype), array.shape[:-1]

    def _output(self, name: str, out: Any, shape: tuple[int, ...], **read: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The array to write to, as the user has it and as the kernels do."""
        if out is None:
            out = np.empty(shape, self.dtype)
            return out, out
        return out, checks.output(name, out, shape, self._params, **read)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._owner is not None:
            return _live, (self._owner,)
        return _frozen, (self.network, self._params[: self.network.parameters].copy())

    def __repr__(self) -> str:
        layers, names = "-".join(map(str, self.sizes)), ", ".join(map(str, self.network.activations))
        return f"CompiledModel({layers}, {names}; {self.dtype}, {'live' if self.live else 'frozen'})"
