"""What `MLPClassifier` and `MLPRegressor` share in public: methods, attributes, and the words for their parameters."""

import inspect
import os
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, Literal, Self, TypeVar

from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions

from fastmlp.activations import ACTIVATIONS, ALIASES, CustomActivation
from fastmlp.model import Model
from fastmlp.optimizer import Optimizer
from fastmlp.schedules import Schedule
from fastmlp.sklearn import files
from fastmlp.sklearn.checkpoint import Keeping
from fastmlp.sklearn.perceptron import Perceptron
from fastmlp.sklearn.solvers import SOLVERS
from fastmlp.training.checkpoint import Every

Kind = TypeVar("Kind", bound=type)

Activation = str | CustomActivation
Solver = Literal["adam", "sgd", "lbfgs", "adamw", "rmsprop", "adagrad", "adamax", "nadam", "lion", "radam"] | Optimizer
LearningRate = Literal["constant", "invscaling", "adaptive"] | Schedule
Callbacks = Any | Sequence[Any] | None

CONSTRAINTS: dict[str, Any] = {
    "activation": [StrOptions({*ACTIVATIONS, *ALIASES} - {"softmax"}), CustomActivation, list, tuple],
    "solver": [StrOptions({"lbfgs", "sgd", "adam", *SOLVERS}), Optimizer],
    "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"}), Schedule],
    "dropout": [Interval(Real, 0, 1, closed="left"), list, tuple],
    "callbacks": "no_validation",
    "n_threads": [Interval(Integral, 1, None, closed="left"), None],
}

WORDS = {
    "summary": """\
With the same parameters, data and `random_state` it draws the same initial parameters and orders of the rows, makes the
same steps, and reaches the same `coefs_` up to rounding. float32 data train in float32 (``lbfgs`` in float64), all
others in float64, and predictions come in that dtype. Sparse data are made dense, by pieces of 64 MB, or a batch, if they
would take more than 256 MB. skl2onnx converts it as scikit-learn's (`fastmlp.onnx`).
""",
    "parameters": """\
hidden_layer_sizes : int or sequence of int, default=(100,)
    Units in each hidden layer.
activation : str, CustomActivation or list of these, default="relu"
    Of the hidden layers: one for all, or one each. Names: ``logistic`` and those of `fastmlp.activations.ACTIVATIONS` but
    softmax.
solver : str or Optimizer, default="adam"
    ``lbfgs``, ``sgd`` or ``adam``: scikit-learn's. ``adamw``, ``rmsprop``, ``adagrad``, ``adamax``, ``nadam``, ``lion``,
    ``radam``: the optimiser of that name in `fastmlp` (its formula is there) with `learning_rate_init`, and with `beta_1`,
    `beta_2` and `epsilon` if it has all three; its other settings are its defaults. Or an optimiser with its settings, such as
    ``fastmlp.Lion(1e-4)``. Each goes down scikit-learn's loss, penalty included.
alpha : float, default=0.0001
    L2 penalty ``alpha / 2 * sum(w**2)`` on the weights, divided by the batch's rows or the sum of their weights. An optimiser
    with ``l1`` or ``l2`` above 0 has these in the place of `alpha`, not divided.
batch_size : int or "auto", default="auto"
    Rows in a step; ``auto``: ``min(200, n_samples)``.
learning_rate : {"constant", "invscaling", "adaptive"} or Schedule, default="constant"
    The words are for ``sgd``: ``learning_rate_init``; that over ``(t_ + 1)**power_t``; or a fifth of itself each time that
    training would stop for lack of improvement, until it is at most 1e-6. A schedule (`fastmlp.schedules`) is for all solvers
    that are named, but ``lbfgs``, in the place of `learning_rate_init`. It goes from step to step, and ends with `max_iter`
    epochs, of which no ConvergenceWarning then complains; `partial_fit` goes on with it, and stays in its last epoch after
    these.
learning_rate_init : float, default=0.001
    The learning rate of a `solver` that is named.
power_t : float, default=0.5
    Of ``learning_rate="invscaling"``.
max_iter : int, default=200
    Epochs at most, or iterations of ``lbfgs``.
shuffle : bool, default=True
    Whether each epoch visits the rows in a new order.
random_state : int, RandomState instance or None, default=None
    Draws the initial parameters, the validation split, the rows' orders and dropout.
tol : float, default=0.0001
    The improvement that counts as one; of ``lbfgs`` the largest gradient to stop at.
verbose : bool or int, default=False
    Whether to print the loss of each epoch.
warm_start : bool, default=False
    Whether `fit` goes on from the parameters that are there.
momentum : float, default=0.9
    Of ``sgd``.
nesterovs_momentum : bool, default=True
    Of ``sgd``.
early_stopping : bool, default=False
    Hold `validation_fraction` of the rows back (or take X_val and y_val), stop when their score stalls, and keep the
    best epoch's parameters.
validation_fraction : float, default=0.1
    In (0, 1).
beta_1, beta_2 : float, default=0.9, 0.999
    Of ``adam``, ``adamw``, ``adamax``, ``nadam`` and ``radam``: the decay of the running means of the gradient and of its
    square.
epsilon : float, default=1e-08
    Of these five; for ``adam`` added before the bias correction.
n_iter_no_change : int or inf, default=10
    Epochs without an improvement of `tol` after which training stops.
max_fun : int, default=15000
    Evaluations of the loss at most, for ``lbfgs``.
""",
    "more parameters": """\
dropout : float or list of float, default=0.0
    The share of each hidden layer's outputs that a step leaves out: one for all, or one each. Not for ``lbfgs``.
callbacks : callback or list of these, default=None
    Objects with any of ``on_train_begin(model, logs)``, ``on_epoch_end(model, logs)`` and ``on_train_end(model, logs)``, or
    functions, which count as the second. `model` is the `fastmlp.Model` in training; `logs` has ``epoch`` and ``loss``, and
    ``val_loss`` and ``val_score`` where there is validation data, and ``lr``, the last step's, where there is a schedule. True
    from ``on_epoch_end`` stops.
n_threads : int or None, default=None
    The most threads that `fit` uses; None: `fastmlp.get_num_threads()`. Never changes a result.
""",
    "attributes": """\
coefs_, intercepts_ : lists of arrays
    Weights (fan_in, fan_out) and biases (fan_out,) of each layer; may be written to and replaced.
loss_, best_loss_ : float
    The last epoch's and the lowest; None for `best_loss_` with `early_stopping`.
loss_curve_ : list of float
    The loss of each epoch: its batches', before their updates, weighted by their rows.
validation_scores_, best_validation_score_ : list of float and float, or None
    Accuracy, or R2 of a regressor, on the validation data after each epoch.
validation_loss_curve_ : list of float
    The loss, without the penalty, there.
t_ : int
    Rows trained on so far.
n_iter_, n_layers_, n_outputs_, n_features_in_ : int
feature_names_in_ : array of str
    X's column names, if it has any and they are strings.
""",
}


