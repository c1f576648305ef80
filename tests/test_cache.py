from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from numba import njit
from numba.core import config

from fastmlp.kernels import cache
from fastmlp.kernels.cache import PackageCache, cache_folder, package_key

posix = pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")

SOURCE = """
from fastmlp.kernels.jit import inlined, entry

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
    monkeypatch.setattr(cache, "cache_folder", cache_folder.__wrapped__)
    found = cache.cache_folder()
    assert found is not None
    return found


def _double(x: float) -> float:
    return x * 2


def _run() -> Any:
    """The hits and misses of a function that is compiled anew, or loaded."""
    dispatcher = njit(_double)
    dispatcher._cache = PackageCache(_double)
    assert dispatcher(21.0) == 42.0
    return dispatcher.stats


def test_second_compilation_is_a_hit(folder: Path) -> None:
    assert not _run().cache_hits
    assert sum(_run().cache_hits.values()) == 1
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", ["empty", "truncated", "garbage", "missing"])
def test_damaged_entry_is_a_miss(folder: Path, suffix: str, damage: str) -> None:
    _run()
    (path,) = folder.glob(f"*{suffix}")
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "truncated": whole[: len(whole) // 2], "garbage": b"\x80\x05." * 99}[damage])
    assert not _run().cache_hits
    assert sum(_run().cache_hits.values()) == 1


def test_vanished_folder_is_a_miss(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("numba.core.caching.IndexDataCacheFile._open_for_write", refuse)
    assert not _run().cache_hits
    shutil.rmtree(folder)
    assert not _run().cache_hits


@posix
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
@pytest.mark.parametrize("level", [0, 1])
def test_folder_that_others_may_write_to_is_refused(folder: Path, mode: int, level: int) -> None:
    (folder, folder.parent)[level].chmod(mode)
    assert cache.cache_folder() is None


@posix
def test_folder_of_another_user_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    assert cache.cache_folder() is None


def test_no_folder_where_none_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "file"))
    assert cache_folder.__wrapped__() is None


@posix
def test_group_writable_umask_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "new"))
    before = os.umask(0o002)
    try:
        assert cache_folder.__wrapped__() is not None
    finally:
        os.umask(before)


def test_key_follows_every_source_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(cache.__file__).parent
    shutil.copytree(source, tmp_path / "kernels")
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "kernels" / "cache.py"))
    keys = {package_key.__wrapped__()}
    for path in sorted((tmp_path / "kernels").glob("*.py")):
        path.write_bytes(path.read_bytes() + b"\n")
        keys.add(package_key.__wrapped__())
    path.unlink()
    keys.add(package_key.__wrapped__())
    assert len(keys) == 2 + len(list(source.glob("*.py")))


@pytest.mark.parametrize("setting", ["CPU_NAME", "BOUNDSCHECK", "OPT"])
def test_key_follows_settings(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, setting, "other")
    assert package_key.__wrapped__() != package_key()


def test_no_cache_without_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "cache.py"))
    monkeypatch.setattr(cache, "package_key", package_key.__wrapped__)
    assert cache_folder.__wrapped__() is None


def test_edited_file_outside_the_package_is_a_miss(folder: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        cache._file_key.cache_clear()
        path = tmp_path / "cached.py"
        path.write_text(SOURCE.replace("x + 1", f"x + {number}"))
        names: dict[str, Any] = {}
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
print(model.gradient(X, y)[1].tolist(), "numba.np.linalg" in sys.modules)
from numba import njit
assert njit(lambda x: np.linalg.norm(x))(np.array([3.0, 4.0])) == 5.0
"""


def test_finished_code_runs_without_what_compiles_it(tmp_path: Path, python: Callable[..., str]) -> None:
    cold, warm = (python(LOADED, NUMBA_CACHE_DIR=str(tmp_path)).rsplit(maxsplit=1) for _ in range(2))
    assert cold[0] == warm[0]
    assert [cold[1], warm[1]] == ["True", "False"]
