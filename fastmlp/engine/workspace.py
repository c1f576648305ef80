"""The memory a model works in: one buffer, cut into parts that never overlap, and the table that tells the kernels where.

The buffer is lent for a call, by the model itself if it is small, else by all models together: what a call finds in it is
anything. Training allocates nothing.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fastmlp.kernels.layer.activation import SOFTMAX, takes_input
from fastmlp.kernels.layer.dropout import WHOLE
from fastmlp.kernels.layer.loss import BCE, HUBER, MAE, MSE
from fastmlp.kernels.layer.product import FAR_WEIGHTS, TALL, spare_room
from fastmlp.kernels.net.apply import STRETCH
from fastmlp.kernels.net.gradient import GROUPED_ROWS, GROUPS
from fastmlp.kernels.net.narrow import NARROW_ROWS
from fastmlp.kernels.net.plan import Layer, Table, Task
from fastmlp.kernels.net.step import CHUNK
from fastmlp.kernels.net.train import LAYERS, SQUARES, TASK
from fastmlp.kernels.tiles.tile import VECTOR_BYTES

ALIGNMENT = 64  # bytes: a cache line, and the widest register
PADDING = 16  # numbers: a multiple of every register's
# A block of rows goes through the whole net, forward and backward, before the next: its activations and their gradients
# should stay in a 1 to 2 MB second-level cache, and a block be tall enough for the products to run at full speed.
BLOCK_BYTES = 1 << 20
BLOCK_ROWS = 256
# Multiply-adds of a compiled call, after which signals get their turn: some hundredths of a second.
CALL_TURN = 1 << 30
# A work buffer of at most OWN_BYTES stays a model's own: to borrow one takes 0.2 us. Of those that are lent, at most KEPT_BYTES
# are kept while nobody needs them, or the one that was used last.
OWN_BYTES = 1 << 14
KEPT_BYTES = 1 << 27
PANEL = 32  # numbers: a multiple of every target's two registers
# From this many weights on a layer's gradient and update go by strips; below, all of it stays in the first-level cache.
STRIP_WEIGHTS = 16384
GROUPED_PARAMETERS = (
    8192  # so many at most have gradients for groups of rows, each of which should stay in the first-level cache
)


def aligned(count: int, dtype: np.dtype) -> np.ndarray:
    """Zeros that start on a cache line: a vector load that crosses lines costs two."""
    # Filled, not made as zeros: NumPy asks the system for huge pages then, which spare wide layers most of their page walks.
    raw = np.empty(count * dtype.itemsize + ALIGNMENT, np.uint8)
    raw.fill(0)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + count * dtype.itemsize].view(dtype)


def _headers(plan: np.ndarray) -> tuple[Table, Task]:
    """The parts of a plan that are there once."""
    return Table(plan), Task(plan[TASK:])


def _layers(plan: np.ndarray) -> list[Layer]:
    """The records of a plan's layers."""
    return [Layer(plan[start:]) for start in range(LAYERS, len(plan), Layer.words)]


class Layout(NamedTuple):
    """Where everything lies in a work buffer, and what there is room for.

    Attributes
    ----------
    plan : (n,) int64 array
        As `fastmlp.kernels.net.plan` has it.
    table, task
        Its first parts.
    size : int
        Numbers in the buffer.
    capacity, packed : int
        Rows of a block, and of a batch that is packed.
    sums, groups : int
        Numbers of the gradients of the narrow path, and of groups of rows.
    partials : int
        Losses of chunks of rows that there may be at a time.
    threads : int
    own : flat array or None
        The buffer, if it is small; else one is borrowed.
    """

    plan: np.ndarray
    table: Table
    task: Task
    size: int = 0
    capacity: int = 0
    packed: int = 0
    sums: int = 0
    groups: int = 0
    partials: int = 0
    threads: int = 0
    own: np.ndarray | None = None


class Scratch:
    """Work buffers of one dtype that no call uses just now."""

    def __init__(self, dtype: np.dtype) -> None:
        self._dtype, self._most = dtype, KEPT_BYTES // dtype.itemsize
        self._free: list[np.ndarray] = []

    def take(self, size: int) -> np.ndarray:
        """A buffer of at least so many numbers, which may be anything; the last one given back is still in the cache."""
        try:
            buffer = self._free.pop()
        except IndexError:
            return aligned(size, self._dtype)
        return buffer if len(buffer) >= size else aligned(size, self._dtype)

    def give(self, buffer: np.ndarray) -> None:
        """Take a buffer back, to lend it again if there are not too many."""
        self._free.append(buffer)
        while len(self._free) > 1 and sum(len(one) for one in tuple(self._free)) > self._most:
            del self._free[:1]

    def trim(self) -> None:
        """Give all that is free back to the system."""
        self._free.clear()


