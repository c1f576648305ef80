"""Every public parameter of every public function with what it refuses: the error's words, and that nothing has changed.

`scikit-learn`'s estimators and the kernels have tables of their own.
"""

from __future__ import annotations

import inspect
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.neural_network import MLPRegressor

import fastmlp
from fastmlp import Adam, CustomActivation, CustomLoss, History, Model, RowLoss, metrics, schedules
from fastmlp.optimizers import NAMED

pytestmark = pytest.mark.small

X, Y = np.random.default_rng(0).standard_normal((6, 3)), np.random.default_rng(1).standard_normal((6, 2))
LABELS = np.array([0, 1, 1, 0, 1, 0])
W, B = [np.ones((3, 4)), np.ones((4, 2))], [np.zeros(4), np.zeros(2)]
HUGE = 2**41


def like(value: float, shape: tuple[int, ...] = (6, 3)) -> np.ndarray:
    """An array of ones with another number at the end."""
    array = np.ones(shape)
    array.flat[-1] = value
    return array


class Rates(schedules.Schedule):
    """A schedule with rates to order."""

    def __init__(self, rates: Any) -> None:
        self.given = rates

    def rates(self, first: int, count: int, steps: int, epochs: int) -> Any:
        return self.given


class Watches:
    """A callback that watches something."""

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor

    def on_epoch_end(self, model: Model, logs: dict[str, Any]) -> None: ...


# What each parameter refuses: values, with what the error says of each.
Bad = list[tuple[Any, str]]


def whole(name: str, least: int = 1) -> Bad:
    """Of a count."""
    integers = f"^{name} must be an integer, got "
    return [
        *((value, integers + re.escape(repr(value))) for value in ("1", 1.5, np.float64(1), True, np.True_, [1], 1j)),
        (least - 1, f"^{name} must be at least {least}, got {least - 1}$"),
        (HUGE, f"^{name} must be at most {2**40}, got {HUGE}$"),
    ]


def number(name: str, *outside: float) -> Bad:
    """Of a real number."""
    kinds = f"^{name} must be a number, got "
    finite = f"^{name} must be a finite number .*got "
    return [
        *((value, kinds + re.escape(repr(value))) for value in ("0.1", True, np.True_, [0.1], 1j, np.array(0.5))),
        *((value, finite) for value in (np.nan, np.inf, 10**400, *outside)),
    ]


def flag(name: str) -> Bad:
    """Of True or False."""
    return [(value, f"^{name} must be True or False, got ") for value in (1, 0, "yes", None, np.array([True]))]


def array(name: str, shape: str, *wrong: Any) -> Bad:
    """Of an array of numbers."""
    kinds = f"^{name} must hold real numbers, got "
    return [
        *((value, kinds) for value in (None, "1", {"a": 1}, like(1).astype(str), like(1).astype(object), like(1) * 1j)),
        *((value, kinds) for value in (like(1).astype("M8[s]"), like(1).astype("m8[s]"), like(1).astype("S4"), [["1"] * 3])),
        ([[1.0, 2.0], [3.0]], f"^{name} must be an array of numbers, got list: "),
        (np.ma.masked_equal(like(2), 2), f"^{name} must not have masked entries"),
        *((value, shape) for value in wrong),
    ]


def choice(name: str, known: str) -> Bad:
    """Of one name of several."""
    return [(value, f"^{name} must be one of .*{known}.*; got ") for value in ("no such", 3, None, ["x"])]


