"""Writes the files of one version of Keras beside it, and what its nets make of some inputs.

``KERAS_BACKEND=torch python tests/data/keras/write.py``, once with each version; float64 with the newest, and two nets.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
from keras import layers

HERE = Path(__file__).parent
X = np.random.default_rng(0).standard_normal((6, 3)) + np.arange(3.0)


def normalization() -> layers.Normalization:
    layer = layers.Normalization()
    layer.adapt(X.astype("float32"))
    return layer


def nets() -> dict[str, list[layers.Layer]]:
    activations = ["relu", "elu", "gelu", "silu", "softplus", "sigmoid", "tanh", "selu", "mish", "hard_silu", "exponential"]
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(5, "tanh"), layers.Dense(3)])
    return {
        "plain": [layers.Dense(4, "tanh"), layers.Dense(2)],
        "named": [layers.Dense(4, "relu", name="first"), layers.Dropout(0.25), layers.Dense(2, "softmax", name="last")],
        "normalized": [normalization(), layers.Dense(4, "tanh"), layers.Dense(1, "sigmoid")],
        "layers": [
            layers.Flatten(),
            layers.Dense(4),
            layers.LeakyReLU(negative_slope=0.01),
            layers.Dense(5, use_bias=False),
            layers.Activation("gelu"),
            layers.Dense(6),
            layers.ELU(),
            layers.Dense(3),
            layers.ReLU(),
            layers.Dense(2),
            layers.Softmax(),
        ],
        "nested": [layers.Dense(4, "tanh"), inner, layers.Dense(2)],
        "many": [*(layers.Dense(3, name) for name in activations), layers.Dense(2)],
    }


def main() -> None:
    version = ".".join(keras.__version__.split(".")[:2])
    arrays = {"X": X}
    for dtype in ("float32", "float64") if version == "3.15" else ("float32",):
        keras.config.set_floatx(dtype)
        keras.config.set_dtype_policy(dtype)
        for name, steps in nets().items():
            if dtype == "float64" and name not in ("plain", "normalized"):
                continue
            keras.utils.set_random_seed(len(name))
            net = keras.Sequential([keras.Input((3,)), *steps])
            stem = f"{name}-{dtype}-{version}"
            net.save(HERE / f"{stem}.keras")
            arrays[stem] = keras.ops.convert_to_numpy(net(keras.ops.convert_to_tensor(X, dtype)))
    np.savez(HERE / f"expected-{version}.npz", **arrays)


if __name__ == "__main__":
    main()
