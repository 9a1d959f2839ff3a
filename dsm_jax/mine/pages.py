"""The stage between WARC files and the loop: read, extract and tokenise every page once, a shard a WARC file.

Grain feeds it: record blocks are a random-access source, reading and extraction its map transforms, run in
this process or by Grain's worker processes; the shards hold the same bytes either way. A shard appears by
rename and then its manifest; a shard with a manifest is not made again.
"""

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grain
from absl import flags

from dsm_jax.errors import UserError
from dsm_jax.mine.classify import count_words, fasttext_tokens
from dsm_jax.mine.extract import decode, page_text
from dsm_jax.mine.read import ReadBlock, RecordBlocks, read_block
from dsm_jax.run import atomic, progress, read_json, write_json


@dataclass(frozen=True)
class PageInfo:
    """What is held of a page in memory; `duplicate_of` indexes the first page of the same URL or text."""

    url: str
    domain: str
    words: int
    tokens: bytes
    """text_key of its tokens."""
    duplicate_of: int | None


@dataclass(frozen=True)
class _Rows:
    """A block's rows, opaque to Grain."""

    rows: list[dict[str, Any]]
    skipped: dict[str, int]


def make_shards(warcs: Sequence[Path], folder: Path, workers: int = 0) -> dict[str, Any]:
    """Writes for each WARC file NNNNN.jsonl.gz {url, warc, offset, text, tokens, words} and NNNNN.json.

    Returns {"pages", "words", "skipped": {kind: records}}. Raises UserError when no page could be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pending = [i for i in range(len(warcs)) if not _manifest(folder, i).exists()]
    if pending:
        blocks = RecordBlocks([warcs[i] for i in pending])
        with progress(len(blocks), "read and extract (blocks of records)") as bar:
            rows = iter(_extracted(blocks, workers))
            for i in pending:
                _write_shard(folder, i, warcs[i], blocks, rows, bar.advance)
    total = _sum_manifests([read_json(_manifest(folder, i)) for i in range(len(warcs))])
    if not total["pages"]:
        skipped = ", ".join(f"{n} {kind}" for kind, n in sorted(total["skipped"].items())) or "no record"
        raise UserError(
            f"--warc: no readable HTML page in {len(warcs)} files ({skipped}): give WARC files of responses and "
            "another --out"
        )
    return total


def shard_files(folder: Path) -> list[Path]:
    """The shards in the order of the WARC files: a random-access source for Grain."""
    return sorted(folder.glob("[0-9]*.jsonl.gz"))


def read_shard(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of one shard, in the order of their records."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def read_shards(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of every shard."""
    for path in shard_files(folder):
        yield from read_shard(path)


def text_key(tokens: str) -> bytes:
    """16 bytes that tell tokenised texts apart."""
    return sha256(tokens.encode(errors="replace")).digest()[:16]


def load_infos(folder: Path) -> list[PageInfo]:
    """One PageInfo a row. A page whose canonical URL or exact text was seen before is a duplicate."""
    total = sum(read_json(path)["pages"] for path in folder.glob("[0-9]*.json"))
    first_url: dict[str, int] = {}
    first_text: dict[bytes, int] = {}
    infos: list[PageInfo] = []
    for i, row in enumerate(with_progress(read_shards(folder), total, "look for duplicates (pages)")):
        url = canonical_url(row["url"])
        if row["text"]:  # an empty capture is nobody's first page
            by_url = first_url.setdefault(url, i)
            by_text = first_text.setdefault(sha256(row["text"].encode()).digest(), i)
        else:
            by_url = by_text = first_url.get(url, i)
        first = min(by_url, by_text)
        if first < i and (origin := infos[first].duplicate_of) is not None:
            first = origin
        duplicate_of = None if first == i else first
        infos.append(
            PageInfo(row["url"], domain_of(row["url"]), row["words"], text_key(row["tokens"]), duplicate_of)
        )
    return infos


def with_progress(rows: Iterator[dict[str, Any]], total: int, description: str) -> Iterator[dict[str, Any]]:
    """The rows, each counted on stderr when it is done with."""
    with progress(total, description) as bar:
        for row in rows:
            yield row
            bar.advance()


def canonical_url(url: str) -> str:
    """Without scheme, www, fragment, the host's case and a last slash: what tells pages apart."""
    if not domain_of(url):
        return url
    parts = urlsplit(url)
    return (
        parts.netloc.lower().removeprefix("www.")
        + parts.path.rstrip("/")
        + (f"?{parts.query}" if parts.query else "")
    )


def domain_of(url: str) -> str:
    """The host in lower case, without www and port; "" where the URL has none."""
    try:
        return (urlsplit(url).hostname or "").removeprefix("www.")
    except ValueError:
        return ""


@contextmanager
def gzip_lines(path: Path) -> Iterator[gzip.GzipFile]:
    """A gzip file to write, that appears whole and depends on its content only."""
    with atomic(path) as tmp, open(tmp, "wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
        yield file


def json_line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode(errors="replace") + b"\n"


def _manifest(folder: Path, index: int) -> Path:
    return folder / f"{index:05d}.json"


def _extracted(blocks: RecordBlocks, workers: int) -> Iterator[_Rows]:
    dataset = grain.MapDataset.source(blocks).map(read_block).map(_extract_block)
    if not workers:
        return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)))
    flags.FLAGS.mark_as_parsed()  # Grain's worker processes read absl flags, which only an absl app parses
    stream = dataset.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    return iter(stream.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers)))


def _extract_block(read: ReadBlock) -> _Rows:
    rows = []
    for page in read.pages:
        text = page_text(decode(page.body, page.charset))
        rows.append(
            {
                "url": page.url,
                "warc": page.warc,
                "offset": page.offset,
                "text": text,
                "tokens": fasttext_tokens(text),
                "words": count_words(text),
            }
        )
    return _Rows(rows, read.skipped)


def _write_shard(
    folder: Path,
    index: int,
    warc: Path,
    blocks: RecordBlocks,
    rows: Iterator[_Rows],
    advance: Callable[[], None],
) -> None:
    skipped: Counter[str] = Counter({"broken stretch": blocks.broken[str(warc)]})
    pages = words = 0
    with gzip_lines(folder / f"{index:05d}.jsonl.gz") as file:
        for block_rows in islice(rows, blocks.count_of(warc)):
            skipped.update(block_rows.skipped)
            for row in block_rows.rows:
                file.write(json_line(row))
                pages, words = pages + 1, words + row["words"]
            advance()
    counts = {kind: n for kind, n in sorted(skipped.items()) if n}
    write_json(
        _manifest(folder, index), {"warc": warc.name, "pages": pages, "words": words, "skipped": counts}
    )


def _sum_manifests(manifests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    skipped: Counter[str] = Counter()
    for manifest in manifests:
        skipped.update(manifest["skipped"])
    return {
        "pages": sum(manifest["pages"] for manifest in manifests),
        "words": sum(manifest["words"] for manifest in manifests),
        "skipped": dict(sorted(skipped.items())),
    }
