"""Checkpoints on bad disks, damaged and hostile checkpoints, and what a fit refuses to go on from: nothing else changes."""

from __future__ import annotations

import copy
import errno
import json
import os
import random
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import SCHEDULES, Case, Counter, StoppedError, outcome, same, stopped
from damage import sealed

import fastmlp
from fastmlp import EarlyStopping, Model
from fastmlp.files import safetensors
from fastmlp.training.checkpoint import BEFORE, Checkpoint

RICH = Case(
    options={
        "optimizer": fastmlp.SGD(SCHEDULES[6], momentum=0.9),
        "validation_split": 0.3,
        "metrics": "mae",
        "nonfinite": "stop",
    },
    callbacks=lambda: [EarlyStopping(patience=2), Counter()],
)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A checkpoint in the middle of an epoch, with another one before it."""
    with stopped(5), pytest.raises(StoppedError):
        RICH.run(checkpoint=tmp_path / "fit", every=2)
    return tmp_path / "fit"


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


# ---- disks -----------------------------------------------------------------------------------------------------------


def fails_at(writes: int, path: Path, spoil: Callable[[], object], **more: Any) -> tuple[OSError, Model]:
    """What a fit raises if the place is spoiled behind a number of checkpoints; the model is as its last step left it."""
    write, done, steps, model, want = Checkpoint.write, 0, 0, RICH.model(), RICH.model()
    with tempfile.TemporaryDirectory() as other, stopped(writes), pytest.raises(StoppedError):
        want.fit(*RICH.data(), 5, 8, lr=0.05, rng=7, checkpoint=Path(other) / "fit", every=2)

    def watched(self: Checkpoint, engine: Any, *what: Any) -> None:
        nonlocal done, steps
        steps = engine.steps
        done += 1
        if done == writes + 1:
            spoil()
        write(self, engine, *what)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoint, "write", watched)
        with pytest.raises(OSError, match=r"the checkpoint cannot be written: .*the model can be used") as raised:
            model.fit(*RICH.data(), 5, 8, lr=0.05, rng=7, checkpoint=path, every=2, **more)
    assert model._engine.steps == steps == 2 * writes
    np.testing.assert_array_equal(model.params, want.params)
    model.fit(*RICH.data(), 1)
    return raised.value, model


def goes_on(path: Path) -> None:
    """The checkpoint is whole, and its fit goes on to the bits of one that was never stopped."""
    got, want = RICH.model(), RICH.model()
    first = want.fit(*RICH.data(), 5, 8, lr=0.05, rng=7)
    assert dict(got.fit(*RICH.data(), 5, 8, lr=0.05, resume=path)) == dict(first)
    np.testing.assert_array_equal(got.params, want.params)


def no_space(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("where", "writes"),
    [(where, writes) for writes in (0, 3) for where in ("write", "fsync", "replace")] + [("link and copy", 3)],
)
def test_a_full_disk(where: str, writes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()

    def spoil() -> None:
        if where == "write":
            monkeypatch.setattr(safetensors, "write", no_space)
        elif where == "link and copy":
            monkeypatch.setattr(os, "link", no_space)
            monkeypatch.setattr(shutil, "copyfileobj", no_space)
        else:
            monkeypatch.setattr(os, where, no_space)

    error, _ = fails_at(writes, folder / "fit", spoil)
    monkeypatch.undo()
    assert error.errno == errno.ENOSPC
    assert error.filename == str(folder / "fit")
    assert names(folder) == (["fit", "fit" + BEFORE] if writes else [])
    if writes:
        goes_on(folder / "fit")
        goes_on(folder / ("fit" + BEFORE))


@pytest.fixture
def tiny() -> Iterator[Path]:
    """A disk of 64 kB."""
    if os.name != "posix" or os.geteuid():
        pytest.skip("needs root to mount a disk")
    place = Path("/tmp") / f"fastmlp-tiny-{os.getpid()}"
    place.mkdir()
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True, text=True)
        if mounted.returncode:
            pytest.skip(f"no disk can be mounted: {mounted.stderr}")
        yield place
        subprocess.run(["umount", place], check=True)
    finally:
        place.rmdir()


def test_a_disk_that_fills_up(tiny: Path) -> None:
    (tiny / "folder").mkdir()
    error, _ = fails_at(3, tiny / "folder" / "fit", lambda: fill(tiny / "filler"))
    assert error.errno == errno.ENOSPC
    assert names(tiny / "folder") == ["fit", "fit" + BEFORE]
    goes_on(tiny / "folder" / "fit")


def fill(path: Path) -> None:
    with open(path, "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_places_that_go(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    error, _ = fails_at(3, folder / "fit", lambda: folder.rename(tmp_path / "moved"))
    assert isinstance(error, FileNotFoundError)
    assert names(tmp_path / "moved") == ["fit", "fit" + BEFORE]
    goes_on(tmp_path / "moved" / "fit")
    folder.mkdir()

    def other() -> None:
        (folder / "fit").unlink()
        (folder / "fit").mkdir()

    error, _ = fails_at(3, folder / "fit", other)
    assert isinstance(error, IsADirectoryError)
    assert names(folder) == ["fit", "fit" + BEFORE]
    goes_on(folder / ("fit" + BEFORE))
    (folder / "fit").rmdir()
    (folder / ("fit" + BEFORE)).unlink()

    def second() -> None:
        (folder / ("fit" + BEFORE)).unlink()
        (folder / ("fit" + BEFORE)).mkdir()

    error, _ = fails_at(3, folder / "fit", second)
    assert names(folder) == ["fit", "fit" + BEFORE]
    goes_on(folder / "fit")


def test_places_that_are_none(tmp_path: Path) -> None:
    model, (X, y) = RICH.model(), RICH.data()
    (tmp_path / ("taken" + BEFORE)).mkdir()
    for path, error in (
        (tmp_path, IsADirectoryError),
        (tmp_path / "taken", IsADirectoryError),
        (tmp_path / "none" / "fit", FileNotFoundError),
        (tmp_path / ("x" * 250), OSError),  # whose second name is too long
        (3, TypeError),
        (b"fit", TypeError),
    ):
        kept = model.params.copy()
        with pytest.raises(error):
            model.fit(X, y, checkpoint=path)  # type: ignore[arg-type]
        np.testing.assert_array_equal(model.params, kept)
    with pytest.raises(FileNotFoundError):
        model.fit(X, y, resume=tmp_path / "fit")
    assert names(tmp_path) == ["taken" + BEFORE]


UNPRIVILEGED = """
import os, pathlib, fastmlp
folder = pathlib.Path(FOLDER)
model = fastmlp.Model([2, 1], rng=0)
model.fit([[1.0, 2.0]], [3.0], 1, checkpoint=os.devnull)  # what it imports, the other user may not be able to
os.setuid(65534)
try:
    model.fit([[1.0, 2.0]], [3.0], 3, checkpoint=folder / "fit")
