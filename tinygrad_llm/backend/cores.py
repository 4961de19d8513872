"""How many cores this process may use.

Three things say less than the number of cores that the machine has:

    affinity    the cores on which the system runs the process (taskset, a batch system)
    quota       the time that a container gets: "150 ms in 100 ms" are 1.5 cores. Its threads run
                on any core, and all of them stop when the time is used up
    speed       an Apple processor has fast and slow cores; of equal pieces, those on slow cores
                would be waited for. (Read from Apple's documentation, and tried on no Mac.)

Source: the files of Linux's control groups, as the kernel's documentation describes them ("Control
Group v2", section "CPU"; "CFS Bandwidth Control", section "Management").
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PROCESS = Path("/proc/self")


def usable_cores() -> int:
    """The number of threads that can compute at the same time, at least 1.

    A part of a core counts as one: with a quota of 1.5, two threads get 1.5 cores between them
    and one gets 1.
    """
    cores = allowed_cores() if sys.platform != "darwin" else fast_cores() or allowed_cores()
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def allowed_cores() -> int:
    """The number of cores on which the system runs this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def fast_cores() -> int | None:
    """The number of a Mac's performance cores, of all where they are alike; None if unknown."""
    for name in ("hw.perflevel0.physicalcpu", "hw.physicalcpu"):
        try:
            return int(subprocess.check_output(["sysctl", "-n", name], stderr=subprocess.DEVNULL))
        except (OSError, ValueError, subprocess.CalledProcessError):
            continue
    return None


def cpu_quota(process: Path = PROCESS) -> float | None:
    """The processor time per time that the process's control groups leave it, in cores.

    Limits stand in the group of the process and in any above it, and the smallest counts.

    Args:
        process: the folder of the process in /proc.

    Returns:
        such as 1.5; None where no limit is set or known.
    """
    try:
        groups, mounts = (
            (process / name).read_text(encoding="utf-8", errors="replace").splitlines()
            for name in ("cgroup", "mountinfo")
        )
        limits = [_limit(folder) for folder in _group_folders(groups, mounts)]
    except (OSError, ValueError):  # no Linux, or a sandbox whose files look otherwise
        return None
    return min((limit for limit in limits if limit is not None), default=None)


def _group_folders(groups: list[str], mounts: list[str]) -> Iterator[Path]:
    """The folders of the process's groups that can limit its time, and of those above them.

    A container may see its own group as the root of the tree, so a group's path counts from the
    group that is mounted.

    Args:
        groups: lines ``number:controllers:path``; in version 2 the controllers are empty.
        mounts: lines ``... root folder ... - kind device options``.
    """
    paths: dict[str, PurePosixPath] = {}
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if not controllers or "cpu" in controllers.split(","):
            paths["cgroup" if controllers else "cgroup2"] = PurePosixPath(path)
    for line in mounts:
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind not in paths or (kind == "cgroup" and "cpu" not in options.split(",")):
            continue
        group, (root, folder) = paths[kind], before.split(" ")[3:5]
        inside = group.relative_to(root) if group.is_relative_to(root) else PurePosixPath()
        yield from (Path(folder) / part for part in (inside, *inside.parents))


def _limit(folder: Path) -> float | None:
    """The limit of one group, in cores: from its file of version 2, or the two of version 1."""
    try:
        if (folder / "cpu.max").exists():
            time, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            time = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8")
            period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8")
        return int(time) / int(period) if int(time) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # "max": no limit
        return None
