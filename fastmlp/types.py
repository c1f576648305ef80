"""The types in public signatures: names that editors complete, and what else an argument may be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, SupportsFloat, TypeAlias

import numpy as np

from fastmlp.activations import CustomActivation
from fastmlp.lbfgs import LBFGS
from fastmlp.optimizer import Optimizer

if TYPE_CHECKING:
    from numpy.typing import ArrayLike as ArrayLike
    from numpy.typing import DTypeLike

    from fastmlp.model import Model
else:
    ArrayLike = DTypeLike = Any  # numpy.typing is for type checkers; so are names in a cycle of imports
    Model = Any

# Each list is the registry's of that name: a test compares them.
ActivationName: TypeAlias = Literal[
    "identity",
    "relu",
    "leaky_relu",
    "elu",
    "gelu",
    "silu",
    "softplus",
    "sigmoid",
    "tanh",
    "softmax",
    "selu",
    "mish",
    "hardswish",
    "squareplus",
    "exp",
    "swish",
    "logistic",
]
LossName: TypeAlias = Literal["bce", "cross_entropy", "mse", "mae", "huber", "poisson"]
SteppingName: TypeAlias = Literal["sgd", "adam", "adamw", "rmsprop", "adagrad", "adamax", "nadam", "lion", "radam"]
OptimizerName: TypeAlias = Literal[SteppingName, "lbfgs"]
MetricName: TypeAlias = Literal["accuracy", "balanced_accuracy", "auc", "f1", "log_loss", "mse", "mae", "rmse", "r2"]
InitName: TypeAlias = Literal["auto", "he", "glorot", "lecun", "small"]
Nonfinite: TypeAlias = Literal["ignore", "raise", "stop"]

DType: TypeAlias = Literal["float64", "float32"] | DTypeLike
Rng: TypeAlias = int | np.integer | np.random.Generator | np.random.BitGenerator | np.random.SeedSequence | None
Activations: TypeAlias = ActivationName | CustomActivation | Sequence[ActivationName | CustomActivation]
SteppingOptimizer: TypeAlias = Optimizer | SteppingName | None
AnyOptimizer: TypeAlias = Optimizer | LBFGS | OptimizerName | None
Metric: TypeAlias = MetricName | Callable[[np.ndarray, np.ndarray], SupportsFloat]
Metrics: TypeAlias = Metric | Sequence[Metric] | None
Verbose: TypeAlias = bool | int | Literal["bar"]
Labelled: TypeAlias = tuple[ArrayLike, ArrayLike] | tuple[ArrayLike, ArrayLike, ArrayLike]


class Numbered(Protocol):
    """A map-style dataset of batches."""

    def __getitem__(self, index: int, /) -> Labelled: ...


Batches: TypeAlias = Iterable[Labelled] | Numbered


class Fitted(Protocol):
    """An estimator that has been fitted: `fastmlp.MLPClassifier` or `fastmlp.MLPRegressor`."""

    @property
    def model_(self) -> Model: ...


Exported: TypeAlias = Model | Fitted


class BeginsTraining(Protocol):
    """A callback with this method."""

    def on_train_begin(self, model: Model, logs: dict[str, Any], /) -> object: ...


class EndsEpoch(Protocol):
    """A callback with this method."""

    def on_epoch_end(self, model: Model, logs: dict[str, Any], /) -> object: ...


class EndsTraining(Protocol):
    """A callback with this method."""

    def on_train_end(self, model: Model, logs: dict[str, Any], /) -> object: ...


OneCallback: TypeAlias = Callable[[Model, dict[str, Any]], object] | BeginsTraining | EndsEpoch | EndsTraining
Callbacks: TypeAlias = OneCallback | Sequence[OneCallback] | None
