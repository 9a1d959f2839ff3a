"""One training step of each kind, the same on any mesh: loss and gradients. As a script it is one of two processes:
python -m tests.train.steps KIND FILE.npz"""

import dataclasses
import sys
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental.multihost_utils import process_allgather

from dsm_jax.mesh import batch_sharding, parse_mesh
from dsm_jax.model.config import SMOKE
from dsm_jax.model.params import init_params, param_shardings
from dsm_jax.rl.config import GRPOTraining
from dsm_jax.rl.update import Whole, make_gradients
from dsm_jax.train.step import lm_loss, put_batch

# Grouped heads that four devices can share, and every parameter that a family may have.
CONFIG = dataclasses.replace(SMOKE, n_heads=8, n_kv_heads=4, qkv_bias=True, qk_norm=True, init_std=0.05)
MESH = "data=2,fsdp=2,tensor=2"
ROWS, TIME = 8, 48


def packed_batch(answer_only: bool) -> dict[str, np.ndarray]:
    """Two documents and padding a row; loss on all of them, or on each one's second half."""
    rng = np.random.default_rng(0)
    segments = np.repeat([[1] * 20 + [2] * 22 + [0] * 6], ROWS, axis=0).astype(np.int32)
    mask = (segments > 0).astype(np.float32)
    mask[:, [0, 20]] = 0
    if answer_only:
        mask[:, :10] = mask[:, 20:30] = 0
    return {"tokens": _tokens(rng), "segment_ids": segments, "loss_mask": mask}


def rollout_batch() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    lengths = rng.integers(20, TIME, (ROWS, 1))
    place = np.arange(TIME)[None]
    return {
        "tokens": _tokens(rng),
        "segment_ids": (place < lengths).astype(np.int32),
        "mask": ((place >= 10) & (place < lengths)).astype(np.float32),
        "sampler_logps": -rng.random((ROWS, TIME)).astype(np.float32),
        "advantages": rng.normal(size=(ROWS, TIME)).astype(np.float32),
    }


def _tokens(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, CONFIG.vocab_size, (ROWS, TIME)).astype(np.int32)


def lm_gradients(mesh: jax.sharding.Mesh, answer_only: bool, remat: str = "none") -> tuple[float, dict]:
    params = init_params(CONFIG, 0, mesh)
    step = jax.jit(
        jax.value_and_grad(lambda params, batch: lm_loss(CONFIG, params, batch, remat)),
        in_shardings=(param_shardings(CONFIG, mesh), batch_sharding(mesh)),
    )
    with jax.set_mesh(mesh):
        loss, gradients = step(params, put_batch(packed_batch(answer_only), mesh))
    return float(loss), gathered(gradients)


def grpo_gradients(mesh: jax.sharding.Mesh) -> tuple[float, dict]:
    accumulate = make_gradients(GRPOTraining(num_generations=4, remat="none"), CONFIG, mesh)
    params, reference = init_params(CONFIG, 0, mesh), init_params(CONFIG, 1, mesh)
    with jax.set_mesh(mesh):
        batch = put_batch(rollout_batch(), mesh)
        gradients, metrics, _ = accumulate(None, params, reference, batch, Whole(ROWS, 1))
    return float(metrics["loss"].sum / metrics["loss"].denominator), gathered(gradients)


def gathered(tree: dict) -> dict:
    """Whole numpy arrays, also of what other processes hold."""
    return process_allgather(tree, tiled=True) if jax.process_count() > 1 else jax.device_get(tree)


KINDS: dict[str, Callable[[jax.sharding.Mesh], tuple[float, dict]]] = {
    "pretrain": lambda mesh: lm_gradients(mesh, answer_only=False),
    "sft": lambda mesh: lm_gradients(mesh, answer_only=True),
    "grpo": grpo_gradients,
}


def main(kind: str, file: str) -> None:
    loss, gradients = KINDS[kind](parse_mesh((MESH,)))
    assert jax.process_count() == 2 and len(jax.local_devices()) == 4
    if jax.process_index() == 0:
        np.savez(file, loss, *jax.tree.leaves(gradients))


if __name__ == "__main__":
    main(*sys.argv[1:])
