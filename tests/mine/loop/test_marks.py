"""Marks: at first pages, held-out pages trained on by no one, rejected ones collected by no one."""

import json
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.errors import UserError
from dsm_jax.mine.crawl import mapped_array
from dsm_jax.mine.duplicates import find_duplicates
from dsm_jax.mine.loop import marks as marks_module
from dsm_jax.mine.loop.marks import ACCEPTED, REJECTED, Marks, mark_inputs
from dsm_jax.mine.loop.seed import NO_EXAMPLES, HeldOut, Inputs, read_examples
from dsm_jax.mine.web.urls import canonical_url, key_of

TEXTS = {name: f"{name} has words of its own" for name in ("ring", "field", "group", "lattice", "hotel")}
PAGES = [
    ("https://first.org/ring", "ring"),
    ("https://seed.org/ring", "ring"),  # 1: a copy of 0
    ("https://held.org/field", "field"),
    ("https://copy.org/field", "field"),  # 3: a copy of 2
    ("https://first.org/group", "group"),
    ("https://held.org/group", "group"),  # 5: a copy of 4
    ("https://empty.org/", None),
    ("https://text.org/lattice", "lattice"),
    ("https://hotel.org/", "hotel"),
]
SHARDS = (0, 2, 2, 5, 9)


@pytest.fixture
def crawl_with_copies(write_crawl, make_page, tmp_path):
    rows = [make_page(url, TEXTS.get(name, "")) for url, name in PAGES]
    crawl = write_crawl(tmp_path / "pages", [rows[a:b] for a, b in pairwise(SHARDS)])
    find_duplicates(tmp_path / "pages", tmp_path / "duplicates.npy")
    return crawl, mapped_array(tmp_path / "duplicates.npy")


def url_keys(*urls):
    return np.array(sorted(key_of(canonical_url(url)) for url in urls), np.uint64)


def examples(texts=(), urls=()):
    return rows([{"text": text} for text in texts] + [{"url": url} for url in urls])


