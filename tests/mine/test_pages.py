"""From WARC files to shards: every page once, with its keys and its source, whoever makes them and whatever is missing."""

import gzip
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsm_jax.errors import UserError
from dsm_jax.mine import pages
from dsm_jax.mine.config import PRESETS
from dsm_jax.mine.crawl import Crawl
from dsm_jax.mine.near_duplicates import band_keys
from dsm_jax.mine.pages import KEYS, SCHEMA, RowGroups, make_shards, read_totals, shard_file
from dsm_jax.mine.pipeline import Examples, Sources, mine
from dsm_jax.mine.tasks import Spread
from dsm_jax.mine.web.fetch import Missing
from dsm_jax.mine.web.urls import canonical_url, domain_of, key_of


def body(text):
    return f"<html><body><main><p>{text}</p></main></body></html>".encode()


@pytest.fixture
def warcs(make_warc, tmp_path):
    """Three files of 5, 1 and 40 pages."""
    numbers, files = iter(range(46)), []
    for name, count in (("a.warc.gz", 5), ("b.warc", 1), ("c.warc.gz", 40)):
        there = [next(numbers) for _ in range(count)]
        contents = [
            (f"https://www.site{i % 3}.org/{i}/", body(f"page {i} " + "and its words " * i)) for i in there
        ]
        files.append(str(make_warc(tmp_path / name, contents)))
    return files


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_page_is_there_once_with_its_source_and_keys(warcs, tmp_path):
    make_shards(warcs, tmp_path / "pages")
    crawl = Crawl(tmp_path / "pages")
    assert [shard.count for shard in crawl.shards] == [5, 1, 40]
    rows = [row for shard in crawl.shards for row in shard.columns(*SCHEMA.names).to_pylist()]
    assert [row["url"] for row in rows] == [f"https://www.site{i % 3}.org/{i}/" for i in range(46)]
    assert [row["source"] for row in rows] == ["a.warc.gz"] * 5 + ["b.warc"] + ["c.warc.gz"] * 40
    for i, row in enumerate(rows):
        assert row["text"] == (f"page {i} " + "and its words " * i).strip() and row["words"] == 2 + 3 * i
        assert row["tokens"] == ("page" + " and its words" * i) and row["tokens_key"] == key_of(row["tokens"])
        keys = [key_of(canonical_url(row["url"])), key_of(row["text"]), *band_keys(row["text"]).tolist()]
        assert [row[name] for name in KEYS] == keys and row["domain"] == domain_of(row["url"])
    totals = read_totals(tmp_path / "pages", 3)
    assert totals == {
        "pages": 46,
        "records": 46,
        "words": sum(2 + 3 * i for i in range(46)),
        "skipped": {},
        "missing": {},
    }


def test_a_page_without_text_has_no_key(make_warc, tmp_path):
    warc = make_warc(
        tmp_path / "a.warc.gz", [("https://a.org/x", b"<html></html>"), ("https://a.org/x", body("12 + 3"))]
    )
    make_shards([str(warc)], tmp_path / "pages")
    empty, numbers = Crawl(tmp_path / "pages").shards[0].columns(*SCHEMA.names).to_pylist()
    assert (empty["words"], empty["text"], empty["tokens"]) == (0, "", "")
    assert not any(empty[name] for name in (*KEYS, "tokens_key"))
    assert numbers["url_key"] and numbers["text_key"] and not numbers["tokens_key"] and numbers["words"] == 3


