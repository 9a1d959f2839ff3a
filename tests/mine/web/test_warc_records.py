"""Broken files: what is read of them, and what is counted."""

import gzip
import itertools
import random
import subprocess
import sys
import time
import zlib

import pytest
import zstandard

from dsm_jax.mine.web import warc_records
from dsm_jax.mine.web.read import index_warc
from tests.mine.warc_files import COMPRESS, HTML, claim, many_pages, read_all


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
@pytest.mark.parametrize("size", [100, 5000])
def test_members_that_end_anywhere(tmp_path, make_record, codec, size):
    """As parallel compressors write them."""
    content = b"".join(make_record(url, body) for url, body in many_pages(100))
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    path = tmp_path / "a.warc"
    path.write_bytes(b"".join(map(COMPRESS[codec], pieces)))
    _, pages, _, broken = read_all(path)
    assert [(page.url, page.body) for page in pages] == many_pages(100) and broken == 0


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_members_that_are_records_and_then_end_anywhere(tmp_path, make_record, codec):
    records = [make_record(url, body + b" " * 300 * (i % 7)) for i, (url, body) in enumerate(many_pages(100))]
    rest = b"".join(records[40:])
    pieces = records[:40] + [rest[at : at + 777] for at in range(0, len(rest), 777)]
    path = tmp_path / "a.warc"
    path.write_bytes(b"".join(map(COMPRESS[codec], pieces)))
    _, pages, _, broken = read_all(path)
    assert [page.url for page in pages] == [url for url, _ in many_pages(100)] and broken == 0


@pytest.mark.parametrize("codec", ["gzip", "zstd", "lz4"])
def test_header_that_breaks_off_takes_no_other_record_with_it(tmp_path, make_record, codec):
    records = [make_record(url, body) for url, body in many_pages(10)]
    path = tmp_path / "a.warc"
    for number, cut in itertools.product((0, 5), (12, 42, 100)):
        members = [
            COMPRESS[codec](record[:cut] if i == number else record) for i, record in enumerate(records)
        ]
        path.write_bytes(b"".join(members))
        _, pages, skipped, broken = read_all(path)
        starts = [sum(map(len, members[:i])) for i in range(10) if i != number]
        assert [page.offset for page in pages] == starts, (number, cut)
        unseen = (number, cut) == (5, 12) and codec != "lz4"  # read as the beginning of the next header
        assert sum(skipped.values()) + broken == (0 if unseen else 1), (number, cut)


@pytest.mark.parametrize("codec", ["plain", "gzip", "zstd", "lz4"])
@pytest.mark.parametrize("length", ["-5", "5", "100", "1000", "100000", str(2**40), str(2**63), "9" * 30])
def test_length_that_lies_costs_its_own_record_only(tmp_path, make_record, codec, length):
    records = [make_record(f"https://a.org/{i}", HTML + b"x" * 50 * i) for i in range(20)]
    records[5] = claim(records[5], length)
    path = tmp_path / "a.warc"
    path.write_bytes(b"".join(map(COMPRESS[codec], records)))
    _, pages, skipped, broken = read_all(path)
    assert [page.url for page in pages] == [f"https://a.org/{i}" for i in range(20) if i != 5]
    assert broken == 1 and not skipped


@pytest.mark.parametrize("codec", ["plain", "gzip", "zstd", "lz4"])
def test_last_records_length_that_lies(tmp_path, make_record, codec):
    records = [make_record(f"https://a.org/{i}", HTML) for i in range(3)]
    path = tmp_path / "a.warc"
    path.write_bytes(b"".join(map(COMPRESS[codec], [*records[:2], claim(records[2], 2**20)])))
    _, pages, skipped, broken = read_all(path)
    assert len(pages) == 2 and skipped == {"truncated": 1} and broken == 0


@pytest.mark.parametrize("codec", ["gzip", "zstd", "lz4"])
def test_reading_goes_on_after_a_broken_stretch(tmp_path, make_record, codec):
    members = [COMPRESS[codec](make_record(url, body)) for url, body in many_pages(100)]
    members[50] = bytes(100) + members[50][100:]
    path = tmp_path / "a.warc"
    path.write_bytes(b"".join(members))
    _, pages, _, broken = read_all(path)
    assert broken == 1
    assert [page.url for page in pages] == [url for i, (url, _) in enumerate(many_pages(100)) if i != 50]


