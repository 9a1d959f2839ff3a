"""Draws: the lowest keys whatever the order and the parts, and no large domain fills one."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.mine.loop.draw import Draw, DrawByDomain, random_keys

COUNTS = st.integers(0, 9)
PARTS = st.lists(st.integers(1, 7), max_size=10)  # sizes of what is added at once
KEYS = st.lists(st.integers(0, 9) | st.just(2**64 - 1), max_size=60)  # some are equal


def added(draw, parts, *columns):
    """The draw's pages after adding the columns in parts of these sizes, the rest at once; some parts hold nothing."""
    start = 0
    for size in [0, *parts, 10**6]:
        draw.add(*(column[start : start + size] for column in columns))
        start += size
    return draw.pages().tolist()


@given(KEYS, COUNTS, PARTS, st.randoms(use_true_random=False))
def test_a_draw_has_the_lowest_keys(keys, count, parts, rng):
    expected = sorted(range(len(keys)), key=lambda page: (keys[page], page))[:count]
    order = list(range(len(keys)))
    rng.shuffle(order)
    keys = np.array(keys, np.uint64)
    assert added(Draw(count), parts, keys[order], np.array(order, np.int64)) == expected


def by_rounds(keys, domains, count):
    """All first pages of their domains, then all second ones: rounds of [page], each in any order."""
    turns: dict[int, list[int]] = {}
    seen: Counter[int] = Counter()
    for page in sorted(range(len(keys)), key=lambda page: (keys[page], page)):
        turns.setdefault(seen[domains[page]], []).append(page)
        seen[domains[page]] += 1
    rounds = []
    for turn in sorted(turns):
        rounds.append(turns[turn][: max(0, count)])
        count -= len(turns[turn])
    return turns, [len(one) for one in rounds]


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), max_size=40),
    COUNTS,
    PARTS,
    st.randoms(use_true_random=False),
)
def test_every_domain_has_its_turn_before_any_has_another(pages, count, parts, rng):
    keys, domains = [key for key, _ in pages], [domain for _, domain in pages]
    turns, sizes = by_rounds(keys, domains, count)
    drawn = added(
        DrawByDomain(count),
        parts,
        np.array(keys, np.uint64),
        np.arange(len(keys)),
        np.array(domains, np.uint64),
    )
    assert len(drawn) == len(set(drawn)) == min(count, len(pages))
    at = 0
    for turn, size in zip(sorted(turns), sizes, strict=True):
        assert set(drawn[at : at + size]) <= set(turns[turn])
        at += size
    order = list(range(len(keys)))
    rng.shuffle(order)
    again = added(
        DrawByDomain(count),
        parts[::-1],
        np.array(keys, np.uint64)[order],
        np.array(order, np.int64),
        np.array(domains, np.uint64)[order],
    )
    assert again == drawn


def test_one_large_domain_cannot_fill_a_draw():
    rng = np.random.default_rng(0)
    domains = np.array([0] * 5000 + list(range(1, 21)), np.uint64)
    draw = DrawByDomain(25)
    for part in np.array_split(np.arange(len(domains)), 50):
        draw.add(rng.integers(0, 2**64, len(part), np.uint64), part, domains[part])
    assert Counter(domains[draw.pages()].tolist()) == {0: 5, **dict.fromkeys(range(1, 21), 1)}


def test_which_domains_come_first_is_random_and_other_in_each_round():
    domains = np.repeat(np.arange(200, dtype=np.uint64), 2)
    draw = DrawByDomain(300)
    draw.add(random_keys(np.arange(400), 5), np.arange(400), domains)
    first, second = domains[draw.pages()[:200]].tolist(), domains[draw.pages()[200:]].tolist()
    assert sorted(first) == list(range(200)) and len(set(second)) == 100
    places = [first.index(domain) for domain in second]
    assert 60 < np.mean(places) < 140 and sorted(first) != first


@pytest.mark.parametrize("salt", [0, 1, 2**64 - 1])
def test_random_keys_are_others_for_other_keys_evenly_spread(salt):
    keys = random_keys(np.arange(100_000), salt)
    assert keys.dtype == np.uint64 and len(np.unique(keys)) == len(keys)
    counts = np.bincount((keys >> np.uint64(60)).astype(int), minlength=16)
    assert abs(counts - 6250).max() < 5 * 6250**0.5


def test_draws_of_other_salts_have_nothing_to_do_with_each_other():
    keys, drawn = np.arange(100_000), []
    for salt in (3, 4):
        draw = Draw(10_000)
        draw.add(random_keys(keys, salt), keys)
        drawn.append(set(draw.pages().tolist()))
    assert abs(len(drawn[0] & drawn[1]) - 1000) < 150
    assert random_keys(keys, 3).tolist() == random_keys(keys, 3).tolist()
