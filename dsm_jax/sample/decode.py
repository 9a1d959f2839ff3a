"""The sampler's programs on the devices: pure functions over caches.

A row's keys and values lie in two parts: those of the prefix it shares (P places a device, [P, K, h, T]), and its own
([B, K, h, S]) from its prompt's last token on. That token is decoded, not prefilled, so that every token of a completion
comes out of one program. Left out on purpose: pages (a row's own part is one block, as long as the longest row's).
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from jax.sharding import reshard

from dsm_jax.mesh import BATCH, batch_shards
from dsm_jax.model.attention import Seats, keys_are_columns, mesh_platform
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.decoder import Params, bind, unstack
from dsm_jax.model.layer import CACHE, LayerCache
from dsm_jax.sample.sampling import Sampling, draw, row_key, token_key

SCORED = 1024  # tokens of one device whose logits `logps` keeps at once


class Rows(NamedTuple):
    """What the host knows of each of B slots before a chunk of C steps; M stop tokens at most."""

    tokens: jax.Array  # int32 [B], to be decoded first
    left: jax.Array  # int32 [B], tokens that may still come; 0: the slot is idle
    names: jax.Array  # int32 [B, 3], seed, prompt and sample: the random keys
    sampling: Sampling  # [B]
    stop_ids: jax.Array  # int32 [B, M], -1 where there are fewer
    inserted: jax.Array  # int32 [B, C], tokens that come instead of drawn ones; -1: drawn
    seats: Seats


class Chunk(NamedTuple):
    """What a chunk drew, [B, C] each: -1 and 0 where a row was idle. On every device whole."""

    tokens: jax.Array
    logps: jax.Array
    full_logps: jax.Array


def decode_params(config: ModelConfig, params: Params) -> Params:
    """Each layer's own weights in the compute dtype; norms stay fp32. LoRA's matrices stay apart, as in training."""
    layers = unstack(config, params)
    return jax.tree.map(lambda a: a.astype(config.dtype) if a.ndim > 1 else a, layers)


def prefill(config: ModelConfig, params: Params, ids: jax.Array) -> list[LayerCache]:
    """Keys and values of prefixes ids [N, T], left-aligned."""
    return bind(config, params).prefill(ids)[1]


def score(config: ModelConfig, params: Params, ids: jax.Array, head: jax.Array) -> jax.Array:
    """Hidden states of texts ids [N, T], left-aligned, times a head [D, R]: fp32 [N, T, R], on every device whole."""
    hidden, _ = bind(config, params).prefill(ids)
    return reshard(
        jnp.einsum("ntd,dr->ntr", hidden, head.astype(hidden.dtype), preferred_element_type=jnp.float32), P()
    )


class TokenScores(NamedTuple):
    """How a model takes given tokens, [N, T] or [t] each."""

    logps: jax.Array | np.ndarray  # fp32, log-probability after the tokens before
    greedy: jax.Array | np.ndarray  # bool, whether it is the one that temperature 0 takes


def logps(config: ModelConfig, params: Params, ids: jax.Array, targets: jax.Array) -> TokenScores:
    """Of targets [N, T], each after the ids [N, T] up to its own place, left-aligned; on every device whole.

    Logits of SCORED tokens of a device exist at once.
    """
    decoder = bind(config, params)
    hidden, _ = decoder.prefill(ids)
    n, t, d = hidden.shape
    columns = min(t, max(1, SCORED * batch_shards(jax.typeof(hidden).sharding.mesh) // n))
    parts = -(-t // columns)
    padding = (0, 0), (0, parts * columns - t)
    hidden = jnp.pad(hidden, (*padding, (0, 0))).reshape(n, parts, columns, d).swapaxes(0, 1)
    targets = jnp.pad(targets, padding).reshape(n, parts, columns).swapaxes(0, 1)

    def score_columns(part: tuple[jax.Array, jax.Array]) -> TokenScores:
        logits, target = decoder.logits(part[0]), part[1][..., None]
        vocab = jnp.arange(logits.shape[-1])
        # A sum over a one-hot mask, not a gather: the vocabulary may be split over devices.
        chosen = jnp.where(vocab == target, logits, 0.0).sum(-1, keepdims=True)
        first = (logits == chosen) & (vocab < target)  # of equal ones the first is taken
        better = (logits > chosen) | first
        return TokenScores(chosen[..., 0] - jax.nn.logsumexp(logits, axis=-1), ~better.any(-1))

    scored = jax.lax.map(score_columns, (hidden, targets))
    return TokenScores(*(reshard(a.swapaxes(0, 1).reshape(n, -1)[:, :t], P()) for a in scored))


def place(
    shared: list[LayerCache], fresh: list[LayerCache], places: jax.Array, count: jax.Array
) -> list[LayerCache]:
    """Writes prefilled prefixes to their places: on each device its first count [1] of `fresh`, to places [N].

    Behind them zeros: a number that is not finite, of the prefix before, would spoil the sums though it is masked.
    """

    def write(shared: list[LayerCache], fresh: list[LayerCache], places: jax.Array, count: jax.Array) -> list:
        def one(i: jax.Array, shared: list[LayerCache]) -> list[LayerCache]:
            def put(whole: jax.Array, part: jax.Array) -> jax.Array:
                row = jax.lax.dynamic_slice_in_dim(part, i, 1)
                room = [(0, a - b) for a, b in zip((1, *whole.shape[1:]), row.shape, strict=True)]
                return jax.lax.dynamic_update_slice(whole, jnp.pad(row, room), (places[i], 0, 0, 0))

            return jax.tree.map(put, shared, fresh)

        return jax.lax.fori_loop(0, count[0], one, shared)

    return jax.shard_map(write, out_specs=CACHE, check_vma=False)(shared, fresh, places, count)


def take(caches: list[LayerCache], rows: jax.Array) -> list[LayerCache]:
    """Rows [N] of the caches, each counted on its own device."""
    return jax.shard_map(
        lambda caches, rows: jax.tree.map(lambda cache: cache[rows], caches), out_specs=CACHE, check_vma=False
    )(caches, rows)


def clear(own: list[LayerCache], rows: jax.Array) -> list[LayerCache]:
    """Zeros in the rows [B] that are true."""

    def zero(own: list[LayerCache], rows: jax.Array) -> list[LayerCache]:
        return jax.tree.map(lambda cache: jnp.where(rows[:, None, None, None], 0, cache), own)

    return jax.shard_map(zero, out_specs=CACHE, check_vma=False)(own, rows)


def longer(cache: LayerCache, length: int) -> LayerCache:
    """One layer's cache with so many places."""
    before = cache.v.shape[2]

    def pad(a: jax.Array, places: int) -> jax.Array:
        return jnp.pad(a, [(0, length - before if axis == places else 0) for axis in range(4)])

    return LayerCache(pad(cache.k, 3 if keys_are_columns(mesh_platform()) else 2), pad(cache.v, 2))


