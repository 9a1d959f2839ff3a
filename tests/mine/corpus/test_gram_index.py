"""The index finds what a plain search finds, whatever its hashes do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.mine.corpus import gram_index
from dsm_jax.mine.corpus.gram_index import GramIndex, equal_keys

LETTERS = st.text("ab", max_size=60).map(str.encode)  # of two letters: repeats, and keys within keys


@st.composite
def keys_of(draw, letters):
    spans = st.tuples(st.integers(0, max(len(letters) - 3, 0)), st.integers(3, 30))
    spans = draw(st.lists(spans, max_size=20)) if len(letters) >= 3 else []
    return [(start, min(start + length, len(letters))) for start, length in spans]


@st.composite
def searches(draw):
    known, page = draw(LETTERS), draw(LETTERS)
    page += draw(st.sampled_from([b"", known]))
    places = draw(st.sets(st.integers(0, len(page) - 1))) if page else set()
    return known, draw(keys_of(known)), page, sorted(places)


def index_of(letters, keys):
    starts, ends = np.array(keys, np.int64).reshape(-1, 2).T
    return GramIndex(letters, starts, ends)


def plain_search(letters, keys, page, places):
    return {
        (place, number)
        for place in places
        for number, (start, end) in enumerate(keys)
        if page[place : place + end - start] == letters[start:end]
    }


@given(searches())
def test_it_finds_what_a_plain_search_finds(search):
    letters, keys, page, places = search
    found = list(index_of(letters, keys).find(page, np.array(places, np.int64)))
    assert len(found) == len(set(found)) and set(found) == plain_search(letters, keys, page, places)


@pytest.mark.parametrize("odd", [0, 1, 1 << 60])
def test_colliding_hashes_find_nothing_else(monkeypatch, odd):
    monkeypatch.setattr(gram_index, "_ODD", np.uint64(odd))
    letters = b"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"
    keys = [(start, start + length) for start in range(20) for length in (3, 7, 8, 15, 16, 23, 24, 30)]
    page = b"xx" + letters[3:40] + b"abcx" + letters[10:20]
    places = list(range(len(page)))
    found = list(index_of(letters, keys).find(page, np.array(places)))
    assert set(found) == plain_search(letters, keys, page, places) and len(found) > 100


@given(
    LETTERS.filter(lambda letters: len(letters) >= 3).flatmap(
        lambda letters: st.tuples(st.just(letters), keys_of(letters))
    )
)
def test_equal_keys_are_told_together(known):
    letters, keys = known
    expected = {}
    for number, (start, end) in enumerate(keys):
        expected.setdefault(letters[start:end], []).append(number)
    starts, ends = np.array(keys, np.int64).reshape(-1, 2).T
    told = list(equal_keys(letters, starts, ends))
    assert sorted(told) == sorted(group for group in expected.values() if len(group) > 1)


def test_an_empty_index_and_an_empty_page():
    assert list(index_of(b"", []).find(b"abc", np.array([0, 1]))) == []
    assert list(index_of(b"abc", [(0, 3)]).find(b"", np.array([], np.int64))) == []