@pytest.mark.parametrize("at_once", [1, 2])
def test_files_at_once_change_nothing(warcs, tmp_path, monkeypatch, at_once):
    make_shards(warcs, tmp_path / "a")
    monkeypatch.setattr(pages, "FILES_AT_ONCE", at_once)
    make_shards(warcs, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_make_the_same_shards(warcs, tmp_path, workers):
    make_shards(warcs, tmp_path / "a")
    make_shards(warcs, tmp_path / "b", spread=Spread(workers))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_file_given_twice_counts_once(warcs, tmp_path):
    """By two globs that overlap. The pages of the file after it had the first one's name."""
    seed = tmp_path / "seed.jsonl"
    seed.write_text("".join(json.dumps({"url": f"https://site0.org/{3 * i}"}) + "\n" for i in range(1, 12)))
    given = Sources((warcs[2], warcs[0], warcs[2], warcs[1], warcs[0]))
    mine(PRESETS["smoke"], tmp_path / "out", given, Examples((seed,)))
    shards = Crawl(tmp_path / "out" / "pages").shards
    assert [(set(shard.columns("source")["source"].to_pylist()), shard.count) for shard in shards] == [
        ({"c.warc.gz"}, 40),
        ({"a.warc.gz"}, 5),
        ({"b.warc"}, 1),
    ]


def test_a_file_of_two_names_gives_each_shard_its_own_pages(warcs, tmp_path):
    """Whoever calls with them: the pages of the file between them had the first one's name."""
    given = [warcs[0], warcs[2], warcs[0].replace("/a.warc", "//a.warc"), warcs[1]]
    make_shards(given, tmp_path / "pages")
    shards = Crawl(tmp_path / "pages").shards
    assert [(set(shard.columns("source")["source"].to_pylist()), shard.count) for shard in shards] == [
        ({"a.warc.gz"}, 5),
        ({"c.warc.gz"}, 40),
        ({"a.warc.gz"}, 5),
        ({"b.warc"}, 1),
    ]


def test_a_missing_file_is_said_left_out_and_asked_for_again(warcs, tmp_path, monkeypatch, capsys):
    real = pages.fetch

    def down(source, folder):
        if source == warcs[1]:
            raise Missing(source, "503 after 9 attempts")
        return real(source, folder)

    with monkeypatch.context() as patch:
        patch.setattr(pages, "fetch", down)
        make_shards(warcs, tmp_path / "pages")
    assert f"warning: {warcs[1]} is missing (503 after 9 attempts)" in capsys.readouterr().err
    assert [shard.count for shard in Crawl(tmp_path / "pages").shards] == [5, 0, 40]
    assert read_totals(tmp_path / "pages", 3)["missing"] == {warcs[1]: "503 after 9 attempts"}
    before = contents(tmp_path / "pages")
    make_shards(warcs, tmp_path / "pages")
    make_shards(warcs, tmp_path / "undisturbed")
    assert contents(tmp_path / "pages") == contents(tmp_path / "undisturbed") != before


@pytest.mark.parametrize("is_late", [False, True])
def test_another_attempt_that_is_refused_the_files_leaves_the_shards(warcs, tmp_path, monkeypatch, is_late):
    """Beam may have two machines try a task; the other one comes late, or waits for its server meanwhile."""
    real = pages.fetch

    def make_twice(make, numbers, *_):
        for number in numbers:

            def refused(source, folder, number=number):
                monkeypatch.setattr(pages, "fetch", real)
                make(number)
                raise Missing(source, "403")

            monkeypatch.setattr(pages, "fetch", real)
            if is_late:
                make(number)
            monkeypatch.setattr(pages, "fetch", refused)
            make(number)

    monkeypatch.setattr(pages, "for_each", make_twice)
    make_shards(warcs, tmp_path / "twice", spread=Spread(beam=("--runner=DirectRunner",)))
    monkeypatch.setattr(pages, "fetch", real)
    make_shards(warcs, tmp_path / "once")
    assert contents(tmp_path / "twice") == contents(tmp_path / "once")


def test_a_shard_with_a_manifest_is_not_made_again_and_one_without_is(warcs, tmp_path, monkeypatch):
    make_shards(warcs, tmp_path / "pages")
    before = contents(tmp_path / "pages")
    (tmp_path / "pages" / "00001.json").unlink()
    made, real = [], pages.fetch
    monkeypatch.setattr(pages, "fetch", lambda source, folder: (made.append(source), real(source, folder))[1])
    make_shards(warcs, tmp_path / "pages")
    assert made == [warcs[1]] and contents(tmp_path / "pages") == before


def test_a_crawl_opens_no_shard_to_count_its_rows(warcs, tmp_path, monkeypatch):
    make_shards(warcs, tmp_path / "pages")
    with monkeypatch.context() as patch:
        patch.setattr(pq, "read_metadata", None)
        assert [(shard.start, shard.count) for shard in Crawl(tmp_path / "pages").shards] == [
            (0, 5),
            (5, 1),
            (6, 40),
        ]
    (tmp_path / "pages" / "rows.json").unlink()
    assert [(shard.start, shard.count) for shard in Crawl(tmp_path / "pages").shards] == [
        (0, 5),
        (5, 1),
        (6, 40),
    ]


def test_counts_of_rows_are_forgotten_while_shards_are_made(warcs, tmp_path, monkeypatch):
    make_shards(warcs, tmp_path / "pages")
    before = contents(tmp_path / "pages")
    (tmp_path / "pages" / "00002.json").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(pages, "RecordBlocks", None)
        with pytest.raises(TypeError):
            make_shards(warcs, tmp_path / "pages")
    assert not (tmp_path / "pages" / "rows.json").exists()
    make_shards(warcs, tmp_path / "pages")
    assert contents(tmp_path / "pages") == before


def test_no_page_at_all_is_one_line(make_warc, tmp_path):
    picture = make_warc(tmp_path / "p.warc", [("https://a.org/", b"\x89PNG")])
    picture.write_bytes(
        picture.read_bytes().replace(b"text/html; charset=utf-8", b"image/png; charset=utf-8")
    )
    with pytest.raises(UserError, match="no readable HTML page in 1 files.*1 not html") as caught:
        make_shards([str(picture)], tmp_path / "pages")
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_said_once(warcs, tmp_path, capsys):
    cut = tmp_path / "c.warc.gz"
    cut.write_bytes(cut.read_bytes()[:-20])
    make_shards(warcs, tmp_path / "pages")
    said = [line for line in capsys.readouterr().err.splitlines() if "is damaged (" in line]
    assert len(said) == 1 and said[0].startswith("warning: c.warc.gz is damaged (1 truncated)")


def test_where_every_file_is_missing_the_first_is_named(tmp_path, monkeypatch):
    def refused(source, folder):
        raise pages.Missing(source, "404")

    monkeypatch.setattr(pages, "fetch", refused)
    with pytest.raises(UserError, match=r"every file is missing, such as https://a.org/x.warc.gz \(404\)"):
        make_shards(["https://a.org/x.warc.gz", "https://a.org/y.warc.gz"], tmp_path / "pages")


@settings(max_examples=30)
@given(st.lists(st.integers(0, 9), max_size=12))
def test_row_groups_have_one_size_however_the_rows_come(tmp_path_factory, sizes):
    folder, schema = tmp_path_factory.mktemp("groups"), pa.schema([("n", pa.int64()), ("text", pa.string())])
    rows = pa.table({"n": range(sum(sizes)), "text": [f"text {i % 3}" for i in range(sum(sizes))]}, schema)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "GROUP_ROWS", 4)
        with RowGroups(folder / "a.parquet", schema) as groups:
            start = 0
            for size in sizes:
                groups.add(rows.slice(start, size))
                start += size
        with RowGroups(folder / "b.parquet", schema) as groups:
            groups.add(rows)
    file = pq.ParquetFile(folder / "a.parquet")
    counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert counts == [4] * (sum(sizes) // 4) + ([sum(sizes) % 4] if sum(sizes) % 4 else [])
    assert file.read().equals(rows)
    assert (folder / "a.parquet").read_bytes() == (folder / "b.parquet").read_bytes()


@settings(max_examples=30)
@given(st.lists(st.integers(0, 300), max_size=12), st.integers(1, 12))
def test_long_pages_make_short_row_groups_however_they_come(tmp_path_factory, lengths, batch):
    """A row of 8 + 8 bytes and its text; two columns."""
    folder, schema = tmp_path_factory.mktemp("groups"), pa.schema([("n", pa.int64()), ("text", pa.string())])
    rows = pa.table({"n": range(len(lengths)), "text": ["x" * length for length in lengths]}, schema)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "GROUP_BYTES", 200)
        for name, size in (("a.parquet", batch), ("b.parquet", 1)):
            with RowGroups(folder / name, schema) as groups:
                for start in range(0, len(lengths), size):
                    groups.add(rows.slice(start, size))
    file = pq.ParquetFile(folder / "a.parquet")
    assert file.read().equals(rows)
    assert (folder / "a.parquet").read_bytes() == (folder / "b.parquet").read_bytes()
    sizes = [
        [16 + len(text) for text in file.read_row_group(i)["text"].to_pylist()]
        for i in range(file.num_row_groups)
    ]
    assert all(sum(group[:-1]) < 200 for group in sizes) and all(sum(group) >= 200 for group in sizes[:-1])


