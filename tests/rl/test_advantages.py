"""Outcome advantages: golden numbers, zero-spread groups, precision."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsm_jax.rl.advantages import outcome_advantages, process_advantages

FOLDER = Path(__file__).parents[1] / "data" / "grpo_goldens"
GOLDENS = np.load(FOLDER / "goldens.npz")
STEPS = json.loads((FOLDER / "goldens.json").read_text())["cases"]["paper/process_steps"]["steps"]


def test_golden_numbers():
    rewards = GOLDENS["rewards_dense"].reshape(2, 4)
    with jax.enable_x64(True):
        trl = outcome_advantages(rewards, ddof=1, eps=1e-4)
        verl = outcome_advantages(rewards, ddof=1, eps=1e-6)
    np.testing.assert_allclose(trl.reshape(-1), GOLDENS["adv"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(verl.reshape(-1), GOLDENS["verl/adv_grpo"][:, 0], rtol=0, atol=1e-9)


def test_by_hand():
    np.testing.assert_allclose(outcome_advantages([[1, 0, 0, 1]], eps=0), [[1, -1, -1, 1]], atol=1e-6)
    sample = outcome_advantages([[1, 0, 0, 1]], ddof=1, eps=0)
    np.testing.assert_allclose(sample, np.sqrt(3 / 4) * np.array([[1, -1, -1, 1]]), atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    value=st.floats(-1e6, 1e6, width=32),
    group=st.sampled_from([1, 2, 8, 64]),
    ddof=st.integers(0, 1),
    eps=st.sampled_from([0.0, 1e-12, 1e-6]),
)
def test_a_group_without_spread_gets_exactly_zero(value, group, ddof, eps):
    advantages = outcome_advantages(np.full((1, group), value, np.float32), ddof=ddof, eps=eps)
    assert (np.asarray(advantages) == 0).all()


def test_a_group_without_spread_leaves_its_neighbour_alone():
    both = outcome_advantages([[0.1, 0.1, 0.1], [0.0, 1.0, 0.5]])
    assert (np.asarray(both[0]) == 0).all()
    np.testing.assert_array_equal(both[1], outcome_advantages([[0.0, 1.0, 0.5]])[0])


def test_a_large_offset_costs_no_digits_in_float32():
    rewards = np.tile([0.0, 1.0, 2.0, 3.0], 16)[None]
    near, far = outcome_advantages(rewards), outcome_advantages(rewards + 2.0**22)
    assert near.dtype == jnp.float32
    np.testing.assert_allclose(far, near, rtol=1e-6)


@pytest.mark.parametrize("rewards", [[[1, 0]], [[True, False]]])
def test_whole_and_boolean_rewards(rewards):
    np.testing.assert_allclose(outcome_advantages(rewards, eps=0), [[1.0, -1.0]])


def test_the_batch_s_deviation_and_none():
    rewards = GOLDENS["rewards_dense"].reshape(2, 4)
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    with jax.enable_x64(True):
        batch = outcome_advantages(rewards, ddof=1, eps=0, scale="batch")
        none = outcome_advantages(rewards, scale="none")
    np.testing.assert_allclose(batch, centred / rewards.std(ddof=1), rtol=0, atol=1e-12)
    np.testing.assert_allclose(none.reshape(-1), GOLDENS["verl/adv_grpo_nostd"][:, 0], rtol=0, atol=1e-9)
    for scale in ("batch", "none"):
        flat = outcome_advantages([[0.1, 0.1, 0.1], [0.1, 0.1, 0.1]], scale=scale, eps=0)
        assert (np.asarray(flat) == 0).all()


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_a_row_that_is_left_out_counts_nowhere(scale):
    with_it = outcome_advantages([[1.0, np.nan, 0.0, 0.5], [2.0, 3.0, 3.0, np.nan]], ddof=1, scale=scale)
    if scale != "batch":
        expected = [
            outcome_advantages([row], ddof=1, scale=scale)[0] for row in ([1.0, 0.0, 0.5], [2.0, 3.0, 3.0])
        ]
        np.testing.assert_allclose(with_it[0, [0, 2, 3]], expected[0], rtol=1e-6)
        np.testing.assert_allclose(with_it[1, :3], expected[1], rtol=1e-6)
    else:
        deviation = np.std([1.0, 0.0, 0.5, 2.0, 3.0, 3.0], ddof=1)
        np.testing.assert_allclose(with_it[0, 0], 0.5 / (deviation + 1e-6), rtol=1e-6)
    assert with_it[0, 1] == with_it[1, 3] == 0
    assert (np.asarray(outcome_advantages([[np.nan] * 3], scale=scale)) == 0).all()


def padded_steps(rows, group):
    longest = max(len(steps) for steps in rows)
    ends = np.full((len(rows), longest), -1, np.int32)
    rewards = np.full((len(rows), longest), 99.0)  # behind the last step: never read
    for row, steps in enumerate(rows):
        for at, (end, reward) in enumerate(steps):
            ends[row, at], rewards[row, at] = end, reward
    return rewards.reshape(-1, group, longest), ends.reshape(-1, group, longest)


@pytest.mark.parametrize("ddof", [0, 1])
def test_golden_process_advantages(ddof):
    rewards, ends = padded_steps(STEPS, 4)
    with jax.enable_x64(True):
        ours = process_advantages(rewards, ends, 12, ddof=ddof, eps=0)
    assert ours.shape == (2, 4, 12)
    expected = GOLDENS[f"paper/process_adv_ddof{ddof}"]
    np.testing.assert_allclose(ours.reshape(8, 12), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("scale", ["batch", "none"])
def test_step_rewards_that_are_scaled_otherwise(scale):
    """Less the mean of the group's steps; divided by nothing, or by the deviation of all groups' steps."""
    rewards, ends = padded_steps([[(0, 1.0), (2, 0.0)], [(1, 0.5)], [(1, 4.0)], [(2, 0.0)]], 2)
    ours = np.asarray(process_advantages(rewards, ends, 3, eps=0, scale=scale)).reshape(4, 3)
    by = np.std([1.0, 0.0, 0.5, 4.0, 0.0]) if scale == "batch" else 1.0
    wanted = np.array([[0.0, -0.5, -0.5], [0.0, 0.0, 0.0], [2.0, 2.0, 0.0], [-2.0, -2.0, -2.0]]) / by
    np.testing.assert_allclose(ours, wanted, rtol=1e-6)


def test_steps_that_are_all_the_same_give_exactly_zero():
    rewards, ends = padded_steps([[(2, 0.3), (5, 0.3)], [(4, 0.3)]], 2)
    assert (np.asarray(process_advantages(rewards, ends, 7)) == 0).all()


def test_one_step_at_the_end_is_outcome_supervision():
    rewards, ends = padded_steps([[(5, 0.9)], [(3, 0.1)], [(5, 0.4)]], 3)
    ours = np.asarray(process_advantages(rewards, ends, 6))[0]
    outcome = np.asarray(outcome_advantages([[0.9, 0.1, 0.4]]))[0]
    for row, last in enumerate((5, 3, 5)):
        np.testing.assert_allclose(ours[row, : last + 1], outcome[row], rtol=1e-6)
        assert (ours[row, last + 1 :] == 0).all()
