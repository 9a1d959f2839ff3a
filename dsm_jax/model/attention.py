"""Attention of packed sequences, and of one new token over a cache.

The XLA reference in fp32 softmax. Left out on purpose: kernels; they come behind the same two functions.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

MASKED = -1e30  # finite, so that a row with nothing to attend to stays free of NaN


def packed_attention(q: jax.Array, k: jax.Array, v: jax.Array, segment_ids: jax.Array) -> jax.Array:
    """Causal attention within each document.

    q [B, T, K, G, h], k and v [B, T, K, h], segment_ids [B, T] (tokens attend within equal ids only).
    Returns [B, T, K, G, h].
    """
    t = q.shape[1]
    causal = jnp.arange(t)[:, None] >= jnp.arange(t)[None, :]
    same = segment_ids[:, :, None] == segment_ids[:, None, :]
    bias = jnp.where(causal & same, 0.0, MASKED)[:, None, None]  # [B, 1, 1, T, S]
    scores = jnp.einsum("btkgh,bskh->bkgts", q, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(scores * q.shape[-1] ** -0.5 + bias, axis=-1)
    return jnp.einsum("bkgts,bskh->btkgh", weights.astype(v.dtype), v)


def cached_attention(q: jax.Array, k: jax.Array, v: jax.Array, positions: jax.Array) -> jax.Array:
    """One new token per row over that row's cache.

    q [B, K, G, h], k and v [B, K, S, h]; positions [B]: the new token's place, the last one it sees.
    Returns [B, K, G, h].
    """
    seen = jnp.arange(k.shape[2])[None, :] <= positions[:, None]
    bias = jnp.where(seen, 0.0, MASKED)[:, None, None]  # [B, 1, 1, S]
    scores = jnp.einsum("bkgh,bksh->bkgs", q, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(scores * q.shape[-1] ** -0.5 + bias, axis=-1)
    return jnp.einsum("bkgs,bksh->bkgh", weights.astype(v.dtype), v)
