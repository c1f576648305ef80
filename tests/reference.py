"""The oracle: what fastmlp must compute, in plain NumPy, float64, one obvious line at a time.

Nothing here is fast and nothing is shared with the library. `notebook` is the program that fastmlp compiles, written out
for its one network; the rest says the same of any depth, activation, loss and optimiser, and is tested against
`notebook` and against central differences in test_reference.py.

Conventions: z = X @ W + b with W of (inputs, outputs) and b of (1, outputs); every gradient is that of the *mean* loss.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
State = Mapping[str, Any]  # what an optimiser remembers between steps; empty before the first
Step = Callable[[Sequence[Array], Sequence[Array], State], tuple[list[Array], State]]

EPSILON = 1e-8  # what the notebook adds inside its logarithms


# ---- the notebook ----------------------------------------------------------------------------------------------------


def notebook_data() -> tuple[Array, Array, Array, Array, Array, Array]:
    """X (4, 2), y (4, 1), W1 (2, 2), b1 (1, 2), W2 (2, 1), b2 (1, 1): the draws of NumPy's legacy generator, seed 2."""
    legacy = np.random.RandomState(2)
    X = legacy.randn(4, 2)
    W1 = 0.01 * legacy.randn(2, 2)
    W2 = 0.01 * legacy.randn(2, 1)
    return X, np.array([[0.0], [1.0], [0.0], [1.0]]), W1, np.zeros((1, 2)), W2, np.zeros((1, 1))


def notebook(epochs: int = 1000) -> tuple[list[Array], list[float]]:
    """Train 2-2-1 (relu, sigmoid) by full-batch gradient descent at rate 0.1; W1 b1 W2 b2 and each epoch's loss."""
    X, y, W1, b1, W2, b2 = notebook_data()
    rows = len(X)
    losses = []
    for _ in range(epochs):
        hidden = X @ W1 + b1
        active = np.maximum(0, hidden)
        guess = 1 / (1 + np.exp(-(active @ W2 + b2)))
        losses.append(float(-np.mean(y * np.log(guess + EPSILON) + (1 - y) * np.log(1 - guess + EPSILON))))

        wrong = guess - y
        gate = (wrong @ W2.T) * (hidden > 0)
        gradients = (
            (X.T @ gate) / rows,
            np.sum(gate, axis=0, keepdims=True) / rows,
            (active.T @ wrong) / rows,
            np.sum(wrong, axis=0, keepdims=True) / rows,
        )
        W1, b1, W2, b2 = (p - 0.1 * g for p, g in zip((W1, b1, W2, b2), gradients, strict=True))
    return [W1, b1, W2, b2], losses


# ---- activations -----------------------------------------------------------------------------------------------------

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _sigmoid(z: Array) -> Array:
    small = np.exp(-np.abs(z))  # in (0, 1]: cannot overflow
    return np.where(z >= 0, 1.0, small) / (1 + small)


def _normal_cdf(z: Array) -> Array:
    return 0.5 * _erfc(-z / math.sqrt(2))  # erfc, not 1 + erf: that cancels in the lower tail


def _normal_pdf(z: Array) -> Array:
    return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _elu(z: Array) -> Array:
    return np.where(z > 0, z, np.expm1(np.minimum(z, 0)))


SELU, ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717  # Klambauer et al. (2017), appendix A1


def _selu(z: Array) -> Array:
    return SELU * np.where(z > 0, z, ALPHA * np.expm1(np.minimum(z, 0)))


def _mish_gate(z: Array) -> Array:
    return np.tanh(np.maximum(0, z) + np.log1p(np.exp(-np.abs(z))))


def _squareplus(z: Array) -> Array:
    s = np.sqrt(z * z + 4)
    return np.where(z > 0, z + s, 4 / (s + np.abs(z))) / 2


def _softmax(z: Array) -> Array:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _no_derivative(z: Array) -> Array:
    raise TypeError("softmax mixes the columns of a row: its derivative is no function of one z (see `pull_back`)")


