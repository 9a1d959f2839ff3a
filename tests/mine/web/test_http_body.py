import gzip
import random
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.mine.web.http_body import MAX_BODY_BYTES, UnreadableBody, plain_body

TEXT = b"<html><body>" + b"some words " * 300 + b"</body></html>"


def raw_deflate(body):
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


ENCODERS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
    "BR": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


def chunked(body, sizes, last=b"0\r\n\r\n", extension=b""):
    pieces, at = [], 0
    for size in [*sizes, len(body)]:
        piece = body[at : at + size]
        at += size
        pieces.append(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) if piece else b"")
    return b"".join(pieces) + last


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoding_is_undone(name):
    assert plain_body(ENCODERS[name](TEXT), None, name) == TEXT
    assert plain_body(chunked(ENCODERS[name](TEXT), [7, 20]), "Chunked", f" {name} ") == TEXT


def test_encodings_upon_each_other():
    assert plain_body(gzip.compress(brotli.compress(TEXT)), None, "br, gzip") == TEXT
    with pytest.raises(UnreadableBody, match="bad encoding"):
        plain_body(b"x", None, "gzip, gzip, gzip, gzip")


@pytest.mark.parametrize("name", [*ENCODERS, "identity", "utf-8", "", None])
@pytest.mark.parametrize("transfer", ["chunked", "identity", None])
def test_headers_that_lie_about_a_plain_page(name, transfer):
    for page in (TEXT, b"\r\n " + TEXT, b"\xef\xbb\xbf<!DOCTYPE html>", b""):
        assert plain_body(page, transfer, name) == page


def test_text_without_gzip_in_it_or_a_chunk_is_taken_as_it_is():
    assert plain_body(b"only words", "chunked", "gzip") == b"only words"


@pytest.mark.parametrize("name", [name for name in ENCODERS if name != "zstd"])
def test_body_that_breaks_off_is_refused(name):
    packed = ENCODERS[name](TEXT)
    for cut in range(3, len(packed), 5):
        with pytest.raises(UnreadableBody, match="bad encoding"):
            plain_body(packed[:cut], None, name)


@pytest.mark.parametrize(
    "body",
    [
        b"5\r\nabc\r\n0\r\n\r\n",  # shorter than it says
        b"3\r\nabcde\r\n0\r\n\r\n",  # longer
        b"3\r\nabc\r\nxyz\r\n",
        b"3\r\nabc\r\nFFFFFFFF\r\nabc",
        b"3\r\nabc\r\n-1\r\nabc\r\n",
    ],
)
def test_bad_chunking_is_refused(body):
    with pytest.raises(UnreadableBody, match="bad chunking"):
        plain_body(body, "chunked", None)


@given(st.binary(max_size=300), st.lists(st.integers(1, 50), max_size=8), st.booleans(), st.booleans())
def test_chunks_are_joined(body, sizes, with_last, with_extension):
    body = b"\x01" + body  # neither markup nor a chunk's length
    sent = chunked(body, sizes, b"0\r\n\r\n" if with_last else b"", b";name=value" if with_extension else b"")
    assert plain_body(sent, "chunked", None) == body


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
def test_bombs_are_refused(name):
    encode = ENCODERS.get(name, lambda body: brotli.compress(body, quality=1))
    body = b"\0" * (MAX_BODY_BYTES + 2)
    with pytest.raises(UnreadableBody, match="too large"):
        plain_body(encode(body), None, name)
    assert len(plain_body(encode(body[2:]), None, name)) == MAX_BODY_BYTES


@pytest.mark.parametrize("name", [*ENCODERS])
def test_damaged_bodies_end_in_a_body_or_a_reason(name):
    rng = random.Random(0)
    packed = chunked(ENCODERS[name](TEXT), [30, 9])
    for _ in range(300):
        damaged = bytearray(packed)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        try:
            assert len(plain_body(bytes(damaged), "chunked", name)) <= MAX_BODY_BYTES
        except UnreadableBody as error:
            assert error.kind in ("bad chunking", "bad encoding", "too large")
