"""`MLPClassifier` and `MLPRegressor`: scikit-learn's estimators, trained by fastmlp's kernels."""

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
import sklearn.neural_network as peers
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from fastmlp.losses import CustomLoss
from fastmlp.sklearn.files import ESTIMATORS
from fastmlp.sklearn.objectives import NAMES
from fastmlp.sklearn.shared import CONSTRAINTS, Activation, Callbacks, Estimator, LearningRate, Solver, documented


@documented
class MLPClassifier(Estimator, peers.MLPClassifier):
    """scikit-learn's ``MLPClassifier``, trained by compiled kernels.

    {summary}

    Parameters
    ----------
    {parameters}
    class_weight : dict, list of dict, "balanced" or None, default=None
        Weights of the classes, which multiply `sample_weight` in training, not in scores; ``balanced``:
        ``n_samples / (n_classes * count)`` over all of y. A dict may name classes that a batch has none of. Lists are for
        multilabel data; ``balanced`` is not for `partial_fit`.
    {more parameters}

    Attributes
    ----------
    classes_ : array or list of arrays
    {attributes}
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

    With another optimiser, along a schedule:

    >>> import fastmlp
    >>> schedule = fastmlp.schedules.Cosine(0.01, warmup=5)
    >>> classifier = MLPClassifier(16, solver=fastmlp.Lion(schedule), max_iter=100, n_iter_no_change=100, random_state=0)
    >>> classifier.fit(X, y).score(X, y) > 0.95
    True
    """

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012
        **peers.MLPClassifier._parameter_constraints,
        **CONSTRAINTS,
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: Activation | Sequence[Activation] = "relu",
        *,
        solver: Solver = "adam",
        alpha: float = 0.0001,
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: LearningRate = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        class_weight: dict[Any, float] | list[dict[Any, float]] | Literal["balanced"] | None = None,
        dropout: float | Sequence[float] = 0.0,
        callbacks: Callbacks = None,
        n_threads: int | None = None,
    ) -> None:
        self._assign(locals())
        self.loss = "log_loss"

    fit, save = Estimator.fit, Estimator.save  # by name: pages of the API show what a class itself has

    @available_if(lambda self: self._check_solver())
    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None, classes: ArrayLike | None = None
    ) -> Self:
        """Go on for an epoch over the data given, with the parameters of now: as `MLPRegressor.partial_fit`.

        Parameters
        ----------
        X, y, sample_weight : as for `fit`
            Not all of the classes need be among y.
        classes : array of shape (n_classes,), default=None
            All classes, which the first call must be told.

        Returns
        -------
        MLPClassifier
            The estimator itself.

        Raises
        ------
        AttributeError
            If the solver is ``lbfgs``.
        ValueError, TypeError
            As for `MLPRegressor.partial_fit`, and if y holds another class.
        """
        return self._fit_on(super(Estimator, self).partial_fit, X, y, sample_weight, classes=classes)


@documented
class MLPRegressor(Estimator, peers.MLPRegressor):
    """scikit-learn's ``MLPRegressor``, trained by compiled kernels.

    {summary}

    Parameters
    ----------
    loss : {"squared_error", "poisson", "huber", "absolute_error"} or CustomLoss, default="squared_error"
        ``mean((p - y)**2) / 2``; half the Poisson deviance with ``p = exp(z)``, for y of at least 0; or, of e = p - y,
        ``mean(e**2 / 2 if |e| <= 1 else |e| - 1/2)`` and ``mean(|e|)``. p is z, the last layer's output, except for
        ``poisson``, and for a `fastmlp.CustomLoss` with an output activation; a `fastmlp.RowLoss`, whose targets are not what
        is predicted, is for `fastmlp.Model`. Means are over rows and outputs, with two exceptions of scikit-learn's:
        ``poisson`` is the sum over the outputs, and n outputs' gradient of ``squared_error`` is n times that of the mean.
    {parameters}
    {more parameters}

    Attributes
    ----------
    {attributes}
    out_activation_ : str or CustomActivation
        From z to predictions: ``exp`` for ``poisson``, the `output` of a `CustomLoss`, else ``identity``.

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> from fastmlp import MLPRegressor
    >>> X = np.linspace(-1, 1, 50).reshape(-1, 1)
    >>> regressor = MLPRegressor(hidden_layer_sizes=8, activation="tanh", solver="lbfgs", random_state=0)
    >>> regressor.fit(X, np.sin(3 * X.ravel())).score(X, np.sin(3 * X.ravel())) > 0.99
    True

    With a loss that outliers move less, and another optimiser:

    >>> y = np.where(X.ravel() > 0.95, 100, X.ravel())
    >>> regressor = MLPRegressor("huber", 16, solver=fastmlp.AdamW(0.01), random_state=0).fit(X, y)
    >>> abs(regressor.predict([[0.5]]).item() - 0.5) < 0.2
    True
    """

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012
        **peers.MLPRegressor._parameter_constraints,
        **CONSTRAINTS,
        "loss": [StrOptions({"squared_error", "poisson", *NAMES}), CustomLoss],
    }

    def __init__(
        self,
        loss: Literal["squared_error", "poisson", "huber", "absolute_error"] | CustomLoss = "squared_error",
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: Activation | Sequence[Activation] = "relu",
        *,
        solver: Solver = "adam",
        alpha: float = 0.0001,
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: LearningRate = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: float | Sequence[float] = 0.0,
        callbacks: Callbacks = None,
        n_threads: int | None = None,
    ) -> None:
        self._assign(locals())

    fit, partial_fit, save = Estimator.fit, Estimator.partial_fit, Estimator.save


ESTIMATORS.update({kind.__name__: kind for kind in (MLPClassifier, MLPRegressor)})
