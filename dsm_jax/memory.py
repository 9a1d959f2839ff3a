"""How much memory there is for arrays: of the devices, and of the host whose memory CPU devices share.

Left out on purpose: the host's memory on GPU and TPU, and other processes' devices.
"""

from __future__ import annotations

from jax.sharding import Mesh

from dsm_jax.host_limits import free_host_memory


def available_memory(mesh: Mesh) -> int | None:
    """Bytes that each of this process's devices may take; None where the backend does not say.

    Of GPU and TPU the smallest pool; on CPUs what the host and the process's cgroups leave free, which they share.
    """
    devices = mesh.local_devices
    if devices[0].platform == "cpu":
        return int(free_host_memory() // len(devices))
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
