"""The grader: extraction, exact comparison, hostile text."""

import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsm_jax.data.problems import FAMILIES, LANGUAGES, ProblemSet
from dsm_jax.errors import UserError
from dsm_jax.evaluate.grader import Verdict, answer_key, extract, grade, grade_many, is_boxed

EQUAL = [
    ("21", "21"),
    ("21", "21.0"),
    ("21", "$21$"),
    ("21", "\\$21"),
    ("21", "21."),
    ("21", " 2 1 ".replace(" 1", "1")),
    ("21", "21 km"),
    ("21", "21\\text{ km}"),
    ("21", "21\\,\\text{km/h}"),
    ("21", "21 cm^2"),
    ("21", "21km"),
    ("21", "x = 21"),
    ("21", "2１"),
    ("21", "21元"),
    ("21 cups", "21"),
    ("90", "90^\\circ"),
    ("90", "90°"),
    ("-3", "−3"),
    ("-3", "-3.0"),
    ("1000", "1,000"),
    ("1234567", "1,234,567"),
    ("1000", "1{,}000"),
    ("1000", "\\$1,000.00"),
    ("3/4", "\\frac{3}{4}"),
    ("3/4", "\\dfrac{3}{4}"),
    ("3/4", "\\frac34"),
    ("3/4", "0.75"),
    ("3/4", "6/8"),
    ("3/4", ".75"),
    ("-1/2", "-\\frac{1}{2}"),
    ("-1/2", "\\frac{-1}{2}"),
    ("3/2", "1\\frac{1}{2}"),
    ("3/2", "1 1/2"),
    ("-3/2", "-1 1/2"),
    ("50", "50\\%"),
    ("50%", "0.5"),
    ("50\\%", "50%"),
    ("1/3", "2/6"),
    ("Monday", "\\text{monday}"),
    ("(B)", "B"),
    ("\\frac{a}{b}", "\\dfrac{a}{b}"),
    ("2\\sqrt{3}", "2 \\sqrt{3}"),
    ("(1, 2)", "(1,2)"),
    ("So 7 * 3 = 21\n#### 21", "21"),
    ("We get \\boxed{3/4}.", "0.75"),
    ("5", "5 apples"),
    ("42", "42 miles per hour"),
    ("18", "18 dollars a day"),
    ("18", "18 red marbles"),
    ("5", "5\\text{ square feet}"),
    ("5", "5 m"),
    ("5", "5kg"),
    ("5", "5 meters squared"),
    ("5 apples", "5.0 apples"),
    ("5 m", "5"),
    ("10 inch", "10 inches"),
    ("10 feet", "10 ft"),
    ("10 foot", "10ft"),
    ("3 hours", "3 hrs"),
    ("3 h", "3\\text{ hours}"),
    ("60 km/h", "60 kilometers per hour"),
    ("5 cm^2", "5 square centimetres"),
    ("5 m²", "5 m^{2}"),
    ("5平方米", "5"),
    ("5", "5个苹果"),
    ("5千米", "5 km"),
    ("5", "{5}"),
    ("5", "(5)"),
    ("-5", "(-5)"),
    ("1/2", "½"),
    ("5/2", "2½"),
    ("5000", "5 \\times 10^3"),
    ("5000", "5×10³"),
    ("0.005", "5 \\cdot 10^{-3}"),
    ("5000", "5e3"),
    ("5 apples", "5"),
    ("5000000", "5 million"),
    ("9", "3^2"),
    ("25", "5²"),
]
DIFFERENT = [
    ("21", "12"),
    ("21", "2.1"),
    ("21", "-21"),
    ("1/3", "0.333"),
    ("7", "700"),
    ("7", "0.07"),
    ("1000", "1000.0005"),
    ("0", "0.0005"),
    ("50%", "50.5"),
    ("2", "2 or 3"),
    ("2", "2, 3"),
    ("2", "2\\pi"),
    ("2", "2 pi"),
    ("2", "2x"),
    ("3", "4=3"),
    ("10", "10_8"),
    ("5 cm", "5 km"),
    ("(1,2)", "[1,2]"),
    ("1/2", "1/0"),
    ("3/2", "1 1/0"),
    ("12", "1,2"),
    ("1", "__import__('os').getpid()"),
    ("5", ""),
    ("5", "$"),
    ("5 km", "5 kg"),
    ("52", "5²"),
    ("1234", "(1,234)"),
    ("50", "5 \\times 10^"),
]
# The text after the number changes its value: neither side may lose it.
NO_UNITS = [
    ("2", "2xy"),
    ("12", "12ab"),
    ("3", "3 x"),
    ("2", "2 x"),
    ("2", "2 xy"),
    ("3", "3 halves"),
    ("3", "3 half"),
    ("5", "5 tenths"),
    ("5", "5 twentieths"),
    ("5", "5 squared"),
    ("5", "5 cubed"),
    ("5", "5 square"),
    ("5", "5 square root two"),
    ("5", "5 factorial"),
    ("5", "5 divided by two"),
    ("5", "5 times"),
    ("5", "5 dozen"),
    ("5", "5 per cent of two"),
    ("5", "5 bags and two"),
    ("3", "3\\text{ more than }x"),
    ("3", "3\\text{ less}"),
    ("2", "2sqrt"),
    ("2", "2 log"),
    ("5", "5 million"),
    ("5", "5分之一"),
    ("5", "5半"),
    ("5", "5个半"),
    ("5", "5打"),
    ("5", "5倍"),
    ("5", "5成"),
    ("5", "5折"),
    ("5", "5千"),
    ("5", "5元三角"),
    ("5", "5次方"),
    ("5", "5的一"),
]


