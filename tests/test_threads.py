from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import fastmlp
from fastmlp.engine import engine, threads
from fastmlp.kernels import tuning
from fastmlp.kernels.machine.interpreted import INTERPRETED
from fastmlp.kernels.net import train as kernels

NETS = {
    # (sizes, hidden activation, loss, rows, batch): strips and small layers, several blocks, one output, far rows of weights,
    # groups of rows (but for the last batch)
    "strips": ([20, 140, 130, 3], "tanh", "cross_entropy", 330, 100),
    "blocks": ([7, 150, 160, 2], "gelu", "mse", 1500, 1400),
    "one output": ([40, 33, 1], "relu", "bce", 300, 97),
    "deep": ([5, 8, 8, 8, 8, 2], "silu", "huber", 130, 65),
    "panels": ([20, 1100, 40, 3], "tanh", "mse", 250, 120),
    "groups": ([5, 30, 20, 3], "tanh", "cross_entropy", 2500, 1100),
    "few rows": ([30, 200, 4], "relu", "cross_entropy", 40, 3),
    "narrow": ([2, 2, 1], "tanh", "bce", 150_000, 140_000),
}


def _trained(net: str, count: int, dtype: str, optimizer: Any) -> tuple[fastmlp.Model, list[float]]:
    sizes, activation, loss, rows, batch = NETS[net]
    rng = np.random.default_rng(1)
    X = rng.standard_normal((rows, sizes[0]))
    y = rng.integers(0, 2, rows) if loss in ("bce", "cross_entropy") else rng.standard_normal((rows, sizes[-1]))
    fastmlp.set_num_threads(count)
    model = fastmlp.Model(sizes, activation, loss, dtype, rng=0)
    return model, model.fit(X, y, 2, batch, optimizer=optimizer, rng=3)["loss"]


@pytest.mark.skipif(INTERPRETED, reason="without compiled code there is one thread")
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("optimizer", [fastmlp.SGD(0.05), fastmlp.Adam(1e-3)], ids=["sgd", "adam"])
def test_bits_do_not_depend_on_the_number(net: str, optimizer: Any, dtype: Any, all_share: None) -> None:
    model, losses = _trained(net, 1, str(dtype), optimizer)
    assert np.isfinite(losses).all()
    for count in (2, 3, 7):
        other, others = _trained(net, count, str(dtype), optimizer)
        np.testing.assert_array_equal(other.params, model.params)
        assert others == losses


WHOLE: dict[str, Any] = {"l1": 1e-3, "l2": 1e-2, "clip_value": 0.1, "clip_norm": 0.05, "ema": 0.5}
MORE = [
    # (net, dtype, optimizer, dropout, weighted): the whole gradient, masks and weights on each path; each other optimiser
    ("strips", "float32", fastmlp.SGD(0.05, **WHOLE), 0.3, False),
    ("strips", "float64", fastmlp.Nadam(1e-3), 0.3, True),
    ("blocks", "float32", fastmlp.Adam(1e-3, **WHOLE), 0.3, True),
    ("one output", "float64", fastmlp.AdamW(1e-3, **WHOLE), 0.0, True),
    ("deep", "float32", fastmlp.Lion(1e-3), [0.1, 0.2, 0.3, 0.4], False),
    ("deep", "float64", fastmlp.Adamax(1e-3, **WHOLE), 0.0, True),
    ("panels", "float32", fastmlp.RMSprop(1e-3, momentum=0.9), 0.3, True),
    ("panels", "float64", fastmlp.SGD(0.05, **WHOLE), 0.0, False),
    ("groups", "float32", fastmlp.Adagrad(1e-3), 0.3, True),
    ("groups", "float64", fastmlp.Nadam(1e-3, **WHOLE), 0.3, True),
    ("few rows", "float32", fastmlp.RMSprop(1e-3, **WHOLE), 0.3, True),
]