def decode_chunk(
    config: ModelConfig,
    params: Params,
    own: list[LayerCache],
    shared: list[LayerCache],
    rows: Rows,
    steps: jax.Array,
    most_idle: jax.Array,
) -> tuple[list[LayerCache], Chunk]:
    """Up to `steps` steps, ending early where every slot or more than most_idle of them are idle."""
    decoder = bind(config, params)
    keys = _keys(rows.names, rows.seats.prefixes + rows.seats.own + 1, rows.inserted.shape[1])

    def empty(value: float, dtype: type) -> jax.Array:
        return reshard(jnp.full(rows.inserted.shape, value, dtype), P(BATCH, None))

    def step(carry: tuple) -> tuple:
        i, own, tokens, left, seats, drawn = carry
        hidden, own = decoder.decode(tokens, own, shared, seats)
        logits = reshard(decoder.logits(hidden), P(BATCH, None))
        key, given = (
            # jax 0.11 drops the sharding of an axis of length 1
            reshard(jax.lax.dynamic_index_in_dim(a, i, axis=1, keepdims=False), P(BATCH))
            for a in (keys, rows.inserted)
        )
        new = draw(logits, key, rows.sampling)
        token = jnp.where(given >= 0, given, new.tokens)
        ended = (given < 0) & jnp.any(token[:, None] == rows.stop_ids, axis=1)
        active = left > 0
        found = Chunk(
            jnp.where(active, token, -1),
            jnp.where(active, new.logps, 0.0),
            jnp.where(active, new.full_logps, 0.0),
        )
        drawn = jax.tree.map(partial(jax.lax.dynamic_update_index_in_dim, index=i, axis=1), drawn, found)
        left = jnp.where(active, jnp.where(ended, 0, left - 1), 0)
        seats = seats._replace(own=seats.own + active)
        return i + 1, own, jnp.where(active, token, tokens), left, seats, drawn

    def more(carry: tuple) -> jax.Array:
        i, left = carry[0], carry[3]
        idle = jnp.sum(left == 0)
        return (i < steps) & (idle <= most_idle) & (idle < left.shape[0])

    drawn = Chunk(empty(-1, jnp.int32), empty(0, jnp.float32), empty(0, jnp.float32))
    carry = (0, own, rows.tokens, rows.left, rows.seats, drawn)
    _, own, _, _, _, drawn = jax.lax.while_loop(more, step, carry)
    return own, jax.tree.map(lambda a: reshard(a, P()), drawn)


def _keys(names: jax.Array, positions: jax.Array, count: int) -> jax.Array:
    """Random key data, uint32 [B, count, 2], of the tokens from each row's position [B] on.

    Each device makes its rows' own: outside of shard_map jax 0.11 refuses this vmap where there is one row.
    """

    def of_row(name: jax.Array, position: jax.Array) -> jax.Array:
        return jax.vmap(token_key, in_axes=(None, 0))(row_key(name), position + jnp.arange(count))

    return jax.shard_map(jax.vmap(of_row), out_specs=P(BATCH), check_vma=False)(names, positions)
