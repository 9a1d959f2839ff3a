"""A small model, a rule that half of its answers keep at first, and a reward for their lines."""

import dataclasses
from pathlib import Path

import numpy as np

from dsm_jax.data.prompts import prompt_text
from dsm_jax.mesh import single_device_mesh
from dsm_jax.rl.paradigm.config import ParadigmTraining
from dsm_jax.rl.paradigm.loop import Paradigm
from dsm_jax.rl.paradigm.method import METHODS
from dsm_jax.rl.scoring import StepReward
from dsm_jax.train.optimizer import OptimizerConfig
from tests.rl.small import MODEL, TRAINING, Letters

ONE_BATCH = dataclasses.replace(TRAINING, micro_batch_tokens=1024)  # fewer programs to compile
CONFIG = ParadigmTraining(
    ONE_BATCH, critic=OptimizerConfig(peak_lr=3e-3, schedule="constant", weight_decay=0.0)
)
NEWLINES = range(40, 60)  # a third of the tokens, so that completions have several lines
SOLUTIONS = [(f"q{i}", "A" * (1 + i % 5)) for i in range(20)]


def early(prompts, completions, **columns):
    """Whether the first letter is one of the first half."""
    return [float("@" <= completion[:1] < "`") for completion in completions]


class Lines(Letters):
    """Letters, some of which end a line."""

    def decode(self, ids):
        return "".join(
            "\n" if token in NEWLINES else chr(64 + token) for token in ids if token != self.eos_id
        )


def letters(completions, step):
    """A reward of a step: the share of early letters in it."""
    return [float(np.mean([c < "`" for c in one] or [0])) for one in step]


def make(method: str, config: ParadigmTraining = CONFIG, mesh=None, **options) -> Paradigm:
    def some(draw):
        return [
            {"prompt": prompt_text(f"q{draw % 10} {i}"), "answer": "7"}
            for i in range(config.training.prompts_per_rollout)
        ]

    reward = StepReward(letters) if METHODS[method].reward == "steps" else early
    given = {"prompts": some, "solutions": SOLUTIONS, "reward": reward} | options
    return Paradigm(method, config, MODEL, Lines(), mesh or single_device_mesh(), **given)


def training(**options) -> ParadigmTraining:
    return dataclasses.replace(CONFIG, training=dataclasses.replace(ONE_BATCH, **options))


def steps_of(paradigm: Paradigm, state, folder: Path, count: int):
    """So many updates; the last one's metrics."""
    metrics = {}
    for step in range(count):
        state, metrics = paradigm.step(state, step, folder)
    return state, metrics
