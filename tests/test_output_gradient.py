"""Gradients of the user's own: what `backward`, `gradient` and `step` make of those by the outputs, or by the last z."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import BOUND, HIDDEN, LOSSES, OUTPUT, SIZES, error
from reference_update import PATHS, oracle, path_problem

import fastmlp
from fastmlp import SGD, Adam, CustomActivation, CustomLoss, Model
from fastmlp.kernels import tuning
from fastmlp.kernels.machine.interpreted import INTERPRETED
from fastmlp.kernels.net import train as kernels
from fastmlp.optimizers import NAMED

compiled = pytest.mark.skipif(INTERPRETED, reason="without compiled code there is one thread")


def of(p: Any, **changes: Any) -> Model:
    return Model.from_weights(p.weights, p.biases, p.activations, **{"loss": p.loss, **changes})


def flat(found: Any) -> np.ndarray:
    return np.concatenate([reference.flat(found.weights, found.biases), np.ravel(found.inputs)])


def draw(model: Model, rows: int, seed: int = 5) -> np.ndarray:
    """Any gradient by the outputs."""
    return np.random.default_rng(seed).standard_normal((rows, model.sizes[-1])).astype(model.dtype)


# ---- the built-in losses, by hand ------------------------------------------------------------------------------------


def by_hand(loss: str, z: np.ndarray, a: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean loss's gradient by the outputs a, and by the last z of the activation that the loss asks for."""
    e = a - y
    if loss == "bce":
        return e / (a * (1 - a)) / y.size, e / y.size
    if loss == "cross_entropy":
        return -y / a / len(y), e / len(y)
    slope = {"mse": 2 * e, "mae": np.sign(e), "huber": np.clip(e, -1, 1), "poisson": np.exp(z) - y}[loss] / y.size
    return slope, slope


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("loss", LOSSES)
def test_is_the_losses_own(loss: str, path: str) -> None:
    """Wherever a step of that loss would have gone."""
    p = path_problem(path, loss)
    model, y = of(p), reference.targets(p.y, p.weights[-1].shape[1], loss)
    (z, a), want = model.layer_outputs(p.X)[-1], flat(model.backward(p.X, p.y))
    by_output, by_logit = by_hand(loss, z, a, y)
    for G, logits in ((by_output, False), (by_logit, True)):
        got = model.backward(p.X, output_gradient=G, logits=logits)
        assert got.loss is None
        # A single class's softmax is 1: what is left of its gradient is the rounding of what cancels.
        assert error(flat(got), want, floor=np.abs(G).max()) <= 1e-12
        none, vector = model.gradient(p.X, output_gradient=G, logits=logits)
        assert none is None
        np.testing.assert_array_equal(vector, reference.flat(got.weights, got.biases))


@pytest.mark.parametrize("loss", LOSSES)
def test_the_models_own_loss_takes_no_part(loss: str) -> None:
    """With one output activation, which loss the model was built with changes no bit; nor does what it was asked for before."""
    output = OUTPUT.get(loss, "softmax")
    p = reference.problem([7, 20, 3], ["tanh", output], loss, 30)
    custom = CustomLoss("own", lambda p, y: p * p * y, lambda p, y: 2 * p * y)
    model, others = of(p), [of(p, loss=other) for other in ("mse", "huber", custom)]
    G = draw(model, 30)
    model.loss(p.X, p.y), model.step(p.X, p.y, lr=0.1), model.params.__setitem__(slice(None), others[0].params)
    for logits in (False, True):
        want = flat(model.backward(p.X, output_gradient=G, logits=logits))
        for other in others:
            np.testing.assert_array_equal(flat(other.backward(p.X, output_gradient=G, logits=logits)), want)


# ---- numerical differences -------------------------------------------------------------------------------------------

WAVE = np.random.default_rng(3).standard_normal((3, 2))


def composed(v: np.ndarray) -> float:
    """A loss that is nobody's: it looks across rows and outputs."""
    return float(np.sum(np.sin(v) * WAVE) + np.prod(v[0]) + np.sum(v) ** 2)


def composed_slope(v: np.ndarray) -> np.ndarray:
    slope = np.cos(v) * WAVE + 2 * np.sum(v)
    slope[0] += v[0, ::-1]
    return slope


