"""What labelling took, beside what it would have taken without sharing and early stops."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self


@dataclass(frozen=True)
class Additive:
    """Counts that are added field by field."""

    def __add__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True)
class PoolCounts(Additive):
    """Of sampled solutions."""

    problems: int = 0
    sampled: int = 0
    unfinished: int = 0  # cut at the most tokens: left out
    repeated: int = 0  # of the same text as one before, of the same problem: left out
    kept: int = 0
    right: int = 0  # of those that are kept
    empty: int = 0  # problems of which nothing is kept
    too_long: int = 0  # problems whose prompt leaves the model no room for a solution: not asked
    unscored: int = 0  # problems whose answer the grader cannot score: left out
    tokens: int = 0  # decoded

    @property
    def without(self) -> int:
        """Problems that have no pool."""
        return self.empty + self.too_long + self.unscored


@dataclass(frozen=True)
class Counts(Additive):
    """Of labelled solutions. Tokens are those of prompts (prefill) and of completions (decoded)."""

    problems: int = 0
    solutions: int = 0
    too_long: int = 0  # solutions for which the model, or the most tokens, has no room: left out
    steps: int = 0
    prefixes: int = (
        0  # different beginnings of a problem's solutions that end with a step, whole solutions not counted
    )
    completions: int = 0
    hits: int = 0  # completions that find the right answer
    cut: int = 0  # completions that never end
    decoded: int = 0
    prefill: int = 0
    rounds: int = 0  # calls of the sampler
    # Every step but the last of every solution completed n times, each by itself:
    naive_completions: int = 0
    naive_decoded: int = 0  # an estimate, from the mean length of each prefix's completions
    naive_prefill: int = 0

    @property
    def saved(self) -> float:
        """The share of the naive way's decoded tokens that was not decoded."""
        return 1 - self.decoded / self.naive_decoded if self.naive_decoded else 0.0

    def __str__(self) -> str:
        return (
            f"{self.decoded:,} tokens decoded for {self.completions:,} completions ({self.hits:,} right, {self.cut:,} cut), "
            f"{self.prefill:,} prefilled; without sharing and early stops about {self.naive_decoded:,} for "
            f"{self.naive_completions:,}: {self.saved:.0%} saved"
        )
