"""How near the dense layer's kernel comes to the machine: its rate over that of a loop of nothing but multiply-adds.

    python asv_bench/share_of_peak.py [ROWSxINPUTSxOUTPUTS ...]

Both are measured in turns in one run, float32, one thread; the median over the turns is printed.
"""

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from fastmlp import kernels
from fastmlp.kernels.machine.jit import entry
from fastmlp.kernels.machine.pointer import pointer
from fastmlp.kernels.machine.target import VECTOR_BYTES
from fastmlp.kernels.tiles.across import total
from fastmlp.kernels.tiles.arithmetic import fma
from fastmlp.kernels.tiles.tile import splat

TURNS = 15
LANES = VECTOR_BYTES // 4
MULTIPLY_ADDS = 200_000


@entry
def multiply_adds(x: np.ndarray, count: int) -> float:
    """24 chains of `count` multiply-adds each, in registers."""
    acc = splat(pointer(x), 0.0, 12, 2)
    a = splat(pointer(x), 1.0000001, 12, 2)
    b = splat(pointer(x), 1e-9, 12, 2)
    for _ in range(count):
        acc = fma(acc, a, b)
    return total(acc)


@entry
def forward(x: np.ndarray, w: np.ndarray, b: np.ndarray, activation: int, z: np.ndarray, out: np.ndarray, count: int) -> None:
    """The layer, `count` times."""
    for _ in range(count):
        kernels.dense_forward(x, w, b, activation, z, out)


def rate(flops: float, run: Callable[..., object], *args: object) -> float:
    """GFLOP/s of one call."""
    started = time.perf_counter()
    run(*args)
    return flops / (time.perf_counter() - started) / 1e9


def main() -> None:
    """Print a line a shape."""
    shapes = [tuple(map(int, shape.split("x"))) for shape in sys.argv[1:]] or [(168, 64, 192), (336, 256, 192)]
    for rows, inputs, outputs in shapes:
        rng = np.random.default_rng(0)
        x = rng.standard_normal((rows, inputs), np.float32)
        w = rng.standard_normal((inputs, outputs), np.float32)
        b = rng.standard_normal(outputs, np.float32)
        out = np.empty((rows, outputs), np.float32)
        flops = 2 * rows * inputs * outputs
        count = max(1, int(2e8 / flops))
        multiply_adds(x, 1)
        forward(x, w, b, kernels.RELU, out, out, 1)
        peaks, rates = [], []
        for _ in range(TURNS):
            peaks.append(rate(MULTIPLY_ADDS * 48 * LANES, multiply_adds, x, MULTIPLY_ADDS))
            rates.append(rate(count * flops, forward, x, w, b, kernels.RELU, out, out, count))
        ours, peak = statistics.median(rates), statistics.median(peaks)
        print(f"({rows}, {inputs}, {outputs}): {ours:.0f} of {peak:.0f} GFLOP/s, {ours / peak:.1%} of the peak")


if __name__ == "__main__":
    main()
