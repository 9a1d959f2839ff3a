"""Batches of windows from several sources in given shares: batch `step` is a pure function of (seed, step).

Grain shuffles each source by index, anew in each epoch, and mixes the sources before anything is read; so a
run resumes by its step alone, with any number of processes. Left out on purpose: worker processes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grain
import numpy as np

from dsm_jax.data.windows import Window
from dsm_jax.errors import UserError

Batch = dict[str, np.ndarray]


class Windows(Protocol):
    """Random access to windows: a list of them, or corpus.StoredWindows."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Window: ...


@dataclass(frozen=True)
class Source:
    """Windows and their weight: the share of the batch's windows is weight / sum of weights."""

    windows: Windows
    weight: float


class Mixture:
    """An endless mixture of named sources in batches of `batch_size` windows.

    Errors: UserError where a source is empty, a weight is negative or all are 0, or window lengths differ.
    """

    def __init__(self, sources: Mapping[str, Source], batch_size: int, seed: int):
        _check(sources)
        self.batch_size = batch_size
        self._used = {name: source for name, source in sources.items() if source.weight > 0}
        seeds = np.random.SeedSequence(seed).generate_state(len(self._used))
        shuffled = [
            grain.MapDataset.source(source.windows).shuffle(seed=int(source_seed)).repeat()
            for source, source_seed in zip(self._used.values(), seeds, strict=True)
        ]
        self._mixed: Any = grain.MapDataset.mix(shuffled, [source.weight for source in self._used.values()])

    def batch(self, step: int, rows: Sequence[int] | None = None) -> Batch:
        """The arrays [B, T] of batch `step` (see windows.py for their names), or only these rows of it: a process reads what
        its devices need."""
        first = step * self.batch_size
        windows = [self._mixed[first + row] for row in (range(self.batch_size) if rows is None else rows)]
        return {name: np.stack([window[name] for window in windows]) for name in windows[0]}

    def epochs(self, steps: int) -> dict[str, float]:
        """How often each source's windows are seen in `steps` steps."""
        total = sum(source.weight for source in self._used.values())
        drawn = steps * self.batch_size / total
        return {name: drawn * source.weight / len(source.windows) for name, source in self._used.items()}


def _check(sources: Mapping[str, Source]) -> None:
    for name, source in sources.items():
        if not source.weight >= 0:  # also catches nan
            raise UserError(f"source {name!r} has weight {source.weight}: give 0 or more")
        if source.weight > 0 and len(source.windows) == 0:
            raise UserError(f"source {name!r} is empty: give it text, or weight 0")
    used = {name: source for name, source in sources.items() if source.weight > 0}
    if not used:
        raise UserError(
            f"every source has weight 0 ({', '.join(sources) or 'none given'}): give one a weight"
        )
    lengths = {name: len(source.windows[0]["tokens"]) for name, source in used.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise UserError(f"sources with windows of different lengths ({shown}): make them with one length")
