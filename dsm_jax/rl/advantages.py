"""Group-relative advantages of GRPO (DeepSeekMath, section 4.1.2): outcome supervision only."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def outcome_advantages(rewards: ArrayLike, *, ddof: int = 0, eps: float = 1e-6) -> jax.Array:
    """(r - mean) / (std + eps) within each group: rewards [N, G] -> advantages [N, G].

    A group of equal rewards (max == min, whatever eps) gets exactly 0. The deviation is computed in two passes
    from the rewards less the group's smallest, so that a large common offset costs no digits.
    ddof: 0 for the population's deviation, 1 for the sample's; the paper states neither.
    """
    rewards = jnp.asarray(rewards, jnp.result_type(float))
    shifted = rewards - rewards.min(axis=1, keepdims=True)
    centred = shifted - shifted.mean(axis=1, keepdims=True)
    variance = (centred**2).sum(axis=1, keepdims=True) / max(rewards.shape[1] - ddof, 1)
    spread = shifted.max(axis=1, keepdims=True) > 0
    return jnp.where(spread, centred / (jnp.where(spread, jnp.sqrt(variance), 1.0) + eps), 0.0)
