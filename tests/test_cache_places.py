"""Caches as they are found on machines: baked into an image, read-only, full, planted by others, filled by many at once."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fastmlp

posix = pytest.mark.skipif(os.name != "posix", reason="users and file modes are POSIX's")
NOBODY = 65534

# Compiles small functions of the module `cached`, named by the arguments, and tells what became of them.
PROBE = """
import json, os, sys, warnings
import numpy as np
from numba import njit
from fastmlp.kernels.machine import cache
import cached
user = int(sys.argv.pop(1))
if user != os.geteuid():  # become another user, once all is loaded: the other may not be allowed to read it
    njit(lambda x: x)(np.float32(3))
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    cache.places.cache_clear()
hits = 0
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for name in sys.argv[1:]:
        function = getattr(cached, name)
        dispatcher = njit(function)
        dispatcher._cache = cache.PackageCache(function)
        for number in (np.float32(3), 3.0):
            assert dispatcher(number) == function(number)
        hits += sum(dispatcher.stats.cache_hits.values())
left = [path.name for folder in cache.places().read for path in folder.iterdir() if path.suffix != ".nbc"]
print(json.dumps([hits, [str(one.message) for one in caught if one.category is cache.CacheWarning], left]))
"""
FUNCTIONS = "".join(f"def {name}(x):\n    return x + {i}\n" for i, name in enumerate(("one", "two", "three"), 1))


class Image:
    """A machine's folders: the package and a module to compile, a cache to bake, and a home."""

    def __init__(self, top: Path) -> None:
        self.code, self.baked, self.home = top / "code", top / "baked", top / "home"
        shutil.copytree(Path(fastmlp.__file__).parent, self.code / "fastmlp")
        self.home.mkdir()
        (self.code / "cached.py").write_text(FUNCTIONS)

    def start(self, *names: str, user: int = -1, shell: str = "", code: Path | None = None, **options: Any) -> Any:
        """Compile functions in a process with the baked folder as its cache."""
        user = os.geteuid() if os.name == "posix" and user < 0 else user
        command = [sys.executable, "-c", PROBE, str(user), *names]
        if shell:  # in a mount name space of its own, which ends with it
            command = ["unshare", "--mount", "sh", "-euc", f'{shell}; exec "$@"', "sh", *command]
        home = dict.fromkeys(("HOME", "LOCALAPPDATA", "XDG_CACHE_HOME"), str(self.home))
        settings = {"PYTHONPATH": str(code or self.code), "NUMBA_CACHE_DIR": str(self.baked), **home}
        environment, pipe = {**os.environ, **settings}, subprocess.PIPE
        return subprocess.Popen(command, env=environment, cwd="/", stdout=pipe, stderr=pipe, text=True, umask=0o022, **options)

    def run(self, *names: str, **options: Any) -> tuple[int, list[str], list[str]]:
        """The hits, of two for each function, the warnings, and the names of files that are left but no entries."""
        return self.result(self.start(*names, **options))

    def result(self, process: Any) -> tuple[int, list[str], list[str]]:
        try:
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
        assert process.returncode == 0, err
        hits, warnings, left = json.loads(out)
        return hits, warnings, left

    def entries(self, place: Path) -> list[str]:
        return sorted(path.name for path in place.rglob("*.nbc"))


@pytest.fixture
def image() -> Iterator[Image]:
    top = Path(tempfile.mkdtemp())  # not pytest's folder, which is closed to other users
    top.chmod(0o755)
    try:
        yield Image(top)
    finally:
        for path in top.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
        shutil.rmtree(top)


def _can_mount() -> bool:
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return False
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/tmp"]
    return subprocess.run(command, capture_output=True, timeout=60).returncode == 0


