"""What is trained on: nobody who may not be, as many negatives as positives, the same whatever the order of the shards."""

import math
from collections import Counter
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsm_jax.errors import UserError
from dsm_jax.mine.config import MineConfig
from dsm_jax.mine.loop import training_set
from dsm_jax.mine.loop.classify import MATH, OTHER
from dsm_jax.mine.loop.marks import REJECTED, Marks
from dsm_jax.mine.loop.seed import NO_EXAMPLES, Examples
from dsm_jax.mine.loop.training_set import choose, write_training_file
from dsm_jax.mine.web.urls import key_of

COUNT = 60
CONFIG = MineConfig(most_rejected=0.5, max_seed_pages=10)
FLAGS = [field.name for field in fields(Marks)]


def rows_of(make_page, order):
    return [
        make_page(f"https://site{i % 7}.org/{i}", f"page {chr(97 + i // 26)} {chr(97 + i % 26)} 数")
        for i in order
    ]


@pytest.fixture(scope="module")
def crawls(write_crawl, make_page, tmp_path_factory):
    """The same pages twice: in 5 shards, and in reversed order in 2."""
    folder, numbers = tmp_path_factory.mktemp("crawls"), list(range(COUNT))
    forward, backward = rows_of(make_page, numbers), rows_of(make_page, numbers[::-1])
    return (
        write_crawl(folder / "a", [forward[i : i + 12] for i in range(0, COUNT, 12)]),
        write_crawl(folder / "b", [backward[:7], [], backward[7:]]),
    )


def marks_of(**flags):
    """Pages with text and no other mark, but for the pages of each flag (verdicts: those that are rejected)."""
    arrays = {name: np.zeros(COUNT, bool) for name in FLAGS} | {"verdicts": np.zeros(COUNT, np.int8)}
    arrays["has_own_text"][:] = True
    for name, pages in flags.items():
        arrays[name][sorted(pages)] = REJECTED if name == "verdicts" else name != "has_own_text"
    return Marks(**arrays)


def reversed_marks(marks):
    return Marks(**{name: getattr(marks, name)[::-1] for name in FLAGS})


def texts(*some):
    keys = sorted((key_of(text), text) for text in some)
    text_keys = np.array([key for key, _ in keys], np.uint64)
    no_urls = np.zeros(len(keys), np.uint64)
    return Examples(tuple(text for _, text in keys), text_keys, no_urls, np.zeros(0, np.uint64))


def pages(chosen):
    return set(chosen.positives.tolist()), set(chosen.negatives.tolist())


SETS = st.sets(st.integers(0, COUNT - 1), max_size=40)


@settings(max_examples=40)
@given(
    st.fixed_dictionaries(dict.fromkeys(FLAGS, SETS)),
    st.integers(1, 12),
    st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    st.sampled_from(["page", "domain"]),
)
def test_nobody_is_trained_on_who_may_not_be(crawls, flags, most, share, by):
    marks = marks_of(**flags)
    free = set(range(COUNT)) - flags["has_own_text"] - flags["held_out"]
    positives, rejected = free & flags["seed"], (free - flags["seed"]) & flags["verdicts"]
    others = free - flags["seed"] - flags["verdicts"] - flags["collected"]
    config = replace(CONFIG, max_seed_pages=most, most_rejected=share, negatives_by=by)
    count = min(most, len(positives))
    of_rejected = min(len(rejected), math.ceil(count * share))
    of_others = min(len(others), count - of_rejected)
    if not count or not of_rejected + of_others:
        with pytest.raises(UserError, match="no (seed|negative) page") as caught:
            choose(crawls[0], marks, NO_EXAMPLES, None, config, 2)
        assert "\n" not in str(caught.value)
        return
    chosen = choose(crawls[0], marks, NO_EXAMPLES, None, config, 2)
    those, against = pages(chosen)
    assert those <= positives and against <= rejected | others
    assert len(chosen.positives) == len(those) == count
    assert chosen.rejected == len(against & rejected) == of_rejected
    assert len(chosen.negatives) == len(against) == of_rejected + of_others
    again = choose(crawls[1], reversed_marks(marks), NO_EXAMPLES, None, config, 2)
    assert [{COUNT - 1 - page for page in some} for some in pages(again)] == [those, against]


def test_the_users_texts_and_pages_are_drawn_together(crawls):
    seed, negatives = (
        texts(*(f"seed text {i}" for i in range(30))),
        texts(*(f"negative text {i}" for i in range(30))),
    )
    marks = marks_of(seed=range(30), of_negatives=range(20, 60), held_out=range(50, 60))
    chosen = choose(crawls[0], marks, seed, negatives, replace(CONFIG, max_seed_pages=20), 1)
    assert (
        len(chosen.positives) + len(chosen.positive_texts)
        == 20
        == sum(map(len, (chosen.negatives, chosen.negative_texts)))
    )
    assert (
        min(map(len, (chosen.positives, chosen.positive_texts, chosen.negatives, chosen.negative_texts))) >= 4
    )
    assert set(chosen.positive_texts) < set(seed.texts) and set(chosen.negative_texts) < set(negatives.texts)
    assert set(chosen.negatives.tolist()) <= set(range(30, 50))  # no seed page, none held out
    assert chosen.counts() == {"positives": 20, "negatives": 20, "rejected_negatives": 0}
    again = choose(crawls[1], reversed_marks(marks), seed, negatives, replace(CONFIG, max_seed_pages=20), 1)
    assert set(again.positive_texts) == set(chosen.positive_texts)


