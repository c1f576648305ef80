"""How the estimators train: as scikit-learn's do, with an epoch or a gradient by the engine."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.validation import _check_sample_weight

from fastmlp import arguments, checks
from fastmlp.callbacks import hooks
from fastmlp.engine import threads
from fastmlp.engine.state import Job
from fastmlp.kernels.layer.loss import BY_SUM
from fastmlp.optimizers import SGD
from fastmlp.sklearn import solvers
from fastmlp.sklearn.arguments import Arguments
from fastmlp.sklearn.checkpoint import Keeping, feed
from fastmlp.sklearn.coefficients import blocks, held


class Perceptron(Arguments):
    """What both estimators do otherwise than scikit-learn's."""

    def _targets(self, y: np.ndarray, weights: np.ndarray | None, dtype: np.dtype) -> np.ndarray:
        """y as the kernels read it, with the rows' weights in one more column."""
        if self.out_activation_ == "softmax":
            y = y.argmax(axis=1).reshape(-1, 1)
        columns = [y] if weights is None else [y, weights.reshape(-1, 1)]
        return np.ascontiguousarray(np.hstack([column.astype(dtype) for column in columns]))

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        incremental: bool = False,
        X_val: Any = None,
        y_val: Any = None,
        keeping: Keeping | None = None,
    ) -> Any:
        hidden = self.hidden_layer_sizes
        hidden = list(hidden) if hasattr(hidden, "__iter__") else [hidden]
        if np.any(np.array(hidden) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {hidden}.")
        if incremental and isinstance(getattr(self, "class_weight", None), str):
            raise ValueError("class_weight 'balanced' is not supported for partial_fit: pass a dict of the classes' weights.")
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        self._activations(len(hidden))
        drops = any(arguments.dropout(self.dropout, len(hidden)))
        if drops and not self._stochastic():
            raise ValueError(f"dropout needs a stochastic solver, got solver={self.solver!r}.")
        solvers.schedule(self)  # which may refuse the settings
        keeping = keeping or Keeping(self)
        first = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        X, y = self._validate_input(X, y, incremental, reset=first)
        y = self._rows("y", y)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        self.n_outputs_ = y.shape[1]
        self._random_state = keeping.random_state(check_random_state(self.random_state))
        held_out = self._held_out(X_val, y_val)
        weights = self._weights(y, sample_weight)
        layers = [X.shape[1], *hidden, self.n_outputs_]
        if first:
            self._initialize(y, layers, X.dtype)
        else:
            self._check_layers(layers)
        with threads.limit(self.n_threads):
            if self._stochastic():
                self._fit_stochastic(X, y, sample_weight, weights, incremental, held_out, keeping)
            else:
                self._fit_lbfgs(X, y, weights)
        if not np.isfinite(self._model.params).all():
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be"
                " preprocessed."
            )
        return self

    def _loss_grad_lbfgs(
        self, packed: np.ndarray, X: Any, y: np.ndarray, sample_weight: np.ndarray | None, *buffers: Any
    ) -> tuple[float, np.ndarray]:
        """scikit-learn's loss and its gradient, for the coefficients and then the intercepts in one vector."""
        if not self._in_use():
            self._link(self._build(np.dtype(np.float64)))
        model = self._model
        goal = self._objective(self.n_outputs_)
        views = [*model.weights, *model.biases]
        for view, values in zip(views, np.split(packed, np.cumsum([view.size for view in views])[:-1]), strict=True):
            view[...] = values.reshape(view.shape)
        weighted = 0 if sample_weight is None else BY_SUM
        Y = self._targets(y, sample_weight, model.dtype)
        loss, flat, piece = 0.0, np.zeros_like(model.params), np.empty_like(model.params)
        for part, rows, share in blocks(held(X, model.dtype), model.dtype, sample_weight):
            loss += share * model._engine.gradient(rows, Y[part], goal.code_for(model), piece, piece, False, weighted)
            flat += share * piece
        loss /= goal.scale
        flat *= goal.gain / goal.scale
        decay = self.alpha / (X.shape[0] if sample_weight is None else sample_weight.sum())
        slopes, offsets = model._engine.views(flat)
        for gradient, coef in zip(slopes, model.weights, strict=True):
            loss += 0.5 * decay * np.vdot(coef, coef)
            gradient += decay * coef
        return loss, np.hstack([array.ravel() for array in (*slopes, *offsets)])

    def _fit_lbfgs(self, X: Any, y: np.ndarray, sample_weight: np.ndarray | None) -> None:
        self._link(self._build(np.dtype(np.float64)))
        start = np.hstack([array.ravel() for array in (*self.coefs_, *self.intercepts_)])
        stopped = False
        epochs = 0

        def look(intermediate_result: Any) -> None:
            nonlocal stopped, epochs
            logs = {"epoch": epochs, "loss": float(intermediate_result.fun)}
            epochs += 1
            stopped = self._call("on_epoch_end", logs)
            if stopped:
                raise StopIteration

        self._call("on_train_begin", {"epochs": self.max_iter})
        result = minimize(
            self._loss_grad_lbfgs,
            start,
            args=(held(X, self._model.dtype), y, sample_weight),
            method="L-BFGS-B",
            jac=True,
            callback=look if self.callbacks is not None else None,
            options={"maxfun": self.max_fun, "maxiter": self.max_iter, "gtol": self.tol},
        )
        self.n_iter_ = result.nit if stopped else _check_optimize_result("lbfgs", result, self.max_iter)
        self.loss_ = result.fun
        self._loss_grad_lbfgs(result.x, X, y, sample_weight)  # the last point that it tried need not be the one it chose
        self._call("on_train_end", {"epoch": epochs - 1, "loss": self.loss_})

    def _call(self, name: str, logs: dict[str, Any]) -> bool:
        """Whether a callback wants to stop; all are called."""
        answers = [hook(self._model, dict(logs)) for hook in hooks(self.callbacks)[name]]
        return any(isinstance(answer, bool | np.bool_) and answer for answer in answers)

    def _fit_stochastic(
        self,
        X: Any,
        y: np.ndarray,
        sample_weight: np.ndarray | None,
        weights: np.ndarray | None,
        incremental: bool,
        held_out: tuple[Any, np.ndarray] | None,
        keeping: Keeping,
    ) -> None:
        if not hasattr(self, "loss_curve_"):  # the parameters come from lbfgs
            self._start_curves()
        if not self.early_stopping and self.best_loss_ is None:  # or from a fit that stopped early
            self.best_loss_ = np.inf
        weight_val = None
        if self.early_stopping and held_out is None:
            X, X_val, y, y_val, weights, weight_val = self._split(X, y, weights, sample_weight)
            held_out = X_val, y_val
        names = ["loss", *(["val_loss", "val_score"] if held_out is not None else [])]
        self._start(incremental, names)
        model = self._model
        goal = self._objective(self.n_outputs_)
        Y = self._targets(y, weights, model.dtype)
        X = held(X, model.dtype)
        look = None if held_out is None else self._validation(*held_out, weight_val)
        best = model.params.copy() if self.early_stopping else None
        samples, weighted = X.shape[0], 0 if weights is None else BY_SUM
        job = Job(X, Y, goal.code_for(model), SGD(), self._batch(samples), np.arange(samples), weighted=weighted)
        job.dropout = int(self._random_state.randint(2**31)) if any(model.dropout) else 0
        keeping.compare(model.network, X, Y, held_out)
        rows, rate, self.n_iter_ = feed(model._engine, job), None, 0
        self._call("on_train_begin", {"epochs": 1 if incremental else self.max_iter})
        logs, stopping = keeping.go_on(rows, best)
        try:
            for epoch in range(self.n_iter_, self.n_iter_ if stopping else 1 if incremental else self.max_iter):
                if self.shuffle and not rows.within and rows.order is not None:
                    rows.order = rows.order[self._random_state.permutation(samples)]
                if rate != self._optimizer.learning_rate:
                    rate = self._optimizer.learning_rate
                    job.optimizer = goal.optimizer(self._optimizer, self.alpha)
                rates = None if self._rates is None else self._rates.of_epoch(-(-samples // job.batch), self.max_iter)
                loss = keeping.epoch(None if rates is None else goal.rates(rates, job.optimizer), logs)
                self.n_iter_ += 1
                self.loss_ = loss / goal.scale
                self.loss_curve_.append(self.loss_)
                if self.verbose:
                    print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
                logs = {"epoch": epoch, "loss": self.loss_} | ({} if rates is None else {"lr": rates.item(-1)})
                improved = self._follow(logs, look)
                if improved and best is not None:
                    best[:] = model.params
                self._optimizer.iteration_ends(self.t_ + samples)
                if self._rates is not None:
                    self._rates.observe(logs)
                stopping = self._stops()
                self.t_ += samples  # the last of the epoch's notes: by it an error tells whether all are there
                stopping = self._call("on_epoch_end", logs) or stopping
                keeping.epoch_ended(logs, stopping)
                if stopping:
                    break
            if not stopping and not incremental and self._rates is None:  # where a schedule ends, it means to
                self._warn_of_iterations()
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=2)
        if best is not None:
            model.params[...] = best
            self._warn_of_scores()
        if logs:
            self._call("on_train_end", logs)

    def _warn_of_iterations(self) -> None:
        message = f"Maximum iterations ({self.max_iter}) reached and the optimization hasn't converged yet."
        warnings.warn(f"Stochastic Optimizer: {message}", ConvergenceWarning, stacklevel=3)

    def _warn_of_scores(self) -> None:
        if self.validation_scores_ and self.best_validation_score_ == -np.inf:
            warnings.warn(
                "No epoch had finite predictions for the validation data; the parameters are those from before.",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _stops(self) -> bool:
        """Whether training ends for lack of improvement."""
        if self._no_improvement_count <= self.n_iter_no_change:
            return False
        what = "Validation score" if self.early_stopping else "Training loss"
        message = f"{what} did not improve more than tol={self.tol:f} for {self.n_iter_no_change} consecutive epochs."
        stopping = bool(self._optimizer.trigger_stopping(message, self.verbose))
        if not stopping:
            self._no_improvement_count = 0
        return stopping

    def _start(self, incremental: bool, names: list[str]) -> None:
        """Set up the model and the optimiser; in `partial_fit` those from before go on, with the settings of now.

        `names` are those of the epochs' logs.
        """
        settings, schedule = solvers.settings(self), solvers.schedule(self)
        before = getattr(self, "_rates", None) if incremental else None
        self._rates = None if schedule is None else solvers.Rates(schedule, before, names)
        if not incremental or not hasattr(self, "_optimizer"):
            self._optimizer = settings
            self._link(self._build(dropout=self.dropout))
            return
        rate = [
            getattr(settings, name, None) == getattr(self._optimizer, name, None)
            for name in ("learning_rate_init", "lr_schedule")
        ]
        if type(settings) is type(self._optimizer) and all(rate):
            settings.learning_rate = self._optimizer.learning_rate
        else:
            settings.iteration_ends(self.t_)
        self._optimizer = settings
        old = self._model
        drops = arguments.dropout(self.dropout, len(self.coefs_) - 1)
        if not (self._in_use() and self._objective(self.n_outputs_).is_of(old) and old.dropout == drops):
            model = self._build(old.dtype, self.dropout)
            if model.sizes == old.sizes:  # its moments go on
                model._engine.restore(old._engine.save() | {"params": model.params})
            self._link(model)

    def _batch(self, samples: int) -> int:
        if self.batch_size == "auto":
            return min(200, samples)
        if self.batch_size > samples:
            warnings.warn("Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=2)
        return int(np.clip(self.batch_size, 1, samples))

    def _split(self, X: Any, y: np.ndarray, weights: np.ndarray | None, sample_weight: np.ndarray | None) -> tuple[Any, ...]:
        """X, y and weights, each for training and for validation; there `sample_weight` are the weights."""
        arrays = [array for array in (X, y, weights, sample_weight) if array is not None]
        stratify = y if is_classifier(self) and self.n_outputs_ == 1 else None
        X, X_val, y, y_val, *rest = train_test_split(
            *arrays, random_state=self._random_state, test_size=self.validation_fraction, stratify=stratify
        )
        if X_val.shape[0] < 2:
            raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
        return X, X_val, y, y_val, None if weights is None else rest[0], None if sample_weight is None else rest[-1]

    def _validation(self, X: Any, y: np.ndarray, weights: np.ndarray | None) -> Callable[[], tuple[float, float]]:
        """What tells the loss and the score on validation data."""
        model, goal = self._model, self._objective(self.n_outputs_)
        X = held(X, model.dtype)
        Y = self._targets(y, weights, model.dtype)
        out = np.empty(y.shape, model.dtype)
        if self.validation_scores_ is None:
            self.validation_scores_, self.best_validation_score_ = [], -np.inf

        def look() -> tuple[float, float]:
            loss = 0.0
            for part, rows, share in blocks(X, model.dtype, weights):
                loss += share * model._engine.loss(rows, Y[part], goal.code_for(model), weights is not None)
                model._engine.predict(rows, out[part])
            return loss / goal.scale, self._rate(out, y, weights)

        return look

    def _rate(self, out: np.ndarray, y: np.ndarray, weights: np.ndarray | None) -> float:
        """The score of such outputs, as scikit-learn's `score`; NaN if a prediction is not finite."""
        if is_classifier(self):
            if self.out_activation_ == "softmax":
                right = out.argmax(axis=1) == y.argmax(axis=1)
            else:
                right = ((out > 0.5) == y).all(axis=1) | (len(self.classes_) == 1)
            return float(np.average(right, weights=weights))
        predicted = checks.silently(lambda: np.exp(out)) if self.out_activation_ == "exp" else out
        if not np.isfinite(predicted).all():
            return float("nan")
        return float(r2_score(y, predicted, sample_weight=weights))

    def _follow(self, logs: dict[str, Any], look: Callable[[], tuple[float, float]] | None) -> bool:
        """Note what an epoch reached; whether its validation score is the best."""
        better = False
        if look is not None:
            logs["val_loss"], score = look()
            logs["val_score"] = score
            self.validation_loss_curve_.append(logs["val_loss"])
            self.validation_scores_.append(score)
            if self.verbose:
                print(f"Validation score: {score:f}")
            better = score > self.best_validation_score_
        # Written so that NaN counts as it does in scikit-learn.
        if self.early_stopping:
            stalls = score < self.best_validation_score_ + self.tol
        else:
            stalls = self.loss_ > self.best_loss_ - self.tol
            if self.loss_ < self.best_loss_:
                self.best_loss_ = self.loss_
        if better:
            self.best_validation_score_ = score
        self._no_improvement_count = self._no_improvement_count + 1 if stalls else 0
        return better
