"""compare_algorithms.py: verdicts from answers, and a whole comparison at smoke size."""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from dsm_jax.errors import UserError
from dsm_jax.evaluate.harness import Answers
from dsm_jax.run import read_json, write_json
from tests.experiments.killed import kill_twice
from tests.experiments.scripts import error_line, load_script
from tests.processes import environment

ROOT = Path(__file__).parents[2]
OF_ARM = ("metrics.jsonl", "answers/greedy-000002.jsonl")


@pytest.fixture(scope="module")
def findings():
    return load_script("algorithm_findings")


@pytest.fixture(scope="module")
def script():
    return load_script("compare_algorithms")


def verdicts(share: float, seed: int, n: int = 400) -> list[bool]:
    return (np.random.default_rng(seed).random(n) < share).tolist()


def test_a_finding_is_decided_by_its_interval(findings):
    finding = findings.Finding("a above b", "a", "b")
    low, high = ({seed: verdicts(share, 10 * seed) for seed in range(3)} for share in (0.3, 0.6))
    for better, worse, verdict in (
        (high, low, "reproduced"),
        (low, high, "refuted"),
        (low, low, "undecided"),
    ):
        found = findings.decided(finding, {"a": better, "b": worse})
        assert found["verdict"] == verdict and found["seeds"] == [0, 1, 2]
        gap = np.mean([np.mean(better[seed]) - np.mean(worse[seed]) for seed in range(3)])
        assert found["value"] == pytest.approx(gap)


def test_a_finding_takes_the_seeds_that_both_arms_have(findings):
    finding = findings.Finding("a above b", "a", "b")
    there = {"a": {0: verdicts(0.9, 0), 1: verdicts(0.1, 1)}, "b": {0: verdicts(0.2, 2)}}
    assert findings.decided(finding, there)["seeds"] == [0]
    assert "verdict" not in findings.decided(finding, {"a": there["a"]})


def test_that_pass_at_k_is_not_raised_is_refuted_by_a_rise(findings):
    low, high = [0.4] * 200, [0.6] * 200
    raised, lowered = {seed: high for seed in range(3)}, {seed: low for seed in range(3)}
    assert findings.decided_at_k("maj", low, raised)["verdict"] == "reproduced"
    assert findings.decided_at_k("pass", low, raised)["verdict"] == "refuted"
    assert findings.decided_at_k("pass", high, lowered)["verdict"] == "reproduced"


def test_two_seeds_decide_nothing(findings):
    assert (
        findings.decided_at_k("maj", [0.4] * 200, {0: [0.6] * 200, 1: [0.6] * 200})["verdict"] == "undecided"
    )


