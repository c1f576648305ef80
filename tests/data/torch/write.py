"""Writes the files beside it with PyTorch, and what its nets make of some inputs: ``python tests/data/torch/write.py``."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

HERE = Path(__file__).parent


def net(dtype: Any = torch.float32, bias: bool = True) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(3, 5, bias, dtype=dtype),
        nn.Tanh(),
        nn.Linear(5, 4, bias, dtype=dtype),
        nn.GELU(),
        nn.Linear(4, 2, bias, dtype=dtype),
        nn.Softmax(-1),
    )


def flat(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same as views of one vector, the biases first."""
    order = sorted(state, key=lambda name: state[name].ndim)
    vector = torch.cat([state[name].ravel() for name in order])
    parts = dict(zip(order, vector.split([state[name].numel() for name in order]), strict=True))
    return {name: parts[name].view(state[name].shape) for name in state}


def trained() -> tuple[nn.Sequential, dict[str, Any]]:
    """A net after two steps, and a checkpoint of its training."""
    one = net()
    optimizer = torch.optim.Adam(one.parameters())
    for _ in range(2):
        optimizer.zero_grad()
        one(torch.ones(4, 3)).square().sum().backward()
        optimizer.step()
    words = {"epoch": 3, "loss": 0.25, "name": "réseau", "done": True, "rates": [0.1, 0.2], "large": 2**40, "text": "x" * 300}
    return one, {**words, "state_dict": one.state_dict(), "optimizer": optimizer.state_dict()}


def main() -> None:
    torch.manual_seed(0)
    X = torch.randn(6, 3, dtype=torch.float64)
    cases: dict[str, Any] = {}
    arrays = {"X": X.numpy()}

    def case(name: str, one: nn.Sequential, saved: Any, key: str | None = None, **options: Any) -> None:
        torch.save(saved, HERE / f"{name}.pt", **options)
        with torch.no_grad():
            wide = one.to(torch.float32) if one[0].weight.dtype in (torch.float16, torch.bfloat16) else one
            arrays[name] = wide(X.to(wide[0].weight.dtype)).numpy()
        cases[name] = {"key": key, "dtype": str(arrays[name].dtype)}

    one = net()
    case("state_dict", one, one.state_dict())
    case("protocol4", one, one.state_dict(), pickle_protocol=4)
    names = {"0": "input", "2": "body.hidden", "4": "body.output"}
    case("named", one, OrderedDict((f"{names[k[0]]}{k[1:]}", v.clone()) for k, v in one.state_dict().items()))
    case("parameters", one, {f"net.{name}": value for name, value in one.named_parameters()})
    case("transposed", one, {k: v.T.contiguous().T if v.ndim == 2 else v for k, v in one.state_dict().items()})
    case("shared", one, flat(one.state_dict()))
    case("offset", one, {k: torch.cat([torch.ones(7), v.ravel()])[7:].view(v.shape) for k, v in one.state_dict().items()})
    wide = torch.randn(4, 12)
    with torch.no_grad():
        one[2].weight.copy_(wide[:, 1:11:2])
    case("strided", one, {**one.state_dict(), "2.weight": wide[:, 1:11:2]})
    double = net(torch.float64)
    case("double", double, double.state_dict())
    for name, dtype in (("half", torch.float16), ("bfloat16", torch.bfloat16)):
        short = net(dtype)
        case(name, short, short.state_dict())
    without = net(bias=False)
    case("without_bias", without, without.state_dict())
    case("checkpoint", *trained())
    other = net()
    case("two", other, {"model": net().state_dict(), "ema": other.state_dict()}, key="ema")
    np.savez(HERE / "expected.npz", **arrays)
    (HERE / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    main()
