"""LoRA (arXiv 2106.09685): training only low-rank updates of a layer's matrices, beside parameters that stay.

A ModelConfig with lora.rank > 0 has the updates among its layers' parameters. Training holds them apart: `trained`
is what an optimiser and a checkpoint see, `whole` puts it back over the base, whose parameters are the reference
policy of RL as they are. `merge` makes a plain model again. Without LoRA everything is trained, and these functions
do nothing.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from dsm_jax.model.config import PROJECTIONS, LoRA, ModelConfig
from dsm_jax.model.decoder import Params
from dsm_jax.model.params import init_params, param_shardings


def plain(config: ModelConfig) -> ModelConfig:
    """The same model without LoRA: the base."""
    return replace(config, lora=LoRA())


def trained(config: ModelConfig, tree: Params) -> Params:
    """Of a tree over all parameters (arrays, shapes, shardings) the part that trains."""
    if not config.lora.rank:
        return tree
    return {"layers": {name: leaf for name, leaf in tree["layers"].items() if "_lora_" in name}}


def whole(config: ModelConfig, base: Params | None, part: Params) -> Params:
    """All parameters: the trained part over the base."""
    if not config.lora.rank:
        return part
    assert base is not None
    return base | {"layers": base["layers"] | part["layers"]}


def start(config: ModelConfig, base: Params, seed: int, mesh: Mesh) -> Params:
    """What training starts from: the base itself, or new LoRA matrices, whose product is zero."""
    if not config.lora.rank:
        return base
    shardings = trained(config, param_shardings(config, mesh))
    return jax.jit(lambda: trained(config, init_params(config, seed, mesh)), out_shardings=shardings)()


def merged(config: ModelConfig, base: Params | None, part: Params, mesh: Mesh) -> Params:
    """The plain parameters that training ended with."""
    if not config.lora.rank:
        return part
    with jax.set_mesh(mesh):
        return _merge(config, whole(config, base, part))


def merge(config: ModelConfig, params: Params) -> Params:
    """Plain parameters with W + alpha / rank * A B in W's place, computed in fp32. For use inside jit."""
    if not config.lora.rank:
        return params
    layers = {name: leaf for name, leaf in params["layers"].items() if "_lora_" not in name}
    for name in config.lora.targets:
        a, b = (params["layers"][f"{name}_lora_{part}"] for part in "ab")
        layers[name] = _add(config.lora, name, layers[name], a, b)
    return params | {"layers": layers}


_merge = jax.jit(merge, static_argnums=0)


def _add(lora: LoRA, name: str, weight: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    """Stacked over layers."""
    inputs, outputs = PROJECTIONS[name]
    spec = jax.typeof(weight).sharding.spec
    update = jnp.einsum(
        f"l{inputs}r,lr{outputs}->l{inputs}{outputs}",
        a.astype(jnp.float32),
        b.astype(jnp.float32),
        out_sharding=spec,
    )
    return (weight.astype(jnp.float32) + lora.alpha / lora.rank * update).astype(weight.dtype)
