"""How many threads there is room for: the cores that this process may use, and the number that its environment asks for."""

import os
import re
from functools import lru_cache
from pathlib import Path, PurePosixPath

# OpenMP's variable may be a list, of one number for each level of nesting: the first is the outermost's.
_NUMBER = re.compile(r"\s*0*([1-9][0-9]{0,8})\s*(?:,|$)", re.ASCII)


def threads_from_environment() -> int | None:
    """The first of FASTMLP_NUM_THREADS, OMP_NUM_THREADS and NUMBA_NUM_THREADS that is a positive number, if any is."""
    for name in ("FASTMLP_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        number = _NUMBER.match(os.environ.get(name, ""))
        if number:
            return int(number[1])
    return None


def usable_cores() -> int:
    """The cores that this process may run on, and no more than its share of the machine's time."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13's, which PYTHON_CPU_COUNT sets
        cores = os.process_cpu_count() or 1
    elif hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    share = _quota()
    if share is None:
        return cores
    # Rounded down: a thread more than the quota has cores makes the scheduler stop them all until its next period begins,
    # and those that still run spend the quota on waiting for one that is stopped.
    return max(min(cores, int(share)), 1)


@lru_cache(maxsize=1)
def _quota() -> float | None:
    """The `quota` of the process itself: some files to read, so not at every call."""
    return quota(Path("/"))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_quota.cache_clear)  # whoever forks may put the child in another group


def quota(root: Path) -> float | None:
    """The cores' worth of time that control groups leave to this process; None where they set no limit.

    Each group is also held to the limits of those that it lies in, up to the highest that can be seen: a container sees none
    above its own.

    Parameters
    ----------
    root : Path
        The folder of the file system's root.

    Returns
    -------
    float or None
        The least of all limits, of both versions of control groups.
    """
    try:
        groups = _groups(root)
    except (OSError, ValueError):  # no such files, or of a form that is not known
        return None
    shares = []
    for group, mount in groups:
        while True:
            shares += [_share(group, "cpu.max"), _share(group, "cpu.cfs_quota_us", "cpu.cfs_period_us")]
            if group == mount:
                break
            group = group.parent
    return min(filter(None, shares), default=None)


def _groups(root: Path) -> list[tuple[Path, Path]]:
    """The folders of this process's groups that can limit its time, each with the folder where its tree is mounted."""
    memberships = (root / "proc/self/cgroup").read_text().splitlines()
    mounts = (root / "proc/self/mountinfo").read_text().splitlines()
    paths = {}  # of the group: by the controller, and by "" that of version 2, which has one tree for all controllers
    for line in memberships:
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path))
    found = []
    for line in mounts:
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        controller = {"cgroup2": "", "cgroup": "cpu"}.get(kind)
        if controller not in paths or (controller and controller not in options.split(",")):
            continue
        top, place = (re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), word) for word in left.split(" ")[3:5])
        mount = root / place.lstrip("/")
        try:  # what is mounted may be the group itself, or one that it lies in
            inside = PurePosixPath(paths[controller]).relative_to(top)
        except ValueError:  # a group out of this name space's sight
            inside = PurePosixPath()
        found.append((mount if ".." in inside.parts else mount / inside, mount))
    return found


def _share(group: Path, *names: str) -> float | None:
    """A group's own limit, from the files that hold its time and the period that the time is for."""
    try:
        time, period = " ".join((group / name).read_text() for name in names).split()
        return int(time) / int(period) if int(time) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # the highest group has no file; without a limit the time is "max" or -1
        return None
