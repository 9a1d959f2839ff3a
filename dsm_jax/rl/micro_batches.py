"""From graded groups to the micro-batches of a GRPO update.

Rows are sorted by length and shared out so that every micro-batch holds about as many tokens, padding included: short rows
go many at a time. Widths are rounded up to one of few, so that few programs are compiled. Which rows share a micro-batch
does not change the loss: it divides by the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dsm_jax.model.flat import Shared
from dsm_jax.sample.request import Completion

FINE = 16, 256  # tokens: widths up to the second are multiples of the first
Arrays = dict[str, Any]  # of a micro-batch: np.ndarray by name, and what its rows share


@dataclass(frozen=True)
class Group:
    """A prompt's token ids (bos included) and its completions with their advantages."""

    prompt_ids: Sequence[int]
    completions: Sequence[Completion]
    advantages: Sequence[float | np.ndarray]  # [G], a completion's, or of each of its tokens [t]


class Row(NamedTuple):
    """A prompt with one of its completions."""

    number: int  # of the completion, over all groups
    prompt: list[int]
    completion: Completion
    advantage: float | np.ndarray

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.completion.tokens)


class Plan(NamedTuple):
    """A micro-batch of parts, each with room for shared.rows rows of a prompt."""

    parts: list[list[Row]]
    room: int  # for so many parts; the rest stays empty
    width: int
    shared: Shared

    @property
    def tokens(self) -> int:
        """That the model runs over."""
        return self.room * (self.shared.columns + self.shared.rows * (self.width - self.shared.columns))


def micro_batches(
    groups: Sequence[Group],
    tokens: int,
    *,
    shards: int = 1,
    mask_truncated: bool = False,
    share_prompts: bool = False,
    old_logps: Sequence[np.ndarray] | None = None,
) -> list[Arrays]:
    """Batches of at most `tokens` tokens (rows x width), but at least a row for each of `shards`; the longest rows first.

    Each holds tokens, segment_ids (1 on the sequence, 0 on padding), mask (1 on drawn tokens, end of
    sequence included), sampler_logps and advantages, all [rows, T], and for of_completions places [rows, 3]. Rows
    divide over the shards; the last batch is filled up with empty ones. mask_truncated: a completion that was cut at its
    limit has no token in the mask (DAPO's overlong filtering). old_logps: of each completion's tokens, group after group;
    the batches then hold them, as [rows, T], too.
    share_prompts: rows of a prompt stand together, and the prompt counts once for all of them: so many as make the fewest
    tokens, a power of two. Prompts end in the same column; `shared` names it.
    """
    size, plan = 1, _plan(groups, 1, tokens, shards, share=False)
    while share_prompts and size < max(len(group.completions) for group in groups):
        size *= 2
        other = _plan(groups, size, tokens, shards, share=True)
        if other[0].tokens <= tokens and _cost(other) < _cost(plan):
            plan = other
    return [_collate(batch, mask_truncated, old_logps) for batch in plan]


def of_completions(batches: Sequence[Arrays], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What was computed for the tokens of micro-batches, [rows, T] each, as an array a completion, group after group."""
    found = {
        int(number): row[start:end]
        for batch, array in zip(batches, arrays, strict=True)
        for row, (number, start, end) in zip(array, batch["places"], strict=True)
        if number >= 0
    }
    return [found[number] for number in range(len(found))]


def padded(length: int) -> int:
    """The width of a micro-batch whose longest row has so many tokens: above 256 one of eight from a power of two to the
    next, since programs of large models, whose rows are long, take long to compile."""
    step = FINE[0] if length <= FINE[1] else 1 << ((length - 1).bit_length() - 4)
    return -(-length // step) * step


def rows_of(width: int, tokens: int, shards: int, left: int | None = None) -> int:
    """How many rows of this width go together, as many on every shard; at the end, where half of them or a quarter are
    enough for those that are left, so many."""
    rows = shards * max(1, tokens // (width * shards))
    for part in (4, 2):
        if left and rows % (part * shards) == 0 and rows // part >= left:
            return rows // part
    return rows


def _plan(groups: Sequence[Group], size: int, tokens: int, shards: int, share: bool) -> list[Plan]:
    """`size` rows of a prompt, its longest first, make a part; the longest parts come first."""
    firsts = np.cumsum([0, *(len(group.completions) for group in groups)]).tolist()
    parts = [
        part for first, group in zip(firsts, groups, strict=False) for part in _parts(group, first, size)
    ]
    parts.sort(key=lambda part: part[0].length, reverse=True)
    found = []
    while parts:
        rows = [part[0] for part in parts]
        if share:
            columns = padded(max(len(row.prompt) for row in rows))
            own = padded(max(len(row.completion.tokens) for row in rows))
        else:
            columns, own = 0, padded(rows[0].length)
        room = rows_of(columns + size * own, tokens, shards, len(parts))
        found.append(Plan(parts[:room], room, columns + own, Shared(columns, size)))
        parts = parts[room:]
    return found


def _parts(group: Group, first: int, size: int) -> list[list[Row]]:
    """first: the number of the group's first completion."""
    prompt, pairs = list(group.prompt_ids), zip(group.completions, group.advantages, strict=True)
    rows = [Row(number, prompt, *pair) for number, pair in enumerate(pairs, first)]
    rows.sort(key=lambda row: row.length, reverse=True)
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def _cost(plan: Sequence[Plan]) -> int:
    return sum(batch.tokens for batch in plan)


def _collate(plan: Plan, mask_truncated: bool, old_logps: Sequence[np.ndarray] | None) -> Arrays:
    rows, width = plan.room * plan.shared.rows, plan.width
    batch = {
        "tokens": np.zeros((rows, width), np.int32),
        "segment_ids": np.zeros((rows, width), np.int32),
        "mask": np.zeros((rows, width), np.float32),
        "sampler_logps": np.zeros((rows, width), np.float32),
        "advantages": np.zeros((rows, width), np.float32),
        "places": np.full((rows, 3), -1, np.int32),
    }
    if old_logps is not None:
        batch["old_logps"] = np.zeros((rows, width), np.float32)
    for number, part in enumerate(plan.parts):
        for row, (place, prompt, completion, advantage) in enumerate(part, start=number * plan.shared.rows):
            start = plan.shared.columns or len(prompt)
            first, end = start - len(prompt), start + len(completion.tokens)
            batch["tokens"][row, first:end] = [*prompt, *completion.tokens]
            batch["segment_ids"][row, first:end] = 1
            batch["mask"][row, start:end] = ~completion.inserted
            if mask_truncated and not completion.finished:
                batch["mask"][row] = 0
            batch["sampler_logps"][row, start:end] = completion.logps
            batch["advantages"][row, start:end] = advantage
            batch["places"][row] = place, start, end
            if old_logps is not None:
                batch["old_logps"][row, start:end] = old_logps[place]
    return batch | {"shared": plan.shared}
