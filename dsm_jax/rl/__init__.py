"""Reinforcement learning: rewards, advantages and the GRPO loss."""

from dsm_jax.rl.advantages import outcome_advantages
from dsm_jax.rl.objectives import GRPOConfig, LossOutput, grpo_loss

__all__ = ["GRPOConfig", "LossOutput", "grpo_loss", "outcome_advantages"]
