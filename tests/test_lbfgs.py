"""L-BFGS: against SciPy on the oracle's loss and gradient, and what ends it."""

import builtins
import dataclasses
import re

import numpy as np
import pytest
import reference
from reference import error

from fastmlp import Adam, Model
from fastmlp.training.lbfgs import LBFGS, check, minimize

optimize = pytest.importorskip("scipy.optimize")
TIGHT = LBFGS(tol=0.0, ftol=0.0)  # goes on for all iterations


def of(p, **options):
    return Model.from_weights(*p[2:], **options)


def run(model, p, optimizer=TIGHT, epochs=30, look=lambda losses: None):
    return minimize(model._engine, *model._data(p.X, p.y), optimizer, epochs, look)


def some_problem(loss="mse", dtype="float64", sizes=(5, 8, 3)):
    return reference.problem(sizes, ["tanh", reference.OUTPUT.get(loss, "identity")], loss, 40, dtype=dtype)


def want(p, optimizer, epochs):
    """The parameters and losses by SciPy on the oracle."""
    depth, shapes = len(p.weights), [array.shape for pair in zip(p.weights, p.biases, strict=True) for array in pair]
    ends = np.cumsum([np.prod(shape) for shape in shapes])[:-1]
    losses = []

    def value(x):
        arrays = [part.reshape(shape) for part, shape in zip(np.split(x, ends), shapes, strict=True)]
        weights, biases = arrays[::2], arrays[1::2]
        g = reference.gradients(p.X, p.y, weights, biases, *p[4:])
        loss = g.loss + optimizer.l2 / 2 * sum(np.sum(w**2) for w in weights)
        return loss, reference.flat([dw + optimizer.l2 * w for dw, w in zip(g.weights, weights, strict=True)], g.biases)

    start = reference.flat(p.weights, p.biases)
    assert depth == len(ends) // 2 + 1
    result = optimize.minimize(
        value,
        start,
        jac=True,
        method="L-BFGS-B",
        callback=lambda intermediate_result: losses.append(intermediate_result.fun),
        options={"maxiter": epochs, "maxcor": optimizer.history, "ftol": optimizer.ftol, "gtol": optimizer.tol},
    )
    return result.x, [value(start)[0], *losses]


@pytest.mark.parametrize(
    "optimizer", [TIGHT, dataclasses.replace(TIGHT, l2=0.1), dataclasses.replace(TIGHT, history=3)], ids=str
)
@pytest.mark.parametrize("loss", ["mse", "huber", "bce", "cross_entropy"])
def test_each_iteration_equals_the_oracles(loss, optimizer):
    """As many as rounding has not yet told apart: 1e-16 grows by curvature over curvature."""
    p = some_problem(loss)
    model, (params, losses) = of(p), want(p, optimizer, 15)
    got = run(model, p, optimizer, 15)
    assert len(got) == 15
    assert error(got, losses[:15]) <= 1e-8
    assert error(model.params, params) <= 1e-6
    assert error(run(model, p, optimizer, 1), losses[15:16]) <= 1e-8
    assert (np.diff(losses) < 0).all()


def test_float32_models_reach_the_same_minimum():
    """The vector is float64; only the loss and the gradient are float32's, which ends the search where rounding hides it."""
    p = some_problem("cross_entropy", "float32")
    model, (params, losses) = of(p), want(p, LBFGS(l2=0.1), 200)
    got = run(model, p, LBFGS(l2=0.1), 200)
    assert model.dtype == np.float32
    assert error(got[-1], losses[-1]) <= 1e-5
    assert error(model.params, params) <= 0.02


@pytest.mark.small
def test_a_linear_fit_is_the_least_squares():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((20, 3)), rng.standard_normal((20, 2))
    model = Model([3, 2], rng=0)
    losses = minimize(model._engine, *model._data(X, y), LBFGS(tol=1e-10, ftol=0.0), 100, lambda losses: None)
    best = np.linalg.lstsq(np.column_stack([X, np.ones(20)]), y, rcond=None)[0]
    np.testing.assert_allclose(model.weights[0], best[:3], atol=1e-8)
    np.testing.assert_allclose(model.biases[0][0], best[3], atol=1e-8)
    assert 3 < len(losses) < 50
    assert losses == sorted(losses, reverse=True)


@pytest.mark.small
def test_the_penalty_spares_the_biases():
    model = Model.from_weights([np.full((1, 1), 2.0)], [np.full(1, 3.0)])
    losses = minimize(model._engine, *model._data([[0.0]], [[3.0]]), LBFGS(l2=0.5, tol=1e-9), 100, lambda losses: None)
    assert losses[0] == 1.0  # 0.5 / 2 * 2**2
    np.testing.assert_allclose(model.params, [0, 3], atol=1e-8)


@pytest.mark.small
def test_weighted_rows_are_repeated_ones():
    p = some_problem()
    n = np.arange(40) % 3
    weighted, repeated = of(p), of(p)
    X, y, code = weighted._data(p.X, p.y)
    got = minimize(weighted._engine, X, np.column_stack([y, n]), code, TIGHT, 5, lambda losses: None, weighted=True)
    losses = run(repeated, p._replace(X=np.repeat(p.X, n, axis=0), y=np.repeat(p.y, n, axis=0)), epochs=5)
    assert error(got, losses) <= 1e-12
    assert error(weighted.params, repeated.params) <= 1e-10


# ---- what ends it ----------------------------------------------------------------------------------------------------


