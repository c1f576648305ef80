"""What is refused, in which words, and that nothing has changed afterwards; and what is accepted as data."""

import copy
import re

import numpy as np
import pytest
import reference

from fastmlp import SGD, Adam, Model, checks

pytestmark = pytest.mark.small
EITHER = (TypeError, ValueError)


def refused(kind, call, *said):
    """`call` raises, and the message has each of these: the argument's name, its value, what was wanted."""
    with pytest.raises(kind) as caught:
        call()
    for words in said:
        assert re.search(rf"(?<![A-Za-z0-9_]){re.escape(words)}(?![A-Za-z0-9_])", str(caught.value)), (
            words,
            str(caught.value),
        )


# ---- the constructors ------------------------------------------------------------------------------------------------

SIZES = [2, 3, 1]
NEW = [
    ({"sizes": []}, ValueError, "sizes"),
    ({"sizes": [2]}, ValueError, "sizes", "[2]"),
    ({"sizes": [2, 0, 1]}, ValueError, "sizes", "0"),
    ({"sizes": [2, -3, 1]}, ValueError, "sizes", "-3"),
    ({"sizes": [2, 1.5, 1]}, TypeError, "sizes", "1.5"),
    ({"sizes": [2, "3", 1]}, TypeError, "sizes", "'3'"),
    ({"sizes": [2, None, 1]}, TypeError, "sizes", "None"),
    ({"sizes": 2}, TypeError, "sizes", "2"),
    ({"sizes": "221"}, TypeError, "sizes", "221"),
    ({"sizes": None}, TypeError, "sizes", "None"),
    ({"sizes": SIZES, "activations": "rleu"}, ValueError, "activations", "rleu", "relu", "gelu"),
    ({"sizes": SIZES, "activations": ["relu", "sgmoid"]}, ValueError, "activations", "sgmoid", "sigmoid"),
    ({"sizes": SIZES, "activations": ["relu"]}, ValueError, "activations", "1", "2"),
    ({"sizes": SIZES, "activations": ["relu"] * 3}, ValueError, "activations", "3", "2"),
    ({"sizes": SIZES, "activations": 3}, TypeError, "activations", "3"),
    ({"sizes": SIZES, "activations": ["relu", None]}, TypeError, "activations", "None"),
    ({"sizes": SIZES, "activations": ["softmax", "identity"]}, ValueError, "activations", "softmax"),
    ({"sizes": SIZES, "activations": "softmax"}, ValueError, "activations", "softmax"),
    ({"sizes": SIZES, "activations": ["relu", "identity"], "loss": "bce"}, ValueError, "bce", "sigmoid", "identity"),
    ({"sizes": SIZES, "activations": ["relu", "softmax"], "loss": "bce"}, ValueError, "bce", "sigmoid", "softmax"),
    ({"sizes": SIZES, "activations": ["relu", "sigmoid"], "loss": "cross_entropy"}, ValueError, "softmax", "sigmoid"),
    ({"sizes": SIZES, "loss": "msee"}, ValueError, "loss", "msee", "mse", "huber"),
    ({"sizes": SIZES, "loss": None}, TypeError, "loss", "None"),
    ({"sizes": SIZES, "dtype": "float16"}, ValueError, "dtype", "float16", "float32"),
    ({"sizes": SIZES, "dtype": np.int64}, ValueError, "dtype", "int64", "float32"),
    ({"sizes": SIZES, "dtype": "complex128"}, ValueError, "dtype", "complex128", "float32"),
    ({"sizes": SIZES, "dtype": "no such"}, EITHER, "dtype", "no such", "float32"),
    ({"sizes": SIZES, "rng": "seed"}, TypeError, "rng", "seed"),
    ({"sizes": SIZES, "rng": 1.5}, TypeError, "rng", "1.5"),
    ({"sizes": SIZES, "rng": -1}, ValueError, "rng", "-1"),
    ({"sizes": SIZES, "init": "xavier"}, ValueError, "init", "xavier", "glorot"),
    ({"sizes": SIZES, "init": None}, TypeError, "init", "None"),
]


