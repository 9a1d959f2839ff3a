"""The loop that pretraining, SFT and GRPO share: update, log, checkpoint, resume, answer SIGTERM.

The data state is the step: `update(state, step)` fetches its own batch. Started again in the same folder, the
loop goes on from the last checkpoint and ends in the same parameters.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from dsm_jax.errors import Preempted, UserError
from dsm_jax.run import DONE, MetricsWriter, catch_sigterm, is_done, mark_done, progress, read_json
from dsm_jax.train.checkpoint import Checkpoints

State = TypeVar("State")
Update = Callable[[State, int], tuple[State, Mapping[str, Any]]]
Stop = Callable[[State, int], tuple[bool, Mapping[str, float]]]


@dataclass(frozen=True)
class LoopConfig:
    """How long a loop runs and what it leaves behind."""

    steps: int  # updates
    log_every: int = 10  # updates between two rows of metrics.jsonl
    checkpoint_every: int = 500  # updates between two checkpoints; the last update is always saved
    stop_every: int = 0  # updates between two looks at the stop rule; 0: there is none

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("log_every", 1), ("checkpoint_every", 1), ("stop_every", 0)):
            if getattr(self, name) < least:
                raise UserError(f"loop: {name} is {getattr(self, name)}; it must be at least {least}")


def run_loop(
    update: Update[State],
    start: Callable[[], State],
    target: State,
    config: LoopConfig,
    folder: Path,
    *,
    description: str,
    stop: Stop[State] | None = None,
    amounts: Mapping[str, float] | None = None,
) -> State:
    """Runs to config.steps, or until stop(state, step) says so, from the last checkpoint in `folder` or start().

    target: the state's shapes and shardings, for the restore. done.json in `folder` says at which step the loop
    ended and whether the stop rule ended it: started again, it only restores. Raises Preempted after SIGTERM (the state
    is saved), UserError when
    the loss is not finite (the last checkpoint stays). amounts: of each update, by the name of the metric that they are
    divided by its seconds ("tokens_per_second": tokens).
    """
    with Checkpoints(folder / "checkpoints") as checkpoints, catch_sigterm() as sigterm:
        restored = checkpoints.restore(target)
        step = checkpoints.latest_step() or 0
        if restored is not None and is_done(folder) and read_json(folder / DONE)["step"] == step:
            return restored
        state = start() if restored is None else restored

        def is_due(every: int) -> bool:
            return every > 0 and step > 0 and step % every == 0

        # The rule's row was written before the checkpoint: after a restart it is only asked again.
        enough = stop is not None and is_due(config.stop_every) and stop(state, step)[0]
        with MetricsWriter(folder, step + 1) as metrics, progress(config.steps, description, step) as bar:
            log = _Log(metrics, step, amounts or {})
            while step < config.steps and not enough:
                state, measured = update(state, step)
                step += 1
                is_row = is_due(config.log_every) or step == config.steps
                bar.advance(1, log.add(step, measured) if is_row else "")
                if stop and is_due(config.stop_every):
                    enough, shown = stop(state, step)
                    metrics.write(step, shown)
                if is_due(config.checkpoint_every):
                    check_finite(step, measured)
                    checkpoints.save(step, state)
                if sigterm.requested:
                    checkpoints.save(step, state, wait=True)
                    raise Preempted(f"{description}: saved at step {step}; start again to go on")
        checkpoints.save(step, state, wait=True)
    mark_done(folder, {"step": step, "stopped": enough})
    return state


def check_finite(step: int, measured: Mapping[str, Any]) -> None:
    """Raises UserError where the loss or the gradient of this update is not finite: the state is not worth saving."""
    for name in ("loss", "grad_norm"):
        if name in measured and not np.isfinite(float(measured[name])):
            raise UserError(
                f"step {step}: the {name} is {float(measured[name])}; the last checkpoint stays: look at the data, "
                "or take another --out and a lower peak-lr"
            )


class _Log:
    """Turns device metrics into rows, with the seconds per step since the last row."""

    def __init__(self, writer: MetricsWriter, step: int, amounts: Mapping[str, float]):
        self.writer, self.step, self.at, self.amounts = writer, step, time.monotonic(), amounts

    def add(self, step: int, measured: Mapping[str, Any]) -> str:
        """Writes a row; returns the note beside the progress bar."""
        values = {name: float(np.asarray(value)) for name, value in jax.device_get(dict(measured)).items()}
        check_finite(step, values)
        now = time.monotonic()
        values["step_time"] = (now - self.at) / (step - self.step)
        values |= {name: amount / values["step_time"] for name, amount in self.amounts.items()}
        self.step, self.at = step, now
        self.writer.write(step, values)
        return f"loss {values['loss']:.3f}"
