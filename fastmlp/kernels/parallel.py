"""How the threads of one training start and meet: in compiled code that holds no lock of Python's.

`crew` has a kernel run by several threads within one compiled call, which returns when all have: there is no moment at which
Python could be interrupted with threads still at work. At the barrier they wait by spinning; after a thousand turns they give
their core away, so that more threads than cores are slow but do not stand still. Whoever fails raises ABORT, and nobody waits
for him.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import signature

from fastmlp.kernels.interpreted import INTERPRETED, intrinsic
from fastmlp.kernels.jit import by_name, inlined, target
from fastmlp.kernels.plan import ABORT, ARRIVED, ROUND
from fastmlp.kernels.pointer import WORD, address, offset, unchecked
from fastmlp.kernels.subnormals import flush, restore
from fastmlp.kernels.tile import ARM, X86

SPINS = 1000


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


def crew(kernel: Any) -> Any:
    """What runs a kernel by several threads at once, with subnormals taken for zero, and returns when all have.

    To be called with the kernel's arguments but `me`, the last but one; the last is the number of threads, which there may be
    fewer of. The kernel has an argument `state`. What one of them raises is raised.
    """
    if INTERPRETED:
        return lambda *args: kernel(*args[:-1], 0, 1)
    made = kernel.kernel
    names = [*made.names[:-2], "threads"]

    def define(typingctx: Any, *args: Any) -> Any:
        dtype = made.dtype(args)
        if dtype is None:
            return None
        kinds = made.signature(dtype).args

        def codegen(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> ir.Value:
            conv = context.call_conv
            shape = conv.get_function_type(types.none, kinds)
            where, threads = target(builder, context, made.identity(dtype)), values[-1]

            def run(builder: ir.IRBuilder, where: ir.Value, args: Any) -> Any:
                before = flush(builder)
                callee = builder.inttoptr(where, shape.as_pointer())
                status, _ = conv.call_function(builder, callee, types.none, kinds, args)
                restore(builder, before)
                return status

            with builder.if_else(builder.icmp_signed("<=", threads, WORD(1))) as (alone, several):
                with alone:
                    status = run(builder, where, [*values[:-1], WORD(0), WORD(1)])
                    with builder.if_then(status.is_error, likely=False):
                        conv.return_status_propagate(builder, status)
                with several:
                    # What each of them is given: the kernel, its arguments, and room for what the one that failed returned.
                    code, error, word = ir.IntType(32), shape.args[1].pointee, ir.IntType(8).as_pointer()
                    bundle = ir.LiteralStructType([WORD, *(value.type for value in values[:-1]), code, error])
                    failed, reason = len(values), len(values) + 1
                    place = cgutils.alloca_once(builder, bundle)
                    for i, value in enumerate([where, *values[:-1], code(0)]):
                        builder.store(value, cgutils.gep_inbounds(builder, place, 0, i))

                    name = builder.module.get_unique_name(f"{made.function.__name__}_member")
                    member = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [word, WORD, WORD]), name)
                    member.linkage = "internal"
                    inner = ir.IRBuilder(member.append_basic_block())
                    given = inner.bitcast(member.args[0], bundle.as_pointer())
                    where, *args = (inner.load(cgutils.gep_inbounds(inner, given, 0, i)) for i in range(failed))
                    status = run(inner, where, [*args, *member.args[1:]])
                    with inner.if_then(status.is_error, likely=False):
                        inner.store(status.excinfoptr, cgutils.gep_inbounds(inner, given, 0, reason))
                        inner.store(status.code, cgutils.gep_inbounds(inner, given, 0, failed))
                        at = names.index("state")
                        state = unchecked(inner, kinds[at], args[at])
                        inner.store_atomic(WORD(1), inner.gep(state, [WORD(ABORT)]), "release", 8)
                    inner.ret_void()

                    whole = ir.FunctionType(ir.VoidType(), [member.type, word, WORD])
                    together = cgutils.get_or_insert_function(builder.module, whole, "fastmlp_together")
                    builder.call(together, [member, builder.bitcast(place, word), threads])
                    outcome = builder.load(cgutils.gep_inbounds(builder, place, 0, failed))
                    with builder.if_then(builder.icmp_signed("!=", outcome, code(0)), likely=False):
                        why = builder.load(cgutils.gep_inbounds(builder, place, 0, reason))
                        conv.return_status_propagate(builder, conv._get_return_status(builder, outcome, why))
            return context.get_dummy_value()

        return signature(types.none, *kinds[:-1]), codegen

    return by_name(names, made.function, define)
