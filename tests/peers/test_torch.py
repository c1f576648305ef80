"""Networks from and to PyTorch itself: random nets in both directions, and what is refused."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmlp
from fastmlp import Model, from_torch, to_torch
from fastmlp.activations import ACTIVATIONS

if os.environ.get("FASTMLP_CI") and os.environ.get("FASTMLP_PEERS"):
    import torch
else:
    torch = pytest.importorskip("torch")

nn = torch.nn

MODULES: dict[str, Any] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "selu": nn.SELU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "identity": nn.Identity,
}
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}


def outputs(net: Any, X: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return net.eval()(torch.from_numpy(X)).numpy()


def close(got: np.ndarray, want: np.ndarray) -> None:
    assert got.dtype == want.dtype
    tolerance = 1e-6 if want.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * np.abs(want).max())


def random_net(rng: np.random.Generator, dtype: Any) -> Any:
    """Of up to five layers, some of them in a Sequential of their own."""
    sizes = [int(size) for size in rng.integers(1, 40, rng.integers(2, 7))]
    steps: list[Any] = [nn.Flatten()] if rng.integers(2) else []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        block: list[Any] = [nn.Linear(fan_in, fan_out, bias=bool(rng.integers(4)), dtype=dtype)]
        block.append(MODULES[list(MODULES)[rng.integers(len(MODULES))]]())
        if i < len(sizes) - 2 and rng.integers(2):
            block.append(nn.Dropout(0.25))
        steps += [nn.Sequential(*block)] if rng.integers(2) else block
    if rng.integers(3) == 0:
        steps += [nn.Linear(sizes[-1], 3, dtype=dtype), nn.Softmax(dim=[1, -1][rng.integers(2)])]
    return nn.Sequential(*steps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("seed", range(50))
def test_random_nets(seed: int, dtype: Any, tmp_path: Path) -> None:
    """In, out, in again, and by a file."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    net = random_net(rng, dtype)
    linear = [module for module in net.modules() if isinstance(module, nn.Linear)]
    X = rng.standard_normal((20, linear[0].in_features)).astype(str(dtype).removeprefix("torch."))
    want = outputs(net, X)
    model = from_torch(net)
    close(model.predict(X), want)
    again = to_torch(model)
    close(outputs(again, X), want)
    np.testing.assert_array_equal(from_torch(again).params, model.params)
    assert from_torch(again).dropout == model.dropout
    torch.save(net.state_dict(), tmp_path / "net.pt", pickle_protocol=2 + seed % 4)
    stored = from_torch(tmp_path / "net.pt", list(model.activations))
    np.testing.assert_array_equal(stored.params, model.params)
    mapped = from_torch(net.state_dict(), list(model.activations))
    np.testing.assert_array_equal(mapped.params, model.params)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_each_activation(name: Any, dtype: Any) -> None:
    """For small and large inputs; also where PyTorch's default softplus is not the function."""
    model = Model([3, 5, 4], ["tanh" if name == "softmax" else name, name], dtype=dtype, rng=0)
    model.params[...] += 0.1
    X = (
        np.random.default_rng(1).standard_normal((50, 3)).astype(dtype)
        * np.geomspace(0.01, 1 if name == "exp" else 8, 50, dtype=dtype)[:, None]
    )
    close(outputs(to_torch(model), X), model.predict(X))


@pytest.mark.parametrize("name", ["squareplus", "softplus", "mish", "gelu"])
def test_far_from_zero(name: Any) -> None:
    model = Model.from_weights([np.eye(1)], [np.zeros(1)], [name])
    X = np.linspace(-100, 100, 401)[:, None]
    np.testing.assert_allclose(outputs(to_torch(model), X), model.predict(X), rtol=1e-12, atol=1e-14)


def test_names_of_layers(tmp_path: Path) -> None:
    """Layer i is the module 2 i, with dropout and without, so that a file of these names is loaded."""
    for dropout in (0.0, 0.5):
        model = Model([3, 4, 4, 2], ["relu", "identity", "identity"], dropout=dropout, rng=0)
        net = to_torch(model)
        assert net.training
        assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias"]
        assert [name for name, _ in net.named_children()] == (
            ["0", "1", "dropout0", "2", "dropout1", "4"] if dropout else ["0", "1", "2", "4"]
        )
        names = {f"{2 * i}.weight": W.T.copy() for i, W in enumerate(model.weights)}
        names |= {f"{2 * i}.bias": b[0] for i, b in enumerate(model.biases)}
        arrays = pytest.importorskip("safetensors.numpy")
        arrays.save_file(names, tmp_path / "net.safetensors")
        tensors = pytest.importorskip("safetensors.torch")
        other = to_torch(Model(model.sizes, model.activations, dropout=dropout, rng=1))
        other.load_state_dict(tensors.load_file(tmp_path / "net.safetensors"))
        np.testing.assert_array_equal(from_torch(other).params, model.params)


