"""`MLPClassifier` and `MLPRegressor`: scikit-learn's estimators, trained by fastmlp's kernels."""

from numbers import Integral, Real
from typing import Any

import sklearn.neural_network as peers
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from fastmlp.activations import ACTIVATIONS, ALIASES, CustomActivation
from fastmlp.sklearn.perceptron import Perceptron

OPTIONS = {
    "activation": [StrOptions({*ACTIVATIONS, *ALIASES} - {"softmax"}), CustomActivation, list, tuple],
    "dropout": [Interval(Real, 0, 1, closed="left"), list, tuple],
    "callbacks": "no_validation",
    "n_threads": [Interval(Integral, 1, None, closed="left"), None],
}


class MLPClassifier(Perceptron, peers.MLPClassifier):
    """scikit-learn's ``MLPClassifier``, trained by compiled kernels.

    With the same parameters, data and `random_state` it draws the same initial parameters and orders of the rows, makes the
    same steps, and reaches the same `coefs_` up to rounding. float32 data train in float32 (``lbfgs`` in float64), all
    others in float64, and predictions come in that dtype. Sparse data are made dense, by pieces of 64 MB, or a batch, if they
    would take more than 256 MB. skl2onnx converts it as scikit-learn's (`fastmlp.onnx`).

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(100,)
        Units in each hidden layer.
    activation : str, CustomActivation or list of these, default="relu"
        Of the hidden layers: one for all, or one each. Names: ``logistic`` and those of `fastmlp.activations.ACTIVATIONS` but
        softmax.
    solver : {"lbfgs", "sgd", "adam"}, default="adam"
    alpha : float, default=0.0001
        L2 penalty ``alpha / 2 * sum(w**2)`` on the weights, divided by the batch's rows or the sum of their weights.
    batch_size : int or "auto", default="auto"
        Rows in a step; ``auto``: ``min(200, n_samples)``.
    learning_rate : {"constant", "invscaling", "adaptive"}, default="constant"
        For ``sgd``: ``learning_rate_init``; that over ``(t_ + 1)**power_t``; or a fifth of itself each time that training
        would stop for lack of improvement, until it is at most 1e-6.
    learning_rate_init : float, default=0.001
    power_t : float, default=0.5
    max_iter : int, default=200
        Epochs at most, or iterations of ``lbfgs``.
    shuffle : bool, default=True
    random_state : int, RandomState instance or None, default=None
        Draws the initial parameters, the validation split, the rows' orders and dropout.
    tol : float, default=0.0001
        The improvement that counts as one; of ``lbfgs`` the largest gradient to stop at.
    verbose : bool or int, default=False
    warm_start : bool, default=False
        Whether `fit` goes on from the parameters that are there.
    momentum : float, default=0.9
    nesterovs_momentum : bool, default=True
    early_stopping : bool, default=False
        Hold `validation_fraction` of the rows back (or take X_val and y_val), stop when their score stalls, and keep the
        best epoch's parameters.
    validation_fraction : float, default=0.1
    beta_1, beta_2 : float, default=0.9, 0.999
    epsilon : float, default=1e-08
        Of ``adam``, added before the bias correction.
    n_iter_no_change : int or inf, default=10
        Epochs without an improvement of `tol` after which training stops.
    max_fun : int, default=15000
        Evaluations of the loss at most, for ``lbfgs``.
    class_weight : dict, list of dict, "balanced" or None, default=None
        Weights of the classes, which multiply `sample_weight` in training, not in scores; ``balanced``:
        ``n_samples / (n_classes * count)`` over all of y. A dict may name classes that a batch has none of. Lists are for
        multilabel data; ``balanced`` is not for `partial_fit`.
    dropout : float or list of float, default=0.0
        The share of each hidden layer's outputs that a step leaves out: one for all, or one each. Not for ``lbfgs``.
    callbacks : callback or list of these, default=None
        Objects with any of ``on_train_begin(model, logs)``, ``on_epoch_end(model, logs)`` and ``on_train_end(model, logs)``, or
        functions, which count as the second. `model` is the `fastmlp.Model` in training; `logs` has ``epoch`` and ``loss``, and
        ``val_loss`` and ``val_score`` where there is validation data. True from ``on_epoch_end`` stops.
    n_threads : int or None, default=None
        The most threads that `fit` uses; None: `fastmlp.get_num_threads()`. Never changes a result.

    Attributes
    ----------
    classes_ : array or list of arrays
    coefs_, intercepts_ : lists of arrays
        Weights (fan_in, fan_out) and biases (fan_out,) of each layer; may be written to and replaced.
    loss_, best_loss_ : float
        The last epoch's and the lowest; None for `best_loss_` with `early_stopping`.
    loss_curve_ : list of float
        The loss of each epoch: its batches', before their updates, weighted by their rows.
    validation_scores_, best_validation_score_ : list of float and float, or None
        Accuracy on the validation data after each epoch.
    validation_loss_curve_ : list of float
        The loss, without the penalty, there.
    t_ : int
        Rows trained on so far.
    n_iter_, n_layers_, n_outputs_, n_features_in_ : int
    feature_names_in_ : array of str
        Of X that has such names.
    out_activation_ : str

    Examples
    --------
    >>> from fastmlp import MLPClassifier
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = MLPClassifier((16, 8), activation=["tanh", "gelu"], learning_rate_init=0.02, random_state=0)
    >>> classifier.fit(X, y).score(X, y) > 0.95
    True
    >>> classifier.predict(X[:2])
    array([0, 0])
    """

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012
        **peers.MLPClassifier._parameter_constraints,
        **OPTIONS,
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: Any = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: Any = 0.001,
        power_t: Any = 0.5,
        max_iter: Any = 200,
        shuffle: Any = True,
        random_state: Any = None,
        tol: Any = 1e-4,
        verbose: Any = False,
        warm_start: Any = False,
        momentum: Any = 0.9,
        nesterovs_momentum: Any = True,
        early_stopping: Any = False,
        validation_fraction: Any = 0.1,
        beta_1: Any = 0.9,
        beta_2: Any = 0.999,
        epsilon: Any = 1e-8,
        n_iter_no_change: Any = 10,
        max_fun: Any = 15000,
        class_weight: Any = None,
        dropout: Any = 0.0,
        callbacks: Any = None,
        n_threads: Any = None,
    ) -> None:
        self._assign(locals())
        self.loss = "log_loss"

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None) -> "MLPClassifier":
        """Fit to data X and classes y.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Class labels, or indicators of several.
        sample_weight : array-like of shape (n_samples,), default=None
        X_val, y_val : array-likes, default=None
            Validation data: scored after each epoch, and for `early_stopping` taken in place of a part of X and y.

        Returns
        -------
        MLPClassifier

        Raises
        ------
        ValueError, TypeError
            If parameters or data are out of range or do not fit together, or if the parameters found are not finite. After
            any error the estimator is as it was before the call.

        Notes
        -----
        Ctrl-C ends ``sgd`` and ``adam`` with a warning, and keeps what was reached.
        """
        with self._all_or_nothing():
            self._fit(X, y, sample_weight, X_val=X_val, y_val=y_val)
        return self

    @available_if(lambda self: self._check_solver())
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> "MLPClassifier":
        """Go on for an epoch over the data given, with the parameters of now.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Classes, not all of which need be among these.
        sample_weight : array-like of shape (n_samples,), default=None
        classes : array of shape (n_classes,), default=None
            All classes, which the first call must be told.

        Returns
        -------
        MLPClassifier

        Raises
        ------
        AttributeError
            If the solver is ``lbfgs``.
        ValueError, TypeError
            As for `fit`, and if `hidden_layer_sizes`, the features or the outputs are not those of the call before.

        Notes
        -----
        Settings changed since the last call count from now on: also the optimiser's, which scikit-learn keeps.
        """
        options = {} if sample_weight is None else {"sample_weight": sample_weight}
        with self._all_or_nothing(incremental=True):
            super().partial_fit(X, y, classes=classes, **options)
        return self


