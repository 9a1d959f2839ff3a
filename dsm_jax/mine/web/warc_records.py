"""The records of one WARC file in their order, through whatever is broken in it. fastwarc parses.

A file is plain, or compressed (gzip, zstd with or without a dictionary, lz4) as one member a record or as a few
large ones. Reading can start at any plain record and at any member. What makes a stretch broken:

- a header or a compressed stream that cannot be read;
- a length that lies: a plain record that no empty line follows, a compressed one that ends before its member
  does, or runs over into a member with a record of its own;
- more compressed pieces without a header than any header takes: 2 GB of empty lines fit into 64 kB.

After a broken stretch reading goes on at the next start that can be found; where MAX_BARREN in a row look like
one and are none, the rest of the file is given up. Inside a compressed member there is no start: a member of
many records is lost from its first broken record on. No content is held here, whatever length it claims.

Left out on purpose: ARC files, which hold no WARC record.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from fastwarc import ArchiveIterator, WarcRecord

from dsm_jax.mine.web.compressed_pieces import Pieces
from dsm_jax.mine.web.record_starts import Broken, Codec, Starts, guarded

MAX_BARREN = 1000
HEADER_BYTES = 32 << 10  # what fastwarc takes a header to be at most
STEP_BYTES = 1 << 20  # a content is passed over in such steps, so that a lying length is noticed early

_BLANK_LINE = re.compile(rb"\n\r?\n")
_AFTER_CONTENT = re.compile(rb"\r?\n\r?\n|(?:\r?\n)*(?:WARC/|\Z)")

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Where a record is: `skip` records after the one that starts at byte `offset` of the file."""

    offset: int
    skip: int = 0


@dataclass(frozen=True)
class Found(Generic[T]):
    """A record: its place, the length that its content claims, and what was taken from it."""

    place: Place
    length: int
    taken: T


Take = Callable[[WarcRecord, Place], T]


def read_records(path: Path, take: Take[T], offset: int = 0) -> Iterator[Found[T] | None]:
    """Each record that can be read from `offset` on, with take(record, place); None for each broken stretch.

    `take` sees the record before it has proved to be whole; it may read its content. It can be called for
    records of broken stretches too.
    """
    with open(path, "rb") as file:
        starts = Starts(file)
        start: int | None = offset or starts.first
        barren = 0
        broken, follows = False, True  # follows: whether a record at `start` would come without a gap
        while start is not None and barren <= MAX_BARREN:
            codec = starts.codec(start)
            stretch = _Members(file, start, starts, codec) if codec else _Plain(file, start, starts)
            is_real = follows  # else it may only look like a start
            for found in stretch.read(take):
                if broken or not follows:
                    yield None
                yield found
                broken, follows = False, True
            broken |= stretch.is_broken and (is_real or stretch.any_header)
            barren = 0 if stretch.any_header else barren + 1
            start = starts.next(stretch.resume)
            follows = not stretch.is_broken and start == stretch.resume
        if broken:
            yield None


def is_arc(path: Path) -> bool:
    """Whether this is an ARC file, the format before WARC."""
    with open(path, "rb") as file:
        return Starts(file).peek(0).startswith(b"filedesc:")


class _Plain:
    """The plain records in a row from `offset` on.

    Afterwards: any_header, whether there was one; is_broken, whether something broken ended them; resume, where
    to look for the next stretch.
    """

    def __init__(self, file: BinaryIO, offset: int, starts: Starts):
        self._file, self._starts = file, starts
        self.resume, self.any_header, self.is_broken = offset + 1, False, False
        file.seek(offset)

    def read(self, take: Take[T]) -> Iterator[Found[T]]:
        records = ArchiveIterator(self._file, parse_http=False, stream_detect=False)
        try:
            while (record := guarded(next, records, None)) is not None:
                place, length = Place(record.stream_pos), record.content_length
                self.resume, self.any_header = place.offset + 1, True
                end = self._content_end(place.offset, length)
                if not self._may_end(end):
                    self.is_broken = True
                    return
                yield Found(place, length, take(record, place))
                self.resume = end
        except Broken:
            self.is_broken = True

    def _content_end(self, start: int, length: int) -> int:
        header = _BLANK_LINE.search(self._starts.read(start, HEADER_BYTES))
        return start + (header.end() if header else HEADER_BYTES) + length

    def _may_end(self, end: int) -> bool:
        """Whether a content may end there: at an empty line, or, cut off, where no other record follows."""
        last = self._starts.read(end - 1, 1)
        if not last:
            return self._starts.next(self.resume) is None
        return _AFTER_CONTENT.match(self._starts.read(end, 16)) is not None


