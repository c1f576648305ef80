"""Rows with weights: a row of weight 3 is three rows, of weight 0 none."""

import numpy as np
import pytest
import reference
from reference import BOUND, LOSSES, OUTPUT, error
from reference_update import PATHS, path_problem, train, weighted_gradients

from fastmlp import SGD, Adam, CustomLoss, Model
from fastmlp.engine.state import Job

SQUARE = CustomLoss("square", lambda p, y: (p - y) ** 2, lambda p, y: 2 * (p - y))


def of(p, **options):
    return Model.from_weights(*p[2:5], **{"loss": p.loss, **options})


def with_weights(model, X, y, weights):
    """The engine's arrays, and the loss's code for such a y."""
    X, y, code = model._data(X, y)
    return X, np.column_stack([y, weights]).astype(y.dtype), code


def fit(model, X, y, weights, epochs=1, batch=None, optimizer=None, shuffle=None, dropout=0):
    X, y, code = with_weights(model, X, y, weights)
    losses = np.zeros(epochs)
    order = None if shuffle is None else np.arange(len(X))
    how = {"order": order, "shuffle": order is not None, "seed": shuffle or 0, "dropout": dropout}
    job = Job(X, y, code, optimizer or SGD(0.1), batch or len(X), weighted=True, **how)
    model._engine.train(job, losses, lambda done: None)
    return losses.tolist()


def loss_of(model, X, y, weights):
    return model._engine.loss(*with_weights(model, X, y, weights), weighted=True)


def as_rows(p):
    """The labels of a cross-entropy problem as rows of probabilities, all of them above zero."""
    rows = np.eye(p.weights[-1].shape[1])[p.y] + 0.1
    return p._replace(y=rows / rows.sum(axis=1, keepdims=True))


def problems(path, dtype="float64"):
    """One for each loss; of cross-entropy, with labels and with rows."""
    for loss in LOSSES:
        p = path_problem(path, loss, dtype=dtype)
        yield p
        if loss == "cross_entropy":
            yield as_rows(p)


def counts(rows):
    return np.random.default_rng(rows).integers(0, 4, rows)


# ---- repetition ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("path", PATHS)
def test_a_whole_weight_is_so_many_rows(path, dtype):
    """A full batch of the repeated rows: those of weight 0 are not there, and hold large numbers."""
    for p in problems(path, dtype):
        n = counts(len(p.X))
        X, y = p.X.copy(), p.y.copy()
        X[n == 0] *= 1e3
        if p.loss not in OUTPUT:
            y[n == 0] = 1e30
        weighted, repeated, plain = of(p), of(p), of(p)
        want = repeated.fit(np.repeat(p.X, n, axis=0), np.repeat(p.y, n, axis=0), 3, lr=0.1)["loss"]
        assert error(loss_of(weighted, X, y, n), want[0]) <= BOUND[dtype]
        assert error(fit(weighted, X, y, n, 3), want) <= BOUND[dtype]
        assert error(weighted.params, repeated.params) <= BOUND[dtype]
        plain.fit(p.X, p.y, 3, lr=0.1)
        if p.loss != "cross_entropy" or PATHS[path][0][-1] > 1:  # there is nothing to learn of a single class
            assert error(plain.params, repeated.params) > 10 * BOUND[dtype]


@pytest.mark.small
@pytest.mark.parametrize("outputs", [1, 2, 3])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_tiny_net(loss, outputs):
    p = reference.problem([2, 3, outputs], ["tanh", OUTPUT.get(loss, "identity")], loss, rows=5)
    n = np.array([2, 0, 1, 3, 1])
    weighted, repeated = of(p), of(p)
    want = repeated.fit(np.repeat(p.X, n, axis=0), np.repeat(p.y, n, axis=0), 2, lr=0.1)["loss"]
    assert error(loss_of(weighted, p.X, p.y, n), want[0]) <= 1e-14
    assert error(fit(weighted, p.X, p.y, n, 2), want) <= 1e-14
    assert error(weighted.params, repeated.params) <= 1e-14


