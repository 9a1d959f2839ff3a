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
from typing import Any, Generic, Self, TypeVar

import jax

from dsm_jax.ending import must_stop
from dsm_jax.errors import SharedError, UserError
from dsm_jax.processes import on_first_process
from dsm_jax.run import DONE, Sigterm, Stopping, catch_sigterm, is_done, mark_done, read_json
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
    done.json in `folder` says at which step the loop ended and whether the stop rule ended it: started again, it only
    restores. Raises Preempted after SIGTERM and KeyboardInterrupt after Ctrl-C (the state is saved), UserError when an update
    raises it (saved too; of several processes only with a SharedError) or its loss is not finite (the last checkpoint stays);
    keep_evidence(update) may save what it was made from, and says so. amounts: of each update, by the name of the metric that
    they are divided by its seconds ("tokens_per_second": tokens). at_row(seconds): more numbers of a row, whose updates took
    so long. checkpoints_in: None is checkpoints/ in `folder`.
    """
    with ExitStack() as stack:
        checkpoints = stack.enter_context(
            Checkpoints(checkpoints_in or folder / "checkpoints", config.keep, config.keep_every)
        )
        alone = jax.process_count() == 1
        sigterm = stack.enter_context(catch_sigterm(interrupts=alone))
        restored = checkpoints.restore(target)
        step = checkpoints.latest_step() or 0
        # Several processes may have a folder each: all of them look at the step and the rule instead.
        if alone and restored is not None and is_done(folder) and read_json(folder / DONE)["step"] == step:
            return restored
        log = StepLog(
            folder, config.steps, description, step, amounts or {}, keep_evidence, config.wandb, at_row
        )
        run: _Run[State] = _Run(config, description, step, checkpoints, stack.enter_context(log), sigterm)
        trace = stack.enter_context(_Trace(folder / "trace", config.profile_at))
        run.begin(start, restored, at_start)
        del restored
        enough = run.asks(stop, again=True)
        while run.step < config.steps and not enough:
            trace.before(run.step + 1, run.state)
            run.update(update)
            enough = run.asks(stop)
            run.keep()
        run.save()
    on_first_process(lambda: mark_done(folder, {"step": run.step, "stopped": enough}))
    return run.state


class _Run(Generic[State]):
    """A loop under way: its state after `step` updates, and what that goes to."""

    state: State

    def __init__(
        self,
        config: LoopConfig,
        description: str,
        step: int,
        checkpoints: Checkpoints,
        log: StepLog,
        sigterm: Sigterm,
    ):
        self.config, self.description, self.step = config, description, step
        self.checkpoints, self.log, self.sigterm = checkpoints, log, sigterm
        self.alone = jax.process_count() == 1

    def begin(
        self,
        start: Callable[[], State],
        restored: State | None,
        at_start: Callable[[State], Mapping[str, float]] | None,
    ) -> None:
        """Takes the state that was restored, or makes the first one."""
        with self.saving():
            self.state = start() if restored is None else restored
            if restored is None and at_start:
                with self.log.aside(self.state):
                    self.log.write_once(0, at_start(self.state))

    def update(self, update: Update[State]) -> None:
        with self.saving():
            self.state, measured = update(self.state, self.step)
        self.step += 1
        is_row = self.is_due(self.config.log_every) or self.step == self.config.steps
        self.log.add(self.step, measured, row=is_row)

    def asks(self, stop: Stop[State] | None, *, again: bool = False) -> bool:
        """Whether the stop rule ends the loop, where it is due. again: after a restart, its numbers may be there."""
        if not stop or not self.is_due(self.config.stop_every):
            return False
        with self.log.aside(self.state), self.saving():
            enough, shown = stop(self.state, self.step)
        (self.log.write_once if again else self.log.write)(self.step, shown)
        return enough

    def keep(self) -> None:
        """A checkpoint where one is due; the last one, and the end, where a signal has come."""
        if self.is_due(self.config.checkpoint_every):
            self.log.check()
            with self.log.aside(self.state):
                self.checkpoints.save(self.step, self.state)
        if self.sigterm.requested if self.alone else must_stop(self.step):
            self.save()
            raise self.sigterm.end(f"{self.description}: saved at step {self.step}; start again to go on")

    def save(self) -> None:
        self.log.check()
        self.checkpoints.save(self.step, self.state, wait=True)

    def is_due(self, every: int) -> bool:
        return every > 0 and self.step > 0 and self.step % every == 0

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Work that may end early, such as by a mistake in a reward, before it has touched the state: no step is lost."""
        try:
            yield
        except (UserError, Stopping) as error:
            if (
                (self.alone or isinstance(error, SharedError))
                and self.step
                and not any(leaf.is_deleted() for leaf in jax.tree.leaves(self.state))
            ):
                self.save()
            if isinstance(error, Stopping):
                saved = f"saved at step {self.step}" if self.step else "stopped before the first step"
                raise self.sigterm.end(f"{self.description}: {saved}; start again to go on") from None
            raise


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
