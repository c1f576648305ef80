"""Where compiled code is kept between processes.

Numba's own cache keys a function by its own source file: an edited helper leaves stale machine code behind an unchanged
caller. Here every key is the whole package's source, with the versions and settings that shape the code, and it names the
folder, so old entries are simply never looked at. A damaged entry is a miss. A folder that others may write to is refused,
since entries are pickles and machine code; without a usable folder everything is compiled in memory.
"""

import hashlib
import os
import stat
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator

from fastmlp.kernels.tile import FEATURES


@lru_cache(maxsize=1)
def package_key() -> str:
    """A hash of all that decides what the package compiles to."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    settings = (numba.__version__, llvmlite.__version__, config.CPU_NAME, sorted(FEATURES), config.BOUNDSCHECK)
    digest.update(repr((*settings, config.OPT, sys.version_info[:2])).encode())
    return digest.hexdigest()[:24]


def _root() -> Path:
    """NUMBA_CACHE_DIR where set, else the user's own cache folder."""
    if config.CACHE_DIR:
        return Path(config.CACHE_DIR)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


@lru_cache(maxsize=1)
def cache_folder() -> Path | None:
    """The folder of this version's compiled code, made if need be; None where there is no safe place for it."""
    try:
        folder = _root() / "fastmlp" / package_key()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
        status = folder.stat()
        if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
            return None
    except (OSError, RuntimeError):
        return None
    return folder


class _Locator(_CacheLocator):
    def __init__(self, py_func: Any, py_file: str) -> None:
        self._line = py_func.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return str(cache_folder())

    def get_source_stamp(self) -> str:
        return package_key()

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> "_Locator":
        return cls(py_func, py_file)


class _Implementation(CompileResultCacheImpl):
    _locator_classes = [_Locator]

    @classmethod
    def get_locator_classes(cls) -> list[type]:
        return cls._locator_classes


class PackageCache(FunctionCache):
    """A function's entries in `cache_folder`; whatever cannot be read counts as absent."""

    _impl_class = _Implementation

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a damaged file raises anything that unpickling can raise
            self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception:  # a damaged index, a full or vanished disk: compiled code in memory is as good
            self.flush()
