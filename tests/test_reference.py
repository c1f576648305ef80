"""The oracle is checked by what does not depend on it: central differences, closed forms, printed figures."""

from functools import partial
from itertools import product

import numpy as np
import pytest
import reference
from reference import (
    ACTIVATIONS,
    ELEMENTWISE,
    HIDDEN,
    LOSSES,
    OUTPUT,
    SEPARATE,
    adam_step,
    central_differences,
    error,
    sgd_step,
)

pytestmark = pytest.mark.small

Z = np.array([[-30.0, -2.5, -0.5, 0.25, 1.0, 2.0, 30.0]])


def test_combinations_leave_none_out():
    hidden, outputs, losses = zip(*reference.combinations(), strict=True)
    assert set(hidden) == set(HIDDEN)
    assert set(outputs) == set(ACTIVATIONS)
    assert set(losses) == set(LOSSES)
    assert {(o, loss) for _, o, loss in reference.combinations()} == {(o, loss) for loss, o in OUTPUT.items()} | set(
        product(ACTIVATIONS, ELEMENTWISE)
    )


def test_notebook_prints_its_five_losses():
    _, losses = reference.notebook()
    assert [f"{losses[epoch]:.4f}" for epoch in range(0, 1000, 200)] == [
        "0.6932",
        "0.5338",
        "0.4804",
        "0.4786",
        "0.4781",
    ]


def test_notebook_is_a_case_of_train():
    X, y, W1, b1, W2, b2 = reference.notebook_data()
    (W1_, b1_, W2_, b2_), losses = reference.notebook(epochs=200)
    step = partial(sgd_step, lr=0.1)
    got = reference.train(X, y, [W1, W2], [b1, b2], ["relu", "sigmoid"], "bce", step, epochs=200)
    assert error(reference.flat(got.weights, got.biases), reference.flat([W1_, W2_], [b1_, b2_])) < 1e-13
    assert error(got.losses, losses) < 1e-14


@pytest.mark.parametrize("name", SEPARATE)
def test_derivative_is_the_slope(name):
    f, derivative = ACTIVATIONS[name]
    slope = (f(Z + 1e-6) - f(Z - 1e-6)) / 2e-6
    np.testing.assert_allclose(derivative(Z), slope, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "z", "value"),
    [  # from tables, not from this file's formulas
        ("elu", -1.0, -0.6321205588285577),
        ("gelu", 1.0, 0.8413447460685429),
        ("gelu", -1.0, -0.15865525393145707),
        ("silu", 1.0, 0.7310585786300049),
        ("softplus", 0.0, 0.6931471805599453),
        ("sigmoid", -2.0, 0.11920292202211755),
        ("tanh", 0.5, 0.46211715726000975),
        ("leaky_relu", -2.0, -0.02),
        ("relu", -2.0, 0.0),
        ("identity", -2.0, -2.0),
        ("selu", 1.0, 1.0507009873554805),
        ("selu", -1.0, -1.1113307378125625),
        ("mish", 1.0, 0.8650983882673103),
        ("mish", -1.0, -0.3034014613741089),
        ("hardswish", 1.0, 2 / 3),
        ("hardswish", -1.0, -1 / 3),
        ("squareplus", 0.0, 1.0),
        ("squareplus", 1.5, 2.0),
        ("exp", 1.0, 2.718281828459045),
    ],
)
def test_known_values(name, z, value):
    assert ACTIVATIONS[name][0](np.array([[z]])) == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize(
    ("name", "at_zero"),
    [("relu", 0), ("leaky_relu", 0.01), ("elu", 1), ("gelu", 0.5), ("silu", 0.5), ("softplus", 0.5), ("tanh", 1)],
)
def test_derivative_at_zero(name, at_zero):
    assert ACTIVATIONS[name][1](np.zeros((1, 1))) == at_zero


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "exp"])
def test_activation_is_stable_and_passes_nan(name):
    f = ACTIVATIONS[name][0]
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert np.isfinite(f(np.array([[-1e4, 0.0, 1e4]]))).all()
    assert np.isnan(f(np.array([[np.nan]]))).all()


