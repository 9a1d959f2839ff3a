"""What annotators see: files that candidates.py reads, counts of all pages, samples that no order of shards changes."""

import gzip
import json
from itertools import pairwise

import numpy as np
import pytest

from dsm_jax.mine.annotate.candidates import load_candidates
from dsm_jax.mine.loop import samples
from dsm_jax.mine.loop.marks import Marks
from dsm_jax.mine.loop.samples import TEXT_CHARACTERS, write_candidates

DOMAINS = [
    {"domain": "large.org", "pages": 300, "collected": 20, "words": 1500},
    {"domain": "small.org", "pages": 4, "collected": 4, "words": 20},
]


def marks_of(own):
    nothing = np.zeros(len(own), bool)
    return Marks(np.array(own, bool), nothing, nothing, nothing, nothing.astype(np.int8), nothing)


@pytest.fixture
def pages(make_page):
    """(row, has own text, score, kept) of 330 pages on three domains; some are duplicates."""
    urls = [f"https://www.large.org/{'ab'[i % 2]}/{i}" for i in range(310)] + [
        f"https://small.org/{i}" for i in range(4)
    ]
    urls += [f"https://other.org/{i}" for i in range(16)]
    rows = [make_page(url, f"text {i} " * 400 if i % 3 else "short") for i, url in enumerate(urls)]
    return [(row, 10 <= i, round(i / 330, 7), i % 15 == 0) for i, row in enumerate(rows)]


def written(write_crawl, folder, pages, cuts, domains=DOMAINS):
    places = [0, *cuts, len(pages)]
    rows = [row for row, *_ in pages]
    crawl = write_crawl(folder / "pages", [rows[a:b] for a, b in pairwise(places)], 50)
    iteration = folder / "iteration-01"
    iteration.mkdir()
    own, scores, kept = (np.array([page[i] for page in pages]) for i in (1, 2, 3))
    write_candidates(crawl, marks_of(own), domains, scores, kept, iteration)
    return load_candidates(folder), {path.name: path.read_bytes() for path in iteration.iterdir()}


def test_samples_are_pages_with_text_of_their_own_as_many_as_fit(write_crawl, tmp_path, pages, monkeypatch):
    monkeypatch.setattr(samples, "PAGES_A_DOMAIN", 50)
    found, _ = written(write_crawl, tmp_path, pages, [100, 100, 200])
    page_of = {row["url"]: (row, score, kept) for row, own, score, kept in pages if own}
    for domain, count in (("large.org", 50), ("small.org", 4)):
        rows = found.samples[domain]
        assert len(rows) == len({row["url"] for row in rows}) == count
        for row in rows:
            page, score, kept = page_of[row["url"]]
            assert (row["domain"], row["words"]) == (domain, page["words"]) == (page["domain"], page["words"])
            assert (row["score"], row["kept"], row["text"]) == (score, kept, page["text"][:TEXT_CHARACTERS])
    assert found.samples["other.org"] == [] and list(found.domains) == ["large.org", "small.org"]
    numbers = [int(row["url"].rpartition("/")[2]) for row in found.samples["large.org"]]
    assert (
        numbers == sorted(numbers) and max(numbers) - min(numbers) > 200
    )  # in the crawl's order, from all over it


def test_no_order_of_the_shards_changes_what_is_sampled(write_crawl, tmp_path, pages, monkeypatch):
    monkeypatch.setattr(samples, "PAGES_A_DOMAIN", 50)
    (one, names), (two, others) = (
        written(write_crawl, tmp_path / name, some, cuts)
        for name, some, cuts in (("a", pages, [100]), ("b", pages[::-1], [7, 300]))
    )
    for domain in one.domains:
        assert one.samples[domain] == two.samples[domain][::-1]
    assert {name: names[name] == others[name] for name in names} == {
        "domains.json": True,
        "prefixes.jsonl.gz": True,
        "samples.jsonl.gz": False,
    }


def test_prefixes_count_every_page_of_their_own_text(write_crawl, tmp_path, pages):
    found, _ = written(write_crawl, tmp_path, pages, [100])
    rows = {row["prefix"]: row for row in found.prefixes["large.org"]}
    for prefix, letters in (("large.org/", "ab"), ("large.org/a/", "a"), ("large.org/b/", "b")):
        starts = tuple(f"https://www.large.org/{letter}/" for letter in letters)
        inside = [page for page in pages if page[1] and page[0]["url"].startswith(starts)]
        assert rows[prefix]["pages"] == len(inside) and rows[prefix]["collected"] == sum(
            page[3] for page in inside
        )
        assert rows[prefix]["mean_score"] == pytest.approx(
            sum(page[2] for page in inside) / len(inside), abs=1e-5
        )
    assert [row["pages"] for row in found.prefixes["small.org"]] == [4]
    assert found.prefixes["other.org"] == []


def test_of_very_many_domains_the_first_have_samples(write_crawl, tmp_path, pages, monkeypatch):
    monkeypatch.setattr(samples, "MOST_DOMAINS", 1)
    found, _ = written(write_crawl, tmp_path, pages, [100])
    assert len(found.domains) == 2 and found.samples["large.org"] and not found.samples["small.org"]


def test_no_domain_leaves_files_that_read(write_crawl, tmp_path, pages):
    found, files = written(write_crawl, tmp_path, pages, [100], domains=[])
    assert found.iteration == 1 and not found.domains and len(files) == 3


def test_texts_and_urls_of_any_kind_are_one_line_each(write_crawl, tmp_path, make_page):
    texts = [
        "line\nline\u2028line\x85",
        "\ud800 half a pair".replace("\ud800", "?"),
        '"quoted" <b>bold</b> 数学',
    ]
    pages = [
        (make_page(f"https://large.org/{i}\u2028", text), True, 0.5, True) for i, text in enumerate(texts)
    ]
    found, files = written(write_crawl, tmp_path, pages, [])
    assert [row["text"] for row in found.samples["large.org"]] == texts
    lines = gzip.decompress(files["samples.jsonl.gz"]).split(b"\n")
    assert lines.pop() == b"" and [json.loads(line)["text"] for line in lines] == texts
