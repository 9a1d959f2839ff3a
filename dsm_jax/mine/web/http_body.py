"""The body of a stored HTTP response without its encodings, in bounded memory.

Crawlers often decode a body and keep the headers: one that begins with markup, with no chunk or without gzip's
magic number is taken as it is. Otherwise the headers are believed, and a body that breaks off is refused (but for
zstd, where the end does not show).
"""

import re
import zlib
from collections.abc import Callable

import brotli  # type: ignore[import-untyped]
import zstandard

MAX_BODY_BYTES = 16 << 20
MAX_ENCODINGS = 3  # one upon the other

_MARKUP = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*<[!?/a-zA-Z]")
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r\n]{0,1000})?\r?\n")


class UnreadableBody(Exception):
    """`kind` says why: "bad chunking", "bad encoding" or "too large"."""

    def __init__(self, kind: str):
        super().__init__(kind)
        self.kind = kind


def plain_body(body: bytes, transfer_encoding: str | None, content_encoding: str | None) -> bytes:
    """The body without chunks and compression, at most MAX_BODY_BYTES. Raises UnreadableBody."""
    if not transfer_encoding and not content_encoding:
        return body
    if "chunked" in (transfer_encoding or "").lower() and _CHUNK_SIZE.match(body):
        body = _joined_chunks(body)
    names = [name.strip().lower() for name in (content_encoding or "").split(",")]
    decoders = [_DECODERS[name] for name in names if name in _DECODERS]
    if len(decoders) > MAX_ENCODINGS:
        raise UnreadableBody("bad encoding")
    for decode in reversed(decoders):
        if body and not _MARKUP.match(body):
            body = decode(body)
            if len(body) > MAX_BODY_BYTES:
                raise UnreadableBody("too large")
    return body


def _joined_chunks(body: bytes) -> bytes:
    """The chunks' contents up to the last, empty one; the end of the body may stand for that one."""
    chunks: list[bytes] = []
    at = 0
    while match := _CHUNK_SIZE.match(body, at):
        size = int(match[1], 16)
        if not size:
            return b"".join(chunks)
        chunk = body[match.end() : match.end() + size]
        chunks.append(chunk)
        at = match.end() + size
        if body.startswith(b"\r\n", at):
            at += 2
        elif body.startswith(b"\n", at):
            at += 1
        else:
            break
    if at != len(body):
        raise UnreadableBody("bad chunking")
    return b"".join(chunks)


def _inflated(*window_bits: int) -> Callable[[bytes], bytes]:
    def decode(body: bytes) -> bytes:
        for bits in window_bits:
            inflate = zlib.decompressobj(wbits=bits)
            try:
                plain = inflate.decompress(body, MAX_BODY_BYTES + 1)
            except zlib.error:
                continue
            if inflate.eof or len(plain) > MAX_BODY_BYTES:
                return plain
        raise UnreadableBody("bad encoding")

    return decode


def _unbrotlied(body: bytes) -> bytes:
    decoder = brotli.Decompressor()
    try:
        plain = decoder.process(body, output_buffer_limit=MAX_BODY_BYTES + 1)
    except brotli.error:
        raise UnreadableBody("bad encoding") from None
    if not decoder.is_finished() and len(plain) <= MAX_BODY_BYTES:
        raise UnreadableBody("bad encoding")
    return plain


def _unzstded(body: bytes) -> bytes:
    try:
        with zstandard.ZstdDecompressor().stream_reader(body) as stream:
            return stream.read(MAX_BODY_BYTES + 1)
    except zstandard.ZstdError:
        raise UnreadableBody("bad encoding") from None


def _gunzipped(body: bytes) -> bytes:
    return _gzip_member(body) if body.startswith(b"\x1f\x8b") else body


_gzip_member = _inflated(zlib.MAX_WBITS | 16)
_DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": _gunzipped,
    "x-gzip": _gunzipped,
    "deflate": _inflated(
        zlib.MAX_WBITS, -zlib.MAX_WBITS
    ),  # servers send both: with zlib's header and without
    "br": _unbrotlied,
    "zstd": _unzstded,
}
