"""The GRPO loss of DeepSeekMath (arXiv 2402.03300, eq. 3) and its published variants: a pure function of log-probabilities.

No model, no sampler and no reward in here: arrays come in, a scalar and its metrics go out. Everything adds up
exactly over micro-batches and devices. Left out on purpose: SAPO, VESPO, LUSPO, entropy bonus, masking by the importance
ratio.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jax.sharding import reshard
from jax.typing import ArrayLike

from dsm_jax.errors import UserError
from dsm_jax.rl.metrics import Mean, Metrics, extremes, masked_mean

Measured = tuple[
    Metrics, dict[str, jax.Array], dict[str, jax.Array]
]  # means; of each row [B]: a largest, a smallest
MAX_LOG_RATIO = 20.0  # e^20 = 5e8: far outside any clip range, far inside float32


@dataclass(frozen=True)
class GRPOConfig:
    """What the loss needs to know; names as TRL's. Raises UserError for a value out of range.

    The defaults are the paper's eq. 3; what it does not state is marked.
    """

    # what is averaged over what, and how it is clipped: means of rows (grpo), of all tokens (dapo, cispo), or a sum over a
    # fixed length (dr_grpo)
    loss_type: Literal["grpo", "dapo", "dr_grpo", "cispo"] = "grpo"
    beta: float = 0.04  # weight of the KL to the reference policy (paper, section 4.2); 0: no reference
    epsilon: float = 0.2  # the ratio is clipped to [1 - epsilon, 1 + epsilon_high]; not stated in the paper
    # None: epsilon; with cispo the largest weight itself, above 1 (usual: 5)
    epsilon_high: float | None = None
    delta: float | None = None  # largest ratio also where the advantage is negative; None: no limit
    # whose ratio: each token's, or one for a row (sequence: GSPO)
    importance_sampling_level: Literal["token", "sequence"] = "token"
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"  # eq. 4 is k3
    use_bias_correction_kl: bool = False  # the KL times the ratio: its gradient is then that of the KL
    # only this share of the tokens, those of the highest entropy, is pushed; 1: all
    top_entropy_quantile: float = 1.0
    max_completion_length: int | None = None  # tokens, of dr_grpo's denominator; None: T of the arrays
    # what an advantage is divided by: the deviation of its group, of the batch, or nothing
    scale_rewards: Literal["group", "batch", "none"] = "group"
    importance_sampling_correction: bool = False  # times old / sampler probability, clipped (truncated: TIS)
    importance_sampling_clip_min: float | None = None  # of that factor; None: 0
    importance_sampling_clip_max: float | None = 3.0  # of that factor; None: no limit

    def __post_init__(self) -> None:
        cispo = self.loss_type == "cispo"
        if not self.beta >= 0:
            raise UserError(f"GRPOConfig: beta is {self.beta}; it must be 0 or more (the paper: 0.04)")
        if not self.epsilon > 0:
            raise UserError(f"GRPOConfig: epsilon is {self.epsilon}; it must be above 0 (usual: 0.2)")
        if cispo and not (self.epsilon_high or 0) > 1:
            raise UserError(
                f"GRPOConfig: epsilon_high is {self.epsilon_high}; with cispo it is the largest weight, above 1 (usual: 5)"
            )
        if not cispo and self.epsilon_high is not None and self.epsilon_high <= 0:
            raise UserError(
                f"GRPOConfig: epsilon_high is {self.epsilon_high}; it must be above 0 (usual: 0.28)"
            )
        if self.delta is not None and (cispo or self.delta <= 1 + self.high):
            why = (
                "cispo has no second limit"
                if cispo
                else f"it must be above 1 + epsilon_high = {1 + self.high:g}"
            )
            raise UserError(f"GRPOConfig: delta is {self.delta}; {why}")
        if self.use_bias_correction_kl and self.kl_estimator != "k3":
            raise UserError(f"GRPOConfig: use_bias_correction_kl corrects k3, not {self.kl_estimator}")
        if not 0 < self.top_entropy_quantile <= 1:
            raise UserError(
                f"GRPOConfig: top_entropy_quantile is {self.top_entropy_quantile}; it must be above 0 and at most 1"
            )
        if self.max_completion_length is not None and self.max_completion_length < 1:
            raise UserError(
                f"GRPOConfig: max_completion_length is {self.max_completion_length}; it must be at least 1"
            )
        low, high = self.importance_sampling_clip_min or 0.0, self.importance_sampling_clip_max
        if low < 0 or (high is not None and not low <= high):
            raise UserError(
                f"GRPOConfig: importance_sampling_clip_min is {low} and _max {high}; they must be 0 <= min <= max"
            )

    @property
    def high(self) -> float:
        """epsilon_high, or what stands for it."""
        return self.epsilon if self.epsilon_high is None else self.epsilon_high


class LossOutput(NamedTuple):
    """A loss with the parts it was made from."""

    loss: jax.Array  # scalar; over micro-batches called with `denominators` the losses add up to the batch's
    sum: jax.Array  # scalar; what these rows add: their token means, or their tokens
    denominator: jax.Array  # scalar; what these rows add to the denominator: rows, tokens, or rows x length
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
    entropy_threshold: jax.Array | float | None = None,
    denominators: tuple[jax.Array | int, jax.Array | int] | None = None,
) -> LossOutput:
    """Eq. 3, or its variant, with its sign turned: what gradient descent minimises.

    logps, old_logps, ref_logps, sampler_logps, entropies: [B, T] in nats, float32 or wider; advantages: [B, T]
    or [B]; mask: [B, T], true where a token counts. Values under a false mask are never read, NaN included.
    The rows of a group are adjacent, though this loss does not look at groups.

    old_logps None: the behaviour policy is the present one (mu = 1), the ratio is exactly 1.
    ref_logps None: no KL; beta must be 0, else UserError.
    sampler_logps, entropies: only measured, unless importance_sampling_correction or top_entropy_quantile asks.
    denominators: (rows, tokens) of the whole batch when the arrays are one micro-batch of it. A fully masked row
    counts among the rows and adds 0: the others keep their weight.
    entropy_threshold: the whole batch's (top_entropy_threshold), needed with `denominators` if
    top_entropy_quantile is below 1; None: these arrays'.
    """
    _require_arguments(config, ref_logps, sampler_logps, is_part=denominators is not None)
    keep = mask.astype(bool)
    logps = jnp.where(keep, logps, 0.0)
    old = jax.lax.stop_gradient(logps if old_logps is None else jnp.where(keep, old_logps, 0.0))
    advantages = jnp.where(keep, advantages[:, None] if advantages.ndim == 1 else advantages, 0.0)
    row_tokens = jnp.maximum(keep.sum(axis=1), 1)

    ratio = _ratio(logps - old, row_tokens, config)
    per_token = -_surrogate(ratio, logps, advantages, config)
    metrics, highest, lowest = _clip_metrics(ratio, advantages, keep, config)
    if config.top_entropy_quantile < 1:
        pushed = _pushed(entropies, keep, config, entropy_threshold, is_part=denominators is not None)
        per_token = jnp.where(pushed, per_token, 0.0)
    if sampler_logps is not None:
        sampled = jnp.where(keep, sampler_logps, 0.0)
        means, highs, lows = _sampling_metrics(old, sampled, keep, config)
        metrics, highest, lowest = metrics | means, highest | highs, lowest | lows
        if config.importance_sampling_correction:
            per_token = per_token * _correction(old, sampled, config)
    if ref_logps is not None:
        kl = _kl(logps, jnp.where(keep, ref_logps, 0.0), ratio, config)
        metrics["kl"] = masked_mean(kl, keep)
        per_token = per_token + config.beta * kl if config.beta else per_token
    if entropies is not None:
        metrics["entropy"] = masked_mean(entropies, keep)
    metrics |= extremes(highest, lowest)
    total = _total(jnp.where(keep, per_token, 0.0), row_tokens, config.loss_type)
    own = _denominator((logps.shape[0], keep.sum()), logps.shape[1], config)
    whole = own if denominators is None else _denominator(denominators, logps.shape[1], config)
    return LossOutput(total / whole, total, jnp.asarray(own, total.dtype), metrics)


def top_entropy_threshold(entropies: ArrayLike, mask: ArrayLike, quantile: float) -> jax.Array:
    """The entropy that this share of the tokens under `mask` reaches: a float32 scalar, as TRL's."""
    entropies = jnp.where(mask, entropies, jnp.nan).astype(jnp.float32)
    if not jax.sharding.get_abstract_mesh().empty:  # what is sorted has to be whole
        entropies = reshard(entropies, P())
    return jnp.nanquantile(entropies, 1 - quantile)


