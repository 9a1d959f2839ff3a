"""A small model and its GRPO, for tests of the loop."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np

from dsm_jax.data.prompts import prompt_text
from dsm_jax.mesh import single_device_mesh
from dsm_jax.model.config import SMOKE
from dsm_jax.model.params import init_params
from dsm_jax.rl.config import GRPOTraining
from dsm_jax.rl.grpo import GRPO
from dsm_jax.rl.journal import Journal
from dsm_jax.rl.rollout import Rollout
from dsm_jax.train.loop import LoopConfig
from dsm_jax.train.optimizer import OptimizerConfig

MODEL = dataclasses.replace(SMOKE, vocab_size=64, n_layers=1)
TRAINING = GRPOTraining(
    loop=LoopConfig(steps=4, log_every=1, checkpoint_every=1),
    batch_size=16,
    num_generations=4,
    max_completion_length=8,
    optimizer=OptimizerConfig(peak_lr=3e-3, schedule="constant", weight_decay=0.0),
    micro_batch_tokens=256,
    slots=16,
    remat="none",
)

OPTIONS = {  # of the loss, one of each kind
    "grpo": {},
    "dapo": {"loss_type": "dapo", "epsilon_high": 0.28},
    "dr_grpo": {"loss_type": "dr_grpo", "max_completion_length": 20},
    "cispo": {"loss_type": "cispo", "epsilon_high": 1.1},
    "gspo": {"importance_sampling_level": "sequence", "epsilon": 0.05},
    "gspo of tokens": {"importance_sampling_level": "sequence", "epsilon": 0.05, "loss_type": "dapo"},
    "cispo of rows": {"loss_type": "cispo", "epsilon_high": 1.1, "importance_sampling_level": "sequence"},
    "two-sided": {"delta": 1.3},
    "k1": {"kl_estimator": "k1"},
    "k2": {"kl_estimator": "k2"},
    "corrected k3": {"use_bias_correction_kl": True},
    "top entropy": {"top_entropy_quantile": 0.3},
    "TIS": {"importance_sampling_correction": True, "importance_sampling_clip_max": 1.005},
}


class Letters:
    """A tokenizer of 60 characters."""

    vocab_size, bos_id, eos_id, pad_id, fingerprint = 64, 1, 2, 0, "letters"

    def encode(self, text: str) -> list[int]:
        return [4 + ord(letter) % 60 for letter in text]

    def decode(self, ids: list[int]) -> str:
        return "".join(chr(64 + token) for token in ids)

    def spelled(self, ids: list[int]) -> list[bytes]:
        return [chr(64 + token).encode() for token in ids]


def short(prompts, completions, **columns):
    """A reward that can be learned in a few steps: end at once."""
    return [1.0 / (1 + len(completion)) for completion in completions]


def make(config=TRAINING, mesh=None, *, reward=short, prompts=None, **options) -> GRPO:
    def some(draw):
        return [
            {"prompt": prompt_text(f"q{draw} {i}" + "z" * i), "answer": "7"}
            for i in range(config.prompts_per_rollout)
        ]

    mesh = mesh or single_device_mesh()
    return GRPO(config, MODEL, Letters(), mesh, prompts=prompts or some, reward=reward, **options)


def start():
    return init_params(MODEL, 0, single_device_mesh())


def rollout(grpo: GRPO, params, draw: int = 0) -> Rollout:
    with tempfile.TemporaryDirectory() as folder:
        return grpo.actor.rollout(params, draw, Journal(Path(folder)))


def advantages(sampled: Rollout) -> np.ndarray:
    """[N, G] of whole completions, each the same for all of its tokens."""
    assert all((one == one[0]).all() for one in sampled.advantages)
    return np.array([one[0] for one in sampled.advantages]).reshape(sampled.rewards.shape)


def update(grpo: GRPO, state, sampled: Rollout):
    """All mu of them; the metrics of the last."""
    with tempfile.TemporaryDirectory() as folder:
        for place in range(grpo.config.num_iterations):
            state, metrics = grpo.update(state, sampled, Journal(Path(folder)), place)
    return state, metrics
