"""experiments/grpo_7b.py and train_grpo: what cannot work is one line, before any work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from shutil import copyfile

import pytest

from dsm_jax import cli
from dsm_jax.errors import UserError
from dsm_jax.mesh import single_device_mesh
from dsm_jax.model import Model
from dsm_jax.model.params import init_params
from dsm_jax.rl import GRPOTraining, train_grpo
from dsm_jax.rl.reward_model.form import Form
from dsm_jax.rl.reward_model.readout import Readout
from dsm_jax.rl.reward_model.score import RewardModel
from dsm_jax.run import _plain, options
from dsm_jax.tokenizer import load_tokenizer
from dsm_jax.train import start
from tests.experiments.grpo_command import error_line, save_random

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "experiments/grpo_7b.py"


@pytest.mark.parametrize("offline", ["1", "0"])
def test_the_bare_command_ends_in_one_line(tmp_path, offline):
    """By the memory, or on a very large machine by the weights, which an empty cache without a hub has not."""
    env = os.environ | {
        "HF_HUB_OFFLINE": offline,
        "HF_HOME": str(tmp_path),
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }
    words = [sys.executable, str(SCRIPT), "--mesh"]
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "GB; give more devices" in done.stderr or "not whole in the local cache" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_memory_comes_before_the_weights(script, capsys, monkeypatch):
    monkeypatch.setattr(start, "find_folder", lambda name: pytest.fail("must not look for the weights"))
    monkeypatch.setattr(start, "find_config", lambda name: pytest.fail("must not look for the shape"))
    err = error_line(script, capsys, "--mesh")
    for part in (
        "6.91B parameters needs",
        "caches and steps",
        "on each of 8 cpu devices",
        "but there are",
        "--preset tiny",
    ):
        assert part in err


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["--mesh", "fsdp=3"], "does not fit the 8 devices"),
        (["--preset", "tiny", "--mesh", "tensor=8"], "n_kv_heads"),
        (["--prests", "tiny"], "did you mean --preset?"),
        (["--preset", "tinny"], "did you mean tiny?"),
        (["--init", "None"], "--init"),
        (["--init", "/no/such/folder"], "no such folder"),
        (["--preset", "tiny", "--grpo.num-generations", "1"], "num_generations"),
        (["--preset", "tiny", "--grpo.max-completion-length", "512"], "--grpo.max-completion-length 512"),
        (
            ["--preset", "tiny", "--grpo.num-generations", "48"],
            "num_generations is 48; it must divide the batch_size 128",
        ),
        (["--preset", "tiny", "--grpo.loss.beta", "-0.1"], "beta is -0.1; it must be 0 or more"),
        (
            ["--preset", "tiny", "--grpo.rewards.weights", "1", "0.5"],
            "rewards.weights: 2 weights for 1 rewards (accuracy)",
        ),
        (["--preset", "tiny", "--reward", "format", "format"], "two rewards have the same name"),
        (
            ["--preset", "tiny", "--reward", "speed"],
            "--reward speed: give accuracy, format, overlong, process:DIR or outcome:DIR",
        ),
        (["--preset", "tiny", "--source-filter", "CoT"], "--source-filter: is for the files of --prompts"),
        (["--preset", "tiny", "--eval-count", "0"], "--eval-count must be at least 1"),
        (["--preset", "tiny", "--rng-seed", "-1"], "--rng-seed is -1"),
        (["--preset", "tiny", "--grpo.curriculum"], "--grpo.curriculum: the problem generator has no end"),
    ],
)
def test_bad_input_is_one_line(script, capsys, tmp_path, argv, part):
    assert part in error_line(script, capsys, *argv, "--out", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_what_may_change_is_an_option(script):
    known = options(json.loads(json.dumps(script.PAPER, default=_plain)))
    assert [name for name in script.FREE if name not in known] == []


def test_out_cannot_be_a_file(script, capsys, tmp_path, folder):
    (tmp_path / "file").write_text("")
    argv = ["--preset", "smoke", "--init", str(folder / "hf"), "--out", str(tmp_path / "file")]
    assert f"--out {tmp_path / 'file'}: cannot write there" in error_line(script, capsys, *argv)


def test_a_tokenizer_of_another_model(script, capsys, tmp_path, folder):
    shape = replace(script.SMOKE_MODEL.model, vocab_size=448)
    save_random(shape, tmp_path / "hf")
    copyfile(folder / "tokenizer/tokenizer.model", tmp_path / "hf/tokenizer.model")
    argv = ["--preset", "smoke", "--init", str(tmp_path / "hf"), "--out", str(tmp_path / "run")]
    assert "512 ids, the model 448" in error_line(script, capsys, *argv)


@pytest.mark.parametrize(
    ("rows", "argv", "part"),
    [
        ("", (), "rows.jsonl: no question is left (no rows)"),
        ('{"question": "1?", "answer": "1"}\n{"question": "2?"}\n', (), "rows.jsonl:2: no answer in this row"),
        (
            '{"question": "1?", "answer": "1"}\n',
            ("--eval-questions", "rows.jsonl"),
            "--prompts: 0 questions; left out: 1 asked in the evaluation",
        ),
        (
            '{"question": "1?", "answer": "1"}\n',
            ("--grpo.max-completion-length", "510"),
            "--prompts: 0 questions; left out: 1 longer than 2 tokens",
        ),
        (
            '{"question": "1?", "answer": "1"}\n',
            ("--eval-questions", "gsm8k:."),
            "gsm8k:.: no test.jsonl",
        ),
        ('{"question": "1?", "answer": "1"}\n', ("--source-filter", "CoT"), "1 of other sources"),
        (
            '{"question": "1?", "answer": "1"}\n',
            ("--grpo.curriculum",),
            "a rollout asks 4 different questions, and there are 1; give more, or a smaller batch_size",
        ),
    ],
)  # fmt: skip
def test_bad_prompts_are_one_line(script, capsys, tmp_path, monkeypatch, folder, rows, argv, part):
    """After them the corrected command may run: no configuration is left behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(start, "load_hf", lambda *_, **__: pytest.fail("must not read the weights"))
    Path("rows.jsonl").write_text(rows)
    words = ["--preset", "smoke", "--init", str(folder / "hf"), "--prompts", "rows.jsonl", "--out", "run"]
    with pytest.raises(SystemExit) as end:
        cli.run_script(script.main, script.PRESETS, [*words, *argv])
    err = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and err[-1].startswith("error: ") and part in err[-1]
    assert not Path("run/config.json").exists()


