"""Keep the top N tokens: where to cut the ranking, from two passes over the scores, in memory that no crawl changes.

The first pass sums words by score, of which there are ten million: scores have seven digits. The second one sums those of
the pages with the last score by ranges of their keys: a sure classifier gives much of a crawl the score 1. Pages of one score
and one of the million ranges are kept or left together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

UNITS = 10_000_000  # of a score; classify.predict rounds to one
RANGE_BITS = 20

Ranked = tuple[np.ndarray, np.ndarray, np.ndarray]
"""(scores, words, keys) of some pages; equal scores are ranked by key, a stable and random one for each page, never 0."""


LAST_KEY = 2**64 - 1
ANY_LENGTH = 2**63 - 1


@dataclass(frozen=True)
class Cut:
    """The last page that is kept (`key` 0: none of that score), and the words of the longest one that may be."""

    score: float
    key: int = LAST_KEY
    most_words: int = ANY_LENGTH

    def keeps(self, scores: np.ndarray, words: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """bool, one for each page."""
        tied = (scores == self.score) & (keys <= np.uint64(self.key))
        return ((scores > self.score) | tied) & (words <= self.most_words)


def find_cut(shards: Callable[[], Iterable[Ranked]], budget: int) -> Cut:
    """The cut that keeps the best pages whose words fit into `budget`; it stands before the first ones that do not fit,
    a page that is longer than the whole budget left out.

    shards: goes over all pages anew at each call, a part at a time.
    """
    words_of = np.zeros(UNITS + 1, np.int64)
    for scores, words, _ in shards():
        np.add.at(words_of, _places(scores), np.where(words <= budget, words, 0))
    np.cumsum(words_of, out=words_of)
    place = int(np.searchsorted(words_of, budget, side="right"))  # scores that fit whole
    if place > UNITS:
        return Cut(0.0, most_words=budget)
    left = budget - (int(words_of[place - 1]) if place else 0)
    return Cut((UNITS - place) / UNITS, _last_key(shards(), place, left, budget), budget)


def _places(scores: np.ndarray) -> np.ndarray:
    """int64: the place of each score among all, from the best, 0."""
    return UNITS - np.rint(scores * UNITS).astype(np.int64)


def _last_key(shards: Iterable[Ranked], place: int, left: int, most_words: int) -> int:
    """The end of the last range of keys that fits into what is left, of the pages with one score; 0 where none does."""
    words_of = np.zeros(1 << RANGE_BITS, np.int64)
    shift = np.uint64(64 - RANGE_BITS)
    for scores, words, keys in shards:
        tied = (_places(scores) == place) & (words <= most_words)
        np.add.at(words_of, (keys[tied] >> shift).astype(np.int64), words[tied])
    fitting = int(np.searchsorted(np.cumsum(words_of), left, side="right"))
    return max(0, (fitting << int(shift)) - 1)
