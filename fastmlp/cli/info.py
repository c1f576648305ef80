"""``fastmlp info``: what is in a model's file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import fastmlp
from fastmlp.files import description
from fastmlp.files.safetensors import Reader, parsed
from fastmlp.tabular.columns import Number, listed
from fastmlp.tabular.table import Table

NAME, SUMMARY = "info", "say what is in a model's file"
EXAMPLE = """\
example:
  fastmlp info houses.safetensors
  fastmlp info houses.safetensors --json | jq .network.sizes"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("model", help="a .safetensors file of fastmlp's")
    parser.add_argument("--json", action="store_true", help="for programs")


def run(options: argparse.Namespace) -> None:
    """Read the file, all of it, and print."""
    found = about(options.model)
    if options.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    net = found["network"]
    lines = [
        f"kind        {found['kind']}, format version {found['format']}, by fastmlp {found['by']}",
        f"sizes       {'-'.join(map(str, net['sizes']))}",
        f"activations {', '.join(map(str, net['activations']))}",
        f"loss        {net['loss']}" + (f", dropout {listed(net['dropout'])}" if any(net["dropout"]) else ""),
        f"dtype       {net['dtype']}",
        f"parameters  {found['parameters']:,}",
        f"bytes       {found['bytes']:,}",
    ]
    if "columns" in found:
        target = found["target"]
        what = (
            f"classes {listed(target['classes'])}"
            if "classes" in target
            else f"mean {target['mean']:g}, scale {target['scale']:g}"
        )
        lines += [
            f"target      {target['name']}: {what}",
            f"missing     {found['missing']}",
            f"columns     {len(found['columns'])}",
        ]
        for column in found["columns"]:
            known = f"mean {column['mean']:g}, scale {column['scale']:g}" if "mean" in column else listed(column["categories"])
            lines.append(f"  {column['name']}: {column['kind']}, {known}" + (", with gaps" if column["gaps"] else ""))
    print("\n".join(lines))


def about(path: str) -> dict[str, Any]:
    """All of it, as JSON has it."""
    whole = fastmlp.load(path)
    with Reader(path) as reader:
        head = parsed("its description", reader.metadata[description.KEY])
    model = whole.model if isinstance(whole, Table) else getattr(whole, "model_", whole)
    found = {
        "kind": head["kind"],
        "format": head["version"],
        "by": str(head.get("by"))[:40],
        "network": description.network(model.network),
        "parameters": model.params.size,
        "bytes": Path(path).stat().st_size,
    }
    if not isinstance(whole, Table):
        return found
    of = whole.target
    more = {"mean": of.mean, "scale": of.scale} if of.classes is None else {"classes": of.classes.tolist()}
    columns = []
    for column in whole.preparation.columns:
        number = isinstance(column, Number)
        rest = {"mean": column.mean, "scale": column.scale} if isinstance(column, Number) else {"categories": column.categories}
        columns.append({"name": column.name, "kind": "number" if number else "category", "gaps": column.gaps, **rest})
    return found | {"target": {"name": of.name, **more}, "missing": whole.preparation.missing, "columns": columns}