LR = [
    *number("lr", 0, -0.1),
    (Rates([0.1]), "^lr must be a number: a single step has no epochs"),
    (Adam(), "^lr must be a number, got Adam"),
]
SCHEDULE = [
    *number("lr", 0, -0.1),
    (schedules.Constant, "^lr must be a number, got <class"),
    (Rates([-0.1]), r"^Rates.rates must return . finite numbers"),
    (Rates(["0.1"]), "^Rates.rates must hold real numbers"),
    (Rates(np.ones(99)), r"^Rates.rates must return . finite numbers"),
    (schedules.ReduceOnPlateau(0.1, monitor="no such"), "^monitor must be one of what this fit reports, loss"),
]
OPTIMIZER = [
    *((value, "^optimizer must be one of sgd, adam, .*, or an optimiser such as .*got ") for value in (0.1, Adam, [Adam()])),
    *((value, "^optimizer must be one of sgd, adam, .*; got ") for value in ("Adam", "adm", "")),
]
LBFGS_REFUSED: Bad = [(value, "^optimizer must be one that makes single steps, got ") for value in ("lbfgs", fastmlp.LBFGS())]
EPOCHS = [
    (Adam(Rates([np.nan])), "^Rates.rates must return"),
]
RNG = [
    *((v, "^rng must be an integer, a numpy.random.Generator or None, got ") for v in ("0", 1.5, True, [0], np.random)),
    (np.random.RandomState(0), "^rng must be an integer, a numpy.random.Generator or None, got RandomState"),
    (-1, "^rng must be at least 0, got -1$"),
]
WIDTH = r"^X must have shape \(rows, 3\), got "
INPUTS = array("X", WIDTH, 1.0, [], X[0], X[:, :2], np.ones((6, 4)), X[None])
INPUTS += [(X[:0], "^X must have at least one row, got ")]
TARGETS = array("y", r"^y must have shape \(6, 2\) for 2 outputs, got ", 1.0, Y[0], Y[:, :1], Y[:, 0], Y[None])
TARGETS += [(Y[:5], "^y must have as many rows as X, 6; got 5$")]
PAIR = r"^validation_data must be \(X, y\) or \(X, y, sample_weight\), got a "
VALIDATION = [
    *((value, PAIR) for value in (X, (X,), (X,) * 4, "Xy", 3)),
    ((X[:, :2], Y), r"^validation_data is refused: X must have shape \(rows, 3\)"),
    ((X[:0], Y[:0]), "^validation_data is refused: X must have at least one row"),
    ((X, Y[:5]), "^validation_data is refused: y must have as many rows"),
    ((X, Y, -np.ones(6)), "^validation_data is refused: sample_weight must be finite and at least 0"),
    ((X.astype(str), Y), "^validation_data is refused: X must hold real numbers"),
]


def weights(rows: int, signed: bool = False) -> Bad:
    """Of a weight for each row, at least 0 or of any sign."""
    finite = f"^sample_weight must be finite{'' if signed else ' and at least 0'}, got "
    shape = rf"^sample_weight must have shape \({rows},\), a weight for each row, got "
    refused: Bad = [
        *array("sample_weight", shape, 1.0, np.ones(rows - 1), np.ones((rows, 1))),
        *((like(value, (rows,)), f"{finite}{value}$") for value in (np.nan, np.inf, -np.inf)),
        (np.full(rows, 1e308), "^sample_weight must have a finite sum, got weights up to 1e.308$"),
    ]
    if signed:
        least = "^sample_weight must have absolute values whose sum is 0 or a normal number, got .*e-31"
        return [*refused, *((value * np.resize([1, -1], rows), least) for value in (1e-310, 5e-316))]
    return [
        *refused,
        (like(-1.0, (rows,)), f"{finite}-1.0$"),
        (np.zeros(rows), "^sample_weight must have a positive sum, got only zeros$"),
        (np.full(rows, 1e-310), "^sample_weight must have a positive sum, got .*e-310$"),
    ]


