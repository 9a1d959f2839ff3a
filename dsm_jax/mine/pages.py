"""The stage between WARC or WET files and the loop: every page read, extracted and described once, a shard a file.

Grain feeds it: record blocks are a random-access source, reading and extraction its map transforms, run in this process
or by Grain's worker processes; the shards hold the same bytes either way. A shard is a parquet file, which appears by
rename, and then its manifest, which counts what was read and what was skipped; a shard with a manifest is not made again,
one without from its file's beginning. A file that no server gives is missing: said in its manifest, and asked for again at
the next start.
"""

from __future__ import annotations

import shutil
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, Self

import grain
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dsm_jax.errors import UserError
from dsm_jax.mine.extract.language import LanguageModel, languages_of, load_language_model
from dsm_jax.mine.extract.page_text import decode, page_text
from dsm_jax.mine.near_duplicates import BANDS, band_keys
from dsm_jax.mine.tasks import HERE, Spread, for_each, mapped
from dsm_jax.mine.tokens import count_words, fasttext_tokens
from dsm_jax.mine.web.download import Missing
from dsm_jax.mine.web.fetch import fetch
from dsm_jax.mine.web.read import LOST, Block, Page, RecordBlocks, index_file, read_block
from dsm_jax.mine.web.urls import canonical_url, domain_of, key_of
from dsm_jax.run import atomic, attempt, progress, read_json, write_json

KEYS = ("url_key", "text_key", *(f"band_{i:02d}" for i in range(BANDS)))
"""Columns of keys: pages that share one are duplicates; 0 is no key."""
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("url", "domain", "language", "record_id", "text", "tokens")),
        *((name, pa.int64()) for name in ("offset", "words")),
        *((name, pa.uint64()) for name in (*KEYS, "tokens_key")),
        ("source", pa.string()),
    ]
)
ROWS = "rows.json"  # how many each shard has: opening every shard to see would take minutes of each task at 90,000
GROUP_ROWS = 1024  # in a row group: what is read at once
GROUP_BYTES = 64 << 20  # of a row group's texts and numbers, or a page more
FILES_AT_ONCE = 16  # whose records are looked up, and which lie here when they come from a server
DOWNLOADS = 4
NO_RECORD = "empty, corrupt or not a WARC file: no record can be read"
NOT_EXTRACTED = "extraction failed"


@dataclass(frozen=True)
class _Rows:
    """A block's rows, opaque to Grain."""

    columns: dict[str, list[Any]]
    skipped: dict[str, int]


