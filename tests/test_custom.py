"""Users' own activations and losses: those that say the same as built-in ones do the same, wherever those are used."""

import copy
import math
import pickle
import sys

import numpy as np
import pytest
import reference
from numba import njit
from reference import BOUND, error
from reference_update import PATHS, path_problem

import fastmlp
from fastmlp import SGD, Adam, CustomActivation, CustomLoss, Model
from fastmlp.engine.state import Job
from fastmlp.kernels.machine.interpreted import INTERPRETED


def tanh(z):
    return math.tanh(z)


def tanh_slope(z):
    return 1 - math.tanh(z) ** 2


def square(p, y):
    return (p - y) ** 2


def square_slope(p, y):
    return 2 * (p - y)


TANH, SQUARE = CustomActivation("my tanh", tanh, tanh_slope), CustomLoss("my mse", square, square_slope)
compiled = pytest.mark.skipif(INTERPRETED, reason="nothing is compiled")


def pair(p, **options):
    """The built-in network, and the same of users' functions."""
    names = [TANH if name == "tanh" else name for name in p.activations]
    custom = Model.from_weights(p.weights, p.biases, names, SQUARE if p.loss == "mse" else p.loss, **options)
    return Model.from_weights(*p[2:], **options), custom


# ---- the same as the built-in ones -----------------------------------------------------------------------------------


def agree(p, batch, optimizer, bound, **options):
    built_in, custom = pair(p, **options)
    losses = built_in.fit(p.X, p.y, 3, batch, optimizer=optimizer, rng=1)["loss"]
    assert error(custom.fit(p.X, p.y, 3, batch, optimizer=optimizer, rng=1)["loss"], losses) <= bound
    assert error(custom.params, built_in.params) <= bound
    assert error(custom.predict(p.X), built_in.predict(p.X)) <= bound
    assert error(custom.loss(p.X, p.y), built_in.loss(p.X, p.y)) <= bound
    got, want = custom.backward(p.X, p.y), built_in.backward(p.X, p.y)
    for one, other in zip((*got.weights, *got.biases, got.inputs), (*want.weights, *want.biases, want.inputs), strict=True):
        assert error(one, other, floor=1e-3) <= 10 * bound
    assert error(custom.step(p.X, p.y, optimizer=optimizer), built_in.step(p.X, p.y, optimizer=optimizer)) <= bound


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("loss", ["mse", "bce", "cross_entropy"])
@pytest.mark.parametrize("path", PATHS)
def test_trainings_are_those_of_the_built_in_ones(path, loss, dtype):
    agree(path_problem(path, loss, dtype=dtype), PATHS[path][2], SGD(0.1), BOUND[dtype])


@pytest.mark.parametrize("path", ["small", "strips", "groups"])
def test_with_dropout_and_the_whole_gradient(path):
    agree(path_problem(path), PATHS[path][2], Adam(0.01, l2=0.1, clip_norm=0.1), 1e-11, dropout=0.3)


@pytest.mark.small
@pytest.mark.parametrize("sizes", [(2, 3, 1), (3, 20, 2)], ids=str)
@pytest.mark.parametrize("dtype", BOUND)
def test_a_tiny_training(sizes, dtype):
    agree(reference.problem(sizes, ["tanh", "identity"], "mse", 5, dtype=dtype), 3, SGD(0.1), BOUND[dtype])


@pytest.mark.small
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_in_each_place(layer):
    """On the output too, and beside activations that are kept by their outputs."""
    p = reference.problem([3, 20, 7, 2], ["sigmoid", "gelu", "sigmoid"], "huber", 5)
    p.activations[layer] = "tanh"
    agree(p, 3, SGD(0.1), 1e-12)


@pytest.mark.parametrize("path", ["small", "strips", "groups"])
def test_rows_with_weights(path):
    p, models, n = path_problem(path), [], np.arange(PATHS[path][1]) % 3
    for model in pair(p):
        model._engine.train(
            Job(p.X, np.column_stack([p.y, n]), model._code, SGD(0.1), len(p.X), weighted=True), np.zeros(3), lambda done: None
        )
        models.append(model)
    assert error(models[1].params, models[0].params) <= 1e-12
    assert error(models[1].params, reference.flat(p.weights, p.biases)) > 1e-3


@pytest.mark.skipif(INTERPRETED, reason="without compiled code there is one thread")
@pytest.mark.parametrize("path", ["strips", "blocks", "groups"])
def test_bits_do_not_depend_on_the_number_of_threads(path, all_share):
    p = path_problem(path)
    bits = set()
    for count in (1, 2, 3):
        fastmlp.set_num_threads(count)
        model = pair(p, dropout=0.2)[1]
        losses = model.fit(p.X, p.y, 2, PATHS[path][2], lr=0.1, rng=1)["loss"]
        bits.add((model.params.tobytes(), *losses))
    assert len(bits) == 1


