"""iterative_grpo_7b.py: what each iteration begins with, which rows are seen again, and restarts; mistakes in one line."""

from __future__ import annotations

import json
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path

import jax
import numpy as np
import pytest

from dsm_jax.errors import UserError
from dsm_jax.mesh import single_device_mesh
from dsm_jax.model import load_hf
from dsm_jax.model.config import SMOKE
from dsm_jax.rl.reference import reference_target
from dsm_jax.rl.reward_model.folder import load_reward_model
from dsm_jax.run import options, read_json, read_metrics
from dsm_jax.train.checkpoint import Checkpoints
from tests.experiments.grpo_command import save_random
from tests.experiments.killed import kill_twice
from tests.experiments.scripts import error_line, load_script, run
from tests.processes import run_processes

OF_ITERATION = (
    "labels/labels.jsonl", "reward_model/results.json", "reward_model/metrics.jsonl",
    "reward_model/model/model.safetensors", "policy/results.json", "policy/metrics.jsonl",
    "policy/completions/000001.jsonl", "policy/model/model.safetensors",
)  # fmt: skip


@pytest.fixture(scope="module")
def script():
    return load_script("iterative_grpo_7b")


def file_of(path: Path, number: int, name: str) -> Path:
    path.write_text("".join(json.dumps({name: i, "text": "a\u2028b"}) + "\n" for i in range(number)))
    return path


def replayed(script, tmp_path, new: int, earlier: tuple[int, ...], share: float, seed: int = 0) -> list[dict]:
    files = [file_of(tmp_path / f"{i}.jsonl", count, f"of {i}") for i, count in enumerate(earlier)]
    rows = file_of(tmp_path / "new.jsonl", new, "new")
    script.write_replay(tmp_path / "replay.jsonl", rows, files, share, seed)
    return [json.loads(line) for line in (tmp_path / "replay.jsonl").read_text().split("\n")[:-1]]


@pytest.mark.parametrize(("new", "count"), [(90, 10), (900, 100), (9, 1)])
def test_a_tenth_of_what_is_trained_on_is_replayed(script, tmp_path, new, count):
    rows = replayed(script, tmp_path, new, (70, 50), 0.1)
    assert len(rows) == count and all("new" not in row for row in rows)


def test_rows_are_drawn_once_from_all_that_came_before(script, tmp_path):
    rows = [json.dumps(row) for row in replayed(script, tmp_path, 90, (40, 60), 0.5)]
    assert len(rows) == len(set(rows)) == 90
    assert 30 < sum("of 0" in row for row in rows) <= 40
    again = [json.dumps(row) for row in replayed(script, tmp_path, 90, (40, 60), 0.5)]
    other = [json.dumps(row) for row in replayed(script, tmp_path, 90, (40, 60), 0.5, seed=1)]
    assert rows == again != other


def test_no_more_is_replayed_than_there_is(script, tmp_path):
    assert len(replayed(script, tmp_path, 900, (3, 4), 0.5)) == 7


def test_the_first_iteration_replays_nothing(script, tmp_path):
    config = replace(script.SMOKE, out=tmp_path)
    assert script.training_files(config, 1) == (tmp_path / "iteration-01/labels/labels.jsonl",)
    assert script.training_files(replace(config, replay=0.0), 2) == (
        tmp_path / "iteration-02/labels/labels.jsonl",
    )


def test_too_few_new_solutions_replay_nothing(script, tmp_path):
    """A file without a row could not be read."""
    for number in (1, 2):
        (tmp_path / f"iteration-0{number}/labels").mkdir(parents=True)
        file_of(tmp_path / f"iteration-0{number}/labels/labels.jsonl", 4, f"of {number}")
    files = script.training_files(replace(script.SMOKE, out=tmp_path), 2)
    assert files == (tmp_path / "iteration-02/labels/labels.jsonl",)


