"""label_steps_7b.py: files, page, restarts and kills; mistakes in one line."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from dsm_jax.rl.shepherd.chunks import labels_of
from dsm_jax.run import read_json
from tests.experiments.grpo_command import save_random
from tests.experiments.killed import kill_twice
from tests.experiments.scripts import error_line, load_script, run
from tests.processes import run_processes, start_processes, wait_for

COMPARED = ("labels.jsonl", "math_shepherd.jsonl", "results.json", "report.html")
GOOD, BAD = " 3+4=7\nThe answer is \\boxed{7}.", " 3+4=8\nThe answer is \\boxed{8}."


@pytest.fixture(scope="module")
def script():
    return load_script("label_steps_7b")


@pytest.fixture(scope="module")
def model(script, tmp_path_factory) -> Path:
    """Of random numbers, with a tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    small_model = load_script("small_model")
    small_model.make_tokenizer(small_model.STEPS_SMOKE_MODEL, [], folder / "tokenizer", 0)
    save_random(small_model.STEPS_SMOKE_MODEL.model, folder / "hf", folder / "tokenizer/tokenizer.model")
    return folder / "hf"


@pytest.fixture
def pool(tmp_path) -> Path:
    rows = [{"question": "What is 3+4?", "answer": "7", "completion": text} for text in (GOOD, BAD)]
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "pool.jsonl"


def words(model: Path, pool: Path, out: Path, *more: str) -> list[str | Path]:
    return [
        "--preset", "smoke", "--generator", model, "--pool", pool, "--out", out, "--n", "2",
        "--max-new-tokens", "40", "--patience", "0", *more,
    ]  # fmt: skip


def rows_in(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "labels.jsonl").read_text().splitlines()]


def test_solutions_that_are_there_are_labelled(script, model, pool, tmp_path, capsys):
    out = tmp_path / "run"
    run(script, *words(model, pool, out))
    good, bad = map(labels_of, rows_in(out))
    assert good.labelled.completion == GOOD and good.labelled.ends == (6, len(GOOD))
    assert good.labelled.labels[1] == 1 and bad.labelled.labels == (0, 0) and bad.draws == ("00", "")
    assert read_json(out / "results.json")["labels"]["solutions"] == 2
    assert '<span class="bad"> 3+4=8</span>' in (out / "report.html").read_text()
    before = {name: (out / name).read_bytes() for name in COMPARED}
    run(script, *words(model, pool, out))
    assert {name: (out / name).read_bytes() for name in COMPARED} == before
    assert "2 solutions of 4 steps" in capsys.readouterr().out
    line = error_line(script, capsys, *words(model, pool, out, "--estimate", "soft"))
    assert "--estimate (there" in line
    written = pool.read_text()
    pool.write_text(written.replace("8", "9"))
    for _ in range(2):  # of a run that has ended, and of one that goes on
        line = error_line(script, capsys, *words(model, pool, out))
        assert "the files of --pool have changed" in line
        (out / "results.json").unlink(missing_ok=True)
    pool.write_text(written)
    run(script, *words(model, pool, out))
    assert {name: (out / name).read_bytes() for name in COMPARED} == before


def test_a_completer_that_never_solves_anything_loses_nothing(script, model, pool, tmp_path, capsys):
    out = tmp_path / "run"
    argv = words(model, pool, out)
    assert "no completion is right: 4 of 1 problems" in error_line(script, capsys, *argv, "--patience", "1")
    there = (out / "labelled/000000.jsonl").stat()
    run(script, *argv)  # which waits for ever
    assert (out / "labelled/000000.jsonl").stat() == there and len(rows_in(out)) == 2