def test_softmax_rows_are_distributions():
    p = ACTIVATIONS["softmax"][0](np.array([[1.0, 2.0, 3.0], [1e4, 0.0, -1e4]]))
    np.testing.assert_allclose(p, [np.exp([1, 2, 3]) / np.exp([1, 2, 3]).sum(), [1, 0, 0]], rtol=1e-15)


def test_losses_at_points_worked_by_hand():
    p, y = np.array([[0.5, 3.0], [1.0, -2.0]]), np.array([[0.5, 1.0], [0.0, 0.0]])  # errors 0, 2, 1, -2
    assert LOSSES["mse"][0](p, y) == 9 / 4
    assert LOSSES["mae"][0](p, y) == 5 / 4
    assert LOSSES["huber"][0](p, y) == (0 + 1.5 + 0.5 + 1.5) / 4
    np.testing.assert_array_equal(4 * LOSSES["mse"][1](p, y), [[0, 4], [2, -4]])
    np.testing.assert_array_equal(4 * LOSSES["mae"][1](p, y), [[0, 1], [1, -1]])
    np.testing.assert_array_equal(4 * LOSSES["huber"][1](p, y), [[0, 1], [1, -1]])
    half = np.array([[0.5]])
    assert LOSSES["bce"][0](half, np.ones((1, 1))) == pytest.approx(np.log(2), abs=3e-8)  # the notebook's epsilon
    assert LOSSES["bce"][0](np.zeros((1, 1)), np.ones((1, 1))) == pytest.approx(-np.log(1e-8))
    assert LOSSES["cross_entropy"][0](np.zeros((5, 4)), np.eye(4)[[0, 1, 2, 3, 0]]) == pytest.approx(np.log(4))
    assert LOSSES["cross_entropy"][0](np.array([[1e4, 0.0]]), np.array([[0.0, 1.0]])) == 1e4


@pytest.mark.parametrize(("hidden", "output", "loss"), reference.combinations())
def test_gradients_are_the_slopes_of_the_loss(hidden, output, loss):
    p = reference.problem_away_from_kinks([3, 4, 2], [hidden, output], loss, rows=3)

    def f():
        return reference.gradients(*p).loss

    got = reference.gradients(*p)
    for array, gradient in zip([*p.weights, *p.biases, p.X], [*got.weights, *got.biases, got.inputs], strict=True):
        # bce's gradient leaves its epsilon out: 1e-8 / p, with no p below 0.1 here.
        assert error(gradient, central_differences(f, array)) < (3e-7 if loss == "bce" else 1e-8)


def test_labels_equal_rows_with_a_one():
    p = reference.problem([3, 5, 4], ["relu", "softmax"], "cross_entropy", rows=6)
    labels, rows = reference.gradients(*p), reference.gradients(*p._replace(y=np.eye(4)[p.y]))
    assert labels.loss == rows.loss
    np.testing.assert_array_equal(labels.inputs, rows.inputs)


def test_cross_entropy_of_rows_that_do_not_sum_to_one():
    p = reference.problem([3, 4], ["softmax"], "cross_entropy", rows=5)
    p = p._replace(y=np.random.default_rng(1).uniform(size=(5, 4)))
    slope = central_differences(lambda: reference.gradients(*p).loss, p.weights[0])
    assert error(reference.gradients(*p).weights[0], slope) < 1e-8


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("output", ["tanh", "softmax"])
def test_a_pulled_gradient_is_the_slope(output, logits):
    """Of sum(G * outputs), and of sum(G * z)."""
    p = reference.problem([3, 5, 4], ["tanh", output], "mse", rows=6)
    G = np.random.default_rng(1).standard_normal((6, 4))
    zs, active = reference.layers(p.X, *p[2:5])
    got = reference.pulled(p.X, G, *p[2:5], logits)
    assert got.loss == pytest.approx(np.sum(G * (zs if logits else active)[-1]), rel=1e-14)
    arrays = [*p.weights, *p.biases, p.X]
    for slope, array in zip([*got.weights, *got.biases, got.inputs], arrays, strict=True):
        want = central_differences(lambda: reference.pulled(p.X, G, *p[2:5], logits).loss, array)
        assert error(slope, want) < 1e-8


