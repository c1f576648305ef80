"""A table's model in a file: its description and tensors beside the network's, checked when they are read."""

from __future__ import annotations

from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp import checks
from fastmlp.files import description, labels, models
from fastmlp.files.safetensors import Reader
from fastmlp.model import Model
from fastmlp.tabular.columns import MISSING, Category, Number, Preparation, Target

if TYPE_CHECKING:
    from fastmlp.tabular.table import Table

NAMES, NUMBERS, CATEGORIES, CLASSES, TARGET = (
    "table.names",
    "table.numbers",
    "table.categories",
    "table.classes",
    "table.target",
)


def described(table: Table) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The parts of a file's description, and its tensors."""
    columns: list[dict[str, Any]] = []
    numbers: list[tuple[float, float]] = []
    categories: list[str] = []
    for column in table.preparation.columns:
        if isinstance(column, Number):
            columns.append({"kind": "number", "gaps": column.gaps})
            numbers.append((column.mean, column.scale))
        else:
            count = len(column.categories)
            columns.append({"kind": "category", "gaps": column.gaps, "categories": count})
            categories += column.categories
    tensors = models.layers(table.model.network, table.model.params)
    # Names are tensors: long headers have none but ASCII characters.
    names, more = labels.write(NAMES, _objects([*(column.name for column in table.preparation.columns), table.target.name]))
    words, also = labels.write(CATEGORIES, _objects(categories))
    tensors |= more | also | {NUMBERS: np.array(numbers, np.float64).reshape(-1, 2)}
    target: dict[str, Any] = {}
    if table.target.classes is None:
        tensors[TARGET] = np.array([table.target.mean, table.target.scale])
    else:
        target["classes"], more = labels.write(CLASSES, table.target.classes)
        tensors |= more
    about = {"columns": columns, "names": names, "categories": words, "missing": table.preparation.missing, "target": target}
    return {"network": description.network(table.model.network), "table": about}, tensors


def _objects(texts: list[str]) -> np.ndarray:
    return np.array([*texts, None], object)[:-1]


def load(reader: Reader, found: dict[str, Any]) -> tuple[Model, Preparation, Target]:
    """A `Table`'s parts, from an open file and its description without the kind; raises ValueError if anything is wrong."""
    network, about = description.parts("description", found, network=dict, table=dict)
    described = description.read_network(network)
    expected = models.expected(reader, described)
    columns, of_names, words, missing, of = description.parts(
        "table", about, columns=list, names=dict, categories=dict, missing=str, target=dict
    )
    checks.choice("missing", missing, MISSING)
    names, more = labels.read(reader, NAMES, of_names)
    categories, also = labels.read(reader, CATEGORIES, words)
    preparation = Preparation(_columns(reader, columns, names, categories), missing)
    expected |= more | also | {NUMBERS}
    target, more = _target(reader, names[-1], of)
    outputs = 1 if target.classes is None or len(target.classes) == 2 else len(target.classes)
    if described.sizes[0] != preparation.width or described.sizes[-1] != outputs:
        wanted = f"{preparation.width} inputs and {outputs} outputs"
        raise ValueError(f"its columns and classes need a network of {wanted}, got sizes {list(described.sizes)}")
    if unknown := sorted(reader.entries.keys() - expected - more):
        raise ValueError(f"it has a tensor {unknown[0]!r} that its description does not explain")
    model = Model.__new__(Model)
    model._start(described)
    models.read_layers(reader, described, model.params)
    return model, preparation, target


def _columns(reader: Reader, described: list[Any], names: np.ndarray, categories: np.ndarray) -> list[Number | Category]:
    if names.dtype != object or categories.dtype != object or len(names) != len(described) + 1:
        raise ValueError("its names and categories must be strings, a name for each column and one for the target")
    kinds: dict[str, Any] = {"kind": str, "gaps": bool, "categories": (int, NoneType)}
    parts = [description.parts("a column", value, **kinds) for value in described]
    for name, (kind, _, count) in zip(names[:-1], parts, strict=True):
        if (kind, count is None) not in (("number", True), ("category", False)):
            raise ValueError(f"column {name[:40]!r} must be a number, or a category with a count of its texts")
    numbers = reader.array(NUMBERS, np.dtype(np.float64), (sum(kind == "number" for kind, _, _ in parts), 2))
    if not np.isfinite(numbers).all() or not (numbers[:, 1] > 0).all():
        raise ValueError(f"tensor {NUMBERS!r} must hold finite means and positive scales")
    made: list[Number | Category] = []
    at, scales = 0, iter(numbers.tolist())
    for name, (kind, gaps, count) in zip(names[:-1], parts, strict=True):
        if kind == "number":
            mean, scale = next(scales)
            made.append(Number(name, mean, scale, gaps))
            continue
        texts = tuple(categories[at : at + count].tolist()) if count >= 0 else ()
        if len(set(texts)) != count:
            raise ValueError(f"column {name[:40]!r} must have {count} different categories")
        made.append(Category(name, texts, gaps))
        at += count
    if at != len(categories) or not made or len({one.name for one in made}) != len(made):
        raise ValueError("its columns must be of different names, and have all of its categories")
    return made


def _target(reader: Reader, name: str, value: dict[str, Any]) -> tuple[Target, set[str]]:
    (words,) = description.parts("target", value, classes=(dict, NoneType))
    if words is None:
        mean, scale = reader.array(TARGET, np.dtype(np.float64), (2,)).tolist()
        if not (np.isfinite([mean, scale]).all() and scale > 0):
            raise ValueError(f"tensor {TARGET!r} must hold a finite mean and a positive scale")
        return Target(name, None, mean, scale), {TARGET}
    classes, names = labels.read(reader, CLASSES, words)
    if len(classes) < 2 or len(set(classes.tolist())) != len(classes) or classes.dtype.kind not in "iOb":
        raise ValueError("its classes must be two or more different labels, of whole numbers, strings or bools")
    return Target(name, classes), names