def rows(rows):
    """What is read from a file of these."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "seed.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return read_examples("--seed", [file], 100)


def held_out(*urls):
    return HeldOut(url_keys(*urls), np.ones(len(urls), np.int8))


def marked(folder, name):
    return np.flatnonzero(mapped_array(folder / f"{name}.npy")).tolist()


def test_a_mark_stands_at_the_first_page(crawl_with_copies, tmp_path):
    seed = examples(
        ["Lattice has words, of its own!", "a text of no page"], ["http://seed.org/ring#x", "https://no.org"]
    )
    inputs = Inputs(
        seed,
        examples(urls=["https://copy.org/field"]),
        held_out("https://held.org/field", "https://held.org/group"),
    )
    left = mark_inputs(*crawl_with_copies, inputs, tmp_path / "marks")
    names = ("own_text", "held_out", "seed", "negatives", "nothing")
    assert {name: marked(tmp_path / "marks", name) for name in names} == {
        "own_text": [0, 2, 4, 7, 8],
        "held_out": [2, 4, 5],  # 4: the first page of 5
        "seed": [0, 7],
        "negatives": [2],
        "nothing": [],
    }
    assert left.seed.texts == ("a text of no page",)  # the page stands for the other
    assert np.array_equal(left.seed.url_keys, seed.url_keys) and left.negatives.texts == ()
    assert left.held_out is inputs.held_out


def test_marks_are_made_once_and_say_the_same_again(crawl_with_copies, tmp_path, monkeypatch):
    inputs = Inputs(
        examples(["lattice has words of its own", "another"]),
        examples(["hotel has words of its own", "more"]),
    )
    once = mark_inputs(*crawl_with_copies, inputs, tmp_path / "marks")
    monkeypatch.setattr(marks_module, "page_array", None)
    again = mark_inputs(*crawl_with_copies, inputs, tmp_path / "marks")
    assert once.seed.texts == again.seed.texts == ("another",)
    assert once.negatives.texts == again.negatives.texts == ("more",)


def test_how_many_of_the_examples_the_crawl_has_is_said_at_every_start(crawl_with_copies, tmp_path, capsys):
    seed = examples(["a text of no page"], ["https://seed.org/ring", "https://hotel.org/", "https://no.org"])
    for _ in range(2):
        mark_inputs(*crawl_with_copies, Inputs(seed), tmp_path / "marks")
        assert capsys.readouterr().err == "--seed: 3 urls and 1 texts; 2 pages of the crawl are these\n"


def test_how_many_of_the_held_out_urls_the_crawl_has_is_said_at_every_start(
    crawl_with_copies, tmp_path, capsys
):
    """Of urls, though the first page of one that is a copy is held out too; an unknown label is none."""
    urls = ["https://held.org/group", "https://hotel.org/", "https://seed.org/ring", "https://no.org"]
    unknown = key_of(canonical_url(urls[1]))
    keys = url_keys(*urls)
    labels = np.where(keys == unknown, -1, 1).astype(np.int8)
    inputs = Inputs(examples(["another"]), None, HeldOut(keys, labels))
    for _ in range(2):
        mark_inputs(*crawl_with_copies, inputs, tmp_path / "marks")
        said = "--held-out: 4 urls; 3 are pages of the crawl, 2 of these with a label"
        assert capsys.readouterr().err.splitlines()[1:] == [said]


def test_without_negatives_there_are_none(crawl_with_copies, tmp_path):
    left = mark_inputs(*crawl_with_copies, Inputs(examples(["another"])), tmp_path / "marks")
    assert left.negatives is None and marked(tmp_path / "marks", "negatives") == []


def test_a_held_out_pages_text_is_no_seed_text(crawl_with_copies, tmp_path):
    inputs = Inputs(
        examples(["field has words of its own", "another"]), None, held_out("https://copy.org/field")
    )
    left = mark_inputs(*crawl_with_copies, inputs, tmp_path / "marks")
    assert left.seed.texts == ("another",) and marked(tmp_path / "marks", "held_out") == [2, 3]


def test_a_row_with_the_url_of_a_page_stands_for_that_page_and_its_text_is_not_used(
    crawl_with_copies, tmp_path
):
    given = rows(
        [
            {"url": "https://first.org/ring", "text": "another extractor made this of the first page"},
            {"url": "http://held.org/group#part", "text": "and this of a copy"},
            {"url": "https://no.org/", "text": "of no page"},
            {"text": "without a url"},
            {"url": "https://empty.org/", "text": "of a page on which nothing was found"},
        ]
    )
    stay = {"of no page", "without a url", "of a page on which nothing was found"}
    for number, inputs in enumerate((Inputs(given), Inputs(examples(["other"]), given))):
        for _ in range(2):  # a restart
            left = mark_inputs(*crawl_with_copies, inputs, tmp_path / f"{number}")
            assert set((left.negatives or left.seed).texts) == stay
        assert marked(tmp_path / f"{number}", "negatives" if inputs.negatives else "seed") == [0, 4]


def test_a_seed_of_urls_that_are_nowhere_is_one_line(crawl_with_copies, tmp_path):
    with pytest.raises(UserError, match="none of its 2 urls is a page") as caught:
        inputs = Inputs(examples(urls=["https://no.org", "https://nor.org"]))
        mark_inputs(*crawl_with_copies, inputs, tmp_path / "marks")
    assert "\n" not in str(caught.value)
    for match in (NO_EXAMPLES.match_urls, NO_EXAMPLES.match_texts):
        assert match(np.array([0, 1], np.uint64)).tolist() == [False, False]


FLAGS = ("has_own_text", "held_out", "seed", "of_negatives", "collected")
PAGE = st.fixed_dictionaries(dict.fromkeys(FLAGS, st.booleans()) | {"verdicts": st.sampled_from([-1, 0, 1])})


@given(st.lists(PAGE, max_size=30), st.integers(0, 5))
def test_who_may_be_what(pages, start):
    marks = Marks(
        **{
            name: np.array([page[name] for page in pages], np.int8 if name == "verdicts" else bool)
            for name in PAGE_FIELDS
        }
    )
    shard = SimpleNamespace(pages=slice(min(start, len(pages)), len(pages)))
    sets = {
        name: set(np.flatnonzero(getattr(marks, name)(shard)).tolist())
        for name in (
            "positives",
            "negatives",
            "own_negatives",
            "other_negatives",
            "rejected",
            "accepted",
            "uncollected",
        )
    }
    for name, rejected_too in (("collectable", False), ("collectable_at_all", True)):
        sets[name] = set(np.flatnonzero(marks.collectable(shard, rejected_too=rejected_too)).tolist())
    for i, page in enumerate(pages[start:]):
        roles = {name for name, those in sets.items() if i in those}
        assert roles == expected_roles(page)
        assert len(roles & {"positives", "negatives", "rejected"}) <= 1


PAGE_FIELDS = (*FLAGS, "verdicts")


def expected_roles(page):
    """As the words of the loop have it: a page's roles in an iteration."""
    if not page["has_own_text"]:
        return set()
    is_rejected = page["verdicts"] == REJECTED
    roles = {"collectable_at_all"} | (set() if is_rejected else {"collectable"})
    if page["held_out"]:
        return roles  # scored, and maybe collected; trained on by no one
    if not page["collected"]:
        roles |= {"uncollected"}
    if page["verdicts"] == ACCEPTED and (page["seed"] or not page["collected"]):
        roles |= {"accepted"}
    if page["seed"]:
        return roles | {"positives"}
    if is_rejected:
        return roles | {"rejected"}
    if not page["collected"]:
        roles |= {"negatives", "own_negatives" if page["of_negatives"] else "other_negatives"}
    return roles
