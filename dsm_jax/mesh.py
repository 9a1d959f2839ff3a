"""The device mesh: what `--mesh` means, its axes, and which tensor axis lies on which mesh axis.

Axes: `data` (replicas), `fsdp` (parameters sharded, batch too), `tensor` (heads, feed-forward and vocabulary
sharded). All are explicit: a wrong layout is an error when the program is traced, on fake CPU devices too.
Several slices (TPU pods joined by a slower network) lie along `data`, or along `fsdp` where data does not divide.
Left out on purpose: pipeline and expert parallelism.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dsm_jax.errors import UserError
from dsm_jax.processes import join_processes

AXES = ("data", "fsdp", "tensor")
BATCH = ("data", "fsdp")  # mesh axes over which rows of a batch are spread
EXPLICIT = (AxisType.Explicit,) * len(AXES)

# Names that --mesh takes for the meshes that the 7B trains on; a test lays it out on each of them.
PRESETS = {
    "gpu-8": "fsdp=8",
    "gpu-8-long": "fsdp=4,tensor=2",
    "gpu-64": "data=8,fsdp=8",
    "v5e-16": "fsdp=8,tensor=2",
    "v5p-16": "fsdp=8",
    "v5p-128": "fsdp=64",
    "v5p-512": "data=4,fsdp=64",
    "v6e-256": "data=4,fsdp=32,tensor=2",
}


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


def parse_mesh(items: str | Sequence[str] = (), devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh that `--mesh fsdp=8 tensor=4` (or `fsdp=8,tensor=4`) names, over all devices of all processes.

    Nothing named: every device on fsdp. One of PRESETS may be named instead. One axis may be -1: it takes the devices
    that are left.
    Raises UserError for an unknown axis, a size that is no number, or sizes that do not use every device.
    """
    if devices is None:
        join_processes()
        devices = jax.devices()
    shape = tuple(mesh_sizes(items, len(devices)).values())
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices > 1:
        return Mesh(_hybrid(shape, slices, devices), AXES, EXPLICIT)
    return jax.make_mesh(shape, AXES, axis_types=EXPLICIT, devices=devices)


def abstract_mesh(items: str | Sequence[str]) -> AbstractMesh:
    """The mesh that these items name, without devices: for layouts on machines that are not here."""
    sizes = mesh_sizes(items, None)
    return AbstractMesh(tuple(sizes.values()), AXES, axis_types=EXPLICIT)


def mesh_sizes(items: str | Sequence[str], devices: int | None) -> dict[str, int]:
    """Size of each axis. devices: how many the mesh must use; None takes any number, and no axis may be -1."""
    items = (items,) if isinstance(items, str) else items
    named = [PRESETS.get(part, part) for item in items for part in item.split(",")]
    parts = [part for item in named for part in item.split(",") if part]
    sizes = _parse_sizes(parts) or {"fsdp": -1}
    asked = ",".join(items) or "fsdp=-1"
    fixed = prod(size for size in sizes.values() if size != -1)
    free = [axis for axis, size in sizes.items() if size == -1]
    if len(free) > 1:
        raise UserError(f"--mesh: only one axis may be -1, not {' and '.join(free)}")
    if free and devices is None:
        raise UserError(f"--mesh {asked}: give the size of {free[0]}, there are no devices to take it from")
    if free and devices is not None and devices % fixed == 0:
        sizes[free[0]] = devices // fixed
    sizes = {axis: sizes.get(axis, 1) for axis in AXES}
    if devices is not None and prod(sizes.values()) != devices:
        raise UserError(
            f"--mesh {asked}: does not fit the {devices} devices here; "
            "give sizes whose product is that number, or one axis as -1"
        )
    return sizes


def _hybrid(shape: tuple[int, ...], slices: int, devices: Sequence[jax.Device]) -> np.ndarray:
    """Devices in mesh order, neighbours along every axis within a slice where that is possible."""
    for axis, size in enumerate(shape[:2]):
        if size % slices == 0:
            across = tuple(slices if i == axis else 1 for i in range(len(shape)))
            inside = tuple(size // part for size, part in zip(shape, across, strict=True))
            return mesh_utils.create_hybrid_device_mesh(inside, across, devices)
    asked = ",".join(f"{axis}={size}" for axis, size in zip(AXES, shape, strict=True))
    raise UserError(
        f"--mesh {asked}: neither data nor fsdp is a multiple of the {slices} slices; make data one"
    )


def single_device_mesh() -> Mesh:
    """A mesh of the first device alone."""
    return parse_mesh(("fsdp=1",), jax.local_devices()[:1])


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of arrays whose first axis is the batch: rows over data and fsdp."""
    return NamedSharding(mesh, P(BATCH))


def own_rows(mesh: Mesh, rows: int) -> np.ndarray:
    """Which rows of a batch this process's devices hold, in order."""
    places = batch_sharding(mesh).addressable_devices_indices_map((rows,)).values()
    return np.unique(np.concatenate([np.arange(rows)[place] for place in places]))


def replicated(mesh: Mesh | AbstractMesh) -> NamedSharding:
    return NamedSharding(mesh, P())


def batch_shards(mesh: Mesh | AbstractMesh) -> int:
    """Into how many parts a batch is split."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def _parse_sizes(parts: Sequence[str]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for part in parts:
        axis, _, size = part.partition("=")
        if axis not in AXES:
            raise UserError(
                f"--mesh {part}: no axis {axis!r}; the axes are {', '.join(AXES)}; or name one of {', '.join(PRESETS)}"
            )
        if axis in sizes:
            raise UserError(f"--mesh {part}: axis {axis} is given twice")
        if not (size == "-1" or (size.isdecimal() and int(size) > 0)):
            raise UserError(f"--mesh {part}: the size must be a number of devices, or -1 for those left")
        sizes[axis] = int(size)
    return sizes