@pytest.mark.parametrize("gold, answer", EQUAL)
def test_equal_answers(gold, answer):
    verdict = grade(f"Thus the answer is \\boxed{{{answer}}}.", gold)
    assert verdict.correct is True, verdict


@pytest.mark.parametrize("gold, answer", DIFFERENT)
def test_different_answers(gold, answer):
    verdict = grade(f"Thus the answer is \\boxed{{{answer}}}.", gold)
    assert verdict.correct is False, verdict


@pytest.mark.parametrize("number, text", NO_UNITS)
def test_words_that_change_the_value_are_no_units(number, text):
    assert grade(f"\\boxed{{{text}}}", number).correct is False
    assert grade(f"\\boxed{{{number}}}", text).correct is False
    assert grade(f"\\boxed{{{text}}}", text).correct is True


def test_a_single_letter_at_a_gold_number_is_a_variable():
    assert grade("\\boxed{2}", "2m").correct is False
    assert grade("\\boxed{2m}", "2").correct is True


@pytest.mark.parametrize(
    "response, extracted",
    [
        ("\\boxed{1} or \\boxed{2}", "1 or 2"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{\\{1\\}}", "\\{1\\}"),
        ("\\boxed{\\boxed{5}}", "5"),
        ("\\boxed{5}, the answer is 6", "5"),
        ("\\boxed{5} and \\boxed{6", None),
        ("\\boxed{}", None),
        ("boxed{5}", None),
        ("The answer is 18.", "18"),
        ("The answer is 18 dollars.\nReally.", "18 dollars"),
        ("The answer is: **18**", "18"),
        ("The answer is 3. No, the answer is 4.", "4"),
        ("4 * 2 = 8\n#### 8", "8"),
        ("所以答案是：12。", "12"),
        ("\\boxed {5}", "5"),
        ("\\boxed{4} and \\boxed {5}", "4, 5"),
        ("\\boxed {5}. No: \\boxed{4}", "4"),
        ("The answer is 5 because 3+2=5", "5"),
        ("The answer is $\\frac{1}{2}$, since 2 > 1.", "$\\frac{1}{2}$"),
        ("The answer is **5**. I hope it is correct.", "5"),
        ("答案是5，因为3+2=5。", "5"),
        ("The answer is 5 or 6 because both fit", "5 or 6"),
        ("The answer is 5, 6", "5, 6"),
        ("It is 18", None),
        ("The answer is", None),
        ("", None),
    ],
)
def test_extraction(response, extracted):
    assert extract(response) == extracted
    assert grade(response, "999999").correct is False


def test_flexible_mode_takes_the_last_number_or_the_text():
    assert extract("It is 18, not 1,080.", mode="flexible") == "18"
    assert extract("It is 18 and 1,080.", mode="flexible") == "1,080"
    assert extract("-40", mode="flexible") == "-40"
    assert extract("blue", mode="flexible") == "blue"
    assert extract("It is \\boxed{3} of 18", mode="flexible") == "3"
    assert extract("1 and \\boxed{3", mode="flexible") is None
    assert grade("We have 3/4", "0.75", mode="flexible").correct is True
    assert grade("We have 3/4", "0.75").correct is False


@pytest.mark.parametrize("gold", ["", "  ", "$ $", "\\boxed{}", "1" * 1001])
def test_gold_that_cannot_be_scored(gold):
    assert grade("\\boxed{5}", gold).correct is None


def test_unknown_mode_is_one_line():
    with pytest.raises(UserError, match="mode lenient is unknown, use one of: strict, flexible, deepseek"):
        grade("5", "5", mode="lenient")


def test_verdict_tells_why():
    assert grade("\\boxed{5}", "5") == Verdict(True, "5", "equal")
    assert grade("\\boxed{5", "5") == Verdict(
        False, None, "the last box is not closed within 1000 characters"
    )
    assert grade("5", "5") == Verdict(False, None, "no answer marker")


def test_is_boxed():
    assert is_boxed("\\boxed{5}") and is_boxed("\\boxed{5} so")
    assert (
        not is_boxed("\\boxed{}") and not is_boxed("\\boxed{5} \\boxed{") and not is_boxed("The answer is 5")
    )


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("family", FAMILIES)
def test_generated_solutions_are_right_and_boxed(family, language):
    for index in range(100):
        problem = ProblemSet("train", families=(family,), language=language)[index]
        assert grade(problem.solution, problem.answer).correct is True
        assert grade(problem.solution, str(Fraction(problem.answer) + 1)).correct is False
        assert is_boxed(problem.solution)


@given(st.fractions(), st.fractions())
def test_fractions_are_compared_exactly(a, b):
    response = f"\\boxed{{\\frac{{{a.numerator}}}{{{a.denominator}}}}}"
    assert grade(response, str(a)).correct is True
    assert grade(response, str(b)).correct is (a == b)


@given(st.integers(-(10**12), 10**12))
def test_thousands_and_decimals(n):
    assert grade(f"\\boxed{{{n:,}}}", str(n)).correct is True
    assert grade(f"\\boxed{{{n}.00}}", str(n)).correct is True
    assert grade(f"\\boxed{{{n}.01}}", str(n)).correct is False


HOSTILE = st.text(alphabet="\\boxed{}frac0123456789,./%$ -=()xtext\n^\0\ud800İ答案是#％", max_size=200)


@settings(max_examples=1000, deadline=1000)
@given(HOSTILE, HOSTILE, st.sampled_from(["strict", "flexible"]))
def test_any_text_gets_a_verdict(response, gold, mode):
    verdict = grade(response, gold, mode=mode)
    assert verdict.correct in (True, False, None)
    assert verdict.correct is not True or verdict.extracted is not None
    wrapped = grade(f"\\boxed{{{gold}}}", gold)
    balanced = (
        "{" not in gold and "}" not in gold and "\\" not in gold and "#" not in gold and "答" not in gold
    )
    if balanced and wrapped.correct is not None:
        assert wrapped.correct is True  # every answer equals itself


@pytest.mark.parametrize(
    "piece",
    [
        "\\boxed{",
        "\\boxed{1}",
        "\\boxed {",
        "1 because ",
        "km/",
        "a ",
        "1 apples ",
        "{",
        "}",
        "1,",
        "1/",
        " ",
        "1 ",
        "\\frac",
        "\\text{",
        "answer is ",
        "9",
        "-",
        "####",
        "\\",
        "\nA:",
        "\n",
    ],
)
@pytest.mark.parametrize("mode", ["strict", "flexible"])
def test_ten_megabytes_take_linear_time(piece, mode):
    response = piece * (10_000_000 // len(piece))
    start = time.perf_counter()
    for text in (response, f"\\boxed{{{response}}}", f"\\boxed{{{piece * (900 // len(piece))}}}"):
        assert grade(text, "5", mode=mode).correct is False
        assert grade("\\boxed{5}", text, mode=mode).correct in (False, None)
    assert time.perf_counter() - start < 3


def test_one_key_for_all_ways_to_write_an_answer():
    assert {answer_key(text) for text in ("0.5", "1/2", "\\frac12", "1/2 cm", "$.50$", "2/4")} == {"1/2"}
    assert answer_key("Monday") == answer_key("\\text{ monday}") == "monday"


def test_a_number_as_gold_answer_and_a_response_that_is_none():
    verdicts = grade_many([("#### 7", 7), (None, "3"), ("#### 0.5", 0.5), ("#### 3", None)])
    assert [one.correct for one in verdicts] == [True, False, True, None]
