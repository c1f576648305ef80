"""The optimisers: their settings. The arithmetic of each is its rule in `fastmlp.kernels.layer.update`."""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal, overload

from fastmlp import checks
from fastmlp.kernels.layer.update import RULES, Rule
from fastmlp.lbfgs import LBFGS
from fastmlp.optimizer import OPTIMIZERS, Optimizer
from fastmlp.schedules import Schedule


@dataclass(frozen=True, repr=False)
class SGD(Optimizer):
    """Stochastic gradient descent.

    With gradient g, per step::

        g += weight_decay * p
        v = momentum * v + g                    (v starts at 0)
        p -= lr * v, or lr * (g + momentum * v) with nesterov

    the form of PyTorch's ``torch.optim.SGD`` (Sutskever et al., 2013, up to the place of lr).

    Parameters
    ----------
    lr : float or Schedule
        Learning rate, above 0.
    momentum : float
        In [0, 1).
    nesterov : bool
        Look ahead along the momentum; needs ``momentum > 0``.
    weight_decay : float
        L2 penalty's coefficient, at least 0; applies to biases too.
    l1, l2, clip_value, clip_norm, ema
        As for all: `Optimizer`.

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

    rule: ClassVar[Rule] = RULES["SGD"]

    lr: float | Schedule = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov=True needs momentum above 0, got momentum=0")


@dataclass(frozen=True, repr=False)
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
    lr : float or Schedule
        Learning rate, above 0.
    beta1, beta2 : float
        Decay of the running means of g and g**2, in [0, 1).
    epsilon : float
        Above 0.
    weight_decay : float
        L2 penalty's coefficient, at least 0; it goes through the running means (see `AdamW`).
    l1, l2, clip_value, clip_norm, ema
        As for all: `Optimizer`.

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

    rule: ClassVar[Rule] = RULES["Adam"]

    lr: float | Schedule = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0


@dataclass(frozen=True, repr=False)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    As `Adam` without its L2 penalty, and besides::

        p -= lr * weight_decay * p              (p from before the step)

    as ``torch.optim.AdamW`` does.

    Parameters
    ----------
    lr : float or Schedule
        Learning rate, above 0.
    beta1, beta2 : float
        Decay of the running means of g and g**2, in [0, 1).
    epsilon : float
        Above 0.
    weight_decay : float
        At least 0; applies to biases too.
    l1, l2, clip_value, clip_norm, ema
        As for all: `Optimizer`.

    Raises
    ------
    ValueError
        If a setting is out of its range.
    TypeError
        If a setting is not a number.

    Examples
    --------
    >>> import fastmlp
    >>> fastmlp.AdamW(3e-4).weight_decay
    0.01
    """

    rule: ClassVar[Rule] = RULES["AdamW"]

    lr: float | Schedule = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01


