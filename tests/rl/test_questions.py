"""Questions for RL: the training split only, every form of row, what is left out and what is refused."""

import gzip
import json
from collections import Counter

import pytest

from dsm_jax.errors import UserError
from dsm_jax.evaluate.grader import grade
from dsm_jax.rl.questions import read_questions


def write(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def test_gsm8k_is_its_training_split(tmp_path):
    write(tmp_path / "train.jsonl.gz", {"question": "2+2?", "answer": "It is <<2+2=4>>4.\n#### 4"})
    write(tmp_path / "test.jsonl.gz", {"question": "3+3?", "answer": "#### 6"})
    (row,) = read_questions(f"gsm8k:{tmp_path}")
    assert row["question"] == "2+2?" and grade(r"\boxed{4}", row["answer"]).correct
    (test,) = read_questions(f"gsm8k:{tmp_path}", split="test", only=["a file's source"])
    assert test["question"] == "3+3?"
    (tmp_path / "train.jsonl.gz").unlink()
    with pytest.raises(UserError, match=r"no train.jsonl \(or .json, .gz, .zst\) and no folder train in it"):
        read_questions(f"gsm8k:{tmp_path}")


def test_math_s_worked_solutions_are_graded_by_their_box(tmp_path):
    for i in range(3):
        row = {
            "problem": f"x+{i}=3",
            "level": "Level 1",
            "type": "Algebra",
            "solution": f"$\\boxed{{{3 - i}}}$",
        }
        write(tmp_path / f"train/algebra/{i}.json", row)
    rows = read_questions(f"math:{tmp_path}")
    assert [row["type"] for row in rows] == ["Algebra"] * 3
    assert all(grade(f"\\boxed{{{3 - i}}}", row["answer"]).correct for i, row in enumerate(rows))


@pytest.mark.parametrize(
    "row",
    [
        {"problem": "2+2?", "solution": "no marker", "answer": "4"},
        {"prompt": "2+2?", "final_answer": 4},
        {"instruction": "2+2?", "output": "So the answer is 4."},
        {"messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": r"\boxed{4}"}]},
        {"query": " 2+2? ", "target": "4", "split": "train"},
        {"Instances": [{"question": "2+2?", "answer": "4"}]},
    ],
    ids=lambda row: next(iter(row)),
)
def test_a_row_of_any_form(row, tmp_path):
    (found,) = read_questions(write(tmp_path / "a.jsonl", row))
    assert found["question"] == "2+2?" and grade(r"\boxed{4}", found["answer"]).correct
    assert not grade(r"\boxed{5}", found["answer"]).correct


def test_rows_of_the_other_split_are_left_out(tmp_path):
    rows = [{"question": f"{split}?", "answer": "1", "split": split} for split in ("train", "Test")]
    file = write(tmp_path / "a.jsonl", *rows, {"question": "neither?", "answer": "1"})
    assert [row["question"] for row in read_questions(file)] == ["train?", "neither?"]
    assert [row["question"] for row in read_questions(file, split="test")] == ["Test?", "neither?"]


def test_what_is_left_out_is_counted(tmp_path):
    good = {"question": "2+2?", "answer": "4", "source": "data/CoT/gsm8k_train.json"}
    rows = [
        good,
        good,
        good | {"question": "q", "split": "test"},
        good | {"question": "q", "source": "data/PoT/gsm8k.json"},
        good | {"question": " "},
        good | {"question": "q", "answer": ""},
        {"question": "q", "output": "nobody knows 3 or 4", "source": "CoT/gsm8k"},
    ]
    skipped = Counter()
    assert len(read_questions(write(tmp_path / "a.jsonl", *rows), only=["CoT/gsm8k"], skipped=skipped)) == 1
    assert skipped == {
        "stood before": 1,
        "split test": 1,
        "of other sources": 1,
        "without a question": 1,
        "without an answer that can be graded": 2,
    }


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ([], "a.jsonl: no question is left \\(no rows\\)"),
        (
            [{"question": "q", "answer": ""}],
            "no question is left \\(1 without an answer that can be graded\\)",
        ),
        (
            [{"question": "q", "answer": "1"}, {"question": "q"}],
            "a.jsonl:2: no answer in this row \\(it has question\\)",
        ),
        (
            [{"answer": "1"}],
            "a.jsonl:1: no question in this row \\(it has answer\\); it must have one of question",
        ),
        ([{"question": ["q"], "answer": "1"}], "a.jsonl:1: its question is .* it must be text or a number"),
        ([[1]], "a.jsonl:1: a row must be an object"),
        ([{"messages": []}], "a.jsonl:1: its messages must be a question and an answer"),
    ],
)
def test_what_cannot_be_used_is_one_line(rows, line, tmp_path):
    with pytest.raises(UserError, match=line):
        read_questions(write(tmp_path / "a.jsonl", *rows))


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        read_questions(str(tmp_path / "no.jsonl"))


def test_gsm8k_s_training_set_is_whole(dsm_data):
    skipped = Counter()
    rows = read_questions(f"gsm8k:{dsm_data / 'gsm8k'}", skipped=skipped)
    assert len(rows) + sum(skipped.values()) == 7473
    print(skipped)
    assert len(rows) > 7400
