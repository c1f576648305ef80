"""A dense layer, forward and backward: z = x @ w + b, a = f(z), and the gradients of w, b and x.

For plain arrays, from Python or from compiled code; `fastmlp.kernels.layer.dense` has the same for addresses. Arrays that are
not C-contiguous are a TypingError when the call is compiled.
"""

from __future__ import annotations

from typing import Any

from fastmlp.kernels.layer.activation import COUNT, IDENTITY
from fastmlp.kernels.layer.dense import (
    Affine,
    Outputs,
    Shape,
    layer_backward_biases,
    layer_backward_inputs,
    layer_backward_weights,
    layer_forward,
    transpose,
)
from fastmlp.kernels.layer.product import Rows
from fastmlp.kernels.machine.jit import entry
from fastmlp.kernels.machine.pointer import nothing, pointer, written


@entry
def dense_forward(x: Any, w: Any, b: Any, activation: int, z: Any, out: Any) -> int:
    """out = f(x @ w + b).

    Parameters
    ----------
    x : (rows, fan_in) C-contiguous array, float32 or float64; every other array has its dtype
    w : (fan_in, fan_out) C-contiguous array
    b : (fan_out,) contiguous array
    activation : int
        A code of `fastmlp.kernels`: ``IDENTITY``, ``RELU``, ...
    z : (rows, fan_out) C-contiguous array
        Receives x @ w + b where the activation's derivative needs it (``of_input`` in `fastmlp.activations.ACTIVATIONS`:
        ``GELU``, ``SILU``, ...); otherwise untouched, pass ``out``.
    out : (rows, fan_out) C-contiguous array
        Must not overlap the inputs.

    Returns
    -------
    int
        0, or 1 if the shapes or the code do not fit; nothing is written then.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import kernels
    >>> x, w, b = np.array([[1.0, -2.0]]), np.eye(2), np.zeros(2)
    >>> out = np.empty((1, 2))
    >>> kernels.dense_forward(x, w, b, kernels.RELU, out, out)
    0
    >>> out
    array([[1., 0.]])
    """
    rows, fan_in = x.shape
    fan_out = w.shape[1]
    if w.shape[0] != fan_in or b.size != fan_out or out.shape != (rows, fan_out) or z.shape != (rows, fan_out):
        return 1
    if activation < IDENTITY or activation >= COUNT or fan_in == 0 or fan_out == 0:
        return 1
    first = pointer(x)
    outputs = Outputs(written(z), written(out))
    shape = Shape(rows, fan_in, fan_out, 0, fan_in)
    layer_forward(activation, first, Affine(pointer(w), pointer(b), 0), outputs, nothing(first), shape)
    return 0


@entry
def dense_backward_weights(x: Any, d: Any, dw: Any) -> int:
    """dw = x.T @ d, the gradient of the weights.

    Parameters
    ----------
    x : (rows, fan_in) C-contiguous array, float32 or float64; every other array has its dtype
        The layer's inputs.
    d : (rows, fan_out) C-contiguous array
        The loss's gradient with respect to x @ w + b.
    dw : (fan_in, fan_out) C-contiguous array
        Must not overlap the inputs.

    Returns
    -------
    int
        0, or 1 if the shapes do not fit; nothing is written then.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import kernels
    >>> dw = np.empty((2, 1))
    >>> kernels.dense_backward_weights(np.array([[1.0, 2.0]]), np.array([[3.0]]), dw)
    0
    >>> dw
    array([[3.],
           [6.]])
    """
    rows, fan_in = x.shape
    fan_out = d.shape[1]
    if d.shape[0] != rows or dw.shape != (fan_in, fan_out) or fan_in == 0 or fan_out == 0:
        return 1
    to = written(dw)
    layer_backward_weights(pointer(x), pointer(d), to, nothing(to), 0, Shape(rows, fan_in, fan_out, 0, fan_in), 0)
    return 0


@entry
def dense_backward_biases(d: Any, db: Any) -> int:
    """db = d.sum(axis=0), the gradient of the biases.

    Parameters
    ----------
    d : (rows, fan_out) C-contiguous array, float32 or float64
        The loss's gradient with respect to x @ w + b.
    db : (fan_out,) contiguous array of d's dtype
        Must not overlap d.

    Returns
    -------
    int
        0, or 1 if the shapes do not fit; nothing is written then.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import kernels
    >>> db = np.empty(1)
    >>> kernels.dense_backward_biases(np.array([[1.0], [2.0]]), db)
    0
    >>> db
    array([3.])
    """
    rows, fan_out = d.shape
    if db.size != fan_out or fan_out == 0:
        return 1
    layer_backward_biases(pointer(d), written(db), rows, fan_out, 0)
    return 0


@entry
def dense_backward_inputs(d: Any, w: Any, activation: int, a: Any, scratch: Any, dx: Any) -> int:
    """dx = (d @ w.T) * f'(.), the gradient of what the previous layer's activation f was given.

    Parameters
    ----------
    d : (rows, fan_out) C-contiguous array, float32 or float64; every other array has its dtype
        The loss's gradient with respect to x @ w + b.
    w : (fan_in, fan_out) C-contiguous array
    activation : int
        The previous layer's code; ``IDENTITY`` for the plain gradient of x.
    a : (rows, fan_in) C-contiguous array
        The previous layer's outputs (this layer's x); where its activation is one ``of_input``, its pre-activations z.
    scratch : contiguous array
        At least ``(fan_out + 15) * fan_in`` elements: w's transpose.
    dx : (rows, fan_in) C-contiguous array
        Must not overlap the inputs.

    Returns
    -------
    int
        0, or 1 if the shapes or the code do not fit; nothing is written then.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import kernels
    >>> w, d, dx = np.array([[2.0], [5.0]]), np.array([[3.0]]), np.empty((1, 2))
    >>> kernels.dense_backward_inputs(d, w, kernels.RELU, np.array([[1.0, 0.0]]), np.empty(32), dx)
    0
    >>> dx
    array([[6., 0.]])
    """
    rows, fan_out = d.shape
    fan_in = w.shape[0]
    if w.shape[1] != fan_out or a.shape != (rows, fan_in) or dx.shape != (rows, fan_in):
        return 1
    if scratch.size < (fan_out + 15) * fan_in or activation < IDENTITY or activation >= COUNT:
        return 1
    if fan_in == 0 or fan_out == 0:
        return 1
    transpose(pointer(w), written(scratch), fan_in, fan_out, 0, 1)
    to = written(dx)
    wt = Rows(written(scratch), fan_in)
    shape = Shape(rows, fan_in, fan_out, 0, fan_in)
    layer_backward_inputs(activation, pointer(d), wt, pointer(a), to, nothing(to), shape, 0)
    return 0
