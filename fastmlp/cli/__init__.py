"""The command line: ``fastmlp train``, ``predict``, ``info``, ``convert``, ``warmup``, ``bench``."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from fastmlp.cli import bench, convert, info, predict, train, warmup
from fastmlp.version import __version__

COMMANDS: tuple[Any, ...] = (train, predict, info, convert, warmup, bench)
REFUSED = (ValueError, OSError, ImportError, MemoryError, ArithmeticError)  # what a user can do something about
CTRL_C, PIPE = 130, 141  # 128 and the signal's number, as shells have it


def parser() -> argparse.ArgumentParser:
    """All commands' arguments."""
    whole = argparse.ArgumentParser(prog="fastmlp", description="Multilayer perceptrons on the CPU.")
    whole.add_argument("--version", action="version", version=f"fastmlp {__version__}")
    commands = whole.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        one = commands.add_parser(
            command.NAME,
            help=command.SUMMARY,
            description=f"{command.SUMMARY}.",
            epilog=command.EXAMPLE,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.arguments(one)
        one.set_defaults(run=command.run)
    return whole


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str or None
        The words behind ``fastmlp``; None: those of this process.

    Returns
    -------
    int
        0; 1 after an error, of which there is one line on stderr; 130 after Ctrl-C; 141 if nobody reads what is printed.

    Raises
    ------
    SystemExit
        With 2 if the words are no command, and with 0 after ``--help``.
    """
    options = parser().parse_args(argv)
    try:
        options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("fastmlp: interrupted", file=sys.stderr)
        return CTRL_C
    except BrokenPipeError:
        _silence()
        return PIPE
    except REFUSED as error:
        _silence()
        print(f"fastmlp: error: {_line(error)}", file=sys.stderr)
        return 1
    return 0


def _line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _silence() -> None:
    """What is still to be printed goes nowhere: else Python would try again at its end, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
