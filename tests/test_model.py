"""Model: what it is made of, and its forward and backward passes against the oracle."""

import copy
import pickle
import threading
from itertools import chain

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import BOUND, HIDDEN, OUTPUT, SIZES, error

from fastmlp import Model

# The same examples at each run, and no folder of past failures left behind.
repeatable = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def of(problem, **changes):
    """The library's model of a problem's network."""
    return Model.from_weights(problem.weights, problem.biases, problem.activations, problem.loss, **changes)


# ---- what it is made of ----------------------------------------------------------------------------------------------


@pytest.mark.small
def test_a_new_model():
    model = Model([3, 5, 2])
    assert model.sizes == (3, 5, 2)
    assert model.activations == ("relu", "identity")
    assert model.loss_name == "mse"
    assert model.dtype == np.float64
    assert isinstance(model.dtype, np.dtype)
    assert model.params.shape == (3 * 5 + 5 + 5 * 2 + 2,)
    assert model.params.dtype == np.float64
    assert model.params.flags.c_contiguous
    assert model.params.flags.writeable
    assert [W.shape for W in model.weights] == [(3, 5), (5, 2)]
    assert [b.shape for b in model.biases] == [(1, 5), (1, 2)]
    assert all((b == 0).all() for b in model.biases)
    assert all((W != 0).all() for W in model.weights)


@pytest.mark.parametrize(("loss", "output"), [("mse", "identity"), ("mae", "identity"), ("huber", "identity"), *OUTPUT.items()])
def test_the_output_activation_follows_from_the_loss(loss, output):
    assert Model([3, 4, 4, 2], "tanh", loss=loss).activations == ("tanh", "tanh", output)


def test_activations_one_a_layer():
    assert Model((3, 4, 2), ["silu", "tanh"], "huber").activations == ("silu", "tanh")
    assert Model([3, np.int64(2)], ["softplus"]).activations == ("softplus",)


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("float32")])
def test_float32(dtype):
    model = Model([3, 4, 2], dtype=dtype)
    assert model.dtype == model.params.dtype == model.weights[1].dtype == model.biases[0].dtype == np.float32


def test_rng():
    first, again, other = Model([5, 4, 3], rng=7), Model([5, 4, 3], rng=7), Model([5, 4, 3], rng=8)
    np.testing.assert_array_equal(first.params, again.params)
    assert (first.weights[0] != other.weights[0]).all()
    np.testing.assert_array_equal(first.params, Model([5, 4, 3], rng=np.random.default_rng(7)).params)
    generator = np.random.default_rng(7)
    assert (Model([5, 4, 3], rng=generator).weights[0] != Model([5, 4, 3], rng=generator).weights[0]).all()
    assert (Model([5, 4, 3]).weights[0] != Model([5, 4, 3]).weights[0]).all()


