"""The generator: exact answers by an independent route, disjoint splits, random access, bad input."""

import itertools
import random
import re
import subprocess
import sys
from collections import Counter
from fractions import Fraction

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.data.families import draw
from dsm_jax.data.problems import FAMILIES, LANGUAGES, LEVELS, Problem, ProblemSet, Step, drill, split_of
from dsm_jax.errors import UserError

QUICKSTART = ("chains", "calculations", "equations", "rates", "percentages")
CELLS = list(itertools.product(FAMILIES, LEVELS, LANGUAGES))
# Sentences of a story by the operation that they tell: kept apart from the generator's own tables.
TURNS = {
    "en": {
        r"(?:buys|gets) (\d+) more|(\d+) get on|Add (\d+)": "+",
        r"gives away (\d+)|(\d+) get off|sells (\d+)|Take away (\d+)": "-",
        r"has (\d+) times as many|Multiply by (\d+)": "*",
        r"keeps one of (\d+) equal parts|Divide by (\d+)": "/",
    },
    "zh": {
        r"又买了(\d+)|运来(\d+)|上来(\d+)|加上(\d+)": "+",
        r"送出(\d+)|卖出(\d+)|下去(\d+)|减去(\d+)": "-",
        r"原来的(\d+)倍|乘以(\d+)": "*",
        r"平均分成(\d+)份，只留一份|除以(\d+)": "/",
    },
}


def solve_story(question: str, language: str) -> sympy.Rational:
    """The chain of a story, read from its words in the order in which they stand."""
    value = sympy.Rational(re.search(r"\d+", question).group())
    turns = [
        (match, op) for pattern, op in TURNS[language].items() for match in re.finditer(pattern, question)
    ]
    assert len(turns) == len(re.findall(r"\d+", question)) - 1
    for match, op in sorted(turns, key=lambda turn: turn[0].start()):
        b = sympy.Rational(next(group for group in match.groups() if group))
        value = {"+": value + b, "-": value - b, "*": value * b, "/": value / b}[op]
    return value


def solve(problem: Problem) -> sympy.Rational:
    """The answer from the question's words and numbers alone, with sympy on our own generated text."""
    question = problem.question
    n = [sympy.Rational(token) for token in re.findall(r"\d+(?:/\d+)?", question)]
    if problem.family == "chains":
        return solve_story(question, problem.language)
    if problem.family == "equations":
        left, right = re.search(r"[\dx+*\- ]*x[\dx+*\- ]*= *\d+", question).group().split("=")
        (root,) = sympy.solve(sympy.sympify(left) - sympy.sympify(right))
        return root
    if problem.family == "calculations" or re.search(r"\d+/\d+[+*-]", question):
        expression = re.search(r"[\d(][\d()+*/\- ]*[\d)]", question).group()
        return sympy.Rational(sympy.sympify(expression))
    if problem.family == "rates":
        if len(n) == 4:
            return n[0] * n[1] + n[2] * n[3]
        pages_last = not re.search(r"cost|元", question) and problem.language == "en"
        total, count = (n[0], n[1]) if pages_last else (n[1], n[0])
        return total / count * n[2]
    if problem.family == "percentages":
        a, b = (n[1], n[0]) if re.match(r"What is \d+%", question) else (n[0], n[1])
        if re.search(r"off|left|less|降价|还剩", question):
            return a * (100 - b) / 100
        if re.search(r"goes up|more|plus|涨价|增加", question):
            return a * (100 + b) / 100
        return a * b / 100
    if problem.family == "fractions":
        return n[0] * n[1]
    if len(n) == 2:
        return max(n)
    return n[0] * n[1] - n[2] * n[3]


@pytest.mark.parametrize("family, level, language", CELLS)
def test_answers_agree_with_another_route(family, level, language):
    problems = ProblemSet("train", families=(family,), levels=(level,), language=language, seed=3)
    for index in range(50):  # 42 cells: 2,100 problems
        problem = problems[index]
        assert (problem.family, problem.level, problem.language) == (family, level, language)
        assert str(solve(problem)) == problem.answer, problem.question


