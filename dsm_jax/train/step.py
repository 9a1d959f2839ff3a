"""The training state and the step that pretraining and SFT share: pure, jitted, shardings in and out given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AbstractMesh, Mesh
from jax.sharding import PartitionSpec as P

from dsm_jax.errors import UserError
from dsm_jax.mesh import batch_sharding, batch_shards, own_rows, replicated
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.decoder import Params, Remat
from dsm_jax.model.lora import plain, trained, whole
from dsm_jax.model.params import param_shapes, param_shardings
from dsm_jax.train.logps import token_logps

Batch = Any  # dict of arrays [B, T]: tokens, segment_ids, and what an objective takes
Metrics = dict[str, jax.Array]


@dataclass(frozen=True)
class Objective:
    """What training minimises: a sum over the targets in a batch, divided by their number."""

    # (model, parameters, some rows of the batch, activations made again, targets in the whole batch) -> their part of it
    loss: Callable[[ModelConfig, Params, Batch, Remat, jax.Array], jax.Array]
    mask: str  # the array of the batch that is 1 at a target
    count: str  # the metric of how many there are


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

    low = [leaf.dtype.name for leaf in jax.tree.leaves(params) if leaf.dtype != jnp.float32]
    if low:
        raise UserError(
            f"training starts from parameters in {low[0]}, where an update of 1e-6 is lost to rounding: load them with "
            "dtype float32; the model still computes in its own dtype"
        )
    with jax.set_mesh(mesh):
        return jax.jit(start, out_shardings=state_shardings(config, optimizer, mesh))(params)


def lm_loss(
    config: ModelConfig,
    params: Params,
    batch: Batch,
    remat: Remat = "none",
    z_loss: float = 0.0,
    num_targets: jax.Array | None = None,
) -> jax.Array:
    """Mean negative log-likelihood, in nats, of the tokens whose loss_mask is 1; plus z_loss times the mean square of
    log z (PaLM, arXiv 2204.02311, section 5), which keeps the logits from drifting.

    num_targets: what the sum is divided by, where these rows are a part of the batch; None is their own number.
    """
    scored = token_logps(config, params, batch["tokens"], batch["segment_ids"], remat=remat)
    mask = batch["loss_mask"]
    losses = z_loss * scored.normalizers**2 - scored.logps if z_loss else -scored.logps
    return jnp.sum(losses * mask) / (targets_of(mask) if num_targets is None else num_targets)


def next_token(z_loss: float = 0.0) -> Objective:
    """lm_loss, over the tokens whose loss_mask is 1."""

    def loss(config: ModelConfig, params: Params, rows: Batch, remat: Remat, targets: jax.Array) -> jax.Array:
        return lm_loss(config, params, rows, remat, z_loss, targets)

    return Objective(loss, "loss_mask", "num_tokens")


def targets_of(mask: jax.Array) -> jax.Array:
    """How many tokens of the batch are targets; at least 1, so that a loss can be divided by it."""
    return jnp.maximum(jnp.sum(mask), 1)


def accumulated(
    loss_of: Callable[[Params, Batch], jax.Array], params: Params, batch: Batch, parts: int
) -> tuple[jax.Array, Params]:
    """Sum of loss_of(params, part) and its gradient over `parts` micro-batches, one after the other, in fp32.

    Every device's rows are dealt out to the parts, so that none moves to another device.
    """
    loss_and_gradient = jax.value_and_grad(loss_of)
    if parts == 1:
        return loss_and_gradient(params, batch)

    def add(total: tuple[jax.Array, Params], part: Batch) -> tuple[tuple[jax.Array, Params], None]:
        return jax.tree.map(jnp.add, total, loss_and_gradient(params, part)), None

    def deal(rows: jax.Array) -> jax.Array:
        b, *rest = rows.shape
        spec = jax.typeof(rows).sharding.spec
        dealt = jax.lax.reshape(rows, (b // parts, parts, *rest), out_sharding=P(spec[0], None, *spec[1:]))
        return dealt.swapaxes(0, 1)

    zero = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
    return jax.lax.scan(add, zero, jax.tree.map(deal, batch))[0]


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
    micro_batches: int = 1,
    skip_nonfinite: bool = False,
    objective: Objective | None = None,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """(state, batch[, base]) -> (state, metrics); the state's buffers are donated. base: with LoRA, what stays.

    objective: None is next_token().
    micro_batches: parts of the batch whose activations exist one after the other; the update is the whole batch's.
    skip_nonfinite: leave parameters and moments as they are where the loss or the gradient is not finite ("skipped": 1).
    """

    minimised = objective or next_token()

    def step(state: TrainState, batch: Batch, base: Params | None) -> tuple[TrainState, Metrics]:
        mask = batch[minimised.mask]
        num_targets = targets_of(mask)

        def loss_of(part: Params, rows: Batch) -> jax.Array:
            return minimised.loss(config, whole(config, base, part), rows, remat, num_targets)

        loss, gradients = accumulated(loss_of, state.params, batch, micro_batches)
        after, norm = apply_gradients(optimizer, state, gradients)
        metrics = {"loss": loss, "grad_norm": norm, minimised.count: jnp.sum(mask)}
        if skip_nonfinite:
            fine = jnp.isfinite(loss) & jnp.isfinite(norm)
            after, metrics = _kept(fine, after, state), metrics | {"skipped": ~fine}
        return after, metrics

    shardings = state_shardings(config, optimizer, mesh)
    base_shardings = param_shardings(plain(config), mesh) if config.lora.rank else None
    compiled = jax.jit(
        step,
        donate_argnums=0,
        in_shardings=(shardings, batch_sharding(mesh), base_shardings),
        out_shardings=(shardings, replicated(mesh)),
    )
    return lambda state, batch, base=None: compiled(state, batch, base)


def _kept(fine: jax.Array, after: TrainState, before: TrainState) -> TrainState:
    """`after` where the update was fine; else `before`, but for the step and the place in the schedule, which go on."""

    def choose(new: Any, old: Any) -> Any:
        return new if isinstance(new, optax.ScaleByScheduleState) else jnp.where(fine, new, old)

    is_schedule = lambda leaf: isinstance(leaf, optax.ScaleByScheduleState)
    kept = jax.tree.map(choose, after, before, is_leaf=is_schedule)
    return kept._replace(step=after.step)


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh, *, of: int | None = None) -> Batch:
    """Host arrays [B, ...] onto the mesh, rows spread over data and fsdp.

    of: the rows of the whole batch, where `batch` holds this process's own_rows(mesh, of) only; None: all of them.
    Raises UserError where the rows do not divide.
    """
    rows, shards = of or len(next(iter(batch.values()))), batch_shards(mesh)
    if rows % shards:
        raise UserError(
            f"a batch of {rows} rows does not divide over {shards} devices (data x fsdp): "
            "change the batch size or --mesh"
        )
    sharding = batch_sharding(mesh)
    if not mesh.is_multi_process:
        return jax.device_put(batch, sharding)
    held = np.arange(rows) if of is None else own_rows(mesh, rows)

    def put(array: np.ndarray) -> jax.Array:
        def read(index: Any) -> np.ndarray:
            start, stop, _ = index[0].indices(rows)
            at = int(np.searchsorted(held, start))
            return array[at : at + stop - start]

        return jax.make_array_from_callback((rows, *array.shape[1:]), sharding, read)

    return jax.tree.map(put, batch)
