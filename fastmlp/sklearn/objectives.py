"""scikit-learn's losses and optimisers, as the kernels compute them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.neural_network._stochastic_optimizers import SGDOptimizer

from fastmlp.kernels.layer.loss import CLIPPED_BCE, CLIPPED_CROSS_ENTROPY
from fastmlp.losses import CustomLoss
from fastmlp.model import Model
from fastmlp.optimizer import Optimizer
from fastmlp.optimizers import SGD, Adam


@dataclass(frozen=True, repr=False)
class SklearnSGD(SGD):
    """SGD whose velocity contains the learning rate, with an L2 penalty that is divided by the batch's rows."""

    gain: float = 1.0  # type: ignore[misc]  # of a fit, not of the class
    sklearn: float = 1.0

    def __post_init__(self) -> None:
        """scikit-learn has checked the settings; its momentum may be 1."""


@dataclass(frozen=True, repr=False)
class SklearnAdam(Adam):
    """Adam with epsilon added before the bias correction, with an L2 penalty that is divided by the batch's rows."""

    gain: float = 1.0  # type: ignore[misc]  # of a fit, not of the class
    sklearn: float = 1.0

    def __post_init__(self) -> None:
        """scikit-learn has checked the settings."""


def _poisson(z: Any, y: Any) -> Any:
    return np.exp(z) - y + (y * (np.log(y) - z) if y != 0 else 0.0)


def _poisson_slope(z: Any, y: Any) -> Any:
    return np.exp(z) - y


@dataclass(frozen=True)
class Objective:
    """A loss of scikit-learn's as a model's: this times the former is what the model's step goes down.

    Attributes
    ----------
    activation, loss
        The model's.
    scale : float
        The model's loss over scikit-learn's.
    gain : float
        scikit-learn's gradient, times `scale`, over the model's: not 1 where that is not the gradient of that loss.
    code : int or None
        The kernels' of the loss, where it is not the model's.
    """

    activation: Any
    loss: Any
    scale: float
    gain: float = 1.0
    code: int | None = None

    def code_for(self, model: Model) -> int:
        """The kernels' number for the loss."""
        return model._code if self.code is None else self.code

    def optimizer(self, settings: Any, alpha: float) -> Optimizer:
        """The step of scikit-learn's optimiser; all factors but `gain` leave its trajectory as it is."""
        if isinstance(settings, SGDOptimizer):
            return SklearnSGD(
                lr=settings.learning_rate / self.scale,
                momentum=settings.momentum,
                nesterov=settings.nesterov,
                l2=alpha * self.scale,
                gain=self.gain,
            )
        return SklearnAdam(
            lr=settings.learning_rate_init,
            beta1=settings.beta_1,
            beta2=settings.beta_2,
            epsilon=settings.epsilon * self.scale,
            l2=alpha * self.scale,
            gain=self.gain,
        )


def objective(output: str, outputs: int) -> Objective:
    """The objective that an `out_activation_` stands for.

    scikit-learn takes the mean of squared_error over the outputs, but not that of its gradient.
    """
    if output == "identity":
        return Objective("identity", "mse", 2.0, outputs)
    if output == "softmax":
        return Objective("softmax", "cross_entropy", 1.0, code=CLIPPED_CROSS_ENTROPY)
    if output == "logistic":
        return Objective("sigmoid", "bce", 1.0 / outputs, code=CLIPPED_BCE)
    # Of the logarithm of what is predicted: there (p - y) has no 0 / 0.
    return Objective("identity", CustomLoss("poisson", _poisson, _poisson_slope), 1.0 / outputs)
