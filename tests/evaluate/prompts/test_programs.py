"""Programs found in completions, run to see what they print."""

import math
import subprocess
import sys

import pytest
import sympy

from dsm_jax.data.benchmarks import Problem
from dsm_jax.evaluate.prompts import PAPER, program_of, program_with_tests, tool_output, tool_program
from dsm_jax.evaluate.prompts.programs import PASSED
from dsm_jax.evaluate.prompts.written import written

HUMANEVAL = Problem(
    "humaneval",
    "HumanEval/x",
    'from typing import List\n\n\ndef half(x):\n    return x // 2\n\n\ndef halves(xs: List[int]):\n    """Half of each."""\n',
    "",
    extra={
        "test": "def check(candidate):\n    assert candidate([2, 5]) == [1, 2]\n",
        "entry_point": "halves",
    },
)
MBPP = Problem(
    "mbpp",
    "11",
    "Write a function.",
    "",
    extra={"test": "assert area(1) == 3\nassert isinstance(math.pi, float)", "setup": "import math"},
)


def run(program):
    return subprocess.run(
        [sys.executable, "-I", "-c", program], check=False, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    "completion, printed",
    [
        ('\n\n\ndef solution():\n    """How many?"""\n    result = 6 / 4\n    return result', "3/2\n"),
        ("\n```python\ndef solution():\n    return [7]\n```\nThat is it.", "7\n"),
        (
            "\n```\nx = symbols('x')\nanswer = solve(x**2 - 2, x)\n```\nImports:\n```\nfrom sympy import *\n```\nI hope so.",
            "- \\sqrt{2}, \\sqrt{2}\n",
        ),
        ("\n```\nanswer = 5\n```\nThe imports required for this program are\n```\n\n```\nI hope", "5\n"),
        ("```python\nanswer = 5", "5\n"),
        ("```\nanswer = 'B'\n```\n```\nprint(7)\n```", "B\n"),
        ("for i in range(3):\n    answer = i", "2\n"),
        ("print(3)\nprint(4)", "3\n4\n"),
        ("def solution():\n    return 1\nQ: More?", None),  # not cut: an error, as published
    ],
)
def test_program_of(completion, printed):
    ran = run(program_of(completion))
    assert ran.stdout == (printed or "") and (ran.returncode == 0) == (printed is not None)


@pytest.mark.parametrize("completion", ["", "\n", "It is 4.", "```\n```", "if answer == 4: pass", "```"])
def test_no_program(completion):
    assert program_of(completion) is None


@pytest.mark.parametrize(
    "value, text",
    [
        (4, "4"), (16.0, "16"), (0.1 + 0.2, "3/10"), (1 / 3, "1/3"), (-2.5, "-5/2"), (37.55, "751/20"),
        (math.pi, "3.141592653589793"), (1e300, "1e+300"), (1e-12, "0"), (math.inf, "inf"), (math.nan, "nan"),
        (True, "True"), ("B", "B"), (None, "None"), ([3], "3"), ([3, 4.0], "3, 4"), ((3, 4), "(3, 4)"), ((3,), "3"),
        ({5}, "5"), ([], ""), ({"x": 3}, "3"), ([(1, 2)], "(1, 2)"), (sympy.sqrt(8), "2 \\sqrt{2}"),
        (sympy.Rational(1, 3), "\\frac{1}{3}"), (sympy.Float(1) / 3, "1/3"), (sympy.Integer(7), "7"), (1 + 2j, "(1+2j)"),
    ],
)  # fmt: skip
def test_written(value, text):
    assert written(value) == text


BODY = "    return [half(x) for x in xs]\n"
WHOLE = "def halves(xs):\n" + BODY


@pytest.mark.parametrize(
    "completion, passes",
    [
        (BODY, True),
        (BODY + "\n\ndef more():\n    raise SystemExit(1)\n", True),  # cut at the stop
        ("    return xs\n", False),
        (f"Here it is:\n```python\n{WHOLE}```\nDone.", True),
        (f"```python\n{WHOLE}", True),
        (f"```python\n{WHOLE}```\nFor example\n```python\nhalves([1])\n```", True),
        (f"```\n{BODY}```", True),
        ("```python\ndef halves(xs):\n    return xs\n```", False),
        ("", False),
        ("    import os; os._exit(0)\n", False),
        ("    import sys; sys.exit(0)\n", False),
        ("```", False),
    ],
)
def test_humaneval(completion, passes):
    assert (run(program_with_tests(HUMANEVAL, completion)).stdout == f"{PASSED}\n") is passes


