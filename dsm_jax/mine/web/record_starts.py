"""Where records can start in a WARC file: at plain headers, or at compressed members (gzip, zstd, lz4).

Left out on purpose: what follows a start (warc_records.py); seeking inside a member, which no codec here can do.
"""

import io
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import zstandard
from fastwarc import GzipReader, Lz4Reader, ZstdReader

from dsm_jax.mine.web.compressed_pieces import GzipPieces, Lz4Pieces, Pieces, ZstdPieces

PEEK_BYTES = 16
_WINDOW_BYTES = 1 << 20
_MAX_DICTIONARY_BYTES = 16 << 20
_MAX_OFFSET = 1 << 62  # a length that lies may ask for more
_LONGEST_START = 12
_PLAIN = re.compile(rb"WARC/(?:1\.[01]|0\.\d{1,3})\r?\n")
_DICTIONARY = b"\x5d\x2a\x4d\x18"  # the zstd frame that holds one


@dataclass(frozen=True)
class Codec:
    """A compression: how its members start, and how fastwarc reads them."""

    reader: Callable[..., Any]
    start: re.Pattern[bytes]
    pieces: Callable[[Callable[[int, int], bytes], int], Pieces]
    """Of the file, which it reads with its first argument, from a member's offset on."""
    head_bytes: int
    """Enough of a member for its first bytes: zstd and lz4 unpack whole blocks."""
    is_lz4: bool = False

    def open(self, file: Any, dictionary: bytes | None) -> Any:
        return self.reader(file, dictionary=dictionary) if dictionary else self.reader(file)


_BUFFER_BYTES = 16 << 10  # fastwarc reads twice as much ahead, also while it searches a header
_GZIP = Codec(
    partial(GzipReader, buffer_size=_BUFFER_BYTES),
    re.compile(rb"\x1f\x8b\x08[\x00-\x1f]"),
    GzipPieces,
    1 << 10,
)
_ZSTD = Codec(ZstdReader, re.compile(rb"\x28\xb5\x2f\xfd"), ZstdPieces, 160 << 10)
_LZ4 = Codec(Lz4Reader, re.compile(rb"\x04\x22\x4d\x18"), Lz4Pieces, 160 << 10, is_lz4=True)
_ANY = re.compile(b"|".join(start.pattern for start in (_PLAIN, _GZIP.start, _ZSTD.start, _LZ4.start)))


class Starts:
    """Looks for starts in one open file, whose position stays where it is; `first` comes after a dictionary."""

    def __init__(self, file: BinaryIO):
        self._descriptor = file.fileno()
        self.first = 0
        self.dictionary = self._read_dictionary()
        self._pattern = self._find_pattern()

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, offset) if offset < _MAX_OFFSET else b""

    def codec(self, offset: int) -> Codec | None:
        """Of the member at `offset`; None where there is none."""
        head = self.read(offset, 4)
        if head == _DICTIONARY:
            return _ZSTD
        return next((codec for codec in (_GZIP, _ZSTD, _LZ4) if codec.start.match(head)), None)

    def peek(self, offset: int) -> bytes:
        """The first PEEK_BYTES there, decompressed; none where they cannot be read."""
        codec = self.codec(offset)
        if codec is None:
            return self.read(offset, PEEK_BYTES)
        member = codec.open(io.BytesIO(self.read(offset, codec.head_bytes)), self.dictionary)
        try:
            return guarded(member.read, PEEK_BYTES)
        except Broken:
            return b""

    def lz4_end(self, offset: int) -> int:
        """Where the lz4 member at `offset` ends by its blocks' lengths, whether they lie or not.

        fastwarc tells where gzip's and zstd's members start while it reads, and lz4's not reliably.
        """
        return Lz4Pieces(self.read, offset).last_end()

    def next(self, offset: int) -> int | None:
        """The first place from `offset` on that looks like a start."""
        while window := self.read(offset, _WINDOW_BYTES):
            if match := self._pattern.search(window):
                return offset + match.start()
            if len(window) < _WINDOW_BYTES:
                return None
            offset += len(window) - _LONGEST_START
        return None

    def _find_pattern(self) -> re.Pattern[bytes]:
        """Starts are as at the file's beginning; any kind where that is damaged."""
        codec = self.codec(0)
        if codec is not None:
            return codec.start
        return _PLAIN if _PLAIN.match(self.read(0, _LONGEST_START)) else _ANY

    def _read_dictionary(self) -> bytes | None:
        head = self.read(0, 8)
        size = int.from_bytes(head[4:], "little")
        if head[:4] != _DICTIONARY or size > _MAX_DICTIONARY_BYTES:
            return None
        self.first = 8 + size
        content = self.read(8, size)
        if not _ZSTD.start.match(content):
            return content
        try:
            with zstandard.ZstdDecompressor().stream_reader(content) as stream:
                return stream.read(_MAX_DICTIONARY_BYTES)
        except zstandard.ZstdError:
            return None


class Broken(Exception):
    """A file's content cannot be read."""


def guarded(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls into fastwarc. Raises Broken where the content is to blame; what the disk cannot read stays an OSError.

    On some broken lz4 frames fastwarc panics: a BaseException whose class cannot be imported.
    """
    try:
        return function(*arguments)
    except OSError as error:
        if error.errno is not None:
            raise
        raise Broken(str(error)) from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise Broken(str(error)) from None
