"""Each loss and its gradient by z at chosen outputs and targets, through layers that pass their input on."""

import copy
import pickle

import numpy as np
import pytest
import reference
from reference import LOSSES, OUTPUT, error

from fastmlp import Model

CLOSE = {"float64": 1e-14, "float32": 1e-6}  # one layer, a mean: a few roundings
E = 1e-8  # the notebook's, inside bce's logarithms


def alone(loss, columns, dtype="float64", output=None):
    output = output or OUTPUT.get(loss, "identity")
    return Model.from_weights([np.eye(columns)], [np.zeros(columns)], [output], loss, dtype=dtype)


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("columns", [1, 2, 7, 16, 33])
@pytest.mark.parametrize("loss", LOSSES)
def test_value_and_gradient(loss, columns, dtype):
    p = reference.problem([columns, columns], [OUTPUT.get(loss, "identity")], loss, rows=19, dtype=dtype)
    p = p._replace(weights=[np.eye(columns)], biases=[np.zeros((1, columns))])
    model, want = alone(loss, columns, dtype), reference.gradients(*p)
    assert error(model.loss(p.X, p.y), want.loss) <= CLOSE[dtype]
    assert error(model.backward(p.X, p.y).loss, want.loss) <= CLOSE[dtype]
    assert error(model.backward(p.X, p.y).inputs, want.inputs, floor=1 / p.X.size) <= CLOSE[dtype]


@pytest.mark.small
@pytest.mark.parametrize(
    ("loss", "z", "y", "value", "gradient"),
    [
        ("mse", 3.0, 1.0, 4.0, 4.0),
        ("mae", 3.0, 1.0, 2.0, 1.0),
        ("mae", 1.0, 3.0, 2.0, -1.0),
        ("mae", 1.0, 1.0, 0.0, 0.0),
        ("huber", 1.5, 1.0, 0.125, 0.5),
        ("huber", 2.0, 1.0, 0.5, 1.0),
        ("huber", 0.0, 1.0, 0.5, -1.0),
        ("huber", 4.0, 1.0, 2.5, 1.0),
        ("huber", -4.0, 1.0, 4.5, -1.0),
        ("bce", 0.0, 1.0, -np.log(0.5 + E), -0.5),
        ("bce", 0.0, 0.25, -np.log(0.5 + E), 0.25),
        ("bce", 800.0, 0.0, -np.log(E), 1.0),  # the epsilon bounds what one sure error costs
        ("bce", -800.0, 1.0, -np.log(E), -1.0),
        ("bce", 800.0, 1.0, -np.log(1 + E), 0.0),
        ("poisson", 0.0, 3.0, 1.0, -2.0),
        ("poisson", np.log(2), 1.0, 2 - np.log(2), 1.0),
        ("poisson", -800.0, 2.0, 1600.0, -2.0),
        ("poisson", -1e4, 0.0, 0.0, 0.0),
    ],
)
@pytest.mark.parametrize("dtype", CLOSE)
def test_by_hand(loss, z, y, value, gradient, dtype):
    model = alone(loss, 1, dtype)
    got = model.backward(np.array([[z]]), np.array([[y]]))
    # A probability next to one makes bce's loss the difference of numbers near one: hence the absolute term.
    assert got.loss == pytest.approx(value, rel=CLOSE[dtype], abs=CLOSE[dtype] / 10)
    assert model.loss(np.array([[z]]), np.array([[y]])) == pytest.approx(got.loss, rel=CLOSE[dtype], abs=1e-15)
    assert got.inputs.item() == pytest.approx(gradient, rel=CLOSE[dtype], abs=1e-15)


@pytest.mark.parametrize("dtype", CLOSE)
def test_cross_entropy_comes_from_the_logits(dtype):
    """Through the probabilities each of these would be log(0)."""
    z = np.array([[0.0, 5000.0, -5000.0], [300.0, 0.0, 0.0], [-1e4, -1e4, -1e4]])
    got = alone("cross_entropy", 3, dtype).backward(z, np.array([0, 1, 2]))
    assert got.loss == pytest.approx((5000 + 300 + np.log(3)) / 3, rel=CLOSE[dtype])
    want = np.array([[-1, 1, 0], [1, -1, 0], [1 / 3, 1 / 3, -2 / 3]]) / 3
    np.testing.assert_allclose(got.inputs, want, atol=CLOSE[dtype])


@pytest.mark.small
@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "int64", "uint64", ">i4", list])
def test_labels_of_any_integer_kind(kind):
    model = alone("cross_entropy", 4)
    X, labels = np.random.default_rng(0).standard_normal((5, 4)), np.array([0, 3, 1, 1, 2])
    given = labels.tolist() if kind is list else labels.astype(kind)
    assert model.loss(X, given) == model.loss(X, labels)
    want = reference.gradients(X, labels, model.weights, model.biases, ["softmax"], "cross_entropy")
    assert error(model.backward(X, given).inputs, want.inputs) <= 1e-14


@pytest.mark.small
def test_labels_equal_rows_with_a_one():
    p = reference.problem([3, 5, 4], ["tanh", "softmax"], "cross_entropy", rows=7)
    model = Model.from_weights(*p[2:])
    labels, rows = model.backward(p.X, p.y), model.backward(p.X, np.eye(4)[p.y])
    assert error(rows.loss, labels.loss) <= 1e-15
    for one, other in zip([*labels.weights, labels.inputs], [*rows.weights, rows.inputs], strict=True):
        assert error(other, one) <= 1e-14
    assert error(model.loss(p.X, np.eye(4, dtype=int)[p.y]), labels.loss) <= 1e-15


