"""A fit written down while it runs, so that another one goes on from there to the same bits."""

import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fastmlp import checks
from fastmlp.engine.engine import Engine
from fastmlp.files import description, durable, models, safetensors
from fastmlp.files.description import Custom
from fastmlp.files.safetensors import Reader
from fastmlp.network import Network
from fastmlp.training import doubts

Every = Literal["epoch"] | int | float
BEFORE = ".previous"  # what is added to the name of the checkpoint before the newest


class Checkpoint:
    """Where a fit is written to, and when; and where it goes on from.

    Parameters
    ----------
    path, every, resume
        The arguments of `Model.fit`.
    custom : sequence
        The model's activations and loss, of which a user's own are known to a file by name.

    Attributes
    ----------
    found : dict or None
        What the file `resume` has besides the parameters.
    saved : dict or None
        Its parameters and what its optimiser remembers, for `Engine.restore`.
    """

    def __init__(self, path: Any, every: Any, resume: Any, custom: Sequence[Any]) -> None:
        self._path = None if path is None else models.file(path)
        if isinstance(every, str):
            checks.choice("every", every, ("epoch",))
        elif isinstance(every, float | np.floating):
            every = checks.real("every", every, above=0.0)
        elif isinstance(every, int | np.integer) and not isinstance(every, bool):
            every = checks.count("every", every)
        else:
            raise TypeError(f"every must be 'epoch', a number of steps (an int) or of seconds (a float), got {every!r}")
        self._every = every
        self.found: dict[str, Any] | None = None
        self.saved: dict[str, Any] | None = None
        if self._path is not None:
            if not self._path.parent.is_dir():
                raise FileNotFoundError(f"checkpoint must be in a folder that is there, got {os.fspath(self._path)!r}")
            if self._path.is_dir():
                raise IsADirectoryError(f"checkpoint must be a file's path, got the folder {os.fspath(self._path)!r}")
            if before(self._path).is_dir():
                raise IsADirectoryError(f"checkpoint needs the name {os.fspath(before(self._path))!r} for a file, got a folder")
        self._keep: str | None = BEFORE
        if resume is not None:
            own = [one for one in custom if isinstance(one, Custom)]
            (self.found, self.saved, self._network), damaged = newest(models.file(resume), own)
            if damaged and self._path is not None and before(self._path) == before(models.file(resume)):
                self._keep = None  # what is damaged does not take the place of what is not
        self._steps, self._time = 0, 0.0
        self._kind: Any = None

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return self._path is not None or self.found is not None

    @property
    def writes(self) -> bool:
        """Whether checkpoints are written."""
        return self._path is not None

    @property
    def each_epoch(self) -> bool:
        """Whether each epoch's end is written down."""
        return self.writes and self._every == "epoch"

    def compare(self, settings: dict[str, Any], network: Network, **kinds: Any) -> None:
        """Raise ValueError unless the fit to go on with had these settings, and a model like this one.

        `kinds` are the types of what its course has besides.
        """
        if self.found is None:
            return
        description.parts("resume: the course of its fit", self.found, settings=dict, **kinds)
        if self._network != network:
            raise ValueError(f"resume must be a checkpoint of a model like this one, {network}, got one of {self._network}")
        before = self.found["settings"]
        for name in sorted(before.keys() | settings.keys()):
            had, has = before.get(name), settings.get(name)
            if had != has:
                raise ValueError(f"resume: {name} must be that of the checkpoint's fit, {had!r}, got {has!r}")

    def begin(self, engine: Engine) -> None:
        """A training begins."""
        self._note(engine)
        if self._path is not None:
            durable.sweep(self._path, BEFORE)

    def _note(self, engine: Engine) -> None:
        self._steps, self._kind, self._time = engine.steps, engine.kind, time.monotonic()

    def _since(self, engine: Engine) -> int:
        """Steps since the last one was written; another kind of optimiser counts its own."""
        return engine.steps - (self._steps if engine.kind is self._kind else 0)

    def most(self, engine: Engine) -> int | None:
        """Steps until the next one is due; None: that is no number of steps."""
        return self._every - self._since(engine) if self.writes and isinstance(self._every, int) else None

    def late(self) -> bool:
        """Whether one is due by the clock."""
        return self.writes and isinstance(self._every, float) and time.monotonic() - self._time >= self._every

    def due(self, engine: Engine, epoch_ended: bool) -> bool:
        """Whether one is due now, behind a step."""
        if isinstance(self._every, int):
            return self.writes and self._since(engine) >= self._every
        return self.late() if isinstance(self._every, float) else self.writes and epoch_ended

    def write(self, engine: Engine, network: Network, course: dict[str, Any]) -> None:
        """Write a fit's course and its model's state, with the file before under another name; or raise OSError."""
        assert self._path is not None
        saved = engine.save()
        memory, tensors = models.memory(saved)
        tensors |= models.layers(network, saved["params"])
        packed = pack(course, tensors)
        metadata = description.metadata("checkpoint", network=description.network(network), optimizer=memory, course=packed)
        try:
            with durable.writing(self._path, keep=self._keep) as file:
                safetensors.write(file, tensors, metadata)
        except OSError as error:
            why = f"the checkpoint cannot be written: {error.strerror or error}; the model can be used, with the weights of now"
            raise OSError(error.errno, why, os.fspath(self._path)) from error
        self._keep = BEFORE
        self._note(engine)


