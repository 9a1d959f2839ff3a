"""The generator: exact answers by an independent route, disjoint splits and surface forms, random access, bad input."""

import itertools
import random
import re
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.data.families import draw
from dsm_jax.data.problems import FAMILIES, LANGUAGES, LEVELS, ProblemSet, Step, drill, split_of
from dsm_jax.data.wordings import SCENARIOS, is_test_form
from dsm_jax.errors import UserError

sys.path.insert(0, str(Path(__file__).parent))
from independent_solver import evaluate, solve

QUICKSTART = ("chains", "calculations", "equations", "rates", "percentages")
CELLS = list(itertools.product(FAMILIES, LEVELS, LANGUAGES))


def check_answers(count: int, seed: int) -> int:
    """Solves `count` problems of each family, level and language, of train and test in turn; how many there were."""
    for family, level, language in CELLS:
        sets = [ProblemSet(split, (family,), (level,), language, seed) for split in ("train", "test")]
        for index in range(count):
            problem = sets[index % 2][index]
            assert (problem.family, problem.level, problem.language) == (family, level, language)
            assert str(solve(family, problem.question, language)) == problem.answer, problem.question
    return count * len(CELLS)


def test_answers_agree_with_another_route():
    assert check_answers(20, seed=3) == 3_000


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_hundred_thousand_answers_agree_with_another_route():
    assert check_answers(667, seed=4) > 100_000


@pytest.mark.parametrize("family", FAMILIES)
def test_solutions_are_short_lines_that_end_in_the_box(family):
    for index in range(200):
        problem = ProblemSet("test", families=(family,), seed=1)[index]
        *lines, last = problem.solution.splitlines()
        assert [line.split(": ")[-1] for line in lines] == [step.text for step in problem.steps]
        assert 1 <= len(lines) <= 11 and last == f"The answer is \\boxed{{{problem.answer}}}."
        assert len(problem.question) <= 400 and max(map(len, lines)) <= 80
        if problem.level == 1:
            assert len(lines) <= (7 if family == "divisibility" else 4)
            assert len(problem.question) <= 180 and max(map(len, lines)) <= 40


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


def check_splits(count: int) -> None:
    """Draws `count` problems of each family, level, language and split, and drills; what splits may share, and not."""
    solved: set[tuple[str, ...]] = set()
    told: set[str] = set()
    surfaces: dict[bool, set[str]] = {True: set(), False: set()}
    for index in range(30 * count):
        lines = drill(1, index).splitlines()
        solved |= worked(lines[1:] or lines) | worked(lines[1:-1] or lines)  # with and without a last "x="
    for split in ("train", "rl", "test"):
        sets = [ProblemSet(split, (family,), (level,), language, 7) for family, level, language in CELLS]
        sets += [ProblemSet(split, language=language, seed=8) for language in LANGUAGES * 20]
        problems = [one[index] for one in sets for index in range(count)]
        works = [worked([step.text for step in problem.steps]) for problem in problems]
        texts = [{problem.question, problem.form} for problem in problems]
        if split != "train":
            assert not [problem for problem, work in zip(problems, works, strict=True) if work <= solved]
            assert not [problem for problem, text in zip(problems, texts, strict=True) if text & told]
        solved.update(*works)
        told.update(*texts)
        surfaces[split == "test"] |= {problem.surface for problem in problems} - {""}
    assert surfaces[True] and not surfaces[True] & surfaces[False]


def test_no_held_out_problem_is_worked_out_in_an_earlier_split():
    """Train works out no rl or test problem, rl no test; no question or form is shared, no surface form with test."""
    check_splits(20)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_hundred_thousand_problems_keep_their_splits():
    check_splits(180)  # 190 sets of 3 splits


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("level", (1, 2))
def test_every_kind_has_surface_forms_on_both_sides(level, language):
    """Over all choices of phrasings: each scenario has forms of both, each phrasing is in one to train on.

    No form is on both sides, though scenarios have sentences in common.
    """
    sides: dict[str, bool] = {}
    for kind, scenarios in SCENARIOS[language].items():
        for scenario in scenarios:
            sentences = [*scenario.sentences[:1], *scenario.turns.values(), *scenario.sentences[1:]]
            if len(sentences) == 1:
                continue
            numbers = [range(min(len(phrasings), 2 if level == 1 else 99)) for phrasings in sentences]
            forms = list(itertools.islice(itertools.product(*numbers), 5000))
            train = [form for form in forms if not is_test_form(form)]
            assert len(forms) > len(train) > len(forms) / 2, kind
            for form in [] if scenario.turns else forms:
                text = " ".join(one[i] for one, i in zip(sentences, form, strict=True))
                assert sides.setdefault(text, is_test_form(form)) == is_test_form(form), text
            for place, choices in enumerate(numbers):
                assert {form[place] for form in train} == set(choices), kind