def test_few_negatives_of_the_user_are_all_there_are(crawls):
    chosen = choose(crawls[0], marks_of(seed=range(30)), NO_EXAMPLES, texts("one", "two"), CONFIG, 1)
    assert chosen.counts() == {"positives": 10, "negatives": 2, "rejected_negatives": 0}
    rejecting = marks_of(seed=range(30), verdicts=range(40, 60))
    chosen = choose(crawls[0], rejecting, NO_EXAMPLES, texts("one", "two"), CONFIG, 1)
    assert chosen.counts() == {"positives": 10, "negatives": 7, "rejected_negatives": 5}


def test_from_iteration_2_random_pages_are_added_to_few_negatives_of_the_user(crawls):
    marks = marks_of(seed=range(30), collected=range(30, 50), of_negatives=range(50, 53))
    chosen = choose(crawls[0], marks, NO_EXAMPLES, texts("one", "two"), CONFIG, 2)
    assert chosen.counts()["negatives"] == 10 and set(chosen.negative_texts) == {"one", "two"}
    assert {50, 51, 52} < set(chosen.negatives.tolist()) <= set(range(50, COUNT))


def test_each_iteration_and_each_seed_of_randomness_draws_anew(crawls):
    marks = marks_of(seed=range(30))
    drawn = [
        pages(choose(crawls[0], marks, NO_EXAMPLES, None, replace(CONFIG, rng_seed=seed), number))
        for seed, number in ((0, 1), (0, 2), (1, 1), (0, 1))
    ]
    assert drawn[0] == drawn[3]
    for i in (1, 2):
        assert drawn[i][0] != drawn[0][0] and drawn[i][1] != drawn[0][1]


def test_by_domain_a_large_site_does_not_fill_the_negatives(write_crawl, make_page, tmp_path):
    urls = [f"https://big.org/{i}" for i in range(COUNT - 9)] + [f"https://small{i}.org/" for i in range(9)]
    crawl = write_crawl(tmp_path / "pages", [[make_page(url, f"text of {url}") for url in urls]], 100)
    for by, large in (("domain", (1, 1)), ("page", (5, 10))):
        chosen = choose(
            crawl, marks_of(seed=range(20)), NO_EXAMPLES, None, replace(CONFIG, negatives_by=by), 1
        )
        assert large[0] <= sum(page < COUNT - 9 for page in chosen.negatives.tolist()) <= large[1]


def write(crawl, marks, folder, salt="0 1", seed=NO_EXAMPLES):
    folder.mkdir(exist_ok=True)
    chosen = choose(crawl, marks, seed, texts("a negative", "数学"), CONFIG, 1)
    write_training_file(crawl, chosen, folder / "train.txt", salt)
    return chosen, (folder / "train.txt").read_text(encoding="utf-8")


def test_the_file_holds_each_text_once_and_no_other(crawls, make_page, tmp_path):
    marks = marks_of(seed=range(15), of_negatives=range(20, 60))
    chosen, written = write(crawls[0], marks, tmp_path, seed=texts("a seed text", "数 学"))
    tokens = [row["tokens"] for row in rows_of(make_page, range(COUNT))]
    expected = [f"{MATH} {tokens[page]}" for page in chosen.positives] + [
        f"{MATH} {text}" for text in chosen.positive_texts
    ]
    expected += [f"{OTHER} {tokens[page]}" for page in chosen.negatives] + [
        f"{OTHER} {text}" for text in chosen.negative_texts
    ]
    assert written.endswith("\n") and Counter(written.split("\n")[:-1]) == Counter(expected)
    assert len(expected) == 20 and [path.name for path in tmp_path.iterdir()] == ["train.txt"]


def test_the_order_is_random_and_no_order_of_shards_changes_it(crawls, tmp_path):
    marks = marks_of(seed=range(30), of_negatives=range(30, 60))
    _, written = write(crawls[0], marks, tmp_path / "a")
    assert write(crawls[1], reversed_marks(marks), tmp_path / "b")[1] == written
    labels = [line.partition(" ")[0] for line in written.splitlines()]
    assert 4 < sum(a != b for a, b in pairwise(labels)) < 19
    _, other = write(crawls[0], marks, tmp_path / "c", salt="0 2")
    assert other != written and sorted(other.splitlines()) == sorted(written.splitlines())


def test_one_bucket_or_many_give_the_same_file(crawls, tmp_path, monkeypatch):
    marks = marks_of(seed=range(30))
    _, written = write(crawls[0], marks, tmp_path / "a")
    monkeypatch.setattr(training_set, "BUCKETS", 1)
    assert write(crawls[0], marks, tmp_path / "b")[1] == written


def test_killed_while_writing_the_restart_writes_the_same(crawls, tmp_path, monkeypatch):
    marks = marks_of(seed=range(30))
    _, written = write(crawls[0], marks, tmp_path / "a")
    real = training_set._lines

    def cut(*args):
        for i, line in enumerate(real(*args)):
            if i == 6:
                raise KeyboardInterrupt
            yield line

    with monkeypatch.context() as patch:
        patch.setattr(training_set, "_lines", cut)
        with pytest.raises(KeyboardInterrupt):
            write(crawls[0], marks, tmp_path / "b")
    assert not (tmp_path / "b" / "train.txt").exists()
    assert write(crawls[0], marks, tmp_path / "b")[1] == written
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["train.txt"]
