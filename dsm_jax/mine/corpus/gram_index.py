"""Where a text holds one of a million known stretches of letters: exact matching at tens of MB/s.

A key is a stretch of letters given beforehand: ten grams of a benchmark, or a whole short question. A 64-bit
hash of its first 24, 16, 8 or 3 letters finds it: a table of bytes, one for each value of the hash's top
bits, says "no" to nearly every place of a page; what passes is looked up and then compared letter by letter,
so that no hash decides. Hashes are the same in every process.

Left out on purpose: which stretches are keys, and what else makes a match (decontaminate.py).
"""

from collections.abc import Iterator

import numpy as np

_WIDTHS = (3, 8, 16, 24)  # letters hashed
_PADDING = bytes(24)
_LARGER, _SMALLEST = 5, 20  # powers of two: a table of 1 MB or more, of which at most a 32nd is set
_ODD = np.uint64(0x9E3779B97F4A7C15)
_THREE = np.uint64(0xFFFFFF)


class GramIndex:
    """Keys letters[start:end] of 3 letters or more; of equal ones the first comes first."""

    def __init__(self, letters: bytes, starts: np.ndarray, ends: np.ndarray):
        self._letters, self._starts, self._ends = letters, starts, ends
        width_of = _width_of(ends - starts)
        self._tables: list[_Table | None] = []
        for i, hashes in enumerate(_hashes(letters, starts)):
            keys = np.flatnonzero(width_of == i)
            self._tables.append(_Table(hashes[keys], keys) if keys.size else None)

    def find(self, letters: bytes, places: np.ndarray) -> Iterator[tuple[int, int]]:
        """(place, key) where letters[place:] begins with the key, for these places."""
        for table, hashes in zip(self._tables, _hashes(letters, places), strict=True):
            if table is None:
                continue
            for index, keys in table.find(hashes):
                place = int(places[index])
                for key in keys.tolist():
                    if letters.startswith(self._letters[self._starts[key] : self._ends[key]], place):
                        yield place, key


def equal_keys(letters: bytes, starts: np.ndarray, ends: np.ndarray) -> Iterator[list[int]]:
    """The keys that are the same letters, where there are several; in order."""
    lengths = ends - starts
    hashes = np.choose(_width_of(lengths), list(_hashes(letters, starts)))
    order = np.lexsort((lengths, hashes))
    differ = (np.diff(hashes[order]) != 0) | (np.diff(lengths[order]) != 0)
    edges = np.concatenate([[0], differ.nonzero()[0] + 1, [len(order)]])
    for i in (np.diff(edges) > 1).nonzero()[0].tolist():
        by_letters: dict[bytes, list[int]] = {}
        for key in order[edges[i] : edges[i + 1]].tolist():
            by_letters.setdefault(letters[starts[key] : ends[key]], []).append(key)
        yield from (keys for keys in by_letters.values() if len(keys) > 1)


class _Table:
    """Keys by their hashes."""

    def __init__(self, hashes: np.ndarray, keys: np.ndarray):
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._keys = hashes[order], keys[order]
        bits = max(_SMALLEST, len(keys).bit_length() + _LARGER)
        self._shift = np.uint64(64 - bits)
        self._taken = np.zeros(1 << bits, bool)
        self._taken[self._top(hashes)] = True

    def find(self, hashes: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """(index, keys) of each hash that is there."""
        some = self._taken.take(self._top(hashes)).nonzero()[0]
        if not some.size:
            return
        starts = self._hashes.searchsorted(hashes[some])
        there = (self._hashes.take(starts, mode="clip") == hashes[some]).nonzero()[0]
        for index, start in zip(some[there].tolist(), starts[there].tolist(), strict=True):
            end = self._hashes.searchsorted(hashes[index], "right")
            yield index, self._keys[start:end]

    def _top(self, hashes: np.ndarray) -> np.ndarray:
        return (hashes >> self._shift).view(np.int64)


def _width_of(lengths: np.ndarray) -> np.ndarray:
    """Which of _WIDTHS keys of these lengths are hashed over."""
    return np.searchsorted(_WIDTHS, lengths, "right") - 1


def _hashes(letters: bytes, places: np.ndarray) -> Iterator[np.ndarray]:
    """A hash of the letters from each place on, for each of _WIDTHS; zeros follow the last letter."""
    words = np.ndarray((len(letters) + len(_PADDING) - 7,), "<u8", letters + _PADDING, strides=(1,))
    hashes = words.take(places)
    yield (hashes & _THREE) * _ODD
    hashes *= _ODD
    yield hashes
    for width in _WIDTHS[2:]:
        hashes = (hashes + words[width - 8 :].take(places)) * _ODD
        yield hashes
