"""What annotations say of every page: of its own URL, and where they say nothing of that, of its duplicates.

So a page is in the corpus under the URL that was judged, and accepting a site counts where a mirror of it came first.
Duplicates that were judged unlike each other decide nothing, nor does a prefix that annotators disagree on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dsm_jax.mine.annotate.annotations import Annotations
from dsm_jax.mine.crawl import Crawl, page_array
from dsm_jax.mine.loop.marks import ACCEPTED, REJECTED

_ACCEPT, _REJECT, _OWN = (
    1,
    2,
    4,
)  # bits, until all pages were looked at; _OWN: it is the page's own URL that says so
_BITS = {True: _OWN | _ACCEPT, False: _OWN | _REJECT, None: _OWN | _ACCEPT | _REJECT}
_VERDICTS = np.array([0, ACCEPTED, REJECTED, 0], np.int8)  # by the bits _ACCEPT and _REJECT


def mark_verdicts(crawl: Crawl, first: np.ndarray, annotations: Annotations, out: Path) -> None:
    """Writes int8 [pages]: ACCEPTED, REJECTED or 0. first: int64 [pages], each page's first page."""
    with page_array(out, crawl.count, "int8") as marks:
        if annotations.prefixes:
            _mark_own(crawl, annotations, marks)
            _mark_firsts(crawl, first, marks)
            for shard in crawl.shards:
                marks[shard.pages] = _VERDICTS[marks[shard.pages] & (_ACCEPT | _REJECT)]


def _mark_own(crawl: Crawl, annotations: Annotations, marks: np.ndarray) -> None:
    """Writes the bits of each page whose own URL is under a prefix."""
    for shard in crawl.shards:
        for page, url in enumerate(shard.columns("url")["url"].to_pylist(), shard.start):
            if (prefix := next(annotations.covering(url), None)) is not None:
                marks[page] = _BITS[annotations.prefixes[prefix]]


def _mark_firsts(crawl: Crawl, first: np.ndarray, marks: np.ndarray) -> None:
    """Adds to each first page of whose URL nothing is said what is said of its duplicates."""
    for shard in crawl.shards:
        bits = np.array(marks[shard.pages])
        for bit in (_ACCEPT, _REJECT):
            pages = first[shard.pages][(bits & _OWN > 0) & (bits & bit > 0)]
            marks[pages[marks[pages] < _OWN]] |= bit
