"""Completions into rows: each kind of task, answers and programs that are right, wrong, missing or broken."""

from __future__ import annotations

import numpy as np
import pytest

from dsm_jax.data.benchmarks import Problem
from dsm_jax.evaluate.judge import NO_PROGRAM, judge
from dsm_jax.evaluate.prompts import task
from dsm_jax.sample.request import Completion


def completion(text: str, finish: str = "stop") -> Completion:
    zeros = np.zeros(3, np.float32)
    error = "request 0: too long" if finish == "error" else ""
    return Completion(text, zeros.astype(np.int32), zeros, zeros, zeros > 0, finish, error)


def judged(benchmark: str, protocol: str, problem: Problem, *texts: str):
    return judge(task(benchmark, protocol), [problem], ["Q"], [[completion(text) for text in texts]])


def strict(rows) -> list[bool | None]:
    return [row.correct["strict"] for row in rows]


def test_answers_are_graded_in_every_mode_and_vote_by_equality():
    problem = Problem("gsm8k", "0", "Q?", "1/2")
    rows = judged(
        "gsm8k", "zero_shot_cot", problem, "\\boxed{0.5}", "so 0.5", "\\boxed{\\frac12}", "\\boxed{3}", ""
    )
    assert strict(rows) == [True, False, True, False, False]
    assert [row.correct["flexible"] for row in rows] == [True, True, True, False, False]
    assert rows[0].vote == rows[2].vote != rows[3].vote and rows[1].vote is rows[4].vote is None
    assert [row.sample for row in rows] == [0, 1, 2, 3, 4] and rows[0].prompt == "Q"


def test_a_few_shot_answer_ends_at_the_next_question():
    problem = Problem("gsm8k", "0", "Q?", "1080")
    rows = judged("gsm8k", "few_shot_cot", problem, " The answer is 1,080.\n\nQ: next?\nA: The answer is 3.")
    assert strict(rows) == [True] and rows[0].extracted == "1,080"


def test_a_choice_is_a_letter_or_an_options_text():
    problem = Problem("sat", "0", "Q?", "B", options=("3", "4", "5", "6"))
    rows = judged(
        "sat",
        "zero_shot_cot",
        problem,
        "\\boxed{B}",
        "\\boxed{(B)}",
        "\\boxed{4}",
        "\\boxed{A}",
        "\\boxed{3}",
    )
    assert strict(rows) == [True, True, True, False, False]
    assert len({rows[0].vote, rows[1].vote, rows[2].vote}) == 1


@pytest.mark.parametrize(
    ("program", "right", "executed"),
    [
        ("def solution():\n    return 6 * 7", True, "ok"),
        ("```\nanswer = Rational(84, 2)\n```\n```\nfrom sympy import *\n```", True, "ok"),
        ("```\nanswer = 41\n```", False, "ok"),
        ("```\nanswer = 1 / 0\n```", False, "error"),
        ("```\nimport os\nanswer = 42\nprint(42)\nos._exit(0)\n```", False, "exited"),
        ("no program", False, NO_PROGRAM),
    ],
)
def test_a_program_is_run_and_what_it_prints_is_graded(program, right, executed):
    (row,) = judged("gsm8k", "few_shot_pot", Problem("gsm8k", "0", "Q?", "42"), program)
    assert row.correct["strict"] is right and row.executed == executed
    assert (row.extracted is None) == (executed != "ok")


def test_tests_of_a_function_must_all_pass():
    extra = {"test": "assert add(1) == 3\nassert add(2) == 4", "setup": ""}
    problem = Problem("mbpp", "11", "Add 2.", "", extra=extra)
    good, half = "def add(a):\n    return a + 2", "def add(a):\n    return 3"
    faked = "print('every test has passed')\nraise SystemExit"
    rows = judged("mbpp", "few_shot_pot", problem, good, half, faked)
    assert strict(rows) == [True, False, False] and [row.vote for row in rows] == [None] * 3
    assert [row.executed for row in rows] == ["ok", "error", "exited"]


def test_a_completion_with_an_error_is_a_wrong_row():
    problem = Problem("gsm8k", "0", "Q?", "7")
    (row,) = judge(task("gsm8k", "zero_shot_cot"), [problem], ["Q"], [[completion("", "error")]])
    assert row.finish == "error" and row.response == "request 0: too long" and row.correct["strict"] is False


def test_a_gold_answer_that_cannot_be_scored_has_no_verdict():
    (row,) = judged("gsm8k", "zero_shot_cot", Problem("gsm8k", "0", "Q?", ""), "\\boxed{7}")
    assert row.correct["strict"] is None


def test_a_proof_without_a_server_is_unchecked():
    extra = {
        "formal_statement": 'theorem a:\n  shows "1 + 1 = (2::nat)"',
        "header": "theory Scratch imports Main begin",
    }
    problem = Problem("minif2f", "a", "Q?", "", extra=extra)
    (row,) = judged("minif2f", "few_shot_cot", problem, "  by simp")
    assert row.correct["strict"] is None and row.extracted == "unchecked" and row.vote is None


AGREES = "class Yes:\n    def __eq__(self, other):\n        return True\n\n\n"


def test_an_object_that_equals_everything_passes_no_test():
    extra = {"test": "assert add(1) == 3\nassert add(2)[0] == 4", "setup": ""}
    problem = Problem("mbpp", "11", "Add 2.", "", extra=extra)
    rows = judged(
        "mbpp", "few_shot_pot", problem, AGREES + "def add(a):\n    return Yes() if a == 1 else [Yes()]"
    )
    assert strict(rows) == [False]
    human = Problem("humaneval", "HumanEval/0", "def add(a):\n", "", extra={"test": "def check(f):\n    assert f(1) == 3\n", "entry_point": "add"})  # fmt: skip
    good, fake = (
        "    return a + 2\n```\n",
        "    class Yes:\n        def __eq__(self, other):\n            return True\n    return Yes()",
    )
    assert strict(judged("humaneval", "few_shot_cot", human, good, fake)) == [True, False]


def test_library_objects_and_deep_recursion_pass():
    extra = {
        "test": "assert count('aab') == {'a': 2, 'b': 1}\nassert deep(900) == 900\nassert third().a == 1",
        "setup": "",
    }
    code = (
        "from collections import Counter, namedtuple\nfrom types import SimpleNamespace\n"
        "def count(s):\n    return Counter(s)\ndef deep(n):\n    return n and 1 + deep(n - 1)\n"
        "def third():\n    return SimpleNamespace(a=1)"
    )
    assert strict(judged("mbpp", "few_shot_pot", Problem("mbpp", "11", "Q", "", extra=extra), code)) == [True]


def test_deepseek_mode_reads_minervas_sentence_itself():
    problem = Problem("math", "0", "Q?", "\\frac{1}{2}")
    text = "So.\nFinal Answer: The final answer is $\\frac{1}{2}$. I hope it is correct.\n\nProblem:\nNext"
    (row,) = judged("math", "few_shot_cot", problem, text)
    assert row.correct == {"strict": True, "flexible": True, "deepseek": True}


@pytest.mark.parametrize("hedge", ["(A) or (B)", "(A)/(B)", "(A) is wrong, it is (B)"])
def test_a_hedge_between_options_is_no_choice(hedge):
    problem = Problem("sat", "0", "Q?", "A", options=("c", "a", "b", "d"))
    rows = judged("sat", "zero_shot_cot", problem, f"The answer is {hedge}", "\\boxed{c}", "\\boxed{(A) c}")
    assert strict(rows) == [False, True, True]
