"""Examples that a user gives: texts or URLs of one kind, as the seed, as negatives, or held out.

JSON lines (plain, .gz, .zst) or parquet with rows {text}, {url} or both, as OpenWebMath is released. A row whose URL is a
page of the crawl stands for that page: its own text, which another extractor made, is not used besides. A row whose URL is
held out gives nothing. Of more texts than are trained on a fixed sample is held: those of the lowest hashes. Left out on
purpose: what else the rows hold.
"""

from __future__ import annotations

import heapq
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dsm_jax.errors import UserError
from dsm_jax.mine.tokens import fasttext_tokens
from dsm_jax.mine.web.urls import canonical_url, key_of
from dsm_jax.rows import PARQUET, ROWS, parquet_columns, read_parquet, read_rows

_Text = tuple[str, int]
"""A text, and the key of its URL."""
LABELS = {True: 1, "math": 1, "1": 1, False: 0, "other": 0, "0": 0}  # 1 is True, 0 False


@dataclass(frozen=True)
class Examples:
    """Tokenised texts with their keys, and the keys of all rows' URLs; either keys in order."""

    texts: tuple[str, ...]
    text_keys: np.ndarray
    text_urls: np.ndarray
    """The key of the URL that each text came with; NO_URL: without one."""
    url_keys: np.ndarray

    def match_urls(self, url_keys: np.ndarray) -> np.ndarray:
        """bool, one for each page: whether its URL is among these."""
        return _among(self.url_keys, url_keys)

    def match_texts(self, tokens_keys: np.ndarray) -> np.ndarray:
        """bool, one for each page: whether its text is among these."""
        return _among(self.text_keys, tokens_keys)

    def texts_of(self, url_keys: np.ndarray, tokens_keys: np.ndarray) -> np.ndarray:
        """The keys of the texts that these pages stand for: that came with the URL of one, or are the text of one."""
        return self.text_keys[np.isin(self.text_urls, url_keys) | np.isin(self.text_keys, tokens_keys)]

    def without(self, text_keys: np.ndarray) -> Examples:
        """The same without these texts."""
        stays = ~np.isin(self.text_keys, text_keys)
        texts = tuple(text for text, here in zip(self.texts, stays, strict=True) if here)
        return Examples(texts, self.text_keys[stays], self.text_urls[stays], self.url_keys)


@dataclass(frozen=True)
class HeldOut:
    """Pages that are scored and not trained on: the keys of their URLs in order, and their labels (1, 0, -1 unknown)."""

    url_keys: np.ndarray
    labels: np.ndarray

    def match(self, url_keys: np.ndarray) -> np.ndarray:
        """bool, one for each page."""
        return _among(self.url_keys, url_keys)

    def labels_of(self, url_keys: np.ndarray) -> np.ndarray:
        """int8, one for each page: its label; -1 too where it is not held out."""
        if not len(self.url_keys):
            return np.full(len(url_keys), -1, np.int8)
        place = np.minimum(np.searchsorted(self.url_keys, url_keys), len(self.url_keys) - 1)
        return np.where(self.url_keys[place] == url_keys, self.labels[place], np.int8(-1))


def _among(ordered: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """bool, one for each of `keys`. (np.isin would sort millions at every shard.)"""
    if not len(ordered):
        return np.zeros(len(keys), bool)
    return ordered[np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)] == keys


NO_URL = 0
_NO_KEYS = np.zeros(0, np.uint64)
NO_EXAMPLES = Examples((), _NO_KEYS, _NO_KEYS, _NO_KEYS)
NONE_HELD_OUT = HeldOut(_NO_KEYS, np.zeros(0, np.int8))


@dataclass(frozen=True)
class Inputs:
    """What the user gives besides the crawl. negatives None: random pages of the crawl."""

    seed: Examples
    negatives: Examples | None = None
    held_out: HeldOut = NONE_HELD_OUT