def test_shards_are_in_the_order_of_their_numbers(write_crawl, make_page, tmp_path):
    crawl = write_crawl(tmp_path, [[make_page(f"https://a.org/{i}")] for i in range(12)])
    assert [shard.file for shard in crawl.shards] == [shard_file(tmp_path, i) for i in range(12)]
    assert shard_file(tmp_path, 123_456).name == "123456.parquet"


def test_a_page_that_cannot_be_extracted_is_counted_and_ends_nothing(warcs, tmp_path, monkeypatch):
    real = pages.page_text

    def fails(page):
        if "page 7 " in page:
            raise RecursionError("too deep")
        return real(page)

    monkeypatch.setattr(pages, "page_text", fails)
    make_shards(warcs, tmp_path / "pages")
    totals = read_totals(tmp_path / "pages", 3)
    assert (totals["pages"], totals["skipped"], totals["records"]) == (45, {"extraction failed": 1}, 46)


def test_downloads_that_a_kill_left_are_gone_afterwards(warcs, tmp_path):
    left = tmp_path / "pages" / "downloads" / "0123-a.warc.gz"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"a file that was read already")
    make_shards(warcs, tmp_path / "pages")
    assert not left.exists()


@pytest.mark.parametrize("content", [b"", b"<html>503</html>" * 99, b"\x1f\x8b\x08no"])
def test_a_file_without_a_record_is_said_and_left_out(warcs, tmp_path, capsys, content):
    bad = tmp_path / "bad.warc.gz"
    bad.write_bytes(content)
    seed = tmp_path / "seed.jsonl"
    seed.write_text("".join(json.dumps({"url": f"https://site0.org/{3 * i}"}) + "\n" for i in range(1, 12)))
    result = mine(PRESETS["smoke"], tmp_path / "out", Sources((str(bad), *warcs)), Examples((seed,)))
    assert list(result.funnel["files_missing"]) == [str(bad)] and result.funnel["pages_in"] == 46
    assert f"{bad} is missing (empty, corrupt or not a WARC file" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"bad\.warc\.gz: (the file is empty|corrupt)"):
        mine(PRESETS["smoke"], tmp_path / "other", Sources((str(bad),)), Examples((seed,)))


