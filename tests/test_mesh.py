"""--mesh: axes, sizes, slices, and one clear line for what does not fit."""

from dataclasses import dataclass

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from dsm_jax import mesh as mesh_module
from dsm_jax.errors import UserError
from dsm_jax.mesh import (
    AXES,
    PRESETS,
    Rules,
    abstract_mesh,
    batch_shards,
    mesh_sizes,
    parse_mesh,
)
from dsm_jax.model.config import SMOKE
from dsm_jax.model.params import check_mesh


@pytest.mark.parametrize(
    ("items", "shape"),
    [
        ((), (1, 8, 1)),
        (("fsdp=8",), (1, 8, 1)),
        (("data=2,fsdp=2,tensor=2",), (2, 2, 2)),
        (("tensor=4", "data=-1"), (2, 1, 4)),
        (("fsdp=-1,tensor=2",), (1, 4, 2)),
        ("fsdp=4,tensor=2", (1, 4, 2)),
        (("gpu-8,data=1",), (1, 8, 1)),
    ],
)
def test_named_axes(items: str | tuple[str, ...], shape: tuple[int, ...]) -> None:
    mesh = parse_mesh(items)
    assert tuple(mesh.shape[axis] for axis in AXES) == shape
    assert mesh.size == len(jax.devices()) == 8
    assert batch_shards(mesh) == shape[0] * shape[1]


@pytest.mark.parametrize(
    ("items", "said"),
    [
        (("fsdp=3",), "does not fit the 8 devices"),
        (("fsdp=3,tensor=-1",), "does not fit the 8 devices"),
        (("fsdp=16",), "does not fit the 8 devices"),
        ("gpu-64", "--mesh gpu-64: does not fit the 8 devices"),
        (("model=2",), "no axis 'model'; the axes are data, fsdp, tensor"),
        (("fsdp",), "must be a number"),
        (("fsdp=0",), "must be a number"),
        (("fsdp=two",), "must be a number"),
        (("fsdp=2,fsdp=4",), "given twice"),
        (("fsdp=-1,data=-1",), "only one axis may be -1"),
    ],
)
def test_what_does_not_fit_is_one_line(items: str | tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        parse_mesh(items)
    assert "--mesh" in str(error.value) and "\n" not in str(error.value)


def test_rules_name_mesh_axes() -> None:
    assert Rules().spec(("embed", "kv_heads", None)) == P("fsdp", "tensor", None)
    assert Rules(embed=None).spec(("vocab", "embed")) == P("tensor", None)


@dataclass(frozen=True)
class FakeDevice:
    """What a mesh of several slices looks at."""

    id: int
    slice_index: int
    process_index: int = 0
    platform: str = "cpu"
    device_kind: str = "cpu"


@pytest.mark.parametrize(
    ("mesh", "axis"),
    [("data=2,fsdp=4", 0), ("data=4,fsdp=2", 0), ("fsdp=4,tensor=2", 1), ("data=2,fsdp=2,tensor=2", 0)],
)
def test_slices_lie_along_data_or_fsdp(mesh: str, axis: int) -> None:
    """Of two slices of four devices: going along any other axis never leaves the slice."""
    devices = [FakeDevice(i, i // 4) for i in range(8)]
    shape = tuple(mesh_sizes((mesh,), 8).values())
    found = np.vectorize(lambda device: device.slice_index)(mesh_module._hybrid(shape, 2, devices))
    assert found.shape == shape
    halves = np.split(found, 2, axis=axis)
    assert [np.unique(half).tolist() for half in halves] == [[0], [1]]


def test_slices_that_fit_nowhere() -> None:
    devices = [FakeDevice(i, i // 4) for i in range(8)]
    with pytest.raises(UserError, match="--mesh data=1,fsdp=1,tensor=8: neither data nor fsdp .* 2 slices"):
        mesh_module._hybrid((1, 1, 8), 2, devices)


@pytest.mark.parametrize("name", PRESETS)
def test_named_meshes_need_no_devices(name: str) -> None:
    mesh = abstract_mesh((name,))
    assert mesh.size == np.prod([int(part.split("=")[1]) for part in PRESETS[name].split(",")])
    assert mesh == abstract_mesh((PRESETS[name],))


def test_a_mesh_without_devices_has_nothing_to_fill() -> None:
    with pytest.raises(UserError, match="give the size of data"):
        abstract_mesh(("data=-1,fsdp=2",))


def test_a_mesh_of_other_axes() -> None:
    with pytest.raises(UserError, match=r"a mesh of the axes x: make it with dsm_jax.mesh.parse_mesh"):
        check_mesh(SMOKE, jax.make_mesh((8,), ("x",)))
