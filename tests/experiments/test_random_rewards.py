"""experiments/random_rewards.py at its smallest: what it writes, and that a gain above the limit is an error."""

import pytest

from dsm_jax.run import read_json
from tests.experiments.scripts import error_line, load_script, run


@pytest.mark.slow
def test_gains_are_measured_and_held_against_the_limit(tmp_path, capsys):
    script, out = load_script("random_rewards"), tmp_path / "run"
    run(script, "--preset", "smoke", "--out", out)
    results = read_json(out / "results.json")
    assert len(results["gains"]) == 2 and results["sft"]["n"] == 32 and results["steps"] == 4
    assert results["largest"] == max(one["value"] for one in results["gains"])
    other = tmp_path / "other"
    words = ("--preset", "smoke", "--seeds", "1", "--limit", "-2", "--out", other)
    assert "random rewards raised greedy accuracy by" in error_line(script, capsys, *words)
    assert read_json(other / "results.json")["limit"] == -2
