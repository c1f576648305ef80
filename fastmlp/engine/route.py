"""Which kernels take a step, and how it is cut: the one place that decides it. The kernels obey.

It follows from the network and the call alone, by what the ways cost (`fastmlp.kernels.tuning`); each computes the same
network. A step's path is the first of these that it may take:

- RESIDENT, all in registers (`fastmlp.kernels.net.resident`): nets of at most 4-4-1, batches of a register's rows, plain SGD.
- NARROW, the batch on the lanes (`fastmlp.kernels.net.narrow`): nets with few parameters a layer.
- GROUPS, a gradient for each group of rows, which are summed: up to GROUPED_PARAMETERS, from GROUPED_ROWS rows on.
- BLOCKS, blocks of rows through all layers, forward and back: any other.

In groups and blocks, each layer goes its way:

- From STRIP_WEIGHTS weights on, the weights' gradient and update go by strips, and w.T is read by panels.
- Of these, layers whose rows of w lie FAR_WEIGHTS bytes apart or more read w by panels too, from COPIED_ROWS rows on.
- Up to FEW_ROWS rows, the inputs' gradient is computed from w itself, not from a transposed copy.
- Columns that fill no tile get their weights' gradient by the transposed product.
"""

from typing import Any, NamedTuple

from fastmlp.kernels import tuning
from fastmlp.kernels.layer.loss import BCE, BY_NUMBERS, MSE
from fastmlp.kernels.layer.update import SGD
from fastmlp.kernels.machine.target import VECTOR_BYTES
from fastmlp.kernels.net.plan import BLOCKS, GROUPS, NARROW, RESIDENT
from fastmlp.network import Network
from fastmlp.optimizer import Optimizer


def whole(count: int, unit: int) -> int:
    """`count` rounded up to whole units."""
    return -(-count // unit) * unit


def group_rows(rows: int) -> int:
    """Rows of each of the groups that GROUPS makes of `rows`; the last ones may have fewer."""
    return whole(-(-rows // tuning.GROUPS), tuning.CHUNK_ROWS)


class Route(NamedTuple):
    """How a step of a given number of rows is taken.

    Attributes
    ----------
    path : int
        RESIDENT, NARROW, GROUPS or BLOCKS.
    block : int
        Rows that go through the net together; a call may end behind any of these. In groups a block of each of them.
    parts : int
        How many blocks there are.
    copied : bool
        Whether packed layers' weights are read by panels.
    """

    path: int
    block: int
    parts: int
    copied: bool


class Router:
    """How one network's steps are routed.

    Attributes
    ----------
    block : int
        The most rows that go through the net together.
    strips, packed : list of bool
        For each layer, whether its weights go by strips, and are read by panels where rows are many.
    """

    def __init__(self, network: Network) -> None:
        sizes, activations, itemsize = network.sizes, network.activations, network.dtype.itemsize
        self._lanes = lanes = VECTOR_BYTES // itemsize
        shapes, parameters = network.shapes, network.parameters
        self.strips = [a * b >= tuning.STRIP_WEIGHTS and b >= 2 * lanes for a, b in shapes]
        far = [b * itemsize >= tuning.FAR_WEIGHTS for _, b in shapes]
        self.packed = [strips and apart for strips, apart in zip(self.strips, far, strict=True)]
        chunk = tuning.CHUNK_ROWS
        self.block = max(tuning.BLOCK_BYTES // (2 * sum(sizes) * itemsize) // chunk * chunk, tuning.BLOCK_ROWS)
        self._groups = parameters <= tuning.GROUPED_PARAMETERS and not any(self.strips)
        wide = tuning.NARROW_LANES * lanes
        most = len(shapes) * min(tuning.NARROW_PARAMETERS, wide), len(shapes) * wide
        self._narrow = [parameters <= limit for limit in most]  # of few rows, of many
        # Other losses than these, and softmax, look across a row's outputs, which lie in different registers on the narrow
        # path.
        self._narrow_losses = () if activations[-1] == "softmax" or any(network.dropout) else BY_NUMBERS
        small = len(shapes) == 2 and max(sizes[:2]) <= tuning.RESIDENT_WIDTH and sizes[2] == 1
        small = small and activations[0] in ("relu", "tanh", "sigmoid", "identity")
        self._last: tuple[Optimizer | None, tuple[Any, ...], Route] = None, (), Route(BLOCKS, 0, 0, False)
        self._resident_losses = (BCE, *([MSE] if activations[-1] == "identity" else [])) if small else ()

    def training(self, rows: int, loss: int, optimizer: Optimizer, weighted: int, rated: bool) -> Route:
        """Of steps as `_training` has them; the last one is remembered: a tenth of the smallest fit's time."""
        last, call = self._last, (rows, loss, weighted, rated)
        if optimizer is not last[0] or call != last[1]:  # equal ones may differ in what is no setting, such as a gain
            self._last = last = optimizer, call, self._training(rows, loss, optimizer, weighted, rated)
        return last[2]

    def _training(self, rows: int, loss: int, optimizer: Optimizer, weighted: int, rated: bool) -> Route:
        """Of steps over `rows` rows, which have weights if `weighted`; each with a learning rate to itself if `rated`."""
        if weighted or not self._narrow[rows >= self._lanes] or loss not in self._narrow_losses or optimizer.gain != 1:
            return self.step(rows)
        plain = optimizer.code == SGD and not optimizer.moments and not optimizer.whole and not rated
        if plain and rows <= self._lanes and loss in self._resident_losses:
            return Route(RESIDENT, rows, 1, False)
        return Route(NARROW, tuning.NARROW_ROWS, -(-rows // tuning.NARROW_ROWS), False)

    def step(self, rows: int) -> Route:
        """Of a gradient over `rows` rows, or a step that cannot be narrow."""
        # In blocks of about equal size, of whole chunks: a short last one would be slow for its few rows.
        if self._groups and rows >= tuning.GROUPED_ROWS:
            group = group_rows(rows)
            parts = -(-group // self.block)
            return Route(GROUPS, tuning.GROUPS * whole(-(-group // parts), tuning.CHUNK_ROWS), parts, False)
        parts = -(-rows // self.block)
        block = rows if parts == 1 else whole(-(-rows // parts), tuning.CHUNK_ROWS)
        return Route(BLOCKS, block, parts, rows >= tuning.COPIED_ROWS)
