"""Whole texts through the sampler's prefill, and a head on their hidden states: how a reward model scores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np

from dsm_jax.mesh import batch_shards
from dsm_jax.sample.memory import PREFILL_TOKENS, round_up
from dsm_jax.sample.programs import Program

if TYPE_CHECKING:
    from dsm_jax.sample.sampler import Sampler


def score_texts(sampler: Sampler, texts: Sequence[Sequence[int]], head: np.ndarray) -> list[np.ndarray]:
    """fp32 [t, R] of each text's t tokens; texts of like lengths together."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for number, text in enumerate(texts):
        by_length[round_up(len(text))].append(number)
    found: dict[int, np.ndarray] = {}
    for length, numbers in by_length.items():
        most = max(1, PREFILL_TOKENS // length)
        shards = batch_shards(sampler.mesh)
        rows = shards * min(most, 1 << (-(-len(numbers) // shards) - 1).bit_length())
        for start in range(0, len(numbers), rows):
            batch = numbers[start : start + rows]
            ids = np.zeros((rows, length), np.int32)
            for row, number in enumerate(batch):
                ids[row, : len(texts[number])] = texts[number]
            program = Program("score", (rows, length, *head.shape))
            sampler.usage.possible.add(program)
            scores = sampler.call(program, sampler.config, sampler.params, sampler.put(ids), head)
            for number, one in zip(batch, jax.device_get(scores), strict=False):
                found[number] = one[: len(texts[number])]
    return [found[number] for number in range(len(texts))]