@pytest.mark.small
@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("output", reference.ACTIVATIONS)
def test_is_the_slope_of_any_loss(output: str, logits: bool) -> None:
    p = reference.problem_away_from_kinks([3, 7, 2], ["tanh", output], "mse", rows=3)
    model, X = of(p), p.X.copy()

    def value() -> np.ndarray:
        z, a = model.layer_outputs(X)[-1]
        return z if logits else a

    got = model.backward(X, output_gradient=composed_slope(value()), logits=logits)
    params = reference.central_differences(lambda: composed(value()), model.params)
    assert error(reference.flat(got.weights, got.biases), params) < 1e-6
    assert error(got.inputs, reference.central_differences(lambda: composed(value()), X)) < 1e-6


@pytest.mark.small
def test_custom_activations() -> None:
    p = reference.problem([3, 7, 2], ["tanh", "identity"], "mse", rows=3)
    bent = CustomActivation("bent", lambda z: z + 0.1 * z * z, lambda z: 1 + 0.2 * z)
    model, X = Model.from_weights(p.weights, p.biases, ["tanh", bent]), p.X
    got = model.backward(X, output_gradient=composed_slope(model.predict(X)))
    slopes = reference.central_differences(lambda: composed(model.predict(X)), model.params)
    assert error(reference.flat(got.weights, got.biases), slopes) < 1e-6


# ---- against the oracle ----------------------------------------------------------------------------------------------

repeatable = settings(max_examples=80, deadline=None, derandomize=True, database=None)


@st.composite
def problems(draw: Any) -> Any:
    """A net of any losses and activations, a gradient for its outputs, and what that is the gradient by."""
    sizes = draw(st.lists(st.sampled_from(SIZES), min_size=2, max_size=5))
    loss = draw(st.sampled_from(list(LOSSES)))
    output = OUTPUT.get(loss) or draw(st.sampled_from(list(reference.ACTIVATIONS)))
    hidden = [draw(st.sampled_from(HIDDEN)) for _ in sizes[2:]]
    rows, seed = draw(st.integers(1, 60)), draw(st.integers(0, 999))
    p = reference.problem(sizes, [*hidden, output], loss, rows, seed, draw(st.sampled_from([*BOUND])))
    G = np.random.default_rng(seed).standard_normal((rows, sizes[-1])).astype(p.X.dtype)
    return p, G, draw(st.booleans())


@repeatable
@given(problems())
def test_any_net_equals_the_oracle(case: Any) -> None:
    p, G, logits = case
    model, want = of(p), reference.pulled(p.X, G, *p[2:5], logits)
    bound = 10 * BOUND[str(model.dtype)]  # up to four layers, of gradients that are not divided by rows
    got = model.backward(p.X, output_gradient=G, logits=logits)
    assert error(got.inputs, want.inputs, floor=1) <= bound
    assert error(reference.flat(got.weights, got.biases), reference.flat(want.weights, want.biases), floor=1) <= bound
    assert all(array.dtype == model.dtype for array in (*got.weights, *got.biases, got.inputs))


@repeatable
@given(problems(), st.integers(-3, 3))
def test_it_is_linear_and_the_rows_sum(case: Any, power: int) -> None:
    """Twice the gradient is twice the answer, to the bit; two parts of the rows sum to the whole."""
    p, G, logits = case
    model = of(p)
    whole = model.gradient(p.X, output_gradient=G, logits=logits)[1]
    np.testing.assert_array_equal(model.gradient(p.X, output_gradient=G * 2**power, logits=logits)[1], whole * 2**power)
    half = len(G) // 2
    parts = [part for part in (slice(half), slice(half, None)) if G[part].size]
    answers = [model.gradient(p.X[part], output_gradient=G[part], logits=logits)[1] for part in parts]
    assert error(sum(answers), whole, floor=1) <= 10 * BOUND[str(model.dtype)]


WHOLE: dict[str, Any] = {"l1": 1e-3, "l2": 1e-2, "clip_value": 0.5, "clip_norm": 1.0, "ema": 0.5}
STEPPING = [kind for name, kind in NAMED.items() if name != "lbfgs"]
OPTIMIZERS = [
    *(kind() for kind in STEPPING),
    *(kind(**WHOLE) for kind in STEPPING),
    SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    Adam(0.01, weight_decay=0.01),
]


