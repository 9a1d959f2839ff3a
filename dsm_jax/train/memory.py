"""Does a training run fit? What pretraining and SFT need on each device, from shapes alone, against what is there.

The state and the gradients are counted exactly; activations are estimated as XLA was seen to keep them (a test compares).
Left out on purpose: the host's memory on GPU and TPU; other hosts' devices.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields, replace
from math import prod
from typing import Any

import jax
from jax.sharding import Mesh

from dsm_jax.errors import UserError
from dsm_jax.memory import available_memory
from dsm_jax.mesh import batch_shards
from dsm_jax.model.attention import BLOCK, attention_for, blockwise_attention
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.decoder import Remat
from dsm_jax.model.params import abstract_params
from dsm_jax.processes import is_first_process
from dsm_jax.train.lm import LMTraining
from dsm_jax.train.logps import CHUNK
from dsm_jax.train.optimizer import make_optimizer
from dsm_jax.train.step import abstract_state

GB = 1e9
REMEDY = (
    "give more devices, fewer --training.micro-batch-rows, --training.remat full, --training.optimizer.moments bfloat16, "
    "--training.lora.rank 16, a smaller --init, or try --preset tiny"
)


@dataclass(frozen=True)
class Ledger:
    """Bytes on one device."""

    master: int  # fp32 parameters that are trained
    moments: int  # of AdamW
    base: int  # with LoRA: the parameters that stay
    merged: int  # with LoRA: those that held-out text is scored with
    gradients: int  # fp32: the sum so far and, with micro-batches, one's own
    activations: int  # of a micro-batch, and the parameters that it gathers; an estimate

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))

    def __str__(self) -> str:
        sizes = {field.name: getattr(self, field.name) for field in fields(self)}
        return ", ".join(f"{name} {size / GB:.3g}" for name, size in sizes.items() if size)


def training_memory(config: LMTraining, model: ModelConfig, mesh: Mesh) -> Ledger:
    """What a run needs on each device of the mesh."""
    optimizer, _ = make_optimizer(config.optimizer, config.loop.steps)
    state = abstract_state(replace(model, lora=config.lora), optimizer, mesh)
    master, whole = bytes_of(state.params), bytes_of(abstract_params(model, mesh))
    accumulates = config.rows_at_once < config.batch_size
    rows = -(-config.rows_at_once // batch_shards(mesh))
    return Ledger(
        master=master,
        moments=bytes_of(state.opt_state),
        base=whole if config.lora.rank else 0,
        merged=whole if config.lora.rank else 0,
        gradients=(2 if accumulates else 1) * master,
        activations=activation_bytes(model, mesh, rows, config.window, config.remat),
    )


def require_memory(config: LMTraining, model: ModelConfig, mesh: Mesh) -> Ledger:
    """The run's ledger, which stderr gets too; UserError, with what helps, where it does not fit."""
    needed, here = training_memory(config, model, mesh), available_memory(mesh)
    needs = f"training needs {needed.total / GB:.3g} GB on each of {mesh.size} devices ({needed})"
    if here is not None and needed.total > here:
        raise UserError(f"{needs}, and there are {here / GB:.1f}: {REMEDY}")
    if is_first_process():
        there = "how many there are, they do not say" if here is None else f"of {here / GB:.3g}"
        print(f"{needs}, {there}", file=sys.stderr)
    return needed


def bytes_of(tree: Any) -> int:
    """Bytes on one device of arrays, or of jax.ShapeDtypeStruct with shardings."""
    return sum(
        prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree)
    )


def activation_bytes(model: ModelConfig, mesh: Mesh, rows: int, length: int, remat: Remat) -> int:
    """Of the forward and backward pass of `rows` rows of `length` tokens on each device."""
    size, tensor = jax.numpy.dtype(model.dtype).itemsize, mesh.shape["tensor"]
    stream = rows * length * model.d_model * size  # one residual stream
    inner = rows * length * (3 * model.n_heads * model.head_dim + 3 * model.d_ff) * size // tensor
    layer = 4 * stream + 2 * inner + 3 * _scores(model, mesh, rows, length)  # values and their gradients
    kept = model.n_layers * {"full": stream, "dots": 3 * stream + inner, "none": layer}[remat]
    chunk = -(-rows * length // max(2, -(-rows * length // CHUNK)))  # of logps.py
    logits = 4 * chunk * model.vocab_size * 4 // tensor
    gathered = 2 * model.vocab_size * model.d_model * size // tensor  # embedding and head, whole along fsdp
    return kept + max(layer, logits) + gathered


def _scores(model: ModelConfig, mesh: Mesh, rows: int, length: int) -> int:
    """Attention's scores that exist at once: none in the kernels of GPU and TPU."""
    platform = mesh.devices.flat[0].platform
    if attention_for(platform, model.head_dim) is not blockwise_attention:
        return 0
    return rows * min(length, BLOCK) * length * model.n_heads * 4 // mesh.shape["tensor"]
