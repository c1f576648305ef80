"""The optimisers: their settings. The arithmetic is in `fastmlp.kernels.update`."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from fastmlp.kernels import update as codes
from fastmlp.validation import real


@dataclass(frozen=True)
class Optimizer(ABC):
    """What the optimisers share."""

    code: ClassVar[int]

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is bool:
                if not isinstance(value, bool | np.bool_):
                    raise TypeError(f"{field.name} must be True or False, got {value!r}")
            elif field.name in ("lr", "epsilon"):
                real(field.name, value, above=0.0)
            elif field.name == "weight_decay":
                real(field.name, value, least=0.0)
            else:
                real(field.name, value, least=0.0, below=1.0)

    @property
    @abstractmethod
    def moments(self) -> int:
        """How many vectors of the parameters' length the optimiser keeps."""

    def hyper(self) -> np.ndarray:
        """The settings, where the kernels look for them."""
        values = np.zeros(codes.HYPER)
        for field in fields(self):
            values[getattr(codes, field.name.upper())] = getattr(self, field.name)
        return values


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent.

    With gradient g, per step::

        g += weight_decay * p
        v = momentum * v + g                    (v starts at 0)
        p -= lr * v, or lr * (g + momentum * v) with nesterov

    the form of PyTorch's ``torch.optim.SGD`` (Sutskever et al., 2013, up to the place of lr).

    Parameters
    ----------
    lr : float
        Learning rate, above 0.
    momentum : float
        In [0, 1).
    nesterov : bool
        Look ahead along the momentum; needs ``momentum > 0``.
    weight_decay : float
        L2 penalty's coefficient, at least 0; applies to biases too.

    Raises
    ------
    ValueError
        If a setting is out of its range.
    TypeError
        If a setting is not a number.

    Examples
    --------
    >>> import fastmlp
    >>> fastmlp.SGD(0.1, momentum=0.9)
    SGD(lr=0.1, momentum=0.9, nesterov=False, weight_decay=0.0)
    """

    code: ClassVar[int] = codes.SGD

    lr: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov=True needs momentum above 0, got momentum=0")

    @property
    def moments(self) -> int:
        return 1 if self.momentum else 0


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015).

    With gradient g, at step t = 1, 2, ...::

        g += weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        p -= lr * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + epsilon)

    epsilon is added after the bias correction, as ``torch.optim.Adam`` does.

    Parameters
    ----------
    lr : float
        Learning rate, above 0.
    beta1, beta2 : float
        Decay of the running means of g and g**2, in [0, 1).
    epsilon : float
        Above 0.
    weight_decay : float
        L2 penalty's coefficient, at least 0; it goes through the running means (not AdamW).

    Raises
    ------
    ValueError
        If a setting is out of its range.
    TypeError
        If a setting is not a number.

    Examples
    --------
    >>> import fastmlp
    >>> fastmlp.Adam(3e-4).beta2
    0.999
    """

    code: ClassVar[int] = codes.ADAM

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    @property
    def moments(self) -> int:
        return 2


DEFAULT = SGD()


@lru_cache(maxsize=64)
def _sgd(lr: float) -> SGD:
    return SGD(lr)


def choose(lr: Any, optimizer: Any) -> Optimizer:
    """The optimiser that the arguments of `Model.fit` stand for."""
    if optimizer is None:
        if lr is None:
            return DEFAULT
        # Made once: checking its settings takes longer than a small net's step. Not so for other types: True would find 1.0's.
        return _sgd(lr) if type(lr) is float else SGD(lr)
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be a fastmlp.SGD or fastmlp.Adam, got {optimizer!r}")
    if lr is not None:
        raise ValueError(f"lr={lr!r} must not be given together with optimizer={optimizer!r}, which has its own")
    return optimizer
