"""docs/process_supervision.md and docs/paradigm.md: commands of the size tiny at smoke size, and examples of Python as printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dsm_jax.run import read_json
from tests.processes import environment

ROOT = Path(__file__).parents[2]
PAGES = [(ROOT / "docs" / name).read_text() for name in ("process_supervision.md", "paradigm.md")]
BLOCKS = [block for page in PAGES for block in re.findall(r"(?:^    .*\n|^\n)+", page, flags=re.MULTILINE)]


def block_with(text: str) -> list[str]:
    (block,) = [block for block in BLOCKS if text in block]
    return [line[4:] for line in block.strip("\n").splitlines()]


def run(words: str | list[str], folder: Path, shell: bool = False) -> None:
    own = environment(devices=1) | {"HOME": str(folder)}
    done = subprocess.run(
        words, cwd=folder, env=own, capture_output=True, text=True, check=False, shell=shell
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_small_commands_run(tmp_path):
    commands = block_with("process:runs/reward_model_steps")
    assert len(commands) == 3
    for command in commands:
        small = command.replace("tiny", "smoke").replace(
            "python experiments", f"{sys.executable} {ROOT}/experiments"
        )
        few = (
            " --held-out 0" if "reward_model_7b" in command else ""
        )  # eight questions: none would be held out
        run(small + few, tmp_path, shell=True)
    results = read_json(tmp_path / "runs/best_of_n_smoke/results.json")
    assert results["rewards"][0]["name"] == "process:runs/reward_model_steps"
    assert results["rewards"][0]["measures"]["auc"]["value"] > 0.5


@pytest.mark.slow
def test_the_examples_run(tmp_path):
    """After a command that leaves runs/grpo_smoke/model."""
    run([sys.executable, str(ROOT / "experiments/grpo_7b.py"), "--mesh", "--preset", "smoke"], tmp_path)
    run([sys.executable, "-c", "\n".join(block_with("StepReward(right_sum)"))], tmp_path)
    rows = (tmp_path / "runs/right_sum/completions/000001.jsonl").read_text()
    assert '"steps": [{"end": ' in rows and '"right_sum": ' in rows
    run([sys.executable, "-c", "\n".join(block_with("run_paradigm(method"))], tmp_path)
    assert len((tmp_path / "runs/online_rft/metrics.jsonl").read_text().splitlines()) == 4
