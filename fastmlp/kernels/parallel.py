"""How the threads of one training meet: a barrier for compiled code that holds no lock of Python's.

Threads wait by spinning; after a thousand turns they give their core away, so that more threads than cores are
slow but do not stand still. Whoever fails raises ABORT, and nobody waits for him.
"""

import ctypes
import os
import time
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types

from fastmlp.kernels.interpreted import intrinsic
from fastmlp.kernels.jit import inlined
from fastmlp.kernels.plan import ABORT, ARRIVED, ROUND
from fastmlp.kernels.pointer import WORD, address, offset
from fastmlp.kernels.tile import ARM, X86

SPINS = 1000


@ctypes.CFUNCTYPE(None, ctypes.c_int64)
def _give_way(turn: int) -> None:
    """Let another thread have the core: at once for the first turns, then by sleeping."""
    if turn < 100 and hasattr(os, "sched_yield"):
        os.sched_yield()
    else:
        time.sleep(50e-6)


llvm.add_symbol("fastmlp_give_way", ctypes.cast(_give_way, ctypes.c_void_p).value)


def _atomic(emit: Callable[..., ir.Value], result: Any) -> Callable[..., Any]:
    """Signature and code of an operation on one int64 in memory."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        kind = sig.args[0]
        return emit(context, builder, address(context, builder, kind, offset(builder, kind, args[0], args[1])), *args[2:])

    return codegen


@intrinsic
def atomic_add(typingctx: Any, base: Any, index: Any, value: Any) -> Any:
    """base[index] += value as one step; the number before."""

    def emit(context: Any, builder: ir.IRBuilder, place: ir.Value, value: ir.Value) -> ir.Value:
        return builder.atomic_rmw("add", place, value, "acq_rel")

    return types.intp(base, types.intp, types.intp), _atomic(emit, types.intp)


@intrinsic
def atomic_load(typingctx: Any, base: Any, index: Any) -> Any:
    """base[index], with all that its writer wrote before."""

    def emit(context: Any, builder: ir.IRBuilder, place: ir.Value) -> ir.Value:
        return builder.load_atomic(place, "acquire", 8)

    return types.intp(base, types.intp), _atomic(emit, types.intp)


@intrinsic
def atomic_store(typingctx: Any, base: Any, index: Any, value: Any) -> Any:
    """base[index] = value, for whom loads it to see all that was written before."""

    def emit(context: Any, builder: ir.IRBuilder, place: ir.Value, value: ir.Value) -> ir.Value:
        builder.store_atomic(value, place, "release", 8)
        return context.get_dummy_value()

    return types.none(base, types.intp, types.intp), _atomic(emit, types.none)


@intrinsic
def pause(typingctx: Any) -> Any:
    """The processor's hint that this is a loop that waits."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        name, values = ("llvm.x86.sse2.pause", []) if X86 else ("llvm.aarch64.hint", [ir.IntType(32)(1)])
        if X86 or ARM:
            function = builder.module.globals.get(name)
            if function is None:
                function = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [v.type for v in values]), name)
            builder.call(function, values)
        return context.get_dummy_value()

    return types.none(), codegen


@intrinsic
def give_way(typingctx: Any, turn: Any) -> Any:
    """Let another thread have the core."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        name = "fastmlp_give_way"
        function = builder.module.globals.get(name)
        if function is None:
            function = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [WORD]), name)
        builder.call(function, [args[0]])
        return context.get_dummy_value()

    return types.none(types.intp), codegen


@inlined
def meet(state: Any, threads: int) -> bool:
    """Wait until all threads are here; False if one of them failed and will not come."""
    if threads == 1:
        return True
    now = atomic_load(state, ROUND)
    if atomic_add(state, ARRIVED, 1) == threads - 1:
        atomic_store(state, ARRIVED, 0)
        atomic_store(state, ROUND, now + 1)
        return True
    spins = 0
    while atomic_load(state, ROUND) == now:
        pause()
        spins += 1
        if spins > SPINS:
            give_way(spins - SPINS)
            if atomic_load(state, ABORT) != 0:
                return False
    return True
