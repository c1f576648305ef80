"""Networks from and to PyTorch."""

import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from fastmlp import checks
from fastmlp.interchange import given, pt
from fastmlp.interchange.chain import Chain, Dropout, Loss
from fastmlp.model import Model
from fastmlp.types import Activations, Exported

Sequential: TypeAlias = Any  # and other modules of PyTorch's, which is not imported for its types

# Modules whose function is one of fastmlp's: its name, and what the module's settings must be for that.
MODULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "ReLU": ("relu", lambda module: True),
    "LeakyReLU": ("leaky_relu", lambda module: module.negative_slope == 0.01),
    "ELU": ("elu", lambda module: module.alpha == 1),
    "GELU": ("gelu", lambda module: module.approximate == "none"),
    "SiLU": ("silu", lambda module: True),
    "Softplus": ("softplus", lambda module: module.beta == 1 and module.threshold >= 20),
    "Sigmoid": ("sigmoid", lambda module: True),
    "Tanh": ("tanh", lambda module: True),
    "Softmax": ("softmax", lambda module: module.dim in (1, -1)),
    "SELU": ("selu", lambda module: True),
    "Mish": ("mish", lambda module: True),
    "Hardswish": ("hardswish", lambda module: True),
    "Identity": ("identity", lambda module: True),
}
SETTINGS = {  # of `to_torch`: PyTorch's softplus is max(z, 0) from its threshold on, where float64 still tells them apart at 20
    "softplus": {"threshold": 50},
    "softmax": {"dim": -1},
}


def from_torch(
    source: Sequential | Mapping[str, Any] | str | os.PathLike[str],
    activations: Activations | None = None,
    loss: Loss = None,
    dropout: Dropout = None,
    key: str | None = None,
) -> Model:
    """A model of a network of PyTorch's, with copies of its parameters.

    Parameters
    ----------
    source : torch.nn.Sequential, mapping of str to tensor, or path
        A module: an ``nn.Sequential`` of ``Linear``, of activations that fastmlp has (`fastmlp.activations`) with settings that
        give the same function, of ``Dropout``, ``Identity``, ``Flatten``, and of such ``Sequential`` again. A mapping: a
        state_dict, of tensors or NumPy arrays. A path: a file that ``torch.save`` wrote of a state_dict, or of a dictionary
        that holds one; it is read without PyTorch.
    activations : str, CustomActivation or sequence of these
        As for `Model`; for a state_dict, which does not tell them, and for nothing else.
    loss : str, CustomLoss, RowLoss or None
        As for `Model`. None: ``cross_entropy`` for a module that ends in a softmax, ``bce`` for one that ends in a sigmoid,
        else ``mse``. With ``cross_entropy`` or ``bce`` a module that ends in a ``Linear`` is taken for one of logits, as by
        PyTorch's ``CrossEntropyLoss`` and ``BCEWithLogitsLoss``: the model has the softmax or sigmoid behind it.
    dropout : float, sequence of float or None
        As for `Model`. None: that of the module's ``Dropout`` behind hidden layers; else these are left out.
    key : str or None
        For a file: the name of the state_dict in the dictionary that was saved. None: the only one there.

    Returns
    -------
    Model
        Of float32 if all parameters are float32 or shorter (float16 and bfloat16 are widened), else of float64.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If the module, or the file, has anything else, and as for `Model.from_weights`; the message says what it is.
    OSError
        If the file cannot be read.

    Notes
    -----
    Outputs are the module's in eval mode, up to rounding; an ``nn.Softplus`` of PyTorch's default threshold 20 differs by up
    to 2e-9. A ``Linear`` without a bias gets one of zeros, which training changes. A ``Flatten`` is what it is for inputs of
    one row each, so images are given as rows. Modules of other classes may do anything with their children in their `forward`:
    they are refused, and their state_dict is taken instead.

    **State_dicts.** Each ``NAME.weight`` with the ``NAME.bias`` beside it, if any, is a layer. Their order is that of the
    mapping; if they are the numbered children of one module, as those of a Sequential, that of the numbers.

    **Files.** What reads them can make nothing but tensors, dictionaries and numbers: a pickle that names anything else is
    refused before any of it has been used. So are files of whole modules and TorchScript, those from before PyTorch 1.6 (no
    zip archives), those of other byte orders, and entries that are compressed, overlap, or do not have the size or the checksum
    that the archive says. The sizes of all tensors are compared with the file's before one is read.

    Examples
    --------
    ::

        net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
        model = fastmlp.from_torch(net, loss="cross_entropy")
        torch.save(net.state_dict(), "net.pt")
        model = fastmlp.from_torch("net.pt", activations="tanh", loss="cross_entropy")

    >>> import numpy as np, fastmlp
    >>> state_dict = {"0.weight": np.array([[2.0, 3.0]]), "0.bias": np.array([1.0])}  # (fan_out, fan_in), as in PyTorch
    >>> fastmlp.from_torch(state_dict, activations="relu").predict([[10.0, 100.0]])
    array([[321.]])
    """
    stored = source if isinstance(source, str | os.PathLike) else None
    if key is not None and (stored is None or not isinstance(key, str)):
        raise ValueError(f"key must be a name in a file, and else None, got {key!r}")
    if stored is not None or isinstance(source, Mapping):
        if activations is None:
            raise ValueError("activations must be given for a state_dict, which does not tell them, got None")
        tensors: Any
        with nullcontext(source) if stored is None else pt.state_dict(stored, key) as tensors:
            of = "source" if stored is None else repr(os.fspath(stored))
            parameters = _of_names(tensors, of).parameters()
        return Model.from_weights(*parameters, activations, loss or "mse", dropout=0.0 if dropout is None else dropout)
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(source, torch.nn.Module):
        raise TypeError(f"source must be an nn.Sequential, a state_dict or a path, got {type(source).__name__}")
    if activations is not None:
        raise ValueError(f"activations must be None for a module, which has its own, got {activations!r}")
    wanted = "source must be an nn.Sequential of Linear layers and of activations that fastmlp has"
    chain = Chain(lambda got: ValueError(f"{wanted}, got {got}"), dropout)
    _take(torch.nn, source, "", chain)
    return chain.model(loss)


