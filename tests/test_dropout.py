"""Dropout: the masks, drawn anew here from the hash that the library documents, and whole trainings with them."""

import copy

import numpy as np
import pytest
import reference
from reference import error
from reference_update import PATHS, path_problem, train
from test_train import ROWS, orders

import fastmlp
from fastmlp import SGD, Adam, Model
from fastmlp.checks import seed as seed_of
from fastmlp.kernels.layer.dropout import dropout
from fastmlp.kernels.machine.jit import inlined
from fastmlp.kernels.machine.pointer import pointer

# ---- the hash --------------------------------------------------------------------------------------------------------

WORD, LONG = 2**32, 2**64


def splitmix(z):
    """The output function of splitmix64 (Steele, Lea and Flood, 2014)."""
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % LONG
    z = (z ^ z >> 27) * 0x94D049BB133111EB % LONG
    return z ^ z >> 31


def lowbias(x):
    """The 32-bit hash "lowbias32" (Wellons, 2018)."""
    x = (x ^ x >> 16) * 0x7FEB352D % WORD
    x = (x ^ x >> 15) * 0x846CA68B % WORD
    return x ^ x >> 16


def key(seed, step, layer):
    """What decides in one layer at one step."""
    return splitmix((splitmix((splitmix((seed | 1) % LONG) + step) % LONG) + layer) % LONG) | 1