# name -> (f, its derivative). At a kink the derivative is the one from the left, but for elu, which has no kink.
ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "identity": (lambda z: z, lambda z: np.ones_like(z)),
    "relu": (lambda z: np.maximum(0, z), lambda z: np.where(z > 0, 1.0, 0.0)),  # np.maximum lets NaN through
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1.0, 0.01)),
    "elu": (_elu, lambda z: np.where(z > 0, 1.0, np.exp(np.minimum(z, 0)))),
    "gelu": (lambda z: z * _normal_cdf(z), lambda z: _normal_cdf(z) + z * _normal_pdf(z)),
    "silu": (lambda z: z * _sigmoid(z), lambda z: _sigmoid(z) * (1 + z * _sigmoid(-z))),
    "softplus": (lambda z: np.maximum(0, z) + np.log1p(np.exp(-np.abs(z))), _sigmoid),
    "sigmoid": (_sigmoid, lambda z: _sigmoid(z) * _sigmoid(-z)),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "softmax": (_softmax, _no_derivative),
    "selu": (_selu, lambda z: SELU * np.where(z > 0, 1.0, ALPHA * np.exp(np.minimum(z, 0)))),
    "mish": (lambda z: z * _mish_gate(z), lambda z: _mish_gate(z) + z * (1 - _mish_gate(z) ** 2) * _sigmoid(z)),
    "hardswish": (
        lambda z: z * np.clip(z + 3, 0, 6) / 6,
        lambda z: np.where(z <= -3, 0.0, np.where(z <= 3, z / 3 + 0.5, 1.0)),
    ),
    "squareplus": (_squareplus, lambda z: _squareplus(z) / np.sqrt(z * z + 4)),
    "exp": (np.exp, np.exp),
}


def pull_back(activation: str, z: Array, da: Array) -> Array:
    """The loss's gradient by z, given its gradient `da` by a = f(z)."""
    if activation == "softmax":
        p = _softmax(z)
        return p * (da - np.sum(da * p, axis=1, keepdims=True))
    return da * ACTIVATIONS[activation][1](z)


# ---- losses ----------------------------------------------------------------------------------------------------------


def targets(y: npt.ArrayLike, outputs: int, loss: str) -> Array:
    """y as (rows, outputs): class labels become rows with a single one, a vector becomes a column."""
    y = np.asarray(y)
    if loss == "cross_entropy" and y.ndim == 1:
        return np.eye(outputs)[y]
    return y.reshape(len(y), outputs).astype(np.float64)


def _bce(p: Array, y: Array) -> float:
    return float(-np.mean(y * np.log(p + EPSILON) + (1 - y) * np.log(1 - p + EPSILON)))


def _cross_entropy(z: Array, y: Array) -> float:
    top = z.max(axis=1, keepdims=True)
    log_sum_exp = top + np.log(np.sum(np.exp(z - top), axis=1, keepdims=True))
    return float(np.sum(y * (log_sum_exp - z)) / len(z))


def _huber(p: Array, y: Array) -> float:
    e = np.abs(p - y)
    return float(np.mean(np.where(e <= 1, e * e / 2, e - 0.5)))


# name -> (loss, gradient). mse, mae and huber: both of the outputs p, the gradient by p. bce: both of the sigmoid's p,
# the gradient by z (and as if the logarithms had no epsilon: the notebook's). cross_entropy, poisson: of the logits, by z.
LOSSES: dict[str, tuple[Callable[[Array, Array], float], Callable[[Array, Array], Array]]] = {
    "bce": (_bce, lambda p, y: (p - y) / y.size),
    "cross_entropy": (_cross_entropy, lambda z, y: (_softmax(z) * y.sum(axis=1, keepdims=True) - y) / len(y)),
    "mse": (lambda p, y: float(np.mean((p - y) ** 2)), lambda p, y: 2 * (p - y) / y.size),
    "mae": (lambda p, y: float(np.mean(np.abs(p - y))), lambda p, y: np.sign(p - y) / y.size),
    "huber": (_huber, lambda p, y: np.clip(p - y, -1, 1) / y.size),
    "poisson": (lambda z, y: float(np.mean(np.exp(z) - y * z)), lambda z, y: (np.exp(z) - y) / y.size),
}
# The output activation that a loss asks for; poisson's may be exp too (see test_losses).
OUTPUT = {"bce": "sigmoid", "cross_entropy": "softmax", "poisson": "identity"}