def make_shards(
    sources: Sequence[str], folder: Path, language_model: Path | None = None, spread: Spread = HERE
) -> None:
    """Writes for each source file NNNNN.parquet (SCHEMA) and NNNNN.json, its manifest; and ROWS.

    language_model: a fastText model's file; none: the language by the script. Raises UserError when no page could be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pending = [i for i in range(len(sources)) if not _is_made(folder, i)]
    if pending:
        (folder / ROWS).unlink(missing_ok=True)
    make = partial(_make, list(sources), folder, language_model)
    if spread.beam:
        for_each(make, pending, "read and extract (files)", spread)
    else:
        with progress(len(pending), "read and extract (files)") as bar:
            for start in range(0, len(pending), FILES_AT_ONCE):
                make(*pending[start : start + FILES_AT_ONCE], workers=spread.workers, advance=bar.advance)
    for left in folder.glob("downloads*"):  # by a kill
        shutil.rmtree(left, ignore_errors=True)
    counts = [read_json(_manifest(folder, i)).get("pages", 0) for i in range(len(sources))]
    write_json(folder / ROWS, counts)
    read_totals(folder, len(sources))


def read_totals(folder: Path, count: int) -> dict[str, Any]:
    """The sums of `count` shards' manifests: {"pages", "words", "records", "skipped": {kind: records}, "missing": {source:
    reason}}. Raises UserError where there is no page."""
    manifests = [read_json(_manifest(folder, i)) for i in range(count)]
    skipped: Counter[str] = Counter()
    for manifest in manifests:
        skipped.update(manifest.get("skipped", {}))
    missing = {manifest["source"]: manifest["missing"] for manifest in manifests if "missing" in manifest}
    total = {
        name: sum(manifest.get(name, 0) for manifest in manifests) for name in ("pages", "words", "records")
    }
    if len(missing) == len(manifests):
        source, reason = next(iter(missing.items()))
        raise UserError(
            f"--warc, --wet: every file is missing, such as {source} ({reason}): check the names and the connection"
        )
    if not total["pages"]:
        counts = ", ".join(f"{n} {kind}" for kind, n in sorted(skipped.items())) or "no record"
        gone = f", {len(missing)} of them missing" if missing else ""
        raise UserError(
            f"--warc, --wet: no readable HTML page in {len(manifests)} files{gone} ({counts}): give WARC files of responses and "
            "another --out"
        )
    return {**total, "skipped": dict(sorted(skipped.items())), "missing": missing}


def shard_file(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.parquet"


def _manifest(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.json"


def _is_made(folder: Path, number: int) -> bool:
    manifest = _manifest(folder, number)
    return manifest.exists() and "missing" not in read_json(manifest)


def _make(
    sources: Sequence[str],
    folder: Path,
    language_model: Path | None,
    *numbers: int,
    workers: int = 0,
    advance: Callable[..., None] = lambda **note: None,
) -> None:
    """Makes the shards of these source files, over one stream of their blocks; not what another attempt has made."""
    numbers = tuple(i for i in numbers if not _is_made(folder, i))
    downloads = folder / f"downloads{attempt()}"
    fetched = _fetch_all(partial(_fetched, downloads), [sources[i] for i in numbers])
    files = [file for file in fetched if isinstance(file, Path)]
    blocks = RecordBlocks(files, mapped(grain.MapDataset.source(files).map(index_file), workers))
    dataset = grain.MapDataset.source(blocks).map(partial(_extract_block, language_model))
    rows = iter(mapped(dataset, workers))
    found = zip(blocks.counts, blocks.broken, strict=True)
    for i, file in zip(numbers, fetched, strict=True):
        name = sources[i].rpartition("/")[2]
        count, broken = next(found) if isinstance(file, Path) else (0, 0)
        if count:
            _write_shard(folder, i, name, broken, islice(rows, count))
        else:
            _write_missing(folder, i, sources[i], file.reason if isinstance(file, Missing) else NO_RECORD)
        if isinstance(file, Path) and file.parent == downloads:
            file.unlink(missing_ok=True)
        advance(note=name)


def _fetch_all(fetch_one: Callable[[str], Path | Missing], sources: Sequence[str]) -> list[Path | Missing]:
    """Each source's file, in their order, by a few threads that no end of the process waits for: a server may take long."""
    waiting, found = deque(enumerate(sources)), dict[int, Path | Missing]()
    errors: list[Exception] = []

    def work() -> None:
        with suppress(IndexError):
            while not errors:
                i, source = waiting.popleft()
                try:
                    found[i] = fetch_one(source)
                except Exception as error:  # noqa: BLE001 - raised below
                    errors.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(DOWNLOADS, len(sources)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [found[i] for i in range(len(sources))]


def _fetched(downloads: Path, source: str) -> Path | Missing:
    try:
        return fetch(source, downloads)
    except Missing as missing:
        return missing


def _write_missing(folder: Path, number: int, source: str, reason: str) -> None:
    if _is_made(folder, number):  # by another attempt, meanwhile
        return
    print(f"warning: {source} is missing ({reason}); going on without it", file=sys.stderr, flush=True)
    with atomic(shard_file(folder, number)) as tmp:
        pq.write_table(SCHEMA.empty_table(), tmp)
    write_json(_manifest(folder, number), {"source": source, "missing": reason})


def _extract_block(language_model: Path | None, block: Block) -> _Rows:
    read = read_block(block, _row_or_none)
    rows = [row for row in read.pages if row is not None]
    skipped = Counter(read.skipped) + Counter({NOT_EXTRACTED: len(read.pages) - len(rows)})
    languages = languages_of([row["text"] for row in rows], _language_model(language_model))
    columns = {
        name: [row[name] for row in rows] for name in SCHEMA.names if name not in ("language", "source")
    }
    return _Rows(columns | {"language": languages}, dict(skipped))


@lru_cache(maxsize=1)
def _language_model(path: Path | None) -> LanguageModel | None:
    return load_language_model(path) if path else None


def _row_or_none(page: Page) -> dict[str, Any] | None:
    try:
        return _row(page)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return None  # a mistake of ours or a library's: one page must not end a crawl


def _row(page: Page) -> dict[str, Any]:
    text = decode(page.body, page.charset)
    text = page_text(text) if page.is_html else text
    tokens = fasttext_tokens(text)
    keys = (0,) * len(KEYS)
    if text:  # an empty capture is nobody's first page
        keys = (key_of(canonical_url(page.url)), key_of(text), *map(int, band_keys(text)))
    return {
        "url": page.url,
        "domain": domain_of(page.url),
        "record_id": page.record_id,
        "text": text,
        "tokens": tokens,
        "offset": page.offset,
        "words": count_words(text),
        "tokens_key": key_of(tokens) if tokens else 0,
        **dict(zip(KEYS, keys, strict=True)),
    }


def _write_shard(folder: Path, number: int, name: str, broken: int, blocks: Iterator[_Rows]) -> None:
    skipped: Counter[str] = Counter({"broken stretch": broken})
    pages = words = 0
    with atomic(shard_file(folder, number)) as tmp, RowGroups(tmp, SCHEMA) as groups:
        for block in blocks:
            skipped.update(block.skipped)
            count = len(block.columns["url"])
            groups.add(pa.table({**block.columns, "source": [name] * count}, SCHEMA))
            pages, words = pages + count, words + sum(block.columns["words"])
    counts = {kind: n for kind, n in sorted(skipped.items()) if n}
    if cut := counts.keys() & {"broken stretch", LOST, "truncated"}:
        print(
            f"warning: {name} is damaged ({', '.join(f'{counts[kind]:,} {kind}' for kind in sorted(cut))}): the rest of it is "
            "read; download it again if it should be whole",
            file=sys.stderr,
            flush=True,
        )
    manifest = {"source": name, "records": pages + sum(counts.values()), "pages": pages, "words": words}
    write_json(_manifest(folder, number), manifest | {"skipped": counts})


class RowGroups:
    """A parquet file to write, in row groups of GROUP_ROWS, or of fewer that reach GROUP_BYTES, however the rows come."""

    def __init__(self, path: Path, schema: pa.Schema):
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._waiting: list[pa.Table] = []
        self._count = self._bytes = 0  # of the rows that wait

    def add(self, rows: pa.Table) -> None:
        sizes = _row_bytes(rows)
        start = 0
        for row, size in enumerate(sizes, start=1):
            self._count, self._bytes = self._count + 1, self._bytes + size
            if self._count >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
                self._waiting.append(rows.slice(start, row - start))
                self._write()
                start = row
        self._waiting.append(rows.slice(start).combine_chunks())

    def _write(self) -> None:
        self._writer.write_table(pa.concat_tables(self._waiting).combine_chunks())
        self._waiting, self._count, self._bytes = [], 0, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._count and exc_info[0] is None:
            self._write()
        self._writer.close()


def _row_bytes(rows: pa.Table) -> list[int]:
    """Of each row: 8 a number, a text's own, whatever batch it came in (Table.nbytes counts offsets by batch)."""
    texts = [rows[field.name] for field in rows.schema if field.type == pa.string()]
    sizes = np.full(len(rows), 8 * rows.num_columns)
    for text in texts:
        sizes += pc.fill_null(pc.binary_length(text), 0).to_numpy()
    return sizes.tolist()
