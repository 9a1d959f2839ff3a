"""PPO's advantages: rewards per token with the KL in them (DeepSeekMath, eq. 2), generalised advantage estimation over them.

A sequence ends with its last token, by itself or cut at the limit: nothing is expected behind it in either case, for a cut
answer is graded as it stands. Left out on purpose: a value behind a cut one; whitening of the advantages.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def token_rewards(
    placed: jax.Array, logps: jax.Array, ref_logps: jax.Array, mask: jax.Array, beta: float
) -> jax.Array:
    """r_t = r(q, o_<=t) - beta log pi(o_t) / pi_ref(o_t): [B, T], 0 where the mask is false.

    placed [B, T]: the reward model's, at the last token or at the ends of steps. logps: of the policy that sampled.
    """
    return jnp.where(mask.astype(bool), placed - beta * (logps - ref_logps), 0.0)


def gae(
    rewards: jax.Array, values: jax.Array, mask: jax.Array, *, gamma: float, lam: float
) -> tuple[jax.Array, jax.Array]:
    """Advantages and returns [B, T] of padded rows (arXiv 1506.02438, eq. 16); 0 where the mask is false.

    A_t = delta_t + gamma lam A_t', delta_t = r_t + gamma V_t' - V_t, with t' the row's next token under the mask (a tool's
    tokens are stepped over) and V, A of none 0. values [B, T]: before the token is drawn. Returns are A_t + V_t.
    """
    keep = mask.astype(bool)

    def back(
        after: tuple[jax.Array, jax.Array], now: tuple[jax.Array, ...]
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        value_after, advantage_after = after
        reward, value, there = now
        advantage = reward + gamma * value_after - value + gamma * lam * advantage_after
        after = jnp.where(there, value, value_after), jnp.where(there, advantage, advantage_after)
        return after, jnp.where(there, advantage, 0.0)

    nothing = jnp.zeros_like(values[:, 0])
    columns = rewards.T, values.T, keep.T
    advantages = jax.lax.scan(back, (nothing, nothing), columns, reverse=True)[1].T
    return advantages, jnp.where(keep, advantages + values, 0.0)
