"""Calls of one of several kernels by a code that is known when they run.

A table of entries (activations, losses, optimisers) makes its own dispatcher: an entry that stands in the table is called, and
only kernels that are called are compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature

from fastmlp.kernels.machine.interpreted import INTERPRETED
from fastmlp.kernels.machine.jit import by_name, call_at, target
from fastmlp.kernels.machine.pointer import WORD


def by_code(kernels: Mapping[int, Callable[..., Any]]) -> Any:
    """The function of (code, *arguments) that calls the kernel with that code; all have one signature.

    To compiled code it is a jump, of which Numba sees one call however many kernels there are. Another code is a RuntimeError.
    """
    if INTERPRETED:
        return lambda code, *args: kernels[code](*args)
    known: dict[int, Any] = {code: getattr(made, "kernel") for code, made in kernels.items()}  # noqa: B009  # not a function's
    first = next(iter(known.values()))

    def define(typingctx: Any, code: Any, *args: Any) -> Any:
        dtype = first.dtype(args)
        if dtype is None:
            return None
        one = first.signature(dtype)
        if any(other.signature(dtype) != one for other in known.values()):
            raise TypeError(f"the kernels beside {first.function.__qualname__} must all have its signature, {one}")

        def codegen(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> ir.Value:
            unknown, chosen = builder.append_basic_block("unknown"), builder.append_basic_block("chosen")
            jump = builder.switch(values[0], unknown)
            ways = []
            for number, kernel in known.items():
                block = builder.append_basic_block(kernel.function.__name__)
                jump.add_case(WORD(number), block)
                builder.position_at_end(block)
                place = target(builder, context, kernel.identity(dtype))
                ways.append((place, builder.block))
                builder.branch(chosen)
            builder.position_at_end(unknown)
            context.call_conv.return_user_exc(builder, RuntimeError, ("fastmlp: no kernel has this code",))
            builder.position_at_end(chosen)
            found = builder.phi(WORD)
            for place, block in ways:
                found.add_incoming(place, block)
            return call_at(context, builder, found, one, values[1:])

        return signature(one.return_type, types.intp, *one.args), codegen

    made = by_name(("code", *first.names), first.function, define)
    made.kernels = known
    return made
