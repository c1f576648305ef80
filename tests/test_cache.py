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
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from numba import njit
from numba.core import config

import fastmlp
from fastmlp.kernels.machine import cache
from fastmlp.kernels.machine.cache import CacheWarning, PackageCache, package_key

posix = pytest.mark.skipif(os.name != "posix", reason="users and file modes are POSIX's")
NOBODY = 65534

SOURCE = """
from fastmlp.kernels.machine.jit import inlined, entry

@inlined
def helper(x):
    return x + 1

def make(function):
    def caller(x):
        return function(x)
    return entry(caller)

caller = make(helper)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cache, "_own", lambda: Path(os.devnull))  # no other place
    _look_anew(monkeypatch)
    found = cache.cache_folder()
    assert found is not None
    return found


def _look_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "places", lru_cache(cache.places.__wrapped__))
    monkeypatch.setattr(cache, "_said", False)


def _double(x: float) -> float:
    return x * 2


def _run(number: float = 21.0) -> Any:
    """The hits and misses of a function that is compiled anew, or loaded."""
    dispatcher = njit(_double)
    dispatcher._cache = PackageCache(_double)
    assert dispatcher(number) == 2 * number
    return dispatcher.stats


def _hit() -> bool:
    return sum(_run().cache_hits.values()) == 1


def test_second_compilation_is_a_hit(folder: Path) -> None:
    assert not _hit()
    assert _hit()
    (entry,) = folder.iterdir()
    for path in (entry, folder, folder.parent):
        assert path.stat().st_mode & 0o022 == 0


def test_versions_for_different_types_do_not_meet(folder: Path) -> None:
    import numpy as np

    for number in (2, 2.0, np.float32(2), np.arange(2), 2j):
        dispatcher = njit(_double)
        dispatcher._cache = PackageCache(_double)
        dispatcher(number)
        assert not dispatcher.stats.cache_hits
    assert len(list(folder.iterdir())) == 5


def _signed(content: bytes) -> bytes:
    return hashlib.sha256(content).digest() + content


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "cut": lambda whole: whole[: len(whole) // 2],
    "zeros": lambda whole: bytes(len(whole)),
    "a bit": lambda whole: whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:],
    "garbage": lambda whole: b"\x80\x05." * 99,
    "a pickle of nothing": lambda whole: _signed(pickle.dumps(None)),
    "a pickle of other things": lambda whole: _signed(pickle.dumps((pickle.loads(whole[32:])[0], (1, 2, 3)))),
    "a pickle that does not load": lambda whole: _signed(b"cfastmlp.nowhere\nnothing\n."),
    "another entry": lambda whole: _signed(pickle.dumps(((), pickle.loads(whole[32:])[1]))),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_entry_is_a_miss_and_written_anew(folder: Path, damage: str) -> None:
    _run()
    (path,) = folder.iterdir()
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert not _hit()
    assert _hit()
    assert list(folder.iterdir()) == [path]


def test_vanished_folder_is_a_miss(folder: Path) -> None:
    shutil.rmtree(folder)
    with pytest.warns(CacheWarning, match="No such file"):
        assert not _hit()
    assert not _hit()  # said once


def test_as_an_error_the_warning_does_not_end_a_compilation(folder: Path) -> None:
    shutil.rmtree(folder)
    assert not _hit()


def test_rename_that_was_done_and_reported_as_failed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = Path.replace

    def twice(path: Path, target: Path) -> None:
        replace(path, target)
        replace(path, target)

    monkeypatch.setattr(Path, "replace", twice)
    assert not _hit()
    assert _hit()
    assert not cache._said


@posix
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_folder_that_others_may_write_to_is_refused(folder: Path, mode: int, level: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(cache, "_is_private", lambda gid: False)
    _look_anew(monkeypatch)
    path = [folder, *folder.parents][level]
    path.chmod(mode)
    try:
        accepted = cache.cache_folder() == folder
    finally:
        path.chmod(0o755)
    assert accepted == (mode == 0o1777 and level > 0)  # in a sticky folder nobody can exchange what is another's


@posix
def test_group_of_ones_own_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    import grp
    import pwd

    user = pwd.getpwuid(os.geteuid())
    assert cache._is_private(0)
    for name, members, private in ((user.pw_name, [], True), (user.pw_name, ["other"], False), ("staff", [], False)):
        group = grp.struct_group((name, "x", 4321, members))
        monkeypatch.setattr(grp, "getgrgid", lambda gid, group=group: group)
        monkeypatch.setattr(pwd, "getpwuid", lambda uid: pwd.struct_passwd((*user[:3], 4321, *user[4:])))
        assert cache._is_private(4321) == private
        assert not cache._is_private(4322)


@posix
@pytest.mark.parametrize("level", [0, 1, 2])
def test_folder_of_another_user_is_refused(folder: Path, level: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _look_anew(monkeypatch)
    if os.geteuid() == 0:
        os.chown([folder, *folder.parents][level], NOBODY, NOBODY)
    else:  # then we are the other
        monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    assert cache.cache_folder() != folder


@posix
@pytest.mark.parametrize("change", ["mode 666", "mode 660", "owner", "link", "folder"])
def test_entry_that_others_may_have_written_is_not_read(folder: Path, change: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(cache, "_is_private", lambda gid: False)
    _run()
    (path,) = folder.iterdir()
    if change.startswith("mode"):
        path.chmod(int(change[5:], 8))
    elif change == "owner":
        if os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    elif change == "link":
        path.symlink_to(path.rename(path.with_name("elsewhere")))
    else:
        path.unlink()
        path.mkdir()
    assert not _hit()


@posix
def test_links_on_the_way_are_followed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is the one that was checked, whatever a link that led to it says later."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "link"))
    _look_anew(monkeypatch)
    assert cache.cache_folder() == tmp_path.resolve() / "real" / "fastmlp" / package_key()


@posix
def test_generous_umask_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "new"))
    monkeypatch.setattr(cache, "_is_private", lambda gid: False)
    _look_anew(monkeypatch)
    before = os.umask(0)
    try:
        assert not _hit()
        assert _hit()
        assert cache.cache_folder() == tmp_path / "new" / "fastmlp" / package_key()
    finally:
        os.umask(before)


def test_key_follows_every_source_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = tmp_path / "kernels"
    shutil.copytree(Path(cache.__file__).parent.parent, kernels)
    (kernels / "below" / "further").mkdir(parents=True)
    (kernels / "below" / "further" / "helper.py").write_text("x = 1")
    monkeypatch.setattr(cache, "__file__", str(kernels / "machine" / "cache.py"))
    keys = [package_key.__wrapped__()]
    sources = sorted(kernels.rglob("*.py"))
    for path in sources:
        path.write_bytes(path.read_bytes() + b"\n")
        keys.append(package_key.__wrapped__())
    path.rename(path.with_name("renamed.py"))
    keys.append(package_key.__wrapped__())
    path.with_name("renamed.py").unlink()
    keys.append(package_key.__wrapped__())
    assert len(set(keys)) == len(keys) == 3 + len(sources)


@pytest.mark.parametrize("setting", ["CPU_NAME", "BOUNDSCHECK", "OPT"])
def test_key_follows_settings(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, setting, "other")
    assert package_key.__wrapped__() != package_key()


def test_code_of_sources_that_changed_under_the_process_is_not_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(Path(cache.__file__).parent.parent, tmp_path / "kernels")
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "kernels" / "machine" / "cache.py"))
    with (tmp_path / "kernels" / "tile.py").open("a") as file:
        file.write("# edited")
    assert not _hit()
    assert not list(folder.iterdir())


def test_no_cache_without_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "machine" / "cache.py"))
    monkeypatch.setattr(cache, "package_key", package_key.__wrapped__)
    _look_anew(monkeypatch)
    assert cache.cache_folder() is None
    with pytest.warns(CacheWarning, match="source files"):
        assert not _hit()


def test_edited_file_outside_the_package_is_a_miss(folder: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        cache._file_key.cache_clear()
        path = tmp_path / "cached.py"
        path.write_text(SOURCE.replace("x + 1", f"x + {number}"))
        names: dict[str, Any] = {"__name__": "cached"}
        exec(compile(path.read_text(), path, "exec"), names)
        assert names["caller"](1) == 1 + number
        assert not names["caller"].stats.cache_hits


def test_closure_over_a_compiled_function_hits_in_another_process(tmp_path: Path, python: Callable[..., str]) -> None:
    (tmp_path / "cached.py").write_text(SOURCE)
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import cached
print(cached.caller(1), sum(cached.caller.stats.cache_hits.values()))
"""
    runs = [python(code, NUMBA_CACHE_DIR=str(tmp_path)).split() for _ in range(2)]
    assert runs == [["2", "0"], ["2", "1"]]