@pytest.mark.parametrize(
    ("prompts", "longest", "part"),
    [
        (["a", " "], 8, "prompt 1: its prompt is ' '; give a text"),
        (["a", {"question": ""}], 8, "prompt 1: its question is ''; give a text"),
        (["a", {"answer": "1"}], 8, r"prompt 1 has no question and no prompt \(it has answer\)"),
        (
            ["a", "b", "7 + 8 is " * 200],
            8,
            r"prompt 2 has \d+ tokens, and with max_completion_length 8 that is over",
        ),
        (
            ["a"],
            512,
            r"prompt 0 has \d tokens, and with max_completion_length 512 that is over the model's 512;",
        ),
    ],
)
def test_prompts_that_cannot_work_are_told_before_the_run(prompts, longest, part, folder, tmp_path):
    with pytest.raises(UserError, match=f"train_grpo: {part}"):
        train_grpo(folder / "hf", prompts, out=tmp_path, config=GRPOTraining(max_completion_length=longest))
    assert not list(tmp_path.iterdir())


def judge(shape, folder: Path, *, seed: int = 0, tag: str | None = None, **other) -> RewardModel:
    shape, tokenizer = replace(shape, **other), load_tokenizer(folder / "hf")
    model = Model(shape, init_params(shape, seed, single_device_mesh()))
    return RewardModel(model, Form(Readout(shape.vocab_size - 1), step_tag=tag), tokenizer)


def test_a_reward_model_that_reads_too_little_is_told_before_the_run(script, folder, tmp_path):
    short = judge(script.SMOKE_MODEL.model, folder, max_seq_len=100)
    with pytest.raises(UserError, match=r"reads 100 tokens; the longest prompt .* \d+ \+ 97 = 1\d\d:"):
        train_grpo(
            folder / "hf",
            ["7", "7 + 8 is"],
            short,
            out=tmp_path,
            config=GRPOTraining(max_completion_length=97),
        )
    assert not list(tmp_path.iterdir())


def test_a_run_with_another_reward_model_of_the_kind_is_refused(script, folder, tmp_path, monkeypatch):
    class Begun(Exception):
        pass

    def begin(*_, **__):
        raise Begun

    def train(**of_judge):
        reward = judge(script.SMOKE_MODEL.model, folder, **of_judge)
        config = GRPOTraining(max_completion_length=8)
        train_grpo(folder / "hf", ["7 + 8 is"], reward, out=tmp_path / "run", config=config)

    monkeypatch.setattr("dsm_jax.rl.train.run_grpo", begin)
    for _ in range(2):
        with pytest.raises(Begun):
            train()
    for other in ({"seed": 1}, {"tag": " ##"}):
        with pytest.raises(UserError, match=r'--rewards \(there \["process \w+"\], now \["process \w+"\]\)'):
            train(**other)
