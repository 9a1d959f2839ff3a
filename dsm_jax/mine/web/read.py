"""WARC and WET files to pages, by random access to blocks of records.

A page is an HTML response of a WARC file, or the text that a crawl has extracted from one (a WET file's
conversion record); both name the response's record id, so that the hits of a WET file can be found again in its
WARC file. Everything else is skipped and counted by kind. A block starts at a plain record or at a compressed
member; in a member of many records it counts from the member's first.

Left out on purpose: ARC files (counted), WAT files and other records that hold no page (counted by their type),
remote files (fetch.py), broken records (warc_records.py).
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

from fastwarc import WarcRecord, WarcRecordType

from dsm_jax.errors import UserError
from dsm_jax.mine.web.http_body import MAX_BODY_BYTES, UnreadableBody, plain_body
from dsm_jax.mine.web.record_starts import Broken, guarded
from dsm_jax.mine.web.warc_records import Place, is_arc, read_records
from dsm_jax.run import progress

BLOCK_RECORDS = 32
BLOCK_BYTES = 64 << 20  # of contents, encoded as they are
MAX_RECORD_BYTES = MAX_BODY_BYTES
ARC, LOST = "ARC file", "broken record"

# What a page with a lying Content-Type begins with.
_NO_PAGE = re.compile(
    rb"%PDF-|\x89PNG|GIF8|\xff\xd8\xff|PK\x03\x04|\x1f\x8b|\x28\xb5\x2f\xfd|Rar!|\x7fELF|RIFF|OggS|ID3"
)
_WIDE = re.compile(rb"\xff\xfe|\xfe\xff|<\x00|\x00<")  # UTF-16 and UTF-32

T = TypeVar("T")


@dataclass(frozen=True)
class Block:
    """`count` records of one WARC file: those from the `skip`-th on after the one at byte `offset`."""

    warc: str
    offset: int
    count: int
    skip: int = 0


@dataclass(frozen=True)
class Page:
    """A page; `warc` is the file's name, `offset` where its record (or the member that holds it) starts."""

    url: str
    body: bytes
    charset: str | None
    warc: str
    offset: int
    record_id: str
    """Of the response in the WARC file, for a WET file's text too: "urn:uuid:..", "" where it has none."""
    is_html: bool = True
    """Whether the body is HTML; else plain text."""


@dataclass(frozen=True)
class ReadBlock(Generic[T]):
    """What was made of one block's pages, and how many records were skipped by kind; together they are the block's count."""

    block: Block
    pages: list[T]
    skipped: dict[str, int]


@dataclass(frozen=True)
class FileIndex:
    """A WARC file's blocks in order, and the number of broken stretches between them."""

    blocks: list[Block]
    broken: int


class RecordBlocks:
    """The blocks of many WARC files as a random-access source for Grain.

    indexes: the files' own, in their order, from whoever makes them; none: made here.
    """

    def __init__(self, warcs: Sequence[Path], indexes: Iterable[FileIndex] | None = None):
        self.counts: list[int] = []  # blocks of each file
        self.broken: list[int] = []  # stretches of each file
        self._blocks: list[Block] = []
        with progress(len(warcs), "find the records (WARC files)") as bar:
            for warc, index in zip(warcs, indexes or map(index_file, warcs), strict=True):
                self.counts.append(len(index.blocks))
                self.broken.append(index.broken)
                self._blocks += index.blocks
                bar.advance(note=warc.name)

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, index: int) -> Block:
        return self._blocks[index]


def check_warcs(warcs: Sequence[Path], option: str = "--warc") -> None:
    """Raises UserError for the first file of an option that is missing, empty, or neither ARC nor with one WARC record."""
    if not warcs:
        raise UserError(
            f"{option} names no file: give WARC or WET files (.warc.gz, .wet.gz; plain, zstd, lz4 too)"
        )
    for warc in warcs:
        try:
            _check_warc(warc, option)
        except PermissionError as error:
            raise UserError(f"{option} {warc}: cannot be read ({error.strerror})") from None


def require_a_warc(warcs: Sequence[Path], option: str = "--warc") -> None:
    """Raises UserError where a file is missing, or none of them is a WARC file: one that is empty must not stop the rest."""
    for warc in warcs:
        if not warc.is_file():
            raise UserError(f"{option} {warc}: no such file")
    first = None
    for warc in warcs:
        try:
            return check_warcs([warc], option)
        except UserError as error:
            first = first or error
    if first:
        raise first


def _check_warc(warc: Path, option: str) -> None:
    if not warc.is_file():
        raise UserError(f"{option} {warc}: no such file")
    if warc.stat().st_size == 0:
        raise UserError(f"{option} {warc}: the file is empty; download it again")
    if not is_arc(warc) and not any(read_records(warc, lambda record, place: None)):
        raise UserError(
            f"{option} {warc}: corrupt, or not a WARC file: no record can be read; download it again"
        )


def index_file(path: Path) -> FileIndex:
    """index_warc as one object, which Grain leaves as it is."""
    return FileIndex(*index_warc(path))


