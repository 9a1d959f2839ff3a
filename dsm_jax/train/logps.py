"""Log-probabilities of tokens, the one function behind every loss, the reference policy and the old one.

Logits are made a chunk of tokens at a time, split over tensor along the vocabulary, and never kept: backward makes
them again. Those of a whole batch, [B, T, V], never exist.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jax.sharding import reshard

from dsm_jax.mesh import BATCH, batch_shards
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.decoder import Decoder, Params, Remat, bind
from dsm_jax.model.flat import NOTHING, Shared

CHUNK = 1024  # tokens of one device whose logits exist at once


class TokenLogps(NamedTuple):
    """Per token, fp32 [B, T]: its log-probability, the entropy of the distribution that it was drawn from, and the
    log of that distribution's normaliser (z)."""

    logps: jax.Array
    entropies: jax.Array
    normalizers: jax.Array


def token_logps(
    config: ModelConfig,
    params: Params,
    tokens: jax.Array,
    segment_ids: jax.Array,
    *,
    temperature: float = 1.0,
    remat: Remat = "none",
    shared: Shared = NOTHING,
) -> TokenLogps:
    """log p(tokens[b, t] | its document's tokens before t), at the sampler's temperature.

    tokens, segment_ids [B, T]. Entry 0 is 0; entries at the first token of a document mean nothing (the
    model sees no token before them): losses mask them.
    shared: columns in which rows are equal; they go through the model once, and their entries are 0.
    """
    decoder, tokens = bind(config, params), reshard(tokens, P(BATCH, None))
    hidden = decoder.hidden(tokens, segment_ids, remat, shared)
    first = max(1, shared.columns)
    scored = _chunked(decoder, hidden[:, first - 1 : -1], tokens[:, first:], temperature)
    return TokenLogps(*(jnp.pad(a, ((0, 0), (first, 0))) for a in scored))


def _chunked(decoder: Decoder, hidden: jax.Array, targets: jax.Array, temperature: float) -> TokenLogps:
    """hidden [B, T, D] scores targets [B, T]."""
    b, t, d = hidden.shape
    rows = b // batch_shards(jax.typeof(hidden).sharding.mesh)
    chunks = min(t, max(2, -(-t * rows // CHUNK)))
    size = -(-t // chunks)
    padding = chunks * size - t
    hidden = jnp.pad(hidden, ((0, 0), (0, padding), (0, 0))).reshape(b, chunks, size, d).swapaxes(0, 1)
    targets = jnp.pad(targets, ((0, 0), (0, padding))).reshape(b, chunks, size).swapaxes(0, 1)
    score = jax.checkpoint(lambda chunk: _score(decoder, chunk[0], chunk[1], temperature), prevent_cse=False)
    scored = jax.lax.map(score, (hidden, targets))
    return TokenLogps(*(a.swapaxes(0, 1).reshape(b, -1)[:, :t] for a in scored))


def _score(decoder: Decoder, hidden: jax.Array, targets: jax.Array, temperature: float) -> TokenLogps:
    logits = decoder.logits(hidden) / temperature
    normalizer = jax.nn.logsumexp(logits, axis=-1)
    # A sum over a one-hot mask, not a gather: the vocabulary may be split over devices.
    chosen = jnp.where(jnp.arange(logits.shape[-1]) == targets[..., None], logits, 0.0).sum(-1)
    held = jax.lax.stop_gradient(logits)
    probabilities = jnp.exp(held - jax.lax.stop_gradient(normalizer)[..., None])
    entropies = jax.lax.stop_gradient(normalizer) - (probabilities * held).sum(-1)
    return TokenLogps(chosen - normalizer, entropies, normalizer)
