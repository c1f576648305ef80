"""The activations as ONNX's operators of opset 9.

ONNX Runtime's CPU kernels have Relu, Tanh, Sigmoid, Softmax, Exp, Log and arithmetic in both dtypes, but Elu, Selu, LeakyRelu,
Softplus and Erf in float32 only (1.15 to 1.32): float64 has them by other operators, which lose no figures where these would.
"""

from collections.abc import Callable
from typing import Protocol

from fastmlp.kernels.layer.activation import SELU, SELU_LEAST
from fastmlp.kernels.tiles.math import NORMAL_64, NORMAL_HIGH_64

# Where z sigmoid(z) and z P(N(0, 1) < z) end, so that z = -inf makes no NaN: their values here are 0 to the last bit of 1, also
# where a runtime takes sigmoid(-18) for the least that there is, as ONNX Runtime does in float32 (2e-8).
LEAST_32, LEAST_64 = -30.0, -1000.0


class Graph(Protocol):
    """What the forms need: a node and a constant, each of which returns a value's name."""

    single: bool

    def node(self, kind: str, *inputs: str | float, **attributes: float | int) -> str: ...


def _leaky_relu(graph: Graph, z: str) -> str:
    return graph.node("LeakyRelu", z, alpha=0.01) if graph.single else graph.node("Max", z, graph.node("Mul", z, 0.01))


def _expm1_of_negative(graph: Graph, z: str) -> str:
    """exp(min(z, 0)) - 1 as 2 t / (1 - t) with t = tanh(min(z, 0) / 2): t is not above 0, and nothing cancels."""
    t = graph.node("Tanh", graph.node("Mul", graph.node("Min", z, 0.0), 0.5))
    return graph.node("Div", graph.node("Add", t, t), graph.node("Sub", 1.0, t))


def _elu(graph: Graph, z: str) -> str:
    if graph.single:
        return graph.node("Elu", z, alpha=1.0)
    return graph.node("Add", graph.node("Relu", z), _expm1_of_negative(graph, z))


def _selu(graph: Graph, z: str) -> str:
    if graph.single:
        return graph.node("Selu", z, alpha=SELU_LEAST / SELU, gamma=SELU)
    right = graph.node("Mul", graph.node("Relu", z), SELU)
    return graph.node("Add", right, graph.node("Mul", _expm1_of_negative(graph, z), SELU_LEAST))


def _gelu(graph: Graph, z: str) -> str:
    """By Erf; in float64 max(z, 0) - a P(X < -a) for a = |z|, with the kernels' polynomial for P(X < -a)."""
    if graph.single:
        bounded = graph.node("Max", z, LEAST_32)
        erf = graph.node("Erf", graph.node("Mul", bounded, 0.5**0.5))
        return graph.node("Mul", graph.node("Mul", bounded, 0.5), graph.node("Add", erf, 1.0))
    a = graph.node("Min", graph.node("Abs", z), NORMAL_HIGH_64[0])
    t = graph.node("Div", graph.node("Sub", a, 5.0), graph.node("Add", a, 5.0))
    polynomial = graph.node("Add", graph.node("Mul", t, NORMAL_64[0]), NORMAL_64[1])
    for coefficient in NORMAL_64[2:]:
        polynomial = graph.node("Add", graph.node("Mul", polynomial, t), coefficient)
    bell = graph.node("Exp", graph.node("Mul", graph.node("Mul", a, a), -0.5))
    tail = graph.node("Mul", bell, graph.node("Div", polynomial, graph.node("Add", a, 1.0)))
    return graph.node("Sub", graph.node("Relu", z), graph.node("Mul", a, tail))


def _silu(graph: Graph, z: str) -> str:
    """The sigmoid is that of z itself: ONNX Runtime (1.15) makes one node of x sigmoid(x), which has no float64 kernel."""
    return graph.node("Mul", graph.node("Max", z, LEAST_32 if graph.single else LEAST_64), graph.node("Sigmoid", z))


def _softplus(graph: Graph, z: str) -> str:
    """In float64 max(z, 0) + log(1 + e) with e = exp(-|z|): log(u) + (e - (u - 1)) / u, for the rounded u = 1 + e."""
    if graph.single:
        return graph.node("Softplus", z)
    e = graph.node("Exp", graph.node("Neg", graph.node("Abs", z)))
    u = graph.node("Add", e, 1.0)
    rest = graph.node("Div", graph.node("Sub", e, graph.node("Sub", u, 1.0)), u)
    return graph.node("Add", graph.node("Relu", z), graph.node("Add", graph.node("Log", u), rest))


def _mish(graph: Graph, z: str) -> str:
    """As the kernels: tanh(log(1 + e)) = n / (n + 2) with e = exp(min(z, 24)) and n = e (e + 2)."""
    e = graph.node("Exp", graph.node("Min", z, 24.0))
    n = graph.node("Mul", e, graph.node("Add", e, 2.0))
    return graph.node("Mul", graph.node("Max", z, LEAST_64), graph.node("Div", n, graph.node("Add", n, 2.0)))


def _hardswish(graph: Graph, z: str) -> str:
    bounded = graph.node("Max", z, -3.0)
    return graph.node("Mul", bounded, graph.node("Mul", graph.node("Min", graph.node("Add", bounded, 3.0), 6.0), 1 / 6))


def _squareplus(graph: Graph, z: str) -> str:
    """max(z, 0) + 2 / (|z| + sqrt(z**2 + 4)): z of either sign has the same second term, and nothing cancels."""
    root = graph.node("Sqrt", graph.node("Add", graph.node("Mul", z, z), 4.0))
    return graph.node("Add", graph.node("Relu", z), graph.node("Div", 2.0, graph.node("Add", graph.node("Abs", z), root)))


def _by(kind: str, **attributes: int) -> Callable[[Graph, str], str]:
    return lambda graph, z: graph.node(kind, z, **attributes)


FORMS: dict[str, Callable[[Graph, str], str]] = {
    "identity": lambda graph, z: z,
    "relu": _by("Relu"),
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "gelu": _gelu,
    "silu": _silu,
    "softplus": _softplus,
    "sigmoid": _by("Sigmoid"),
    "tanh": _by("Tanh"),
    "softmax": _by("Softmax", axis=1),
    "selu": _selu,
    "mish": _mish,
    "hardswish": _hardswish,
    "squareplus": _squareplus,
    "exp": _by("Exp"),
}
