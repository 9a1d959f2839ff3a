"""scores.jsonl.gz: a row for every readable page of an iteration, seed and unkept pages too; a task a shard."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dsm_jax.mine.crawl import Crawl, Shard, mapped_array
from dsm_jax.mine.json_lines import gzip_lines, join, json_line
from dsm_jax.mine.tasks import HERE, Spread, for_each

NAME = "scores.jsonl.gz"


@dataclass(frozen=True)
class ScoreRows:
    """Writes the rows of a shard: picklable, for whoever runs the task. Reads folder/scores.npy and folder/kept.npy."""

    pages: Path
    duplicates: Path
    folder: Path
    """Of the iteration."""
    number: int

    def write(self, spread: Spread = HERE) -> None:
        """Writes folder/NAME: {url, score, iteration, domain, kept}, and duplicate_of, a URL, where it is one."""
        parts = self.folder / "scores.jsonl.parts"
        parts.mkdir(exist_ok=True)
        shards = Crawl(self.pages).shards
        files = [self._part(shard) for shard in shards]
        pending = [shard for shard, file in zip(shards, files, strict=True) if not file.exists()]
        for_each(self, pending, "write scores (files)", spread)
        join(files, self.folder / NAME)
        shutil.rmtree(parts)

    def __call__(self, shard: Shard) -> None:
        with gzip_lines(self._part(shard)) as file:
            file.writelines(map(json_line, self._rows(shard)))

    def _part(self, shard: Shard) -> Path:
        return self.folder / "scores.jsonl.parts" / f"{shard.number:05d}.jsonl.gz"

    def _rows(self, shard: Shard) -> Iterator[dict[str, Any]]:
        columns = shard.columns("url", "domain").to_pydict()
        first, scores, kept = (
            mapped_array(file)[shard.pages]
            for file in (self.duplicates, self.folder / "scores.npy", self.folder / "kept.npy")
        )
        others = first[first != np.arange(shard.start, shard.start + shard.count)]
        url_of = {page: row["url"] for page, row in Crawl(self.pages).rows(others, "url")}
        values = (scores.tolist(), kept.tolist(), first.tolist())
        for page, (url, domain, score, is_kept, origin) in enumerate(
            zip(columns["url"], columns["domain"], *values, strict=True), start=shard.start
        ):
            row = {"url": url, "score": score, "iteration": self.number, "domain": domain, "kept": is_kept}
            yield row if origin == page else row | {"duplicate_of": url_of[origin]}
