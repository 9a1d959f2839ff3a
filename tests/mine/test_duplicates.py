"""Duplicates: against following first pages by hand on random keys, in ranges, after kills, of real rows."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsm_jax.mine import duplicates, pages
from dsm_jax.mine.crawl import Crawl, mapped_array
from dsm_jax.mine.duplicates import find_duplicates
from dsm_jax.mine.pages import KEYS
from dsm_jax.mine.tasks import Spread

COLUMNS = ("url_key", "text_key", "band_03")
KEY = st.integers(0, 7).map(lambda i: i << 61) | st.sampled_from([1, 2**63 - 1, 2**63, 2**64 - 1])
ROWS = st.lists(st.fixed_dictionaries(dict.fromkeys(COLUMNS, KEY)), max_size=25)


def by_hand(rows):
    """Each page's first page: of earlier pages that share a key the earliest, and from there on."""
    first = []
    for page, row in enumerate(rows):
        alike = [i for i in range(page) for name in COLUMNS if row[name] and rows[i][name] == row[name]]
        first.append(first[min(alike)] if alike else page)
    return first


@pytest.fixture(scope="module")
def found(write_crawl, tmp_path_factory):
    """found(rows, cuts): the first page of each row, in shards that end at these places."""

    def find(rows, cuts=(), **options):
        folder = tmp_path_factory.mktemp("crawl")
        places = [0, *sorted(cuts), len(rows)]
        write_crawl(folder / "pages", [rows[a:b] for a, b in pairwise(places)])
        find_duplicates(folder / "pages", folder / "duplicates.npy", **options)
        assert sorted(path.name for path in folder.iterdir()) == ["duplicates.npy", "pages"]
        return mapped_array(folder / "duplicates.npy").tolist()

    return find


@settings(max_examples=25)
@given(ROWS, st.data())
def test_first_pages_of_random_keys(found, rows, data):
    cuts = data.draw(st.lists(st.integers(0, len(rows)), max_size=3))
    assert found(rows, cuts) == by_hand(rows)


