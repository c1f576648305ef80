"""Where compiled code is kept between processes.

Numba's own cache keys a function by its own source file: an edited helper leaves stale machine code behind an
unchanged caller. Here every key is the whole package's source, with the versions and settings that shape the code, and
it names the folder, so old entries are simply never looked at. A damaged entry is a miss. A folder that others may
write to is refused, since entries are pickles and machine code; without a usable one all is compiled in memory.
"""

import hashlib
import os
import stat
import sys
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
from numba.core.runtime import rtsys

from fastmlp.kernels.tile import FEATURES


@lru_cache(maxsize=1)
def package_key() -> str:
    """A hash of all that decides what the package compiles to."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    if not sources:  # a frozen application has none: nothing would tell its versions apart
        raise FileNotFoundError(__file__)
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    settings = (numba.__version__, llvmlite.__version__, config.CPU_NAME, sorted(FEATURES), config.BOUNDSCHECK)
    digest.update(repr((*settings, config.OPT, sys.version_info[:2])).encode())
    return digest.hexdigest()[:24]


@lru_cache
def _file_key(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


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
        folder.parent.parent.mkdir(parents=True, exist_ok=True)
        for path in (folder.parent, folder):
            path.mkdir(mode=0o700, exist_ok=True)
            if os.name == "posix":
                status = path.stat()
                if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                    return None
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except (OSError, RuntimeError):
        return None
    return folder


class _Locator(_CacheLocator):
    def __init__(self, py_func: Any) -> None:
        self._py_file = py_func.__code__.co_filename
        self._line = py_func.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return str(cache_folder())

    def get_source_stamp(self) -> str:
        """Of a function outside the package, such as a test's, the folder's name says nothing: its own file does."""
        return _file_key(self._py_file)

    def get_disambiguator(self) -> str:
        return str(self._line)


class _Implementation(CompileResultCacheImpl):
    def __init__(self, py_func: Any) -> None:
        # Not Numba's own, which lets NUMBA_CACHE_LOCATOR_CLASSES put the entries elsewhere.
        self._lineno = py_func.__code__.co_firstlineno
        self._locator = _Locator(py_func)
        name = f"{Path(py_func.__code__.co_filename).stem}.{py_func.__qualname__}"
        self._filename_base = self.get_filename_base(name, sys.abiflags if hasattr(sys, "abiflags") else "")


class PackageCache(FunctionCache):
    """A function's entries in `cache_folder`; whatever cannot be read counts as absent."""

    _impl_class = _Implementation

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        # Numba's own hashes the pickled closure, and a closure over a compiled function pickles differently each time.
        return sig, codegen.magic_tuple()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            # Numba's own first loads all that a compilation may need, for 0.1 s (0.25 s where SciPy is installed, which it
            # imports); finished code needs no more than the runtime. The compiler loads the rest itself, after a miss.
            rtsys.initialize(target_context)
            with self._guard_against_spurious_io_errors():
                return self._load_overload(sig, target_context)
            return None
        except Exception:  # a damaged file raises anything that unpickling can raise
            self._forget()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception:  # a damaged index, a full or vanished disk: compiled code in memory is as good
            self._forget()

    def _forget(self) -> None:
        with suppress(OSError):
            self.flush()