def test_a_vector_of_targets_is_a_column():
    p = reference.problem([3, 1], ["identity"], "mse", rows=5)
    assert reference.gradients(*p._replace(y=p.y[:, 0])).loss == reference.gradients(*p).loss


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("loss", list(LOSSES))
def test_nan_reaches_the_loss(hidden, loss):
    p = reference.problem([3, 4, 2], [hidden, OUTPUT.get(loss, "identity")], loss, rows=3)
    p.X[1, 1] = np.nan
    assert np.isnan(reference.gradients(*p).loss)


def test_sgd_by_hand():
    p, g = [np.array([1.0])], [np.array([0.5])]
    assert sgd_step(p, g, {}, lr=0.1)[0] == [0.95]
    assert sgd_step(p, g, {}, lr=0.1, weight_decay=0.2)[0][0] == pytest.approx(1 - 0.1 * 0.7)
    once, state = sgd_step(p, g, {}, lr=0.1, momentum=0.5)
    twice, _ = sgd_step(once, g, state, lr=0.1, momentum=0.5)
    assert once == [0.95]
    assert twice[0] == pytest.approx(0.95 - 0.1 * (0.25 + 0.5))
    ahead, state = sgd_step(p, g, {}, lr=0.1, momentum=0.5, nesterov=True)
    assert ahead[0] == pytest.approx(1 - 0.1 * (0.5 + 0.25))
    ahead, _ = sgd_step(ahead, g, state, lr=0.1, momentum=0.5, nesterov=True)
    assert ahead[0] == pytest.approx(0.925 - 0.1 * (0.5 + 0.5 * 0.75))


def test_adam_by_hand():
    p, g = [np.array([1.0])], [np.array([0.5])]
    # The first step's corrected moments are g and g², whatever the betas: the step is lr g / (|g| + epsilon).
    assert adam_step(p, g, {}, lr=0.1, epsilon=0.25)[0][0] == pytest.approx(1 - 0.1 * 0.5 / 0.75)
    once, state = adam_step(p, g, {}, lr=0.1, beta1=0.5, beta2=0.75, epsilon=0)
    twice, state = adam_step(once, [np.array([-1.0])], state, lr=0.1, beta1=0.5, beta2=0.75, epsilon=0)
    m, v = (0.5 * 0.25 - 0.5) / 0.75, (0.75 * 0.25 * 0.25 + 0.25) / (1 - 0.75**2)
    assert twice[0] == pytest.approx(0.9 - 0.1 * m / np.sqrt(v))
    assert state["t"] == 2
    decayed = adam_step(p, [np.zeros(1)], {}, lr=0.1, weight_decay=0.5, epsilon=0.5)[0][0]
    assert decayed == pytest.approx(1 - 0.1 * 0.5 / (0.5 + 0.5))


@pytest.mark.parametrize("step", [sgd_step, adam_step])
def test_steps_leave_their_arguments(step):
    params, grads = [np.ones(3)], [np.full(3, 0.5)]
    _, state = step(params, grads, {})
    kept = state["v"][0].copy()
    step(params, grads, state)
    assert (params[0] == 1).all()
    assert (grads[0] == 0.5).all()
    assert (state["v"][0] == kept).all()


def test_train_cuts_batches_and_weighs_their_losses_by_rows():
    p = reference.problem([2, 3, 1], ["tanh", "identity"], "mse", rows=5)
    nothing = partial(sgd_step, lr=0.0)
    whole = reference.gradients(*p).loss
    for batch_size in (1, 2, 3, 5, 7, None):
        got = reference.train(*p, nothing, epochs=2, batch_size=batch_size)
        assert got.losses == pytest.approx([whole, whole], rel=1e-14)
    order = np.array([[4, 3, 2, 1, 0], [0, 2, 4, 1, 3]])
    step = partial(adam_step, lr=0.1)
    once = reference.train(*p, step, epochs=2, batch_size=2, order=order)
    first = reference.train(*p._replace(X=p.X[order[0]], y=p.y[order[0]]), step, epochs=1, batch_size=2)
    second = p._replace(X=p.X[order[1]], y=p.y[order[1]], weights=first.weights, biases=first.biases)
    second = reference.train(*second, step, epochs=1, batch_size=2, state=first.state)
    assert once.losses == first.losses + second.losses
    assert once.state["t"] == 6
    np.testing.assert_array_equal(once.weights[0], second.weights[0])