@pytest.mark.parametrize("family", FAMILIES)
def test_solutions_are_short_lines_that_end_in_the_box(family):
    for index in range(100):
        problem = ProblemSet("test", families=(family,), seed=1)[index]
        *lines, last = problem.solution.splitlines()
        assert 2 <= len(lines) <= 4 or family == "fractions" and 1 <= len(lines) <= 4
        assert last == f"The answer is \\boxed{{{problem.answer}}}."
        assert len(problem.question) <= 130 and max(map(len, lines)) <= 40
        assert str(problem.steps[-1].value) == problem.answer


def worked(steps: list[str]) -> set[tuple[str, ...]]:
    """The pairs of steps in a row of a solution (its step where there is one), whatever the order of summands."""

    def key(step: str) -> str:
        left, _, value = step.partition("=")
        for op in "+*":
            if left.count(op) == 1 and not re.search(r"[-()<>]", left):
                return op.join(sorted(left.split(op))) + "=" + value
        return step

    keys = [key(step) for step in steps]
    return {tuple(sorted(pair)) for pair in itertools.pairwise(keys)} or {tuple(keys)}


@pytest.mark.parametrize("family", FAMILIES)
def test_no_held_out_problem_is_worked_out_in_an_earlier_split(family):
    """Over seeds, languages and levels, and over the drills: train works out no rl or test problem, rl no test."""
    solved: set[tuple[str, ...]] = set()
    for index in range(4000):
        solved |= worked([line for line in drill(1, index).splitlines() if re.search("[=<>]", line)])
    for split in ("train", "rl", "test"):
        sets = [ProblemSet(split, language=language, seed=seed) for seed in (0, 1) for language in LANGUAGES]
        own = [ProblemSet(split, families=(family,), seed=3)]
        steps = [[step.text for step in one[index].steps] for one in sets + own for index in range(1500)]
        if split != "train":
            assert not [lines for lines in steps if worked(lines) <= solved]
        solved |= set().union(*map(worked, steps))


def test_a_fifth_is_held_out_for_each_purpose():
    rng = random.Random(0)
    counts = Counter(split_of(draw("calculations", 2, rng).steps) for _ in range(20_000))
    assert abs(counts["test"] / 20_000 - 0.2) < 0.01 and abs(counts["rl"] / 20_000 - 0.2) < 0.01
    assert counts["train"] + counts["test"] + counts["rl"] == 20_000  # problems of two steps are all used


def test_a_problem_told_the_other_way_round_is_in_the_same_split():
    for a, b, c in itertools.product(range(2, 9), repeat=3):
        one = (Step(f"{a}+{b}={a + b}", Fraction(a + b)), Step(f"{a + b}*{c}={(a + b) * c}", Fraction(1)))
        two = (Step(f"{b}+{a}={a + b}", Fraction(a + b)), Step(f"{c}*{a + b}={(a + b) * c}", Fraction(1)))
        assert split_of(one) == split_of(two)


def test_a_problem_is_a_function_of_its_configuration_and_index():
    problems = ProblemSet("train", seed=7)
    backwards = [problems[index] for index in reversed(range(200))]
    assert backwards[::-1] == [ProblemSet("train", seed=7)[index] for index in range(200)]
    assert problems[0] != ProblemSet("train", seed=8)[0]


def test_another_process_makes_the_same_problems():
    code = "from dsm_jax.data.problems import *; print(ProblemSet('test')[11].question, repr(drill(2, 5)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == f"{ProblemSet('test')[11].question} {drill(2, 5)!r}"


def test_known_problem_stays_the_same():
    """Runs in progress lean on the generator's bytes: a change here is a change of every result."""
    problem = ProblemSet("train", families=("rates",), levels=(2,))[2]
    assert problem.question == "A car goes 14 km in 2 hours. How far does it go in 4 hours?"
    assert problem.solution == "14/2=7\n7*4=28\nThe answer is \\boxed{28}."