@pytest.mark.parametrize(
    "completion, passes",
    [
        ("def area(r):\n    return int(math.pi * r * r)\n[DONE]\nraise ValueError", True),
        ("[BEGIN]\ndef area(r):\n    return 3\n[DONE]", True),
        ("```python\ndef area(r):\n    return 3\n```\n```\nprint(area(1))\n```", True),
        ("def area(r):\n    return 4\n[DONE]", False),
        ("exit()", False),
        ("", False),
    ],
)
def test_mbpp(completion, passes):
    assert (run(program_with_tests(MBPP, completion, "token 17")).stdout == "token 17\n") is passes


FIRST = "Add.\n```python\nx = 3\nprint(x)\nif x:\n    print('in')\n```\n"
SECOND = "```output\n3\n```\nNow\n```python\nprint(x + 1)\n```\n"


def test_tool_program():
    assert tool_program(FIRST + "```output") == "x = 3\nprint(x)\nif x:\n    print('in')"
    assert tool_program(FIRST) == tool_program(FIRST + "```output\n")
    assert tool_program(FIRST + SECOND + "```output") == "x = 3\nif x:\n    print('in')\nprint(x + 1)"
    assert run(tool_program(FIRST + SECOND + "```output")).stdout == "in\n4\n"
    for text in ("", "no code", "```python\nprint(1)", FIRST + "and then", "```output", "```python\n```"):
        assert tool_program(text) == ""


class Words:
    """A tokenizer whose tokens are words."""

    def encode(self, text):
        self.words = text.split()
        return list(range(len(self.words)))

    def decode(self, ids):
        return " ".join(self.words[i] for i in ids) + " "


def test_tool_output():
    assert tool_output(" 18\n", "", Words()) == "18"
    assert tool_output("x" * 100, "", Words()) == "x" * 100
    assert tool_output("a" * 60 + "b" * 41, "", Words()) == "a" * 50 + "..." + "a" * 9 + "b" * 41
    assert tool_output("", "", Words()) == "Runtime errors:"
    assert tool_output("18", "Timeout Error", Words()) == "Runtime errors: Timeout Error"
    long = " ".join(map(str, range(101)))
    ends = f"{' '.join(map(str, range(50)))} ... {' '.join(map(str, range(51, 101)))}"
    assert tool_output("", long, Words()) == f"Runtime errors: {ends}"
    assert PAPER.error_tokens == PAPER.output_characters == 50


def test_tracebacks_lose_the_places_of_files():
    error = run("def f():\n    return 1 / 0\nf()").stderr
    assert 'File "<string>"' in error
    shown = "Runtime errors: in f\nZeroDivisionError: division by zero"
    assert tool_output("", error, Words()) == shown
    sandboxed = (
        'Traceback (most recent call last):\n  File "<program>", line 3, in <module>\n    f()\n'
        '  File "<program>", line 2, in f\n    return 1 / 0\n           ~~^~~\nZeroDivisionError: division by zero\n'
    )
    assert tool_output("", sandboxed, Words()) == shown
    inside = (
        'Traceback (most recent call last):\n  File "/usr/lib/site-packages/sympy/a.py", line 7, in solve\n    x\n'
        '  File "/usr/lib/python3.11/json.py", line 8, in load\n    y\nE: 1'
    )
    assert tool_output("", inside, Words()) == (
        'Runtime errors: File "site-packages/sympy/a.py", in solve\n    x\n  File "json.py", in load\n    y\nE: 1'
    )
    wrong = '  File "<program>", line 1\n    x = = 1\n        ^\nSyntaxError: invalid syntax'
    assert tool_output("", wrong, Words()) == f"Runtime errors: {wrong.strip()}"


def test_a_huge_error_is_shortened_before_it_is_encoded():
    class Short(Words):
        def encode(self, text):
            assert len(text) <= 10_001
            return super().encode(text)

    assert len(tool_output("", "word " * 1_000_000, Short())) < 1000
