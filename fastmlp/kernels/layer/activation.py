"""Activations and their derivatives, over flat buffers that are still in the first-level cache.

One kernel each, chosen at run time by a code. The backward kernels multiply a gradient by the derivative in place, taken from
the activation's output; only gelu, silu and users' own need its input z, so layers with these keep it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastmlp.kernels.layer.custom import CUSTOM, call_elementwise
from fastmlp.kernels.machine.jit import Int, Pointer, inlined, kernel
from fastmlp.kernels.tiles.across import largest, total
from fastmlp.kernels.tiles.arithmetic import first_columns, fma, maximum, minimum, where
from fastmlp.kernels.tiles.math import exp, expm1, log1p, normal_cdf, normal_density, sigmoid, tanh
from fastmlp.kernels.tiles.tile import lanes, load, splat, store

Tile = Any

IDENTITY, RELU, LEAKY_RELU, ELU, GELU, SILU, SOFTPLUS, SIGMOID, TANH, SOFTMAX = range(10)


def takes_input(code: int) -> bool:
    """Whether the derivative is taken from z, so that z must be kept beside the output."""
    return code == GELU or code == SILU or code >= CUSTOM


needs_input = inlined(takes_input)  # for the kernels, which must agree with who reserves the room


def _forward(name: str, function: Callable[[Tile], Tile]) -> Callable[..., Any]:
    """The kernel of out[i] = function(z[i]) for i < count; out may be z."""

    def forward(z: Pointer, out: Pointer, count: Int) -> None:
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
    """The kernel of d[i] = function(d[i], a[i]) for i < count: d times the derivative at a (or z)."""

    def backward(a: Pointer, d: Pointer, count: Int) -> None:
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


@inlined
def _relu(z: Tile) -> Tile:
    return maximum(z, 0.0)


@inlined
def _relu_derivative(d: Tile, a: Tile) -> Tile:
    return where(a > 0.0, d, 0.0)


@inlined
def _leaky_relu(z: Tile) -> Tile:
    return where(z > 0.0, z, z * 0.01)


@inlined
def _leaky_relu_derivative(d: Tile, a: Tile) -> Tile:
    return where(a > 0.0, d, d * 0.01)


@inlined
def _elu(z: Tile) -> Tile:
    return where(z > 0.0, z, expm1(minimum(z, 0.0)))


@inlined
def _elu_derivative(d: Tile, a: Tile) -> Tile:
    return where(a > 0.0, d, fma(d, a, d))


@inlined
def _gelu(z: Tile) -> Tile:
    # -inf * 0 would be NaN; the limit is 0, and the smallest normal cdf is reached long before the clamp.
    return maximum(z, -100.0) * normal_cdf(z)


@inlined
def _gelu_derivative(d: Tile, z: Tile) -> Tile:
    bounded = minimum(maximum(z, -100.0), 100.0)
    return d * fma(bounded, normal_density(bounded), normal_cdf(z))


@inlined
def _silu(z: Tile) -> Tile:
    return maximum(z, -1000.0) * sigmoid(z)


@inlined
def _silu_derivative(d: Tile, z: Tile) -> Tile:
    s = sigmoid(z)
    bounded = minimum(maximum(z, -1000.0), 1000.0)
    return d * s * fma(bounded, 1.0 - s, 1.0)


@inlined
def _softplus(z: Tile) -> Tile:
    """max(z, 0) + log(1 + exp(-|z|)), which cannot overflow."""
    return maximum(z, 0.0) + log1p(exp(minimum(z, 0.0 - z)))


@inlined
def _softplus_derivative(d: Tile, a: Tile) -> Tile:
    """sigmoid(z) = 1 - exp(-a)."""
    return d * (0.0 - expm1(0.0 - a))


@inlined
def _sigmoid_derivative(d: Tile, a: Tile) -> Tile:
    return d * (a * (1.0 - a))


@inlined
def _tanh_derivative(d: Tile, a: Tile) -> Tile:
    return d * fma(0.0 - a, a, 1.0)


relu_forward, relu_backward = _forward("relu", _relu), _backward("relu", _relu_derivative)
leaky_relu_forward = _forward("leaky_relu", _leaky_relu)
leaky_relu_backward = _backward("leaky_relu", _leaky_relu_derivative)
elu_forward, elu_backward = _forward("elu", _elu), _backward("elu", _elu_derivative)
gelu_forward, gelu_backward = _forward("gelu", _gelu), _backward("gelu", _gelu_derivative)
silu_forward, silu_backward = _forward("silu", _silu), _backward("silu", _silu_derivative)
softplus_forward, softplus_backward = _forward("softplus", _softplus), _backward("softplus", _softplus_derivative)
sigmoid_forward, sigmoid_backward = _forward("sigmoid", sigmoid), _backward("sigmoid", _sigmoid_derivative)
tanh_forward, tanh_backward = _forward("tanh", tanh), _backward("tanh", _tanh_derivative)


@inlined
def row_maximum(z: Any, columns: int) -> Any:
    """The largest of a row's numbers."""
    high = z[0]
    tallest = splat(z, high, 1, 1)
    for j in range(0, columns, lanes(z)):
        part = load(z + j, 0, 1, 1, columns - j)
        # Invalid lanes read 0, which may exceed the maximum: they take the row's first number instead.
        tallest = maximum(where(first_columns(part, columns - j), part, high), tallest)
    return largest(tallest)


