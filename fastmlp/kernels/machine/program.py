"""The program beneath Python, as text for LLVM: `fastmlp.kernels.machine.native` compiles it and says what it is for."""

import signal
import sys

STACK = 16 << 20  # bytes: a compilation takes more than a megabyte
MOST_HELPERS = 255
PAUSES = 1000  # looks at what is waited for before the core is given away
YIELDS = 100  # turns of giving it away before a sleep of NAP
NAP = 50  # microseconds

# A thread of ours leaves signals to others: one that comes to it would not wake up a main thread that sleeps. All but those
# that it can cause itself.
_FAULTS = ("SIGILL", "SIGABRT", "SIGBUS", "SIGFPE", "SIGSEGV")
_MASK = -1 - sum(1 << (getattr(signal, name) - 1) for name in _FAULTS if hasattr(signal, name))
_BLOCK = getattr(signal, "SIG_BLOCK", 0)

# What Python state this thread has, whoever holds Python's lock: `PyGILState_Check` says yes to all once there has been a
# second interpreter.
_CURRENT = "PyThreadState_GetUnchecked" if sys.version_info >= (3, 13) else "_PyThreadState_UncheckedGet"
WINDOWS = sys.platform == "win32"
PYTHON = (
    "PyMem_RawFree",
    "PyMem_RawMalloc",
    "PyEval_SaveThread",
    "PyEval_RestoreThread",
    "PyGILState_GetThisThreadState",
    _CURRENT,
    "PyThread_acquire_lock",
    "PyThread_allocate_lock",
    "PyThread_free_lock",
    "PyThread_release_lock",
    "PyThread_start_new_thread",
)
SYSTEM = (
    ("SwitchToThread", "Sleep")
    if WINDOWS
    else (
        "pthread_attr_destroy",
        "pthread_attr_init",
        "pthread_attr_setdetachstate",
        "pthread_attr_setstacksize",
        "pthread_create",
        "pthread_sigmask",
        "sched_yield",
        "usleep",
    )
)

