"""experiments/grpo_7b.py: a run from a Hugging Face folder, and a killed run."""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import replace
from pathlib import Path
from shutil import copytree, rmtree

import numpy as np
import pytest

from dsm_jax import cli
from dsm_jax.data.prompts import prompt_text
from dsm_jax.evaluate.scores import Interval
from dsm_jax.mesh import single_device_mesh
from dsm_jax.model import Model, load_hf
from dsm_jax.model.config import SMOKE
from dsm_jax.model.hf import save_shape
from dsm_jax.model.params import init_params
from dsm_jax.rl.actor import Actor
from dsm_jax.run import read_json, read_metrics
from dsm_jax.sample.request import Completion
from dsm_jax.sample.sampler import Sampler
from dsm_jax.tokenizer import load_tokenizer
from dsm_jax.train import start
from dsm_jax.train.checkpoint import Checkpoints
from tests.experiments.grpo_command import error_line, save_random
from tests.experiments.killed import kill_twice
from tests.experiments.scripts import load_script

grpo_evaluation = load_script("grpo_evaluation")


def test_a_run_from_a_folder_and_its_second_start(script, capsys, tmp_path, folder, monkeypatch):
    out = tmp_path / "run"
    argv = ["--preset", "smoke", "--init", str(folder / "hf"), "--out", str(out)]
    argv += ["--mesh", "fsdp=4,tensor=2", "--grpo.loop.steps", "2", "--instruction", " Box it."]
    argv += ["--reward", "accuracy", "overlong"]  # the last is not the same for all
    cli.run_script(script.main, script.PRESETS, argv)
    results = read_json(out / "results.json")
    rows = [row for row in read_metrics(out / "metrics.jsonl") if "reward" in row]
    assert results["steps"] == len(rows) == len(list((out / "completions").glob("*.jsonl"))) == 2
    assert results["tokens"] == rows[-1]["num_tokens"] > rows[0]["num_tokens"] > 0
    assert abs(rows[0]["kl"]) < 1e-9 and results["seconds"]["total"] > 0
    said = capsys.readouterr().out
    assert "2 steps" in said and "before" in said and "greedy 0.0% -> 0.0% of 8 questions" in said
    assert results["evaluation"]["questions"] == 8
    rows = [row for row in read_metrics(out / "metrics.jsonl") if "eval/greedy" in row]
    assert [row["step"] for row in rows] == [0, 2] and "reward" not in rows[0]

    monkeypatch.setattr(start, "load_hf", lambda *_, **__: pytest.fail("must not start again"))
    cli.run_script(script.main, script.PRESETS, [*argv, "--mesh", "fsdp=2", "data=4"])
    assert read_json(out / "results.json") == results
    assert_starts_others(out)
    assert "--rng-seed" in error_line(script, capsys, *argv, "--rng-seed", "1")


def assert_starts_others(out: Path) -> None:
    """As a model: its policy, of the newest checkpoint or of one that is named, with its tokenizer."""
    mesh, last = single_device_mesh(), load_hf(out / "model").params
    for init, is_last in ((out, True), (out / "checkpoints/2", True), (out / "checkpoints/1", False)):
        found = start.find_start(str(init), mesh, own=None)
        assert load_tokenizer(found.tokenizer()).fingerprint == load_tokenizer(out / "model").fingerprint
        assert np.array_equal(found.params(mesh, 0)["embed"], last["embed"]) == is_last


