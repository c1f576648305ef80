"""What users' own activations and losses have in common: checks of their parts, copies and pickles."""

import pickle
import sys
from collections.abc import Collection
from types import FunctionType
from typing import Any, ClassVar

BY_VALUE = {"cloudpickle", "dill", "_dill"}  # modules of picklers that write functions that cannot be imported


class Custom:
    """A frozen object with a name and functions that Numba compiles.

    Attributes
    ----------
    _kind : str
        What it is called in messages.
    _functions : tuple of str
        The names of its functions.
    """

    _kind: ClassVar[str]
    _functions: ClassVar[tuple[str, ...]]
    name: str

    def _check(self, known: Collection[str]) -> None:
        """Raise unless it has a name of its own, and functions."""
        if not isinstance(self.name, str):
            raise TypeError(f"name must be a string, got {self.name!r}")
        if self.name in known:
            raise ValueError(f"name must not be that of a built-in {self._kind}, got {self.name!r}")
        for name in self._functions:
            if not callable(getattr(self, name)):
                raise TypeError(f"{name} must be a function, got {getattr(self, name)!r}")

    def __copy__(self) -> "Custom":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Custom":
        """Itself: nothing of it can change, and its functions may be such as no pickle can hold."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        for name in self._functions:
            function = getattr(self, name)
            if isinstance(function, FunctionType) and not _importable(function) and not _written_by_value():
                code = function.__code__
                raise pickle.PicklingError(
                    f"{self._kind} {self.name!r} cannot be pickled: its {name}, {function.__qualname__} of {code.co_filename}:"
                    f"{code.co_firstlineno}, cannot be imported. Define it with `def` at the top level of a module, or use"
                    " cloudpickle"
                )
        return dict(vars(self))


def _importable(function: FunctionType) -> bool:
    """Whether a pickle finds the function by its name."""
    found: Any = sys.modules.get(function.__module__)
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is function


def _written_by_value() -> bool:
    """Whether one of BY_VALUE is at work: joblib and dask have them too, under names of their own."""
    frame: Any = sys._getframe()
    while frame is not None:
        if not BY_VALUE.isdisjoint(str(frame.f_globals.get("__name__")).split(".")):
            return True
        frame = frame.f_back
    return False
