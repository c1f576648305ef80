"""Writing: a file is the old one or the new one, whatever happens in between, and nothing is left beside it."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from interrupts import strikes

import fastmlp
from fastmlp import Model
from fastmlp.files import durable, safetensors
from fastmlp.files.models import file as path_of

posix = pytest.mark.skipif(os.name != "posix", reason="modes, links and devices are POSIX's")
NOBODY = 65534
LARGE = Model([300, 300, 10], rng=0)  # 740 kB
WRITERS: dict[str, Callable[[Path], object]] = {
    "save": lambda path: LARGE.save(path, optimizer=True),
    "to_c": lambda path: fastmlp.to_c(Model([30, 30, 3], rng=0), path),
    "to_numpy": lambda path: fastmlp.to_numpy(Model([30, 30, 3], rng=0), path),
}


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Path]:
    """A path; at the end nothing else is in its folder."""
    yield tmp_path / "file"
    assert {one.name for one in tmp_path.iterdir()} <= {"file"}


@pytest.fixture(params=WRITERS)
def writer(request: pytest.FixtureRequest) -> Callable[[Path], object]:
    return WRITERS[request.param]


def test_a_file_is_replaced(alone: Path, writer: Callable[[Path], object]) -> None:
    writer(alone)
    first = alone.read_bytes()
    alone.write_bytes(b"before")
    writer(str(alone))  # type: ignore[arg-type]
    assert alone.read_bytes() == first


@posix
def test_the_mode_stays_and_new_ones_are_as_the_mask_says(alone: Path, writer: Callable[[Path], object]) -> None:
    for mode in (0o600, 0o640, 0o444):
        alone.write_bytes(b"before")
        alone.chmod(mode)
        writer(alone)
        assert stat.S_IMODE(alone.stat().st_mode) == mode
        alone.unlink()
    before = os.umask(0o027)
    try:
        writer(alone)
    finally:
        os.umask(before)
    assert stat.S_IMODE(alone.stat().st_mode) == 0o640


@posix
def test_where_a_link_leads(tmp_path: Path, writer: Callable[[Path], object]) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    link, target = tmp_path / "link", folder / "target"
    link.symlink_to("folder/target")
    for _ in range(2):  # it leads to nothing at first
        writer(link)
        assert link.is_symlink()
        assert target.stat().st_size > 1000
    assert [one.name for one in folder.iterdir()] == ["target"]
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    with pytest.raises(OSError, match="loop"):
        writer(loop)


@posix
def test_a_device(writer: Callable[[Path], object]) -> None:
    writer(Path("/dev/null"))
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    if os.path.exists("/dev/full"):
        with pytest.raises(OSError, match="No space left"):
            writer(Path("/dev/full"))


@posix
def test_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    Model([3, 2], rng=0).save(pipe)
    reader.join()
    Model([3, 2], rng=0).save(tmp_path / "file")
    assert read == [(tmp_path / "file").read_bytes()]


def test_what_is_no_place_for_a_file(tmp_path: Path, writer: Callable[[Path], object]) -> None:
    gone = tmp_path / "gone" / "file"
    with pytest.raises(FileNotFoundError) as caught:
        writer(gone)
    assert str(gone) in str(caught.value)
    with pytest.raises(OSError, match="directory") as raised:
        writer(tmp_path)
    assert str(tmp_path) in str(raised.value)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        writer(tmp_path / "file" / "below")
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_vanishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, away = tmp_path / "folder", tmp_path / "away"
    folder.mkdir()
    write = safetensors.write

    def and_vanish(*given: Any) -> None:
        write(*given)
        folder.rename(away)

    monkeypatch.setattr(safetensors, "write", and_vanish)
    with pytest.raises(FileNotFoundError, match="folder"):
        LARGE.save(folder / "file")
    assert not folder.exists()


def test_names_of_any_length(tmp_path: Path) -> None:
    for name in ("x" * 255, "\u00e9" * 127, "\U0001f600" * 63):
        Model([2, 1], rng=0).save(tmp_path / name)
        fastmlp.load(tmp_path / name)
        (tmp_path / f".{os.fsencode(name)[:200].decode(errors='ignore')}.0123abcd.part").write_bytes(
            b"left by one that was killed"
        )
        durable.sweep(tmp_path / name)
        assert [one.name for one in tmp_path.iterdir()] == [name]
        (tmp_path / name).unlink()
    with pytest.raises(OSError, match="x" * 256):
        Model([2, 1], rng=0).save(tmp_path / ("x" * 256))


def test_no_path() -> None:
    for path in (3, b"file", None):
        with pytest.raises(TypeError, match="path must be a string or a path"):
            path_of(path)  # type: ignore[arg-type]


# ---- a disk that is full, a folder that is read-only ----------------------------------------------------------------------

TRY = """
import os, sys
import fastmlp
from pathlib import Path
model = fastmlp.Model([300, 300, 10], rng=0)
user = int(sys.argv[2])
if user != os.geteuid():
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
for name in ("there", "new"):
    try:
        model.save(Path(sys.argv[1]) / name)
    except OSError as error:
        print(error.errno, error)
