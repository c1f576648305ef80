from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastmlp.engine import cores
from fastmlp.engine.cores import quota, threads_from_environment, usable_cores

V2 = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid shared:9 master:1 - cgroup2 cgroup rw,nsdelegate"
V1 = "33 31 0:30 {root} /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct"
OTHERS = [  # without a say in time
    "23 1 254:0 / / rw,relatime - ext4 /dev/vda rw",
    "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
    "37 31 0:34 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset",
]
NAMED = ["9:name=systemd:/init.scope", "3:cpuset:/", "2:memory:/elsewhere"]


@pytest.fixture
def lay_out(tmp_path: Path) -> Callable[..., Path]:
    """Write a file system's files that tell of control groups; its root."""

    def lay(membership: list[str], mounts: list[str], limits: dict[str, str]) -> Path:
        files = {"proc/self/cgroup": "\n".join(membership) + "\n", "proc/self/mountinfo": "\n".join(mounts) + "\n", **limits}
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    return lay


def _v2(**limits: str) -> dict[str, str]:
    """A group's folder, with __ for /, to the content of its file."""
    return {f"sys/fs/cgroup/{name.replace('__', '/')}/cpu.max": text for name, text in limits.items()}


def _v1(folder: str, time: str, period: str = "100000\n") -> dict[str, str]:
    place = f"sys/fs/cgroup/cpu,cpuacct{folder}"
    return {f"{place}/cpu.cfs_quota_us": time, f"{place}/cpu.cfs_period_us": period}


CASES: dict[str, tuple[list[str], list[str], dict[str, str], float | None]] = {
    "no limit": (["0::/a/b"], [V2.format(root="/")], _v2(a__b="max 100000\n", a="max 100000\n"), None),
    "a group's own": (["0::/a/b"], [V2.format(root="/")], _v2(a__b="250000 100000\n", a="max 100000\n"), 2.5),
    "that of the group around it": (["0::/a/b"], [V2.format(root="/")], _v2(a__b="max 100000\n", a="30000 20000\n"), 1.5),
    "the least of several": (
        ["0::/a/b/c"],
        [V2.format(root="/")],
        _v2(a__b__c="400000 100000\n", a__b="50000 100000\n", a="300000 100000\n"),
        0.5,
    ),
    "not a sister's": (["0::/a/b"], [V2.format(root="/")], _v2(a__b="max 100000\n", a__c="100000 100000\n"), None),
    "a container with a name space": (["0::/"], [V2.format(root="/")], {"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2.0),
    "a container without one": (
        ["0::/docker/17/worker"],
        [V2.format(root="/docker/17")],
        {"sys/fs/cgroup/cpu.max": "200000 100000\n", "sys/fs/cgroup/worker/cpu.max": "150000 100000\n"},
        1.5,
    ),
    "a group out of sight": (
        ["0::/../other"],
        [V2.format(root="/")],
        {"sys/fs/cgroup/cpu.max": "300000 100000\n", "sys/fs/other/cpu.max": "100000 100000\n"},
        3.0,
    ),
    "a group that is not mounted": (
        ["0::/docker/17"],
        [V2.format(root="/")],
        {"sys/fs/cgroup/cpu.max": "200000 100000\n"},
        2.0,
    ),
    "version 1": (["4:cpu,cpuacct:/a"], [V1.format(root="/")], {**_v1("/a", "150000\n"), **_v1("", "-1\n")}, 1.5),
    "version 1, nested": (["4:cpuacct,cpu:/a/b"], [V1.format(root="/")], {**_v1("/a/b", "-1\n"), **_v1("/a", "150000\n")}, 1.5),
    "version 1 in a container": (["4:cpu,cpuacct:/docker/17"], [V1.format(root="/docker/17")], _v1("", "50000\n"), 0.5),
    "version 1, unlimited": (["4:cpu,cpuacct:/a"], [V1.format(root="/")], _v1("/a", "-1\n"), None),
    "both versions": (
        ["4:cpu,cpuacct:/a", "0::/s"],
        [V1.format(root="/"), V2.format(root="/")],
        {**_v1("/a", "300000\n"), **_v2(s="200000 100000\n")},
        2.0,
    ),
    "a mount point with a space": (
        ["0::/a"],
        [V2.format(root="/").replace("/sys/fs/cgroup", r"/my\040groups")],
        {"my groups/a/cpu.max": "100000 100000\n"},
        1.0,
    ),
    "nonsense": (
        ["0::/a", "4:cpu,cpuacct:/a"],
        [V2.format(root="/"), V1.format(root="/")],
        {**_v2(a="much\n"), **_v1("/a", "100000\n", "0\n")},
        None,
    ),
}


@pytest.mark.small
@pytest.mark.parametrize("name", CASES)
def test_quota(name: str, lay_out: Callable[..., Path]) -> None:
    membership, mounts, limits, expected = CASES[name]
    assert quota(lay_out(NAMED + membership, OTHERS + mounts, limits)) == expected


@pytest.mark.small
def test_no_control_groups(tmp_path: Path, lay_out: Callable[..., Path]) -> None:
    assert quota(tmp_path) is None
    assert quota(lay_out(["what is this"], [V2.format(root="/")], {})) is None
    assert quota(lay_out(["0::/"], ["what is this"], {})) is None


@pytest.mark.small
@pytest.mark.parametrize(("share", "expected"), [(None, 8), (0.2, 1), (1.0, 1), (1.9, 1), (2.5, 2), (99.0, 8)])
def test_fractions_round_down_to_at_least_one(share: float | None, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_quota", lambda: share)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 8, raising=False)
    assert usable_cores() == expected


@pytest.mark.small
def test_this_machine() -> None:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = quota(Path("/"))
    assert 1 <= usable_cores() <= allowed
    assert usable_cores() == allowed or (share is not None and usable_cores() <= max(share, 1))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is Linux's")
def test_affinity_counts(python: Callable[..., str]) -> None:
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]);"
        "from fastmlp.engine.cores import *; print(usable_cores())"
    )
    assert python(code) == "1\n"


