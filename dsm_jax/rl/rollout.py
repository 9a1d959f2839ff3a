"""A rollout: questions, their completions and scores, and the advantages of tokens (DeepSeekMath, algorithm 1, lines 8 and 9)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from dsm_jax.rl.advantages import Scale, outcome_advantages, process_advantages
from dsm_jax.rl.config import GRPOTraining
from dsm_jax.rl.prompts import Row
from dsm_jax.rl.rewards import Scores, Steps
from dsm_jax.rl.scoring import Scorer
from dsm_jax.sample.request import Completion

NOTHING = np.zeros(0)
MOST_STEPS = 8  # of a completion, or a multiple of that
_process_advantages = jax.jit(process_advantages, static_argnames=("length", "scale"))


class Rollout(NamedTuple):
    """Questions [N] with their completions [N][G], what the rewards gave [N * G], and [N, G] the rewards used (others under a
    control; NaN leaves a row out)."""

    prompts: list[Row]
    completions: list[list[Completion]]
    scores: Scores
    rewards: np.ndarray
    advantages: list[np.ndarray]  # [N * G], of each completion's tokens [t]
    used: np.ndarray  # bool [N], the groups that go into the update
    questions: np.ndarray  # int [N], the numbers of the rows, with a curriculum; else empty
    draws: int  # calls of the sampler
    seconds: dict[str, float]  # by phase

    @property
    def rows(self) -> int:
        """Completions that go into the update."""
        return int((~np.isnan(self.rewards[self.used])).sum())


def token_advantages(
    config: GRPOTraining, scorer: Scorer, rollout: Rollout, used: np.ndarray
) -> list[np.ndarray]:
    """Of each completion's tokens [t]: what the whole has, and process_weight times what the steps have; 0 in unused groups."""
    shape, steps = rollout.rewards.shape, rollout.scores.steps
    wholes, scale = np.zeros(shape), config.loss.scale_rewards
    if scorer.judges_wholes:
        wholes[used] = np.asarray(outcome_advantages(rollout.rewards[used], scale=scale))
    lengths = [len(one.tokens) for group in rollout.completions for one in group]
    found = [np.full(length, of) for length, of in zip(lengths, wholes.ravel(), strict=True)]
    if steps is None:
        return found
    weight = config.process_weight if scorer.judges_wholes else 1.0
    rewards = np.where(used[:, None], rollout.rewards, np.nan)  # a batch's spread is of these alone
    by_step = step_advantages(steps, rewards, config.max_completion_length, scale)
    for i in np.flatnonzero(np.repeat(used, shape[1])):
        found[i] += weight * by_step[i, : lengths[i]]
    return found


def step_advantages(steps: Steps, rewards: np.ndarray, length: int, scale: Scale = "group") -> np.ndarray:
    """[N * G, length] of the steps of completions that have these rewards [N, G]."""
    most = -(-max(1, steps.counts.max()) // MOST_STEPS) * MOST_STEPS  # few shapes, few programs
    ends = np.full((steps.counts.size, most), -1, np.int32)
    by_step = np.zeros(ends.shape)
    there = np.arange(most) < steps.counts[:, None]
    ends[there], by_step[there] = steps.ends, _step_rewards(steps, rewards)
    shape = (*rewards.shape, most)
    found = _process_advantages(by_step.reshape(shape), ends.reshape(shape), length, scale=scale)
    return np.asarray(found).reshape(-1, length)


def _step_rewards(steps: Steps, rewards: np.ndarray) -> np.ndarray:
    """[S], NaN where a step has none, or its completion: neither is trained on, nor counts in the group's mean."""
    return np.where(np.repeat(np.isnan(rewards.ravel()), steps.counts), np.nan, steps.rewards)


def has_spread(scorer: Scorer, rollout: Rollout) -> np.ndarray:
    """Which groups [N] have different rewards, NaN apart, of completions or of steps."""
    rewards, steps = rollout.rewards, rollout.scores.steps
    low = np.where(np.isnan(rewards), np.inf, rewards).min(axis=1)
    found = np.where(np.isnan(rewards), -np.inf, rewards).max(axis=1) > low
    found &= scorer.judges_wholes
    if steps is None:
        return found
    parts = steps.of_completions(_step_rewards(steps, rewards))
    each = rewards.shape[1]
    groups = [np.concatenate(parts[i : i + each]) for i in range(0, len(parts), each)]
    return found | np.array([len(set(group[~np.isnan(group)])) > 1 for group in groups])


def joined(parts: Sequence[Rollout]) -> Rollout:
    """Several draws as one."""
    if len(parts) == 1:
        return parts[0]
    return Rollout(
        [row for part in parts for row in part.prompts],
        [group for part in parts for group in part.completions],
        _joined_scores([part.scores for part in parts]),
        np.concatenate([part.rewards for part in parts]),
        [],
        NOTHING,
        np.concatenate([part.questions for part in parts]),
        len(parts),
        {name: sum(part.seconds[name] for part in parts) for name in parts[0].seconds},
    )


def _joined_scores(parts: Sequence[Scores]) -> Scores:
    steps = [part.steps for part in parts if part.steps]
    return Scores(
        np.concatenate([part.total for part in parts]),
        _joined_by_name([part.by_name for part in parts]),
        sum(part.failures for part in parts),
        Steps(
            np.concatenate([part.counts for part in steps]),
            np.concatenate([part.ends for part in steps]),
            np.concatenate([part.rewards for part in steps]),
            _joined_by_name([part.by_name for part in steps]),
        )
        if steps
        else None,
    )


def _joined_by_name(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
