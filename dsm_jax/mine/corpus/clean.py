"""Collected pages without benchmark text: a shard of the crawl at a time, the last step before the corpus.

A crawl of WET files has text without its mathematics: where the WARC files are given too, a collected page is taken from
its record there. On disk, in clean-NN/ for NN iterations: NNNNN.parquet (the corpus's rows), NNNNN.hits.jsonl (every benchmark text found,
beside the page's lines) and NNNNN.json (counts, and the WARC file where it is missing).
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dsm_jax.mine.corpus.decontaminate import Benchmarks
from dsm_jax.mine.corpus.wet import WarcText, warc_texts
from dsm_jax.mine.crawl import Crawl, Shard, mapped_array
from dsm_jax.mine.json_lines import json_line
from dsm_jax.mine.loop.iterate import iteration_folder
from dsm_jax.mine.pages import RowGroups
from dsm_jax.mine.tasks import Spread, for_each
from dsm_jax.mine.tokens import count_words
from dsm_jax.mine.web.download import Missing
from dsm_jax.run import atomic, attempt, read_json, write_json

COLUMNS = ("url", "domain", "language", "source", "offset", "record_id", "text")
COUNTS = ("hits", "pages_touched", "lines_removed", "pages_dropped", "wet_text_kept")
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("text", "url", "warc", "domain", "language")),
        *((name, pa.int64()) for name in ("offset", "words", "iteration")),
        ("score", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Cleaner:
    """Cleans a shard of a run: picklable, for whoever runs the task."""

    out: Path
    iterations: int
    benchmarks: Benchmarks
    warcs: tuple[str | None, ...]
    """The WARC file of each shard that is a WET file; empty where the crawl is WARC files."""

    @property
    def folder(self) -> Path:
        """Where the shards lie until they are exported."""
        return self.out / f"clean-{self.iterations:02d}"

    def __call__(self, shard: Shard) -> None:
        """Writes the shard's three files, the counts last; nothing where another attempt has."""
        folder, number = self.folder, shard.number
        if self.is_clean(shard):
            return
        texts, missing = self._warc_texts(shard)
        if missing and self.is_clean(shard):  # by then: a server that is busy is waited for long
            return
        for warc, reason in missing.items():
            warning = f"warning: {warc} is missing ({reason}); its pages keep their WET text"
            print(warning, file=sys.stderr, flush=True)
        counts = Counter(dict.fromkeys(COUNTS, 0))
        with (
            atomic(folder / f"{number:05d}.parquet") as tmp,
            atomic(folder / f"{number:05d}.hits.jsonl") as hits_tmp,
            RowGroups(tmp, SCHEMA) as groups,
            open(hits_tmp, "wb") as hits,
        ):
            for row in self._rows(shard, texts, counts):
                cleaned = self.benchmarks.clean(row["text"])
                hits.writelines(json_line({"url": row["url"], **asdict(hit)}) for hit in cleaned.hits)
                counts["hits"] += len(cleaned.hits)
                counts["pages_touched"] += bool(cleaned.hits)
                counts["lines_removed"] += cleaned.lines
                counts["pages_dropped"] += cleaned.text is None
                if cleaned.text is not None:
                    row |= {"text": cleaned.text, "words": count_words(cleaned.text)}
                    groups.add(pa.Table.from_pylist([row], SCHEMA))
        write_json(_counts_file(folder, number), {"counts": counts, "missing": missing})

    def is_clean(self, shard: Shard) -> bool:
        """Whether the shard's files are there."""
        return _counts_file(self.folder, shard.number).exists()

    def _rows(
        self, shard: Shard, texts: Mapping[str, WarcText], counts: Counter[str]
    ) -> Iterator[dict[str, Any]]:
        """The collected pages with their text, score, and the iteration that collected them first."""
        folders = [iteration_folder(self.out, one) for one in range(1, self.iterations + 1)]
        kept = np.stack([mapped_array(folder / "kept.npy")[shard.pages] for folder in folders])
        scores = mapped_array(folders[-1] / "scores.npy")
        warc = self._warc_of(shard)
        for page, row in shard.rows(self._collected(shard), *COLUMNS):
            row |= {"warc": row.pop("source"), "score": float(scores[page])}
            row |= {"iteration": int(kept[:, page - shard.start].argmax()) + 1}
            found = texts.get(row["record_id"])
            counts["wet_text_kept"] += bool(self.warcs) and found is None
            if warc and found:
                row |= {"text": found.text, "offset": found.offset, "warc": Path(warc).name}
            yield row

    def _collected(self, shard: Shard) -> np.ndarray:
        """Its pages that the last iteration kept."""
        kept = mapped_array(iteration_folder(self.out, self.iterations) / "kept.npy")[shard.pages]
        return np.flatnonzero(kept) + shard.start

    def _warc_of(self, shard: Shard) -> str | None:
        return self.warcs[shard.number] if self.warcs else None

    def _warc_texts(self, shard: Shard) -> tuple[dict[str, WarcText], dict[str, str]]:
        """The collected pages' texts by record id; and {WARC file: reason} where it is missing."""
        warc = self._warc_of(shard)
        if warc is None:
            return {}, {}
        wanted = {row["record_id"] for _, row in shard.rows(self._collected(shard), "record_id")} - {""}
        try:
            return warc_texts(warc, self.folder / f"downloads{attempt()}", wanted), {}
        except Missing as missing:
            return {}, {warc: missing.reason}


def clean_pages(cleaner: Cleaner, spread: Spread) -> tuple[dict[str, int], dict[str, str]]:
    """Cleans every shard that is not clean yet. The counts of all, and the missing WARC files, {file: reason}."""
    folder = cleaner.folder
    folder.mkdir(exist_ok=True)
    shards = Crawl(cleaner.out / "pages").shards
    pending = [shard for shard in shards if not cleaner.is_clean(shard)]
    for_each(cleaner, pending, "decontaminate (files)", spread)
    total: Counter[str] = Counter()
    missing: dict[str, str] = {}
    for shard in shards:
        done = read_json(_counts_file(folder, shard.number))
        total.update(done["counts"])
        missing |= done["missing"]
    return dict(total), missing


def _counts_file(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.json"


def clean_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """The corpus's rows, in the order of the crawl."""
    for file in _in_order(folder, ".parquet"):
        with pq.ParquetFile(file) as shard:
            for i in range(shard.num_row_groups):
                yield from shard.read_row_group(i).to_pylist()


def hit_lines(folder: Path) -> Iterator[bytes]:
    """The lines of every hits.jsonl, in the order of the crawl."""
    for file in _in_order(folder, ".hits.jsonl"):
        with open(file, "rb") as lines:
            yield from lines


def _in_order(folder: Path, ending: str) -> list[Path]:
    """By their numbers: 100000 comes after 99999."""
    return sorted(folder.glob(f"[0-9]*{ending}"), key=lambda file: int(file.name.removesuffix(ending)))
