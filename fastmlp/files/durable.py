"""Files that are whole or not there: they are written beside their place, and take it in one step."""

import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def writing(path: str | os.PathLike[str], keep: str | None = None) -> Iterator[BinaryIO]:
    """A file to write to, which becomes the one at `path` when all is written, and has reached the disk.

    Whatever goes wrong before leaves the file that was there. A device or a pipe is written to where it is.

    Parameters
    ----------
    path : str or os.PathLike
        Where a link leads is what is replaced.
    keep : str or None
        What is added to the name of the file that was there, which is kept under that; `path` is there all the time.

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
    part = place.with_name(f"{_beginning(place)}{secrets.token_hex(4)}.part")
    try:
        with open(part, "xb") as file:
            if mode is not None and hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), stat.S_IMODE(mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and mode is not None:
            _name_also(place, place.with_name(place.name + keep))
        os.replace(part, place)
    except BaseException as error:
        if not isinstance(error, FileExistsError):  # then it is another writer's
            with suppress(OSError):
                part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, os.fspath(part)):
            error.filename = os.fspath(path)  # what the user knows
            if error.filename2 is not None:
                del error.filename2
        raise
    _sync(place.parent)


def sweep(path: str | os.PathLike[str], keep: str = "") -> None:
    """Remove what writers of `path` that were killed have left beside it, where that can be seen."""
    place = Path(os.path.realpath(path))
    names = "|".join(re.escape(_beginning(place.with_name(name))) for name in (place.name, place.name + keep))
    left = re.compile(rf"(?:{names})[0-9a-f]{{8}}\.part")
    with suppress(OSError):
        for name in os.listdir(place.parent):
            if left.fullmatch(name):
                with suppress(OSError):
                    (place.parent / name).unlink()


def _beginning(place: Path) -> str:
    """Of the names that a file has while it is written: short enough for one more of 255 bytes."""
    return f".{os.fsencode(place.name)[:200].decode(errors='ignore')}."


def _name_also(place: Path, keep: Path) -> None:
    """Give a file a second name, in place of what had that."""
    between = keep.with_name(f"{_beginning(keep)}{secrets.token_hex(4)}.part")
    try:
        try:
            os.link(place, between)
        except OSError:  # a file system without links: a second name would leave none for a moment
            with open(place, "rb") as old, open(between, "xb") as new:
                shutil.copyfileobj(old, new, 1 << 20)
                new.flush()
                os.fsync(new.fileno())
        os.replace(between, keep)
    finally:  # it is still there if `keep` was the same file already, for then there was nothing to rename
        with suppress(OSError):
            between.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Let the folder's names reach the disk, where folders can be opened, and this one may be read."""
    if os.name == "posix" and os.access(folder, os.R_OK):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
