"""The losses of the methods as they are known, and the one that the loop descends.

The loop's gradient is eq. 5's: of 1/B sum_i 1/|o_i| sum_t stop_gradient(GC) log pi. The value that it reports is that of the
method's own loss, whose gradient is the same one (tests hold the two together to float64's precision).
Losses are sums over rows, to be divided by the batch's, so that micro-batches add up; the rows of a pair share its loss.
Left out on purpose: GRPO's variants, which rl/grpo.py trains with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from dsm_jax.rl.metrics import Metrics, masked_mean
from dsm_jax.rl.objectives import GRPOConfig, LossOutput, grpo_loss
from dsm_jax.rl.paradigm.coefficients import Constants, Terms, lengths, margins, signs
from dsm_jax.rl.update import Objective, Whole
from dsm_jax.train.logps import TokenLogps

Coefficient = Callable[[Terms, Constants], jax.Array]
KnownLoss = Callable[[Terms, Constants], tuple[jax.Array, Metrics]]  # a sum over rows, and what to log


def likelihood_loss(terms: Terms, constants: Constants) -> tuple[jax.Array, Metrics]:
    """Negative log-likelihood, a mean over each row's tokens, times what the row came with: SFT (eq. 6), RFT (eq. 9),
    REINFORCE."""
    keep = terms.mask.astype(bool)
    weighted = jnp.where(keep, terms.advantages * terms.logps, 0.0)
    return -(weighted.sum(axis=1) / lengths(terms)).sum(), {}


def preference_loss(terms: Terms, constants: Constants) -> tuple[jax.Array, Metrics]:
    """DPO with means over tokens (eq. 12, its sign turned): -log sigma of the margin."""
    return _preference_loss(terms, constants, of_sums=False)


def preference_loss_of_sums(terms: Terms, constants: Constants) -> tuple[jax.Array, Metrics]:
    """DPO as published (arXiv 2305.18290, eq. 7)."""
    return _preference_loss(terms, constants, of_sums=True)


def clipped_loss(terms: Terms, constants: Constants) -> tuple[jax.Array, Metrics]:
    """PPO's surrogate (eq. 1): without a KL, eq. 3's."""
    return _surrogate_loss(terms, GRPOConfig(beta=0.0, epsilon=constants.epsilon))


def group_relative_loss(terms: Terms, constants: Constants) -> tuple[jax.Array, Metrics]:
    """GRPO (eq. 3)."""
    return _surrogate_loss(terms, GRPOConfig(beta=constants.beta, epsilon=constants.epsilon))


def weighted_log_likelihood(coefficient: jax.Array, terms: Terms) -> jax.Array:
    """Eq. 5 before the gradient: sum_i 1/|o_i| sum_t stop_gradient(GC) log pi."""
    held = jax.lax.stop_gradient(coefficient)
    weighted = jnp.where(terms.mask.astype(bool), held * terms.logps, 0.0)
    return (weighted.sum(axis=1) / lengths(terms)).sum()


def paradigm_objective(
    coefficient: Coefficient, known: KnownLoss, constants: Constants, *, in_pairs: bool = False
) -> Objective:
    """What the Learner minimises: the gradient is the coefficient's, the value the known loss's."""

    def loss(policy: TokenLogps, ref: jax.Array | None, batch: Mapping[str, Any], whole: Whole) -> LossOutput:
        mask = batch["mask"]
        terms = Terms(policy.logps, mask, batch["advantages"], batch.get("old_logps"), ref)
        factor = coefficient(terms, constants)
        likelihood = (2 if in_pairs else 1) * weighted_log_likelihood(factor, terms)
        value, metrics = known(terms, constants)
        total = jax.lax.stop_gradient(value + likelihood) - likelihood
        keep = mask.astype(bool)
        metrics = metrics | {
            "entropy": masked_mean(policy.entropies, keep),
            "coefficient/mean": masked_mean(factor, keep),
            "coefficient/size": masked_mean(jnp.abs(factor), keep),
        }
        return LossOutput(total / whole.rows, total, jnp.asarray(len(mask), total.dtype), metrics)

    return loss


def _preference_loss(terms: Terms, constants: Constants, *, of_sums: bool) -> tuple[jax.Array, Metrics]:
    apart, there = margins(terms, constants, of_sums=of_sums), signs(terms) != 0
    losses = jnp.where(there, -jax.nn.log_sigmoid(apart), 0.0)
    return losses.sum(), {
        "preference/margin": masked_mean(apart, there),
        "preference/accuracy": masked_mean((apart > 0).astype(apart.dtype), there),
    }


def _surrogate_loss(terms: Terms, config: GRPOConfig) -> tuple[jax.Array, Metrics]:
    ref = terms.ref_logps if config.beta else None
    output = grpo_loss(terms.logps, terms.old_logps, ref, terms.advantages, terms.mask, config)
    return output.sum, output.metrics
