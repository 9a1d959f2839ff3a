"""Training: optimiser, log-probabilities, the train step, checkpoints, the loop; pretraining and SFT presets."""

from dsm_jax.train.checkpoint import Checkpoints
from dsm_jax.train.lm import LMTraining, train_lm
from dsm_jax.train.logps import TokenLogps, token_logps
from dsm_jax.train.loop import LoopConfig, run_loop
from dsm_jax.train.optimizer import OptimizerConfig, make_optimizer

__all__ = [
    "Checkpoints",
    "LMTraining",
    "LoopConfig",
    "OptimizerConfig",
    "TokenLogps",
    "make_optimizer",
    "run_loop",
    "token_logps",
    "train_lm",
]
