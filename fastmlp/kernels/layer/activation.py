"""Activations and their derivatives, over flat buffers that are still in the first-level cache: a table of entries.

An entry is the functions of a tile and what `_add` is told about them, and stands here alone: the dispatchers below, the names
and formulas that users see (`fastmlp.activations`) and `fastmlp.kernels`' codes are made from the table. Its code is its place
in it, which compiled code and users' programs know: new entries go to the end.

The backward kernels multiply a gradient by the derivative in place, taken from the activation's output a; where that tells too
little, from its input z, so layers with these keep it.

Values are within 1e-14 of their size in float64 and 4e-7 in float32 (in far tails, of 0.1 and 0.3), derivatives within 1e-14
and 1e-6 of the larger of theirs and 1. NaN stays, and infinities go to the limits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from fastmlp.kernels.layer.custom import CUSTOM, call_elementwise
from fastmlp.kernels.layer.softmax import softmax_backward, softmax_forward
from fastmlp.kernels.machine.dispatch import by_code
from fastmlp.kernels.machine.jit import Int, Pointer, inlined, kernel
from fastmlp.kernels.tiles.arithmetic import fabs, fma, maximum, minimum, quotient, root, where
from fastmlp.kernels.tiles.math import exp, expm1, log1p, normal_cdf, normal_density, sigmoid, tanh
from fastmlp.kernels.tiles.tile import lanes, load, store

Tile = Any
Init = Literal["he", "glorot", "lecun"]


@dataclass(frozen=True)
class Activation:
    """What a name stands for.

    Attributes
    ----------
    code : int
        The kernels' number for it.
    formula : str
        a = f(z), element by element; row by row for softmax.
    init : {"he", "glorot", "lecun"}
        The initialisation that keeps the variance of what passes through it.
    source : str
        Where it comes from.
    aliases : tuple of str
        Other names for it.
    of_input : bool
        Whether the derivative is taken from z, so that z must be kept beside the output.
    value : function or None
        f of a tile; None for the identity and for softmax.
    """

    code: int
    formula: str
    init: Init
    source: str
    aliases: tuple[str, ...] = ()
    of_input: bool = False
    value: Any = field(default=None, repr=False, compare=False)
    forward: Any = field(default=None, repr=False, compare=False)
    backward: Any = field(default=None, repr=False, compare=False)


ACTIVATIONS: dict[str, Activation] = {}


def _forward(name: str, function: Callable[[Tile], Tile]) -> Callable[..., Any]:
    """The kernel of out = function(z), element by element; out may be z."""

    def forward(z: Pointer, out: Pointer, rows: Int, columns: Int) -> None:
        count = rows * columns
        step = lanes(z)
        i = 0
        while i + step <= count:
            store(function(load(z + i, 0, 1, 1, None)), out + i, 0, None)
            i += step
        if i < count:
            store(function(load(z + i, 0, 1, 1, count - i)), out + i, 0, count - i)

    forward.__qualname__ = f"{name}_forward"
    return kernel(forward)


def _backward(name: str, function: Callable[[Tile, Tile], Tile]) -> Callable[..., Any]:
    """The kernel of d = function(d, a), element by element: d times the derivative at a (or z)."""

    def backward(a: Pointer, d: Pointer, rows: Int, columns: Int) -> None:
        count = rows * columns
        step = lanes(a)
        i = 0
        while i + step <= count:
            store(function(load(d + i, 0, 1, 1, None), load(a + i, 0, 1, 1, None)), d + i, 0, None)
            i += step
        if i < count:
            left = count - i
            store(function(load(d + i, 0, 1, 1, left), load(a + i, 0, 1, 1, left)), d + i, 0, left)

    backward.__qualname__ = f"{name}_backward"
    return kernel(backward)


def _add(
    name: str,
    value: Callable[[Tile], Tile],
    derivative: Callable[[Tile, Tile], Tile],
    formula: str,
    init: Init,
    source: str,
    aliases: tuple[str, ...] = (),
    of_input: bool = False,
) -> None:
    """An entry: a = value(z), and derivative(d, a) = d * da/dz; derivative(d, z) if `of_input`."""
    kernels = _forward(name, value), _backward(name, derivative)
    ACTIVATIONS[name] = Activation(len(ACTIVATIONS), formula, init, source, aliases, of_input, value, *kernels)


# ---- the entries -----------------------------------------------------------------------------------------------------

ACTIVATIONS["identity"] = Activation(0, "z", "glorot", "-")  # nothing to compute


@inlined
def _relu(z: Tile) -> Tile:
    return maximum(z, 0.0)


@inlined
def _relu_derivative(d: Tile, a: Tile) -> Tile:
    return where(a > 0.0, d, 0.0)


_add("relu", _relu, _relu_derivative, "max(z, 0), NaN kept; derivative 0 at 0", "he", "Nair and Hinton, 2010")


@inlined
def _leaky_relu(z: Tile) -> Tile:
    return where(z > 0.0, z, z * 0.01)


@inlined
def _leaky_relu_derivative(d: Tile, a: Tile) -> Tile:
    return where(a > 0.0, d, d * 0.01)


_add("leaky_relu", _leaky_relu, _leaky_relu_derivative, "z if z > 0 else 0.01 z", "he", "Maas et al., 2013")


@inlined
def _elu(z: Tile) -> Tile:
    return where(z > 0.0, z, expm1(minimum(z, 0.0)))


@inlined
def _elu_derivative(d: Tile, a: Tile) -> Tile:
    return where(a > 0.0, d, fma(d, a, d))


_add("elu", _elu, _elu_derivative, "z if z > 0 else exp(z) - 1", "he", "Clevert et al., 2016")


@inlined
def _gelu(z: Tile) -> Tile:
    # -inf * 0 would be NaN; the limit is 0, and the smallest normal cdf is reached long before the clamp.
    return maximum(z, -100.0) * normal_cdf(z)


@inlined
def _gelu_derivative(d: Tile, z: Tile) -> Tile:
    bounded = minimum(maximum(z, -100.0), 100.0)
    return d * fma(bounded, normal_density(bounded), normal_cdf(z))


_add("gelu", _gelu, _gelu_derivative, "z P(N(0, 1) < z), exact", "he", "Hendrycks and Gimpel, 2016", of_input=True)


@inlined
def _silu(z: Tile) -> Tile:
    return maximum(z, -1000.0) * sigmoid(z)


@inlined
def _silu_derivative(d: Tile, z: Tile) -> Tile:
    s = sigmoid(z)
    bounded = minimum(maximum(z, -1000.0), 1000.0)
    return d * s * fma(bounded, 1.0 - s, 1.0)


_add("silu", _silu, _silu_derivative, "z / (1 + exp(-z))", "he", "Elfwing et al., 2018", ("swish",), of_input=True)


@inlined
def _softplus(z: Tile) -> Tile:
    """max(z, 0) + log(1 + exp(-|z|)), which cannot overflow."""
    return maximum(z, 0.0) + log1p(exp(minimum(z, 0.0 - z)))


@inlined
def _softplus_derivative(d: Tile, a: Tile) -> Tile:
    """sigmoid(z) = 1 - exp(-a)."""
    return d * (0.0 - expm1(0.0 - a))


_add("softplus", _softplus, _softplus_derivative, "log(1 + exp(z))", "he", "Dugas et al., 2001")


@inlined
def _sigmoid_derivative(d: Tile, a: Tile) -> Tile:
    return d * (a * (1.0 - a))


_add("sigmoid", sigmoid, _sigmoid_derivative, "1 / (1 + exp(-z))", "glorot", "-", ("logistic",))


@inlined
def _tanh_derivative(d: Tile, a: Tile) -> Tile:
    return d * fma(0.0 - a, a, 1.0)


_add("tanh", tanh, _tanh_derivative, "tanh(z)", "glorot", "LeCun et al., 1998")

ACTIVATIONS["softmax"] = Activation(
    len(ACTIVATIONS),
    "exp(z) / sum(exp(z)), on the output only",
    "glorot",
    "Bridle, 1990",
    forward=softmax_forward,
    backward=softmax_backward,
)

SELU, SELU_LEAST = 1.0507009873554805, 1.7580993408473766  # its slope above 0, and minus its limit below


@inlined
def _selu(z: Tile) -> Tile:
    return where(z > 0.0, z * SELU, expm1(minimum(z, 0.0)) * SELU_LEAST)


@inlined
def _selu_derivative(d: Tile, a: Tile) -> Tile:
    return d * where(a > 0.0, SELU, a + SELU_LEAST)


_add("selu", _selu, _selu_derivative, "1.0507 (z if z > 0 else 1.6733 (exp(z) - 1))", "lecun", "Klambauer et al., 2017")


@inlined
def _mish(z: Tile) -> Tile:
    """tanh(log(1 + e)) = n / (n + 2) with e = exp(z) and n = e (e + 2), which is 1 to the last bit long before 24."""
    e = exp(minimum(z, 24.0))
    n = e * (e + 2.0)
    return maximum(z, -1000.0) * quotient(n, n + 2.0)  # -inf * 0 would be NaN


@inlined
def _mish_derivative(d: Tile, z: Tile) -> Tile:
    bounded = minimum(maximum(z, -1000.0), 24.0)
    e = exp(bounded)
    n = e * (e + 2.0)
    return d * quotient(n + bounded * 4.0 * quotient(e * (e + 1.0), n + 2.0), n + 2.0)


_add("mish", _mish, _mish_derivative, "z tanh(log(1 + exp(z)))", "he", "Misra, 2019", of_input=True)


@inlined
def _hardswish(z: Tile) -> Tile:
    bounded = maximum(z, -3.0)
    return bounded * (minimum(bounded + 3.0, 6.0) * (1.0 / 6.0))


@inlined
def _hardswish_derivative(d: Tile, z: Tile) -> Tile:
    return d * where(z > 3.0, 1.0, where(z <= -3.0, 0.0, fma(z, 1.0 / 3.0, 0.5)))


_add("hardswish", _hardswish, _hardswish_derivative, "z min(max(z + 3, 0), 6) / 6", "he", "Howard et al., 2019", of_input=True)


@inlined
def _squareplus(z: Tile) -> Tile:
    """(z + sqrt(z**2 + 4)) / 2, for z < 0 as the inverse of its value at -z: that sum cancels."""
    size = fabs(z)
    value = where(size < 1e9, (size + root(fma(size, size, 4.0))) * 0.5, size)
    return where(z > 0.0, value, 1.0 / value)


@inlined
def _squareplus_derivative(d: Tile, a: Tile) -> Tile:
    """a**2 / (a**2 + 1), since z = a - 1 / a."""
    bounded = minimum(a, 1e9)
    square = bounded * bounded
    return d * quotient(square, square + 1.0)


_add("squareplus", _squareplus, _squareplus_derivative, "(z + sqrt(z**2 + 4)) / 2", "he", "Barron, 2021")


@inlined
def _exp_derivative(d: Tile, a: Tile) -> Tile:
    return d * a


_add("exp", exp, _exp_derivative, "exp(z)", "glorot", "-")

# ---- what is made of them --------------------------------------------------------------------------------------------

# Those that other kernels know by name.
IDENTITY, RELU, SIGMOID, TANH, SOFTMAX = (ACTIVATIONS[n].code for n in ("identity", "relu", "sigmoid", "tanh", "softmax"))
COUNT = len(ACTIVATIONS)  # codes of entries are below this
OF_INPUT = sum(1 << one.code for one in ACTIVATIONS.values() if one.of_input)

_forward_of = by_code({one.code: one.forward for one in ACTIVATIONS.values() if one.forward})
_backward_of = by_code({one.code: one.backward for one in ACTIVATIONS.values() if one.backward})


def takes_input(code: int) -> bool:
    """Whether the derivative is taken from z, so that z must be kept beside the output."""
    return code >= CUSTOM or OF_INPUT >> code & 1 != 0


needs_input = inlined(takes_input)  # for the kernels, which must agree with who reserves the room


@kernel
def activate(code: Int, z: Pointer, out: Pointer, rows: Int, columns: Int) -> None:
    """out = f(z) for the contiguous (rows, columns) z; out may be z. Nothing is done for the identity."""
    if code >= CUSTOM:
        call_elementwise(code, 0, z, out, rows * columns)
    elif code != IDENTITY:
        _forward_of(code, z, out, rows, columns)


@kernel
def multiply_derivative(code: Int, a: Pointer, d: Pointer, rows: Int, columns: Int) -> None:
    """d *= f'(.), with the derivative taken from a = f(z), or from a = z where `needs_input(code)`."""
    if code >= CUSTOM:
        call_elementwise(code, 1, a, d, rows * columns)
    elif code != IDENTITY:
        _backward_of(code, a, d, rows, columns)
