"""No kernel touches a byte that is not its own: random nets between protected pages (see `guard`).

Some seconds of them here; ``FASTMLP_THOROUGH=<seconds>`` for as long as that, from a seed that no run had before.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import guard
import numpy as np
import pytest

from fastmlp import SGD, Adam, Model, schedules
from fastmlp.engine.workspace import PADDING, Workspace
from fastmlp.kernels.machine.interpreted import INTERPRETED

pytestmark = [
    pytest.mark.skipif(INTERPRETED, reason="there are no kernels"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="pages are protected by POSIX's mprotect"),
]

TESTS = Path(__file__).parent
THOROUGH = float(os.environ.get("FASTMLP_THOROUGH") or 0)


@pytest.mark.slow
def test_random_nets_stay_between_protected_pages(dtype: Any) -> None:
    seconds = str(max(THOROUGH, 7))
    first = str(int(time.time()) * 1000 if THOROUGH else 0)
    command = [sys.executable, str(TESTS / "guard.py"), str(dtype), seconds, first]
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    last = done.stdout.splitlines()[-1]
    assert done.returncode == 0, f"python tests/guard.py {dtype} 0 {last.split()[-1]}\n{done.stderr}"
    print(last)


def _calls() -> dict[str, Callable[[], Any]]:
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((64, 9)), rng.standard_normal((64, 1))
    model = Model([9, 13, 1], "tanh", rng=0)
    adam = Adam(schedules.Cosine(0.1))
    return {
        "train": lambda: model.fit(X, y, 2, 16, optimizer=adam),
        "step": lambda: model.step(X, y, optimizer=SGD(0.1, momentum=0.5)),
        "predict": lambda: model.predict(X),
        "loss": lambda: model.loss(X, y),
        "gradient": lambda: model.backward(X, y),
        "apply": lambda: model.apply_gradient(np.ones(model.params.size), optimizer=SGD(0.1, momentum=0.5)),
    }


# Of each call the arrays that it goes through from the first number to the last.
THROUGH = {
    "train": ("x", "y", "order", "losses", "rates", "params", "moments"),
    "step": ("x", "y", "params", "moments"),
    "predict": ("x", "out", "params"),
    "loss": ("x", "y", "params"),
    "gradient": ("x", "y", "grads", "dx", "params"),
    "apply": ("grads", "params", "moments"),
}
REGISTER = PADDING * 8  # bytes: what a padded array may have behind its last number


def arrays_beyond_their_pages() -> None:
    rng = np.random.default_rng(0)
    for name, act in _calls().items():
        act()
        assert not guard.faults(act), name
        for array in THROUGH[name]:
            for end in (False, True):
                beyond = REGISTER if end and (array in guard.PADDED or name == "apply") else 8
                if end and array == "params":
                    beyond += REGISTER  # which compiled nets read, a row at a time

                def planted(act: Any = act, plant: Any = (array, beyond, end)) -> None:
                    with guard.guarded(rng, plant):
                        act()

                assert guard.faults(planted), (name, array, end)


def plans_that_are_wrong() -> None:
    """A register too few in the buffer, or a part that starts one too early or too late."""
    rng = np.random.default_rng(0)
    reserve = Workspace.reserve
    for name, layer, part, by, end in (
        ("loss", None, "size", -PADDING, True),
        ("train", None, "x_at", -PADDING, False),
        ("step", 1, "d_at", PADDING, True),
        ("gradient", 1, "d_at", PADDING, True),
    ):
        for wrong in (0, by):

            def planted(
                name: str = name, layer: int | None = layer, part: str = part, by: int = wrong, end: bool = end
            ) -> None:
                def wrongly(space: Workspace, *args: Any) -> Any:
                    layout = reserve(space, *args)
                    record = layout.table if layer is None else space.layers[layer]
                    setattr(record, part, getattr(record, part) + by)
                    return layout

                Workspace.reserve = wrongly  # type: ignore[method-assign]
                with guard.guarded(rng, ("work", 0, end)):
                    _calls()[name]()

            assert guard.faults(planted) == bool(wrong), (name, part, wrong)


def test_what_is_planted_is_found(python: Callable[..., str]) -> None:
    code = f"import sys; sys.path.insert(0, {str(TESTS)!r}); import test_guard_pages as here; here."
    python(code + "arrays_beyond_their_pages(); here.plans_that_are_wrong()")


def test_what_is_only_read_may_not_be_written(python: Callable[..., str]) -> None:
    code = f"""
import sys; sys.path.insert(0, {str(TESTS)!r})
import guard, numpy as np
for end in (False, True):
    inside = guard.fenced(np.arange(10.0), end, read_only=True)
    assert inside.sum() == 45
    def write(at):
        inside[at] = 1
    assert guard.faults(lambda: write(0)) and guard.faults(lambda: write(9))
"""
    python(code)