def test_parameters_are_copies() -> None:
    model = Model([3, 4, 2], rng=0)
    before = model.params.copy()
    net = to_torch(model)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)
    np.testing.assert_array_equal(model.params, before)
    back = from_torch(net)
    back.params[...] = 0
    assert float(net[0].weight.detach().abs().max()) > 0


def test_random_numbers_are_not_drawn() -> None:
    torch.manual_seed(0)
    want = torch.rand(1)
    torch.manual_seed(0)
    to_torch(Model([3, 4, 2], rng=0))
    assert torch.rand(1) == want


def test_of_an_estimator() -> None:
    pytest.importorskip("sklearn")
    X = np.random.default_rng(0).standard_normal((30, 4))
    classifier = fastmlp.MLPClassifier(hidden_layer_sizes=3, max_iter=2, tol=1e9, random_state=0)
    classifier.partial_fit(X, X[:, 0] > 0, classes=[False, True])
    close(outputs(to_torch(classifier), X), classifier.predict_proba(X)[:, 1:])


def test_it_trains_on_as_in_pytorch() -> None:
    """A step of SGD by either."""
    model = Model([3, 4, 2], "tanh", loss="mse", rng=0)
    net = to_torch(model)
    X, y = np.ones((5, 3)), np.zeros((5, 2))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    nn.functional.mse_loss(net(torch.from_numpy(X)), torch.from_numpy(y)).backward()
    optimizer.step()
    model.step(X, y, optimizer=fastmlp.SGD(0.1))
    np.testing.assert_allclose(from_torch(net).params, model.params, rtol=1e-12)


def test_logits() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    X = np.random.default_rng(0).standard_normal((9, 3)).astype("f4")
    close(from_torch(net, loss="cross_entropy").predict(X), outputs(nn.Sequential(net, nn.Softmax(-1)), X))
    close(from_torch(net, loss="bce").predict(X), outputs(nn.Sequential(net, nn.Sigmoid()), X))
    labels = np.arange(9) % 2
    want = nn.functional.cross_entropy(net(torch.from_numpy(X)), torch.from_numpy(labels)).item()
    np.testing.assert_allclose(from_torch(net, loss="cross_entropy").loss(X, labels), want, rtol=1e-6)
    assert from_torch(net).loss_name == "mse"
    assert from_torch(nn.Sequential(net, nn.Softmax(1))).loss_name == "cross_entropy"
    assert from_torch(nn.Sequential(net, nn.Sigmoid())).loss_name == "bce"


def test_a_module_that_comes_twice() -> None:
    act, linear = nn.Tanh(), nn.Linear(3, 3)
    net = nn.Sequential(linear, act, linear, act, linear)
    X = np.random.default_rng(0).standard_normal((9, 3)).astype("f4")
    close(from_torch(net).predict(X), outputs(net, X))


def test_one_module() -> None:
    linear = nn.Linear(3, 2)
    X = np.ones((1, 3), "f4")
    close(from_torch(linear).predict(X), outputs(linear, X))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_floats_are_widened(dtype: Any) -> None:
    net = nn.Sequential(nn.Linear(3, 2, dtype=dtype))
    model = from_torch(net)
    assert model.dtype == "float32"
    np.testing.assert_array_equal(model.weights[0], net[0].weight.detach().float().numpy().T)


class Residual(nn.Sequential):  # type: ignore[misc]
    def forward(self, x: Any) -> Any:
        return x + super().forward(x)


class Called(nn.Sequential):  # type: ignore[misc]
    def __call__(self, x: Any) -> Any:
        return 2 * super().__call__(x)


class Named(nn.Sequential):  # type: ignore[misc]
    """Runs its children in order, as Sequential does."""


class Wrapped(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 3))

    def forward(self, x: Any) -> Any:
        return self.net(x)


class OwnReLU(nn.ReLU):  # type: ignore[misc]
    pass


def hooked() -> Any:
    net = nn.Sequential(nn.Linear(3, 3))
    net[0].register_forward_hook(lambda module, inputs, output: output + 1)
    return net


def patched() -> Any:
    net = nn.Sequential(nn.Linear(3, 3))
    net.forward = lambda x: x  # type: ignore[method-assign]
    return net


