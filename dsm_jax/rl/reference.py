"""The reference policy: what training started from, in the dtype that it computes in, or a slow follower of the policy.

Under LoRA it is the base in fp32, without a copy: what is trained is merged into it at the end.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from dsm_jax.model import lora
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.decoder import Params
from dsm_jax.model.params import abstract_params, param_shardings


def make_reference(model: ModelConfig, params: Params, mesh: Mesh) -> Params:
    """Of the parameters [fp32] that a run starts from."""
    if model.lora.rank:
        return params
    return jax.jit(partial(_in_compute_dtype, model), out_shardings=param_shardings(model, mesh))(params)


def reference_target(model: ModelConfig, mesh: Mesh) -> Params:
    """Shapes, dtypes and shardings of the reference, for a restore."""
    whole = abstract_params(lora.plain(model), mesh)
    if model.lora.rank:
        return whole
    cast = jax.eval_shape(partial(_in_compute_dtype, model), whole)
    return jax.tree.map(lambda leaf, like: leaf.update(dtype=like.dtype), whole, cast)


@partial(jax.jit, static_argnums=2)
def mixed(reference: Params, policy: Params, alpha: float) -> Params:
    """alpha of the policy, the rest of the reference (TRL's ref_model_mixup_alpha)."""

    def mix(ref: jax.Array, now: jax.Array) -> jax.Array:
        return ((1 - alpha) * ref.astype(jnp.float32) + alpha * now).astype(ref.dtype)

    return jax.tree.map(mix, reference, policy)


def _in_compute_dtype(model: ModelConfig, params: Params) -> Params:
    """Matrices; norms and biases, which are vectors, stay fp32."""

    def cast(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        axes = leaf.ndim - (path[0].key == "layers")  # these are stacked
        return leaf.astype(model.dtype) if axes > 1 else leaf

    return jax.tree_util.tree_map_with_path(cast, params)
