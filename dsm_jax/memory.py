"""How much memory there is for arrays: of the devices, and of the host whose memory CPU devices share.

Left out on purpose: the host's memory on GPU and TPU, and other processes' devices.
"""

from __future__ import annotations

import math
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from jax.sharding import Mesh

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
# controllers in OWN_CGROUPS -> folder in CGROUPS; files of the limit and of the usage; reclaimable cache in memory.stat
CGROUP_FILES = {
    "": (".", "memory.max", "memory.current", "inactive_file"),  # v2
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),  # v1
}


def available_memory(mesh: Mesh) -> int | None:
    """Bytes that each of this process's devices may take; None where the backend does not say.

    Of GPU and TPU the smallest pool; on CPUs what the host and the process's cgroups leave free, which they share.
    """
    devices = mesh.local_devices
    if devices[0].platform == "cpu":
        return int(min(psutil.virtual_memory().available, cgroup_memory()) // len(devices))
    return min((device.memory_stats() or {}).get("bytes_limit", 0) for device in devices) or None


def free_memory(mesh: Mesh) -> int | None:
    """Bytes that each of this process's devices still has room for; None where the backend does not say."""
    devices = mesh.local_devices
    if devices[0].platform == "cpu":
        return available_memory(mesh)  # of the host: what arrays take is gone already
    stats = [device.memory_stats() or {} for device in devices]
    if not all("bytes_limit" in one for one in stats):
        return None
    return min(one["bytes_limit"] - one.get("bytes_in_use", 0) for one in stats)


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
