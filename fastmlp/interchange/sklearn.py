"""Estimators from and to scikit-learn."""

from collections.abc import Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp import checks
from fastmlp.interchange import given
from fastmlp.model import Model
from fastmlp.optimizer import Optimizer
from fastmlp.schedules import Schedule
from fastmlp.types import ArrayLike, Exported

if TYPE_CHECKING:
    from sklearn import neural_network as peers

    from fastmlp.sklearn.estimators import MLPClassifier, MLPRegressor

ACTIVATIONS = {"identity": "identity", "sigmoid": "logistic", "tanh": "tanh", "relu": "relu"}  # and scikit-learn's names
# What the two keep otherwise: parameters, and what belongs to a training.
OWN = {"coefs_", "intercepts_", "loss", "_optimizer", "_best_coefs", "_best_intercepts", "_coef_indptr", "_intercept_indptr"}
OWN |= {"_model", "_views", "_rates", "validation_loss_curve_"}
FITTED = ("intercepts_", "n_features_in_", "n_outputs_", "n_layers_", "n_iter_", "out_activation_")


def _imported(name: str) -> Any:
    try:
        from sklearn import neural_network
    except ImportError as error:
        raise ImportError(f'{name} needs scikit-learn: pip install "fastmlp[sklearn]"') from error
    return neural_network


def from_sklearn(estimator: "peers.MLPClassifier | peers.MLPRegressor") -> "MLPClassifier | MLPRegressor":
    """A `fastmlp.MLPClassifier` or `fastmlp.MLPRegressor` that is fitted as scikit-learn's is, with copies of all it has.

    Parameters
    ----------
    estimator : sklearn.neural_network.MLPClassifier or MLPRegressor
        A fitted one.

    Returns
    -------
    MLPClassifier or MLPRegressor
        With the same settings, parameters, classes and curves: predictions and scores are the same up to rounding.

    Raises
    ------
    ImportError
        Without scikit-learn.
    TypeError
        If it is no such estimator; those of a subclass may do anything else.
    ValueError
        If it is not fitted, or lacks what scikit-learn's estimators have since 1.5, as one from an older pickle may.

    Notes
    -----
    Training goes on where it was: `partial_fit` makes the steps that scikit-learn's would, with the moments of ``adam`` and the
    velocities of ``sgd``; `fit` with ``warm_start`` starts from the parameters, with a new optimiser, as there.

    Examples
    --------
    >>> import fastmlp
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> theirs = MLPClassifier(8, solver="lbfgs", max_iter=500, random_state=0).fit(X, y)
    >>> ours = fastmlp.from_sklearn(theirs)
    >>> ours.score(X, y) == theirs.score(X, y)
    True
    """
    neural_network = _imported("from_sklearn")
    from fastmlp.sklearn import estimators

    kinds = {neural_network.MLPClassifier: estimators.MLPClassifier, neural_network.MLPRegressor: estimators.MLPRegressor}
    if type(estimator) not in kinds:
        got = type(estimator).__name__
        raise TypeError(f"estimator must be scikit-learn's MLPClassifier or MLPRegressor, got {got}")
    if not hasattr(estimator, "coefs_"):
        raise ValueError(f"estimator must be fitted, got {estimator!r}")
    wanted = [*estimator._get_param_names(), *FITTED]
    wanted += ["classes_", "_label_binarizer"] if type(estimator) is neural_network.MLPClassifier else []
    lacks = [name for name in wanted if not hasattr(estimator, name)]
    if lacks:
        raise ValueError(f"estimator must be one of scikit-learn 1.5 or newer, got one without {', '.join(lacks)}")
    ours = kinds[type(estimator)](**deepcopy(estimator.get_params()))
    _copy_fit(estimator, ours)
    ours._rates = None
    if hasattr(ours, "loss_curve_"):
        ours.validation_loss_curve_ = []
    ours._link(ours._build(dropout=ours.dropout))
    if hasattr(estimator, "_optimizer"):
        ours._optimizer = deepcopy(estimator._optimizer)
        _remember(ours, _vectors(ours._optimizer))
        for name in ("ms", "vs", "velocities"):
            vars(ours._optimizer).pop(name, None)
    return ours


def _copy_fit(source: Any, to: Any) -> None:
    """All that a fit has left, but what each of the two keeps in its own way."""
    settings = set(source._get_param_names())
    for name, value in vars(source).items():
        if name not in settings | OWN:
            setattr(to, name, deepcopy(value))
    to.coefs_ = [np.array(coef) for coef in source.coefs_]
    to.intercepts_ = [np.array(intercept).reshape(-1) for intercept in source.intercepts_]


def _vectors(optimizer: Any) -> list[list[np.ndarray]]:
    """The moments of scikit-learn's optimiser: for each kind an array a parameter."""
    return [getattr(optimizer, name) for name in ("ms", "vs", "velocities") if hasattr(optimizer, name)]


def _scales(estimator: Any, count: int) -> list[float]:
    """By what the model's moments are larger: its loss is a multiple of scikit-learn's; velocities have the rate in them."""
    scale = estimator._objective(estimator.n_outputs_).scale
    return [scale, scale**2] if count == 2 else [1.0]


