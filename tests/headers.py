"""Exported headers as shared libraries: for the tests of `to_c`."""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fastmlp

COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)] or [name for name in ("cc",) if shutil.which(name)]
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
NATIVE = ["-march=native"] if platform.machine() in ("x86_64", "AMD64") else []


def compile_c(command: Sequence[str | Path]) -> str:
    """Run a compiler, and what it has said."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stderr}"
    return done.stderr


class Library:
    """Several models' headers, compiled into one library.

    `more` is C that comes behind the headers; their names are net0, net1 and so on.
    """

    def __init__(
        self, folder: Path, compiler: str, flags: Sequence[str], models: Sequence[Any], more: str = "", **options: Any
    ) -> None:
        self.models = models
        source = ""
        for i, model in enumerate(models):
            fastmlp.to_c(model, folder / f"net{i}.h", name=f"net{i}", **options)
            number = ctype(model)[1]
            source += f"""
#include "net{i}.h"
void rows{i}(const {number} *x, {number} *out, int rows);
void rows{i}(const {number} *x, {number} *out, int rows) {{
    for (int i = 0; i < rows; ++i) net{i}_predict(x + i * NET{i}_INPUTS, out + i * NET{i}_OUTPUTS);
}}
int test{i}(void);
int test{i}(void) {{ return net{i}_selftest(); }}
"""
        (folder / "all.c").write_text(source + more)
        self.compile(folder, compiler, flags)

    def compile(self, folder: Path, compiler: str, flags: Sequence[str]) -> None:
        """Again, from the files that lie there."""
        place = folder / f"{len(list(folder.iterdir()))}.so"  # a library that is loaded must not be written over
        self.said = compile_c([compiler, *STRICT, *flags, "-shared", "-fPIC", folder / "all.c", "-o", place, "-lm"])
        self.library = ctypes.CDLL(str(place))

    def predict(self, i: int, X: np.ndarray) -> np.ndarray:
        model = self.models[i]
        assert X.dtype == model.dtype
        assert X.flags.c_contiguous
        out = np.empty((len(X), model.sizes[-1]), model.dtype)
        getattr(self.library, f"rows{i}")(ctypes.c_void_p(X.ctypes.data), ctypes.c_void_p(out.ctypes.data), len(X))
        return out

    def selftest(self, i: int) -> int:
        return int(getattr(self.library, f"test{i}")())


def ctype(model: Any) -> tuple[Any, str]:
    """The model's number, in ctypes and in C."""
    return (ctypes.c_float, "float") if model.dtype == np.float32 else (ctypes.c_double, "double")
