"""Reinforcement learning: GRPO in one call, its loss, rewards and advantages."""

from dsm_jax.rl.advantages import outcome_advantages, process_advantages
from dsm_jax.rl.config import GRPOLoop, GRPOOptimizer, GRPOTraining
from dsm_jax.rl.objectives import GRPOConfig, LossOutput, grpo_loss
from dsm_jax.rl.reward_functions import accuracy_reward, format_reward, length_penalty, overlong_penalty
from dsm_jax.rl.rewards import RewardOptions, Rewards
from dsm_jax.rl.scoring import StepReward
from dsm_jax.rl.train import train_grpo
from dsm_jax.sample.request import Tool

__all__ = [
    "GRPOConfig",
    "GRPOLoop",
    "GRPOOptimizer",
    "GRPOTraining",
    "LossOutput",
    "RewardOptions",
    "Rewards",
    "StepReward",
    "Tool",
    "accuracy_reward",
    "format_reward",
    "grpo_loss",
    "length_penalty",
    "outcome_advantages",
    "overlong_penalty",
    "process_advantages",
    "train_grpo",
]
