"""The GRPO loss of DeepSeekMath (arXiv 2402.03300, eq. 3): a pure function of log-probabilities.

No model, no sampler and no reward in here: arrays come in, a scalar and its metrics go out. Everything adds up
exactly over micro-batches and devices. Only the paper's objective is built: ratio per token, clipped on both
sides, k3 in the loss, mean over the tokens of a row, then over the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dsm_jax.errors import UserError

MAX_LOG_RATIO = 20.0  # e^20 = 5e8: far outside any clip range, far inside float32


@dataclass(frozen=True)
class GRPOConfig:
    """What the loss needs to know; names as TRL's. Raises UserError for a value out of range."""

    beta: float = 0.04  # weight of the KL to the reference policy (paper, section 4.2)
    epsilon: float = 0.2  # the ratio is clipped to [1 - epsilon, 1 + epsilon]; not stated in the paper

    def __post_init__(self) -> None:
        if self.beta < 0:
            raise UserError(f"GRPOConfig: beta is {self.beta}; it must be 0 or more (the paper: 0.04)")
        if self.epsilon <= 0:
            raise UserError(f"GRPOConfig: epsilon is {self.epsilon}; it must be above 0 (usual: 0.2)")


class Mean(NamedTuple):
    """A metric that is a mean: its sum and what to divide by. Both add up over micro-batches."""

    sum: jax.Array
    denominator: jax.Array


class Max(NamedTuple):
    """A metric that is a maximum."""

    value: jax.Array


Metrics = dict[str, Mean | Max]


class LossOutput(NamedTuple):
    """A loss with the parts it was made from."""

    loss: jax.Array  # scalar; over micro-batches called with `denominators` the losses add up to the batch's
    sum: jax.Array  # scalar; sum over these rows of the row's token mean
    denominator: jax.Array  # scalar; number of these rows
    metrics: Metrics  # under TRL's names


def grpo_loss(
    logps: jax.Array,
    old_logps: jax.Array | None,
    ref_logps: jax.Array | None,
    advantages: jax.Array,
    mask: jax.Array,
    config: GRPOConfig,
    *,
    sampler_logps: jax.Array | None = None,
    entropies: jax.Array | None = None,
    denominators: tuple[jax.Array | int, jax.Array | int] | None = None,
) -> LossOutput:
    """Eq. 3 with its sign turned: what gradient descent minimises.

    logps, old_logps, ref_logps, sampler_logps, entropies: [B, T] in nats, float32 or wider; advantages: [B, T]
    or [B]; mask: [B, T], true where a token counts. Values under a false mask are never read, NaN included.
    The rows of a group are adjacent, though this loss does not look at groups.

    old_logps None: the behaviour policy is the present one (mu = 1), the ratio is exactly 1.
    ref_logps None: no KL; beta must be 0, else UserError.
    sampler_logps, entropies: only measured, never in the loss.
    denominators: (rows, tokens) of the whole batch when the arrays are one micro-batch of it; this loss divides
    by the rows. A fully masked row counts among the rows and adds 0: the others keep their weight.
    """
    if config.beta > 0 and ref_logps is None:
        raise UserError(
            f"grpo_loss: beta is {config.beta} but ref_logps is None; pass ref_logps or set beta=0"
        )
    keep = mask.astype(bool)
    logps = jnp.where(keep, logps, 0.0)
    old = jax.lax.stop_gradient(logps if old_logps is None else jnp.where(keep, old_logps, 0.0))
    advantages = jnp.where(keep, advantages[:, None] if advantages.ndim == 1 else advantages, 0.0)

    ratio = _clamped_exp(logps - old)
    clipped = jnp.clip(ratio, 1 - config.epsilon, 1 + config.epsilon)
    per_token = -jnp.minimum(ratio * advantages, clipped * advantages)
    metrics = _clip_metrics(ratio, advantages, keep, config.epsilon)
    if ref_logps is not None:
        kl = k3(logps, jnp.where(keep, ref_logps, 0.0))
        metrics["kl"] = _token_mean(kl, keep)
        if config.beta > 0:
            per_token = per_token + config.beta * kl
    if entropies is not None:
        metrics["entropy"] = _token_mean(entropies, keep)
    if sampler_logps is not None:
        metrics |= _sampling_metrics(old, sampler_logps, keep)

    row_tokens = jnp.maximum(keep.sum(axis=1), 1)
    total = (jnp.where(keep, per_token, 0.0).sum(axis=1) / row_tokens).sum()
    rows = jnp.asarray(logps.shape[0], total.dtype)
    loss = total / (rows if denominators is None else denominators[0])
    return LossOutput(loss, total, rows, metrics)


def k3(logps: jax.Array, ref_logps: jax.Array) -> jax.Array:
    """Estimate of KL(policy || reference) per token, in nats (eq. 4): r - log r - 1 with r = p_ref / p; >= 0.

    Above log r = 20 it stays constant, so that neither value nor gradient overflows.
    """
    log_r = jnp.minimum(ref_logps - logps, MAX_LOG_RATIO)
    return jnp.expm1(log_r) - log_r


def merge_metrics(left: Metrics, right: Metrics) -> Metrics:
    """The metrics of two micro-batches as one; works under jit."""
    return {name: _merge(left[name], right[name]) for name in left}


def metric_values(metrics: Metrics) -> dict[str, float]:
    """Plain numbers to log; a mean over nothing is 0."""
    return {name: _value(metric) for name, metric in metrics.items()}


def _merge(left: Mean | Max, right: Mean | Max) -> Mean | Max:
    if isinstance(left, Mean) and isinstance(right, Mean):
        return Mean(left.sum + right.sum, left.denominator + right.denominator)
    if isinstance(left, Max) and isinstance(right, Max):
        return Max(jnp.maximum(left.value, right.value))
    raise TypeError("the two sides hold different kinds of metric under one name")


def _value(metric: Mean | Max) -> float:
    if isinstance(metric, Max):
        return float(metric.value)
    return float(metric.sum) / max(float(metric.denominator), 1.0)


def _clamped_exp(log_ratio: jax.Array) -> jax.Array:
    return jnp.exp(jnp.minimum(log_ratio, MAX_LOG_RATIO))


def _token_mean(values: jax.Array, keep: jax.Array) -> Mean:
    values = jax.lax.stop_gradient(jnp.where(keep, values, 0))
    return Mean(values.sum(), keep.sum())


def _clip_metrics(ratio: jax.Array, advantages: jax.Array, keep: jax.Array, epsilon: float) -> Metrics:
    """Shares of the tokens whose gradient the clip removes, below and above."""
    low = (ratio < 1 - epsilon) & (advantages < 0)
    high = (ratio > 1 + epsilon) & (advantages > 0)
    return {
        "clip_ratio/low_mean": _token_mean(low, keep),
        "clip_ratio/high_mean": _token_mean(high, keep),
        "clip_ratio/region_mean": _token_mean(low | high, keep),
    }


def _sampling_metrics(old: jax.Array, sampler_logps: jax.Array, keep: jax.Array) -> Metrics:
    """How far the sampler's log-probabilities lie from the trainer's, in nats."""
    difference = jnp.abs(old - jnp.where(keep, sampler_logps, 0.0))
    return {
        "sampling/sampling_logp_difference/mean": _token_mean(difference, keep),
        "sampling/sampling_logp_difference/max": Max(difference.max()),
    }
