"""Exceptions that strike anywhere: the model is then as its last completed step left it, and its next calls give right numbers.

None is lost either, as one is that Python cannot raise where it strikes, and hands to ``sys.unraisablehook``.

At every bytecode and line of fastmlp's Python (a share of them here; all with ``FASTMLP_THOROUGH=1``), and by real signals at
random moments (400 of them here, 10,000 then), on one and on two threads.
"""

from __future__ import annotations

import copy
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from interrupts import Struck, strikes

import fastmlp
from fastmlp.kernels.machine.interpreted import INTERPRETED

THOROUGH = bool(os.environ.get("FASTMLP_THOROUGH"))
ADAM, MEAN = fastmlp.Adam(0.01), fastmlp.SGD(0.05, momentum=0.5, ema=0.9)
SMALL, WIDE = [5, 8, 3], [20, 140, 130, 3]
RNG = np.random.default_rng(0)
DATA = {width: (RNG.standard_normal((90, width)), RNG.standard_normal((90, 3))) for width in (5, 20)}
MANY = np.ones((9000, 5))

OTHER = fastmlp.Model(SMALL, "tanh", rng=2)
SAVED = fastmlp.Model(SMALL, "tanh", rng=1)._engine.save()


class Case(NamedTuple):
    """A call; what comes before it; the net, and the number of threads."""

    act: Callable[[fastmlp.Model, np.ndarray, np.ndarray], Any]
    before: Callable[[fastmlp.Model, np.ndarray, np.ndarray], Any] = lambda m, X, y: None
    sizes: list[int] = SMALL
    threads: int = 1


def _best(model: fastmlp.Model, X: np.ndarray, y: np.ndarray) -> Any:
    callbacks = fastmlp.EarlyStopping(patience=1)
    return model.fit(X, y, 2, 40, optimizer=ADAM, rng=0, validation_split=0.3, metrics="mse", callbacks=callbacks)


def _stream(model: fastmlp.Model, X: np.ndarray, y: np.ndarray) -> Any:
    return model.fit_batches([(X[:20], y[:20]), (X[20:], y[20:])], 2, optimizer=ADAM)


CASES = {
    "step": Case(lambda m, X, y: m.step(X, y, optimizer=ADAM)),
    "step again": Case(lambda m, X, y: m.step(X, y, optimizer=ADAM), lambda m, X, y: m.step(X, y, optimizer=ADAM)),
    "step by another": Case(lambda m, X, y: m.step(X, y, optimizer=MEAN), lambda m, X, y: m.fit(X, y, 2, optimizer=ADAM)),
    "step by output_gradient": Case(lambda m, X, y: m.step(X, output_gradient=y, optimizer=ADAM)),
    "step by weights": Case(lambda m, X, y: m.step(X, y, optimizer=ADAM, sample_weight=y[:, 0])),
    "by output_gradient, by two": Case(lambda m, X, y: m.step(X, output_gradient=y, optimizer=ADAM), sizes=WIDE, threads=2),
    "fit": Case(lambda m, X, y: m.fit(X, y, 2, 40, optimizer=ADAM, rng=0)),
    "fit by two": Case(lambda m, X, y: m.fit(X, y, 2, 40, optimizer=ADAM, rng=0), sizes=WIDE, threads=2),
    "fit with callbacks": Case(_best),
    "fit_batches": Case(_stream),
    "fit on float32": Case(lambda m, X, y: m.fit(X.astype("f4"), y, sample_weight=np.ones(90, "f4"))),
    "predict": Case(lambda m, X, y: m.predict(X)),
    "predict many": Case(lambda m, X, y: m.predict(MANY)),
    "loss": Case(lambda m, X, y: m.loss(X, y)),
    "backward": Case(lambda m, X, y: m.backward(X, y)),
    "apply_gradient": Case(lambda m, X, y: m.apply_gradient(np.ones(m.params.shape), optimizer=ADAM)),
    "layer_outputs": Case(lambda m, X, y: m.layer_outputs(X)),
    "copy": Case(lambda m, X, y: m.copy()),
    "set_params_from a model": Case(lambda m, X, y: m.set_params_from(OTHER, 0.25)),
    "set_params_from an array": Case(lambda m, X, y: m.set_params_from(OTHER.params.tolist())),
    "pickle": Case(lambda m, X, y: pickle.loads(pickle.dumps(m))),
    "restore": Case(lambda m, X, y: m._engine.restore(SAVED), lambda m, X, y: m.step(X, y, optimizer=ADAM)),
    "trim": Case(lambda m, X, y: m.trim(), lambda m, X, y: m.step(X, y, optimizer=ADAM)),
}


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The exceptions that Python could not raise, such as those in a weak reference's callback."""
    found: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda one: found.append(f"{one.exc_value!r} in {one.object!r}"))
    return found


