"""The sampler's benchmark: it runs and writes what it prints; its floor, and what a static batch makes of its rows."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.experiments.scripts import error_line, load_script, run

bench = load_script("bench_sampler")

KEYS = {
    "tokens_per_s", "cpu_seconds", "bandwidth_share", "prefill_tokens_per_s", "compilations", "peak_bytes",
    "slot_idle_share",
}  # fmt: skip
TINY = bench.PRESETS["tiny"]
# The 7B's own way, at a shape for a CPU.
SHRUNK = (
    "--preset", "deepseek_math_7b", "--model.vocab-size", "96", "--model.d-model", "32", "--model.n-layers", "1",
    "--model.n-heads", "2", "--model.n-kv-heads", "2", "--model.head-dim", "16", "--model.d-ff", "64", "--prompt", "8",
    "--max-new-tokens", "8", "--n", "4", "--slots", "4", "--queue-prompts", "2", "--matmul", "64", "--copy-bytes",
    "65536", "--rounds", "1",
)  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [SHRUNK, pytest.param(("--preset", "tiny", "--model.n-layers", "1"), marks=pytest.mark.slow)],
)
def test_it_runs(tmp_path, options):
    out = tmp_path / "bench.json"
    run(bench, *options, "--no-starts", "--json", out)
    found = json.loads(out.read_text())
    assert found.keys() >= KEYS and found["geometric"].keys() >= KEYS
    assert found["config"]["preset"] == options[1]
    assert found["tokens"] == found["config"]["prompts"] * found["config"]["n"] * found["mean_length"]
    assert found["slot_idle_share"] == 0 and 0 <= found["geometric"]["slot_idle_share"] < 1
    assert found["geometric"]["mean_length"] < found["mean_length"]
    for one in (found, found["geometric"]):
        assert (
            one["tokens_per_s"] > 0 and one["bandwidth_share"] > 0 and one["steps"] >= one["floor"]["steps"]
        )
        assert 0 < one["compilations"] <= one["max_compilations"]


@pytest.mark.slow
def test_a_warm_start_is_shorter():
    found = bench.start_seconds(TINY)
    assert 0 < found["warm_start_seconds"] < found["cold_start_seconds"]


def test_rows_take_the_first_slot_to_come_free_and_share_their_prompt():
    rows = [[3, 1], [2]]  # slots: 3 of the first prompt; 1 of it, then 2 of the second
    steps, places = bench.schedule(rows, slots=2, prompt=10)
    own = (0 + 1 + 2) + 0 + (0 + 1)
    assert (steps, places) == (3, own + 3 * 10 + 2 * 10)


def test_the_floor_of_one_row():
    """One step with weights and an empty cache of its own; its arithmetic is that of one token and its prompt."""
    config = replace(TINY, slots=1, prompt=8)
    floor = bench.floor_of(config, [[1]], bench.Rates(matmul=1.0, copy=1.0, bandwidth=2.0))
    embedding = config.model.vocab_size * config.model.d_model
    cache = 8 * 2 * config.model.n_layers * config.model.n_kv_heads * config.model.head_dim
    assert floor["bytes"] == 4 * (bench.param_count(config.model) - embedding + cache)
    assert floor["bytes_seconds"] == floor["bytes"] / 2 and floor["seconds"] == floor["flops"]
    assert floor["flops"] > bench.flops_per_token(config.model, 8)


def test_a_static_batch_waits_for_its_longest_row():
    assert bench.batches([[3, 1], [2, 5]], 3) == [{"rows": [0, 0, 1], "steps": 3}, {"rows": [1], "steps": 5}]


def test_a_peer_that_computes_something_else_is_refused():
    ours = {"greedy": [[1, 2], [3, 4], [5, 6], [7, 8]], "logps": np.full((4, 2), -1.0).tolist()}
    near = {"greedy": [[1, 2], [3, 4], [5, 6], [7, 9]], "logps": np.full((4, 2), -1.0001).tolist()}
    bench.require_same_work({bench.OURS: ours, "tunix": near})
    with pytest.raises(AssertionError, match="tunix computes something else: 50%"):
        other = {"greedy": [[1, 2], [3, 4], [6, 6], [7, 9]]}
        bench.require_same_work({bench.OURS: ours, "tunix": ours | other})
    with pytest.raises(AssertionError, match="0% of its greedy"):
        bench.require_same_work({bench.OURS: ours, "tunix": ours | {"logps": np.full((4, 2), -1.1).tolist()}})


@pytest.mark.parametrize("peer", ["tunix", "transformers"])
def test_a_peer_that_is_not_there(tmp_path, capsys, peer):
    python = tmp_path / "no"
    said = error_line(
        bench, capsys, "--preset", "tiny", "--no-starts", "--peer", peer, "--peer-python", python
    )
    assert said == f"error: --peer-python {python}: no such program, or it cannot be run"


@pytest.mark.parametrize(
    "options, said",
    [
        (("--threads", "5000"), "--threads is 5000; there are"),
        (("--threads", "0", "--peer", "tunix"), "--threads is 0; a peer needs at least 1"),
        (("--prompt", "501"), "--prompt is 501; it must be at least 2 and at most 500"),
        (("--queue-prompts", "0"), "--queue-prompts is 0; it must be at least 1"),
        (("--json", "/nonexistent/x.json"), "--json /nonexistent/x.json: cannot be"),
    ],
)
def test_what_cannot_work_is_said_before_any_work(capsys, options, said):
    assert error_line(bench, capsys, "--preset", "tiny", *options).startswith(f"error: {said}")
