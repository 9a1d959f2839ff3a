"""The reward model's loss: binary cross-entropy at the ends of steps, labels from 0 to 1 (Math-Shepherd, equation 2)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dsm_jax.model.config import ModelConfig
from dsm_jax.model.decoder import Params, Remat
from dsm_jax.rl.reward_model.readout import Readout, step_scores
from dsm_jax.train.step import Batch, Objective

LABELS, MASK = "step_labels", "step_mask"  # arrays of a window, fp32 [T]


def binary_cross_entropy(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Of scores (logits) and labels in [0, 1], elementwise, in nats; exact also where a score is large."""
    return labels * jax.nn.softplus(-scores) + (1 - labels) * jax.nn.softplus(scores)


def at_step_ends(readout: Readout) -> Objective:
    """The sum over the tokens whose step_mask is 1, divided by their number in the whole batch."""

    def loss(model: ModelConfig, params: Params, rows: Batch, remat: Remat, steps: jax.Array) -> jax.Array:
        scores = step_scores(model, params, rows["tokens"], rows["segment_ids"], readout, remat)
        losses = binary_cross_entropy(scores, rows[LABELS])
        return jnp.sum(jnp.where(rows[MASK] > 0, losses, 0.0)) / steps

    return Objective(loss, MASK, "num_steps")
