"""Losses over rows: as the built-in ones where they say the same, as NumPy else, wherever a loss is used."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from reference import BOUND, central_differences, error
from reference_update import PATHS, path_problem, train
from row_losses import (
    ENTROPIES,
    HUBER,
    PPO,
    SQUARES,
    likelihood,
    mixed,
    mixed_rows,
    pair,
    ppo,
    ppo_rows,
    ppo_targets,
    squares,
)

import fastmlp
from fastmlp import SGD, Adam, Model, RowLoss
from fastmlp.kernels.layer.custom import _ALIVE
from fastmlp.kernels.machine.interpreted import INTERPRETED

compiled = pytest.mark.skipif(INTERPRETED, reason="nothing is compiled")

SAME = {"mse": SQUARES, "huber": HUBER, "cross_entropy": ENTROPIES}
ROOMY = [name for name, (sizes, *_) in PATHS.items() if sizes[-1] == 3]


def both(p: Any, loss: RowLoss, **options: Any) -> tuple[Model, Model]:
    """The net with the built-in loss, and the same with a row loss, on logits instead of softmax's probabilities."""
    names = [*p.activations[:-1], "identity" if p.activations[-1] == "softmax" else p.activations[-1]]
    return Model.from_weights(*p[2:], **options), Model.from_weights(p.weights, p.biases, names, loss, **options)


def agree(p: Any, models: tuple[Model, Model], batch: int | None, optimizer: Any, bound: float) -> None:
    built_in, own = models
    losses = built_in.fit(p.X, p.y, 3, batch, optimizer=optimizer, rng=1)["loss"]
    assert error(own.fit(p.X, p.y, 3, batch, optimizer=optimizer, rng=1)["loss"], losses) <= bound
    assert error(own.params, built_in.params) <= bound
    assert error(own.loss(p.X, p.y), built_in.loss(p.X, p.y)) <= bound
    got, want = own.backward(p.X, p.y), built_in.backward(p.X, p.y)
    for one, other in zip((*got.weights, *got.biases, got.inputs), (*want.weights, *want.biases, want.inputs), strict=True):
        assert error(one, other, floor=1e-3) <= 10 * bound
    assert error(own.step(p.X, p.y, optimizer=optimizer), built_in.step(p.X, p.y, optimizer=optimizer)) <= bound
    assert error(own.params, built_in.params) <= bound


# ---- as the built-in losses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("loss", SAME)
@pytest.mark.parametrize("path", ROOMY)
def test_trainings_are_those_of_the_built_in_losses(path: str, loss: str, dtype: str) -> None:
    p = path_problem(path, loss, dtype=dtype)
    agree(p, both(p, SAME[loss]), PATHS[path][2], SGD(0.1), BOUND[dtype])


@pytest.mark.small
@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("sizes", [(2, 4, 1), (3, 20, 2)], ids=str)
def test_a_tiny_training(sizes: tuple[int, ...], dtype: str) -> None:
    p = reference.problem(sizes, ["tanh", "identity"], "mse", 5, dtype=dtype)
    agree(p, both(p, RowLoss("squares", squares, sizes[-1])), 3, SGD(0.1), BOUND[dtype])


@pytest.mark.parametrize("path", ["small", "strips", "groups"])
def test_with_dropout_and_the_whole_gradient(path: str) -> None:
    p = path_problem(path, "huber")
    agree(p, both(p, HUBER, dropout=0.3), PATHS[path][2], Adam(0.01, l2=0.1, clip_norm=0.1), 1e-11)


@pytest.mark.small
@pytest.mark.parametrize("output", ["sigmoid", "gelu", "exp"])
def test_the_output_activation_is_not_the_functions_to_know(output: str) -> None:
    p = reference.problem([3, 8, 3], ["tanh", output], "mse", 5)
    agree(p, both(p, RowLoss("squares", squares, 3, output)), 3, SGD(0.1), 1e-12)
    assert Model([3, 8, 3], "tanh", RowLoss("squares", squares, 3, output)).activations[-1] == output