# ---- state_dicts -----------------------------------------------------------------------------------------------------


def _of_names(tensors: Mapping[str, Any], of: str) -> Chain:
    """The layers of a state_dict; `of` is what it is called."""
    wanted = f"{of} must be a state_dict of Linear layers, NAME.weight and NAME.bias"
    chain = Chain(lambda got: ValueError(f"{wanted}, got {got}"))
    for name, value in tensors.items():
        if not isinstance(name, str) or not hasattr(value, "shape"):
            raise chain.refused(f"{name!r}: {type(value).__name__}")
    layers = [name.removesuffix(".weight") for name in tensors if f".{name}".endswith(".weight")]
    numbers = [layer.rpartition(".")[2] for layer in layers]
    if all(number.isdecimal() and len(number) < 10 for number in numbers) and len({x.rpartition(".")[0] for x in layers}) == 1:
        layers.sort(key=lambda layer: int(layer.rpartition(".")[2]))  # the children of one Sequential
    prefixes = {layer: f"{layer}." if layer != "weight" else "" for layer in layers}
    known = {f"{prefix}{part}" for prefix in prefixes.values() for part in ("weight", "bias")}
    for name, value in tensors.items():
        if name not in known or len(value.shape) != 1 + name.endswith("weight"):
            raise chain.refused(f"{name!r} of shape {tuple(value.shape)}")
    for prefix in prefixes.values():
        weight, bias = tensors[f"{prefix}weight"], tensors.get(f"{prefix}bias")
        fan_out, fan_in = weight.shape
        if bias is not None and tuple(bias.shape) != (fan_out,):
            raise chain.refused(f"'{prefix}bias' of shape {tuple(bias.shape)} beside weights of shape {(fan_out, fan_in)}")
        chain.dense(f"'{prefix}weight'", fan_in, fan_out, partial(_read, weight, bias))
    return chain