def _remember(estimator: Any, vectors: list[list[np.ndarray]]) -> None:
    """Give the estimator's model the moments of scikit-learn's optimiser."""
    model = estimator._model
    engine = model._engine
    moments = np.zeros((len(vectors), model.params.size), model.dtype)
    for at, (arrays, scale) in enumerate(zip(vectors, _scales(estimator, len(vectors)), strict=True)):
        weights, biases = engine.views(moments[at])
        for view, array in zip([*weights, *biases], arrays, strict=True):
            view[...] = np.reshape(array, view.shape) * scale
    kind = type(estimator._objective(estimator.n_outputs_).optimizer(estimator._optimizer, estimator.alpha))
    steps = int(getattr(estimator._optimizer, "t", 0))
    engine.restore(engine.save() | {"kind": kind, "moments": moments, "averaged": False, "steps": steps})


def to_sklearn(
    model: Exported, classes: ArrayLike | None = None, drop_settings: bool = False
) -> "peers.MLPClassifier | peers.MLPRegressor":
    """scikit-learn's ``MLPClassifier`` or ``MLPRegressor``, fitted as an estimator of fastmlp or of a `Model`'s parameters.

    Parameters
    ----------
    model : fitted estimator or Model
        A model of ``mse`` and the identity becomes a regressor; one of ``cross_entropy``, or of ``bce`` and sigmoid, a
        classifier, and with several sigmoids one of indicators.
    classes : (n,) array or None
        Of a `Model` that becomes a classifier: the class of each output, or of 0 and 1 for one sigmoid. They must be sorted,
        as scikit-learn's are. None: the integers from 0 on.
    drop_settings : bool
        Whether settings of an estimator that scikit-learn lacks, and that matter for training only, may become its defaults:
        `solver`, `learning_rate`, `loss`, `dropout`, `class_weight` and `callbacks`. `n_threads` always goes.

    Returns
    -------
    sklearn.neural_network.MLPClassifier or MLPRegressor
        Predictions and scores are the same up to rounding.

    Raises
    ------
    ImportError
        Without scikit-learn.
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If scikit-learn has no such net: its hidden layers all have one of the activations identity, logistic, tanh and relu; if
        it has no such settings, unless `drop_settings`; the message names them all. If `classes` do not fit.

    Notes
    -----
    Training goes on where an estimator's was, as `from_sklearn` says; of a `Model` it starts anew. A model's own classes are
    labels from 0 on, or an output's numbers.

    Examples
    --------
    >>> import numpy as np, fastmlp
    >>> model = fastmlp.Model([4, 8, 3], "tanh", loss="cross_entropy", rng=0)
    >>> X = np.ones((1, 4))
    >>> theirs = fastmlp.to_sklearn(model, classes=["iris", "lily", "rose"])
    >>> np.allclose(theirs.predict_proba(X), model.predict(X))
    True
    """
    neural_network = _imported("to_sklearn")
    from fastmlp.sklearn import estimators

    checks.flag("drop_settings", drop_settings)
    if isinstance(model, Model):
        return _of_model(neural_network, model, classes)
    if not isinstance(model, estimators.MLPClassifier | estimators.MLPRegressor):
        raise TypeError(f"model must be a fastmlp.Model or a fitted estimator, got {type(model).__name__}")
    if classes is not None:
        raise ValueError(f"classes must be None for an estimator, which has its own, got {classes!r}")
    if not hasattr(model, "coefs_"):
        raise ValueError(f"model must be fitted, got {model!r}")
    given.network(model)
    classifies = isinstance(model, estimators.MLPClassifier)
    kind = neural_network.MLPClassifier if classifies else neural_network.MLPRegressor
    theirs = kind(**_settings(model, kind, drop_settings))
    if not hasattr(theirs, "loss"):
        theirs.loss = model.loss
    _copy_fit(model, theirs)
    _best_is_now(theirs)
    if hasattr(model, "_optimizer") and hasattr(model._optimizer, "learning_rate_init") and model.solver == theirs.solver:
        theirs._optimizer = deepcopy(model._optimizer)
        _give_moments(model, theirs)
    return theirs


def _settings(estimator: Any, kind: Any, drop: bool) -> dict[str, Any]:
    """The estimator's settings as those of scikit-learn's."""
    settings, known = estimator.get_params(), set(kind._get_param_names())
    activation = _hidden(estimator._activations(len(estimator.coefs_) - 1), estimator.activation)
    loss = settings.get("loss", "log_loss")
    if estimator.out_activation_ not in ("identity", "softmax", "logistic", "exp") or (
        estimator.out_activation_ == "exp" and "loss" not in known
    ):
        raise ValueError(f"model must have an output activation that scikit-learn has, got loss={loss!r}")
    lacking = {
        "solver": isinstance(estimator.solver, Optimizer) or estimator.solver not in ("lbfgs", "sgd", "adam"),
        "learning_rate": isinstance(estimator.learning_rate, Schedule),
        "loss": not isinstance(loss, str) or loss not in ("log_loss", "squared_error", "poisson"),
        "dropout": bool(np.any(estimator.dropout)),
        "class_weight": settings.get("class_weight") is not None and "class_weight" not in known,
        "callbacks": estimator.callbacks is not None,
    }
    names = [name for name, lacks in lacking.items() if lacks]
    if names and not drop:
        got = ", ".join(f"{name}={settings[name]!r}" for name in names)
        raise ValueError(f"model must have settings that scikit-learn has, unless drop_settings=True, got {got}")
    kept = {name: deepcopy(value) for name, value in settings.items() if name in known and name not in names}
    return kept | {"activation": activation}


