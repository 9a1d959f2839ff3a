"""Mathematical domains and folders: against counting pages one by one."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsm_jax.mine.loop.domains import DomainCount, discover, mostly_collected
from dsm_jax.mine.web.urls import url_folder


def page(url, domain, words=1):
    return {"url": url, "domain": domain, "words": words}


def which(flags):
    flags = np.array(flags, bool)
    return lambda shard: flags[shard.pages]


def of_counts(write_crawl, folder, counts):
    """A crawl of {domain: (pages, collected)}, its pages dealt over three shards, and its collected pages."""
    rows = [
        (page(f"https://{name}/{i}", name), i < n)
        for name, (total, n) in counts.items()
        for i in range(total)
    ]
    crawl = write_crawl(folder, [[row for row, _ in rows[start::3]] for start in range(3)])
    return crawl, which([flag for start in range(3) for _, flag in rows[start::3]])


def every(shard):
    return np.ones(shard.count, bool)


def test_a_domain_needs_more_than_its_share_and_enough_pages(write_crawl, tmp_path):
    counts = {"ten.org": (10, 1), "eleven.org": (10, 2), "tiny.org": (1, 1), "none.org": (5, 0), "": (3, 3)}
    crawl, collected = of_counts(write_crawl, tmp_path, counts)
    tiny, eleven = DomainCount("tiny.org", 1, 1, 1), DomainCount("eleven.org", 10, 2, 10)
    assert discover(crawl, every, collected, 0.1, 1) == [eleven, tiny]
    assert discover(crawl, every, collected, 0.1, 10) == [eleven]
    assert discover(crawl, every, collected, 0.2, 1) == [tiny]
    assert discover(crawl, every, lambda shard: ~every(shard), 0.0, 1) == []


@pytest.mark.parametrize(("share", "total"), [(0.1, 30), (0.29, 100), (0.07, 100), (0.57, 100), (0.3, 10)])
def test_exactly_the_share_is_not_more_than_it(write_crawl, tmp_path, share, total):
    n = round(share * total)
    crawl, collected = of_counts(write_crawl, tmp_path, {"as.org": (total, n), "more.org": (total, n + 1)})
    assert [one.domain for one in discover(crawl, every, collected, share, 1)] == ["more.org"]


def test_domains_with_most_left_to_gain_come_first(write_crawl, tmp_path):
    counts = {"b.org": (9, 4), "c.org": (20, 3), "a.org": (9, 4), "d.org": (5, 5)}
    crawl, collected = of_counts(write_crawl, tmp_path, counts)
    assert [one.domain for one in discover(crawl, every, collected, 0.1, 1)] == [
        "c.org",
        "a.org",
        "b.org",
        "d.org",
    ]


PAGES = st.lists(
    st.tuples(
        st.sampled_from(["a.org", "b.org", "c.org", ""]), st.integers(1, 9), st.booleans(), st.booleans()
    ),
    max_size=30,
)


@settings(max_examples=50)
@given(PAGES, st.integers(0, 30), st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.integers(1, 4))
def test_counts_are_of_the_pages_that_count(write_crawl, tmp_path_factory, pages, cut, share, least):
    rows = [page("", domain, words) for domain, words, _, _ in pages]
    crawl = write_crawl(tmp_path_factory.mktemp("pages"), [rows[:cut], rows[cut:]])
    counted = [own for _, _, own, _ in pages]
    kept = [own and flag for _, _, own, flag in pages]
    expected = []
    for name in ("a.org", "b.org", "c.org"):
        words = [n for domain, n, own, _ in pages if domain == name and own]
        collected = sum(flag for (domain, *_), flag in zip(pages, kept, strict=True) if domain == name)
        if collected and len(words) >= least and collected / len(words) > share:
            expected.append(DomainCount(name, len(words), collected, sum(words)))
    found = discover(crawl, which(counted), which(kept), share, least)
    assert sorted(found, key=lambda one: one.domain) == expected


FOLDERS = st.sampled_from(["a.org/x", "a.org/x/y", "a.org/z", "a.org", "b.org/x", "c.org/x"])


@settings(max_examples=50)
@given(
    st.lists(st.tuples(FOLDERS, st.booleans(), st.booleans(), st.booleans()), max_size=40), st.integers(0, 40)
)
def test_folders_mostly_collected(write_crawl, tmp_path_factory, pages, cut):
    """Of a.org and b.org, which were discovered; a page: (folder, has own text, collected, held out)."""
    rows = [page(f"https://www.{folder}/{i}?q=/", folder[:5]) for i, (folder, *_) in enumerate(pages)]
    crawl = write_crawl(tmp_path_factory.mktemp("pages"), [rows[:cut], rows[cut:]])
    own = [own for _, own, _, _ in pages]
    collected = [own and flag for _, own, flag, _ in pages]
    free = [own and not flag and not held for _, own, flag, held in pages]
    marks = SimpleNamespace(
        has_own_text=np.array(own, bool), collected=np.array(collected, bool), uncollected=which(free)
    )
    joins = mostly_collected(crawl, marks, {"a.org", "b.org"}, 0.5)
    expected = []
    for (folder, *_), may in zip(pages, free, strict=True):
        inside = [i for i, (other, own, _, _) in enumerate(pages) if other == folder and own]
        mostly = 2 * sum(collected[i] for i in inside) > len(inside)
        expected.append(may and mostly and folder[:5] != "c.org")
    assert np.concatenate([joins(shard) for shard in crawl.shards]).tolist() == expected
    assert all(url_folder(row["url"]) == folder for row, (folder, *_) in zip(rows, pages, strict=True))
