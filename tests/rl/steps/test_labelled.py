"""Files of labelled solutions: Math-Shepherd's own text back, every form that is read, and one line for each mistake."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsm_jax.data.instructions import RowError, Skipped
from dsm_jax.data.prompts import prompt_text
from dsm_jax.errors import UserError
from dsm_jax.rl.steps.labelled import Labelled, math_shepherd_record, read_labelled
from dsm_jax.rl.steps.math_shepherd import MARK, read_marks, write_marks
from dsm_jax.rl.steps.segments import step_ends, steps_of
from tests.rl.steps.labelled_file import write_labelled

SAMPLE = Path(__file__).parents[2] / "data" / "math_shepherd.jsonl"
TEXT = st.text(
    st.sampled_from("ab1+=\n \\$。三é😀\u2028к+-") | st.characters(exclude_categories=["Cs"]), max_size=30
)
LINE = TEXT.map(lambda text: " ".join(text.split())).filter(bool)
GOOD = {
    "prompt": "User: 1+1?\n\nAssistant:",
    "completion": " 1+1=2\nTwo.",
    "ends": [6, 11],
    "labels": [1, 0.25],
}


@st.composite
def solutions(draw):
    completion = draw(TEXT.filter(str.strip))
    ends = draw(st.lists(st.integers(1, len(completion)), min_size=1, unique=True).map(sorted))
    labels = draw(st.lists(st.floats(0, 1), min_size=len(ends), max_size=len(ends)))
    return Labelled(draw(TEXT), completion, tuple(ends), tuple(labels), draw(TEXT), draw(TEXT), draw(TEXT))


@st.composite
def numbered(draw):
    """As Math-Shepherd has them."""
    steps = draw(st.lists(LINE.filter(lambda line: "Step" not in line and MARK not in line), min_size=1))
    completion = " " + "\n".join(f"Step {k}: {step}" for k, step in enumerate(steps, 1))
    labels = draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=len(steps), max_size=len(steps)))
    problem = draw(LINE.filter(lambda line: "Step 1:" not in line and MARK not in line))
    return Labelled(
        problem, completion, step_ends(completion, "numbered"), tuple(labels), problem, task="MATH"
    )


def file_of(folder, *rows, name="rows.jsonl"):
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def test_math_shepherds_rows_are_read():
    first, second = read_labelled([SAMPLE])
    assert first.prompt == first.question and first.prompt.endswith("than clarinet lessons in a year?")
    assert first.completion.startswith(" Step 1: Janet spends 3 hours") and MARK not in first.completion
    assert first.completion.endswith("in a year. The answer is: 13520")
    assert first.labels == (1, 1, 1, 1, 0) and second.labels == (0, 0, 0)
    assert first.ends == step_ends(first.completion, "numbered") == step_ends(first.completion, "lines")
    assert [step[:7] for step in steps_of(first.completion, first.ends)] == [
        f"Step {k}:" for k in range(1, 6)
    ]
    assert (first.task, first.answer) == ("GSM8K", "")


def test_math_shepherds_own_bytes_come_back(tmp_path):
    records = map(math_shepherd_record, read_labelled([SAMPLE]))
    assert file_of(tmp_path, *records).read_bytes() == SAMPLE.read_bytes()


def test_all_sample_rows(dsm_data, tmp_path):
    file = dsm_data / "prm" / "samples_math-shepherd.jsonl"
    rows = list(read_labelled([file]))
    back = file_of(tmp_path, *map(math_shepherd_record, rows))
    assert len(rows) == 7 and back.read_bytes() == file.read_bytes()


@given(
    LINE,
    st.lists(st.text(st.sampled_from("ab \n\u3000"), max_size=5), min_size=1),
    st.sampled_from(["", "\n", " The end."]),
)
def test_odd_white_space_comes_back(problem, bodies, rest):
    """Not only text as the published records have it."""
    text = f"{problem}  " + "".join(f"Step {k}:{body} {MARK}" for k, body in enumerate(bodies, 1)) + rest
    signs = "+" * len(bodies)
    found = read_marks(text, text.replace(MARK, "+"))
    assert write_marks(found.problem, found.completion, found.ends, signs) == (text, text.replace(MARK, "+"))


@settings(max_examples=30)
@given(st.lists(solutions(), min_size=1, unique_by=lambda row: (row.prompt, row.completion)))
def test_our_own_form_gives_the_same_back(tmp_path_factory, rows):
    file = tmp_path_factory.getbasetemp() / "ours.jsonl"
    write_labelled(file, rows)
    assert list(read_labelled([file])) == rows


@settings(max_examples=30)
@given(st.lists(numbered(), min_size=1, unique_by=lambda row: (row.prompt, row.completion)))
def test_math_shepherds_form_gives_the_same_back(tmp_path_factory, rows):
    file = file_of(tmp_path_factory.getbasetemp(), *map(math_shepherd_record, rows), name="theirs.jsonl")
    assert list(read_labelled([file])) == rows


@given(solutions(), st.booleans())
def test_any_solution_is_written_with_its_steps_and_labels_or_refused(row, by_lines):
    ends = step_ends(row.completion) if by_lines else row.ends
    signs = "".join("+-"[k % 2] for k in range(len(ends)))
    try:
        text, label = write_marks(row.question, row.completion, ends, signs)
    except RowError:
        assert not row.question.strip() or not by_lines or MARK in row.completion + row.question
        return
    found = read_marks(text, label)
    assert found.signs == signs and found.problem == row.question.rstrip()
    texts = [
        step.removeprefix(f"Step {k}:").strip()
        for k, step in enumerate(steps_of(found.completion, found.ends), 1)
    ]
    assert texts == steps_of(row.completion, ends)


def test_a_solution_of_the_generators_form_gets_numbers():
    row = Labelled(
        "User: 3+5?\n\nAssistant:", " 3+5=8\nThe answer is 8.", (6, 23), (1.0, 0.0), "3+5?", "8", "MATH"
    )
    assert math_shepherd_record(row) == {
        "input": "3+5? Step 1: 3+5=8 ки\nStep 2: The answer is 8. ки",
        "label": "3+5? Step 1: 3+5=8 +\nStep 2: The answer is 8. -",
        "task": "MATH",
    }


def test_a_soft_label_above_0_is_a_plus(tmp_path):
    row = Labelled("q", " Step 1: a\nStep 2: b\nStep 3: c", (10, 20, 30), (1.0, 0.25, 0.0))
    (back,) = read_labelled([file_of(tmp_path, math_shepherd_record(row))])
    assert back.labels == (1, 1, 0)


@pytest.mark.parametrize(
    "question, completion", [("ки?", " Step 1: a"), ("q", " Step 1: ки"), ("Step 1: q", " Step 1: a")]
)
def test_what_math_shepherds_form_cannot_hold(question, completion):
    assert math_shepherd_record(Labelled(question, completion, (len(completion),), (1.0,))) is None


def test_other_forms(tmp_path):
    rows = [
        {"prompt": "1+1?", "completions": [" It is 2.", "So 3.\n"], "labels": [True, False]},
        {"id": "g-1", "problem": "1+1?", "steps": ["a", "b", "c"], "label": 1, "final_answer_correct": False},
        {"problem": "1+1?", "steps": ["a", "b"], "label": -1},
        {**GOOD, "answer": "2", "task": None, "other": [1]},
    ]
    trl, bench, right, ours = read_labelled([file_of(tmp_path, *rows)])
    assert trl == Labelled("1+1?", "\nIt is 2.\nSo 3.", (9, 15), (1.0, 0.0), "1+1?")
    assert trl.ends == step_ends(trl.completion)
    assert (bench.labels, right.labels) == ((1, 0, 0), (1, 1))
    assert ours == Labelled(GOOD["prompt"], GOOD["completion"], (6, 11), (1.0, 0.25), "", "2")


def test_a_question_is_asked_as_policies_are_and_a_prompt_stays(tmp_path):
    steps = {"problem": "1+1?", "steps": ["1+1=2"], "label": -1}
    trl = {"prompt": "2+2?", "completions": ["2+2=4"], "labels": [True]}
    file = file_of(tmp_path, GOOD, steps, trl)
    assert [one.prompt for one in read_labelled([file])] == [GOOD["prompt"], "1+1?", "2+2?"]
    asked = list(read_labelled([file, SAMPLE], template=prompt_text))
    assert [one.prompt for one in asked[:3]] == [GOOD["prompt"], GOOD["prompt"], "User: 2+2?\n\nAssistant:"]
    assert all(one.prompt == prompt_text(one.question) for one in asked[1:])


def test_packed_files_and_folders(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(SAMPLE.read_bytes()))
    table = pyarrow.Table.from_pylist([{"prompt": "q", "completions": ["a", "b"], "labels": [True, False]}])
    pyarrow.parquet.write_table(table, tmp_path / "b.parquet")
    (tmp_path / "c.json").write_text(json.dumps([GOOD]))
    assert [len(row.ends) for row in read_labelled([tmp_path])] == [5, 3, 2, 2]


def test_duplicates_are_read_once_and_counted(tmp_path):
    skipped = Counter()
    other = {**GOOD, "labels": [0, 0]}
    files = [file_of(tmp_path, GOOD, other, {**GOOD, "prompt": ""}), file_of(tmp_path, GOOD, name="b.jsonl")]
    first, second = read_labelled(files, skipped=skipped)
    assert (first.labels, second.prompt) == ((1, 0.25), "") and skipped == {"duplicate": 2}


@pytest.mark.parametrize(
    "text, reason",
    [
        ("Mr. Rocky ки owns? Step 1: a ки", "a mark before Step 1:"),
        ("How many? It is 3. ки", "no Step 1:"),
        ("Step 1: a ки", "no problem"),
        ("q Step 1: a ки ки", "a step without text"),
    ],
)
def test_records_that_name_no_steps_are_left_out(tmp_path, text, reason):
    """The published data has such ones."""
    skipped = Counter()
    row = {"input": text, "label": text.replace(MARK, "+"), "task": "MATH"}
    assert list(read_labelled([file_of(tmp_path, row)], skipped=skipped)) == []
    assert skipped == {reason: 1} and read_marks(row["input"], row["label"]) == Skipped(reason)


MISTAKES = [
    ({**GOOD, "ends": []}, "no step ends"),
    ({key: GOOD[key] for key in ("prompt", "completion", "labels")}, "labels without step ends; give ends"),
    ({**GOOD, "labels": [1]}, "1 labels for 2 steps"),
    ({**GOOD, "labels": [1, 1.5]}, "label 1.5 is not from 0 to 1"),
    ({**GOOD, "labels": [1, float("nan")]}, "label nan is not from 0 to 1"),
    ({**GOOD, "labels": [1, "+"]}, "label '\\+' is not from 0 to 1"),
    ({**GOOD, "labels": "++"}, "its labels is '\\+\\+'; it must be a list"),
    ({**GOOD, "ends": [6, 6]}, "must rise, from 1 to 11"),
    ({**GOOD, "ends": [6, 12]}, "must rise, from 1 to 11"),
    ({**GOOD, "ends": [0, 6]}, "must rise"),
    ({**GOOD, "ends": [6.5, 7]}, "they must be whole numbers"),
    ({**GOOD, "prompt": None}, "its prompt is None; it must be text"),
    ({**GOOD, "answer": 5}, "its answer is 5; it must be text"),
    ({"input": "q Step 1: a ки", "label": "q Step 1: b +"}, "its input and label disagree at step 1"),
    ({"input": "q Step 1: a ки", "label": "q Step 1: a *"}, "its input and label disagree at step 1"),
    ({"input": "q Step 1: a ки\nStep 2: b ки", "label": "q Step 1: a +\nStep 2: c +"}, "disagree at step 2"),
    ({"input": "q Step 1: a ки\nStep 2: b ки", "label": "q Step 1: a +"}, "disagree at step 2"),
    ({"input": "q Step 1: a ки", "label": "q Step 1: a ++"}, "the label has 1 characters more"),
    ({"input": "q Step 1: a", "label": "q Step 1: a"}, "no step ends: there must be a ки"),
    ({"input": "q Step 1: a ки", "label": ["+"]}, "its label is \\['\\+'\\]; it must be text"),
    ({"prompt": "q", "completions": ["a", "b"], "labels": [True]}, "1 labels for 2 steps"),
    ({"prompt": "q", "completions": ["a", " "], "labels": [True, True]}, "each of its steps must be text"),
    ({"prompt": "q", "completions": [], "labels": []}, "no step ends"),
    (
        {"prompt": [{"role": "user"}], "completions": ["a"], "labels": [True]},
        "its prompt is .*; it must be text",
    ),
    (
        {"problem": "q", "steps": ["a"], "label": 1},
        "its label is 1; it must be the first wrong of 1 steps, or -1",
    ),
    ({"problem": "q", "steps": ["a"], "label": None}, "its label is None"),
    ({"question": "q", "answer": "a"}, r"no labelled solution \(it has question, answer\)"),
    ([1], "a row must be an object"),
]


@pytest.mark.parametrize("row, message", MISTAKES)
def test_mistakes_are_one_line_with_file_and_line(tmp_path, row, message):
    file = file_of(tmp_path, GOOD, row)
    with pytest.raises(UserError, match=message) as error:
        list(read_labelled([file]))
    assert str(error.value).startswith(f"{file}:2: ") and "\n" not in str(error.value)


def test_files_without_rows(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(UserError, match=r"empty.jsonl: no row in this file"):
        list(read_labelled([file_of(tmp_path, GOOD), tmp_path / "empty.jsonl"]))
    with pytest.raises(UserError, match="no such file"):
        list(read_labelled([tmp_path / "missing.jsonl"]))
    with pytest.raises(UserError, match=r"rows.jsonl:1: not a row of JSON"):
        (tmp_path / "rows.jsonl").write_text("{")
        list(read_labelled([tmp_path / "rows.jsonl"]))


def test_a_text_with_half_a_character_keeps_its_ends(tmp_path):
    """Lone surrogates, which UTF-8 has not, become one character each."""
    write_labelled(tmp_path / "x.jsonl", [Labelled("q", "a\ud800b\nc", (3, 5), (1.0, 0.0))])
    assert next(read_labelled([tmp_path / "x.jsonl"])).completion == "a?b\nc"
