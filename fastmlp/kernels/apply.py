"""An update from a whole gradient: penalties, clipping, the optimiser's step, the running mean of the parameters.

The usual step needs none of these and goes through the optimiser while its gradient is still in the cache.
"""

from __future__ import annotations

from fastmlp.kernels.across import total
from fastmlp.kernels.arithmetic import copysign, fabs, fma, maximum, minimum, where
from fastmlp.kernels.jit import Double, Doubles, Int, Integers, Pointer, kernel
from fastmlp.kernels.parallel import meet
from fastmlp.kernels.plan import AVERAGED, BIASES, FAN_IN, FAN_OUT, HEADER, LAYERS, OPTIMIZER, PARAMETERS, RECORD, WEIGHTS
from fastmlp.kernels.tile import lanes, load, splat, store
from fastmlp.kernels.update import CLIP_NORM, CLIP_VALUE, EMA, HYPER, L1, L2, MASS, SKLEARN, update

# Parameters whose squares are summed at a time, and by which they are shared out.
STRETCH = 256


@kernel
def share_start(like: Pointer, count: Int, unit: Int, me: Int, threads: Int) -> Int:
    """Where the `me`-th thread's share of `count` things starts, in whole units; the next one's start is its end.

    A kernel, not an inlined helper: Numba would compile one of these anew for each unit. `like` only tells the dtype.
    """
    if threads == 1:  # divisions take as long as a small layer
        return count if me else 0
    return min(me * -(-count // unit) // threads * unit, count)


@kernel
def penalty(plan: Integers, hyper: Doubles, params: Pointer) -> Double:
    """l1 * sum(|w|) + l2 / 2 * sum(w**2) over all weights, not the biases; for scikit-learn's form over the batch's rows."""
    lasso = hyper[L1]
    ridge = 0.5 * hyper[L2]
    result = 0.0
    if lasso == 0.0 and ridge == 0.0:
        return result
    for index in range(plan[LAYERS]):
        layer = plan + (HEADER + index * RECORD)
        w = params + layer[WEIGHTS]
        count = layer[FAN_IN] * layer[FAN_OUT]
        for start in range(0, count, STRETCH):
            sums = splat(params, 0.0, 1, 1)
            for i in range(start, min(start + STRETCH, count), lanes(params)):
                part = load(w + i, 0, 1, 1, count - i)
                sums = sums + fma(part * ridge, part, fabs(part) * lasso)
            result += total(sums)
    return result / hyper[MASS] if hyper[SKLEARN] != 0.0 else result


@kernel
def penalise(plan: Integers, hyper: Doubles, params: Pointer, grads: Pointer, lower: Int, upper: Int) -> None:
    """grads += l1 * sign(w) + l2 * w for the weights among the parameters from `lower` to `upper`."""
    lasso = hyper[L1]
    ridge = hyper[L2] / hyper[MASS] if hyper[SKLEARN] != 0.0 else hyper[L2]
    for index in range(plan[LAYERS]):
        layer = plan + (HEADER + index * RECORD)
        start = max(lower, layer[WEIGHTS])
        stop = min(upper, layer[BIASES])
        for i in range(start, stop, lanes(params)):
            w = load(params + i, 0, 1, 1, stop - i)
            g = load(grads + i, 0, 1, 1, stop - i)
            sign = where(w == 0.0, w, copysign(splat(params, lasso, 1, 1), w))
            store(fma(w, ridge, g + sign), grads + i, 0, stop - i)


@kernel
def clip(grads: Pointer, most: Double, scale: Double, count: Int) -> None:
    """grads = scale * min(max(grads, -most), most), NaN kept."""
    for i in range(0, count, lanes(grads)):
        g = load(grads + i, 0, 1, 1, count - i)
        store(minimum(maximum(g, 0.0 - most), most) * scale, grads + i, 0, count - i)


@kernel
def average(params: Pointer, mean: Pointer, decay: Double, count: Int) -> None:
    """mean = decay * mean + (1 - decay) * params."""
    for i in range(0, count, lanes(params)):
        m = load(mean + i, 0, 1, 1, count - i)
        store(fma(load(params + i, 0, 1, 1, count - i) - m, 1.0 - decay, m), mean + i, 0, count - i)


@kernel
def apply(
    plan: Integers, hyper: Doubles, params: Pointer, moments: Pointer, grads: Pointer, state: Integers, me: Int, threads: Int
) -> Int:
    """A thread's share of the update from the gradient `grads`, which is changed; 0 if a thread failed.

    All threads must have made the gradient. The squares' sums go behind the settings in `hyper`.
    """
    last = plan + (HEADER + (plan[LAYERS] - 1) * RECORD)
    count = last[BIASES] + last[FAN_OUT]
    lower = share_start(params, count, STRETCH, me, threads)
    upper = share_start(params, count, STRETCH, me + 1, threads)
    if hyper[L1] != 0.0 or hyper[L2] != 0.0:
        penalise(plan, hyper, params, grads, lower, upper)
    if hyper[CLIP_VALUE] != 0.0:
        clip(grads + lower, hyper[CLIP_VALUE], 1.0, upper - lower)
    if hyper[CLIP_NORM] != 0.0:
        sums = hyper + HYPER
        for start in range(lower, upper, STRETCH):
            squares = splat(params, 0.0, 1, 1)
            for i in range(start, min(start + STRETCH, upper), lanes(params)):
                g = load(grads + i, 0, 1, 1, upper - i)
                squares = fma(g, g, squares)
            sums[start // STRETCH] = total(squares)
        if not meet(state, threads):
            return 0
        square = 0.0
        for i in range(0, count, STRETCH):
            square += sums[i // STRETCH]
        if square > hyper[CLIP_NORM] ** 2:
            clip(grads + lower, float("inf"), hyper[CLIP_NORM] / square**0.5, upper - lower)
    first = moments + lower
    update(plan[OPTIMIZER], params + lower, grads + lower, first, first + plan[PARAMETERS], hyper, upper - lower)
    if plan[AVERAGED] and hyper[EMA] != 0.0:
        average(params + lower, moments + (lower - plan[PARAMETERS]), hyper[EMA], upper - lower)
    return 1
