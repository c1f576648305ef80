"""The README's speed section: fastmlp beside the other libraries, and beside what the machine could do.

    python asv_bench/speed.py [--threads 1,2] [--workloads mnist,wide] [--peers jax,torch] [--rounds 3] [--seconds 1]
                              [--write] [--json FILE]

Each library runs in a process of its own, bound to as many cores as it has threads; they take turns, round after round, and so
does a loop of nothing but multiply-adds, the peak. In a round the fastest part of `--seconds` counts, since other programs only
ever add to a time; of the rounds, the median. `--write` puts the section into the README instead of printing it, unless
something failed; the exit status is then 1.
"""

import argparse
import json
import math
import os
import platform
import shlex
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pinned
from nets import Net
from peers import BUILDERS, NAMES, installed

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- speed: begin -->\n", "<!-- speed: end -->"
LIMIT = 300.0  # seconds for a process, beside those asked for
TOLERANCE = 1e-3  # of the loss, between libraries, after an epoch
TEXT = """\
The time of an epoch. All have the same data, batches, updates and (scikit-learn excepted) initial weights. "Times as fast"
compares fastmlp with the fastest of the others. The share of the peak is fastmlp's, beside a loop of nothing but multiply-adds
in registers, measured between the rounds, times the threads."""
QUIET = 0.95  # of the time, at least, a process should have its core for itself
PACKAGES = {"sklearn": "scikit-learn"}

WORKLOADS = {
    net.name: net
    for net in (
        Net("notebook", (2, 2, 1), "relu", "bce", 4, 4, "sgd", 0.1, "float64"),
        Net("tiny", (8, 16, 1), "tanh", "bce", 256, 32, "sgd", 0.05, "float32"),
        Net("digits", (64, 100, 10), "relu", "cross_entropy", 1797, 200, "adam", 1e-3, "float32"),
        Net("tabular", (8, 64, 64, 1), "relu", "mse", 20000, 64, "adam", 1e-3, "float32"),
        Net("policy", (17, 256, 256, 6), "tanh", "mse", 4096, 256, "adam", 3e-4, "float32"),
        Net("mnist", (784, 256, 128, 10), "relu", "cross_entropy", 12800, 128, "adam", 1e-3, "float32"),
        Net("matexp", (4, 32, 16, 4), "tanh", "mse", 10000, 10000, "adam", 1e-3, "float32"),
        Net("wide", (1024, 2048, 2048, 10), "relu", "cross_entropy", 4096, 1024, "sgd", 0.01, "float32"),
    )
}


def peak(net: Net, seconds: float) -> dict[str, float]:
    """GFLOP/s of one core in multiply-adds of the net's dtype between registers."""
    from share_of_peak import LANES, MULTIPLY_ADDS, multiply_adds, rate

    x = np.ones(1, net.dtype)
    flops = MULTIPLY_ADDS * 48 * LANES * 4 / x.itemsize
    multiply_adds(x, 1)
    fastest, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        fastest = max(fastest, rate(flops, multiply_adds, x, MULTIPLY_ADDS))
    return {"peak": fastest}


def measure(net: Net, library: str, seconds: float) -> dict[str, float]:
    """Seconds an epoch takes, the loss after the first one, and the share of the time that the process was running."""
    epoch, per_call, loss = BUILDERS[library](net)
    epoch(1)
    after = loss()
    epoch()
    fastest, total, calls, cpu = math.inf, 0.0, 1, time.process_time()
    while total < seconds:
        started = time.perf_counter()
        for _ in range(calls):
            epoch()
        taken = time.perf_counter() - started
        total += taken
        fastest = min(fastest, taken / calls / per_call)
        if taken < seconds / 20:
            calls *= 2
    return {"epoch": fastest, "loss": after, "running": (time.process_time() - cpu) / total}


