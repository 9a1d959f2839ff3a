"""Rewards: plain Python functions from prompts and completions to numbers, and the controls that break them.

A reward is called as `reward(prompts, completions, **columns)`, each a list with one entry a row, and returns one
number a row. `call_reward` checks what comes back. Rewards run on the host; nothing here touches a device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dsm_jax.errors import UserError
from dsm_jax.evaluate.grader import grade

Reward = Callable[..., Sequence[float]]


def accuracy_reward(
    prompts: Sequence[str], completions: Sequence[str], *, answer: Sequence[str], **columns: Any
) -> list[float]:
    """1 where the grader (mode strict) finds the completion's marked answer equal to the column `answer`, else 0.

    Raises UserError for an answer that the grader cannot score.
    """
    return [_accuracy(completion, gold) for completion, gold in zip(completions, answer, strict=True)]


def call_reward(
    reward: Reward,
    prompts: Sequence[str],
    completions: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
) -> np.ndarray:
    """One checked call: float64 [B], all finite.

    An exception, a wrong number of values, or a value that is not a finite number raises UserError, naming the
    reward and (but for a wrong number) the row, counted from 0.
    """
    name = getattr(reward, "__name__", type(reward).__name__)
    try:
        values = list(reward(prompts, completions, **columns))
    except Exception as error:
        where = _failing_row(reward, prompts, completions, columns)
        raise UserError(f"reward {name}, {where}: {type(error).__name__}: {error}") from error
    if len(values) != len(completions):
        raise UserError(
            f"reward {name} returned {len(values)} values for {len(completions)} completions; "
            "return one number for each"
        )
    return np.array([_number(value, name, row) for row, value in enumerate(values)], dtype=np.float64)


def random_rewards(rewards: np.ndarray, *, rng_seed: int, step: int) -> np.ndarray:
    """Control: fair coins, 0 or 1, in place of rewards [N, G]; a function of (rng_seed, step) alone."""
    return np.random.default_rng((rng_seed, step)).integers(0, 2, rewards.shape).astype(rewards.dtype)


def shuffled_rewards(rewards: np.ndarray, *, rng_seed: int, step: int) -> np.ndarray:
    """Control: the true rewards [N, G] permuted within each group, so noise of the same size."""
    return np.random.default_rng((rng_seed, step)).permuted(rewards, axis=1)


def _accuracy(completion: str, gold: str) -> float:
    correct = grade(completion, gold).correct
    if correct is None:
        raise UserError(f"the answer {gold!r} cannot be graded; correct it or drop its row")
    return float(correct)


def _failing_row(
    reward: Reward,
    prompts: Sequence[str],
    completions: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
) -> str:
    """The first row on which the reward fails alone."""
    for row in range(len(completions)):
        one_row = {name: [column[row]] for name, column in columns.items()}
        try:
            reward([prompts[row]], [completions[row]], **one_row)
        except Exception:  # noqa: BLE001 - whatever a reward may raise, its row is the answer
            return f"row {row}"
    return f"rows 0 to {len(completions) - 1} together"


def _number(value: Any, name: str, row: int) -> float:
    try:
        number = math.nan if isinstance(value, str) else float(value)
    except TypeError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"reward {name}, row {row}: {value!r} is not a finite number; return a float")
    return number