except PermissionError as error:
    print(error)
"""


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root to become another user")
def test_a_folder_that_is_not_to_be_written_to(python: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        said = python(UNPRIVILEGED.replace("FOLDER", repr(folder)))
        assert "the checkpoint cannot be written: Permission denied; the model can be used" in said
        assert names(Path(folder)) == []


def test_where_a_link_leads_is_what_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "fit")
    with stopped(4), pytest.raises(StoppedError):
        RICH.run(checkpoint=tmp_path / "link", every=2)
    assert names(tmp_path) == ["far", "link"]
    assert names(tmp_path / "far") == ["fit", "fit" + BEFORE]
    (tmp_path / "far" / "fit").write_bytes(b"damaged")
    with pytest.warns(RuntimeWarning, match="goes on from the checkpoint before it"):
        same(RICH.run(resume=tmp_path / "link"), RICH.run())


def test_without_links_the_path_is_there_all_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, replace, seen = tmp_path / "fit", os.replace, []

    def no_links(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    def watched(one: Any, other: Any) -> None:
        replace(one, other)
        seen.append(path.exists())

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(os, "replace", watched)
    with stopped(4), pytest.raises(StoppedError):
        RICH.run(checkpoint=path, every=2)
    assert len(seen) == 9
    assert all(seen)
    assert names(tmp_path) == ["fit", "fit" + BEFORE]
    monkeypatch.undo()
    same(RICH.run(resume=path), RICH.run())
    same(RICH.run(resume=tmp_path / ("fit" + BEFORE)), RICH.run())


def test_what_killed_writers_have_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    mine = [".fit.0123abcd.part", ".fit.previous.0123abcd.part"]
    others = [".fit.0123abcd.par", ".fits.0123abcd.part", "fit.0123abcd.part", ".fit.0123abcz.part", ".fit.part"]
    for name in mine + others:
        (tmp_path / name).touch()
    RICH.run(checkpoint=tmp_path / "fit")
    assert names(tmp_path) == sorted([*others, "fit", "fit" + BEFORE])


# ---- damage ----------------------------------------------------------------------------------------------------------


def test_a_damaged_one_is_passed_over_and_does_not_take_the_place_of_the_one_before(written: Path) -> None:
    before, bytes_ = Path(str(written) + BEFORE), written.read_bytes()
    whole, want = before.read_bytes(), RICH.run()
    chance = random.Random(0)
    for number in range(30):
        damaged = bytearray(bytes_)
        if number % 3:
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        else:
            del damaged[chance.randrange(len(damaged)) :]
        written.write_bytes(damaged)
        before.write_bytes(whole)
        warned = pytest.warns(RuntimeWarning, match="goes on from the checkpoint before it")
        with warned as seen, stopped(0), pytest.raises(StoppedError):
            RICH.run(checkpoint=written, resume=written)
        assert Path(seen[0].filename).name == "checkpoints.py"  # the line that called
        assert before.read_bytes() == whole
        same(RICH.run(resume=written), want)  # which has been written anew
    before.unlink()
    written.write_bytes(damaged)
    refuses(written, "cannot be read")


def refuses(path: Path, match: str, **more: Any) -> None:
    """A fit that does not go on: ValueError, and nothing has changed."""
    model, callbacks, rng = RICH.model(), RICH.callbacks(), np.random.default_rng(0)
    X, y = RICH.data()
    model.fit(X, y, 2, optimizer=fastmlp.Adam(0.01))
    given: dict[str, Any] = {"X": X, "y": y, "epochs": 5, "batch_size": 8, "rng": rng, "callbacks": callbacks}
    given |= {**RICH.options, **more}
    known = copy.deepcopy([vars(one) for one in callbacks[:1]]), [one.state_dict()["seen"] for one in callbacks[1:]]
    before, place, files = outcome(model, {}, callbacks), rng.bit_generator.state, path.read_bytes()
    with pytest.raises((ValueError, TypeError), match=match) as raised:
        given.pop("model", model).fit(**given, resume=path, checkpoint=path)
    assert type(raised.value) is ValueError
    assert outcome(model, {}, callbacks) == before
    assert rng.bit_generator.state == place
    assert path.read_bytes() == files
    assert callbacks[0]._params.size == 0
    assert callbacks[0].best is None
    assert known[1] == [one.state_dict()["seen"] for one in callbacks[1:]]


@pytest.mark.slow
def test_many_mutations(tmp_path: Path) -> None:
    """Each is taken for damaged; with a right sum at its end it may be another checkpoint, or one clean ValueError."""
    mutated, case = tmp_path / "mutated", replace(RICH, callbacks=lambda: [EarlyStopping(patience=2)])
    with stopped(5), pytest.raises(StoppedError):
        case.run(checkpoint=tmp_path / "fit", every=2)
    bytes_ = (tmp_path / "fit").read_bytes()
    length, chance, taken, refused = int.from_bytes(bytes_[:8], "little"), random.Random(1), 0, 0
    X, y = RICH.data()
    count = 2000 if os.environ.get("FASTMLP_THOROUGH") else 200
    for number in range(count):
        changed = bytearray(bytes_)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(8 + length if number % 4 else len(changed))
            changed[at] = chance.choice(b'0123456789"{}[],:-eE.tfnN\\x00') if chance.random() < 0.7 else chance.randrange(256)
        if changed == bytes_:
            continue
        mutated.write_bytes(changed)
        if number % 2:
            refuses(mutated, "cannot be read")
            continue
        mutated.write_bytes(sealed(bytes(changed)))
        model = RICH.model()
        kept = model.params.copy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                model.fit(X, y, 5, 8, **RICH.options, callbacks=case.callbacks(), resume=mutated)
            except ValueError:
                refused += 1
                np.testing.assert_array_equal(model.params, kept)
            else:
                taken += 1
    assert refused > count / 4
    assert taken > 0


def edited(path: Path, edit: Callable[[dict[str, Any], dict[str, np.ndarray]], None]) -> None:
    """Change the course in a checkpoint, and its tensors."""
    with safetensors.Reader(path) as reader:
        metadata = dict(reader.metadata)
        tensors = {
            name: reader.array(name, np.dtype(safetensors.DTYPES[entry.dtype]), entry.shape)
            for name, entry in reader.entries.items()
        }
    said = json.loads(metadata["fastmlp"])
    edit(said["course"], tensors)
    metadata["fastmlp"] = json.dumps(said)
    with open(path, "wb") as file:
        safetensors.write(file, tensors, metadata)


def tensor(value: Any) -> Callable[[Any, Any], Any]:
    """In the place of a tensor."""

    def put(old: Any, tensors: dict[str, np.ndarray]) -> Any:
        tensors[old["$tensor"]] = np.asarray(value)
        return old

    return put


ROWS = 21  # of training
HOSTILE: list[tuple[str, Any, str]] = [
    ("feed.order", tensor(np.zeros(ROWS, np.uint32)), "hold each of the 21 rows once"),
    ("feed.order", tensor(np.arange(ROWS + 1, dtype=np.uint32)), "hold each of the 21 rows once"),
    ("feed.order", tensor(np.arange(1, ROWS + 1, dtype=np.uint32)), "hold each of the 21 rows once"),
    ("feed.order", tensor(np.arange(ROWS, dtype=np.float64)), "hold each of the 21 rows once"),
    ("feed.order", tensor(np.full(ROWS, np.nan)), "hold each of the 21 rows once"),
    ("feed.order", tensor(np.zeros((3, 7), np.uint32)), "hold each of the 21 rows once"),
    ("feed.order", tensor(np.uint32(3)), "hold each of the 21 rows once"),
    ("feed.cursor", -8, "its place must be before one of 21 rows"),
    ("feed.cursor", 24, "its place must be before one of 21 rows"),
    ("feed.cursor", 2**70, "its place must be before one of 21 rows"),
    ("feed.cursor", 3, "its place must be before one of 21 rows"),
    ("feed.cursor", True, "must have a cursor of type int"),
    ("feed.random", 2**63, "its place must be"),
    ("feed.dropout", "7", "must have a dropout of type int"),
    ("feed.loss", "nan", "must have a loss of type float"),
    ("feed", {}, "its place must have"),
    ("done", 6, "epochs must be at least 6"),
    ("done", -1, "epoch 0 or later"),
    ("done", 2, "must have a number of each of 2 epochs"),
    ("columns.loss", tensor(np.zeros((1, 1))), "must have a number of each of 3 epochs"),
    ("columns.loss", tensor(np.zeros(1, np.int64)), "must have a number of each of 3 epochs"),
    ("columns.loss", [0.5], "must have a number of each of 3 epochs"),
    ("columns", {}, "must have a number of each of 3 epochs"),
    ("kept", None, "the state at its epoch's start"),
    ("kept.steps", -1, "a number of steps"),
    ("kept.kind", "os", "must have a kind of"),
    ("kept.params", tensor(np.zeros(3)), "kept must hold arrays"),
    ("plateau", None, "plateau must be there"),
    ("plateau.scale", 2.0, "a scale in"),
    ("plateau.scale", {"$float": "nan"}, "a scale in"),
    ("plateau.wait", -1, "wait must be"),
    ("plateau.wait", "1", "wait must be"),
    ("plateau.best", 10**400, "a best value must have"),
    ("plateau.watched", "val_accuracy", "must watch one of"),
    ("callbacks", [], "the states of 2 callbacks"),
    ("callbacks.0", None, "the state of EarlyStopping must be an object"),
    ("callbacks.0.wait", -1, "waited for at least 0"),
    ("callbacks.0.wait", 1.5, "must have a wait of type int"),
    ("callbacks.0.best", "1", "must have a best of type"),
    ("callbacks.0.mode", "auto", "a best value must have"),
    ("callbacks.0.watched", "accuracy", "must watch one of"),
    ("callbacks.0.params", tensor(np.zeros(3)), "numbers as its params"),
    ("callbacks.0.params", tensor(np.zeros(51, np.float32)), "numbers as its params"),
    ("callbacks.0.params", None, "must have a params of type ndarray"),
    ("callbacks.0.best_epoch", "1", "must have a best_epoch of type"),
    ("settings", {}, "must be that of the checkpoint's fit"),
    ("settings.rows", {"$tensor": "0.weight"}, "names a tensor '0.weight' that is not there"),
    ("stopped", 0, "must have a stopped of type bool"),
    ("more", {}, "got 'more' too"),
    ("more", "[" * 900 + "]" * 900, "lists within lists"),
]


@pytest.mark.parametrize("number", range(len(HOSTILE)), ids=[f"{name}-{number}" for number, (name, *_) in enumerate(HOSTILE)])
def test_hostile_states(number: int, written: Path) -> None:
    name, value, message = HOSTILE[number]
    Path(str(written) + BEFORE).unlink()

    def edit(course: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
        *way, last = [int(part) if part.isdigit() else part for part in name.split(".")]
        place: Any = course
        for part in way:
            place = place[part]
        if callable(value):
            place[last] = value(place[last], tensors)
        else:
            place[last] = json.loads(value) if str(value).startswith("[[") else value
        used = json.dumps(course)
        for one in list(tensors):
            if one.startswith("state.") and f'"{one}"' not in used:
                del tensors[one]

    edited(written, edit)
    refuses(written, message)


def test_a_tensor_that_nothing_names_is_refused(written: Path) -> None:
    edited(written, lambda course, tensors: tensors.update(more=np.zeros(3)))
    Path(str(written) + BEFORE).unlink()
    refuses(written, "a tensor 'more' that its state does not name")


# ---- what is refused -------------------------------------------------------------------------------------------------

X, Y = RICH.data()
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"X": X + 1}, "resume: X must be"),
    ({"X": X[::-1].copy()}, "resume: X must be"),
    ({"X": X[:-1], "y": Y[:-1]}, "resume: "),
    ({"y": Y + 1}, "resume: val_y must be|resume: y must be"),
    ({"sample_weight": np.arange(30.0)}, "resume: val_weights must be|resume: weights must be"),
    ({"batch_size": 7}, "resume: batch_size must be .* 8, got 7"),
    ({"shuffle": False}, "resume: shuffle must be .* True, got False"),
    ({"optimizer": fastmlp.Adam(SCHEDULES[6])}, "resume: optimizer must be"),
    ({"optimizer": fastmlp.SGD(SCHEDULES[6], momentum=0.8)}, "resume: optimizer must be"),
    ({"optimizer": fastmlp.SGD(SCHEDULES[0], momentum=0.9)}, "resume: (epochs|optimizer) must be"),
    ({"optimizer": fastmlp.SGD(0.1, momentum=0.9)}, "resume: (epochs|optimizer) must be"),
    ({"epochs": 6}, "resume: epochs must be .* 5, got 6"),
    ({"validation_split": 0.5}, "resume: "),
    ({"validation_split": 0.0}, "resume: "),
    ({"metrics": "rmse"}, "resume: reported must be"),
    ({"metrics": None}, "resume: reported must be"),
    ({"nonfinite": "raise"}, "resume: nonfinite must be .* 'stop', got 'raise'"),
    ({"initial_epoch": 1}, "resume: initial_epoch must be .* 0, got 1"),
    ({"callbacks": None}, "resume: callbacks must be"),
    ({"callbacks": [EarlyStopping(patience=3), Counter()]}, "resume: callbacks must be"),
    ({"callbacks": [Counter(), EarlyStopping(patience=2)]}, "resume: callbacks must be"),
    ({"model": Model([4, 7, 3], "tanh")}, "resume must be a checkpoint of a model like this one"),
    ({"model": Model([4, 6, 3], "tanh", dtype="float32")}, "resume must be a checkpoint of a model like this one"),
    ({"model": Model([4, 6, 3], "tanh", dropout=0.1)}, "resume must be a checkpoint of a model like this one"),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_another_fit_is_refused(number: int, written: Path) -> None:
    more, message = REFUSED[number]
    refuses(written, message, **more)


def test_other_files_and_lbfgs_are_refused(written: Path, tmp_path: Path) -> None:
    RICH.model().save(tmp_path / "model")
    refuses(tmp_path / "model", "kind must be")
    (tmp_path / "text").write_text("text")
    refuses(tmp_path / "text", "cannot be read")
    with pytest.raises(ValueError, match="checkpoint and resume must be None for optimizer='lbfgs'"):
        RICH.model().fit(X, Y, optimizer="lbfgs", checkpoint=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_it_is_the_model_of_that_moment(tmp_path: Path) -> None:
    models: list[Any] = []

    def note(model: Model, logs: dict[str, Any]) -> None:
        models.append((model.params.tobytes(), model._engine.save()["moments"].tobytes()))

    case = Case(options={"optimizer": fastmlp.Adam(0.05)}, callbacks=lambda: [note])
    for writes in range(1, 4):
        with stopped(writes), pytest.raises(StoppedError):
            case.run(checkpoint=tmp_path / "fit")
        for path, state in ((tmp_path / "fit", models[-1]), (tmp_path / ("fit" + BEFORE), models[-2] if writes > 1 else None)):
            loaded = fastmlp.load(path)
            if state is not None:
                assert (loaded.params.tobytes(), loaded._engine.save()["moments"].tobytes()) == state


# ---- interrupts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
@pytest.mark.parametrize("every", ["epoch", 3])
def test_an_exception_in_a_callback_leaves_the_checkpoint_before(error: Any, every: Any, tmp_path: Path) -> None:
    """The callback has no state: it is called all the same, and a fit that goes on knows nothing of what it has seen."""
    seen: list[int] = []

    def breaks(model: Model, logs: dict[str, Any]) -> None:
        seen.append(logs["epoch"])
        if len(seen) == 3:
            raise error("stop")

    X, y = RICH.data()
    want = Case(callbacks=lambda: [plain]).run(lr=0.1)
    model = RICH.model()
    with pytest.raises(error):
        model.fit(X, y, 5, 8, lr=0.1, rng=7, callbacks=[breaks], checkpoint=tmp_path / "fit", every=every)
    assert names(tmp_path) == ["fit", "fit" + BEFORE]
    history = model.fit(X, y, 5, 8, lr=0.1, callbacks=[breaks], checkpoint=tmp_path / "fit", resume=tmp_path / "fit")
    same(outcome(model, dict(history), []) | {"error": None}, want)
    assert seen == [0, 1, 2, 2, 3, 4]


def plain(model: Model, logs: dict[str, Any]) -> None:
    """Makes a fit go epoch by epoch."""


def test_an_exception_while_a_checkpoint_is_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = RICH.run()
    for place in ("fsync", "link", "replace"):
        for number in range(1, 6):
            calls, true = 0, getattr(os, place)

            def breaks(*what: Any, true: Any = true, number: int = number) -> Any:
                nonlocal calls
                calls += 1
                if calls == number:
                    raise KeyboardInterrupt
                return true(*what)

            monkeypatch.setattr(os, place, breaks)
            with pytest.raises(KeyboardInterrupt):
                RICH.run(checkpoint=tmp_path / "fit", every=2)
            monkeypatch.undo()
            left = names(tmp_path)
            assert left in ([], ["fit"], ["fit", "fit" + BEFORE])
            for name in left:
                same(RICH.run(resume=tmp_path / name), want)
                (tmp_path / name).unlink()


def test_weights_that_change_as_training_begins_are_put_back(tmp_path: Path) -> None:
    class Loud(fastmlp.Callback):
        def on_train_begin(self, model: Model, logs: dict[str, Any]) -> None:
            model.params[:] += self.noise

        def __init__(self, noise: float) -> None:
            self.noise = noise

    case = Case(options={"lr": 0.1}, callbacks=lambda: [Loud(0.0)])
    want = case.run()
    with stopped(2), pytest.raises(StoppedError):
        case.run(checkpoint=tmp_path / "fit", every=3)
    same(Case(options={"lr": 0.1}, callbacks=lambda: [Loud(1.0)]).run(resume=tmp_path / "fit"), want)
