"""What a rollout says in numbers, under TRL's names where it has them. Host arithmetic only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dsm_jax.rl.rewards import Scores
from dsm_jax.rl.rollout import Rollout
from dsm_jax.sample.request import Completion
from dsm_jax.tokenizer import Tokenizer


def rollout_metrics(rollout: Rollout) -> dict[str, float]:
    """Means and extremes over all that was sampled, whether it goes into the update or not; groups_used do."""
    found = reward_metrics(rollout.rewards, rollout.scores) | length_metrics(rollout.completions)
    return found | {"groups_used": float(rollout.used.sum())}


def rollout_sums(rollout: Rollout) -> dict[str, float]:
    """Counts and seconds, for one row of metrics only: those of all rows add up to the run's."""
    flat = [one for group in rollout.completions for one in group]
    sums = {
        "rollouts": rollout.draws,
        "rewards/failed": rollout.scores.failures,
        "rewards/left_out": np.isnan(rollout.rewards).sum(),
        "tools/inserted_tokens": sum(one.inserted.sum() for one in flat),
        "tools/failed": sum(bool(one.error) for one in flat),
    } | {f"seconds/{name}": value for name, value in rollout.seconds.items()}
    return {name: float(value) for name, value in sums.items()}


def num_tokens(rollout: Rollout, tokenizer: Tokenizer) -> int:
    """Of all completions, each with its prompt, bos included."""
    prompts = [1 + len(tokenizer.encode(row["prompt"])) for row in rollout.prompts]
    groups = zip(prompts, rollout.completions, strict=True)
    return sum(prompt + len(one.tokens) for prompt, group in groups for one in group)


def reward_metrics(rewards: np.ndarray, scores: Scores) -> dict[str, float]:
    """Over rewards [N, G], NaN apart; zero-spread groups, and those of them with a reward above 0."""
    groups = [row[~np.isnan(row)] for row in rewards]
    flat = [group for group in groups if group.size and group.max() == group.min()]
    above = [group for group in flat if group.min() > 0]
    metrics = {
        "reward": float(np.nanmean(rewards)),
        "reward_std": float(np.mean([group.std() for group in groups if group.size])),
        "frac_reward_zero_std": len(flat) / len(groups),
        "frac_reward_zero_std_above_0": len(above) / len(groups),
    }
    for name, values in scores.by_name.items():
        there = values[~np.isnan(values)]
        metrics[f"rewards/{name}/mean"] = float(there.mean()) if there.size else 0.0
        metrics[f"rewards/{name}/std"] = float(there.std()) if there.size else 0.0
    return metrics


def length_metrics(completions: Sequence[Sequence[Completion]]) -> dict[str, float]:
    """Lengths in tokens, end of sequence included; of those that ended by themselves apart; the share cut at the limit."""
    flat = [one for group in completions for one in group]
    lengths = np.array([len(one.tokens) for one in flat])
    ended = np.array([one.finished for one in flat])
    own = lengths[ended] if ended.any() else np.zeros(1)
    return {
        "completions/mean_length": float(lengths.mean()),
        "completions/min_length": float(lengths.min()),
        "completions/max_length": float(lengths.max()),
        "completions/mean_terminated_length": float(own.mean()),
        "completions/min_terminated_length": float(own.min()),
        "completions/max_terminated_length": float(own.max()),
        "completions/clipped_ratio": float(1 - ended.mean()),
    }
