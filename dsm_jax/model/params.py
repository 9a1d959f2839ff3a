"""The parameters as a tree: shapes, the place of each on a mesh, initial numbers made there.

Nothing here makes an array but init_params; meshes without devices do for the rest.
"""

from __future__ import annotations

import jax
from flax import nnx
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dsm_jax.errors import UserError
from dsm_jax.mesh import AXES, Rules
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.decoder import Decoder, Params, abstract


def param_specs(config: ModelConfig, *, rules: Rules | None = None, stacked: bool = True) -> Params:
    """PartitionSpec of every parameter; a stacked layer axis is never split."""
    rules = rules or Rules()

    def spec(variable: nnx.Param) -> P:
        in_stack = variable.get_value().ndim > len(variable.axes)
        return rules.spec((None, *variable.axes) if in_stack else variable.axes)

    leaves = nnx.to_flat_state(abstract(config, stacked)[1])
    return nnx.traversals.unflatten_mapping({path: spec(variable) for path, variable in leaves})


def param_shapes(config: ModelConfig) -> Params:
    """jax.ShapeDtypeStruct of every parameter, stacked, fp32."""
    return nnx.to_pure_dict(abstract(config, True)[1])


def param_shardings(config: ModelConfig, mesh: Mesh | AbstractMesh) -> Params:
    """NamedSharding of every parameter for training."""
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), param_specs(config))


def abstract_params(config: ModelConfig, mesh: Mesh | AbstractMesh) -> Params:
    """jax.ShapeDtypeStruct of every parameter, fp32, with its sharding: the target of a restore."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        param_shapes(config),
        param_shardings(config, mesh),
    )


def decode_shardings(config: ModelConfig, mesh: Mesh) -> Params:
    """NamedSharding of the unstacked parameters for decoding: whole along fsdp, so that no step gathers them."""
    specs = param_specs(config, rules=Rules(embed=None), stacked=False)
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)


def check_mesh(config: ModelConfig, mesh: Mesh | AbstractMesh) -> None:
    """UserError where the mesh does not divide the model's axes, or has other axes than ours."""
    if mesh.axis_names != AXES:
        raise UserError(
            f"a mesh of the axes {', '.join(mesh.axis_names)}: make it with dsm_jax.mesh.parse_mesh"
        )
    for name, axis in (
        ("d_model", "fsdp"),
        ("n_kv_heads", "tensor"),
        ("d_ff", "tensor"),
        ("vocab_size", "tensor"),
    ):
        size, parts = getattr(config, name), mesh.shape[axis]
        if size % parts:
            raise UserError(
                f"--mesh {axis}={parts} does not divide the model's {name} {size}; give another {axis}"
            )


def init_params(config: ModelConfig, seed: int, mesh: Mesh) -> Params:
    """Random parameters, made in place on the mesh; the same numbers on every mesh."""

    def init(key: jax.Array) -> Params:
        return nnx.to_pure_dict(nnx.state(Decoder(nnx.Rngs(key), config)))

    return jax.jit(init, out_shardings=param_shardings(config, mesh))(jax.random.key(seed))