SCRATCH = {np.dtype(name): Scratch(np.dtype(name)) for name in ("float32", "float64")}


class Workspace:
    """The plan of one network, and the room that it needs.

    Which kernels take a step follows from sizes alone, by what they cost; every path computes the same network:

    ========================================================  =================================================================
    a net, or a layer of it                                   its path
    ========================================================  =================================================================
    few parameters a layer (`narrow`)                         the batch on the lanes (`fastmlp.kernels.net.narrow`)
    of these at most 4-4-1, a register of rows, plain SGD     all in registers (`fastmlp.kernels.net.resident`)
    any other                                                 blocks of rows through all layers, forward and back
    of these, up to GROUPED_PARAMETERS, from GROUPED_ROWS on  groups of rows with gradients of their own, which are summed
    up to FEW_ROWS rows                                       the inputs' gradient from w itself, not from a transposed copy
    from STRIP_WEIGHTS weights on                             w.T by panels; the weights' gradient and update by strips
    of these, rows of w FAR_WEIGHTS bytes apart or more       w by panels too, from COPIED_ROWS rows on
    columns that fill no tile                                 their weights' gradient by the transposed product
    ========================================================  =================================================================

    Attributes
    ----------
    layout : Layout
        Where everything lies, for the largest call so far; replaced as a whole, never in parts.
    scratch : Scratch
        Who lends larger buffers.
    offsets : list of (int, int)
        Where each layer's weights and biases start in the flat parameters.
    parameters : int
        The number of parameters.
    padded : int
        The same, rounded up to whole registers.
    piece : int
        Rows of a compiled call of `predict` or `loss`, in whole blocks.
    settings : int
        Numbers of the optimiser's settings, before the partial losses.
    """

    def __init__(
        self, sizes: Sequence[int], activations: Sequence[int], loss: int, dtype: np.dtype, dropout: Sequence[float] = ()
    ) -> None:
        self.dtype, self.scratch = dtype, SCRATCH[dtype]
        self.sizes = tuple(sizes)
        layers = len(sizes) - 1
        plan = np.zeros(LAYERS + layers * Layer.words, np.int64)
        table, task = _headers(plan)
        self.offsets = []
        end = 0
        dropped = [min(round(rate * WHOLE), WHOLE - 1) for rate in dropout]
        for layer, (fan_in, fan_out), code in zip(_layers(plan), pairwise(sizes), activations, strict=True):
            weights, biases = end, end + fan_in * fan_out
            end = biases + fan_out
            self.offsets.append((weights, biases))
            layer.fan_in, layer.fan_out, layer.weights, layer.biases = fan_in, fan_out, weights, biases
            layer.activation = code
            layer.strips = fan_in * fan_out >= STRIP_WEIGHTS and fan_out >= 2 * VECTOR_BYTES // dtype.itemsize
            layer.packed = layer.strips and fan_out * dtype.itemsize >= FAR_WEIGHTS
            layer.dropped = dropped.pop(0) if dropped else 0
        self.drops = any(dropout)
        self.parameters = end
        row_bytes = 2 * sum(sizes) * dtype.itemsize
        self.padded = -(-end // PADDING) * PADDING
        block = max(BLOCK_BYTES // row_bytes // CHUNK * CHUNK, BLOCK_ROWS)
        table.layers, table.parameters, table.block, task.loss = layers, self.padded, block, loss
        self.piece = max(CALL_TURN // end // block, 1) * block
        self.settings = SQUARES - (-end // STRETCH)
        self._may_group = self.padded <= GROUPED_PARAMETERS and not any(layer.strips for layer in _layers(plan))
        table.grouped = self._may_group
        self._lanes = lanes = VECTOR_BYTES // dtype.itemsize
        most = layers * min(20, 2.5 * lanes), layers * 2.5 * lanes
        softmax = activations[-1] == SOFTMAX
        self._narrow = tuple(end <= parameters and not softmax for parameters in most)  # of few rows, of many
        self.layout = Layout(plan, table, task)

    @property
    def layers(self) -> list[Layer]:
        """The layers' part of the plan."""
        return _layers(self.layout.plan)

    def narrow(self, rows: int, loss: int) -> bool:
        """Whether a step over `rows` rows is faster with the batch on the lanes (`fastmlp.kernels.net.narrow`).

        Each parameter costs that path about as much as a whole tile costs the other, so what counts is how many of a tile's
        lanes a layer would leave empty. Measured over widths of 1 to 32, 1 to 8 layers, batches of 1 to 256: the two meet
        at about 20 parameters a layer, and at 2.5 times the lanes where the batch fills them.
        """
        # Other losses, and softmax, look across a row's outputs, which lie in different registers there.
        return self._narrow[rows >= self._lanes] and loss in (BCE, MSE, MAE, HUBER)

    def reserve(self, rows: int, narrow: bool = False, threads: int = 1) -> Layout:
        """Make room for batches of up to `rows` rows; the narrow path packs whole batches, the other takes them by blocks."""
        now = self.layout
        grouped = not narrow and self.grouped(rows)
        room = (now.packed if now.sums else 0) if narrow else now.capacity
        if rows <= room and not grouped and threads <= now.threads:
            return now
        block = min(rows, now.table.block)
        if grouped:
            block = max(threads * min(-(-rows // (GROUPS * CHUNK)) * CHUNK, block), block)
        packed = rows if narrow else block
        sums = self.padded * PADDING if narrow else now.sums
        groups = self.padded * GROUPS if grouped else now.groups
        partials = max(block, rows if grouped else 0) // CHUNK + 1
        if (
            block <= now.capacity
            and packed <= now.packed
            and sums <= now.sums
            and groups <= now.groups
            and partials <= now.partials
            and threads <= now.threads
        ):
            return now
        # A block's size is rounded up to whole chunks.
        rows = max(-(-block // CHUNK) * CHUNK, now.capacity)
        packed = max(-(-packed // CHUNK) * CHUNK, now.packed)
        partials = max(rows // CHUNK + 1, partials, now.partials)
        threads = max(threads, now.threads)
        # All is worked out aside: an interrupt must not leave offsets of one layout beside the size of another.
        plan = now.plan.copy()
        (table, task), layers = _headers(plan), _layers(plan)
        end = 0

        def place(count: int) -> int:
            nonlocal end
            start = end
            end += -(-count // PADDING) * PADDING
            return start

        widest = max(self.sizes)
        table.x_at = place(packed * self.sizes[0])
        table.y_at = place(packed * (self.sizes[-1] + 1))
        table.weighing_size = -(-self.sizes[-1] // PADDING) * PADDING
        table.weighing_at = place(rows // CHUNK * table.weighing_size)
        table.gradient_at = place(self.padded)
        table.sums_at = place(sums)
        table.groups_at = place(groups)
        table.outputs_at = place(packed * self.sizes[-1])
        table.spare_size = spare_room(1, widest) if any(layer.strips for layer in layers) else 0
        table.spare_at = place(rows * table.spare_size)
        table.strip_size = max(TALL, 2 * VECTOR_BYTES // self.dtype.itemsize) * -(-widest // PADDING) * PADDING
        table.strip_at = place(threads * table.strip_size)
        for layer in layers:
            fan_in, fan_out = layer.fan_in, layer.fan_out
            layer.a_at = place(rows * fan_out)
            layer.z_at = place(rows * fan_out) if layer.dropped or takes_input(layer.activation) else layer.a_at
            layer.d_at = place(rows * fan_out)
            wide, tall = (-(-fan_out // PANEL) * PANEL, -(-fan_in // PANEL) * PANEL) if layer.strips else (0, fan_in)
            layer.panels_at = place(rows * wide)
            layer.packed_at = place(fan_in * wide if layer.packed else 0)
            layer.transposed_at = place(-(-fan_out // PADDING) * PADDING * tall) if fan_out > 1 else 0
        table.size = end
        own = aligned(end, self.dtype) if end * self.dtype.itemsize <= OWN_BYTES else None
        if own is None:  # if there is not so much memory, what needs less must still work
            self.scratch.give(self.scratch.take(end))
        self.layout = now = Layout(plan, table, task, end, rows, packed, sums, groups, partials, threads, own)
        return now

    def forget(self) -> None:
        """The layout of no rows: the next call finds out anew what it needs."""
        plan = self.layout.plan.copy()
        table, task = _headers(plan)
        table.size = 0
        self.layout = Layout(plan, table, task)

    def grouped(self, rows: int) -> bool:
        """Whether groups of so many rows have gradients of their own."""
        return self._may_group and rows >= GROUPED_ROWS

    def blocks(self, rows: int, narrow: bool = False) -> int:
        """How many parts of a step over so many rows a compiled call may end behind."""
        return -(-rows // (NARROW_ROWS if narrow else self.layout.table.block * (GROUPS if self.grouped(rows) else 1)))
