"""The numbers of a GRPO run: the paper's (DeepSeekMath, section 4.2) by default."""

from __future__ import annotations

from dataclasses import dataclass

from dsm_jax.errors import UserError
from dsm_jax.model.config import LoRA
from dsm_jax.model.decoder import Remat
from dsm_jax.rl.objectives import GRPOConfig
from dsm_jax.rl.rewards import RewardOptions
from dsm_jax.train.loop import LoopConfig
from dsm_jax.train.optimizer import OptimizerConfig


@dataclass(frozen=True)
class GRPOTraining:
    """A GRPO run. The defaults are the paper's (section 4.2); names as TRL's where it has them."""

    loop: LoopConfig = LoopConfig(steps=9_000, log_every=1, checkpoint_every=100)  # 144K questions / 16
    prompts_per_step: int = 16  # 16 questions x 64 = the paper's batch of 1,024
    num_generations: int = 64  # G, completions of a question
    num_iterations: int = 1  # mu, updates from one rollout
    max_completion_length: int = 1024  # tokens
    temperature: float = 1.0  # of the rollouts; not stated in the paper
    loss: GRPOConfig = GRPOConfig()
    rewards: RewardOptions = RewardOptions()
    lora: LoRA = LoRA()  # train low-rank updates only; the reference is then the base, without a copy
    # Only the learning rate is stated in the paper.
    optimizer: OptimizerConfig = OptimizerConfig(peak_lr=1e-6, schedule="constant", weight_decay=0.0)
    micro_batch_rows: int = 64  # sequences whose activations exist at once
    slots: int = 256  # rows decoded at once
    remat: Remat = "full"  # made again in the backward pass: no activation, all but matmuls' (dots), or all

    def __post_init__(self) -> None:
        if self.num_generations < 2:
            raise UserError(
                f"num_generations is {self.num_generations}; a group needs at least 2 completions"
            )
        for name in (
            "num_iterations",
            "prompts_per_step",
            "max_completion_length",
            "micro_batch_rows",
            "slots",
        ):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not self.temperature > 0:
            raise UserError(
                f"temperature is {self.temperature}; a rollout needs one above 0 (the paper's preset: 1)"
            )
