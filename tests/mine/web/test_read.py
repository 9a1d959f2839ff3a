import gzip
import json

import pytest
import zstandard

from dsm_jax.errors import UserError
from dsm_jax.mine.extract.page_text import decode
from dsm_jax.mine.web import read as read_module
from dsm_jax.mine.web.read import (
    BLOCK_RECORDS,
    MAX_RECORD_BYTES,
    RecordBlocks,
    check_warcs,
    find_records,
    index_warc,
    read_block,
)
from tests.mine.warc_files import COMPRESS, HTML, many_pages, read_all


@pytest.mark.parametrize("codec", ["plain", "gzip", "zstd", "lz4"])
@pytest.mark.parametrize("per_member", [1, 2, 7, 100])
def test_every_page_is_read_once_in_order_from_blocks_read_in_any_order(
    tmp_path, make_record, codec, per_member, monkeypatch
):
    monkeypatch.setattr(read_module, "BLOCK_BYTES", 5_000)  # members of many records make several blocks too
    records = [make_record(url, body) for url, body in many_pages(100)]
    members = [b"".join(records[i : i + per_member]) for i in range(0, 100, per_member)]
    path = tmp_path / "many.warc"
    path.write_bytes(b"".join(map(COMPRESS[codec], members)))
    blocks = RecordBlocks([path])
    assert len(blocks) >= 4 and blocks.broken == [0] and blocks.counts == [len(blocks)]
    by_block = {i: read_block(blocks[i]).pages for i in reversed(range(len(blocks)))}
    pages = [page for i in range(len(blocks)) for page in by_block[i]]
    assert [(page.url, page.body) for page in pages] == many_pages(100)
    assert all(page.charset == "utf-8" and page.warc == path.name and page.is_html for page in pages)


def test_block_is_bounded_by_records_and_by_bytes(tmp_path, make_warc, monkeypatch):
    small = make_warc(tmp_path / "small.warc.gz", many_pages(100))
    assert [block.count for block in index_warc(small)[0]] == [BLOCK_RECORDS] * 3 + [100 - 3 * BLOCK_RECORDS]
    large = make_warc(
        tmp_path / "large.warc.gz", [(f"https://a.org/{i}", b"<html>" + bytes(4000)) for i in range(9)]
    )
    monkeypatch.setattr(read_module, "BLOCK_BYTES", 10_000)
    assert [block.count for block in index_warc(large)[0]] == [2, 2, 2, 2, 1]


@pytest.mark.parametrize("codec", ["gzip", "zstd", "lz4"])
def test_member_of_many_records_is_one_block_as_long_as_that_can_be_held(tmp_path, make_record, codec):
    """Each block in it means reading the member from its beginning."""
    path = tmp_path / "one.warc"
    path.write_bytes(COMPRESS[codec](b"".join(make_record(url, body) for url, body in many_pages(100))))
    blocks, pages, _, broken = read_all(path)
    assert len(blocks) == 1 and broken == 0
    assert [page.url for page in pages] == [url for url, _ in many_pages(100)]


@pytest.mark.parametrize("packed", [False, True])
def test_zstd_with_a_dictionary(tmp_path, make_record, packed):
    """The file's first frame holds what all others were compressed with: random access needs it too."""
    records = [make_record(url, body) for url, body in many_pages(100)]
    dictionary = zstandard.train_dictionary(2000, records)
    content = dictionary.as_bytes()
    content = zstandard.ZstdCompressor().compress(content) if packed else content
    first = b"\x5d\x2a\x4d\x18" + len(content).to_bytes(4, "little") + content
    compressor = zstandard.ZstdCompressor(dict_data=dictionary)
    path = tmp_path / "a.warc.zst"
    path.write_bytes(first + b"".join(map(compressor.compress, records)))
    blocks, pages, _, broken = read_all(path)
    assert [(page.url, page.body) for page in pages] == many_pages(100)
    assert len(blocks) == 4 and broken == 0


def test_offset_points_at_the_record(tmp_path, make_warc):
    path = make_warc(tmp_path / "a.warc.gz", many_pages(40))
    for page in read_all(path)[1]:
        with open(path, "rb") as file:
            file.seek(page.offset)
            assert f"WARC-Target-URI: {page.url}\r\n".encode() in gzip.GzipFile(fileobj=file).read(400)


def test_offset_in_a_member_of_many_records_is_the_members(tmp_path, make_record):
    members = [
        gzip.compress(make_record(f"https://a.org/{i}", HTML) + make_record(f"https://a.org/{i}b", HTML))
        for i in range(3)
    ]
    path = tmp_path / "a.warc.gz"
    path.write_bytes(b"".join(members))
    starts = [0, len(members[0]), len(members[0]) + len(members[1])]
    assert [page.offset for page in read_all(path)[1]] == [start for start in starts for _ in range(2)]


# What is no page


