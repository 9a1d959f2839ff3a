"""Small WARC files made by the tests themselves, and crawls as they lie on disk after reading."""

import gzip
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dsm_jax.mine.crawl import Crawl
from dsm_jax.mine.near_duplicates import band_keys
from dsm_jax.mine.pages import KEYS, SCHEMA, shard_file
from dsm_jax.mine.pipeline import MineResult
from dsm_jax.mine.tokens import count_words, fasttext_tokens
from dsm_jax.mine.web.urls import canonical_url, domain_of, key_of
from tests.mine.mining_runs import run

MATH_WORDS = [
    "theorem",
    "proof",
    "lemma",
    "group",
    "ring",
    "integer",
    "prime",
    "matrix",
    "vector",
    "field",
    "modulo",
    "ideal",
    "polynomial",
]
OTHER_WORDS = [
    "coach",
    "season",
    "ticket",
    "recipe",
    "garlic",
    "hotel",
    "flight",
    "minister",
    "election",
    "guitar",
    "album",
    "phone",
    "store",
]


def record(url: str, body: bytes, *, kind: str = "response", http: str = "text/html; charset=utf-8") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {http}\r\n\r\n".encode() if kind == "response" else b""
    warc = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:0>\r\n"
        f"WARC-Target-URI: {url}\r\nWARC-Date: 2020-01-01T00:00:00Z\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(head) + len(body)}\r\n\r\n"
    )
    return warc.encode() + head + body + b"\r\n\r\n"


def html(text: str) -> bytes:
    return f"<html><body><main><p>{text}</p></main></body></html>".encode()


@pytest.fixture(scope="session")
def make_record() -> Callable[..., bytes]:
    return record


@pytest.fixture(scope="session")
def make_warc() -> Callable[..., Path]:
    """make_warc(path, [(url, html bytes)]): one gzip member a record, or plain for a name without .gz."""

    def make(path: Path, pages: Sequence[tuple[str, bytes]]) -> Path:
        records = [record(url, body) for url, body in pages]
        gz = path.suffix == ".gz"
        path.write_bytes(b"".join(gzip.compress(r, mtime=0) if gz else r for r in records))
        return path

    return make


@pytest.fixture(scope="session")
def crawl(
    tmp_path_factory: pytest.TempPathFactory, make_warc: Callable[..., Path]
) -> tuple[list[Path], Path]:
    """Three WARC files of 160 pages, 60 of them mathematics on two sites, and a seed of 15 urls."""
    folder = tmp_path_factory.mktemp("crawl")
    rng = random.Random(0)

    def text(words: Sequence[str]) -> str:
        return " ".join(rng.choices([*words, "the", "of", "is"], k=120))

    maths = [
        (f"https://www.maths.org/{'algebra' if i % 2 else 'number'}/{i}", text(MATH_WORDS)) for i in range(40)
    ]
    maths += [(f"https://proofs.net/p/{i}", text(MATH_WORDS)) for i in range(20)]
    others = [(f"https://site{i % 50}.com/{i}", text(OTHER_WORDS)) for i in range(99)]
    others.append((others[0][0] + "/copy", others[0][1]))
    pages = [(url, html(body)) for url, body in maths + others]
    rng.shuffle(pages)
    warcs = [make_warc(folder / f"{i}.warc.gz", pages[i::3]) for i in range(3)]
    seed = folder / "seed.jsonl"
    seed.write_text("".join(json.dumps({"url": url}) + "\n" for url, _ in maths[:15]))
    return warcs, seed


@pytest.fixture(scope="session")
def make_page() -> Callable[..., dict[str, Any]]:
    """make_page(url, text, **columns): a row of a shard, with the keys that reading gives it."""

    def make(url: str, text: str = "", **columns: Any) -> dict[str, Any]:
        keys = [0] * len(KEYS)
        if text:
            keys = [key_of(canonical_url(url)), key_of(text), *map(int, band_keys(text))]
        tokens = fasttext_tokens(text)
        row = {
            "url": url,
            "domain": domain_of(url),
            "text": text,
            "tokens": tokens,
            "words": count_words(text),
        }
        row |= {"language": "", "record_id": "", "offset": 0, "source": "test"}
        return (
            row
            | {"tokens_key": key_of(tokens) if tokens else 0, **dict(zip(KEYS, keys, strict=True))}
            | columns
        )

    return make


@pytest.fixture(scope="session")
def write_crawl() -> Callable[..., Crawl]:
    """write_crawl(folder, shards): shards of rows, as make_page gives them or columns of them, as files."""

    def write(folder: Path, shards: Sequence[Sequence[dict[str, Any]]], group_rows: int = 3) -> Crawl:
        folder.mkdir(parents=True, exist_ok=True)
        empty = {field.name: "" if field.type == pa.string() else 0 for field in SCHEMA}
        for number, rows in enumerate(shards):
            table = pa.Table.from_pylist([empty | row for row in rows], SCHEMA)
            pq.write_table(table, shard_file(folder, number), row_group_size=group_rows)
        return Crawl(folder)

    return write


@pytest.fixture(scope="session")
def mined(
    crawl: tuple[list[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, MineResult]:
    """A finished run on that crawl, its folder and its result, to look at only."""
    out = tmp_path_factory.mktemp("mined") / "out"
    return out, run(out, crawl)