@pytest.mark.parametrize(("arguments", "kind", "said"), [(a, k, s) for a, k, *s in NEW])
def test_a_new_model_refuses(arguments, kind, said):
    refused(kind, lambda: Model(**arguments), *said)


W1, B1, W2, B2 = np.ones((2, 3)), np.zeros(3), np.ones((3, 1)), np.zeros(1)


def spoilt(array, value):
    array = array.copy()
    array.flat[-1] = value
    return array


FROM = [
    ({"weights": []}, ValueError, "weights"),
    ({"weights": None}, TypeError, "weights", "None"),
    ({"biases": None}, TypeError, "biases", "None"),
    ({"biases": [B1]}, ValueError, "biases", "1", "2"),
    ({"weights": [W1, np.ones((4, 1))]}, ValueError, "weights", "4", "3"),
    ({"weights": [W1, np.ones(3)]}, ValueError, "weights", "(3,)"),
    ({"weights": [np.ones((2, 3, 1)), W2]}, ValueError, "weights", "(2, 3, 1)"),
    ({"weights": [np.ones((0, 3)), W2]}, ValueError, "weights", "(0, 3)"),
    ({"biases": [np.zeros(4), B2]}, ValueError, "biases", "(4,)", "3"),
    ({"biases": [np.zeros((3, 1)), B2]}, ValueError, "biases", "(3, 1)", "3"),
    ({"weights": [spoilt(W1, np.nan), W2]}, ValueError, "weights", "nan"),
    ({"weights": [W1, spoilt(W2, -np.inf)]}, ValueError, "weights", "-inf"),
    ({"biases": [B1, spoilt(B2, np.nan)]}, ValueError, "biases", "nan"),
    ({"biases": [spoilt(B1, np.inf), B2]}, ValueError, "biases", "inf"),
    ({"weights": [W1.astype(complex), W2]}, TypeError, "weights", "complex128"),
    ({"weights": [W1.astype(object), W2]}, TypeError, "weights", "object"),
    ({"weights": [W1.astype(str), W2]}, TypeError, "weights"),
    ({"biases": [B1, B2.astype(complex)]}, TypeError, "biases", "complex128"),
    ({"biases": [B1.astype(object), B2]}, TypeError, "biases", "object"),
    ({"activations": "rleu"}, ValueError, "activations", "rleu"),
    ({"loss": "msee"}, ValueError, "loss", "msee"),
    ({"dtype": "float16"}, ValueError, "dtype", "float16"),
    ({"weights": [1e300 * W1, W2], "dtype": "float32"}, ValueError, "weights"),  # infinite once it is float32
]


@pytest.mark.parametrize(("arguments", "kind", "said"), [(a, k, s) for a, k, *s in FROM])
def test_from_weights_refuses(arguments, kind, said):
    arguments = {"weights": [W1, W2], "biases": [B1, B2], **arguments}
    refused(kind, lambda: Model.from_weights(**arguments), *said)


# ---- data and settings of a model that has been trained --------------------------------------------------------------

LOSSES = {"mse": 2, "bce": 2, "cross_entropy": 4}  # and how many outputs
TRAINED = {}


def trained(loss):
    """A model with moments to lose, and a copy: what the model must still be after a refusal."""
    if loss not in TRAINED:
        model = Model([3, LOSSES[loss]], "tanh" if loss == "mse" else [reference.OUTPUT[loss]], loss, rng=0)
        X, y = data(loss)
        model.fit(X, y, epochs=2, optimizer=Adam(0.1), rng=0)
        TRAINED[loss] = model
    return copy.deepcopy(TRAINED[loss]), copy.deepcopy(TRAINED[loss])


def data(loss):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 4) if loss == "cross_entropy" else rng.integers(0, 2, (4, 2))
    return rng.standard_normal((4, 3)), y


def unchanged(model, kept, loss):
    assert model.params.tobytes() == kept.params.tobytes()
    X, y = data(loss)
    for each in (model, kept):
        each.step(X, y, optimizer=Adam(0.1))  # moments and step count are as they were
    assert model.params.tobytes() == kept.params.tobytes()


