"""What a training loop tells: rows of metrics, the progress line, and whether every update was finite.

Numbers stay on the devices until a row or a checkpoint is due, so that steps follow each other without a pause. Of several
processes the first one writes, and all look at the same numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from dsm_jax.errors import UserError
from dsm_jax.processes import is_first_process
from dsm_jax.run import METRICS, MetricsWriter, Progress, progress, read_metrics

MOST_SKIPPED = 100  # updates one after the other that may be left out


class StepLog:
    """Rows of metrics.jsonl, with the seconds per step since the last row. Use it in a `with` block.

    step: updates that are done. keep_evidence(update): saves what an update that is not finite was made from, and says so.
    amounts: of an update, by the metric that they are divided by its seconds. at_row(seconds): more numbers of a row,
    whose updates took so long.
    """

    def __init__(
        self,
        folder: Path,
        steps: int,
        description: str,
        step: int,
        amounts: Mapping[str, float],
        keep_evidence: Callable[[int], str] | None,
        wandb: str,
        at_row: Callable[[float], Mapping[str, float]] | None,
    ):
        self._folder = folder
        self.step, self.at, self.amounts, self.keep_evidence = step, time.monotonic(), amounts, keep_evidence
        self.at_row, self._aside, self._skipped_in_a_row = at_row, 0.0, 0
        self._unread: list[tuple[int, Mapping[str, Any]]] = []
        self._since_row: list[dict[str, float]] = []
        self._stack = ExitStack()
        self._metrics: MetricsWriter | None = None
        self._bar: Progress | None = None
        if is_first_process():
            self._metrics = self._stack.enter_context(MetricsWriter(folder, step + 1, wandb))
            self._bar = self._stack.enter_context(progress(steps, description, step))

    def add(self, step: int, measured: Mapping[str, Any], *, row: bool) -> None:
        """Takes an update's numbers; with `row` they become a row."""
        self._unread.append((step, measured))
        note = self._row(step) if row else ""
        if self._bar:
            self._bar.advance(1, note)

    def write(self, step: int, numbers: Mapping[str, Any]) -> None:
        if self._metrics:
            self._metrics.write(step, numbers)

    def write_once(self, step: int, numbers: Mapping[str, Any]) -> None:
        """A row that may have been written before the run was stopped."""
        if self._metrics:
            rows = read_metrics(self._folder / METRICS)
            if numbers and not any(row["step"] == step and numbers.keys() <= row.keys() for row in rows):
                self.write(step, numbers)

    @contextmanager
    def aside(self, state: Any) -> Iterator[None]:
        """For work between two updates (scores, checkpoints), whose seconds are not an update's."""
        jax.block_until_ready(state)
        start = time.monotonic()
        yield
        self._aside += time.monotonic() - start

    def check(self) -> None:
        """Raises UserError where an update has a loss or a gradient that is not finite, and was not left out: the state is not
        worth saving."""
        for step, measured in self._unread:
            values = {
                name: float(np.asarray(value)) for name, value in jax.device_get(dict(measured)).items()
            }
            for name in ("loss", "grad_norm"):
                if not np.isfinite(values.get(name, 0.0)) and not values.get("skipped"):
                    kept = f"; {self.keep_evidence(step - 1)}" if self.keep_evidence else ""
                    raise UserError(
                        f"step {step}: the {name} is {values[name]}; the last checkpoint stays{kept}: look at the data, or "
                        "take another --out and a lower peak-lr"
                    )
            self._count_skips(step, bool(values.get("skipped")))
            self._since_row.append(values)
        self._unread = []

    def _count_skips(self, step: int, skipped: bool) -> None:
        self._skipped_in_a_row = self._skipped_in_a_row + 1 if skipped else 0
        if self._skipped_in_a_row == MOST_SKIPPED:
            raise UserError(
                f"step {step}: the last {MOST_SKIPPED} updates were all left out, their loss or gradient not finite: look at "
                "the data, or take another --out and a lower peak-lr"
            )

    def _row(self, step: int) -> str:
        """Writes a row, of each number the last that an update had which was not left out; returns the note beside the
        progress bar."""
        self.check()
        updates, self._since_row = self._since_row, []
        done = [values for values in updates if not values.get("skipped")]
        values = {name: value for one in done for name, value in one.items()}
        if any("skipped" in one for one in updates):
            values["skipped"] = len(updates) - len(done)
        now = time.monotonic()
        seconds = now - self.at - self._aside
        values["step_time"] = seconds / (step - self.step)
        values |= {name: amount / values["step_time"] for name, amount in self.amounts.items()}
        values |= self.at_row(seconds) if self.at_row else {}
        self.step, self.at, self._aside = step, now, 0.0
        self.write(step, values)
        return f"loss {values['loss']:.3f}" if "loss" in values else "no loss: updates were left out"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()
