"""Engine: what a call leaves behind for the next one, and what it costs."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import numpy as np
import pytest
from numba.core.errors import TypingError

from fastmlp import SGD, Adam, Model
from fastmlp.engine import engine, threads
from fastmlp.engine.state import Job
from fastmlp.kernels import tuning
from fastmlp.kernels.machine.interpreted import INTERPRETED

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
    monkeypatch.setattr(tuning, "STEP_WORK", 0)
    monkeypatch.setattr(tuning, "CALL_WORK", 0)
    monkeypatch.setattr(tuning, "THREAD_ROWS", 1)
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


@pytest.mark.slow
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
        kept = []
        for _ in range(3):
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            use(1_250)
            gc.collect()
            kept.append(tracemalloc.get_traced_memory()[0] - before)
        # Two bytes a call. What is left behind is so each time; tables of the interpreter's grow once, by 20 kB.
        assert min(kept) < 10_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("sizes", [[600, 14, 1], [150, 160, 2]], ids=str)
def test_a_step_of_several_blocks_is_one_step(sizes: list[int], dtype: Any) -> None:
    rng = np.random.default_rng(0)
    stepped, fitted = (Model(sizes, dtype=dtype, rng=0) for _ in range(2))
    rows = 3 * stepped._engine._space.layout.table.block + 5
    X, y = rng.standard_normal((rows, sizes[0])), rng.standard_normal((rows, sizes[-1]))
    threads.set_num_threads(1)
    try:
        losses = [stepped.step(X, y, lr=0.01) for _ in range(4)]
        assert losses == fitted.fit(X, y, 4, lr=0.01)["loss"]
    finally:
        threads.set_num_threads(None)
    assert losses[3] < losses[2] < losses[1] < losses[0]
    np.testing.assert_array_equal(stepped.params, fitted.params)


@pytest.mark.skipif(INTERPRETED, reason="takes long")
def test_a_step_after_one_that_was_left_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    model, other = (Model([7, 150, 160, 2], rng=0) for _ in range(2))
    X, y = np.ones((20_000, 7)), np.ones((20_000, 2))
    for one in (model, other):
        one.step(X[:2], y[:2])
    monkeypatch.setattr(tuning, "CALL_TURN", 0)

    def leave(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model._engine.train(Job(X, y, model._code, SGD(), len(X)), np.zeros(1), leave)
    assert model._engine._memory.progress.within > 0
    assert model.step(X[:2], y[:2]) == other.step(X[:2], y[:2])
    np.testing.assert_array_equal(model.gradient(X[:5], y[:5])[1], other.gradient(X[:5], y[:5])[1])
    np.testing.assert_array_equal(model.params, other.params)


# ---- the gate --------------------------------------------------------------------------------------------------------


def _refused(model: Model, call: Any, *kinds: Any) -> None:
    """The call raises before anything has changed."""
    before = {name: np.array(value) for name, value in model._engine.save().items() if name in ("params", "moments", "steps")}
    with pytest.raises(kinds or ValueError, match=r"not fit|must be"):
        call()
    after = model._engine.save()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


WRONG = {
    # (X, y, weighted) for a net of 4 inputs and 3 outputs
    "narrow X": lambda d: (np.ones((6, 3), d), np.ones((6, 3), d), False),
    "wide X": lambda d: (np.ones((6, 5), d), np.ones((6, 3), d), False),
    "narrow y": lambda d: (np.ones((6, 4), d), np.ones((6, 2), d), False),
    "wide y": lambda d: (np.ones((6, 4), d), np.ones((6, 4), d), False),
    "no weights": lambda d: (np.ones((6, 4), d), np.ones((6, 3), d), True),
    "weights": lambda d: (np.ones((6, 4), d), np.ones((6, 4), d), False),
    "few targets": lambda d: (np.ones((6, 4), d), np.ones((5, 3), d), False),
    "many targets": lambda d: (np.ones((6, 4), d), np.ones((7, 3), d), False),
}


@pytest.mark.small
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_no_kernel_sees_what_does_not_fit(wrong: str, loss: str, dtype: Any) -> None:
    model = Model([4, 6, 3], loss=loss, dtype=dtype, rng=0)
    engine, code = model._engine, model._code
    X, y = np.ones((6, 4), dtype), np.ones((6, 1 if loss == "cross_entropy" else 3), dtype)
    engine.step(X, y, code, Adam())
    X, y, weighted = WRONG[wrong](dtype)
    if loss == "cross_entropy" and wrong != "many targets":
        y = y[:, : y.shape[1] - 2].copy()
    for optimizer in (Adam(), SGD()):
        job = Job(X, y, code, optimizer, 4, np.arange(len(X)), True, 1, weighted=weighted)
        _refused(model, lambda job=job: engine.train(job, np.zeros(2), lambda done: None))
        if not weighted:
            _refused(model, lambda optimizer=optimizer: engine.step(X, y, code, optimizer))
    _refused(model, lambda: engine.loss(X, y, code, weighted))
    flat, dx = np.empty_like(model.params), np.empty_like(X)
    _refused(model, lambda: engine.gradient(X, y, code, flat, dx, True, weighted))


@pytest.mark.small
def test_nor_outputs_gradients_orders_and_rates_that_do_not(dtype: Any) -> None:
    model = Model([4, 6, 3], dtype=dtype, rng=0)
    engine, code = model._engine, model._code
    X, y = np.ones((6, 4), dtype), np.ones((6, 3), dtype)
    for out in (np.empty((6, 2), dtype), np.empty((5, 3), dtype), np.empty((7, 3), dtype)):
        _refused(model, lambda out=out: engine.predict(X, out))
        many, outputs = np.ones((90_000, 4), dtype), np.empty((90_000 - 1, out.shape[1]), dtype)
        _refused(model, lambda many=many, outputs=outputs: engine.predict(many, outputs))
    flat, dx = np.empty(model.params.size - 1, dtype), np.empty((6, 3), dtype)
    _refused(model, lambda: engine.gradient(X, y, code, flat, X.copy(), False))
    _refused(model, lambda: engine.gradient(X, y, code, model.params.copy(), dx, True))
    _refused(model, lambda: engine.apply(flat, SGD()))
    for job in (
        Job(X, y, code, SGD(), 4, np.arange(5)),
        Job(X, y, code, SGD(), 4, rates=np.full(3, 0.1)),
    ):
        _refused(model, lambda job=job: engine.train(job, np.zeros(2), lambda done: None))


@pytest.mark.skipif(INTERPRETED, reason="NumPy itself refuses these")
def test_nor_other_layouts_and_what_is_read_only() -> None:
    model = Model([4, 6, 3], rng=0)
    X, out = np.ones((6, 4)), np.empty((6, 3))
    model.predict(X)
    locked = out.copy()
    locked.flags.writeable = False
    model.trim()
    model._engine.predict(X[:0], out[:0])
    for a, b in ((np.asfortranarray(X), out), (X.astype("f4"), out), (X[:, ::-1], out), (X, locked), (X, out[:, ::-1])):
        with pytest.raises(TypingError):
            model._engine.predict(a, b)


@pytest.mark.small
@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: s | {"params": s["params"][:-1]},
        lambda s: s | {"params": s["params"].astype("f4")},
        lambda s: s | {"moments": s["moments"][:, :-1]},
        lambda s: s | {"moments": s["moments"].astype("f4")},
        lambda s: s | {"moments": s["moments"].ravel()},
    ],
)
def test_a_state_of_another_network_is_refused(spoil: Any) -> None:
    model = Model([4, 6, 3], rng=0)
    model.step(np.ones((6, 4)), np.ones((6, 3)), optimizer=Adam())
    _refused(model, lambda: model._engine.restore(spoil(model._engine.save())))


@pytest.mark.small
def test_a_state_is_copied_out_of_where_it_came_from() -> None:
    model, other, alone = (Model([4, 6, 3], rng=0) for _ in range(3))
    X, y = np.ones((6, 4)), np.ones((6, 3))
    for one in (model, alone):
        one.step(X, y, optimizer=Adam())
    saved = model._engine.save()
    for name in ("params", "moments"):
        saved[name].flags.writeable = False
    for one in (model, other):
        one._engine.restore(saved)
    for _ in range(2):
        assert model.step(X, y, optimizer=Adam()) == other.step(X, y, optimizer=Adam()) == alone.step(X, y, optimizer=Adam())
    assert not np.shares_memory(model._engine._memory.moments, other._engine._memory.moments)


# ---- what is decided in one place ------------------------------------------------------------------------------------


def test_a_gradient_that_cannot_be_converted_loses_no_memory() -> None:
    model = Model([3, 2], dtype="float32", rng=0)
    model.step(np.ones((4, 3)), np.ones((4, 2)), optimizer=Adam())
    before = model._engine._memory
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        model.apply_gradient(np.full(8, 1e300), lr=0.1)
    assert model._engine._memory is before


def test_a_code_that_no_kernel_has_is_an_error_and_changes_nothing(dtype: Any) -> None:
    X, y = np.ones((5, 4), dtype), np.zeros((5, 3), dtype)
    model = Model([4, 6, 3], dtype=dtype, rng=0)
    before, unknown = model.params.copy(), pytest.raises(KeyError if INTERPRETED else RuntimeError, match=r"999|code")
    with unknown:
        model._engine.loss(X, y, 999)
    with unknown:
        model._engine.gradient(X, y, 999, model.params.copy(), X.copy(), True)

    class Forgotten(SGD):
        pass

    Forgotten.code = 999
    with unknown:
        model.step(X, y, optimizer=Forgotten())
    np.testing.assert_array_equal(model.params, before)
    model._engine._space.layers[0].activation = 999
    with unknown:
        model.predict(X)


def test_labels_that_change_behind_its_back_reach_no_other_memory() -> None:
    rng = np.random.default_rng(0)
    X, labels = rng.standard_normal((300, 4)), rng.integers(0, 100, 300).astype(float)[:, None]
    model = Model([4, 100], loss="cross_entropy", rng=0)
    assert np.isfinite(model._engine.loss(X, labels, model._code))
    for bad in (1e9, -1.0, 100.0, np.nan, np.inf):
        labels[7] = bad
        assert np.isnan(model._engine.loss(X, labels, model._code))
