"""Gradient coefficients: what each method multiplies the gradient of a token's log-probability by (DeepSeekMath, eq. 5).

All are pure functions (Terms, Constants) -> GC [B, T], descent's sign turned: a token with a positive one becomes more
likely. What does not depend on the policy that is updated (1, I(o), a reward, an advantage) comes as `advantages`, made by
credit.py or gae.py; here is the rest. objectives.py has the losses whose gradients these are.

Eq. 14 prints DPO's coefficient without its factor beta, and with the plain log-ratio of the answers where eq. 12 has means
over tokens (and o_<t in place of o-_<t in the numerator of the second). With d(o) = 1/|o| sum_t log pi / pi_ref,
eq. 12 is log sigma(beta (d(o+) - d(o-))), and its derivative by d(o+) is beta sigma(beta (d(o-) - d(o+))): that is what
stands here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from dsm_jax.rl.objectives import MAX_LOG_RATIO


class Terms(NamedTuple):
    """What is known of the tokens of B rows, [B, T] each; nothing is read where the mask is false."""

    logps: jax.Array  # in nats, of the policy that is updated
    mask: jax.Array  # true where a token is the policy's
    advantages: jax.Array  # what the row came with; of pairs 1 on the better answer, -1 on the worse
    old_logps: jax.Array | None = None  # of the policy that sampled; None: the present one
    ref_logps: jax.Array | None = None  # of the reference


@dataclass(frozen=True)
class Constants:
    """Numbers of the methods."""

    beta: float = 0.04  # how strongly the reference holds: of the KL (eq. 3), or DPO's (eq. 12)
    epsilon: float = 0.2  # the ratio to the old policy is clipped to 1 - epsilon .. 1 + epsilon


def as_given(terms: Terms, constants: Constants) -> jax.Array:
    """SFT: 1 (eq. 7); RFT and Online RFT: I(o) (eq. 10); REINFORCE: the reward, or what it is above a baseline."""
    return _masked(terms.advantages, terms.mask)


def clipped(terms: Terms, constants: Constants) -> jax.Array:
    """PPO: A_t (eq. 18). After the first of several updates: times the ratio to the old policy, 0 where it is clipped."""
    advantages = _masked(terms.advantages, terms.mask)
    if terms.old_logps is None:
        return advantages
    log_ratio = _masked(terms.logps - terms.old_logps, terms.mask)
    ratio = jnp.exp(jnp.minimum(log_ratio, MAX_LOG_RATIO))
    over = (ratio > 1 + constants.epsilon) & (advantages > 0)
    under = (ratio < 1 - constants.epsilon) & (advantages < 0)
    capped = log_ratio > MAX_LOG_RATIO
    return jnp.where(over | under | capped, 0.0, ratio * advantages)


def group_relative(terms: Terms, constants: Constants) -> jax.Array:
    """GRPO (eq. 21): that of PPO, and beta (pi_ref / pi - 1), the derivative of k3; beyond k3's cap that is 0."""
    if not constants.beta:
        return clipped(terms, constants)
    assert terms.ref_logps is not None
    log_r = _masked(terms.ref_logps - terms.logps, terms.mask)
    pull = jnp.where(log_r < MAX_LOG_RATIO, jnp.expm1(jnp.minimum(log_r, MAX_LOG_RATIO)), 0.0)
    return clipped(terms, constants) + constants.beta * pull


def preference(terms: Terms, constants: Constants) -> jax.Array:
    """DPO as in eq. 12, of means over tokens: beta sigma(beta (d(o-) - d(o+))) on o+, the same with a minus on o-.

    Rows 2i and 2i + 1 are a pair. Eq. 5's expectation is over pairs: both rows of one count once.
    """
    return _preference(terms, constants, of_sums=False)


def preference_of_sums(terms: Terms, constants: Constants) -> jax.Array:
    """DPO as published (arXiv 2305.18290), of sums over tokens. Times |o|, as eq. 5 divides every row by it."""
    return _preference(terms, constants, of_sums=True)


def margins(terms: Terms, constants: Constants, *, of_sums: bool) -> jax.Array:
    """beta (d(o+) - d(o-)) of each row's pair [B], with d a mean or a sum over tokens."""
    assert terms.ref_logps is not None
    ratios = _masked(terms.logps - terms.ref_logps, terms.mask).sum(axis=1)
    signed = signs(terms) * (ratios if of_sums else ratios / lengths(terms))
    return constants.beta * _of_pairs(signed)


def signs(terms: Terms) -> jax.Array:
    """1 on rows of better answers, -1 of worse ones, 0 on empty rows: [B]."""
    return jnp.sign(_masked(terms.advantages, terms.mask).sum(axis=1))


def lengths(terms: Terms) -> jax.Array:
    """|o|, the policy's tokens of each row [B]; at least 1."""
    return jnp.maximum(terms.mask.astype(bool).sum(axis=1), 1)


def _preference(terms: Terms, constants: Constants, *, of_sums: bool) -> jax.Array:
    pull = constants.beta * jax.nn.sigmoid(-margins(terms, constants, of_sums=of_sums)) * signs(terms)
    pull = pull * lengths(terms) if of_sums else pull
    return _masked(jnp.broadcast_to(pull[:, None], terms.logps.shape), terms.mask)


def _of_pairs(rows: jax.Array) -> jax.Array:
    """The sum over rows 2i and 2i + 1, for both of them: [B] -> [B]. A pair lies on one device."""
    count = len(rows)
    if jax.sharding.get_abstract_mesh().empty:
        return jnp.repeat(rows.reshape(count // 2, 2).sum(axis=1), 2)
    (batch,) = jax.typeof(rows).sharding.spec
    pairs = jax.lax.reshape(rows, (count // 2, 2), out_sharding=P(batch, None))
    both = jnp.broadcast_to(pairs.sum(axis=1, keepdims=True), pairs.shape)
    return jax.lax.reshape(both, (count,), out_sharding=P(batch))


def _masked(values: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.where(mask.astype(bool), values, 0.0)
