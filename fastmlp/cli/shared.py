"""What several commands take: kinds of arguments, for argparse, and what they do before they begin."""

import argparse
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SUFFIX = ".safetensors"


def _number(text: str, wanted: str, good: Callable[[float], bool], kind: type = float) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not good(value):
        raise argparse.ArgumentTypeError(f"must be {wanted}, got {text!r}")
    return value


def whole(text: str) -> int:
    """A number of things."""
    return int(_number(text, "a whole number of at least 1", lambda n: 1 <= n < 2**40, int))


def seed(text: str) -> int:
    """What random numbers begin from."""
    return int(_number(text, "a whole number of at least 0", lambda n: 0 <= n < 2**63, int))


def positive(text: str) -> float:
    """A rate or a time."""
    return _number(text, "a number above 0", lambda x: 0 < x < math.inf)


def decay(text: str) -> float:
    """A rate that may be 0."""
    return _number(text, "a number of at least 0", lambda x: 0 <= x < math.inf)


def share(text: str) -> float:
    """A part of a whole."""
    return _number(text, "a share of at least 0 and below 1", lambda x: 0 <= x < 1)


def names(text: str) -> list[str]:
    """Columns."""
    return [name.strip() for name in text.split(",") if name.strip()]


def sizes(text: str) -> list[int]:
    """Widths of layers, with commas or hyphens between them; none at all if there is nothing."""
    return [whole(width) for width in text.replace("-", ",").split(",") if text.strip()]


def add_sep(parser: argparse._ActionsContainer) -> None:
    """How a text file is read."""
    parser.add_argument("--sep", metavar="CHARACTER", help="between a text file's columns (as its name says)")


def writable(path: str | None, *read: str) -> None:
    """Raise before there is work to lose: if there is no such folder, or a file that is read would be replaced."""
    if path is None:
        return
    folder = Path(path).parent
    if not folder.is_dir():
        raise ValueError(f"{path} cannot be written: there is no folder {folder}")
    if os.path.isdir(path):
        raise ValueError(f"{path} cannot be written: it is a folder")
    for one in read:
        if os.path.exists(path) and os.path.exists(one) and os.path.samefile(path, one):
            raise ValueError(f"{path} is what is read, and would be replaced")


@contextmanager
def named(path: str) -> Iterator[None]:
    """Give errors of writing the file's name: the system's have none when its disk is full."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None


def count(number: int, what: str) -> str:
    """A number with its noun, which takes an s; of ``class`` an es."""
    return f"{number:,} {what}{'' if number == 1 else 'es' if what.endswith('s') else 's'}"
