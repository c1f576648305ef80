"""An update from a whole gradient: penalties, clipping, the optimiser's step, the running mean of the parameters.

The usual step needs none of these and goes through the optimiser while its gradient is still in the cache.
"""

from __future__ import annotations

from fastmlp.kernels.layer.update import Place, Settings, moved, update
from fastmlp.kernels.machine.jit import Double, Int, Pointer, kernel
from fastmlp.kernels.net.parallel import Team, meet, share_start, share_stop
from fastmlp.kernels.net.plan import Net, Optimizer, Sums, count_parameters
from fastmlp.kernels.tiles.across import total
from fastmlp.kernels.tiles.arithmetic import copysign, fabs, fma, maximum, minimum, where
from fastmlp.kernels.tiles.tile import lanes, load, splat, store
from fastmlp.kernels.tuning import STRETCH


@kernel
def penalty(net: Net, settings: Settings, mass: Double) -> Double:
    """l1 * sum(|w|) + l2 / 2 * sum(w**2) over all weights, not the biases; over `mass` if `by_mass`."""
    params = net.params
    lasso = settings.l1
    ridge = 0.5 * settings.l2
    result = 0.0
    if lasso == 0.0 and ridge == 0.0:
        return result
    for index in range(net.table.layers):
        layer = net.layers + index
        w = params + layer.weights
        count = layer.fan_in * layer.fan_out
        for start in range(0, count, STRETCH):
            sums = splat(params, 0.0, 1, 1)
            for i in range(start, min(start + STRETCH, count), lanes(params)):
                part = load(w + i, 0, 1, 1, count - i)
                sums = sums + fma(part * ridge, part, fabs(part) * lasso)
            result += total(sums)
    return result / mass if settings.by_mass != 0.0 else result


@kernel
def penalise(net: Net, settings: Settings, mass: Double, grads: Pointer, lower: Int, upper: Int) -> None:
    """grads += l1 * sign(w) + l2 * w for the weights among the parameters from `lower` to `upper`."""
    params = net.params
    lasso = settings.l1
    ridge = settings.l2 / mass if settings.by_mass != 0.0 else settings.l2
    for index in range(net.table.layers):
        layer = net.layers + index
        start = max(lower, layer.weights)
        stop = min(upper, layer.biases)
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
def apply(net: Net, optimizer: Optimizer, sums: Sums, grads: Pointer, team: Team) -> Int:
    """A thread's share of the update from the gradient `grads`, which is changed; 0 if a thread failed.

    All threads must have made the gradient.
    """
    params = net.params
    settings = optimizer.settings
    count = count_parameters(net)
    lower = share_start(params, count, STRETCH, team)
    upper = share_stop(params, count, STRETCH, team)
    if settings.l1 != 0.0 or settings.l2 != 0.0:
        penalise(net, settings, sums.batch.mass, grads, lower, upper)
    if settings.clip_value != 0.0:
        clip(grads + lower, settings.clip_value, 1.0, upper - lower)
    if settings.clip_norm != 0.0:
        for start in range(lower, upper, STRETCH):
            squares = splat(params, 0.0, 1, 1)
            for i in range(start, min(start + STRETCH, upper), lanes(params)):
                g = load(grads + i, 0, 1, 1, upper - i)
                squares = fma(g, g, squares)
            sums.squares[start // STRETCH] = total(squares)
        if not meet(team):
            return 0
        square = 0.0
        for i in range(0, count, STRETCH):
            square += sums.squares[i // STRETCH]
        if square > settings.clip_norm**2:
            clip(grads + lower, float("inf"), settings.clip_norm / square**0.5, upper - lower)
    place = Place(params, grads, optimizer.moments, optimizer.moments + net.table.parameters)
    update(net.task.optimizer, settings, moved(place, lower), upper - lower)
    if net.task.averaged and settings.ema != 0.0:
        average(params + lower, optimizer.moments + (lower - net.table.parameters), settings.ema, upper - lower)
    return 1