@pytest.mark.small
def test_cross_entropy_of_one_class():
    X, model = np.arange(4.0)[:, None], alone("cross_entropy", 1)
    for y in (np.zeros(4, int), np.ones((4, 1))):
        got = model.backward(X, y)
        assert got.loss == 0
        np.testing.assert_array_equal(got.inputs, np.zeros((4, 1)))


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("weight", [1, np.linspace(0, 1, 31)[:, None]], ids=["sum to 1", "do not"])
def test_cross_entropy_of_soft_rows(weight, dtype):
    rng = np.random.default_rng(0)
    p = reference.problem([6, 17, 10], ["tanh", "softmax"], "cross_entropy", rows=31, dtype=dtype)
    p = p._replace(y=(weight * rng.dirichlet(np.full(10, 0.3), size=31)).astype(dtype))
    got, want = Model.from_weights(*p[2:]).backward(p.X, p.y), reference.gradients(*p)
    assert error(got.loss, want.loss) <= reference.BOUND[dtype]
    assert error(got.inputs, want.inputs) <= reference.BOUND[dtype]


@pytest.mark.small
@pytest.mark.parametrize("loss", ["bce", "mse", "mae", "huber", "poisson"])
def test_a_vector_of_targets_is_a_column(loss):
    p = reference.problem([3, 4, 1], ["tanh", OUTPUT.get(loss, "identity")], loss, rows=5)
    model = Model.from_weights(*p[2:])
    column, vector = model.backward(p.X, p.y), model.backward(p.X, p.y[:, 0])
    assert vector.loss == column.loss == model.backward(p.X, p.y[:, 0].tolist()).loss
    np.testing.assert_array_equal(vector.inputs, column.inputs)
    assert model.fit(p.X, p.y[:, 0])["loss"] == Model.from_weights(*p[2:]).fit(p.X, p.y)["loss"]


@pytest.mark.small
@pytest.mark.parametrize("loss", ["bce", "mse"])
@pytest.mark.parametrize("kind", [bool, "int8", "int64", "float16", "float32"])
def test_targets_of_any_real_kind(loss, kind):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((9, 3)), rng.integers(0, 2, (9, 3))
    model = alone(loss, 3)
    assert model.loss(X, y.astype(kind)) == model.loss(X, y.astype(float))


@pytest.mark.parametrize("dtype", CLOSE)
def test_poisson_of_rates_is_that_of_their_logarithms(dtype):
    """mean(p - y log(p)), and its gradient (1 - y / p) dp/dz = p - y; but of z, so that a rate of 0 has a finite loss."""
    p = reference.problem([3, 7, 2], ["tanh", "identity"], "poisson", rows=19, dtype=dtype)
    logs, rates = Model.from_weights(*p[2:]), Model.from_weights(*p[2:4], ["tanh", "exp"], "poisson")
    assert rates.loss(p.X, p.y) == logs.loss(p.X, p.y)
    np.testing.assert_array_equal(rates.backward(p.X, p.y).inputs, logs.backward(p.X, p.y).inputs)
    predicted = rates.predict(p.X)
    np.testing.assert_allclose(predicted, np.exp(logs.predict(p.X)), rtol=1e-6 if dtype == "float32" else 1e-14)
    assert rates.loss(p.X, p.y) == pytest.approx(np.mean(predicted - p.y * np.log(predicted)), rel=CLOSE[dtype])
    assert alone("poisson", 1, dtype, "exp").loss([[-1e4]], [[1.0]]) == 1e4


@pytest.mark.small
def test_poisson_learns_a_rate():
    y = np.array([0, 2, 1, 5, 0, 4])
    model = Model.from_weights([np.zeros((1, 1))], [np.zeros(1)], ["exp"], "poisson")
    model.fit(np.zeros((6, 1)), y, 300, lr=0.2)
    np.testing.assert_allclose(model.predict([[0.0]]), [[2.0]], rtol=1e-10)


@pytest.mark.small
@pytest.mark.parametrize(("y", "got"), [([-1, 2], "-1"), ([0.0, -1e-9], "-1e-09"), ([np.nan, 1.0], "nan")])
def test_poissons_targets_are_not_negative(y, got):
    with pytest.raises(ValueError, match=f"y must be at least 0 for loss='poisson', got {got}"):
        alone("poisson", 1).loss([[0.0], [0.0]], y)
    with pytest.raises(ValueError, match=f"at least 0 for loss='poisson', got {got}"):
        alone("poisson", 1).loss(np.zeros((200, 1)), y * 100)
    with pytest.raises(ValueError, match="activations must end in 'identity' or 'exp' for loss='poisson', got 'tanh'"):
        alone("poisson", 1, output="tanh")


@pytest.mark.small
@pytest.mark.parametrize("loss", LOSSES)
def test_a_copied_model_has_the_same_loss(loss):
    model = alone(loss, 2)
    assert pickle.loads(pickle.dumps(model)).network == copy.deepcopy(model).network == model.network


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
@pytest.mark.filterwarnings("ignore:the loss was:RuntimeWarning")
def test_a_target_of_nan_reaches_the_loss(loss):
    y = np.zeros((17, 3))
    y[16, 2] = np.nan
    assert np.isnan(alone(loss, 3).loss(np.ones((17, 3)), y))
    assert np.isnan(alone(loss, 3).fit(np.ones((17, 3)), y, batch_size=4)["loss"][0])
