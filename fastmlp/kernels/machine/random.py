"""A generator of random numbers that is one integer: splitmix64."""

from __future__ import annotations

from fastmlp.kernels.machine.jit import inlined

# Multipliers of splitmix64, as signed numbers.
GOLDEN, MIX_1, MIX_2 = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


@inlined
def mixed(z: int) -> int:
    """splitmix64's output for a state (Steele, Lea and Flood, 2014)."""
    z = (z ^ ((z >> 30) & 0x3FFFFFFFF)) * MIX_1
    z = (z ^ ((z >> 27) & 0x1FFFFFFFFF)) * MIX_2
    return z ^ ((z >> 31) & 0x1FFFFFFFF)