@inlined
def store_powers(z: Any, out: Any, columns: int, high: float) -> Any:
    """out[j] = exp(z[j] - high) for a row; their sum."""
    powers = splat(z, 0.0, 1, 1)
    for j in range(0, columns, lanes(z)):
        part = load(z + j, 0, 1, 1, columns - j)
        power = where(first_columns(part, columns - j), exp(part - high), 0.0)
        store(power, out + j, 0, columns - j)
        powers = powers + power
    return total(powers)


@kernel
def spoil(out: Pointer, count: Int) -> None:
    """out[i] = NaN for i < count: what a code that a dispatcher has forgotten computes."""
    for i in range(0, count, lanes(out)):
        store(splat(out, float("nan"), 1, 1), out + i, 0, count - i)


@kernel
def softmax_forward(z: Pointer, out: Pointer, rows: Int, columns: Int) -> None:
    """out[i, :] = exp(z[i, :] - max) / sum, row by row; out may be z."""
    for i in range(rows):
        row = z + i * columns
        to = out + i * columns
        scale = 1.0 / store_powers(row, to, columns, row_maximum(row, columns))
        for j in range(0, columns, lanes(z)):
            store(load(to + j, 0, 1, 1, columns - j) * scale, to + j, 0, columns - j)


@kernel
def softmax_backward(a: Pointer, d: Pointer, rows: Int, columns: Int) -> None:
    """d[i, :] = a * (d - sum(d * a)): the product with softmax's Jacobian, row by row."""
    step = lanes(a)
    for i in range(rows):
        p = a + i * columns
        g = d + i * columns
        sums = splat(a, 0.0, 1, 1)
        for j in range(0, columns, step):
            sums = fma(load(p + j, 0, 1, 1, columns - j), load(g + j, 0, 1, 1, columns - j), sums)
        mean = total(sums)
        for j in range(0, columns, step):
            part = load(p + j, 0, 1, 1, columns - j) * (load(g + j, 0, 1, 1, columns - j) - mean)
            store(part, g + j, 0, columns - j)


@kernel
def activate(code: Int, z: Pointer, out: Pointer, rows: Int, columns: Int) -> None:
    """out = f(z) for the contiguous (rows, columns) z; out may be z."""
    count = rows * columns
    if code == RELU:
        relu_forward(z, out, count)
    elif code == TANH:
        tanh_forward(z, out, count)
    elif code == SIGMOID:
        sigmoid_forward(z, out, count)
    elif code == LEAKY_RELU:
        leaky_relu_forward(z, out, count)
    elif code == ELU:
        elu_forward(z, out, count)
    elif code == GELU:
        gelu_forward(z, out, count)
    elif code == SILU:
        silu_forward(z, out, count)
    elif code == SOFTPLUS:
        softplus_forward(z, out, count)
    elif code == SOFTMAX:
        softmax_forward(z, out, rows, columns)
    elif code >= CUSTOM:
        call_elementwise(code, 0, z, out, count)
    elif code != IDENTITY:
        spoil(out, count)


@kernel
def multiply_derivative(code: Int, a: Pointer, d: Pointer, rows: Int, columns: Int) -> None:
    """d *= f'(.), with the derivative taken from a = f(z), or from a = z where `needs_input(code)`."""
    count = rows * columns
    if code == RELU:
        relu_backward(a, d, count)
    elif code == TANH:
        tanh_backward(a, d, count)
    elif code == SIGMOID:
        sigmoid_backward(a, d, count)
    elif code == LEAKY_RELU:
        leaky_relu_backward(a, d, count)
    elif code == ELU:
        elu_backward(a, d, count)
    elif code == GELU:
        gelu_backward(a, d, count)
    elif code == SILU:
        silu_backward(a, d, count)
    elif code == SOFTPLUS:
        softplus_backward(a, d, count)
    elif code == SOFTMAX:
        softmax_backward(a, d, rows, columns)
    elif code >= CUSTOM:
        call_elementwise(code, 1, a, d, count)
    elif code != IDENTITY:
        spoil(d, count)