def test_damaged_beginning_of_the_file_does_not_hide_the_rest(tmp_path, make_record):
    for codec, seal in COMPRESS.items():
        content = bytearray(b"".join(seal(make_record(url, body)) for url, body in many_pages(10)))
        content[:4] = b"\xee" * 4
        path = tmp_path / codec
        path.write_bytes(content)
        _, pages, _, broken = read_all(path)
        assert [page.url for page in pages] == [url for url, _ in many_pages(10)[1:]], codec
        assert broken >= 1


def test_member_with_a_wrong_checksum_is_broken(tmp_path, make_record):
    members = [gzip.compress(make_record(url, body)) for url, body in many_pages(5)]
    members[2] = members[2][:-8] + b"\0\0\0\0" + members[2][-4:]
    path = tmp_path / "a.warc.gz"
    path.write_bytes(b"".join(members))
    _, pages, _, broken = read_all(path)
    assert len(pages) == 4 and broken == 1


@pytest.mark.parametrize("codec", ["plain", "gzip", "zstd", "lz4"])
def test_truncated_last_record_is_counted_not_returned(tmp_path, make_record, codec):
    noise = random.Random(0).randbytes(2000).hex().encode()  # so that half of the member is half of the body
    members = [COMPRESS[codec](make_record(url, HTML + noise)) for url, _ in many_pages(50)]
    path = tmp_path / "a.warc"
    path.write_bytes(b"".join(members)[: -len(members[-1]) // 2])
    _, pages, skipped, broken = read_all(path)
    assert [page.body for page in pages] == [HTML + noise] * 49
    whole_or_nothing = codec in ("zstd", "lz4")  # a small member is one compressed block
    assert (skipped, broken) == (({}, 1) if whole_or_nothing else ({"truncated": 1}, 0))


@pytest.mark.parametrize("codec", ["gzip", "zstd", "lz4"])
def test_file_cut_off_anywhere_loses_one_record_and_says_so(tmp_path, make_record, codec):
    noise = random.Random(0).randbytes(200).hex().encode()
    members = [COMPRESS[codec](make_record(f"https://a.org/{i}", HTML + noise)) for i in range(3)]
    path = tmp_path / "a.warc"
    for cut in range(1, len(members[2]), 7):
        path.write_bytes(b"".join(members)[:-cut])
        _, pages, skipped, broken = read_all(path)
        # Of gzip's checksum alone nothing is missed.
        assert len(pages) == 2 or (len(pages) == 3 and cut <= 8), cut
        assert len(pages) + sum(skipped.values()) + broken == 3, cut
        assert set(skipped) <= {"truncated", "no length", "unknown record"}


def test_lz4_block_whose_length_lies_costs_its_own_record_only(tmp_path, make_record):
    members = [COMPRESS["lz4"](make_record(url, body)) for url, body in many_pages(20)]
    members[5] = members[5][:7] + (2000).to_bytes(4, "little") + members[5][11:]
    path = tmp_path / "a.warc"
    path.write_bytes(b"".join(members))
    _, pages, _, broken = read_all(path)
    assert [page.url for page in pages] == [url for i, (url, _) in enumerate(many_pages(20)) if i != 5]
    assert broken == 1


def test_what_looks_like_a_start_in_a_whole_file_is_nothing_broken(tmp_path, make_record):
    body = HTML + b"\x1f\x8b\x08\x00 and \x1f\x8b\x08\x00 and WARC/1.0\r\n"
    record = make_record("https://a.org/1", body)
    for seal in (bytes, lambda content: gzip.compress(content, 0)):  # stored as it is
        path = tmp_path / "a.warc"
        path.write_bytes(seal(record) * 3)
        assert read_all(path)[1:] == ([], {"not html": 3}, 0)


def test_many_false_starts_end_soon(tmp_path, make_record):
    """The rest of such a file is given up: a clear rule, and no hour of tries."""
    record = make_record("https://a.org/1", HTML)
    for noise in (b"WARC/1.0\nx\n", b"\x1f\x8b\x08\x00"):
        path = tmp_path / "noise.warc"
        seal = gzip.compress if noise.startswith(b"\x1f") else bytes
        path.write_bytes(seal(record) + noise * 500_000 + seal(record))
        _, pages, _, broken = read_all(path)
        assert len(pages) == 1 and broken >= 1


def bomb(codec, head, filling, megabytes, tail=b""):
    packer = zlib.compressobj(1, wbits=31) if codec == "gzip" else zstandard.ZstdCompressor().compressobj()
    pieces = [head, *[filling * (1 << 20)] * megabytes, tail]
    return b"".join(map(packer.compress, pieces)) + packer.flush()


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_bombs_end_soon_and_cost_only_themselves(tmp_path, make_record, codec):
    good = make_record("https://a.org/1", HTML)
    header = claim(good, 64 << 20).partition(b"HTTP")[0]
    path = tmp_path / "bomb.warc"
    for head, filling, expected in (
        (header, b"\0", ({"too large": 1}, 0)),
        (b"", b"\n", ({}, 1)),  # as empty lines before a header: these alone are slow
        (b"", b"x", ({}, 1)),
        (b"WARC/1.0\r\nX: ", b"x", ({}, 1)),
        (claim(good, 1 << 60), b"\n", ({}, 1)),
    ):
        made = bomb(codec, head, filling, 64, b"\r\n\r\n" if expected[0] else b"")
        path.write_bytes(COMPRESS[codec](good) + made + COMPRESS[codec](good))
        start = time.process_time()
        _, pages, skipped, broken = read_all(path)
        assert (len(pages), skipped, broken) == (2, *expected)
        assert time.process_time() - start < 10


def rle(count):
    """A zstd frame of `count` blocks of 128 kB of empty lines, four bytes each."""
    blocks = [
        ((128 << 10) << 3 | 1 << 1 | (i + 1 == count)).to_bytes(3, "little") + b"\n" for i in range(count)
    ]
    return b"\x28\xb5\x2f\xfd\x00\x58" + b"".join(blocks)


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_empty_lines_after_a_record_end_soon_whatever_was_read_with_it(tmp_path, make_record, codec):
    """2 GB of them would take over a minute."""
    noise = random.Random(0).randbytes(150_000).hex().encode()
    good = make_record("https://a.org/1", HTML + noise)
    lines = rle(16_000) if codec == "zstd" else bomb("gzip", b"", b"\n", 512)
    path = tmp_path / "a.warc"
    path.write_bytes(COMPRESS[codec](good) + lines + COMPRESS[codec](good))
    start = time.process_time()
    _, pages, _, broken = read_all(path)
    assert len(pages) == 2 and broken == 1
    assert time.process_time() - start < 20


def test_a_slow_machine_reads_the_same(tmp_path, make_record, monkeypatch):
    """A thousand empty lines, a header of 16 kB, and a content that cannot be compressed."""
    noise = random.Random(0).randbytes(100_000).hex().encode()
    record = make_record("https://a.org/1", HTML + noise)
    record = record.replace(b"WARC-Date", b"X: " + noise[:16_000] + b"\r\nWARC-Date", 1)
    path = tmp_path / "a.warc"
    path.write_bytes(gzip.compress(b"\r\n" * 1000 + record) + gzip.compress(record))
    quick = index_warc(path)
    real = warc_records._Feed.read

    def slow(self, size):
        end = time.thread_time() + 0.1
        while self._searches and time.thread_time() < end:
            pass
        return real(self, size)

    monkeypatch.setattr(warc_records._Feed, "read", slow)
    assert index_warc(path) == quick
    assert sum(block.count for block in quick[0]) == 2 and quick[1] == 0


def test_giant_record_is_not_held(tmp_path, make_record):
    """A gigabyte passes through a process that may take 200 MB."""
    good = make_record("https://a.org/1", HTML)
    giant = bomb("gzip", claim(good, 1 << 30).partition(b"HTTP")[0], b"\0", 1024, b"\r\n\r\n")
    path = tmp_path / "giant.warc.gz"
    path.write_bytes(gzip.compress(good) + giant + gzip.compress(good))
    code = f"""
import resource
from pathlib import Path
from dsm_jax.mine.web import warc_records
from dsm_jax.mine.web.read import index_warc, read_block
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (200 << 20),) * 2)
(block,), broken = index_warc(Path({str(path)!r}))
read = read_block(block)
print(len(read.pages), read.skipped, broken)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "2 {'too large': 1} 0\n", done.stderr


def test_disk_that_cannot_be_read_is_no_broken_record(tmp_path, make_warc, monkeypatch):
    path = make_warc(tmp_path / "a.warc.gz", many_pages(5))

    def fail(self, size):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("dsm_jax.mine.web.warc_records._Feed.read", fail)
    with pytest.raises(OSError, match="Input/output"):
        index_warc(path)
