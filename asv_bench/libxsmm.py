"""The dense layer's kernel, bias and relu included, beside LIBXSMM's generated code for the product alone.

    python asv_bench/libxsmm.py [ROWSxINPUTSxOUTPUTS ...]

Both run in loops of compiled code, in turns, float32, one thread; the median over the turns is printed. LIBXSMM is Debian's
package libxsmm-dev, which has static archives only: a C compiler makes a library of them. The generated code is called by
address, through a ctypes function that Numba compiles to a plain call.
"""

import ctypes
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numba import njit
from share_of_peak import TURNS, forward, rate

from fastmlp import kernels
from fastmlp.engine.workspace import aligned

SHAPES = [(32, 8, 16), (64, 64, 64), (256, 17, 256), (128, 784, 256), (50, 37, 53)]
PRODUCT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
WORK = 2e8  # floating-point operations in a turn


def library() -> ctypes.CDLL:
    """LIBXSMM, ready to generate code; ends the program where it is not installed."""
    archives = [Path("/usr/lib", name) for name in ("libxsmm.a", "libxsmmnoblas.a")]
    if not all(archive.exists() for archive in archives):
        sys.exit("LIBXSMM is not installed: apt-get install libxsmm-dev")
    with tempfile.TemporaryDirectory() as folder:
        made = f"{folder}/libxsmm.so"
        subprocess.run(
            ["cc", "-shared", "-o", made, "-Wl,--whole-archive", *archives, "-Wl,--no-whole-archive", "-lm"], check=True
        )
        loaded = ctypes.CDLL(made)
    loaded.libxsmm_init()
    loaded.libxsmm_smmdispatch.restype = ctypes.c_void_p
    return loaded


def product(xsmm: ctypes.CDLL, rows: int, inputs: int, outputs: int) -> Callable[..., None] | None:
    """A compiled loop of out = x @ w, or None if LIBXSMM has no code for the shape."""
    sizes = [ctypes.byref(ctypes.c_int(size)) for size in (outputs, inputs, outputs)]
    one, zero = (ctypes.byref(ctypes.c_float(value)) for value in (1.0, 0.0))
    # By columns, as Fortran has it: out.T = w.T @ x.T.
    address = xsmm.libxsmm_smmdispatch(outputs, rows, inputs, *sizes, one, zero, None, None)
    if not address:
        return None
    generated = PRODUCT(address)

    @njit
    def loop(x: np.ndarray, w: np.ndarray, out: np.ndarray, count: int) -> None:
        for _ in range(count):
            generated(w.ctypes, x.ctypes, out.ctypes)

    return loop


def array(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random numbers, from a cache line on."""
    made = aligned(int(np.prod(shape)), np.dtype("float32")).reshape(shape)
    made[...] = rng.standard_normal(shape)
    return made


def main() -> None:
    """Print a line a shape."""
    shapes = [tuple(map(int, shape.split("x"))) for shape in sys.argv[1:]] or SHAPES
    xsmm = library()
    for rows, inputs, outputs in shapes:
        rng = np.random.default_rng(0)
        x, w, b, out = (array(rng, *shape) for shape in ((rows, inputs), (inputs, outputs), (outputs,), (rows, outputs)))
        loop = product(xsmm, rows, inputs, outputs)
        if loop is None:
            print(f"({rows}, {inputs}, {outputs}): LIBXSMM generates no code for it")
            continue
        loop(x, w, out, 1)
        np.testing.assert_allclose(out, x @ w, rtol=1e-4, atol=1e-4)
        forward(x, w, b, kernels.RELU, out, out, 1)
        flops = 2 * rows * inputs * outputs
        count = max(1, int(WORK / flops))
        ours, theirs = [], []
        for _ in range(TURNS):
            ours.append(rate(count * flops, forward, x, w, b, kernels.RELU, out, out, count))
            theirs.append(rate(count * flops, loop, x, w, out, count))
        times = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        line = f"dense_forward {statistics.median(ours):.0f}, LIBXSMM {statistics.median(theirs):.0f} GFLOP/s"
        print(f"({rows}, {inputs}, {outputs}): {line}, {times:.2f} times as fast")


if __name__ == "__main__":
    main()
