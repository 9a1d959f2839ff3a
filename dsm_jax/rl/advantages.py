"""Group-relative advantages of GRPO (DeepSeekMath, section 4.1): outcome and process supervision."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

Scale = Literal["group", "batch", "none"]


def outcome_advantages(
    rewards: ArrayLike, *, ddof: int = 0, eps: float = 1e-6, scale: Scale = "group"
) -> jax.Array:
    """(r - mean) / (std + eps) within each group (section 4.1.2): rewards [N, G] -> advantages [N, G].

    A reward that is NaN leaves its row out: it counts neither in the mean nor in the deviation, and its advantage is 0.
    A group of equal rewards (max == min, whatever eps) gets exactly 0. The deviation is computed in two passes
    from the rewards less the group's smallest, so that a large common offset costs no digits.
    ddof: 0 for the population's deviation, 1 for the sample's; the paper states neither.
    scale: the deviation of the group (the paper), of all rewards of the batch, or 1 (Dr. GRPO).
    """
    rewards = jnp.asarray(rewards, jnp.result_type(float))
    there = ~jnp.isnan(rewards)
    shifted = _shifted(rewards, there, axis=1)
    centred = _centred(shifted, there, axis=1)
    if scale == "none":
        return centred
    if scale == "batch":
        deviation = _deviation(_shifted(rewards, there, axis=None), there, ddof, axis=None)
    else:
        deviation = _deviation(shifted, there, ddof, axis=1)
    spread = shifted.max(axis=1, keepdims=True) > 0
    return jnp.where(spread, centred / (jnp.where(spread, deviation, 1.0) + eps), 0.0)


def process_advantages(
    step_rewards: ArrayLike,
    step_ends: ArrayLike,
    length: int,
    *,
    ddof: int = 0,
    eps: float = 1e-6,
    scale: Scale = "group",
) -> jax.Array:
    """Sums of normalised step rewards (section 4.1.3): step_rewards [N, G, K] -> advantages [N, G, length].

    step_ends: int32 [N, G, K], the index of each step's last token, -1 where there is no step. All steps of all of a
    group's completions are normalised together; a token's advantage is the sum over the steps that end at it or later,
    0 after the last one. A group of equal step rewards gets exactly 0. ddof, eps, scale: as of outcome_advantages.
    """
    ends = jnp.asarray(step_ends)
    rewards = jnp.asarray(step_rewards, jnp.result_type(float))
    pooled = jnp.where(ends >= 0, rewards, jnp.nan).reshape(len(rewards), -1)
    normalised = outcome_advantages(pooled, ddof=ddof, eps=eps, scale=scale).reshape(rewards.shape)
    counts = ends[..., None] >= jnp.arange(length)  # [N, G, K, T]
    return jnp.where(counts, normalised[..., None], 0.0).sum(axis=2)


def _shifted(rewards: jax.Array, there: jax.Array, axis: int | None) -> jax.Array:
    """Less the smallest; 0 where there is none."""
    smallest = jnp.where(there, rewards, jnp.inf).min(axis=axis, keepdims=True)
    return jnp.where(there, rewards - smallest, 0.0)


def _centred(shifted: jax.Array, there: jax.Array, axis: int | None) -> jax.Array:
    count = jnp.maximum(there.sum(axis=axis, keepdims=True), 1)
    return jnp.where(there, shifted - shifted.sum(axis=axis, keepdims=True) / count, 0.0)


def _deviation(shifted: jax.Array, there: jax.Array, ddof: int, axis: int | None) -> jax.Array:
    squares = (_centred(shifted, there, axis) ** 2).sum(axis=axis, keepdims=True)
    return jnp.sqrt(squares / jnp.maximum(there.sum(axis=axis, keepdims=True) - ddof, 1))
