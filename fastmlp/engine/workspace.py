"""The memory a model works in: one buffer, cut into parts that never overlap, and the table that tells the kernels where.

The buffer is lent for a call, by the model itself if it is small, else by all models together: what a call finds in it is
anything. Training allocates nothing.
"""

from typing import NamedTuple

import numpy as np

from fastmlp.engine.route import Router, group_rows, whole
from fastmlp.kernels import tuning
from fastmlp.kernels.layer.activation import takes_input
from fastmlp.kernels.layer.dropout import RATE_UNITS
from fastmlp.kernels.layer.loss import numbers_of
from fastmlp.kernels.layer.product import TALL, spare_room
from fastmlp.kernels.machine.target import VECTOR_BYTES
from fastmlp.kernels.net.plan import BLOCKS, GROUPS, NARROW, RESIDENT, Layer, Table, Task
from fastmlp.kernels.net.train import LAYERS, SQUARES, TASK
from fastmlp.kernels.tuning import CHUNK_ROWS
from fastmlp.network import Network

ALIGNMENT = 64  # bytes: a cache line, and the widest register
PADDING = 16  # numbers: a multiple of every register's
PANEL_COLUMNS = 32  # a multiple of every target's two registers


def aligned(count: int, dtype: np.dtype) -> np.ndarray:
    """Zeros that start on a cache line: a vector load that crosses lines costs two."""
    # Filled, not made as zeros: NumPy asks the system for huge pages then, which spare wide layers most of their page walks.
    raw = np.empty(count * dtype.itemsize + ALIGNMENT, np.uint8)
    raw.fill(0)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + count * dtype.itemsize].view(dtype)


def roomy(count: int, dtype: np.dtype) -> np.ndarray:
    """Room for `count` parameters, and for the register beyond the last that a row's kernels read (`kernels.net.rows`)."""
    return aligned(whole(count, PADDING) + PADDING, dtype)


class Parts:
    """Parts of a buffer, one behind the other, each in whole registers.

    Attributes
    ----------
    end : int
        Where the next one starts: the numbers in those that there are.
    """

    def __init__(self) -> None:
        self.end = 0

    def place(self, count: int) -> int:
        """Where a part of `count` numbers starts."""
        start = self.end
        self.end += whole(count, PADDING)
        return start


def _headers(plan: np.ndarray) -> tuple[Table, Task]:
    """The parts of a plan that are there once."""
    return Table(plan), Task(plan[TASK:])