# ---- what may be given -----------------------------------------------------------------------------------------------


@njit(fastmath=True, inline="always")
def fast_square(z):
    return z * z


@njit
def double(z):
    return z + z


@pytest.mark.small
@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize(
    ("value", "derivative", "want"),
    [
        (math.exp, math.exp, np.exp),
        (np.exp, np.exp, np.exp),
        (np.sin, lambda z: np.cos(z), np.sin),
        (fast_square, double, lambda z: z * z),
        (abs, lambda z: 1 if z > 0 else -1, np.abs),
        (lambda z: math.floor(z), lambda z: 0, np.floor),
    ],
    ids=["math", "numpy", "mixed", "njit", "builtin", "integers"],
)
def test_functions_of_all_kinds(value, derivative, want, dtype):
    model = Model.from_weights(
        [np.eye(3), np.eye(3)], [np.zeros(3)] * 2, [CustomActivation("own", value, derivative), "identity"], dtype=dtype
    )
    X = np.random.default_rng(0).standard_normal((7, 3)).astype(dtype)
    np.testing.assert_allclose(model.predict(X), want(X), rtol=1e-6 if dtype == "float32" else 1e-15)
    slopes = np.vectorize(derivative, otypes=[float])(X.astype(float))
    got = model.backward(X, model.predict(X) - 21 / 2).inputs  # the outputs' gradient is 1
    np.testing.assert_allclose(got, slopes, rtol=1e-5 if dtype == "float32" else 1e-14, atol=1e-7)


@pytest.mark.small
def test_functions_of_their_surroundings():
    """Numbers that a function finds around it are those of the time when the model was made."""
    for slope in (0.5, 2.0):
        activation = CustomActivation("scaled", lambda z, slope=slope: slope * z, lambda z, slope=slope: slope)
        model = Model.from_weights([np.eye(2)], [np.zeros(2)], [activation])
        np.testing.assert_array_equal(model.predict([[1.0, -4.0]]), [[slope, -4 * slope]])


@compiled
def test_a_division_by_zero_is_infinite_not_an_error(capfd):
    inverse = CustomActivation("inverse", lambda z: 1 / z, lambda z: -1 / (z * z))
    model = Model.from_weights([np.eye(3)], [np.zeros(3)], [inverse])
    np.testing.assert_array_equal(model.predict([[1.0, 0.0, 4.0]]), [[1, np.inf, 0.25]])
    assert capfd.readouterr() == ("", "")


@pytest.mark.small
def test_a_loss_of_ones_own():
    """The pinball loss: its reported mean and its gradient, by hand."""
    pinball = CustomLoss("pinball", lambda p, y: max(0.9 * (y - p), 0.1 * (p - y)), lambda p, y: -0.9 if p < y else 0.1)
    model = Model.from_weights([np.eye(2)], [np.zeros(2)], loss=pinball)
    X, y = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[2.0, 0.0], [3.0, 8.0]])
    got = model.backward(X, y)
    assert got.loss == pytest.approx((0.9 + 0.2 + 0 + 3.6) / 4, rel=1e-15)
    np.testing.assert_allclose(got.inputs, np.array([[-0.9, 0.1], [0.1, -0.9]]) / 4, rtol=1e-15)


@pytest.mark.small
@pytest.mark.filterwarnings("ignore:the loss was:RuntimeWarning")
def test_nan_reaches_the_loss():
    p = reference.problem([3, 20, 2], ["tanh", "identity"], "mse", 5)
    p.X[3, 1] = np.nan
    model = pair(p)[1]
    assert np.isnan(model.loss(p.X, p.y))
    assert np.isnan(model.fit(p.X, p.y, 2, 2, lr=0.1, rng=0)["loss"]).all()


# ---- what is refused -------------------------------------------------------------------------------------------------


def named(z):
    return z.name


@compiled
@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (named, "Unknown attribute 'name'"),
        (lambda z: None, "none"),
        (lambda z: 1j * z, "complex"),
        (lambda z: "text", "text|unicode"),
        (lambda: 1.0, "argument"),
        (lambda z, q: z, "argument"),
        (np.linalg.norm, ""),
        (int, ""),
    ],
)
def test_functions_that_numba_cannot_compile(wrong, why, dtype):
    if wrong is int:
        wrong = type("Callable", (), {"__call__": lambda self, z: z})()
    for name, value, derivative in (("value", wrong, tanh_slope), ("derivative", tanh, wrong)):
        with pytest.raises(TypeError, match=rf"(?s){name} must be a function of a number to a number.*{why}"):
            Model([2, 3, 1], [CustomActivation("wrong", value, derivative), "identity"], dtype=dtype)
    if why != "argument":
        return
    for name, value, derivative in (("value", lambda p: p, square_slope), ("derivative", square, lambda p, y, q: p)):
        with pytest.raises(TypeError, match=rf"(?s){name} must be a function of two numbers to a number.*argument"):
            Model([2, 3, 1], loss=CustomLoss("wrong", value, derivative), dtype=dtype)


