"""One training, in fastmlp and in each library that it is measured against.

    from peers import BUILDERS
    epoch, epochs_per_call, loss = BUILDERS["jax"](net)

`epoch()` trains `epochs_per_call` epochs, `epoch(n)` trains n; `loss()` is the mean loss over all rows. All start from the same
numbers, take the same minibatches in the same order and make the same updates (Adam's epsilon after the bias correction), each
in the fastest form that its library offers. NumPy and JAX are spared computing the loss that the others compute on their way.
scikit-learn starts from weights of its own, leaves the factor 2 / outputs out of the gradient of mse, and starts Adam anew at
each call.
"""

import math
import os
import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from nets import Net, activate, data, mean_loss

Training = tuple[Callable[..., None], int, Callable[[], float]]

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


def build_numpy(net: Net) -> Training:
    """One NumPy call an operation, into arrays that are made once: new ones for a large batch cost more than the arithmetic."""
    X, y, *parameters = data(net)
    if net.loss == "cross_entropy":
        y = np.eye(net.sizes[-1], dtype=X.dtype)[y]
    shapes = [array.shape for arrays in parameters for array in arrays]
    flat = np.concatenate([array.ravel() for arrays in parameters for array in arrays])
    gradient, spare, mean, square = (np.zeros_like(flat) for _ in range(4))
    depth = len(net.sizes) - 1
    output = {"bce": "sigmoid", "cross_entropy": "softmax", "mse": "identity"}[net.loss]
    scale = (2 if net.loss == "mse" else 1) / (1 if net.loss == "cross_entropy" else net.sizes[-1])
    layers, deltas = ([np.empty((net.batch, width), net.dtype) for width in net.sizes[1:]] for _ in range(2))
    updates = 0

    def carve(vector: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        ends = np.cumsum([math.prod(shape) for shape in shapes])
        parts = [part.reshape(shape) for part, shape in zip(np.split(vector, ends[:-1]), shapes, strict=True)]
        return parts[:depth], parts[depth:]

    weights, biases = carve(flat)
    weight_gradients, bias_gradients = carve(gradient)
    batches = []
    for start in range(0, net.rows, net.batch):
        x, target = X[start : start + net.batch], y[start : start + net.batch]
        batches.append((target, [x, *(a[: len(x)] for a in layers)], [d[: len(x)] for d in deltas]))

    def step(target: np.ndarray, layers: list[np.ndarray], deltas: list[np.ndarray]) -> None:
        nonlocal updates
        for i in range(depth):
            np.matmul(layers[i], weights[i], out=layers[i + 1])
            layers[i + 1] += biases[i]
            activate(layers[i + 1], output if i == depth - 1 else net.activation)
        np.subtract(layers[-1], target, out=deltas[-1])
        deltas[-1] *= scale / len(target)
        for i in reversed(range(depth)):
            a = layers[i]
            np.matmul(a.T, deltas[i], out=weight_gradients[i])
            deltas[i].sum(axis=0, out=bias_gradients[i])
            if i == 0:
                break
            np.matmul(deltas[i], weights[i].T, out=deltas[i - 1])
            if net.activation == "relu":
                np.greater(a, 0, out=a)
            elif net.activation == "tanh":
                a *= a
                np.subtract(1, a, out=a)
            else:
                deltas[i - 1] *= a
                np.subtract(1, a, out=a)
            deltas[i - 1] *= a
        updates += 1
        if net.optimizer == "adam":
            np.subtract(gradient, mean, out=spare)
            np.multiply(spare, 1 - BETA1, out=spare)
            np.add(mean, spare, out=mean)
            np.multiply(gradient, gradient, out=spare)
            np.subtract(spare, square, out=spare)
            np.multiply(spare, 1 - BETA2, out=spare)
            np.add(square, spare, out=square)
            np.sqrt(square, out=spare)
            np.multiply(spare, (1 - BETA2**updates) ** -0.5, out=spare)
            np.add(spare, EPSILON, out=spare)
            np.divide(mean, spare, out=gradient)
        np.multiply(gradient, net.lr / (1 - BETA1**updates if net.optimizer == "adam" else 1), out=gradient)
        np.subtract(flat, gradient, out=flat)

    def epoch(count: int = 1) -> None:
        for _ in range(count):
            for batch in batches:
                step(*batch)

    return epoch, 1, lambda: mean_loss(net, weights, biases)


def build_torch(net: Net) -> Training:
    """Eager operations, whose calls cost less than modules', and the fused optimiser."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    X, y, *parameters = data(net)
    weights, biases = [[torch.from_numpy(array).requires_grad_() for array in arrays] for arrays in parameters]
    hidden = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}[net.activation]
    objective = {
        "bce": functional.binary_cross_entropy_with_logits,
        "cross_entropy": functional.cross_entropy,
        "mse": functional.mse_loss,
    }[net.loss]
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[net.optimizer]
    optimizer = kind([*weights, *biases], lr=net.lr, fused=True)
    batches = list(zip(torch.from_numpy(X).split(net.batch), torch.from_numpy(y).split(net.batch), strict=True))

    def epoch(count: int = 1) -> None:
        for _ in range(count):
            for x, target in batches:
                z = torch.addmm(biases[0], x, weights[0])
                for w, b in zip(weights[1:], biases[1:], strict=True):
                    z = torch.addmm(b, hidden(z), w)
                optimizer.zero_grad(set_to_none=True)
                objective(z, target).backward()
                optimizer.step()

    return epoch, 1, lambda: mean_loss(net, *([p.detach().numpy() for p in group] for group in (weights, biases)))


def build_jax(net: Net) -> Training:
    """All epochs of a call in one compiled loop over donated state."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", net.dtype == "float64")
    X, y, weights, biases = jax.tree.map(jnp.array, data(net))
    hidden = {"relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}[net.activation]
    whole = net.rows // net.batch
    split = whole * net.batch
    batches = X[:split].reshape(whole, net.batch, -1), y[:split].reshape(whole, net.batch, *y.shape[1:])

    def objective(parameters: Any, x: Any, target: Any) -> Any:
        z = x @ parameters[0][0] + parameters[1][0]
        for w, b in zip(parameters[0][1:], parameters[1][1:], strict=True):
            z = hidden(z) @ w + b
        if net.loss == "bce":
            # Not maximum(z, 0): its derivative at 0, where dead units leave z, would not go with that of abs.
            return jnp.mean(jnp.where(z >= 0, z, 0) - z * target + jnp.log1p(jnp.exp(-jnp.abs(z))))
        if net.loss == "mse":
            return jnp.mean((z - target) ** 2)
        # A comparison fuses into the sum; indexing by label would scatter on the way back.
        chosen = jnp.where(target[:, None] == jnp.arange(z.shape[1]), z, 0).sum(axis=1)
        return jnp.mean(jax.nn.logsumexp(z, axis=1) - chosen)

    def step(state: Any, batch: Any) -> Any:
        p, m, v, t = state
        g = jax.grad(objective)(p, *batch)
        if net.optimizer == "sgd":
            return (jax.tree.map(lambda p, g: p - net.lr * g, p, g), m, v, t), None
        t = t + 1
        rate = net.lr / -jnp.expm1(t * np.log(BETA1))
        root = jax.lax.rsqrt(-jnp.expm1(t * np.log(BETA2)))
        m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, g)
        v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, g)
        p = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) * root + EPSILON), p, m, v)
        return (p, m, v, t), None

    def one(_: Any, state: Any, data: Any) -> Any:
        (xs, targets), rest = data
        if whole == 1:
            state, _ = step(state, (xs[0], targets[0]))
        else:
            state, _ = jax.lax.scan(step, state, (xs, targets))
        return step(state, rest)[0] if split < net.rows else state

    def epochs(state: Any, data: Any, count: Any) -> Any:
        return jax.lax.fori_loop(0, count, partial(one, data=data), state)

    per_call = net.epochs()
    everything = batches, (X[split:], y[split:])
    # A count known to the compiler makes the faster loop, an unknown one spares compiling again.
    known = jax.jit(lambda state, data: epochs(state, data, per_call), donate_argnums=0)
    unknown = jax.jit(epochs, donate_argnums=0)
    start = weights, biases
    zeros = [jax.tree.map(jnp.zeros_like, start if net.optimizer == "adam" else ()) for _ in range(2)]
    state = start, *zeros, jnp.zeros((), net.dtype)

    def epoch(count: int | None = None) -> None:
        nonlocal state
        state = known(state, everything) if count is None else unknown(state, everything, count)
        jax.block_until_ready(state)

    return epoch, per_call, lambda: mean_loss(net, *([np.asarray(p) for p in group] for group in state[0]))


