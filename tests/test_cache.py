from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from numba import njit
from numba.core import config

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
    with (tmp_path / "kernels" / "tiles" / "tile.py").open("a") as file:
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
