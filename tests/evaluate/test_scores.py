"""Scores against brute force and by simulation."""

import itertools
from math import isclose

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.errors import UserError
from dsm_jax.evaluate.scores import Interval, majority_at_k, paired_difference, pass_at_k, share

SAMPLES = st.lists(st.booleans(), min_size=5, max_size=5)


def test_wilson_agrees_with_published_numbers():
    """Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for successes, n, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        interval = share([True] * successes + [False] * (n - successes))
        assert interval.n == n and interval.value == successes / n
        assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


@pytest.mark.parametrize("p, n", [(0.5, 250), (0.4, 1000), (0.9, 250), (0.97, 1000)])
def test_wilson_covers_the_truth(p, n):
    successes = np.random.default_rng(0).binomial(n, p, 20_000)
    intervals = {int(s): share(np.arange(n) < s) for s in np.unique(successes)}
    covered = [intervals[int(s)].low <= p <= intervals[int(s)].high for s in successes]
    assert 0.935 <= np.mean(covered) <= 0.97


@pytest.mark.parametrize(
    "both, ours, theirs, n", [(0.3, 0.2, 0.1, 1000), (0.4, 0.1, 0.1, 250), (0.5, 0.03, 0.01, 1000)]
)
def test_paired_interval_covers_the_truth(both, ours, theirs, n):
    rng = np.random.default_rng(1)
    table = rng.multinomial(n, [both, ours, theirs, 1 - both - ours - theirs], 3000)
    covered = []
    for b, o, t, _ in table:
        first = np.arange(n) < b + o
        second = (np.arange(n) < b) | ((np.arange(n) >= b + o) & (np.arange(n) < b + o + t))
        interval = paired_difference(first, second)
        assert isclose(interval.value, (o - t) / n, abs_tol=1e-12)
        covered.append(interval.low <= ours - theirs <= interval.high)
    assert 0.935 <= np.mean(covered) <= 0.97


def test_paired_interval_uses_the_pairs():
    ours = np.arange(1000) < 500
    close = paired_difference(ours, np.arange(1000) < 450)
    far = paired_difference(ours, np.roll(np.arange(1000) < 450, 400))
    assert isclose(close.value, 0.05) and isclose(far.value, 0.05)
    assert close.low > 0 > far.low


def test_no_disagreement_is_not_certainty():
    interval = paired_difference([True] * 100, [True] * 100)
    assert interval.value == 0 and -0.05 < interval.low < 0 < interval.high < 0.05


@given(st.lists(SAMPLES, min_size=1, max_size=6), st.integers(1, 5))
def test_pass_at_k_is_the_mean_over_all_subsets(correct, k):
    brute = np.mean([[any(subset) for subset in itertools.combinations(row, k)] for row in correct])
    interval = pass_at_k(correct, k)
    assert isclose(interval.value, brute, abs_tol=1e-12)
    assert 0 <= interval.low <= interval.value + 1e-12 and interval.value - 1e-12 <= interval.high <= 1


@given(
    st.lists(st.lists(st.sampled_from(["1", "2", "3", None]), min_size=4, max_size=4), min_size=1, max_size=6)
)
def test_majority_is_the_most_frequent_answer(keys):
    correct = [[key == "1" for key in row] for row in keys]
    expected = []
    for row in keys:
        voted = [key for key in row if key is not None]
        winner = max(voted, key=lambda key: (voted.count(key), -voted.index(key)), default=None)
        expected.append(winner == "1")
    assert majority_at_k(keys, correct, 4) == share(expected)


def test_majority_takes_the_first_k_and_ties_go_to_the_first_seen():
    keys, correct = [["7", "8", "8", None]], [[True, False, False, False]]
    assert majority_at_k(keys, correct, 2).value == 1
    assert majority_at_k(keys, correct, 3).value == 0
    assert majority_at_k([[None, None]], [[False, False]], 2).value == 0


def test_one_problem():
    assert share([True]) == Interval(1, 1.0, pytest.approx(0.2065, abs=1e-4), 1.0)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: share([]), "share: no problems"),
        (lambda: paired_difference([True], [True, False]), "1 scores against 2"),
        (lambda: pass_at_k([[True, False]], 3), "k = 3 with 2 samples"),
        (lambda: pass_at_k([[True, False]], 0), "k = 0"),
        (lambda: majority_at_k([["1"]], [[True]], 2), "k = 2 with 1 samples"),
        (lambda: majority_at_k([["1"]], [], 1), "answers of 1 problems, verdicts of 0"),
    ],
)
def test_bad_input_is_one_line(call, words):
    with pytest.raises(UserError, match=words):
        call()
