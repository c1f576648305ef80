"""``fastmlp warmup``: compile ahead."""

import argparse
import time

import fastmlp
from fastmlp.kernels.machine.cache import cache_folder

NAME, SUMMARY = "warmup", "compile all kernels now, so that no later run has to"
EXAMPLE = """\
example:
  fastmlp warmup --dtype float32
  NUMBA_CACHE_DIR=/opt/fastmlp fastmlp warmup

Compiled code goes to the cache folder of the user, or to NUMBA_CACHE_DIR."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--dtype", choices=("float32", "float64"), help="(both)")


def run(options: argparse.Namespace) -> None:
    """Compile, or load what was compiled."""
    started = time.perf_counter()
    fastmlp.warmup(options.dtype)
    print(f"{time.perf_counter() - started:.1f} s; the code is in {cache_folder() or 'no folder: it cannot be kept'}")
