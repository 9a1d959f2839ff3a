"""A GRPO run of the small model as one of two processes: python -m tests.rl.run_of_two --out FOLDER"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from dsm_jax import ending
from dsm_jax.cli import run_script
from dsm_jax.mesh import parse_mesh
from dsm_jax.model.params import init_params
from dsm_jax.rl.config import GRPOTraining
from dsm_jax.rl.grpo import run_grpo
from dsm_jax.train.loop import LoopConfig
from tests.rl.small import MODEL, TRAINING, make, short
from tests.train.steps import MESH, gathered


@dataclass(frozen=True)
class Run:
    """Two rollouts of two updates each."""

    preset: str = "only"
    out: Path = Path("run")  # the run's folder
    fails_at: int = 0  # this call of the reward raises; 0: none

    @property
    def training(self) -> GRPOTraining:
        loop = LoopConfig(steps=4, log_every=1, checkpoint_every=3, keep=9)
        return dataclasses.replace(TRAINING, loop=loop, num_iterations=2)


class Short:
    """The reward `short`, in the first process only."""

    __name__ = "short"

    def __init__(self, fails_at: int):
        self.fails_at, self.calls = fails_at, 0

    def __call__(self, prompts: list[str], completions: list[str]) -> list[float]:
        assert jax.process_index() == 0
        self.calls += len(prompts) > 1 and any(
            completions
        )  # it is tried with empty ones, and after an error row by row
        if self.calls == self.fails_at:
            raise ValueError("no server")
        return short(prompts, completions)


def main(run: Run) -> None:
    """Trains; the first process writes the parameters to last.npz."""
    mesh, reward = parse_mesh(MESH), Short(run.fails_at)
    params = run_grpo(make(run.training, mesh, reward=reward), lambda: init_params(MODEL, 0, mesh), run.out)
    leaves = jax.tree.leaves(gathered(params))
    if jax.process_index() == 0:
        np.savez(run.out / "last.npz", *leaves)
    print(f"calls of the reward: {reward.calls}")


if __name__ == "__main__":
    ending.GRACE_S = 2.0
    run_script(main, {"only": Run()})
