"""Where compiled code is kept between processes.

Numba's own cache keys a function by its own source file: an edited helper leaves stale machine code behind an
unchanged caller. Here every key is the whole package's source, with the versions and settings that shape the code, and
it names the folder, so old entries are simply never looked at. Numba's also keeps an index beside the entries, which two
processes at once take from one another. Here each entry is a file of its own that replaces another whole; a damaged one is
a miss, and is written anew.

An entry is a pickle and machine code: to write it is to run code in each process that reads it. So only what
nobody but root and the user can have written is read: `_check` is asked about every folder on the way and every file. What
is read may be written by root alone, such as a cache that was filled when an image was built; what the process compiles itself
then goes to the user's own folder.
"""

import hashlib
import os
import pickle
import stat
import sys
import warnings
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import llvmlite
import numba
from numba.core import config
from numba.core.compiler import CompileResult
from numba.core.runtime import rtsys
from numba.core.serialize import dumps

from fastmlp.kernels.machine.target import FEATURES

_said = False


class CacheWarning(UserWarning):
    """Compiled code cannot be kept where it should be, so that other processes compile it again."""


@lru_cache(maxsize=1)
def package_key() -> str:
    """A hash of all that decides what the package compiles to."""
    folder = Path(__file__).parent.parent
    sources = sorted(folder.rglob("*.py"))
    if not sources:  # a frozen application has none
        raise FileNotFoundError("the package's source files, which tell its versions apart, are not there")
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    settings = (numba.__version__, llvmlite.__version__, config.CPU_NAME, sorted(FEATURES), config.BOUNDSCHECK)
    digest.update(repr((*settings, config.OPT, sys.version_info[:2], getattr(sys, "abiflags", ""))).encode())
    return digest.hexdigest()[:24]


with suppress(OSError):
    package_key()  # now: of the sources as they are imported, whatever becomes of them before the first compilation


