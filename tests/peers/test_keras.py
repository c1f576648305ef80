"""Networks from Keras itself: random nets, live and by its files, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import from_keras
from fastmlp.interchange.keras import ACTIVATIONS

if os.environ.get("FASTMLP_CI") and os.environ.get("FASTMLP_PEERS"):
    import keras
else:
    keras = pytest.importorskip("keras")

layers = keras.layers
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # in Keras, of PyTorch's tensors
NAMES = sorted(ACTIVATIONS.keys() - {"softmax"})


def outputs(net: Any, X: np.ndarray) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(net(X, training=False)))


def close(got: np.ndarray, want: np.ndarray) -> None:
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6 * np.abs(want).max())


def random_net(rng: np.random.Generator, dtype: str) -> tuple[Any, np.ndarray]:
    inputs, depth = int(rng.integers(1, 20)), int(rng.integers(1, 6))
    X = (rng.standard_normal((20, inputs)) + 1).astype(dtype)
    steps: list[Any] = [keras.Input((inputs,), dtype=dtype)]
    if rng.integers(3) == 0:
        steps.append(layers.Normalization(dtype=dtype))
        steps[-1].adapt(X)
    if rng.integers(2):
        steps.append(layers.Flatten())
    for i in range(depth):
        name = NAMES[rng.integers(len(NAMES))]
        dense = {"units": int(rng.integers(1, 30)), "use_bias": bool(rng.integers(4)), "dtype": dtype}
        if rng.integers(2):
            steps.append(layers.Dense(**dense, activation=name, bias_initializer="random_normal"))
        else:
            steps += [layers.Dense(**dense), layers.Activation(name, dtype=dtype)]
        if i < depth - 1 and rng.integers(2):
            steps.append(layers.Dropout(0.25, dtype=dtype))
    return keras.Sequential(steps), X


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(50))
def test_random_nets(seed: int, dtype: str, tmp_path: Path) -> None:
    """Live and by a file. Keras with PyTorch multiplies matrices of float64 in float32: its outputs are known to 1e-6."""
    keras.utils.set_random_seed(seed)
    net, X = random_net(np.random.default_rng(seed), dtype)
    model = from_keras(net)
    close(model.predict(X), outputs(net, X))
    net.save(tmp_path / "net.keras")
    stored = from_keras(tmp_path / "net.keras")
    np.testing.assert_array_equal(stored.params, model.params)
    assert (stored.network.activations, stored.dropout) == (model.network.activations, model.dropout)


@pytest.mark.parametrize("seed", range(10))
def test_float64_is_kept(seed: int) -> None:
    """The parameters to the last bit, and so the outputs, by NumPy, to 1e-12."""
    rng = np.random.default_rng(seed)
    net = keras.Sequential([keras.Input((4,), dtype="float64")] + [layers.Dense(5, "tanh", dtype="float64") for _ in range(3)])
    a = X = rng.standard_normal((9, 4))
    model = from_keras(net)
    for layer, W, b in zip(net.layers, model.weights, model.biases, strict=True):
        weights, biases = layer.get_weights()
        np.testing.assert_array_equal(W, weights)
        np.testing.assert_array_equal(b[0], biases)
        a = np.tanh(a @ weights + biases)
    np.testing.assert_allclose(model.predict(X), a, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_each_activation(name: str) -> None:
    net = keras.Sequential([keras.Input((3,)), layers.Dense(5, "tanh" if name == "softmax" else name), layers.Dense(4, name)])
    X = (
        np.random.default_rng(0).standard_normal((50, 3)) * np.geomspace(0.01, 1 if name == "exponential" else 8, 50)[:, None]
    ).astype("f4")
    close(from_keras(net).predict(X), outputs(net, X))


def test_layers_as_activations(tmp_path: Path) -> None:
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(4), layers.ReLU(), layers.Dense(3, layers.ELU())])
    steps = [
        keras.Input((3,)),
        layers.Dense(5),
        layers.LeakyReLU(negative_slope=0.01),
        layers.Dense(6, activation=layers.LeakyReLU(negative_slope=0.01)),
        inner,
        layers.Identity(),
        layers.Dense(2),
        layers.Softmax(),
    ]
    net = keras.Sequential(steps)
    X = np.random.default_rng(0).standard_normal((9, 3)).astype("f4")
    model = from_keras(net)
    assert model.activations == ("leaky_relu", "leaky_relu", "relu", "elu", "softmax")
    close(model.predict(X), outputs(net, X))
    net.save(tmp_path / "net.keras")
    np.testing.assert_array_equal(from_keras(tmp_path / "net.keras").params, model.params)


def test_after_training(tmp_path: Path) -> None:
    """A compiled model's file has the optimiser's arrays too."""
    net = keras.Sequential([keras.Input((3,)), layers.Dense(5, "relu"), layers.Dropout(0.5), layers.Dense(1)])
    net.compile("adam", "mse")
    X = np.random.default_rng(0).standard_normal((32, 3)).astype("f4")
    net.fit(X, X[:, 0], epochs=2, verbose=0)
    net.save(tmp_path / "net.keras")
    model = from_keras(tmp_path / "net.keras")
    close(model.predict(X), outputs(net, X))
    assert model.dropout == (0.5,)


@keras.saving.register_keras_serializable("mine", "Dense")
class Other(layers.Dense):  # type: ignore[misc]
    def call(self, inputs: Any, training: Any = None) -> Any:
        return 2 * super().call(inputs)


@keras.saving.register_keras_serializable("mine", "relu")
def own_relu(x: Any) -> Any:
    return 2 * x


REFUSED: dict[str, tuple[list[Any], str]] = {
    "a custom layer": ([Other(3)], "(Dense|Other), which is not Keras's own"),
    "a custom function": ([layers.Dense(3, own_relu)], "activation='mine>relu'|settings that are no layer's"),
    "leaky_relu": ([layers.Dense(3, "leaky_relu")], "with activation='leaky_relu'"),
    "LeakyReLU": ([layers.Dense(3), layers.LeakyReLU()], r"with negative_slope=0\.3"),
    "a bounded ReLU": ([layers.Dense(3), layers.ReLU(6.0)], r"with max_value=6\.0"),
    "ELU": ([layers.Dense(3), layers.ELU(0.5)], r"with alpha=0\.5"),
    "a softmax of rows": ([layers.Dense(3), layers.Softmax(0)], "with axis=0"),
    "BatchNormalization": ([layers.Dense(3), layers.BatchNormalization()], "a layer BatchNormalization"),
    "Lambda": ([layers.Dense(3), layers.Lambda(lambda x: x)], "a layer Lambda"),
    "Normalization behind": ([layers.Dense(3), layers.Normalization()], "behind another layer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    steps, message = REFUSED[name]
    net = keras.Sequential([keras.Input((3,)), *steps])
    with pytest.raises(ValueError, match=rf"source must be a Sequential of layers that fastmlp has, got .*{message}"):
        from_keras(net)
    net.save(tmp_path / "net.keras")
    with pytest.raises(ValueError, match=rf"must be a file that Keras 3 wrote of a Sequential, got .*{message}"):
        from_keras(tmp_path / "net.keras")


def test_other_models_refused(tmp_path: Path) -> None:
    inputs = keras.Input((3,))
    functional = keras.Model(inputs, layers.Dense(2)(inputs))
    with pytest.raises(ValueError, match=r"got a Functional, where a Sequential is read|Functional, which is not"):
        from_keras(functional)
    with pytest.raises(ValueError, match="got one that is not built: give it a"):
        from_keras(keras.Sequential([layers.Dense(3)]))
    with pytest.raises(TypeError, match=r"source must be a keras\.Sequential or a path, got Dense"):
        from_keras(layers.Dense(3))
    net = keras.Sequential([keras.Input((3,)), layers.Dense(3)])
    net.save_weights(tmp_path / "net.weights.h5")
    with pytest.raises(ValueError, match="no zip archive"):
        from_keras(tmp_path / "net.weights.h5")


def test_bfloat16_refused() -> None:
    net = keras.Sequential([keras.Input((4,)), layers.Dense(3, dtype="bfloat16")])
    with pytest.raises(ValueError, match="parameters of real numbers, got bfloat16 in 'dense"):
        from_keras(net)


def test_quantized_refused() -> None:
    net = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    net.layers[0].quantize("int8")
    with pytest.raises(ValueError, match="quantized or adapted by LoRA"):
        from_keras(net)
    other = keras.Sequential([keras.Input((4,)), layers.Dense(3, use_bias=False)])
    other.layers[0].enable_lora(2)
    with pytest.raises(ValueError, match="quantized or adapted by LoRA"):
        from_keras(other)


def test_a_fit_image_is_a_row() -> None:
    net = keras.Sequential([keras.Input((4, 5)), layers.Flatten(), layers.Dense(3, "relu")])
    X = np.random.default_rng(0).standard_normal((7, 4, 5)).astype("f4")
    close(from_keras(net).predict(X.reshape(7, -1)), outputs(net, X))