# ---- the passes ------------------------------------------------------------------------------------------------------


class Gradients(NamedTuple):
    loss: float
    weights: list[Array]
    biases: list[Array]  # (1, outputs) each
    inputs: Array


def layers(
    X: npt.ArrayLike, weights: Sequence[npt.ArrayLike], biases: Sequence[npt.ArrayLike], activations: Sequence[str]
) -> tuple[list[Array], list[Array]]:
    """Each layer's z, and the activations with X before them: one longer."""
    zs: list[Array] = []
    active = [np.asarray(X, dtype=np.float64)]
    for W, b, name in zip(weights, biases, activations, strict=True):
        zs.append(active[-1] @ np.asarray(W, dtype=np.float64) + np.asarray(b, dtype=np.float64).reshape(1, -1))
        active.append(ACTIVATIONS[name][0](zs[-1]))
    return zs, active


def forward(
    X: npt.ArrayLike, weights: Sequence[npt.ArrayLike], biases: Sequence[npt.ArrayLike], activations: Sequence[str]
) -> Array:
    """The outputs, (rows, outputs)."""
    return layers(X, weights, biases, activations)[1][-1]


def gradients(
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    weights: Sequence[npt.ArrayLike],
    biases: Sequence[npt.ArrayLike],
    activations: Sequence[str],
    loss: Any,
) -> Gradients:
    """The mean loss and its gradients, by the chain rule from the last layer to the first.

    A loss that has no name is a pair, as in LOSSES, of the outputs p and of any y.
    """
    zs, active = layers(X, weights, biases, activations)
    outputs = active[-1]
    y = targets(y, outputs.shape[1], loss) if isinstance(loss, str) else np.asarray(y)
    value, slope = LOSSES[loss] if isinstance(loss, str) else loss
    if loss in OUTPUT:
        assert activations[-1] == OUTPUT[loss]
        seen = zs[-1] if loss == "cross_entropy" else outputs
        mean, dz = value(seen, y), slope(seen, y)
    else:
        mean, dz = value(outputs, y), pull_back(activations[-1], zs[-1], slope(outputs, y))
    return _chain(mean, dz, zs, active, weights, activations)


def pulled(
    X: npt.ArrayLike,
    G: npt.ArrayLike,
    weights: Sequence[npt.ArrayLike],
    biases: Sequence[npt.ArrayLike],
    activations: Sequence[str],
    logits: bool = False,
) -> Gradients:
    """The gradients of sum(G * outputs), or of sum(G * last z): of any loss whose gradient by these is G."""
    zs, active = layers(X, weights, biases, activations)
    G = np.asarray(G, dtype=np.float64)
    if logits:
        return _chain(float(np.sum(G * zs[-1])), G, zs, active, weights, activations)
    dz = pull_back(activations[-1], zs[-1], G)
    return _chain(float(np.sum(G * active[-1])), dz, zs, active, weights, activations)


def _chain(
    value: float,
    dz: Array,
    zs: list[Array],
    active: list[Array],
    weights: Sequence[npt.ArrayLike],
    activations: Sequence[str],
) -> Gradients:
    """All gradients, from that by the last z."""
    dWs: list[Array] = []
    dbs: list[Array] = []
    for layer in reversed(range(len(weights))):
        dWs.insert(0, active[layer].T @ dz)
        dbs.insert(0, dz.sum(axis=0, keepdims=True))
        da = dz @ np.asarray(weights[layer], dtype=np.float64).T
        if layer > 0:
            dz = pull_back(activations[layer - 1], zs[layer - 1], da)
    return Gradients(value, dWs, dbs, da)