@pytest.mark.small
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda one: f"{type(one).__name__}{' whole' * bool(one.l1)}")
def test_steps_are_the_oracles(optimizer: Any) -> None:
    """Of L = sum(cosh(a - y)), whose slope each step finds anew."""
    p = reference.problem([4, 9, 2], ["tanh", "softplus"], "mse", 12)
    model, params, state = of(p), [*p.weights, *p.biases], {}
    step = oracle(optimizer)
    for _ in range(4):
        weights, biases = params[:2], params[2:]
        G = np.sinh(reference.forward(p.X, weights, biases, p.activations) - p.y)
        found = reference.pulled(p.X, G, weights, biases, p.activations)
        params, state = step(params, found.weights + found.biases, state)
        assert model.step(p.X, optimizer=optimizer, output_gradient=np.sinh(model.predict(p.X) - p.y)) is None
        assert error(model.params, reference.flat(params[:2], params[2:])) <= 1e-11
    if optimizer.ema:
        assert model.average is not None
        assert error(model.average, reference.flat(state["mean"][:2], state["mean"][2:])) <= 1e-11


# ---- to the bit ------------------------------------------------------------------------------------------------------

LINEAR = CustomLoss("linear", lambda p, y: p * y, lambda p, y: y)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("sizes", [(3, 5, 4), (5, 17, 4), (130, 140, 4), (3, 1100, 20, 4), (4, 12, 4)], ids=str)
def test_a_step_is_one_of_a_linear_loss(sizes: tuple[int, ...], dropout: float, dtype: Any) -> None:
    """Whose mean is over a power of two: all of the step but the loss is the same, dropout included."""
    rows = 2048 if sizes == (4, 12, 4) else 64
    activations = [*["gelu"] * (len(sizes) - 2), "sigmoid"]
    own, linear = (Model(sizes, activations, loss, dtype, rng=0, dropout=dropout) for loss in ("mse", LINEAR))
    X = np.random.default_rng(0).standard_normal((rows, sizes[0])).astype(dtype)
    G = draw(own, rows)
    optimizer = Adam(0.01, l2=0.01, clip_norm=0.5)
    for _ in range(3):
        linear.step(X, G * (rows * 4), optimizer=optimizer)
        own.step(X, output_gradient=G, optimizer=optimizer)
        np.testing.assert_array_equal(own.params, linear.params)


@pytest.mark.parametrize("path", PATHS)
def test_other_calls_know_nothing_of_it(path: str) -> None:
    """Whatever comes between two steps of a loss's own; of a net that takes them on the narrow path, or in registers, too."""
    p = path_problem(path)
    model, plain = of(p), of(p)
    for call in (
        lambda m: m.step(p.X, p.y, lr=0.1),
        lambda m: m.step(p.X, p.y, lr=0.1),
        lambda m: m.loss(p.X, p.y),
        lambda m: m.gradient(p.X, p.y)[1].tobytes(),
        lambda m: m.fit(p.X, p.y, 2, 4, optimizer=Adam(), rng=0)["loss"],
        lambda m: m.predict(p.X).tobytes(),
    ):
        kept = model.copy()
        model.step(p.X, output_gradient=draw(model, len(p.X)), lr=0.1)
        model.gradient(p.X, output_gradient=draw(model, len(p.X)), logits=True)
        model.apply_gradient(np.ones(model.params.size))
        model._engine.restore(kept._engine.save())
        assert call(model) == call(plain)
        np.testing.assert_array_equal(model.params, plain.params)


NETS = {
    "strips": ((20, 140, 130, 3), 330),
    "blocks": ((7, 150, 160, 2), 1500),
    "one output": ((40, 33, 1), 300),
    "groups": ((5, 30, 20, 3), 2500),
    "narrow": ((2, 2, 1), 9000),
}


def stepped(net: str, dtype: Any, threads: int, **how: Any) -> Model:
    (sizes, rows), rng = NETS[net], np.random.default_rng(1)
    fastmlp.set_num_threads(threads)
    model = Model(sizes, "tanh", dtype=dtype, rng=0)
    X, y = rng.standard_normal((rows, sizes[0])), rng.standard_normal((rows, sizes[-1]))
    for _ in range(2):
        G = (model.predict(X) - y) / rows
        model.step(X, optimizer=Adam(1e-3, clip_norm=1.0), output_gradient=G)
        model.step(X, y, optimizer=Adam(1e-3), sample_weight=y[:, 0])
        model.step(X, lr=0.1, output_gradient=G, logits=True)
    return model


