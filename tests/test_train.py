"""fit, step and gradient: whole training runs against the oracle, their repeatability, and what they allocate."""

import copy
import dataclasses
import pickle
from functools import partial

import numpy as np
import pytest
import reference
from reference import BOUND, HIDDEN, LOSSES, OUTPUT, error

from fastmlp import SGD, Adam, Model

OPTIMIZERS = [
    SGD(0.1),
    SGD(0.1, weight_decay=0.01),
    SGD(0.01, momentum=0.9),
    SGD(0.01, momentum=0.9, nesterov=True, weight_decay=0.01),
    Adam(0.01),
    Adam(0.02, beta1=0.8, beta2=0.99, epsilon=1e-4, weight_decay=0.01),
]
some_optimizers = pytest.mark.parametrize("optimizer", [OPTIMIZERS[3], OPTIMIZERS[5]], ids=str)


def of(problem):
    return Model.from_weights(problem.weights, problem.biases, problem.activations, problem.loss)


def oracle(optimizer):
    step = reference.sgd_step if isinstance(optimizer, SGD) else reference.adam_step
    return partial(step, **reference.settings(optimizer))


def same(model, other):
    """To the last bit, NaN included."""
    return model.params.tobytes() == other.params.tobytes()


# ---- the notebook ----------------------------------------------------------------------------------------------------


def notebook_model():
    X, y, W1, b1, W2, b2 = reference.notebook_data()
    return X, y, Model.from_weights([W1, W2], [b1, b2], activations=["relu", "sigmoid"], loss="bce")


def test_the_notebook(capsys):
    X, y, model = notebook_model()
    history = model.fit(X, y, epochs=1000, lr=0.1, verbose=200)
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 0, Loss: 0.6932",
        "Epoch 200, Loss: 0.5338",
        "Epoch 400, Loss: 0.4804",
        "Epoch 600, Loss: 0.4786",
        "Epoch 800, Loss: 0.4781",
    ]
    (W1, b1, W2, b2), losses = reference.notebook()
    np.testing.assert_allclose(model.params, reference.flat([W1, W2], [b1, b2]), rtol=0, atol=1e-12)
    np.testing.assert_allclose(history["loss"], losses, rtol=0, atol=1e-12)


@pytest.mark.small
def test_the_notebooks_first_epochs():
    X, y, model = notebook_model()
    (W1, b1, W2, b2), losses = reference.notebook(epochs=5)
    assert error(model.fit(X, y, epochs=5, lr=0.1)["loss"], losses) <= 1e-14
    assert error(model.params, reference.flat([W1, W2], [b1, b2])) <= 1e-14


def test_verbose(capsys):
    X, y, model = notebook_model()
    model.fit(X, y, epochs=7, lr=0.1)
    assert capsys.readouterr().out == ""
    losses = model.fit(X, y, epochs=7, lr=0.1, verbose=3)["loss"]
    assert capsys.readouterr().out == "".join(f"Epoch {epoch}, Loss: {losses[epoch]:.4f}\n" for epoch in (0, 3, 6))
    model.fit(X, y, epochs=2, lr=0.1, verbose=1)
    assert len(capsys.readouterr().out.splitlines()) == 2


# ---- against the oracle ----------------------------------------------------------------------------------------------


def agrees(p, optimizer, epochs, batch_size, bound):
    model = of(p)
    history = model.fit(p.X, p.y, epochs, batch_size, optimizer=optimizer, shuffle=False)
    want = reference.train(*p, oracle(optimizer), epochs, batch_size)
    assert error(history["loss"], want.losses) <= bound
    assert error(model.params, reference.flat(want.weights, want.biases)) <= bound


@pytest.mark.parametrize("batch_size", [None, 1, 7, 16, 33, 50, 64])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_fit_equals_the_oracle(optimizer, batch_size):
    """50 rows: batches with and without a remainder, of one row, of all of them, and larger than the data."""
    p = reference.problem([5, 17, 8, 3], ["tanh", "silu", "identity"], "mse", rows=50)
    agrees(p, optimizer, epochs=3, batch_size=batch_size, bound=1e-12)