def flat(weights: Sequence[npt.ArrayLike], biases: Sequence[npt.ArrayLike]) -> Array:
    """W1 b1 W2 b2 ... in one vector."""
    pairs = [np.ravel(array) for pair in zip(weights, biases, strict=True) for array in pair]
    return np.concatenate(pairs).astype(np.float64)


# ---- optimisers ------------------------------------------------------------------------------------------------------


def sgd_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    state: State,
    lr: float = 0.01,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> tuple[list[Array], State]:
    """PyTorch's form: the velocity gathers plain gradients, and the rate multiplies the velocity."""
    velocities = state.get("v", [np.zeros_like(p) for p in params])
    new, kept = [], []
    for p, g, v in zip(params, grads, velocities, strict=True):
        g = g + weight_decay * p
        v = momentum * v + g
        new.append(p - lr * (g + momentum * v if nesterov else v))
        kept.append(v)
    return new, {"v": kept}


def adam_step(
    params: Sequence[Array],
    grads: Sequence[Array],
    state: State,
    lr: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
) -> tuple[list[Array], State]:
    """PyTorch's form: weight decay joins the gradient, and epsilon is added after the bias correction."""
    t = state.get("t", 0) + 1
    zeros = [np.zeros_like(p) for p in params]
    new, ms, vs = [], [], []
    for p, g, m, v in zip(params, grads, state.get("m", zeros), state.get("v", zeros), strict=True):
        g = g + weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        new.append(p - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + epsilon))
        ms.append(m)
        vs.append(v)
    return new, {"t": t, "m": ms, "v": vs}


# ---- training --------------------------------------------------------------------------------------------------------


def settings(optimizer: Any) -> dict[str, Any]:
    """An optimiser's own settings, without those that all have."""
    return {field.name: getattr(optimizer, field.name) for field in fields(optimizer) if not field.kw_only}


class Trained(NamedTuple):
    weights: list[Array]
    biases: list[Array]
    losses: list[float]  # one an epoch
    state: State


def train(
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    weights: Sequence[npt.ArrayLike],
    biases: Sequence[npt.ArrayLike],
    activations: Sequence[str],
    loss: Any,
    optimizer: Step,
    epochs: int,
    batch_size: int | None = None,
    order: npt.ArrayLike | None = None,
    state: State | None = None,
) -> Trained:
    """Minibatch training; an epoch's loss is the rows' mean of what each batch lost just before its update.

    `optimizer` is a step with its settings filled in, as `partial(adam_step, lr=0.1)`; `batch_size` None is the full
    batch, and the last batch may be smaller. `order`: the rows in the order of their use, (rows,) or (epochs, rows).
    """
    X, y = np.asarray(X, dtype=np.float64), np.asarray(y)
    rows = len(X)
    params = [np.array(W, dtype=np.float64) for W in weights]
    params += [np.array(b, dtype=np.float64).reshape(1, -1) for b in biases]
    depth, losses = len(weights), []
    state = {} if state is None else state
    orders = np.broadcast_to(np.arange(rows) if order is None else np.asarray(order), (epochs, rows))
    for turn in orders:
        total = 0.0
        for start in range(0, rows, batch_size or rows):
            batch = turn[start : start + (batch_size or rows)]
            g = gradients(X[batch], y[batch], params[:depth], params[depth:], activations, loss)
            total += g.loss * len(batch)
            params, state = optimizer(params, g.weights + g.biases, state)
        losses.append(total / rows)
    return Trained(params[:depth], params[depth:], losses, state)


# ---- for the tests ---------------------------------------------------------------------------------------------------

SIZES = (1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 100)  # rows, inputs and outputs: around and between a tile's sides
SEPARATE = [name for name in ACTIVATIONS if name != "softmax"]  # element by element
HIDDEN = [name for name in SEPARATE if name != "exp"]  # a few layers of exp overflow
ELEMENTWISE = [loss for loss in LOSSES if loss not in OUTPUT]  # losses that take any output activation

# How far a result may be from the oracle's, relative to the largest entry. float32: one rounding is 6e-8, a sum of 100
# products may gather 100 of them, and a gradient goes through three such sums forward and three back: 4e-5 at the very
# worst, of which random signs leave about a tenth.
BOUND = {"float64": 1e-12, "float32": 1e-5}


