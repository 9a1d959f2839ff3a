"""Measures of step scores against pair counting, loops over solutions, and sweeps over every threshold."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.errors import UserError
from dsm_jax.evaluate.scores import share
from dsm_jax.rl.reward_model.measures import (
    auc,
    bootstrap,
    calibration,
    first_error_threshold,
    first_errors,
    scored,
    step_measures,
)

SCORE = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.5000001, 0.9, 1.0]) | st.floats(0, 1)
STEPS = st.lists(st.tuples(SCORE, st.booleans()), min_size=1, max_size=6)
SOLUTIONS = st.lists(st.tuples(STEPS, st.sampled_from("abcd")), min_size=1, max_size=12)


def as_data(solutions):
    return scored(
        [[score for score, _ in steps] for steps, _ in solutions],
        [[truth for _, truth in steps] for steps, _ in solutions],
        [problem for _, problem in solutions],
    )


def pair_count(steps):
    """The share of pairs of a true and a false step in which the true one scores higher; None without a pair."""
    pairs = [(a > b) + (a == b) / 2 for a, good in steps if good for b, bad in steps if not bad]
    return sum(pairs) / len(pairs) if pairs else None


def first(flags):
    return next((place for place, flag in enumerate(flags) if flag), -1)


def f1_by_loop(solutions, threshold):
    hits = {True: [], False: []}
    for steps, _ in solutions:
        wrong = first(not truth for _, truth in steps)
        hits[wrong >= 0].append(first(score < threshold for score, _ in steps) == wrong)
    if not hits[True] or not hits[False]:
        return None
    a, b = (sum(one) / len(one) for one in hits.values())
    return 2 * a * b / (a + b) if a + b else 0.0


def value_of(interval):
    return None if interval is None else interval.value


@given(SOLUTIONS, SCORE)
def test_every_measure_against_loops(solutions, threshold):
    found = step_measures(as_data(solutions), threshold=threshold, replicates=3)
    steps = [step for one, _ in solutions for step in one]
    hits = [(score >= threshold) == truth for score, truth in steps]
    within = [value for value in (pair_count(one) for one, _ in solutions) if value is not None]
    kinds = [
        [hit for hit, (_, truth) in zip(hits, steps, strict=True) if truth == kind] for kind in (True, False)
    ]
    expected = {
        "auc": pair_count(steps),
        "auc_within": np.mean(within) if within else None,
        "accuracy": np.mean(hits),
        "majority": max(np.mean([truth for _, truth in steps]), np.mean([not truth for _, truth in steps])),
        "balanced_accuracy": np.mean([np.mean(one) for one in kinds]) if all(kinds) else None,
        "first_error_f1": f1_by_loop(solutions, threshold),
    }
    for name, value in expected.items():
        assert value_of(getattr(found, name)) == (
            None if value is None else pytest.approx(value, abs=1e-12)
        ), name
    assert (found.steps, found.solutions, found.mixed) == (len(steps), len(solutions), len(within))
    assert found.problems == len({problem for _, problem in solutions})
    for one in vars(found).values():
        if hasattr(one, "low"):
            assert one.low <= one.value <= one.high and one.n == found.problems
    json.dumps(asdict(found), allow_nan=False)


@given(SOLUTIONS)
def test_calibration_against_a_loop(solutions):
    data = as_data(solutions)
    steps = [step for one, _ in solutions for step in one]
    bins = [[step for step in steps if min(9, int(step[0] * 10)) == k] for k in range(10)]
    bins = [np.array(one, float) for one in bins if one]
    curve = calibration(data, replicates=3)
    assert [interval.n for _, interval in curve] == [len(one) for one in bins]
    np.testing.assert_allclose([score for score, _ in curve], [one[:, 0].mean() for one in bins])
    np.testing.assert_allclose([interval.value for _, interval in curve], [one[:, 1].mean() for one in bins])
    error = sum(len(one) * abs(one[:, 0].mean() - one[:, 1].mean()) for one in bins) / len(steps)
    assert step_measures(data, replicates=2).calibration_error.value == pytest.approx(error, abs=1e-12)


@given(SOLUTIONS)
def test_the_threshold_is_the_best_of_all(solutions):
    if f1_by_loop(solutions, 0.5) is None:
        with pytest.raises(UserError, match="solutions with a false step and solutions without one"):
            first_error_threshold(as_data(solutions))
        return
    threshold = first_error_threshold(as_data(solutions))
    scores = sorted({score for one, _ in solutions for score, _ in one})
    best = max(f1_by_loop(solutions, one) for one in [*scores, 2.0])
    assert f1_by_loop(solutions, threshold) == pytest.approx(best, abs=1e-12)


@given(SOLUTIONS, SCORE)
def test_first_errors(solutions, threshold):
    said, true = first_errors(as_data(solutions), threshold)
    assert said.tolist() == [first(score < threshold for score, _ in steps) for steps, _ in solutions]
    assert true.tolist() == [first(not truth for _, truth in steps) for steps, _ in solutions]


def test_ties_count_half_and_order_does_not():
    rng = np.random.default_rng(5)
    scores, truths = rng.integers(0, 7, 400) / 7, rng.random(400) < 0.4
    pairs = np.sign(scores[truths][:, None] - scores[~truths][None]) / 2 + 0.5
    assert auc(scores, truths) == pytest.approx(pairs.mean(), abs=1e-14)
    assert auc(1 - scores, truths) == pytest.approx(1 - pairs.mean(), abs=1e-14)
    assert auc(np.zeros(400), truths) == 0.5
    assert np.isnan(auc(scores, np.ones(400, bool)))


def test_scores_that_know_everything_and_nothing():
    truths = [[True, True, False], [True, True], [False, False]]
    perfect = step_measures(scored([[0.9, 0.8, 0.2], [0.7, 0.9], [0.1, 0.6]], truths, "abc"), threshold=0.65)
    for name in ("auc", "auc_within", "accuracy", "balanced_accuracy", "first_error_f1"):
        assert getattr(perfect, name).value == 1, name
    coin = step_measures(scored([[0.5] * 3, [0.5] * 2, [0.5] * 2], truths, "abc"))
    assert (coin.auc.value, coin.auc_within.value, coin.balanced_accuracy.value) == (0.5, 0.5, 0.5)
    assert coin.first_error_f1.value == 0 and coin.accuracy.value == coin.majority.value == pytest.approx(
        4 / 7
    )


def test_one_class_has_no_auc():
    found = step_measures(scored([[0.1, 0.9], [0.8]], [[True, True], [True]], "ab"))
    assert (found.auc, found.auc_within, found.balanced_accuracy, found.first_error_f1) == (None,) * 4
    assert found.majority.value == 1 and found.mixed == 0


def test_logits_have_no_calibration():
    data = scored([[-3.0, 2.0]], [[False, True]], "a")
    assert step_measures(data, threshold=0).calibration_error is None
    assert step_measures(data, threshold=0).accuracy.value == 1
    with pytest.raises(UserError, match="not within 0..1"):
        calibration(data)


def test_the_interval_is_over_problems_and_not_over_steps():
    """4 alike solutions of 50 steps for each of 25 problems tell no more than 25 outcomes, whose interval is Wilson's."""
    right = np.random.default_rng(3).random(25) < 0.7
    scores, truths = [[0.9] * 50] * 100, [[bool(right[k % 25])] * 50 for k in range(100)]
    found, wilson = step_measures(scored(scores, truths, [k % 25 for k in range(100)])).accuracy, share(right)
    assert found.value == wilson.value
    assert found.high - found.low == pytest.approx(wilson.high - wilson.low, rel=0.15)
    one = step_measures(scored(scores, truths, [7] * 100)).accuracy
    assert one.low == one.high == found.value  # all of one problem


def test_the_bootstrap_of_a_mean_has_its_standard_error():
    rng = np.random.default_rng(1)
    values = rng.random(200)
    data = scored([[value] for value in values], [[True]] * 200, list(range(200)))
    found = bootstrap(data, lambda weights: float((weights * values).sum() / weights.sum()), 4000)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * values.std() / np.sqrt(200), rel=0.06)
    assert found == bootstrap(data, lambda weights: float((weights * values).sum() / weights.sum()), 4000)


@pytest.mark.parametrize(
    "scores, truths, problems, message",
    [
        ([[0.1]], [[True, False]], "a", "not of the same solutions and steps"),
        ([[0.1]], [[True]], "ab", "not of the same solutions and steps"),
        ([], [], "", "a solution without a step, or none at all"),
        ([[0.1], []], [[True], []], "ab", "a solution without a step"),
        ([[float("nan")]], [[True]], "a", "not a finite number"),
    ],
)
def test_mistakes(scores, truths, problems, message):
    with pytest.raises(UserError, match=message):
        scored(scores, truths, problems)
