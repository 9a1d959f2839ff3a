import gzip
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.errors import UserError
from dsm_jax.mine.read import BLOCK_RECORDS, RecordBlocks, check_warcs, index_warc, read_block


def read_all(path):
    blocks, broken = index_warc(path)
    pages, skipped = [], Counter()
    for block in blocks:
        read = read_block(block)
        pages += read.pages
        skipped.update(read.skipped)
    return blocks, pages, skipped, broken


def many_pages(count):
    return [
        (f"https://a.org/{i}", f"<html><body>page {i} {'text ' * i}</body></html>".encode())
        for i in range(count)
    ]


@pytest.mark.parametrize("name", ["many.warc.gz", "many.warc"])
def test_every_page_is_read_once_in_order_from_blocks_read_in_any_order(tmp_path, make_warc, name):
    path = make_warc(tmp_path / name, many_pages(100))
    blocks = RecordBlocks([path])
    assert len(blocks) == -(-100 // BLOCK_RECORDS)
    by_block = {i: read_block(blocks[i]).pages for i in reversed(range(len(blocks)))}
    pages = [page for i in range(len(blocks)) for page in by_block[i]]
    assert [(page.url, page.body) for page in pages] == many_pages(100)
    assert all(page.charset == "utf-8" and page.warc == name for page in pages)


def test_offset_points_at_the_record(tmp_path, make_warc):
    path = make_warc(tmp_path / "a.warc.gz", many_pages(40))
    for page in read_all(path)[1]:
        with open(path, "rb") as file:
            file.seek(page.offset)
            assert f"WARC-Target-URI: {page.url}\r\n".encode() in gzip.GzipFile(fileobj=file).read(400)


def test_file_compressed_as_one_member_is_one_block(tmp_path, make_warc):
    plain = make_warc(tmp_path / "a.warc", many_pages(100)).read_bytes()
    path = tmp_path / "one.warc.gz"
    path.write_bytes(gzip.compress(plain))
    blocks, pages, _, broken = read_all(path)
    assert len(blocks) == 1 and broken == 0
    assert [page.url for page in pages] == [url for url, _ in many_pages(100)]


def test_reading_goes_on_after_a_broken_stretch(tmp_path, make_warc):
    path = make_warc(tmp_path / "a.warc.gz", many_pages(100))
    offsets = [page.offset for page in read_all(path)[1]]
    damaged = bytearray(path.read_bytes())
    damaged[offsets[50] : offsets[50] + 100] = bytes(100)
    path.write_bytes(damaged)
    _, pages, _, broken = read_all(path)
    urls = [page.url for page in pages]
    assert broken == 1
    assert urls == [url for i, (url, _) in enumerate(many_pages(100)) if i != 50]


def test_truncated_last_record_is_counted_not_returned(tmp_path, make_warc):
    path = make_warc(tmp_path / "a.warc", many_pages(50))
    path.write_bytes(path.read_bytes()[:-100])
    _, pages, skipped, _ = read_all(path)
    assert len(pages) == 49 and skipped == {"truncated": 1}


def test_what_is_no_html_response_is_counted_by_kind(tmp_path, make_record):
    path = tmp_path / "a.warc"
    page = b"<html><body>x</body></html>"
    path.write_bytes(
        make_record("https://a.org/1", page)
        + make_record("https://a.org/2", b"%PDF", http="application/pdf")
        + make_record("https://a.org/3", page, kind="metadata")
        + make_record("https://a.org/4", page).replace(b"200 OK", b"404 No")
        + make_record("https://a.org/5", gzip.compress(page)).replace(
            b"utf-8\r\n", b"utf-8\r\nContent-Encoding: gzip\r\n"
        )
    )
    path.write_bytes(fix_lengths(path.read_bytes()))
    _, pages, skipped, _ = read_all(path)
    assert [(p.url, p.body) for p in pages] == [("https://a.org/1", page), ("https://a.org/5", page)]
    assert skipped == {"not html": 1, "not a response": 1, "http status": 1}


def fix_lengths(content: bytes) -> bytes:
    """Adds the extra header's bytes to the WARC length of the record that got one."""
    extra = len(b"Content-Encoding: gzip\r\n")
    head, _, last = content.rpartition(b"WARC/1.0")
    before, _, after = last.partition(b"Content-Length: ")
    length, _, rest = after.partition(b"\r\n")
    return head + b"WARC/1.0" + before + b"Content-Length: %d\r\n" % (int(length) + extra) + rest


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


def test_broken_public_samples_pass_and_every_record_is_accounted_for(dsm_data):
    for path in sorted((dsm_data / "warc_samples").iterdir()):
        blocks, pages, skipped, _ = read_all(path)
        assert sum(block.count for block in blocks) == len(pages) + sum(skipped.values()), path.name


@given(
    st.lists(
        st.tuples(st.integers(0, 10**6), st.binary(max_size=40), st.integers(0, 60)), min_size=1, max_size=4
    ),
    st.booleans(),
)
def test_mutated_files_never_crash_and_every_record_is_accounted_for(
    make_record, tmp_path_factory, edits, gz
):
    records = [make_record(url, body) for url, body in many_pages(6)]
    content = b"".join(gzip.compress(record) if gz else record for record in records)
    for place, inserted, removed in edits:
        place %= len(content) + 1
        content = content[:place] + inserted + content[place + removed :]
    path = tmp_path_factory.getbasetemp() / f"mutated.warc{'.gz' if gz else ''}"
    path.write_bytes(content)
    blocks, pages, skipped, _ = read_all(path)
    assert sum(block.count for block in blocks) == len(pages) + sum(skipped.values())