class MLPRegressor(Perceptron, peers.MLPRegressor):
    """scikit-learn's ``MLPRegressor``, trained by compiled kernels.

    With the same parameters, data and `random_state` it draws the same initial parameters and orders of the rows, makes the
    same steps, and reaches the same `coefs_` up to rounding. float32 data train in float32 (``lbfgs`` in float64), all
    others in float64, and predictions come in that dtype. Sparse data are made dense, by pieces of 64 MB, or a batch, if they
    would take more than 256 MB. skl2onnx converts it as scikit-learn's (`fastmlp.onnx`).

    Parameters
    ----------
    loss : {"squared_error", "poisson"}, default="squared_error"
        ``mean((p - y)**2) / 2`` with ``p = z``, or half the Poisson deviance with ``p = exp(z)``, for y of at least 0.
    hidden_layer_sizes : int or sequence of int, default=(100,)
        Units in each hidden layer.
    activation : str, CustomActivation or list of these, default="relu"
        Of the hidden layers: one for all, or one each. Names: ``logistic`` and those of `fastmlp.activations.ACTIVATIONS` but
        softmax.
    solver : {"lbfgs", "sgd", "adam"}, default="adam"
    alpha : float, default=0.0001
        L2 penalty ``alpha / 2 * sum(w**2)`` on the weights, divided by the batch's rows or the sum of their weights.
    batch_size : int or "auto", default="auto"
        Rows in a step; ``auto``: ``min(200, n_samples)``.
    learning_rate : {"constant", "invscaling", "adaptive"}, default="constant"
        For ``sgd``: ``learning_rate_init``; that over ``(t_ + 1)**power_t``; or a fifth of itself each time that training
        would stop for lack of improvement, until it is at most 1e-6.
    learning_rate_init : float, default=0.001
    power_t : float, default=0.5
    max_iter : int, default=200
        Epochs at most, or iterations of ``lbfgs``.
    shuffle : bool, default=True
    random_state : int, RandomState instance or None, default=None
        Draws the initial parameters, the validation split, the rows' orders and dropout.
    tol : float, default=0.0001
        The improvement that counts as one; of ``lbfgs`` the largest gradient to stop at.
    verbose : bool or int, default=False
    warm_start : bool, default=False
        Whether `fit` goes on from the parameters that are there.
    momentum : float, default=0.9
    nesterovs_momentum : bool, default=True
    early_stopping : bool, default=False
        Hold `validation_fraction` of the rows back (or take X_val and y_val), stop when their score stalls, and keep the
        best epoch's parameters.
    validation_fraction : float, default=0.1
    beta_1, beta_2 : float, default=0.9, 0.999
    epsilon : float, default=1e-08
        Of ``adam``, added before the bias correction.
    n_iter_no_change : int or inf, default=10
        Epochs without an improvement of `tol` after which training stops.
    max_fun : int, default=15000
        Evaluations of the loss at most, for ``lbfgs``.
    dropout : float or list of float, default=0.0
        The share of each hidden layer's outputs that a step leaves out: one for all, or one each. Not for ``lbfgs``.
    callbacks : callback or list of these, default=None
        Objects with any of ``on_train_begin(model, logs)``, ``on_epoch_end(model, logs)`` and ``on_train_end(model, logs)``, or
        functions, which count as the second. `model` is the `fastmlp.Model` in training; `logs` has ``epoch`` and ``loss``, and
        ``val_loss`` and ``val_score`` where there is validation data. True from ``on_epoch_end`` stops.
    n_threads : int or None, default=None
        The most threads that `fit` uses; None: `fastmlp.get_num_threads()`. Never changes a result.

    Attributes
    ----------
    coefs_, intercepts_ : lists of arrays
        Weights (fan_in, fan_out) and biases (fan_out,) of each layer; may be written to and replaced.
    loss_, best_loss_ : float
        The last epoch's and the lowest; None for `best_loss_` with `early_stopping`.
    loss_curve_ : list of float
        The loss of each epoch: its batches', before their updates, weighted by their rows.
    validation_scores_, best_validation_score_ : list of float and float, or None
        R2 on the validation data after each epoch.
    validation_loss_curve_ : list of float
        The loss, without the penalty, there.
    t_ : int
        Rows trained on so far.
    n_iter_, n_layers_, n_outputs_, n_features_in_ : int
    feature_names_in_ : array of str
        Of X that has such names.
    out_activation_ : str

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import MLPRegressor
    >>> X = np.linspace(-1, 1, 50).reshape(-1, 1)
    >>> regressor = MLPRegressor(hidden_layer_sizes=8, activation="tanh", solver="lbfgs", random_state=0)
    >>> regressor.fit(X, np.sin(3 * X.ravel())).score(X, np.sin(3 * X.ravel())) > 0.99
    True
    """

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012
        **peers.MLPRegressor._parameter_constraints,
        **OPTIONS,
        "loss": [StrOptions({"squared_error", "poisson"})],
    }

    def __init__(
        self,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: Any = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: Any = 0.001,
        power_t: Any = 0.5,
        max_iter: Any = 200,
        shuffle: Any = True,
        random_state: Any = None,
        tol: Any = 1e-4,
        verbose: Any = False,
        warm_start: Any = False,
        momentum: Any = 0.9,
        nesterovs_momentum: Any = True,
        early_stopping: Any = False,
        validation_fraction: Any = 0.1,
        beta_1: Any = 0.9,
        beta_2: Any = 0.999,
        epsilon: Any = 1e-8,
        n_iter_no_change: Any = 10,
        max_fun: Any = 15000,
        dropout: Any = 0.0,
        callbacks: Any = None,
        n_threads: Any = None,
    ) -> None:
        self._assign(locals())

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None) -> "MLPRegressor":
        """Fit to data X and targets y.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None
        X_val, y_val : array-likes, default=None
            Validation data, at least two rows: scored after each epoch, and for `early_stopping` taken in place of a part of
            X and y.

        Returns
        -------
        MLPRegressor

        Raises
        ------
        ValueError, TypeError
            If parameters or data are out of range or do not fit together, or if the parameters found are not finite. After
            any error the estimator is as it was before the call.

        Notes
        -----
        Ctrl-C ends ``sgd`` and ``adam`` with a warning, and keeps what was reached.
        """
        with self._all_or_nothing():
            self._fit(X, y, sample_weight, X_val=X_val, y_val=y_val)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "MLPRegressor":
        """Go on for an epoch over the data given, or `max_iter` iterations of ``lbfgs``, with the parameters of now.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        MLPRegressor

        Raises
        ------
        ValueError, TypeError
            As for `fit`, and if `hidden_layer_sizes`, `loss`, the features or the outputs are not those of the call before.

        Notes
        -----
        Settings changed since the last call count from now on: also the optimiser's, which scikit-learn keeps.
        """
        options = {} if sample_weight is None else {"sample_weight": sample_weight}
        with self._all_or_nothing(incremental=True):
            super().partial_fit(X, y, **options)
        return self
