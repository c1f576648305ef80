"""Every threshold by which a call is cut or routed, with its unit and what was measured.

Measured in November 2026 with one thread, if nothing else is said, on two-core virtual machines with AVX-512 (Xeon and EPYC,
150 to 280 GFLOP/s a core in float32, first-level cache of 32 KB, second-level of 1 to 2 MB) and on an EPYC with AVX2. Shapes
are (rows, fan_in, fan_out), nets are widths. `asv_bench/share_of_peak.py` shows what the products' constants are worth, the
suite's ``train.Epoch`` and ``train.Threads`` the others. No constant here changes what a net computes; those that change the
order of a sum say so.
"""

import sys

# ---- products: `fastmlp.kernels.layer.product` -----------------------------------------------------------------------

MIDDLE_ROWS = 4  # rows of a tile for what is left below the tallest ones
# Bytes between rows of w from which on, and rows of x from which on, `product` copies each panel of PANEL_BYTES to the stack
# first: read in place they share few of the caches' sets ((256, 1024, 2048): 87 against 71 % of the peak). Nearer rows are
# best left in place ((128, 784, 256): 96 against 92 %). Not on Windows: there a stack must be touched page by page.
FAR_WEIGHTS = 4096
COPIED_ROWS = 1 << 62 if sys.platform == "win32" else 96
PANEL_BYTES = 32768
# What `packed_product` goes through at a time, to stay in the second-level cache: summands, and columns.
PACKED_DEPTH = 512
PACKED_COLUMNS = 256
FAR_ROWS = 2048  # bytes: rows of x at multiples of this meet in few sets of the caches, and are copied nearer to one another

# ---- a layer: `fastmlp.kernels.layer` --------------------------------------------------------------------------------

# Activations other than relu take a second pass over rows that are still in the second-level cache: 2 to 5 % slower than in the
# tile, and a fraction of the code. Numbers that are made, by tall products, before they are passed over again; and the fewest
# tiles of them, so that reading the weights anew for each pass does not count.
PASS_NUMBERS, PASS_TILES = 32768, 10
STRIP_PANELS_BYTES = 1 << 19  # of d's panels that a strip goes through at a time: they stay in the second-level cache
# Registers over which a loss is summed in the kernel's dtype, before float64: a float32 sum of 10,000 rows would lose four of
# its seven digits' last. Changes the order of the sum.
LOSS_RUN = 64

# ---- a step: `fastmlp.kernels.net` -----------------------------------------------------------------------------------

# Rows whose loss is summed at a time, and by which rows are shared out: whole registers for any number of outputs. Changes the
# order of the loss's sum.
CHUNK_ROWS = 32
FEW_ROWS = 4  # up to them the inputs' gradient is computed from w itself (256-256-256-256, one row, float32: 22, not 31 us)
STRETCH = 256  # parameters whose squares are summed at a time, and by which they are shared out; changes the order of that sum
# Small nets' large batches are cut into GROUPS with a gradient to each, whatever the number of threads: these would share each
# layer's weights badly (4-32-16-4, 10,000 rows, Adam: two threads 1.9 times as fast as one, not 1.6; one loses 1 %). From
# GROUPED_ROWS on, up to GROUPED_PARAMETERS, for each gradient to stay in the first-level cache. Changes the order of the
# gradient's sum.
GROUPS, GROUPED_ROWS, GROUPED_PARAMETERS = 16, 1024, 8192
NARROW_ROWS = 1 << 16  # of a step with the batch on the lanes, behind which a call may end: some hundredths of a second at most
# Each parameter costs the path with the batch on the lanes about as much as a whole tile costs the others, so what counts is
# how many of a tile's lanes a layer leaves empty. Parameters a layer up to which that path is the faster one: where the batch
# fills the lanes, NARROW_LANES times their number; else at most NARROW_PARAMETERS. Over widths of 1 to 32, 1 to 8 layers,
# batches of 1 to 256.
NARROW_LANES, NARROW_PARAMETERS = 2.5, 20
RESIDENT_WIDTH = (
    4  # inputs and units up to which a net lives in registers: with biases and outputs 25 parameters, for 32 registers
)
# Of a net that users' compiled code calls, what a call may take of a stack, which is 8 MB on most threads and 512 KB on macOS';
# beyond that it asks the system for memory.
STACK_BYTES = 1 << 16
SPINS = 1000  # looks at a barrier before a thread gives its core away

# ---- a call: `fastmlp.engine` ----------------------------------------------------------------------------------------

# A block of rows goes through the whole net, forward and backward, before the next: its activations and their gradients should
# stay in the second-level cache, and a block be tall enough for the products to run at full speed. Bytes, and the fewest rows.
# Changes the order of the gradient's sum.
BLOCK_BYTES, BLOCK_ROWS = 1 << 20, 256
# Weights of a layer from which on its gradient and update go by strips; below, all of it stays in the first-level cache.
STRIP_WEIGHTS = 16384
# Multiply-adds in a step below which a second thread does not pay: some 20 us of work against four meetings and colder caches.
STEP_WORK = 2_000_000
# The same for a whole call of such steps: late helpers hold up each meeting (nine steps of 64-100-10 took 415 us on two
# threads, 315 on one). Or of steps so large that one alone is worth it (4-32-16-4: 203, not 310 us).
CALL_WORK, LARGE_STEP = 500_000_000, 12_000_000
THREAD_ROWS = 64  # of a batch that a thread should have, for its products to be tall
# Multiply-adds of a compiled call, after which signals get their turn: some hundredths of a second. The next calls of a
# training take about CALL_SECONDS. A step's overhead, and each parameter's update from memory, count as these multiply-adds.
CALL_TURN = 1 << 30
CALL_SECONDS, STEP_COST, UPDATE_COST = 0.1, 5000, 64
# A work buffer of at most OWN_BYTES stays a model's: to borrow one takes 0.4 us. Of those that are lent, at most KEPT_BYTES
# are kept while nobody needs them, or the one that was used last.
OWN_BYTES, KEPT_BYTES = 1 << 14, 1 << 27