@pytest.mark.small
def test_through_softmax() -> None:
    """Of its outputs the loss is -log p[label]."""
    p = reference.problem([3, 8, 3], ["tanh", "softmax"], "cross_entropy", 7)
    own = Model.from_weights(p.weights, p.biases, p.activations, RowLoss("likelihood", likelihood, 1, "softmax"))
    agree(p, (Model.from_weights(*p[2:]), own), 3, SGD(0.1), 1e-12)


# ---- as NumPy --------------------------------------------------------------------------------------------------------


def ppo_problem(sizes: Any, rows: int, dtype: str = "float64") -> Any:
    p = reference.problem(sizes, ["tanh"] * (len(sizes) - 2) + ["identity"], "mse", rows, dtype=dtype)
    return p._replace(y=ppo_targets(np.random.default_rng(1), rows, sizes[-1] - 1, dtype), loss=pair(ppo_rows))


def ppo_model(p: Any, **options: Any) -> Model:
    return Model.from_weights(p.weights, p.biases, p.activations, PPO, **options)


@pytest.mark.small
@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("sizes", [(3, 8, 5), (4, 3)], ids=str)
def test_a_policys_gradient_is_numpys(sizes: tuple[int, ...], dtype: str) -> None:
    p = ppo_problem(sizes, 40, dtype)
    ratios = ppo_rows(reference.forward(*[p.X, *p[2:5]]), p.y.astype(float))[1][:, : sizes[-1] - 1]
    assert (np.abs(ratios).max(axis=1) < 0.02).any()  # some are clipped
    got, want = ppo_model(p).backward(p.X, p.y), reference.gradients(*p)
    assert error(got.loss, want.loss) <= BOUND[dtype]
    for one, other in zip((*got.weights, *got.biases, got.inputs), (*want.weights, *want.biases, want.inputs), strict=True):
        assert error(one, other) <= BOUND[dtype]


def test_a_policys_gradient_is_the_slope_of_its_loss() -> None:
    p = ppo_problem((3, 8, 5), 40)
    model = ppo_model(p)
    loss, gradient = model.gradient(p.X, p.y)
    assert loss == pytest.approx(model.loss(p.X, p.y), rel=1e-14)
    slopes = central_differences(lambda: model.loss(p.X, p.y), model.params)
    assert error(gradient, slopes) < 1e-6


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("path", PATHS)
def test_a_policys_training_is_numpys(path: str, dtype: str) -> None:
    """Shuffled rows of more targets than outputs, by all paths."""
    sizes, rows, batch = PATHS[path]
    p = ppo_problem((*sizes[:-1], 3), rows, dtype)
    model, optimizer = ppo_model(p), SGD(0.05, momentum=0.9)
    losses = model.fit(p.X, p.y, 2, batch, optimizer=optimizer, shuffle=False)["loss"]
    want = train(p, optimizer, 2, batch)
    assert error(losses, want.losses) <= BOUND[dtype]
    assert error(model.params, want.params) <= BOUND[dtype]
    shuffled, order = ppo_model(p), np.random.default_rng(3).permutation(rows)
    shuffled.fit(p.X[order], p.y[order], 2, batch, optimizer=optimizer, shuffle=False)
    assert error(shuffled.params, train(p, optimizer, 2, batch, order=order).params) <= BOUND[dtype]


