"""What the tests of reading share: small files in every compression, and reading them as mining does."""

import gzip
import re
import tempfile
from collections import Counter
from pathlib import Path

import zstandard
from fastwarc import Lz4Writer

from dsm_jax.mine.web.read import Block, Page, index_warc, read_block

HTML = b"<html><body>x</body></html>"


def many_pages(count: int) -> list[tuple[str, bytes]]:
    return [
        (f"https://a.org/{i}", f"<html><body>page {i} {'text ' * i}</body></html>".encode())
        for i in range(count)
    ]


def claim(record: bytes, length: int | str) -> bytes:
    """The record with another length in its header."""
    return re.sub(rb"Content-Length: \d+", f"Content-Length: {length}".encode(), record, count=1)


def _lz4(content: bytes) -> bytes:
    with tempfile.NamedTemporaryFile() as file:
        writer = Lz4Writer(file.name)
        writer.write(content)
        writer.close()
        return Path(file.name).read_bytes()


COMPRESS = {
    "plain": bytes,
    "gzip": lambda content: gzip.compress(content, mtime=0),
    "zstd": zstandard.ZstdCompressor().compress,
    "lz4": _lz4,
}


def read_all(path: Path) -> tuple[list[Block], list[Page], Counter[str], int]:
    """Blocks, pages, skipped, broken; every record that was indexed is accounted for."""
    blocks, broken = index_warc(path)
    pages, skipped = [], Counter[str]()
    for block in blocks:
        read = read_block(block)
        assert len(read.pages) + sum(read.skipped.values()) == block.count
        pages += read.pages
        skipped.update(read.skipped)
    return blocks, pages, skipped, broken
