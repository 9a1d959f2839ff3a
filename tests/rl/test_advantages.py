"""Outcome advantages: golden numbers, zero-spread groups, precision."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsm_jax.rl.advantages import outcome_advantages

GOLDENS = np.load(Path(__file__).parents[1] / "data" / "grpo_goldens" / "goldens.npz")


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
