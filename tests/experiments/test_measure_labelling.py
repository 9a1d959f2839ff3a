"""measure_labelling.py: the naive way comes to the same labels, and its tokens are counted."""

from __future__ import annotations

import pytest

from dsm_jax.run import read_json
from tests.experiments.scripts import load_script, run


@pytest.mark.slow
def test_labelling_takes_at_most_half_of_the_naive_way_s_tokens_for_the_same_labels(tmp_path):
    script = load_script("measure_labelling")
    run(script, "--preset", "smoke", "--cache", tmp_path / "cache", "--json", tmp_path / "found.json")
    for found in read_json(tmp_path / "found.json")["by_n"].values():
        assert found["labels"] > 20 and found["different"] == found["missing"] == 0
        assert found["naive_distinct_decoded"] <= found["naive_decoded"]
        assert found["decoded"] <= found["naive_distinct_decoded"] / 2