# ---- against the oracle ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_real_weights_and_minibatches_equal_the_oracle(path):
    weights = np.random.default_rng(0).exponential(size=PATHS[path][1])
    weights[::5] = 0
    for p in problems(path):
        optimizer, batch = SGD(0.1, momentum=0.5, l2=0.1, clip_norm=1.0), PATHS[path][2]
        model, want = of(p), train(p, optimizer, 2, batch, row_weights=weights)
        assert error(fit(model, p.X, p.y, weights, 2, batch, optimizer), want.losses) <= 1e-12
        assert error(model.params, want.params) <= 1e-12


@pytest.mark.parametrize("path", PATHS)
def test_equal_weights_are_none(path):
    """Whatever they are equal to: the loss is a mean."""
    for p in problems(path):
        for weight in (1.0, 7.0, 1e-3):
            weighted, plain, batch = of(p), of(p), PATHS[path][2]
            losses = plain.fit(p.X, p.y, 2, batch, lr=0.1, shuffle=False)["loss"]
            weights = np.full(len(p.X), weight)
            assert error(loss_of(weighted, p.X, p.y, weights), weighted.loss(p.X, p.y)) <= 1e-13
            assert error(fit(weighted, p.X, p.y, weights, 2, batch), losses) <= 1e-12
            assert error(weighted.params, plain.params) <= 1e-12


@pytest.mark.parametrize("path", ["small", "strips", "groups"])
def test_shuffled_rows_keep_their_weights(path):
    """With a batch of one row a weight changes nothing, unless it is 0: then the row is left out, wherever it comes."""
    p = path_problem(path)
    X, y, n = p.X[:40], p.y[:40].copy(), np.tile([0, 1, 2, 0, 5], 8)[: len(p.X)]
    y[n == 0] = 1e200
    weighted, again = of(p), of(p)
    losses = fit(weighted, X, y, n, 3, 1, SGD(0.01), shuffle=4)
    assert np.isfinite(losses).all()
    assert np.isfinite(weighted.params).all()
    y[n == 0] = -3.0
    assert fit(again, X, y, n, 3, 1, SGD(0.01), shuffle=4) == losses
    np.testing.assert_array_equal(again.params, weighted.params)
    other = of(p)
    fit(other, X, y, n, 3, 1, SGD(0.01), shuffle=5)
    assert other.params.tobytes() != weighted.params.tobytes()


def test_with_dropout():
    """The masks are those of the rows' places, whatever their weights."""
    p = path_problem("small")
    ones, none = np.ones(len(p.X)), of(p, dropout=0.4)
    plain = of(p, dropout=0.4)
    losses = np.zeros(2)
    plain._engine.train(Job(p.X, p.y, plain._code, SGD(0.1), 16, dropout=9), losses, lambda done: None)
    assert error(fit(none, p.X, p.y, ones, 2, 16, dropout=9), losses) <= 1e-14
    assert error(none.params, plain.params) <= 1e-14


# ---- in single calls -------------------------------------------------------------------------------------------------


def flat(found):
    """A loss and all gradients as one vector."""
    arrays = [*found.weights, *found.biases, found.inputs]
    return np.concatenate([[found.loss], *(np.ravel(array) for array in arrays)])


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("path", PATHS)
def test_single_calls_weigh_as_fits_do(path, dtype):
    """To the bit; and a weight of 3 is three rows."""
    for p in problems(path, dtype):
        n = counts(len(p.X))
        X, y = np.repeat(p.X, n, axis=0), np.repeat(p.y, n, axis=0)
        repeated = of(p).backward(X, y)
        model, fitted, optimizer = of(p), of(p), Adam(0.01, clip_norm=0.5, l2=0.1)
        got = model.backward(p.X, p.y, sample_weight=n)
        assert error(got.loss, repeated.loss) <= BOUND[dtype]
        assert error(got.weights[0], repeated.weights[0], floor=1e-3) <= BOUND[dtype]
        assert error(got.inputs.sum(axis=0), repeated.inputs.sum(axis=0), floor=1e-3) <= BOUND[dtype]
        loss, vector = model.gradient(p.X, p.y, sample_weight=n)
        assert loss == got.loss
        np.testing.assert_array_equal(vector, reference.flat(got.weights, got.biases))
        assert error(model.loss(p.X, p.y, sample_weight=n), loss) <= BOUND[dtype]
        for _ in range(2):
            loss = model.step(p.X, p.y, optimizer=optimizer, sample_weight=n)
            assert fitted.fit(p.X, p.y, optimizer=optimizer, sample_weight=n)["loss"] == [loss]
            np.testing.assert_array_equal(model.params, fitted.params)


