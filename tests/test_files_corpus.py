"""Files that versions of fastmlp have written: they are read, predict the same, and train on; `corpus.py` has written them."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import corpus
import numpy as np
import pytest

import fastmlp
from fastmlp.files import description, safetensors
from fastmlp.files.safetensors import Reader
from fastmlp.optimizers import KINDS
from fastmlp.schedules import KINDS as SCHEDULES
from fastmlp.sklearn import files, solvers

PAGE = Path(description.__file__).with_name("FORMAT.md").read_text(encoding="utf-8")
PATHS = {path.stem: path for path in sorted(corpus.FOLDER.glob("*-*.safetensors"))}
EXPECTED = {version: np.load(corpus.FOLDER / f"expected-{version}.npz") for version in (1,)}


def test_each_kind_has_a_file() -> None:
    assert PATHS.keys() >= {f"{name}-{description.VERSION}" for name in corpus.MADE}


@pytest.mark.parametrize("name", [stem for stem in PATHS if stem != "model-1"])
def test_a_file_of_each_version(name: str, tmp_path: Path) -> None:
    kind, _, version = name.rpartition("-")
    expected = EXPECTED[int(version)]
    loaded = fastmlp.load(PATHS[name], custom=corpus.CUSTOM)
    assert corpus.params(loaded).tobytes() == expected[f"{kind}.params"].tobytes()
    close = {"rtol": 1e-4, "atol": 1e-5} if corpus.params(loaded).dtype == np.float32 else {"rtol": 1e-9, "atol": 1e-12}
    np.testing.assert_allclose(corpus.outputs(loaded), expected[f"{kind}.outputs"], **close)
    assert type(loaded) is type(corpus.MADE[kind]())
    loaded.save(tmp_path / "again", optimizer=True)
    again = fastmlp.load(tmp_path / "again", custom=corpus.CUSTOM)
    for one in (loaded, again):
        corpus.train(one)
    np.testing.assert_allclose(corpus.outputs(loaded), expected[f"{kind}.after"], **(close | {"rtol": 1e-4, "atol": 1e-6}))
    np.testing.assert_array_equal(corpus.outputs(again), corpus.outputs(loaded))
    assert not np.allclose(expected[f"{kind}.after"], expected[f"{kind}.outputs"], rtol=1e-7, atol=0)


def test_the_first_file() -> None:
    model = fastmlp.load(PATHS["model-1"])
    assert repr(model) == "Model(3-4-2, tanh, identity; mse, float64, 26 parameters)"
    assert model.dropout == (0.25,)


def test_what_they_hold() -> None:
    load = {name: fastmlp.load(path, custom=corpus.CUSTOM) for name, path in PATHS.items()}
    assert load["average-1"].average is not None
    assert load["average-1"].dropout == (0.5,)
    assert load["names-1"].classes_.tolist() == ["h\u00f6chst", "low", "middle"]
    assert load["names-1"].feature_names_in_.tolist() == ["a", "b", "\u00e9"]
    assert load["names-1"].class_weight == corpus.WEIGHTS
    assert load["multilabel-1"].solver.lr == corpus.PLATEAU
    assert load["multilabel-1"]._rates.epoch == 3
    assert load["custom-1"].network.loss is corpus.PINBALL
    assert load["row-loss-1"].network.loss is corpus.HALVES
    assert load["custom-regressor-1"].activation is corpus.SQUARE
    assert isinstance(load["generator-1"].random_state, np.random.RandomState)
    assert load["two-1"].predict(corpus.X).dtype == bool


# ---- the page ----------------------------------------------------------------------------------------------------


def _names(value: Any) -> set[str]:
    """Each field's name within JSON."""
    if isinstance(value, dict):
        return set(value) | {name for one in value.values() for name in _names(one)}
    return {name for one in value for name in _names(one)} if isinstance(value, list) else set()


def _said(name: str) -> bool:
    return f"`{name}`" in PAGE or f'`"{name}"`' in PAGE


def test_the_page_names_each_field() -> None:
    found, tensors, values = set(), set(), set()
    for path in PATHS.values():
        with Reader(path) as reader:
            described = json.loads(reader.metadata[description.KEY])
            tensors |= {re.sub(r"^\d+\.", "2i.", re.sub(r"\.\d+\b", ".i", name)) for name in reader.entries}
        settings = described.get("settings", {})
        found |= _names(described | {"settings": list(settings.values())})
        values |= {described["kind"], *filter(None, [described.get("estimator"), described.get("targets", {}).get("type")])}
    kinds = [*KINDS.values(), *SCHEDULES.values()]
    found |= {one.name for kind in kinds for one in fields(kind)} - {"gain", "by_mass", "sklearn"}
    found |= {name for _, names in solvers.THEIRS.values() for name in names} | files.FITTED.keys()
    values |= {
        *KINDS,
        *SCHEDULES,
        *files.TARGETS,
        *safetensors.DTYPES,
        *(name for name, _ in solvers.THEIRS.values()),
        *files.ESTIMATORS,
    }
    assert len(found) > 60
    assert {name for name in found | tensors | values if not _said(name)} == set()
    assert not _said("color")


def test_the_page_knows_no_fields_that_are_not_written() -> None:
    """Of the tables: what stands alone in a first column."""
    source = "".join(path.read_text(encoding="utf-8") for path in Path(fastmlp.__file__).parent.rglob("*.py"))
    rows = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert len(rows) > 25
    assert [name for name in rows if f'"{name}"' not in source and f"{name}=" not in source] == []


def test_what_the_page_says_of_versions() -> None:
    assert f"# The format of files, version {description.VERSION}\n" in PAGE
    for heading in (
        "Container",
        "Networks",
        'Kind "model"',
        'Kind "estimator"',
        'Kind "checkpoint"',
        'Kind "table"',
        "Versions",
    ):
        assert f"## {heading}\n" in PAGE