@compiled
@pytest.mark.parametrize("net", NETS)
def test_bits_do_not_depend_on_threads_nor_on_where_calls_end(
    net: str, dtype: Any, all_share: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares, train = set(), kernels.train

    def watched(*args: Any) -> bool:
        shares.add(args[-1])
        return train(*args)

    model = stepped(net, dtype, 1)
    assert np.isfinite(model.params).all()
    monkeypatch.setattr(kernels, "train", watched)
    for count in (2, 3, 7):
        np.testing.assert_array_equal(stepped(net, dtype, count).params, model.params)
    assert shares == {2, 3, 7}  # a narrow net's steps too: they do not take that path
    monkeypatch.setattr(tuning, "CALL_TURN", 0)  # a call ends behind each block
    monkeypatch.setattr(tuning, "CALL_SECONDS", 0)
    np.testing.assert_array_equal(stepped(net, dtype, 2).params, model.params)


def test_threads_of_python_take_turns() -> None:
    """Eight of them step one model, each by the same gradient: the sum is that of as many steps."""
    model, X = Model([5, 3], rng=0), np.random.default_rng(0).standard_normal((20, 5))
    G = draw(model, 20)
    _, g = model.gradient(X, output_gradient=G)
    want = model.params - 80 * 2.0**-10 * g
    threads = [
        threading.Thread(target=lambda: [model.step(X, lr=2.0**-10, output_gradient=G) for _ in range(10)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert error(model.params, want) < 1e-13


# ---- what is given ---------------------------------------------------------------------------------------------------


@pytest.mark.small
def test_forms_of_the_gradient() -> None:
    model, X = Model([3, 4, 2], "tanh", rng=0, dtype="float32"), np.random.default_rng(0).standard_normal((5, 3))
    G = np.random.default_rng(1).standard_normal((5, 2)).astype("f4")
    want = model.gradient(X, output_gradient=G)[1]
    forms: list[Any] = [G.tolist(), G.astype("f8"), np.asfortranarray(G), np.repeat(G, 2, axis=1)[:, ::2], G[::-1][::-1]]
    for form in forms:
        np.testing.assert_array_equal(model.gradient(X, output_gradient=form)[1], want)
    frozen = G.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(model.gradient(X, output_gradient=frozen)[1], want)
    np.testing.assert_array_equal(frozen, G)
    whole = model.gradient(X, output_gradient=np.ones((5, 2), int))[1]
    np.testing.assert_array_equal(whole, model.gradient(X, output_gradient=np.ones((5, 2)))[1])
    single = Model([3, 1], rng=0)
    np.testing.assert_array_equal(
        single.gradient(X, output_gradient=np.arange(5.0))[1], single.gradient(X, output_gradient=np.arange(5.0)[:, None])[1]
    )


@pytest.mark.small
def test_not_a_number_is_not_hidden() -> None:
    """Nor does it spread: a row whose outputs overflow has the gradient that is given for it."""
    model, X = Model([3, 2], rng=0), np.ones((4, 3))
    G = np.ones((4, 2))
    G[2, 1] = np.nan
    got = model.backward(X, output_gradient=G)
    assert np.isnan(got.inputs[2]).all()
    assert np.isfinite(np.delete(got.inputs, 2, axis=0)).all()
    assert np.isnan(got.weights[0][:, 1]).all()
    assert np.isfinite(got.weights[0][:, 0]).all()
    model.params[:] = 1e308
    assert np.isinf(model.predict(X)).all()
    assert model.step(X, lr=1e-9, output_gradient=np.ones((4, 2))) is None
    np.testing.assert_array_equal(model.gradient(X, output_gradient=np.ones((4, 2)))[1], [4.0] * 8)


CALLS: list[Callable[..., Any]] = [Model.backward, Model.gradient, Model.step]


@pytest.mark.small
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_what_does_not_go_together(call: Callable[..., Any]) -> None:
    model, X = Model([3, 2], rng=0), np.ones((4, 3))
    y = G = np.ones((4, 2))
    kept = model.params.copy()
    with pytest.raises(TypeError, match=r"^y must be given, or output_gradient in its place$"):
        call(model, X)
    with pytest.raises(ValueError, match=r"^output_gradient must not be given together with y$"):
        call(model, X, y, output_gradient=G)
    with pytest.raises(ValueError, match=r"^output_gradient must not be given together with sample_weight$"):
        call(model, X, sample_weight=np.ones(4), output_gradient=G)
    with pytest.raises(ValueError, match=r"^logits=True must be given together with output_gradient, which it is about$"):
        call(model, X, y, logits=True)
    np.testing.assert_array_equal(model.params, kept)
    call(model, X, y, logits=False)


# ---- beside automatic differentiation --------------------------------------------------------------------------------


def clipped_policy(torch: Any, outputs: Any, old: Any, actions: Any, advantages: Any) -> Any:
    """PPO's clipped objective with an entropy bonus (Schulman et al., 2017), of probabilities."""
    chosen = outputs[torch.arange(len(actions)), actions]
    ratio = chosen / old
    bounded = torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
    return -bounded.mean() + 0.01 * (outputs * outputs.log()).sum(1).mean()


def pendulum(torch: Any, outputs: Any, theta: Any) -> Any:
    """The squared residual of an implicit Euler step of a damped pendulum, and its drift of energy."""
    angle, speed = outputs[:, 0], outputs[:, 1]
    residual = (angle - theta - 0.1 * speed) ** 2 + (speed + 0.1 * (torch.sin(angle) + 0.2 * speed)) ** 2
    energy = 0.5 * speed**2 - torch.cos(angle)
    return residual.sum() + (energy - energy.mean()).pow(2).mean()


def contrastive(torch: Any, outputs: Any) -> Any:
    """InfoNCE of pairs of rows (van den Oord et al., 2018): each row's loss depends on all the others."""
    unit = outputs / outputs.norm(dim=1, keepdim=True)
    first, second = unit[::2], unit[1::2]
    return torch.nn.functional.cross_entropy(first @ second.T / 0.2, torch.arange(len(first)), reduction="sum")


@pytest.mark.parametrize("name", ["policy", "policy by logits", "pendulum", "contrastive"])
def test_equals_pytorchs(name: str) -> None:
    """The whole graph in PyTorch beside the net in fastmlp and only the loss in PyTorch."""
    torch = pytest.importorskip("torch")
    rng, rows = np.random.default_rng(0), 48
    outputs = {"pendulum": 2, "contrastive": 6}.get(name, 3)
    last = "softmax" if "policy" in name else "identity"
    p = reference.problem([5, 33, 20, outputs], ["tanh", "gelu", last], "mse", rows)
    model, logits = of(p), name == "policy by logits"
    actions, advantages = torch.tensor(rng.integers(0, outputs, rows)), torch.tensor(rng.standard_normal(rows))
    old = torch.tensor(rng.uniform(0.2, 0.5, rows))

    def loss(a: Any) -> Any:
        if name == "pendulum":
            return pendulum(torch, a, theta)
        return contrastive(torch, a) if name == "contrastive" else clipped_policy(torch, a, old, actions, advantages)

    x = torch.tensor(p.X, requires_grad=True)
    theta = x.detach()[:, 0]
    parameters = [torch.tensor(v, requires_grad=True) for pair in zip(p.weights, p.biases, strict=True) for v in pair]
    w1, b1, w2, b2, w3, b3 = parameters
    z = torch.nn.functional.gelu(torch.tanh(x @ w1 + b1) @ w2 + b2) @ w3 + b3
    loss(torch.softmax(z, 1) if last == "softmax" else z).backward()
    want = np.concatenate([v.grad.numpy().ravel() for v in (*parameters, x)])

    (z_here, a_here) = model.layer_outputs(p.X)[-1]
    by = torch.tensor(z_here if logits else a_here, requires_grad=True)
    loss(torch.softmax(by, 1) if logits else by).backward()
    got = model.backward(p.X, output_gradient=by.grad.numpy(), logits=logits)
    ours = np.concatenate([model.gradient(p.X, output_gradient=by.grad.numpy(), logits=logits)[1], got.inputs.ravel()])
    assert error(ours, want) < 1e-12
