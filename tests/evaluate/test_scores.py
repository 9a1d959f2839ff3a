"""Scores against brute force and by simulation."""

import itertools
from math import isclose

import numpy as np
import pytest

from dsm_jax.errors import UserError
from dsm_jax.evaluate.scores import (
    Interval,
    mean_share,
    paired_bootstrap,
    paired_difference,
    paired_test,
    share,
)


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


@pytest.mark.parametrize("n, samples, spread", [(200, 4, 0.3), (500, 16, 0.1), (250, 64, 0.45)])
def test_interval_of_means_covers_the_truth(n, samples, spread):
    """Problems of differing difficulty, each answered so many times."""
    rng = np.random.default_rng(2)
    difficulty = rng.beta(0.5 / spread, 0.4 / spread, (20_000, n))
    values = rng.binomial(samples, difficulty) / samples
    truth = 0.5 / 0.9
    covered = [i.low <= truth <= i.high for i in (mean_share(row, samples) for row in values)]
    assert 0.935 <= np.mean(covered) <= 0.97


@pytest.mark.parametrize("n, most", [(1, 1), (5, 1), (20, 0.97)])
def test_interval_of_means_of_few_problems_covers_the_truth(n, most):
    rng = np.random.default_rng(3)
    values = rng.binomial(64, rng.beta(1, 1, (5_000, n))) / 64
    covered = [i.low <= 0.5 <= i.high for i in (mean_share(row, 64) for row in values)]
    assert 0.935 <= np.mean(covered) <= most


def test_interval_of_means_of_zeros_and_ones_is_wilsons():
    outcomes = np.arange(50) < 20
    assert mean_share(outcomes.astype(float), 1) == share(outcomes)


def test_paired_test_is_mcnemars_exact_one():
    """20 to 8 disagreements: 2 * P(Binomial(28, 1/2) <= 8) = 0.03570; none: 1."""
    ours = [True] * 20 + [False] * 8 + [True] * 30
    theirs = [False] * 20 + [True] * 8 + [True] * 30
    assert paired_test(ours, theirs) == pytest.approx(0.0357, abs=1e-4)
    assert paired_test(ours, ours) == 1


def test_paired_test_of_shares_agrees_with_all_flips():
    differences = np.array([0.5, 0.25, -0.25, 0.75, 0.125, 0.5, -0.125, 0.25])
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product((1, -1), repeat=8)]
    exact = np.mean([one >= abs(differences.sum()) - 1e-9 for one in sums])
    assert paired_test(np.maximum(differences, 0), np.maximum(-differences, 0)) == pytest.approx(
        exact, abs=0.005
    )


def test_one_problem():
    assert share([True]) == Interval(1, 1.0, pytest.approx(0.2065, abs=1e-4), 1.0)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: share([]), "share: no problems"),
        (lambda: paired_difference([True], [True, False]), "1 scores against 2"),
    ],
)
def test_bad_input_is_one_line(call, words):
    with pytest.raises(UserError, match=words):
        call()


def test_a_paired_bootstrap_of_one_seed_is_that_over_problems():
    """The interval is close to the normal one of the mean of differences."""
    gaps = np.random.default_rng(0).choice([-1.0, 0, 1], (1, 900), p=(0.1, 0.6, 0.3))
    found = paired_bootstrap(gaps)
    half = 1.96 * gaps.std() / 30
    assert found.value == pytest.approx(gaps.mean())
    assert (found.low, found.high) == pytest.approx((gaps.mean() - half, gaps.mean() + half), abs=0.004)


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("effect", [0.0, 0.01, 0.1])
def test_a_paired_bootstrap_covers_other_seeds_and_problems(seeds, effect):
    """Whether the seeds' own effects are none, small or nearly all that varies."""
    rng, covered = np.random.default_rng(1), 0
    for _ in range(200):
        effects = 0.1 + effect * rng.standard_normal(seeds)
        gaps = effects[:, None] + rng.standard_normal((seeds, 100)) * 0.3 + 0.2 * rng.standard_normal(100)
        found = paired_bootstrap(gaps, replicates=500)
        covered += found.low <= 0.1 <= found.high
    assert 0.91 <= covered / 200 <= 0.99


def test_a_paired_bootstrap_sees_that_seeds_differ():
    """Equal problems, unequal seeds: problems alone would say that nothing is uncertain. Two seeds hardly say anything."""
    found = paired_bootstrap(np.array([[0.1] * 500, [0.3] * 500]))
    assert found.value == pytest.approx(0.2) and found.low < -0.5 and found.high > 0.9