def documented(cls: Kind) -> Kind:
    """Put `WORDS` where the class's documentation has their names in braces."""
    text = inspect.getdoc(cls)
    if text:  # python -OO leaves none
        for name, words in WORDS.items():
            text = text.replace(f"{{{name}}}\n", words)
        cls.__doc__ = text
    return cls


class Estimator(Perceptron):
    """The methods of both."""

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        every: Every = "epoch",
        resume: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Fit to data X and targets y.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Numbers for a regressor; for a classifier class labels, or indicators of several.
        sample_weight : array-like of shape (n_samples,), default=None
        X_val, y_val : array-likes, default=None
            Validation data: scored after each epoch, and for `early_stopping` taken in place of a part of X and y. For a
            regressor at least two rows, since their score is R2.
        checkpoint, every, resume : default=None, "epoch", None
            As for `Model.fit`: a file to write the training to, when, and one to go on from, to the same bits. For all solvers
            but ``lbfgs``. The data and the parameters must be those of the fit to go on with, but for `verbose`, `n_threads`,
            `callbacks`, `random_state`, and `max_iter` where there is no schedule.

        Returns
        -------
        MLPClassifier or MLPRegressor
            The estimator itself.

        Raises
        ------
        ValueError, TypeError
            If parameters or data are out of range or do not fit together, or if the parameters found are not finite. After
            any error the estimator is as it was before the call.
        OSError
            If a checkpoint cannot be written or read.

        Notes
        -----
        Ctrl-C ends all solvers but ``lbfgs`` with a warning, and keeps what was reached.
        """
        with self._all_or_nothing():
            keeping = Keeping(self, checkpoint, every, resume)
            self._fit(X, y, sample_weight, X_val=X_val, y_val=y_val, keeping=keeping)
        return self

    def partial_fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Go on for an epoch over the data given, or `max_iter` iterations of ``lbfgs``, with the parameters of now.

        Parameters
        ----------
        X, y, sample_weight : as for `fit`

        Returns
        -------
        MLPRegressor
            The estimator itself.

        Raises
        ------
        ValueError, TypeError
            As for `fit`, and if `hidden_layer_sizes`, the features, the outputs, or what `loss` makes of the outputs, are not
            those of the call before.

        Notes
        -----
        Settings changed since the last call count from now on: also the optimiser's, which scikit-learn keeps.
        """
        return self._fit_on(super().partial_fit, X, y, sample_weight)

    def _fit_on(self, theirs: Callable[..., Any], X: Any, y: Any, sample_weight: Any, **options: Any) -> Self:
        """`partial_fit`, by that of scikit-learn."""
        if sample_weight is not None:
            options["sample_weight"] = sample_weight
        with self._all_or_nothing(incremental=True):
            theirs(X, y, **options)
        return self

    def save(self, path: str | os.PathLike[str], *, optimizer: bool = False) -> None:
        """Write the fitted estimator to a file, from which `fastmlp.load` makes it again: it predicts the same bits.

        The file has the parameters, what a fit has found (`classes_`, `loss_curve_` and so on), and the network's tensors under
        PyTorch's names, as `Model.save` writes them. `fastmlp/files/FORMAT.md` has all of it.

        Parameters
        ----------
        path : str or os.PathLike
            Its folder must be there. A file that is there is replaced when all is written, and else stays as it is.
        optimizer : bool
            Whether to write what `partial_fit` needs, too, to go on as this estimator would.

        Raises
        ------
        ValueError
            If it is not fitted, or a parameter is an object that no file can hold: a callback, or a user's own schedule.
        TypeError
            If an argument is of the wrong kind, or the estimator is of a class derived from this one.
        OSError
            If the file cannot be written.

        Notes
        -----
        Of a `CustomActivation` or a `CustomLoss` the file has the name: who reads it gives ``custom=[...]``. Parameters that
        are numbers of NumPy's come back as Python's, and arrays as lists. Arrays in `coefs_` and `intercepts_` that replaced
        those of the fit are written, and come back as one network of one dtype.

        Examples
        --------
        >>> import fastmlp, tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "classifier.safetensors"
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], ["low", "low", "high", "high"]
        >>> classifier = fastmlp.MLPClassifier(8, solver="lbfgs", random_state=0).fit(X, y)
        >>> classifier.save(path)
        >>> fastmlp.load(path).predict([[0.5], [2.5]])
        array(['low', 'high'], dtype='<U4')
        """
        files.save(self, path, optimizer)

    @property
    def model_(self) -> Model:
        """The fitted network as a `fastmlp.Model`: its `predict` gives a classifier's probabilities, a regressor's outputs.

        It shares its parameters with `coefs_` and `intercepts_`: what either changes, by training or by writing to arrays, the
        other has too. Where arrays in these lists were replaced, it is a new model with copies of what the lists hold now.

        The targets of its methods are numbers: indices into `classes_`, or indicators of several. Its loss is the estimator's,
        without the penalty and without clipped probabilities, up to a factor: twice that of ``squared_error``, and an n-th of
        that of n outputs of a multilabel classifier or of ``poisson``, for which it predicts the logarithm. A pickle of the
        estimator holds the parameters once.

        Raises
        ------
        AttributeError
            Before a fit, and where the lists' arrays make up no network.

        Examples
        --------
        >>> import numpy as np, fastmlp
        >>> X = np.linspace(-1, 1, 40)[:, None]
        >>> regressor = fastmlp.MLPRegressor(hidden_layer_sizes=8, solver="lbfgs", random_state=0).fit(X, X.ravel())
        >>> before = regressor.model_.loss(X, X)
        >>> history = regressor.model_.fit(X, X, epochs=50, optimizer=fastmlp.Adam(1e-4))
        >>> regressor.model_.loss(X, X) < before
        True
        >>> np.array_equal(regressor.predict(X), regressor.model_.predict(X).ravel())
        True
        """
        if not hasattr(self, "coefs_"):
            raise AttributeError(f"{type(self).__name__} has no model_ before it is fitted")
        try:
            return self._current()
        except (TypeError, ValueError) as error:  # whoever goes through an estimator's attributes expects no other
            raise AttributeError(f"model_ cannot be made: {error}") from error
