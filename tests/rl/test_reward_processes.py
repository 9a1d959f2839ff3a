"""Rewards in processes of their own: rows shared out, hangs, deaths, pools that break."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from pebble import ProcessPool

from dsm_jax.errors import UserError
from dsm_jax.rl import reward_calls
from dsm_jax.rl.reward_functions import length_penalty, overlong_penalty
from dsm_jax.rl.rewards import RewardOptions, Rewards
from tests.rl.reward_cases import COMPLETIONS, OWN, PROMPTS, said


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
    unknown += "; define it at the top of a module, where other processes find it"
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