def test_what_an_iteration_begins_with(script, tmp_path):
    config = replace(script.SMOKE, out=tmp_path, init="policy", reward_init=None)
    assert script.policy_before(config, 1) == script.reward_model_before(config, 1) == "policy"
    assert script.reward_model_before(replace(config, reward_init="base"), 1) == "base"
    assert script.policy_before(config, 3) == str(tmp_path / "iteration-02/policy/model")
    assert script.reward_model_before(config, 3) == str(tmp_path / "iteration-02/reward_model/model")


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["--labels.generator", "x"], "--labels.generator: this script sets that itself"),
        (["--labels.pool", "x.jsonl"], "--labels.pool: this script sets that itself"),
        (["--labels.rng-seed", "1"], "--labels.rng-seed: this script sets that"),
        (["--reward-model.data", "x.jsonl"], "--reward-model.data: this script sets that"),
        (["--reward-model.kind", "outcome"], "--reward-model.kind: this script sets that"),
        (["--reward-model.export", "x"], "--reward-model.export: this script sets that"),
        (["--policy.reward", "format"], "--policy.reward: this script sets that"),
        (["--policy.grpo.splitting", "sentences"], "--policy.grpo.splitting: this script sets that"),
        (["--labels.splitting", "numbered"], "--labels.splitting: this script sets that"),
        (["--policy.init", "x"], "--policy.init: this script sets that"),
        (["--policy.export", "x"], "--policy.export: this script sets that"),
        (["--reward", "accurcy"], "--reward accurcy: give accuracy, format, overlong"),
        (["--iterations", "0"], "--iterations is 0"),
        (["--replay", "1"], "--replay is 1"),
        (["--replay", "-0.1"], "--replay is -0.1"),
        (["--preset", "paper", "--init", "None"], "--init: this preset has no policy of its own"),
    ],
)
def test_a_mistake_is_one_line(script, capsys, tmp_path, given, line):
    preset = () if "--preset" in given else ("--preset", "smoke")
    assert line in error_line(script, capsys, *preset, *given, "--out", tmp_path / "run")
    assert not (tmp_path / "run/config.json").exists()


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> dict[str, str]:
    """Folders of small models: two of one tokenizer, one of another."""
    folder, small_model = tmp_path_factory.mktemp("bases"), load_script("small_model")
    for name, seed in (("policy", 0), ("other", 1)):  # of the tokenizer
        small_model.make_tokenizer(small_model.STEPS_SMOKE_MODEL, [], folder / f"{name}-tokenizer", seed)
        save_random(SMOKE, folder / name, folder / f"{name}-tokenizer/tokenizer.model")
    return {name: str(folder / name) for name in ("policy", "other")}


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["--reward-init", "{other}"], "its tokenizer is not that of the policy"),
        (["--policy.grpo.rewards.weights", "1", "2", "3"], "rewards.weights: 3 weights for 1 rewards"),
        (["--completer", "nowhere"], "nowhere"),
        (["--reward-model.training.window", "4096"], "--training.window 4096 is longer than"),
        (["--policy.grpo.max-completion-length", "4096"], "--grpo.max-completion-length 4096 leaves no room"),
    ],
)
def test_a_mistake_in_a_later_phase_is_found_before_the_first(script, capsys, tmp_path, bases, given, line):
    words = [word.format(**bases) for word in given]
    init = ("--init", bases["policy"], "--reward-init", bases["policy"])
    assert line in error_line(script, capsys, "--preset", "smoke", *init, *words, "--out", tmp_path / "run")
    assert not (tmp_path / "run/config.json").exists()


def test_what_may_change_is_an_option_and_nothing_else_may(script, capsys, tmp_path, monkeypatch):
    plain = options(json.loads(json.dumps(script.SMOKE, default=_plain)))
    _begin(tmp_path / "begun", *script.HANDED)
    free = script.free_options(replace(script.SMOKE, out=tmp_path / "begun"))
    assert [name for name in free if name not in plain] == []
    assert {"--labels.slots", "--policy.grpo.loop.keep", "--reward-model.training.loop.keep"} <= set(free)
    monkeypatch.setattr(script, "make_steps_models", lambda *_: ("policy", "completer"))
    monkeypatch.setattr(script, "check", lambda *_: None)
    monkeypatch.setattr(script, "iterate", lambda *_: _begin(tmp_path / "run", *script.HANDED))
    monkeypatch.setattr(script, "finish", lambda config: _write(config.out / "results.json"))
    monkeypatch.setattr(script, "print_results", lambda *_: None)
    argv = ["--preset", "smoke", "--out", tmp_path / "run"]
    run(script, *argv)
    run(script, *argv, "--labels.slots", "8", "--policy.grpo.loop.keep", "2")
    assert "--cache (there" in error_line(script, capsys, *argv, "--cache", tmp_path)
    assert "--replay (there" in error_line(script, capsys, *argv, "--replay", "0.2")
    assert "--labels.max-decoded (there" in error_line(script, capsys, *argv, "--labels.max-decoded", "9")
    assert "--policy.grpo.loop.steps (there" in error_line(
        script, capsys, *argv, "--policy.grpo.loop.steps", "3"
    )