def test_what_is_no_html_response_is_counted_by_kind(tmp_path, make_record):
    path = tmp_path / "a.warc"
    path.write_bytes(
        make_record("https://a.org/1", HTML)
        + make_record("https://a.org/2", b"%PDF", http="application/pdf")
        + make_record("https://a.org/3", HTML, kind="metadata")
        + make_record("https://a.org/4", HTML).replace(b"200 OK", b"404 No")
        + make_record("https://a.org/5", HTML, kind="resource")
        + make_record("", HTML)
        + make_record("https://a.org/6", b"%PDF-1.5 and more", http="text/html")
        + make_record("https://a.org/7", b"<html>\0\0\0" + bytes(9), http="text/html")
        + make_record("https://a.org/8", HTML).replace(
            b"application/http; msgtype=response", b"text/dns" + b" " * 26
        )
        + make_record("https://a.org/9", b"<html>" + b"x" * MAX_RECORD_BYTES)
    )
    _, pages, skipped, broken = read_all(path)
    assert [(page.url, page.body) for page in pages] == [("https://a.org/1", HTML)] and broken == 0
    assert skipped == {
        "not html": 3,
        "metadata record": 1,
        "resource record": 1,
        "http status": 1,
        "no url": 1,
        "not http": 1,
        "too large": 1,
    }


@pytest.mark.parametrize(
    ("http", "body", "is_page"),
    [
        ("text/html", HTML, True),
        ("TEXT/HTML;charset=x", HTML, True),
        ("application/xhtml+xml", HTML, True),
        ("", HTML, True),  # then the body tells
        ("", b"<!DOCTYPE html><p>x", True),
        ("", b"only words", False),
        ("text/plain", HTML, False),
        ("text/html", "<html>x</html>".encode("utf-16"), True),
        ("text/html", "<html>x</html>".encode("utf-16-le"), True),
        ("text/html", b"\x1f\x8b\x08\0\0\0\0\0\0\0", False),
        ("text/html", b"", True),
    ],
)
def test_what_counts_as_html(tmp_path, make_record, http, body, is_page):
    path = tmp_path / "a.warc"
    path.write_bytes(make_record("https://a.org/1", body, http=http))
    assert len(read_all(path)[1]) == is_page


@pytest.mark.parametrize(
    "charset", ["utf-8", "latin-1", "gb2312", "no-such", "utf-16", "\\x00", "a" * 300, '"utf-8"']
)
def test_charsets_that_lie_are_still_pages(tmp_path, make_record, charset):
    body = "<html>Größe 数学</html>".encode()
    path = tmp_path / "a.warc"
    path.write_bytes(make_record("https://a.org/1", body, http=f"text/html; charset={charset}"))
    (page,) = read_all(path)[1]
    assert "html" in decode(page.body, page.charset) or charset == "utf-16"


def test_wet_gives_text_and_the_id_of_the_response(tmp_path, make_record, dsm_data):
    name = "whirlwind-python__whirlwind.warc"
    (text,) = read_all(dsm_data / f"warc_samples/{name}.wet.gz")[1]
    (html,) = read_all(dsm_data / f"warc_samples/{name}.gz")[1]
    assert not text.is_html and html.is_html
    assert text.url == html.url and text.record_id == html.record_id != ""
    assert b"<" not in text.body[:100] and text.body.decode()  # UTF-8, and no tags
    assert [page.body for page in find_records(dsm_data / f"warc_samples/{name}", {text.record_id})] == [
        html.body
    ]


def test_wat_and_arc_files_are_counted(dsm_data):
    samples = dsm_data / "warc_samples"
    for name in ("whirlwind-python__whirlwind.warc.wat", "whirlwind-python__whirlwind.warc.wat.gz"):
        assert read_all(samples / name)[1:] == ([], {"warcinfo record": 1, "metadata record": 1}, 0)
    for path in [*samples.glob("*.arc"), *samples.glob("*.arc.gz")]:
        assert read_all(path)[1:] == ([], {"ARC file": 1}, 0)
        check_warcs([path])


# Finding records again


@pytest.mark.parametrize("codec", ["plain", "gzip", "zstd", "lz4"])
def test_wanted_records_are_found_by_id_or_url_in_the_files_order(tmp_path, make_record, codec):
    records = [
        make_record(url, body).replace(b"urn:uuid:0", b"urn:uuid:%d" % i)
        for i, (url, body) in enumerate(many_pages(60))
    ]
    records[20] = records[20].replace(b"200 OK", b"404 No")
    records.insert(30, b"WARC/1.0\r\nbroken\r\n")
    path = tmp_path / "a.warc"
    path.write_bytes(b"".join(map(COMPRESS[codec], records)))
    wanted = [
        "<urn:uuid:41>",
        "urn:uuid:3",
        "https://a.org/7",
        "urn:uuid:20",
        "urn:uuid:999",
        "https://a.org/41",
    ]
    found = list(find_records(path, wanted))
    assert [page.record_id for page in found] == ["urn:uuid:3", "urn:uuid:7", "urn:uuid:41"]
    every = {page.record_id: page for page in read_all(path)[1]}
    assert found == [every[page.record_id] for page in found]
    assert list(find_records(path, [])) == []


def test_found_records_of_the_crawl_are_its_pages(dsm_data):
    path = min((dsm_data / "web").glob("*.warc.gz"))
    pages = read_all(path)[1]
    labels = {row["url"] for row in map(json.loads, (dsm_data / "web/labels.jsonl").open())}
    assert len(pages) == len({page.record_id for page in pages}) and {page.url for page in pages} <= labels
    wanted = pages[::7]
    assert list(find_records(path, [page.record_id for page in wanted])) == wanted


# Users' mistakes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "is empty"),
        (b"\x00noise" * 500, "corrupt"),
        (b"\x1f\x8b\x08" + b"no" * 99, "corrupt"),
    ],
)
def test_unusable_files_are_the_users_mistake(tmp_path, content, message):
    path = tmp_path / "bad.warc.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        check_warcs([path])
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
