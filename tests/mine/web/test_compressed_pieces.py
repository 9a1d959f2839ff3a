"""Pieces cover a file, and none unpacks to more text than it may."""

import gzip
import io
import random
import zlib

import pytest
import zstandard

from dsm_jax.mine.web.compressed_pieces import GzipPieces, Lz4Pieces, ZstdPieces
from tests.mine.warc_files import COMPRESS

NOISE = random.Random(0).randbytes(300_000)
TEXTS = [b"", b"x", b"\n" * 2_000_000, NOISE, NOISE + b"\n" * 300_000]


def ends(pieces, size):
    found = [0]
    while found[-1] < size:
        found.append(pieces.end(found[-1]))
        assert found[-1] > found[-2]
    return found[1:]


def reader(content):
    return lambda offset, size: content[offset : offset + size]


@pytest.mark.parametrize("has_checksum", [False, True])
@pytest.mark.parametrize("has_size", [False, True])
def test_zstd_pieces_are_blocks_through_all_frames(has_checksum, has_size):
    packer = zstandard.ZstdCompressor(write_checksum=has_checksum, write_content_size=has_size)
    skipped = b"\x5a\x2a\x4d\x18" + (7).to_bytes(4, "little") + b"ignored"
    frames = [packer.compress(text) for text in TEXTS]
    content = skipped.join(frames)
    found = ends(ZstdPieces(reader(content), 0), len(content))
    assert found[-1] == len(content) and len(found) >= sum(len(text) >> 17 for text in TEXTS)
    at = 0
    for frame in frames:  # no piece runs over a frame's end
        assert at + len(frame) in found
        at += len(frame) + len(skipped)
    unpacker = zstandard.ZstdDecompressor().decompressobj()
    at = 0
    for end in ends(ZstdPieces(reader(frames[2]), 0), len(frames[2])):
        assert len(unpacker.decompress(frames[2][at:end])) <= ZstdPieces.most_text
        at = end


def test_gzip_pieces_unpack_to_little():
    content = gzip.compress(b"\n" * (64 << 20))
    pieces, unpacker, at = GzipPieces(reader(content), 0), zlib.decompressobj(31), 0
    for end in ends(pieces, len(content)):
        assert len(unpacker.decompress(content[at:end])) <= pieces.most_text + 1000
        at = end


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_lz4_pieces_are_the_frames_blocks(text):
    content = COMPRESS["lz4"](text)
    pieces = Lz4Pieces(reader(content + content), 0)
    found = ends(pieces, len(content))
    assert found[-1] == len(content) == Lz4Pieces(reader(content + content), 0).last_end()
    assert pieces.most_text in (64 << 10, 256 << 10, 1 << 20, 4 << 20)
    assert len(found) >= len(text) / pieces.most_text


@pytest.mark.parametrize("make", [GzipPieces, ZstdPieces, Lz4Pieces])
def test_garbage_has_pieces_too(make):
    file = io.BytesIO(NOISE)

    def read(offset, size):
        file.seek(offset)
        return file.read(size)

    for start in range(0, 3000, 7):
        assert ends(make(read, start), len(NOISE))[-1] >= len(NOISE)