LOADED = """
import sys
import numpy as np
import fastmlp

model = fastmlp.Model([3, 2, 1], rng=0)
X, y = np.ones((5, 3)), np.ones((5, 1))
model.fit(X, y, batch_size=2, rng=0)
model.gradient(X, y)
before = "numba.np.linalg" in sys.modules
from numba import njit
assert njit(lambda x: np.linalg.norm(x))(np.array([3.0, 4.0])) == 5.0
print(before, "numba.np.linalg" in sys.modules)
"""


def test_finished_code_runs_without_what_compiles_it(python: Callable[..., str]) -> None:
    python(LOADED)  # from here on all is in the cache
    assert python(LOADED) == "False True\n"


# Compiles small functions of the module `cached`, named by the arguments, and tells what became of them.
PROBE = """
import json, os, sys, warnings
import numpy as np
from numba import njit
from fastmlp.kernels.machine import cache
import cached
user = int(sys.argv.pop(1))
if user != os.geteuid():  # become another user, once all is loaded that he may not be allowed to read
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
    """In a folder like /tmp he made ours before us, or put his own in its place; the entry is whole, and carries code."""
    image.run("one")
    marker = image.home / "read"
    content = _signed(pickle.dumps(Planted(marker)))
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
    with (other / "fastmlp" / "kernels" / "pointer.py").open("a") as file:
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
