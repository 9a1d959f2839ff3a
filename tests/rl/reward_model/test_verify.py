"""Verification against counts by brute force over every choice of k samples."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, islice

import numpy as np
import pytest

from dsm_jax.errors import UserError
from dsm_jax.rl.reward_model.verify import AGGREGATES, Samples, between, verification_table, verify

RNG = np.random.default_rng(0)


def problem(samples: int = 6) -> Samples:
    """Answers of four kinds, 0 the right one, one sample without any; scores that tell something."""
    answers = RNG.integers(0, 4, samples).tolist()
    answers[0] = None
    steps = [RNG.random(RNG.integers(1, 4)) * (1.0 if answer == 0 else 0.8) for answer in answers]
    return Samples(answers, [answer == 0 for answer in answers], steps)


PROBLEMS = [problem() for _ in range(40)]


def best(one: Samples, chosen: tuple[int, ...], score) -> float:
    return float(one.correct[max(chosen, key=lambda i: score(one.steps[i]))])


def majority(one: Samples, chosen: tuple[int, ...]) -> float:
    counts = Counter(one.votes[i] for i in chosen if one.votes[i] is not None)
    leaders = [vote for vote, count in counts.items() if count == max(counts.values())]
    return leaders.count(0) / len(leaders) if leaders else 0.0


def weighted(one: Samples, chosen: tuple[int, ...], score) -> float:
    sums: dict = {}
    for i in chosen:
        if one.votes[i] is not None:
            sums[one.votes[i]] = sums.get(one.votes[i], 0) + score(one.steps[i])
    return float(max(sums, key=sums.get) == 0) if sums else 0.0


SCORES = {"min": min, "product": np.prod, "last": lambda steps: steps[-1]}


def test_every_choice_is_what_counting_gives():
    found = {(one.name, one.k): one for one in verify(PROBLEMS, [1, 3])}
    every = list(combinations(range(6), 3))
    blocks = [(0, 1, 2), (3, 4, 5)]
    ways = {"self-consistency": lambda one: np.mean([majority(one, c) for c in every])}
    ways["any of them"] = lambda one: np.mean([any(one.correct[i] for i in c) for c in every])
    for name, score in SCORES.items():
        ways[f"best by {name}"] = lambda one, s=score: np.mean([best(one, c, s) for c in every])
        ways[f"self-consistency, weighted by {name}"] = lambda one, s=score: np.mean(
            [weighted(one, c, s) for c in blocks]
        )
    ones = np.array([np.mean(one.correct) for one in PROBLEMS])
    votes = np.array([ways["self-consistency"](one) for one in PROBLEMS])
    assert found["one sample", 3].share.value == pytest.approx(ones.mean())
    for name, way in ways.items():
        values = np.array([way(one) for one in PROBLEMS])
        choice = found[name, 3]
        assert choice.share.value == pytest.approx(values.mean()), name
        assert choice.over_one.value == pytest.approx((values - ones).mean(), abs=1e-12)
        assert choice.over_majority.value == pytest.approx((values - votes).mean(), abs=1e-12)
        assert choice.over_one.low < choice.over_one.value < choice.over_one.high
    assert len(found) == 2 * (2 + 2 * len(AGGREGATES) + 1)
    assert (
        found["self-consistency", 3].over_majority.value == 0 == 1 - found["self-consistency", 3].p_majority
    )
    for name in SCORES:  # of one sample nothing is chosen
        assert found[f"best by {name}", 1].over_one.value == pytest.approx(0, abs=1e-12)
        assert found[f"best by {name}", 1].over_majority.value == 0


def test_a_perfect_verifier_reaches_pass_at_k():
    problems = [
        Samples(one.votes, one.correct, [np.array([float(c)]) for c in one.correct]) for one in PROBLEMS
    ]
    found = {one.name: one for one in verify(problems, [4])}
    assert found["best by min"].share.value == pytest.approx(found["any of them"].share.value)
    assert found["best by min"].over_one.low > 0


def test_samples_without_steps_are_chosen_last():
    problems = [Samples([0, 1], [True, False], [np.array([0.1]), np.array([])])] * 3
    assert next(one for one in verify(problems, [2]) if one.name == "best by product").share.value == 1


def test_the_table_and_mistakes():
    table = verification_table(verify(PROBLEMS, [2]))
    assert len(table.rows) == 9 and all(len(row) == len(table.header) for row in table.rows)
    assert next(islice(table.rows, 1))[:2] == ("one sample", "2")
    with pytest.raises(UserError, match="k = 7 with 6 samples"):
        verify(PROBLEMS, [7])
    with pytest.raises(UserError, match="no problem"):
        verify([], [1])


def test_one_reward_model_over_another():
    """The outcome model's one score is the last; differences are those of the ways themselves."""
    theirs = [
        Samples(one.votes, one.correct, [np.array([RNG.random()]) for _ in one.steps]) for one in PROBLEMS
    ]
    found = between(PROBLEMS, theirs, 3, ("min", "last"))
    ours, others = ({one.name: one.share.value for one in verify(of, [3])} for of in (PROBLEMS, theirs))
    assert list(found) == [
        "best by min over best by last",
        "self-consistency, weighted by min over self-consistency, weighted by last",
    ]
    for pair, value in found.items():
        mine, other = pair.split(" over ")
        assert value.value == pytest.approx(ours[mine] - others[other], abs=1e-12)
    assert {one.name for one in verify(theirs, [3], ("last",))} == {
        "one sample", "self-consistency", "best by last", "self-consistency, weighted by last", "any of them",
    }  # fmt: skip


def test_chances_that_are_equal_count_as_no_difference():
    """Of one sample every way is the mean over samples; the last bits of its computation are no evidence."""
    whole = [
        Samples([i % 3 for i in range(7)], [i % 3 == 0 for i in range(7)], one.steps + [np.ones(1)])
        for one in PROBLEMS
    ]
    for choice in verify(whole, [1]):
        assert choice.over_majority.value == 0 and choice.p_majority == 1, choice.name
