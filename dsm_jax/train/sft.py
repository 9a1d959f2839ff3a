"""Supervised fine-tuning: the paper's numbers (DeepSeekMath, section 3)."""

from __future__ import annotations

from dsm_jax.train.lm import LMTraining
from dsm_jax.train.loop import LoopConfig
from dsm_jax.train.optimizer import OptimizerConfig

# Section 3: 500 updates of 256 windows of 4K, constant learning rate.
DEEPSEEK_MATH_7B = LMTraining(
    loop=LoopConfig(steps=500, checkpoint_every=100),
    optimizer=OptimizerConfig(peak_lr=5e-5, schedule="constant"),
    batch_size=256,
    micro_batch_rows=64,  # our choice
    window=4_096,
    remat="full",
)
