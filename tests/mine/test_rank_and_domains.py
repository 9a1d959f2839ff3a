import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.errors import UserError
from dsm_jax.mine.domains import DomainCount, discover, read_annotations, url_folder
from dsm_jax.mine.iterate import draw_by_domain
from dsm_jax.mine.pages import canonical_url, domain_of
from dsm_jax.mine.rank import keep_top

PAGES = st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.integers(0, 50)), max_size=30)


@given(PAGES, st.integers(0, 400), st.randoms(use_true_random=False))
def test_top_pages_fill_the_budget_whatever_their_order(pages, budget, rng):
    keys = [f"key{i:02d}" for i in range(len(pages))]
    kept = keep_top([s for s, _ in pages], [n for _, n in pages], keys, budget)
    chosen = {key for key, is_kept in zip(keys, kept, strict=True) if is_kept}
    assert sum(n for (_, n), is_kept in zip(pages, kept, strict=True) if is_kept) <= budget
    order = list(range(len(pages)))
    rng.shuffle(order)
    again = keep_top(
        [pages[i][0] for i in order], [pages[i][1] for i in order], [keys[i] for i in order], budget
    )
    assert chosen == {keys[i] for i, is_kept in zip(order, again, strict=True) if is_kept}
    best_left = sorted((-s, k, n) for (s, n), k in zip(pages, keys, strict=True) if n and k not in chosen)
    worst_kept = max(((-s, k) for (s, _), k in zip(pages, keys, strict=True) if k in chosen), default=None)
    if best_left:
        assert worst_kept is None or worst_kept < best_left[0][:2]
        assert sum(n for (_, n), k in zip(pages, keys, strict=True) if k in chosen) + best_left[0][2] > budget


def test_domains_need_more_than_a_tenth():
    groups = ["ten.org"] * 10 + ["eleven.org"] * 10 + ["tiny.org"] + [""] * 3
    collected = [True] + [False] * 9 + [True] * 2 + [False] * 8 + [True] + [True] * 3
    assert discover(groups, collected, 0.1, 1) == [
        DomainCount("eleven.org", 10, 2),
        DomainCount("tiny.org", 1, 1),
    ]
    assert discover(groups, collected, 0.1, 10) == [DomainCount("eleven.org", 10, 2)]


def test_negatives_drawn_by_domain_hold_one_page_of_each_before_a_second():
    candidates = [("big.org", i) for i in range(1000)] + [(f"small{i}.org", 1000 + i) for i in range(20)]
    drawn = draw_by_domain(candidates, 21, Random(0))
    assert sum(page < 1000 for page in drawn) == 1 and len(set(drawn)) == 21
    assert sorted(draw_by_domain(candidates, 5000, Random(0))) == list(range(1020))


def test_urls_of_one_page_agree():
    same = ["http://www.a.org/x/", "https://a.org/x", "https://A.org/x#part"]
    assert len({canonical_url(url) for url in same}) == 1
    assert canonical_url("https://a.org/x?p=1") != canonical_url("https://a.org/x?p=2")
    assert canonical_url("hard::page.html") == "hard::page.html" and domain_of("hard::page.html") == ""
    assert domain_of("http://[broken/") == "" and domain_of("https://WWW.a.org:80/") == "a.org"
    assert url_folder("https://a.org/b/c.html?x=/y/z") == "a.org/b"


def test_the_longest_annotated_prefix_wins(tmp_path):
    path = tmp_path / "annotations.jsonl"
    rows = [{"prefix": "https://www.a.org/", "accept": True}, {"prefix": "a.org/history", "accept": False}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    annotations = read_annotations(path)
    assert annotations.verdict("https://a.org/proof/1") is True
    assert annotations.verdict("http://www.a.org/history/1") is False
    assert annotations.verdict("https://b.org/") is None


def test_annotated_prefixes_are_hosts_in_any_case_and_folders_with_their_own_page(tmp_path):
    path = tmp_path / "annotations.jsonl"
    rows = [{"prefix": "HTTPS://WWW.A.org", "accept": True}, {"prefix": "a.org/history/", "accept": False}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    annotations = read_annotations(path)
    for url in ("https://a.org", "https://A.org/", "https://a.org/?p=1", "https://a.org/historyofmaths"):
        assert annotations.verdict(url) is True
    for url in ("https://a.org/history", "https://a.org/history/?p=1", "https://a.org/history/x"):
        assert annotations.verdict(url) is False
    assert annotations.verdict("https://a.organic.com/") is None


@pytest.mark.parametrize("row", ["{", '{"prefix": "a.org"}', '{"prefix": "a.org", "accept": "yes"}', "[]"])
def test_a_bad_annotation_names_its_line(tmp_path, row):
    path = tmp_path / "annotations.jsonl"
    path.write_text('{"prefix": "a.org", "accept": true}\n' + row + "\n")
    with pytest.raises(UserError, match=r"annotations\.jsonl:2"):
        read_annotations(path)
