from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from numba.core.extending import _Intrinsic

from fastmlp.kernels.machine import interpreted, pointer
from fastmlp.kernels.machine.interpreted import INTERPRETED, Tile, quiet
from fastmlp.kernels.tiles import arithmetic, tile


@pytest.mark.skipif(INTERPRETED, reason="there are no intrinsics in this mode")
@pytest.mark.parametrize("module", [pointer, tile, arithmetic])
def test_each_intrinsic_has_its_numpy_meaning(module: object) -> None:
    found = {name: value for name, value in vars(module).items() if isinstance(value, _Intrinsic)}
    assert found
    for name, value in found.items():
        names = list(inspect.signature(value._defn).parameters)[1:]
        plain = inspect.signature(getattr(interpreted, name))
        assert list(plain.parameters) in (names, ["args", "kwargs"]), name


@pytest.mark.small
def test_quiet_is_local() -> None:
    @quiet
    def overflow(x: float) -> float:
        inner = quiet(lambda y: y * y)
        return inner(x) * inner(x)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert overflow(np.float32(1e30)) == np.inf
        with pytest.raises(RuntimeWarning):
            np.float32(1e30) * np.float32(1e30)


@pytest.mark.small
def test_tile_keeps_its_dtype_and_its_value() -> None:
    a = np.array([[1.0, 2.0]], np.float32).view(Tile)
    for b in (a + np.float64(0.1), 0.1 * a, a < 1.5, a / a):
        assert isinstance(b, Tile)
        assert b.dtype == np.float32
    b = a
    b += 1.0
    assert a.tolist() == [[1.0, 2.0]]
    assert b.tolist() == [[2.0, 3.0]]


def test_kernels_run_without_the_compiler(python: Callable[..., str]) -> None:
    code = """
import numpy as np
from numba.core import event
from fastmlp.kernels.layer.arrays import dense_forward
from fastmlp.kernels.layer.activation import TANH
with event.install_recorder("numba:compile") as compiled:
    x, w = np.arange(6.0).reshape(2, 3) / 9, np.arange(12.0).reshape(3, 4) / 9
    out = np.empty((2, 4))
    assert dense_forward(x, w, np.ones(4), TANH, out, out) == 0
np.testing.assert_allclose(out, np.tanh(x @ w + 1), rtol=1e-14)
print(len(compiled.buffer))
"""
    assert python(code, NUMBA_DISABLE_JIT="1").strip() == "0"