MONITOR = "^monitor must be one of what this fit reports, loss"
HOOKS = "^callbacks must hold functions, or objects that have on_train_begin, "
CALLBACKS = [
    *((value, HOOKS) for value in (3, "early", [None], fastmlp.EarlyStopping, object(), {1: 2})),
    (fastmlp.EarlyStopping("no such"), MONITOR),
    (Watches("no such"), MONITOR),
]
METRICS = [
    *((value, "^metrics must hold functions, or names of accuracy, ") for value in (3, [None], {"a": 1})),
    ("acuracy", "^metrics must be one of accuracy, .*; got 'acuracy'$"),
    (["mse", "mse"], "^metrics must have names that no other column of the history has, got 'mse'$"),
]
VERBOSE = [
    *((value, "^verbose must be an integer") for value in ("all", 1.5, None)),
    (-1, "^verbose must be at least 0, got -1$"),
]
NONFINITE = choice("nonfinite", "ignore, raise, stop")
INITIAL = [
    *[line for line in whole("initial_epoch", 0) if line[0] not in (True, HUGE)],
    (HUGE, "^initial_epoch must be at most"),
    (2, "^epochs must be more than initial_epoch=2: it is where the fit ends; got 2$"),
]
SEVERAL = r"^sizes must be a sequence of integers, got "
SIZES = [
    *((value, SEVERAL) for value in (None, 3, "321", b"321", {3, 2}, np.array(3), iter([3, 2]))),
    ([], "^sizes must hold at least two widths, inputs and outputs, got"),
    ([3], "^sizes must hold at least two widths"),
    *(([3, value, 2], message) for value, message in whole("sizes")),
    ([2**40, 2**40], f"^sizes must make at most {2**40} parameters, got "),
    (np.array([3.0, 2.0]), "^sizes must be an integer, got np.float64"),
]
ACTIVATIONS = [
    *((value, "^activations must be a name or a sequence of names, got ") for value in (3, None, {"relu"}, abs)),
    *((v, "^activations must be one of identity, .*; got ") for v in ("rleu", "softmax", ["relu", "rleu"], ["relu", 3])),
    (["relu"] * 3, "^activations must hold 2 names, one a layer, got 3$"),
    (["softmax", "identity"], "^activations must have softmax on the output only"),
]
LOSS = choice("loss", "bce, cross_entropy, mse")
FLOAT = "^dtype must be 'float32' or 'float64', got "
DTYPE: Bad = [(value, FLOAT) for value in ("float16", "complex128", int, "no such", ",", 3, [])]
DROPOUT = [
    *(line for line in number("dropout", 1.0, -0.1) if line[0] != [0.1]),
    ([0.1, 0.2], "^dropout must hold 1 rates, one a hidden layer, got 2$"),
    ([np.nan], "^dropout must be a finite number"),
]


def written(name: str, shape: str, good: tuple[int, ...]) -> Bad:
    """Of an array that is written to."""
    room = rf"^{name} must be a writeable C-contiguous float64 array of shape {shape}, got "
    turned = np.empty(good[::-1]).T
    return [
        *(
            (value, room)
            for value in ([[0.0] * 2] * 6, 3, "out", np.empty((6, 4)), np.empty(good, "f4"), np.empty(math.prod(good)))
        ),
        (turned, room + "one that is not C-contiguous$"),
        (np.broadcast_to(0.0, good), f"^{name} must be .*got one that is read-only$"),
    ]


OUT = written("out", r"\(6, 2\)", (6, 2))
G = array("g", r"^g must have shape \(26,\), got ", 1.0, np.ones(25), np.ones((26, 1)))
PULLED = array(
    "output_gradient", r"^output_gradient must have shape \(6, 2\) for 2 outputs, got ", 1.0, Y[0], Y[:, :1], Y[:, 0]
)
PULLED += [(Y[:5], "^output_gradient must have as many rows as X, 6; got 5$")]
OTHER = array("other", r"^other must have shape \(26,\), got ", 1.0, np.ones(25), np.ones((26, 1)))
OTHER += [(Model([3, 5, 2]), r"^other must be a model of sizes \(3, 4, 2\) and dtype float64, got sizes \(3, 5, 2\)")]
MATRICES = [
    *((value, "^weights must be a sequence of arrays, got ") for value in (None, 3, "ab")),
    ([], "^weights and biases must hold an array each a layer, got 0 and 2$"),
    ([W[0]], "^weights and biases must hold an array each a layer, got 1 and 2$"),
    ([W[0], W[0]], r"^weights\[1\] must have 4 rows, the layer before's outputs; got shape \(3, 4\)$"),
    ([np.ones(3), W[1]], r"^weights\[0\] must have shape \(fan_in, fan_out\), got \(3,\)$"),
    ([np.ones((0, 4)), W[1]], r"^weights\[0\] must have shape \(fan_in, fan_out\), got \(0, 4\)$"),
    ([like(np.nan, (3, 4)), W[1]], r"^weights\[0\] must be finite in float64, got nan$"),
    *(([W[0], value], message) for value, message in array(r"weights\[1\]", "")),
]
VECTORS = [
    *((value, "^biases must be a sequence of arrays, got ") for value in (None, 3, "ab")),
    ([B[0]], "^weights and biases must hold an array each a layer, got 2 and 1$"),
    ([B[0], np.zeros(3)], r"^biases\[1\] must have shape \(2,\), got \(3,\)$"),
    ([B[0], like(np.inf, (2,))], r"^biases\[1\] must be finite in float64, got inf$"),
    *(([B[0], value], message) for value, message in array(r"biases\[1\]", "")),
]
CUSTOM = [
    *((value, "^name must be a string, got ") for value in (3, None, ["x"])),
]
OUTPUT: Bad = [(value, "^output must be one of identity, .*; got ") for value in ("no such", None, 3, ["relu"])]
FUNCTION: Callable[[str], Bad] = lambda name: [(v, f"^{name} must be a function, got ") for v in (None, 3, "abs")]  # noqa: E731


