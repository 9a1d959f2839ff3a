"""How much memory the host leaves this process: what is free, and what its cgroups allow.

Does not import jax. Left out on purpose: swap.
"""

from __future__ import annotations

import math
from pathlib import Path

import psutil  # type: ignore[import-untyped]

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
# controllers in OWN_CGROUPS -> folder in CGROUPS; files of the limit and of the usage; reclaimable cache in memory.stat
CGROUP_FILES = {
    "": (".", "memory.max", "memory.current", "inactive_file"),  # v2
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),  # v1
}


def free_host_memory() -> float:
    """Bytes that this process may still take."""
    return min(psutil.virtual_memory().available, cgroup_memory())


def cgroup_memory(cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> float:
    """Bytes that the process's cgroups and those above them leave it; infinite where none sets a limit.

    File cache that the kernel takes back under pressure does not count as used.
    """
    free = math.inf
    for line in own.read_text().splitlines() if own.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if controllers not in CGROUP_FILES:
            continue
        place, limit, usage, cache = CGROUP_FILES[controllers]
        inner = Path(path.lstrip("/"))
        for folder in (cgroups / place / part for part in (inner, *inner.parents)):
            if (folder / limit).is_file() and (folder / usage).is_file():
                most = (folder / limit).read_text().strip()
                stat = folder / "memory.stat"
                counts = dict(map(str.split, stat.read_text().splitlines())) if stat.is_file() else {}
                used = int((folder / usage).read_text()) - int(counts.get(cache, 0))
                free = min(free, math.inf if most == "max" else max(0, int(most) - used))
    return free