def _started(case: Case) -> fastmlp.Model:
    fastmlp.set_num_threads(case.threads)
    model = fastmlp.Model(case.sizes, "tanh", rng=0)
    case.before(model, *DATA[case.sizes[0]])
    return model


def _places(case: Case) -> set[bytes]:
    """The parameters at the start and where completed calls, epochs or batches lead to."""
    model, (X, y) = _started(case), DATA[case.sizes[0]]
    found = {model.params.tobytes()}
    if case.act is _stream:
        for part in (slice(20), slice(20, None)) * 2:
            model.step(X[part], y[part], optimizer=ADAM)
            found.add(model.params.tobytes())
    elif case.act is _best:
        for epochs in (1, 2):
            other = _started(case)
            other.fit(X[:62], y[:62], epochs, 40, optimizer=ADAM, rng=0)
            found.add(other.params.tobytes())
    else:
        case.act(model, X, y)
        found.add(model.params.tobytes())
    return found


def _check(model: fastmlp.Model, X: np.ndarray, y: np.ndarray, where: object) -> None:
    """What the model says of itself agrees with a model made anew, and it trains on as its copy does."""
    twin = copy.deepcopy(model)
    anew = fastmlp.Model.from_weights(model.weights, model.biases, model.activations, model.loss_name)
    np.testing.assert_array_equal(model.predict(X), anew.predict(X), err_msg=str(where))
    assert model.loss(X, y) == anew.loss(X, y), where
    assert model.step(X, y, optimizer=ADAM) == twin.step(X, y, optimizer=ADAM), where
    losses = [one.fit(X, y, 2, 40, optimizer=MEAN, rng=1)["loss"] for one in (model, twin)]
    assert losses[0] == losses[1], where
    np.testing.assert_array_equal(model.params, twin.params, err_msg=str(where))
    assert np.isfinite(model.params).all(), where


@pytest.mark.skipif(INTERPRETED, reason="the kernels would be struck, too")
@pytest.mark.skipif(sys.gettrace() is not None, reason="there is one trace function")
@pytest.mark.parametrize("name", CASES)
def test_struck_at_any_bytecode(name: str, all_share: None, lost: list[str]) -> None:
    case = CASES[name]
    X, y = DATA[case.sizes[0]]
    places = _places(case)  # and all is compiled
    model = _started(case)
    positions, numpys = 0, np.geterr()

    def act() -> None:
        case.act(model, X, y)

    for where in strikes(act, 0, 1 if THOROUGH else 17):
        if where is None:
            break
        positions += 1
        assert model.params.tobytes() in places, where
        assert np.geterr() == numpys, where
        _check(model, X, y, where)
        model = _started(case)
    assert positions > 0
    assert not lost
    if THOROUGH:
        print(f"{name}: {positions} positions")


@pytest.mark.skipif(INTERPRETED or not hasattr(signal, "setitimer"), reason="needs compiled code and timers that send signals")
@pytest.mark.parametrize("count", [1, 2])
def test_signals_at_random_moments(count: int, all_share: None, lost: list[str]) -> None:
    def strike(number: int, frame: Any) -> None:
        raise Struck

    draw = random.Random(count)
    numpys = np.geterr()
    before = signal.signal(signal.SIGALRM, strike)
    slowest, struck, lengths = 0.0, 0, {}
    try:
        for name, case in CASES.items():  # compiles, and finds out how long each call takes
            model = _started(case)
            for _ in range(2):
                started = time.perf_counter()
                case.act(model, *DATA[case.sizes[0]])
                lengths[name] = time.perf_counter() - started
        trials = 5000 if THOROUGH else 200
        while struck < trials:
            name = draw.choice(list(CASES))
            case = CASES[name]._replace(threads=count)
            model, (X, y) = _started(case), DATA[case.sizes[0]]
            delay = draw.random() * 2 * lengths[name] + 1e-6
            due = time.perf_counter() + delay
            try:
                signal.setitimer(signal.ITIMER_REAL, delay)
                case.act(model, X, y)
                while True:  # it comes
                    pass
            except Struck:
                slowest = max(slowest, time.perf_counter() - due)
                struck += 1
            _check(model, X, y, name)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        np.seterr(**numpys)  # a signal may strike within NumPy's own `errstate`, as in its first `finfo`
    assert slowest < 1
    assert not lost
    if THOROUGH:
        print(f"{count} threads: {struck} signals, slowest return {slowest:.3f} s late")