class Function:
    """A public function: how it is called with good arguments, and what each parameter refuses.

    `instead`: other good arguments for those parameters that do not go with these.
    """

    def __init__(self, call: Any, good: dict[str, Any], instead: dict[str, dict[str, Any]] | None = None, **bad: Bad) -> None:
        self.call, self.good, self.instead, self.bad = call, good, instead or {}, bad


def trained() -> Model:
    """A model with moments to lose."""
    model = Model([3, 4, 2], "tanh", rng=0)
    model.fit(X, Y, 2, optimizer=Adam(0.1))
    return model


MODEL, KEPT = trained(), trained()
ONE = {"lr": LR, "optimizer": OPTIMIZER + LBFGS_REFUSED}
DATA = {"X": INPUTS, "y": TARGETS}
XY = {"X": X, "y": Y}
OWN: dict[str, Any] = {
    "instead": {"output_gradient": {"X": X}, "logits": {"X": X, "output_gradient": Y}},
    "sample_weight": weights(6, signed=True),
    "output_gradient": PULLED,
    "logits": flag("logits"),
}
COURSE = {"verbose": VERBOSE, "callbacks": CALLBACKS, "validation_data": VALIDATION, "metrics": METRICS, "nonfinite": NONFINITE}
COURSE |= {"initial_epoch": INITIAL, "rng": RNG, "lr": SCHEDULE, "optimizer": OPTIMIZER + EPOCHS}
SETTINGS = {
    "lr": number("lr", 0, -1),
    **{name: number(name, -1, 1) for name in ("momentum", "beta1", "beta2", "alpha", "ema")},
    **{name: number(name, 0, -1) for name in ("epsilon", "clip_value", "clip_norm")},
    **{name: number(name, -1) for name in ("weight_decay", "l1", "l2", "momentum_decay")},
    "nesterov": [*flag("nesterov"), (True, "^nesterov=True needs momentum above 0, got momentum=0$")],
}
MODE, TEXT = choice("mode", "auto, min, max"), [(v, "^monitor must be a string, got ") for v in (None, 3, ["loss"])]
TRUE = [1.0, 0.0, 1.0]
METRIC = {
    "y_true": [
        *(line for line in array("y_true", r"^y_true must have shape \(3, 1\) for such a y_pred, got ", TRUE[:2])),
        ([], r"^y_true must have shape \(rows,\) or \(rows, outputs\), got \(0,\)$"),
    ],
    "y_pred": [
        *(line for line in array("y_pred", r"^y_true must have shape \(2, 1\) for such a y_pred, got ", TRUE[:2])),
        (np.ones((3, 1, 1)), r"^y_pred must have shape \(rows,\) or \(rows, outputs\), got "),
    ],
    "sample_weight": weights(3),
}
PLATEAU = {"patience": whole("patience"), "mode": MODE, "monitor": TEXT, "min_delta": number("min_delta", -1)}


OPTIMIZERS = [kind for name, kind in NAMED.items() if name != "lbfgs"]


def optimizer(kind: Any) -> Function:
    """A row for one of them."""
    return Function(kind, {}, **{name: SETTINGS[name] for name in inspect.signature(kind).parameters})


PATH = [(value, "^path must be a string or a path, got ") for value in (3, b"net.h", ["net.h"])]
FILE = Path(__file__).parent / "data/files/model-1.safetensors"
TENSORS = {"0.weight": np.ones((2, 3)), "0.bias": np.ones(2), "2.weight": np.ones((1, 2)), "2.bias": np.ones(1)}
THEIRS = MLPRegressor(hidden_layer_sizes=2, solver="lbfgs").fit(X, Y)
KERAS = Path(__file__).parent / "data/keras/plain-float32-3.0.keras"
ONNX = Path(__file__).parent / "data/onnx/keras_relu.onnx"
EXPORT = {
    "model": [(value, "^model must be a fastmlp.Model or a fitted estimator, got ") for value in (None, "net.h", Model, W)],
    "path": PATH,
}


