import json
import random
import tracemalloc
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.mine.annotate.annotations import Annotations, canonical_prefix
from dsm_jax.mine.annotate.prefixes import as_tree, folders, prefix_counts


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://www.A.org", ["a.org/"]),
        ("https://a.org/?q=/b/c", ["a.org/"]),
        ("https://a.org/node1", ["a.org/"]),
        ("https://a.org/b/c.html?d=e", ["a.org/", "a.org/b/"]),
        ("http://a.org/b/c/", ["a.org/", "a.org/b/"]),
    ],
)
def test_a_url_lies_in_its_host_and_its_folders(url, expected):
    assert folders(url) == expected


def test_a_crawler_trap_has_few_and_short_prefixes():
    assert len(folders("https://a.org/" + "x/" * 500)) == 12
    assert folders("https://a.org/" + "x" * 5000 + "/y/z") == ["a.org/"]


URL = st.builds("https://{}/{}".format, st.sampled_from(["a.org", "en.a.org"]), st.text("ab/?", max_size=8))
PAGE = st.tuples(st.just("a.org"), URL, st.floats(0, 1), st.booleans())


def is_host(prefix: str) -> bool:
    return prefix.index("/") == len(prefix) - 1


def is_own_page(url: str, folder: str) -> bool:
    return url.partition("?")[0].removeprefix("https://").rstrip("/") == folder.rstrip("/")


@given(st.lists(PAGE, max_size=40), st.randoms(use_true_random=False))
def test_counts_are_those_of_the_pages_that_a_decision_covers(pages, rng):
    rows = list(prefix_counts(pages))
    for row in rows:
        prefix = row["prefix"]
        assert canonical_prefix(prefix) == prefix
        covers = Annotations({prefix: True}).verdict
        inside = [
            page
            for page in pages
            if covers(page[1]) and (is_host(prefix) or not is_own_page(page[1], prefix))
        ]
        assert (row["pages"], row["collected"]) == (len(inside), sum(page[3] for page in inside))
        assert row["mean_score"] == pytest.approx(sum(page[2] for page in inside) / len(inside), abs=2e-6)
    rng.shuffle(pages)
    assert list(prefix_counts(pages)) == rows


def test_of_many_prefixes_the_largest_stay_and_lack_little():
    rng = random.Random(0)
    names = [f"f{i}" for i in range(5000)]
    weights = [1 / (i + 1) for i in range(5000)]
    pages = [
        (f"{rng.choice('ab')}.org", f"https://{{}}/{name}/{i}", 0.5, True)
        for i, name in enumerate(rng.choices(names, weights, k=40_000))
    ]
    pages = [(domain, url.format(domain), score, kept) for domain, url, score, kept in pages]
    true = Counter((domain, url.split("/")[3]) for domain, url, _, _ in pages)
    rows = list(prefix_counts(pages, limit=100))
    by_domain = defaultdict(list)
    for row in rows:
        by_domain[row["domain"]].append(row)
    assert list(by_domain) == ["a.org", "b.org"]
    for domain, own in by_domain.items():
        assert len(own) == 100 and own[0]["prefix"] == f"{domain}/"
        assert own[0]["pages"] == sum(page[0] == domain for page in pages)
        found = {row["prefix"].split("/")[1]: row["pages"] for row in own[1:]}
        assert all(found[f"f{i}"] >= 0.95 * true[domain, f"f{i}"] for i in range(50))
        assert all(count <= true[domain, name] for name, count in found.items())
    json.dumps(rows)


def test_memory_does_not_grow_with_the_number_of_prefixes():
    peaks = []
    for count in (2_000, 20_000):
        tracemalloc.start()
        pages = (("a.org", f"https://a.org/folder{i}/page", 0.0, False) for i in range(count))
        rows = list(prefix_counts(pages, limit=50))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(rows) == 50 and (rows[0]["prefix"], rows[0]["pages"]) == ("a.org/", count)
    assert peaks[1] < 1.3 * peaks[0]


PREFIX = st.builds("".join, st.lists(st.sampled_from(["a", "a/", "b/"]), min_size=1, max_size=4))


@given(st.dictionaries(PREFIX, st.integers(0, 9), max_size=12))
def test_a_tree_has_every_prefix_behind_the_longest_one_it_starts_with(pages):
    tree = as_tree(pages)
    assert sorted(prefix for prefix, _ in tree) == sorted(pages)
    path = []
    for prefix, depth in tree:
        path = [*path[:depth], prefix]
        assert len(path) == depth + 1
        above = [other for other in pages if prefix.startswith(other) and other != prefix]
        assert path[-2:-1] == ([max(above, key=len)] if above else [])
    for i, (prefix, depth) in enumerate(tree):
        after = next((other for other, d in tree[i + 1 :] if d <= depth), None)
        if after is not None and (after, depth) in tree[i + 1 :]:
            assert pages[prefix] >= pages[after]
