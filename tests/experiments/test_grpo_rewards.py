"""Reward models that grpo_7b.py cannot take: one line, and no model is read, no run begun."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dsm_jax.errors import UserError
from dsm_jax.mesh import single_device_mesh
from dsm_jax.model import Model
from dsm_jax.model.params import init_params
from dsm_jax.rl.reward_model.folder import save_reward_model
from dsm_jax.rl.reward_model.form import Form
from dsm_jax.rl.reward_model.readout import Readout
from dsm_jax.tokenizer import train_sentencepiece
from tests.experiments.grpo_command import error_line
from tests.experiments.scripts import load_script


@pytest.fixture(scope="module")
def judges(script, folder, tmp_path_factory) -> dict[str, Path]:
    """Folders of random reward models, by what is particular about them."""
    out, shape = tmp_path_factory.mktemp("judges"), script.SMOKE_MODEL.model
    texts = [f"{a} plus {b} makes {a + b}" for a in range(30) for b in range(30)]
    train_sentencepiece(texts, out / "other.model", vocab_size=290)
    ours = folder / "tokenizer/tokenizer.model"
    model = Model(shape, init_params(shape, 0, single_device_mesh()))
    readout = Readout(shape.vocab_size - 1)
    save_reward_model(model, Form(readout), out / "steps", ours)
    save_reward_model(model, Form(readout, "outcome"), out / "outcome", ours)
    save_reward_model(model, Form(readout, splitting="sentences"), out / "sentences", ours)
    save_reward_model(model, Form(readout), out / "other", out / "other.model")
    short = Model(replace(shape, max_seq_len=48), model.params)
    save_reward_model(short, Form(readout), out / "short", ours)
    names = ("steps", "outcome", "sentences", "other", "short")
    return {name: out / name for name in names} | {"none": folder / "hf"}


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["--reward", "process:"], "--reward process:: give accuracy, format, overlong, process:DIR"),
        (["--reward", "judge:{steps}"], "give accuracy, format, overlong, process:DIR or outcome:DIR"),
        (["--reward", "process:nowhere"], "nowhere: no such folder"),
        (["--reward", "process:{none}"], "has no reward_model.json: train one with"),
        (["--reward", "process:{outcome}"], "this reward model judges the outcome; write outcome:"),
        (["--reward", "outcome:{steps}"], "this reward model judges the process; write process:"),
        (
            ["--reward", "process:{steps}", "process:{steps}"],
            "two rewards have the same name: process, process",
        ),
        (
            ["--reward", "accuracy", "process:{steps}", "--grpo.rewards.weights", "1"],
            "rewards.weights: 1 weights for 2 rewards (accuracy, process)",
        ),
        (["--reward", "process:{short}"], "short: the reward model reads 48 tokens; the longest prompt and"),
        (["--reward", "process:{other}"], "the reward model's tokenizer is not the policy's"),
        (
            ["--reward", "process:{sentences}"],
            "has learned from steps that are sentences, the policy's are to be lines",
        ),
        (
            ["--reward", "process:{steps}", "--grpo.splitting", "numbered"],
            "has learned from steps that are lines, the policy's are to be numbered",
        ),
    ],
)
def test_a_reward_model_that_cannot_be_taken(
    script, folder, judges, capsys, tmp_path, monkeypatch, argv, part
):
    monkeypatch.setattr("grpo_rewards.load_reward_model", lambda *_: pytest.fail("read a reward model"))
    out = tmp_path / "run"
    words = [word.format(**judges) for word in argv]
    given = ["--preset", "smoke", "--init", str(folder / "hf"), "--out", str(out), *words]
    assert part in error_line(script, capsys, *given)
    assert not (out / "config.json").exists() and not (out / "metrics.jsonl").exists()


def test_a_reward_model_that_changes_while_a_run_is_away(script, folder, capsys, tmp_path, monkeypatch):
    def stop(*_):
        raise UserError("stopped")

    def judging(seed: int) -> None:
        model = Model(
            script.SMOKE_MODEL.model, init_params(script.SMOKE_MODEL.model, seed, single_device_mesh())
        )
        form = Form(Readout(model.config.vocab_size - 1))
        save_reward_model(model, form, tmp_path / "judge", folder / "tokenizer/tokenizer.model")

    monkeypatch.setattr(script, "train", stop)
    given = ["--preset", "smoke", "--init", str(folder / "hf"), "--out", str(tmp_path / "run")]
    given += ["--reward", f"process:{tmp_path / 'judge'}"]
    judging(0)
    assert "stopped" in error_line(script, capsys, *given)
    judging(1)
    assert "the models of --reward: not what this run began with" in error_line(script, capsys, *given)
    judging(0)
    assert "stopped" in error_line(script, capsys, *given)


def test_rewards_that_can_be_taken_are_told_apart(judges):
    rewards = load_script("grpo_rewards")
    rewards.require_known(["accuracy", f"process:{judges['steps']}", f"outcome:{judges['outcome']}"])
    assert rewards.kind_of(f"outcome:{judges['outcome']}") == "outcome"