KEEPING = {
    "checkpoint": PATH,
    "every": [
        *((value, "^every must be 'epoch', a number of steps .* got ") for value in (None, True, [1], 1j)),
        *((value, "^every must be one of epoch; got ") for value in ("epochs", "")),
        *((value, "^every must be a finite number above 0, got ") for value in (0.0, -1.0, np.nan, np.inf)),
        *((value, "^every must be at least 1, got ") for value in (0, -1)),
    ],
    "resume": [*PATH, (FILE, "^.* cannot be read: kind must be one of checkpoint; got 'model'$")],
}


def columns(name: str) -> Bad:
    """Of a number for each input."""
    shape = rf"^{name} must have shape \(3,\), a number for each input, got "
    finite = [(like(value, (3,)), f"^{name} must be finite, got ") for value in (np.nan, np.inf)]
    return [*array(name, shape, 1.0, np.ones(2), np.ones((3, 1))), *finite]


TABLE = {
    "Model": Function(
        Model,
        {"sizes": [3, 4, 2]},
        sizes=SIZES,
        activations=ACTIVATIONS,
        loss=LOSS,
        dtype=DTYPE,
        rng=RNG,
        init=choice("init", "he, glorot"),
        dropout=DROPOUT,
    ),
    "Model.from_weights": Function(
        Model.from_weights,
        {"weights": W, "biases": B},
        weights=MATRICES,
        biases=VECTORS,
        activations=ACTIVATIONS,
        loss=LOSS,
        dtype=DTYPE,
        dropout=DROPOUT,
    ),
    "Model.fit": Function(
        MODEL.fit,
        {**XY, "epochs": 2, "batch_size": 4},
        **DATA,
        **COURSE,
        **KEEPING,
        epochs=whole("epochs"),
        batch_size=whole("batch_size"),
        shuffle=flag("shuffle"),
        validation_split=[
            *number("validation_split", -0.1, 1.0),
            (0.999, "^validation_split must leave rows on both sides, got 0.999 of 6 rows$"),
        ],
        class_weight=[
            (value, "^class_weight needs the integer labels or one-hot rows of ") for value in ({0: 1.0}, "balanced", 3)
        ],
        sample_weight=weights(6),
        label_smoothing=[
            *number("label_smoothing", -0.1, 1.0),
            (0.1, "^label_smoothing is for loss='bce' and 'cross_entropy', got loss='mse'$"),
        ],
    ),
    "Model.fit_batches": Function(
        MODEL.fit_batches,
        {"batches": [(X, Y)], "epochs": 2},
        {"metrics": {"batches": [(X, Y)], "epochs": 2, "validation_data": (X, Y)}},
        **COURSE,
        **KEEPING,
        batches=[
            *((value, "^batches must be an iterable or a function that returns one, got ") for value in (None, 3)),
            *(([value], r"^batches must hold \(X, y\) or \(X, y, sample_weight\), got ") for value in (X, (X,), "Xy", 3)),
            (lambda: 3, "^batches must return an iterable, got 3$"),
            ([], "^batches must hold at least one for an epoch, got 0$"),
            ([(X[:, :2], Y)], r"^batches: number 0 is refused: X must have shape \(rows, 3\)"),
            (iter([(X, Y)]), "^steps_per_epoch must be given for an iterator that is to last for 2 epochs$"),
        ],
        epochs=whole("epochs"),
        steps_per_epoch=whole("steps_per_epoch"),
    ),
    "Model.step": Function(MODEL.step, XY, **DATA, **ONE, **OWN),
    "Model.predict": Function(MODEL.predict, {"X": X}, X=INPUTS, out=OUT),
    "Model.forward": Function(MODEL.forward, {"X": X}, X=INPUTS, out=OUT),
    "Model.layer_outputs": Function(MODEL.layer_outputs, {"X": X}, X=INPUTS),
    "Model.loss": Function(MODEL.loss, XY, **DATA, sample_weight=weights(6, signed=True)),
    "Model.backward": Function(MODEL.backward, XY, **DATA, **OWN),
    "Model.gradient": Function(MODEL.gradient, XY, **DATA, **OWN),
    "Model.apply_gradient": Function(MODEL.apply_gradient, {"g": np.ones(26)}, g=G, **ONE),
    "Model.set_params_from": Function(
        MODEL.set_params_from, {"other": np.ones(26)}, other=OTHER, tau=number("tau", 0, -0.1, 1.001)
    ),
    "Model.compiled": Function(MODEL.compiled, {}, live=flag("live")),
    "Model.save": Function(MODEL.save, {"path": os.devnull}, path=[*PATH, (None, PATH[0][1])], optimizer=flag("optimizer")),
    "load": Function(
        fastmlp.load,
        {"path": FILE},
        path=[*PATH, (None, PATH[0][1]), (os.devnull, "cannot be read")],
        custom=[(value, "^custom must be a sequence of CustomActivation") for value in (3, "relu", ["relu"], None)],
    ),
    "CompiledModel.pull": Function(
        MODEL.compiled().pull,
        {"x": X, "g": Y},
        x=array("x", r"^x must have shape \(3,\) or \(rows, 3\), got ", 1.0, np.ones(4), X[:, :2], X[None]),
        g=[
            *array("g", r"^g must have shape \(2,\) or \(rows, 2\), got ", 1.0, np.ones(3), X, Y[None]),
            *((value, "^g must have a row for each of x's, ") for value in (Y[0], Y[:5])),
        ],
        dx=written("dx", r"\(6, 3\)", (6, 3)),
    ),
    "CompiledModel.jacobian": Function(
        MODEL.compiled().jacobian,
        {"x": X},
        x=array("x", r"^x must have shape \(3,\) or \(rows, 3\), got ", 1.0, np.ones(4), X[:, :2], X[None]),
        J=written("J", r"\(6, 2, 3\)", (6, 2, 3)),
    ),
    "History.plot": Function(
        History(epoch=[0], loss=[1.0]).plot, {}, ax=[(3, "^ax must be a matplotlib Axes or None, got 3$")]
    ),
    "CustomActivation": Function(
        CustomActivation,
        {"name": "mine", "value": abs, "derivative": abs},
        name=[*CUSTOM, ("relu", "^name must not be that of a built-in activation, got 'relu'$")],
        value=FUNCTION("value"),
        derivative=FUNCTION("derivative"),
        init=[(value, "^init must be 'glorot', 'he' or 'lecun', got ") for value in ("auto", None, 3, ["he"])],
    ),
    "CustomLoss": Function(
        CustomLoss,
        {"name": "mine", "value": abs, "derivative": abs},
        name=[*CUSTOM, ("mse", "^name must not be that of a built-in loss, got 'mse'$")],
        value=FUNCTION("value"),
        derivative=FUNCTION("derivative"),
        output=OUTPUT,
        check_gradient=flag("check_gradient"),
    ),
    "RowLoss": Function(
        RowLoss,
        {"name": "mine", "function": abs, "targets": 2},
        name=[*CUSTOM, ("mse", "^name must not be that of a built-in loss, got 'mse'$")],
        function=FUNCTION("function"),
        targets=whole("targets"),
        output=OUTPUT,
        check_gradient=flag("check_gradient"),
    ),
    "EarlyStopping": Function(
        fastmlp.EarlyStopping,
        {},
        **PLATEAU | {"patience": whole("patience", 0)},
        restore_best_weights=flag("restore_best_weights"),
        restore_best=flag("restore_best"),
        baseline=number("baseline"),
        start_from_epoch=whole("start_from_epoch", 0),
    ),
    "LBFGS": Function(
        fastmlp.LBFGS,
        {},
        history=whole("history"),
        tol=number("tol", -1),
        ftol=number("ftol", -1),
        max_evaluations=whole("max_evaluations"),
        l2=number("l2", -1),
    ),
    **{kind.__name__: optimizer(kind) for kind in OPTIMIZERS},
    "set_num_threads": Function(fastmlp.set_num_threads, {"n": 1}, n=whole("n")),
    "to_c": Function(
        fastmlp.to_c,
        {"model": MODEL, "path": os.devnull},
        **EXPORT,
        name=[*((value, "^name must be a string, got ") for value in (3, None)), ("a b", "^name must be a C identifier")],
        mean=columns("mean"),
        scale=[*columns("scale"), *((like(value, (3,)), "^scale must be above 0, got ") for value in (0, -1))],
    ),
    "to_numpy": Function(fastmlp.to_numpy, {"model": MODEL}, **EXPORT),
    "to_onnx": Function(
        fastmlp.to_onnx,
        {"model": MODEL},
        **EXPORT,
        input_name=[
            (3, "^input_name must be a string, got 3$"),
            ("", "^input_name and output_names must be names"),
        ],
        output_names=[
            *((value, "^output_names must be a sequence of strings or None, got ") for value in (3, "output")),
            ([3], r"^output_names\[0\] must be a string, got 3$"),
            (["a", "b"], "^output_names must be 1, for output; got 2$"),
        ],
        fold=flag("fold"),
    ),
    "from_onnx": Function(
        fastmlp.from_onnx,
        {"path": ONNX},
        path=[*PATH, (None, PATH[0][1]), (FILE, "cannot be read as a network")],
        output=[(3, "^output must be a string, got 3$"), ("no such", "output must be a value that the graph computes")],
        loss=choice("loss", "cross_entropy")[:2],
    ),
    "from_torch": Function(
        fastmlp.from_torch,
        {"source": TENSORS, "activations": "identity"},
        source=[
            (value, "^source must be an nn.Sequential, a state_dict or a path, got ") for value in (None, 3, b"net.pt", [W])
        ],
        activations=[
            (3, "^activations must be a name or a sequence of names, got 3$"),
            (None, "^activations must be given for a state_dict"),
            (["relu"], "^activations must hold 2 names, one a layer, got 1$"),
        ],
        loss=choice("loss", "cross_entropy")[:2],
        dropout=[("0.1", "^dropout must ")],
        key=[(3, "^key must ")],
    ),
    "from_sklearn": Function(
        fastmlp.from_sklearn,
        {"estimator": THEIRS},
        estimator=[(v, "^estimator must be scikit-learn's MLPClassifier or MLPRegressor, got ") for v in (None, 3, "x", MODEL)],
    ),
    "to_sklearn": Function(
        fastmlp.to_sklearn,
        {"model": MODEL},
        model=EXPORT["model"],
        classes=[([0, 1], "^classes must be None for a model of loss='mse'")],
        drop_settings=flag("drop_settings"),
    ),
    "from_keras": Function(
        fastmlp.from_keras,
        {"source": KERAS},
        source=[(value, "^source must be a keras.Sequential or a path, got ") for value in (None, 3, b"net.keras", MODEL)],
        loss=choice("loss", "cross_entropy")[:2],
        dropout=[("0.1", "^dropout must ")],
    ),
    "warmup": Function(fastmlp.warmup, {}, dtype=DTYPE),
    **{
        f"metrics.{name}": Function(
            getattr(metrics, name), {"y_true": TRUE, "y_pred": TRUE}, **METRIC, multilabel=flag("multilabel")
        )
        for name in ("accuracy", "auc", "balanced_accuracy", "f1", "log_loss")
    },
    **{
        f"metrics.{name}": Function(getattr(metrics, name), {"y_true": TRUE, "y_pred": TRUE}, **METRIC)
        for name in ("mse", "mae", "rmse", "r2")
    },
    "schedules.Constant": Function(schedules.Constant, {"lr": 0.1}, lr=number("lr", 0, -1)),
    "schedules.Step": Function(
        schedules.Step, {"lr": 0.1, "epochs": 2}, lr=number("lr", 0, -1), epochs=whole("epochs"), factor=number("factor", 0, -1)
    ),
    "schedules.Exponential": Function(
        schedules.Exponential, {"lr": 0.1, "factor": 0.5}, lr=number("lr", 0, -1), factor=number("factor", 0, -1)
    ),
    "schedules.Cosine": Function(
        schedules.Cosine, {"lr": 0.1}, lr=number("lr", 0), warmup=number("warmup", -1), final=number("final", -1)
    ),
    "schedules.OneCycle": Function(
        schedules.OneCycle,
        {"lr": 0.1},
        lr=number("lr", 0, -1),
        pct_start=number("pct_start", 0, 1),
        div_factor=number("div_factor", 0, -1),
        final_div_factor=number("final_div_factor", 0, -1),
    ),
    "schedules.InverseScaling": Function(schedules.InverseScaling, {"lr": 0.1}, lr=number("lr", 0), power=number("power", -1)),
    "schedules.ReduceOnPlateau": Function(
        schedules.ReduceOnPlateau,
        {"lr": 0.1},
        lr=number("lr", 0, -1),
        factor=number("factor", 0, 1),
        cooldown=whole("cooldown", 0),
        min_lr=number("min_lr", -1),
        **PLATEAU,
    ),
}
# Called by fits, with arguments of theirs.
PROTOCOL = {"on_train_begin", "on_epoch_end", "on_train_end", "rates", "start", "observe", "code", "compare", "hyper"}
PROTOCOL |= {"state_dict", "load_state_dict"}
OTHERS = {
    "to_torch": "needs PyTorch: `peers/test_torch.py`",
    "CompiledModel": "made by compiled",
    "Gradients": "what backward returns",
    "LayerOutput": "what layer_outputs returns",
    "DivergenceError": "raised by fits",
    "History": "made by fits",
    "metrics.Metric": "what METRICS holds",
}