def layers_of(plan: np.ndarray) -> list[Layer]:
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
        self._dtype, self._most = dtype, tuning.KEPT_BYTES // dtype.itemsize
        self._free: list[np.ndarray] = []

    def take(self, size: int) -> np.ndarray:
        """A buffer of at least `size` numbers, which may be anything; the last one given back is still in the cache."""
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

    Attributes
    ----------
    router : Router
        Which decides what a call needs room for.
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

    def __init__(self, network: Network) -> None:
        self.dtype, self.scratch = network.dtype, SCRATCH[network.dtype]
        self.sizes = network.sizes
        layers, activations = len(network.shapes), network.codes()
        plan = np.zeros(LAYERS + layers * Layer.words, np.int64)
        table, task = _headers(plan)
        self.router = router = Router(network)
        self.offsets = []
        end = 0
        dropped = [min(round(rate * RATE_UNITS), RATE_UNITS - 1) for rate in network.dropout]
        for i, (layer, (fan_in, fan_out)) in enumerate(zip(layers_of(plan), network.shapes, strict=True)):
            weights, biases = end, end + fan_in * fan_out
            end = biases + fan_out
            self.offsets.append((weights, biases))
            layer.fan_in, layer.fan_out, layer.weights, layer.biases = fan_in, fan_out, weights, biases
            layer.activation, layer.strips, layer.packed = activations[i], router.strips[i], router.packed[i]
            layer.dropped = dropped[i] if i < len(dropped) else 0
        self.drops = any(network.dropout)
        self.parameters = end
        self.padded = whole(end, PADDING)
        table.layers, table.parameters, table.block, task.loss = layers, self.padded, router.block, network.loss_code()
        # Instead of labels there may be rows of probabilities.
        self._targets = max(numbers_of(task.loss, self.sizes[-1])[0], self.sizes[-1])
        self.piece = max(tuning.CALL_TURN // end // router.block, 1) * router.block
        self.settings = SQUARES - (-end // tuning.STRETCH)
        self.layout = Layout(plan, table, task)

    @property
    def layers(self) -> list[Layer]:
        """The layers' part of the plan."""
        return layers_of(self.layout.plan)

    def reserve(self, rows: int, path: int = BLOCKS, threads: int = 1) -> Layout:
        """Make room for batches of up to `rows` rows; the narrow paths pack whole batches, the others take them by blocks."""
        now = self.layout
        narrow, grouped = path in (NARROW, RESIDENT), path == GROUPS
        room = (now.packed if now.sums else 0) if narrow else now.capacity
        if rows <= room and not grouped and threads <= now.threads:
            return now
        block = min(rows, now.table.block)
        if grouped:
            block = max(threads * min(group_rows(rows), block), block)
        packed = rows if narrow else block
        sums = self.padded * PADDING if narrow else now.sums
        groups = self.padded * tuning.GROUPS if grouped else now.groups
        partials = max(block, rows if grouped else 0) // CHUNK_ROWS + 1
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
        rows = max(whole(block, CHUNK_ROWS), now.capacity)
        packed = max(whole(packed, CHUNK_ROWS), now.packed)
        partials = max(rows // CHUNK_ROWS + 1, partials, now.partials)
        threads = max(threads, now.threads)
        # All is worked out aside: an interrupt must not leave offsets of one layout beside the size of another.
        plan = now.plan.copy()
        end = self._lay_out(plan, rows, packed, sums, groups, threads)
        own = aligned(end, self.dtype) if end * self.dtype.itemsize <= tuning.OWN_BYTES else None
        if own is None:  # if there is not so much memory, what needs less must still work
            self.scratch.give(self.scratch.take(end))
        self.layout = now = Layout(plan, *_headers(plan), end, rows, packed, sums, groups, partials, threads, own)
        return now

    def _lay_out(self, plan: np.ndarray, rows: int, packed: int, sums: int, groups: int, threads: int) -> int:
        """Note in the plan where everything lies; the numbers that it takes."""
        (table, _), layers = _headers(plan), layers_of(plan)
        parts = Parts()
        place = parts.place
        widest = max(self.sizes)
        table.x_at = place(packed * self.sizes[0])
        table.y_at = place(packed * (self._targets + 1))
        table.weighing_size = whole(self.sizes[-1], PADDING)
        table.weighing_at = place(rows // CHUNK_ROWS * table.weighing_size)
        table.gradient_at = place(self.padded)
        table.sums_at = place(sums)
        table.groups_at = place(groups)
        table.outputs_at = place(packed * self.sizes[-1])
        table.spare_size = spare_room(1, widest) if any(layer.strips for layer in layers) else 0
        table.spare_at = place(rows * table.spare_size)
        table.strip_size = max(TALL, 2 * VECTOR_BYTES // self.dtype.itemsize) * whole(widest, PADDING)
        table.strip_at = place(threads * table.strip_size)
        for layer in layers:
            fan_in, fan_out = layer.fan_in, layer.fan_out
            layer.a_at = place(rows * fan_out)
            layer.z_at = place(rows * fan_out) if layer.dropped or takes_input(layer.activation) else layer.a_at
            layer.d_at = place(rows * fan_out)
            wide, tall = 0, fan_in
            if layer.strips:
                wide, tall = whole(fan_out, PANEL_COLUMNS), whole(fan_in, PANEL_COLUMNS)
            layer.panels_at = place(rows * wide)
            layer.packed_at = place(fan_in * wide if layer.packed else 0)
            layer.transposed_at = place(whole(fan_out, PADDING) * tall) if fan_out > 1 else 0
        table.size = parts.end
        return parts.end

    def forget(self) -> None:
        """The layout of no rows: the next call finds out anew what it needs."""
        plan = self.layout.plan.copy()
        table, task = _headers(plan)
        table.size = 0
        self.layout = Layout(plan, table, task)
