"""Programs and tool-integrated solutions: they run, print the answer, and show exactly what they print."""

import builtins
import io
import itertools
import keyword
import re
import subprocess
import sys
from contextlib import redirect_stdout

import pytest

from dsm_jax.data.problems import FAMILIES, LANGUAGES, LEVELS, Problem, ProblemSet
from dsm_jax.evaluate.grader import grade

ROUND = r"```python\n(.+?)\n```\n```output\n(.+?)\n```\n"
SYMPY = ("equation", "system", "positive_root", "larger_root", "smaller_root")
CELLS = list(itertools.product(FAMILIES, LEVELS, LANGUAGES))


def printed(code: str) -> str:
    out = io.StringIO()
    with redirect_stdout(out):
        exec(code, {})  # noqa: S102, our own generated text
    return out.getvalue().removesuffix("\n")


def rounds(problem: Problem) -> list[tuple[str, str]]:
    """Code and output of each round; everything else is a line of reasoning before each, and the answer."""
    text = problem.tool_solution
    assert re.fullmatch(rf"(?s)(?:[^`\n]+\n{ROUND})+[^`\n]+", text), text
    return re.findall(rf"(?s){ROUND}", text)


@pytest.mark.parametrize("family, level, language", CELLS)
def test_programs_print_the_answer(family, level, language):
    problems = ProblemSet("test", (family,), (level,), language, seed=5)
    for problem in map(problems.__getitem__, range(8)):
        assert printed(problem.program) == problem.answer, problem.program
        codes = rounds(problem)
        assert len(codes) == 1 or level >= 4
        for code, output in codes:
            assert len(codes) == 1 or printed(code) == output, code
        assert codes[-1][1] == problem.answer
        assert grade(problem.tool_solution, problem.answer).correct is True


@pytest.mark.slow
def test_ten_thousand_programs_print_the_answer():
    for family, level, language in CELLS:
        problems = ProblemSet("train", (family,), (level,), language, seed=6)
        for problem in map(problems.__getitem__, range(67)):
            for code, output in [(problem.program, problem.answer), *rounds(problem)]:
                assert printed(code) == output, code


def test_programs_stand_alone_in_a_fresh_interpreter():
    for family in FAMILIES:
        code = ProblemSet("train", (family,), (5,))[3].program
        done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == ProblemSet("train", (family,), (5,))[3].answer + "\n"


@pytest.mark.parametrize("family, level, language", CELLS)
def test_programs_are_short_and_compute(family, level, language):
    """Meaningful names that hide nothing of Python's, only plain imports, and no printed constant."""
    problems = ProblemSet("train", (family,), (level,), language, seed=7)
    for problem in map(problems.__getitem__, range(30)):
        *lines, last = problem.program.splitlines()
        assert len(lines) <= 20 and max(map(len, lines)) <= 140
        assert re.fullmatch(r"print\([a-z_\[\]()]+\)", last), problem.program
        imports = {line.split()[1] for line in lines if line.startswith(("import", "from"))}
        assert imports <= {"math", "fractions", "sympy"}
        assert ("sympy" in imports) == (problem.draft.kind in SYMPY)
        names = re.findall(r"(?m)^(\w+) = ", problem.program)
        assert not [name for name in names if hasattr(builtins, name) or keyword.iskeyword(name)], names
        assert problem.program.isascii()
        if problem.draft.kind not in ("story", "value", *SYMPY):
            assert len(set(names)) == len(names)
            unused = str(problem.draft.slots["c"]) if "term" in problem.draft.kind else ""  # a third term
            numbers = set(re.findall(r"\d+", problem.question)) - {unused}
            assert all(re.search(rf"\b{number}\b", problem.program) for number in numbers)


def test_longer_problems_take_two_rounds_about_half_of_the_time():
    problems = [ProblemSet("train", levels=(5,))[index] for index in range(600)]
    long = [p for p in problems if len(p.draft.plan) >= 4 and p.draft.kind not in ("value", *SYMPY)]
    two = sum(len(rounds(problem)) == 2 for problem in long)
    assert 0.4 < two / len(long) < 0.6
