"""Random networks and trainings that nobody tuned for: fastmlp beside the other libraries, on one core.

    python asv_bench/sweep.py [--count 120] [--seed 0] [--peers jax,torch] [--only N] [--json FILE]

Configuration N is the same for any count. Each gets a process of its own in which the libraries take turns; its line says how
many times as fast as the fastest of the others fastmlp is (the median over the turns) and what a step takes. The losses of all
after the same first epochs must agree. Exit status 1 if they do not somewhere, or if a process died.
"""

import argparse
import json
import math
import statistics
import sys
import time
from dataclasses import asdict
from typing import Any

import numpy as np
import pinned
from nets import Net
from peers import BUILDERS

TURNS, TURN = 5, 0.05  # seconds
STEP_FLOPS, EPOCH_FLOPS = 2e9, 3e9
CHECKED = 2  # epochs before the losses are compared
QUIET = 0.95  # of the time, at least, a process should have its core for itself
LIMIT = 120.0  # seconds for a configuration
# Of the loss's change, and of the loss itself: rounding, in another order in each library.
TOLERANCE = {"float32": (1e-2, 1e-5), "float64": (1e-6, 1e-12)}


def draw(seed: int, index: int) -> Net:
    """The configuration; drawn anew until a step is small enough."""
    rng = np.random.default_rng([seed, index])

    def number(least: int, most: int) -> int:
        return int(np.exp(rng.uniform(np.log(least), np.log(most + 1))))

    while True:
        widths = [number(1, 512) for _ in range(rng.integers(1, 9))]
        if rng.random() < 0.15:
            widths[rng.integers(len(widths))] = number(513, 2000)
        activation = str(rng.choice(["relu", "tanh", "sigmoid"]))
        loss = str(rng.choice(["bce", "cross_entropy", "mse"]))
        outputs = number(2, 30) if loss == "cross_entropy" else 1 if rng.random() < 0.5 else number(1, 30)
        sizes = (number(1, 800), *widths, outputs)
        optimizer = str(rng.choice(["sgd", "adam"]))
        lr = 3e-4 if optimizer == "adam" else 0.1 / max(sizes)
        batch, batches, ragged = number(1, 1000), int(rng.integers(2, 21)), rng.random() < 0.25
        net = Net(str(index), sizes, activation, loss, batch, batch, optimizer, lr, str(rng.choice(["float32", "float64"])))
        step = batch * net.row_flops
        if step <= STEP_FLOPS:
            rows = batch * max(min(batches, int(EPOCH_FLOPS / step)), 2)
            rows -= int(rng.integers(batch)) if ragged else 0
            return Net(**asdict(net) | {"rows": rows})


def measure(net: Net, libraries: list[str]) -> dict[str, Any]:
    """Each library's seconds a step in each turn, and its losses at first and after `CHECKED` epochs."""
    trainings = {library: BUILDERS[library](net) for library in libraries}
    result: dict[str, Any] = {"before": {}, "after": {}, "seconds": {library: [] for library in libraries}}
    counts = {}
    for library, (epoch, _, loss) in trainings.items():
        result["before"][library] = loss()
        epoch(CHECKED)
        result["after"][library] = loss()
        count, taken = 1, 0.0
        while taken < TURN / 4:
            count *= 2
            started = time.perf_counter()
            epoch(count)
            taken = time.perf_counter() - started
        counts[library] = max(round(count * TURN / taken), 1)
    cpu, started = time.process_time(), time.perf_counter()
    for turn in range(TURNS):
        for library in libraries[:: -1 if turn % 2 else 1]:
            before = time.perf_counter()
            trainings[library][0](counts[library])
            result["seconds"][library].append((time.perf_counter() - before) / counts[library] / net.steps)
    result["running"] = (time.process_time() - cpu) / (time.perf_counter() - started)
    return result


