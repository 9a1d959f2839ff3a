"""Completions as models write them, and hostile ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.evaluate import grade
from dsm_jax.evaluate.prompts import answer_text, choose, cut, program_of, tool_program

OPTIONS = ("$\\frac{1}{2}$", "0.25", "both", "1,000 m")
HOPE = " I hope it is correct."
HOSTILE = (
    "", "\x00", "\ud800", "```", "```python", "```\n```", "The final answer is", "I hope", "inal answer is I hope",
    "答案是", "\\boxed{" * 20_000, "(" * 500_000, "```" * 300_000, "final answer is " * 60_000, "I hope " * 100_000,
    "9" * 1_000_000, "[DONE]" * 100_000, "Q: " * 300_000, "A" * 1_000_000, "def solution():\n" * 60_000,
    "answer = 1\n" * 90_000, "\n" * 1_000_000, "$" * 1_000_000, "{" * 999, "A," * 499, "A、" * 400 + "x",
)  # fmt: skip


def test_cut_takes_the_first_stop_word_in_the_text():
    assert cut("a\nQ: b [DONE]", ("[DONE]", "\nQ:")) == "a"
    assert cut("a", ("\nQ:",)) == "a" and cut("", ("x",)) == "" and cut("ab", ()) == "ab"


@pytest.mark.parametrize(
    "completion, text",
    [
        ("So $\\boxed{3}$.\nFinal Answer: The final answer is $4$." + HOPE, "The final answer is $4$"),
        ("Final answer: The final answer is +2." + HOPE, "The final answer is +2"),
        ("The final answer is:\n\\[\n\\frac12\n\\]." + HOPE, "The final answer is \\[ \\frac12 \\]"),
        ("The final answer is 1. No: The final answer is (C)." + HOPE, "The final answer is (C)"),
        ("The final answer is 1." + HOPE + " Wait, \\boxed{2}", None),
        ("The final answer is 1." + HOPE + " Wait, the answer is 2.", None),
        ("The final answer is 1", None),
        ("I hope the final answer is 1", None),
        ("The final answer is " + "1" * 2000 + "." + HOPE, None),
        ("2 + 2 = 4. The answer is 4.", None),
    ],
)
def test_minervas_sentence_goes_before_boxes(completion, text):
    assert answer_text(completion) == (completion if text is None else text)


@pytest.mark.parametrize(
    "answer, letter",
    [
        ("B", "B"), ("(B)", "B"), ("b", "B"), ("(b)", "B"), ("B.", "B"), ("$\\text{(B)}$", "B"), ("\\textbf{B}", "B"),
        ("(B) 0.25", "B"), ("B. 0.25", "B"), ("B: 0.25", "B"), ("（C）", "C"), ("(A) 因为", "A"),
        ("\\frac{1}{2}", "A"), ("0.5", "A"), ("1/4", "B"), ("both", "C"), ("1000 m", "D"),
        ("BD", "BD"), ("B, D", "BD"), ("D和B", "BD"), ("A and C", "AC"), ("(A)(B)", "AB"),
        ("E", None), ("BE", None), ("7", None), ("", None), ("A" * 2000, None), ("Blue", None), ("neither", None),
    ],
)  # fmt: skip
def test_choose(answer, letter):
    assert choose(answer, OPTIONS) == letter


def test_an_answer_that_two_options_equal_names_none():
    assert choose("0.5", ("1/2", "0.5", "2")) == "B"  # written the same
    assert choose("0.50", ("1/2", "0.5", "2")) is None


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: f"{text[:16]!r} {len(text)}")
def test_hostile_completions_have_some_reading(text):
    read = answer_text(text, ("\nQ:",))
    assert grade(read, "1").correct in (True, False)
    choose(text, OPTIONS)
    program_of(text, ("\nQ:",))
    tool_program(text)


@given(st.text(alphabet="AB()$\\{}`\n Qdefpython:=answerI hope.is", max_size=200))
def test_any_text_has_some_reading(text):
    assert isinstance(answer_text(text), str)
    assert choose(text, OPTIONS) is None or set(choose(text, OPTIONS)) <= set("ABCD")
    assert program_of(text) is None or program_of(text).endswith("\n")
    assert isinstance(tool_program(text), str)
