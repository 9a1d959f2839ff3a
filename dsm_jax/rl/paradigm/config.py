"""The numbers of a run of the unified paradigm: those that every method shares, and the few that are a method's own."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dsm_jax.errors import UserError
from dsm_jax.rl.alarms import AlarmOptions
from dsm_jax.rl.config import GRPOOptimizer, GRPOTraining
from dsm_jax.rl.objectives import GRPOConfig
from dsm_jax.train.optimizer import OptimizerConfig

# Options of GRPO that this loop has no use for, and the only value that it takes.
ALONE = {
    "mask_truncated_completions": False,
    "most_rollouts": 1,
    "curriculum": False,
    "overlap": False,
    "sync_ref_model": False,
    "share_prompts": False,
    "process_weight": 1.0,
    "alarms": AlarmOptions(),
}


@dataclass(frozen=True)
class ParadigmTraining:
    """training: batch, rollouts, optimiser and length of every method; of its loss beta and epsilon."""

    training: GRPOTraining = GRPOTraining()
    dpo_beta: float = 0.1  # of DPO's margin; arXiv 2305.18290's value
    gamma: float = 1.0  # discount of PPO's rewards, per token
    lam: float = 0.95  # of generalised advantage estimation; 1: the return less the value
    value_clip: float = 0.2  # how far a value may move in the updates of one rollout; 0: any
    critic: OptimizerConfig = GRPOOptimizer()  # PPO's critic

    def __post_init__(self) -> None:
        for name, only in ALONE.items():
            if getattr(self.training, name) != only:
                raise UserError(f"the paradigm's loop has no {name}; leave it as it is ({only})")
        if self.training.lora.rank:
            raise UserError("the paradigm's loop trains all parameters; set lora.rank 0")
        loss = self.training.loss
        plain = GRPOConfig(
            beta=loss.beta, epsilon=loss.epsilon, max_completion_length=loss.max_completion_length
        )
        if loss != plain:
            raise UserError("the paradigm's GRPO is eq. 3; of its loss only beta and epsilon may be set")
        for name in ("gamma", "lam"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must lie in [0, 1]")
        if not self.dpo_beta > 0:
            raise UserError(f"dpo_beta is {self.dpo_beta}; it must be above 0 (usual: 0.1)")
        if not self.value_clip >= 0:
            raise UserError(f"value_clip is {self.value_clip}; it must be at least 0, and 0 is none")

    @property
    def rollouts(self) -> int:
        """Of the whole run."""
        return -(-self.training.loop.steps // self.training.num_iterations)

    def with_beta(self, beta: float) -> GRPOTraining:
        """What a Learner of a method takes whose loss holds to the reference this strongly; 0: it has none."""
        return replace(self.training, loss=replace(self.training.loss, beta=beta))
