"""What a network's kernels are told: records over tables of numbers, and the tuples that carry them from kernel to kernel.

One compiled program serves every depth and width. The plan is one flat array: a `Table`, a `Task`, and a `Layer` for each
layer. Offsets count numbers: into the flat parameters, or into the work buffer (``*_at``). Python fills it
(`fastmlp.engine.workspace`, `fastmlp.engine.engine`), kernels only read it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fastmlp.kernels.layer.update import Settings
from fastmlp.kernels.machine.jit import Doubles, Int, Integers, Pointer, inlined
from fastmlp.kernels.machine.record import Record


class Table(Record):
    """A network, and where it works: as long as the work buffer has one layout."""

    layers: int  # how many
    parameters: int  # how many, rounded up to whole registers
    block: int  # rows that go through the whole net together
    size: int  # numbers in the work buffer
    x_at: int  # (packed rows, inputs): rows of a shuffled block's inputs, or the narrow path's packed ones
    y_at: int  # (packed rows, targets): the same for its targets
    outputs_at: int  # (packed rows, outputs): the narrow path's outputs
    sums_at: int  # (parameters, lanes): the narrow path's gradient, a row a lane
    gradient_at: int  # (parameters,): the gradient
    groups_at: int  # (GROUPS, parameters): the groups' gradients
    weighing_at: int  # (chunks of rows, weighing_size): a row's gradient before it is weighed
    weighing_size: int
    spare_at: int  # (block, spare_size): the packed products' scratch
    spare_size: int
    strip_at: int  # (threads, strip_size): the gradient of a strip of weights
    strip_size: int


class Task(Record):
    """What a call is about."""

    loss: int  # the loss's code
    targets: int  # numbers in a row of y, the weight included
    terms: int  # numbers of a row that the loss is a mean of: 1, or the outputs; 0: it is a sum
    weighted: int  # BY_SUM or BY_SIZE (`fastmlp.kernels.layer.loss`): a row's last target is its weight; 0: none has one
    samples: int  # rows of the data
    batch: int  # rows of a minibatch
    order: int  # AS_THEY_LIE, GIVEN or SHUFFLED
    path: int  # of a step over a whole batch: RESIDENT, NARROW, GROUPS or BLOCKS (`fastmlp.engine.route`)
    block: int  # of its rows, those that go through the net together
    copied: int  # 1: it reads packed layers' weights by panels
    rest_path: int  # the same of an epoch's last step, if that has fewer rows
    rest_block: int
    rest_copied: int
    rated: int  # 1: each step has a learning rate to itself
    seed: int  # of dropout; 0: there is none
    optimizer: int  # the optimiser's code
    whole: int  # 1: the update needs the whole gradient (`fastmlp.kernels.net.apply`)
    averaged: int  # 1: the parameters' running mean lies before the optimiser's vectors


RESIDENT, NARROW, GROUPS, BLOCKS = range(4)  # the paths of a step
AS_THEY_LIE, GIVEN, SHUFFLED = range(3)  # the rows in their order, in an order that is given, or shuffled anew each epoch


class Layer(Record):
    """One layer of a network."""

    fan_in: int
    fan_out: int
    activation: int  # the activation's code
    weights: int  # where w (fan_in, fan_out) starts in the parameters
    biases: int  # where b (fan_out,) does
    dropped: int  # share of the outputs that dropout leaves out, in parts of 2**32
    strips: int  # 1: the weights' gradient and update go by strips, and w.T lies by panels
    packed: int  # 1: a large batch reads w from a copy by panels
    z_at: int  # (block, fan_out): pre-activations, where the activation's derivative needs them
    a_at: int  # (block, fan_out): outputs
    d_at: int  # (block, fan_out): the gradient of the pre-activations
    panels_at: int  # the same by panels, of layers by strips
    packed_at: int  # w by panels, of packed layers
    transposed_at: int  # (fan_out in whole registers, fan_in): w.T, by panels of layers by strips


class Progress(Record):
    """Where training stands, so that it can stop anywhere and go on."""

    steps: int  # that the optimiser has done
    stop: int  # how many it will have done when training ends
    cursor: int  # next row of the epoch
    epoch: int  # how many are done
    random: int  # state of the generator that shuffles
    tick: int  # steps of this call
    within: int  # rows of this step that are through, if the call before ended in the middle of it
    start: int  # first row of this step's batch
    rows: int  # rows of this step's batch; 0: all is done


class Batch(Record):
    """What a step's batch weighs, and its loss so far."""

    mass: float  # its rows, or the sum of their absolute weights
    terms: float  # what its loss is divided by
    scale: float  # what its loss's gradient is multiplied by
    so_far: float  # the sum of its losses before a call ended in the middle of it


class Net(NamedTuple):
    """A network and what a call is to do with it: its tables, its parameters, and the buffer that it works in."""

    table: Table
    task: Task
    layers: Layer
    params: Pointer
    work: Pointer


class Data(NamedTuple):
    """Rows: x (rows, inputs), y (rows, targets), and, if `ordered`, the rows' order; else they are taken as they lie."""

    x: Pointer
    y: Pointer
    order: Integers
    ordered: Int


class Optimizer(NamedTuple):
    """An optimiser's settings and its vectors, each as long as the parameters."""

    settings: Settings
    moments: Pointer


class Sums(NamedTuple):
    """What a step adds up: of squares of the gradient, one number for STRETCH parameters; of losses, one for CHUNK rows."""

    batch: Batch
    squares: Doubles
    losses: Doubles


class Into(NamedTuple):
    """Where gradients go: the parameters', and, if `inputs`, the inputs'."""

    grads: Pointer
    dx: Pointer
    inputs: Int


class Part(NamedTuple):
    """Of a step's rows those from `within` on to row `stop`, both where a block ends (see `Cut`)."""

    rows: Int
    within: Int
    stop: Int


class Cut(NamedTuple):
    """The path of a step, the rows of its blocks, and whether packed layers' weights are read by panels."""

    path: Int
    block: Int
    copied: Int


class Piece(NamedTuple):
    """Rows that a thread takes through the net: of the batch those from `at` on, of a block those from `first` on."""

    at: Int
    first: Int
    rows: Int
    height: Int  # the block's rows
    packed: Int  # 1: packed layers' weights lie by panels
    later: Int  # 1: other pieces' gradient is there already


class Log(NamedTuple):
    """Of a training each epoch's mean loss, and, if `rated`, each step's learning rate."""

    losses: Doubles
    rates: Doubles


@inlined
def last_layer(net: Any) -> Any:
    """The record of the last layer."""
    return net.layers + (net.table.layers - 1)


@inlined
def count_parameters(net: Any) -> int:
    """How many parameters there are."""
    last = last_layer(net)
    return last.biases + last.fan_out


@inlined
def cut_of(task: Any, rows: int) -> Any:
    """How a step over `rows` rows is cut: a whole batch, or an epoch's last rows."""
    if rows == task.batch:
        return Cut(task.path, task.block, task.copied)
    return Cut(task.rest_path, task.rest_block, task.rest_copied)