@pytest.mark.small
@pytest.mark.parametrize("batch_size", [None, 2])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_a_tiny_fit_equals_the_oracle(optimizer, batch_size):
    p = reference.problem([2, 3, 1], ["tanh", "sigmoid"], "bce", rows=3)
    agrees(p, optimizer, epochs=2, batch_size=batch_size, bound=1e-13)


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize(("sizes", "rows", "batch_size"), [((2, 3, 2), 45, 20), ((7, 33, 5), 31, 8)], ids=["narrow", "wide"])
@pytest.mark.parametrize(("hidden", "output", "loss"), reference.combinations())
def test_fit_of_each_network_equals_the_oracle(hidden, output, loss, sizes, rows, batch_size, dtype):
    p = reference.problem(sizes, [hidden, output], loss, rows, dtype=dtype)
    rate = 0.005 if output == "exp" else 0.05  # exp's slope grows with its value
    agrees(p, SGD(rate, momentum=0.9), epochs=2, batch_size=batch_size, bound=BOUND[dtype])


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize("sizes", [(2, 2, 1), (8, 16, 1), (64, 100, 10), (33, 1), (1, 1, 1), (31, 64, 33, 17, 2)], ids=str)
def test_fit_of_many_shapes_equals_the_oracle(sizes, optimizer):
    p = reference.problem(sizes, ["tanh"] * (len(sizes) - 2) + ["softmax"], "cross_entropy", rows=45)
    agrees(p, optimizer, epochs=2, batch_size=20, bound=1e-12)


def test_fit_in_float32_by_adam():
    # Where a gradient is lost in rounding Adam still moves by its rate, if epsilon is small beside that rounding.
    p = reference.problem([7, 33, 3], ["tanh", "softmax"], "cross_entropy", rows=31, dtype="float32")
    agrees(p, Adam(0.01, epsilon=1e-3), epochs=5, batch_size=8, bound=1e-5)


