"""The training state and the step that pretraining and SFT share: pure, jitted, shardings in and out given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AbstractMesh, Mesh

from dsm_jax.errors import UserError
from dsm_jax.mesh import batch_sharding, batch_shards, replicated
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.decoder import Params, Remat
from dsm_jax.model.lora import plain, trained, whole
from dsm_jax.model.params import param_shapes, param_shardings
from dsm_jax.train.logps import token_logps

Batch = Any  # dict of arrays [B, T]: tokens, segment_ids, loss_mask
Metrics = dict[str, jax.Array]


class TrainState(NamedTuple):
    """What training changes; also the tree of its shardings or shapes. Parameters are the fp32 master (of LoRA, where
    there is one)."""

    params: Params
    opt_state: Any
    step: Any  # int32 [], updates done


def state_shardings(
    config: ModelConfig, optimizer: optax.GradientTransformation, mesh: Mesh | AbstractMesh
) -> TrainState:
    """Sharding of every leaf: moments lie as their parameters do, counters on every device."""
    params = trained(config, param_shardings(config, mesh))
    abstract = jax.eval_shape(optimizer.init, trained(config, param_shapes(config)))
    opt_state = optax.tree_utils.tree_map_params(
        optimizer,
        lambda _, sharding: sharding,
        abstract,
        params,
        transform_non_params=lambda _: replicated(mesh),
    )
    return TrainState(params, opt_state, replicated(mesh))


def abstract_state(
    config: ModelConfig, optimizer: optax.GradientTransformation, mesh: Mesh | AbstractMesh
) -> TrainState:
    """jax.ShapeDtypeStruct of every leaf with its sharding: the target of a restore."""
    shapes = trained(config, param_shapes(config))
    state = TrainState(shapes, jax.eval_shape(optimizer.init, shapes), jax.ShapeDtypeStruct((), jnp.int32))
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        state,
        state_shardings(config, optimizer, mesh),
    )


def start_state(
    config: ModelConfig, optimizer: optax.GradientTransformation, mesh: Mesh, params: Params
) -> TrainState:
    """Step 0 from these parameters, which are copied (a train step donates its state)."""

    def start(params: Params) -> TrainState:
        return TrainState(jax.tree.map(jnp.copy, params), optimizer.init(params), jnp.zeros((), jnp.int32))

    with jax.set_mesh(mesh):
        return jax.jit(start, out_shardings=state_shardings(config, optimizer, mesh))(params)


def lm_loss(
    config: ModelConfig, params: Params, batch: Batch, remat: Remat = "none", z_loss: float = 0.0
) -> jax.Array:
    """Mean negative log-likelihood, in nats, of the tokens whose loss_mask is 1; plus z_loss times the mean square of
    log z (PaLM, arXiv 2204.02311, section 5), which keeps the logits from drifting."""
    scored = token_logps(config, params, batch["tokens"], batch["segment_ids"], remat=remat)
    mask = batch["loss_mask"]
    losses = z_loss * scored.normalizers**2 - scored.logps if z_loss else -scored.logps
    return jnp.sum(losses * mask) / jnp.maximum(jnp.sum(mask), 1)


def apply_gradients(
    optimizer: optax.GradientTransformation, state: TrainState, gradients: Params
) -> tuple[TrainState, jax.Array]:
    """One optimiser update; also the gradients' global norm before clipping."""
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(params, opt_state, state.step + 1), optax.tree.norm(gradients)


def make_train_step(
    config: ModelConfig,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    remat: Remat = "none",
    z_loss: float = 0.0,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """(state, batch[, base]) -> (state, metrics); the state's buffers are donated. base: with LoRA, what stays."""

    def step(state: TrainState, batch: Batch, base: Params | None) -> tuple[TrainState, Metrics]:
        def loss_of(part: Params) -> jax.Array:
            return lm_loss(config, whole(config, base, part), batch, remat, z_loss)

        loss, gradients = jax.value_and_grad(loss_of)(state.params)
        state, norm = apply_gradients(optimizer, state, gradients)
        return state, {"loss": loss, "grad_norm": norm, "num_tokens": jnp.sum(batch["loss_mask"])}

    shardings = state_shardings(config, optimizer, mesh)
    base_shardings = param_shardings(plain(config), mesh) if config.lora.rank else None
    compiled = jax.jit(
        step,
        donate_argnums=0,
        in_shardings=(shardings, batch_sharding(mesh), base_shardings),
        out_shardings=(shardings, replicated(mesh)),
    )
    return lambda state, batch, base=None: compiled(state, batch, base)


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> Batch:
    """Host arrays [B, ...] onto the mesh, rows spread over data and fsdp; of several processes each gives the same.

    Raises UserError where B does not divide.
    """
    rows, shards = len(next(iter(batch.values()))), batch_shards(mesh)
    if rows % shards:
        raise UserError(
            f"a batch of {rows} rows does not divide over {shards} devices (data x fsdp): "
            "change the batch size or --mesh"
        )
    sharding = batch_sharding(mesh)
    if mesh.is_multi_process:
        return {
            name: jax.make_array_from_callback(array.shape, sharding, array.__getitem__)
            for name, array in batch.items()
        }
    return jax.device_put(batch, sharding)
