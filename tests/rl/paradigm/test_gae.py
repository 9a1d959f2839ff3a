"""Generalised advantage estimation against a plain loop and closed forms."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.rl.paradigm.gae import gae, token_rewards


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def some(seed: int, rows: int, length: int):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, length)), rng.normal(size=(rows, length)), rng.random((rows, length)) < 0.7


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.sampled_from([(1, 1), (3, 9)]),  # rows, tokens: lengths are the mask's
    gamma=st.floats(0, 1),
    lam=st.floats(0, 1),
)
def test_it_is_the_sum_over_later_errors(seed, shape, gamma, lam):
    """A_t = sum_l (gamma lam)^l delta_{t + l}, over the tokens that are the policy's."""
    rewards, values, mask = some(seed, *shape)
    rows, length = shape
    advantages, returns = jax.jit(gae)(rewards, values, mask, gamma=gamma, lam=lam)
    for row in range(rows):
        there = np.flatnonzero(mask[row])
        v, r = [*values[row, there], 0.0], rewards[row, there]
        deltas = [r[i] + gamma * v[i + 1] - v[i] for i in range(len(there))]
        wanted = np.zeros(length)
        for i, t in enumerate(there):
            wanted[t] = sum((gamma * lam) ** k * delta for k, delta in enumerate(deltas[i:]))
        np.testing.assert_allclose(advantages[row], wanted, atol=1e-12)
        np.testing.assert_allclose(returns[row], np.where(mask[row], wanted + values[row], 0), atol=1e-12)


def test_closed_forms():
    rewards, values, mask = some(0, 5, 12)
    mask[:, -1] = True
    to_come = np.cumsum(np.where(mask, rewards, 0)[:, ::-1], axis=1)[:, ::-1]
    advantages, returns = gae(rewards, values, mask, gamma=1.0, lam=1.0)
    np.testing.assert_allclose(advantages, np.where(mask, to_come - values, 0), atol=1e-12)
    np.testing.assert_allclose(returns, np.where(mask, to_come, 0), atol=1e-12)
    one_step, _ = gae(rewards, values, np.ones_like(mask), gamma=0.9, lam=0.0)
    following = np.pad(values[:, 1:], ((0, 0), (0, 1)))
    np.testing.assert_allclose(one_step, rewards + 0.9 * following - values, atol=1e-12)
    exact, _ = gae(rewards, np.where(mask, to_come, 0.0), mask, gamma=1.0, lam=0.5)
    np.testing.assert_allclose(exact, 0, atol=1e-12)  # a critic that knows


def test_padding_is_never_read_and_nothing_is_expected_behind_the_end():
    rewards, values = np.array([[1.0, 2.0, np.nan]]), np.array([[0.5, 0.25, np.nan]])
    advantages, returns = gae(rewards, values, np.array([[1, 1, 0]]), gamma=1.0, lam=0.95)
    last = 2.0 - 0.25
    np.testing.assert_allclose(advantages, [[1.0 + 0.25 - 0.5 + 0.95 * last, last, 0]])
    np.testing.assert_allclose(returns[0, 1:], [2.0, 0])


def test_the_kl_is_in_the_reward():
    placed, logps, ref = (
        np.array([[0.0, 1.0, 0.0]]),
        np.array([[-1.0, -2.0, 0.0]]),
        np.array([[-1.5, -1.0, 9.0]]),
    )
    found = token_rewards(placed, logps, ref, np.array([[1, 1, 0]]), beta=0.1)
    np.testing.assert_allclose(found, [[-0.05, 1.1, 0.0]])