@pytest.mark.small
def test_it_stops_by_its_settings():
    p = some_problem()
    assert len(run(of(p), p, TIGHT, 7)) == 7
    assert len(run(of(p), p, LBFGS(tol=0.05, ftol=0.0), 200)) < len(run(of(p), p, LBFGS(tol=0.01, ftol=0.0), 200)) < 200
    assert len(run(of(p), p, LBFGS(tol=0.0, ftol=0.1), 200)) < len(run(of(p), p, LBFGS(tol=0.0, ftol=0.001), 200)) < 200
    assert 3 < len(run(of(p), p, LBFGS(tol=0.0, ftol=0.0, max_evaluations=5), 200)) < 7
    assert error(run(of(p), p, LBFGS(tol=10.0)), [of(p).loss(p.X, p.y)]) <= 1e-14  # nowhere to go: the loss all the same


@pytest.mark.small
def test_look_sees_each_iteration_and_may_end_it():
    p = some_problem()
    model, seen = of(p), []

    def look(losses):
        seen.append((len(losses), losses[-1], model.loss(p.X, p.y)))
        if len(losses) == 4:
            raise StopIteration

    losses = run(model, p, TIGHT, 100, look)
    assert [count for count, _, _ in seen] == [1, 2, 3, 4]
    assert losses == [loss for _, loss, _ in seen]
    assert error([after for _, _, after in seen[:-1]], losses[1:]) <= 1e-14
    assert model.loss(p.X, p.y) == seen[-1][2]  # where the fourth led


@pytest.mark.small
@pytest.mark.parametrize("failure", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("where", ["look", "gradient"])
def test_a_failure_leaves_the_last_iterations_parameters(failure, where, monkeypatch):
    p = some_problem()
    model = of(p)
    kept, calls = [model.params.copy()], 0

    def look(losses):
        kept.append(model.params.copy())
        if where == "look" and len(kept) == 4:
            raise failure

    gradient = model._engine.gradient

    def failing(*args):
        nonlocal calls
        calls += 1
        if where == "gradient" and calls == 6:
            raise failure
        return gradient(*args)

    monkeypatch.setattr(model._engine, "gradient", failing)
    with pytest.raises(failure):
        run(model, p, TIGHT, 100, look)
    assert len(kept) > 3
    np.testing.assert_array_equal(model.params, kept[-1])
    monkeypatch.undo()
    assert model.loss(p.X, p.y) < of(p).loss(p.X, p.y)


@pytest.mark.small
def test_nan_is_reported_and_the_parameters_stay():
    p = some_problem()
    p.X[3, 1] = np.nan
    model = of(p)
    assert np.isnan(run(model, p)).all()
    np.testing.assert_array_equal(model.params, of(p).params)


@pytest.mark.small
def test_the_optimisers_state_is_left_alone():
    p = some_problem()
    plain, model = of(p), of(p)
    for one in (plain, model):
        one.step(p.X, p.y, optimizer=Adam(0.01))
    before = model.params.copy()
    run(model, p, epochs=3)
    assert error(model.params, before) > 1e-3
    model.params[:] = before
    for one in (plain, model):
        one.step(p.X, p.y, optimizer=Adam(0.01))
    np.testing.assert_array_equal(model.params, plain.params)


# ---- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.small
def test_what_it_refuses():
    check(10, 10, False)
    check(99, 10, False)
    with pytest.raises(ValueError, match=re.escape("batch_size must be None, or all 10 rows, for optimizer=LBFGS(), got 9")):
        check(9, 10, False)
    with pytest.raises(ValueError, match="without dropout"):
        check(10, 10, True)
    for setting, refusal in (
        ({"history": 0}, ValueError),
        ({"history": 2.5}, TypeError),
        ({"max_evaluations": 0}, ValueError),
        ({"tol": -1.0}, ValueError),
        ({"ftol": np.nan}, ValueError),
        ({"l2": -1.0}, ValueError),
        ({"l2": "1"}, TypeError),
        ({"l1": 0.1}, TypeError),
        ({"lr": 0.1}, TypeError),
    ):
        with pytest.raises(refusal, match=next(iter(setting))):
            LBFGS(**setting)


@pytest.mark.small
def test_it_is_a_value():
    assert LBFGS() == LBFGS(10, 1e-5, 2.2e-9, 15000, 0.0)
    assert LBFGS() != LBFGS(5)
    assert hash(LBFGS()) == hash(LBFGS())
    with pytest.raises(dataclasses.FrozenInstanceError):
        LBFGS().l2 = 1


@pytest.mark.small
def test_without_scipy_the_message_says_what_to_install(monkeypatch):
    imported = builtins.__import__

    def failing(name, *args, **kwargs):
        if name.partition(".")[0] == "scipy":
            raise ImportError(f"No module named {name!r}")
        return imported(name, *args, **kwargs)

    p = some_problem()
    model, begun = of(p), []

    class Callback:
        def on_train_begin(self, model, logs):
            begun.append(logs)

    monkeypatch.setattr(builtins, "__import__", failing)
    with pytest.raises(ImportError, match=re.escape('pip install "fastmlp[lbfgs]"')):
        model.fit(p.X, p.y, optimizer=LBFGS(), callbacks=Callback())
    assert not begun


def test_scipy_is_imported_only_when_it_is_needed(python):
    """Numba imports some of it by itself."""
    assert python("import sys, fastmlp, fastmlp.training.lbfgs; print('scipy.optimize' in sys.modules)") == "False\n"
