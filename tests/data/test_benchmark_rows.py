"""Each published row reads into the problem that it is; a bad one is told with its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.data.benchmark_rows import last_box
from dsm_jax.data.benchmarks import read_benchmark
from dsm_jax.errors import UserError
from tests.data.published_rows import CODE, ROWS, write_jsonl


@pytest.mark.parametrize(("name", "row", "expected"), ROWS)
def test_published_rows(tmp_path, name, row, expected):
    (problem,) = read_benchmark(name, write_jsonl(tmp_path / "rows.jsonl", [row]))
    assert problem.benchmark == name
    assert {field: getattr(problem, field) for field in expected} == expected


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