def index_warc(path: Path) -> tuple[list[Block], int]:
    """The blocks of a WARC file in order, and the number of broken stretches between them.

    Reads the file once. An ARC file is one block of one record, which is skipped as such.
    """
    places: list[Place] = []  # of the blocks' first records
    counts: list[int] = []
    broken, held_bytes, start_new = 0, 0, True
    for found in read_records(path, lambda record, place: None):
        if found is None:
            broken, start_new = broken + 1, True
            continue
        size = found.length if found.length <= MAX_RECORD_BYTES else 0  # longer ones are not held
        full = found.place.skip == 0 and not start_new and counts[-1] >= BLOCK_RECORDS
        if start_new or full or held_bytes + size > BLOCK_BYTES:
            places.append(found.place)
            counts.append(0)
            held_bytes, start_new = 0, False
        counts[-1] += 1
        held_bytes += size
    blocks = [
        Block(str(path), place.offset, records, place.skip)
        for place, records in zip(places, counts, strict=True)
    ]
    if not blocks and is_arc(path):
        return [Block(str(path), 0, 1)], 0
    return blocks, broken


@overload
def read_block(block: Block) -> ReadBlock[Page]: ...
@overload
def read_block(block: Block, of_page: Callable[[Page], T]) -> ReadBlock[T]: ...
def read_block(block: Block, of_page: Callable[[Page], Any] = lambda page: page) -> ReadBlock[Any]:
    """The pages of a block. Never fails on bad records: `skipped` counts them by kind.

    of_page: what to hold of each page. The bodies of a block may take 16 MB each: a few kB of gzip.
    """
    pages: list[Any] = []
    skipped: Counter[str] = Counter()
    path, numbers = Path(block.warc), count()

    def take(record: WarcRecord, place: Place) -> Page | str | None:
        return _page(record, path.name, place.offset) if next(numbers) >= block.skip else None

    for found in islice(read_records(path, take, block.offset), block.skip, block.skip + block.count):
        if found is None:  # the file has changed since it was indexed
            break
        if isinstance(found.taken, Page):
            pages.append(of_page(found.taken))
        else:
            skipped[str(found.taken)] += 1
    lost = block.count - len(pages) - sum(skipped.values())
    if lost:
        skipped[ARC if is_arc(path) else LOST] += lost
    return ReadBlock(block, pages, dict(skipped))


def find_records(warc: Path, wanted: Collection[str]) -> Iterator[Page]:
    """The pages of a WARC file whose record id (or else URL) is in `wanted`, in the file's order.

    The others' contents are passed over. An id or URL that is not yielded is not in the file, or is no page.
    """
    names = frozenset(map(_bare, wanted))

    def take(record: WarcRecord, place: Place) -> Page | str | None:
        if _record_id(record) in names or _url(record) in names:
            return _page(record, warc.name, place.offset)
        return None

    for found in read_records(warc, take):
        if found is not None and isinstance(found.taken, Page):
            yield found.taken


def _page(record: WarcRecord, warc: str, offset: int) -> Page | str:
    """The record's page, or the kind of reason to skip it."""
    is_html = record.record_type == WarcRecordType.response
    if not is_html and record.record_type != WarcRecordType.conversion:
        return f"{record.record_type} record"
    if record.content_length > MAX_RECORD_BYTES:
        return "too large"
    if not record.content_length and not record.headers.get("Content-Length"):
        return "no length"
    url = _url(record)
    if not url:
        return "no url"
    try:
        body, charset = _html(record) if is_html else _text(record)
    except _Skip as reason:
        return str(reason)
    return Page(url, body, charset, warc, offset, _record_id(record), is_html)


class _Skip(Exception):
    """Why a record is no page."""


def _html(record: WarcRecord) -> tuple[bytes, str | None]:
    try:
        guarded(record.parse_http)
    except Broken:
        raise _Skip("broken http") from None
    headers = record.http_headers
    if headers is None:
        raise _Skip("not http")
    if (headers.status_code or 200) != 200:
        raise _Skip("http status")
    try:
        body = plain_body(_whole(record), headers.get("Transfer-Encoding"), headers.get("Content-Encoding"))
    except UnreadableBody as error:
        raise _Skip(error.kind) from None
    if not _is_html(record.http_content_type, body):
        raise _Skip("not html")
    return body, record.http_charset


def _text(record: WarcRecord) -> tuple[bytes, str | None]:
    if not (record.headers.get("Content-Type") or "text/plain").lower().startswith("text/"):
        raise _Skip("not text")
    return _whole(record), "utf-8"


def _whole(record: WarcRecord) -> bytes:
    body = guarded(record.reader.read)
    if len(body) < record.content_length:
        raise _Skip("truncated")
    return body


def _is_html(content_type: str | None, body: bytes) -> bool:
    if _NO_PAGE.match(body) or (b"\0" in body[:1024] and not _WIDE.match(body)):
        return False
    if content_type:
        return "html" in content_type.lower()
    head = body[:2048].lower()
    return b"<html" in head or b"<!doctype html" in head


def _url(record: WarcRecord) -> str:
    return _bare(record.headers.get("WARC-Target-URI") or "")


def _record_id(record: WarcRecord) -> str:
    """A response's own id; for a text that was extracted from one, that response's."""
    referred = record.record_type == WarcRecordType.conversion and record.headers.get("WARC-Refers-To")
    return _bare(referred or record.record_id or "")


def _bare(name: str) -> str:
    return name.strip("<> ")