# The limit is the outer group's; the child is put into the inner one when its parent has read its own.
GROUP = """
import os
from pathlib import Path
from fastmlp.engine.cores import usable_cores, quota
before = quota(Path("/"))
usable_cores()
child = os.fork()
if not child:
    try:
        Path({group!r}, "cgroup.procs").write_text(str(os.getpid()))
        assert quota(Path("/")) == 0.75, quota(Path("/"))
        assert usable_cores() == 1, usable_cores()
    except BaseException as error:
        print(repr(error), flush=True)
        os._exit(1)
    os._exit(0)
_, status = os.waitpid(child, 0)
print(status, quota(Path("/")) == before)
"""


@pytest.fixture
def real_group() -> Iterator[Path]:
    """A group in one that has three quarters of a core."""
    made = None
    try:
        for _, mount in cores._groups(Path("/")):
            outer = mount / f"fastmlp-{os.getpid()}"
            try:
                outer.mkdir()
                made = outer / "inner"
                made.mkdir()
                if (outer / "cpu.max").exists():
                    (outer / "cpu.max").write_text("75000 100000")
                else:
                    (outer / "cpu.cfs_quota_us").write_text("75000")
            except OSError:  # not ours to write, or without the controller of time
                _remove(outer)
                made = None
                continue
            break
        else:
            pytest.skip("no control group's folder that may be written to: the laid out trees must do")
        yield made
    finally:
        if made is not None:
            _remove(made.parent)


def _remove(outer: Path) -> None:
    for folder in (outer / "inner", outer):
        if folder.is_dir():
            folder.rmdir()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_in_another_group_has_that_groups_share(real_group: Path, python: Callable[..., str]) -> None:
    assert python(GROUP.format(group=str(real_group))) == "0 True\n"


NAMES = ("FASTMLP_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")


@pytest.mark.small
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((None, None, None), None),
        (("2", "3", "4"), 2),
        ((None, "3", "4"), 3),
        ((None, None, "4"), 4),
        ((None, "4,2", None), 4),
        ((None, " 4 , 2 ", None), 4),
        ((" 5\n", None, None), 5),
        (("007", None, None), 7),
        (("many", "0", "4"), 4),
        (("-2", "+", "4"), 4),
        (("", ",", "4"), 4),
        (("1.5", "2e3", "4"), 4),
        (("2 cores", "\u0663", "4"), 4),
        (("9" * 5000, "0,8", "4"), 4),
        (("0x4", "4;2", None), None),
    ],
)
def test_threads_from_environment(values: Any, expected: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(NAMES, values, strict=True):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert threads_from_environment() == expected
