"""Files that are whole or not there: they are written beside their place, and take it in one step."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def writing(path: str | os.PathLike[str], keep: str | os.PathLike[str] | None = None) -> Iterator[BinaryIO]:
    """A file to write to, which becomes the one at `path` when all is written, and has reached the disk.

    Whatever goes wrong before leaves the file that was there. A device or a pipe is written to where it is.

    Parameters
    ----------
    path : str or os.PathLike
        Where a link leads is what is replaced.
    keep : str, os.PathLike or None
        Another name for the file that was at `path`, in the same folder; `path` is there all the time.

    Raises
    ------
    OSError
        If that cannot be done.
    """
    place = Path(os.path.realpath(path))
    try:
        mode: int | None = place.stat().st_mode
    except FileNotFoundError:
        mode = None
    if mode is not None and not stat.S_ISREG(mode):
        with open(place, "wb") as file:
            yield file
        return
    part = place.with_name(f".{place.name[:200]}.{secrets.token_hex(4)}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with open(descriptor, "wb") as file:
            if mode is not None and hasattr(os, "fchmod"):
                os.fchmod(descriptor, stat.S_IMODE(mode))
            yield file
            file.flush()
            os.fsync(descriptor)
        if keep is not None and mode is not None:
            _name_also(place, Path(keep))
        os.replace(part, place)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    _sync(place.parent)


def sweep(path: str | os.PathLike[str]) -> None:
    """Remove what writers of `path` that were killed have left beside it."""
    place = Path(os.path.realpath(path))
    beginning = f".{place.name[:200]}."
    for name in os.listdir(place.parent):
        if name.startswith(beginning) and name.endswith(".part") and len(name) == len(beginning) + 13:
            with suppress(OSError):
                (place.parent / name).unlink()


def _name_also(place: Path, keep: Path) -> None:
    """Give a file a second name, in place of what had that."""
    between = keep.with_name(f".{keep.name[:200]}.{secrets.token_hex(4)}.part")
    try:
        os.link(place, between)
    except OSError:  # a file system without links: for a moment there is the older name only
        os.replace(place, keep)
        return
    os.replace(between, keep)


def _sync(folder: Path) -> None:
    """Let the folder's names reach the disk, where folders can be opened."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
