"""The estimators' parameters: `coefs_` and `intercepts_`, as arrays of the user's and as a model's."""

from itertools import pairwise
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import is_classifier
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron

from fastmlp import validation
from fastmlp.model import Model
from fastmlp.objectives import objective

try:
    from sklearn.utils.validation import validate_data as validate_data
except ImportError:  # scikit-learn 1.5

    def validate_data(estimator: Any, *data: Any, **options: Any) -> Any:
        """What is a method there."""
        return estimator._validate_data(*data, **options)


STOCHASTIC = ("sgd", "adam")


def dense(X: Any, dtype: np.dtype) -> np.ndarray:
    """X as the kernels read it."""
    return validation.contiguous(X.toarray() if issparse(X) else X, dtype)


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

    def _activations(self, hidden: int) -> list[Any]:
        """The model's, of the hidden layers."""
        given = self.activation
        names = list(given) if isinstance(given, list | tuple) else [given] * hidden
        if len(names) != hidden:
            raise ValueError(f"activation must hold {hidden} names, one a hidden layer, got {given!r}")
        names = ["sigmoid" if name == "logistic" else name for name in names]
        return list(validation.activations([*names, "identity"], hidden + 1, "mse", "identity"))[:-1]

    def _initialize(self, y: np.ndarray, layer_units: list[int], dtype: np.dtype) -> None:
        self.n_iter_ = self.t_ = 0
        self.n_outputs_ = y.shape[1]
        self.n_layers_ = len(layer_units)
        if not is_classifier(self):
            self.out_activation_ = "exp" if self.loss == "poisson" else "identity"
        else:
            self.out_activation_ = "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"
        names = self._activations(len(layer_units) - 2)
        names += names[-1:] or ["sigmoid" if self.activation == "logistic" else "identity"]
        self.coefs_, self.intercepts_ = [], []
        for (fan_in, fan_out), name in zip(pairwise(layer_units), names, strict=True):
            bound = np.sqrt((2.0 if name == "sigmoid" else 6.0) / (fan_in + fan_out))
            self.coefs_.append(self._random_state.uniform(-bound, bound, (fan_in, fan_out)).astype(dtype))
            self.intercepts_.append(self._random_state.uniform(-bound, bound, fan_out).astype(dtype))
        if self.solver in STOCHASTIC:
            self._start_curves()

    def _start_curves(self) -> None:
        self.loss_curve_: list[float] = []
        self.validation_loss_curve_: list[float] = []
        self._no_improvement_count = 0
        self.validation_scores_, self.best_validation_score_ = ([], -np.inf) if self.early_stopping else (None, None)
        self.best_loss_ = None if self.early_stopping else np.inf

    def _build(self, dtype: np.dtype | None = None) -> Model:
        """A model of the parameters as they are now, which need not be finite."""
        coefs, intercepts = self.coefs_, self.intercepts_
        if dtype is None:
            dtype = np.dtype(np.float32 if all(a.dtype == np.float32 for a in (*coefs, *intercepts)) else np.float64)
        goal = objective(self.out_activation_, coefs[-1].shape[1])
        model = Model.from_weights(
            [np.zeros(np.shape(coef), dtype) for coef in coefs],
            [np.zeros(np.shape(intercept), dtype) for intercept in intercepts],
            [*self._activations(len(coefs) - 1), goal.activation],
            goal.loss,
            dtype,
            self.dropout,
        )
        self._copy_to(model)
        return model

    def _copy_to(self, model: Model) -> None:
        for view, array in zip((*model.weights, *model.biases), (*self.coefs_, *self.intercepts_), strict=True):
            view[...] = array

    def _link(self, model: Model) -> None:
        self._model = model
        self._views = [*model.weights, *(bias[0] for bias in model.biases)]
        self.coefs_, self.intercepts_ = self._views[: len(model.weights)], self._views[len(model.weights) :]

    def _linked(self) -> bool:
        own, now = getattr(self, "_views", ()), (*self.coefs_, *self.intercepts_)
        return len(own) == len(now) and all(view is array for view, array in zip(own, now, strict=True))

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "_views" in state:
            if self._linked():  # the model's state has them
                state = {name: value for name, value in state.items() if name not in ("coefs_", "intercepts_")}
            del state["_views"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_model" in state and "coefs_" not in state:
            self._link(self._model)

    def _forward_pass_fast(self, X: Any, check_input: bool = True) -> np.ndarray:
        if check_input:
            X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        model = self._model if self._linked() else self._build()
        out = model.predict(dense(X, model.dtype))
        return np.exp(out, out=out) if self.out_activation_ == "exp" else out