@pytest.mark.small
@pytest.mark.parametrize("wrong", [None, 1.0, "tanh"])
def test_what_is_no_function(wrong):
    with pytest.raises(TypeError, match=f"value must be a function, got {wrong!r}"):
        Model([2, 3, 1], [CustomActivation("wrong", wrong, tanh_slope), "identity"])
    with pytest.raises(TypeError, match=f"derivative must be a function, got {wrong!r}"):
        Model([2, 3, 1], loss=CustomLoss("wrong", square, wrong))


@pytest.mark.small
def test_names_that_are_taken():
    with pytest.raises(ValueError, match="name must not be that of a built-in activation, got 'tanh'"):
        CustomActivation("tanh", tanh, tanh_slope)
    with pytest.raises(ValueError, match="name must not be that of a built-in loss, got 'mse'"):
        CustomLoss("mse", square, square_slope)


@pytest.mark.small
def test_other_arguments():
    with pytest.raises(ValueError, match="init must be 'glorot', 'he' or 'lecun', got 'auto'"):
        CustomActivation("own", tanh, tanh_slope, init="auto")
    with pytest.raises(ValueError, match=r"output must be one of identity, .*got 'none'"):
        CustomLoss("own", square, square_slope, output="none")
    with pytest.raises(ValueError, match="activations must end in 'sigmoid' for loss='bce'"):
        Model([2, 3, 1], ["tanh", TANH], "bce")


@pytest.mark.small
def test_initialisation_and_output_are_as_told():
    he = CustomActivation("own", tanh, tanh_slope, init="he")
    for own, like in ((he, "relu"), (TANH, "tanh")):
        np.testing.assert_array_equal(Model([3, 4, 1], own, rng=0).params, Model([3, 4, 1], like, rng=0).params)
    assert Model([3, 4, 1], loss=CustomLoss("own", square, square_slope)).activations == ("relu", "identity")
    assert Model([3, 4, 1], loss=CustomLoss("own", square, square_slope, "tanh")).activations == ("relu", "tanh")
    assert Model([3, 4, 1], loss=CustomLoss("own", square, square_slope, TANH)).activations == ("relu", TANH)
    assert "my tanh" in Model([3, 4, 1], TANH).summary()
    assert "my mse" in repr(Model([3, 4, 1], TANH, SQUARE))


# ---- copies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deep", "pickle"])
def test_a_copy_goes_on_to_the_bit(clone):
    p = path_problem("small")
    model = pair(p)[1]
    model.fit(p.X, p.y, 2, 16, optimizer=Adam(0.01), rng=0)
    twin = clone(model)
    for one in (model, twin):
        one.fit(p.X, p.y, 2, 16, optimizer=Adam(0.01), rng=0)
    np.testing.assert_array_equal(twin.params, model.params)
    assert twin.activations == model.activations


ELSEWHERE = """
import pickle, sys, numpy as np
model = pickle.loads(bytes.fromhex({pickled!r}))
print(model.fit(np.ones((3, 2)), np.ones((3, 1)), 2, lr=0.1)["loss"])
"""


def test_a_pickle_opens_in_another_process(python):
    """The codes are addresses there, and others."""
    exp = CustomActivation("e**z", math.exp, math.exp)
    model = Model([2, 20, 1], exp, rng=0)
    printed = python(ELSEWHERE.format(pickled=pickle.dumps(model).hex()))
    assert printed == f"{model.fit(np.ones((3, 2)), np.ones((3, 1)), 2, lr=0.1)['loss']}\n"


@pytest.mark.small
def test_a_lambda_is_not_pickled():
    model = Model([2, 3, 1], CustomActivation("own", lambda z: z, lambda z: 1.0))
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(model)


# ---- cost ------------------------------------------------------------------------------------------------------------


@compiled
def test_arithmetic_is_a_compiled_loop():
    """No number is computed by Python."""
    softsign = CustomActivation("softsign", lambda z: z / (1 + abs(z)), lambda z: 1 / (1 + abs(z)) ** 2)
    model = Model([2, 1000, 1], softsign, dtype="float64", rng=0)
    X, y, ran = np.ones((200, 2)), np.ones(200), set()
    model.fit(X, y)
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, arg: ran.add(frame.f_code))
    try:
        model.predict(X)
        model.fit(X, y)
    finally:
        sys.setprofile(before)
    assert Model.predict.__code__ in ran
    assert not ran & {softsign.value.__code__, softsign.derivative.__code__}


@compiled
def test_equal_functions_are_compiled_once():
    started = Model([2, 3, 1], TANH)._engine._space.layers[0].activation
    assert Model([5, 9, 1], CustomActivation("again", tanh, tanh_slope))._engine._space.layers[0].activation == started
    assert Model([5, 9, 1], TANH, dtype="float32")._engine._space.layers[0].activation != started
