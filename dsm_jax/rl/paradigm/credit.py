"""From the rewards of completions to a number per token: the part of a coefficient that does not depend on the policy.

All are pure functions Graded -> [N, G, T]. Of PPO it is the reward model's part of the reward per token, from which gae.py
makes advantages. REINFORCE's baseline is the mean of the group; with the others' mean instead (leave one out) every
coefficient is G / (G - 1) times as large, which is another learning rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from dsm_jax.errors import UserError
from dsm_jax.rl.advantages import outcome_advantages
from dsm_jax.rl.rewards import Steps
from dsm_jax.rl.rollout import step_advantages


class Graded(NamedTuple):
    """Completions of N questions, G each."""

    rewards: np.ndarray  # [N, G], of whole completions; NaN leaves one out
    lengths: np.ndarray  # int [N, G], tokens
    steps: Steps | None = None  # of N * G completions, where steps are rewarded


FEW_LENGTHS = 64  # tokens; a program of steps_to_come is for a multiple of them
Credit = Callable[[Graded], np.ndarray]


def all_of_it(graded: Graded) -> np.ndarray:
    """1 on every token: the worked solutions were chosen before (SFT)."""
    return _everywhere(graded, np.ones_like(graded.rewards))


def right_only(graded: Graded) -> np.ndarray:
    """I(o), 1 where the answer is right (eq. 10). UserError for a reward that is neither 0 nor 1."""
    return _everywhere(graded, require_rule(graded.rewards))


def better_and_worse(graded: Graded) -> np.ndarray:
    """1 on the right answer of a pair, -1 on the wrong one (DPO)."""
    return _everywhere(graded, 2 * require_rule(graded.rewards) - 1)


def reward_itself(graded: Graded) -> np.ndarray:
    """REINFORCE without a baseline."""
    return _everywhere(graded, graded.rewards)


def above_group_mean(graded: Graded) -> np.ndarray:
    """REINFORCE with the group's mean as its baseline."""
    return _everywhere(graded, np.asarray(outcome_advantages(graded.rewards, scale="none")))


def group_normalised(graded: Graded) -> np.ndarray:
    """GRPO with outcome supervision (section 4.1.2)."""
    return _everywhere(graded, np.asarray(outcome_advantages(graded.rewards)))


def steps_to_come(graded: Graded) -> np.ndarray:
    """GRPO with process supervision (section 4.1.3)."""
    longest = _longest(graded)
    length = -(-longest // FEW_LENGTHS) * FEW_LENGTHS
    found = step_advantages(_steps(graded), graded.rewards, length)
    return found.reshape(*graded.rewards.shape, length)[..., :longest]


def at_last_token(graded: Graded) -> np.ndarray:
    """PPO: what the whole completion was given, where it ends."""
    at = np.arange(_longest(graded)) == graded.lengths[..., None] - 1
    return np.where(at, graded.rewards[..., None], 0.0)


def at_step_ends(graded: Graded) -> np.ndarray:
    """PPO step by step (Math-Shepherd, arXiv 2312.08935): what each step was given, at its end; nothing for the answer."""
    steps, length = _steps(graded), _longest(graded)
    placed = np.zeros((steps.counts.size, length))
    rows = np.repeat(np.arange(steps.counts.size), steps.counts)
    np.add.at(placed, (rows, steps.ends), np.nan_to_num(steps.rewards))
    return placed.reshape(*graded.rewards.shape, length)


def of_completions(graded: Graded, credit: np.ndarray) -> list[np.ndarray]:
    """Of each completion that has a reward its tokens' numbers, float32 [t], group after group."""
    return [
        credit[place][: graded.lengths[place]].astype(np.float32)
        for place in zip(*np.nonzero(~np.isnan(graded.rewards)), strict=True)
    ]


def of_all(graded: Graded, given: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Of every completion its tokens' numbers [t], those of of_completions and 0 where there is no reward."""
    there, left = ~np.isnan(graded.rewards.ravel()), iter(given)
    pairs = zip(there, graded.lengths.ravel(), strict=True)
    return [next(left) if is_there else np.zeros(length) for is_there, length in pairs]


def require_rule(rewards: np.ndarray) -> np.ndarray:
    """The rewards. UserError where one is neither 0 nor 1."""
    odd = rewards[~np.isin(rewards, (0.0, 1.0)) & ~np.isnan(rewards)]
    if odd.size:
        raise UserError(f"this method needs a reward that is 0 or 1, and one is {odd[0]:g}; give a rule")
    return rewards


def _everywhere(graded: Graded, each: np.ndarray) -> np.ndarray:
    """[N, G] -> [N, G, T]."""
    return np.broadcast_to(each[..., None], (*each.shape, _longest(graded)))


def _longest(graded: Graded) -> int:
    return int(graded.lengths.max())


def _steps(graded: Graded) -> Steps:
    assert graded.steps is not None  # loop.py asks for a reward of steps
    return graded.steps