@pytest.mark.parametrize(
    ("sizes", "rows"),
    [((2, 2, 1), 5003), ((3, 4, 2), 40_001), ((20, 40, 10), 1100), ((60, 100, 10), 6100), ((700, 130, 10), 1100)],
    ids=str,
)
def test_many_rows_in_one_batch(sizes, rows):
    """More than any block of rows that goes through the network together."""
    p = reference.problem(sizes, ["relu", "identity"], "mse", rows)
    agrees(p, Adam(0.01), epochs=3, batch_size=None, bound=1e-12)
    agrees(p, SGD(0.1), epochs=2, batch_size=rows // 2 + 1, bound=1e-12)
    grads, want = of(p).backward(p.X, p.y), reference.gradients(*p)
    assert error(grads.inputs, want.inputs) <= 1e-12


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_step_is_a_full_batch(optimizer):
    p = reference.problem([5, 17, 3], ["tanh", "identity"], "huber", rows=33)
    stepped, fitted, applied = of(p), of(p), of(p)
    before = [stepped.step(p.X, p.y, optimizer=optimizer) for _ in range(4)]
    assert all(isinstance(loss, float) for loss in before)
    assert error(fitted.fit(p.X, p.y, epochs=4, optimizer=optimizer)["loss"], before) <= 1e-14
    for want in before:
        loss, g = applied.gradient(p.X, p.y)
        applied.apply_gradient(g, optimizer=optimizer)
        assert error(loss, want) <= 1e-13
    want = reference.train(*p, oracle(optimizer), epochs=4)
    for model in (stepped, fitted, applied):
        assert error(model.params, reference.flat(want.weights, want.biases)) <= 1e-13


@pytest.mark.small
def test_the_default_optimizer():
    p = reference.problem([2, 2, 1], ["tanh", "identity"], "mse", rows=3)
    default, rate, sgd = of(p), of(p), of(p)
    default.fit(p.X, p.y, epochs=2)
    rate.fit(p.X, p.y, epochs=2, lr=0.01)
    sgd.fit(p.X, p.y, epochs=2, optimizer=SGD(0.01))
    assert same(default, rate)
    assert same(default, sgd)
    default.step(p.X, p.y)
    rate.step(p.X, p.y, lr=0.01)
    sgd.step(p.X, p.y, optimizer=SGD(0.01))
    assert same(default, rate)
    assert same(default, sgd)


# ---- continuing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 8, 50])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_two_fits_are_one(optimizer, batch_size):
    p = reference.problem([5, 17, 3], ["relu", "identity"], "mse", rows=50)
    once, twice = of(p), of(p)
    losses = once.fit(p.X, p.y, 4, batch_size, optimizer=optimizer, shuffle=False)["loss"]
    first = twice.fit(p.X, p.y, 2, batch_size, optimizer=optimizer, shuffle=False)["loss"]
    equal = dataclasses.replace(optimizer)  # equal, but another object
    second = twice.fit(p.X, p.y, 2, batch_size, optimizer=equal, shuffle=False)["loss"]
    assert first + second == losses
    assert same(once, twice)


@some_optimizers
@pytest.mark.parametrize("sizes", [(2, 2, 1), (5, 17, 3)], ids=str)
def test_what_happens_between_fits_leaves_no_trace(optimizer, sizes):
    """Above all not the NaN of other data, in the parts of a buffer that a smaller batch does not fill."""
    p = reference.problem(sizes, ["tanh", "identity"], "mse", rows=50)
    broken = np.full((500, sizes[0]), np.nan)
    quiet, busy = of(p), of(p)
    for model in (quiet, busy):
        model.fit(p.X, p.y, 2, 7, optimizer=optimizer, rng=1)
    busy.predict(broken)
    busy.backward(broken[:40], np.full((40, sizes[-1]), np.nan))
    busy.gradient(broken, np.zeros((500, sizes[-1])))
    busy.loss(p.X, np.full(p.y.shape, np.nan))
    for model in (quiet, busy):
        model.fit(p.X, p.y, 2, 9, optimizer=optimizer, rng=2)
    assert same(quiet, busy)
    assert np.isfinite(busy.params).all()


@some_optimizers
@pytest.mark.parametrize("clone", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deep", "pickle"])
def test_a_copy_continues_as_the_original(optimizer, clone):
    p = reference.problem([5, 17, 3], ["tanh", "identity"], "mse", rows=50)
    model = of(p)
    model.fit(p.X, p.y, 3, 8, optimizer=optimizer, rng=0)
    twin = clone(model)
    losses = model.fit(p.X, p.y, 3, 8, optimizer=optimizer, rng=1)["loss"]
    assert twin.fit(p.X, p.y, 3, 8, optimizer=optimizer, rng=1)["loss"] == losses
    assert same(model, twin)
    model.step(p.X, p.y, optimizer=optimizer)
    assert not same(model, twin)
    twin.step(p.X, p.y, optimizer=optimizer)
    assert same(model, twin)


# ---- shuffling -------------------------------------------------------------------------------------------------------

ROWS = 16


def orders(epochs, **how):
    """The rows in the order in which fit came to them, (epochs, ROWS): read off what momentum leaves of each step.

    Row i is the i-th unit vector, and every target is out of reach above, so visiting it adds one to weight i's
    velocity; after n steps in all, a visit at step t has moved the weight by 1 + 1/2 + ... = 2 - 2^(1 + t - n). What
    the weight lacks of 2 an epoch is a binary number whose bits are the visits (exact: 16 * 3 bits of 53).
    """
    model = Model.from_weights([np.zeros((ROWS, 1))], [[0.0]], loss="mae")
    model.fit(np.eye(ROWS), np.full(ROWS, 1e6), epochs, 1, optimizer=SGD(1.0, momentum=0.5), **how)
    steps = epochs * ROWS
    lacking = (2 * epochs - model.weights[0][:, 0]) * 2.0 ** (steps - 1)
    visits = [[t for t in range(steps) if int(number) >> t & 1] for number in lacking]
    found = np.full(steps, -1)
    for row, times in enumerate(visits):
        found[times] = row
    return found.reshape(epochs, ROWS)


def test_without_shuffling_rows_come_in_order():
    np.testing.assert_array_equal(orders(3, shuffle=False), [np.arange(ROWS)] * 3)


@pytest.mark.small
def test_each_epoch_has_each_row_once_in_an_order_of_its_own():
    found = orders(2, rng=0)
    np.testing.assert_array_equal(np.sort(found, axis=1), [np.arange(ROWS)] * 2)
    assert (found[0] != found[1]).any()
    assert (found != np.arange(ROWS)).any(axis=1).all()


def test_the_seed_decides_the_order():
    np.testing.assert_array_equal(orders(3, rng=5), orders(3, rng=5))
    assert (orders(3, rng=5) != orders(3, rng=6)).any()
    np.testing.assert_array_equal(orders(3, rng=5), orders(3, rng=np.random.default_rng(5)))
    generator = np.random.default_rng(5)
    assert (orders(3, rng=generator) != orders(3, rng=generator)).any()
    assert (orders(3) != orders(3)).any()  # no seed: 1 chance in 16!^3


def test_orders_are_uniform():
    """Which row comes first, and where row 0 comes, over 800 orders: chi squared with 15 degrees of freedom."""
    found = np.array([orders(1, rng=seed)[0] for seed in range(800)])
    for sample in (found[:, 0], found[:, -1], np.argmax(found == 0, axis=1)):
        counts = np.bincount(sample, minlength=ROWS)
        assert np.sum((counts - 50) ** 2 / 50) < 50  # a fair shuffle exceeds it once in 80 000 seeds


@pytest.mark.parametrize("batch_size", [1, 3, 7, 15])
@pytest.mark.parametrize(
    ("sizes", "names", "loss", "optimizer"),
    [
        ([5, 17, 3], ["tanh", "softmax"], "cross_entropy", Adam(0.01)),
        ([3, 4, 2], ["tanh", "sigmoid"], "bce", Adam(0.01)),
        ([3, 4, 1], ["tanh", "sigmoid"], "bce", SGD(0.1)),
    ],
    ids=["wide", "narrow", "in registers"],
)
def test_shuffled_fit_equals_the_oracle_in_that_order(sizes, names, loss, optimizer, batch_size):
    """The order depends on the seed and the number of rows, not on the network."""
    p = reference.problem(sizes, names, loss, rows=ROWS)
    model = of(p)
    losses = model.fit(p.X, p.y, 3, batch_size, optimizer=optimizer, rng=4)["loss"]
    want = reference.train(*p, oracle(optimizer), 3, batch_size, order=orders(3, rng=4))
    assert error(losses, want.losses) <= 1e-12
    assert error(model.params, reference.flat(want.weights, want.biases)) <= 1e-12


@some_optimizers
def test_same_seed_same_bits(optimizer):
    p = reference.problem([17, 33, 5], ["gelu", "identity"], "mse", rows=100, dtype="float32")
    runs = [of(p) for _ in range(3)]
    losses = [
        model.fit(p.X, p.y, 5, 16, optimizer=optimizer, rng=seed)["loss"] for model, seed in zip(runs, (3, 3, 4), strict=True)
    ]
    assert losses[0] == losses[1] != losses[2]
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


@pytest.mark.parametrize("batch_size", [None, 50, 99])
def test_a_full_batch_is_not_shuffled(batch_size):
    p = reference.problem([5, 17, 3], ["tanh", "identity"], "mse", rows=50)
    shuffled, ordered = of(p), of(p)
    shuffled.fit(p.X, p.y, 3, batch_size, lr=0.1, shuffle=True, rng=0)
    ordered.fit(p.X, p.y, 3, batch_size, lr=0.1, shuffle=False)
    assert same(shuffled, ordered)


# ---- NaN -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.filterwarnings("ignore:the loss was:RuntimeWarning")
def test_nan_reaches_the_loss(hidden, loss, dtype):
    p = reference.problem([3, 17, 2], [hidden, OUTPUT.get(loss, "identity")], loss, rows=17, dtype=dtype)
    p.X[16, 1] = np.nan  # in the last row, the remainder of every block
    model = of(p)
    assert np.isnan(model.loss(p.X, p.y))
    assert np.isnan(model.gradient(p.X, p.y)[0])
    assert np.isnan(model.backward(p.X, p.y).loss)
    assert np.isfinite(model.params).all()
    assert np.isnan(of(p).step(p.X, p.y, lr=0.1))
    assert np.isnan(model.fit(p.X, p.y, epochs=2, batch_size=5, lr=0.1, rng=0)["loss"]).all()


@pytest.mark.small
@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.filterwarnings("ignore:the loss was:RuntimeWarning")
def test_nan_reaches_the_loss_of_a_tiny_network(hidden):
    p = reference.problem([2, 2, 1], [hidden, "sigmoid"], "bce", rows=2)
    p.X[1, 0] = np.nan
    assert np.isnan(of(p).fit(p.X, p.y, lr=0.1)["loss"]).all()


# ---- allocation ------------------------------------------------------------------------------------------------------

ALLOCATION = """
import numpy as np
from numba import njit
from numba.core.runtime import rtsys
import fastmlp

@njit
def probe():
    return np.zeros(3)

def spent(work):
    "What the Numba runtime allocates while `work` runs, and how much of it is left over."
    before = rtsys.get_allocation_stats()
    work()
    after = rtsys.get_allocation_stats()
    return after.alloc - before.alloc, (after.alloc - before.alloc) - (after.free - before.free)

def fit(epochs, rows, optimizer):
    model.fit(X[:rows], y[:rows], epochs, 4, optimizer=optimizer, rng=0)

rng = np.random.default_rng(0)
X, y = rng.standard_normal((400, 5)), rng.integers(0, 3, 400)
model = fastmlp.Model([5, 9, 3], "tanh", "cross_entropy", rng=0)
probe()
assert spent(probe)[0] > 0, "nothing is counted: this test would see nothing"
for optimizer in (fastmlp.SGD(0.1), fastmlp.SGD(0.1, momentum=0.9), fastmlp.Adam()):
    fit(2, 400, optimizer)  # compiles, and grows the workspace
    for work in (
        lambda epochs, rows: fit(epochs, rows, optimizer),
        lambda epochs, rows: [model.step(X[:rows], y[:rows], optimizer=optimizer) for _ in range(3)],
        lambda epochs, rows: [model.gradient(X[:rows], y[:rows]) for _ in range(3)],
        lambda epochs, rows: [model.predict(X[:rows]) for _ in range(3)],
    ):
        work(1, 4)
        counts = [spent(lambda: work(epochs, rows)) for epochs, rows in ((1, 4), (1, 400), (7, 4), (50, 403), (400, 90))]
        assert len({alloc for alloc, _ in counts}) == 1, f"depends on epochs or batches: {counts}"
        assert all(left == 0 for _, left in counts), f"not freed: {counts}"
print("counted")
"""


def test_training_allocates_nothing_an_epoch_or_a_batch(python):
    assert python(ALLOCATION, NUMBA_NRT_STATS="1") == "counted\n"


# Which functions some work takes that were not there before it, compiled or read from the cache: a warm one shows it too.
FETCHED = """
import numpy as np
import fastmlp
from fastmlp.kernels.machine.cache import PackageCache

names, load = [], PackageCache.load_overload
PackageCache.load_overload = lambda cache, *args: names.append(cache.name) or load(cache, *args)

def fetched(work):
    names.clear()
    work()
    return names.copy()
"""
COMPILATION = """

def use(sizes, rows, batch_size, readonly=False, optimizer=fastmlp.Adam(), activation="relu"):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((rows, sizes[0])), rng.standard_normal((rows, sizes[-1]))
    X.flags.writeable = y.flags.writeable = not readonly
    model = fastmlp.Model(sizes, activation, rng=0)
    model.fit(X, y, 2, batch_size, optimizer=optimizer, rng=0)
    model.step(X, y)
    model.step(X[:6], y[:6])
    model.step(X[:2], y[:2])
    model.apply_gradient(model.gradient(X, y)[1])
    model.backward(X, y), model.loss(X, y), model.predict(X[:1]), model.predict(X)

# Kernels may be compiled at their first use, so first one network of each kind that has some of its own: narrow or wide
# layers, of one unit or several, with columns that fill one register, or more, or leave a remainder.
kinds = [(2, 2, 1), (1, 1, 1), (2, 3, 2), (2, 6, 2), (8, 64, 1), (3, 40, 2), (50, 90, 6), (300, 100, 50), (450, 33, 170, 1)]
assert fetched(lambda: [use(sizes, 700, 128) for sizes in kinds]), "nothing is counted: this test would see nothing"
fetched(lambda: [use(sizes, 700, 128, activation="tanh", optimizer=fastmlp.SGD(0.1, 0.9)) for sizes in kinds])
fetched(lambda: [use(sizes, rows, 3) for sizes in kinds for rows in (7, 8, 37)])  # tiles of every height
for other in (
    lambda: use((2, 5, 1), 8, 3, optimizer=fastmlp.Adam(0.1, 0.5, 0.5, 1e-3, 0.1)),
    lambda: use((70, 90, 5), 40, 7, optimizer=fastmlp.SGD(0.2, 0.5, True, 0.1), activation="tanh"),
    lambda: use((5, 2), 1, None),
    lambda: use((1, 1, 1, 1, 1), 9, 2),
    lambda: use((2, 3, 4, 5, 6, 7, 8), 33, 5),
    lambda: use((260, 41, 190, 1), 333, 64),
    lambda: use((3, 40, 2), 50, 8, readonly=True),
):
    found = fetched(other)
    assert found == [], found
print("counted")
"""


@pytest.mark.slow
def test_another_architecture_or_layout_of_data_compiles_nothing(python):
    assert python(FETCHED + COMPILATION) == "counted\n"


WARM = """
def usual():
    notebook = fastmlp.Model([2, 2, 1], ["relu", "sigmoid"], "bce")
    notebook.fit(np.ones((4, 2)), np.ones((4, 1)), 2, lr=0.1)
    notebook.predict(np.ones((1, 2)))
    digits = fastmlp.Model([64, 100, 10], ["relu", "softmax"], "cross_entropy", "float32")
    digits.fit(np.ones((300, 64)), np.ones(300, int), 2, 200, optimizer=fastmlp.Adam(1e-3))
    digits.predict(np.ones((1, 64)))
    compiled = digits.compiled()
    compiled.pull(np.ones(64), np.ones(10))
    compiled.jacobian(np.ones(64))

assert fetched(fastmlp.warmup), "nothing is counted: this test would see nothing"
print(fetched(usual))
"""


@pytest.mark.slow
def test_after_warmup_the_usual_networks_compile_nothing(python):
    assert python(FETCHED + WARM) == "[]\n"


# ---- the digits ------------------------------------------------------------------------------------------------------


def test_digits():
    """1797 scanned digits: 97 % of the fifth held out, averaged over five starts (one start's scatter is 0.6 %)."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    held, rest = order[: len(X) // 5], order[len(X) // 5 :]
    spread = X[rest].std(axis=0)
    X = (X - X[rest].mean(axis=0)) / np.where(spread == 0, 1, spread)  # some pixels are never inked
    right = []
    for seed in range(5):
        model = Model([64, 100, 10], ["relu", "softmax"], "cross_entropy", "float32", rng=seed)
        losses = model.fit(X[rest], y[rest], 100, 200, optimizer=Adam(1e-3), rng=seed)["loss"]
        assert losses[0] > 1
        assert losses[-1] < 0.03
        right.append(np.mean(model.predict(X[held]).argmax(axis=1) == y[held]))
    assert np.mean(right) >= 0.97