LINEAR = nn.Linear(3, 3)
REFUSED = {
    "BatchNorm1d": (nn.Sequential(LINEAR, nn.BatchNorm1d(3)), r"got BatchNorm1d\(3, .*, its module '1'"),
    "Conv1d": (nn.Sequential(nn.Conv1d(3, 3, 1)), r"got Conv1d"),
    "GELU of tanh": (nn.Sequential(LINEAR, nn.GELU("tanh")), r"got GELU\(approximate='tanh'\), its module '1'"),
    "a slope": (nn.Sequential(LINEAR, nn.LeakyReLU(0.2)), r"got LeakyReLU\(negative_slope=0\.2\)"),
    "an alpha": (nn.Sequential(LINEAR, nn.ELU(0.5)), r"got ELU\(alpha=0\.5\)"),
    "a beta": (nn.Sequential(LINEAR, nn.Softplus(2)), r"got Softplus\(beta=2"),
    "a threshold": (nn.Sequential(LINEAR, nn.Softplus(1, 3)), r"got Softplus\(beta=1, threshold=3"),
    "a dimension": (nn.Sequential(LINEAR, nn.Softmax(0)), r"got Softmax\(dim=0\)"),
    "no dimension": (nn.Sequential(LINEAR, nn.Softmax()), r"got Softmax\(dim=None\)"),
    "LogSoftmax": (nn.Sequential(LINEAR, nn.LogSoftmax(1)), r"got LogSoftmax\(dim=1\)"),
    "flatten all": (nn.Sequential(nn.Flatten(0), LINEAR), r"got Flatten\(start_dim=0"),
    "a wrapper": (Wrapped(), r"got Wrapped\(\) of .*; if it is such a net, give its state_dict and its activations"),
    "a residual": (nn.Sequential(LINEAR, Residual(nn.Linear(3, 3))), "got Residual.*, its module '1' of"),
    "a call": (Called(LINEAR), "got Called.* with hooks, or a forward of its own"),
    "a subclass": (nn.Sequential(LINEAR, OwnReLU()), "got OwnReLU.*, its module '1' of"),
    "a hook": (hooked(), "its module '0' with hooks, or a forward of its own"),
    "a forward": (patched(), "with hooks, or a forward of its own"),
    "no layers": (nn.Sequential(), "got no dense layer"),
    "an activation first": (nn.Sequential(nn.ReLU(), LINEAR), "its module '0' before the first dense layer"),
    "two activations": (nn.Sequential(LINEAR, nn.ReLU(), nn.Tanh()), "its module '2' behind another activation, 'relu'"),
    "widths": (nn.Sequential(nn.Sequential(LINEAR, nn.Linear(4, 3))), r"its module '0\.1' with 4 inputs behind 3 outputs"),
    "dropout first": (nn.Sequential(nn.Dropout(0.5), LINEAR), "before the first dense layer. Give dropout, such as 0.0"),
    "dropout last": (nn.Sequential(LINEAR, nn.Dropout(0.5)), "dropout behind the last dense layer"),
    "dropout twice": (nn.Sequential(LINEAR, nn.Dropout(), nn.Dropout(), LINEAR), "its module '2' behind another dropout"),
    "dropout before tanh": (nn.Sequential(LINEAR, nn.Dropout(), nn.Tanh(), LINEAR), "its module '2' behind a dropout"),
    "no numbers": (nn.Sequential(nn.Linear(3, 3, device="meta")), "on the device 'meta'"),
    "complex": (nn.Sequential(nn.Linear(3, 3, dtype=torch.complex64)), r"got torch\.complex64"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    net, message = REFUSED[name]
    with pytest.raises(ValueError, match=f"source must (be an nn.Sequential|have tensors) .*{message}"):
        from_torch(net)


def test_dropout() -> None:
    net = nn.Sequential(LINEAR, nn.Dropout(0.5), nn.ReLU(), LINEAR, nn.Tanh(), nn.Dropout(0.25), LINEAR)
    assert from_torch(net).dropout == (0.5, 0.25)
    assert from_torch(net, dropout=0.1).dropout == (0.1, 0.1)
    assert from_torch(nn.Sequential(nn.Dropout(), LINEAR, nn.Dropout()), dropout=0.0).dropout == ()
    assert from_torch(Named(LINEAR, nn.ReLU())).activations == ("relu",)


def test_whole_modules_and_scripts_refused(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(3, 3))
    path = tmp_path / "net.pt"
    torch.save(net, path)
    with pytest.raises(ValueError, match=r"names torch\.nn\.modules\.container\.Sequential; save the module's state_dict"):
        from_torch(path, "relu")
    torch.save(net.state_dict(), path, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match="no zip archive"):
        from_torch(path, "relu")
    with pytest.warns(DeprecationWarning, match=r"torch\.jit"):
        torch.jit.save(torch.jit.script(net), path)
    with pytest.raises(ValueError, match="a compressed entry"):
        from_torch(path, "relu")


def test_refused_arguments() -> None:
    with pytest.raises(ValueError, match="activations must be None for a module"):
        from_torch(nn.Sequential(LINEAR), "relu")
    square = fastmlp.CustomActivation("square", lambda z: z * z, lambda z: z + z)
    with pytest.raises(ValueError, match="model must have built-in activations only"):
        to_torch(Model([1, 1], [square]))
    with pytest.raises(TypeError, match=r"model must be a fastmlp\.Model or a fitted estimator"):
        to_torch(3)  # type: ignore[arg-type]