def _interrupted(act: Callable[[], Any], kind: type[BaseException], after: float) -> float:
    """How long after a SIGALRM, whose handler raises such an exception, the call ended."""
    sent = [0.0]

    def handler(number: int, frame: Any) -> None:
        raise kind("planted")

    def send() -> None:
        time.sleep(after)
        sent[0] = time.perf_counter()
        os.kill(os.getpid(), signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, handler)
    sender = threading.Thread(target=send)
    try:
        sender.start()
        with pytest.raises(kind):
            act()
        return time.perf_counter() - sent[0]
    finally:
        sender.join()
        signal.signal(signal.SIGALRM, before)


class OutOfTimeError(Exception):
    """A time limit of the user's."""


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no such signal here")
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, OutOfTimeError])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("watched", [False, True])
def test_a_handlers_exception_ends_a_fit_as_itself(kind: type[BaseException], count: int, watched: bool) -> None:
    X = np.ones((600, 60))
    y = np.zeros((600, 2))
    more: dict[str, Any] = {"validation_split": 0.3} if watched else {}
    fastmlp.set_num_threads(count)
    try:
        model = fastmlp.Model([60, 300, 300, 2], rng=0)
        model.fit(X, y, batch_size=200, **more)
        took = _interrupted(lambda: model.fit(X, y, epochs=10**6, batch_size=200, **more), kind, 0.3)
        assert took < 2
        assert np.isfinite(model.params).all()
        assert np.isfinite(model.fit(X, y, epochs=5, batch_size=200)["loss"]).all()
    finally:
        fastmlp.set_num_threads(None)


@pytest.mark.skipif(INTERPRETED or not hasattr(signal, "SIGALRM"), reason="needs compiled code and such a signal")
@pytest.mark.parametrize("name", ["fit", "step", "by output_gradient", "loss", "gradient", "predict", "layer_outputs"])
def test_a_call_of_seconds_ends_soon(name: str) -> None:
    """One step, or one forward pass, over many rows."""
    X, y = np.ones((50_000, 300)), np.zeros((50_000, 10))
    model = fastmlp.Model([300, 600, 400, 10], "tanh", rng=0)
    call = {
        "fit": lambda: model.fit(X, y),
        "step": lambda: model.step(X, y),
        "by output_gradient": lambda: model.step(X, output_gradient=y),
        "loss": lambda: model.loss(X, y),
        "gradient": lambda: model.gradient(X, y),
        "predict": lambda: model.predict(X),
        "layer_outputs": lambda: model.layer_outputs(X),
    }[name]
    model.fit(X[:1000], y[:1000])
    model.gradient(X[:1000], y[:1000])
    model.predict(X[:1000])
    model.step(X[:1000], output_gradient=y[:1000])
    model.layer_outputs(X[:1000])
    before = model.params.copy()
    assert _interrupted(call, OutOfTimeError, 0.2) < 1
    np.testing.assert_array_equal(model.params, before)


COLD = """
import os, signal, sys
import numpy as np
import fastmlp

class Limit(Exception):
    pass

def handler(number, frame):
    x = np.float64(5e-324)
    seen.append(float(x / 1.0))  # subnormals count in a handler
    raise Limit

seen = []
signal.signal(signal.SIGALRM, handler)
model = fastmlp.Model([6, 40, 3], "gelu", rng=0)
X = np.ones((50, 6))
for after in 0.1, 0.3, 0.6:
    signal.setitimer(signal.ITIMER_REAL, after)
    try:
        model.fit(X, X[:, :3], epochs=3, batch_size=20, optimizer=fastmlp.Adam())
        sys.exit("it was compiled before the signal came")
    except Limit:
        pass
assert seen == [5e-324] * 3, seen
assert np.isfinite(model.fit(X, X[:, :3], epochs=3, batch_size=20, optimizer=fastmlp.Adam())["loss"]).all()
print("went on")
"""


@pytest.mark.slow  # compiles in a fresh cache
@pytest.mark.skipif(INTERPRETED or not hasattr(signal, "setitimer"), reason="nothing is compiled")
def test_a_handlers_exception_during_compilation_is_its_own(tmp_path: Path) -> None:
    done = _run(COLD, NUMBA_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "went on\n"


KILLED = """
import os, signal, threading
import numpy as np
import fastmlp
signal.signal(signal.SIGINT, signal.SIG_DFL)
model = fastmlp.Model([6, 40, 3], "gelu", rng=0)
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
for _ in range(10**9):
    model.fit(np.ones((50, 6)), np.ones((50, 3)), epochs=100)
"""


@pytest.mark.skipif(os.name != "posix", reason="no such signals here")
@pytest.mark.parametrize("cold", [False, True])
def test_a_signal_at_its_default_kills(cold: bool, tmp_path: Path) -> None:
    done = _run(KILLED, **({"NUMBA_CACHE_DIR": str(tmp_path)} if cold else {}))
    assert done.returncode == -signal.SIGINT


def _run(code: str, **settings: str) -> subprocess.CompletedProcess[str]:
    paths = [str(Path(__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, **settings, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
