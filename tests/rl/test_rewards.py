"""Rewards: the checked call, several at once, what fails, processes, the ready-made ones and the controls."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
import types
from dataclasses import replace

import numpy as np
import pytest
from pebble import ProcessPool

from dsm_jax.errors import UserError
from dsm_jax.rl import reward_calls
from dsm_jax.rl.controls import random_rewards, shuffled_rewards
from dsm_jax.rl.reward_functions import accuracy_reward, format_reward, length_penalty, overlong_penalty
from dsm_jax.rl.rewards import RewardOptions, Rewards
from dsm_jax.run import Stopping

PROMPTS = ["p0", "p1", "p2"]
COMPLETIONS = ["a", "bb", "ccc"]
ZERO = RewardOptions(on_error="zero")


def score(reward, options=RewardOptions(), completions=COMPLETIONS, **columns):  # noqa: B008
    return Rewards(reward, options)(PROMPTS, completions, columns)


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


def said(capsys) -> str:
    """On stderr, without the lines that raised."""
    return re.sub(r" \(\w+\.py:\d+\)", "", capsys.readouterr().err)


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


def impatient(prompts, completions):
    raise TimeoutError("the server")


class Particular(Exception):
    """One that cannot be read from what is sent between processes."""

    def __init__(self, what, where):
        super().__init__(f"{what} {where}")


def particular(prompts, completions):
    raise Particular("not", "here")


def leaves(prompts, completions):
    raise SystemExit(3)


OWN = {  # errors of the reward's own: no hang of the call, no end of the program, no broken pool
    impatient: "reward impatient, row 0: TimeoutError: the server",
    particular: "reward particular, row 0: Particular: not here",
    leaves: "reward leaves, row 0: SystemExit: 3",
}


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


def where(prompts, completions):
    return [float(os.getpid())] * len(completions)


def lengths(prompts, completions, *, answer):
    return [len(one) + float(gold) for one, gold in zip(completions, answer, strict=True)]


def hangs_or_dies(prompts, completions):
    if "bb" in completions:
        time.sleep(60)
    if "dd" in completions:
        os._exit(3)
    return [1.0] * len(completions)


def test_processes_share_the_rows(capsys, monkeypatch):
    """Ready-made rewards too; errors are those that threads have, or that a module cannot be imported there."""

    def stranger(completions):
        return completions

    module = types.ModuleType("only_here")
    stranger.__module__, stranger.__qualname__, module.stranger = "only_here", "stranger", stranger
    monkeypatch.setitem(sys.modules, "only_here", module)
    columns = {"answer": ["10", "20", "30"], "completion_ids": [[0], [0] * 9, [0] * 10]}
    functions = [lengths, where, *OWN, stranger, length_penalty(0.5), overlong_penalty(10, 2)]
    with Rewards(functions, RewardOptions(on_error="zero", processes=2)) as rewards:
        found = rewards(PROMPTS, COMPLETIONS, columns)
    np.testing.assert_array_equal(found.by_name["lengths"], [11.0, 22.0, 33.0])
    np.testing.assert_array_equal(found.by_name["length_penalty"], [-0.5, -4.5, -5.0])
    np.testing.assert_array_equal(found.by_name["overlong_penalty"], [0.0, -0.5, -1.0])
    assert found.failures == 3 and os.getpid() not in found.by_name["where"]
    unknown = "reward stranger, row 0: ModuleNotFoundError: No module named 'only_here'"
    lines = [f"warning: {line}: counted as 0 (and 2 more)" for line in (*OWN.values(), unknown)]
    assert said(capsys).splitlines() == lines


@pytest.fixture
def begins(monkeypatch):
    """What the processes of each further pool call when they begin."""
    calls = []

    def pool(count):
        initializer, args = calls.pop(0)
        context = multiprocessing.get_context("spawn")
        return ProcessPool(count, initializer=initializer, initargs=args, context=context)

    monkeypatch.setattr(reward_calls, "_pool", pool)
    return calls


WELL, DIES, HANGS = (int, ()), (os._exit, (1,)), (time.sleep, (60,))
CANNOT_BEGIN = r'hang before they call a reward; .* `if __name__ == "__main__":`'


def test_a_pool_that_breaks_is_made_anew_once(begins):
    """While rewards are called, where its processes die at their start, or between two calls."""
    begins += [DIES, WELL, WELL, DIES, DIES]
    with Rewards(where, RewardOptions(processes=1, on_error="zero")) as rewards:
        for _ in range(2):
            process = int(rewards(PROMPTS, COMPLETIONS, {}).total[0])
            os.kill(process, signal.SIGKILL)
            until = time.monotonic() + 10
            while rewards._caller._pool.active and time.monotonic() < until:
                time.sleep(0.02)
        with pytest.raises(UserError, match=CANNOT_BEGIN):
            rewards(PROMPTS, COMPLETIONS, {})
    assert not begins


@pytest.mark.slow
def test_processes_that_never_begin_are_given_up(begins, monkeypatch):
    monkeypatch.setattr(reward_calls, "START_S", 2.0)
    begins += [HANGS, HANGS]
    with (
        Rewards(where, RewardOptions(timeout_s=1.0, processes=1)) as rewards,
        pytest.raises(UserError, match=CANNOT_BEGIN),
    ):
        rewards(PROMPTS, COMPLETIONS, {})


@pytest.mark.slow
def test_a_script_without_a_main_guard_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from dsm_jax.rl import RewardOptions, Rewards\n"
        "from dsm_jax.rl.reward_functions import format_reward\n"
        "print(Rewards(format_reward, RewardOptions(processes=2))(['p'], ['c'], {}))\n"
    )
    run = subprocess.run([sys.executable, script], check=False, capture_output=True, text=True, timeout=120)
    assert run.returncode == 1 and not run.stdout
    assert 'put what the script runs under `if __name__ == "__main__":`' in run.stderr.splitlines()[-1]


def test_a_process_that_hangs_or_dies_is_replaced(capsys):
    """It is its row's failure."""
    with Rewards(hangs_or_dies, RewardOptions(on_error="zero", timeout_s=3, processes=2)) as rewards:
        for completions, wanted in ((["bb", "a"], [0, 1]), (["a", "dd"], [1, 0]), (["a", "b"], [1, 1])):
            assert rewards(PROMPTS[:2], completions, {}).total.tolist() == wanted
    assert capsys.readouterr().err.splitlines() == [
        "warning: reward hangs_or_dies gave nothing within 3 s for row 0: counted as 0",
        "warning: reward hangs_or_dies, row 1: ProcessExpired: Abnormal termination: counted as 0",
    ]


