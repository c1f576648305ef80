"""Each activation and its derivative, entry by entry, through models that leave nothing else to see."""

import numpy as np
import pytest
import reference
from reference import ACTIVATIONS, SELU, SEPARATE

from fastmlp import CustomActivation, CustomLoss, Model

# Entry by entry, relative to the entry itself or, in far tails, to one: there a network's next sum uses no more figures.
# A rounding of float32 is 6e-8. Values may gather six. Derivatives are made from outputs: 1 - a² loses figures as a
# nears one, and silu's z (1 - sigmoid) multiplies what is lost by z, some ten roundings before both vanish.
CLOSE = {"float64": {"rtol": 1e-14, "atol": 1e-15}, "float32": {"rtol": 4e-7, "atol": 1.2e-7}}
SLOPE = {"float64": {"rtol": 1e-14, "atol": 1e-15}, "float32": {"rtol": 1e-6, "atol": 8e-7}}
Z = np.concatenate(
    [
        np.linspace(-12, 12, 481),
        [-1e4, -750.0, -100.0, -88.0, -40.0, 40.0, 88.0, 100.0, 750.0, 1e4],
        [1e-3, -1e-3, 1e-5, -1e-5, 1e-10, -1e-10, 1e-30, -1e-30, 0.0, -0.0],
    ]
)

AT = {name: np.clip(Z, -80, 80) if name == "exp" else Z for name in SEPARATE}  # beyond, float32 ends


def alone(name, columns, dtype):
    """A layer whose z is its input: the identity's weights, no bias; the loss's gradient by each output is 1/size."""
    return Model.from_weights([np.eye(columns)], [np.zeros(columns)], [name], "mae", dtype=dtype)


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("columns", [1, 17])
@pytest.mark.parametrize("name", SEPARATE)
def test_value_and_derivative(name, columns, dtype):
    z = np.resize(AT[name], (len(Z) // columns + 1, columns)).astype(dtype)
    f, derivative = ACTIVATIONS[name]
    exact = z.astype(np.float64)
    model = alone(name, columns, dtype)
    np.testing.assert_allclose(model.predict(z), f(exact), **CLOSE[dtype])
    below = np.full(z.shape, -1e6)
    got = model.backward(z, below).inputs * z.size
    np.testing.assert_allclose(got, derivative(exact), **SLOPE[dtype])


@pytest.mark.small
@pytest.mark.parametrize("name", SEPARATE)
def test_a_few_values(name):
    z = np.clip([[-3.0, -0.0, 0.5], [0.0, 1e3, -1e3]], -1e3, 80 if name == "exp" else 1e3)
    model = alone(name, 3, "float64")
    np.testing.assert_allclose(model.predict(z), ACTIVATIONS[name][0](z), **CLOSE["float64"])
    got = model.backward(z, np.full((2, 3), -1e6)).inputs * 6
    np.testing.assert_allclose(got, ACTIVATIONS[name][1](z), **SLOPE["float64"])


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("columns", [1, 2, 3, 16, 17, 100])
def test_softmax(columns, dtype):
    rng = np.random.default_rng(0)
    z = (rng.standard_normal((40, columns)) * np.geomspace(1e-3, 1e3, 40)[:, None]).astype(dtype)
    y = (3 * rng.standard_normal(z.shape)).astype(dtype)
    exact = z.astype(np.float64)
    model = alone("softmax", columns, dtype)
    p = model.predict(z)
    np.testing.assert_allclose(p, ACTIVATIONS["softmax"][0](exact), **CLOSE[dtype])
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=2e-15 if dtype == "float64" else 1e-6)
    assert (p >= 0).all()
    want = reference.gradients(z, y, model.weights, model.biases, ["softmax"], "mae").inputs
    np.testing.assert_allclose(model.backward(z, y).inputs * z.size, want * z.size, rtol=0, atol=10 * CLOSE[dtype]["atol"])


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nan_stays_in_its_row(name, dtype):
    z = np.linspace(-2, 2, 33 * 7).reshape(33, 7).astype(dtype)
    model = Model.from_weights([np.eye(7)], [np.zeros(7)], [name], dtype=dtype)
    whole = model.predict(z)
    for row in (0, 15, 32):
        broken = z.copy()
        broken[row, 3] = np.nan
        p = model.predict(broken)
        assert np.isnan(p[row]).all()  # the whole row: NaN * 0 is NaN in each sum
        np.testing.assert_array_equal(np.delete(p, row, axis=0), np.delete(whole, row, axis=0))


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize(
    ("name", "below", "above"),
    [
        ("identity", -np.inf, np.inf),
        ("relu", 0, np.inf),
        ("leaky_relu", -np.inf, np.inf),
        ("elu", -1, np.inf),
        ("selu", -1.7580993408473766, np.inf),
        ("gelu", 0, np.inf),
        ("silu", 0, np.inf),
        ("mish", 0, np.inf),
        ("hardswish", 0, np.inf),
        ("squareplus", 0, np.inf),
        ("exp", 0, np.inf),
        ("softplus", 0, np.inf),
        ("sigmoid", 0, 1),
        ("tanh", -1, 1),
    ],
)
def test_infinities(name, below, above, dtype):
    p = alone(name, 1, dtype).predict(np.array([[-np.inf], [np.inf]]))
    np.testing.assert_array_equal(p, np.array([[below], [above]], dtype))


@pytest.mark.small
@pytest.mark.parametrize(("alias", "name"), [("swish", "silu"), ("logistic", "sigmoid")])
def test_other_names(alias, name):
    model = Model([2, 3, 1], activations=[alias, alias], rng=0)
    assert model.activations == (name, name)
    np.testing.assert_array_equal(model.params, Model([2, 3, 1], activations=[name, name], rng=0).params)
    loss = CustomLoss("own", lambda p, y: p - y, lambda p, y: 1.0, output=alias)
    assert Model([2, 3, 1], loss=loss).activations == ("relu", name)
    with pytest.raises(ValueError, match=f"built-in activation, got '{alias}'"):
        CustomActivation(alias, abs, abs)


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("name", ["squareplus", "hardswish", "mish", "selu"])
def test_huge_numbers(name, dtype):
    """No square, and no product, overflows before the value does."""
    z = np.array([[-1e38, -1e20, 1e20, 1e38]], dtype).T
    np.testing.assert_allclose(
        alone(name, 1, dtype).predict(z), ACTIVATIONS[name][0](z.astype(np.longdouble)), rtol=1e-6, atol=1e-15
    )
    got = alone(name, 1, dtype).backward(z, np.full(z.shape, -3e38)).inputs * z.size
    slope = SELU if name == "selu" else 1.0
    np.testing.assert_allclose(got, [[0], [0], [slope], [slope]], rtol=1e-6, atol=1e-15)
