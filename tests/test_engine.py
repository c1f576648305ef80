"""Engine: what a call leaves behind for the next one, and what it costs."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import numpy as np
import pytest

from fastmlp import SGD, Adam, Model, engine, threads
from fastmlp.kernels.interpreted import INTERPRETED

NETS = {
    "narrow": ([2, 3, 1], "tanh", "bce"),
    "labels": ([9, 40, 3], "relu", "cross_entropy"),
    "strips": ([20, 140, 130, 2], "gelu", "mse"),
}


def _net(net: str, dtype: Any) -> tuple[Model, np.ndarray, np.ndarray]:
    sizes, activation, loss = NETS[net]
    rng = np.random.default_rng(0)
    X = rng.standard_normal((90, sizes[0])).astype(dtype)
    y = rng.integers(0, 2, 90) if loss in ("bce", "cross_entropy") else rng.standard_normal((90, sizes[-1]))
    return Model(sizes, activation, loss, dtype, rng=0), X, y


@pytest.mark.parametrize("net", NETS)
def test_steps_are_fits_whatever_came_between(net: str, dtype: Any) -> None:
    stepped, X, y = _net(net, dtype)
    fitted = _net(net, dtype)[0]
    adam, sgd = Adam(1e-2), SGD(0.05, momentum=0.9)
    rows = iter(np.random.default_rng(1).integers(1, 90, 99).tolist())
    for optimizer in (adam, adam, Adam(1e-2), Adam(2e-2), sgd, sgd, SGD(0.1), adam):
        for between in (
            lambda: None,
            lambda: stepped.predict(X),
            lambda: stepped.loss(X, y),
            lambda: stepped.gradient(X, y),
            lambda: stepped.backward(X[:3], y[:3]),
            lambda: None,
        ):
            n = next(rows)
            for _ in range(2):
                loss = stepped.step(X[:n], y[:n], optimizer=optimizer)
                assert loss == fitted.fit(X[:n], y[:n], optimizer=optimizer)["loss"][0]
                between()
            np.testing.assert_array_equal(stepped.params, fitted.params)


def test_one_label_column_or_one_row_of_probabilities() -> None:
    stepped, fitted = (Model([4, 5, 1], loss="cross_entropy", rng=0) for _ in range(2))
    X = np.random.default_rng(0).standard_normal((6, 4))
    for y in (np.zeros(6, int), np.ones((6, 1)), np.zeros(6, int)):
        assert stepped.step(X, y) == fitted.fit(X, y)["loss"][0]
    np.testing.assert_array_equal(stepped.params, fitted.params)


@pytest.mark.skipif(INTERPRETED, reason="without compiled code there is one thread")
def test_a_step_with_work_for_several_threads_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    alone, X, y = _net("strips", "float32")
    shared = _net("strips", "float32")[0]
    seen = []
    train = engine.kernels.train

    def watched(*args: Any) -> bool:
        seen.append(args[-1])
        return train(*args)

    monkeypatch.setattr(engine.kernels, "train", watched)
    want = [alone.step(X, y, lr=0.01) for _ in range(4)]
    assert not seen
    monkeypatch.setattr(threads, "STEP_WORK", 0)
    monkeypatch.setattr(threads, "CALL_WORK", 0)
    monkeypatch.setattr(threads, "THREAD_ROWS", 1)
    try:
        got = []
        for count in (1, 2, 3, 1):  # the number may change between steps
            threads.set_num_threads(count)
            got.append(shared.step(X, y, lr=0.01))
    finally:
        threads.set_num_threads(None)
    assert seen == [1, 2, 3, 1]
    assert got == want
    np.testing.assert_array_equal(shared.params, alone.params)


@pytest.mark.small
def test_a_failed_call_is_not_taken_for_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    model, other = (Model([2, 3, 1], rng=0) for _ in range(2))
    X, y = np.ones((4, 2)), np.zeros((4, 1))
    model.step(X, y, optimizer=Adam())
    other.step(X, y, optimizer=Adam())

    def fails(*args: Any) -> float:
        raise RuntimeError("planted")

    with monkeypatch.context() as patch:
        for name in ("step", "train"):
            patch.setattr(engine.kernels, name, fails)
        for call in (model.step, model.fit):
            with pytest.raises(RuntimeError, match="planted"):
                call(X, y, optimizer=Adam())
    assert model.step(X, y, optimizer=Adam()) == other.step(X, y, optimizer=Adam())
    np.testing.assert_array_equal(model.params, other.params)


def test_ten_thousand_calls_leave_nothing_behind() -> None:
    rng = np.random.default_rng(0)
    X, y, out = rng.standard_normal((20, 3)), rng.integers(0, 2, 20), np.empty((20, 1))
    model = Model([3, 4, 1], loss="bce", rng=0)
    optimizers = Adam(), SGD(0.1, momentum=0.5)

    def use(turns: int) -> None:
        for turn in range(turns):
            model.fit(X, y, 2, 6, optimizer=optimizers[turn % 2], rng=turn)
            model.step(X, y, lr=turn + 1e-3)
            model.predict(X, out=out)
            model.gradient(X, y)

    use(200)  # what is kept: compiled code, the learning rates last used
    gc.collect()
    tracemalloc.start()
    try:
        use(100)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        use(9_900)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 20_000  # two bytes a call
    finally:
        tracemalloc.stop()
