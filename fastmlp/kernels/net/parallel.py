"""How the threads of one training start and meet: in compiled code that holds no lock of Python's.

`crew` has a kernel run by several threads within one compiled call, which returns when all have: there is no moment at which
Python could be interrupted with threads still at work. At the barrier they wait by spinning; after a thousand turns they give
their core away, so that more threads than cores are slow but do not stand still. A thread that fails raises ABORT, and none
waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import signature

from fastmlp.kernels.machine.interpreted import INTERPRETED, intrinsic
from fastmlp.kernels.machine.jit import Int, Integers, Pointer, by_name, inlined, kernel, target
from fastmlp.kernels.machine.pointer import WORD, PointerType, address, offset, unchecked
from fastmlp.kernels.machine.target import ARM, X86
from fastmlp.kernels.tiles.subnormals import flush, restore
from fastmlp.kernels.tuning import SPINS

# Places in the memory where threads meet. Those that are waited for have cache lines to themselves.
ABORT = 0  # 1: a thread failed
ARRIVED = 16  # threads that wait
MEETINGS = 32  # so far
BARRIER = 48


class Team(NamedTuple):
    """The threads of a training: which one this is, how many there are, and where they meet (BARRIER integers, at first 0)."""

    me: Int
    threads: Int
    barrier: Integers


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
        shape = ir.FunctionType(ir.VoidType(), [WORD])
        builder.call(cgutils.get_or_insert_function(builder.module, shape, "fastmlp_give_way"), [args[0]])
        return context.get_dummy_value()

    return types.none(types.intp), codegen


@inlined
def meet(team: Any) -> bool:
    """Wait until all threads are here; False if one of them failed and will not come."""
    if team.threads == 1:
        return True
    barrier = team.barrier
    now = atomic_load(barrier, MEETINGS)
    if atomic_add(barrier, ARRIVED, 1) == team.threads - 1:
        atomic_store(barrier, ARRIVED, 0)
        atomic_store(barrier, MEETINGS, now + 1)
        return True
    spins = 0
    while atomic_load(barrier, MEETINGS) == now:
        pause()
        spins += 1
        if spins > SPINS:
            give_way(spins - SPINS)
            if atomic_load(barrier, ABORT) != 0:
                return False
    return True


@inlined
def failed(team: Any) -> bool:
    """Whether a thread has failed: `meet` may not tell, of a thread that has met the others for the last time."""
    return team.threads > 1 and atomic_load(team.barrier, ABORT) != 0


@kernel
def _share(like: Pointer, count: Int, unit: Int, me: Int, threads: Int) -> Int:
    """Where the `me`-th thread's share of `count` things starts, in whole units.

    A kernel, not an inlined helper: Numba would compile one of these anew for each unit. `like` only tells the dtype.
    """
    if threads == 1:  # divisions take as long as a small layer
        return count if me else 0
    return min(me * -(-count // unit) // threads * unit, count)


@inlined
def share_start(like: Any, count: int, unit: int, team: Any) -> int:
    """Where this thread's share of `count` things starts, in whole units."""
    return _share(like, count, unit, team.me, team.threads)


@inlined
def share_stop(like: Any, count: int, unit: int, team: Any) -> int:
    """Where it ends: where the next thread's starts."""
    return _share(like, count, unit, team.me + 1, team.threads)


def crew(run_by_all: Any) -> Any:
    """What runs a kernel by several threads at once, with subnormals taken for zero, and returns when all have.

    The kernel's last argument is its `Team`. What is returned takes instead the number of threads, which there may be fewer of,
    and the memory where they meet. What one of them raises is raised.
    """
    if INTERPRETED:
        return lambda *args: run_by_all(*args[:-2], Team(0, 1, args[-1]))
    made = run_by_all.kernel
    names = [*made.names[:-1], "threads", "barrier"]

    def define(typingctx: Any, *args: Any) -> Any:
        dtype = made.dtype(args)
        if dtype is None:
            return None
        kinds = made.signature(dtype).args

        def codegen(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> ir.Value:
            conv = context.call_conv
            shape = conv.get_function_type(types.none, kinds)
            where = target(builder, context, made.identity(dtype))
            *given, threads, barrier = values

            def run(builder: ir.IRBuilder, where: ir.Value, args: Any, team: Any) -> Any:
                before = flush(builder)
                callee = builder.inttoptr(where, shape.as_pointer())
                team = context.make_tuple(builder, kinds[-1], team)
                status, _ = conv.call_function(builder, callee, types.none, kinds, [*args, team])
                restore(builder, before)
                return status

            with builder.if_else(builder.icmp_signed("<=", threads, WORD(1))) as (alone, several):
                with alone:
                    status = run(builder, where, given, [WORD(0), WORD(1), barrier])
                    with builder.if_then(status.is_error, likely=False):
                        conv.return_status_propagate(builder, status)
                with several:
                    # What each of them is given: the kernel, its arguments, and room for what the one that failed returned.
                    code, error, word = ir.IntType(32), shape.args[1].pointee, ir.IntType(8).as_pointer()
                    shared = [where, *given, barrier]
                    bundle = ir.LiteralStructType([*(value.type for value in shared), code, error])
                    failed, reason = len(shared), len(shared) + 1
                    place = cgutils.alloca_once(builder, bundle)
                    for i, value in enumerate([*shared, code(0)]):
                        builder.store(value, cgutils.gep_inbounds(builder, place, 0, i))

                    name = builder.module.get_unique_name(f"{made.function.__name__}_member")
                    member = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [word, WORD, WORD]), name)
                    member.linkage = "internal"
                    inner = ir.IRBuilder(member.append_basic_block())
                    own = inner.bitcast(member.args[0], bundle.as_pointer())
                    where, *args, barrier = (inner.load(cgutils.gep_inbounds(inner, own, 0, i)) for i in range(failed))
                    status = run(inner, where, args, [*member.args[1:], barrier])
                    with inner.if_then(status.is_error, likely=False):
                        inner.store(status.excinfoptr, cgutils.gep_inbounds(inner, own, 0, reason))
                        inner.store(status.code, cgutils.gep_inbounds(inner, own, 0, failed))
                        flag = inner.gep(unchecked(inner, PointerType(types.int64), barrier), [WORD(ABORT)])
                        inner.store_atomic(WORD(1), flag, "release", 8)
                    inner.ret_void()

                    whole = ir.FunctionType(ir.VoidType(), [member.type, word, WORD])
                    together = cgutils.get_or_insert_function(builder.module, whole, "fastmlp_together")
                    builder.call(together, [member, builder.bitcast(place, word), threads])
                    outcome = builder.load(cgutils.gep_inbounds(builder, place, 0, failed))
                    with builder.if_then(builder.icmp_signed("!=", outcome, code(0)), likely=False):
                        why = builder.load(cgutils.gep_inbounds(builder, place, 0, reason))
                        conv.return_status_propagate(builder, conv._get_return_status(builder, outcome, why))
            return context.get_dummy_value()

        return signature(types.none, *kinds[:-1], types.intp, PointerType(types.int64)), codegen

    return by_name(names, made.function, define)
