from fractions import Fraction
from itertools import permutations
from math import comb, nan
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.mine.loop.held_out import average_precision, average_precision_by_site, calibration, math_marks

PAGES = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.35, 0.7, 1.0])), min_size=1, max_size=12
)


def by_thresholds(pages):
    """The area under precision over recall in steps, threshold by threshold, in fractions."""
    positives = sum(label for label, _ in pages)
    area, recall_before = Fraction(0), Fraction(0)
    for threshold in sorted({score for _, score in pages}, reverse=True):
        taken = [label for label, score in pages if score >= threshold]
        recall = Fraction(sum(taken), positives)
        area += (recall - recall_before) * Fraction(sum(taken), len(taken))
        recall_before = recall
    return area


@given(PAGES, st.randoms(use_true_random=False))
def test_average_precision_is_the_area_in_steps_whatever_the_order(pages, rng):
    if not any(label for label, _ in pages):
        return
    expected = float(by_thresholds(pages))
    rng.shuffle(pages)
    labels, scores = zip(*pages, strict=True)
    assert average_precision(labels, scores) == pytest.approx(expected, abs=1e-12)


def test_average_precision_in_closed_form():
    ranks = [10, 9, 8, 7, 6]
    assert average_precision([1, 1, 0, 0, 0], ranks) == 1.0
    assert average_precision([0, 0, 0, 1, 1], ranks) == pytest.approx((1 / 4 + 2 / 5) / 2)
    assert average_precision([1, 0, 1, 0, 1], [0.5] * 5) == pytest.approx(
        3 / 5
    )  # ties: the share of mathematics


def test_random_ranking_has_the_expectation_over_all_orders():
    """Two of five pages: the mean over the orders, against 1/n (H_n + (p - 1)(n - H_n) / (n - 1))."""
    n, p = 5, 2
    harmonic = sum(1 / k for k in range(1, n + 1))
    expected = (harmonic + (p - 1) * (n - harmonic) / (n - 1)) / n
    values = [
        average_precision(order, range(n, 0, -1)) for order in permutations([True] * p + [False] * (n - p))
    ]
    assert len(values) == comb(n, p) * 12 and sum(values) / len(values) == pytest.approx(expected)


def test_average_precision_needs_mathematics_and_equal_lengths():
    with pytest.raises(ValueError, match="needs a page"):
        average_precision([False], [0.5])
    with pytest.raises(ValueError):
        average_precision([True], [0.5, 0.6])


def test_a_site_is_ranked_against_all_other_pages_and_no_other_mathematics():
    sites = ["a.org", "a.org", "b.org", "news.com", "b.org"]
    labels = [True, True, True, False, False]
    scores = [0.9, 0.2, 0.5, 0.3, 0.1]
    assert average_precision_by_site(sites, labels, scores) == {
        "a.org": pytest.approx((1 + 2 / 3) / 2),
        "b.org": 1.0,
    }


def test_calibration_of_probabilities_is_the_diagonal():
    rng = Random(0)
    scores = [rng.random() for _ in range(50_000)]
    labels = [rng.random() < score for score in scores]
    bins = calibration(labels, scores)
    assert [(round(b.low, 9), round(b.high, 9)) for b in bins] == [(i / 10, (i + 1) / 10) for i in range(10)]
    assert sum(b.pages for b in bins) == len(scores)
    for b in bins:
        assert b.low <= b.mean_score < b.high and b.math_share == pytest.approx(b.mean_score, abs=0.03)


def test_calibration_at_the_edges_and_without_pages():
    bins = calibration([True, False, True], [1.0, 0.0, 0.9], bins=2)
    assert [(b.pages, b.mean_score, b.math_share) for b in bins] == [(1, 0.0, 0.0), (2, 0.95, 1.0)]
    assert [(b.pages, b.mean_score) for b in calibration([], [])] == [(0, None)] * 10


def test_marks_are_words_and_tex_commands():
    assert math_marks(r"A Prime is an integer $\frac{1}{2}$ and nothing primed or strings") == 3
    assert math_marks("The coach had a string of seasons.") == 0


@pytest.mark.parametrize("score", [nan, -0.5, 1.5])
def test_a_score_that_is_no_probability_is_refused(score):
    with pytest.raises(ValueError, match="from 0 to 1"):
        calibration([True], [score])