@pytest.mark.small
@settings(max_examples=4 if INTERPRETED else 30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 19), min_size=2, max_size=4),
    k=st.sampled_from([1, 2, 3, 8, 33]),
    rows=st.integers(1, 70),
    batch=st.integers(1, 80),
    weighted=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_numbers_of_outputs_and_targets(sizes: list[int], k: int, rows: int, batch: int, weighted: bool, seed: int) -> None:
    p = reference.problem(sizes, ["tanh"] * (len(sizes) - 2) + ["identity"], "mse", rows, seed)
    rng = np.random.default_rng(seed)
    p = p._replace(y=rng.standard_normal((rows, k)), loss=pair(mixed_rows))
    model = Model.from_weights(p.weights, p.biases, p.activations, RowLoss("mixed", mixed, k))
    optimizer, weights = SGD(0.01), rng.integers(0, 3, rows).astype(float) if weighted else None
    if weights is not None and not weights.any():
        weights[0] = 1
    order = rng.permutation(rows)
    losses = model.fit(
        p.X[order],
        p.y[order],
        1,
        batch,
        optimizer=optimizer,
        sample_weight=None if weights is None else weights[order],
        shuffle=False,
    )["loss"]
    want = train(p, optimizer, 1, batch, weights, order=order)
    assert error(losses, want.losses, 1e-3) <= 1e-12
    assert error(model.params, want.params) <= 1e-12
    again = Model.from_weights(p.weights, p.biases, p.activations, RowLoss("mixed", mixed, k))
    shuffled = again.fit(p.X, p.y, 1, None, optimizer=optimizer, sample_weight=weights)["loss"]
    assert error(shuffled, train(p, optimizer, 1, None, weights).losses, 1e-3) <= 1e-12


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("path", ["small", "strips", "groups", "blocks"])
def test_rows_with_weights(path: str, dtype: str) -> None:
    sizes, rows, batch = PATHS[path]
    p, weights = ppo_problem(sizes, rows, dtype), np.arange(rows) % 3
    model, optimizer = ppo_model(p), Adam(0.01, epsilon=1e-3)
    y = p.y.copy()
    y[weights == 0] = np.nan  # those do not count
    losses = model.fit(p.X, y, 2, batch, optimizer=optimizer, sample_weight=weights, shuffle=False)["loss"]
    want = train(p, optimizer, 2, batch, weights)
    assert error(losses, want.losses) <= BOUND[dtype]
    assert error(model.params, want.params) <= BOUND[dtype]


@pytest.mark.skipif(INTERPRETED, reason="without compiled code there is one thread")
@pytest.mark.parametrize("path", ["strips", "blocks", "groups"])
def test_bits_do_not_depend_on_the_number_of_threads(path: str, all_share: Any) -> None:
    sizes, rows, batch = PATHS[path]
    p, bits = ppo_problem(sizes, rows), set()
    for count in (1, 2, 3):
        fastmlp.set_num_threads(count)
        model = ppo_model(p, dropout=0.2)
        losses = model.fit(p.X, p.y, 2, batch, lr=0.1, rng=1, sample_weight=np.arange(rows) % 3 + 1)["loss"]
        losses += model.fit(p.X, p.y, 2, batch, lr=0.1, rng=1)["loss"]
        bits.add((model.params.tobytes(), *losses))
    assert len(bits) == 1


def test_a_step_is_pytorchs() -> None:
    """The same loss by automatic differentiation, and one step of Adam."""
    torch = pytest.importorskip("torch")
    p = ppo_problem((4, 16, 16, 3), 64)
    model = ppo_model(p)
    layers = [torch.nn.Linear(*shape, dtype=torch.float64) for shape in ((4, 16), (16, 16), (16, 3))]
    for layer, W, b in zip(layers, p.weights, p.biases, strict=True):
        layer.weight.data, layer.bias.data = torch.tensor(W.T.copy()), torch.tensor(b[0].copy())
    net = torch.nn.Sequential(layers[0], torch.nn.Tanh(), layers[1], torch.nn.Tanh(), layers[2])
    outputs, y = net(torch.tensor(p.X)), torch.tensor(p.y)
    policy = torch.distributions.Categorical(logits=outputs[:, :-1])
    ratio = torch.exp(policy.log_prob(y[:, 0]) - y[:, 2])
    gain = torch.minimum(ratio * y[:, 1], torch.clamp(ratio, 0.8, 1.2) * y[:, 1])
    loss = (-gain - 0.01 * policy.entropy() + (outputs[:, -1] - y[:, 3]) ** 2 / 2).mean()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    loss.backward()
    optimizer.step()
    assert error(model.step(p.X, p.y, optimizer=Adam(0.01)), loss.item()) < 1e-12
    weights, biases = ([getattr(layer, name).detach().numpy().T for layer in layers] for name in ("weight", "bias"))
    want = reference.flat(weights, biases)
    print(f"largest difference from PyTorch's parameters: {np.abs(model.params - want).max():.2g}")
    assert np.abs(model.params - want).max() < 1e-6
    assert np.abs(model.params - reference.flat(p.weights, p.biases)).max() > 5e-3


# ---- wherever a loss is used -----------------------------------------------------------------------------------------