def build_sklearn(net: Net) -> Training:
    """Warm starts of `fit`, with all that plain training does not need turned off."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    warnings.simplefilter("ignore", ConvergenceWarning)
    X, y, _, _ = data(net)
    y = y.ravel() if net.loss != "cross_entropy" and y.shape[1] == 1 else y
    per_call = net.epochs(call=3_000_000_000, step=2_000_000)
    kind = MLPRegressor if net.loss == "mse" else MLPClassifier
    plain = {"alpha": 0, "shuffle": False, "momentum": 0, "nesterovs_momentum": False, "tol": 0, "n_iter_no_change": 2**30}
    model = kind(
        hidden_layer_sizes=net.sizes[1:-1],
        activation={"sigmoid": "logistic"}.get(net.activation, net.activation),
        solver=net.optimizer,
        batch_size=net.batch,
        learning_rate_init=net.lr,
        random_state=0,
        warm_start=True,
        **plain,
    )

    def epoch(count: int = per_call) -> None:
        model.max_iter = count
        model.fit(X, y)

    return epoch, per_call, lambda: mean_loss(net, model.coefs_, model.intercepts_)


def build_fastmlp(net: Net) -> Training:
    """Through the public interface."""
    import fastmlp

    X, y, weights, biases = data(net)
    model = fastmlp.Model.from_weights(weights, biases, activations=net.activation, loss=net.loss)
    optimizer = fastmlp.SGD(net.lr) if net.optimizer == "sgd" else fastmlp.Adam(net.lr)
    per_call = net.epochs()

    def epoch(count: int = per_call) -> None:
        model.fit(X, y, epochs=count, batch_size=net.batch, optimizer=optimizer, shuffle=False)

    return epoch, per_call, lambda: mean_loss(net, model.weights, model.biases)


BUILDERS: dict[str, Callable[[Net], Training]] = {
    "numpy": build_numpy,
    "sklearn": build_sklearn,
    "torch": build_torch,
    "jax": build_jax,
    "fastmlp": build_fastmlp,
}
NAMES = {"numpy": "NumPy", "sklearn": "scikit-learn", "torch": "PyTorch", "jax": "JAX", "fastmlp": "fastmlp"}


def installed() -> list[str]:
    """The libraries that can be measured here."""
    return [name for name in BUILDERS if find_spec(name)]
