"""Each published form of a benchmark reads into the problem that it is; what cannot be read is told with its place."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.data.benchmark_rows import last_box
from dsm_jax.data.benchmarks import (
    BENCHMARKS,
    Problem,
    benchmark_texts,
    read_benchmark,
    read_benchmarks,
    unused_files,
)
from dsm_jax.errors import UserError

NAN = float("nan")
CODE = "def one():\n    return 1\n"
CHOICE = {"passage": None, "options": ["(A)$1$", "(B)2", "(C)3", "(D)4"], "answer": None, "other": None}
# benchmark, a row as it is published, and what a problem of it must say.
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


@pytest.mark.parametrize(("name", "row", "expected"), ROWS)
def test_published_rows(tmp_path, name, row, expected):
    (problem,) = read_benchmark(name, write_jsonl(tmp_path / "rows.jsonl", [row]))
    assert problem.benchmark == name
    assert {field: getattr(problem, field) for field in expected} == expected


def test_every_kind_of_file_holds_the_same_problems(tmp_path):
    rows = [{"question": f"Wie viele, {i}?", "answer": f"..\n#### {i}"} for i in range(3)]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    contents = {
        "a/gsm8k_test.jsonl": lines,
        "b/gsm8k.jsonl.gz": gzip.compress(lines),
        "c/GSM8K/test.jsonl.zst": zstandard.compress(lines),
        "d/gsm8k/test.json": json.dumps(rows).encode(),
    }
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(content)
    parquet = tmp_path / "e/gsm8k/main/test-00000-of-00001.parquet"
    parquet.parent.mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), parquet)
    read = [read_benchmarks(tmp_path / folder) for folder in "abcd"] + [read_benchmarks(tmp_path / "e/gsm8k")]
    assert all(problems == read[0] for problems in read)
    assert [(problem.id, problem.question, problem.answer) for problem in read[0]] == [
        (str(i), f"Wie viele, {i}?", str(i)) for i in range(3)
    ]


def test_math_as_a_folder_of_files(tmp_path):
    for subject, number in (("algebra", 10), ("algebra", 9), ("geometry", 1)):
        path = tmp_path / "MATH" / "test" / subject / f"{number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        row = {
            "problem": f"{subject}?",
            "level": "Level 2",
            "type": subject,
            "solution": rf"\boxed{{{number}}}",
        }
        path.write_text(json.dumps(row, indent=4))
    (tmp_path / "MATH" / "train" / "algebra").mkdir(parents=True)
    (tmp_path / "MATH" / "train" / "algebra" / "1.json").write_text(
        '{"problem": "train", "solution": "\\\\boxed{1}"}'
    )
    problems = read_benchmarks(tmp_path, ["math"])
    assert [(problem.id, problem.answer) for problem in problems] == [
        ("algebra/9", "9"),
        ("algebra/10", "10"),
        ("geometry/1", "1"),
    ]
    assert read_benchmarks(tmp_path / "MATH") == problems


def test_tables_and_folders_of_tasks(tmp_path):
    table = tmp_path / "mmlu" / "test" / "anatomy_test.csv"
    table.parent.mkdir(parents=True)
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(
            [["A, or\nB?", "1", "2", "None", "4", "C"], ["Which?", "a", "b", "c", "d", "A"]]
        )
    (tmp_path / "mgsm_zh.tsv").write_text('"多少"?\t18\n几个?\t1,200\n')
    (tmp_path / "bbh").mkdir()
    task = {"canary": "..", "examples": [{"input": "not True is", "target": "False"}]}
    (tmp_path / "bbh" / "boolean_expressions.json").write_text(json.dumps(task, indent=1))
    problems = read_benchmarks(tmp_path)
    assert [(problem.id, problem.question, problem.answer) for problem in problems] == [
        ("0", '"多少"?', "18"),
        ("1", "几个?", "1,200"),
        ("anatomy/0", "A, or\nB?", "C"),
        ("anatomy/1", "Which?", "A"),
        ("boolean_expressions/0", "not True is", "False"),
    ]
    assert problems[2].options == ("1", "2", "None", "4") and problems[2].subject == "anatomy"


def test_of_mbpp_only_the_test_set_is_read(tmp_path):
    rows = [{"task_id": i, "text": "t", "code": CODE, "test_list": []} for i in (1, 10, 11, 510, 511, 974)]
    problems = read_benchmark("mbpp", write_jsonl(tmp_path / "mbpp.jsonl", rows))
    assert [problem.id for problem in problems] == ["11", "510"]


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("gsm8k", {"question": "q"}, "no cot or answer"),
        ("gsm8k", {"question": "q", "answer": "2"}, "####"),
        ("math", {"problem": "p", "solution": r"\boxed{1"}, "boxed"),
        (
            "sat",
            {"question": "q", "options": "A) 1 B) 2", "Answer": "C"},
            "'C' is no letter of its 2 options",
        ),
        ("mmlu_stem", {"question": "q", "options": "0, 1", "answer": "A"}, "no list options"),
        ("mmlu_stem", {"question": ["q"], "options": ["0", "1"], "answer": "A"}, "where a text"),
        ("mgsm_zh", {"messages": [], "answer": "1"}, "no question"),
        (
            "humaneval",
            {"task_id": "1", "prompt": "p", "entry_point": "f", "test": "t"},
            "no canonical_solution",
        ),
        ("cmath", ["a list"], "must be an object"),
    ],
)
def test_a_bad_row_is_told_with_its_line(tmp_path, name, row, message):
    good = next(published for known, published, _ in ROWS if known == name)
    path = write_jsonl(tmp_path / "rows.jsonl", [good, row])
    with pytest.raises(UserError) as caught:
        read_benchmark(name, path)
    assert str(caught.value).startswith(f"{path}:2: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bad_table_is_told_with_its_line(tmp_path):
    (tmp_path / "mgsm_zh.tsv").write_text("多少?\t18\n几个?\n")
    with pytest.raises(UserError, match=r"mgsm_zh\.tsv:2: 1 cells, not 2"):
        read_benchmarks(tmp_path)


def test_what_is_missing_or_unknown_is_told_with_the_remedy(tmp_path):
    write_jsonl(tmp_path / "gsm8k_test.jsonl", [ROWS[0][1]])
    with pytest.raises(
        UserError, match=r"math: not in .*math_test.jsonl or math/test.jsonl.* from hendrycks/math"
    ):
        read_benchmarks(tmp_path, ["gsm8k", "math"])
    with pytest.raises(UserError, match="known are gsm8k, math"):
        read_benchmarks(tmp_path, ["gsm9k"])
    with pytest.raises(UserError, match="no such file"):
        read_benchmarks(tmp_path / "nowhere")
    with pytest.raises(UserError, match="missing.*openai/grade-school-math"):
        read_benchmark("gsm8k", tmp_path / "gsm8k.jsonl")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no file has the name of a benchmark: gsm8k"):
        read_benchmarks(tmp_path / "empty")
    (tmp_path / "cmath.jsonl").write_text("\n")
    with pytest.raises(UserError, match="no problem in"):
        read_benchmarks(tmp_path, ["cmath"])


def test_other_files_are_not_taken_for_benchmarks(tmp_path):
    for name in (
        "gsm8k_train.jsonl",
        "gsm8k_tora-70b.jsonl",
        "test.jsonl",
        "mathematics.jsonl",
        "gsm8k_test.txt",
    ):
        write_jsonl(tmp_path / name, [ROWS[0][1]])
    with pytest.raises(UserError, match="no file has the name"):
        read_benchmarks(tmp_path)
    assert {file.name for file in unused_files([tmp_path])} == {
        "gsm8k_train.jsonl",
        "gsm8k_tora-70b.jsonl",
        "test.jsonl",
        "mathematics.jsonl",
    }


def test_a_second_file_of_a_benchmark_is_named_as_unused_and_the_files_of_a_folder_are_not(tmp_path):
    (tmp_path / "MATH/test/algebra").mkdir(parents=True)
    (tmp_path / "MATH/test/algebra/1.json").write_text("{}")
    (tmp_path / "MATH/test/2.json").write_text("{}")
    first, second = (
        write_jsonl(tmp_path / name, [ROWS[0][1]]) for name in ("gsm8k.jsonl", "gsm8k_test.jsonl")
    )
    assert unused_files([tmp_path, tmp_path / "MATH"]) == [second]
    assert unused_files([first]) == []


def test_a_file_that_nothing_is_read_from_is_refused(tmp_path):
    """It would pass for decontaminated: of another name, or the second part of one that is published in parts."""
    known = write_jsonl(tmp_path / "gsm8k_test.jsonl", [ROWS[0][1]])
    other = write_jsonl(tmp_path / "aime_2024.jsonl", [ROWS[0][1]])
    with pytest.raises(UserError, match=r"aime_2024.jsonl: no file has the name"):
        read_benchmarks([known, other])
    (tmp_path / "more").mkdir()
    with pytest.raises(UserError, match=r"more: no file has the name"):
        read_benchmarks([known, tmp_path / "more"])
    assert len(read_benchmarks([tmp_path])) == 1
    (tmp_path / "cmath").mkdir()
    write_jsonl(tmp_path / "cmath" / "test-00000-of-00002.jsonl", [ROWS[9][1]])
    with pytest.raises(UserError, match="one of 2 parts"):
        read_benchmarks([tmp_path])


def test_files_may_be_named_one_by_one(tmp_path):
    files = [write_jsonl(tmp_path / f"{ROWS[i][0]}.jsonl", [ROWS[i][1]]) for i in (0, 9)]
    assert [problem.benchmark for problem in read_benchmarks(files)] == ["gsm8k", "cmath"]


BALANCED = st.recursive(
    st.text("ab1 \\,", max_size=4).filter(lambda text: not text.endswith("\\")),
    lambda inner: st.tuples(inner, inner).map(lambda pair: f"{pair[0]}{{{pair[1]}}}"),
)


@given(BALANCED, st.sampled_from(["", r" so \boxed{", r" {", " $"]), BALANCED)
def test_the_last_box_is_found_whatever_it_holds(before, between, inside):
    text = f"\\boxed{{{before}}} then \\boxed{{{inside}}}. {between}"
    if between.endswith("boxed{"):
        assert last_box(text) is None  # cut off: no answer is better than an earlier one
    else:
        assert last_box(text) == inside.strip()


def test_boxes_without_braces():
    assert last_box(r"so \boxed 12.") == "12." and last_box("none") is None


def test_decontamination_gets_questions_options_and_solutions():
    problems = [
        Problem("gsm8k", "0", "Q", "2", solution="1+1=<<1+1=2>>2."),
        Problem("sat", "0", "Q", "A", options=("1", "2")),
        Problem("minif2f", "0", "Q", "", solution="S", extra={"formal_statement": "theorem"}),
    ]
    assert [(text.benchmark, text.question, text.answers) for text in benchmark_texts(problems)] == [
        ("gsm8k", "Q", ("1+1=2.", "1+1=<<1+1=2>>2.", "2")),
        ("sat", "Q", ("1", "2")),
        ("minif2f", "Q", ("S", "theorem")),
    ]


def test_the_benchmarks_at_hand_are_read_whole(dsm_data):
    problems = read_benchmarks([dsm_data / "benchmarks", dsm_data / "gsm8k"])
    assert problems == read_benchmarks(dsm_data)
    assert Counter(problem.benchmark for problem in problems) == {  # as their README counts them
        "gsm8k": 1319,
        "sat": 32,
        "ocw": 272,
        "mmlu_stem": 3018,
        "cmath": 1098,
        "mgsm_zh": 250,
        "gaokao_mathcloze": 118,
        "gaokao_mathqa": 351,
        "svamp": 1000,
        "multiarith": 600,
        "minif2f": 244,
        "minif2f_validation": 244,
    }
    assert len({(problem.benchmark, problem.id) for problem in problems}) == len(problems)
    proofs = {"minif2f", "minif2f_validation"}
    assert all(
        problem.question and bool(problem.answer) != (problem.benchmark in proofs) for problem in problems
    )
    choices = {problem.benchmark for problem in problems if problem.options}
    assert choices == {"sat", "mmlu_stem", "gaokao_mathqa"}
    assert all(len(problem.options) == 4 for problem in problems if problem.benchmark in choices)
    assert all(option for problem in problems for option in problem.options)
    assert not any(
        option.startswith(("(A)", "A)", "A.")) for problem in problems for option in problem.options[:1]
    )
    by_id = {(problem.benchmark, problem.id): problem for problem in problems}
    assert by_id["gsm8k", "0"].answer == "18" and by_id["svamp", "chal-777"].answer == "145"
    assert by_id["mmlu_stem", "108"].options[0] == "None"  # published as NaN


def test_every_benchmark_has_a_publisher_and_a_name():
    assert all("/" in benchmark.publisher and benchmark.names for benchmark in BENCHMARKS.values())
    names = [name for benchmark in BENCHMARKS.values() for name in benchmark.names]
    assert len(set(names)) == len(names)
