"""The estimators' parameters: `coefs_` and `intercepts_`, as arrays of the user's and as a model's."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Self

import numpy as np
from scipy.sparse import issparse
from sklearn.base import is_classifier
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron
from sklearn.utils import check_random_state

from fastmlp import arguments, checks, onnx
from fastmlp.files import description
from fastmlp.model import Model
from fastmlp.optimizer import Optimizer
from fastmlp.sklearn import solvers
from fastmlp.sklearn.objectives import Objective, objective, output_of
from fastmlp.sklearn.solvers import SOLVERS
from fastmlp.training.dataset import PIECE, WHOLE

try:
    from sklearn.utils.validation import validate_data as validate_data
except ImportError:  # scikit-learn 1.5

    def validate_data(estimator: Any, *data: Any, **options: Any) -> Any:
        """What is a method there."""
        return estimator._validate_data(*data, **options)


def dense(X: Any, dtype: np.dtype) -> np.ndarray:
    """X as the kernels read it."""
    return checks.contiguous(X.toarray() if issparse(X) else checks.numbers("X", X), dtype)


def held(X: Any, dtype: np.dtype) -> Any:
    """X as it is kept during a training: dense, unless it is sparse and would be large."""
    return X.tocsr() if issparse(X) and X.shape[0] * X.shape[1] * dtype.itemsize > WHOLE else dense(X, dtype)


def parts(X: Any, dtype: np.dtype, batch: int = 1) -> Iterator[slice]:
    """All rows of what `held` returned; of a sparse X in pieces of whole batches, each small enough to be made dense."""
    samples, row = X.shape[0], X.shape[1] * dtype.itemsize
    piece = max(PIECE // (row * batch), 1) * batch if issparse(X) else samples
    for start in range(0, samples, piece):
        yield slice(start, min(start + piece, samples))


def blocks(X: Any, dtype: np.dtype, weights: np.ndarray | None = None) -> Iterator[tuple[slice, np.ndarray, float]]:
    """The `parts` with their dense rows, and their share of all weights."""
    weights = np.ones(X.shape[0]) if weights is None else weights
    total = weights.sum()
    for part in parts(X, dtype):
        yield part, dense(X[part], dtype), 1.0 if part.stop - part.start == X.shape[0] else weights[part].sum() / total


class Coefficients(BaseMultilayerPerceptron):
    """How the parameters are initialised, kept, and used for predictions.

    `coefs_` and `intercepts_` are views of `_model`'s parameters as long as the lists hold what `_link` put there; other arrays
    are read where they are needed, and never written to.
    """

    validation_scores_: Any
    best_validation_score_: Any

    def _assign(self, arguments: dict[str, Any]) -> None:
        for name in self._get_param_names():
            setattr(self, name, arguments[name])

    def _stochastic(self) -> bool:
        """Whether the solver goes step by step."""
        return isinstance(self.solver, Optimizer) or self.solver in ("sgd", "adam", *SOLVERS)

    def _check_solver(self) -> bool:
        return self._stochastic() or bool(super()._check_solver())

    def _objective(self, outputs: int) -> Objective:
        return objective(self.loss, self.out_activation_, outputs)

    def _activations(self, hidden: int) -> list[Any]:
        """The model's, of the hidden layers."""
        given = self.activation
        names = list(given) if isinstance(given, list | tuple) else [given] * hidden
        if len(names) != hidden:
            raise ValueError(f"activation must hold {hidden} names, one a hidden layer, got {given!r}")
        try:
            return list(arguments.activations([*names, "identity"], hidden + 1, "mse", "identity"))[:-1]
        except (TypeError, ValueError) as error:
            raise type(error)(str(error).replace("activations must", "activation must")) from None

    def _initialize(self, y: np.ndarray, layer_units: list[int], dtype: np.dtype) -> None:
        self.n_iter_ = self.t_ = 0
        self.n_outputs_ = y.shape[1]
        self.n_layers_ = len(layer_units)
        if not is_classifier(self):
            self.out_activation_ = output_of(self.loss)
        else:
            self.out_activation_ = "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"
        names = self._activations(len(layer_units) - 2)
        names += names[-1:] or ["sigmoid" if self.activation == "logistic" else "identity"]
        self.coefs_, self.intercepts_ = [], []
        for (fan_in, fan_out), name in zip(pairwise(layer_units), names, strict=True):
            bound = np.sqrt((2.0 if name == "sigmoid" else 6.0) / (fan_in + fan_out))
            self.coefs_.append(self._random_state.uniform(-bound, bound, (fan_in, fan_out)).astype(dtype))
            self.intercepts_.append(self._random_state.uniform(-bound, bound, fan_out).astype(dtype))
        if self._stochastic():
            self._start_curves()

    def _start_curves(self) -> None:
        self.loss_curve_: list[float] = []
        self.validation_loss_curve_: list[float] = []
        self._no_improvement_count = 0
        self.validation_scores_, self.best_validation_score_ = ([], -np.inf) if self.early_stopping else (None, None)
        self.best_loss_ = None if self.early_stopping else np.inf

    def _widths(self) -> tuple[int, ...]:
        """Those of the network that the lists make up; raises where they make up none."""
        coefs, intercepts = self.coefs_, self.intercepts_
        if not 0 < len(coefs) == len(intercepts):
            raise ValueError(f"coefs_ and intercepts_ must hold an array each a layer, got {len(coefs)} and {len(intercepts)}")
        widths = list(np.shape(coefs[0])[:1])
        for i, (coef, intercept) in enumerate(zip(coefs, intercepts, strict=True)):
            for name, array in (("coefs_", coef), ("intercepts_", intercept)):
                checks.numbers(f"{name}[{i}]", array)
            if np.ndim(coef) != 2 or len(coef) != widths[-1]:
                wanted = widths[-1] if i else "fan_in"
                raise ValueError(f"coefs_[{i}] must have shape ({wanted}, fan_out), got {np.shape(coef)}")
            widths.append(np.shape(coef)[1])
            if np.shape(intercept) not in ((widths[-1],), (1, widths[-1])):
                raise ValueError(f"intercepts_[{i}] must have shape ({widths[-1]},), got {np.shape(intercept)}")
        return tuple(widths)

    def _build(self, dtype: np.dtype | None = None, dropout: Any = 0.0) -> Model:
        """A model of the parameters as they are now, which need not be finite."""
        widths, arrays = self._widths(), [np.asarray(array) for array in (*self.coefs_, *self.intercepts_)]
        if dtype is None:
            dtype = np.dtype(np.float32 if all(array.dtype == np.float32 for array in arrays) else np.float64)
        goal: Any = self._objective(widths[-1])
        model = Model.from_weights(
            [np.zeros(shape, dtype) for shape in pairwise(widths)],
            [np.zeros(width, dtype) for width in widths[1:]],
            [*self._activations(len(widths) - 2), goal.activation],
            goal.loss,
            dtype,
            dropout,
        )
        for view, array in zip((*model.weights, *model.biases), arrays, strict=True):
            view[...] = array
        return model

    def _in_use(self) -> bool:
        """Whether `_model` has the parameters and the activation as they are now."""
        return self._linked() and self._model.activations[:-1] == tuple(self._activations(len(self.coefs_) - 1))

    def _current(self) -> Model:
        """A model for predictions of the parameters and the activation as they are now."""
        if self._in_use():
            return self._model
        widths, wanted = self._widths(), (self.n_features_in_, self.n_outputs_)
        if (widths[0], widths[-1]) != wanted:
            raise ValueError(f"coefs_ must lead from {wanted[0]} features to {wanted[1]} outputs, got arrays for {widths}")
        return self._build()

    def _link(self, model: Model) -> None:
        self._model = model
        self._views = [*model.weights, *(bias[0] for bias in model.biases)]
        self.coefs_, self.intercepts_ = self._views[: len(model.weights)], self._views[len(model.weights) :]

    def _linked(self) -> bool:
        own, now = getattr(self, "_views", ()), (*self.coefs_, *self.intercepts_)
        return len(own) == len(now) > 0 and all(view is array for view, array in zip(own, now, strict=True))

    def __copy__(self) -> Self:
        """A shallow copy: it shares the model, and so `coefs_` and `intercepts_`, as scikit-learn's do."""
        copied = type(self).__new__(type(self))
        copied.__dict__.update(vars(self))
        return copied

    def __getstate__(self) -> dict[str, Any]:
        """As `Model.__getstate__`: in dicts, strings, numbers and arrays, besides what users have written themselves.

        `_random_state` is left out: each call takes `random_state` anew, and its 2.5 kB would be most of a small net's pickle.
        """
        state = dict(super().__getstate__())
        drop = {"_views", "_random_state"}
        if "_model" in state:
            drop |= {"coefs_", "intercepts_"} if self._linked() else set()  # the model's state has them
            state["_model"] = self._model.__getstate__()
        for name in {"solver", "learning_rate"} & state.keys():
            state[name] = description.held(state[name])
        if "_optimizer" in state:
            state["_optimizer"] = solvers.held(self._optimizer)
        if state.get("_rates") is not None:
            state["_rates"] = self._rates.held()
        return {name: value for name, value in state.items() if name not in drop}

    def __setstate__(self, state: dict[str, Any]) -> None:
        onnx.register_if_imported()
        state = dict(state)
        for name in {"solver", "learning_rate"} & state.keys():
            state[name] = description.given_back(state[name])
        if "_optimizer" in state:
            state["_optimizer"] = solvers.given_back(state["_optimizer"])
        if "_rates" in state:
            state["_rates"] = solvers.Rates.given_back(state["_rates"])
        if isinstance(state.get("_model"), dict):
            model = Model.__new__(Model)
            model.__setstate__(state["_model"])
            state["_model"] = model
        super().__setstate__(state)
        if "_model" in state:
            if "_random_state" not in state:
                self._random_state = check_random_state(self.random_state)
            if "coefs_" not in state:
                self._link(self._model)

    def _forward_pass_fast(self, X: Any, check_input: bool = True) -> np.ndarray:
        if check_input:
            X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        model = self._current()
        out = np.empty((X.shape[0], model.sizes[-1]), model.dtype)
        for part, rows, _ in blocks(held(X, model.dtype), model.dtype):
            model.predict(rows, out=out[part])
        return np.exp(out, out=out) if self.out_activation_ == "exp" else out