def rounds(net: Net, threads: int, libraries: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """The medians over the rounds, all rounds behind them, and what failed."""
    result: dict[str, Any] = {"workload": net.name, "threads": threads, "rounds": {}, "failures": {}, "median": {}, "loss": {}}
    for _ in range(options.rounds):
        for library in ["peak", *libraries]:
            arguments = ["--child", library, "--workloads", net.name, "--seconds", str(options.seconds)]
            try:
                measured = pinned.run(__file__, arguments, threads, LIMIT + options.seconds)
            except pinned.DiedError as death:
                result["failures"][library] = str(death)
                print(f"{net.name}, {threads} threads, {library}: {death}", file=sys.stderr)
                continue
            result["rounds"].setdefault(library, []).append(measured.get("peak", measured.get("epoch")))
            if library != "peak":
                result["loss"][library] = measured["loss"]
                if threads == 1 and measured["running"] < QUIET:
                    print(f"{net.name}, {library}: the core was shared with other programs", file=sys.stderr)
    result["median"] = {library: statistics.median(values) for library, values in result["rounds"].items()}
    return result


def digits(value: float) -> str:
    """Three of them, or all before the point."""
    return f"{value:.0f}" if value >= 99.95 else f"{value:#.3g}"


def duration(seconds: float) -> str:
    """With three digits, in the unit that suits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= 0.9995 * size:
            return f"{digits(seconds / size)} {unit}"
    return f"{digits(seconds * 1e9)} ns"


def fastest_peer(result: dict[str, Any]) -> str | None:
    """By the medians; None if no peer was measured."""
    times = {library: value for library, value in result["median"].items() if library not in ("peak", "fastmlp")}
    return min(times, key=times.__getitem__, default=None)


def ratio(result: dict[str, Any]) -> float:
    """How many times as fast as the fastest peer; NaN where one of the two is missing."""
    medians, peer = result["median"], fastest_peer(result)
    return medians[peer] / medians["fastmlp"] if peer and "fastmlp" in medians else math.nan


def row(result: dict[str, Any], libraries: list[str]) -> str:
    """A line of the table."""
    medians, threads = result["median"], result["threads"]
    cells = [f"`{result['workload']}`", str(threads)]
    cells += [duration(medians[library]) if library in medians else "failed" for library in libraries]
    peer, times = fastest_peer(result), ratio(result)
    cells.append("" if math.isnan(times) else f"{times:.2f} x {NAMES[str(peer)]}")
    net = WORKLOADS[result["workload"]]
    speed = net.rows * net.row_flops / medians["fastmlp"] / 1e9 if "fastmlp" in medians else math.nan
    cells.append("" if math.isnan(speed) else digits(speed))
    cells.append("" if math.isnan(speed) or "peak" not in medians else f"{speed / medians['peak'] / threads:.0%}")
    return f"| {' | '.join(cells)} |"


def remarks(results: list[dict[str, Any]]) -> list[str]:
    """In words: the rows that fastmlp loses, and whatever went wrong."""
    losing, wrong = [], []
    for result in results:
        where = f"`{result['workload']}` on {result['threads']} thread" + "s" * (result["threads"] > 1)
        times = ratio(result)
        if times < 1:
            losing.append(f"{where} ({NAMES[str(fastest_peer(result))]} takes {times:.0%} of its time)")
        wrong += [
            f"{where}, {NAMES.get(library, library)} failed: {why.rstrip('.')}." for library, why in result["failures"].items()
        ]
        # scikit-learn starts from other weights.
        losses = {NAMES[library]: loss for library, loss in result["loss"].items() if library != "sklearn"}
        if losses and not max(losses.values()) - min(losses.values()) <= TOLERANCE * min(losses.values()):
            wrong.append(f"{where}, the losses after an epoch disagree: {losses}.")
    none = "" if any(math.isnan(ratio(result)) for result in results) else "fastmlp loses none of these rows."
    return [f"fastmlp loses {', '.join(losing)}." if losing else none, *wrong]


def machine() -> str:
    """The processor's name and the number of cores, as the system gives them."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} cores"


def section(results: list[dict[str, Any]], libraries: list[str], command: str) -> str:
    """The Markdown."""
    head = ["workload", "threads", *(NAMES[library] for library in libraries), "times as fast", "GFLOP/s", "share of peak"]
    peaks: dict[str, list[float]] = {}
    for result in results:
        if "peak" in result["median"]:
            peaks.setdefault(WORKLOADS[result["workload"]].dtype, []).append(result["median"]["peak"])
    measured = " and ".join(f"{statistics.median(values):.0f} GFLOP/s in {dtype}" for dtype, values in sorted(peaks.items()))
    names = dict.fromkeys(result["workload"] for result in results)
    versions = [f"{NAMES[library]} {version(PACKAGES.get(library, library))}" for library in libraries]
    if "fastmlp" in libraries:
        versions.append(f"Numba {version('numba')}")
    lines = [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(row(result, libraries) for result in results),
        "",
        TEXT + (f" A core reaches {measured}." if measured else ""),
        "",
        *remarks(results),
        "",
        *(f"- `{name}`: {WORKLOADS[name]}" for name in names),
        "",
        f"{machine()}; Python {platform.python_version()}, {', '.join(versions)}; made by `{command}`.",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, then write or print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", default="1", help="numbers, separated by commas")
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--peers", help="the other libraries; all that are installed unless given")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="for a library in a round")
    parser.add_argument("--write", action="store_true", help="into the README, between its two speed lines")
    parser.add_argument("--json", metavar="FILE", help="write all numbers there")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name in set(options.workloads.split(",")) - WORKLOADS.keys():
        parser.error(f"--workloads: there is no {name}")
    nets = [WORKLOADS[name] for name in options.workloads.split(",")]
    if options.child:
        child = (
            peak(nets[0], options.seconds / 4) if options.child == "peak" else measure(nets[0], options.child, options.seconds)
        )
        print(json.dumps(child))
        return 0

    peers = options.peers.split(",") if options.peers else [name for name in installed() if name != "fastmlp"]
    for name in set(peers) - (BUILDERS.keys() - {"fastmlp"}):
        parser.error(f"--peers: there is no {name}")
    libraries = [*peers, "fastmlp"]
    counts = [int(count) for count in options.threads.split(",")]
    if max(counts) > len(pinned.cores()):
        parser.error(f"--threads {options.threads}: there are {len(pinned.cores())} cores to run on")
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, found, after = rest.partition(END)
    if options.write and not found:
        parser.error(f"{README} has no lines {BEGIN.strip()} and {END}")

    results = []
    for net in nets:
        for threads in counts:
            results.append(rounds(net, threads, libraries, options))
            print(row(results[-1], libraries), file=sys.stderr, flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps({"machine": machine(), "results": results}, indent=1))
    given = {name: getattr(options, name) for name in ("threads", "workloads", "peers", "rounds", "seconds")}
    words = [f"--{name} {value}" for name, value in given.items() if value != parser.get_default(name)]
    command = shlex.join(" ".join(["python asv_bench/speed.py", *words, *["--write"] * options.write]).split())
    text = section(results, libraries, command)
    failed = any(result["failures"] for result in results)
    if options.write and not failed:
        README.write_text(before + BEGIN + text + END + after, encoding="utf-8")
    else:
        print(text, end="")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