X3 = np.zeros((4, 3))
BAD_X = [
    (np.zeros((4, 5)), ValueError, "X", "5", "3"),
    (np.zeros((4, 2)), ValueError, "X", "2", "3"),
    (np.zeros((0, 3)), ValueError, "X", "0"),
    (np.zeros((4, 0)), ValueError, "X", "0"),
    (np.zeros(3), ValueError, "X", "(3,)"),
    (np.zeros((4, 3, 1)), ValueError, "X", "(4, 3, 1)"),
    (1.5, ValueError, "X"),
    ([], ValueError, "X"),
    (X3.astype(complex), TypeError, "X", "complex128"),
    (X3.astype(object), TypeError, "X", "object"),
    (X3.astype(str), TypeError, "X"),
    (X3.astype("M8[s]"), TypeError, "X"),
    ([["a", "b", "c"]] * 4, TypeError, "X"),
    (None, TypeError, "X"),
    ([[1, 2, 3], [1]], EITHER, "X"),
    ({"a": 1}, TypeError, "X"),
]
NEEDS_X = {
    "predict": lambda model, X: model.predict(X),
    "forward": lambda model, X: model.forward(X),
    "loss": lambda model, X: model.loss(X, data("mse")[1]),
    "backward": lambda model, X: model.backward(X, data("mse")[1]),
    "gradient": lambda model, X: model.gradient(X, data("mse")[1]),
    "step": lambda model, X: model.step(X, data("mse")[1]),
    "fit": lambda model, X: model.fit(X, data("mse")[1]),
}


@pytest.mark.parametrize("method", NEEDS_X)
@pytest.mark.parametrize(("X", "kind", "said"), [(x, k, s) for x, k, *s in BAD_X])
def test_inputs_refused(method, X, kind, said):
    model, kept = trained("mse")
    refused(kind, lambda: NEEDS_X[method](model, X), *said)
    unchanged(model, kept, "mse")


BAD_Y = [
    ("mse", np.zeros((3, 2)), ValueError, "y", "3", "4"),
    ("mse", np.zeros((4, 3)), ValueError, "y", "(4, 3)", "2"),
    ("mse", np.zeros(4), ValueError, "y", "(4,)", "2"),
    ("mse", np.zeros((4, 2, 1)), ValueError, "y", "(4, 2, 1)"),
    ("mse", np.zeros((0, 2)), ValueError, "y", "0", "4"),
    ("mse", 1.0, ValueError, "y"),
    ("mse", np.zeros((4, 2), complex), TypeError, "y", "complex128"),
    ("mse", np.zeros((4, 2), object), TypeError, "y", "object"),
    ("mse", np.zeros((4, 2), str), TypeError, "y"),
    ("mse", None, TypeError, "y"),
    ("bce", spoilt(np.zeros((4, 2)), 1.5), ValueError, "y", "1.5"),
    ("bce", spoilt(np.zeros((4, 2)), -0.25), ValueError, "y", "-0.25"),
    ("bce", spoilt(np.zeros((4, 2)), np.inf), ValueError, "y", "inf"),
    ("bce", spoilt(np.zeros((4, 2), int), 2), ValueError, "y", "2"),
    ("cross_entropy", np.array([0, 1, 2, 4]), ValueError, "y", "4", "3"),
    ("cross_entropy", np.array([0, -1, 2, 3]), ValueError, "y", "-1", "3"),
    ("cross_entropy", np.array([0, 1, 2, 2**40]), ValueError, "y", str(2**40)),
    ("cross_entropy", np.array([0, 1, 2]), ValueError, "y", "3", "4"),
    ("cross_entropy", np.array([0.0, 1.5, 2.0, 3.0]), EITHER, "y"),
    ("cross_entropy", np.zeros((4, 3)), ValueError, "y", "(4, 3)", "4"),
    ("cross_entropy", np.array(["a", "b", "c", "d"]), TypeError, "y"),
    ("cross_entropy", np.zeros((4, 4), complex), TypeError, "y", "complex128"),
    ("cross_entropy", np.zeros((4, 4), object), TypeError, "y", "object"),
]
NEEDS_Y = {
    "loss": lambda model, X, y: model.loss(X, y),
    "backward": lambda model, X, y: model.backward(X, y),
    "gradient": lambda model, X, y: model.gradient(X, y),
    "step": lambda model, X, y: model.step(X, y),
    "fit": lambda model, X, y: model.fit(X, y),
}