def k3(logps: jax.Array, ref_logps: jax.Array) -> jax.Array:
    """Estimate of KL(policy || reference) per token, in nats (eq. 4): r - log r - 1 with r = p_ref / p; >= 0.

    Above log r = 20 it stays constant, so that neither value nor gradient overflows.
    """
    log_r = jnp.minimum(ref_logps - logps, MAX_LOG_RATIO)
    return jnp.expm1(log_r) - log_r


def _require_arguments(
    config: GRPOConfig, ref_logps: jax.Array | None, sampler_logps: jax.Array | None, *, is_part: bool
) -> None:
    """Raises UserError where an option needs what was not given."""
    if config.beta > 0 and ref_logps is None:
        raise UserError(
            f"grpo_loss: beta is {config.beta} but ref_logps is None; pass ref_logps or set beta=0"
        )
    if config.loss_type == "dr_grpo" and is_part and config.max_completion_length is None:
        raise UserError(
            "grpo_loss: dr_grpo in micro-batches needs max_completion_length, which all of them divide by"
        )
    if config.importance_sampling_correction and sampler_logps is None:
        raise UserError("grpo_loss: importance_sampling_correction needs sampler_logps")


def _ratio(log_ratio: jax.Array, row_tokens: jax.Array, config: GRPOConfig) -> jax.Array:
    """Of a log-ratio [B, T]: itself, or [B, 1] of whole rows."""
    if config.importance_sampling_level == "sequence":
        log_ratio = (log_ratio.sum(axis=1) / row_tokens)[:, None]
    return _clamped_exp(log_ratio)