def write_answers(file: Path, right, n: int = 200, samples: int = 1) -> None:
    """n problems with so many samples each, all of them right of the problems in `right`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        Answers(str(i), "rates", 1, "?", "1", ["1"] * samples, [i in right] * samples, [True] * samples, ["1"] * samples)
        for i in range(n)
    ]  # fmt: skip
    file.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows))


def test_results_are_of_the_runs_that_have_ended(tmp_path):
    """Online RFT answers 120 and 140 of 200, RFT 100 and 110, the start 80; a third seed goes on still."""
    write_answers(tmp_path / "start/greedy-000000.jsonl", range(80))
    write_answers(tmp_path / "start/sampled-000000.jsonl", range(10), 50, 4)
    for arm, right in {"online_rft": (120, 140, 200), "rft": (100, 110, 200), "grpo_model": (90,)}.items():
        for seed, count in enumerate(right):
            folder = tmp_path / f"seed-{seed}" / arm
            write_answers(folder / "answers/greedy-000048.jsonl", range(count))
            write_answers(folder / "answers/sampled-000048.jsonl", range(20), 50, 4)
            if seed < 2:
                (folder / "done.json").write_text("{}")
    found = load_script("algorithm_report").collect(tmp_path, 48)
    assert found["start"]["value"] == 0.4 and found["problems"] == 200
    assert found["arms"]["online_rft"]["by_seed"] == {"0": 0.6, "1": 0.7}
    assert found["arms"]["online_rft"]["mean"] == pytest.approx(0.65)
    assert found["arms"]["online_rft"]["gain"]["value"] == pytest.approx(0.25)
    first = found["findings"][0]
    assert (
        first["seeds"] == [0, 1]
        and first["value"] == pytest.approx(0.125)
        and first["verdict"] == "undecided"
    )
    assert found["at_k"]["maj"]["start"] == {"1": 0.2, "2": 0.2, "4": 0.2}
    maj = found["at_k"]["differences"]["maj"]
    assert (maj["k"], maj["value"], maj["seeds"]) == (4, pytest.approx(0.2), [0])


def test_what_rewards_tell_within_a_group(tmp_path):
    """Of five rollouts the first four and the last four; a group without a right completion says nothing of the order."""
    groups = {"a": [(1, 0.9), (2, 0.1)], "b": [(1, 0.1), (2, 0.4), (2, 0.05)], "c": [(2, 0.3), (3, 0.7)]}
    (tmp_path / "completions").mkdir()
    for number, asked in enumerate(("ab", "c", "c", "c", "cc")):
        rows = [
            {"prompt": name, "answer": "1", "completion": f"\\boxed{{{answer}}}", "reward": reward}
            for name in asked
            for answer, reward in groups[name]
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"completions/{number:06d}.jsonl").write_text(text)
    found = load_script("algorithm_judging").judging([tmp_path])
    first = found["first"]
    assert (first["groups"], first["mixed"], first["none_right"]["value"]) == (5, 2, 0.6)
    assert first["auc"] == pytest.approx((1 + 0.5) / 2) and first["best_right"]["value"] == 0.5
    assert first["chance"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert found["last"]["mixed"] == 0 and "auc" not in found["last"]


def test_the_learning_rate_that_answers_most_is_taken(script, tmp_path, monkeypatch):
    """Of equal ones the smallest; every rate is tried once, on the search's own seed."""
    right, tried = {5e-5: 10, 1.5e-4: 30, 4.5e-4: 30}, []

    def run(config, arm, base, mesh, folder, rate, seed, asking):
        tried.append((arm, rate, seed, asking.of_test))
        last = script.TINY.training.training.loop.steps
        write_answers(folder / f"answers/greedy-{last:06d}.jsonl", range(right[rate]))

    monkeypatch.setattr(script, "run", run)
    monkeypatch.setattr(script, "ask_start", lambda *_: None)
    config = replace(script.TINY, out=tmp_path, search=True)
    assert script.chosen_rate(config, "dpo", None, None) == 1.5e-4
    assert tried == [("dpo", rate, 1_000, False) for rate in sorted(right)]
    assert script.chosen_rate(replace(config, search=False), "dpo", None, None) == 1.5e-4
    assert read_json(tmp_path / "search/dpo/scores.json") == {"5e-05": 0.05, "0.00015": 0.15, "0.00045": 0.15}


def test_the_gain_of_each_iteration_is_over_all_runs(tmp_path):
    """Three runs of two iterations: the first one answers 40 of 200 questions more, the second one other ones."""
    right = [range(60), range(100), range(20, 120)]
    runs = [tmp_path / f"run-{i}" for i in range(3)]
    for run in runs:
        for number in (1, 2):
            for step, there in ((0, right[number - 1]), (30, right[number])):
                write_answers(run / f"iteration-{number:02d}/policy/answers/greedy-{step:06d}.jsonl", there)
        (run / "results.json").write_text("{}")
        write_json(run / "config.json", {"rng_seed": int(run.name[-1]), "out": str(run), "replay": 0.1})
    decided = load_script("algorithm_report").decided_iterations
    first, second = decided(runs)
    assert first["value"] == pytest.approx(0.2) and first["verdict"] == "reproduced"
    assert second["value"] == 0 and second["verdict"] == "undecided" and second["seeds"] == [0, 1, 2]
    for other in ({"rng_seed": 0, "replay": 0.1}, {"rng_seed": 3, "replay": 0.2}):
        write_json(tmp_path / "run-2/config.json", other)
        with pytest.raises(
            UserError, match="--iterative: give runs of the same options that differ in --rng-seed"
        ):
            decided(runs)
    (runs[1] / "iteration-02/policy/answers/greedy-000030.jsonl").unlink()
    with pytest.raises(UserError, match="run-1: no run of iterative_grpo_7b.py that has ended and evaluated"):
        decided(runs)
    shutil.rmtree(runs[1] / "iteration-02")
    with pytest.raises(UserError, match="of more iterations than others"):
        decided(runs)
    with pytest.raises(UserError, match="no run of iterative_grpo_7b.py"):
        decided([tmp_path])