# ---- the table is whole ----------------------------------------------------------------------------------------------


def public() -> Iterator[tuple[str, Any]]:
    """Public functions, classes and their methods, by name."""
    modules = [("", fastmlp, fastmlp.__all__), *((f"{m.__name__.split('.')[1]}.", m, dir(m)) for m in (metrics, schedules))]
    for prefix, module, names in modules:
        for name in names:
            found = getattr(module, name)
            if name.startswith("_") or inspect.ismodule(found) or not callable(found):
                continue
            if prefix and getattr(found, "__module__", None) != module.__name__:
                continue
            if inspect.isclass(found) and issubclass(found, Warning):
                continue
            yield prefix + name, found
            for method in vars(found) if inspect.isclass(found) else ():
                if not method.startswith("_") and callable(getattr(found, method)) and method not in PROTOCOL:
                    yield f"{prefix}{name}.{method}", getattr(found, method)
    for name, function in inspect.getmembers(Model, callable):
        if not name.startswith("_"):
            yield f"Model.{name}", function


def parameters(function: Any) -> set[str]:
    """The names of its parameters."""
    return set(inspect.signature(function).parameters) - {"self", "columns"}


def test_every_public_parameter_has_a_line() -> None:
    seen = set()
    for name, function in public():
        if name in OTHERS or not parameters(function) or inspect.isabstract(function):
            continue
        assert name in TABLE, name
        assert set(TABLE[name].bad) == parameters(function), name
        assert all(TABLE[name].bad.values()), name
        seen.add(name)
    assert seen == set(TABLE)