@pytest.mark.parametrize("path", PATHS)
def test_negative_weights_equal_the_oracle(path):
    weights = np.random.default_rng(0).standard_normal(PATHS[path][1])
    weights[::5] = 0
    optimizer = SGD(0.1, momentum=0.5, l2=0.1, clip_norm=1.0)
    for p in problems(path):
        model, want = of(p), train(p, optimizer, 2, row_weights=weights)
        shares = weights / np.abs(weights).sum()
        assert error(model.loss(p.X, p.y, sample_weight=weights), model.backward(p.X, p.y, sample_weight=weights).loss) <= 1e-12
        start = weighted_gradients(p.X, p.y, *p[2:], shares, [1.0] * (len(p.weights) - 1))
        got = model.backward(p.X, p.y, sample_weight=weights)
        assert error(flat(got), flat(start), floor=1e-3) <= 1e-12
        losses = [model.step(p.X, p.y, optimizer=optimizer, sample_weight=weights) for _ in range(2)]
        assert error(losses, want.losses, floor=1) <= 1e-12
        assert error(model.params, want.params) <= 1e-12


@pytest.mark.small
@pytest.mark.parametrize("loss", LOSSES)
def test_the_mean_of_signed_weights(loss):
    """Over the sum of their sizes, also where their sum is 0; minus a weight is minus all that it does."""
    p = reference.problem([2, 3, 2], ["tanh", OUTPUT.get(loss, "identity")], loss, rows=5)
    model, w = of(p), np.array([2.0, -1.0, 0.5, 0.0, -1.5])
    assert w.sum() == 0
    rows = [flat(model.backward(p.X[i : i + 1], p.y[i : i + 1])) for i in range(5)]
    got, minus = (model.backward(p.X, p.y, sample_weight=sign * w) for sign in (1, -1))
    size = np.abs(w).sum()
    assert got.loss == pytest.approx(sum(wi * row[0] for wi, row in zip(w, rows, strict=True)) / size, rel=1e-13)
    parameters = model.params.size
    want = sum(wi * row[1 : 1 + parameters] for wi, row in zip(w, rows, strict=True)) / size
    assert error(flat(got)[1 : 1 + parameters], want) <= 1e-13
    for i, (wi, row) in enumerate(zip(w, rows, strict=True)):
        assert error(got.inputs[i], wi * row[1 + parameters :] / size) <= 1e-13
    np.testing.assert_array_equal(flat(minus), -flat(got))
    loss, g = model.gradient(p.X, p.y, sample_weight=-np.ones(5))
    plain, plain_g = model.gradient(p.X, p.y)
    assert loss == pytest.approx(-plain, rel=1e-14)
    assert error(g, -plain_g) <= 1e-14


@pytest.mark.small
@pytest.mark.parametrize("dtype", BOUND)
def test_a_loss_of_the_users_own(dtype):
    p = reference.problem([3, 5, 2], ["tanh", "identity"], "mse", rows=6, dtype=dtype)
    own, built_in, w = of(p, loss=SQUARE), of(p), np.array([3, -2, 0, 1.5, 1, -0.5])
    for _ in range(3):
        got, want = (model.step(p.X, p.y, lr=0.1, sample_weight=w) for model in (own, built_in))
        assert error(got, want) <= BOUND[dtype]
        assert error(own.params, built_in.params) <= BOUND[dtype]
    assert (
        error(flat(own.backward(p.X, p.y, sample_weight=w)), flat(built_in.backward(p.X, p.y, sample_weight=w))) <= BOUND[dtype]
    )


