"""experiments/quickstart_table.py: runs with and without controls side by side, and what ends in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dsm_jax.errors import UserError

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SHARE = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 100}


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    import quickstart_table

    return quickstart_table


def write_run(folder: Path, *controls: str, precision: float | None = 0.91) -> Path:
    """A run's results.json: SFT, GRPO and these controls, every number 50%."""
    others = ("sft", *controls)
    results = {
        "models": {name: {"greedy": SHARE} for name in ("grpo", *others)},
        "paired": {f"grpo-{name}": SHARE for name in others},
        "gain": {"problems": 250, "elicited": 30, "new": 4, "lost": 5},
        "corpus": {"pages_kept": 498, "pages_in": 4012, "precision_outside_seed": precision},
        "seconds": {"total": 1000.4},
    }
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def table(script, out: Path, *runs: Path) -> str:
    script.main(script.TableOptions(runs=runs, out=out))
    return out.read_text()


def refused(script, tmp_path: Path, message: str, *runs: Path) -> None:
    with pytest.raises(UserError, match=message) as error:
        table(script, tmp_path / "table.md", *runs)
    assert "\n" not in str(error.value) and not (tmp_path / "table.md").exists()


def test_runs_with_and_without_controls(script, tmp_path):
    plain = write_run(tmp_path / "plain", precision=None)
    full = write_run(tmp_path / "full", "sft_longer")
    text = table(script, tmp_path / "new/folder/table.md", plain, full)
    assert "| run | grpo-sft | grpo-sft_longer |" in text
    assert "| plain | +50.0 [+40.0, +60.0] |  |" in text
    assert "| full | +50.0 [+40.0, +60.0] | +50.0 [+40.0, +60.0] |" in text
    assert "`process_reward` is" not in text
    supervised = write_run(tmp_path / "supervised", "process_reward")
    assert "`process_reward` is a GRPO run" in table(script, tmp_path / "table.md", plain, supervised)
    assert "precision outside the seed unknown." in text and "precision outside the seed 0.91." in text


def test_another_scripts_results_are_named(script, tmp_path):
    for number, other in enumerate(({"steps": 4, "seconds": {"total": 1}}, [1])):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "results.json").write_text(json.dumps(other))
        refused(script, tmp_path, f"{folder}/results.json: not the results of quickstart.py", folder)
    refused(script, tmp_path, "missing", tmp_path / "nowhere")


def test_two_folders_of_one_name(script, tmp_path):
    refused(script, tmp_path, "named run", write_run(tmp_path / "a/run"), write_run(tmp_path / "b/run"))


def test_an_out_that_cannot_be_written(script, tmp_path):
    run = write_run(tmp_path / "run")
    with pytest.raises(UserError, match="--out .*results.json/table.md: cannot write there"):
        table(script, run / "results.json/table.md", run)