Found = tuple[dict[str, Any], dict[str, Any], Network]


def before(path: Path) -> Path:
    """The checkpoint before the one at a path: beside where a link leads."""
    return Path(os.path.realpath(path) + BEFORE)


def newest(path: Path, custom: Sequence[Custom]) -> tuple[Found, bool]:
    """The course, the state and the network in a checkpoint, or in the one before, if the disk has damaged it: then True."""
    try:
        return _read(path, custom), False
    except (FileNotFoundError, ValueError) as error:
        try:
            found = _read(before(path), custom)
        except (OSError, ValueError):
            raise error from None
        doubts.warn(f"{error}; the fit goes on from the checkpoint before it", RuntimeWarning)
        return found, True


def _read(path: Path, custom: Sequence[Custom]) -> Found:
    with Reader(path) as reader:
        found = description.read(reader.metadata)
        checks.choice("kind", found.pop("kind"), ("checkpoint",))
        described, optimizer, course = description.parts("description", found, network=dict, optimizer=dict, course=dict)
        network = description.read_network(described, custom)
        explained = {models.MOMENTS, *models.expected(reader, network)}
        saved = models.read_memory(reader, optimizer, network)
        saved["params"] = np.zeros(network.parameters, network.dtype)
        models.read_layers(reader, network, saved["params"])
        left = reader.entries.keys() - explained
        try:
            course = unpack(course, reader, left)
        except RecursionError:
            raise ValueError("its state has too many lists within lists") from None
        if left:
            raise ValueError(f"it has a tensor {min(left)!r} that its state does not name")
    return course, saved, network


def pack(value: Any, tensors: dict[str, np.ndarray]) -> Any:
    """What JSON holds of a state of dicts, lists, text, numbers and arrays; the arrays go to the tensors."""
    if isinstance(value, dict):
        if not all(isinstance(name, str) and not name.startswith("$") for name in value):
            raise TypeError(f"a state must have strings for its names, which do not begin with $, got {list(value)}")
        return {name: pack(part, tensors) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [pack(part, tensors) for part in value]
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return {"$torch": pack(value.detach().cpu().numpy(), tensors)["$tensor"]}
    if isinstance(value, np.ndarray):
        if value.dtype.newbyteorder("<") not in safetensors.NAMES:
            raise TypeError(f"a state's arrays must hold numbers, got dtype {value.dtype}")
        name = f"state.{len(tensors)}"
        tensors[name] = value
        return {"$tensor": name}
    value = description.plain(value)
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a state must hold dicts, lists, text, numbers and arrays only, got {value!r}")


def unpack(value: Any, reader: Reader, left: set[str]) -> Any:
    """What `pack` has packed; each tensor is read once, and taken from those that are left."""
    if isinstance(value, list):
        return [unpack(part, reader, left) for part in value]
    if not isinstance(value, dict):
        return value
    if value.keys() in ({"$tensor"}, {"$torch"}):
        (kind, name), torch = *value.items(), sys.modules.get("torch")
        if not isinstance(name, str) or name not in left or reader.entries[name].dtype not in safetensors.DTYPES:
            raise ValueError(f"its state names a tensor {str(name)[:50]!r} that is not there, or that it has named before")
        left.remove(name)
        entry = reader.entries[name]
        array = reader.array(name, np.dtype(safetensors.DTYPES[entry.dtype]), entry.shape)
        if kind == "$tensor":
            return array
        if torch is None:  # which no file imports
            raise ValueError("its state has tensors of PyTorch: import torch before")
        return torch.from_numpy(array)
    if value.keys() == {"$float"} and value["$float"] in ("nan", "inf", "-inf"):
        return float(value["$float"])
    return {name: unpack(part, reader, left) for name, part in value.items()}
