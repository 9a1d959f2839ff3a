"""Training a reward model: the trainer of the language model with another loss, and scores of held-out solutions.

Left out on purpose: weights of classes or of steps; the mixture with data of earlier rounds, which is made before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from dsm_jax.data.windows import Window
from dsm_jax.errors import UserError
from dsm_jax.mesh import batch_sharding, batch_shards, replicated
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.decoder import Params
from dsm_jax.model.params import param_shardings
from dsm_jax.rl.prompts import epoch_order
from dsm_jax.rl.reward_model.loss import LABELS, MASK, at_step_ends, binary_cross_entropy
from dsm_jax.rl.reward_model.measures import auc
from dsm_jax.rl.reward_model.readout import Readout, step_scores
from dsm_jax.train.held_out import batches
from dsm_jax.train.lm import LMTraining, train_lm
from dsm_jax.train.loop import LoopConfig
from dsm_jax.train.optimizer import OptimizerConfig, make_schedule
from dsm_jax.train.step import Batch, put_batch

# DeepSeekMath, section 4.2: learning rate 2e-5. One epoch as of Math-Shepherd's (arXiv 2312.08935); the steps here are of
# its 445K released solutions, and an epoch of others has its own number. The papers state no more: the batch is that of a
# public reproduction (32 windows of 8K tokens) in windows of 4K, the schedule a constant one behind a short warm-up.
DEEPSEEK_MATH_7B = LMTraining(
    loop=LoopConfig(steps=500, checkpoint_every=100, stop_every=50),
    optimizer=OptimizerConfig(peak_lr=2e-5, warmup_steps=10, schedule="constant", weight_decay=0.0),
    batch_size=64,
    micro_batch_rows=64,
    window=4_096,
    remat="full",
)
EPOCHS = 1.0
RIGHT = 0.5  # a step whose label is at least this counts as right


# (parameters, windows) -> logits and labels, fp32 [steps] each, of all steps in the windows, in order
Scorer = Callable[[Params, Sequence[Window]], tuple[np.ndarray, np.ndarray]]


def of_epochs(training: LMTraining, windows: int, epochs: float) -> LMTraining:
    """The same training with so many passes over the windows."""
    steps = max(1, round(epochs * windows / training.batch_size))
    return replace(training, loop=replace(training.loop, steps=steps))


def check_training(training: LMTraining, readout: Readout) -> None:
    """UserError for options that a reward model cannot take, and a schedule that does not fit the number of updates."""
    if training.z_loss:
        raise UserError(
            f"--training.z-loss is {training.z_loss:g}; a reward model has no such term, leave it at 0"
        )
    if training.lora.rank and readout.minus is None:
        raise UserError(
            "--head scalar: LoRA trains no output column, and this one begins as zero; take --head tokens"
        )
    make_schedule(training.optimizer, training.loop.steps)


def train_reward_model(
    training: LMTraining,
    model: ModelConfig,
    mesh: Mesh,
    readout: Readout,
    windows: Sequence[Window],
    *,
    start: Callable[[], Params],
    folder: Path,
    look: Callable[[Params], dict[str, float]] | None = None,
    rng_seed: int = 0,
    checkpoints_in: str | Path | None = None,
    description: str = "reward model",
) -> Params:
    """Trains on windows of examples.py and returns the parameters, LoRA's updates merged into them.

    start: gives the first ones, of a new scalar head by readout.start_params. look: numbers of the parameters, for
    metrics.jsonl, every training.loop.stop_every updates. rng_seed: of the windows' order, anew in each epoch. Goes on, and
    ends, as train_lm does.
    """
    check_training(training, readout)

    def batch(step: int, rows: Sequence[int]) -> dict[str, np.ndarray]:
        places = [divmod(step * training.batch_size + row, len(windows)) for row in rows]
        chosen = [windows[epoch_order(rng_seed, epoch, len(windows))[at]] for epoch, at in places]
        return {name: np.stack([window[name] for window in chosen]) for name in windows[0]}

    return train_lm(
        training, model, mesh, batch=batch, start=start, folder=folder, description=description,
        stop=(lambda params, step: (False, look(params))) if look else None, rng_seed=rng_seed,
        checkpoints_in=checkpoints_in, objective=at_step_ends(readout),
    )  # fmt: skip


def make_scorer(model: ModelConfig, mesh: Mesh, readout: Readout, rows: int) -> Scorer:
    """`rows` windows at once, rounded up to what the mesh divides."""
    rows = -(-rows // batch_shards(mesh)) * batch_shards(mesh)

    def score(params: Params, batch: Batch) -> jax.Array:
        return step_scores(model, params, batch["tokens"], batch["segment_ids"], readout, "full")

    run = jax.jit(
        score,
        in_shardings=(param_shardings(model, mesh), batch_sharding(mesh)),
        out_shardings=replicated(mesh),
    )

    def scored(params: Params, windows: Sequence[Window]) -> tuple[np.ndarray, np.ndarray]:
        scores, labels = [], []
        for batch in batches(list(windows), rows):
            with jax.set_mesh(mesh):
                of_tokens = np.asarray(run(params, put_batch(batch, mesh)))
            ends = batch[MASK] > 0
            scores.append(of_tokens[ends])
            labels.append(batch[LABELS][ends])
        return np.concatenate(scores), np.concatenate(labels)

    return scored


def held_out_metrics(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Of logits and labels [steps]: the loss, and where there are both kinds the chance that a right step scores above a
    wrong one."""
    found = {"bce": float(np.mean(binary_cross_entropy(jnp.asarray(scores), jnp.asarray(labels))))}
    chance = auc(scores.astype(np.float64), labels >= RIGHT)
    return found if np.isnan(chance) else found | {"auc": chance}