@pytest.mark.parametrize("method", NEEDS_Y)
@pytest.mark.parametrize(("loss", "y", "kind", "said"), [(n, y, k, s) for n, y, k, *s in BAD_Y])
def test_targets_refused(method, loss, y, kind, said):
    model, kept = trained(loss)
    refused(kind, lambda: NEEDS_Y[method](model, data(loss)[0], y), *said)
    unchanged(model, kept, loss)


BAD_FIT = [
    ({"epochs": 0}, ValueError, "epochs", "0"),
    ({"epochs": -2}, ValueError, "epochs", "-2"),
    ({"epochs": 1.5}, TypeError, "epochs", "1.5"),
    ({"epochs": "3"}, TypeError, "epochs", "'3'"),
    ({"epochs": None}, TypeError, "epochs", "None"),
    ({"epochs": True}, TypeError, "epochs", "True"),
    ({"batch_size": 0}, ValueError, "batch_size", "0"),
    ({"batch_size": -5}, ValueError, "batch_size", "-5"),
    ({"batch_size": 2.5}, TypeError, "batch_size", "2.5"),
    ({"batch_size": "a"}, TypeError, "batch_size", "'a'"),
    ({"verbose": -1}, ValueError, "verbose", "-1"),
    ({"verbose": "a"}, TypeError, "verbose", "'a'"),
    ({"rng": "a"}, TypeError, "rng", "'a'"),
    ({"rng": -1}, ValueError, "rng", "-1"),
]
BAD_RATE = [
    ({"lr": 0}, ValueError, "lr", "0"),
    ({"lr": -0.5}, ValueError, "lr", "-0.5"),
    ({"lr": np.nan}, ValueError, "lr", "nan"),
    ({"lr": np.inf}, ValueError, "lr", "inf"),
    ({"lr": "0.1"}, TypeError, "lr", "'0.1'"),
    ({"lr": True}, TypeError, "lr", "True"),
    ({"lr": SGD(0.1)}, TypeError, "lr"),
    ({"optimizer": "Adam"}, ValueError, "optimizer", "'Adam'"),
    ({"optimizer": 0.1}, TypeError, "optimizer", "0.1"),
    ({"optimizer": Adam}, TypeError, "optimizer"),
    ({"lr": 0.1, "optimizer": Adam()}, ValueError, "lr", "optimizer", "0.1"),
]


@pytest.mark.parametrize(("settings", "kind", "said"), [(a, k, s) for a, k, *s in BAD_FIT + BAD_RATE])
def test_settings_of_fit_refused(settings, kind, said):
    model, kept = trained("mse")
    refused(kind, lambda: model.fit(*data("mse"), **settings), *said)
    unchanged(model, kept, "mse")


@pytest.mark.parametrize(("settings", "kind", "said"), [(a, k, s) for a, k, *s in BAD_RATE])
def test_settings_of_one_update_refused(settings, kind, said):
    model, kept = trained("mse")
    refused(kind, lambda: model.step(*data("mse"), **settings), *said)
    refused(kind, lambda: model.apply_gradient(np.zeros(8), **settings), *said)
    unchanged(model, kept, "mse")


@pytest.mark.parametrize(
    ("g", "kind", "said"),
    [
        (np.zeros(7), ValueError, ["7", "8"]),
        (np.zeros((2, 4)), ValueError, ["(2, 4)", "8"]),
        (np.zeros(0), ValueError, ["0", "8"]),
        (np.zeros(8, complex), TypeError, ["complex128"]),
        (np.zeros(8, object), TypeError, ["object"]),
        (None, TypeError, []),
    ],
)
def test_gradients_refused(g, kind, said):
    model, kept = trained("mse")
    refused(kind, lambda: model.apply_gradient(g, lr=0.1), "g", *said)
    unchanged(model, kept, "mse")


# ---- places for the outputs ------------------------------------------------------------------------------------------


