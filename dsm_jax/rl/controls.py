"""Controls: what stands in for the rewards of a run whose gain has to be shown to come from them."""

from __future__ import annotations

import numpy as np


def random_rewards(rewards: np.ndarray, *, rng_seed: int, step: int) -> np.ndarray:
    """Fair coins, 0 or 1, in place of rewards [N, G]; a function of (rng_seed, step) alone."""
    return np.random.default_rng((rng_seed, step)).integers(0, 2, rewards.shape).astype(rewards.dtype)


def shuffled_rewards(rewards: np.ndarray, *, rng_seed: int, step: int) -> np.ndarray:
    """The true rewards [N, G] permuted within each group, so noise of the same size."""
    return np.random.default_rng((rng_seed, step)).permuted(rewards, axis=1)
