"""Scores over k samples against brute force: every choice of k samples, every order."""

import itertools
from collections import Counter
from math import isclose

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.errors import UserError
from dsm_jax.evaluate.at_k import best_of_k, majority_at_k, pass_at_k, usual_ks, weighted_majority_at_k

SAMPLES = st.lists(st.booleans(), min_size=5, max_size=5)
VOTES = st.lists(st.sampled_from(["1", "2", "3", "4", None]), min_size=6, max_size=6)
K = st.integers(1, 5)


@given(st.lists(SAMPLES, min_size=1, max_size=6), K)
def test_pass_at_k_is_the_mean_over_all_subsets(correct, k):
    brute = np.mean([[any(subset) for subset in itertools.combinations(row, k)] for row in correct])
    interval = pass_at_k(correct, k)
    assert isclose(interval.value, brute, abs_tol=1e-12)
    assert 0 <= interval.low <= interval.value + 1e-12 and interval.value - 1e-12 <= interval.high <= 1


def wins(votes: tuple, right: set[str]) -> float:
    """Of the answers that lead, the share that is right."""
    counts = Counter(vote for vote in votes if vote is not None)
    leading = [vote for vote, count in counts.items() if count == max(counts.values())]
    return sum(vote in right for vote in leading) / max(1, len(leading))


@given(
    st.lists(VOTES, min_size=1, max_size=4), st.sets(st.sampled_from("1234"), max_size=2), st.integers(1, 6)
)
def test_majority_is_the_mean_over_all_subsets(votes, right, k):
    correct = [[vote in right for vote in row] for row in votes]
    brute = np.mean([[wins(some, right) for some in itertools.combinations(row, k)] for row in votes])
    assert isclose(majority_at_k(votes, correct, k).value, brute, abs_tol=1e-9)


def test_majority_of_many_samples_stays_exact():
    """Of 512 samples the right answer has 300, the other 212: at k = 1 its share, at k = 500 certainty."""
    votes = [["a"] * 300 + ["b"] * 212]
    correct = [[vote == "a" for vote in votes[0]]]
    assert isclose(majority_at_k(votes, correct, 1).value, 300 / 512)
    assert majority_at_k(votes, correct, 500).value == pytest.approx(1)
    many = [["a"] * 1200 + ["b"] * 900]
    assert 0.99 < majority_at_k(many, [[vote == "a" for vote in many[0]]], 1050).value <= 1 + 1e-9


@given(st.lists(st.sampled_from([0.1, 0.5, 0.5, 0.9, 1.0]), min_size=5, max_size=5), SAMPLES, K)
def test_best_of_k_is_the_mean_over_all_subsets(rewards, right, k):
    def best(some: tuple[int, ...]) -> float:
        top = [i for i in some if rewards[i] == max(rewards[j] for j in some)]
        return float(np.mean([right[i] for i in top]))

    brute = np.mean([best(some) for some in itertools.combinations(range(5), k)])
    assert isclose(best_of_k([rewards], [right], k).value, brute, abs_tol=1e-12)


def test_weighted_votes_sum_rewards_in_blocks():
    votes, rewards = [["a", "b", "b", "a", "b", None]], [[0.9, 0.4, 0.4, 0.1, 0.3, 5.0]]
    correct = [[vote == "a" for vote in votes[0]]]
    assert weighted_majority_at_k(votes, rewards, correct, 3).value == 0.5  # 0.9 to 0.8, then 0.1 to 0.3
    assert weighted_majority_at_k(votes, rewards, correct, 5).value == 0  # 1.0 to 1.1
    assert weighted_majority_at_k([[None]], [[1.0]], [[False]], 1).value == 0


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: pass_at_k([[True, False]], 3), "k = 3 with 2 samples"),
        (lambda: pass_at_k([[True, False]], 0), "k = 0"),
        (lambda: majority_at_k([["1"]], [[True]], 2), "k = 2 with 1 samples"),
        (lambda: majority_at_k([["1"]], [], 1), "answers of 1 problems, verdicts of 0"),
        (lambda: best_of_k([[0.5]], [[True]], 2), "best-of-k: k = 2 with 1 samples"),
    ],
)
def test_bad_input_is_one_line(call, words):
    with pytest.raises(UserError, match=words):
        call()


def test_the_usual_k_are_powers_of_two_and_all():
    assert [usual_ks(n) for n in (1, 4, 6, 8)] == [(1,), (1, 2, 4), (1, 2, 4, 6), (1, 2, 4, 8)]