def combinations() -> list[tuple[str, str, str]]:
    """(hidden activation, output activation, loss): each of the first with each loss, each of the second likewise."""
    fused = [(hidden, output, loss) for hidden in HIDDEN for loss, output in OUTPUT.items()]
    others = product(enumerate(ACTIVATIONS), enumerate(ELEMENTWISE))
    return fused + [(HIDDEN[(i + 3 * j) % len(HIDDEN)], output, loss) for (i, output), (j, loss) in others]


def central_differences(f: Callable[[], float], x: Array, step: float = 1e-5) -> Array:
    """df/dx, entry by entry: x is nudged in place, f looks at it again, and x is put back."""
    slopes = np.empty_like(x)
    for at in np.ndindex(*x.shape):
        kept = x[at]
        x[at] = kept + step
        above = f()
        x[at] = kept - step
        below = f()
        x[at] = kept
        slopes[at] = (above - below) / (2 * step)
    return slopes


def error(got: npt.ArrayLike, want: npt.ArrayLike, floor: float = 0.0) -> float:
    """The largest difference, relative to the largest wanted entry (or to `floor`, if that is larger); NaN if any is."""
    got, want = np.asarray(got, dtype=np.float64), np.asarray(want, dtype=np.float64)
    assert got.shape == want.shape, f"shape {got.shape}, wanted {want.shape}"
    scale = max(float(np.abs(want).max()), floor)
    return float(np.abs(got - want).max()) / (scale or 1.0)


class Problem(NamedTuple):
    """A network and data for it, all drawn at random; float32 values if so asked, so that a cast loses nothing."""

    X: npt.NDArray[Any]
    y: npt.NDArray[Any]
    weights: list[npt.NDArray[Any]]
    biases: list[npt.NDArray[Any]]
    activations: list[str]
    loss: str


def problem(
    sizes: Sequence[int], activations: Sequence[str], loss: str, rows: int, seed: int = 0, dtype: str = "float64"
) -> Problem:
    """Weights of variance 1/inputs keep every z of the order of one, whatever the widths: no unit is saturated.

    Before exp, whose slope grows with its value, they are a quarter of that.
    """
    rng = np.random.default_rng(seed)
    pairs = list(pairwise(sizes))
    sds = [(0.25 if name == "exp" else 1.0) / math.sqrt(i) for (i, _), name in zip(pairs, activations, strict=True)]
    weights = [(sd * rng.standard_normal(pair)).astype(dtype) for pair, sd in zip(pairs, sds, strict=True)]
    biases = [(0.3 * rng.standard_normal((1, o))).astype(dtype) for _, o in pairs]
    X = rng.standard_normal((rows, sizes[0])).astype(dtype)
    if loss == "cross_entropy":
        y = rng.integers(0, sizes[-1], rows)
    elif loss == "poisson":
        y = rng.poisson(1.5, (rows, sizes[-1])).astype(dtype)
    elif loss == "bce":
        y = rng.uniform(size=(rows, sizes[-1])).round(1).astype(dtype)  # zeros, ones, and what lies between
    else:
        y = (1.5 * rng.standard_normal((rows, sizes[-1]))).astype(dtype)
    return Problem(X, y, weights, biases, list(activations), loss)


def problem_away_from_kinks(sizes: Sequence[int], activations: Sequence[str], loss: str, rows: int) -> Problem:
    """A problem in which no z is near zero and no error near a kink of the loss: there, differences mean nothing."""
    for seed in range(1000):
        p = problem(sizes, activations, loss, rows, seed)
        zs, active = layers(p.X, p.weights, p.biases, p.activations)
        e = np.abs(active[-1] - targets(p.y, sizes[-1], loss))
        near = min(np.abs(z).min() for z in zs)
        if near > 1e-3 and (loss not in ("mae", "huber") or (e.min() > 1e-3 and np.abs(e - 1).min() > 1e-3)):
            return p
    raise AssertionError("no such problem")