def bits_of(key, places):
    return lowbias((lowbias(places % WORD ^ key % WORD) + key // WORD + places // WORD) % WORD)


def mask(key, rate, rows, columns):
    """What the outputs (rows, columns) of a hidden layer are multiplied by."""
    parts = round(rate * WORD)
    bits = bits_of(key, np.arange(rows * columns, dtype=object).reshape(rows, columns))
    return (bits >= parts).astype(float) / (1 - parts / WORD)


def masks(seed, rates, sizes):
    """The oracle's masks for a training."""
    drawn = {}

    def of(step, rows):
        if (step, rows) not in drawn:
            layers = enumerate(zip(rates, sizes[1:-1], strict=True))
            drawn[step, rows] = [mask(key(seed, step, layer), rate, rows, width) for layer, (rate, width) in layers]
        return drawn[step, rows]

    return of


@inlined
def _dropout(x, out, key, rate, first, rows, columns):
    dropout(pointer(x), pointer(out), key, rate, first, rows, columns)


def dropped(key, rate, rows, columns, first=0, dtype="float64"):
    """The library's mask, as it comes to a layer's outputs of ones."""
    out = np.full((rows, columns), np.nan, dtype)
    signed = key - LONG if key >= LONG // 2 else key
    _dropout(np.ones((rows, columns), dtype), out, signed, round(rate * WORD), first, rows, columns)
    return out


@pytest.mark.small
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rate", [2.0**-31, 0.1, 0.5, 0.9, 1 - 2.0**-31])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 7), (3, 17), (7, 5), (33, 3), (5, 64)])
def test_the_mask_is_the_documented_hash(rows, columns, rate, dtype):
    for number in (1, 2**31 + 5, 2**63 + 2**40 + 7, LONG - 1):
        got, want = dropped(number, rate, rows, columns, dtype=dtype), mask(number, rate, rows, columns)
        np.testing.assert_allclose(got, want, rtol=1e-6 if dtype == "float32" else 1e-15)


@pytest.mark.small
def test_a_block_of_rows_has_its_share_of_the_mask():
    whole = dropped(12345, 0.5, 96, 5)
    np.testing.assert_array_equal(dropped(12345, 0.5, 30, 5, first=64), whole[64:94])
    far = 2**32 // 64 * 64  # rows whose places need more than 32 bits
    want = bits_of(12345, np.arange(128, dtype=object) + far * 64) >= WORD // 2
    np.testing.assert_array_equal(dropped(12345, 0.5, 2, 64, first=far), want.reshape(2, 64) * 2.0)


@pytest.mark.small
def test_in_place_and_only_there():
    x = np.ones((3, 7))
    around = np.full(21 + 16, 5.0)
    around[8:29] = 1.0
    view = around[8:29].reshape(3, 7)
    _dropout(view, view, 99, WORD // 2, 0, 3, 7)
    np.testing.assert_array_equal(view, dropped(99, 0.5, 3, 7))
    np.testing.assert_array_equal(np.delete(around, np.arange(8, 29)), 5)
    np.testing.assert_array_equal(x, 1)


# ---- its statistics --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.8])
def test_masks_are_fair_and_unrelated(rate):
    """Of rows, units, layers, steps and seeds: each correlation is that of as many independent draws, within five sigma."""
    draws = {(s, t, i): dropped(key(s, t, i), rate, 512, 64) for s in (1, 3) for t in (1, 2) for i in (0, 1)}
    kept = {name: (drawn > 0).astype(float) for name, drawn in draws.items()}
    spread = np.sqrt(rate * (1 - rate))
    for name, a in kept.items():
        assert abs(a.mean() - (1 - rate)) < 5 * spread / np.sqrt(a.size)
        assert abs(draws[name].mean() - 1) < 5 * spread / (1 - rate) / np.sqrt(a.size)
        for shares in (a.mean(axis=0), a.mean(axis=1)):  # of each unit, of each row: as scattered as they should be
            scatter = np.mean((shares - (1 - rate)) ** 2) / (spread**2 / (a.size / shares.size))
            assert 0.5 < scatter < 2
        a = (a - (1 - rate)) / spread
        for other, b in kept.items():
            b = (b - (1 - rate)) / spread
            for rows in (0, 1, 2, 32):  # the same row, and others
                for columns in (0, 1, 8, 16):
                    if (name, rows, columns) != (other, 0, 0):
                        shifted = b[rows:, columns:]
                        assert abs(np.mean(a[: len(shifted), : shifted.shape[1]] * shifted)) < 5.5 / np.sqrt(shifted.size)


@pytest.mark.parametrize("hidden", ["identity", "relu", "gelu"])
def test_the_expected_outputs_are_the_undropped_ones(hidden):
    """The mean over many rows, all the same, of a layer's outputs; read off from a step of the layer after it."""
    rows, width = 4096, 40
    rng = np.random.default_rng(0)
    W, b = rng.standard_normal((3, width)), rng.standard_normal(width)
    model = Model.from_weights([W, np.zeros((width, 1))], [b, [0.0]], [hidden, "identity"], "mse", dropout=0.3)
    X, y = np.tile([0.3, -0.7, 1.1], (rows, 1)), np.full((rows, 1), -0.5)  # the gradient by each output is 1 / rows
    model.fit(X, y, optimizer=SGD(1.0), rng=0)
    means, want = -model.weights[1][:, 0], reference.ACTIVATIONS[hidden][0](X[0] @ W + b)
    assert (np.abs(means - want) <= 5 * np.abs(want) * np.sqrt(0.3 / 0.7 / rows)).all()
    assert (means != want)[want != 0].all()


# ---- whole trainings -------------------------------------------------------------------------------------------------


def dropping(p, rates):
    return Model.from_weights(*p[2:], dropout=rates)


def agrees(p, rates, optimizer, epochs, batch, bound, seed=5):
    sizes = [len(p.weights[0]), *(w.shape[1] for w in p.weights)]
    model = dropping(p, rates)
    want = train(p, optimizer, epochs, batch, masks=masks(seed_of(seed), rates, sizes))
    losses = model.fit(p.X, p.y, epochs, batch, optimizer=optimizer, shuffle=False, rng=seed)["loss"]
    assert error(losses, want.losses) <= bound
    assert error(model.params, want.params) <= bound


# The masks in plain Python integers are slow: fewer units for these than the other paths' have.
DROPPING = {
    "narrow": ((2, 3, 1), 20, 9),
    "small": ((5, 17, 9, 3), 40, 16),
    "few rows": ((5, 17, 3), 6, 3),
    "strips": ((130, 140, 33, 3), 24, None),
    "blocks": ((130, 140, 3), 300, 290),
    "groups": ((4, 12, 3), 1100, 1060),
}


@pytest.mark.parametrize("hidden", ["relu", "tanh", "gelu", "sigmoid", "silu", "softplus"])
@pytest.mark.parametrize("path", DROPPING)
def test_training_equals_the_oracle_with_those_masks(path, hidden, monkeypatch):
    """Its gradients are those of the network without the units that are dropped, each layer's rate its own."""
    monkeypatch.setitem(PATHS, path, DROPPING[path])
    rates = [0.4, 0.1][: len(DROPPING[path][0]) - 2]
    agrees(path_problem(path, hidden=hidden), rates, SGD(0.1), 2, DROPPING[path][2], 1e-12)


@pytest.mark.parametrize("loss", ["bce", "cross_entropy", "huber"])
@pytest.mark.parametrize("path", ["small", "groups"])
def test_with_other_losses_and_optimizers(path, loss):
    agrees(path_problem(path, loss), [0.4], SGD(0.1, momentum=0.5), 2, PATHS[path][2], 1e-12)
    agrees(path_problem(path, loss), [0.4], Adam(0.01, l2=0.1, clip_norm=0.1, ema=0.5), 2, PATHS[path][2], 1e-12)


@pytest.mark.small
@pytest.mark.parametrize("hidden", ["relu", "tanh", "gelu"])
def test_a_tiny_training(hidden):
    agrees(reference.problem([3, 5, 4, 2], [hidden, hidden, "identity"], "mse", 5), [0.4, 0.2], SGD(0.1), 2, 3, 1e-13)


@pytest.mark.parametrize("path", ["small", "strips", "groups"])
def test_in_float32(path, monkeypatch):
    monkeypatch.setitem(PATHS, path, DROPPING[path])
    rates = [0.4, 0.1][: len(DROPPING[path][0]) - 2]
    agrees(path_problem(path, dtype="float32"), rates, SGD(0.1), 2, DROPPING[path][2], 5e-6)


@pytest.mark.small
def test_only_one_layer_drops():
    """A rate of 0 is a layer without dropout, and later layers' masks are the same as with it."""
    p = reference.problem([3, 6, 5, 4, 2], ["tanh"] * 3 + ["identity"], "mse", 5)
    for rates in ([0.5, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.5]):
        agrees(p, rates, SGD(0.1), 2, 3, 1e-13)


def test_shuffled_rows_take_the_masks_of_their_places_in_the_batch():
    p = reference.problem([5, 17, 3], ["tanh", "identity"], "mse", rows=ROWS)
    model, found = dropping(p, 0.3), orders(3, rng=4)
    losses = model.fit(p.X, p.y, 3, 7, optimizer=SGD(0.1), rng=4)["loss"]
    want = train(p, SGD(0.1), 3, 7, masks=masks(seed_of(4), [0.3], [5, 17, 3]), order=found)
    assert error(losses, want.losses) <= 1e-12
    assert error(model.params, want.params) <= 1e-12


def test_step_drops_units_too():
    p = reference.problem([5, 17, 3], ["tanh", "identity"], "mse", rows=9)
    model = dropping(p, 0.3)
    losses = [model.step(p.X, p.y, optimizer=SGD(0.1)) for _ in range(4)]
    want = train(p, SGD(0.1), 4, masks=masks(0, [0.3], [5, 17, 3]))
    assert error(losses, want.losses) <= 1e-13
    assert error(model.params, want.params) <= 1e-13


# ---- what it leaves alone --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_outside_training_nothing_is_dropped(path):
    p = path_problem(path, hidden="gelu")
    plain, model = Model.from_weights(*p[2:]), dropping(p, 0.5)
    for one in (plain, model):
        one.fit(p.X, p.y, 2, PATHS[path][2], lr=0.1, rng=0)
    assert plain.params.tobytes() != model.params.tobytes()
    plain.params[:] = model.params
    assert model.predict(p.X).tobytes() == plain.predict(p.X).tobytes()
    assert model.loss(p.X, p.y) == plain.loss(p.X, p.y)
    for got, want in zip(model.gradient(p.X, p.y), plain.gradient(p.X, p.y), strict=True):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(model.backward(p.X, p.y).inputs, plain.backward(p.X, p.y).inputs)


@pytest.mark.small
@pytest.mark.parametrize("sizes", [(2, 3, 1), (5, 17, 4, 3)], ids=str)
def test_rate_0_is_none_to_the_bit(sizes):
    p = reference.problem(sizes, ["tanh"] * (len(sizes) - 2) + ["identity"], "mse", rows=9)
    plain, model = Model.from_weights(*p[2:]), dropping(p, 0.0)
    for one in (plain, model):
        one.fit(p.X, p.y, 2, 4, optimizer=Adam(0.01), rng=0)
        one.step(p.X, p.y)
    assert plain.params.tobytes() == model.params.tobytes()


@pytest.mark.small
def test_a_rate_next_to_1_drops_all():
    """Rates are stored as parts of 2**32: this one must not become all of them, which would divide by 0."""
    p = reference.problem([3, 5, 1], ["tanh", "identity"], "mse", rows=4)
    model = dropping(p, 1 - 1e-12)
    model.fit(p.X, p.y, 3, lr=0.1, rng=0)
    assert np.isfinite(model.params).all()
    np.testing.assert_array_equal(model.weights[0], p.weights[0])
    np.testing.assert_array_equal(model.weights[1], p.weights[1])
    assert model.biases[1] != p.biases[1]


# ---- seeds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["small", "strips", "groups"])
def test_the_seed_decides(path):
    p = path_problem(path)
    runs = []
    for seed in (3, 3, 4, None, None):
        model = dropping(p, 0.5)
        model.fit(p.X, p.y, 2, PATHS[path][2], lr=0.1, shuffle=False, rng=seed)
        runs.append(model.params.tobytes())
    assert runs[0] == runs[1]
    assert len(set(runs)) == 4


@pytest.mark.parametrize("how", ["fits", "copy"])
def test_training_goes_on_with_other_masks_and_a_copy_with_the_same(how):
    p = path_problem("small")
    model = dropping(p, 0.5)
    model.fit(p.X, p.y, 2, 16, lr=0.0001, shuffle=False, rng=3)
    first = model.params - reference.flat(p.weights, p.biases)
    if how == "fits":
        before = model.params.copy()
        model.fit(p.X, p.y, 2, 16, lr=0.0001, shuffle=False, rng=3)
        assert error(model.params - before, first) > 0.01
    else:
        twin = copy.deepcopy(model)
        for one in (model, twin):
            one.fit(p.X, p.y, 2, 16, lr=0.1, shuffle=False, rng=3)
        np.testing.assert_array_equal(model.params, twin.params)


# ---- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.small
def test_rates_are_a_layers_each():
    assert Model([2, 3, 4, 1], dropout=0.5).dropout == (0.5, 0.5)
    assert Model([2, 3, 4, 1], dropout=[0.5, 0]).dropout == (0.5, 0)
    assert Model([2, 3, 4, 1], dropout=np.array([0.5, 0.25])).dropout == (0.5, 0.25)
    assert Model([2, 1], dropout=0.5).dropout == ()
    for wrong, refusal in (
        (1.0, ValueError),
        (-0.1, ValueError),
        (np.nan, ValueError),
        ([0.5], ValueError),
        ([0.5] * 3, ValueError),
        ("0.5", TypeError),
        (None, TypeError),
        (True, TypeError),
        ([0.5, "0.5"], TypeError),
    ):
        with pytest.raises(refusal, match="dropout"):
            fastmlp.Model([2, 3, 4, 1], dropout=wrong)