def _trained_with(case: tuple[Any, ...], count: int) -> tuple[fastmlp.Model, list[float]]:
    net, dtype, optimizer, dropout, weighted = case
    sizes, activation, loss, rows, batch = NETS[net]
    rng = np.random.default_rng(1)
    X = rng.standard_normal((rows, sizes[0]))
    y = rng.integers(0, 2, rows) if loss in ("bce", "cross_entropy") else rng.standard_normal((rows, sizes[-1]))
    fastmlp.set_num_threads(count)
    model = fastmlp.Model(sizes, activation, loss, dtype, rng=0, dropout=dropout)
    X, y, code = model._data(X, y)
    if weighted:
        y = np.column_stack([y, rng.integers(0, 3, rows)]).astype(dtype)
    losses = np.zeros(2)
    job = engine.Job(X, y, code, optimizer, batch, np.arange(rows), True, 3, 5, weighted)
    model._engine.train(job, losses, lambda done: None)
    return model, losses.tolist()


@pytest.mark.skipif(INTERPRETED, reason="without compiled code there is one thread")
@pytest.mark.parametrize("case", MORE, ids=lambda case: f"{case[0]}-{case[1]}-{type(case[2]).__name__}")
def test_nor_with_the_whole_gradient_masks_or_weights(case: tuple[Any, ...], all_share: None) -> None:
    model, losses = _trained_with(case, 1)
    assert np.isfinite(losses).all()
    for count in (2, 3, 7):
        other, others = _trained_with(case, count)
        np.testing.assert_array_equal(other.params, model.params)
        assert others == losses
        if case[2].ema:
            np.testing.assert_array_equal(other.average, model.average)


