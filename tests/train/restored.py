"""What a run's checkpoint restores to, gathered to one process: python -m tests.train.restored RUN MESH FILE.npz"""

import sys
from pathlib import Path

import jax
import numpy as np

from dsm_jax.mesh import parse_mesh
from dsm_jax.model.hf_folder import read_config
from dsm_jax.processes import is_first_process
from dsm_jax.train.checkpoint import Checkpoints
from dsm_jax.train.optimizer import OptimizerConfig, make_optimizer
from dsm_jax.train.start import CHECKPOINTS, SHAPE
from dsm_jax.train.step import abstract_state
from tests.train.steps import gathered


def main(run: str, mesh: str, file: str) -> None:
    folder, devices = Path(run) / CHECKPOINTS, parse_mesh(mesh)
    optimizer, _ = make_optimizer(OptimizerConfig(1e-3), 20)
    with Checkpoints(folder, read_only=True) as checkpoints:
        state = checkpoints.restore(abstract_state(read_config(folder / SHAPE), optimizer, devices))
    leaves = jax.tree.leaves(gathered(state))
    if is_first_process():
        np.savez(file, *leaves)


if __name__ == "__main__":
    main(*sys.argv[1:])
