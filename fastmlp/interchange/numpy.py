"""A trained network as the text of a NumPy program."""

# ruff: noqa: D103 (the activations are what they are called)

import inspect
import math
import os
from collections.abc import Callable

import numpy as np

from fastmlp.files import durable
from fastmlp.interchange import given
from fastmlp.model import Model
from fastmlp.types import Exported

# ---- the activations: programs have these functions' source ---------------------------------------------------------


def relu(z: np.ndarray) -> np.ndarray:
    return np.maximum(z, 0)


def leaky_relu(z: np.ndarray) -> np.ndarray:
    return np.where(z > 0, z, 0.01 * z)


def elu(z: np.ndarray) -> np.ndarray:
    return np.where(z > 0, z, np.expm1(np.minimum(z, 0)))


def gelu(z: np.ndarray) -> np.ndarray:
    return z * (0.5 * np.vectorize(math.erfc, otypes=[z.dtype])(z / -(2**0.5)))


def silu(z: np.ndarray) -> np.ndarray:
    return z * np.exp(-np.logaddexp(0, -z))


def softplus(z: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, z)


def sigmoid(z: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -z))


def softmax(z: np.ndarray) -> np.ndarray:
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def selu(z: np.ndarray) -> np.ndarray:
    return np.where(z > 0, 1.0507009873554805 * z, 1.7580993408473766 * np.expm1(np.minimum(z, 0)))


def mish(z: np.ndarray) -> np.ndarray:
    return z * np.tanh(np.logaddexp(0, z))


def hardswish(z: np.ndarray) -> np.ndarray:
    return z * (np.clip(z + 3, 0, 6) / 6)


def squareplus(z: np.ndarray) -> np.ndarray:
    larger = (np.abs(z) + np.hypot(z, 2)) / 2
    return np.where(z > 0, larger, 1 / larger)


OWN = (relu, leaky_relu, elu, gelu, silu, softplus, sigmoid, softmax, selu, mish, hardswish, squareplus)
FORMULAS: dict[str, Callable[..., np.ndarray]] = {"tanh": np.tanh, "exp": np.exp, "identity": np.positive}
FORMULAS |= {function.__name__: function for function in OWN}

# ---- the program -----------------------------------------------------------------------------------------------------


def to_numpy(model: Exported, path: str | os.PathLike[str] | None = None) -> str:
    """A network as a program that needs NumPy only: its parameters, and a function ``predict(X)``.

    Parameters
    ----------
    model : Model or fitted estimator
        An estimator's network is its `model_`.
    path : str, os.PathLike or None
        A file to write the text to as well.

    Returns
    -------
    str
        The text: a module with the arrays ``W1``, ``b1``, ... and ``predict(X)``, which makes of a (rows, inputs) array the
        (rows, outputs) array of the model's dtype. Without parameters it has some twenty lines.

    Raises
    ------
    TypeError
        If the model is neither, or `path` no path.
    ValueError
        If the model has a `CustomActivation`, or parameters that are not finite.
    OSError
        If the file cannot be written.

    Notes
    -----
    The parameters are decimal numbers that are read back to the last bit. `predict` computes in the model's dtype with NumPy's
    own functions: its outputs are `Model.predict`'s up to rounding.

    It is meant for small networks: a parameter takes some twenty characters. For large ones keep the parameters in a file of
    NumPy's.

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> model = fastmlp.Model.from_weights([[[2.0], [3.0]]], [[1.0]], activations=["tanh"])
    >>> text = fastmlp.to_numpy(model)
    >>> print(text[text.index("W1") :])
    W1 = np.array([
        [2.0],
        [3.0],
    ], dtype="float64")
    b1 = np.array([1.0], dtype="float64")
    <BLANKLINE>
    <BLANKLINE>
    def predict(X):
        a = np.asarray(X, dtype="float64")
        a = np.tanh(a @ W1 + b1)
        return a
    <BLANKLINE>
    >>> program = {}
    >>> exec(text, program)
    >>> program["predict"]([[0.1, -0.2]])
    array([[0.53704957]])
    """
    net = given.network(model)
    to = None if path is None else given.file(path)
    text = _program(net)
    if to is not None:
        with durable.writing(to) as file:
            file.write(text.encode("ascii"))
    return text


def _program(model: Model) -> str:
    arrays, steps = [], []
    functions = [FORMULAS[str(name)] for name in model.activations]
    for i, (W, b, f) in enumerate(zip(model.weights, model.biases, functions, strict=True), 1):
        rows = "".join(f"    {row},\n" for row in W.tolist())
        arrays.append(f'W{i} = np.array([\n{rows}], dtype="{model.dtype}")\n')
        arrays.append(f'b{i} = np.array({b[0].tolist()}, dtype="{model.dtype}")\n')
        z = f"a @ W{i} + b{i}"
        name = f.__name__ if f in OWN else f"np.{f.__name__}"
        steps.append(f"    a = {z if f is np.positive else f'{name}({z})'}\n")
    own = [f"{inspect.getsource(f)}\n\n" for f in OWN if f in functions]
    needs = "import math\n\n" if gelu in functions else ""
    head = f'"""{given.title(model)}; it needs NumPy only."""\n\n{needs}import numpy as np\n\n\n'
    begin = f'def predict(X):\n    a = np.asarray(X, dtype="{model.dtype}")\n'
    return head + "".join(own) + "".join(arrays) + "\n\n" + begin + "".join(steps) + "    return a\n"
