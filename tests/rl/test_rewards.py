"""Rewards: the checked call, several at once, what fails."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import numpy as np
import pytest

from dsm_jax.errors import UserError
from dsm_jax.rl.rewards import RewardOptions, Rewards
from dsm_jax.run import Stopping
from tests.rl.reward_cases import COMPLETIONS, OWN, PROMPTS, ZERO, said, score


def test_a_reward_is_a_plain_function_of_the_columns_it_names():
    def bonus(prompts, completions, *, weight, bias=0.0):
        return [w * len(c) + bias for w, c in zip(weight, completions, strict=True)]

    def everything(prompts, completions, **columns):
        return [float(len(columns))] * len(prompts)

    found = score([bonus, everything], weight=[1, 2, 3], unused=[0, 0, 0])
    np.testing.assert_array_equal(found.by_name["bonus"], [1.0, 4.0, 9.0])
    np.testing.assert_array_equal(found.by_name["everything"], [2.0] * 3)
    np.testing.assert_array_equal(found.total, [3.0, 6.0, 11.0])
    assert found.total.dtype == np.float64 and found.failures == 0


def by_first_letter(completions, answer, **kwargs):
    return [float(one[0] == gold) for one, gold in zip(completions, answer, strict=True)]


def swapped(completions, prompts):
    return [
        float(one == "bb") + 10 * (prompt == "p2") for one, prompt in zip(completions, prompts, strict=True)
    ]


def only_columns(completion_ids, **kwargs):
    return [float(len(ids)) for ids in completion_ids]


def all_by_name(*args, **kwargs):
    return [float(len(args)) + len(kwargs)] * 3


def positional_only(prompts, completions, /, answer):
    return [
        float(one == prompt[0]) + len(gold)
        for one, prompt, gold in zip(completions, prompts, answer, strict=True)
    ]


async def of_completions(*, completions):
    return [float(len(one)) for one in completions]


@pytest.mark.parametrize(
    ("reward", "wanted"),
    [
        (by_first_letter, [1.0, 0.0, 1.0]),
        (swapped, [0.0, 1.0, 10.0]),
        (only_columns, [1.0, 2.0, 3.0]),
        (all_by_name, [4.0] * 3),
        (positional_only, [1.0] * 3),
        (of_completions, [1.0, 2.0, 3.0]),
        (lambda p, c, answer: [float(p[1] == "p1") + (c[1] == "bb") + len(answer)] * 3, [5.0] * 3),
        (lambda *both: [float(both == (PROMPTS, COMPLETIONS))] * 3, [1.0] * 3),
    ],
)
def test_a_reward_is_called_by_name(reward, wanted):
    """As in TRL, whatever order its parameters have; by position only where they have other names."""
    found = score(reward, answer=["a", "x", "c"], completion_ids=[[0], [0, 0], [0, 0, 0]])
    assert found.total.tolist() == wanted


@pytest.mark.parametrize(
    ("reward", "line"),
    [
        (lambda c: [1.0] * 3, "reward <lambda> has no parameter prompts or completions; write def "),
        (
            lambda completion, answer: answer,
            "reward <lambda> takes the column completion, which the prompts lack",
        ),
        (lambda prompts, answr: answr, "reward <lambda> takes the column answr, which the prompts lack"),
    ],
)
def test_a_reward_whose_arguments_nobody_knows_is_refused(reward, line):
    """Not called with the wrong ones; also before anything is sampled."""
    columns = {"answer": ["a", "x", "c"]}
    with pytest.raises(UserError, match=line):
        score(reward, **columns)
    with pytest.raises(UserError, match=line):
        Rewards(reward).check(PROMPTS, columns)


def test_a_column_that_is_not_there_is_named():
    def bonus(prompts, completions, weight):
        return weight

    line = "reward bonus takes the column weight, which the prompts lack; there are: answer"
    with pytest.raises(UserError, match=line):
        score(bonus, answer=["1", "2", "3"])


def test_rewards_are_tried_with_empty_completions():
    """What does not depend on the completions is found: too few values, a column that is missing, no answer."""
    seen = []

    def needs(completions, gold, **columns):
        return gold

    def tried(prompts, completions, completion_ids, answer=None):
        seen.append((prompts, completions, completion_ids))
        return completions[0][0]  # of an empty one there is none: no mistake

    Rewards(tried).check(PROMPTS[:2], {"answer": ["1", "2"]})
    assert seen == [(["p0", "p1"], ["", ""], [[], []])]
    with pytest.raises(UserError, match="reward <lambda> returned 3 values for 2 completions"):
        Rewards(lambda p, c: [1.0] * 3).check(PROMPTS[:2], {})
    Rewards(lambda p, c: [1.0] * 3, ZERO).check(PROMPTS[:2], {})
    with pytest.raises(
        UserError, match="reward <lambda> takes the column gold, which the prompts lack; there are: answer"
    ):
        Rewards(lambda p, c, gold: gold).check(PROMPTS[:2], {"answer": ["1", "2"]})
    with pytest.raises(UserError, match="reward needs takes the column gold, which the prompts lack"):
        Rewards(needs).check(PROMPTS[:2], {"answer": ["1", "2"]})
    with pytest.raises(UserError, match="reward <lambda> gave nothing within 0.1 s for rows 0 to 1"):
        Rewards(lambda p, c: time.sleep(5), RewardOptions(timeout_s=0.1)).check(PROMPTS[:2], {})


@pytest.mark.parametrize("value", [None, 1.0])
def test_what_is_no_list_is_told(value):
    with pytest.raises(
        UserError, match=f"it returned {value}; return a list with a number for each completion"
    ):
        score(lambda p, c: value)


def test_true_and_numpy_values_are_numbers():
    found = score(lambda p, c: [True, np.float32(0.5), np.int64(2)])
    np.testing.assert_array_equal(found.total, [1.0, 0.5, 2.0])
    np.testing.assert_array_equal(score(lambda p, c: np.arange(3)).total, [0.0, 1.0, 2.0])


def test_weights_are_one_each():
    def one(prompts, completions):
        return [1.0] * len(prompts)

    def two(prompts, completions):
        return [2.0] * len(prompts)

    np.testing.assert_array_equal(score([one, two], RewardOptions(weights=(0.5, 2.0))).total, [4.5] * 3)
    with pytest.raises(UserError, match=r"1 weights for 2 rewards \(one, two\); give one each"):
        score([one, two], RewardOptions(weights=(1.0,)))
    with pytest.raises(UserError, match="two rewards have the same name"):
        score([one, one])
    with pytest.raises(UserError, match="there is no reward"):
        score([])


@pytest.mark.parametrize(
    "options",
    [{"weights": (float("nan"),)}, {"timeout_s": 0.0}, {"timeout_s": float("nan")}, {"processes": -1}],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(UserError, match=next(iter(options))):
        RewardOptions(**options)


def test_none_is_no_reward():
    def some(prompts, completions):
        return [None, 1.0, None]

    def others(prompts, completions):
        return [None, None, 2.0]

    found = score([some, others])
    np.testing.assert_array_equal(found.total, [np.nan, 1.0, 2.0])
    np.testing.assert_array_equal(found.by_name["some"], [np.nan, 1.0, np.nan])
    assert found.failures == 0


def test_coroutines_are_awaited_at_the_same_time():
    """All rows of all rewards are under way before the first one ends."""
    under_way = 0

    async def one(text):
        nonlocal under_way
        under_way += 1
        while under_way < 6:
            await asyncio.sleep(0.01)
        return float(len(text))

    async def slow(prompts, completions):
        return await asyncio.gather(*map(one, completions))

    async def also_slow(prompts, completions):
        return await asyncio.gather(*map(one, completions))

    found = score([slow, also_slow], RewardOptions(timeout_s=20))
    np.testing.assert_array_equal(found.total, [2.0, 4.0, 6.0])


class OfTwo:
    """As arrays and tensors of several numbers do."""

    def __float__(self):
        raise ValueError("only one element can be converted")

    def __repr__(self):
        raise RuntimeError


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), "1", [1.0], 10**400, OfTwo()])
def test_a_value_that_is_no_number_names_reward_and_row(bad, capsys):
    def spoiled(prompts, completions):
        return [0.5, 1.0, bad]

    with pytest.raises(UserError, match="reward spoiled, row 2: .* is not a finite number"):
        score(spoiled)
    found = score(spoiled, ZERO)
    np.testing.assert_array_equal(found.total, [0.5, 1.0, 0.0])
    assert found.failures == 1
    assert capsys.readouterr().err.startswith("warning: reward spoiled, row 2: ")


@pytest.mark.parametrize("count", [0, 2, 4])
def test_a_wrong_number_of_values_names_the_reward(count, capsys):
    def short(prompts, completions):
        return [1.0] * count

    with pytest.raises(UserError, match=f"reward short returned {count} values for 3 completions"):
        score(short)
    found = score([short, with_a_gap], ZERO)
    np.testing.assert_array_equal(found.by_name["short"], [0.0] * 3)
    assert found.failures == 3  # rows, one of which two rewards failed
    assert capsys.readouterr().err.splitlines() == [
        f"warning: reward short returned {count} values for 3 completions; return one number for each: counted as 0",
        "warning: reward with_a_gap, row 1: 'x' is not a finite number; return a float or None: counted as 0",
    ]


def with_a_gap(prompts, completions):
    return [1.0, "x", 1.0]


def test_an_exception_names_reward_and_row(capsys):
    def picky(prompts, completions):
        if "bb" in completions:
            raise ValueError("no bb\nhere")
        return [1.0] * len(completions)

    line = picky.__code__.co_firstlineno + 2
    with pytest.raises(
        UserError, match=rf"reward picky, row 1: ValueError: no bb here \(test_rewards.py:{line}\)"
    ):
        score(picky)
    np.testing.assert_array_equal(score(picky, ZERO).total, [1.0, 0.0, 1.0])
    assert said(capsys) == "warning: reward picky, row 1: ValueError: no bb here: counted as 0\n"


def test_an_exception_of_no_single_row_says_so():
    def crowded(prompts, completions):
        if len(completions) > 1:
            raise RuntimeError("too many")
        return [1.0]

    with pytest.raises(UserError, match="reward crowded, rows 0 to 2 together: RuntimeError: too many"):
        score(crowded)


@pytest.mark.parametrize("processes", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_calling_rows_one_by_one_has_an_end(processes, capsys):
    """What was reached keeps its value; the rest fails, each row of it."""
    options = RewardOptions(on_error="zero", timeout_s=0.6, processes=processes)
    began = time.monotonic()
    with Rewards(slow_and_alone, options) as rewards:
        found = rewards(["p"] * 40, ["a"] * 40, {})
    reached = int(found.total.sum())
    assert 1 <= reached < 16 and time.monotonic() - began < 20
    assert found.total.tolist() == [1.0] * reached + [0.0] * (40 - reached)
    assert found.failures == 40 - reached
    late = "to 39: called one by one after RuntimeError: many, and not reached within 0.6 s: counted as 0"
    assert late in said(capsys)
    with (
        Rewards(slow_and_alone, replace(options, on_error="stop")) as rewards,
        pytest.raises(UserError, match="not reached|gave nothing within"),
    ):
        rewards(["p"] * 40, ["a"] * 40, {})


def slow_and_alone(prompts, completions):
    if len(completions) > 1:
        raise RuntimeError("many")
    time.sleep(0.1)
    return [1.0]


@pytest.mark.parametrize("reward", OWN)
def test_an_error_of_the_reward_s_own_is_told_as_it_is(reward):
    with pytest.raises(UserError, match=OWN[reward]):
        score(reward)


def test_what_is_called_while_waiting_can_end_the_call():
    """A signal is answered there; nothing is called after it."""
    calls = []

    def hangs_alone(prompts, completions):
        calls.append(len(completions))
        if len(completions) > 1:
            raise RuntimeError("many")
        time.sleep(0.5)
        return [1.0]

    def stop():
        if len(calls) > 1:
            raise Stopping

    began = time.monotonic()
    for call in (
        lambda: Rewards(hangs_alone)(PROMPTS, COMPLETIONS, {}, while_waiting=stop),
        lambda: Rewards(lambda p, c: time.sleep(20)).check(PROMPTS, {}, while_waiting=stop),
    ):
        with pytest.raises(Stopping):
            call()
    time.sleep(0.5)
    assert calls == [3, 1] and time.monotonic() - began < 4


def test_a_reward_that_hangs_is_given_up():
    def hangs(prompts, completions):
        time.sleep(5)
        return [1.0] * 3

    began = time.monotonic()
    with pytest.raises(UserError, match=r"reward hangs gave nothing within 0\.2 s for rows 0 to 2"):
        score(hangs, RewardOptions(timeout_s=0.2))
    np.testing.assert_array_equal(score(hangs, RewardOptions((), "zero", 0.2)).total, [0.0] * 3)
    assert time.monotonic() - began < 4