@pytest.fixture(scope="module")
def own(script, folder, tmp_path_factory) -> tuple[Path, list[str]]:
    """A run on a set of questions with a test split, three steps with an evaluation each."""
    out = tmp_path_factory.mktemp("own")
    for split, first in (("train", 0), ("test", 6)):
        rows = [{"question": f"{i} + 1?", "answer": f"#### {i + 1}", "grade": i} for i in range(first, 10)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (out / f"{split}.jsonl").write_text(text)
    argv = [
        "--preset",
        "smoke",
        "--init",
        str(folder / "hf"),
        "--out",
        str(out / "run"),
        "--mesh",
        "fsdp=1,data=8",
    ]
    argv += [
        "--prompts",
        f"gsm8k:{out}",
        "--reward",
        "accuracy",
        "format",
        "overlong",
        "--grpo.rewards.weights",
    ]
    argv += ["1", "0.5", "1", "--grpo.loop.steps", "3", "--grpo.loop.stop-every", "1", "--eval-samples", "2"]
    argv += ["--grpo.optimizer.peak-lr", "0.01"]
    cli.run_script(script.main, script.PRESETS, argv)
    return out / "run", argv


@pytest.mark.slow
def test_prompts_of_a_set_and_its_test_split(own):
    """Questions of the evaluation are no prompts; rows keep their fields; every reward is called with its weight."""
    out, _ = own
    asked = [json.loads(line)["question"] for line in (out / "answers/greedy-000003.jsonl").open()]
    assert asked == [f"{i} + 1?" for i in range(6, 10)]
    rows = [json.loads(line) for file in (out / "completions").glob("*.jsonl") for line in file.open()]
    assert {row["question"] for row in rows} == {f"{i} + 1?" for i in range(6)}
    assert {row["grade"] for row in rows} == set(range(6)) and {row["source"] for row in rows} == {"gsm8k"}
    for row in rows:
        accuracy, boxed, overlong = row["rewards"].values()
        assert row["reward"] == accuracy + 0.5 * boxed + overlong
    assert any(row["rewards"]["overlong_penalty"] for row in rows)


@pytest.mark.slow
def test_evaluations_and_the_best_policy(own):
    out, _ = own
    evaluation, best = read_json(out / "results.json")["evaluation"], read_json(out / "best.json")
    assert [one["step"] for one in evaluation["every"]] == [0, 1, 2, 3]
    assert evaluation["first"]["step"] == 0 and evaluation["last"]["step"] == 3
    assert set(evaluation["last"]) >= {"greedy", "boxed", "maj@2", "pass@2"}
    assert evaluation["best"]["step"] == best["step"] == 0  # of equal ones the first
    assert best["greedy"] == evaluation["best"]["greedy"] and evaluation["difference"]["n"] == 4
    page = (out / "report.html").read_text()
    assert "Evaluation" in page and "pass@2" in page and "000002.jsonl" in page
    first, last = (load_hf(out / name).params["embed"] for name in ("best", "model"))
    assert not np.array_equal(first, last)


def prompt_of(answer: dict) -> str:
    return prompt_text(answer["question"] + "")


@pytest.mark.slow
def test_the_export_answers_as_the_policy_did(own):
    out, _ = own
    answers = [json.loads(line) for line in (out / "answers/greedy-000003.jsonl").open()]
    sampler = Sampler(load_hf(out / "model"), load_tokenizer(out / "model"))
    found = sampler.generate([prompt_of(one) for one in answers], max_new_tokens=32, temperature=0.0)
    assert [one.text for (one,) in found] == [one["responses"][0] for one in answers]


@pytest.mark.slow
def test_the_export_answers_the_same_in_transformers(own):
    torch = pytest.importorskip("torch", reason="no torch here: pip install -e .[torch]")
    transformers = pytest.importorskip("transformers", reason="no transformers here: pip install -e .[torch]")
    out, _ = own
    answers = [json.loads(line) for line in (out / "answers/greedy-000003.jsonl").open()]
    prompts = [prompt_of(one) for one in answers]
    ours = Sampler(load_hf(out / "model"), load_tokenizer(out / "model")).generate(
        prompts, max_new_tokens=32, temperature=0.0
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(out / "model")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        out / "model", dtype=torch.float32, attn_implementation="eager"
    )
    for prompt, (completion,) in zip(prompts, ours, strict=True):
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        theirs = model.generate(ids, max_new_tokens=32, do_sample=False)[0, ids.shape[1] :].tolist()
        assert theirs == completion.tokens.tolist()


@pytest.mark.slow
def test_a_killed_run_asks_nothing_twice(own, script, monkeypatch, tmp_path):
    """Killed behind its last update: the answers are read, the results are the same."""
    out, argv = own
    copytree(out, tmp_path / "run")
    before = read_json(out / "results.json")
    (tmp_path / "run/results.json").unlink()
    monkeypatch.setattr(Sampler, "generate", lambda *_, **__: pytest.fail("must not ask again"))
    cli.run_script(script.main, script.PRESETS, [*argv, "--out", str(tmp_path / "run")])
    assert read_json(tmp_path / "run/results.json") == before


@pytest.mark.slow
def test_another_export_of_a_finished_run(own, script, capsys, tmp_path):
    out, argv = own
    cli.run_script(script.main, script.PRESETS, [*argv, "--export", str(tmp_path / "hf")])
    model = "model.safetensors"
    assert (tmp_path / "hf" / model).read_bytes() == (out / "model" / model).read_bytes()
    assert f"for transformers: {tmp_path / 'hf'}" in capsys.readouterr().out
    cli.run_script(script.main, script.PRESETS, [*argv, "--export", str(tmp_path / "hf")])  # its own
    other = ["--out", str(tmp_path / "other"), "--export", str(tmp_path / "hf")]
    assert "a model is there already" in error_line(script, capsys, *argv, *other)
    save_random(script.SMOKE_MODEL.model, tmp_path / "theirs")
    before = (tmp_path / "theirs" / model).read_bytes()
    again = error_line(script, capsys, *argv, "--export", str(tmp_path / "theirs"))  # the run that is there
    assert "theirs: a model is there already" in again
    assert (tmp_path / "theirs" / model).read_bytes() == before


@pytest.mark.slow
def test_questions_that_have_changed_are_refused(own, script, capsys, tmp_path):
    out, argv = own
    copytree(out.parent, tmp_path / "all")
    (tmp_path / "all/run/results.json").unlink()
    with (out.parent / "train.jsonl").open("a") as file:
        file.write(json.dumps({"question": "new?", "answer": "1", "grade": 11}) + "\n")
    with pytest.raises(SystemExit):
        cli.run_script(script.main, script.PRESETS, [*argv, "--out", str(tmp_path / "all/run")])
    assert "--prompts: not what this run began with" in capsys.readouterr().err


@pytest.mark.slow
def test_prompts_without_a_test_split_are_not_evaluated(script, folder, capsys, tmp_path):
    rows = [{"messages": [{"content": f"{i}?"}, {"content": rf"\boxed{{{i}}}"}]} for i in range(5)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    argv = ["--preset", "smoke", "--init", str(folder / "hf"), "--prompts", str(tmp_path / "rows.json")]
    argv += ["--out", str(tmp_path / "run"), "--grpo.loop.steps", "1", "--grpo.optimizer.warmup-steps", "0"]
    cli.run_script(script.main, script.PRESETS, argv)
    said = capsys.readouterr()
    assert "no evaluation: --prompts has no test split" in said.err
    assert "prompts: 5 questions; left out: none" in said.out and "greedy" not in said.out
    assert read_json(tmp_path / "run/results.json")["evaluation"] == {}
    assert not (tmp_path / "run/best").exists() and (tmp_path / "run/model/config.json").exists()


def write_gsm8k(folder: Path) -> Path:
    """Rows as GSM8K is published."""
    folder.mkdir()
    for split, count in (("train", 12), ("test", 3)):
        rows = (
            {
                "question": f"Ann has {i} pens and 1,000 more in {split}. How many?",
                "answer": f"{i}+1000 = <<{i}+1000={i + 1000}>>{i + 1000}\n#### 1,{i:03d}",
            }
            for i in range(count)
        )
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def with_texts(sample):
    """Of each question of the first rollout: right in a box, wrong in a box, right without one, right with words."""

    def called(self, params, rows, draw, folder):
        found = sample(self, params, rows, draw, folder)
        if draw:
            return found
        golds = [row["answer"].rpartition("#### ")[2] for row in rows]
        texts = [[f"\\boxed{{{g}}}", f"\\boxed{{{g}9}}", g, f" It is\n\\boxed{{{g}}}."] for g in golds]
        return [list(map(with_text, *pair)) for pair in zip(found, texts, strict=True)]

    return called


def with_text(completion: Completion, text: str) -> Completion:
    return replace(completion, text=text)


@pytest.mark.slow
@pytest.mark.parametrize("published", [False, True])
def test_gsm8k_is_graded_and_rewards_that_are_all_0_are_told(
    script, folder, capsys, tmp_path, monkeypatch, request, published
):
    """Texts of the first rollout are given; those of the second are a random model's."""
    made = request.getfixturevalue("dsm_data") / "gsm8k" if published else write_gsm8k(tmp_path / "gsm8k")
    argv = ["--preset", "smoke", "--init", str(folder / "hf"), "--prompts", f"gsm8k:{made}"]
    argv += ["--out", str(tmp_path / "run"), "--grpo.loop.steps", "2"]
    monkeypatch.setattr(Actor, "_sample", with_texts(Actor._sample))
    cli.run_script(script.main, script.PRESETS, argv)
    said = capsys.readouterr()
    asked = "asks 8 of 1,319 questions" if published else "asks 3 of 3 questions"
    assert f"evaluation: {asked}; left out: none" in said.out
    assert ("prompts: 7," if published else "prompts: 12 questions") in said.out
    first, second = (
        [json.loads(line) for line in (tmp_path / f"run/completions/{name}.jsonl").open()]
        for name in ("000000", "000001")
    )
    assert [row["rewards"] for row in first] == [{"accuracy_reward": r} for r in (1.0, 0.0, 0.0, 1.0)] * 4
    assert len(second) == 16 and not any(row["reward"] for row in second)
    assert all("#### " in row["answer"] for row in first + second)
    assert said.err.count("all rewards are 0: nothing can be learned") == 1
    assert "alarm at update 2: all rewards are 0" in said.err


def test_of_equal_policies_the_first_is_the_best(folder, tmp_path):
    params = init_params(SMOKE, 1, single_device_mesh())
    models = [load_hf(folder / "hf"), Model(SMOKE, params)]
    tokenizer = folder / "tokenizer/tokenizer.model"
    for step, (model, value) in enumerate([(0, 0.2), (1, 0.2), (1, 0.1), (1, 0.3), (0, 0.25)]):
        grpo_evaluation.keep_best(models[model], tokenizer, step, Interval(10, value, 0.0, 1.0), tmp_path)
        best = read_json(tmp_path / "best.json")
        assert best["step"] == [0, 0, 0, 3, 3][step]
        kept = np.asarray(load_hf(tmp_path / "best").params["embed"])
        np.testing.assert_array_equal(kept, models[best["step"] == 3].params["embed"])
    assert {path.name for path in tmp_path.iterdir()} == {"best", "best.json"}


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_kill_leaves_the_old_or_the_new_folder_whole(call, tmp_path, monkeypatch):
    """Killed before the call-th change of replace_folder."""
    for name in ("best", "best.new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "which").write_text(name)
    calls = itertools.count(1)

    def dying(change):
        def called(*args, **options):
            if next(calls) == call:
                raise KeyboardInterrupt
            return change(*args, **options)

        return called

    with monkeypatch.context() as patch:
        patch.setattr("os.rename", dying(os.rename))
        patch.setattr("shutil.rmtree", dying(rmtree))
        with pytest.raises(KeyboardInterrupt):
            grpo_evaluation.replace_folder(tmp_path / "best.new", tmp_path / "best")
    grpo_evaluation.mend(tmp_path / "best")
    assert (tmp_path / "best/which").read_text() == ("best" if call < 3 else "best.new")
    assert not (tmp_path / "best.old").exists()


@pytest.mark.slow
def test_a_start_from_a_run_of_sft(script, capsys, tmp_path, folder):
    """Its shape, tokenizer and newest checkpoint; a wrong one is told before the run begins."""
    shape = tmp_path / "sft/checkpoints/model"
    save_shape(script.SMOKE_MODEL.model, shape, folder / "tokenizer/tokenizer.model", as_it_is=True)
    argv = ["--preset", "smoke", "--init", str(tmp_path / "sft"), "--out", str(tmp_path / "run")]
    assert "no checkpoint" in error_line(script, capsys, *argv)
    params = init_params(script.SMOKE_MODEL.model, 5, single_device_mesh())
    with Checkpoints(tmp_path / "sft/checkpoints", 1) as checkpoints:
        checkpoints.save(7, {"params": params}, wait=True)
    argv += [
        "--grpo.loop.steps",
        "1",
        "--grpo.optimizer.warmup-steps",
        "0",
        "--grpo.optimizer.peak-lr",
        "1e-9",
    ]
    cli.run_script(script.main, script.PRESETS, argv)
    found = load_hf(tmp_path / "run/model").params["embed"]
    np.testing.assert_allclose(found, params["embed"], atol=1e-7)


def test_a_start_from_a_run_with_lora_is_told_where_its_model_is(script, capsys, tmp_path, folder):
    shape = tmp_path / "lora/checkpoints/model"
    save_shape(script.SMOKE_MODEL.model, shape, folder / "tokenizer/tokenizer.model", as_it_is=True)
    with Checkpoints(tmp_path / "lora/checkpoints", 1) as checkpoints:
        part = {"layers": {"q_lora_a": init_params(SMOKE, 0, single_device_mesh())["embed"]}}
        checkpoints.save(7, {"train": {"params": part}}, wait=True)
    argv = ["--preset", "smoke", "--init", str(tmp_path / "lora"), "--out", str(tmp_path / "run")]
    said = "holds no whole model (train.params.embed is absent); of a run with LoRA give the folder that it exported (model/)"
    assert said in error_line(script, capsys, *argv)


def test_the_recipe_covers_what_the_stop_rule_uses(script, monkeypatch):
    before = script.small_sft_folder(script.SMOKE)
    changed = replace(script.SMOKE_MODEL, grpo=replace(script.SMOKE_MODEL.grpo, max_completion_length=33))
    monkeypatch.setitem(script.SMALL, "smoke", changed)
    assert script.small_sft_folder(script.SMOKE) != before


@pytest.mark.slow
def test_smoke_killed_twice_ends_in_the_same_results(tmp_path):
    command = ["experiments/grpo_7b.py", "--preset", "smoke", "--cache", tmp_path / "cache", "--out", "{out}"]
    # The small model answers nothing right, but not all at the same length.
    command += ["--reward", "accuracy", "overlong"]
    compare = ["results.json", "best.json", "best/model.safetensors", "model/model.safetensors"]
    kill_twice(tmp_path / "drill", command, compare=compare, writes="answers")
    rows = read_metrics(tmp_path / "drill/undisturbed/metrics.jsonl")
    assert all(row["grad_norm"] > 0 for row in rows if "loss" in row)  # there was something to lose
