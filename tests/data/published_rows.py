"""A row of each benchmark as it is published, and what a problem of it must say."""

from __future__ import annotations

import json

NAN = float("nan")
CODE = "def one():\n    return 1\n"
CHOICE = {"passage": None, "options": ["(A)$1$", "(B)2", "(C)3", "(D)4"], "answer": None, "other": None}
# (benchmark, row, fields of the problem)
ROWS = [
    (
        "gsm8k",
        {"question": "How many?", "answer": "1+1=<<1+1=2>>2 pens.\n#### 1,200"},
        {"question": "How many?", "answer": "1,200", "solution": "1+1=<<1+1=2>>2 pens."},
    ),
    (
        "gsm8k",
        {"question": "How many?", "cot": "1+1=2 pens.", "answer": "2", "id": "0"},
        {"answer": "2", "solution": "1+1=2 pens."},
    ),
    (
        "math",
        {
            "problem": "$x$?",
            "level": "Level 5",
            "type": "Algebra",
            "solution": r"So \fbox{1}, \boxed{\frac{1}{2}}.",
        },
        {"question": "$x$?", "answer": r"\frac{1}{2}", "level": "5", "subject": "Algebra"},
    ),
    (
        "math",
        {
            "problem": "$x$?",
            "answer": "2",
            "solution": "..",
            "subject": "Geometry",
            "level": 3,
            "unique_id": "test/g/1",
        },
        {"id": "test/g/1", "answer": "2", "level": "3", "subject": "Geometry"},
    ),
    (
        "sat",
        {"id": "7", "question": "Which?", "options": "A) $f(B) = 1$ B) none C) 3 D) A) or B)", "Answer": "D"},
        {"id": "7", "options": ("$f(B) = 1$", "none", "3", "A) or B)"), "answer": "D"},
    ),
    (
        "sat",
        {"id": "8", "question": "Which?", "options": "A. 1,190 B. 1,900 C. 2,900 D. 19,000", "Answer": "C"},
        {"options": ("1,190", "1,900", "2,900", "19,000"), "answer": "C"},
    ),
    (
        "ocw",
        {"problem": "How far?", "solution": "So \\boxed{1.6}", "answer": "1.6", "id": "0"},
        {"question": "How far?", "answer": "1.6", "solution": "So \\boxed{1.6}", "id": "0"},
    ),
    (
        "mmlu_stem",
        {
            "question": "Order?",
            "options": [NAN, "I only", 4.0, "6"],
            "answer": "B",
            "topic": "abstract_algebra",
            "id": 9,
        },
        {"options": ("None", "I only", "4", "6"), "answer": "B", "subject": "abstract_algebra", "id": "9"},
    ),
    (
        "mmlu",
        {"question": "Order?", "choices": ["0", "4", "2", "6"], "answer": 2, "subject": "abstract_algebra"},
        {"options": ("0", "4", "2", "6"), "answer": "C", "id": "abstract_algebra/0"},
    ),
    (
        "cmath",
        {"grade": 1, "question": "一共多少?", "golden": "18", "reasoning_step": 1, "num_digits": 2},
        {"question": "一共多少?", "answer": "18", "level": "1", "language": "zh"},
    ),
    (
        "mgsm_zh",
        {"dataset": "mgsm-zh", "id": "4", "messages": [{"role": "user", "content": "多少?"}], "answer": "18"},
        {"id": "4", "question": "多少?", "answer": "18", "language": "zh"},
    ),
    (
        "gaokao_mathcloze",
        {
            "passage": None,
            "question": "则 $a=$",
            "options": None,
            "label": None,
            "answer": "$5$;$10$",
            "other": None,
        },
        {"question": "则 $a=$", "answer": "$5$;$10$", "options": (), "language": "zh"},
    ),
    (
        "gaokao_mathqa",
        CHOICE | {"question": "则 $A=$\\\\\n", "label": "A B D"},
        {"question": "则 $A=$\\\\", "options": ("$1$", "2", "3", "4"), "answer": "ABD", "language": "zh"},
    ),
    (
        "agieval",
        CHOICE | {"passage": "A text.", "question": "Which?", "label": "D"},
        {"question": "A text.\nWhich?", "answer": "D", "subject": "rows", "language": "en"},
    ),
    (
        "svamp",
        {
            "ID": "chal-1",
            "Body": "He has 3 pens",
            "Question": "How many?",
            "Equation": "( 3.0 )",
            "Answer": 145.0,
            "Type": "Sum",
        },
        {"id": "chal-1", "question": "He has 3 pens. How many?", "answer": "145", "subject": "Sum"},
    ),
    (
        "svamp",
        {"ID": "2", "Body": "He has 3.", "Question": "Half?", "Answer": 1.5},
        {"question": "He has 3. Half?", "answer": "1.5"},
    ),
    ("multiarith", {"input": "How many?", "target": 39}, {"question": "How many?", "answer": "39"}),
    (
        "multiarith",
        {"iIndex": 5, "sQuestion": "How many?", "lSolutions": [39.0]},
        {"id": "5", "answer": "39"},
    ),
    (
        "minif2f",
        {
            "problem_name": "gcd",
            "formal_statement": "theorem gcd:\n  shows x",
            "informal_statement": "Show it.",
            "informal_proof": "Since.",
            "header": "begin\n\n",
            "id": "test-0",
        },
        {
            "id": "gcd",
            "question": "Show it.",
            "solution": "Since.",
            "answer": "",
            "extra": {"formal_statement": "theorem gcd:\n  shows x", "header": "begin\n\n"},
        },
    ),
    (
        "humaneval",
        {
            "task_id": "HumanEval/0",
            "prompt": "def f():\n",
            "entry_point": "f",
            "canonical_solution": "    return 1\n",
            "test": "\nt",
        },
        {
            "id": "HumanEval/0",
            "question": "def f():\n",
            "solution": "    return 1\n",
            "answer": "",
            "extra": {"test": "\nt", "entry_point": "f"},
        },
    ),
    (
        "mbpp",
        {
            "task_id": 11,
            "text": "Write it.",
            "code": CODE,
            "test_list": ["assert 1", "assert 2"],
            "test_setup_code": "",
        },
        {
            "id": "11",
            "question": "Write it.",
            "solution": CODE,
            "extra": {"test": "assert 1\nassert 2", "setup": ""},
        },
    ),
    (
        "mbpp",
        {
            "task_id": 12,
            "prompt": "Write it.",
            "code": CODE,
            "test_list": ["assert 1"],
            "test_imports": ["import math"],
        },
        {"question": "Write it.", "extra": {"test": "assert 1", "setup": "import math"}},
    ),
]


def write_jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