def _pushed(
    entropies: jax.Array | None,
    keep: jax.Array,
    config: GRPOConfig,
    threshold: jax.Array | float | None,
    *,
    is_part: bool,
) -> jax.Array:
    """Tokens [B, T] whose entropy is among the highest."""
    quantile = config.top_entropy_quantile
    if entropies is None:
        raise UserError("grpo_loss: top_entropy_quantile needs entropies")
    if threshold is None and is_part:
        raise UserError(
            "grpo_loss: top_entropy_quantile in micro-batches needs the whole batch's entropy_threshold"
        )
    return entropies >= (top_entropy_threshold(entropies, keep, quantile) if threshold is None else threshold)


def _surrogate(ratio: jax.Array, logps: jax.Array, advantages: jax.Array, config: GRPOConfig) -> jax.Array:
    """What is maximised, per token; ratio is [B, T], or [B, 1] of whole rows."""
    if config.loss_type == "cispo":
        return jax.lax.stop_gradient(jnp.minimum(ratio, config.high)) * advantages * logps
    clipped = jnp.clip(ratio, 1 - config.epsilon, 1 + config.high)
    limited = ratio if config.delta is None else jnp.minimum(ratio, config.delta)
    return jnp.minimum(limited * advantages, clipped * advantages)


def _kl(logps: jax.Array, ref_logps: jax.Array, ratio: jax.Array, config: GRPOConfig) -> jax.Array:
    """Per token, in nats: log p / p_ref, half its square, or eq. 4, which may be times the ratio."""
    if config.kl_estimator == "k3":
        kl = k3(logps, ref_logps)
        return kl * ratio if config.use_bias_correction_kl else kl
    return logps - ref_logps if config.kl_estimator == "k1" else 0.5 * (logps - ref_logps) ** 2


