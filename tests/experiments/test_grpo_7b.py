"""experiments/grpo_7b.py: what ends in one line, a run from a Hugging Face folder, and a killed run."""

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
from dsm_jax.model import Model, save_hf
from dsm_jax.model.params import init_params
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


def save_random(shape, folder: Path, tokenizer: Path | None = None) -> None:
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
    err = error_line(script, capsys, "--mesh")
    for part in (
        "6.91B parameters needs",
        "sampling",
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
        (["--preset", "tiny", "--grpo.micro-batch-rows", "12"], "--grpo.micro-batch-rows 12"),
    ],
)
def test_bad_input_is_one_line(script, capsys, tmp_path, argv, part):
    assert part in error_line(script, capsys, *argv, "--out", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_of_another_model(script, capsys, tmp_path, folder):
    shape = replace(script.SMOKE_MODEL.model, vocab_size=448)
    save_random(shape, tmp_path / "hf")
    copyfile(folder / "tokenizer/tokenizer.model", tmp_path / "hf/tokenizer.model")
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


def write_metrics(folder: Path, steps: list[int]) -> None:
    """Rows of steps that took 2 s and gave 100 tokens each."""
    row = {"reward": 0.5, "kl": 0.1, "num_tokens": 100.0, "step_time": 2.0}
    row |= {"seconds/rollout": 1.5, "seconds/update": 0.2}
    (folder / "metrics.jsonl").write_text("".join(json.dumps({"step": at, **row}) + "\n" for at in steps))


def test_a_row_stands_for_the_steps_since_the_one_before(script, tmp_path, capsys):
    write_metrics(tmp_path, [3, 6, 7])
    results = script.collect(tmp_path)
    assert results["tokens"] == 700
    assert results["seconds"] == {"rollout": 10.5, "update": 1.4, "total": 14.0}
    script.print_results(results, tmp_path)
    assert "1 of 3 logged steps; 7 in all), KL 0.1000, about 700 tokens" in capsys.readouterr().out

    write_metrics(tmp_path, [1, 2, 3])
    script.print_results(script.collect(tmp_path), tmp_path)
    assert "1 of 3 steps), KL 0.1000, 300 tokens" in capsys.readouterr().out


def test_the_recipe_covers_what_the_stop_rule_uses(script, monkeypatch):
    before = script.small_sft_folder(script.SMOKE)
    changed = replace(script.SMOKE_MODEL, grpo=replace(script.SMOKE_MODEL.grpo, max_completion_length=33))
    monkeypatch.setitem(script.SMALL, "smoke", changed)
    assert script.small_sft_folder(script.SMOKE) != before


HOLDER = """
import sys, time
from pathlib import Path
from grpo_7b import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_two_processes_do_not_make_the_small_model_at_once(script, tmp_path):
    words = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(words, cwd=SCRIPT.parent, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(UserError, match=f"process {holder.pid} is making this model"):
                script.train_small_sft(script.SMOKE_MODEL, tmp_path)
        finally:
            holder.kill()
    with script.locked(tmp_path):  # a killed holder's lock is free, its file stays
        assert (tmp_path / "lock").read_text() == str(os.getpid())


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
