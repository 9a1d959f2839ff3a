"""One token a row: temperature, top-k, top-p and min-p, each row with its own settings.

In the order of transformers' warpers: temperature; top-k; top-p on what top-k left, renormalised; min-p, relative to
the most likely token. What is kept is always what is at least some logit, so no sort is needed: that logit is found by
halving the range of all floats. Truncation runs only in a batch where some row asks for it.

Logits of -inf are never drawn. A row with NaN, +inf or nothing but -inf has log-probabilities that are NaN.
Left out on purpose: penalties, typical sampling, and an exact number of tokens under ties.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Sampling(NamedTuple):
    """How each row's token is drawn."""

    temperature: jax.Array  # fp32 [B]; 0: the most likely token
    top_p: jax.Array  # fp32 [B], (0, 1]
    top_k: jax.Array  # int32 [B], 0: all
    min_p: jax.Array  # fp32 [B], [0, 1]


class Drawn(NamedTuple):
    """Tokens, with the log-probabilities they were drawn at."""

    tokens: jax.Array  # int32 [B]
    logps: jax.Array  # fp32 [B], of the truncated, renormalised distribution
    full_logps: jax.Array  # fp32 [B], of softmax(logits / temperature)


def row_key(name: jax.Array) -> jax.Array:
    """Random key data, uint32 [2], of a row's name [3]: seed, prompt, sample."""
    key = jax.random.fold_in(jax.random.key(name[0]), name[1])
    return jax.random.key_data(jax.random.fold_in(key, name[2]))


def token_key(row: jax.Array, position: jax.Array) -> jax.Array:
    """Random key data of a row's token at a position: it depends on nothing else."""
    return jax.random.key_data(jax.random.fold_in(jax.random.wrap_key_data(row), position))


def draw(logits: jax.Array, keys: jax.Array, sampling: Sampling) -> Drawn:
    """One token a row from softmax(logits / temperature), truncated and renormalised.

    logits [B, V] fp32; keys uint32 [B, 2], of these tokens. Temperature 0 takes the most likely token, of equals the lowest id, with both log-probabilities at temperature 1. Tokens whose logit equals the smallest
    that is kept are all kept. Gumbel-max: argmax(logits + Gumbel noise).
    """
    hot = sampling.temperature > 0
    scaled = logits / jnp.where(hot, sampling.temperature, 1.0)[:, None]
    full = jax.nn.logsumexp(scaled, axis=-1)
    asked = _asked(sampling, logits.shape[-1])
    floor, kept = jax.lax.cond(
        jnp.any(asked), lambda: truncate(scaled, sampling), lambda: (jnp.full_like(full, -jnp.inf), full)
    )
    rated = jax.lax.cond(jnp.any(hot), lambda: _rate(scaled, floor, keys, hot), lambda: scaled)
    tokens = _first_largest(rated)
    chosen = jnp.where(jnp.arange(logits.shape[-1]) == tokens[:, None], scaled, 0.0).sum(-1)
    # A row that asked for nothing has the same bits whatever its neighbours ask for.
    return Drawn(tokens, chosen - jnp.where(asked, kept, full), chosen - full)


def _asked(sampling: Sampling, vocab: int) -> jax.Array:
    """Which rows [B] leave tokens out."""
    top_k = (sampling.top_k > 0) & (sampling.top_k < vocab)
    return top_k | (sampling.top_p < 1) | (sampling.min_p > 0)


def _rate(scaled: jax.Array, floor: jax.Array, keys: jax.Array, hot: jax.Array) -> jax.Array:
    """What a row's token is the largest of: where `hot` [B], kept logits with Gumbel noise; elsewhere the logits."""

    def noise(key: jax.Array) -> jax.Array:
        return jax.random.gumbel(jax.random.wrap_key_data(key), scaled.shape[1:])

    noisy = scaled + jax.vmap(noise)(keys)
    return jnp.where(hot[:, None], _keep(scaled, floor, noisy), scaled)


def _first_largest(values: jax.Array) -> jax.Array:
    """Index [B] of the largest of each row, of equals the first: argmax, in two plain reductions (XLA:CPU's own is five
    times as slow)."""
    index = jnp.arange(values.shape[-1], dtype=jnp.int32)
    largest = values >= values.max(-1, keepdims=True)  # nowhere beside NaN
    return jnp.where(largest, index, values.shape[-1] - 1).min(-1)


def _keep(scaled: jax.Array, floor: jax.Array, values: jax.Array) -> jax.Array:
    """`values` [B, V] where `scaled` is at least `floor` [B], or NaN, which has to show in what comes of it."""
    return jnp.where(scaled < floor[:, None], -jnp.inf, values)


def truncate(scaled: jax.Array, sampling: Sampling) -> tuple[jax.Array, jax.Array]:
    """Smallest logit that is kept [B], and logsumexp of all that are [B]."""
    vocab, largest = scaled.shape[-1], scaled.max(-1)
    anything = jnp.full_like(largest, -jnp.inf)
    top_k = jnp.where(sampling.top_k > 0, jnp.minimum(sampling.top_k, vocab), vocab)
    floor = jax.lax.cond(jnp.any(top_k < vocab), lambda: _floor(scaled, 1, vocab - top_k), lambda: anything)
    top_p = jax.lax.cond(
        jnp.any(sampling.top_p < 1), lambda: _top_p_floor(scaled, floor, sampling.top_p), lambda: anything
    )
    floor = jnp.maximum(jnp.maximum(floor, top_p), largest + jnp.log(sampling.min_p))
    return floor, jax.nn.logsumexp(_keep(scaled, floor, scaled), axis=-1)


def _top_p_floor(scaled: jax.Array, floor: jax.Array, top_p: jax.Array) -> jax.Array:
    """Smallest logit [B] that top-p keeps of those that are at least `floor` [B].

    The mass that goes is summed, not the mass that stays: near top_p 1 it is a small number, and not lost to rounding.
    """
    mass = jnp.exp(_keep(scaled, floor, scaled) - scaled.max(-1, keepdims=True))
    found = _floor(scaled, mass, (1 - top_p) * mass.sum(-1))
    return jnp.where(top_p < 1, found, -jnp.inf)  # at 1 tokens stay though their mass is 0 in fp32


def _floor(scaled: jax.Array, weights: jax.Array | int, spare: jax.Array) -> jax.Array:
    """Largest logit [B] such that the weights of those below it sum to at most `spare` [B].

    Halves the range from -inf to the row's largest logit. Floats are ordered as their bits are, read as integers with
    the negative ones turned round, so 32 steps end on one float.
    """
    high = _turn(jax.lax.bitcast_convert_type(scaled.max(-1), jnp.int32))
    low = jnp.full_like(high, -0x7F800001)  # -inf

    def halve(_: jax.Array, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = (low | high) - ((low ^ high) >> 1)  # the mean, rounded up, without overflow
        below = jnp.where(scaled < _logit(middle)[:, None], weights, 0).sum(-1)
        return jnp.where(below <= spare, middle, low), jnp.where(below <= spare, high, middle - 1)

    return _logit(jax.lax.fori_loop(0, 32, halve, (low, high))[0])


def _logit(image: jax.Array) -> jax.Array:
    """The float that has this place in the order of floats."""
    return jax.lax.bitcast_convert_type(_turn(image), jnp.float32)


def _turn(bits: jax.Array) -> jax.Array:
    """Bits of floats to integers of the same order, and back."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)
