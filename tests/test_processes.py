"""Threads and processes of every kind: the same bits as of one thread, and never a hang.

Each test is a process of its own, or some, with a time limit; what they do is in `process_work`.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import process_work as work
import pytest

import fastmlp

HERE = Path(__file__).parent
posix = pytest.mark.skipif(os.name != "posix", reason="needs fork")
both = pytest.mark.parametrize("threads", [1, 2])


@pytest.fixture(scope="module")
def wanted() -> tuple[str, str]:
    """The bits of one training, and of 32 of one model, on one thread of this process."""
    fastmlp.set_num_threads(1)
    try:
        return work.trained(), work.trained(32)
    finally:
        fastmlp.set_num_threads(None)


def _environment(**settings: str) -> dict[str, str]:
    path = os.pathsep.join([str(HERE.parent), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, **settings}


def _start(*command: str, **options: Any) -> Any:
    return subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **options
    )


def _ended(process: Any, limit: float) -> str:
    """The output of a process that must end by itself, well, and in time; its descendants end with it."""
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        _kill(process)
        out, err = process.communicate()
        pytest.fail(f"hangs after\n{out}\n{err}")
    finally:
        _kill(process)
    assert process.returncode == 0, f"ended with {process.returncode} after\n{out}\n{err}"
    return str(out)


def _kill(process: Any) -> None:
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def run(code: str, *arguments: object, limit: float = 60, **settings: str) -> list[str]:
    """The lines that a script prints. It imports `process_work` where it wants to."""
    return _ended(_start("-c", code, *map(str, arguments), env=_environment(**settings)), limit).splitlines()


THREADS = """
import sys, threading, fastmlp
from process_work import *
fastmlp.set_num_threads(int(sys.argv[1]))
threading.stack_size(int(sys.argv[2]))
print(*set(together([trained] * 32, 200)))  # the first call of all, and many models at once
one = model()
assert set(together([lambda: fit(one)] * 32)) == {None}
print(bits(one.params) + predicted(one))
print(*set(together([lambda: predicted(one)] * 32)))
X, y = data()
gradient = bits(one.gradient(X, y)[1])
print(set(together([lambda: bits(one.gradient(X, y)[1])] * 32)) == {gradient})
"""


@both
def test_32_threads(threads: int, wanted: tuple[str, str]) -> None:
    one, many = wanted
    assert run(THREADS, threads, 0) == [one, many, many[16:], "True"]


@pytest.mark.slow
def test_32_threads_of_small_stacks_compile_at_once(wanted: tuple[str, str], tmp_path: Path) -> None:
    one, many = wanted
    assert run(THREADS, 2, 64 << 10, limit=240, NUMBA_CACHE_DIR=str(tmp_path)) == [one, many, many[16:], "True"]


# The fork of a process with threads is said by Python 3.12 and later. A busy model's thread is in the middle of a call.
CHILDREN = """
import sys, threading, warnings, fastmlp
from process_work import *
if __name__ == "__main__":
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    method, threads = sys.argv[1], int(sys.argv[2])
    fastmlp.set_num_threads(threads)
    if method == "fork":  # the others take nothing over from their parent
        print(in_child(method, trained))
    one, busy = model(), model()
    fit(one)
    with training(busy):
        print(in_child(method, trained_and_predicted, one))
        print(in_child(method, fitted, busy))
    print(trained())
"""


@pytest.mark.slow
@posix
@pytest.mark.parametrize(("method", "threads"), [("fork", 1), ("fork", 2), ("spawn", 2), ("forkserver", 2)])
def test_children(method: str, threads: int, wanted: tuple[str, str]) -> None:
    one, _ = wanted
    *before, meanwhile, busy, last = run(CHILDREN, method, threads)
    assert before == ([one] if method == "fork" else [])
    assert (meanwhile, last) == (one + one[16:], one)
    assert busy == "done" or re.fullmatch(r"RuntimeError\(.*fork.*\)", busy)


FORKS = """
import os, signal, sys, threading, time, warnings, fastmlp
from process_work import *
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
fastmlp.set_num_threads(int(sys.argv[1]))
first = threading.Thread(target=trained)
first.start()
children = []
for _ in range(10):
    time.sleep(0.005)
    mine, its = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(20)  # ends what hangs
        try:
            os.write(its, trained().encode())
        except BaseException as error:
            os.write(its, repr(error).encode())
        finally:
            os._exit(0)
    os.close(its)
    children.append((child, mine))
