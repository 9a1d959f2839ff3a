"""The ready-made rewards, and the controls."""

from __future__ import annotations

import numpy as np
import pytest

from dsm_jax.errors import UserError
from dsm_jax.rl.controls import random_rewards, shuffled_rewards
from dsm_jax.rl.reward_functions import accuracy_reward, format_reward, length_penalty, overlong_penalty
from tests.rl.reward_cases import PROMPTS, score


def test_accuracy_reward_is_the_grader():
    completions = [r"2 + 2 = 4. \boxed{4}", r"\boxed{5}", "4"]
    assert accuracy_reward(PROMPTS, completions, answer=["4", "4", "4"]) == [1.0, 0.0, 0.0]


def test_an_answer_that_cannot_be_graded_names_the_row():
    with pytest.raises(UserError, match="reward accuracy_reward, row 1: .*cannot be graded"):
        score(accuracy_reward, completions=[r"\boxed{1}"] * 3, answer=["1", "", "1"])


def test_format_reward_wants_one_box_that_closes():
    completions = [r"\boxed{4}", r"\boxed{4} or \boxed{5}", "4", r"\boxed{4", r"\boxed{}"]
    assert format_reward(PROMPTS, completions) == [1.0, 0.0, 0.0, 0.0, 0.0]


def test_penalties_of_length():
    ids = [[0] * count for count in (80, 90, 100)]
    np.testing.assert_allclose(score(length_penalty(0.01), completion_ids=ids).total, [-0.8, -0.9, -1.0])
    np.testing.assert_allclose(score(overlong_penalty(100, 20), completion_ids=ids).total, [0.0, -0.5, -1.0])
    with pytest.raises(UserError, match="margin is 0; it must be above 0 and at most 100"):
        overlong_penalty(100, 0)


def test_random_rewards_are_fair_coins_of_seed_and_step():
    rewards = np.zeros((500, 8))
    coins = random_rewards(rewards, rng_seed=0, step=3)
    assert set(np.unique(coins)) == {0.0, 1.0}
    assert abs(coins.mean() - 0.5) < 0.05  # 6 standard deviations of 4,000 coins
    np.testing.assert_array_equal(coins, random_rewards(rewards + 1, rng_seed=0, step=3))
    assert (coins != random_rewards(rewards, rng_seed=0, step=4)).any()
    assert (coins != random_rewards(rewards, rng_seed=1, step=3)).any()


def test_shuffled_rewards_stay_in_their_group():
    rewards = np.random.default_rng(0).random((50, 8))
    shuffled = shuffled_rewards(rewards, rng_seed=0, step=3)
    np.testing.assert_array_equal(np.sort(shuffled, axis=1), np.sort(rewards, axis=1))
    assert (shuffled != rewards).mean() > 0.5
    np.testing.assert_array_equal(shuffled, shuffled_rewards(rewards, rng_seed=0, step=3))
    assert (shuffled != shuffled_rewards(rewards, rng_seed=0, step=4)).any()