def test_a_call_without_iterations_keeps_those_that_were_decided(tmp_path):
    before = load_script("algorithm_report").decided_before
    assert before(tmp_path) == []
    write_json(tmp_path / "results.json", {})  # another script's, which open_run refuses
    assert before(tmp_path) == []
    write_json(tmp_path / "results.json", {"iterations": [{"value": 0.1}]})
    assert before(tmp_path) == [{"value": 0.1}]


def test_every_finding_is_of_arms_that_there_are(findings):
    for one in (*findings.FINDINGS, *findings.BESIDE):
        assert {one.better, one.worse} <= findings.ARMS.keys()


@pytest.mark.parametrize(
    "words, said",
    [
        (("--arms", "grpo"), "--arms grpo: take some of sft, rft"),
        (("--seeds", "0"), "--seeds is 0"),
        (("--rng-seed", "999", "--seeds", "2"), "must stay below 1000"),
        (("--learning-rates", "0"), "--learning-rates: give some, above 0"),
        (("--rng-seed", "-1"), "--rng-seed is -1"),
        (("--recipe.labels.completer", "x"), "--recipe.labels.completer: this script sets that itself"),
        (("--recipe.reward-model.data", "x"), "--recipe.reward-model.data: this script sets that itself"),
        (("--search", "--training.training.optimizer.peak-lr", "1"), "peak-lr: this script sets that itself"),
    ],
)
def test_bad_options_are_one_line(script, words, said, capsys):
    assert said in error_line(script, capsys, "--preset", "smoke", *words)


def compare(*words: str | Path) -> str:
    """What the script prints, in a process of its own: on one device, as on a user's machine."""
    done = subprocess.run(
        [sys.executable, "experiments/compare_algorithms.py", "--preset", "smoke", *map(str, words)],
        cwd=ROOT,
        env=environment(devices=1) | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_comparison_goes_on_with_more_arms_and_seeds(tmp_path):
    """What is there is not made again, and does not change."""
    out, words = tmp_path / "run", ("--out", tmp_path / "run", "--cache", tmp_path / "cache")
    compare(*words, "--arms", "online_rft")
    first = read_json(out / "results.json")
    assert list(first["arms"]) == ["online_rft"] and first["problems"] == 8
    printed = compare(*words, "--arms", "grpo_rule", "online_rft", "--seeds", "2")
    results = read_json(out / "results.json")
    assert results["arms"]["online_rft"]["by_seed"]["0"] == first["arms"]["online_rft"]["by_seed"]["0"]
    (found,) = (one for one in results["findings"] if one["seeds"])
    assert (found["better"], found["worse"]) == ("grpo_rule", "online_rft") and found["seeds"] == [0, 1]
    assert "verdict" in found and "GRPO with 1-0" in printed
    assert (out / "report.html").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.exhaustive
def test_killed_comparisons_end_in_the_same_bytes(tmp_path):
    compare = [f"seed-0/{arm}/{file}" for arm in ("online_rft", "grpo_steps") for file in OF_ARM]
    compare += ["results.json", "base/process/model/model.safetensors"]
    command = ["experiments/compare_algorithms.py", "--preset", "smoke"]
    command += ["--cache", tmp_path / "cache", "--out", "{out}"]
    kill_twice(tmp_path / "runs", command, compare=compare, writes="rollouts")


@pytest.mark.parametrize("samples", [0, 2])
def test_an_arm_has_ended_when_its_last_answers_are_there(script, findings, tmp_path, monkeypatch, samples):
    """A run that was killed after its last update and before these goes on with them."""
    runs = load_script("algorithm_runs")
    monkeypatch.setattr(runs, "load_hf", lambda *_, **__: pytest.fail("goes on"))
    base = runs.Base(script.STEPS_SMOKE_MODEL, tmp_path, {})
    training = script.training(script.STEPS_SMOKE_MODEL.grpo, updates=50, every=15)
    (tmp_path / "answers").mkdir()
    (tmp_path / "done.json").write_text("{}")

    def again():
        runs.run_arm(
            findings.ARMS["online_rft"], base, training, runs.Asking(8, 4, samples), None, tmp_path,
            rng_seed=0, kept=tmp_path, description="",
        )  # fmt: skip

    for kind in ("greedy", "sampled")[: 2 if samples else 1]:
        with pytest.raises(pytest.fail.Exception, match="goes on"):
            again()
        (tmp_path / f"answers/{kind}-000050.jsonl").touch()
    again()
