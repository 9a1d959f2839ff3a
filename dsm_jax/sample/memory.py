"""The memory that sampling takes on each device, from shapes alone, and the slots that it has room for."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import Mesh

from dsm_jax.memory import free_memory
from dsm_jax.mesh import batch_shards
from dsm_jax.model.attention import BLOCK, PARTS, attention_for, blockwise_attention
from dsm_jax.model.config import ModelConfig
from dsm_jax.sample.seating import Shape, choose_shape

SHORTEST = 32  # tokens; lengths are rounded up to this times 1, 1.5, 2, 3, 4, 6, ...
PREFILL_TOKENS = 8192  # prefilled at once, on a device
SHARE = 0.9  # of what is free that is planned with
VOCAB_COPIES = 6  # fp32 arrays [slots, vocabulary] of a step: logits, by temperature, noise, what truncation makes of them
SCORE_COPIES = 2  # fp32 arrays of attention's scores: they and their exponentials


class Lengths(NamedTuple):
    """Longest prefix, and most tokens after it, rounded up."""

    prefix: int
    own: int


def round_up(length: int) -> int:
    """To one of few lengths, so that few programs are compiled."""
    size = SHORTEST
    while size < length:
        size = size * 3 // 2 if size & (size - 1) == 0 else size // 3 * 4
    return size


def prefill_sizes(length: int, shape: Shape) -> list[int]:
    """How many prefixes of this length are prefilled at once, on a device: 1, 4, 16, ..."""
    most = max(1, min(shape.places, PREFILL_TOKENS // length))
    return [4**power for power in range(16) if 4**power <= most]


def bytes_per_place(config: ModelConfig, mesh: Mesh) -> int:
    """Of the keys and values of one token, on one device."""
    heads = config.n_kv_heads // mesh.shape["tensor"]
    return 2 * config.n_layers * heads * config.head_dim * jnp.dtype(config.dtype).itemsize


def sampling_bytes(config: ModelConfig, mesh: Mesh, shape: Shape, lengths: Lengths) -> int:
    """What a call takes at most, beside the parameters: the caches, and a decode step's or a prefill's own arrays.

    A cache that grows does so layer by layer: one layer's is there twice.
    """
    place = bytes_per_place(config, mesh)
    own, shared = shape.slots * lengths.own * place, shape.places * lengths.prefix * place
    work = max(_step_bytes(config, mesh, shape, lengths), _prefill_bytes(config, mesh, shape, lengths.prefix))
    return own + shared + own // config.n_layers + work


def _step_bytes(config: ModelConfig, mesh: Mesh, shape: Shape, lengths: Lengths) -> int:
    """Of a decode step: logits, and a layer's scores over both parts of the caches."""
    looked_at = shape.slots * lengths.own + shape.places * shape.seats * lengths.prefix
    scores = SCORE_COPIES * config.n_heads // mesh.shape["tensor"] * looked_at
    return 4 * (VOCAB_COPIES * shape.slots * config.vocab_size + scores)


def groups_bytes(
    config: ModelConfig, mesh: Mesh, *, prompts: int, n: int, prompt_tokens: int, new_tokens: int, slots: int
) -> int:
    """sampling_bytes of a call for n completions of each of so many prompts, in at most `slots` slots of the mesh."""
    shards = batch_shards(mesh)
    shape = choose_shape(prompts * n, prompts, -(-slots // shards), shards)
    return sampling_bytes(config, mesh, shape, Lengths(round_up(prompt_tokens), round_up(new_tokens)))


def _prefill_bytes(config: ModelConfig, mesh: Mesh, shape: Shape, length: int) -> int:
    """Of the most prefixes that are prefilled at once: keys and values, a layer's activations, and scores."""
    rows = prefill_sizes(length, shape)[-1]
    tensor, itemsize = mesh.shape["tensor"], jnp.dtype(config.dtype).itemsize
    width = 4 * config.d_model + 3 * config.d_ff // tensor + 4 * config.n_heads * config.head_dim // tensor
    activations = rows * length * (bytes_per_place(config, mesh) + width * itemsize)
    return activations + rows * _score_bytes(config, mesh, length)


def _score_bytes(config: ModelConfig, mesh: Mesh, length: int) -> int:
    """Of attention within one prefix; none where a kernel keeps none."""
    if attention_for(mesh.devices.flat[0].platform, config.head_dim) is not blockwise_attention:
        return 0
    scores = BLOCK * length if length > BLOCK else length * length * (PARTS + 1) // (2 * PARTS)
    return SCORE_COPIES * 4 * config.n_heads // mesh.shape["tensor"] * scores


def free_everywhere(mesh: Mesh) -> int | None:
    """Bytes that every device of the mesh has room for; None where the backend does not say."""
    free = free_memory(mesh)
    if not mesh.is_multi_process:
        return free if free is None else int(SHARE * free)
    # In MiB: as bytes the number would be cut to 32 bits.
    least = int(np.min(process_allgather(np.int32(-1 if free is None else free >> 20))))
    return None if least < 0 else int(SHARE * (least << 20))
