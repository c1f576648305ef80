"""What is held when a call is over: nothing that grows, little that is kept, and nothing of it in copies."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastmlp import SGD, Adam, Model
from fastmlp.engine import workspace
from fastmlp.engine.workspace import SCRATCH
from fastmlp.kernels import tuning
from fastmlp.kernels.machine.interpreted import INTERPRETED
from fastmlp.kernels.tuning import KEPT_BYTES, OWN_BYTES

compiled = pytest.mark.skipif(INTERPRETED, reason="takes minutes in plain Python")
THOROUGH = bool(os.environ.get("FASTMLP_THOROUGH"))


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    for scratch in SCRATCH.values():
        scratch.trim()


def _kept() -> int:
    """Bytes of the buffers that all models share and none uses."""
    return sum(buffer.nbytes for scratch in SCRATCH.values() for buffer in scratch._free)


def _own(model: Model) -> int:
    """Bytes of the scratch that a model holds for itself."""
    own = model._engine._space.layout.own
    return 0 if own is None else own.nbytes


MANY = """
import gc, tracemalloc
import numpy as np
import fastmlp

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

X = np.zeros((2000, 8))
make = lambda: fastmlp.Model([8, 32, 2], "tanh", rng=0)
make().predict(X)  # compiles
gc.collect()
tracemalloc.start()
before, traced = resident(), tracemalloc.get_traced_memory()[0]
models = [make() for _ in range(500)]
nets = tracemalloc.get_traced_memory()[0] - traced
for model in models:
    model.predict(X)
gc.collect()
now, most = tracemalloc.get_traced_memory()
print(models[0].params.nbytes, nets, now - traced, most - traced, resident() - before)
"""


@compiled
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="Linux tells what is resident")
def test_five_hundred_nets_hold_little_after_a_prediction_each(python: Callable[..., str]) -> None:
    size, nets, now, most, resident = map(int, python(MANY).split())
    assert 2_500 < size < 3_100
    assert now - nets < 20e6
    assert most - nets < 20e6
    assert resident - nets < 20e6
    print(f"500 nets: {nets / 1e6:.1f} MB, then {now / 1e6:.1f}, at most {most / 1e6:.1f}; resident {resident / 1e6:.1f}")


FITS = """
import gc, tracemalloc
import numpy as np
from numba.core.runtime import _nrt_python, rtsys
import fastmlp

_nrt_python.memsys_enable_stats()

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

def living():
    stats = rtsys.get_allocation_stats()
    return stats.alloc - stats.free, stats.mi_alloc - stats.mi_free

rng = np.random.default_rng(0)
X, y = rng.standard_normal((40, 5)), rng.standard_normal((40, 2))
nets = [fastmlp.Model(sizes, "tanh", rng=0, dtype=dtype) for sizes in ([5, 2], [5, 9, 2], [5, 40, 2])
        for dtype in ("float32", "float64")]
by = fastmlp.Adam(1e-3), fastmlp.SGD(1e-3, momentum=0.5, clip_norm=1.0)
weights = np.ones(40)

def fit(turns):
    for turn in range(turns):
        net = nets[turn % len(nets)]
        kind = turn % 5
        if kind == 4:
            fastmlp.Model([5, 9, 2], rng=0).fit(X, y)
        elif kind == 3:
            net.fit(X, y, 1, 16, optimizer=by[0], rng=turn, sample_weight=weights, validation_split=0.2)
        else:
            net.fit(X, y, 2, 16, optimizer=by[turn % 2], rng=turn)

