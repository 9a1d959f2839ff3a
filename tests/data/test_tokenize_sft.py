"""Finetuning files to windows: every example whole and once, its mask with it; the same bytes for any kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dsm_jax.data.corpus import StoredWindows
from dsm_jax.data.instructions import read_sft
from dsm_jax.data.sft import answer_pieces, encode_record
from dsm_jax.data.tokenize import HELD_OUT
from dsm_jax.data.tokenize_sft import tokenize_sft
from dsm_jax.errors import UserError
from dsm_jax.tokenizer import load_tokenizer, train_sentencepiece

QUESTIONS, WINDOW = 300, 96
ROOT = Path(__file__).parents[2]


def rows(file: int) -> list[dict]:
    """The solutions of one file to the questions that all files ask."""
    code = "```python\nprint({n} + {n})\n```\n```output\n{double}\n```\nThe answer is \\boxed{{{double}}}."
    words = "Twice {n} is {double}. " * (1 + file) + "The answer is \\boxed{{{double}}}."
    return [
        {
            "question": f"What is twice {n}?",
            "answer": (code if n % 3 == file else words).format(n=n, double=2 * n),
        }
        for n in range(QUESTIONS)
    ]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    for file in range(3):
        unfit = [{"question": "Why?", "answer": "because " * 99}, {"question": "Why?", "answer": ""}]
        lines = [json.dumps(row) for row in [*rows(file), *unfit]]
        (folder / f"{file}.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "t.model"
    train_sentencepiece([f"{one['question']} {one['answer']}" for one in rows(1)], path, vocab_size=360)
    return path


def segments(stored):
    """(ids, targets) of every example, read out token by token."""
    for i in range(len(stored)):
        window = {name: array.tolist() for name, array in stored[i].items()}
        found: dict[int, tuple[list[int], list[float]]] = {}
        last = 0
        for token, number, loss in zip(
            *(window[n] for n in ("tokens", "segment_ids", "loss_mask")), strict=True
        ):
            if number == 0:
                assert token == loss == 0
                last = 10**9  # padding is at the end only
                continue
            assert number in (last, last + 1)  # one stretch, in order
            last = number
            ids, targets = found.setdefault(number, ([], []))
            ids.append(token)
            targets.append(loss)
        yield from found.values()


def test_every_example_is_there_once_with_its_mask(tmp_path, source, tokenizer):
    stored, encode = tokenize_sft([source], tokenizer, WINDOW, tmp_path), load_tokenizer(tokenizer)
    skipped: Counter[str] = Counter()
    examples = [encode_record(record, encode) for record in read_sft([source], skipped=skipped)]
    expected = [(list(e.ids), list(map(float, e.is_target))) for e in examples if len(e.ids) <= WINDOW]
    assert sorted(segments(stored)) == sorted(expected)
    manifest = stored.manifest
    assert manifest["examples"] == manifest["cot"] + manifest["tool"] == len(expected) == 3 * QUESTIONS
    assert manifest["too_long"] == 3 and manifest["skipped: no answer"] == skipped["no answer"] == 3
    assert manifest["tokens"] == sum(len(ids) for ids, _ in expected)
    assert manifest["targets"] == sum(map(sum, (flags for _, flags in expected)))


def test_solutions_of_one_question_stay_on_one_side(tmp_path, source, tokenizer):
    stored, encode = (
        tokenize_sft([source], tokenizer, WINDOW, tmp_path, held_out=2_000),
        load_tokenizer(tokenizer),
    )
    sides = [
        Counter(encode.decode(ids).split("\n\nAssistant:")[0] for ids, _ in segments(side))
        for side in (stored, StoredWindows(tmp_path / HELD_OUT))
    ]
    assert not sides[0].keys() & sides[1].keys()
    assert sum(map(len, sides)) == QUESTIONS and {3} == set(sides[0].values()) | set(sides[1].values())
    assert 35 < len(sides[1]) < 85  # a fifth of 300
    held = StoredWindows(tmp_path / HELD_OUT).manifest
    assert held["examples"] == 3 * len(sides[1])
    assert "skipped: no answer" in stored.manifest and "skipped: no answer" not in held  # counted once


def test_bytes_are_those_of_the_targets(tmp_path, source, tokenizer):
    """What a tool put into an answer is not predicted, and its bytes make no loss smaller."""
    tokenize_sft([source], tokenizer, WINDOW, tmp_path, held_out=9_000)
    held, encode = StoredWindows(tmp_path / HELD_OUT), load_tokenizer(tokenizer)
    written: Counter[str] = Counter()
    for record in read_sft([source]):
        if len(encode_record(record, encode).ids) <= WINDOW:
            pieces = answer_pieces(record.turns[1].text)
            written[record.question] += 1 + sum(len(text) for text, is_target in pieces if is_target)
    asked = {
        encode.decode(ids).split("\n\nAssistant:")[0].removeprefix("User: ") for ids, _ in segments(held)
    }
    assert sum(held.manifest["target_bytes"]) == sum(written[question] for question in asked)


def test_only_correct_is_another_set(tmp_path, tokenizer):
    box = "It is \\boxed{4}."
    row = {"question": "2+2?", "code": [box, box], "pred": ["4", "5"], "gt": "4"}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    out = tmp_path / "out"
    assert tokenize_sft([tmp_path / "a.jsonl"], tokenizer, WINDOW, out).manifest["examples"] == 2
    correct = tokenize_sft([tmp_path / "a.jsonl"], tokenizer, WINDOW, out, only_correct=True).manifest
    assert correct["examples"] == correct["skipped: wrong answer"] == 1


def test_nothing_that_fits(tmp_path, tokenizer):
    (tmp_path / "a.jsonl").write_text(json.dumps({"question": "q", "answer": "long " * 99}))
    with pytest.raises(
        UserError,
        match=r"a.jsonl: no example of up to \d+ tokens \(--training.window\) in 1 files \(1 too_long\); give others",
    ):
        tokenize_sft([tmp_path / "a.jsonl"], tokenizer, WINDOW, tmp_path / "out")
    (tmp_path / "a.jsonl").write_text('{"question": "q", "answer": "a"}\n{"question": "q"\n')
    with pytest.raises(UserError, match=r"a.jsonl:2: not a row of JSON"):
        tokenize_sft([tmp_path / "a.jsonl"], tokenizer, WINDOW, tmp_path / "out")


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_workers_and_kills_change_no_byte(tmp_path, source, tokenizer, monkeypatch):
    monkeypatch.setattr("dsm_jax.data.texts.PART_BYTES", 1)
    tokenize_sft([source], tokenizer, WINDOW, tmp_path / "a", held_out=1_000)
    code = (
        "from pathlib import Path\nfrom dsm_jax.data import texts\nfrom dsm_jax.data.tokenize_sft import tokenize_sft\n"
        "import sys\n"
        "texts.PART_BYTES = 1\n"
        "source, tokenizer, out = map(Path, sys.argv[1:])\n"
        "if __name__ == '__main__':\n"
        f"    tokenize_sft([source], tokenizer, {WINDOW}, out, held_out=1_000, workers=1)\n"
    )
    (tmp_path / "run.py").write_text(code)
    argv = [sys.executable, str(tmp_path / "run.py"), str(source), str(tokenizer), str(tmp_path / "b")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(argv, env=environment, stderr=subprocess.DEVNULL)
    while not list((tmp_path / "b").glob("part-*.json")) and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run(argv, env=environment, check=True, stderr=subprocess.DEVNULL)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_real_transcripts_in_windows(dsm_data, tmp_path):
    """ToRA's transcripts in windows of 4,096: what the windows train is what the model wrote."""
    file = dsm_data / "labelled_outputs/gsm8k_tora-70b-v1.0_tool_integrated.jsonl.gz"
    records = list(read_sft([file]))
    texts = [turn.text for record in records[:200] for turn in record.turns]
    encode = train_sentencepiece(texts, tmp_path / "t.model", vocab_size=2_000)
    stored = tokenize_sft([file], tmp_path / "t.model", 4_096, tmp_path / "out")
    manifest = stored.manifest
    assert manifest["examples"] + manifest["too_long"] + manifest["skipped: no final answer"] == 1_319
    assert manifest["tokens"] > 0.95 * 4_096 * len(stored)  # little is padding
    written: Counter[str] = Counter()
    for record in records:
        before, after = record.turns[1].text.split("\n```output\n")
        written[f" {before}\n```output" + after.split("```\n", 1)[1]] += 1
    trained = Counter(encode.decode(np.array(ids)[np.array(flags) == 1]) for ids, flags in segments(stored))
    assert trained.total() == manifest["examples"] and not trained - written
