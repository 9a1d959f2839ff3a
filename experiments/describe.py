"""What a model is made of, and how it lies on a mesh: every parameter's shape and split, bytes on each device.

    python experiments/describe.py --preset deepseek_math_7b --mesh fsdp=8
    python experiments/describe.py --init path/to/model --mesh data=2,fsdp=4,tensor=2

No device is needed: the mesh is only named. Nothing is downloaded but a hub model's config.json.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from math import prod

import jax
from jax.sharding import AbstractMesh, NamedSharding
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dsm_jax.cli import run_script
from dsm_jax.errors import UserError
from dsm_jax.mesh import abstract_mesh
from dsm_jax.model import ModelConfig, param_count
from dsm_jax.model.config import PRESETS as MODELS
from dsm_jax.model.hf_folder import find_config
from dsm_jax.model.params import check_mesh, param_shapes, param_shardings

GB = 1e9
FILE_WIDTH = 120  # columns where the output is no terminal


@dataclass(frozen=True)
class Describe:
    """Options of the description."""

    preset: str
    model: ModelConfig
    mesh: tuple[str, ...] = (
        "fsdp=1",
    )  # sizes of axes, such as fsdp=8,tensor=2, or a name (gpu-8, v5p-128; README)
    init: str = ""  # a folder or a hub id whose config.json is described instead of the preset


@dataclass(frozen=True)
class Part:
    """One parameter on a mesh."""

    name: str
    shape: tuple[int, ...]
    split: str  # mesh axis of each of its axes, - where it is whole
    count: int
    on_each_device: int  # numbers of it


def main(config: Describe) -> None:
    if config.init and config.model != MODELS[config.preset]:
        raise UserError("--init and --model: a folder's model is described as it is; leave one of them out")
    model = find_config(config.init) if config.init else config.model
    mesh = abstract_mesh(config.mesh)
    check_mesh(model, mesh)
    found = parts(model, mesh)
    console = Console() if sys.stdout.isatty() else Console(width=FILE_WIDTH)
    itemsize = jax.numpy.dtype(model.dtype).itemsize
    console.print(_table(found, itemsize))
    shape = ", ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    devices = f"{mesh.size} device" + "s" * (mesh.size > 1)
    console.print(
        f"{_in_units(param_count(model))} parameters on {devices} ({shape}); on each:", highlight=False
    )
    held = sum(part.on_each_device for part in found)
    trains = sum(part.on_each_device for part in found if not model.lora.rank or "_lora_" in part.name)
    whole = sum(part.count for part in found if "_lora_" not in part.name) / mesh.shape["tensor"]
    sizes = {
        f"parameters in {model.dtype}": held * itemsize,
        "training: fp32 parameters; two moments, gradients of what trains": 4 * (held + 3 * trains),
        f"decoding: {model.dtype}, whole along fsdp": whole * itemsize,
        "keys and values of 1,000 tokens of one row": 1000 * _cache_bytes(model, mesh),
    }
    for name, size in sizes.items():
        console.print(f"{size / GB:9.3f} GB  {name}", highlight=False)


def parts(model: ModelConfig, mesh: AbstractMesh) -> list[Part]:
    """Every parameter, stacked over layers."""
    leaves = jax.tree.leaves_with_path(param_shapes(model))
    shardings: list[NamedSharding] = jax.tree.leaves(param_shardings(model, mesh))
    return [
        Part(
            jax.tree_util.keystr(path, simple=True, separator="."),
            leaf.shape,
            ", ".join(str(axis or "-") for axis in sharding.spec),
            leaf.size,
            prod(sharding.shard_shape(leaf.shape)),
        )
        for (path, leaf), sharding in zip(leaves, shardings, strict=True)
    ]


def _in_units(count: int) -> str:
    """6,910,365,696 is 6.91B."""
    size, unit = next((pair for pair in ((1e9, "B"), (1e6, "M")) if count >= pair[0]), (1e3, "K"))
    return f"{count / size:.3g}{unit}"


def _cache_bytes(model: ModelConfig, mesh: AbstractMesh) -> float:
    """Of one token of one row: rows are spread over data and fsdp, heads over tensor."""
    numbers = 2 * model.n_layers * model.n_kv_heads * model.head_dim
    return numbers * jax.numpy.dtype(model.dtype).itemsize / mesh.shape["tensor"]


def _table(found: list[Part], itemsize: int) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for header in ("parameter", "shape", "split over"):
        table.add_column(header)
    for header in ("numbers", "bytes on each device"):
        table.add_column(header, justify="right")
    for part in found:
        shape = " x ".join(map(str, part.shape))
        table.add_row(part.name, shape, part.split, f"{part.count:,}", f"{part.on_each_device * itemsize:,}")
    return table


PRESETS = {name: Describe(name, model) for name, model in MODELS.items()}

if __name__ == "__main__":
    run_script(main, {"deepseek_math_7b": PRESETS["deepseek_math_7b"]} | PRESETS)