@settings(max_examples=12)
@given(ROWS, st.integers(5, 12))
def test_ranges_of_keys_change_nothing(found, rows, pages):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "SORT_PAGES", pages)
        patch.setattr(duplicates, "CHUNK", pages)
        assert found(rows, [len(rows) // 2]) == by_hand(rows)


def test_a_chain_leads_to_its_first_page(found, monkeypatch):
    """Each page shares a key with the one before only, in another column by turns; far beyond one chunk."""
    monkeypatch.setattr(duplicates, "CHUNK", 7)
    rows = []
    for i in range(100):
        here, there = ("url_key", "text_key") if i % 2 else ("text_key", "url_key")
        rows.append({here: i, there: i + 1, "band_03": 0})
    assert found(rows, [30, 30, 80]) == [0] * 100 == by_hand(rows)


def test_pages_alike_only_through_a_later_one_stay_two(found):
    rows = [{"url_key": 1}, {"url_key": 2}, {"url_key": 1, "text_key": 5}, {"url_key": 2, "text_key": 5}]
    rows = [dict.fromkeys(COLUMNS, 0) | row for row in rows]
    assert found(rows) == [0, 1, 0, 1]


def test_keys_count_in_their_own_column_only(found):
    assert found([{"url_key": 5}, {"text_key": 5}, {"band_00": 5}, {"band_01": 5}]) == [0, 1, 2, 3]
    assert {name for name in KEYS if found([{name: 5}, {name: 5}]) == [0, 0]} == set(KEYS)


def test_an_empty_page_is_nobodys_first_and_hides_none(found, make_page):
    text = "Every page of this site has these words and a few more, " * 3
    rows = [
        make_page("https://a.org/x"),
        make_page("https://a.org/x", text),
        make_page("http://www.a.org/x/#top"),
        make_page("https://a.org/x?utm_source=y", "other words"),
        make_page("https://b.org/", text),
        make_page("https://c.org/"),
    ]
    assert found(rows, [2]) == [0, 1, 2, 1, 1, 5]


def test_near_duplicates_of_a_page_are_found(found, make_page):
    words = [f"w{i}" for i in range(200)]
    copy = [*words[:100], "changed", *words[101:]]
    rows = [
        make_page(f"https://a.org/{i}", " ".join(text)) for i, text in enumerate([words, words[::-1], copy])
    ]
    assert found(rows) == [0, 1, 0]


def test_a_crawl_of_no_page(found):
    assert found([]) == []


def test_a_key_of_every_page_takes_no_more_memory_than_another(tmp_path):
    """The pages of many runs in one range: all alike, or all different."""
    runs, pages = 50, 10_000
    peaks = []
    for alike in (False, True):
        folder = tmp_path / str(alike)
        folder.mkdir()
        for run in range(runs):
            numbers = np.arange(run * pages, (run + 1) * pages, dtype=np.uint64)
            keys = np.full(pages, 7, np.uint64) if alike else numbers % np.uint64(1 << 62) + np.uint64(1)
            np.save(duplicates._run_file(folder, run, 0), np.stack([keys, numbers]))
        tracemalloc.start()
        duplicates._find_edges(folder, runs, 1, 0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        edges = np.fromfile(duplicates._edges_file(folder, 0), np.int64).reshape(-1, 2)
        assert len(edges) == alike * (runs * pages - 1) and not edges[:, 1].any()
    assert peaks[1] < peaks[0] / 10


class Killed(BaseException):
    pass


def dies(*args, **kwargs):
    raise Killed


@pytest.mark.parametrize(
    "name", ["_sort_run", "atomic", "_find_edges", "_resolve", "_follow", "shutil.rmtree"]
)
@pytest.mark.parametrize("calls", [0, 1, 17])
def test_killed_anywhere_the_restart_ends_in_the_same_bytes(write_crawl, tmp_path, monkeypatch, name, calls):
    rng = np.random.default_rng(0)
    rows = [{name: int(rng.integers(1, 50)) << 57 for name in COLUMNS} for _ in range(60)]
    write_crawl(tmp_path / "pages", [rows[:25], rows[25:30], rows[30:]])
    monkeypatch.setattr(duplicates, "SORT_PAGES", 30)
    monkeypatch.setattr(duplicates, "CHUNK", 9)
    find_duplicates(tmp_path / "pages", tmp_path / "undisturbed.npy")
    owner, _, attribute = name.rpartition(".")
    module = getattr(duplicates, owner) if owner else duplicates
    real, left, out = getattr(module, attribute), [calls], tmp_path / "duplicates.npy"

    def dies_later(*args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(module, attribute, dies_later)
        try:
            find_duplicates(tmp_path / "pages", out)
        except Killed:
            pass
        else:
            assert left[0] >= 0
    find_duplicates(tmp_path / "pages", out)
    assert out.read_bytes() == (tmp_path / "undisturbed.npy").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"pages", "undisturbed.npy", "duplicates.npy"}
    assert len(set(mapped_array(out).tolist())) < 60


def test_what_is_done_is_not_done_again(write_crawl, tmp_path, monkeypatch):
    write_crawl(tmp_path / "pages", [[{"url_key": 1}, {"url_key": 1}]])
    with monkeypatch.context() as patch:
        patch.setattr(duplicates, "_resolve", dies)
        with pytest.raises(Killed):
            find_duplicates(tmp_path / "pages", tmp_path / "duplicates.npy")
    monkeypatch.setattr(duplicates, "_find_edges", dies)
    monkeypatch.setattr(duplicates, "_sort_run", dies)
    find_duplicates(tmp_path / "pages", tmp_path / "duplicates.npy")
    monkeypatch.setattr(duplicates, "_resolve", dies)
    find_duplicates(tmp_path / "pages", tmp_path / "duplicates.npy")


@pytest.mark.slow
def test_worker_processes_find_the_same(found):
    rng = np.random.default_rng(1)
    rows = [{"url_key": int(rng.integers(1, 40)), "text_key": int(rng.integers(1, 400))} for _ in range(60)]
    assert found(rows, [25], spread=Spread(workers=2)) == found(rows)


def test_an_empty_first_capture_does_not_hide_the_page(tmp_path, make_warc):
    bodies = (b"<html></html>", b"<html><body>The page</body></html>", b"")
    warc = make_warc(tmp_path / "a.warc.gz", [("https://a.org/x", body) for body in bodies])
    pages.make_shards([str(warc)], tmp_path / "pages")
    find_duplicates(tmp_path / "pages", tmp_path / "duplicates.npy")
    crawl = Crawl(tmp_path / "pages")
    assert [row["words"] for _, row in crawl.rows(range(3), "words")] == [0, 2, 0]
    assert mapped_array(tmp_path / "duplicates.npy").tolist() == [0, 1, 2]
