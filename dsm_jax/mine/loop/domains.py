"""Mathematical domains (DeepSeekMath 2.1): more than a tenth of their pages was collected; and what of them joins the seed
where nobody annotates.

Left out on purpose: subdomains (math.stackexchange.com is part of stackexchange.com; its paths are judged apart).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from dsm_jax.mine.crawl import Crawl, Shard
from dsm_jax.mine.loop.marks import Marks, Which
from dsm_jax.mine.web.urls import url_folder


@dataclass(frozen=True)
class DomainCount:
    """A domain with its pages in the crawl, those collected, and the words of them all; without duplicates and empty
    pages."""

    domain: str
    pages: int
    collected: int
    words: int


def discover(crawl: Crawl, pages: Which, collected: Which, share: float, min_pages: int) -> list[DomainCount]:
    """Domains of which more than `share` of at least `min_pages` pages was collected; most left to gain first.

    Pages whose URL has no host are in no domain. Memory grows with the domains that have a collected page.
    """
    kept: Counter[str] = Counter()
    for shard in crawl.shards:
        kept.update({name: n for name, (n, _) in _counts(shard, collected(shard)).items() if name})
    total: Counter[str] = Counter()
    words: Counter[str] = Counter()
    for shard in crawl.shards:
        for name, (n, n_words) in _counts(shard, pages(shard)).items():
            if name in kept:
                total[name] += n
                words[name] += n_words
    found = [
        DomainCount(name, total[name], n, words[name])
        for name, n in kept.items()
        if total[name] >= min_pages and n / total[name] > share
    ]
    return sorted(found, key=lambda count: (count.collected - count.pages, count.domain))


def mostly_collected(crawl: Crawl, marks: Marks, domains: Collection[str], share: float) -> Which:
    """Pages not collected in URL folders of these domains of which more than `share` was: ours, where the paper's people
    annotate URL paths. Memory grows with the folders of these domains."""
    pages: Counter[str] = Counter()
    collected: Counter[str] = Counter()
    for shard in crawl.shards:
        folders = _folders(shard, domains, marks.has_own_text[shard.pages])
        pages.update(folders)
        collected.update(np.array(folders, object)[marks.collected[shard.pages]].tolist())
    mostly = {folder for folder, n in pages.items() if folder and collected[folder] / n > share}

    def joins(shard: Shard) -> np.ndarray:
        folders = _folders(shard, domains, marks.uncollected(shard))
        return np.array([folder in mostly for folder in folders], bool)

    return joins


def _folders(shard: Shard, domains: Collection[str], inside: np.ndarray) -> list[str]:
    """Each page's URL folder; "" outside of `inside` and of these domains."""
    urls = shard.columns("url")["url"]
    folders = [""] * shard.count
    for page in np.flatnonzero(inside & shard.of_domains(domains)).tolist():
        folders[page] = url_folder(urls[page].as_py())
    return folders


def _counts(shard: Shard, inside: np.ndarray) -> dict[str, tuple[int, int]]:
    """{domain: (pages, words)} of some of a shard's pages."""
    table = shard.columns("domain", "words").filter(pa.array(inside))
    sums = table.group_by("domain").aggregate([("words", "count"), ("words", "sum")]).to_pydict()
    return dict(zip(sums["domain"], zip(sums["words_count"], sums["words_sum"], strict=True), strict=True))