def test_families_and_levels_are_mixed_evenly():
    problems = ProblemSet("train", families=QUICKSTART)
    counts = Counter((problems[index].family, problems[index].level) for index in range(3000))
    assert len(counts) == 15
    assert min(counts.values()) > 140


def test_quickstart_mix_has_enough_held_out_problems():
    problems = ProblemSet("test", families=QUICKSTART).distinct(1500)
    assert len({problem.form for problem in problems}) == 1500
    assert len({problem.id for problem in problems}) == 1500
    assert Counter(problem.family for problem in problems).most_common()[-1][1] > 100


def test_distinct_is_a_prefix_of_a_longer_distinct():
    problems = ProblemSet("test", seed=2)
    assert problems.distinct(50) == problems.distinct(80)[:50]


@pytest.mark.parametrize("family", FAMILIES)
def test_drills_hold_exactly(family):
    for lines in (drill(1, index, families=(family,)).splitlines() for index in range(1500)):
        steps = lines[1:] or lines
        for part in (part for line in steps for part in line.split(", ") if "x" not in part):
            left, sign, right = re.match(r"(.+?) ?([=<>]) ?(.+)", part).groups()
            difference = sympy.sympify(left) - sympy.sympify(right)
            assert {"=": difference == 0, "<": difference < 0, ">": difference > 0}[sign], lines


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "equations"])
def test_a_problem_in_a_drill_starts_with_its_form(family):
    """An expression with as many operations as there are steps, worth what the last step arrives at."""
    drills = [drill(1, index, families=(family,)).splitlines() for index in range(800)]
    whole = [lines for lines in drills if len(lines) > 1]
    assert len(whole) > 300
    for form, *steps in whole:
        if family == "fractions":
            assert re.fullmatch(r"[\d/]+[-+*][\d/]+", form)
        elif family == "comparisons":
            assert form.startswith("max(") or len(re.findall("[-*]", form)) == 3
        else:
            assert len(re.findall(r"[-+*/]", form)) == len(steps)
        arrived = map(
            sympy.sympify, re.split("[=<>]", steps[-1].split(", ")[-1])
        )  # both sides; max: the larger one
        assert sympy.sympify(form.replace("max", "Max")) == max(arrived)


def test_equation_drills_solve_for_x():
    solved = [drill(1, index, families=("equations",)) for index in range(800)]
    whole = [block.splitlines() for block in solved if re.match(r"\d+\*x[+-]", block)]
    assert len(whole) > 200
    for form, *_, last in whole:
        left, right = form.split("=")
        assert sympy.sympify(left).subs("x", sympy.Rational(last.removeprefix("x="))) == int(right)


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_any_seed_and_index_work(seed, index):
    problem = ProblemSet("test", seed=seed)[index]
    assert split_of(problem.steps) == "test" and problem.solution.endswith(f"\\boxed{{{problem.answer}}}.")
    assert drill(seed, index)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"split": "valid"}, "split valid"),
        ({"split": "train", "families": ("algebra",)}, "families algebra"),
        ({"split": "train", "families": ()}, "families"),
        ({"split": "train", "levels": (4,)}, "levels 4"),
        ({"split": "train", "language": "fr"}, "language fr"),
    ],
)
def test_bad_options_are_one_line(options, words):
    with pytest.raises(UserError, match=words) as error:
        ProblemSet(**options)
    assert "\n" not in str(error.value)


def test_a_space_too_small_is_one_line():
    with pytest.raises(
        UserError, match=r"^problems: 500 distinct test problems wanted; families percentages"
    ):
        ProblemSet("test", families=("percentages",), levels=(1,)).distinct(500)


def test_a_negative_index_is_refused():
    with pytest.raises(IndexError):
        ProblemSet("train")[-1]