@pytest.mark.small
@pytest.mark.parametrize("loss", LOSSES)
def test_weights_of_zero_are_no_gradient(loss):
    p = reference.problem([2, 3, 1], ["tanh", OUTPUT.get(loss, "identity")], loss, rows=4)
    model = of(p)
    assert model.loss(p.X, p.y, sample_weight=np.zeros(4)) == 0
    np.testing.assert_array_equal(flat(model.backward(p.X, p.y, sample_weight=[0, 0, -0.0, 0])), 0)
    assert model.step(p.X, p.y, lr=0.1, sample_weight=np.zeros(4, int)) == 0
    np.testing.assert_array_equal(model.params, of(p).params)


@pytest.mark.small
def test_a_step_of_the_same_size_may_have_other_weights():
    """What a step keeps ready for the next one is not what it was weighed with."""
    p = reference.problem([3, 20, 2], ["tanh", "identity"], "mse", rows=6)
    model = of(p)
    for w in ([1.0, 0, 0, 0, 0, 0], None, [0, 0, -2.0, 0, 0, 3], None, [1.0] * 6):
        twin = model.copy()
        want, g = twin.gradient(p.X, p.y, sample_weight=w)
        twin.apply_gradient(g, lr=0.1)
        assert model.step(p.X, p.y, lr=0.1, sample_weight=w) == pytest.approx(want, rel=1e-13)
        assert error(model.params, twin.params) <= 1e-14


# ---- nothing to learn from -------------------------------------------------------------------------------------------


@pytest.mark.small
@pytest.mark.parametrize("sizes", [(2, 3, 1), (3, 20, 2)], ids=str)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_of_zeros_moves_nothing_but_the_moments(loss, sizes):
    p = reference.problem(sizes, ["tanh", OUTPUT.get(loss, "identity")], loss, rows=6)
    model = of(p)
    assert loss_of(model, p.X, p.y, np.zeros(6)) == 0
    assert fit(model, p.X, p.y, np.zeros(6), 2) == [0, 0]
    np.testing.assert_array_equal(model.params, of(p).params)
    optimizer = SGD(0.125, momentum=0.5)
    fit(model, p.X, p.y, np.ones(6), 1, optimizer=optimizer)
    moved = model.params - of(p).params
    fit(model, p.X, p.y, np.zeros(6), 1, optimizer=optimizer)
    np.testing.assert_allclose(model.params - of(p).params, 1.5 * moved, rtol=1e-12, atol=1e-16)


@pytest.mark.small
@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_an_infinite_loss_of_weight_0_does_not_count(loss):
    p = reference.problem([2, 3, 2], ["tanh", "identity"], loss, rows=4)
    model, other = of(p), of(p)
    p.y[2] = [np.inf, np.nan]
    weights = np.array([1, 1, 0, 1])
    assert np.isfinite(loss_of(model, p.X, p.y, weights))
    losses = fit(model, p.X, p.y, weights, 2)
    p.y[2] = 0
    assert fit(other, p.X, p.y, weights, 2) == losses
    np.testing.assert_array_equal(model.params, other.params)
    assert np.isnan(fit(of(p), p.X, np.full_like(p.y, np.nan), weights)).all()


@pytest.mark.small
def test_other_calls_know_of_no_weights():
    """A weighted call leaves nothing behind that the next would take for its own."""
    p = reference.problem([3, 20, 2], ["tanh", "identity"], "mse", rows=6)
    model, plain = of(p), of(p)
    for call in (
        lambda m: m.loss(p.X, p.y),
        lambda m: m.gradient(p.X, p.y)[1].tobytes(),
        lambda m: m.step(p.X, p.y, lr=0.1),
        lambda m: m.fit(p.X, p.y, 2, 4, optimizer=Adam(), rng=0)["loss"],
        lambda m: m.predict(p.X).tobytes(),
    ):
        loss_of(model, p.X, p.y, np.arange(6))
        fit(model, p.X, p.y, np.zeros(6), 1, optimizer=SGD(0.1))
        assert call(model) == call(plain)
        np.testing.assert_array_equal(model.params, plain.params)
