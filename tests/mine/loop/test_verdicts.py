"""Verdicts: a page's own URL first, then its duplicates; against looking at each group of duplicates as a whole."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsm_jax.mine.annotate.annotations import Annotations
from dsm_jax.mine.crawl import mapped_array
from dsm_jax.mine.loop.marks import ACCEPTED, REJECTED
from dsm_jax.mine.loop.verdicts import mark_verdicts
from dsm_jax.mine.web.urls import domain_of

PREFIXES = {"yes.org/": True, "no.org/": False, "yes.org/not": False, "both.org/": None}
VALUES = {"yes.org": ACCEPTED, "no.org": REJECTED, "yes.org/not": REJECTED, "both.org": 0, "none.org": 0}


def verdicts(write_crawl, folder, urls, first, cuts=(), prefixes=PREFIXES):
    """int8 [pages] of a crawl of these URLs, in shards that end at the cuts."""
    places = [0, *sorted(cuts), len(urls)]
    shards = [[{"url": url, "domain": domain_of(url)} for url in urls[a:b]] for a, b in pairwise(places)]
    crawl = write_crawl(folder / "pages", shards)
    mark_verdicts(crawl, np.array(first, np.int64), Annotations(prefixes), folder / "verdicts.npy")
    return mapped_array(folder / "verdicts.npy").tolist()


def test_the_verdict_of_a_page_is_that_of_its_url(write_crawl, tmp_path):
    urls = [
        "https://www.yes.org/a",
        "http://yes.org/not/b",
        "https://no.org",
        "https://both.org/c",
        "https://x.org/",
    ]
    there = [ACCEPTED, REJECTED, REJECTED, 0, 0]
    assert verdicts(write_crawl, tmp_path / "a", urls, range(5), [2, 2]) == there
    assert verdicts(write_crawl, tmp_path / "b", urls, range(5), prefixes={}) == [0] * 5


@pytest.mark.parametrize(
    ("own", "duplicates", "verdict"),
    [
        ("none.org", ["yes.org"], ACCEPTED),  # a mirror came first
        ("none.org", ["none.org", "no.org"], REJECTED),
        ("none.org", ["yes.org", "none.org", "yes.org"], ACCEPTED),
        ("none.org", ["yes.org", "no.org"], 0),
        ("none.org", ["no.org", "yes.org"], 0),
        ("none.org", ["yes.org", "both.org"], 0),
        ("no.org", ["yes.org"], REJECTED),  # its URL would be in the corpus
        ("yes.org", ["no.org", "no.org"], ACCEPTED),  # mirrors of it are rejected
        ("both.org", ["yes.org"], 0),
    ],
)
def test_a_duplicate_counts_where_nothing_is_said_of_its_first_page(
    write_crawl, tmp_path, own, duplicates, verdict
):
    urls = [f"https://{host}/{i}" for i, host in enumerate([own, *duplicates])]
    for cuts in ([], [1], range(1, len(urls))):
        folder = tmp_path / f"cut {len(cuts)}"
        assert verdicts(write_crawl, folder, urls, [0] * len(urls), cuts)[0] == verdict


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_verdicts_are_those_of_every_group_of_duplicates(write_crawl, tmp_path_factory, data):
    hosts = data.draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=12))
    first = []
    for page in range(len(hosts)):
        before = data.draw(st.integers(0, page))
        first.append(first[before] if before < page else page)
    cuts = data.draw(st.lists(st.integers(0, len(hosts)), max_size=3))
    urls = [f"https://{host}/{i}" for i, host in enumerate(hosts)]
    made = verdicts(write_crawl, tmp_path_factory.mktemp("crawl"), urls, first, cuts)
    for page in set(first):
        others = {hosts[i] for i in range(len(hosts)) if first[i] == page and i != page} - {"none.org"}
        said = {VALUES[host] for host in ({hosts[page]} if hosts[page] != "none.org" else others)}
        assert made[page] == (said.pop() if len(said) == 1 else 0)


def test_prefixes_that_match_no_page_are_named(write_crawl, tmp_path, capsys):
    urls = ["https://yes.org/not/a", "https://no.org/b"]
    verdicts(write_crawl, tmp_path / "a", urls, range(2), prefixes=PREFIXES)
    said = "annotations: 4 prefixes (1 accepted, 2 rejected, 1 in conflict); 1 match no page of the crawl: both.org/\n"
    assert capsys.readouterr().err == said  # yes.org/ has a page, though a longer prefix decides on it
    verdicts(write_crawl, tmp_path / "b", urls, range(2), prefixes={f"a.org/{i}": True for i in range(9)})
    assert (
        "9 match no page of the crawl: a.org/0, a.org/1, a.org/2, a.org/3, a.org/4, ..\n"
        in capsys.readouterr().err
    )
    verdicts(write_crawl, tmp_path / "c", urls, range(2), prefixes={"no.org/": False})
    assert capsys.readouterr().err.endswith("; 0 match no page of the crawl\n")
    verdicts(write_crawl, tmp_path / "d", urls, range(2), prefixes={})
    assert capsys.readouterr().err == ""