@pytest.mark.parametrize(
    ("activations", "init", "variance"),
    [
        ("tanh", "he", 2 / 300),
        ("relu", "glorot", 2 / 700),
        ("relu", "small", 1e-4),
        ("relu", "auto", 2 / 300),
        ("leaky_relu", "auto", 2 / 300),
        ("tanh", "auto", 2 / 700),
        ("sigmoid", "auto", 2 / 700),
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_init(activations, init, variance, dtype):
    model = Model([300, 400, 1], activations, init=init, rng=0, dtype=dtype)
    W = model.weights[0].astype(np.float64)
    # 120 000 draws: the sample's variance is within 0.4 % of the truth (one sigma), its mean within sigma / 346.
    assert W.var() == pytest.approx(variance, rel=0.02)
    assert abs(W.mean()) < 5 * np.sqrt(variance / W.size)
    assert (model.biases[0] == 0).all()


@pytest.mark.small
def test_params_are_one_vector_and_the_rest_views_of_it():
    model = Model([2, 3, 4, 1], rng=1)
    arrays = list(chain.from_iterable(zip(model.weights, model.biases, strict=True)))
    np.testing.assert_array_equal(model.params, np.concatenate([a.ravel() for a in arrays]))
    model.params[:] = np.arange(model.params.size)
    np.testing.assert_array_equal(np.concatenate([a.ravel() for a in arrays]), np.arange(model.params.size))
    model.weights[1][2, 3] = -1
    model.biases[1][0, 0] = -2
    assert model.params[9 + 2 * 4 + 3] == -1
    assert model.params[9 + 12] == -2
    for i, array in enumerate(arrays):
        assert np.shares_memory(array, model.params)
        assert not any(np.shares_memory(array, other) for other in arrays[:i])


def test_written_weights_are_the_ones_used():
    p = reference.problem([5, 17, 3], ["tanh", "identity"], "mse", rows=9)
    other = reference.problem([5, 17, 3], ["tanh", "identity"], "mse", rows=9, seed=1)
    model = of(p)
    model.backward(p.X, p.y)  # whatever it keeps from these weights must not outlive them
    model.fit(p.X, p.y, epochs=2, batch_size=4, lr=0.1)
    model.params[:] = reference.flat(other.weights, other.biases)
    np.testing.assert_array_equal(model.predict(p.X), of(other).predict(p.X))
    got, want = model.backward(p.X, p.y), of(other).backward(p.X, p.y)
    np.testing.assert_array_equal(got.weights[0], want.weights[0])
    np.testing.assert_array_equal(got.inputs, want.inputs)


# ---- from_weights ----------------------------------------------------------------------------------------------------


@pytest.mark.small
@pytest.mark.parametrize("columns", [True, False])
def test_from_weights_copies(columns):
    p = reference.problem([2, 3, 1], ["relu", "sigmoid"], "bce", rows=1)
    biases = p.biases if columns else [b[0] for b in p.biases]
    model = Model.from_weights(p.weights, biases, ["relu", "sigmoid"], "bce")
    assert model.sizes == (2, 3, 1)
    assert model.loss_name == "bce"
    assert model.activations == ("relu", "sigmoid")
    np.testing.assert_array_equal(model.params, reference.flat(p.weights, p.biases))
    for given_, own in zip([*p.weights, *biases], [*model.weights, *model.biases], strict=True):
        assert not np.shares_memory(given_, own)
        kept = own.copy()
        given_[...] = 9
        np.testing.assert_array_equal(own, kept)


@pytest.mark.parametrize(
    ("kinds", "dtype", "want"),
    [
        (["f4", "f4", "f4", "f4"], None, "float32"),
        (["f4", "f4", "f4", "f8"], None, "float64"),
        (["f8", "f4", "f4", "f4"], None, "float64"),
        (["i8", "i8", "i8", "i8"], None, "float64"),
        (["f2", "f2", "f2", "f2"], None, "float64"),
        (["f8", "f8", "f8", "f8"], "float32", "float32"),
        (["f4", "f4", "f4", "f4"], "float64", "float64"),
    ],
)
def test_from_weights_dtype(kinds, dtype, want):
    W1, b1, W2, b2 = (
        np.arange(n).reshape(shape).astype(kind)
        for n, shape, kind in zip((6, 3, 3, 1), ((2, 3), (3,), (3, 1), (1,)), kinds, strict=True)
    )
    model = Model.from_weights([W1, W2], [b1, b2], dtype=dtype)
    assert model.dtype == model.params.dtype == np.dtype(want)
    np.testing.assert_array_equal(model.params, [*range(6), *range(3), *range(3), 0])


def test_from_weights_of_any_layout():
    p = reference.problem([5, 7, 3], ["relu", "identity"], "mse", rows=1)
    strided = np.zeros((14, 6))
    strided[::2, ::2] = p.weights[1]
    model = Model.from_weights([np.asfortranarray(p.weights[0]), strided[::2, ::2]], [b.tolist() for b in p.biases])
    np.testing.assert_array_equal(model.params, reference.flat(p.weights, p.biases))


# ---- forward and backward against the oracle -------------------------------------------------------------------------


def shapes():
    """(rows, inputs, hidden, outputs) without end: each role takes each size once before any twice."""
    rng = np.random.default_rng(3)
    while True:
        yield from zip(*(rng.permutation(SIZES).tolist() for _ in range(4)), strict=True)


CASES = [
    *(pytest.param(*names, (3, 2, 3, 2), marks=pytest.mark.small) for names in reference.combinations()),
    *(pytest.param(*names, shape) for names, shape in zip(reference.combinations(), shapes(), strict=False)),
]


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize(("hidden", "output", "loss", "shape"), CASES)
def test_passes_equal_the_oracle(hidden, output, loss, shape, dtype):
    rows, inputs, width, outputs = shape
    p = reference.problem([inputs, width, outputs], [hidden, output], loss, rows, dtype=dtype)
    model = of(p)
    want = reference.gradients(*p)

    assert model.dtype == dtype
    for outcome in (model.predict(p.X), model.forward(p.X)):
        assert outcome.dtype == dtype
        assert error(outcome, reference.forward(p.X, *p[2:5])) <= BOUND[dtype]
    assert isinstance(model.loss(p.X, p.y), float)
    assert error(model.loss(p.X, p.y), want.loss) <= BOUND[dtype]

    got = model.backward(p.X, p.y)
    # A gradient is made of errors of the order of one, over `rows * outputs`: where they cancel (one softmax output) it
    # is the rounding of those that is seen, not of what is left.
    floor = 1 / (rows * outputs)
    assert error(got.loss, want.loss) <= BOUND[dtype]
    arrays = [*got.weights, *got.biases, got.inputs]
    for array, wanted in zip(arrays, [*want.weights, *want.biases, want.inputs], strict=True):
        assert array.dtype == dtype
        assert error(array, wanted, floor) <= BOUND[dtype]

    loss_again, vector = model.gradient(p.X, p.y)
    assert isinstance(loss_again, float)
    assert vector.dtype == dtype
    assert error(loss_again, want.loss) <= BOUND[dtype]
    assert error(vector, reference.flat(want.weights, want.biases), floor) <= BOUND[dtype]


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("depth", [1, 2, 5, 9])
def test_depth(depth, dtype):
    sizes = [SIZES[(5 * i + depth) % 12] for i in range(depth)] + [7]
    p = reference.problem(sizes, ["tanh"] * (depth - 1) + ["identity"], "mse", 33, dtype=dtype)
    want, got = reference.gradients(*p), of(p).backward(p.X, p.y)
    assert error(got.inputs, want.inputs) <= BOUND[dtype]
    flat = reference.flat(got.weights, got.biases)
    assert error(flat, reference.flat(want.weights, want.biases)) <= BOUND[dtype]


@pytest.mark.parametrize("dtype", BOUND)
def test_many_rows_and_wide_layers(dtype):
    """Rows past any block that a kernel works through, and a depth of sums past any block of inputs."""
    p = reference.problem([700, 130, 10], ["relu", "softmax"], "cross_entropy", 1111, dtype=dtype)
    want, got = reference.gradients(*p), of(p).backward(p.X, p.y)
    assert error(got.loss, want.loss) <= BOUND[dtype]
    assert error(got.inputs, want.inputs) <= BOUND[dtype]
    for array, wanted in zip([*got.weights, *got.biases], [*want.weights, *want.biases], strict=True):
        assert error(array, wanted) <= 10 * BOUND[dtype]  # ten times as many terms as the bound counts


@pytest.mark.small
@pytest.mark.parametrize("hidden", HIDDEN)
def test_derivative_at_zero(hidden):
    """All z are exactly zero: relu's derivative there is 0, leaky_relu's 0.01, elu's 1."""
    p = reference.problem([2, 3, 2], [hidden, "identity"], "mse", rows=3)
    p = p._replace(X=np.zeros_like(p.X), biases=[np.zeros_like(b) for b in p.biases])
    want, got = reference.gradients(*p), of(p).backward(p.X, p.y)
    assert error(got.inputs, want.inputs) <= 1e-14
    assert error(got.biases[0], want.biases[0]) <= 1e-14


def slopes_agree(model, p):
    # bce's gradient leaves out the epsilon that its logarithms have: 1e-8 / p, with no p below 0.05 here.
    _, g = model.gradient(p.X, p.y)
    slopes = reference.central_differences(lambda: model.loss(p.X, p.y), model.params)
    assert error(g, slopes) < 1e-6
    X = p.X.copy()
    assert error(model.backward(X, p.y).inputs, reference.central_differences(lambda: model.loss(X, p.y), X)) < 1e-6


@pytest.mark.parametrize(("hidden", "output", "loss"), reference.combinations())
def test_gradient_is_the_slope_of_the_loss(hidden, output, loss):
    p = reference.problem_away_from_kinks([3, 7, 2], [hidden, output], loss, rows=3)
    slopes_agree(of(p), p)


@pytest.mark.small
def test_gradient_is_the_slope_of_the_loss_of_a_tiny_network():
    p = reference.problem_away_from_kinks([2, 2, 1], ["relu", "sigmoid"], "bce", rows=2)
    slopes_agree(of(p), p)


# ---- properties ------------------------------------------------------------------------------------------------------


@st.composite
def problems(draw):
    sizes = draw(st.lists(st.sampled_from(SIZES), min_size=2, max_size=6))
    loss = draw(st.sampled_from(list(reference.LOSSES)))
    output = OUTPUT.get(loss) or draw(st.sampled_from(list(reference.ACTIVATIONS)))
    hidden = [draw(st.sampled_from(HIDDEN)) for _ in sizes[2:]]
    return reference.problem(
        sizes,
        [*hidden, output],
        loss,
        draw(st.integers(1, 40)),
        draw(st.integers(0, 999)),
        draw(st.sampled_from([*BOUND])),
    )


def relative(model, y, got, want):
    """The error of a gradient, to its largest entry or the size of what may have cancelled in it."""
    return error(got, want, floor=1 / (len(y) * model.sizes[-1]))


@repeatable
@given(problems())
def test_any_architecture_equals_the_oracle(p):
    model, want = of(p), reference.gradients(*p)
    bound = 3 * BOUND[str(model.dtype)]  # up to five layers, where the bound counts three
    assert error(model.predict(p.X), reference.forward(p.X, *p[2:5])) <= bound
    got = model.backward(p.X, p.y)
    assert error(got.loss, want.loss) <= bound
    flat = reference.flat(got.weights, got.biases)
    assert relative(model, p.y, flat, reference.flat(want.weights, want.biases)) <= bound
    assert relative(model, p.y, got.inputs, want.inputs) <= bound


@repeatable
@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(p, random):
    model = of(p)
    order = list(range(len(p.X)))
    random.shuffle(order)
    bound = BOUND[str(model.dtype)]
    (loss, g), (loss_, g_) = model.gradient(p.X, p.y), model.gradient(p.X[order], p.y[order])
    assert error(loss_, loss) <= bound
    assert relative(model, p.y, g_, g) <= bound
    assert error(model.backward(p.X[order], p.y[order]).inputs, model.backward(p.X, p.y).inputs[order]) <= bound


@repeatable
@given(problems(), st.data())
def test_a_gradient_is_the_rows_mean_of_its_parts(p, data):
    model, rows = of(p), len(p.X)
    cut = data.draw(st.integers(0, rows))
    parts = [part for part in (slice(0, cut), slice(cut, rows)) if p.X[part].size]
    losses, gs = zip(*(model.gradient(p.X[part], p.y[part]) for part in parts), strict=True)
    weights = [len(p.X[part]) / rows for part in parts]
    loss, g = model.gradient(p.X, p.y)
    bound = BOUND[str(model.dtype)]
    assert error(np.dot(weights, losses), loss) <= bound
    assert relative(model, p.y, sum(w * part for w, part in zip(weights, gs, strict=True)), g) <= bound


@repeatable
@given(problems())
def test_rows_are_predicted_alone_as_together(p):
    model = of(p)
    alone = np.concatenate([model.predict(row[None]) for row in p.X])
    assert error(model.predict(p.X), alone) <= BOUND[str(model.dtype)]


# ---- arrays of its own -----------------------------------------------------------------------------------------------


def test_results_are_new_arrays():
    p = reference.problem([5, 5], ["identity"], "mse", rows=9)
    model = of(p)
    X, y, params = p.X.copy(), p.y.copy(), model.params.copy()
    first, second = ([model.predict(p.X), model.forward(p.X), model.gradient(p.X, p.y)[1]] for _ in range(2))
    for backward in (model.backward(p.X, p.y), model.backward(p.X, p.y)):
        second += [*backward.weights, *backward.biases, backward.inputs]
    results = first + second
    for i, result in enumerate(results):
        assert result.flags.writeable
        assert result.flags.c_contiguous
        for other in [p.X, p.y, model.params, *results[:i]]:
            assert not np.shares_memory(result, other)
    kept = [result.copy() for result in results]
    model.fit(p.X[:4], p.y[:4], epochs=3, batch_size=2, lr=0.1)
    model.predict(p.X + 1)
    model.backward(p.X - 1, p.y)
    for result, copied in zip(results, kept, strict=True):
        np.testing.assert_array_equal(result, copied)
        result[...] = 0  # and writing to them reaches nothing
    np.testing.assert_array_equal(of(p).params, params)
    np.testing.assert_array_equal(p.X, X)
    np.testing.assert_array_equal(p.y, y)


@pytest.mark.parametrize("dtype", BOUND)
def test_data_is_left_alone(dtype):
    """Data of the model's own dtype and layout is the case in which no copy need be made."""
    p = reference.problem([7, 16, 3], ["relu", "softmax"], "cross_entropy", 33, dtype=dtype)
    X, y = p.X.copy(), p.y.copy()
    model = of(p)
    model.fit(p.X, p.y, epochs=2, batch_size=8, lr=0.1, rng=0)
    model.step(p.X, p.y, lr=0.1)
    model.predict(p.X)
    np.testing.assert_array_equal(p.X, X)
    np.testing.assert_array_equal(p.y, y)


def test_models_share_nothing():
    models = [Model([3, 4, 2], rng=0), Model([3, 4, 2], rng=0)]
    assert not np.shares_memory(models[0].params, models[1].params)
    models[0].fit(np.ones((5, 3)), np.ones((5, 2)), lr=0.1)
    assert (models[0].params != models[1].params).any()
    np.testing.assert_array_equal(models[1].params, Model([3, 4, 2], rng=0).params)


def test_eight_threads_predict_with_one_model():
    p = reference.problem([17, 64, 33, 5], ["tanh", "gelu", "identity"], "mse", rows=100)
    model, shared = of(p), of(p)
    batches = [p.X[i : i + rows] for i, rows in enumerate((1, 3, 16, 31, 50, 64, 77, 90))]
    want = [model.predict(X) for X in batches]
    start, wrong = threading.Barrier(8), []

    def work(own):
        start.wait()
        for turn in range(40):
            at = (own + turn) % 8
            if not np.array_equal(shared.predict(batches[at]), want[at]):
                wrong.append((own, turn))

    threads = [threading.Thread(target=work, args=(own,)) for own in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_eight_threads_train_models_of_their_own():
    p = reference.problem([8, 33, 3], ["tanh", "identity"], "mse", rows=50)
    serial = of(p)
    serial.fit(p.X, p.y, epochs=20, batch_size=16, lr=0.05, rng=1)
    models, start = [of(p) for _ in range(8)], threading.Barrier(8)

    def work(model):
        start.wait()
        model.fit(p.X, p.y, epochs=20, batch_size=16, lr=0.05, rng=1)

    threads = [threading.Thread(target=work, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for model in models:
        np.testing.assert_array_equal(model.params, serial.params)


# ---- copies and text -------------------------------------------------------------------------------------------------


@pytest.mark.small
@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)), Model.copy], ids=["deep", "pickle", "own"]
)
def test_copies(clone):
    p = reference.problem([2, 3, 1], ["tanh", "sigmoid"], "bce", rows=3)
    model = of(p)
    model.predict(p.X)
    twin = clone(model)
    assert (twin.sizes, twin.activations, twin.loss_name, twin.dtype) == (
        model.sizes,
        model.activations,
        model.loss_name,
        model.dtype,
    )
    np.testing.assert_array_equal(twin.predict(p.X), model.predict(p.X))
    assert not np.shares_memory(twin.params, model.params)
    for view in [*twin.weights, *twin.biases]:
        assert np.shares_memory(view, twin.params)
        assert not np.shares_memory(view, model.params)
    kept = model.params.copy()
    twin.weights[0][...] = 0
    np.testing.assert_array_equal(model.params, kept)
    assert (twin.predict(p.X) != model.predict(p.X)).any()


def test_repr_is_one_line_that_names_the_parts():
    text = repr(Model([64, 100, 10], ["relu", "softmax"], "cross_entropy", "float32"))
    assert "\n" not in text
    assert text.startswith("Model(")
    for part in ("64", "100", "10", "relu", "softmax", "cross_entropy", "float32"):
        assert part in text


def test_summary():
    text = Model([64, 100, 10], ["tanh", "softmax"], "cross_entropy", "float32").summary()
    assert isinstance(text, str)
    plain = text.replace(",", "").replace("_", "").lower()
    for heading in ("layer", "shape", "activation", "parameters", "bytes"):
        assert heading in plain
    first = next(line for line in plain.splitlines() if "tanh" in line)
    second = next(line for line in plain.splitlines() if "softmax" in line)
    assert "6500" in first
    assert "26000" in first
    assert "1010" in second
    assert "4040" in second
    assert "7510" in plain
    assert "30040" in plain
