"""results.json and the summary of a GRPO run, from the rows of its metrics."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.experiments.scripts import load_script

grpo_report = load_script("grpo_report")


def write_metrics(folder: Path, steps: list[int], mu: int = 1, every: int = 1) -> None:
    """Rows of steps that took 2 s each, and of rollouts with 100 tokens, whose seconds stand in one row of `every`."""
    step = {"reward": 0.5, "kl": 0.1, "step_time": 2.0, "seconds/update": 0.2}
    rows = [{"step": at, **step, "num_tokens": 100.0 * -(-at // mu)} for at in steps]
    for row in rows[::every]:
        row["seconds/rollout"] = 1.5
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.json").write_text(json.dumps({"grpo": {"num_iterations": mu}}))


def test_a_row_stands_for_the_steps_since_the_one_before(tmp_path, capsys):
    write_metrics(tmp_path, [3, 6, 7])
    results = grpo_report.collect(tmp_path, 0)
    assert results["tokens"] == 700
    assert results["seconds"] == {"rollout": 10.5, "update": 1.4, "total": 14.0}
    grpo_report.print_results(results, tmp_path)
    assert "1 of 3 logged steps; 7 in all), KL 0.1000, 700 tokens in about 14.0 s" in capsys.readouterr().out

    write_metrics(tmp_path, [1, 2, 3])
    grpo_report.print_results(grpo_report.collect(tmp_path, 0), tmp_path)
    assert "1 of 3 steps), KL 0.1000, 300 tokens" in capsys.readouterr().out


@pytest.mark.parametrize("steps, every", [([1, 2, 3, 4], 2), ([2, 4], 1)])
def test_a_rollout_of_several_updates_counts_once(tmp_path, steps, every):
    """With a row for every update, and with one for two."""
    write_metrics(tmp_path, steps, mu=2, every=every)
    results = grpo_report.collect(tmp_path, 0)
    assert results["tokens"] == 200
    assert results["seconds"] == {"rollout": 3.0, "update": 0.8, "total": 8.0}


def test_no_reference_and_overlap_are_told(tmp_path):
    row = {"step": 1, "reward": 0.5, "step_time": 2.0, "num_tokens": 100.0}
    row |= {"seconds/rollout": 0.5, "seconds/update": 1.2, "seconds/rollout_beside_update": 1.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "config.json").write_text('{"grpo": {"num_iterations": 1}}')
    results = grpo_report.collect(tmp_path, 0)
    assert grpo_report.told(results).endswith("1 steps), 100 tokens in 2.0 s")
    seconds = {"rollout": 0.5, "update": 1.2, "rollout_beside_update": 1.0, "total": 2.0}
    assert results["seconds"] == seconds
