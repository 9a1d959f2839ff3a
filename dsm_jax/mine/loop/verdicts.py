"""What annotations say of every page: of its own URL, and where they say nothing of that, of its duplicates.

So a page is in the corpus under the URL that was judged, and accepting a site counts where a mirror of it came first.
Duplicates that were judged unlike each other decide nothing, nor does a prefix that annotators disagree on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from dsm_jax.mine.annotate.annotations import Annotations, host_of
from dsm_jax.mine.crawl import Crawl, page_array
from dsm_jax.mine.loop.marks import ACCEPTED, REJECTED
from dsm_jax.mine.web.urls import domain_of

MOST_NAMED = 5  # prefixes in a message
# Bits, until all pages were looked at; _OWN: it is the page's own URL that says so.
_ACCEPT, _REJECT, _OWN = 1, 2, 4
_BITS = {True: _OWN | _ACCEPT, False: _OWN | _REJECT, None: _OWN | _ACCEPT | _REJECT}
_VERDICTS = np.array([0, ACCEPTED, REJECTED, 0], np.int8)  # by the bits _ACCEPT and _REJECT


def mark_verdicts(crawl: Crawl, first: np.ndarray, annotations: Annotations, out: Path) -> None:
    """Writes int8 [pages]: ACCEPTED, REJECTED or 0; says which prefixes match no page. first: int64 [pages], each page's
    first page."""
    with page_array(out, crawl.count, "int8") as marks:
        if annotations.prefixes:
            found = _mark_own(crawl, annotations, marks)
            _say_found(annotations, found)
            _mark_firsts(crawl, first, marks)
            for shard in crawl.shards:
                marks[shard.pages] = _VERDICTS[marks[shard.pages] & (_ACCEPT | _REJECT)]


def _mark_own(crawl: Crawl, annotations: Annotations, marks: np.ndarray) -> set[str]:
    """Writes the bits of each page whose own URL is under a prefix; returns the prefixes that a page is under."""
    found: set[str] = set()
    domains = {domain_of(f"https://{host_of(prefix)}/") for prefix in annotations.prefixes}
    for shard in crawl.shards:
        inside = np.flatnonzero(shard.of_domains(domains))
        urls = shard.columns("url")["url"].take(inside).to_pylist()
        for page, url in zip((inside + shard.start).tolist(), urls, strict=True):
            if prefixes := list(annotations.covering(url)):
                marks[page] = _BITS[annotations.prefixes[prefixes[0]]]
                found.update(prefixes)
    return found


def _mark_firsts(crawl: Crawl, first: np.ndarray, marks: np.ndarray) -> None:
    """Adds to each first page of whose URL nothing is said what is said of its duplicates."""
    for shard in crawl.shards:
        bits = np.array(marks[shard.pages])
        for bit in (_ACCEPT, _REJECT):
            pages = first[shard.pages][(bits & _OWN > 0) & (bits & bit > 0)]
            marks[pages[marks[pages] < _OWN]] |= bit


def _say_found(annotations: Annotations, found: set[str]) -> None:
    """A prefix that matches nothing is mostly one that was mistyped, or is of another crawl."""
    verdicts = list(annotations.prefixes.values())
    counts = {"accepted": True, "rejected": False, "in conflict": None}
    said = ", ".join(f"{verdicts.count(verdict):,} {name}" for name, verdict in counts.items())
    lost = sorted(annotations.prefixes.keys() - found)
    some = f": {', '.join(lost[:MOST_NAMED])}{', ..' if len(lost) > MOST_NAMED else ''}" if lost else ""
    print(
        f"annotations: {len(verdicts):,} prefixes ({said}); {len(lost):,} match no page of the crawl{some}",
        file=sys.stderr,
    )