def test_a_function_that_cannot_be_sent_is_refused_at_once():
    with pytest.raises(UserError, match="reward <lambda> cannot be sent to other processes"):
        Rewards(lambda p, c: [0.0], RewardOptions(processes=1))


def test_accuracy_reward_is_the_grader():
    completions = [r"2 + 2 = 4. \boxed{4}", r"\boxed{5}", "4"]
    assert accuracy_reward(PROMPTS, completions, answer=["4", "4", "4"]) == [1.0, 0.0, 0.0]


def test_an_answer_that_cannot_be_graded_names_the_row():
    with pytest.raises(UserError, match="reward accuracy_reward, row 1: .*cannot be graded"):
        score(accuracy_reward, completions=[r"\boxed{1}"] * 3, answer=["1", "", "1"])


def test_format_reward_wants_one_box_that_closes():
    completions = [r"\boxed{4}", r"\boxed{4} or \boxed{5}", "4", r"\boxed{4", r"\boxed{}"]
    assert format_reward(PROMPTS, completions) == [1.0, 0.0, 0.0, 0.0, 0.0]


def test_penalties_of_length():
    ids = [[0] * count for count in (80, 90, 100)]
    np.testing.assert_allclose(score(length_penalty(0.01), completion_ids=ids).total, [-0.8, -0.9, -1.0])
    np.testing.assert_allclose(score(overlong_penalty(100, 20), completion_ids=ids).total, [0.0, -0.5, -1.0])
    with pytest.raises(UserError, match="margin is 0; it must be above 0 and at most 100"):
        overlong_penalty(100, 0)


def test_random_rewards_are_fair_coins_of_seed_and_step():
    rewards = np.zeros((500, 8))
    coins = random_rewards(rewards, rng_seed=0, step=3)
    assert set(np.unique(coins)) == {0.0, 1.0}
    assert abs(coins.mean() - 0.5) < 0.05  # 6 standard deviations of 4,000 coins
    np.testing.assert_array_equal(coins, random_rewards(rewards + 1, rng_seed=0, step=3))
    assert (coins != random_rewards(rewards, rng_seed=0, step=4)).any()
    assert (coins != random_rewards(rewards, rng_seed=1, step=3)).any()


def test_shuffled_rewards_stay_in_their_group():
    rewards = np.random.default_rng(0).random((50, 8))
    shuffled = shuffled_rewards(rewards, rng_seed=0, step=3)
    np.testing.assert_array_equal(np.sort(shuffled, axis=1), np.sort(rewards, axis=1))
    assert (shuffled != rewards).mean() > 0.5
    np.testing.assert_array_equal(shuffled, shuffled_rewards(rewards, rng_seed=0, step=3))
    assert (shuffled != shuffled_rewards(rewards, rng_seed=0, step=4)).any()
