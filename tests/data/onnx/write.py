"""Writes this folder's files: networks as PyTorch's two exporters, Keras and skl2onnx write them, and their outputs.

python write.py torch|keras|sklearn (for torch and keras with onnxscript installed, and KERAS_BACKEND=torch)
"""

import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
X = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32) * 2


def keep(name, data, inputs, outputs):
    (HERE / f"{name}.onnx").write_bytes(data)
    np.savez(HERE / f"{name}.npz", X=inputs, outputs=np.asarray(outputs).reshape(len(inputs), -1))


def torch():
    import torch
    from torch import nn

    torch.manual_seed(0)
    kinds = {
        "relu": nn.ReLU(), "leaky_relu": nn.LeakyReLU(), "elu": nn.ELU(), "gelu": nn.GELU(), "silu": nn.SiLU(),
        "softplus": nn.Softplus(), "sigmoid": nn.Sigmoid(), "tanh": nn.Tanh(), "selu": nn.SELU(), "mish": nn.Mish(),
        "hardswish": nn.Hardswish(),
    }  # fmt: skip
    nets = {name: nn.Sequential(nn.Linear(3, 4), f, nn.Dropout(0.5), nn.Linear(4, 2)) for name, f in kinds.items()}
    nets["softmax"] = nn.Sequential(nn.Flatten(), nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 3), nn.Softmax(1))
    nets["double"] = nn.Sequential(
        nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 4), nn.SiLU(), nn.Linear(4, 1), nn.Sigmoid()
    ).double()
    nets["gelu_by_tanh"] = nn.Sequential(nn.Linear(3, 4), nn.GELU("tanh"), nn.Linear(4, 1))
    for name, net in nets.items():
        net.eval()
        x = torch.from_numpy(X.astype(np.float64) if name == "double" else X)
        with torch.no_grad():
            want = net(x).numpy()
        for way in ("script", "dynamo"):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "net.onnx")
                if way == "dynamo":
                    rows = {0: torch.export.Dim("rows")}
                    torch.onnx.export(net, (x,), path, dynamo=True, dynamic_shapes=(rows,), external_data=False, verbose=False)
                else:
                    axes = {"x": {0: "rows"}, "y": {0: "rows"}}
                    torch.onnx.export(net, (x,), path, dynamo=False, input_names=["x"], output_names=["y"], dynamic_axes=axes)
                keep(f"torch_{way}_{name}", path.read_bytes(), x.numpy(), want)


def keras():
    import keras

    keras.utils.set_random_seed(0)
    for name in ("relu", "elu", "gelu", "silu", "softplus", "tanh", "selu", "mish", "leaky"):
        hidden = keras.layers.LeakyReLU(0.01) if name == "leaky" else name
        layers = [
            keras.layers.Dense(4, activation=hidden),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(3, activation="softmax"),
        ]
        net = keras.Sequential([keras.Input((3,)), *layers])
        want = net.predict(X, verbose=0)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "net.onnx")
            net.export(path, format="onnx", verbose=False)
            keep(f"keras_{name}", path.read_bytes(), X, want)


def sklearn():
    import skl2onnx
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    inputs = np.random.default_rng(1).standard_normal((60, 3)).astype(np.float32)
    three = np.digitize(inputs[:, 0], [-0.5, 0.5])
    for name, y in {"binary": three > 0, "multiclass": three, "regression": inputs[:, 0]}.items():
        kind = MLPRegressor if name == "regression" else MLPClassifier
        net = kind(hidden_layer_sizes=5, activation="tanh", max_iter=5, random_state=0).fit(inputs, y)
        want = net.predict(inputs) if name == "regression" else net.predict_proba(inputs)[:, name == "binary" :]
        keep(f"skl2onnx_{name}", skl2onnx.to_onnx(net, inputs[:1]).SerializeToString(), inputs, want)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    {"torch": torch, "keras": keras, "sklearn": sklearn}[sys.argv[1]]()
