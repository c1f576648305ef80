"""What a graph does between two matrix products: a number a column added or multiplied, and an activation."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from fastmlp.interchange.onnx.match import FUNCTIONS, PROBES, activation, close, nearest, quietly

Slot: TypeAlias = int  # 0 is what the section begins with, i the result of its i-th operator
Column: TypeAlias = tuple[str, np.ndarray]  # Add, Sub, Mul or Div, and float64 numbers: one, or one a column

AFFINE = ("Add", "Sub", "Mul", "Div")
MOST = 128  # operators of a section; fastmlp's longest activation has 60
BEGINNINGS = 8  # that are tried: a matter of time


@dataclass(frozen=True)
class Call:
    """An operator on a column of numbers.

    Attributes
    ----------
    kind, name : str
        The operator, and what messages call it.
    inputs : tuple of int or array
        Slots, and constants: float64 arrays of one number, or of one a column. None: an input that is left out.
    attributes : dict
    """

    kind: str
    name: str
    inputs: tuple[Any, ...]
    attributes: dict[str, float]

    def column(self, anchor: Slot) -> Column | None:
        """What it does to a slot, if that is to add or multiply a constant; else None."""
        if self.kind not in AFFINE or len(self.inputs) != 2:
            return None
        a, b = self.inputs
        if isinstance(a, int) and a == anchor and isinstance(b, np.ndarray):
            return self.kind, b
        if isinstance(b, int) and b == anchor and isinstance(a, np.ndarray) and self.kind in ("Add", "Mul"):
            return self.kind, a
        return None


@dataclass
class Section:
    """The operators from one matrix product to the next, in order."""

    calls: list[Call] = field(default_factory=list)
    uses: list[int] = field(default_factory=lambda: [0])  # of each slot

    def add(self, call: Call) -> Slot:
        """The slot of a new operator's result."""
        if len(self.calls) == MOST:
            raise ValueError(f"{call.name}: more than {MOST} operators stand between two layers")
        for one in call.inputs:
            if isinstance(one, int):
                self.uses[one] += 1
        self.calls.append(call)
        self.uses.append(0)
        return len(self.calls)

    def columns(self) -> list[Column]:
        """The operators at the beginning that add or multiply constants, each of them to the one before."""
        found: list[Column] = []
        for anchor, call in enumerate(self.calls):
            column = call.column(anchor)
            if column is None or self.uses[anchor] != 1:
                break
            found.append(column)
        return found

    def activation(self, slot: Slot, complement: Slot | None = None) -> tuple[list[Column], str]:
        """What is done to the columns, and the activation after it, of which this slot is the result.

        A single number may belong to either, so that each beginning is tried, from the shortest on.

        Parameters
        ----------
        slot : int
        complement : int or None
            A slot that must be 1 minus the other, a sigmoid: the two probabilities of a binary classifier.

        Raises
        ------
        ValueError
            If fastmlp has no such activation.
        """
        columns = self.columns()
        first = max((i for i, (_, numbers) in enumerate(columns, 1) if numbers.size > 1), default=0)
        for start in range(first, min(len(columns), first + BEGINNINGS) + 1):
            values = quietly(partial(self._values, start))
            got = values[slot]
            name = None if got is None else activation(got)
            if name is None:
                continue
            if complement is not None and not (name == "sigmoid" and close(values[complement], 1 - got)):
                raise ValueError(f"{self.calls[-1].name}: two columns must be 1 - p and p, for p of a sigmoid")
            return columns[:start], name
        values = quietly(partial(self._values, first))
        refused = f"{self.calls[slot - 1].name}: its output is no activation that fastmlp has"
        if values[slot] is None:
            raise ValueError(f"{refused}: numbers of its own for each column must come before an activation")
        raise ValueError(f"{refused}; {nearest(values[slot])}")

    def _values(self, start: Slot) -> list[Any]:
        """Each slot's values at `PROBES` in the slot `start`; None where they differ by column."""
        values: list[Any] = [None] * start + [PROBES]
        for call in self.calls[start:]:
            missing = any(isinstance(one, int) and values[one] is None for one in call.inputs)
            if missing or any(isinstance(one, np.ndarray) and one.size > 1 for one in call.inputs):
                values.append(None)
                continue
            inputs = [values[one] if isinstance(one, int) else None if one is None else one.item() for one in call.inputs]
            values.append(np.asarray(FUNCTIONS[call.kind].of(*inputs, **call.attributes)))
        return values