@pytest.mark.skipif(INTERPRETED, reason="without compiled code there is one thread")
def test_threads_do_share(all_share: None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    train = kernels.train

    def watched(*args: Any) -> bool:
        seen.append(args[-2:])
        return train(*args)

    monkeypatch.setattr(kernels, "train", watched)
    model, _ = _trained("strips", 3, "float32", fastmlp.SGD(0.01))
    assert [shares for _, shares in seen] == [3]
    seen.clear()
    monkeypatch.setattr(tuning, "CALL_TURN", 0)  # a call makes one step, and the next ones what takes so long
    monkeypatch.setattr(tuning, "CALL_SECONDS", 0)
    other, _ = _trained("strips", 3, "float32", fastmlp.SGD(0.01))
    assert seen == [(1, 3)] * 8
    np.testing.assert_array_equal(other.params, model.params)


@pytest.mark.skipif(INTERPRETED, reason="without compiled code there is one thread")
@pytest.mark.parametrize("net", NETS)
def test_a_call_may_end_behind_any_block(net: str, dtype: Any, all_share: None, monkeypatch: pytest.MonkeyPatch) -> None:
    if net == "groups":  # several blocks in each
        monkeypatch.setattr(tuning, "BLOCK_BYTES", 0)
        monkeypatch.setattr(tuning, "BLOCK_ROWS", 64)
    for optimizer in (fastmlp.Nadam(1e-3), fastmlp.SGD(0.05, **WHOLE)):
        model, losses = _trained(net, 1, str(dtype), optimizer)
        sizes, _, loss, rows, _ = NETS[net]
        X = np.random.default_rng(2).standard_normal((rows, sizes[0]))
        y = np.zeros(rows, int) if loss in ("bce", "cross_entropy") else np.zeros((rows, sizes[-1]))
        want = model.loss(X, y), model.gradient(X, y)[1], model.predict(X)
        with monkeypatch.context() as patch:
            patch.setattr(tuning, "CALL_TURN", 0)
            patch.setattr(tuning, "CALL_SECONDS", 0)
            for count in (1, 2, 3):
                other, others = _trained(net, count, str(dtype), optimizer)
                np.testing.assert_array_equal(other.params, model.params)
                assert others == losses
            assert other.loss(X, y) == want[0]
            np.testing.assert_array_equal(other.gradient(X, y)[1], want[1])
            np.testing.assert_array_equal(other.predict(X), want[2])


LEFT = {"blocks": ([7, 150, 160, 2], 1500, 256), "groups": ([7, 30, 2], 9000, 16 * 64), "narrow": ([2, 2, 1], 300_000, 1 << 16)}


@pytest.mark.skipif(INTERPRETED, reason="without compiled code there is one thread")
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("net", LEFT)
def test_a_step_that_is_left_in_the_middle_has_not_been(
    net: str, count: int, all_share: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, rows, block = LEFT[net]
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((rows, sizes[0])), rng.standard_normal((rows, sizes[-1]))
    fastmlp.set_num_threads(count)
    monkeypatch.setattr(tuning, "BLOCK_BYTES", 0)
    monkeypatch.setattr(tuning, "BLOCK_ROWS", 64 if net == "groups" else 256)
    models = [fastmlp.Model(sizes, "gelu", rng=0) for _ in range(2)]
    for model in models:
        model.fit(X, y, 2, optimizer=fastmlp.Nadam(1e-3))
    monkeypatch.setattr(tuning, "CALL_TURN", 0)
    monkeypatch.setattr(tuning, "CALL_SECONDS", 0)
    calls = []

    def leave(done: int) -> None:
        calls.append(model._engine._memory.progress.within)
        if len(calls) == 3:
            raise KeyboardInterrupt

    model, other = models
    job = engine.Job(X, y, model._code, fastmlp.Nadam(1e-3), rows)
    with pytest.raises(KeyboardInterrupt):
        model._engine.train(job, np.zeros(3), leave)
    assert calls == [block, 2 * block, 3 * block]
    np.testing.assert_array_equal(model.params, other.params)
    for model in models:
        model.fit(X, y, 2, optimizer=fastmlp.Nadam(1e-3))
    np.testing.assert_array_equal(models[0].params, models[1].params)


def test_number_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda: 8)
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "FASTMLP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert fastmlp.get_num_threads() == 8
    for number, name in ((4, "NUMBA_NUM_THREADS"), (3, "OMP_NUM_THREADS"), (2, "FASTMLP_NUM_THREADS")):
        monkeypatch.setenv(name, str(number))
        assert fastmlp.get_num_threads() == number
    monkeypatch.setenv("FASTMLP_NUM_THREADS", "many")
    assert fastmlp.get_num_threads() == 3
    monkeypatch.setenv("FASTMLP_NUM_THREADS", "99")
    assert fastmlp.get_num_threads() == 8


def test_set_num_threads() -> None:
    before = fastmlp.get_num_threads()
    fastmlp.set_num_threads(5)
    assert fastmlp.get_num_threads() == 5
    fastmlp.set_num_threads(None)
    assert fastmlp.get_num_threads() == before
    for wrong, refusal in ((0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError), (True, TypeError)):
        with pytest.raises(refusal, match="n must be"):
            fastmlp.set_num_threads(wrong)
    assert fastmlp.get_num_threads() == before


def test_small_work_is_not_shared() -> None:
    fastmlp.set_num_threads(4)
    try:
        assert threads.share(1000, 1000, 10**9) == 1
        assert threads.share(1000, 10**7, 1) == 1
        assert threads.share(1000, 10**8, 1) == 4
        assert threads.share(1000, 10**8, 1000) == 4
        assert threads.share(130, 10**8, 1000) == 2
        assert threads.share(1, 10**8, 1000) == 1
    finally:
        fastmlp.set_num_threads(None)


def test_a_call_within_a_call_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    model = fastmlp.Model([3, 4, 1], rng=0)
    X, y = np.ones((5, 3)), np.zeros((5, 1))
    refused = []

    def printed(text: str) -> None:
        with pytest.raises(RuntimeError, match="in the middle of a call"):
            model.predict(X)
        refused.append(text)

    monkeypatch.setattr("builtins.print", printed)
    model.fit(X, y, epochs=3, verbose=1)
    monkeypatch.undo()
    assert len(refused) == 3
    assert model.predict(X).shape == (5, 1)


def test_a_limit_is_for_a_block_of_one_thread() -> None:
    before = threads.get_num_threads()
    with threads.limit(7):
        assert threads.get_num_threads() == 7
        with threads.limit(None):
            assert threads.get_num_threads() == 7
        elsewhere: list[int] = []
        other = threading.Thread(target=lambda: elsewhere.append(threads.get_num_threads()))
        other.start()
        other.join()
        assert elsewhere == [before]
        with pytest.raises(ZeroDivisionError), threads.limit(5):
            _ = 1 / 0
        assert threads.get_num_threads() == 7
    assert threads.get_num_threads() == before