@dataclass(frozen=True, repr=False)
class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton, 2012).

    With gradient g, per step::

        g += weight_decay * p
        v = alpha * v + (1 - alpha) * g**2
        b = momentum * b + g / (sqrt(v) + epsilon)
        p -= lr * b

    as ``torch.optim.RMSprop`` does, not centered.

    Parameters
    ----------
    lr : float or Schedule
        Learning rate, above 0.
    alpha : float
        Decay of the running mean of g**2, in [0, 1).
    epsilon : float
        Above 0.
    momentum : float
        In [0, 1).
    weight_decay : float
        L2 penalty's coefficient, at least 0; applies to biases too.
    l1, l2, clip_value, clip_norm, ema
        As for all: `Optimizer`.

    Raises
    ------
    ValueError
        If a setting is out of its range.
    TypeError
        If a setting is not a number.

    Examples
    --------
    >>> import fastmlp
    >>> fastmlp.RMSprop(1e-3).alpha
    0.99
    """

    rule: ClassVar[Rule] = RULES["RMSprop"]
    places: ClassVar[dict[str, str]] = {"alpha": "beta2"}

    lr: float | Schedule = 1e-2
    alpha: float = 0.99
    epsilon: float = 1e-8
    momentum: float = 0.0
    weight_decay: float = 0.0


@dataclass(frozen=True, repr=False)
class Adagrad(Optimizer):
    """Adagrad (Duchi et al., 2011).

    With gradient g, per step::

        g += weight_decay * p
        v += g**2                               (v starts at 0)
        p -= lr * g / (sqrt(v) + epsilon)

    as ``torch.optim.Adagrad`` does.

    Parameters
    ----------
    lr : float or Schedule
        Learning rate, above 0.
    epsilon : float
        Above 0.
    weight_decay : float
        L2 penalty's coefficient, at least 0; applies to biases too.
    l1, l2, clip_value, clip_norm, ema
        As for all: `Optimizer`.

    Raises
    ------
    ValueError
        If a setting is out of its range.
    TypeError
        If a setting is not a number.

    Examples
    --------
    >>> import fastmlp
    >>> fastmlp.Adagrad().lr
    0.01
    """

    rule: ClassVar[Rule] = RULES["Adagrad"]

    lr: float | Schedule = 1e-2
    epsilon: float = 1e-10
    weight_decay: float = 0.0


@dataclass(frozen=True, repr=False)
class Adamax(Optimizer):
    """Adamax: Adam by the infinity norm (Kingma and Ba, 2015, section 7.1).

    With gradient g, at step t = 1, 2, ...::

        g += weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        u = max(beta2 * u, |g| + epsilon)
        p -= lr / (1 - beta1**t) * m / u

    as ``torch.optim.Adamax`` does.

    Parameters
    ----------
    lr : float or Schedule
        Learning rate, above 0.
    beta1, beta2 : float
        Decay of the running mean of g and of the largest |g|, in [0, 1).
    epsilon : float
        Above 0.
    weight_decay : float
        L2 penalty's coefficient, at least 0; applies to biases too.
    l1, l2, clip_value, clip_norm, ema
        As for all: `Optimizer`.

    Raises
    ------
    ValueError
        If a setting is out of its range.
    TypeError
        If a setting is not a number.

    Examples
    --------
    >>> import fastmlp
    >>> fastmlp.Adamax().lr
    0.002
    """

    rule: ClassVar[Rule] = RULES["Adamax"]

    lr: float | Schedule = 2e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0


@dataclass(frozen=True, repr=False)
class Nadam(Optimizer):
    """Adam with Nesterov momentum (Dozat, 2016).

    With gradient g, at step t = 1, 2, ...::

        g += weight_decay * p
        mu_t = beta1 * (1 - 0.96**(t * momentum_decay) / 2)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m^ = mu_(t+1) * m / (1 - mu_1 ... mu_(t+1)) + (1 - mu_t) * g / (1 - mu_1 ... mu_t)
        p -= lr * m^ / (sqrt(v / (1 - beta2**t)) + epsilon)

    as ``torch.optim.NAdam`` does.

    Parameters
    ----------
    lr : float or Schedule
        Learning rate, above 0.
    beta1, beta2 : float
        Decay of the running means of g and g**2, in [0, 1).
    epsilon : float
        Above 0.
    weight_decay : float
        L2 penalty's coefficient, at least 0; applies to biases too.
    momentum_decay : float
        How fast mu comes to beta1, at least 0.
    l1, l2, clip_value, clip_norm, ema
        As for all: `Optimizer`.

    Raises
    ------
    ValueError
        If a setting is out of its range.
    TypeError
        If a setting is not a number.

    Examples
    --------
    >>> import fastmlp
    >>> fastmlp.Nadam().momentum_decay
    0.004
    """

    rule: ClassVar[Rule] = RULES["Nadam"]

    lr: float | Schedule = 2e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    momentum_decay: float = 4e-3


@dataclass(frozen=True, repr=False)
class Lion(Optimizer):
    """Lion: the sign of an interpolated momentum (Chen et al., 2023).

    With gradient g, per step::

        c = beta1 * m + (1 - beta1) * g         (m starts at 0)
        p -= lr * (sign(c) + weight_decay * p)
        m = beta2 * m + (1 - beta2) * g

    Parameters
    ----------
    lr : float or Schedule
        Learning rate, above 0.
    beta1, beta2 : float
        The momentum's share in the step, and its decay, in [0, 1).
    weight_decay : float
        Decoupled from the momentum, at least 0; applies to biases too.
    l1, l2, clip_value, clip_norm, ema
        As for all: `Optimizer`.

    Raises
    ------
    ValueError
        If a setting is out of its range.
    TypeError
        If a setting is not a number.

    Examples
    --------
    >>> import fastmlp
    >>> fastmlp.Lion().beta2
    0.99
    """

    rule: ClassVar[Rule] = RULES["Lion"]

    lr: float | Schedule = 1e-4
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.0


@dataclass(frozen=True, repr=False)
class RAdam(Optimizer):
    """Rectified Adam (Liu et al., 2020): Adam whose rate starts low, while its second moment knows few gradients.

    With gradient g, at step t = 1, 2, ...::

        g += weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        n = 2 / (1 - beta2) - 1
        n_t = n - 2 * t * beta2**t / (1 - beta2**t)
        r = sqrt((n_t - 4) * (n_t - 2) * n / ((n - 4) * (n - 2) * n_t))
        p -= lr * m / (1 - beta1**t) * r * sqrt(1 - beta2**t) / (sqrt(v) + epsilon)   if n_t > 5
        p -= lr * m / (1 - beta1**t)                                                  if not

    as ``torch.optim.RAdam`` does.

    Parameters
    ----------
    lr : float or Schedule
        Learning rate, above 0.
    beta1, beta2 : float
        Decay of the running means of g and g**2, in [0, 1).
    epsilon : float
        Above 0.
    weight_decay : float
        L2 penalty's coefficient, at least 0; it goes through the running means.
    l1, l2, clip_value, clip_norm, ema
        As for all: `Optimizer`.

    Raises
    ------
    ValueError
        If a setting is out of its range.
    TypeError
        If a setting is not a number.

    Examples
    --------
    >>> import fastmlp
    >>> fastmlp.RAdam().lr
    0.001
    """

    rule: ClassVar[Rule] = RULES["RAdam"]

    lr: float | Schedule = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0


@dataclass(frozen=True, repr=False)
class SklearnSGD(SGD):
    """The estimators' SGD, whose velocity contains the learning rate, with an L2 penalty divided by the batch's rows."""

    gain: float = 1.0  # type: ignore[misc]  # of a fit, not of the class
    by_mass: float = 1.0  # type: ignore[misc]
    sklearn: float = 1.0

    def __post_init__(self) -> None:
        """scikit-learn has checked the settings; its momentum may be 1."""


@dataclass(frozen=True, repr=False)
class SklearnAdam(Adam):
    """The estimators' Adam, with epsilon added before the bias correction, and an L2 penalty divided by the batch's rows."""

    gain: float = 1.0  # type: ignore[misc]  # of a fit, not of the class
    by_mass: float = 1.0  # type: ignore[misc]
    sklearn: float = 1.0

    def __post_init__(self) -> None:
        """scikit-learn has checked the settings."""


# Whose memory files and pickles hold, by the name that is in them.
KINDS: dict[str, type[Optimizer]] = {**OPTIMIZERS, "sklearn.sgd": SklearnSGD, "sklearn.adam": SklearnAdam}
KIND_NAMES = {kind: name for name, kind in KINDS.items()}
NAMED: dict[str, type[Optimizer] | type[LBFGS]] = {**OPTIMIZERS, "lbfgs": LBFGS}
DEFAULT = SGD()


def _named(name: str, lr: float | Schedule | None) -> Optimizer | LBFGS:
    kind = NAMED[checks.choice("optimizer", name, NAMED)]
    if lr is None:
        return kind()
    if not issubclass(kind, Optimizer):
        raise ValueError(f"lr={lr!r} must not be given together with optimizer={name!r}, which has none")
    return kind(lr)


_made = lru_cache(maxsize=64)(_named)  # checking an optimiser's settings takes longer than a small net's step


@overload
def choose(
    lr: float | Schedule | None, optimizer: Optimizer | LBFGS | str | None, by: Literal["steps", "epochs"] = "steps"
) -> Optimizer: ...
@overload
def choose(lr: float | Schedule | None, optimizer: Optimizer | LBFGS | str | None, by: Literal["fit"]) -> Optimizer | LBFGS: ...
def choose(
    lr: float | Schedule | None,
    optimizer: Optimizer | LBFGS | str | None,
    by: Literal["steps", "epochs", "fit"] = "steps",
) -> Optimizer | LBFGS:
    """The optimiser that the arguments of a training stand for.

    `by` is what the training consists of: single ``steps``, for which a schedule has no epochs; ``epochs`` of steps; or a
    ``fit``, which has all its data at once, as `LBFGS` needs.
    """
    if optimizer is None:
        if lr is None:
            return DEFAULT
        if type(lr) is float:
            return _made("sgd", lr)
        optimizer = "sgd"
    if isinstance(optimizer, str):
        make = _made if lr is None or type(lr) is float else _named
        optimizer, lr = make(optimizer, lr), None
    if isinstance(optimizer, Optimizer):
        if by == "steps" and isinstance(optimizer.lr, Schedule):
            raise ValueError(f"lr must be a number: a single step has no epochs for {optimizer.lr!r}")
    elif not isinstance(optimizer, LBFGS):
        wanted = f"one of {', '.join(NAMED)}, or an optimiser such as fastmlp.Adam()"
        raise TypeError(f"optimizer must be {wanted}, got {optimizer!r}")
    elif by != "fit":
        raise TypeError(f"optimizer must be one that makes single steps, got {optimizer!r}, which is for Model.fit alone")
    if lr is not None:
        has = "none" if isinstance(optimizer, LBFGS) else "one already"
        raise ValueError(f"lr={lr!r} must not be given together with optimizer={optimizer!r}, which has {has}")
    return optimizer
