"""WARC files to HTML pages, by random access to blocks of records.

A block starts where a record can be found by its file offset: at a gzip member or, in plain files, at any
record. A file compressed as one member is one block. Bad records are counted by kind and skipped; after a
broken stretch reading goes on at the next record that can be found.

Left out on purpose: WET, WAT and ARC records (counted as skipped), remote files, brotli bodies.
"""

import io
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from fastwarc import ArchiveIterator, WarcRecord, WarcRecordType
from resiliparse.parse.http import iterate_http_chunks

from dsm_jax.errors import UserError
from dsm_jax.run import progress

BLOCK_RECORDS = 32
MAX_RECORD_BYTES = 16 << 20
_GZIP_MAGIC, _PLAIN_MAGIC = b"\x1f\x8b\x08", b"WARC/"
# What fastwarc and zlib raise on bad input.
_BROKEN = (OSError, ValueError, EOFError, RuntimeError, zlib.error)


@dataclass(frozen=True)
class Block:
    """`count` records of one WARC file from a byte offset on."""

    warc: str
    offset: int
    count: int


@dataclass(frozen=True)
class Page:
    """An HTML response; `warc` is the file's name, `offset` where its record (or one-member block) starts."""

    url: str
    body: bytes
    charset: str | None
    warc: str
    offset: int


@dataclass(frozen=True)
class ReadBlock:
    """The pages of one block, and how many records were skipped by kind."""

    block: Block
    pages: list[Page]
    skipped: dict[str, int]


class RecordBlocks:
    """The blocks of many WARC files as a random-access source for Grain; indexes every file once."""

    def __init__(self, warcs: Sequence[Path]):
        self.broken: dict[str, int] = {}
        self._blocks: list[Block] = []
        with progress(len(warcs), "find the records (WARC files)") as bar:
            for warc in warcs:
                blocks, self.broken[str(warc)] = index_warc(warc)
                self._blocks += blocks
                bar.advance(note=warc.name)

    def count_of(self, warc: Path) -> int:
        """Blocks of one file."""
        return sum(block.warc == str(warc) for block in self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, index: int) -> Block:
        return self._blocks[index]


def check_warcs(warcs: Sequence[Path]) -> None:
    """Raises UserError for the first file that is missing, empty, or holds no WARC record at all."""
    if not warcs:
        raise UserError("--warc names no file: give WARC files (.warc or .warc.gz)")
    for warc in warcs:
        try:
            _check_warc(warc)
        except PermissionError as error:
            raise UserError(f"--warc {warc}: cannot be read ({error.strerror})") from None


def _check_warc(warc: Path) -> None:
    if not warc.is_file():
        raise UserError(f"--warc {warc}: no such file")
    if warc.stat().st_size == 0:
        raise UserError(f"--warc {warc}: the file is empty; download it again")
    if not _readable_at_all(warc):
        raise UserError(
            f"--warc {warc}: corrupt, or not a WARC file: no record can be read; download it again"
        )


def _readable_at_all(warc: Path) -> bool:
    with open(warc, "rb") as file:
        if next(_until_broken(file), None) is not None:
            return True
    return bool(index_warc(warc)[0])


def index_warc(path: Path) -> tuple[list[Block], int]:
    """The blocks of a WARC file in order, and the number of broken stretches between them."""
    blocks: list[Block] = []
    broken, start = 0, 0
    while True:
        offsets, whole = _readable(path, start)
        blocks += _blocks(path, offsets)
        if whole:
            return blocks, broken
        broken += bool(offsets) or start == 0
        next_start = _next_start(path, (offsets[-1] if offsets else start) + 1)
        if next_start is None:
            return blocks, broken
        start = next_start


def _readable(path: Path, start: int) -> tuple[list[int], bool]:
    """Offsets of the records that can be read in a row from `start`; False where a broken one ends them."""
    offsets: list[int] = []
    with open(path, "rb") as file:
        file.seek(start)
        try:
            for record in _records(file):
                offsets.append(record.stream_pos)
        except OSError:
            return offsets, False
    return offsets, True


