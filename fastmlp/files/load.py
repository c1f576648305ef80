"""Reading back what was saved."""

import os
from collections.abc import Sequence
from types import NoneType
from typing import Any

from fastmlp import checks
from fastmlp.files import description, models
from fastmlp.files.description import Custom
from fastmlp.files.safetensors import Reader
from fastmlp.model import Model


def load(path: str | os.PathLike[str], custom: Sequence[Custom] = ()) -> Any:
    """What `Model.save` has written, or a checkpoint of `Model.fit`, as a model; what ``fastmlp train`` has, with its table.

    The file is read as data: nothing in it names code, and no size in it is believed before it is compared with the file's.

    Parameters
    ----------
    path : str or os.PathLike
    custom : sequence of CustomActivation, CustomLoss and RowLoss
        Those that the model was made with: a file knows them by their names.

    Returns
    -------
    Model, estimator or Table
        What was saved, with the same parameters, to the last bit; and with what the optimiser remembers, if that was saved.
        What ``fastmlp train`` wrote has the methods `predict` and `predict_proba`, which take its columns, and its ``model``.

    Raises
    ------
    ValueError
        If the file is damaged, of another version of the format, or none of fastmlp's; or needs what is not in `custom`.
    TypeError
        If an argument is of the wrong kind.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import fastmlp, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> model = fastmlp.Model([2, 3, 1], rng=0)
    >>> model.save(path)
    >>> loaded = fastmlp.load(path)
    >>> loaded
    Model(2-3-1, relu, identity; mse, float64, 13 parameters)
    >>> bool((loaded.params == model.params).all())
    True
    """
    path = models.file(path)
    if not isinstance(custom, list | tuple) or not all(isinstance(one, Custom) for one in custom):
        raise TypeError(f"custom must be a sequence of CustomActivation, CustomLoss and RowLoss objects, got {custom!r}")
    with Reader(path) as reader:
        found = description.read(reader.metadata)
        kind = checks.choice("kind", found.pop("kind"), ("model", "checkpoint", "estimator", "table"))
        if kind == "table":  # imported here: most programs have none, and its import takes longer than a small file
            from fastmlp.tabular import files as tables
            from fastmlp.tabular.table import Table

            return Table(*tables.load(reader, found))
        return _estimator(reader, found, custom) if kind == "estimator" else _model(reader, found, custom)


def _estimator(reader: Reader, found: dict[str, Any], custom: Sequence[Custom]) -> Any:
    try:
        from fastmlp.sklearn import estimators as estimators  # which `files` knows by name
        from fastmlp.sklearn import files
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("sklearn", "scipy"):
            raise
        raise ImportError('an estimator\'s file needs scikit-learn: pip install "fastmlp[sklearn]"') from error
    return files.load(reader, found, custom)


def _model(reader: Reader, found: dict[str, Any], custom: Sequence[Custom]) -> Model:
    network, optimizer, course = description.parts(
        "description", found, network=dict, optimizer=(dict, NoneType), course=(dict, NoneType)
    )
    described = description.read_network(network, custom)
    expected = models.expected(reader, described)
    memory = None
    if optimizer is not None:
        memory = models.read_memory(reader, optimizer, described)
        expected |= {models.MOMENTS} if len(memory["moments"]) else set()
    if course is None and (unknown := sorted(reader.entries.keys() - expected)):
        raise ValueError(f"it has a tensor {unknown[0]!r} that its description does not explain")
    model = Model.__new__(Model)
    model._start(described)
    models.read_layers(reader, described, model.params)
    if memory is not None:
        model._engine.restore(memory | {"params": model.params})
    return model
