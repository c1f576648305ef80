"""Calls by a code, and the tables of entries that they are made of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core.errors import TypingError

import fastmlp
from fastmlp.activations import ACTIVATIONS, ALIASES
from fastmlp.kernels.layer.update import RULES
from fastmlp.kernels.machine.dispatch import by_code
from fastmlp.kernels.machine.interpreted import INTERPRETED
from fastmlp.kernels.machine.jit import Int, Pointer, inlined, kernel
from fastmlp.kernels.machine.pointer import pointer
from fastmlp.losses import LOSSES
from fastmlp.optimizer import OPTIMIZERS

pytestmark = pytest.mark.small


@kernel
def _negate(x: Pointer, count: Int) -> Int:
    for i in range(count):
        x[i] = 0.0 - x[i]
    return 1


@kernel
def _double(x: Pointer, count: Int) -> Int:
    for i in range(count):
        x[i] = x[i] + x[i]
    return 2


@kernel
def _other(x: Pointer) -> Int:
    return 3


_chosen = by_code({-2: _negate, 7: _double, 8: _double})
_mixed = by_code({0: _negate, 1: _other})


@inlined
def _run(code: int, x: Any) -> int:
    return _chosen(code, pointer(x), x.size)


@inlined
def _run_mixed(x: Any) -> int:
    return _mixed(0, pointer(x), 1)


def test_the_kernel_with_the_code_runs(dtype: Any) -> None:
    x = np.array([1.5, -2.5], dtype)
    assert [_run(code, x) for code in (-2, 7, 8)] == [1, 2, 2]
    np.testing.assert_array_equal(x, np.array([-6, 10], dtype))


def test_another_code_is_an_error() -> None:
    x = np.ones(3)
    for code in (0, -1, 9, 2**40):
        with pytest.raises((RuntimeError, KeyError), match=str(code) if INTERPRETED else "no kernel has this code"):
            _run(code, x)
    np.testing.assert_array_equal(x, 1)


@pytest.mark.skipif(INTERPRETED, reason="signatures are the compiler's")
def test_kernels_of_other_signatures_are_refused() -> None:
    with pytest.raises((TypeError, TypingError), match="must all have its signature"):
        _run_mixed(np.ones(1))


def test_each_entry_has_a_code_that_stays() -> None:
    """Compiled programs and pickles of models know them."""
    names = "identity relu leaky_relu elu gelu silu softplus sigmoid tanh softmax selu mish hardswish squareplus exp"
    assert {name: one.code for name, one in ACTIVATIONS.items()} == {name: i for i, name in enumerate(names.split())}
    losses = {"bce": 0, "cross_entropy": 1, "mse": 3, "mae": 4, "huber": 5, "poisson": 6}
    assert {name: one.code for name, one in LOSSES.items()} == losses
    rules = "SGD Adam AdamW RMSprop Adagrad Adamax Nadam Lion RAdam"
    assert {name: rule.code for name, rule in RULES.items()} == {name: i for i, name in enumerate(rules.split())}
    assert {kind.__name__: kind.rule for kind in OPTIMIZERS.values()} == RULES
    assert {kind.__name__ for kind in OPTIMIZERS.values()} <= set(fastmlp.__all__)


def test_the_page_lists_each_entry() -> None:
    page = (Path(__file__).parent.parent / "README.md").read_text()
    for row, names in (("activations", {*ACTIVATIONS, *ALIASES}), ("losses", set(LOSSES)), ("optimisers", set(RULES))):
        (line,) = re.findall(rf"^\| {row} \|.*$", page, re.MULTILINE)
        assert names <= set(re.findall(r"`(\w+)`", line))
