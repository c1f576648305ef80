"""What happens beneath Python: threads, waiting, and the way from compiled code to the compiler.

Nothing here runs a line of Python in its caller's thread (unless no other can be started): a signal's handler, a trace
function or a patched `threading` cannot get in between. Handlers run, as themselves, when the compiled call is over. The
threads are the system's own.

- ``fastmlp_together`` runs a function as several threads at once, in helpers that wait to be needed again.
- ``fastmlp_resolve`` has a kernel compiled in a thread of its own, whose stack is large whatever the caller's is, and which
  computes with subnormals while the caller does not.
- ``fastmlp_give_way`` lets another thread have the core.
"""

import ctypes
import itertools
import os
import sys
from collections.abc import Callable
from traceback import print_exc
from typing import Any, TypeVar

import llvmlite.binding as llvm
from numba.core.compiler_lock import global_compiler_lock

from fastmlp.kernels.machine.program import PYTHON, SYSTEM, WINDOWS, program

T = TypeVar("T")

LOOK = 50_000  # microseconds after which who waits in Python sees to its signals
EXPORTED = ("fastmlp_together", "fastmlp_resolve", "fastmlp_give_way")

_jobs: dict[int, tuple[Callable[[], None], Any]] = {}
_numbers = itertools.count()
_done: list["Lock"] = []  # those that nobody waits for
_resolver: Callable[[int, int], None]
_engine: Any
_ask: Callable[..., None]


@ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)
def _answer(first: int, second: int) -> None:
    """What a request asks for: of two numbers an address to find and where to write it; of one a job of `apart`'s."""
    try:
        if second:
            _resolver(first, second)
        else:
            _jobs.pop(first)[0]()
    except BaseException:  # there is nobody to raise it to: a slot that stays 0 makes compiled code fail
        print_exc()


# Called without Python's lock, but for the last two, which do not wait.
_wait = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_longlong, ctypes.c_int)(
    ("PyThread_acquire_lock_timed", ctypes.pythonapi)
)
_allocate = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyThread_allocate_lock", ctypes.pythonapi))
_release = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(("PyThread_release_lock", ctypes.pythonapi))


def begin(resolve: Callable[[int, int], None]) -> None:
    """Make the program; `resolve(identity, slot)` is to write the address of the kernel so named to `slot`."""
    global _resolver, _engine, _ask
    _resolver = resolve
    system: Any = ctypes.WinDLL("kernel32") if WINDOWS else ctypes.CDLL(None)  # type: ignore[attr-defined,unused-ignore]
    for library, names in ((ctypes.pythonapi, PYTHON), (system, SYSTEM)):
        for name in names:
            llvm.add_symbol(name, _at(getattr(library, name)))
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(program(llvm.get_process_triple()))
    machine = llvm.Target.from_default_triple().create_target_machine()
    _engine = llvm.create_mcjit_compiler(module, machine)  # lives as long as its code
    _engine.finalize_object()
    for name in EXPORTED:
        llvm.add_symbol(name, _engine.get_function_address(name))
    _function("fastmlp_begin", ctypes.c_void_p)(_at(_answer))
    _ask = _function("fastmlp_ask", ctypes.c_void_p)
    if hasattr(os, "register_at_fork"):
        hold, let_go, forget = (_function(f"fastmlp_{name}") for name in ("hold", "let_go", "forget"))

        def before() -> None:
            import numpy.ma  # noqa: F401  # as Numba does at a thread's first call: a child would wait for that import to end

            hold()
            global_compiler_lock.acquire()  # behind the gate, as whoever answers requests takes it

        def after() -> None:
            global_compiler_lock.release()
            let_go()

        def in_child() -> None:
            after()
            forget()

        os.register_at_fork(before=before, after_in_parent=after, after_in_child=in_child)


def _at(function: Any) -> int:
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    return address


def _function(name: str, *kinds: Any) -> Callable[..., Any]:
    """A function of the program, called without Python's lock."""
    return ctypes.CFUNCTYPE(None, *kinds)(_engine.get_function_address(name))


class Lock:
    """A lock of the system's, made taken: one thread waits in `acquire`, another wakes it by `release`."""

    def __init__(self) -> None:
        self.at = _allocate()
        self.acquire(0)

    def acquire(self, microseconds: int) -> bool:
        """Wait for so long at most; whether it was to be had."""
        return bool(_wait(self.at, microseconds, 0))

    def release(self) -> None:
        _release(self.at)


def _importing() -> bool:
    """Whether some module is only half imported."""
    return any(getattr(getattr(module, "__spec__", None), "_initializing", False) for module in tuple(sys.modules.values()))


def apart(work: Callable[[], T]) -> T:
    """The result of work(), or what it raises: computed in a thread that no signal's handler and no small stack disturbs.

    An exception of a handler leaves at once; the work then goes on to its end behind it. Whoever holds Numba's lock already
    works in place: the thread would wait for it. So does whoever imports a module, for a user's function in it: Numba looks its
    module up, and the thread would wait for that import to end.
    """
    if global_compiler_lock.is_locked() or _importing():
        return work()
    outcome: list[tuple[T | None, BaseException | None]] = []

    def job() -> None:
        try:
            outcome.append((work(), None))
        except BaseException as failure:
            outcome.append((None, failure))

    done = _done.pop() if _done else Lock()
    number = next(_numbers)
    request = (ctypes.c_int64 * 3)(number, 0, done.at)
    _jobs[number] = job, request  # kept until `ask` has read it, which is before it calls back
    _ask(ctypes.addressof(request))
    while not done.acquire(LOOK):
        pass
    _done.append(done)
    result, failure = outcome[0]
    if failure is not None:
        raise failure
    return result  # type: ignore[return-value]