@lru_cache
def _file_key(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


class Places(NamedTuple):
    """The folders of this version's compiled code."""

    read: tuple[Path, ...]
    write: Path | None
    refused: tuple[str, ...]  # why others that were to be used are not


@lru_cache(maxsize=1)
def places() -> Places:
    """NUMBA_CACHE_DIR's folder, where that is set, and the user's own, where that cannot be written to; made if need be."""
    read: list[Path] = []
    refused: list[str] = []
    for given in dict.fromkeys((config.CACHE_DIR, "")):
        try:
            folder = _made((Path(given) if given else _own()) / "fastmlp" / package_key())
        except (OSError, RuntimeError) as error:
            refused.append(str(error))
            continue
        read.append(folder)
        if os.access(folder, os.W_OK):
            return Places(tuple(read), folder, tuple(refused))
    return Places(tuple(read), None, (*refused, *(f"{folder} cannot be written to" for folder in read)))


def cache_folder() -> Path | None:
    """The folder that compiled code is written to, or else read from; None where there is neither."""
    found = places()
    return found.write or next(iter(found.read), None)


def _own() -> Path:
    """The user's cache folder."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _made(folder: Path) -> Path:
    """The folder without links on its way, made if need be; OSError where it cannot be, or others may write to it."""
    folder = folder.resolve()
    for path in (*reversed(folder.parents), folder):  # from above: nobody can exchange what is checked for something else
        if not path.is_dir():
            path.mkdir(0o755, exist_ok=True)
        _check(path, path.lstat(), stat.S_IFDIR, sticky=path != folder)
    return folder


def _check(path: Path, status: os.stat_result, kind: int, sticky: bool = False) -> None:
    """Raise PermissionError if others than root and the user may have made a file or folder, or may change it.

    A sticky folder, such as /tmp, lets everyone make files, but nobody touch those of others.
    """
    if os.name != "posix":
        return
    mode = status.st_mode
    # In a container that renames users, root may have another number: whoever owns "/" is it.
    if status.st_uid not in (0, os.geteuid(), os.stat("/").st_uid):
        raise PermissionError(f"{path} belongs to another user")
    others = mode & stat.S_IWOTH or (mode & stat.S_IWGRP and not _is_private(status.st_gid))
    if stat.S_IFMT(mode) != kind or (others and not (sticky and mode & stat.S_ISVTX)):
        raise PermissionError(f"others may write to {path}")


def _is_private(gid: int) -> bool:
    """Whether a group is root's, or has nobody in it but the user: many systems make such a group for each user."""
    import grp
    import pwd

    if gid == 0:
        return True
    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    return user.pw_gid == gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


class PackageCache:
    """A function's compiled versions in the `places`, in the form that Numba's dispatchers ask for. It never raises."""

    def __init__(self, py_func: Any) -> None:
        code = py_func.__code__
        self.name = py_func.__name__.strip("<>")
        # Of a function outside the package, such as a test's, the folder's name says nothing: its own file does.
        self.key = (py_func.__module__, py_func.__qualname__, code.co_firstlineno, _file_key(code.co_filename))

    @property
    def cache_path(self) -> str:
        return str(cache_folder())

    def flush(self) -> None:
        """For `recompile`, of which nothing here makes use."""

    def _entry(self, sig: Any, codegen: Any) -> str:
        """The name of an entry's file."""
        # Not what Numba's own cache hashes: a closure over a compiled function pickles differently each time.
        key = repr((self.key, [str(kind) for kind in sig], codegen.magic_tuple()))
        return f"{self.name}-{hashlib.sha256(key.encode()).hexdigest()[:24]}.nbc"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled version for a signature; None where there is none that can be used."""
        # Numba's own cache first loads all that a compilation may need, for 0.1 s (0.25 s where SciPy is installed, which it
        # imports); finished code needs no more than the runtime. The compiler loads the rest itself, after a miss.
        rtsys.initialize(target_context)
        for folder in places().read:
            with suppress(Exception):  # what is written by another process may vanish or change at any moment
                known, payload = pickle.loads(_read(folder / self._entry(sig, target_context.codegen())))
                if known == sig:
                    return CompileResult._rebuild(target_context, *payload)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled version, if there is a place for it."""
        try:
            found = places()
            if found.refused:
                _say(found.write, *found.refused)
            if found.write is None or data.library.has_dynamic_globals or package_key.__wrapped__() != package_key():
                return
            _write(found.write / self._entry(sig, data.codegen), dumps((sig, data._reduce())))
        except OSError as error:
            _say(None, str(error))
        except Exception:  # compiled code in memory is as good
            return


def _read(path: Path) -> bytes:
    """What `_write` has written; raises if that is damaged."""
    links = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, os.O_RDONLY | links), "rb") as file:
        _check(path, os.fstat(file.fileno()), stat.S_IFREG)
        digest, content = file.read(32), file.read()
    if hashlib.sha256(content).digest() != digest:
        raise ValueError(f"{path} is damaged")
    return content


def _write(path: Path, content: bytes) -> None:
    """Put a file in place at once, so that nobody can read half of it."""
    made = path.with_suffix(f".{uuid4().hex[:16]}")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with open(os.open(made, flags, 0o644), "wb") as file:  # a umask that gives a group the right to write does not count
            file.write(hashlib.sha256(content).digest() + content)
        made.replace(path)
    except OSError as error:
        with suppress(OSError):
            made.unlink()
        try:
            _read(path)  # another process's; or ours, for a network's file system may do a thing and report that it failed
        except (OSError, ValueError):
            raise error from None


def _say(folder: Path | None, *reasons: str) -> None:
    """Warn, once in a process."""
    global _said
    if _said:
        return
    _said = True
    kept = "cannot be kept, so that each process compiles it again" if folder is None else f"is kept in {folder}"
    advice = "let NUMBA_CACHE_DIR name a folder that you can write to and others cannot, and fastmlp.warmup() fill it"
    with suppress(CacheWarning):  # as an error it would end a compilation that is good
        warnings.warn(f"compiled code {kept}: {'; '.join(reasons)}. To keep it, {advice}.", CacheWarning, stacklevel=2)
