"""scikit-learn's losses and optimisers, as the kernels compute them."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.neural_network._stochastic_optimizers import SGDOptimizer

from fastmlp.activations import CustomActivation
from fastmlp.checks import choice
from fastmlp.kernels.layer.loss import CLIPPED_BCE, CLIPPED_CROSS_ENTROPY
from fastmlp.losses import POISSON, CustomLoss
from fastmlp.losses import _poisson as _poisson  # where pickles of fastmlp 0.1 look for them
from fastmlp.losses import _poisson_slope as _poisson_slope
from fastmlp.model import Model
from fastmlp.optimizer import Optimizer
from fastmlp.optimizers import SGD, AdamW, Lion, SklearnAdam, SklearnSGD
from fastmlp.schedules import Schedule
from fastmlp.sklearn.solvers import Solver

NAMES = {"huber": "huber", "absolute_error": "mae"}  # losses that scikit-learn's estimators have not, and a model's names


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

    activation: str | CustomActivation
    loss: str | CustomLoss
    scale: float
    gain: float = 1.0
    code: int | None = None

    def code_for(self, model: Model) -> int:
        """The kernels' number for the loss."""
        return model._code if self.code is None else self.code

    def is_of(self, model: Model) -> bool:
        """Whether that is the model's loss."""
        return bool(model.network.loss == self.loss)

    def optimizer(self, settings: Any, alpha: float) -> Optimizer:
        """The step of scikit-learn's optimiser; all factors but `gain` leave its trajectory as it is."""
        if isinstance(settings, Solver):
            return self._scaled(settings.optimizer, alpha)
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

    def rates(self, rates: np.ndarray, optimizer: Optimizer) -> np.ndarray:
        """A schedule's, for what `optimizer` returned: the other optimisers' steps are as long for any multiple of a loss."""
        return rates / self.scale if isinstance(optimizer, SGD) else rates

    def _scaled(self, given: Optimizer, alpha: float) -> Optimizer:
        """The optimiser whose steps down the model's loss are those of the given one down scikit-learn's."""
        names = {"l1", "l2", "clip_value", "clip_norm", "epsilon"}
        if not isinstance(given, AdamW | Lion):  # whose decay is no part of the gradient
            names.add("weight_decay")
        changed = {name: value * self.scale for name in names if (value := getattr(given, name, None)) is not None}
        penalised = bool(given.l1 or given.l2)
        if not penalised:
            changed["l2"] = alpha * self.scale
        if isinstance(given, SGD) and not isinstance(given.lr, Schedule):
            changed["lr"] = given.lr / self.scale
        optimizer = replace(given, **changed)
        object.__setattr__(optimizer, "gain", self.gain)  # of a fit, not of the class
        object.__setattr__(optimizer, "by_mass", float(not penalised))
        return optimizer


def output_of(loss: str | CustomLoss) -> str | CustomActivation:
    """A regressor's `out_activation_`."""
    if isinstance(loss, CustomLoss):
        return loss.output
    return "exp" if loss == "poisson" else "identity"


def objective(loss: str | CustomLoss, output: str | CustomActivation, outputs: int) -> Objective:
    """The objective of a loss, where such an `out_activation_` makes the predictions.

    scikit-learn takes the mean of squared_error over the outputs, but not that of its gradient.
    """
    if output == "softmax" and loss == "log_loss":
        return Objective("softmax", "cross_entropy", 1.0, code=CLIPPED_CROSS_ENTROPY)
    if loss == "log_loss":
        return Objective("sigmoid", "bce", 1.0 / outputs, code=CLIPPED_BCE)
    activation = "identity" if output == "exp" else output
    if loss == "squared_error":
        return Objective(activation, "mse", 2.0, outputs)
    if loss == "poisson":
        return Objective(activation, POISSON, 1.0 / outputs)
    return Objective(activation, loss if isinstance(loss, CustomLoss) else NAMES[choice("loss", loss, NAMES)], 1.0)