def _stranger(image: Image) -> dict[str, Any]:
    """The options of a process of another user, who owns the home; or, where none can be had, of one who may not write."""
    if os.geteuid() == 0:
        os.chown(image.home, NOBODY, NOBODY)
        return {"user": NOBODY}
    for path in (image.baked, *image.baked.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return {}


@posix
def test_baked_cache_is_read_by_another_user_who_writes_to_his_own(image: Image) -> None:
    assert image.run("one") == (0, [], [])
    baked = image.entries(image.baked)
    assert len(baked) == 2
    stranger = _stranger(image)
    assert image.run("one", "two", **stranger) == (2, [], [])
    assert image.entries(image.baked) == baked
    assert len(image.entries(image.home)) == 2
    assert image.run("one", "two", **stranger) == (4, [], [])


@posix
def test_read_only_file_system_serves_its_owner_and_says_once_that_nothing_is_kept(image: Image) -> None:
    assert image.run("one")[0] == 0
    top = image.baked.parent
    if _can_mount():
        options = {"shell": f"mount --bind {top} {top}; mount -o remount,ro,bind {top}"}
    else:
        options = _stranger(image)
        image.home.chmod(0o555)
    assert image.run("one", **options) == (2, [], [])
    hits, warnings, _ = image.run("one", "two", "three", **options)
    assert hits == 2
    (message,) = warnings
    assert "cannot be kept" in message
    assert f"{image.baked.resolve()}/fastmlp" in message
    assert str(image.home) in message
    assert "NUMBA_CACHE_DIR" in message


@posix
def test_full_disk_is_said_once_and_leaves_nothing_behind(image: Image) -> None:
    if _can_mount():
        image.baked.mkdir()
        hits, warnings, left = image.run("one", "two", shell=f"mount -t tmpfs -o size=16k,mode=755 tmpfs {image.baked}")
    else:
        import resource

        limit = (4000, 4000)  # bytes of a file
        hits, warnings, left = image.run("one", "two", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    assert (hits, left) == (0, [])
    (message,) = warnings
    assert "No space left" in message or "too large" in message


@posix
def test_place_where_nothing_can_be_made_is_said_once(image: Image) -> None:
    image.baked.touch()
    hits, warnings, _ = image.run("one", "two")
    assert hits == 0
    (message,) = warnings
    assert str(image.baked) in message
    assert f"is kept in {image.home.resolve()}" in message
    assert image.run("one", "two") == (4, [], [])


class Planted:
    """A pickle that shows that it was read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@posix
def test_what_another_user_has_planted_is_not_read(image: Image) -> None:
    """In a folder like /tmp the other made ours before us, or put one in its place; the entry is whole, and carries code."""
    image.run("one")
    marker = image.home / "read"
    content = pickle.dumps(Planted(marker))
    content = hashlib.sha256(content).digest() + content
    planted = [image.baked / "fastmlp", *(image.baked / "fastmlp").rglob("*")]
    for mode in (0o777, 0o1777):
        image.baked.chmod(mode)
        for path in planted:
            if path.suffix:
                path.write_bytes(content)
            if os.geteuid() == 0:
                os.chown(path, NOBODY, NOBODY)
            else:
                path.chmod(0o777)
        shutil.rmtree(image.home)
        image.home.mkdir()
        hits, warnings, _ = image.run("one")
        assert hits == 0
        assert not marker.exists()
        assert "write to" in warnings[0] or "another user" in warnings[0]


@pytest.mark.slow
def test_eight_processes_fill_an_empty_cache_at_once(image: Image) -> None:
    processes = [image.start("one", "two", "three") for _ in range(8)]
    results = [image.result(process) for process in processes]
    assert [warnings for _, warnings, _ in results] == [[]] * 8
    assert len(image.entries(image.baked)) == 6
    assert image.run("one", "two", "three") == (6, [], [])


@pytest.mark.slow
def test_two_versions_live_side_by_side(image: Image) -> None:
    other = image.home / "code"
    shutil.copytree(image.code, other)
    with (other / "fastmlp" / "kernels" / "machine" / "pointer.py").open("a") as file:
        file.write("# another version\n")
    for hits in (0, 2):
        for code in (image.code, other):
            assert image.run("one", code=code) == (hits, [], [])
    assert len(list((image.baked / "fastmlp").iterdir())) == 2


FIRST_USE = """
import fastmlp, warnings
print("imported")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for units in (3, 4):
        fastmlp.Model([2, units, 1], rng=0).predict([[1.0, 2.0]])
print([one.category.__name__ for one in caught])
"""


@posix
def test_import_never_fails_for_want_of_a_place(tmp_path: Path, python: Callable[..., str]) -> None:
    """And the first compilation says it."""
    (tmp_path / "file").touch()
    nowhere = str(tmp_path / "file")
    settings = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "NUMBA_CACHE_DIR"), nowhere)
    assert python(FIRST_USE, **settings) == "imported\n['CacheWarning']\n"