def nearest(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    assert y_true.shape[1] == 4
    return float(np.mean(y_pred[:, :-1].argmax(axis=1) == y_true[:, 0]))


@pytest.mark.small
def test_a_fit_with_all_that_goes_with_it() -> None:
    p = ppo_problem((3, 8, 5), 40)
    model, seen = ppo_model(p), []
    weights = np.arange(40) + 1.0
    history = model.fit(
        p.X,
        p.y,
        3,
        10,
        optimizer=Adam(fastmlp.schedules.Cosine(0.01)),
        rng=0,
        sample_weight=weights,
        validation_split=0.25,
        metrics=nearest,
        callbacks=lambda model, logs: seen.append(logs["val_loss"]),
        nonfinite="stop",
    )
    assert list(history) == ["epoch", "loss", "lr", "nearest", "val_loss", "val_nearest"]
    assert history["val_loss"] == seen
    rest = slice(30, None)
    want = (weights[rest] * ppo_rows(model.predict(p.X[rest]), p.y[rest])[0]).sum() / weights[rest].sum()
    assert history["val_loss"][-1] == pytest.approx(want, rel=1e-12)
    other = ppo_model(p)
    other.fit(p.X, p.y, 1, validation_data=(p.X, p.y), verbose=0)
    assert other.loss(p.X, p.y) == pytest.approx(ppo_rows(other.predict(p.X), p.y)[0].mean(), rel=1e-12)


@pytest.mark.small
def test_batches_that_come_one_by_one() -> None:
    p = ppo_problem((3, 8, 5), 40)
    one, other = ppo_model(p), ppo_model(p)
    parts = [slice(0, 10), slice(10, 40)]
    one.fit_batches([(p.X[part], p.y[part]) for part in parts], 2, lr=0.1)
    for part in parts * 2:
        other.step(p.X[part], p.y[part], lr=0.1)
    np.testing.assert_array_equal(one.params, other.params)


def test_quasi_newton_steps() -> None:
    pytest.importorskip("scipy")
    p = ppo_problem((3, 8, 5), 40)
    losses = ppo_model(p).fit(p.X, p.y, 20, optimizer="lbfgs")["loss"]
    assert losses[-1] < losses[0] - 0.1
    assert (np.diff(losses) <= 0).all()


def test_two_heads_learn() -> None:
    """The actions of larger advantages become likelier, and the value becomes the return."""
    rng = np.random.default_rng(0)
    X, action = rng.standard_normal((600, 3)), rng.integers(0, 2, 600)
    better = (X[:, 0] > 0).astype(int)
    y = np.column_stack([action, np.where(action == better, 1.0, -1.0), np.full(600, np.log(0.5)), X.sum(axis=1)])
    model = Model([3, 32, 3], "tanh", PPO, rng=0)
    model.fit(X, y, 60, 60, optimizer=Adam(0.01), rng=0)
    out = model.predict(X)
    assert np.mean(out[:, :2].argmax(axis=1) == better) > 0.9
    assert np.corrcoef(out[:, 2], X.sum(axis=1))[0, 1] > 0.95


# ---- targets ---------------------------------------------------------------------------------------------------------


@pytest.mark.small
@pytest.mark.parametrize("k", [1, 2, 5])
def test_targets_of_other_forms(k: int) -> None:
    """Lists, integers, other layouts, and a vector of one number a row, as for other losses."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((6, 3)), rng.integers(-9, 9, (6, k))
    model = Model([3, 2], loss=RowLoss("mixed", mixed, k), rng=0)
    want = model.loss(X, y.astype(float))
    forms = [y, y.tolist(), np.asfortranarray(y), y.astype(np.float32), *([y[:, 0]] if k == 1 else [])]
    assert {model.loss(X, form) for form in forms} == {want}


@pytest.mark.small
@pytest.mark.parametrize("shape", [(6,), (6, 2), (6, 4), (5, 3), (6, 3, 1), ()])
def test_targets_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    model, X = Model([3, 2], loss=RowLoss("mixed", mixed, 3), rng=0), np.ones((6, 3))
    before = model.params.copy()
    calls = [
        model.loss,
        model.step,
        model.gradient,
        model.backward,
        model.fit,
        lambda X, y: model.fit(X, np.ones((6, 3)), validation_data=(X, y)),
        lambda X, y: model.fit_batches([(X, y)]),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"y must have (shape \(6, 3\) for 3 targets, got |as many rows as X, 6; got 5)"):
            call(X, np.ones(shape))
    np.testing.assert_array_equal(model.params, before)


@pytest.mark.small
def test_what_does_not_go_with_it_is_refused() -> None:
    p = ppo_problem((3, 8, 5), 12)
    model = ppo_model(p)
    for settings_, said in (
        ({"class_weight": "balanced"}, r"class_weight needs .* got loss='ppo' with y of shape \(12, 4\)"),
        ({"label_smoothing": 0.1}, "label_smoothing is for .* got loss='ppo'"),
        ({"metrics": "mse"}, "metrics: 'mse' is not for such a y"),
    ):
        with pytest.raises(ValueError, match=said):
            model.fit(p.X, p.y, **settings_)
    np.testing.assert_array_equal(model.params, ppo_model(p).params)


@pytest.mark.small
def test_arguments() -> None:
    assert RowLoss("mine", squares, np.int64(3)).targets == 3
    for value, kind, said in ((0, ValueError, "at least 1, got 0"), (1.5, TypeError, "an integer, got 1.5")):
        with pytest.raises(kind, match=f"^targets must be {said}$"):
            RowLoss("mine", squares, value)


def test_estimators_refuse_it() -> None:
    """Their y is what they predict."""
    pytest.importorskip("sklearn")
    regressor = fastmlp.MLPRegressor(PPO)
    with pytest.raises(ValueError, match=r"'loss' parameter .* an instance of 'fastmlp.losses.CustomLoss'"):
        regressor.fit(np.ones((3, 2)), np.ones(3))


@pytest.mark.small
def test_numbers_that_are_not_finite_are_said() -> None:
    p = ppo_problem((3, 8, 5), 12)
    p.y[4, 1] = np.nan
    assert np.isnan(ppo_model(p).loss(p.X, p.y))
    with pytest.warns(RuntimeWarning, match="the loss was nan in epoch 0: y is not finite in row 4"):
        ppo_model(p).fit(p.X, p.y, 2, lr=0.1)
    model = ppo_model(p)
    with pytest.raises(fastmlp.DivergenceError, match="the loss was nan at the end of epoch 0"):
        model.fit(p.X, p.y, 2, lr=0.1, nonfinite="raise")
    np.testing.assert_array_equal(model.params, ppo_model(p).params)
    p.y[:] = 1e300
    p.y[:, 0] = 0
    with pytest.warns(RuntimeWarning, match="epoch 0: try a smaller lr"):  # targets are no numbers to scale
        ppo_model(p).fit(p.X, p.y, 2, lr=0.1)


# ---- cost ------------------------------------------------------------------------------------------------------------


@compiled
def test_the_loop_is_lean(dtype: Any) -> None:
    """The function is part of it: no call, no array that is made or counted."""
    loss = RowLoss("squares", squares, 3)
    code = loss.code(dtype)
    made = next(made for made, table in _ALIVE if table.ctypes.data == code)[0][0]
    text = made.inspect_asm(made.signatures[0])
    assert "NRT" not in text
    assert "call" not in [line.split()[0] for line in text.splitlines() if line.split()]
    assert text.count("ret") >= 1


@compiled
def test_no_number_is_computed_by_python() -> None:
    p, ran = ppo_problem((3, 50, 5), 200), set()
    model = ppo_model(p)
    model.fit(p.X, p.y)
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, arg: ran.add(frame.f_code))
    try:
        model.fit(p.X, p.y)
        model.step(p.X, p.y)
    finally:
        sys.setprofile(before)
    assert Model.fit.__code__ in ran
    assert ppo.__code__ not in ran


@compiled
def test_a_function_is_compiled_once() -> None:
    one, other = (RowLoss(name, fast, 2) for name in ("one", "other"))
    assert one.code(np.dtype("float64")) == other.code(np.dtype("float64"))
    assert one.code(np.dtype("float32")) != one.code(np.dtype("float64"))
    assert RowLoss("one", fast, 3).code(np.dtype("float64")) != one.code(np.dtype("float64"))


@njit(fastmath=True)
def fast(p, t, d):
    d[:] = t[0]
    return p.sum() * t[0]
