"""Mode deepseek: the published rules, their known defects, and the published score of ToRA's outputs."""

import gzip
import json

import pytest

from dsm_jax.evaluate.grader import extract, grade

DEFECTS = [
    ("7", "700", True),
    ("7", "0.07", True),
    ("7", "7000", False),
    ("[1,2]", "(1,2)", True),
    ("10", "10_8", True),
    ("0", "0.0005", True),
    ("1000", "1000.0005", True),
    ("10", "10\\%", True),
    ("0.1", "10\\%", True),
    ("\\frac{3}{2}", "1\\frac{1}{2}", False),
    ("\\frac{11}{2}", "1 1/2", True),
    ("1000", "1{,}000", False),
    ("5", "5 cm", False),
    ("5", "5\\text{ cm}", True),
    ("-5", "\u22125", False),
    ("Monday", "\\text{monday}", False),
    ("\\pi", "3.1416", False),
    ("\\sin x", "sin(x)", False),
    ("\\{1,2\\}", "\\{2,1\\}", False),
    ("1,2", "2,1", False),
    ("5", "5\\text{ million}", True),
    ("A}\\text{B", "\\text{A} \\text{B}", True),
    ("i+1", "j+1", True),
    ("3", "3t", True),
]
RULES = [
    ("\\frac{1}{2}", "0.5", True),
    ("\\frac{1}{2}", "\\dfrac12", True),
    ("5", "x=5", True),
    ("x+1=0", "-x-1=0", True),
    ("(x+1)^2", "x^2+2x+1", True),
    ("(x+1)^2", "x^2+2x+2", False),
    ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix}1\\\\2.0\\end{pmatrix}", True),
    ("(-1,0)\\cup(1,2)", "(1,2)\\cup(-1,0)", True),
    ("\\sqrt{2}", "1.4142", True),
    ("1,000", "1000", True),
    ("18", "19", False),
]


@pytest.mark.parametrize(("gold", "answer", "correct"), DEFECTS + RULES)
def test_rules_and_defects(gold, answer, correct):
    assert grade(f"\\boxed{{{answer}}}", gold, mode="deepseek").correct is correct


@pytest.mark.parametrize(
    ("response", "extracted"),
    [
        ("The final answer is $5$. I hope it is correct. \\boxed{6}", "5"),
        ("\\boxed{5} or \\boxed{6}", "5, 6"),
        ("The answer is 5\nbut 6", "5"),
        ("```output\n7\n```", "7"),
        ("It costs 1,080 or 2,000", "2000"),
        ("\\boxed{5", None),
        ("nothing", None),
    ],
)
def test_extraction(response, extracted):
    assert extract(response, mode="deepseek") == extracted


def test_of_several_boxes_the_last_ones_count():
    assert grade("\\boxed{5}, \\boxed{6}", "6", mode="deepseek").correct is True
    assert grade("\\boxed{5}, \\boxed{6}", "5", mode="deepseek").correct is False


def test_the_published_score_of_tora(dsm_data):
    path = dsm_data / "labelled_outputs" / "gsm8k_tora-70b-v1.0_tool_integrated.jsonl.gz"
    with gzip.open(path, "rt") as rows:
        verdicts = [
            grade(row["code"][0], row["gt"], mode="deepseek").correct for row in map(json.loads, rows)
        ]
    assert (len(verdicts), sum(verdicts)) == (1319, 1112)  # 84.3


def test_strict_agrees_with_the_labels_of_openai_solutions(dsm_data):
    path = dsm_data / "labelled_outputs" / "gsm8k_openai_example_model_solutions.jsonl.gz"
    agrees = []
    with gzip.open(path, "rt") as rows:
        for row in map(json.loads, rows):
            for name in [name for name in row if isinstance(row[name], dict) and "is_correct" in row[name]]:
                verdict = grade(row[name]["solution"], row["ground_truth"])
                agrees.append(verdict.correct == row[name]["is_correct"])
    assert len(agrees) == 5276
    assert all(agrees)
