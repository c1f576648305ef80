from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastmlp import Adam, Model
from fastmlp.activations import ACTIVATIONS
from fastmlp.engine import workspace
from fastmlp.engine.workspace import Scratch, Workspace, aligned
from fastmlp.kernels import GELU, IDENTITY, RELU, SOFTMAX, TANH, tuning
from fastmlp.kernels.layer.loss import CROSS_ENTROPY, MSE
from fastmlp.kernels.net.plan import BLOCKS, NARROW
from fastmlp.kernels.tuning import CHUNK_ROWS, GROUPED_ROWS, GROUPS

PARTS = ("x_at", "y_at", "weighing_at", "gradient_at", "sums_at", "outputs_at", "spare_at", "strip_at")


@pytest.mark.small
def test_aligned(dtype: Any) -> None:
    for count in (1, 16, 1000):
        array = aligned(count, dtype)
        assert array.shape == (count,)
        assert array.dtype == dtype
        assert array.ctypes.data % 64 == 0
        assert not array.any()


@pytest.mark.small
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("sizes", [(7, 200, 160, 3), (16, 1100, 160, 3)], ids=["near", "far"])
def test_parts_never_overlap(sizes: tuple[int, ...], narrow: bool, dtype: Any) -> None:
    space = Workspace(sizes, (GELU, TANH, IDENTITY), MSE, dtype)
    for rows, threads in ((1, 1), (100, 1), (50, 3), (2000, 2)):
        space.reserve(rows, NARROW if narrow else BLOCKS, threads)
        table = space.layout.table
        starts = [getattr(table, part) for part in PARTS]
        for layer in space.layers:
            starts += [*{layer.a_at, layer.z_at, layer.d_at}, layer.transposed_at]
            starts += [layer.panels_at] if layer.strips else []
            starts += [layer.packed_at] if layer.packed else []
        starts = sorted(starts)
        needed = min(rows, table.block) * 3
        distinct = [start for start in starts if start != table.sums_at or narrow]
        assert len(set(distinct)) == len(distinct)
        assert all(start % workspace.PADDING == 0 for start in starts)
        assert starts[-1] + needed <= space.layout.size


@pytest.mark.small
@pytest.mark.parametrize("sizes", [(4, 32, 16, 4), (64, 60, 10)])
def test_groups_of_rows_have_room(sizes: tuple[int, ...], dtype: Any) -> None:
    space = Workspace(sizes, (GELU, TANH, IDENTITY)[-len(sizes) + 1 :], MSE, dtype)
    space.reserve(5000)  # by blocks, as for a prediction of so many rows before
    for rows, threads in ((1023, 1), (1024, 1), (5000, 1), (5632, 3), (9000, 7), (5120, 7)):
        space.reserve(rows, space.router.step(rows).path, threads)
        group = -(-rows // (GROUPS * CHUNK_ROWS)) * CHUNK_ROWS
        assert space.layout.capacity >= threads * min(group, space.layout.table.block) or rows < GROUPED_ROWS
        assert space.layout.partials * CHUNK_ROWS >= rows or rows < GROUPED_ROWS
    start, parts = space.layout.table.groups_at, {getattr(space.layout.table, part) for part in PARTS}
    assert min(part for part in parts if part > start) - start >= GROUPS * space.padded


@pytest.mark.small
def test_it_grows_and_never_shrinks() -> None:
    space = Workspace((3, 5, 2), (RELU, SOFTMAX), CROSS_ENTROPY, np.dtype(float))
    space.reserve(100)
    before = space.layout
    space.reserve(1)
    space.reserve(100)
    assert space.layout is before
    space.reserve(101, threads=2)
    assert space.layout.size > before.size


@pytest.mark.small
def test_what_is_lent_is_lent_again_and_not_too_much_is_kept(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "KEPT_BYTES", 1000 * dtype.itemsize)
    scratch = Scratch(dtype)
    small, other, large = scratch.take(300), scratch.take(600), scratch.take(5000)
    assert len({one.ctypes.data for one in (small, other, large)}) == 3
    scratch.give(small)
    scratch.give(other)
    assert scratch.take(600) is other
    scratch.give(other)
    scratch.give(large)  # used last: the next call is likely to want as much
    assert scratch.take(5000) is large
    scratch.give(large)
    assert scratch.take(10) is large
    scratch.give(large)
    scratch.trim()
    assert scratch.take(10) is not large


@pytest.mark.small
def test_without_memory_the_model_stays_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((300, 4)), rng.standard_normal((300, 3))
    model = Model([4, 40, 3], rng=0)
    want = model.predict(X[:1])

    def little(count: int, dtype: Any) -> Any:
        if count > 10_000:
            raise MemoryError
        return aligned(count, dtype)

    monkeypatch.setattr(workspace, "aligned", little)
    for call in (lambda: model.predict(X), lambda: model.fit(X, y), lambda: model.backward(X, y)):
        workspace.SCRATCH[model.dtype].trim()
        with pytest.raises(MemoryError):
            call()
    np.testing.assert_array_equal(model.predict(X[:1]), want)
    monkeypatch.undo()
    assert np.isfinite(model.fit(X, y, optimizer=Adam())["loss"]).all()


@pytest.mark.small
def test_every_activation_has_a_code() -> None:
    assert sorted(one.code for one in ACTIVATIONS.values()) == list(range(len(ACTIVATIONS)))
