"""The processor that is compiled for: its features, its registers, the tiles that fit them."""

import llvmlite.binding as llvm
from numba.core import config
from numba.core.codegen import get_host_cpu_features

from fastmlp.kernels.machine import interpreted
from fastmlp.kernels.machine.interpreted import INTERPRETED


def _features() -> set[str]:
    """The features that the code may use: those named to Numba, else the host's.

    Of a CPU that is only named (``NUMBA_CPU_NAME``) they are unknown here: it gets the least, which always runs.
    """
    named = config.CPU_FEATURES
    if named is None:
        named = get_host_cpu_features() if config.CPU_NAME is None else ""
    return {name for name in named.split(",") if name.startswith("+")}


FEATURES = _features()
X86 = llvm.get_process_triple().startswith(("x86_64", "i386", "i686"))
ARM = llvm.get_process_triple().startswith(("aarch64", "arm64"))
AVX512 = {"+avx512f", "+avx512vl", "+avx512dq"} <= FEATURES
AVX2 = {"+avx2", "+fma"} <= FEATURES
VECTOR_BYTES = interpreted.VECTOR_BYTES if INTERPRETED else 64 if AVX512 else 32 if AVX2 else 16
# Without the instruction LLVM calls the C library for each lane: multiply and add, rounded twice, are the lesser evil.
FMA = ARM or "+fma" in FEATURES
# AVX-512 has 32 registers: 24 accumulators and the operands (12x2: 166 against 8x2's 145 GFLOP/s at k=784). With 16
# registers 6x2 leaves four for the operands. NEON has 32 of 128 bits, and the same 24 accumulators fit.
TILE_ROWS = 12 if AVX512 or ARM else 6
