"""Whole texts through the sampler's prefill: a head on their hidden states, as a reward model scores, or their own tokens'
log-probabilities."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np

from dsm_jax.mesh import batch_shards
from dsm_jax.sample.decode import TokenScores
from dsm_jax.sample.memory import PREFILL_TOKENS, round_up
from dsm_jax.sample.programs import Program

if TYPE_CHECKING:
    from dsm_jax.sample.sampler import Sampler


def score_texts(sampler: Sampler, texts: Sequence[Sequence[int]], head: np.ndarray) -> list[np.ndarray]:
    """fp32 [t, R] of each text's t tokens; texts of like lengths together."""
    found: dict[int, np.ndarray] = {}
    for numbers, rows, length in _batches(sampler, texts):
        program = Program("score", (rows, length, *head.shape))
        ids = _padded(texts, numbers, rows, length)
        scores = _call(sampler, program, sampler.put(ids), head)
        for number, one in zip(numbers, scores, strict=False):
            found[number] = one[: len(texts[number])]
    return [found[number] for number in range(len(texts))]


def text_logps(
    sampler: Sampler, texts: Sequence[Sequence[int]], on_finish: Callable[[], None]
) -> list[TokenScores]:
    """[t - 1] of each text's t tokens but the first; texts of like lengths together."""
    inputs, targets = [text[:-1] for text in texts], [text[1:] for text in texts]
    found: dict[int, TokenScores] = {}
    for numbers, rows, length in _batches(sampler, inputs):
        program = Program("logps", (rows, length))
        arrays = [_padded(of, numbers, rows, length) for of in (inputs, targets)]
        scores = _call(sampler, program, *sampler.put(arrays))
        for row, number in enumerate(numbers):
            found[number] = TokenScores(*(array[row, : len(inputs[number])] for array in scores))
            on_finish()
    return [found[number] for number in range(len(texts))]


def _batches(sampler: Sampler, texts: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], int, int]]:
    """Numbers of texts that go together, and the rows and the length of their arrays."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for number, text in enumerate(texts):
        by_length[round_up(len(text))].append(number)
    shards = batch_shards(sampler.mesh)
    for length, numbers in by_length.items():
        most = max(1, PREFILL_TOKENS // length)
        rows = shards * min(most, 1 << (-(-len(numbers) // shards) - 1).bit_length())
        for start in range(0, len(numbers), rows):
            yield numbers[start : start + rows], rows, length


def _padded(texts: Sequence[Sequence[int]], numbers: Sequence[int], rows: int, length: int) -> np.ndarray:
    ids = np.zeros((rows, length), np.int32)
    for row, number in enumerate(numbers):
        ids[row, : len(texts[number])] = texts[number]
    return ids


def _call(sampler: Sampler, program: Program, *arrays: jax.Array | np.ndarray) -> Sequence[np.ndarray]:
    sampler.usage.possible.add(program)
    return jax.device_get(sampler.call(program, sampler.config, sampler.params, *arrays))
