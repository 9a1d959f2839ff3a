"""Training of the whole decoder on windows: the one trainer behind pretraining and SFT, which differ in data and numbers
only, and behind reward models, which differ in what is minimised too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from dsm_jax.errors import UserError
from dsm_jax.mesh import batch_shards, own_rows
from dsm_jax.model import lora
from dsm_jax.model.config import LoRA, ModelConfig
from dsm_jax.model.decoder import Params, Remat
from dsm_jax.model.flops import flops_per_token, peak_flops
from dsm_jax.train.loop import LoopConfig, Stop, run_loop
from dsm_jax.train.optimizer import OptimizerConfig, make_optimizer
from dsm_jax.train.read_ahead import ReadAhead
from dsm_jax.train.step import (
    Objective,
    TrainState,
    abstract_state,
    make_train_step,
    next_token,
    put_batch,
    start_state,
)

# Options that a run may be given anew when it goes on.
FREE = (
    "--training.skip-nonfinite",
    "--training.loop.keep",
    "--training.loop.keep-every",
    "--training.loop.profile-at",
    "--training.loop.wandb",
)


@dataclass(frozen=True)
class LMTraining:
    """Batch, schedule and length of a run."""

    loop: LoopConfig
    optimizer: OptimizerConfig
    batch_size: int  # windows in a batch
    window: int  # tokens in a window
    micro_batch_rows: int = 0  # windows whose activations exist at once; 0: the whole batch
    # activations made again in the backward pass: none, all but matmuls (dots), or all (full)
    remat: Remat = "none"
    lora: LoRA = LoRA()  # train low-rank updates only; what comes back is merged
    # leave out an update whose loss or gradient is not finite; else the run stops
    skip_nonfinite: bool = False
    z_loss: float = 0.0  # weight of the mean square of the logits' log normaliser in the loss

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.window < 2:
            raise UserError(
                f"batch_size is {self.batch_size} and window is {self.window}; a batch needs a window, a window two tokens"
            )
        if self.micro_batch_rows < 0 or self.batch_size % self.rows_at_once:
            raise UserError(
                f"micro_batch_rows is {self.micro_batch_rows}; it must divide the batch_size {self.batch_size}, or be 0"
            )

    @property
    def rows_at_once(self) -> int:
        return self.micro_batch_rows or self.batch_size


def train_lm(
    config: LMTraining,
    model: ModelConfig,
    mesh: Mesh,
    *,
    batch: Callable[[int, Sequence[int]], dict[str, np.ndarray]],
    start: Callable[[], Params],
    folder: Path,
    description: str,
    stop: Stop[Params] | None = None,
    rng_seed: int = 0,
    checkpoints_in: str | Path | None = None,
    objective: Objective | None = None,
) -> Params:
    """Trains on batch(step, rows) and returns the parameters.

    batch: these rows of the step's arrays [batch_size, window], as in data/windows.py; a process asks for its own.
    stop(parameters, step): whether to end, and numbers for the metrics. rng_seed: of LoRA's first matrices.
    Goes on from the last checkpoint in `folder` (or checkpoints_in); start() gives the parameters to begin with, and the
    base of LoRA. objective: what is minimised; None is the next token's loss, with config.z_loss.
    """
    model = replace(model, lora=config.lora)
    optimizer, schedule = make_optimizer(config.optimizer, config.loop.steps)
    check_rows(config, mesh)
    train_step = _make_step(config, model, optimizer, mesh, objective)
    base = start() if model.lora.rank else None

    def first() -> TrainState:
        part = lora.start(model, start() if base is None else base, rng_seed, mesh)
        return start_state(model, optimizer, mesh, part)

    def update(state: TrainState, step: int) -> tuple[TrainState, dict]:
        arrays = ahead(step)
        _require_vocabulary(arrays["tokens"], model, step)
        with jax.set_mesh(mesh):
            state, metrics = train_step(state, put_batch(arrays, mesh, of=config.batch_size), base)
        return state, metrics | {"learning_rate": schedule(step)}

    def parameters(state: TrainState) -> Params:
        return lora.merged(model, base, state.params, mesh)

    def ended(state: TrainState, step: int) -> tuple[bool, Mapping[str, float]]:
        assert stop is not None
        return stop(parameters(state), step)

    rows = [int(row) for row in own_rows(mesh, config.batch_size)]
    with ReadAhead(lambda step: batch(step, rows), config.loop.steps) as ahead:
        state = run_loop(
            update, first, abstract_state(model, optimizer, mesh), config.loop, folder,
            description=description, stop=ended if stop else None,
            amounts=_amounts(config, model, mesh), checkpoints_in=checkpoints_in,
            keep_evidence=lambda step: _keep_batch(folder, step, rows, batch(step, rows)),
            at_row=lambda seconds: {"data_wait_share": ahead.waited() / seconds} | _peak_memory(mesh),
        )  # fmt: skip
    return parameters(state)


def check_rows(config: LMTraining, mesh: Mesh) -> None:
    """UserError where the rows of a micro-batch do not divide over the mesh."""
    if config.rows_at_once % batch_shards(mesh):
        raise UserError(
            f"{config.rows_at_once} rows at once (micro_batch_rows) do not divide over {batch_shards(mesh)} devices "
            "(data x fsdp): change them or --mesh"
        )


def _make_step(
    config: LMTraining,
    model: ModelConfig,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    objective: Objective | None,
) -> Callable:
    objective = objective or next_token(config.z_loss)
    parts = config.batch_size // config.rows_at_once
    return make_train_step(model, optimizer, mesh, config.remat, parts, config.skip_nonfinite, objective)


def _require_vocabulary(tokens: np.ndarray, model: ModelConfig, step: int) -> None:
    if (high := int(tokens.max())) >= model.vocab_size:
        raise UserError(
            f"step {step}: token id {high} is outside the model's vocabulary of {model.vocab_size}; "
            "were the windows made with its own tokenizer?"
        )


def _keep_batch(folder: Path, step: int, rows: Sequence[int], arrays: dict[str, Any]) -> str:
    """Writes what an update that is not finite was made from; where it is, and what to do."""
    file = folder / f"not_finite_{step + 1:06}_process_{jax.process_index()}.npz"
    folder.mkdir(parents=True, exist_ok=True)  # of a run elsewhere, each host has its own
    np.savez_compressed(file, rows=rows, **arrays)
    return f"its batch is in {file}; --training.skip-nonfinite leaves such updates out"


def _amounts(config: LMTraining, model: ModelConfig, mesh: Mesh) -> dict[str, float]:
    """Of an update: tokens, and FLOPs over what all devices do in a second (attention counted over half a window; with
    LoRA without the gradients of the weights that stay)."""
    tokens = config.batch_size * config.window
    peak = peak_flops(mesh.devices.flat[0])
    flops = (
        tokens * flops_per_token(model, config.window / 2, backward=True) * (2 / 3 if config.lora.rank else 1)
    )
    return {"tokens_per_second": tokens} | ({"mfu": flops / (peak * mesh.size)} if peak else {})


def _peak_memory(mesh: Mesh) -> dict[str, float]:
    """GB of the first device of this process, where it says so."""
    stats = mesh.local_devices[0].memory_stats()
    return {"peak_memory_gb": stats["peak_bytes_in_use"] / 1e9} if stats else {}
