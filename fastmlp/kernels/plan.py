"""A network as a table of integers: one compiled program serves every depth and width.

The table is a header and one record a layer. Offsets count elements: into the flat parameters, or into the work buffer
(`*_AT`). Python fills it (see `fastmlp.workspace`), kernels only read it.
"""

LAYERS = 0  # number of layers
LOSS = 1  # code of the loss
OPTIMIZER = 2  # code of the optimiser
PARAMETERS = 3  # number of parameters, rounded up to whole registers
BLOCK = 4  # rows that go through the whole net together
X_AT = 5  # rows of a shuffled block's inputs
Y_AT = 6  # the same for its targets
GRADIENT_AT = 7  # the flat gradient
SAMPLES = 8  # rows of the data
BATCH = 9  # rows of a minibatch
EPOCHS = 10  # epochs to run
TARGETS = 11  # numbers in a row of targets
SHUFFLE = 12  # 0: the rows as they lie; else in an order that is given, which REORDER makes anew each epoch
NARROW = 13  # 1: the batch lies on the lanes
SUMS_AT = 14  # then, a register for each parameter's gradient
P_AT = 15  # and the outputs of its batch
SPARE_AT = 16  # scratch of the products, SPARE_ROW numbers a row of the block
SPARE_ROW = 17
STRIP_AT = 18  # for each thread the gradient of a strip of weights, STRIP_SIZE numbers
STRIP_SIZE = 19
GROUPS_AT = 20  # the gradient of each group of rows, GROUPED nets only
GROUPED = 21  # 1: from GROUPED_ROWS rows on, groups of rows have gradients of their own
CHUNKS = 22  # sums of squares of the gradient, behind the settings
WHOLE = 23  # 1: the update needs the whole gradient (see `fastmlp.kernels.apply`)
AVERAGED = 24  # 1: the parameters' running mean lies before the optimiser's vectors
RATED = 25  # 1: each step has a learning rate of its own
WEIGHTED = 26  # 1: a row's last target is its weight
SEED = 27  # of dropout; 0: there is none
ROW_AT = 28  # for each chunk of rows scratch for one, ROW_SIZE numbers
ROW_SIZE = 29
SIZE = 30  # numbers in the work buffer
HEADER = 31

REORDER = 2

FAN_IN = 0
FAN_OUT = 1
ACTIVATION = 2
WEIGHTS = 3  # offset of w in the parameters
BIASES = 4  # offset of b in the parameters
TRANSPOSED_AT = 5  # w.T, by panels if STRIPS
Z_AT = 6  # pre-activations, where the activation's derivative needs them
A_AT = 7  # outputs
D_AT = 8  # gradient of the pre-activations
STRIPS = 9  # 1: the weights' gradient and update go by strips, and w.T lies by panels
PANELS_AT = 10  # then, the gradient of the pre-activations by panels
PACKED = 11  # 1: a large batch reads w from a copy by panels
PACKED_AT = 12  # then, the copy
DROPPED = 13  # share of the outputs that dropout leaves out, in parts of 2**32
RECORD = 14

# Training's own state, so that it can stop anywhere and go on.
CURSOR = 0  # next row of the epoch
EPOCH = 1  # epochs done
RANDOM = 2  # state of the shuffling generator
STEP = 3  # optimiser steps done
# What its threads tell one another; those that are waited for have cache lines of their own.
START = 4  # first row of this step's batch
ROWS = 5  # rows of this step's batch; 0: there is none, return
ABORT = 7  # 1: a thread failed
TICK = 8  # steps of this call
WITHIN = 9  # rows of this step that are through, if the call before ended in the middle of it
ARRIVED = 16  # threads that wait at the barrier
ROUND = 32  # meetings so far
STATE = 48