def test_a_pool_without_a_solution_is_one_line(script, model, tmp_path, capsys):
    pool = tmp_path / "blank.jsonl"
    rows = [{"question": "What is 3+4?", "answer": "7", "completion": text} for text in (" ", " ", "\n")]
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = error_line(script, capsys, *words(model, pool, tmp_path / "run"))
    assert "no solution to label: 3 of 1 problems" in line and "1 repeated" in line


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ([], "--prompts: give questions, --pool solutions, or --problems"),
        (["--prompts", "gsm8k:a", "--pool", "b"], "--pool: its rows have their questions"),
        (["--source-filter", "CoT"], "--source-filter: is for the files of --prompts"),
        (["--preset", "tiny", "--problems", "0"], "--prompts: give questions"),
        (["--problems", "-1"], "--problems is -1"),
        (["--preset", "tiny", "--search", "binary"], "--search binary"),
        (["--n", "0"], "--n is 0"),
        (["--prompts", "nowhere.jsonl", "--generator", "nowhere"], "nowhere"),
        (["--pool", "b", "--problems", "7"], "--problems: all solutions of --pool are labelled"),
    ],
)
def test_a_mistake_is_one_line(script, capsys, tmp_path, given, line):
    assert line in error_line(script, capsys, *given, "--out", tmp_path / "run")
    assert not (tmp_path / "run/config.json").exists()


def test_a_completer_that_is_missing_is_found_before_anything_is_sampled(script, model, tmp_path, capsys):
    given = ("--preset", "smoke", "--generator", model, "--completer", "nowhere", "--out", tmp_path / "run")
    assert "nowhere" in error_line(script, capsys, *given)
    assert not (tmp_path / "run").exists()


def test_another_model_is_refused(script, model, pool, tmp_path, capsys):
    out, note = tmp_path / "run", tmp_path / "run/origin.json"
    run(script, *words(model, pool, out))
    note.write_text(note.read_text().replace('"the completer": "', '"the completer": "x'))
    (out / "results.json").unlink()
    assert "the completer: not what this run began with" in error_line(
        script, capsys, *words(model, pool, out)
    )


@pytest.fixture(scope="module")
def smoke(script, tmp_path_factory) -> Path:
    """A whole run; its model is kept in cache/."""
    folder = tmp_path_factory.mktemp("smoke")
    run(script, "--preset", "smoke", "--cache", folder / "cache", "--out", folder / "run")
    return folder


@pytest.mark.slow
def test_a_smoke_run_has_labels_of_both_kinds(smoke):
    results = read_json(smoke / "run/results.json")
    assert results["labels"]["hits"] > 0 and results["labels"]["saved"] > 0.2
    assert {label for row in rows_in(smoke / "run") for label in row["labels"]} == {0.0, 1.0}
    assert results["steps"]["truth"]["all"]["steps"] > 10


@pytest.mark.slow
def test_perfect_labels_stand_beside_the_others(smoke):
    """The same rows, whose labels agree as often as the report says."""
    texts = ((smoke / "run" / name).read_text() for name in ("labels.jsonl", "truths.jsonl"))
    ours, truths = ([json.loads(line) for line in text.splitlines()] for text in texts)
    assert [row | {"labels": []} for row in ours] == [row | {"labels": []} for row in truths]
    pairs = [
        pair for a, b in zip(ours, truths, strict=True) for pair in zip(a["labels"], b["labels"], strict=True)
    ]
    said = read_json(smoke / "run/results.json")["steps"]["truth"]["all"]["accuracy"]["value"]
    assert sum(a == b for a, b in pairs) / len(pairs) == pytest.approx(said)


def command(cache: Path, out: str) -> list[str]:
    return [
        "experiments/label_steps_7b.py", "--preset", "smoke", "--cache", str(cache), "--out", out,
    ]  # fmt: skip


@pytest.mark.slow
def test_killed_runs_end_in_the_same_bytes(smoke, tmp_path):
    kill_twice(
        tmp_path / "drill",
        command(smoke / "cache", "{out}"),
        compare=(*COMPARED, "truths.jsonl"),
        writes="labelled",
    )


@pytest.mark.slow
def test_sigterm_saves_and_ends_with_75(smoke, tmp_path):
    out = tmp_path / "run"
    (running,) = start_processes(command(smoke / "cache", str(out)), 1)
    wait_for(out / "labelled/rounds.json", [running])
    running.send_signal(signal.SIGTERM)
    _, said = running.communicate(timeout=300)
    assert running.returncode == 75 and "stopped by SIGTERM" in said
    run_processes(command(smoke / "cache", str(out)), 1)
    assert (out / "labels.jsonl").read_bytes() == (smoke / "run/labels.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.exhaustive
def test_two_processes_leave_the_labels_of_one(smoke, tmp_path):
    run_processes(command(smoke / "cache", str(tmp_path)), 2)
    assert rows_in(tmp_path) == rows_in(smoke / "run")
