"""What an iteration leaves for annotators (candidates.py reads it): its domains, their URL prefixes, sampled pages.

Of the MOST_DOMAINS domains with most left to gain. Samples are drawn by the hash of their URLs, as many as fit of each
domain, and lie in the order of the crawl.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dsm_jax.mine.annotate.candidates import DOMAINS, PREFIXES, SAMPLES
from dsm_jax.mine.annotate.prefixes import prefix_counts
from dsm_jax.mine.crawl import Crawl, Shard
from dsm_jax.mine.json_lines import gzip_lines, json_line
from dsm_jax.mine.loop.draw import Draw, random_keys
from dsm_jax.mine.loop.marks import Marks
from dsm_jax.run import write_json

MOST_DOMAINS = 2_000
PAGES_A_DOMAIN = 200
TEXT_CHARACTERS = 1_500
_SALT = 7


def write_candidates(
    crawl: Crawl,
    marks: Marks,
    domains: Sequence[Mapping[str, Any]],
    scores: np.ndarray,
    kept: np.ndarray,
    folder: Path,
) -> None:
    """Writes the three files of an iteration. domains: rows as domains.json has them, most to gain first."""
    names = [row["domain"] for row in domains[:MOST_DOMAINS]]
    write_json(folder / DOMAINS, list(domains))
    with gzip_lines(folder / PREFIXES) as file:
        file.writelines(map(json_line, prefix_counts(_pages(crawl, marks, names, scores, kept))))
    sampled = _sampled(crawl, marks, names)
    with gzip_lines(folder / SAMPLES) as file:
        for page, row in crawl.rows(sampled, "domain", "url", "words", "text"):
            row["text"] = row["text"][:TEXT_CHARACTERS]
            file.write(json_line(row | {"score": float(scores[page]), "kept": bool(kept[page])}))


def _pages(
    crawl: Crawl, marks: Marks, names: Sequence[str], scores: np.ndarray, kept: np.ndarray
) -> Iterator[tuple[str, str, float, bool]]:
    """(domain, url, score, kept) of every page of these domains that is no duplicate."""
    for shard in crawl.shards:
        inside, codes = _of_domains(shard, marks, names)
        urls = shard.columns("url")["url"].take(inside).to_pylist()
        pages = inside + shard.start
        values = zip(codes, urls, scores[pages].tolist(), kept[pages].tolist(), strict=True)
        yield from ((names[code], url, score, is_kept) for code, url, score, is_kept in values)


def _sampled(crawl: Crawl, marks: Marks, names: Sequence[str]) -> np.ndarray:
    draws = [Draw(PAGES_A_DOMAIN) for _ in names]
    for shard in crawl.shards:
        inside, codes = _of_domains(shard, marks, names)
        keys = random_keys(shard.numbers("url_key")[inside], _SALT)
        for code in np.unique(codes):
            draws[code].add(keys[codes == code], inside[codes == code] + shard.start)
    return np.concatenate([np.zeros(0, np.int64), *(draw.pages() for draw in draws)])


def _of_domains(shard: Shard, marks: Marks, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(rows of the shard that are in one of these domains, the domain's place in `names`)."""
    place_of = {name: place for place, name in enumerate(names)}
    domains = shard.columns("domain")["domain"].combine_chunks().dictionary_encode()
    if not len(domains):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    places = np.array([place_of.get(name, -1) for name in domains.dictionary.to_pylist()], np.int64)
    codes = places[domains.indices.to_numpy()]
    inside = np.flatnonzero((codes >= 0) & marks.has_own_text[shard.pages])
    return inside, codes[inside]
