"""Reinforcement learning: rewards, advantages and the GRPO loss."""

from dsm_jax.rl.advantages import outcome_advantages, process_advantages
from dsm_jax.rl.objectives import GRPOConfig, LossOutput, grpo_loss
from dsm_jax.rl.reward_functions import accuracy_reward, format_reward, length_penalty, overlong_penalty
from dsm_jax.rl.rewards import RewardOptions, Rewards

__all__ = [
    "GRPOConfig",
    "LossOutput",
    "RewardOptions",
    "Rewards",
    "accuracy_reward",
    "format_reward",
    "grpo_loss",
    "length_penalty",
    "outcome_advantages",
    "overlong_penalty",
    "process_advantages",
]
