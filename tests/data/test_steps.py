"""Step truths: the generator's own solutions are right, corrupted steps are wrong with all that follows."""

import re
import time
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.data.problems import FAMILIES, LANGUAGES, ProblemSet, Step
from dsm_jax.data.steps import step_truths

CHAIN = replace(
    ProblemSet("train", families=("rates",), levels=(2,))[2],
    question="A car goes 14 km in 2 hours. How far does it go in 4 hours?",
    answer="28",
    steps=(Step("14/2=7", Fraction(7)), Step("7*4=28", Fraction(28))),
)
EQUATION = next(
    problem
    for problem in map(ProblemSet("train", families=("equations",)).__getitem__, range(99))
    if "+" in problem.form
)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("family", FAMILIES)
def test_own_solutions_are_right(family, language):
    problems = ProblemSet("train", families=(family,), language=language, seed=6)
    for index in range(200):
        problem = problems[index]
        truths = step_truths(problem, problem.solution)
        assert truths == (True,) * (len(problem.steps) + 1), problem


@given(st.sampled_from(FAMILIES), st.integers(0, 10**6), st.data())
def test_a_corrupted_number_is_wrong_with_all_after_it(family, index, data):
    problem = ProblemSet("test", families=(family,))[index]
    lines = problem.solution.splitlines()
    at = data.draw(st.integers(0, len(lines) - 1))
    numbers = list(re.finditer(r"\d+", lines[at]))
    number = data.draw(st.sampled_from(numbers))
    wrong = str(int(number.group()) + data.draw(st.integers(1, 60)))
    if re.search(
        r">|<|mod|gcd|^[^=]*\d+/\d+$", lines[at]
    ):  # it may stay true: make its number one that nobody knows
        wrong = "99991"
    lines[at] = lines[at][: number.start()] + wrong + lines[at][number.end() :]
    assert step_truths(problem, "\n".join(lines)) == (True,) * at + (False,) * (len(lines) - at)


@pytest.mark.parametrize(
    "response, truths",
    [
        ("14 / 2 = 7\n7 * 4 = 28\nThe answer is \\boxed{28}.", (True, True, True)),
        ("First 14 ÷ 2 = 7 km an hour.\n\nThen 7 \\times 4 = 28.\n", (True, True)),
        ("14 / 2 * 4 = 28", (True,)),
        ("14/2 = 7\n7*4 = 28", (True, True)),
        ("14 / 2 = 7 = 7", (True,)),
        ("14 * 2 = 28\nThe answer is \\boxed{28}.", (True, True)),  # arrives by luck at a value of the way
        ("14 + 4 = 18", (False,)),  # holds, but leads elsewhere
        ("3 + 4 = 7", (False,)),  # 3 comes from nowhere
        ("14 / 2 = 8\n7 * 4 = 28", (False, False)),
        ("14 / 2 = 7\nThe answer is \\boxed{7}.", (True, False)),
        ("The answer is \\boxed{28}.", (False,)),  # 28 comes from nowhere
        ("The answer is", (False,)),
        ("99 = 99", (False,)),
        ("14 / (2 - 2) = 7", (False,)),
        ("14 / 2 = ", (False,)),
        ("= 7", (False,)),
        ("14 / 2 = 7)", (False,)),
        ("14 > 2", (True,)),
        ("14 < 2", (False,)),
        ("I do not know", (True,)),
        ("", ()),
    ],
)
def test_single_responses(response, truths):
    assert step_truths(CHAIN, response) == truths


def test_x_stands_for_the_answer():
    x = EQUATION.answer
    a, b, c = (int(number) for number in re.findall(r"\d+", EQUATION.form))
    response = f"{a} * x + {b} = {c}\n{a} * x = {c} - {b} = {c - b}\nx = {c - b} / {a} = {x}\nx = {x}"
    assert step_truths(EQUATION, response) == (True, True, True, True)
    assert step_truths(EQUATION, f"x = {int(x) + 1}") == (False,)


@given(st.text(alphabet="0123456789x+-*/()=<> .\\{}boxedanswer is\n%$,", max_size=80))
def test_any_text_is_read(text):
    truths = step_truths(CHAIN, text)
    assert len(truths) == len([line for line in text.splitlines() if line.strip()])
    assert list(truths) == sorted(truths, reverse=True)


@pytest.mark.parametrize(
    "bomb", ["9" * 5_000_000, "(" * 2_000_000, "1/" * 1_000_000, "-" * 2_000_000, "1 = " * 500_000]
)
def test_bombs_are_wrong_and_quick(bomb):
    start = time.perf_counter()
    assert step_truths(CHAIN, f"{bomb}\n14 / 2 = 7") in ((False, False), (True, True))
    assert time.perf_counter() - start < 5
