"""A network's parameters, and what its optimiser remembers, as the tensors of a file."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp.files import description, durable, safetensors
from fastmlp.files.safetensors import Reader
from fastmlp.network import Network
from fastmlp.optimizers import KIND_NAMES, KINDS

MOMENTS = "optimizer.moments"


def write(path: str | os.PathLike[str], tensors: dict[str, np.ndarray], kind: str, **parts: Any) -> None:
    """A whole file, or none; `parts` are what its description has besides its kind."""
    metadata = description.metadata(kind, **parts)
    with durable.writing(file(path)) as to:
        safetensors.write(to, tensors, metadata)


def file(path: str | os.PathLike[str]) -> Path:
    """A file's path."""
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise TypeError(f"path must be a string or a path, got {path!r}")
    return Path(path)


def layers(network: Network, params: np.ndarray, prefix: str = "") -> dict[str, np.ndarray]:
    """A vector of parameters by PyTorch's names for an ``nn.Sequential`` of Linear, activation, Linear, ...; views."""
    weights, biases = network.views(params)
    return {f"{prefix}{2 * i}.weight": w.T for i, w in enumerate(weights)} | {
        f"{prefix}{2 * i}.bias": b[0] for i, b in enumerate(biases)
    }


def memory(saved: dict[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What an optimiser remembers, as `Engine.save` has it: its description and its tensors."""
    moments = saved["moments"]
    if saved["kind"] not in KIND_NAMES:
        kind = saved["kind"].__name__
        raise ValueError(f"optimizer=True needs an optimiser of fastmlp's, whose memory it writes; the model's last was {kind}")
    found = {"kind": KIND_NAMES[saved["kind"]], "steps": saved["steps"], "averaged": saved["averaged"]}
    return found | {"vectors": len(moments)}, {MOMENTS: moments} if len(moments) else {}


def read_memory(reader: Reader, value: Any, network: Network) -> dict[str, Any]:
    """What `Engine.restore` takes besides the parameters."""
    kind, steps, averaged, vectors = description.parts("optimizer", value, kind=str, steps=int, averaged=bool, vectors=int)
    most = 1 + max(max(one.rule.moments, *(one.rule.with_momentum or (0,))[-1:]) for one in KINDS.values())
    if not averaged <= vectors <= most:
        raise ValueError(f"optimizer must have at most {most} vectors, got {vectors}")
    shape = vectors, network.parameters
    moments = reader.array(MOMENTS, network.dtype, shape) if vectors else np.zeros(shape, network.dtype)
    return _memory(kind, steps, averaged, moments)


def kept(value: Any, network: Network) -> dict[str, Any]:
    """What `Engine.restore` takes, from what `Engine.save` gave, with the kind's name."""
    kind, steps, averaged, params, moments = description.parts(
        "kept", value, kind=str, steps=int, averaged=bool, params=np.ndarray, moments=np.ndarray
    )
    for array, shape in ((params, (network.parameters,)), (moments, (len(moments), network.parameters))):
        if array.dtype != network.dtype or array.shape != shape:
            raise ValueError(f"kept must hold arrays of {network.dtype} {shape}, got {array.dtype} {array.shape}")
    return _memory(kind, steps, averaged, moments) | {"params": params}


def _memory(kind: str, steps: int, averaged: bool, moments: np.ndarray) -> dict[str, Any]:
    if kind not in KINDS or not 0 <= steps < description.MOST:
        raise ValueError(f"optimizer must have a kind of {', '.join(KINDS)} and a number of steps; got {kind!r}, {steps}")
    return {"kind": KINDS[kind], "steps": steps, "averaged": averaged, "moments": moments}


def expected(reader: Reader, network: Network, prefix: str = "") -> set[str]:
    """The names of all layers' tensors; raises ValueError unless the file has them: before there is memory for them."""
    names = set()
    for i, (fan_in, fan_out) in enumerate(network.shapes):
        for part, shape in (("weight", (fan_out, fan_in)), ("bias", (fan_out,))):
            names.add(name := f"{prefix}{2 * i}.{part}")
            reader.expect(name, network.dtype, shape)
    return names


def read_layers(reader: Reader, network: Network, params: np.ndarray, prefix: str = "") -> None:
    """Fill a vector of parameters."""
    for name, view in layers(network, params, prefix).items():
        reader.read(name, view)
