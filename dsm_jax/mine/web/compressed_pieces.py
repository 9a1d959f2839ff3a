"""Compressed files in pieces that hold little text each, whatever a hostile file packs: a count of work, not of seconds.

gzip packs a thousand bytes into one; zstd and lz4 unpack whole blocks, four bytes of zstd being 128 kB of text.

Left out on purpose: decompression; frames that are broken, at which whoever decompresses the pieces stops.
"""

from collections.abc import Callable
from typing import Protocol

Read = Callable[[int, int], bytes]
"""read(offset, size) of the file."""


class Pieces(Protocol):
    """`most_text`: bytes of text that come out of one piece at most. `most_searched`: pieces that hold any header, and what
    is read ahead of it; fastwarc passes over their text in empty lines within two seconds."""

    most_text: int
    most_searched: int

    def end(self, at: int) -> int:
        """Where the piece ends that byte `at` is in. Calls come with growing `at`."""


class GzipPieces:
    """Pieces of one size: deflate makes at most 1032 bytes of one."""

    _BYTES = 4 << 10
    most_text = 1032 * _BYTES
    most_searched = 13  # 32 kB of a header, if it is noise; what is read ahead

    def __init__(self, read: Read, offset: int):
        pass

    def end(self, at: int) -> int:
        return at + self._BYTES


class ZstdPieces:
    """A block each, from the frame at `offset` on; the first one with its frame's header."""

    most_text = 128 << 10
    most_searched = 128

    def __init__(self, read: Read, offset: int):
        self._read, self._end = read, offset
        self._in_frame, self._checksum_bytes = False, 0

    def end(self, at: int) -> int:
        while self._end <= at:
            self._pass_block() if self._in_frame else self._pass_header()
        return self._end

    def _pass_header(self) -> None:
        head = self._read(self._end, 8).ljust(8, b"\0")
        if head[0] >> 4 == 5 and head[1:4] == b"\x2a\x4d\x18":  # to be skipped; may hold a dictionary
            self._end += 8 + int.from_bytes(head[4:], "little")
            return
        flags = head[4]
        is_single = flags >> 5 & 1
        size_bytes = (is_single, 2, 4, 8)[flags >> 6]
        self._end += 5 + (1 - is_single) + (0, 1, 2, 4)[flags & 3] + size_bytes
        self._in_frame, self._checksum_bytes = True, flags & 4
        self._pass_block()

    def _pass_block(self) -> None:
        head = int.from_bytes(self._read(self._end, 3), "little")
        is_last, is_repeated = head & 1, head >> 1 & 3 == 1
        self._end += 3 + (1 if is_repeated else head >> 3)
        if is_last:
            self._in_frame = False
            self._end += self._checksum_bytes


class Lz4Pieces:
    """A block each of the one frame at `offset`, by their lengths, whether they lie or not."""

    _MAX_BLOCKS = 1_000_000  # of 64 kB or more

    def __init__(self, read: Read, offset: int):
        head = read(offset + 4, 2).ljust(2, b"\0")
        has_id, has_checksum, has_size, self._blocks_have = (
            head[0] & bit for bit in (0x01, 0x04, 0x08, 0x10)
        )
        self.most_text = 1 << (8 + 2 * min(7, max(4, head[1] >> 4 & 7)))
        self.most_searched = (16 << 20) // self.most_text
        self._read, self._end = read, offset + 7 + (8 if has_size else 0) + (4 if has_id else 0)
        self._tail, self._is_over = 4 if has_checksum else 0, False

    def end(self, at: int) -> int:
        while self._end <= at and not self._is_over:
            self._pass_block()
        return max(self._end, at + 1)

    def last_end(self) -> int:
        """Where the frame ends."""
        for _ in range(self._MAX_BLOCKS):
            if self._is_over:
                break
            self._pass_block()
        return self._end

    def _pass_block(self) -> None:
        size = int.from_bytes(self._read(self._end, 4), "little") & 0x7FFFFFFF  # highest bit: not compressed
        self._is_over = not size
        self._end += 4 + (size + (4 if self._blocks_have else 0) if size else self._tail)