_START_POSIX = f"""
define internal i32 @start(ptr %function, ptr %argument) {{
  %attributes = alloca [128 x i8], align 16
  %thread = alloca i64
  %a = call i32 @pthread_attr_init(ptr %attributes)
  %b = call i32 @pthread_attr_setstacksize(ptr %attributes, i64 {STACK})
  %c = call i32 @pthread_attr_setdetachstate(ptr %attributes, i32 {2 if sys.platform == "darwin" else 1})
  %failed = call i32 @pthread_create(ptr %thread, ptr %attributes, ptr %function, ptr %argument)
  %d = call i32 @pthread_attr_destroy(ptr %attributes)
  ret i32 %failed
}}
define internal void @leave_signals() {{
  %mask = alloca [16 x i64]
  store [16 x i64] [i64 {_MASK}{", i64 -1" * 15}], ptr %mask
  %a = call i32 @pthread_sigmask(i32 {int(_BLOCK)}, ptr %mask, ptr null)
  ret void
}}
define internal void @yield() {{
  %a = call i32 @sched_yield()
  ret void
}}
define internal void @nap() {{
  %a = call i32 @usleep(i32 {NAP})
  ret void
}}
"""
_START_WINDOWS = """
define internal i32 @start(ptr %function, ptr %argument) {
  %thread = call i64 @PyThread_start_new_thread(ptr %function, ptr %argument)
  %word = trunc i64 %thread to i32
  %bad = icmp eq i32 %word, -1
  %failed = zext i1 %bad to i32
  ret i32 %failed
}
define internal void @leave_signals() {
  ret void
}
define internal void @yield() {
  %a = call i32 @SwitchToThread()
  ret void
}
define internal void @nap() {
  call void @Sleep(i32 1)
  ret void
}
"""
_X86 = """
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
declare void @llvm.x86.sse2.pause()
define internal i32 @count_subnormals() {
  %place = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %place)
  %before = load i32, ptr %place
  store i32 8064, ptr %place
  call void @llvm.x86.sse.ldmxcsr(ptr %place)
  ret i32 %before
}
define internal void @restore(i32 %before) {
  %place = alloca i32
  store i32 %before, ptr %place
  call void @llvm.x86.sse.ldmxcsr(ptr %place)
  ret void
}
define internal void @pause() {
  call void @llvm.x86.sse2.pause()
  ret void
}
"""
_OTHER = """
define internal i32 @count_subnormals() {
  ret i32 0
}
define internal void @restore(i32 %before) {
  ret void
}
define internal void @pause() {
  ret void
}
"""
_DECLARED = f"""
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare ptr @PyGILState_GetThisThreadState()
declare ptr @{_CURRENT}()
declare i32 @PyThread_acquire_lock(ptr, i32)
declare ptr @PyThread_allocate_lock()
declare void @PyThread_free_lock(ptr)
declare void @PyThread_release_lock(ptr)
declare i64 @PyThread_start_new_thread(ptr, ptr)
declare i32 @SwitchToThread()
declare void @Sleep(i32)
declare i32 @pthread_attr_destroy(ptr)
declare i32 @pthread_attr_init(ptr)
declare i32 @pthread_attr_setdetachstate(ptr, i32)
declare i32 @pthread_attr_setstacksize(ptr, i64)
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i32 @sched_yield()
declare i32 @usleep(i32)
"""
_PROGRAM = f"""
; A helper: whether it is taken, the lock that wakes it, its job, its number in that. A cache line.
%Helper = type {{ i64, ptr, ptr, i64, [4 x i64] }}
; A job: the function, what it is given, how many threads run it, how many helpers are still at it.
%Job = type {{ ptr, ptr, i64, i64 }}
; What Python is asked for: two numbers, and the lock that is released when it is done.
%Request = type {{ i64, i64, ptr }}

@helpers = internal global [{MOST_HELPERS} x %Helper] zeroinitializer, align 64
@gate = internal global ptr null
@held = internal global i64 0
@callback = internal global ptr null

define void @fastmlp_begin(ptr %callback) {{
  store ptr %callback, ptr @callback
  %gate = call ptr @PyThread_allocate_lock()
  store ptr %gate, ptr @gate
  ret void
}}

; Before a fork: none of our compilations is under way then, whose locks the child would wait for.
define void @fastmlp_hold() {{
  %gate = load ptr, ptr @gate
  %a = call i32 @PyThread_acquire_lock(ptr %gate, i32 1)
  store i64 1, ptr @held
  ret void
}}
define void @fastmlp_let_go() {{
  %held = load i64, ptr @held
  %well = icmp eq i64 %held, 1
  br i1 %well, label %release, label %end
release:
  store i64 0, ptr @held
  %gate = load ptr, ptr @gate
  call void @PyThread_release_lock(ptr %gate)
  br label %end
end:
  ret void
}}
; After it, in the child, which has none of its parent's threads.
define void @fastmlp_forget() {{
  store [{MOST_HELPERS} x %Helper] zeroinitializer, ptr @helpers
  ret void
}}

define void @fastmlp_give_way(i64 %turn) {{
  %few = icmp slt i64 %turn, {YIELDS}
  br i1 %few, label %first, label %later
first:
  call void @yield()
  ret void
later:
  call void @nap()
  ret void
}}

define internal ptr @help(ptr %helper) {{
  call void @leave_signals()
  %lock.at = getelementptr %Helper, ptr %helper, i64 0, i32 1
  %job.at = getelementptr %Helper, ptr %helper, i64 0, i32 2
  %me.at = getelementptr %Helper, ptr %helper, i64 0, i32 3
  %lock = load ptr, ptr %lock.at
  br label %wait
wait:
  %a = call i32 @PyThread_acquire_lock(ptr %lock, i32 1)
  %job = load ptr, ptr %job.at
  %me = load i64, ptr %me.at
  %function = load ptr, ptr %job
  %given.at = getelementptr %Job, ptr %job, i64 0, i32 1
  %given = load ptr, ptr %given.at
  %threads.at = getelementptr %Job, ptr %job, i64 0, i32 2
  %threads = load i64, ptr %threads.at
  call void %function(ptr %given, i64 %me, i64 %threads)
  store atomic i64 0, ptr %helper release, align 8
  %left.at = getelementptr %Job, ptr %job, i64 0, i32 3
  %left = atomicrmw sub ptr %left.at, i64 1 release
  br label %wait
}}

; A helper that is taken now, or null: all are, or no thread can be started.
define internal ptr @hire() {{
  br label %look
look:
  %i = phi i64 [ 0, %0 ], [ %next, %taken ]
  %helper = getelementptr %Helper, ptr @helpers, i64 %i
  %pair = cmpxchg ptr %helper, i64 0, i64 1 acq_rel monotonic
  %free = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %free, label %found, label %taken
taken:
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, {MOST_HELPERS}
  br i1 %more, label %look, label %none
found:
  %lock.at = getelementptr %Helper, ptr %helper, i64 0, i32 1
  %lock = load ptr, ptr %lock.at
  %known = icmp ne ptr %lock, null
  br i1 %known, label %have, label %make
make:
  %new = call ptr @PyThread_allocate_lock()
  %a = call i32 @PyThread_acquire_lock(ptr %new, i32 1)
  store ptr %new, ptr %lock.at
  %failed = call i32 @start(ptr @help, ptr %helper)
  %well = icmp eq i32 %failed, 0
  br i1 %well, label %have, label %undo
undo:
  store ptr null, ptr %lock.at
  call void @PyThread_free_lock(ptr %new)
  store atomic i64 0, ptr %helper release, align 8
  br label %none
have:
  ret ptr %helper
none:
  ret ptr null
}}

; function(given, me, threads) for each me below `threads` at the same time, 0 here; fewer threads where no more can be had.
define void @fastmlp_together(ptr %function, ptr %given, i64 %wanted) {{
  %job = alloca %Job
  %hired = alloca [{MOST_HELPERS} x ptr]
  store ptr %function, ptr %job
  %given.at = getelementptr %Job, ptr %job, i64 0, i32 1
  store ptr %given, ptr %given.at
  %threads.at = getelementptr %Job, ptr %job, i64 0, i32 2
  %left.at = getelementptr %Job, ptr %job, i64 0, i32 3
  br label %look
look:
  %n = phi i64 [ 0, %0 ], [ %n.next, %got ]
  %n.next = add i64 %n, 1
  %enough = icmp sge i64 %n.next, %wanted
  br i1 %enough, label %go, label %more
more:
  %one = call ptr @hire()
  %lack = icmp eq ptr %one, null
  br i1 %lack, label %go, label %got
got:
  %place = getelementptr ptr, ptr %hired, i64 %n
  store ptr %one, ptr %place
  br label %look
go:
  store i64 %n.next, ptr %threads.at
  store atomic i64 %n, ptr %left.at release, align 8
  br label %give
give:
  %i = phi i64 [ 0, %go ], [ %i.next, %gave ]
  %given.all = icmp eq i64 %i, %n
  br i1 %given.all, label %work, label %gave
gave:
  %i.next = add i64 %i, 1
  %who.at = getelementptr ptr, ptr %hired, i64 %i
  %who = load ptr, ptr %who.at
  %job.at = getelementptr %Helper, ptr %who, i64 0, i32 2
  store ptr %job, ptr %job.at
  %me.at = getelementptr %Helper, ptr %who, i64 0, i32 3
  store i64 %i.next, ptr %me.at
  %lock.at = getelementptr %Helper, ptr %who, i64 0, i32 1
  %lock = load ptr, ptr %lock.at
  call void @PyThread_release_lock(ptr %lock)
  br label %give
work:
  call void %function(ptr %given, i64 0, i64 %n.next)
  br label %wait
wait:
  %turn = phi i64 [ {-PAUSES}, %work ], [ %turn.next, %again ]
  %left = load atomic i64, ptr %left.at acquire, align 8
  %over = icmp eq i64 %left, 0
  br i1 %over, label %end, label %idle
idle:
  %turn.next = add i64 %turn, 1
  %soon = icmp slt i64 %turn, 0
  br i1 %soon, label %short, label %long
short:
  call void @pause()
  br label %again
long:
  call void @fastmlp_give_way(i64 %turn)
  br label %again
again:
  br label %wait
end:
  ret void
}}

; One at a time: Numba compiles under a lock of its own.
define internal ptr @ask(ptr %request) {{
  %first = load i64, ptr %request
  %second.at = getelementptr %Request, ptr %request, i64 0, i32 1
  %second = load i64, ptr %second.at
  %done.at = getelementptr %Request, ptr %request, i64 0, i32 2
  %done = load ptr, ptr %done.at
  %before = call i32 @count_subnormals()
  %gate = load ptr, ptr @gate
  %a = call i32 @PyThread_acquire_lock(ptr %gate, i32 1)
  %callback = load ptr, ptr @callback
  call void %callback(i64 %first, i64 %second)
  call void @PyThread_release_lock(ptr %gate)
  call void @restore(i32 %before)
  call void @PyThread_release_lock(ptr %done)
  ret ptr null
}}
define internal ptr @ask_apart(ptr %request) {{
  call void @leave_signals()
  %a = call ptr @ask(ptr %request)
  ret ptr null
}}

; Whoever holds Python's lock gives it up meanwhile: the compiler needs it. Without another thread it is this one that asks.
define void @fastmlp_ask(ptr %request) {{
  %failed = call i32 @start(ptr @ask_apart, ptr %request)
  %well = icmp eq i32 %failed, 0
  br i1 %well, label %end, label %alone
alone:
  %a = call ptr @ask(ptr %request)
  br label %end
end:
  ret void
}}
define void @fastmlp_resolve(i64 %identity, i64 %slot) {{
  %request = alloca %Request
  %done = call ptr @PyThread_allocate_lock()
  %a = call i32 @PyThread_acquire_lock(ptr %done, i32 1)
  store i64 %identity, ptr %request
  %slot.at = getelementptr %Request, ptr %request, i64 0, i32 1
  store i64 %slot, ptr %slot.at
  %done.at = getelementptr %Request, ptr %request, i64 0, i32 2
  store ptr %done, ptr %done.at
  %own = call ptr @PyGILState_GetThisThreadState()
  %current = call ptr @{_CURRENT}()
  %known = icmp ne ptr %own, null
  %same = icmp eq ptr %own, %current
  %held = and i1 %known, %same
  br i1 %held, label %give, label %free
give:
  %state = call ptr @PyEval_SaveThread()
  call void @fastmlp_ask(ptr %request)
  %b = call i32 @PyThread_acquire_lock(ptr %done, i32 1)
  call void @PyEval_RestoreThread(ptr %state)
  br label %end
free:
  call void @fastmlp_ask(ptr %request)
  %c = call i32 @PyThread_acquire_lock(ptr %done, i32 1)
  br label %end
end:
  call void @PyThread_free_lock(ptr %done)
  ret void
}}
"""


def program(triple: str) -> str:
    """The whole of it, for a machine so named."""
    processor = _X86 if triple.startswith(("x86_64", "i386", "i686")) else _OTHER
    return _DECLARED + (_START_WINDOWS if WINDOWS else _START_POSIX) + processor + _PROGRAM
