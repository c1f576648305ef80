"""``fastmlp convert``: a model in another format, by the file's ending."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import fastmlp
from fastmlp.activations import ACTIVATIONS
from fastmlp.cli.shared import SUFFIX, names, writable
from fastmlp.losses import LOSSES
from fastmlp.tabular.table import Table

NAME, SUMMARY = "convert", "write a model in another format, or read one from another"
EXAMPLE = """\
example:
  fastmlp convert model.safetensors model.h
  fastmlp convert model.onnx model.safetensors

The endings say what is read and written. Of a model that fastmlp train has made the network is written, with the scaling of its
numbers and of its target folded in: it takes numbers as they are, a missing one as the column's mean, and categories as inputs
of 0 and 1. The inputs are listed on standard error, in their order."""

# What reads and what writes each ending, by its name in `fastmlp`: one place to extend.
READERS = {SUFFIX: "load", ".onnx": "from_onnx", ".pt": "from_torch", ".pth": "from_torch", ".keras": "from_keras"}
WRITERS = {
    SUFFIX: "save",
    ".h": "to_c",
    ".c": "to_c",
    ".py": "to_numpy",
    ".onnx": "to_onnx",
    ".pt": "to_torch",
    ".pth": "to_torch",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("model", help=f"a file: {', '.join(here(READERS))}")
    parser.add_argument("out", help=f"a file to write: {', '.join(here(WRITERS))}; one that is there is replaced")
    parser.add_argument(
        "--activations", type=names, metavar="NAME,...", help="of a .pt file's layers, which does not tell them"
    )
    parser.add_argument(
        "--loss", choices=[*LOSSES], metavar="NAME", help="of a network that is not from fastmlp, to train it on"
    )


def here(table: dict[str, str]) -> list[str]:
    """The endings whose functions this fastmlp has."""
    return [suffix for suffix, name in table.items() if name == "save" or hasattr(fastmlp, name)]


def run(options: argparse.Namespace) -> None:
    """Read, and write."""
    reader, writer = _known("model", options.model, READERS), _known("out", options.out, WRITERS)
    if options.activations and reader != "from_torch":
        raise ValueError(f"--activations is for .pt files, got {options.model}")
    if options.activations and (unknown := [name for name in options.activations if name not in ACTIVATIONS]):
        raise ValueError(f"--activations must be of {', '.join(ACTIVATIONS)}; got {unknown[0]!r}")
    writable(options.out, options.model)
    if reader == "load":
        if options.loss:
            raise ValueError(f"--loss is for networks that are not from fastmlp, got {options.model}")
        model = fastmlp.load(options.model)
    else:
        how = {"loss": options.loss} | ({"activations": _one_or_all(options.activations)} if reader == "from_torch" else {})
        model = getattr(fastmlp, reader)(options.model, **{name: value for name, value in how.items() if value})
    if isinstance(model, Table) and writer != "save":
        print(_inputs(model), file=sys.stderr)
        model = model.raw()
    _write(model, writer, options.out)


def _known(what: str, path: str, table: dict[str, str]) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in here(table):
        raise ValueError(f"{what} must end in {', '.join(here(table))}; got {path}")
    return table[suffix]


def _one_or_all(activations: list[str] | None) -> Any:
    return activations[0] if activations and len(activations) == 1 else activations


def _inputs(table: Table) -> str:
    """What the network alone takes and gives."""
    classes = table.target.classes
    out = f"{table.target.name}" if classes is None else f"the probability of {classes[1]}"
    if classes is not None and len(classes) > 2:
        out = f"the probabilities of {', '.join(map(str, classes.tolist()))}"
    lines = [f"The network alone is written. Its output is {out}. Its inputs are:"]
    return "\n".join([*lines, *(f"{i:5}  {name}" for i, name in enumerate(table.preparation.inputs))])


def _write(model: Any, writer: str, path: str) -> None:
    if writer == "save":
        model.save(path)
        return
    function = getattr(fastmlp, writer)
    if writer == "to_torch":
        import torch

        torch.save(function(model).state_dict(), path)
    else:
        function(model, path)
