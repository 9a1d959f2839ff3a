"""scores.jsonl.gz: a row for every readable page of an iteration, seed and unkept pages too."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dsm_jax.mine.crawl import Crawl, Shard
from dsm_jax.run import atomic, progress

NAME = "scores.jsonl.gz"


def write_scores(
    crawl: Crawl, first: np.ndarray, scores: np.ndarray, kept: np.ndarray, folder: Path, number: int
) -> None:
    """Writes folder/scores.jsonl.gz: {url, score, iteration, domain, kept}, and duplicate_of, a URL, where it is one."""
    with gzip_lines(folder / NAME) as file, progress(crawl.count, "write scores (pages)") as bar:
        for shard in crawl.shards:
            for row in _rows(crawl, shard, first, scores, kept, number):
                file.write(json_line(row))
            bar.advance(shard.count)


def _rows(
    crawl: Crawl, shard: Shard, first: np.ndarray, scores: np.ndarray, kept: np.ndarray, number: int
) -> Iterator[dict[str, Any]]:
    columns = shard.columns("url", "domain").to_pydict()
    firsts = first[shard.pages]
    others = firsts[firsts != np.arange(shard.start, shard.start + shard.count)]
    url_of = {page: row["url"] for page, row in crawl.rows(others, "url")}
    values = (scores[shard.pages].tolist(), kept[shard.pages].tolist(), firsts.tolist())
    for i, (url, domain, score, is_kept, origin) in enumerate(
        zip(columns["url"], columns["domain"], *values, strict=True), start=shard.start
    ):
        row = {"url": url, "score": score, "iteration": number, "domain": domain, "kept": is_kept}
        yield row if origin == i else row | {"duplicate_of": url_of[origin]}


def join_scores(folders: Sequence[Path], out: Path) -> None:
    """Writes `out`: the folders' score files, one after the other."""
    with gzip_lines(out) as file:
        for folder in folders:
            with gzip.open(folder / NAME, "rb") as part:
                shutil.copyfileobj(part, file)


@contextmanager
def gzip_lines(path: Path) -> Iterator[gzip.GzipFile]:
    """A gzip file to write, that appears whole and depends on its content only."""
    with atomic(path) as tmp, open(tmp, "wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
        yield file


def json_line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode(errors="replace") + b"\n"
