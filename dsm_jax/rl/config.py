"""The numbers of a GRPO run: the paper's (DeepSeekMath, section 4.2) by default."""

from __future__ import annotations

from dataclasses import dataclass, fields

from dsm_jax.errors import UserError
from dsm_jax.model.config import LoRA
from dsm_jax.model.decoder import Remat
from dsm_jax.rl.alarms import AlarmOptions
from dsm_jax.rl.objectives import GRPOConfig
from dsm_jax.rl.rewards import RewardOptions
from dsm_jax.rl.steps.segments import Splitting
from dsm_jax.train.loop import LoopConfig
from dsm_jax.train.optimizer import OptimizerConfig, Schedule

# Options that a run may be given anew when it goes on: what is kept, shown and waited for, and what becomes of a reward that
# fails.
CHANGEABLE = (
    *(f"--grpo.loop.{name}" for name in ("keep", "keep-every", "profile-at", "wandb")),
    *(f"--grpo.rewards.{name}" for name in ("timeout-s", "processes", "on-error")),
    *(f"--grpo.alarms.{field.name}" for field in fields(AlarmOptions)),
)


@dataclass(frozen=True)
class GRPOLoop(LoopConfig):
    """The loop of a GRPO run: 144K questions / 16 of a rollout are 9,000 updates."""

    steps: int = 9_000  # updates
    log_every: int = 1  # updates between two rows of metrics.jsonl
    checkpoint_every: int = 100  # updates between two checkpoints; the last update is always saved


@dataclass(frozen=True)
class GRPOOptimizer(OptimizerConfig):
    """GRPO's AdamW; only the learning rate is stated in the paper."""

    peak_lr: float = 1e-6  # highest learning rate
    schedule: Schedule = "constant"  # what follows the warm-up
    weight_decay: float = 0.0  # decoupled, of matrices only


@dataclass(frozen=True)
class GRPOTraining:
    """A GRPO run of loop.steps updates. The defaults are the paper's (section 4.2); names as TRL's where it has them."""

    loop: LoopConfig = GRPOLoop()
    batch_size: int = 1024  # completions of a rollout: 16 questions x 64
    num_generations: int = 64  # G, completions of a question
    num_iterations: int = 1  # mu, updates from one rollout
    max_completion_length: int = 1024  # tokens
    temperature: float = 1.0  # of the rollouts; not stated in the paper
    loss: GRPOConfig = GRPOConfig(max_completion_length=1024)
    rewards: RewardOptions = RewardOptions()
    # where rewards of steps cut a completion: at every line, before "Step k:", or behind sentences and lines
    splitting: Splitting = "lines"
    process_weight: float = 1.0  # of the steps' advantages beside those of whole completions
    alarms: AlarmOptions = AlarmOptions()
    mask_truncated_completions: bool = False  # leave completions cut at the limit out of the loss (DAPO)
    # draw further questions in place of those whose completions are all right or all wrong, up to so many rollouts for
    # one batch (DAPO's dynamic sampling); 1: none
    most_rollouts: int = 1
    # draw questions by their last success rate: those that are always or never answered right seldom; off: each once an
    # epoch
    curriculum: bool = False
    # sample the next rollout while this one is trained on: num_iterations updates off, which importance_sampling_correction
    # corrects
    overlap: bool = False
    sync_ref_model: bool = False  # move the reference towards the policy, every ref_model_sync_steps updates
    ref_model_sync_steps: int = 512  # updates
    ref_model_mixup_alpha: float = 0.6  # share of the policy in the new reference
    lora: LoRA = LoRA()  # train low-rank updates only; the reference is then the base, without a copy
    optimizer: OptimizerConfig = GRPOOptimizer()
    micro_batch_tokens: int = 32_768  # rows x width, padding included, whose activations exist at once
    share_prompts: bool = False  # run the update over a prompt once for several of its completions
    slots: int = 256  # rows decoded at once
    remat: Remat = "full"  # made again in the backward pass: no activation, all but matmuls' (dots), or all

    def __post_init__(self) -> None:
        if self.num_generations < 2:
            raise UserError(
                f"num_generations is {self.num_generations}; a group needs at least 2 completions"
            )
        for name in (
            "batch_size",
            "num_iterations",
            "max_completion_length",
            "most_rollouts",
            "ref_model_sync_steps",
            "micro_batch_tokens",
            "slots",
        ):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.batch_size % self.num_generations:
            raise UserError(
                f"num_generations is {self.num_generations}; it must divide the batch_size {self.batch_size}, so that every "
                "question has a whole group"
            )
        if not self.process_weight > 0:
            raise UserError(f"process_weight is {self.process_weight}; it must be above 0")
        if not self.temperature > 0:
            raise UserError(
                f"temperature is {self.temperature}; a rollout needs one above 0 (the paper's preset: 1)"
            )
        if not 0 < self.ref_model_mixup_alpha <= 1:
            raise UserError(
                f"ref_model_mixup_alpha is {self.ref_model_mixup_alpha}; it must be above 0 and at most 1"
            )
        if self.overlap and not self.loss.importance_sampling_correction:
            raise UserError(
                "overlap: its completions are of the policy num_iterations updates ago; set loss.importance_sampling_correction"
            )
        if self.sync_ref_model and not self.loss.beta:
            raise UserError(
                "sync_ref_model: with loss.beta 0 there is no reference that could move; set a beta above 0"
            )
        if self.sync_ref_model and self.lora.rank:
            raise UserError(
                "sync_ref_model: with lora the reference is the base, which stays; set lora.rank 0"
            )

    @property
    def holds_reference(self) -> bool:
        """Whether there are parameters of a reference: for the KL, or LoRA's base."""
        return self.loss.beta > 0 or self.lora.rank > 0

    @property
    def prompts_per_rollout(self) -> int:
        return self.batch_size // self.num_generations