def _hidden(names: Sequence[Any], got: Any) -> str:
    """scikit-learn's name of the hidden layers' activation."""
    if any(not isinstance(name, str) or name not in ACTIVATIONS for name in names) or len(set(names)) > 1:
        raise ValueError(f"model must have one of {', '.join(ACTIVATIONS)} in all hidden layers for scikit-learn, got {got!r}")
    return ACTIVATIONS[names[0]] if names else "relu"


def _best_is_now(theirs: Any) -> None:
    """What early stopping goes back to."""
    theirs._best_coefs = [coef.copy() for coef in theirs.coefs_]
    theirs._best_intercepts = [intercept.copy() for intercept in theirs.intercepts_]


def _give_moments(model: Any, theirs: Any) -> None:
    """Give scikit-learn's optimiser the moments of the estimator's model; without any, it starts anew."""
    saved = model._model._engine.save()
    optimizer = theirs._optimizer
    names = ("ms", "vs") if hasattr(optimizer, "beta_1") else ("velocities",)
    kind = type(model._objective(model.n_outputs_).optimizer(model._optimizer, model.alpha))
    moments = saved["moments"]
    if saved["kind"] is not kind or len(moments) < len(names):
        moments = np.zeros((len(names), model._model.params.size))
    shapes = [array.shape for array in (*theirs.coefs_, *theirs.intercepts_)]
    for at, (name, scale) in enumerate(zip(names, _scales(model, len(names)), strict=True)):
        weights, biases = model._model._engine.views(moments[at])
        arrays = [view.reshape(shape) / scale for view, shape in zip((*weights, *biases), shapes, strict=True)]
        setattr(optimizer, name, arrays)
    if hasattr(optimizer, "beta_1"):
        optimizer.t = saved["steps"] if saved["kind"] is kind else 0


# ---- models ----------------------------------------------------------------------------------------------------------


def _of_model(neural_network: Any, model: Model, classes: ArrayLike | None) -> Any:
    """scikit-learn's estimator of a model's parameters."""
    network = given.network(model)
    loss, output = network.loss_name, network.activations[-1]
    activation = _hidden(network.activations[:-1], network.activations[:-1])
    settings = {"hidden_layer_sizes": network.sizes[1:-1], "activation": activation}
    if loss == "mse" and output == "identity":
        if classes is not None:
            raise ValueError(f"classes must be None for a model of loss='mse', got {classes!r}")
        theirs = neural_network.MLPRegressor(**settings)
        theirs.out_activation_ = "identity"
    elif (loss, output) in (("cross_entropy", "softmax"), ("bce", "sigmoid")) and (output, network.sizes[-1]) != ("softmax", 1):
        theirs = neural_network.MLPClassifier(**settings)
        _label(theirs, network, classes)
    else:
        raise ValueError(
            "model must have loss='mse' and identity, 'cross_entropy' and softmax, or 'bce' and sigmoid for scikit-learn, got"
            f" {loss!r}, {output!r} and {network.sizes[-1]} outputs"
        )
    theirs.n_features_in_, theirs.n_outputs_, theirs.n_layers_ = network.sizes[0], network.sizes[-1], len(network.sizes)
    theirs.coefs_ = [W.copy() for W in network.weights]
    theirs.intercepts_ = [b[0].copy() for b in network.biases]
    theirs.n_iter_ = theirs.t_ = theirs._no_improvement_count = 0
    theirs.loss_curve_, theirs.loss_, theirs.best_loss_ = [], np.inf, np.inf
    theirs.validation_scores_ = theirs.best_validation_score_ = None
    _best_is_now(theirs)
    return theirs


def _label(theirs: Any, network: Model, classes: ArrayLike | None) -> None:
    """Give a classifier its classes."""
    from sklearn.preprocessing import LabelBinarizer

    outputs, several = network.sizes[-1], network.activations[-1] == "sigmoid" and network.sizes[-1] > 1
    count = max(outputs, 2)
    labels = np.arange(count) if classes is None else np.asarray(classes)
    if labels.shape != (count,) or not np.array_equal(np.unique(labels), labels):
        raise ValueError(f"classes must be {count} different ones, sorted, got {classes!r}")
    if several and classes is not None and not np.array_equal(labels, np.arange(count)):
        raise ValueError(f"classes must be None, or integers from 0 on, for several sigmoids, got {classes!r}")
    theirs.out_activation_ = "softmax" if network.activations[-1] == "softmax" else "logistic"
    theirs._label_binarizer = LabelBinarizer().fit(np.eye(count, dtype=int) if several else labels)
    theirs.classes_ = theirs._label_binarizer.classes_
