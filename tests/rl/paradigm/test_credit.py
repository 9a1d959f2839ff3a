"""Credit per token, against loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.errors import UserError
from dsm_jax.rl.paradigm import credit
from dsm_jax.rl.paradigm.credit import Graded
from dsm_jax.rl.rewards import Steps


def some(seed: int) -> Graded:
    """3 groups of 4, the longest of 9 tokens and 3 steps; steps end in rising places, the last one with the last token."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 10, (3, 4))
    lengths[0, 0] = 9

    ends = [
        np.unique(np.append(rng.integers(0, length, 2), length - 1)) for length in lengths.ravel().tolist()
    ]
    ends[0] = np.array([2, 5, 8])
    counts = np.array([len(one) for one in ends])
    steps = Steps(counts, np.concatenate(ends), rng.random(counts.sum()), {})
    return Graded(rng.random((3, 4)), lengths, steps)


def of_completions(graded: Graded):
    """(ends, rewards) of each."""
    steps = graded.steps
    return list(zip(steps.of_completions(steps.ends), steps.of_completions(steps.rewards), strict=True))


@given(st.integers(0, 2**32 - 1))
def test_steps_to_come_are_sums_of_rewards_normalised_over_the_group(seed):
    graded = some(seed)
    found = credit.steps_to_come(graded)
    for i in range(3):
        group = of_completions(graded)[4 * i : 4 * i + 4]
        every = np.concatenate([rewards for _, rewards in group])
        for j, (ends, rewards) in enumerate(group):
            normalised = (rewards - every.mean()) / (every.std() + 1e-6)
            wanted = [normalised[ends >= t].sum() for t in range(found.shape[2])]
            np.testing.assert_allclose(found[i, j], wanted, rtol=2e-4, atol=2e-4)


@given(st.integers(0, 2**32 - 1))
def test_rewards_are_placed_where_the_text_ends_or_its_steps(seed):
    graded = some(seed)
    whole, steps = credit.at_last_token(graded), credit.at_step_ends(graded)
    for i, j in np.ndindex(3, 4):
        wanted = np.zeros(whole.shape[2])
        wanted[graded.lengths[i, j] - 1] = graded.rewards[i, j]
        np.testing.assert_array_equal(whole[i, j], wanted)
        wanted[:] = 0
        for end, reward in zip(*of_completions(graded)[4 * i + j], strict=True):
            wanted[end] = reward
        np.testing.assert_array_equal(steps[i, j], wanted)


def test_outcomes_count_on_every_token():
    graded = Graded(np.array([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 0.0, 1.0]]), np.full((2, 4), 3))
    by_name = {
        credit.all_of_it: [1] * 4,
        credit.right_only: [1, 0, 0, 1],
        credit.reward_itself: [1, 0, 0, 1],
        credit.better_and_worse: [1, -1, -1, 1],
        credit.above_group_mean: [0.5, -0.5, -0.5, 0.5],
        credit.group_normalised: [1, -1, -1, 1],
    }
    for name, wanted in by_name.items():
        found = name(graded)
        assert found.shape == (2, 4, 3)
        np.testing.assert_allclose(found[0], np.tile(np.array(wanted)[:, None], 3), atol=1e-5)


def test_the_mean_of_the_others_is_the_mean_of_all_at_another_rate():
    """Leave one out: r_i - mean of the other G - 1 is G / (G - 1) of what is above the group's mean."""
    rewards = np.random.default_rng(0).random((5, 4))
    others = (rewards.sum(axis=1, keepdims=True) - rewards) / 3
    found = credit.above_group_mean(Graded(rewards, np.ones((5, 4), int)))[..., 0]
    np.testing.assert_allclose(found * 4 / 3, rewards - others, atol=1e-6)


def test_a_completion_without_a_reward_is_left_out():
    graded = Graded(np.array([[1.0, np.nan, 0.0, 0.0]]), np.array([[2, 5, 1, 3]]))
    found = credit.of_completions(graded, credit.group_normalised(graded))
    assert [len(one) for one in found] == [2, 1, 3]
    np.testing.assert_allclose([one[0] for one in found], np.array([2, -1, -1]) / np.sqrt(2), atol=1e-5)


def test_wrong_rewards_are_one_line():
    graded = Graded(np.array([[1.0, 0.4]]), np.ones((1, 2), int))
    with pytest.raises(UserError, match="is 0.4; give a rule"):
        credit.right_only(graded)