@pytest.mark.parametrize("language", LANGUAGES)
def test_both_languages_have_the_same_scenarios(language):
    for kind, scenarios in SCENARIOS["en"].items():
        for one, two in zip(scenarios, SCENARIOS["zh"][kind], strict=True):
            assert len(one.labels) == len(two.labels) and set(one.turns) == set(two.turns)
            assert len(one.sentences) == len(two.sentences), kind


@pytest.mark.parametrize("family, level, language", CELLS)
def test_texts_are_clean(family, level, language):
    problems = ProblemSet("train", (family,), (level,), language, seed=9)
    for problem in map(problems.__getitem__, range(40)):
        texts = (
            problem.question,
            problem.solution.replace("\\boxed{", ""),
            problem.tool_solution,
            problem.program,
        )
        assert not re.search(r"[{}]", texts[0] + texts[3]) and texts[0][0] != " "
        assert not any(
            re.search(r"[^\n ]  +\S| \n|\n\n\n|^\s|\s$|,,|(?<!\.)\.\.(?!\.)|，，|。。", text)
            for text in texts
        ), texts
        assert not re.search(r"(?<!\d)1 [a-z]+s\b", problem.question)
        if language == "zh":
            assert not re.search(r"[A-Za-z]{2}|[,?;]", problem.question) and problem.question[-1] in "。？"
        else:
            assert problem.question.isascii() and problem.question[-1] in ".?"
            for sentence in re.findall(r"(?:^|[.?] )([^.?]+)", problem.question):
                assert not sentence[0].islower() or sentence[0] == "x", problem.question


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
    assert (
        problem.question
        == "It takes a car 3 hours to go 9 km. Going on like this, how many km are done in 9 hours?"
    )
    assert problem.solution == "Speed: 9/3=3\nNew distance: 3*9=27\nThe answer is \\boxed{27}."


def test_families_and_levels_are_mixed_evenly():
    problems = ProblemSet("train", families=QUICKSTART)
    counts = Counter((problems[index].family, problems[index].level) for index in range(3000))
    assert len(counts) == 25
    assert min(counts.values()) > 80


def test_quickstart_mix_has_enough_held_out_problems():
    problems = ProblemSet("test", families=QUICKSTART).distinct(1500)
    assert len({problem.form for problem in problems}) == 1500
    assert len({problem.id for problem in problems}) == 1500
    assert Counter(problem.family for problem in problems).most_common()[-1][1] > 100


def test_distinct_without_some_is_the_rest_in_order():
    problems = ProblemSet("rl", families=QUICKSTART)
    left_out = {one.form for one in problems.distinct(20)[::2]}
    wanted = [one for one in problems.distinct(60) if one.form not in left_out]
    assert problems.distinct(50, without=left_out) == wanted and len(wanted) == 50


def test_distinct_is_a_prefix_of_a_longer_distinct():
    problems = ProblemSet("test", seed=2)
    assert problems.distinct(50) == problems.distinct(80)[:50]


@pytest.mark.parametrize("family", FAMILIES)
def test_drills_hold_exactly(family):
    """Each step of a drill; a quotient in lowest terms is only stated."""
    for lines in (drill(1, index, families=(family,)).splitlines() for index in range(1500)):
        for part in (
            part for line in lines[1:] or lines for part in re.split(r", (?!\d+\))", line) if "x" not in part
        ):
            if not re.fullmatch(r"-?\d+/\d+", part):
                assert evaluate(part.replace("=", "==")), lines


@pytest.mark.parametrize("family", FAMILIES)
def test_a_problem_in_a_drill_starts_with_its_form(family):
    """A form is an expression worth the answer, or equations that x solves."""
    drills = {drill(1, index, families=(family,)) for index in range(300)}
    problems = [ProblemSet("train", (family,))[index] for index in range(300)]
    assert sum("\n" in one for one in drills) > 80
    for problem in problems:
        if "=" not in problem.form:
            assert evaluate(problem.form) == Fraction(problem.answer)
        elif "y" not in problem.form:
            assert evaluate(problem.form.replace("=", "=="), x=Fraction(problem.answer))


def test_equation_drills_solve_for_x():
    solved = [drill(1, index, families=("equations",), levels=(1, 2, 3)) for index in range(800)]
    whole = [block.splitlines() for block in solved if re.match(r"\d+\*x[+-]", block)]
    assert len(whole) > 150
    for form, *_, last in whole:
        assert evaluate(form.replace("=", "=="), x=Fraction(last.removeprefix("x=")))


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
        ({"split": "train", "levels": (6,)}, "levels 6"),
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
