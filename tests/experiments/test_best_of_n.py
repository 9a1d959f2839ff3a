"""best_of_n.py: what it counts, restarts and kills, mistakes in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dsm_jax.evaluate.samples import by_problem, read_samples
from dsm_jax.model import load_hf
from dsm_jax.rl.reward_model.folder import save_reward_model
from dsm_jax.rl.reward_model.form import Form
from dsm_jax.rl.reward_model.readout import two_tokens
from dsm_jax.rl.reward_model.scored_samples import read_scores
from dsm_jax.run import read_json
from dsm_jax.tokenizer import load_tokenizer
from tests.experiments.grpo_command import save_random
from tests.experiments.killed import kill_twice
from tests.experiments.scripts import error_line, load_script, run
from tests.processes import run_processes

COMPARED = ("results.json", "report.html", "samples/000003.jsonl", "scores/1-process/000003.jsonl")


@pytest.fixture(scope="module")
def script():
    return load_script("best_of_n")


@pytest.fixture(scope="module")
def models(script, tmp_path_factory) -> Path:
    """A policy of random numbers, and reward models of both kinds."""
    small, folder = script.STEPS_SMOKE_MODEL, tmp_path_factory.mktemp("models")
    load_script("small_model").make_tokenizer(small, [], folder / "tokenizer", 0)
    save_random(small.model, folder / "policy", folder / "tokenizer/tokenizer.model")
    readout = two_tokens(load_tokenizer(folder / "policy"))
    for kind in ("process", "outcome"):
        model = load_hf(folder / "policy")
        save_reward_model(model, Form(readout, kind), folder / kind, folder / "policy")
    return folder


@pytest.fixture(scope="module")
def questions(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("questions") / "mine.jsonl"
    rows = [{"question": f"What is {n}+1?", "answer": str(n + 1)} for n in range(5)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def words(models: Path, questions: Path, out: Path, *more: str) -> list[str | Path]:
    return [
        "--preset", "smoke", "--model", models / "policy", "--eval-questions", questions, "--out", out,
        "--reward", f"process:{models / 'process'}", f"outcome:{models / 'outcome'}",
        "--max-new-tokens", "12", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def own(script, models, questions, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("own") / "run"
    run(script, *words(models, questions, out, "--groups", "2"))
    return out


def test_choices_are_those_of_the_files(own, models):
    rows = by_problem(read_samples(own / "samples"))
    assert [len(of) for of in rows] == [8] * 5
    results = read_json(own / "results.json")
    assert results["problems"] == 5 and results["samples"] == 8
    one, other = results["rewards"]
    assert {(choice["name"], choice["k"]) for choice in one["choices"]} >= {
        ("best by min", 1), ("best by product", 2), ("self-consistency, weighted by last", 4), ("any of them", 4),
    }  # fmt: skip
    assert {choice["name"] for choice in other["choices"] if choice["name"].startswith("best")} == {
        "best by last"
    }
    right = np.mean([row.correct["strict"] for of in rows for row in of])
    singles = [choice["share"]["value"] for choice in one["choices"] if choice["name"] == "one sample"]
    assert singles == pytest.approx([right] * 3)
    assert one["measures"] == {} and other["measures"]["solutions"] + other["without"] == 40
    (pair,) = results["between"].values()
    assert set(pair) == {
        "best by min over best by last",
        "self-consistency, weighted by min over self-consistency, weighted by last",
    }
    scores = read_scores(own / "scores/1-process")
    assert len(scores) == 40 and all(0 <= score <= 1 for of in scores.values() for score in of.scores)
    page = (own / "report.html").read_text()
    assert (
        "Share answered right over the number of answers" in page and "One reward model over another" in page
    )


def test_a_second_start_says_the_same_and_another_is_refused(own, script, models, questions, capsys):
    before = (own / "results.json").read_bytes()
    same = words(models, questions, own, "--groups", "2")
    run(script, *same)
    assert (own / "results.json").read_bytes() == before and "best by min" in capsys.readouterr().out
    assert "--groups (there 2, now 1)" in error_line(script, capsys, *words(models, questions, own))
    (own / "results.json").unlink()
    (own / "scores/2-outcome/000002.jsonl").unlink()
    run(script, *same)
    assert (own / "results.json").read_bytes() == before
    (own / "results.json").unlink()
    form = models / "process/reward_model.json"  # which says where the same parameters are read
    read = form.read_text()
    form.write_text(read.replace('"step_tag": null', '"step_tag": " ##"'))
    assert ": not what this run began with" in error_line(script, capsys, *same)
    form.write_text(read)
    run(script, *same)
    assert (own / "results.json").read_bytes() == before


def test_the_papers_numbers(script):
    """Math-Shepherd (arXiv 2312.08935), section 4.1: 256 candidates, the mean of three groups."""
    paper = script.PRESETS["paper"]
    assert (paper.n, paper.groups) == (256, 3) and paper.sampling.n == 768


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["--preset", "tiny"], "--reward: give process:DIR or outcome:DIR"),
        (["--reward", "accuracy"], "--reward accuracy: no model"),
        (["--reward", "prm:x"], "--reward prm:x: give"),
        (["--reward", "process:x", "process:x"], "stands there twice"),
        (["--reward", "process:{models}/policy"], "has no reward_model.json"),
        (["--reward", "process:{models}/outcome"], "this reward model judges the outcome"),
        (["--reward", "process:nowhere"], "nowhere"),
        (["--n", "1"], "--n is 1"),
        (["--temperature", "0"], "--temperature is 0"),
        (["--groups", "0"], "--groups is 0"),
        (["--rng-seed", str(2**31)], "--rng-seed is"),
        (["--eval-questions", "nowhere.jsonl", "--reward", "process:{models}/process"], "nowhere.jsonl"),
        (["--preset", "paper", "--model", "nowhere", "--reward", "process:{models}/process"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line(script, capsys, tmp_path, models, given, line):
    preset = [] if "--preset" in given else ["--preset", "smoke", "--model", str(models / "policy")]
    given = [word.format(models=models) for word in given]
    assert line in error_line(script, capsys, *preset, *given, "--out", tmp_path / "run")
    assert not (tmp_path / "run/samples").exists()


@pytest.mark.slow
@pytest.mark.exhaustive
def test_two_processes_choose_as_one(script, models, questions, own, tmp_path):
    run_processes(
        ["experiments/best_of_n.py", *map(str, words(models, questions, tmp_path, "--groups", "2"))], 2
    )
    assert read_samples(tmp_path / "samples") == read_samples(own / "samples")
    for kind in ("1-process", "2-outcome"):
        ours, theirs = (read_scores(folder / "scores" / kind) for folder in (tmp_path, own))
        assert list(ours) == list(theirs)
        for name, one in ours.items():
            assert one.ends == theirs[name].ends
            np.testing.assert_allclose(one.scores, theirs[name].scores, rtol=1e-4)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_killed_runs_end_in_the_same_bytes(tmp_path):
    command = ["experiments/best_of_n.py", "--preset", "smoke"]
    command += ["--cache", tmp_path / "cache", "--out", "{out}"]
    kill_twice(tmp_path / "drill", command, compare=COMPARED, writes="scores")
    results = read_json(tmp_path / "drill/again/results.json")
    (one,) = results["rewards"]
    shares = {choice["name"]: choice["share"]["value"] for choice in one["choices"]}
    assert 0 < shares["one sample"] <= shares["any of them"]
    assert one["measures"]["steps"] > 20 and one["measures"]["auc"] is not None
