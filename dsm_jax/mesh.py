"""The device mesh: what `--mesh` means, its axes, and which tensor axis lies on which mesh axis.

Axes: `data` (replicas), `fsdp` (parameters sharded, batch too), `tensor` (heads, feed-forward and vocabulary
sharded). All are explicit: a wrong layout is an error when the program is traced, on fake CPU devices too.
Left out on purpose: pipeline and expert parallelism, several slices, several processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dsm_jax.errors import UserError

AXES = ("data", "fsdp", "tensor")
BATCH = ("data", "fsdp")  # mesh axes over which rows of a batch are spread


@dataclass(frozen=True)
class Rules:
    """Logical axis of a parameter -> mesh axis, or None. An axis of a parameter without a name is not sharded."""

    embed: str | None = "fsdp"
    kv_heads: str | None = "tensor"
    ffn: str | None = "tensor"
    vocab: str | None = "tensor"

    def spec(self, axes: Sequence[str | None]) -> P:
        """PartitionSpec of a parameter with these logical axes."""
        return P(*(getattr(self, axis) if axis else None for axis in axes))


def parse_mesh(items: Sequence[str] = (), devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh that `--mesh fsdp=8 tensor=4` (or `fsdp=8,tensor=4`) names.

    Nothing named: every device on fsdp. One axis may be -1: it takes the devices that are left.
    Raises UserError for an unknown axis, a size that is no number, or sizes that do not use every device.
    """
    if jax.process_count() > 1:
        raise UserError(f"{jax.process_count()} processes: only one is supported; start one for all devices")
    devices = list(devices if devices is not None else jax.devices())
    sizes = _parse_sizes([part for item in items for part in item.split(",") if part])
    if not sizes:
        sizes = {"fsdp": -1}
    fixed = prod(size for size in sizes.values() if size != -1)
    free = [axis for axis, size in sizes.items() if size == -1]
    if len(free) > 1:
        raise UserError(f"--mesh: only one axis may be -1, not {' and '.join(free)}")
    if free and len(devices) % fixed == 0:
        sizes[free[0]] = len(devices) // fixed
    shape = tuple(sizes.get(axis, 1) for axis in AXES)
    if prod(shape) != len(devices):
        asked = ",".join(f"{axis}={size}" for axis, size in sizes.items())
        raise UserError(
            f"--mesh {asked}: does not divide the {len(devices)} devices here; "
            "give sizes whose product is that number, or one axis as -1"
        )
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Explicit,) * len(AXES), devices=devices)


def single_device_mesh() -> Mesh:
    """A mesh of the first device alone."""
    return parse_mesh(("fsdp=1",), jax.devices()[:1])


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of arrays whose first axis is the batch: rows over data and fsdp."""
    return NamedSharding(mesh, P(BATCH))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, P())


def batch_shards(mesh: Mesh) -> int:
    """Into how many parts a batch is split."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def _parse_sizes(parts: Sequence[str]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for part in parts:
        axis, _, size = part.partition("=")
        if axis not in AXES:
            raise UserError(f"--mesh {part}: no axis {axis!r}; the axes are {', '.join(AXES)}")
        if axis in sizes:
            raise UserError(f"--mesh {part}: axis {axis} is given twice")
        if not (size == "-1" or (size.isdecimal() and int(size) > 0)):
            raise UserError(f"--mesh {part}: the size must be a number of devices, or -1 for those left")
        sizes[axis] = int(size)
    return sizes
