"""experiments/grpo_7b.py: what ends in one line, a run from a Hugging Face folder, and a killed run."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dsm_jax import cli
from dsm_jax.mesh import single_device_mesh
from dsm_jax.model import Model, save_hf
from dsm_jax.model.decoder import init_params
from dsm_jax.run import read_json, read_metrics

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "experiments/grpo_7b.py"


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(SCRIPT.parent))
    import grpo_7b

    return grpo_7b


@pytest.fixture(scope="module")
def folder(script, tmp_path_factory) -> Path:
    """A random model of the smoke shape, with a tokenizer."""
    small, folder = script.SMOKE_MODEL, tmp_path_factory.mktemp("model")
    script.make_tokenizer(small, [], folder / "tokenizer", 0)
    save_random(small.model, folder / "hf", folder / "tokenizer/tokenizer.model")
    return folder


def save_random(shape, folder: Path, tokenizer: Path) -> None:
    save_hf(Model(shape, init_params(shape, 0, single_device_mesh())), folder, tokenizer)


def error_line(script, capsys, *argv: str) -> str:
    with pytest.raises(SystemExit) as end:
        cli.run_script(script.main, script.PRESETS, argv)
    err = capsys.readouterr().err
    assert end.value.code == 2
    assert err.startswith("error: ") and err.count("\n") == 1
    return err


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
    assert "GB; give more devices" in done.stderr or "not in the local cache" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_memory_comes_before_the_weights(script, capsys, monkeypatch):
    monkeypatch.setattr(script, "find_folder", lambda name: pytest.fail("must not look for the weights"))
    err = error_line(script, capsys, "--mesh", "--grpo.slots", "1000000")
    for part in (
        "6.91B parameters needs",
        "KV cache",
        "on each of 8 cpu devices",
        "but there are",
        "--preset tiny",
    ):
        assert part in err


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["--mesh", "fsdp=3"], "does not divide the 8 devices"),
        (["--preset", "tiny", "--mesh", "tensor=8"], "n_kv_heads"),
        (["--prests", "tiny"], "did you mean --preset?"),
        (["--preset", "tinny"], "did you mean tiny?"),
        (["--init", "None"], "--init"),
        (["--init", "/no/such/folder"], "no such folder"),
        (["--preset", "tiny", "--grpo.num-generations", "1"], "num_generations"),
        (["--preset", "tiny", "--grpo.max-completion-length", "512"], "--grpo.max-completion-length 512"),
        (["--preset", "tiny", "--grpo.micro-batch-rows", "12"], "--grpo.micro-batch-rows 12"),
    ],
)
def test_bad_input_is_one_line(script, capsys, tmp_path, argv, part):
    assert part in error_line(script, capsys, *argv, "--out", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_of_another_model(script, capsys, tmp_path, folder):
    shape = replace(script.SMOKE_MODEL.model, vocab_size=448)
    save_random(shape, tmp_path / "hf", folder / "tokenizer/tokenizer.model")
    argv = ["--preset", "smoke", "--init", str(tmp_path / "hf"), "--out", str(tmp_path / "run")]
    assert "512 ids, the model 448" in error_line(script, capsys, *argv)


def test_a_run_from_a_folder_and_its_second_start(script, capsys, tmp_path, folder, monkeypatch):
    out = tmp_path / "run"
    argv = ["--preset", "smoke", "--init", str(folder / "hf"), "--out", str(out)]
    argv += ["--mesh", "fsdp=4,tensor=2", "--grpo.loop.steps", "2", "--instruction", " Box it."]
    cli.run_script(script.main, script.PRESETS, argv)
    results = read_json(out / "results.json")
    rows = read_metrics(out / "metrics.jsonl")
    assert results["steps"] == len(rows) == len(list((out / "completions").glob("*.jsonl"))) == 2
    assert results["tokens"] == sum(row["num_tokens"] for row in rows) > 0
    assert abs(rows[0]["kl"]) < 1e-9 and results["seconds"]["total"] > 0
    assert "2 steps" in capsys.readouterr().out

    monkeypatch.setattr(script, "load_hf", lambda *_, **__: pytest.fail("must not start again"))
    cli.run_script(script.main, script.PRESETS, [*argv, "--mesh", "fsdp=2", "data=4"])
    assert read_json(out / "results.json") == results
    assert "--rng-seed" in error_line(script, capsys, *argv, "--rng-seed", "1")


@pytest.mark.slow
def test_smoke_killed_twice_ends_in_the_same_results(tmp_path):
    command = [
        "python",
        str(SCRIPT),
        *("--preset", "smoke", "--cache", str(tmp_path / "cache"), "--out", "{out}"),
    ]
    words = [sys.executable, "experiments/drill.py", "--kills", "2", "--out", str(tmp_path / "drill")]
    done = subprocess.run([*words, "--", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
