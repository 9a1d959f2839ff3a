"""Where the ranking is cut: against sorting all pages, whatever their order and parts, in bounded memory."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dsm_jax.mine.loop.rank import Cut, find_cut

# Scores as classify.predict gives them: of seven digits, often the last one before an end, or the end.
SCORES = st.sampled_from([0.0, 1e-7, 0.25, 0.4999999, 0.5, 0.5000001, 0.9999999, 1.0]) | st.integers(
    0, 10**7
).map(lambda units: round(units / 10**7, 7))
RANGE = 1 << 44  # of keys that are taken or left together where scores are tied
KEYS = st.builds(
    lambda place, more: place * RANGE + more, st.integers(1, 5), st.integers(0, 2)
) | st.integers(1, 2**64 - 1)
PAGES = st.lists(st.tuples(SCORES, st.integers(1, 50), KEYS), max_size=40, unique_by=lambda page: page[2])


def columns(pages):
    scores, words, keys = zip(*pages, strict=True) if pages else ((), (), ())
    return np.array(scores, np.float64), np.array(words, np.int64), np.array(keys, np.uint64)


def in_parts(pages, size):
    return lambda: (columns(pages[i : i + size]) for i in range(0, len(pages), size))


def kept_by_sorting(pages, budget):
    """The keys of the best pages that fit; tied ones by their range of keys, all of it or none."""
    pages = [page for page in pages if page[1] <= budget]
    kept, used = set(), 0
    groups: dict[tuple[float, int], list] = {}
    for score, words, key in pages:
        groups.setdefault((-score, key // RANGE), []).append((words, key))
    for group in sorted(groups):
        used += sum(words for words, _ in groups[group])
        if used > budget:
            break
        kept |= {key for _, key in groups[group]}
    return kept


@settings(max_examples=60)
@given(PAGES, st.integers(0, 1200), st.integers(1, 50), st.randoms(use_true_random=False))
@example([], 0, 1, None)
@example([(1.0, 3, 2**64 - 1), (1.0, 3, RANGE), (0.0, 3, 1)], 8, 2, None)
@example([(1.0, 30, 3), (0.5, 3, RANGE), (0.5, 12, 1)], 8, 2, None)
def test_the_cut_keeps_what_sorting_keeps(pages, budget, size, rng):
    expected = kept_by_sorting(pages, budget)
    cut = find_cut(in_parts(pages, size), budget)
    scores, words, keys = columns(pages)
    kept = cut.keeps(scores, words, keys)
    assert set(keys[kept].tolist()) == expected and words[kept].sum() <= budget
    if rng:
        rng.shuffle(pages)
        assert find_cut(in_parts(pages, 3), budget) == cut


def test_pages_without_a_tie_are_ranked_exactly():
    rng = np.random.default_rng(0)
    units = rng.permutation(np.unique(rng.integers(0, 10**7 + 1, 60_000))[:50_000])
    pages = list(
        zip((units / 10**7).tolist(), rng.integers(1, 9, 50_000).tolist(), range(1, 50_001), strict=True)
    )
    scores, words, keys = columns(pages)
    order = np.argsort(-scores)
    for place in (1, 2, 777, 49_999):
        budget = int(words[order[:place]].sum())
        for given_budget in (budget, budget + int(words[order[place]]) - 1):
            kept = find_cut(in_parts(pages, 5000), given_budget).keeps(scores, words, keys)
            assert np.flatnonzero(kept).tolist() == sorted(order[:place].tolist())


@pytest.mark.parametrize("score", [0.0, 1e-7, 0.5, 0.9999999, 1.0])
def test_where_all_scores_are_tied_random_keys_fill_the_budget(score):
    keys = np.random.default_rng(0).integers(1, 2**64, 200_000, np.uint64)
    part = (np.full(len(keys), score), np.full(len(keys), 10), keys)
    kept = find_cut(lambda: [part], 1_000_005).keeps(*part)
    assert 0.999 * 100_000 <= kept.sum() <= 100_000
    assert keys[kept].max() < keys[~kept].min()


def test_a_budget_of_nothing_and_one_beyond_all():
    scores, words, keys = columns([(1.0, 5, 1), (1.0, 5, 2**64 - 1), (0.0, 5, 3)])
    kept = [
        find_cut(lambda: [(scores, words, keys)], budget).keeps(scores, words, keys).sum()
        for budget in (0, 4, 5, 9, 10, 15, 99)
    ]
    assert kept == [0, 0, 1, 1, 2, 3, 3]
    assert find_cut(list, 7).keeps(*columns([(0.0, 7, 2**64 - 1)])).all()


def test_a_page_longer_than_the_budget_does_not_empty_the_corpus():
    pages = [(1.0, 1000, 1), (0.9, 4, 2), (0.5, 5, 3), (0.5, 11, 4), (0.1, 5, 5)]
    scores, words, keys = columns(pages)
    kept = find_cut(in_parts(pages, 2), 10).keeps(scores, words, keys)
    assert keys[kept].tolist() == [2, 3]


def test_ranking_passes_twice_over_the_pages():
    passes = []

    def shards():
        passes.append(1)
        return [columns([(0.5, 2, 1), (0.25, 2, 2)])]

    find_cut(shards, 3)
    assert len(passes) == 2


def test_the_least_score_without_a_budget_keeps_pages_of_that_score():
    scores = np.array([0.4999999, 0.5, 0.5, 1.0])
    keys = np.array([1, 2, 2**64 - 1, 4], np.uint64)
    assert Cut(0.5).keeps(scores, np.full(4, 10**12), keys).tolist() == [False, True, True, True]


@pytest.mark.parametrize("score", [1.0, 0.25])
def test_memory_does_not_grow_with_pages_of_one_score(score):
    """A classifier that is sure gives most of what is kept the score 1."""
    part = np.random.default_rng(0)

    def shards(count):
        for _ in range(count):
            yield np.full(10_000, score), np.full(10_000, 3), part.integers(1, 2**64, 10_000, np.uint64)

    peaks = []
    for count in (10, 100):
        tracemalloc.start()
        find_cut(lambda count=count: shards(count), 15_000 * count)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.05 * peaks[0] and peaks[1] < 200e6