fit(600)
gc.collect()
tracemalloc.start()
fit(1000)
gc.collect()
start = resident(), *living(), tracemalloc.get_traced_memory()[0]
fit(COUNT)
gc.collect()
end = resident(), *living(), tracemalloc.get_traced_memory()[0]
print(*(b - a for a, b in zip(start, end)))
"""


@compiled
@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="Linux tells what is resident")
def test_fits_leak_nothing(python: Callable[..., str]) -> None:
    fits = 10_000 if THOROUGH else 3_000
    resident, blocks, arrays, traced = map(int, python(FITS.replace("COUNT", str(fits))).split())
    assert blocks == arrays == 0
    # An object of 16 bytes a fit, the least there is, would be more; Python's free lists fill up to some 20 kB.
    assert traced < 16 * fits
    assert resident < 2e6
    print(f"{fits} fits: {traced} bytes traced, {resident} resident, {blocks} of Numba's")


def _data(rows: int, dtype: Any = float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((rows, 20)).astype(dtype), rng.standard_normal((rows, 3)).astype(dtype)


CALLS: dict[str, Callable[[Model, np.ndarray, np.ndarray], Any]] = {
    "fit": lambda m, X, y: m.fit(X, y, 1, 200, optimizer=Adam()),
    "step": lambda m, X, y: m.step(X, y),
    "predict": lambda m, X, y: m.predict(X),
    "loss": lambda m, X, y: m.loss(X, y),
    "backward": lambda m, X, y: m.backward(X, y),
}


@compiled
@pytest.mark.parametrize("name", CALLS)
def test_an_idle_model_holds_no_scratch_of_its_own(name: str, dtype: Any) -> None:
    X, y = _data(3000, dtype)
    model = Model([20, 150, 3], rng=0, dtype=dtype)
    CALLS[name](model, X, y)
    assert _own(model) <= OWN_BYTES
    assert 0 < _kept() <= KEPT_BYTES
    held = gc.get_referents(*vars(model._engine).values(), model._engine._space.layout)
    arrays = {id(a): a.nbytes for a in held if isinstance(a, np.ndarray)}
    engine = [a for a in vars(model._engine).values() if isinstance(a, np.ndarray)]
    arrays |= {id(a): a.nbytes for a in engine if a is not model.params}
    kept = model._engine._memory.moments.nbytes + model._engine._store.nbytes
    assert sum(arrays.values()) <= kept + 2 * OWN_BYTES


def test_trim_gives_back_what_is_kept(dtype: Any) -> None:
    rows = 40 if INTERPRETED else 3000
    X, y = _data(rows, dtype)
    model, small = Model([20, 150, 3], rng=0, dtype=dtype), Model([20, 2, 3], rng=0, dtype=dtype)
    model.step(X, y)
    small.predict(X[:1])
    assert _kept() > 0
    assert _own(small) > 0
    small.trim()
    assert _kept() == _own(small) == 0
    twin = copy.deepcopy(model)
    model.trim()
    assert model.step(X, y) == twin.step(X, y)
    np.testing.assert_array_equal(model.predict(X), twin.predict(X))


def test_a_model_that_is_gone_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = _data(30)
    Model([20, 150, 3], rng=0).step(X, y)
    gc.collect()
    kept = _kept()
    tracemalloc.start()
    try:
        for _ in range(20):
            Model([20, 150, 3], rng=0).step(X, y, optimizer=Adam())
        gc.collect()
        assert _kept() == kept
        assert tracemalloc.get_traced_memory()[0] < 200_000  # one such net has 28 kB, its moments 56, its buffer 400
    finally:
        tracemalloc.stop()


@compiled
@pytest.mark.parametrize("optimizer", [SGD(0.01), Adam(), Adam(ema=0.9)], ids=["none", "two", "three"])
def test_copies_carry_no_scratch(optimizer: Any) -> None:
    X, y = _data(3000)
    model = Model([20, 150, 3], rng=0)
    model.fit(X, y, 1, 200, optimizer=optimizer)
    model.predict(X)
    vectors = 1 + optimizer.moments + (optimizer.ema > 0)
    assert len(pickle.dumps(model)) < vectors * (model.params.nbytes + 128) + 2000
    kept = _kept()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert _own(twin) == 0
        assert _kept() == kept
    tracemalloc.start()
    try:
        twin = copy.deepcopy(model)
        assert tracemalloc.get_traced_memory()[0] < vectors * (model.params.nbytes + 256) + 20_000
        assert twin.step(X, y, optimizer=optimizer) == model.step(X, y, optimizer=optimizer)
    finally:
        tracemalloc.stop()


@pytest.mark.small
def test_what_is_kept_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert KEPT_BYTES == 1 << 27
    monkeypatch.setattr(tuning, "KEPT_BYTES", 1 << 16)
    scratch = workspace.Scratch(np.dtype(float))
    buffers = [scratch.take(3000) for _ in range(5)]  # as many calls at once
    for buffer in buffers:
        scratch.give(buffer)
        assert sum(one.nbytes for one in scratch._free) <= 1 << 16
    assert len(scratch._free) == 2
    scratch.give(scratch.take(9000))  # larger than all that is kept: the next call is likely to want it
    assert [one.size for one in scratch._free] == [9000]
    assert scratch.take(10).size >= 10