print(sorted(os.listdir(sys.argv[1])), (Path(sys.argv[1]) / "there").read_text())
"""


def _run(code: str, *arguments: object, shell: str = "", mounts: bool = True) -> list[str]:
    """The lines that a program prints; what the shell does before, mounts and limits, ends with it."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    if shell:
        command = [*(["unshare", "--mount"] if mounts else []), "sh", "-euc", f'{shell}; exec "$@"', "sh", *command]
    source = str(Path(fastmlp.__file__).parent.parent)
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": source})
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def _can_mount() -> bool:
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return False
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/tmp"]
    return subprocess.run(command, capture_output=True, timeout=60).returncode == 0


@posix
def test_a_full_disk(tmp_path: Path) -> None:
    if _can_mount():
        shell, number, what = f"mount -t tmpfs -o size=64k tmpfs {tmp_path}", errno.ENOSPC, "No space left on device"
    else:  # a file of more than 4 blocks of 512 bytes
        shell, number, what = "ulimit -f 4", errno.EFBIG, "File too large"
    shell = f"{shell}; printf before > {tmp_path}/there"
    *said, last = _run(TRY, tmp_path, os.geteuid(), shell=shell, mounts=_can_mount())
    assert said == [f"{number} [Errno {number}] {what}: '{tmp_path / name}'" for name in ("there", "new")]
    assert last == "['there'] before"


@posix
def test_a_folder_that_is_read_only(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("before")
    if _can_mount():
        shell = f"mount --bind {tmp_path} {tmp_path}; mount -o remount,ro,bind {tmp_path}"
        *said, last = _run(TRY, tmp_path, os.geteuid(), shell=shell)
        assert [line.split()[0] for line in said] == [str(errno.EROFS)] * 2
    else:
        tmp_path.chmod(0o555)
        if os.geteuid() == 0:
            for folder in tmp_path.parents:
                folder.chmod(folder.stat().st_mode | 0o055)
        *said, last = _run(TRY, tmp_path, NOBODY if os.geteuid() == 0 else os.geteuid())
        assert [line.split()[0] for line in said] == [str(errno.EACCES)] * 2
    assert all(str(tmp_path / name) in line for name, line in zip(("there", "new"), said, strict=True))
    assert last == "['there'] before"


# ---- others at the same time, and ends in the middle ------------------------------------------------------------------------

SAVE = """
import sys
import fastmlp
model = fastmlp.Model([300, 300, 10], rng=int(sys.argv[2]))
print("ready", flush=True)
for _ in range(int(sys.argv[3])):
    model.save(sys.argv[1])
"""


def _start(path: Path, seed: int, times: int) -> subprocess.Popen[str]:
    source = str(Path(fastmlp.__file__).parent.parent)
    command = [sys.executable, "-c", SAVE, str(path), str(seed), str(times)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": source})
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_processes_that_write_to_one_path(alone: Path) -> None:
    both = [Model(LARGE.sizes, rng=seed).params.tobytes() for seed in (1, 2)]
    processes = [_start(alone, seed, 20) for seed in (1, 2)]
    while any(process.poll() is None for process in processes):
        if alone.exists():
            assert fastmlp.load(alone).params.tobytes() in both
    for process in processes:
        assert process.wait() == 0
        assert process.stdout is not None
        process.stdout.close()


@posix
@pytest.mark.slow
def test_killed_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "file"
    LARGE.save(path)
    both = [path.read_bytes(), b""]
    Model(LARGE.sizes, rng=1).save(path)
    both[1] = path.read_bytes()
    left = 0
    for tenth in range(8):
        process = _start(path, 1, 10**6)
        time.sleep(0.003 * tenth + 0.001)
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        assert path.read_bytes() in both
        parts = [one for one in tmp_path.iterdir() if one != path]
        left += len(parts)
        assert all(one.name.startswith(".file.") and one.name.endswith(".part") for one in parts)
        durable.sweep(path)
        assert list(tmp_path.iterdir()) == [path]
    assert left


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # between `open` and `with`: closed, and said
def test_an_interrupt_at_any_place(alone: Path) -> None:
    """Whatever bytecode it comes at: the file is one or the other, nothing is left over, and no file stays open."""
    model, other = Model([3, 2], rng=0), Model([3, 2], rng=1)
    model.save(alone)
    old = alone.read_bytes()
    other.save(alone)
    new = alone.read_bytes()
    model.save(alone)
    places = 0
    for where in strikes(lambda: other.save(alone), stride=1 if os.environ.get("FASTMLP_THOROUGH") else 7):
        found = alone.read_bytes()
        assert found in ((old, new) if where else (new,)), where
        assert [one.name for one in alone.parent.iterdir()] == ["file"], where
        if found == new:
            model.save(alone)
        places += 1
    assert places > 100
    open_ones = Path("/proc/self/fd")
    if open_ones.exists():
        assert not [one for one in open_ones.iterdir() if os.path.realpath(one).startswith(f"{alone.parent}/")]


@posix
def test_ctrl_c(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Model([2, 1], rng=0).save(alone)
    before = alone.read_bytes()
    write = safetensors.write

    def and_interrupt(*given: Any) -> None:
        write(*given)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(safetensors, "write", and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        LARGE.save(alone)
    assert alone.read_bytes() == before
