"""A kernel with some of its arguments given, as a C function."""

from typing import Any

import llvmlite.binding as llvm

from fastmlp.kernels.machine.pointer import CHECKED


def _span(at: str, size: int, name: str) -> tuple[str, str]:
    """An address as a kernel's argument, and what must be computed before: in checked mode it comes with its array's bounds."""
    if not CHECKED:
        return f"ptr {at}", ""
    before = f"%{name} = ptrtoint ptr {at} to i64\n%{name}_last = add i64 %{name}, {size}\n"
    return f"i64 %{name}, i64 %{name}, i64 %{name}_last", before


class Callback:
    """``void (*)(const T *x, T *out)``, which calls kernel(handle, x, out, 1).

    Attributes
    ----------
    address : int
        The function's, valid as long as this object lives.
    """

    def __init__(self, kernel: int, handle: tuple[int, int], x_bytes: int, out_bytes: int) -> None:
        at, size = handle
        spans = [_span("%handle", size, "h"), _span("%x", x_bytes, "x_at"), _span("%out", out_bytes, "out_at")]
        arguments = ", ".join(argument for argument, _ in spans)
        text = f"""
target triple = "{llvm.get_process_triple()}"
define void @call(ptr %x, ptr %out) {{
%result = alloca ptr
%error = alloca ptr
%handle = inttoptr i64 {at} to ptr
%kernel = inttoptr i64 {kernel} to ptr
{"".join(before for _, before in spans)}
%status = call i32 %kernel(ptr %result, ptr %error, {arguments}, i64 1)
ret void
}}
"""
        machine = llvm.Target.from_default_triple().create_target_machine()
        self._engine: Any = llvm.create_mcjit_compiler(llvm.parse_assembly(text), machine)  # lives as long as its code
        self._engine.finalize_object()
        self.address: int = self._engine.get_function_address("call")
