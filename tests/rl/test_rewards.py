"""Rewards: the checked call, the grader's reward, the controls."""

from __future__ import annotations

import numpy as np
import pytest

from dsm_jax.errors import UserError
from dsm_jax.rl.rewards import accuracy_reward, call_reward, random_rewards, shuffled_rewards

PROMPTS = ["p0", "p1", "p2"]
COMPLETIONS = ["a", "bb", "ccc"]


def test_a_reward_is_a_plain_function_of_its_columns():
    def bonus(prompts, completions, *, weight, **columns):
        return [w * len(c) for w, c in zip(weight, completions, strict=True)]

    values = call_reward(bonus, PROMPTS, COMPLETIONS, {"weight": [1, 2, 3], "unused": [0, 0, 0]})
    np.testing.assert_array_equal(values, [1.0, 4.0, 9.0])
    assert values.dtype == np.float64


def test_true_and_numpy_values_are_numbers():
    values = call_reward(lambda p, c: [True, np.float32(0.5), np.int64(2)], PROMPTS, COMPLETIONS, {})
    np.testing.assert_array_equal(values, [1.0, 0.5, 2.0])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None, "1", [1.0]])
def test_a_value_that_is_no_number_names_reward_and_row(bad):
    def spoiled(prompts, completions):
        return [0.0, 1.0, bad]

    with pytest.raises(UserError, match="reward spoiled, row 2: .* is not a finite number"):
        call_reward(spoiled, PROMPTS, COMPLETIONS, {})


@pytest.mark.parametrize("count", [0, 2, 4])
def test_a_wrong_number_of_values_names_the_reward(count):
    def short(prompts, completions):
        return [0.0] * count

    with pytest.raises(UserError, match=f"reward short returned {count} values for 3 completions"):
        call_reward(short, PROMPTS, COMPLETIONS, {})


def test_an_exception_names_reward_and_row():
    def picky(prompts, completions, *, answer):
        if "bb" in completions:
            raise ValueError("no bb here")
        return [0.0] * len(completions)

    with pytest.raises(UserError, match="reward picky, row 1: ValueError: no bb here"):
        call_reward(picky, PROMPTS, COMPLETIONS, {"answer": ["1", "2", "3"]})


def test_an_exception_of_no_single_row_says_so():
    def crowded(prompts, completions):
        if len(completions) > 1:
            raise RuntimeError("too many")
        return [0.0]

    with pytest.raises(UserError, match="reward crowded, rows 0 to 2 together: RuntimeError: too many"):
        call_reward(crowded, PROMPTS, COMPLETIONS, {})


def test_accuracy_reward_is_the_grader():
    completions = [r"2 + 2 = 4. \boxed{4}", r"\boxed{5}", "4"]
    assert accuracy_reward(PROMPTS, completions, answer=["4", "4", "4"]) == [1.0, 0.0, 0.0]


def test_an_answer_that_cannot_be_graded_names_the_row():
    completions = [r"\boxed{1}"] * 3
    with pytest.raises(UserError, match="reward accuracy_reward, row 1: .*cannot be graded"):
        call_reward(accuracy_reward, PROMPTS, completions, {"answer": ["1", "", "1"]})


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
