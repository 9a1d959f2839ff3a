"""Rotary positions (RoPE, arXiv 2104.09864), halves layout, with the two scalings of Llama checkpoints.

Left out on purpose: yarn, dynamic and long rope; hf_config.py refuses them by name.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from dsm_jax.model.config import ModelConfig


def frequencies(config: ModelConfig) -> np.ndarray:
    """Angle per position of each pair of a head's numbers, in radians: fp32 [h / 2]."""
    exponent = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    plain = (1.0 / np.float32(config.rope_theta) ** exponent).astype(np.float32)
    scaling = config.rope_scaling
    if scaling.kind == "none":
        return plain
    if scaling.kind == "linear":
        return plain / np.float32(scaling.factor)
    turns = scaling.original_max_seq_len * plain / (2 * math.pi)  # over the original length
    keep = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    keep = np.clip(keep, 0.0, 1.0)
    return (plain * (keep + (1 - keep) / scaling.factor)).astype(np.float32)


def rope_angles(positions: jax.Array, config: ModelConfig) -> tuple[jax.Array, jax.Array]:
    """cos and sin of the rotary angles, each [..., h / 2] in fp32, for integer positions [...]."""
    angles = positions[..., None].astype(jnp.float32) * frequencies(config)
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Turns x over its last axis, its first half against its second."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)