class _Members:
    """The records in a row from the compressed member at `offset` on (lz4: in it); attributes as in _Plain."""

    def __init__(self, file: BinaryIO, offset: int, starts: Starts, codec: Codec):
        self._starts, self._offset = starts, offset
        self.resume, self.any_header, self.is_broken = offset + 1, False, False
        self._end = starts.lz4_end(offset) if codec.is_lz4 else None
        file.seek(offset)
        self._feed = _Feed(file, codec.pieces(starts.read, offset), self._end)
        self._reader = codec.open(self._feed, starts.dictionary)
        self._place = Place(offset, -1)
        self._member: int | None = None  # where the one starts in which the last record ended
        self._one_each: bool | None = None  # whether each member is a record

    def read(self, take: Take[T]) -> Iterator[Found[T]]:
        held: Found[T] | None = None  # until it is seen that its member ends with it, or goes on with another
        try:
            for record in self._records():
                if held is not None:
                    yield held
                    held = None
                place, length = self._locate(), record.content_length
                taken = take(record, place)
                self._pass_over(record)
                held = Found(place, length, taken)
        except Broken:
            self.is_broken = True
            if not self._is_past_member():
                return
        else:
            self.is_broken = held is None or self._is_past_member()
        if held is not None:
            self._look_after_member()
            yield held
        if self._end is not None and not self.is_broken:
            self.resume = self._end

    def _records(self) -> Iterator[WarcRecord]:
        records = ArchiveIterator(self._reader, parse_http=False, stream_detect=False)
        while True:
            self._feed.search(True)
            record = guarded(next, records, None)
            if record is None:
                return
            self._feed.search(False)
            yield record

    def _locate(self) -> Place:
        """The place of the record whose header was read just now."""
        before, member = self._member, self._member_now()
        self._look_after_member()  # not after this one: a broken header may have begun in one before it
        self._member, self.any_header = member, True
        if before is None and member != self._offset and self._is_start(member):
            raise Broken("a header that runs over into another record")
        if before is not None and member != before and self._is_record(member):
            self._place = Place(member)
        else:
            self._place = Place(self._place.offset, self._place.skip + 1)
        return self._place

    def _is_record(self, member: int) -> bool:
        """Whether it begins with one; where the first that was looked at does, so do the others."""
        if not self._one_each:
            is_start = self._is_start(member)
            self._one_each = is_start if self._one_each is None else False
            return is_start
        return True

    def _look_after_member(self) -> None:
        self.resume = (self._offset if self._member is None else self._member) + 1

    def _pass_over(self, record: WarcRecord) -> None:
        """Reads to the content's end."""
        while True:
            passed = guarded(record.consume, STEP_BYTES)
            member = self._member_now()
            if member != self._member:
                if self._is_start(member):
                    raise Broken("a content that runs over into another record")
                self._member, self._one_each = member, False
            if passed < STEP_BYTES:
                break
        is_cut = self._end is not None and guarded(record.reader.tell) < record.content_length
        if is_cut and self._starts.next(self.resume) is not None:  # else by the file's end
            raise Broken("a content that is longer than its lz4 member")

    def _member_now(self) -> int:
        """Where the member starts that the reader is in."""
        return self._offset if self._end is not None else guarded(self._reader.frame_start_position)

    def _is_past_member(self) -> bool:
        try:
            return self._member_now() != self._member
        except Broken:  # again, once it has panicked
            return False

    def _is_start(self, member: int) -> bool:
        return self._starts.peek(member).startswith(b"WARC/")


class _Feed:
    """Compressed input up to `end`, piece by piece; only so many while a header is searched."""

    def __init__(self, file: BinaryIO, pieces: Pieces, end: int | None):
        self._file, self._pieces, self._end = file, pieces, end
        self._searches, self._searched = False, 0
        self.seek, self.tell = file.seek, file.tell

    def search(self, on: bool) -> None:
        self._searches, self._searched = on, 0

    def read(self, size: int) -> bytes:
        self._searched += self._searches
        if self._searched > self._pieces.most_searched:
            raise OSError("no header where a record should start")
        at = self.tell()
        end = self._pieces.end(at)
        return self._file.read(min(size, (end if self._end is None else min(end, self._end)) - at))
