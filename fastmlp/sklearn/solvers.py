"""The optimisers and the schedules that scikit-learn has not, as its training loop asks for them."""

from copy import deepcopy
from dataclasses import fields
from typing import Any

import numpy as np
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, BaseOptimizer, SGDOptimizer

from fastmlp.files import description
from fastmlp.monitor import monitored
from fastmlp.optimizer import OPTIMIZERS, Optimizer
from fastmlp.schedules import Course, ReduceOnPlateau, Schedule
from fastmlp.training.epochs import rates

# Those that `solver` names beside scikit-learn's: "adamw", "rmsprop" and so on.
SOLVERS = {name: kind for name, kind in OPTIMIZERS.items() if name not in ("sgd", "adam")}


# scikit-learn's: their names, and what they are made of.
THEIRS: dict[Any, tuple[str, tuple[str, ...]]] = {
    SGDOptimizer: ("sgd", ("learning_rate_init", "lr_schedule", "momentum", "nesterov", "power_t")),
    AdamOptimizer: ("adam", ("learning_rate_init", "beta_1", "beta_2", "epsilon")),
}


class Solver(BaseOptimizer):
    """One of fastmlp's optimisers; its learning rate is that of the optimiser, which a schedule may overrule."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        super().__init__(1.0 if isinstance(optimizer.lr, Schedule) else optimizer.lr)


def settings(estimator: Any) -> Any:
    """scikit-learn's optimiser without parameters: the settings, and the course of the learning rate; or a `Solver`."""
    solver, rate = estimator.solver, estimator.learning_rate_init
    if solver == "sgd":
        word = "constant" if isinstance(estimator.learning_rate, Schedule) else estimator.learning_rate
        return SGDOptimizer([], rate, word, estimator.momentum, estimator.nesterovs_momentum, estimator.power_t)
    adam = {"beta1": estimator.beta_1, "beta2": estimator.beta_2, "epsilon": estimator.epsilon}
    if solver == "adam":
        return AdamOptimizer([], rate, *adam.values())
    if isinstance(solver, Optimizer):
        return Solver(solver)
    kind = SOLVERS[solver]
    return Solver(kind(rate, **adam) if adam.keys() <= {one.name for one in fields(kind)} else kind(rate))


def held(optimizer: Any) -> Any:
    """What `settings` returned, for pickles and files: its name and numbers; one that is not known here as it is."""
    kind = type(optimizer)
    if kind is Solver:
        return {"kind": "fastmlp", "optimizer": description.held(optimizer.optimizer), "rate": optimizer.learning_rate}
    if kind not in THEIRS:
        return optimizer
    name, fields = THEIRS[kind]
    return {"kind": name, "rate": optimizer.learning_rate} | {field: getattr(optimizer, field) for field in fields}


def given_back(value: Any) -> Any:
    """What `held` was given."""
    if not isinstance(value, dict):
        return value
    if value["kind"] == "fastmlp":
        made: Any = Solver(description.given_back(value["optimizer"]))
    else:
        (kind,) = (kind for kind, (name, _) in THEIRS.items() if name == value["kind"])
        made = kind([], *(value[field] for field in THEIRS[kind][1]))
    made.learning_rate = value["rate"]
    return made


def schedule(estimator: Any) -> Schedule | None:
    """The schedule that the parameters ask for; raises where they contradict each other."""
    rate, solver = estimator.learning_rate, estimator.solver
    own = solver.lr if isinstance(solver, Optimizer) else None
    if not isinstance(rate, Schedule):
        return own if isinstance(own, Schedule) else None
    if own is not None:
        raise ValueError(f"learning_rate={rate!r} must not be given together with solver={solver!r}, which has its own lr")
    if solver == "lbfgs":
        raise ValueError(f"learning_rate={rate!r} needs a stochastic solver, got solver='lbfgs'")
    return rate


class Rates:
    """A schedule over the epochs of a fit, and of the `partial_fit` that go on from there.

    Attributes
    ----------
    schedule : Schedule
    course : Course or None
    names : set of str
        What the epochs' logs had when it began. In epochs without some of these (`partial_fit` has no validation data) the
        course stands still.
    epoch : int
        The next one's number.
    """

    @classmethod
    def given_back(cls, value: Any) -> Any:
        """What `held` is of."""
        if not isinstance(value, dict):
            return value
        schedule, course = description.given_back(value["schedule"]), value["course"]
        made = cls(schedule, None, value["names"])
        made.epoch, made.course = value["epoch"], description.went_on(schedule, course)
        return made

    def held(self) -> dict[str, Any]:
        """It for pickles and files, in strings and numbers, but for what users have written themselves."""
        course = None if self.course is None else description.held(self.course)
        return {
            "schedule": description.held(self.schedule),
            "names": sorted(self.names),
            "epoch": self.epoch,
            "course": course,
        }

    def __init__(self, schedule: Schedule, before: "Rates | None", names: list[str]) -> None:
        if isinstance(schedule, ReduceOnPlateau):
            monitored(schedule.monitor, schedule.mode, names)
        self.schedule, self.names, self.epoch = schedule, set(names), 0
        self.course: Course | None = schedule.start()
        if before is not None and before.schedule == schedule:
            self.names, self.epoch, self.course = before.names, before.epoch, deepcopy(before.course)

    def of_epoch(self, steps: int, max_iter: int) -> np.ndarray:
        """A rate for each step of the next epoch; the fit ends with `max_iter`, and what comes later is its last epoch."""
        epochs = max(max_iter, self.epoch + 1)
        return rates(self.schedule, self.course, self.epoch * steps, steps, steps, epochs)

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, for a checkpoint."""
        course = None if self.course is None else self.course.state_dict()
        return {"names": sorted(self.names), "epoch": self.epoch, "course": course}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state_dict` was called."""
        self.names, self.epoch = set(state["names"]), state["epoch"]
        if self.course is not None:
            self.course.load_state_dict(state["course"])

    def observe(self, logs: dict[str, Any]) -> None:
        """Go on to the next epoch, after these logs."""
        if self.course and self.names <= logs.keys():
            self.course.observe(logs)
        self.epoch += 1
