"""The estimators as skl2onnx converts them: by scikit-learn's converters. Files without it: `fastmlp.to_onnx`."""

import copy
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

KNOWN = ("identity", "logistic", "tanh", "relu")  # activations that scikit-learn's converters have


@cache
def register() -> None:
    """Tell skl2onnx how to convert `MLPClassifier` and `MLPRegressor`.

    Estimators do this themselves when they are fitted or unpickled after ``import skl2onnx``; call it where that comes later.

    Raises
    ------
    ImportError
        Without skl2onnx.

    Notes
    -----
    ``skl2onnx.to_onnx(estimator, X)`` raises ValueError for an activation that scikit-learn's estimators have not, for several
    different ones, for ``loss="poisson"``, and for a `CustomLoss` whose output activation is not the identity.

    Examples
    --------
    >>> import fastmlp, fastmlp.onnx, numpy as np
    >>> X = np.linspace(-1, 1, 30)[:, None]
    >>> regressor = fastmlp.MLPRegressor(hidden_layer_sizes=4, solver="lbfgs", random_state=0).fit(X, X.ravel())
    >>> fastmlp.onnx.register()
    >>> import skl2onnx
    >>> skl2onnx.to_onnx(regressor, X[:1]).graph.output[0].name
    'variable'
    """
    try:
        from skl2onnx import update_registered_converter
        from skl2onnx.common._registration import get_converter, get_shape_calculator
    except ImportError as error:
        raise ImportError('fastmlp.onnx needs skl2onnx: pip install "fastmlp[onnx]"') from error

    from fastmlp.sklearn.estimators import MLPClassifier, MLPRegressor

    for estimator in (MLPClassifier, MLPRegressor):
        alias = f"Sklearn{estimator.__name__}"
        theirs = get_converter(alias)
        options = theirs.get_allowed_options() if estimator is MLPClassifier else None
        own = f"Fastmlp{estimator.__name__}"
        update_registered_converter(estimator, own, get_shape_calculator(alias), _converter(theirs), options=options)


def register_if_imported() -> None:
    """`register`, where skl2onnx is in use; a version of it that is made otherwise is no reason for a fit to fail."""
    if "skl2onnx" in sys.modules:
        with suppress(ImportError, ValueError):
            register()


def _converter(theirs: Callable[..., None]) -> Callable[..., None]:
    def convert(scope: Any, operator: Any, container: Any) -> None:
        given = operator.raw_operator
        operator.raw_operator = copy.copy(given)
        operator.raw_operator.activation = _activation(given)
        try:
            theirs(scope, operator, container)
        finally:
            operator.raw_operator = given

    return convert


def _activation(estimator: Any) -> str:
    """scikit-learn's name for the hidden layers'."""
    from sklearn.base import is_regressor

    if is_regressor(estimator) and estimator.out_activation_ != "identity":
        given = "loss='poisson'" if estimator.out_activation_ == "exp" else f"loss={estimator.loss!r}"
        raise ValueError(f"{given} has no converter to ONNX, which needs the identity as the output activation")
    names = set(estimator._activations(len(estimator.coefs_) - 1)) or {"identity"}
    name = names.pop()
    name = "logistic" if name == "sigmoid" else name
    if names or name not in KNOWN:
        raise ValueError(f"activation must be one of {', '.join(KNOWN)} to be converted to ONNX, got {estimator.activation!r}")
    return name