# ---- and right -------------------------------------------------------------------------------------------------------

LINES = [(place, name) for place, function in TABLE.items() for name in function.bad]


@pytest.mark.parametrize(("place", "name"), LINES)
def test_what_is_refused(place: str, name: str) -> None:
    """The error's kind and words; and models, generators, data, thread numbers are as they were."""
    function, rng, threads = TABLE[place], np.random.default_rng(0), fastmlp.get_num_threads()
    state, data, kept = rng.bit_generator.state, (X.tobytes(), Y.tobytes()), KEPT._engine.save()
    good = dict(function.instead.get(name, function.good))
    if "rng" in function.bad:
        good["rng"] = rng
    default = inspect.signature(function.call).parameters[name].default
    for value, message in function.bad[name]:
        if value is None and default is None:
            continue
        with pytest.raises((TypeError, ValueError), match=message):
            function.call(**{**good, name: value})
        assert rng.bit_generator.state == state
        assert (X.tobytes(), Y.tobytes()) == data
        assert fastmlp.get_num_threads() == threads
        saved = MODEL._engine.save()
        assert all(saved[part].tobytes() == kept[part].tobytes() for part in ("params", "moments"))
        assert all(saved[part] == kept[part] for part in ("kind", "steps", "averaged"))


@pytest.mark.parametrize("place", [place for place in TABLE if not place.startswith(("History", "warmup"))])
def test_the_good_arguments_are_good(place: str) -> None:
    """Else the table would prove nothing."""
    function = TABLE[place]
    call = getattr(trained(), function.call.__name__) if getattr(function.call, "__self__", None) is MODEL else function.call
    call(**function.good)
    fastmlp.set_num_threads(None)
