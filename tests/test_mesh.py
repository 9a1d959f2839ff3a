"""--mesh: axes, sizes, and one clear line for what does not fit."""

import jax
import pytest
from jax.sharding import PartitionSpec as P

from dsm_jax.errors import UserError
from dsm_jax.mesh import AXES, Rules, batch_shards, parse_mesh


@pytest.mark.parametrize(
    ("items", "shape"),
    [
        ((), (1, 8, 1)),
        (("fsdp=8",), (1, 8, 1)),
        (("data=2,fsdp=2,tensor=2",), (2, 2, 2)),
        (("tensor=4", "data=-1"), (2, 1, 4)),
        (("fsdp=-1,tensor=2",), (1, 4, 2)),
    ],
)
def test_named_axes(items: tuple[str, ...], shape: tuple[int, ...]) -> None:
    mesh = parse_mesh(items)
    assert tuple(mesh.shape[axis] for axis in AXES) == shape
    assert mesh.size == len(jax.devices()) == 8
    assert batch_shards(mesh) == shape[0] * shape[1]


@pytest.mark.parametrize(
    ("items", "said"),
    [
        (("fsdp=3",), "does not divide the 8 devices"),
        (("fsdp=3,tensor=-1",), "does not divide the 8 devices"),
        (("fsdp=16",), "does not divide the 8 devices"),
        (("model=2",), "no axis 'model'; the axes are data, fsdp, tensor"),
        (("fsdp",), "must be a number"),
        (("fsdp=0",), "must be a number"),
        (("fsdp=two",), "must be a number"),
        (("fsdp=2,fsdp=4",), "given twice"),
        (("fsdp=-1,data=-1",), "only one axis may be -1"),
    ],
)
def test_what_does_not_fit_is_one_line(items: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        parse_mesh(items)
    assert "--mesh" in str(error.value) and "\n" not in str(error.value)


def test_rules_name_mesh_axes() -> None:
    assert Rules().spec(("embed", "kv_heads", None)) == P("fsdp", "tensor", None)
    assert Rules(embed=None).spec(("vocab", "embed")) == P("tensor", None)
