"""What the optimisers share: the settings that each of them has, and their checks."""

from dataclasses import dataclass, field, fields
from typing import ClassVar

import numpy as np

from fastmlp.checks import real
from fastmlp.kernels.layer.update import Rule, Settings
from fastmlp.schedules import Schedule

OPTIMIZERS: dict[str, type["Optimizer"]] = {}  # by their names in small letters


@dataclass(frozen=True, kw_only=True, repr=False)
class Optimizer:
    """What the optimisers share: settings that change the gradient before the step, and the mean of the parameters after it.

    They need the whole gradient of a step before its update, which then has to read the gradient from memory again.

    Parameters
    ----------
    l1, l2 : float
        Penalties, at least 0: ``l1 * sum(|w|) + l2 / 2 * sum(w**2)`` over the weights, not the biases, is added to the loss
        that `Model.fit` reports, and its gradient to the loss's.
    clip_value : float or None
        Each number of the gradient is clipped to [-clip_value, clip_value]; None: no clipping.
    clip_norm : float or None
        The gradient is scaled to a norm of clip_norm, if its norm over all parameters is larger (Pascanu et al., 2013);
        None: no clipping.
    ema : float
        In [0, 1). If above 0, after each step ``average = ema * average + (1 - ema) * params``; `Model.average` returns it
        (Polyak and Juditsky, 1992). It starts as the parameters before the first step.
    """

    rule: ClassVar[Rule]  # the kernels'
    code: ClassVar[int]
    gain: ClassVar[float] = 1.0  # times the loss's gradient
    by_mass: ClassVar[float] = 0.0  # 1: the penalty l2 is divided by the batch's rows, or the sum of their weights
    places: ClassVar[dict[str, str]] = {}  # in the kernels' settings, of fields of other names

    lr: float | Schedule = field(default=1e-3, kw_only=False)
    l1: float = 0.0
    l2: float = 0.0
    clip_value: float | None = None
    clip_norm: float | None = None
    ema: float = 0.0

    def __init_subclass__(cls) -> None:
        cls.code = cls.rule.code
        if "rule" in vars(cls):
            OPTIMIZERS[cls.__name__.lower()] = cls

    def __post_init__(self) -> None:
        for one in fields(self):
            name, value = one.name, getattr(self, one.name)
            if one.type is bool:
                if not isinstance(value, bool | np.bool_):
                    raise TypeError(f"{name} must be True or False, got {value!r}")
            elif name == "lr" and isinstance(value, Schedule):
                continue
            elif name in ("lr", "epsilon"):
                real(name, value, above=0.0)
            elif name in ("clip_value", "clip_norm"):
                if value is not None:
                    real(name, value, above=0.0)
            elif name in ("weight_decay", "l1", "l2", "momentum_decay"):
                real(name, value, least=0.0)
            else:
                real(name, value, least=0.0, below=1.0)

    def __repr__(self) -> str:
        own = [one for one in fields(self) if not one.kw_only]
        others = [one for one in fields(self) if one.kw_only and getattr(self, one.name) != one.default]
        return f"{type(self).__name__}({', '.join(f'{one.name}={getattr(self, one.name)!r}' for one in own + others)})"

    @property
    def moments(self) -> int:
        """How many vectors of the parameters' length the optimiser keeps."""
        rule, momentum = self.rule, getattr(self, "momentum", 0.0)
        return rule.with_momentum[1] if rule.with_momentum and momentum else rule.moments

    @property
    def whole(self) -> bool:
        """Whether the update needs the whole gradient."""
        return bool(self.l1 or self.l2 or self.clip_value or self.clip_norm or self.ema)

    def hyper(self) -> np.ndarray:
        """The settings, where the kernels look for them; a schedule's rates come with the training.

        Returns
        -------
        float64 array
            `fastmlp.kernels.layer.update.Settings` over it gives them names.
        """
        values = np.zeros(Settings.words)
        settings = Settings(values)
        settings.gain, settings.by_mass = self.gain, self.by_mass
        for one in fields(self):
            value = getattr(self, one.name)
            if value is not None and not isinstance(value, Schedule):
                setattr(settings, self.places.get(one.name, one.name), value)
        return values
