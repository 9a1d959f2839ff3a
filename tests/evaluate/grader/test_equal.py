"""What is the same answer: labelled pairs, pairs made by sympy, and the shared cases of public graders."""

import gzip
import itertools
import json

import pytest
import sympy
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dsm_jax.evaluate.grader import grade
from tests.evaluate.grader.pairs import PAIRS

X, Y, N = sympy.symbols("x y n")


@pytest.mark.parametrize("category", PAIRS)
def test_labelled_pairs(category):
    wrong = [
        (gold, answer, equal)
        for gold, answer, equal in PAIRS[category]
        if grade(f"Thus \\boxed{{{answer}}}.", gold).correct is not equal
    ]
    assert not wrong


@pytest.mark.parametrize("category", PAIRS)
def test_every_gold_answer_equals_itself(category):
    for gold, _, _ in PAIRS[category]:
        assert grade(f"\\boxed{{{gold}}}", gold).correct is True, gold


def _expressions():
    leaves = st.sampled_from([X, Y, N, sympy.pi, sympy.sqrt(2), sympy.sqrt(3), sympy.E]) | st.fractions(
        -9, 9, max_denominator=9
    ).map(lambda value: sympy.Rational(value.numerator, value.denominator))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.tuples(inner, inner).map(lambda pair: pair[0] + pair[1]),
            st.tuples(inner, inner).map(lambda pair: pair[0] * pair[1]),
            inner.map(lambda one: one**2),
            inner.map(sympy.sin),
            inner.map(lambda one: sympy.log(one**2 + 2)),
            inner.map(lambda one: 1 / (one**2 + 3)),
        ),
        max_leaves=6,
    )


@settings(max_examples=60)
@given(_expressions())
def test_what_sympy_rewrites_is_equal_and_what_it_changes_is_not(expression):
    gold = sympy.latex(expression)
    assume(expression.is_finite is not False and not expression.has(sympy.zoo, sympy.nan) and len(gold) < 300)
    for same in (expression, sympy.expand(expression), sympy.factor(expression), sympy.together(expression)):
        assert grade(f"\\boxed{{{sympy.latex(same)}}}", gold).correct is True, sympy.latex(same)
    changed = [expression + 1, expression + sympy.Rational(1, 1000)]
    changed += [2 * expression, -expression] if expression != 0 else []
    for other in changed:
        assert grade(f"\\boxed{{{sympy.latex(other)}}}", gold).correct is False, sympy.latex(other)


@given(st.fractions(-100, 100, max_denominator=1000), st.integers(3, 12))
def test_a_decimal_is_a_fraction_exactly_or_as_its_correct_rounding(value, places):
    scaled = round(abs(value) * 10**places)
    digits = f"{scaled:0{places + 1}d}"
    decimal = f"{'-' if value < 0 and scaled else ''}{digits[:-places]}.{digits[-places:]}"
    exact = abs(value) * 10**places == scaled
    significant = len(digits.lstrip("0"))
    finite = (10**40 * value).denominator == 1
    found = grade(f"\\boxed{{{decimal}}}", f"{value.numerator}/{value.denominator}").correct
    assert found is (exact or (significant >= 6 and not finite))
    off = f"{decimal}3" if exact else f"{decimal}49"  # digits that the value does not have
    if exact:
        assert grade(f"\\boxed{{{off}}}", f"{value.numerator}/{value.denominator}").correct is False


@pytest.mark.parametrize(
    ("gold", "answer", "correct"),
    [
        ("B", "24", True),
        ("B", "12", False),
        ("24", "B", True),
        ("24", "(A)", False),
        ("C", "\\frac{1}{2}", True),
    ],
)
def test_an_option_s_text_answers_for_its_letter(gold, answer, correct):
    options = ("12", "24", "0.5")
    assert grade(f"\\boxed{{{answer}}}", gold, options=options).correct is correct
    assert grade("\\boxed{24}", "B").correct is False


def test_the_shared_cases(dsm_data):
    right, wrong = {False: 0, True: 0}, {False: [], True: []}
    for line in (dsm_data / "grader" / "cases.jsonl").read_text().splitlines():
        case = json.loads(line)
        if case["contested"]:
            continue
        hostile = case["source"].startswith("adversarial")
        marked = case["form"] == "answer"
        boxed = case["pred"] if "\\boxed" in case["pred"] else f"The answer is \\boxed{{{case['pred']}}}"
        verdict = grade(
            boxed if marked else case["pred"], case["gold"], mode="strict" if marked else "flexible"
        )
        if verdict.correct is case["expected"]:
            right[hostile] += 1
        else:
            wrong[hostile].append((case["gold"], case["pred"][-100:], verdict))
    assert right[True] + right[False] > 500
    assert not wrong[True]
    assert right[False] / (right[False] + len(wrong[False])) >= 0.985, wrong[False]


def _rows(dsm_data, name):
    with gzip.open(dsm_data / "benchmarks" / name, "rt") as lines:
        return [json.loads(line) for line in lines]


def test_gold_answers_of_benchmarks_equal_themselves(dsm_data):
    for name in ("gaokao_mathcloze.jsonl.gz", "ocw_test.jsonl.gz"):
        for row in _rows(dsm_data, name):
            assert grade(f"\\boxed{{{row['answer']}}}", str(row["answer"])).correct is True, row["answer"]


def test_the_options_of_a_question_are_different_answers(dsm_data):
    """Of two exams; "3 m" may be three metres."""
    equal = []
    rows = _rows(dsm_data, "gaokao_mathqa.jsonl.gz") + _rows(dsm_data, "mmlu_stem_test.jsonl.gz")[:300]
    for row in rows:
        options = [str(option).removeprefix(f"({'ABCD'[i]})") for i, option in enumerate(row["options"])]
        equal += [
            (answer, gold)
            for answer, gold in itertools.permutations(options, 2)
            if answer != gold and grade(f"\\boxed{{{answer}}}", gold).correct
        ]
    assert set(equal) == {("$3 m$", "3"), ("3", "$3 m$")}
