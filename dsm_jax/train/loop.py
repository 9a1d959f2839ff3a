"""The loop that pretraining, SFT and GRPO share: update, log, checkpoint, resume, answer SIGTERM.

The data state is the step: `update(state, step)` fetches its own batch. Started again in the same folder, the
loop goes on from the last checkpoint and ends in the same parameters. Of several processes all run it, save at the same
steps, and the first one writes the metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self, TypeVar

import jax

from dsm_jax.ending import must_stop
from dsm_jax.errors import UserError
from dsm_jax.processes import on_first_process
from dsm_jax.run import (
    DONE,
    Stopping,
    catch_sigterm,
    is_done,
    mark_done,
    read_json,
)
from dsm_jax.train.checkpoint import Checkpoints
from dsm_jax.train.step_log import StepLog

State = TypeVar("State")
Update = Callable[[State, int], tuple[State, Mapping[str, Any]]]
PROFILED = 3  # updates of a trace
Stop = Callable[[State, int], tuple[bool, Mapping[str, float]]]


@dataclass(frozen=True)
class LoopConfig:
    """How long a loop runs and what it leaves behind."""

    steps: int  # updates
    log_every: int = 10  # updates between two rows of metrics.jsonl
    checkpoint_every: int = 500  # updates between two checkpoints; the last update is always saved
    keep: int = 2  # newest checkpoints that stay
    keep_every: int = 0  # checkpoints of multiples of this step stay too; 0: none
    # updates between two evaluations, scores of held-out data or looks at the stop rule; 0: there are none
    stop_every: int = 0
    profile_at: int = 0  # this update and the two after it are traced into trace/ (jax.profiler); 0: none
    wandb: str = ""  # project of Weights & Biases that gets the metrics too

    def __post_init__(self) -> None:
        least = {
            "steps": 1,
            "log_every": 1,
            "checkpoint_every": 1,
            "keep": 1,
            "keep_every": 0,
            "stop_every": 0,
            "profile_at": 0,
        }
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise UserError(f"loop: {name} is {getattr(self, name)}; it must be at least {smallest}")
        if self.wandb and find_spec("wandb") is None:
            raise UserError(
                f"loop: wandb is {self.wandb}, and the package is not installed; pip install wandb"
            )
        if self.keep_every % self.checkpoint_every:
            raise UserError(
                f"loop: keep_every is {self.keep_every}; it must be a multiple of checkpoint_every {self.checkpoint_every}"
            )


def run_loop(
    update: Update[State],
    start: Callable[[], State],
    target: State,
    config: LoopConfig,
    folder: Path,
    *,
    description: str,
    at_start: Callable[[State], Mapping[str, float]] | None = None,
    stop: Stop[State] | None = None,
    amounts: Mapping[str, float] | None = None,
    keep_evidence: Callable[[int], str] | None = None,
    checkpoints_in: str | Path | None = None,
    at_row: Callable[[float], Mapping[str, float]] | None = None,
) -> State:
    """Runs to config.steps, or until stop(state, step) says so, from the last checkpoint in `folder` or start().

    target: the state's shapes and shardings, for the restore. at_start(state): numbers of what start() gave, a row of step 0.
    done.json in `folder` says at which step the loop
    ended and whether the stop rule ended it: started again, it only restores. Raises Preempted after SIGTERM and
    KeyboardInterrupt after Ctrl-C (the state is saved), UserError when an update raises it (saved too) or its loss is not finite (the last checkpoint stays); keep_evidence(update) may
    save what it was made from, and says so. amounts: of each update, by the name of the metric that they are
    divided by its seconds ("tokens_per_second": tokens). at_row(seconds): more numbers of a row, whose updates took so long.
    checkpoints_in: None is checkpoints/ in `folder`.
    """
    with ExitStack() as stack:
        checkpoints = stack.enter_context(
            Checkpoints(checkpoints_in or folder / "checkpoints", config.keep, config.keep_every)
        )
        sigterm = stack.enter_context(catch_sigterm(interrupts=jax.process_count() == 1))
        restored = checkpoints.restore(target)
        step = checkpoints.latest_step() or 0
        # Several processes may have a folder each: all of them look at the step and the rule instead.
        alone = jax.process_count() == 1
        if alone and restored is not None and is_done(folder) and read_json(folder / DONE)["step"] == step:
            return restored

        def is_due(every: int) -> bool:
            return every > 0 and step > 0 and step % every == 0

        log = stack.enter_context(
            StepLog(
                folder, config.steps, description, step, amounts or {}, keep_evidence, config.wandb, at_row
            )
        )
        trace = stack.enter_context(_Trace(folder / "trace", config.profile_at))

        def save() -> None:
            log.check()
            checkpoints.save(step, state, wait=True)

        @contextmanager
        def saving() -> Iterator[None]:
            """Work that may end early, such as by a mistake in a reward, before it has touched the state: no step is lost."""
            try:
                yield
            except (UserError, Stopping) as error:
                if alone and step and not any(leaf.is_deleted() for leaf in jax.tree.leaves(state)):
                    save()
                if isinstance(error, Stopping):
                    saved = f"saved at step {step}" if step else "stopped before the first step"
                    raise sigterm.end(f"{description}: {saved}; start again to go on") from None
                raise

        with saving():
            state = start() if restored is None else restored
            if restored is None and at_start:
                with log.aside(state):
                    log.write_once(0, at_start(state))
        del restored
        enough = False
        if stop and is_due(config.stop_every):  # asked again after a restart
            with saving():
                enough, shown = stop(state, step)
            log.write_once(step, shown)
        while step < config.steps and not enough:
            trace.before(step + 1, state)
            with saving():
                state, measured = update(state, step)
            step += 1
            log.add(step, measured, row=is_due(config.log_every) or step == config.steps)
            if stop and is_due(config.stop_every):
                with log.aside(state), saving():
                    enough, shown = stop(state, step)
                log.write(step, shown)
            if is_due(config.checkpoint_every):
                log.check()
                with log.aside(state):
                    checkpoints.save(step, state)
            if sigterm.requested if alone else must_stop(step):
                save()
                raise sigterm.end(f"{description}: saved at step {step}; start again to go on")
        save()
    on_first_process(lambda: mark_done(folder, {"step": step, "stopped": enough}))
    return state


class _Trace:
    """A profile of the updates from `first` on, for TensorBoard or Perfetto. Use it in a `with` block."""

    def __init__(self, folder: Path, first: int):
        self.folder, self.first, self._running = folder, first, False

    def before(self, number: int, state: Any) -> None:
        """Called before update `number`, from 1 on; what went before it is waited for."""
        if number in (self.first, self.first + PROFILED):
            jax.block_until_ready(state)
            self._stop()
        if number == self.first:
            jax.profiler.start_trace(str(self.folder))
            self._running = True

    def _stop(self) -> None:
        if self._running:
            jax.profiler.stop_trace()
            self._running = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop()
