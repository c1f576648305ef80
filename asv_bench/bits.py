"""Fingerprints of trainings over every path: two versions of fastmlp that print the same compute the same bits.

    python asv_bench/bits.py > before.txt      # of one version
    python asv_bench/bits.py --than before.txt  # of another: says what differs, and exits with 1 if anything does or is gone

A line is a case and the first 16 digits of the SHA-256 of the parameters, the losses, a prediction and a gradient after it.
They depend on the processor's vector width, so both must be made on one machine.
"""

import argparse
import hashlib
import itertools
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from unittest import mock

import numpy as np

import fastmlp
from fastmlp.activations import ACTIVATIONS
from fastmlp.kernels import tuning
from fastmlp.losses import LOSSES

# (sizes, activation, loss, rows, batch size): one for each path of a step
PATHS: dict[str, tuple[list[int], str, str, int, int | None]] = {
    "resident 2": ([2, 2, 1], "tanh", "bce", 4, None),
    "resident 4": ([4, 4, 1], "relu", "mse", 11, 3),
    "narrow": ([3, 5, 2], "silu", "huber", 300, 41),
    "narrow, parts": ([2, 2, 1], "tanh", "bce", 140_000, None),
    "plain": ([40, 33, 6], "relu", "cross_entropy", 300, 97),
    "one output": ([40, 33, 1], "sigmoid", "bce", 300, 97),
    "few rows": ([30, 200, 4], "elu", "cross_entropy", 40, 3),
    "deep": ([5, 8, 8, 8, 8, 2], "gelu", "mae", 130, 65),
    "grouped": ([5, 30, 20, 3], "tanh", "cross_entropy", 2500, 1100),
    "grouped, blocks": ([5, 60, 60, 3], "softplus", "mse", 60_000, None),
    "strips": ([20, 140, 130, 2], "gelu", "mse", 250, 120),
    "panels": ([20, 1100, 40, 3], "leaky_relu", "mse", 250, 120),
    "blocks": ([9, 260, 150, 3], "relu", "mse", 3000, None),
    "no hidden layer": ([7, 3], "identity", "cross_entropy", 50, 9),
}
OPTIMIZERS = {
    "SGD": fastmlp.SGD(0.05),
    "momentum": fastmlp.SGD(0.05, momentum=0.9, weight_decay=1e-3),
    "Nesterov": fastmlp.SGD(0.05, momentum=0.9, nesterov=True),
    "Adam": fastmlp.Adam(1e-3, weight_decay=1e-3),
    "AdamW": fastmlp.AdamW(1e-3),
    "RMSprop": fastmlp.RMSprop(1e-3),
    "RMSprop with momentum": fastmlp.RMSprop(1e-3, momentum=0.9),
    "Adagrad": fastmlp.Adagrad(1e-2),
    "Adamax": fastmlp.Adamax(1e-3),
    "Nadam": fastmlp.Nadam(1e-3),
    "Lion": fastmlp.Lion(1e-4),
    "RAdam": fastmlp.RAdam(1e-2),
    "whole": fastmlp.Adam(1e-3, l1=1e-4, l2=1e-3, clip_value=0.1, clip_norm=0.5, ema=0.9),
}
SCHEDULED = fastmlp.Adam(fastmlp.schedules.Cosine(0.01, warmup=1))


def trained(
    path: tuple[list[int], str, str, int, int | None], dtype: str, optimizer: Any, dropout: float = 0.0, **options: Any
) -> str:
    """The fingerprint of a training of two epochs."""
    sizes, activation, loss, rows, batch = path
    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows, sizes[0])).astype(dtype)
    if loss == "cross_entropy":
        y = rng.integers(0, sizes[-1], rows)
    else:
        y = rng.standard_normal((rows, sizes[-1]))
        y = np.abs(y).round() if loss == "poisson" else y > 0 if loss == "bce" else y
        y = y.astype(dtype)
    if options.pop("weighted", False):
        options["sample_weight"] = rng.integers(0, 3, rows).astype(float)
    model = fastmlp.Model(sizes, activation, loss, dtype, rng=1, dropout=dropout)
    history = model.fit(X, y, 2, batch, optimizer=optimizer, rng=2, **options)
    few = slice(min(rows, 2000))
    gradients = model.backward(X[few], y[few])
    parts = model.params, np.array(history["loss"]), model.predict(X[few]), gradients.inputs, *gradients.weights
    digest = hashlib.sha256()
    for part in parts:
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:16]


def cases() -> Iterator[tuple[str, str]]:
    """Each case's name and fingerprint."""
    for dtype in ("float32", "float64"):
        for (name, path), optimizer in itertools.product(PATHS.items(), ("SGD", "Adam", "whole")):
            yield f"{dtype}, {name}, {optimizer}", trained(path, dtype, OPTIMIZERS[optimizer])
        for (name, path), optimizer in itertools.product(PATHS.items(), OPTIMIZERS):
            if name in ("narrow", "plain", "strips") and optimizer not in ("SGD", "Adam", "whole"):
                yield f"{dtype}, {name}, {optimizer}", trained(path, dtype, OPTIMIZERS[optimizer])
        for sizes, activation, loss in itertools.product(([3, 4, 1], [8, 21, 4]), ACTIVATIONS, LOSSES):
            if activation != "softmax" and (loss != "cross_entropy" or sizes[-1] > 1):
                path = sizes, activation, loss, 90, 32
                yield f"{dtype}, {sizes}, {activation}, {loss}", trained(path, dtype, OPTIMIZERS["Adam"])
        for name, path in PATHS.items():
            yield f"{dtype}, {name}, schedule", trained(path, dtype, SCHEDULED)
            yield f"{dtype}, {name}, weights", trained(path, dtype, OPTIMIZERS["momentum"], weighted=True)
            if len(path[0]) > 2:
                yield f"{dtype}, {name}, dropout", trained(path, dtype, OPTIMIZERS["Adam"], 0.3)
                yield (
                    f"{dtype}, {name}, dropout, weights, whole",
                    trained(path, dtype, OPTIMIZERS["whole"], 0.3, weighted=True),
                )


def main() -> None:
    """Print the fingerprints, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", default="1,2,3", help="numbers of threads, which must not change a bit")
    parser.add_argument("--than", help="a file that another version printed")
    chosen = parser.parse_args()
    found: dict[str, str] = {}
    differ, gone = 0, set[str]()
    for threads in map(int, chosen.threads.split(",")):
        fastmlp.set_num_threads(threads)
        with ExitStack() as stack:
            for name, least in (("STEP_WORK", 0), ("CALL_WORK", 0), ("THREAD_ROWS", 1)):  # every step is shared
                stack.enter_context(mock.patch.object(tuning, name, least))
            for name, digest in cases():
                if found.setdefault(name, digest) != digest:
                    differ += 1
                    print(f"{name}: {threads} threads make {digest}, not {found[name]}", file=sys.stderr)
    if chosen.than is None:
        print("\n".join(f"{digest}  {name}" for name, digest in found.items()))
    else:
        with open(chosen.than) as file:
            before = {name: digest for digest, _, name in (line.rstrip("\n").partition("  ") for line in file)}
        both = found.keys() & before.keys()
        for name in both:
            if found[name] != before[name]:
                differ += 1
                print(f"{name}: {found[name]}, before {before[name]}", file=sys.stderr)
        gone = before.keys() - both
        print("".join(f"{name}: gone\n" for name in gone), end="", file=sys.stderr)
        print(f"{len(both)} cases, {differ} differ; {len(found) - len(both)} new, {len(gone)} gone")
    sys.exit(1 if differ or gone else 0)


if __name__ == "__main__":
    main()