first.join()
print(*{os.read(mine, 1000).decode() or "hangs" for _, mine in children})
"""


@posix
@both
def test_forks_while_another_thread_makes_the_first_call(threads: int, wanted: tuple[str, str]) -> None:
    """Whose imports, loaded code and locks a child would find half done."""
    assert run(FORKS, threads) == [wanted[0]]


LIBRARIES = {
    "joblib threads": """
        import joblib
        print(*set(joblib.Parallel(4, backend="threading")(joblib.delayed(trained)() for _ in range(8))))
        one = model(); fit(one)
        print(*set(joblib.Parallel(4, backend="threading")(joblib.delayed(predicted)(one) for _ in range(8))))
    """,
    "loky": """
        import joblib
        one = model(); fit(one)
        print(*set(joblib.Parallel(2, backend="loky")(joblib.delayed(trained)() for _ in range(4))))
        print(*set(joblib.Parallel(2, backend="loky")(joblib.delayed(predicted)(one) for _ in range(4))))
    """,
    "joblib multiprocessing": """
        import joblib
        one = model(); fit(one)
        print(*set(joblib.Parallel(2, backend="multiprocessing")(joblib.delayed(trained)() for _ in range(4))))
        print(*set(joblib.Parallel(2, backend="multiprocessing")(joblib.delayed(predicted)(one) for _ in range(4))))
    """,
    "dask": """
        import dask, distributed
        dask.config.set({"distributed.worker.daemon": True})
        options = dict(dashboard_address=None, host="127.0.0.1")
        with distributed.LocalCluster(2, threads_per_worker=2, processes=True, **options) as cluster:
            with distributed.Client(cluster) as client:
                one = model(); fit(one)
                print(*set(client.gather([client.submit(trained, pure=False) for _ in range(8)])))
                print(*set(client.gather([client.submit(predicted, one, pure=False) for _ in range(8)])))
    """,
    "asyncio": """
        import asyncio
        from concurrent.futures import ProcessPoolExecutor
        async def main():
            loop = asyncio.get_running_loop()
            with ProcessPoolExecutor(2) as pool:
                in_processes = [loop.run_in_executor(pool, trained) for _ in range(4)]
                in_threads = [loop.run_in_executor(None, trained) for _ in range(8)]
                print(*set(await asyncio.gather(*in_threads, *in_processes)))
                one = model()
                await asyncio.to_thread(fit, one)
                jobs = [loop.run_in_executor(where, predicted, one) for where in (None, None, pool, pool)]
                print(*set(await asyncio.gather(*jobs)))
        asyncio.run(main())
    """,
    "gevent": """
        import gevent
        from gevent.pool import Pool
        print(*set(Pool(4).map(lambda _: trained(), range(4))))
        long = [model(), model()]
        for threads, one in enumerate(long, 1):
            fastmlp.set_num_threads(threads)
            fit(one, 60)
        assert bits(long[0].params) == bits(long[1].params)
        one = model(); fit(one)
        pool = gevent.get_hub().threadpool
        print(*set([predicted(one), *pool.map(lambda _: predicted(one), range(4))]))
    """,
}

SLOW = ("loky", "dask")  # to start


@pytest.mark.parametrize("library", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in LIBRARIES])
def test_libraries(library: str, wanted: tuple[str, str]) -> None:
    one, _ = wanted
    first = "from gevent import monkey; monkey.patch_all()\n" if library == "gevent" else ""
    lines = [line[8:] for line in LIBRARIES[library].strip("\n").splitlines()]
    body = "\n".join("    " + line for line in lines)
    start = "import warnings, fastmlp\nfrom process_work import *\nif __name__ == '__main__':\n"
    start += "    warnings.filterwarnings('ignore', 'This process .* is multi-threaded', DeprecationWarning)\n"
    assert run(first + start + body, limit=60, FASTMLP_NUM_THREADS="2") == [one, one[16:]]


SMALL_STACKS = """
import sys, threading, fastmlp
from process_work import *
fastmlp.set_num_threads(int(sys.argv[1]))
threading.stack_size(64 << 10)
print(*set(together([trained] * 4)))
one = model(); fit(one)
X, y = data()
def all_calls():
    fit(one, validation_split=0.2)
    one.loss(X, y); one.gradient(X, y); one.step(X, y); one.predict(X[:1])
    return "done"
print(*set(together([all_calls] * 4)))
"""


@both
def test_small_stacks(threads: int, wanted: tuple[str, str]) -> None:
    assert run(SMALL_STACKS, threads) == [wanted[0], "done"]


# A short, a long and a watched training, or the first calls of all, are under way when the process ends.
AT_EXIT = """
import sys, threading, time, fastmlp
from process_work import *
fastmlp.set_num_threads(int(sys.argv[1]))
def for_ever(epochs, watched):
    one = model()
    while True:
        fit(one, epochs, validation_split=0.2 * watched)
first = sys.argv[2] == "first call"
if not first:
    trained()
for epochs, watched in ((1, False), (10**9, False), (10**9, True)):
    threading.Thread(target=for_ever, args=(epochs, watched), daemon=True).start()
time.sleep(0.02 if first else 0.5)
print(time.monotonic())
"""


@both
@pytest.mark.parametrize("kind", ["first call", "later"])
def test_daemon_threads_at_exit(kind: str, threads: int) -> None:
    (left,) = run(AT_EXIT, threads, kind, limit=30)
    assert time.monotonic() - float(left) < 5


SERVER = """
import os
from process_work import *
one = model()
fit(one)

def application(environ, start_response):
    what = {"/predict": lambda: predicted(one), "/fit": trained}[environ["PATH_INFO"]]
    body = f"{what()} {os.getpid()}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def _get(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


@pytest.mark.slow
@posix
@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_gunicorn(kind: str, preload: bool, wanted: tuple[str, str], tmp_path: Path) -> None:
    one, _ = wanted
    (tmp_path / "served.py").write_text(SERVER)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port, number = listener.getsockname()[1], listener.fileno()
        options = [
            "--bind",
            f"fd://{number}",
            "--workers",
            "2",
            "--worker-class",
            kind,
            "--timeout",
            "25",
            "--graceful-timeout",
            "5",
        ]
        options += ["--threads", "4"] if kind == "gthread" else []
        options += ["--preload"] if preload else []
        command = ["-m", "gunicorn", *options, "--pythonpath", str(tmp_path), "served:application"]
        server = _start(*command, env=_environment(FASTMLP_NUM_THREADS="2"), pass_fds=[number], cwd=tmp_path)
    answers: list[str] = []
    try:
        with ThreadPoolExecutor(4) as pool:
            answers += pool.map(lambda path: _get(port, path), ["/predict", "/fit"] * 6)
    finally:
        server.send_signal(signal.SIGTERM)
        said = _ended(server, 20)
    assert {answer.split()[0] for answer in answers} == {one[16:], one}, said
