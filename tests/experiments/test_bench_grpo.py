"""The GRPO step's benchmark: it runs and writes what it prints; its floor, its lengths, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from dsm_jax.mesh import single_device_mesh
from dsm_jax.model.config import SMOKE
from dsm_jax.model.params import init_params
from tests.experiments.scripts import error_line, load_script, run

bench = load_script("bench_grpo")
ours = load_script("bench_grpo_ours")
work = load_script("bench_grpo_work")

KEYS = {
    "cpu_seconds_per_step", "phases", "tokens_per_s", "mfu", "bandwidth_share", "peak_bytes", "compilations", "floor",
}  # fmt: skip
TINY = bench.PRESETS["tiny"]
# The 7B's own way, at a shape for a CPU.
SHRUNK = (
    "--preset", "deepseek_math_7b", "--model.vocab-size", "96", "--model.d-model", "32", "--model.n-layers", "1",
    "--model.n-heads", "2", "--model.n-kv-heads", "2", "--model.head-dim", "16", "--model.d-ff", "64", "--prompt", "8",
    "--max-new-tokens", "8", "--n", "4", "--slots", "4", "--matmul", "64", "--copy-bytes", "65536", "--rounds", "1",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [("--lengths", "fixed", *SHRUNK), ("--lengths", "geometric", "--preset", "tiny", "--starts")]
)
def test_it_runs(tmp_path, options):
    out = tmp_path / "bench.json"
    run(bench, *options, "--json", out)
    found = json.loads(out.read_text())
    assert found.keys() >= KEYS and found["phases"].keys() >= {"rollout", "rewards", "update"}
    assert found == found[options[1]] | {options[1]: found[options[1]], "config": found["config"]}
    longest = found["config"]["max_new_tokens"]
    assert found["mean_length"] == longest if options[1] == "fixed" else found["mean_length"] < longest
    assert 0 < found["mfu"] and 0 < found["bandwidth_share"] and found["compilations"] > 0
    if "--starts" in options:
        assert found["first_step_s"] > 0


def test_the_floor_counts_policy_and_reference():
    """Of a text of three tokens: forward, backward (twice that) and the reference forward."""
    config, rates = replace(TINY, prompt=2), bench.Rates(matmul=1.0, copy=1.0, bandwidth=1e30)
    one = 3 * bench.flops_per_token(config.model, 1.5)
    assert bench.floor(config, [[1]], rates)["update_flops"] == 4 * one
    assert bench.floor(replace(config, beta=0.0), [[1]], rates)["update_flops"] == 3 * one
    floor = bench.floor(config, [[1]], rates)
    assert floor["seconds"] == floor["update_seconds"] + floor["rollout_seconds"]


@pytest.mark.parametrize("tied", [True, False])
def test_a_place_ends_its_row_with_the_share_asked_for(tied):
    model, mesh = replace(SMOKE, tie_embeddings=tied), single_device_mesh()
    with jax.set_mesh(mesh):
        params = ours.with_ends(model, init_params(model, 0, mesh), mesh, 0.1)
        ids = np.random.default_rng(2).integers(3, model.vocab_size, (4, 32))
        scored = {
            "prompts": ids.tolist(),
            "completions": [[work.EOS], [work.EOS], [work.EOS], [work.PAD]],
        }
        found = np.exp(ours.scores(model, params, scored))[:, 0]
    np.testing.assert_allclose(found[:3], 0.1, rtol=0.2)
    assert found[3] < 1e-6


def test_a_loop_goes_on_when_asked():
    done = []

    def train(pause):
        for step in range(2):
            pause()
            done.append(step)

    loop = work.OneStepAtATime(train)
    assert not done
    loop.step()
    assert done == [0]
    with pytest.raises(RuntimeError, match="has ended"):
        loop.step()


def test_a_peer_that_does_something_else_is_refused():
    report = {"scores": [[-1.0, -2.0]], "text_tokens": [100, 110]}
    bench.require_same_work("fixed", {bench.OURS: report, "trl": report})
    with pytest.raises(AssertionError, match="trl computes something else"):
        bench.require_same_work("fixed", {bench.OURS: report, "trl": report | {"scores": [[-1.0, -2.1]]}})
    fewer = report | {"text_tokens": [90, 100]}
    bench.require_same_work("geometric", {bench.OURS: report, "trl": fewer})
    with pytest.raises(AssertionError, match="trl draws something else: 95 tokens a step, ours 105"):
        bench.require_same_work("fixed", {bench.OURS: report, "trl": fewer})


@pytest.mark.parametrize("peer", ["tunix", "trl"])
def test_a_peer_that_is_not_there(tmp_path, capsys, peer):
    python = tmp_path / "no"
    said = error_line(bench, capsys, "--preset", "tiny", "--peer", peer, "--peer-python", python)
    assert said == f"error: --peer-python {python}: no such program, or it cannot be run"


@pytest.mark.parametrize(
    "options, said",
    [
        (("--threads", "5000"), "--threads is 5000; there are"),
        (("--threads", "0", "--peer", "trl"), "--threads is 0; a peer needs at least 1"),
        (("--n", "1"), "--n is 1; a group needs at least 2"),
        (("--prompt", "501"), "--prompt is 501; it must be at least 2 and at most 500"),
        (("--rounds", "0"), "--rounds is 0; it must be at least 1"),
        (("--micro-batch-tokens", "19"), "--micro-batch-tokens is 19; the longest row has 20"),
        (("--json", "/nonexistent/x.json"), "--json /nonexistent/x.json: cannot be"),
    ],
)
def test_what_cannot_work_is_said_before_any_work(capsys, options, said):
    assert error_line(bench, capsys, "--preset", "tiny", *options).startswith(f"error: {said}")