def _blocks(path: Path, offsets: Sequence[int]) -> list[Block]:
    starts: list[int] = []  # indices into offsets
    with open(path, "rb") as file:
        for i, offset in enumerate(offsets):
            if not starts or (
                i - starts[-1] >= BLOCK_RECORDS and offset > offsets[i - 1] and _is_start(file, offset)
            ):
                starts.append(i)
    ends = [*starts[1:], len(offsets)][: len(starts)]
    return [Block(str(path), offsets[a], b - a) for a, b in zip(starts, ends, strict=True)]


def read_block(block: Block) -> ReadBlock:
    """The HTML pages of a block. Never fails on bad records: `skipped` counts them by kind."""
    pages: list[Page] = []
    skipped: Counter[str] = Counter()
    with open(block.warc, "rb") as file:
        file.seek(block.offset)
        for record in islice(_until_broken(file), block.count):
            page = _page(record, block)
            if isinstance(page, Page):
                pages.append(page)
            else:
                skipped[page] += 1
    return ReadBlock(block, pages, dict(skipped))


def _records(file: BinaryIO) -> Iterator[WarcRecord]:
    """The records from the file's position on. Raises OSError where a broken one ends them."""
    records = ArchiveIterator(file, parse_http=False)
    while True:
        try:
            record = next(records, None)
        except BaseException as error:
            # On some broken lz4 frames fastwarc panics: a BaseException whose class cannot be imported.
            if isinstance(error, _BROKEN) or type(error).__name__ == "PanicException":
                raise OSError(f"broken record: {error}") from error
            raise
        if record is None:
            return
        yield record


def _until_broken(file: BinaryIO) -> Iterator[WarcRecord]:
    try:
        yield from _records(file)
    except OSError:  # index_warc has counted this stretch
        return


def _is_start(file: BinaryIO, offset: int) -> bool:
    file.seek(offset)
    return file.read(5).startswith((_GZIP_MAGIC, _PLAIN_MAGIC))


def _next_start(path: Path, offset: int) -> int | None:
    with open(path, "rb") as file:
        magic = _GZIP_MAGIC if file.read(3) == _GZIP_MAGIC else _PLAIN_MAGIC
        file.seek(offset)
        tail = b""
        while window := file.read(1 << 20):
            found = (tail + window).find(magic)
            if found >= 0:
                return offset - len(tail) + found
            offset += len(window)
            tail = window[-len(magic) + 1 :]
    return None


def _page(record: WarcRecord, block: Block) -> Page | str:
    """The record's page, or the kind of reason to skip it."""
    if record.record_type != WarcRecordType.response:
        return "not a response"
    if record.content_length > MAX_RECORD_BYTES:
        return "too large"
    url = record.headers.get("WARC-Target-URI")
    if not url:
        return "no url"
    try:
        record.parse_http()
        headers = record.http_headers
        if headers is None:
            return "broken http"
        body = record.reader.read()
        if len(body) < record.content_length:
            return "truncated"
        if (headers.status_code or 200) != 200:
            return "http status"
        body = _decoded(body, headers.get("Transfer-Encoding"), headers.get("Content-Encoding"))
    except _BROKEN:
        return "broken http"
    if not _is_html(record.http_content_type, body):
        return "not html"
    return Page(url.strip("<> "), body, record.http_charset, Path(block.warc).name, record.stream_pos)


def _decoded(body: bytes, transfer: str | None, content: str | None) -> bytes:
    """The body without its HTTP encodings; crawls often keep the headers and not the encoding."""
    if "chunked" in (transfer or "").lower():
        body = b"".join(iterate_http_chunks(io.BytesIO(body))) or body
    if (content or "").lower() in ("gzip", "x-gzip", "deflate") and body.startswith((b"\x1f\x8b", b"\x78")):
        body = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(body, MAX_RECORD_BYTES)
    return body


def _is_html(content_type: str | None, body: bytes) -> bool:
    if content_type:
        return "html" in content_type.lower()
    head = body[:2048].lower()
    return b"<html" in head or b"<!doctype html" in head