def read_only(x):
    x = x.astype(float)
    x.flags.writeable = False
    return x


def outside(shape, dtype=float):
    return np.zeros(shape, dtype)


BAD_OUT = {
    "a list": ([[0.0, 0.0]] * 4, TypeError, "list"),
    "a number": (1.0, TypeError, "float"),
    "few rows": (outside((3, 2)), ValueError, "(3, 2)"),
    "one axis": (outside(8), ValueError, "(8,)"),
    "more columns": (outside((4, 3)), ValueError, "(4, 3)"),
    "float32": (outside((4, 2), "f4"), ValueError, "float32"),
    "integers": (outside((4, 2), int), ValueError, "int64"),
    "other byte order": (outside((4, 2), np.dtype(float).newbyteorder()), ValueError, "(4, 2)"),
    "strided": (outside((4, 3))[:, :2], ValueError, "C-contiguous"),
    "read-only": (read_only(outside((4, 2))), ValueError, "read-only"),
    "unaligned": (np.frombuffer(bytearray(65), np.uint8)[1:].view(float).reshape(4, 2), ValueError, "aligned"),
}


@pytest.mark.parametrize("name", BAD_OUT)
@pytest.mark.parametrize("method", ["predict", "forward"])
def test_outputs_refused(name, method):
    out, kind, *said = BAD_OUT[name]
    model, kept = trained("mse")
    X, _ = data("mse")
    refused(kind, lambda: getattr(model, method)(X, out=out), "out", "float64", "(4, 2)", *said)
    unchanged(model, kept, "mse")


def test_outputs_over_what_they_come_from_are_refused():
    model = Model([2, 2], ["identity"], rng=0)
    X = np.arange(12.0).reshape(6, 2)
    kept, params = X.copy(), model.params.copy()
    for out, given, said in (
        (X, X, "X"),
        (X[:3], X[2:5], "X"),
        (X[:3], X[::2], "X"),
        (model.params[:2].reshape(1, 2), X[:1], "parameters"),
        (model.weights[0], X[:2], "parameters"),
    ):
        refused(ValueError, lambda out=out, given=given: model.predict(given, out=out), "out", said)
    np.testing.assert_array_equal(X, kept)
    np.testing.assert_array_equal(model.params, params)


def test_outputs_go_where_they_are_asked(dtype):
    model = Model([3, 40, 4], "tanh", dtype=dtype, rng=0)
    whole = np.zeros((20, 4), dtype)
    for rows in (1, 7, 13):
        X = np.random.default_rng(rows).standard_normal((rows, 3))
        for given in (X, X.astype(dtype), X.tolist(), np.asfortranarray(X)):
            want = model.predict(given)
            for out in (np.full((rows, 4), 9, dtype), whole[2 : 2 + rows]):
                assert model.predict(given, out=out) is out
                np.testing.assert_array_equal(out, want)
                out[...] = 0
                assert model.forward(given, out) is out
                np.testing.assert_array_equal(out, want)
    assert not whole[:2].any()
    assert not whole[15:].any()


def test_outputs_next_to_their_inputs_in_one_array():
    both = np.arange(18.0).reshape(6, 3)
    model = Model([3, 3], ["identity"], rng=0)
    want = model.predict(both[::2])
    np.testing.assert_array_equal(model.predict(both[::2], out=both[1:2].repeat(3, axis=0)), want)
    assert (model.predict(both[:3], out=both[3:]) == both[3:]).all()


# ---- ranges ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["b1", "i1", "i8", "u1", "u8", ">i4", "f2", "f4", "f8", ">f8", "g"])
@pytest.mark.parametrize("count", [5, 200])
def test_within_a_range(kind, count):
    signed, real = kind[-2:-1] == "i", kind[-2:-1] == "f" or kind == "g"
    for most in (0, 1, 127, 128, 255, 299):
        good = np.zeros(count, kind)
        good[1] = min(most, 1 if kind == "b1" else 127)
        assert checks.within(good, most)
        assert checks.within(good.reshape(-1, 5)[:, ::2], most)
        bad = [-1] if signed else [-1, -1e-3, np.nan, np.inf, -np.inf] if real else []
        bad += [most + 1] if most + 1 <= 127 and kind != "b1" else []
        for value in bad:
            array = good.copy()
            array[-1] = value
            assert not checks.within(array, most), value
        if real:
            array = good.copy()
            array[-1] = -0.0
            assert checks.within(array, most)
            array[0] = -1
            assert not checks.within(array, most)
            array[0] = np.nextafter(array.dtype.type(most), array.dtype.type(np.inf))
            assert not checks.within(array, most)


