"""Random draws from a stream of pages, in memory that the number drawn decides, the same however the pages come.

Every page has a random key of 64 bits, made from its own and a salt; the draw takes the lowest. Keys of two draws with
other salts have nothing to do with each other.
"""

from __future__ import annotations

import numpy as np

_MIX, _LAST = 0x9E3779B97F4A7C15, 2**64 - 1


def random_keys(keys: np.ndarray, salt: int) -> np.ndarray:
    """uint64: other random keys for these (splitmix64's finaliser)."""
    values = keys.astype(np.uint64) ^ np.uint64(salt * _MIX & _LAST)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class Draw:
    """A draw of `count` pages, without replacement."""

    def __init__(self, count: int):
        self._count, self._last_key = count, _LAST
        self._keys, self._pages = np.zeros(0, np.uint64), np.zeros(0, np.int64)

    def add(self, keys: np.ndarray, pages: np.ndarray) -> None:
        """Offers pages with their random keys."""
        early = keys <= np.uint64(self._last_key)
        self._keys = np.concatenate([self._keys, keys[early]])
        self._pages = np.concatenate([self._pages, pages[early]])
        if (
            len(self._keys) > 2 * self._count
        ):  # now and then: sorting at each call takes hours of a long stream
            self._drop_late()

    def pages(self) -> np.ndarray:
        """int64: the pages drawn, in random order."""
        self._drop_late()
        return self._pages

    def _drop_late(self) -> None:
        order = np.lexsort((self._pages, self._keys))[: self._count]
        self._keys, self._pages = self._keys[order], self._pages[order]
        if 0 < len(order) == self._count:
            self._last_key = int(self._keys[-1])


class DrawByDomain:
    """A draw of `count` pages: a random page of every domain, then a second one of each, and so on, the domains of a
    round in random order. One large site cannot fill it."""

    def __init__(self, count: int):
        self._count, self._held = count, 0
        self._parts = [np.zeros((0, 3), np.uint64)]  # domain, key, page

    def add(self, keys: np.ndarray, pages: np.ndarray, domains: np.ndarray) -> None:
        """Offers pages with their random keys and keys of their domains."""
        self._parts.append(np.stack([domains.astype(np.uint64), keys, pages.astype(np.uint64)], axis=1))
        self._held += len(pages)
        if self._held > 2 * self._count:  # now and then, as Draw does
            self._drop_late()

    def pages(self) -> np.ndarray:
        """int64: the pages drawn, in order of their rounds."""
        return self._drop_late()[:, 2].astype(np.int64)

    def _drop_late(self) -> np.ndarray:
        rows = self._lowest(np.concatenate(self._parts))
        self._parts, self._held = [rows], len(rows)
        return rows

    def _lowest(self, rows: np.ndarray) -> np.ndarray:
        """What is drawn of these rows. A page that it leaves out is in no draw of more pages either."""
        rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
        is_first = np.ones(len(rows), bool)
        is_first[1:] = rows[1:, 0] != rows[:-1, 0]
        starts = np.flatnonzero(is_first)
        turn = np.arange(len(rows)) - np.repeat(starts, np.diff([*starts, len(rows)]))
        order = np.lexsort((random_keys(rows[:, 0] ^ random_keys(turn, 2), 1), turn))
        return rows[order[: self._count]]