def _read(weight: Any, bias: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """A Linear's parameters, as a layer's."""
    return _numbers(weight).T, None if bias is None else _numbers(bias)


def _numbers(tensor: Any) -> np.ndarray:
    """A tensor as an array that NumPy has a dtype for."""
    if isinstance(tensor, pt.Stored):
        return tensor.read()
    if not hasattr(tensor, "detach"):
        return checks.numbers("source", tensor)
    if tensor.is_meta or tensor.is_quantized or not tensor.is_floating_point():
        raise ValueError(f"source must have tensors of real numbers, got {tensor.dtype} on the device {str(tensor.device)!r}")
    tensor = tensor.detach().cpu()
    array: np.ndarray = (tensor if tensor.dtype.itemsize >= 4 else tensor.float()).numpy()
    return array


# ---- modules ---------------------------------------------------------------------------------------------------------


def _take(nn: Any, module: Any, name: str, chain: Chain) -> None:
    """Add a module, which has this name, to the chain."""
    kind = type(module)
    what = f"{kind.__name__}({module.extra_repr()})" + (f", its module {name!r}" if name else "")
    own = getattr(nn, kind.__name__, None) is kind
    changed = vars(module).keys() & {"forward"} or module._forward_hooks or module._forward_pre_hooks
    if changed or kind.__call__ is not nn.Module.__call__:
        raise chain.refused(f"{what} with hooks, or a forward of its own")
    if kind.forward is nn.Sequential.forward:
        for child_name, child in module._modules.items():  # `named_children` leaves out a module that comes twice
            _take(nn, child, f"{name}.{child_name}" if name else child_name, chain)
    elif not own:
        raise chain.refused(f"{what} of {kind.__module__}; if it is such a net, give its state_dict and its activations")
    elif kind is nn.Linear:
        chain.dense(what, module.in_features, module.out_features, partial(_read, module.weight, module.bias))
    elif kind is nn.Dropout:
        chain.dropout(what, module.p)
    elif kind is nn.Flatten:
        if module.start_dim not in (1, -1) or module.end_dim not in (1, -1):
            raise chain.refused(what)
    elif kind.__name__ in MODULES and MODULES[kind.__name__][1](module):
        chain.activation(what, MODULES[kind.__name__][0])
    else:
        raise chain.refused(what)


def to_torch(model: Exported) -> Sequential:
    """An ``nn.Sequential`` of a network, with copies of its parameters.

    Parameters
    ----------
    model : Model or fitted estimator
        An estimator's network is its `model_`: a classifier's outputs are probabilities, of ``classes_[1]`` if there are two
        classes, and those of a regressor with ``loss="poisson"`` logarithms.

    Returns
    -------
    torch.nn.Sequential
        Of the model's dtype, on the CPU, and in train mode, as all new modules are: call ``eval()`` to predict with a net that
        has dropout.

    Raises
    ------
    ImportError
        Without PyTorch.
    TypeError
        If the model is neither.
    ValueError
        If the model has a `CustomActivation`, or parameters that are not finite.

    Notes
    -----
    Layer i, from 0 on, is the module ``2 i``, a ``Linear``, and its activation the module ``2 i + 1``; an identity has none.
    The dropout of layer i is the module ``dropout{i}``. So the state_dict has the names ``0.weight``, ``0.bias``,
    ``2.weight``, ... with dropout too.

    The net predicts what the model does: the output's softmax or sigmoid is part of it. To train on it with
    ``CrossEntropyLoss`` or ``BCEWithLogitsLoss``, which take logits, leave out the last module: ``net[:-1]``.

    ``squareplus`` and ``exp``, which PyTorch lacks, are modules of classes of their own: to keep such a net in a file, save its
    state_dict. PyTorch's random numbers are not drawn.

    Examples
    --------
    ::

        model = fastmlp.Model([4, 8, 3], loss="cross_entropy", dropout=0.1)
        net = fastmlp.to_torch(model).eval()
        net(torch.zeros(1, 4, dtype=torch.float64))

    >>> import fastmlp
    >>> try:
    ...     fastmlp.to_torch("net.pt")
    ... except TypeError as error:
    ...     print(error)
    model must be a fastmlp.Model or a fitted estimator, got 'net.pt'
    """
    network = given.network(model)
    try:
        import torch
    except ImportError as error:
        raise ImportError('to_torch needs PyTorch: pip install "fastmlp[torch]"') from error
    from torch import nn

    modules: OrderedDict[str, Any] = OrderedDict()
    rates = network.dropout + (0.0,) * (len(network.weights) - len(network.dropout))
    for i, (W, b, name, rate) in enumerate(zip(network.weights, network.biases, network.activations, rates, strict=True)):
        dtype = getattr(torch, network.dtype.name)
        linear = nn.utils.skip_init(nn.Linear, *W.shape, dtype=dtype)  # draws no random numbers
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(W.T.copy()))
            linear.bias.copy_(torch.from_numpy(b[0].copy()))
        modules[str(2 * i)] = linear
        if name != "identity":
            modules[str(2 * i + 1)] = _module(nn, str(name))
        if rate:
            modules[f"dropout{i}"] = nn.Dropout(rate)
    return nn.Sequential(modules)


def _module(nn: Any, name: str) -> Any:
    """An activation as a module."""
    for kind, (known, _) in MODULES.items():
        if known == name:
            return getattr(nn, kind)(**SETTINGS.get(name, {}))
    formula = FORMULAS[name]

    class Activation(nn.Module):
        def forward(self, z: Any) -> Any:
            return formula(z)

    Activation.__name__ = Activation.__qualname__ = name.capitalize()
    return Activation()


def _squareplus(z: Any) -> Any:
    larger = (z.abs() + (z * z + 4).sqrt()) / 2  # without the difference of large numbers that z < 0 has in the formula
    return larger.where(z > 0, 1 / larger)


FORMULAS: dict[str, Callable[[Any], Any]] = {"squareplus": _squareplus, "exp": lambda z: z.exp()}