# ---- data that is accepted -------------------------------------------------------------------------------------------

GRID = np.arange(-12, 12).reshape(8, 3)  # exact in every kind below


def strided(x):
    wide = np.full((2 * len(x), 3 * x.shape[1]), 99.0)
    wide[::2, ::3] = x
    return wide[::2, ::3]


FORMS = {
    "float16": lambda x: x.astype(np.float16),
    "float32": lambda x: x.astype(np.float32),
    "float64": lambda x: x.astype(np.float64),
    "longdouble": lambda x: x.astype(np.longdouble),
    "int8": lambda x: x.astype(np.int8),
    "int64": lambda x: x,
    "list": lambda x: x.tolist(),
    "tuples": lambda x: tuple(map(tuple, x.tolist())),
    "fortran": lambda x: np.asfortranarray(x.astype(float)),
    "strided": strided,
    "reversed": lambda x: x[::-1, ::-1].astype(float)[::-1, ::-1],
    "big_endian": lambda x: x.astype(">f8"),
    "read_only": read_only,
    "unaligned": lambda x: np.frombuffer(b"." + x.astype(float).tobytes(), np.uint8)[1:].view(float).reshape(x.shape),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("form", FORMS)
def test_data_of_any_form(form, dtype):
    plain, y = GRID.astype(dtype), (GRID[:, :2] / 16).astype(dtype)
    model, same = (Model([3, 4, 2], "tanh", dtype=dtype, rng=0) for _ in range(2))
    given = FORMS[form](GRID)
    before = copy.deepcopy(given)
    np.testing.assert_array_equal(model.predict(given), same.predict(plain))
    assert model.loss(given, y) == same.loss(plain, y)
    np.testing.assert_array_equal(model.backward(given, y).inputs, same.backward(plain, y).inputs)
    for each, X in ((model, given), (same, plain)):
        each.fit(X, y, epochs=2, batch_size=3, lr=0.1, rng=0)
    np.testing.assert_array_equal(model.params, same.params)
    np.testing.assert_array_equal(given, before)


@pytest.mark.parametrize("form", FORMS)
def test_targets_of_any_form(form):
    X, y = np.linspace(-1, 1, 16).reshape(8, 2), GRID.astype(float)
    model, same = (Model([2, 3], rng=0) for _ in range(2))
    assert model.loss(X, FORMS[form](GRID)) == same.loss(X, y)
    model.fit(X, FORMS[form](GRID), epochs=2, batch_size=3, lr=0.01, rng=0)
    same.fit(X, y, epochs=2, batch_size=3, lr=0.01, rng=0)
    np.testing.assert_array_equal(model.params, same.params)


def frames(pd):
    """Frames of several kinds of columns, and what their numbers are."""
    people = pd.DataFrame({"age": [30.0, 40.0, 50.0], "sex": ["m", "f", "m"]})
    dummies = [[30.0, 0.0, 1.0], [40.0, 1.0, 0.0], [50.0, 0.0, 1.0]]
    missing = pd.DataFrame(
        {
            "n": pd.array([1, None, 3], dtype="Int64"),
            "b": pd.array([True, False, None], dtype="boolean"),
            "f": np.arange(3, dtype="f4"),
        }
    )
    whole = pd.DataFrame({"a": pd.array([1, 2, 3], dtype="Int8"), "b": [True, False, True], "c": np.uint8([7, 8, 9])})
    return {
        "dummies": (pd.get_dummies(people), dummies),
        "sparse dummies": (pd.get_dummies(people, sparse=True), dummies),
        "same names": (pd.get_dummies(people).set_axis(["a", "a", "b"], axis=1), dummies),
        "missing": (missing, [[1, 1, 0], [np.nan, 0, 1], [3, np.nan, 2]]),
        "nullable": (pd.DataFrame({name: pd.array([1, 2, 3], dtype="Int64") for name in "abc"}), [[1] * 3, [2] * 3, [3] * 3]),
        "whole": (whole, [[1, 1, 7], [2, 0, 8], [3, 1, 9]]),
        "plain": (pd.DataFrame(np.arange(9.0).reshape(3, 3)), np.arange(9.0).reshape(3, 3)),
    }


@pytest.mark.parametrize("kind", ["dummies", "sparse dummies", "same names", "missing", "nullable", "whole", "plain"])
def test_frames_of_any_numbers(kind):
    pd = pytest.importorskip("pandas")
    frame, want = frames(pd)[kind]
    model, same = Model([3, 4, 1], "tanh", rng=0), Model([3, 4, 1], "tanh", rng=0)
    np.testing.assert_array_equal(model.predict(frame), same.predict(np.array(want, float)))
    y = pd.Series([1, 0, 2], dtype="Int64")
    if kind != "missing":
        for each, X, target in ((model, frame, y), (same, np.array(want, float), np.array([1.0, 0, 2]))):
            each.fit(X, target, 3, 2, rng=0, validation_data=(X, target), metrics="mae")
            each.fit(X, target, 3, sample_weight=target)
            each.fit_batches([(X, target)], 2)
            each.step(X, target)
    np.testing.assert_array_equal(model.params, same.params)


def test_targets_in_frames():
    pd = pytest.importorskip("pandas")
    X = np.arange(6.0).reshape(3, 2)
    labels, rows = Model([2, 3], loss="cross_entropy", rng=0), pd.get_dummies(pd.Series(["b", "a", "c"]))
    for y in (
        pd.Series([1, 0, 2], dtype="Int8"),
        pd.Series([1, 0, 2]),
        pd.DataFrame({"y": [1, 0, 2]}),
        rows,
        rows.astype(float),
    ):
        assert labels.loss(X, y) == pytest.approx(labels.loss(X, [1, 0, 2]), rel=1e-14)
    model = Model([2, 2], rng=0)
    mixed = pd.DataFrame({"a": [True, False, True], "b": [1.5, 2.5, 3.5]})
    assert model.loss(X, mixed) == model.loss(X, [[1, 1.5], [0, 2.5], [1, 3.5]])


def test_frames_refused():
    pd = pytest.importorskip("pandas")
    numbers = {"a": [1.0, 2.0], "b": [True, False]}
    for column, kind in (
        (["m", "f"], "str|object"),
        (pd.Categorical([1, 2]), "category"),
        (pd.to_datetime(["2020-01-01", "2020-01-02"]), "datetime64"),
        (pd.to_datetime(["2020-01-01", "2020-01-02"]).tz_localize("UTC"), "datetime64"),
        (pd.to_timedelta([1, 2]), "timedelta64"),
        ([1j, 2j], "complex128"),
        (np.array([1, 2], object), "object"),
    ):
        frame = pd.DataFrame({**numbers, "last": column})
        for call in (lambda frame=frame: Model([3, 1]).predict(frame), lambda frame=frame: Model([3, 1]).fit(frame, [1, 2])):
            with pytest.raises(TypeError, match=f"X must hold real numbers, got dtype ({kind}).* in column 'last'"):
                call()
        with pytest.raises(TypeError, match=f"y must hold real numbers, got dtype ({kind})"):
            Model([1, 1]).fit([[1], [2]], frame["last"])
        with pytest.raises(TypeError, match=f"sample_weight must hold real numbers, got dtype ({kind})"):
            Model([1, 1]).fit([[1], [2]], [1, 2], sample_weight=frame["last"])


@pytest.mark.parametrize("kind", ["M8[s]", "m8[s]", "complex64", "U4", "S4", "V8", object])
def test_what_is_no_number_is_refused(kind):
    bad = np.zeros((2, 1), kind)
    model = Model([1, 1], rng=0)
    for name, call in (
        ("X", lambda: model.predict(bad)),
        ("X", lambda: model.fit(bad, [1, 2])),
        ("y", lambda: model.fit([[1], [2]], bad)),
        ("y", lambda: model.step([[1], [2]], bad[:, 0])),
        ("sample_weight", lambda: model.fit([[1], [2]], [1, 2], sample_weight=bad[:, 0])),
        ("g", lambda: model.apply_gradient(bad[:, 0])),
        (r"weights\[0\]", lambda: Model.from_weights([bad], [[0]])),
    ):
        with pytest.raises(TypeError, match=f"^{name} must hold real numbers, got dtype "):
            call()


def test_masked_entries_are_refused():
    X, model = np.ma.masked_less(np.arange(6.0).reshape(3, 2), 1), Model([2, 1], rng=0)
    for name, call in (
        ("X", lambda: model.predict(X)),
        ("y", lambda: model.fit(X.data, X[:, 0])),
        ("sample_weight", lambda: model.fit(X.data, [1, 2, 3], sample_weight=X[:, 0])),
    ):
        with pytest.raises(ValueError, match=f"^{name} must not have masked entries: fill them"):
            call()
    np.testing.assert_array_equal(model.predict(np.ma.array(X.data)), model.predict(X.data))


def test_sizes_beyond_the_memory():
    with pytest.raises(ValueError, match=r"sizes must make at most 1099511627776 parameters, got \[2097152, 1048576\]"):
        Model([2**21, 2**20])
    with pytest.raises(MemoryError, match=r"sizes=\[1048576, 524288\] make a model that is larger than the memory: "):
        Model([2**20, 2**19])


def test_booleans_and_repeated_rows():
    model = Model([3, 2], rng=0)
    bits = np.array([[True, False, True], [False, False, True]])
    np.testing.assert_array_equal(model.predict(bits), model.predict(bits.astype(float)))
    row = np.array([[1.0, 2.0, 3.0]])
    repeated = np.broadcast_to(row, (5, 3))  # a stride of zero
    np.testing.assert_array_equal(model.predict(repeated), model.predict(np.repeat(row, 5, axis=0)))


def test_nan_and_infinity_are_data():
    model = Model([3, 2], rng=0)
    assert np.isnan(model.predict([[np.nan, 0, 0]])).all()
    assert not np.isfinite(model.loss([[np.inf, 0, 0]], [[0, 0]]))


@pytest.mark.parametrize("number", [np.int32(2), np.uint8(2), np.int64(2)])
def test_numbers_of_numpy(number):
    model, same = Model([3, number], rng=number), Model([3, 2], rng=2)
    X, y = data("mse")
    model.fit(X, y, epochs=number, batch_size=number, lr=np.float32(0.5), rng=number)
    same.fit(X, y, epochs=2, batch_size=2, lr=0.5, rng=2)
    np.testing.assert_array_equal(model.params, same.params)
    assert model.sizes == (3, 2)
    assert all(type(size) is int for size in model.sizes)


def test_an_optimizer_given_alone_and_a_rate_given_alone():
    X, y = data("mse")
    by_rate, by_optimizer = Model([3, 2], rng=0), Model([3, 2], rng=0)
    by_rate.fit(X, y, lr=0.5, optimizer=None)
    by_optimizer.fit(X, y, lr=None, optimizer=SGD(0.5))
    np.testing.assert_array_equal(by_rate.params, by_optimizer.params)


@pytest.mark.small
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: Model([10**30, 2]), "sizes"),
        (lambda: Model(np.array(5)), "sizes"),
        (lambda: Model({2, 3}), "sizes"),
        (lambda: Model([2, 1], "softmax"), "activations"),
        (lambda: Model([2, 1]).fit([[1.0, 2.0]], [1.0], epochs=10**30), "epochs"),
        (lambda: Model([2, 1]).fit([[1.0, 2.0]], [1.0], lr=10**400), "lr"),
        (lambda: Adam(np.longdouble("1e4000")), "lr"),
    ],
)
def test_numbers_beyond_the_machine(call, name):
    with pytest.raises((ValueError, TypeError), match=name):
        call()
