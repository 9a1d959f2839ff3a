"""Micro-batches of the paradigm: GRPO's with more arrays per token, and of pairs, which have to lie side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dsm_jax.model.flat import NOTHING
from dsm_jax.rl.micro_batches import Arrays, Group, padded, rows_of


def with_columns(batches: Sequence[Arrays], columns: Mapping[str, Sequence[np.ndarray]]) -> list[Arrays]:
    """The micro-batches with further arrays [rows, T], of each completion's tokens, group after group; else 0."""
    return [batch | {name: _placed(batch, arrays) for name, arrays in columns.items()} for batch in batches]


def pair_batches(pairs: Sequence[Group], tokens: int, *, shards: int = 1) -> list[Arrays]:
    """Groups of two completions as rows 2i and 2i + 1, at most `tokens` tokens (rows x width) but at least a pair for each
    of `shards`; the longest pairs first. The last batch is filled up with empty rows."""
    found, left = [], sorted(enumerate(pairs), key=lambda one: _longest(one[1]), reverse=True)
    while left:
        width = padded(_longest(left[0][1]))
        room = rows_of(2 * width, tokens, shards, len(left))
        found.append(_collate(left[:room], room, width))
        left = left[room:]
    return found


def _longest(pair: Group) -> int:
    return len(pair.prompt_ids) + max(len(one.tokens) for one in pair.completions)


def _collate(pairs: Sequence[tuple[int, Group]], room: int, width: int) -> Arrays:
    batch = {name: np.zeros((2 * room, width), np.int32) for name in ("tokens", "segment_ids")}
    batch |= {"mask": np.zeros((2 * room, width), np.float32), "places": np.full((2 * room, 3), -1, np.int32)}
    for at, (number, pair) in enumerate(pairs):
        start = len(pair.prompt_ids)
        for which, one in enumerate(pair.completions):
            row, end = 2 * at + which, start + len(one.tokens)
            batch["tokens"][row, :end] = [*pair.prompt_ids, *one.tokens]
            batch["segment_ids"][row, :end] = 1
            batch["mask"][row, start:end] = ~one.inserted
            batch["places"][row] = 2 * number + which, start, end
    return batch | {"shared": NOTHING}


def _placed(batch: Arrays, arrays: Sequence[np.ndarray]) -> np.ndarray:
    found = np.zeros(batch["tokens"].shape, np.float32)
    for row, (number, start, end) in enumerate(batch["places"]):
        if number >= 0:
            found[row, start:end] = arrays[number]
    return found