def test_the_bodies_of_a_block_are_not_held_together(make_record, tmp_path):
    """30 of 15 MB in a file of 13 kB, in a process that may take less than a third of that."""
    pages = [gzip.compress(body(f"page {i}<!--" + "x" * (15 << 20) + "-->"), mtime=0) for i in range(30)]
    records = [
        make_record(f"https://a.org/{i}", page, http="text/html\r\nContent-Encoding: gzip")
        for i, page in enumerate(pages)
    ]
    warc = tmp_path / "a.warc.gz"
    warc.write_bytes(b"".join(gzip.compress(record, mtime=0) for record in records))
    code = f"""
import resource
from pathlib import Path
from dsm_jax.mine.pages import make_shards
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
make_shards([{str(warc)!r}], Path({str(tmp_path / "pages")!r}))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 140 and read_totals(tmp_path / "pages", 1)["pages"] == 30


def test_a_signal_ends_the_wait_for_a_server(tmp_path):
    """A server that is busy is waited for up to ten minutes."""
    code = f"""
import signal, sys, time
from pathlib import Path
from dsm_jax.mine import pages
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
pages.fetch = lambda *_: (print("asks", flush=True), time.sleep(600))
pages.make_shards(["https://a.org/a.warc", "https://a.org/b.warc"], Path({str(tmp_path / "pages")!r}))
"""
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert run.stdout.readline().startswith("asks")
        run.terminate()
        assert run.wait(timeout=20) == 75
    finally:
        run.kill()
        run.wait()
