"""make_tool_solutions.py: right solutions whose programs ran become data for finetuning; mistakes in one line."""

from __future__ import annotations

import json

import pytest

from dsm_jax.data.benchmarks import Problem
from dsm_jax.data.instructions import read_sft
from dsm_jax.data.prompts import TOOL_INSTRUCTION
from dsm_jax.evaluate.prompts import task
from tests.evaluate.lessons import lessons
from tests.evaluate.overfitted import overfit
from tests.evaluate.rows import sample
from tests.experiments.scripts import error_line, load_script, run

RAN = "```python\nprint(7)\n```\n```output\n7\n```\n\\boxed{7}"


@pytest.fixture(scope="module")
def script():
    return load_script("make_tool_solutions")


def test_what_is_kept(script):
    """Right, ended by itself, with programs that all ran, each text once, at most so many."""
    failed = RAN.replace("\n7\n", "\nRuntime errors: NameError\n")
    tries = [
        sample("0", 0, response=RAN, right=False),
        sample("0", 1, response=f" {RAN}"),
        sample("0", 2, response=RAN),
        sample("0", 3, response=failed),
        sample("0", 4, response="\\boxed{7}"),
        sample("0", 5, response=RAN + "!", finish="length"),
        sample("0", 6, response=RAN + "."),
        sample("0", 7, response=RAN + "?"),
    ]
    kept = script.keep(tries, Problem("gsm8k", "0", "Q?", "7"), 2)
    assert [row["solution"] for row in kept] == [RAN, RAN + "."]
    assert kept[0]["question"] == "Q?" + TOOL_INSTRUCTION["en"] and kept[0]["answer"] == "7"


def test_mistakes_are_one_line(script, capsys, tmp_path):
    assert "--questions: give files" in error_line(script, capsys, "--model", tmp_path)
    assert "--per-question" in error_line(script, capsys, "--per-question", "0")


@pytest.mark.slow
def test_solutions_are_data_for_finetuning(script, tmp_path):
    """Of a model that knows half of the answers by heart, asked once, greedily."""
    questions = [Problem("gsm8k", str(i), f"What is {i} plus 20?", str(i + 20)) for i in range(10)]
    rows = [{"question": one.question, "answer": f"#### {one.answer}"} for one in questions]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = overfit(lessons(task("gsm8k", "tool"), questions), tmp_path, steps=150, window=96, spelled=310)
    out = tmp_path / "run"
    words = ["--model", model, "--questions", tmp_path / "train.jsonl", "--out", out, "--mesh", "data=8"]
    run(script, *words, "--sampling.n", "1", "--sampling.temperature", "0", "--sampling.max-new-tokens", "80")
    counts = json.loads((out / "results.json").read_text())
    assert counts["tries"] == 10 and counts["right_by_programs"] == counts["solutions"] == 5
    records = list(read_sft([out / "solutions.jsonl"]))
    assert [record.kind for record in records] == ["tool"] * 5
    assert all("```output" in record.turns[-1].text for record in records)
