"""The truths of steps: the lines' own where steps are lines, right solutions true however split, any text taken."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.data.problems import FAMILIES, LANGUAGES, ProblemSet
from dsm_jax.data.steps import step_truths
from dsm_jax.rl.steps.segments import step_ends, steps_of
from dsm_jax.rl.steps.truths import solution_truths

SPLITTINGS = ("lines", "numbered", "sentences")
MATHS = st.lists(
    st.sampled_from(
        [
            *"0123456789+-*/=<>()x$. \n\r",
            "gcd(",
            "mod ",
            "sqrt",
            "\\boxed{",
            "answer is ",
            "1/0",
            "\x0b",
            "²",
            "٣",
        ]
    )
).map("".join)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("splitting", SPLITTINGS)
def test_own_solutions_are_true(language, splitting):
    problems = ProblemSet("train", language=language)
    for index in range(150):
        text = f" {problems[index].solution}"
        ends = step_ends(text, splitting)
        assert solution_truths(problems[index], text, ends) == (True,) * len(ends)


@given(st.sampled_from(FAMILIES), st.integers(0, 10**6), st.data())
def test_truths_are_those_of_the_lines(family, index, data):
    """One number changed anywhere, blank lines between: the steps of the lines and the lines of step_truths are the same."""
    problem = ProblemSet("test", families=(family,))[index]
    number = data.draw(st.sampled_from(list(re.finditer(r"\d+", problem.solution))))
    text = (
        problem.solution[: number.start()]
        + data.draw(st.sampled_from(["99991", "0"]))
        + problem.solution[number.end() :]
    )
    text = text.replace("\n", data.draw(st.sampled_from(["\n", "\r\n", " \n\n"])))
    ends = step_ends(text)
    truths = solution_truths(problem, text, ends)
    assert truths == step_truths(problem, text)
    changed = next(
        (k for k, step in enumerate(steps_of(text, ends)) if step != problem.solution.splitlines()[k]),
        len(ends),
    )
    assert all(truths[:changed])


def test_two_sentences_of_a_line():
    problem = next(one for one in map(ProblemSet("rl").__getitem__, range(999)) if len(one.steps) == 2)
    first, second = (step.text for step in problem.steps)
    text = f"We have {first}. Then {second}. So {second}9. Then {first}."
    assert solution_truths(problem, text, step_ends(text, "sentences")) == (True, True, False, False)
    assert solution_truths(problem, text, step_ends(text)) == (False,)
    text = f"{first}\n{second}\nThe answer is. So {problem.answer}."
    assert solution_truths(problem, text, step_ends(text, "sentences")) == (True, True, False, False)
    assert solution_truths(problem, text, step_ends(text)) == (True,) * 3  # of the whole line


@given(st.integers(0, 99), MATHS | st.text(), st.sampled_from(SPLITTINGS))
def test_any_text_has_truths_and_they_are_those_of_its_beginnings(index, text, splitting):
    problem = ProblemSet("rl", language=LANGUAGES[index % 2])[index]
    ends = step_ends(text, splitting)
    truths = solution_truths(problem, text, ends)
    alone = [all(step_truths(problem, text[:end])) for end in ends]
    assert truths == tuple(all(alone[: k + 1]) for k in range(len(ends)))


@pytest.mark.parametrize(
    "text",
    ["(" * 199 + "1", "-" * 199 + "1", "sqrt" * 99 + "(4)", "1/" * 60 + "1 = 1", "9" * 5000, "1\n" * 500],
)
def test_hostile_texts(text):
    problem = ProblemSet("rl")[0]
    assert len(solution_truths(problem, text, step_ends(text))) == len(step_ends(text))
