"""From graded groups to the micro-batches of a GRPO update.

Rows are sorted by length and shared out so that every micro-batch holds about as many tokens, padding included: short rows
go many at a time. Widths are rounded up to one of few, so that few programs are compiled. Which rows share a micro-batch
does not change the loss: it divides by the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dsm_jax.sample.request import Completion

NARROWEST = 16  # tokens
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Group:
    """A prompt's token ids (bos included) and its completions with their advantages."""

    prompt_ids: Sequence[int]
    completions: Sequence[Completion]
    advantages: np.ndarray  # [G]


def micro_batches(
    groups: Sequence[Group], tokens: int, *, shards: int = 1, mask_truncated: bool = False
) -> list[Arrays]:
    """Batches of at most `tokens` tokens (rows x width), but at least a row for each of `shards`; the longest rows first.

    Each holds tokens, segment_ids (1 on the sequence, 0 on padding), mask (1 on drawn tokens, end of
    sequence included) and sampler_logps, all [rows, T], and advantages [rows]. Rows divide over the shards; the last batch
    is filled up with empty ones. mask_truncated: a completion that was cut at its limit has no token in the mask (DAPO's
    overlong filtering).
    """
    rows = [
        (list(group.prompt_ids), completion, advantage)
        for group in groups
        for completion, advantage in zip(group.completions, group.advantages, strict=True)
    ]
    rows.sort(key=lambda row: len(row[0]) + len(row[1].tokens), reverse=True)
    found = []
    while rows:
        width = padded(len(rows[0][0]) + len(rows[0][1].tokens))
        count = rows_of(width, tokens, shards)
        found.append(_collate(rows[:count], count, width, mask_truncated))
        rows = rows[count:]
    return found


def padded(length: int) -> int:
    """The width of a micro-batch whose longest row has so many tokens: one of eight from a power of two to the next."""
    step = max(NARROWEST, 1 << max(0, length.bit_length() - 4))
    return -(-length // step) * step


def rows_of(width: int, tokens: int, shards: int) -> int:
    """How many rows of this width go together, as many on every shard."""
    return shards * max(1, tokens // (width * shards))


def _collate(
    pairs: list[tuple[list[int], Completion, float]], rows: int, width: int, mask_truncated: bool
) -> Arrays:
    batch = {
        "tokens": np.zeros((rows, width), np.int32),
        "segment_ids": np.zeros((rows, width), np.int32),
        "mask": np.zeros((rows, width), np.float32),
        "sampler_logps": np.zeros((rows, width), np.float32),
        "advantages": np.zeros(rows, np.float32),
    }
    for row, (prompt, completion, advantage) in enumerate(pairs):
        start, end = len(prompt), len(prompt) + len(completion.tokens)
        batch["tokens"][row, :end] = [*prompt, *completion.tokens]
        batch["segment_ids"][row, :end] = 1
        batch["mask"][row, start:end] = ~completion.inserted
        if mask_truncated and not completion.finished:
            batch["mask"][row] = 0
        batch["sampler_logps"][row, start:end] = completion.logps
        batch["advantages"][row] = advantage
    return batch
