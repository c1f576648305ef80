"""The page on numbers, `fastmlp/NUMBERS.md`, line by line: each names its test here."""

from __future__ import annotations

import copy
import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference

import fastmlp
from fastmlp import SGD, Adam, EarlyStopping, Model, metrics, schedules
from fastmlp.activations import ACTIVATIONS
from fastmlp.kernels.machine.target import X86

X = np.random.default_rng(0).standard_normal((9, 3))
Y = np.random.default_rng(1).standard_normal((9, 2))
LABELS = np.arange(9) % 2


def net(loss: str = "mse", dtype: Any = "float64", activations: Any = "tanh") -> Model:
    return Model([3, 20, 2], activations, loss, dtype, rng=0)


def quiet(call: Callable[[], Any]) -> Any:
    """The call without warnings that other tests are about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call()


def test_the_page_and_the_tests_are_of_the_same_lines() -> None:
    page = (Path(fastmlp.__file__).parent / "NUMBERS.md").read_text()
    lines = [line for line in re.split(r"\n(?=- |\n|#)", page) if line.startswith("- ") or "Not promised" in line]
    names = [re.findall(r"`(\w+)`$", line) for line in lines]
    assert all(len(name) == 1 for name in names), lines
    tests = [name.removeprefix("test_") for name in globals() if name.startswith("test_") and "the_page" not in name]
    assert [name for (name,) in names] == tests


# ---- not a number, infinity ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nan_stays_in_its_row(name: str) -> None:
    model = net(activations=["tanh", "softmax"] if name == "softmax" else [name, "identity"])
    spoilt = X.copy()
    spoilt[4, 1] = np.nan
    got, want = model.predict(spoilt), model.predict(X)
    assert np.isnan(got[4]).all()
    np.testing.assert_array_equal(np.delete(got, 4, axis=0), np.delete(want, 4, axis=0))


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinity_is_numpys(value: float) -> None:
    spoilt = X.copy()
    spoilt[4, 1] = value
    functions: dict[str, Callable[[Any], Any]] = {
        "relu": lambda z: np.maximum(z, 0),
        "tanh": np.tanh,
        "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    }
    for name, function in functions.items():
        model = net(activations=[name, "identity"])
        with np.errstate(all="ignore"):
            want = function(spoilt @ model.weights[0] + model.biases[0]) @ model.weights[1] + model.biases[1]
        np.testing.assert_allclose(model.predict(spoilt), want, rtol=1e-12)
        assert np.isfinite(want[4]).all() == (name != "relu")


def test_single_calls_return_it() -> None:
    model = net()
    spoilt = X.copy()
    spoilt[4, 1] = np.nan
    assert np.isnan(model.loss(spoilt, Y))
    loss, g = model.gradient(spoilt, Y)
    assert np.isnan(loss)
    assert np.isnan(g).all()
    assert np.isnan(model.backward(spoilt, Y).inputs[4]).all()
    assert np.isnan(model.step(spoilt, Y))
    assert np.isnan(model.params).all()


def test_a_fit_warns_once() -> None:
    spoilt = X.copy()
    spoilt[4, 1] = np.nan
    for call in (lambda model: model.fit(spoilt, Y, 20), lambda model: model.fit(spoilt, Y, 20, metrics="mae")):
        model = net()
        with pytest.warns(RuntimeWarning, match="the loss was nan in epoch 0: X is not finite in row 4") as caught:
            call(model)
        assert len(caught) == 1
        assert np.isnan(model.params).all()


def test_stop_keeps_finite_weights() -> None:
    model, good = net(), net()
    losses = good.fit(X, Y, 3, lr=0.1)["loss"]

    def spoil(model: Model, logs: dict[str, Any]) -> None:
        if logs["epoch"] == 2:
            spoilt[4, 1] = np.nan

    for nonfinite in ("stop", "raise"):
        spoilt = X.copy()
        model = net()
        if nonfinite == "stop":
            assert model.fit(spoilt, Y, 9, lr=0.1, nonfinite=nonfinite, callbacks=spoil)["loss"] == losses
        else:
            with pytest.raises(fastmlp.DivergenceError):
                model.fit(spoilt, Y, 9, lr=0.1, nonfinite=nonfinite, callbacks=spoil)
        np.testing.assert_array_equal(model.params, good.params)


def test_a_gradient_is_taken_as_it_is() -> None:
    for g, optimizer, want in (
        ([np.nan, 1.0], SGD(1.0), [np.nan, -1.0]),
        ([np.nan, 1.0], SGD(1.0, clip_value=0.5), [np.nan, -0.5]),
        ([np.inf, 1.0], SGD(1.0), [-np.inf, -1.0]),
        ([np.inf, 1.0], SGD(1.0, clip_value=0.5), [-0.5, -0.5]),
    ):
        model = Model.from_weights([[[0.0]]], [[0.0]])
        model.apply_gradient(g, optimizer=optimizer)
        np.testing.assert_array_equal(model.params, want)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_output_gradient_is_numpys(bad: float) -> None:
    model, G = net(activations=["tanh", "sigmoid"]), np.ones((9, 2))
    G[4, 1] = bad
    with np.errstate(invalid="ignore"):
        for logits in (False, True):
            got = model.backward(X, output_gradient=G, logits=logits)
            want = reference.pulled(X, G, model.weights, model.biases, ["tanh", "sigmoid"], logits)
            for array, expected in zip([*got.weights, *got.biases, got.inputs], [*want[1], *want[2], want.inputs], strict=True):
                np.testing.assert_allclose(array, expected, rtol=1e-12, atol=1e-14)
    assert not np.isfinite(got.inputs[4]).any()
    assert np.isfinite(np.delete(got.inputs, 4, axis=0)).all()


def test_lbfgs_stays() -> None:
    model = net()
    with pytest.warns(RuntimeWarning, match="the loss was nan in epoch 0"):
        assert np.isnan(model.fit(X * np.nan, Y, 9, optimizer=fastmlp.LBFGS())["loss"]).all()
    np.testing.assert_array_equal(model.params, net().params)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_refused_where_they_mean_nothing(bad: float) -> None:
    column = np.full(9, bad)
    calls: dict[str, Callable[[], Any]] = {
        r"weights\[0\]": lambda: Model.from_weights([np.full((3, 2), bad)], [np.zeros(2)]),
        r"biases\[0\]": lambda: Model.from_weights([np.zeros((3, 2))], [np.full(2, bad)]),
        "sample_weight": lambda: net().fit(X, Y, sample_weight=column),
        "y": lambda: net("bce").fit(X, np.column_stack([column, column])),
        "y ": lambda: net("cross_entropy").fit(X, np.column_stack([column, column])),
        "lr": lambda: net().fit(X, Y, lr=bad),
        "clip_norm": lambda: Adam(clip_norm=bad),
        "dropout": lambda: Model([3, 2, 2], dropout=bad),
        "warmup": lambda: schedules.Cosine(0.1, warmup=bad),
        "X": lambda: net().predict(np.ma.masked_invalid(np.full((9, 3), bad))),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"^{name}"):
            call()


def test_missing_is_nan() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": [True, False], "c": [0.5, 0.5]})
    assert np.isnan(net().predict(frame)).all(axis=1).tolist() == [False, True]


def test_nan_is_no_improvement() -> None:
    stopping, course = EarlyStopping(patience=2), schedules.ReduceOnPlateau(1.0, 0.5, patience=2).start()
    model = net()
    stopping.on_train_begin(model, {})
    assert [stopping.on_epoch_end(model, {"epoch": epoch, "loss": np.nan}) for epoch in range(2)] == [False, True]
    assert stopping.best is None
    for _ in range(2):
        course.observe({"loss": np.nan})
    assert course.scale == 0.5


# ---- large and small -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("loss", "output"), [("bce", "sigmoid"), ("cross_entropy", "softmax")])
def test_stable_for_any_size(loss: str, output: str, dtype: Any) -> None:
    model = Model.from_weights([np.array([[1.0, -1.0]])], [np.zeros(2)], [output], loss, dtype=dtype)
    for size in (1e3, 1e30, float(np.finfo(dtype).max) / 4):
        for x in (size, -size):
            assert set(model.predict([[x]]).ravel().tolist()) == {0.0, 1.0}
            assert np.isfinite(model.loss([[x]], [[0, 1]]))
            assert np.isfinite(model.gradient([[x]], [[0, 1]])[1]).all()


def test_squares_overflow(dtype: Any) -> None:
    model = Model.from_weights([np.eye(1)], [np.zeros(1)], dtype=dtype)
    size = 1e18 if dtype == np.float32 else 1e153
    assert np.isfinite(model.loss([[size]], [0]))
    assert model.loss([[100 * size]], [0]) == np.inf
    other = Model.from_weights([np.eye(1)], [np.zeros(1)], loss="huber", dtype=dtype)
    assert np.isfinite(other.loss([[100 * size]], [0]))


def test_beyond_float32_lies_infinity() -> None:
    model = Model.from_weights([np.eye(1)], [np.zeros(1)], dtype="float32")
    assert model.predict([[1e39]]) == np.inf
    with pytest.warns(RuntimeWarning, match="the loss was inf in epoch 0"):
        model.fit([[1e39]], [0])


def test_large_targets_are_said() -> None:
    y = 6e6 + 1e4 * X[:, 0]
    with pytest.warns(UserWarning, match="20 epochs have not lowered a loss of .*, train on"):
        Model([3, 8, 1], rng=0).fit(X, y, 20, optimizer=Adam())
    with pytest.warns(RuntimeWarning, match=r"the loss was .* in epoch .*: y reaches 6.*e\+06; train on"):
        Model([3, 8, 1], "identity", rng=0).fit(X, y, 500, lr=0.5)


def test_subnormals_are_zero(dtype: Any) -> None:
    tiny, one = float(np.finfo(dtype).tiny), np.array([5e-324])
    model = Model.from_weights([[[1e-8 / tiny]]], [[0.0]], dtype=dtype)
    for size, loss in ((2 * tiny, 4e-16), (tiny / 2, 0.0 if X86 else 2.5e-17)):
        assert model.predict([[size]]).item() == pytest.approx(size * 1e-8 / tiny, rel=1e-6)
        assert model.step([[size]], [0.0], lr=1e-30) == pytest.approx(loss, rel=1e-6, abs=1e-70)
        assert (one + one).item() == 1e-323


@pytest.mark.parametrize("kind", ["i1", "u1", "i4", "i8", "u8", ">i4", "b1", "f2"])
def test_integers_are_exact(kind: str, dtype: Any) -> None:
    largest = 1 if kind == "b1" else 100 if kind in ("i1", "u1", "f2") else 2**24
    model = Model.from_weights([np.eye(1)], [np.zeros(1)], dtype=dtype)
    assert model.predict(np.array([[largest]], kind)).item() == largest
    classes = Model([3, 2], loss="cross_entropy", rng=0, dtype=dtype)
    assert classes.loss(X, LABELS.astype(kind)) == classes.loss(X, LABELS) if kind != "f2" else True


# ---- little data -----------------------------------------------------------------------------------------------------


def test_no_rows() -> None:
    model = net()
    calls: list[Callable[[], Any]] = [
        lambda: model.predict(X[:0]),
        lambda: model.fit(X[:0], Y[:0]),
        lambda: model.fit(X, Y, validation_data=(X[:0], Y[:0])),
        lambda: model.fit_batches([(X[:0], Y[:0])]),
        lambda: model.step(X[:0], Y[:0]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="X must have at least one row"):
            call()
    with pytest.raises(ValueError, match="y_true must have shape"):
        metrics.mse([], [])


def test_one_row() -> None:
    model = net()
    history = model.fit(X[:1], Y[:1], 300, lr=0.1, validation_data=(X[:1], Y[:1]), metrics=["r2"])
    assert history["val_loss"][-1] < 1e-6
    assert set(history["r2"]) <= {0.0, 0.5, 1.0}
    np.testing.assert_allclose(model.predict(X[:1]), Y[:1], atol=1e-2)
    with pytest.raises(ValueError, match="validation_split must leave rows on both sides"):
        model.fit(X[:1], Y[:1], validation_split=0.5)


def test_constant_columns() -> None:
    constant = np.column_stack([X[:, 0], np.ones(9), np.zeros(9)])
    model = net()
    start = model.weights[0].copy()
    assert np.isfinite(model.fit(constant, Y, 200, lr=0.1)["loss"]).all()
    np.testing.assert_array_equal(model.weights[0][2], start[2])
    np.testing.assert_allclose(model.weights[0][1] - start[1], model.biases[0][0], rtol=1e-9, atol=1e-12)


def test_one_class() -> None:
    ones = np.ones(9, int)
    model = Model([3, 1], loss="bce", rng=0)
    losses = model.fit(X, ones, 2000, lr=1.0, class_weight="balanced")["loss"]
    assert losses == Model([3, 1], loss="bce", rng=0).fit(X, ones, 2000, lr=1.0, sample_weight=np.ones(9))["loss"]
    assert 0 < losses[-1] < 1e-3
    single = Model([3, 1], loss="cross_entropy", rng=0)
    kept = single.params.copy()
    assert single.fit(X, 0 * ones, 5, lr=1.0)["loss"] == [0.0] * 5
    assert (single.predict(X) == 1).all()
    np.testing.assert_array_equal(single.params, kept)


def test_constant_targets() -> None:
    assert metrics.r2([2.0, 2.0], [2.0, 2.0]) == 1
    assert metrics.r2([2.0, 2.0], [2.0, 2.5]) == 0
    assert metrics.r2([2.0], [1.0]) == 0


def test_rows_have_sums() -> None:
    model, y = net("cross_entropy"), np.abs(np.tanh(Y)) * (np.arange(9) != 4)[:, None]
    p = model.predict(X)
    assert model.loss(X, y) == pytest.approx(-(y * np.log(p)).sum() / 9, rel=1e-13)
    _, got = model.gradient(X, y)
    sums = y.sum(axis=1)
    want = sum(s * model.gradient(X[i : i + 1], y[i : i + 1] / (s or 1))[1] for i, s in enumerate(sums)) / 9
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-14)


# ---- weights of zero, and below --------------------------------------------------------------------------------------


def test_rows_of_weight_zero() -> None:
    weights = np.where(np.arange(9) == 4, 0.0, 1.0)
    spoilt, model, other = Y.copy(), net(), net()
    spoilt[4] = np.nan
    arguments: dict[str, Any] = {"epochs": 3, "batch_size": 4, "lr": 0.1, "rng": 0, "sample_weight": weights}
    assert model.fit(X, spoilt, **arguments)["loss"] == other.fit(X, Y, **arguments)["loss"]
    np.testing.assert_array_equal(model.params, other.params)
    spoilt = X.copy()
    spoilt[4] = np.nan
    assert np.isnan(quiet(lambda: model.fit(spoilt, Y, **arguments))["loss"]).all()


@pytest.mark.parametrize("optimizer", [SGD(0.1), SGD(0.1, momentum=0.5), Adam(0.1)])
def test_batches_of_weight_zero(optimizer: Any) -> None:
    model, zeros = net(), np.zeros(9)
    kept = model.params.copy()
    weights = np.where(np.arange(9) < 3, 1e-30, 0)  # of three batches one counts
    losses = [model.fit_batches([(X[:3], Y[:3], weights[:3])], optimizer=optimizer)["loss"][0]]
    moved = model.params - kept
    with pytest.raises(ValueError, match="batches: number 0 is refused: sample_weight must have a positive sum"):
        model.fit_batches([(X, Y, zeros)], optimizer=optimizer)
    other = net()
    losses = other.fit(X, Y, 1, 3, shuffle=False, optimizer=optimizer, sample_weight=weights)["loss"]
    assert losses[0] == pytest.approx(net().loss(X[:3], Y[:3]) / 3, rel=1e-12)
    if isinstance(optimizer, Adam) or optimizer.momentum:
        assert np.abs(other.params - kept).max() > np.abs(moved).max()
    else:
        np.testing.assert_array_equal(other.params, model.params)


def test_sums_of_weights() -> None:
    model = net()
    for size, said in ((0.0, "a positive sum"), (1e-310, "a positive sum"), (1e308, "a finite sum")):
        with pytest.raises(ValueError, match=f"sample_weight must have {said}"):
            model.fit(X, Y, sample_weight=np.full(9, size))
        if size:
            with pytest.raises(ValueError, match="sample_weight must have "):
                model.step(X, Y, sample_weight=np.full(9, size))
    for size in (1e-300, 1e300):
        losses = net().fit(X, Y, 3, sample_weight=np.full(9, size))["loss"]
        np.testing.assert_allclose(losses, net().fit(X, Y, 3)["loss"], rtol=1e-13)
    zeros, kept = np.zeros(9), model.params.copy()
    assert model.loss(X, Y, sample_weight=zeros) == model.step(X, Y, sample_weight=zeros) == 0
    loss, g = model.gradient(X, Y, sample_weight=zeros)
    assert loss == 0
    assert not g.any()
    np.testing.assert_array_equal(model.params, kept)


def test_weights_below_zero() -> None:
    model, weights = net(), np.where(np.arange(9) % 2, -3.0, 1.0)
    for call in (
        lambda: model.fit(X, Y, sample_weight=weights),
        lambda: model.fit_batches([(X, Y, weights)]),
        lambda: model.fit(X, Y, validation_data=(X, Y, weights)),
    ):
        with pytest.raises(ValueError, match="sample_weight must be finite and at least 0, got -3"):
            call()
    rows = [model.gradient(X[i : i + 1], Y[i : i + 1]) for i in range(9)]
    loss, g = model.gradient(X, Y, sample_weight=weights)
    assert loss == pytest.approx(sum(w * row[0] for w, row in zip(weights, rows, strict=True)) / 17, rel=1e-12)
    np.testing.assert_allclose(g, sum(w * row[1] for w, row in zip(weights, rows, strict=True)) / 17, rtol=1e-12, atol=1e-14)
    assert model.loss(X, Y, sample_weight=weights) == pytest.approx(loss, rel=1e-13)
    assert model.step(X, Y, sample_weight=weights) == loss


def test_zero_initialised() -> None:
    model = Model.from_weights([np.zeros((3, 4)), np.zeros((4, 2))], [np.zeros(4), np.zeros(2)], "tanh")
    model.fit(X, Y, 2000, lr=0.1)
    assert not model.params[:-2].any()
    np.testing.assert_allclose(model.params[-2:], Y.mean(axis=0), rtol=1e-12)
    model = Model.from_weights([np.ones((3, 4)), np.ones((4, 2))], [np.zeros(4), np.zeros(2)], "tanh")
    model.fit(X, Y, 50, lr=0.1)
    np.testing.assert_allclose(model.weights[0], model.weights[0][:, :1] * np.ones(4), rtol=1e-12)


# ---- the same bits ---------------------------------------------------------------------------------------------------

PROCESS = """
import numpy as np, fastmlp
X = np.random.default_rng(0).standard_normal((90, 3))
model = fastmlp.Model([3, 20, 2], "tanh", dropout=0.1, rng=0)
model.fit(X, X[:, :2], 5, 7, optimizer=fastmlp.Adam(0.1), rng=0)
print(model.params.tobytes().hex())
"""


def test_same_in_every_process(python: Callable[..., str]) -> None:
    assert python(PROCESS) == python(PROCESS)


def test_same_for_any_number_of_threads() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((400, 200)), rng.standard_normal((400, 10))
    bits = set()
    for threads in (1, 2, 3):
        fastmlp.set_num_threads(threads)
        model = Model([200, 100, 10], rng=0)
        losses = model.fit(x, y, 2, 200, optimizer=Adam(), rng=0)["loss"]
        bits.add((model.params.tobytes(), model.predict(x).tobytes(), *losses))
    fastmlp.set_num_threads(None)
    assert len(bits) == 1


def test_same_for_copies() -> None:
    model = net()
    model.fit(X, Y, 3, 4, optimizer=Adam(0.1, ema=0.9), rng=0)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model]
    losses = [one.fit(X, Y, 3, 4, optimizer=Adam(0.1, ema=0.9), rng=1)["loss"] for one in copies]
    assert losses == [losses[0]] * 3
    assert len({one.params.tobytes() for one in copies}) == 1


def test_same_initial_weights() -> None:
    double, single = net(), net(dtype="float32")
    np.testing.assert_array_equal(double.params.astype("f4"), single.params)
    limit = np.sqrt(6 / 23)
    np.testing.assert_array_equal(double.weights[0], np.random.default_rng(0).uniform(-limit, limit, (3, 20)))


def test_same_epoch_by_epoch() -> None:
    whole, legs = net(), net()
    arguments: dict[str, Any] = {"epochs": 5, "batch_size": 4, "optimizer": Adam(0.1), "rng": 0}
    assert whole.fit(X, Y, **arguments)["loss"] == legs.fit(X, Y, **arguments, validation_data=(X, Y))["loss"]
    np.testing.assert_array_equal(whole.params, legs.params)


def test_others_are_close() -> None:
    model = net()
    whole = model.predict(np.repeat(X, 20, axis=0))[::20]
    np.testing.assert_allclose(np.concatenate([model.predict(row[None]) for row in X]), whole, rtol=1e-12)
