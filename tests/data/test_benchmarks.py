"""Benchmarks are found and read in each form of file that is published; what is missing is told with the remedy."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from dsm_jax.data.benchmarks import (
    BENCHMARKS,
    Problem,
    benchmark_texts,
    read_benchmark,
    read_benchmarks,
    unused_files,
)
from dsm_jax.errors import UserError
from tests.data.published_rows import ROWS, write_jsonl


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


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("", "gsm8k_test.jsonl"),
        ("", "gsm8k_test.json"),
        ("math", "gsm8k/test.jsonl"),
        ("math", "gsm8k/test.json"),
        ("math/gsm8k", "test.jsonl"),
        ("math/gsm8k", "main/test.jsonl"),
        ("math/gsm8k", "test-00000-of-00001.jsonl"),
    ],
)
def test_a_file_below_a_folder_of_another_benchmarks_name_is_read_once(tmp_path, given, name):
    file = tmp_path / (given or "math") / name
    file.parent.mkdir(parents=True)
    write_jsonl(file, [ROWS[0][1]])
    assert [problem.benchmark for problem in read_benchmarks(tmp_path / given)] == ["gsm8k"]
    assert unused_files([tmp_path / given]) == []


def test_a_folders_files_that_are_other_benchmarks_are_read_once(tmp_path):
    agieval = next(row for name, row, *_ in ROWS if name == "agieval")
    cloze = next(row for name, row, *_ in ROWS if name == "gaokao_mathcloze")
    (tmp_path / "agieval").mkdir()
    write_jsonl(tmp_path / "agieval/lsat-ar.jsonl", [agieval])
    write_jsonl(tmp_path / "agieval/gaokao-mathcloze.jsonl", [cloze])
    assert [one.benchmark for one in read_benchmarks(tmp_path)] == ["gaokao_mathcloze", "agieval"]
    assert len(read_benchmarks(tmp_path, ["agieval"])) == 2


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
    write_jsonl(tmp_path / "aime_2024.jsonl", [ROWS[0][1]])
    text = tmp_path / "aime.txt"
    text.write_text("1 + 1")
    with pytest.raises(UserError, match=r"aime.txt: no file has the name"):
        read_benchmarks([known, text])
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


def test_files_of_any_name_that_are_given_themselves_are_read(tmp_path):
    known = write_jsonl(tmp_path / "math.jsonl", [{"problem": "1+1?", "answer": "2"}])
    second = write_jsonl(
        tmp_path / "math500.jsonl", [{"problem": "1+2?", "solution": "It is 3.", "answer": 3}]
    )
    own = write_jsonl(
        tmp_path / "aime-24.jsonl",
        [{"id": 7, "question": "Which?", "choices": ["A) 1", "B) 2"], "answer": "B"}],
    )
    problems = read_benchmarks([known, own, second])
    assert [(one.benchmark, one.id, one.question, one.answer) for one in problems] == [
        ("math", "0", "1+1?", "2"),
        ("aime-24", "7", "Which?", "B"),
        ("math500", "0", "1+2?", "3"),
    ]
    assert benchmark_texts(problems)[1].answers == ("1", "2")
    assert unused_files([known, own, second]) == [] and unused_files([tmp_path]) == [own, second]
    bad = write_jsonl(tmp_path / "bad.jsonl", [{"question": "1?"}, {"answer": "2"}])
    with pytest.raises(UserError, match=r"bad.jsonl:2: no question or problem or .*; mend the row$"):
        read_benchmarks(bad)


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
