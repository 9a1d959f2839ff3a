"""Reinforcement learning: rewards, advantages and the GRPO loss."""

from dsm_jax.rl.advantages import outcome_advantages, process_advantages
from dsm_jax.rl.objectives import GRPOConfig, LossOutput, grpo_loss
from dsm_jax.rl.rewards import accuracy_reward

__all__ = [
    "GRPOConfig",
    "LossOutput",
    "accuracy_reward",
    "grpo_loss",
    "outcome_advantages",
    "process_advantages",
]