def test_a_phase_that_has_not_begun_may_have_other_options(script, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "make_steps_models", lambda *_: ("policy", "completer"))
    monkeypatch.setattr(script, "check", lambda *_: None)
    argv = ["--preset", "smoke", "--out", tmp_path / "run"]

    def until(*begun: str) -> None:
        """A start that begins these phases and is killed."""

        def iterate(*_: object) -> None:
            _begin(tmp_path / "run", *begun)
            raise UserError("killed")

        monkeypatch.setattr(script, "iterate", iterate)

    more, steps = ["--reward-model.problems", "7"], ["--policy.grpo.loop.steps", "9"]
    until()
    assert error_line(script, capsys, *argv, "--labels.n", "2") == "error: killed"
    until("labels")
    assert error_line(script, capsys, *argv) == "error: killed"
    assert "--labels.n (there 4, now 2)" in error_line(script, capsys, *argv, "--labels.n", "2")
    until("reward_model")
    assert error_line(script, capsys, *argv, *more) == "error: killed"
    assert "--reward-model.problems (there 7" in error_line(script, capsys, *argv)
    until("policy")
    assert error_line(script, capsys, *argv, *more, *steps, "--reward", "accuracy") == "error: killed"
    assert "--reward (there" in error_line(script, capsys, *argv, *more, *steps)
    assert json.loads((tmp_path / "run/config.json").read_text())["policy"]["grpo"]["loop"]["steps"] == 9


def _begin(out: Path, *phases: str) -> None:
    for phase in phases:
        (out / "iteration-01" / phase).mkdir(parents=True, exist_ok=True)
        _write(out / "iteration-01" / phase / "config.json")


def _plain(value: object) -> object:
    return asdict(value) if is_dataclass(value) else str(value)


def _write(file: Path) -> None:
    file.write_text("{}")


def command(cache: Path, out: str) -> list[str]:
    return ["experiments/iterative_grpo_7b.py", "--preset", "smoke", "--cache", str(cache), "--out", out]


@pytest.fixture(scope="module")
def drilled(tmp_path_factory) -> Path:
    """Two runs that were killed, one at a write, beside undisturbed ones."""
    folder = tmp_path_factory.mktemp("drill")
    compare = [f"iteration-0{number}/{file}" for number in (1, 2) for file in OF_ITERATION]
    compare += ["results.json", "iteration-02/replay.jsonl"]
    kill_twice(
        folder / "runs", command(folder / "cache", "{out}"), compare=compare, writes="policy/checkpoints"
    )
    return folder


@pytest.mark.slow
def test_killed_runs_end_in_the_same_bytes(drilled):
    rows = read_metrics(drilled / "runs/undisturbed/iteration-02/policy/metrics.jsonl")
    assert any(row.get("grad_norm", 0) > 0 for row in rows)  # there was something to lose


@pytest.mark.slow
def test_the_reference_is_the_policy_that_the_iteration_began_with(drilled):
    first, second = (drilled / "runs/undisturbed" / f"iteration-0{number}" for number in (1, 2))
    mesh = single_device_mesh()
    began, ended = (load_hf(one / "policy/model", mesh, dtype="float32") for one in (first, second))
    with Checkpoints(second / "policy/checkpoints", read_only=True) as checkpoints:
        target = {"reference": reference_target(began.config, mesh)}
        reference = checkpoints.restore_part(target)["reference"]
    assert largest(reference, began.params) == 0 < largest(reference, ended.params)


@pytest.mark.slow
def test_the_reward_model_goes_on_from_the_one_before(drilled):
    runs = drilled / "runs/undisturbed"
    config = read_json(runs / "iteration-02/reward_model/config.json")
    assert str(config["init"]).endswith("iteration-01/reward_model/model")
    assert [Path(file).name for file in config["data"]] == ["labels.jsonl", "replay.jsonl"]
    models = [load_reward_model(runs / f"iteration-0{n}/reward_model/model") for n in (1, 2)]
    assert 0 < largest(*(one.sampler.params for one in models)) < 0.1


def largest(a, b) -> float:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.abs(np.asarray(one) - np.asarray(other)).max()) for one, other in pairs)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_two_processes_come_to_the_same_iterations(drilled, tmp_path):
    run_processes(command(drilled / "cache", str(tmp_path)), 2)
    ours, theirs = (read_json(out / "results.json") for out in (tmp_path, drilled / "runs/undisturbed"))
    for one, other in zip(ours["iterations"], theirs["iterations"], strict=True):
        assert one["labels"]["steps"] == other["labels"]["steps"]
        assert one["policy"]["reward"] == pytest.approx(other["policy"]["reward"], abs=0.02)


def test_the_policy_is_asked_the_problems_that_its_model_has_learned(script):
    """Of the preset's own models: the labels', the policy's and the evaluation's are of one kind."""
    folders, grpo = load_script("small_folders"), load_script("grpo_7b")
    small, _ = folders.STEPS["tiny"]
    assert grpo.SMALL[script.TINY.policy.preset] == small
    policy = folders.steps_folders(script.TINY.cache, "tiny").policy
    assert grpo.small_sft_folder(script.TINY.policy) == policy