def agree(net: Net, result: dict[str, Any]) -> bool:
    """Whether all losses are the same but for rounding."""
    of_change, of_loss = TOLERANCE[net.dtype]
    before, after = result["before"]["fastmlp"], result["after"]
    room = of_change * abs(after["fastmlp"] - before) + of_loss * abs(before)
    return all(math.isfinite(loss) and abs(loss - after["fastmlp"]) <= room for loss in after.values())


def compare(result: dict[str, Any], peers: list[str]) -> tuple[float, str]:
    """How many times as fast as the fastest peer fastmlp is, and which that is."""
    ours = result["seconds"]["fastmlp"]
    ratios = {peer: statistics.median(a / b for a, b in zip(result["seconds"][peer], ours, strict=True)) for peer in peers}
    fastest = min(ratios, key=ratios.__getitem__)
    return ratios[fastest], fastest


def judge(row: dict[str, Any], net: Net, peers: list[str]) -> None:
    """Add what the numbers mean, and the line that says so."""
    row["ratio"], peer = compare(row, peers)
    row["agree"] = agree(net, row)
    ours, theirs = (statistics.median(row["seconds"][library]) * 1e6 for library in ("fastmlp", peer))
    shared = "*" if row["running"] < QUIET else " "
    row["line"] = f"{row['index']:4d} {row['ratio']:6.2f}{shared} fastmlp {ours:9.2f} us, {peer} {theirs:9.2f} us  {net}"
    if not row["agree"]:
        row["line"] += f"  losses disagree: at first {row['before']['fastmlp']:.9g}, then {row['after']}"


def summary(rows: list[dict[str, Any]]) -> str:
    """What the whole sweep shows."""
    measured = sorted((row for row in rows if "ratio" in row), key=lambda row: row["ratio"])
    lines = [f"{len(measured)} of {len(rows)} configurations measured"]
    if measured:
        ratios = [row["ratio"] for row in measured]
        quantiles = " ".join(f"{q:.0%} {np.quantile(ratios, q):.2f}" for q in (0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1))
        losing = [row for row in measured if row["ratio"] < 1]
        by_a_tenth = sum(row["ratio"] < 1 / 1.1 for row in losing)
        lines.append(f"times as fast as the fastest peer: geometric mean {statistics.geometric_mean(ratios):.2f}; {quantiles}")
        lines.append(f"slower in {len(losing)}, by more than a tenth in {by_a_tenth}" + (":" if losing else ""))
        lines.extend(row["line"] for row in losing)
    shared = sum(row["running"] < QUIET for row in measured)
    if shared:
        lines.append(f"other programs shared the core in {shared}: take those times with care (*)")
    for title, chosen in (
        ("losses disagree", [row for row in measured if not row["agree"]]),
        ("died", [row for row in rows if "ratio" not in row]),
    ):
        if chosen:
            lines += [f"{title} in {len(chosen)}:", *(row["line"] for row in chosen)]
    return "\n".join(lines)


def main() -> int:
    """Measure, printing a line a configuration and a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peers", default="jax", help="of numpy, torch and jax, separated by commas")
    parser.add_argument("--only", type=int, metavar="N", help="measure this configuration alone")
    parser.add_argument("--json", metavar="FILE", help="write all numbers there")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    peers = options.peers.split(",")
    if not set(peers) <= {"numpy", "torch", "jax"}:
        parser.error(f"--peers {options.peers}: choose from numpy, torch and jax")
    if options.child:
        print(json.dumps(measure(draw(options.seed, options.only), ["fastmlp", *peers])))
        return 0

    rows: list[dict[str, Any]] = []
    for index in range(options.count) if options.only is None else [options.only]:
        net = draw(options.seed, index)
        row: dict[str, Any] = {"index": index, "net": asdict(net)}
        arguments = ["--child", "--seed", str(options.seed), "--only", str(index), "--peers", options.peers]
        try:
            row |= pinned.run(__file__, arguments, 1, LIMIT)
        except pinned.DiedError as death:
            row["line"] = f"{index:4d}  died: {death}  {net}"
        else:
            judge(row, net, peers)
        rows.append(row)
        print(row["line"], flush=True)
    print(summary(rows))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=1)
    return int(not all(row.get("agree") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