def _correction(old: jax.Array, sampler_logps: jax.Array, config: GRPOConfig) -> jax.Array:
    """old / sampler probability, clipped: what makes the sampler's tokens count as the old policy's."""
    return jnp.clip(
        _clamped_exp(old - sampler_logps),
        config.importance_sampling_clip_min,
        config.importance_sampling_clip_max,
    )


def _total(per_token: jax.Array, row_tokens: jax.Array, loss_type: str) -> jax.Array:
    rows = per_token.sum(axis=1)
    return (rows / row_tokens if loss_type == "grpo" else rows).sum()


def _denominator(
    totals: tuple[jax.Array | int, jax.Array | int], length: int, config: GRPOConfig
) -> jax.Array | int:
    """What the sum over all rows is divided by, of (rows, tokens)."""
    rows, tokens = totals
    if config.loss_type == "grpo":
        return rows
    if config.loss_type == "dr_grpo":
        return rows * (config.max_completion_length or length)
    return jnp.maximum(tokens, 1)


def _clamped_exp(log_ratio: jax.Array) -> jax.Array:
    return jnp.exp(jnp.minimum(log_ratio, MAX_LOG_RATIO))


def _clip_metrics(ratio: jax.Array, advantages: jax.Array, keep: jax.Array, config: GRPOConfig) -> Measured:
    """Shares of the tokens (of the rows, where a row has one ratio) whose gradient the clip removes, below and above,
    and each row's, for the extremes."""

    def mean(marked: jax.Array) -> Mean:
        if config.importance_sampling_level == "token":
            return masked_mean(marked, keep)
        return masked_mean(_row_share(marked, keep), keep.any(axis=1))

    if config.loss_type == "cispo":
        return {"cispo_clip_ratio": mean((ratio > config.high) & (advantages > 0))}, {}, {}
    low = (ratio < 1 - config.epsilon) & (advantages < 0)
    high = (ratio > 1 + config.high) & (advantages > 0)
    means: Metrics = {
        "clip_ratio/low_mean": mean(low),
        "clip_ratio/high_mean": mean(high),
        "clip_ratio/region_mean": mean(low | high),
    }
    there = keep.any(axis=1)
    highest = {"clip_ratio/high_max": jnp.where(there, _row_share(high, keep), -jnp.inf)}
    return means, highest, {"clip_ratio/low_min": jnp.where(there, _row_share(low, keep), jnp.inf)}


def _row_share(marked: jax.Array, keep: jax.Array) -> jax.Array:
    return (marked & keep).sum(axis=1) / jnp.maximum(keep.sum(axis=1), 1)


def _sampling_metrics(
    old: jax.Array, sampler_logps: jax.Array, keep: jax.Array, config: GRPOConfig
) -> Measured:
    """How far the sampler's log-probabilities lie from the trainer's, in nats, and what corrects for it."""
    difference = jnp.abs(old - sampler_logps)
    means: Metrics = {"sampling/sampling_logp_difference/mean": masked_mean(difference, keep)}
    highest = {"sampling/sampling_logp_difference/max": jnp.where(keep, difference, -jnp.inf).max(axis=1)}
    if not config.importance_sampling_correction:
        return means, highest, {}
    name, ratio = "sampling/importance_sampling_ratio", _correction(old, sampler_logps, config)
    means[f"{name}/mean"] = masked_mean(ratio, keep)
    highest[f"{name}/max"] = jnp.where(keep, ratio, -jnp.inf).max(axis=1)
    return means, highest, {f"{name}/min": jnp.where(keep, ratio, jnp.inf).min(axis=1)}