def read_examples(
    option: str, files: Sequence[Path], most: int, held_out: HeldOut = NONE_HELD_OUT
) -> Examples:
    """Reads --seed or --negatives, at most `most` texts, without the rows of held-out URLs. Raises UserError for a missing
    file, a bad row (file:line), or no usable row."""
    urls: set[int] = set()
    labels: Counter[object] = Counter()
    not_these = set(held_out.url_keys.tolist())

    def texts() -> Iterator[_Text]:
        for place, row in _rows(option, files, ("text", "url", "label")):
            labels[LABELS.get(row.get("label")) if isinstance(row.get("label"), str) else None] += 1
            text, url = row.get("text"), row.get("url")
            if not isinstance(text, str) and not isinstance(url, str):
                raise UserError(f"{option} {place}: needs a string under text or url")
            url_key = key_of(canonical_url(url)) if isinstance(url, str) else NO_URL
            if url_key in not_these:
                continue
            if isinstance(url, str):
                urls.add(url_key)
            if isinstance(text, str):
                yield text, url_key

    tokenised: dict[int, str] = {}
    text_urls: dict[int, int] = {}
    for text, url_key in _sample(texts(), most):
        if tokens := fasttext_tokens(text):
            key = key_of(tokens)
            tokenised[key], text_urls[key] = tokens, min(url_key, text_urls.get(key, url_key))
    if not tokenised and not urls:
        but = ", not held out" if not_these else ""
        raise UserError(f"{option} {files[0]}: no usable text: give rows {{text}} or {{url}}{but}")
    if labels[0] and labels[1]:
        print(
            f"warning: {option}: {labels[1]:,} rows have the label math and {labels[0]:,} other; labels count in --held-out "
            "only: here every row is an example, so give the rows of one label",
            file=sys.stderr,
        )
    keys = sorted(tokenised)
    own_urls = _keys([text_urls[key] for key in keys])
    return Examples(tuple(tokenised[key] for key in keys), _keys(keys), own_urls, _keys(sorted(urls)))


def read_held_out(file: Path) -> HeldOut:
    """Reads rows {url} or {url, label}, label "math" or "other" (or true, false); another one counts for nothing."""
    labels: dict[int, int] = {}
    for place, row in _rows("--held-out", [file], ("url", "label")):
        if not isinstance(row.get("url"), str):
            raise UserError(f"--held-out {place}: needs a string under url")
        label = row.get("label")
        known = LABELS.get(label, -1) if isinstance(label, str | bool | int) else -1
        labels[key_of(canonical_url(row["url"]))] = known
    if not labels:
        raise UserError(f"--held-out {file}: no row; give rows {{url}} or {{url, label}}")
    keys = sorted(labels)
    return HeldOut(_keys(keys), np.array([labels[key] for key in keys], np.int8))


def _keys(keys: Sequence[int]) -> np.ndarray:
    return np.array(keys, np.uint64)


def _sample(texts: Iterable[_Text], most: int) -> Iterator[_Text]:
    """The `most` texts of the lowest keys, each once, with the lowest of its URLs' keys: no order of the rows counts."""
    lowest: list[tuple[int, str]] = []  # a heap of the negated keys
    held: dict[int, int] = {}  # URLs' keys
    for text, url_key in texts:
        key = key_of(text)
        if key in held:
            held[key] = min(held[key], url_key)
        elif len(lowest) < most or -key > lowest[0][0]:
            held[key] = url_key
            heapq.heappush(lowest, (-key, text))
            if len(lowest) > most:
                del held[-heapq.heappop(lowest)[0]]
    while lowest:  # each is given away before the next one is tokenised: not all twice in memory
        key, text = heapq.heappop(lowest)
        yield text, held[-key]


def _rows(option: str, files: Sequence[Path], names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for file in files:
        try:
            if not file.is_file():
                raise UserError(f"{option} {file}: no such file")
            yield from _checked(option, file, names)
        except OSError as error:
            raise UserError(f"{option} {file}: cannot be read ({error.strerror or error})") from None
        except UserError as error:
            raise error if str(error).startswith(option) else UserError(f"{option} {error}") from None


def _checked(option: str, file: Path, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    if file.name.endswith(PARQUET):
        columns = [name for name in parquet_columns(file) if name in names]
        yield from read_parquet(file, columns)
        return
    if not file.name.endswith(ROWS):
        raise UserError(f"{option} {file}: must be JSON lines (.jsonl, .jsonl.gz, .jsonl.zst) or parquet")
    for place, row in read_rows(file):
        if not isinstance(row, dict):
            raise UserError(f"{option} {place}: a row must be an object with {' or '.join(names)}")
        yield place, row
