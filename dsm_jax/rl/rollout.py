"""From sampled groups to the micro-batches of a GRPO update.

Rows are sorted by length, so that a micro-batch pads little; its width is rounded up to a bucket, so that few
programs are compiled. Which rows share a micro-batch does not change the loss: it divides by the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dsm_jax.sample.request import Completion

BUCKET = 32  # tokens; the width of a micro-batch is a multiple of it


@dataclass(frozen=True)
class Rollout:
    """One group: a prompt's token ids (bos included) and its G completions with their advantages."""

    prompt_ids: Sequence[int]
    completions: Sequence[Completion]
    advantages: np.ndarray  # [G]


def micro_batches(rollouts: Sequence[Rollout], rows: int) -> list[dict[str, np.ndarray]]:
    """Batches of `rows` rows, the shortest sequences first; the last one is filled up with empty rows.

    Each holds tokens, segment_ids (1 on the sequence, 0 on padding), mask (1 on drawn tokens, end of
    sequence included) and sampler_logps, all [rows, T], and advantages [rows].
    """
    pairs = [
        (list(rollout.prompt_ids), completion, advantage)
        for rollout in rollouts
        for completion, advantage in zip(rollout.completions, rollout.advantages, strict=True)
    ]
    pairs.sort(key=lambda pair: len(pair[0]) + len(pair[1].tokens))
    return [_collate(pairs[start : start + rows], rows) for start in range(0, len(pairs), rows)]


def _collate(pairs: list[tuple[list[int], Completion, float]], rows: int) -> dict[str, np.ndarray]:
    longest = max(len(prompt) + len(completion.tokens) for prompt, completion, _ in pairs)
    width = -(-longest // BUCKET) * BUCKET
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
        batch["sampler_logps"][row, start:end] = completion.logps
        batch["advantages"][row] = advantage
    return batch
