"""The benchmarks: they run and write what they print; their arithmetic is XLA's count."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from dsm_jax.mesh import parse_mesh, single_device_mesh
from dsm_jax.model.config import DEEPSEEK_MATH_7B, TINY
from dsm_jax.model.flops import flops_per_token
from dsm_jax.model.params import abstract_params

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
sys.path.insert(0, str(EXPERIMENTS))
import bench_train
from check_accelerator import logits, parity, windows


def run(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXPERIMENTS / script), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_flops_are_xla_s():
    """Of one layer, which XLA counts once; it adds the elementwise work and halves attention less well."""
    model = replace(TINY, n_layers=1, d_model=256, d_ff=1024)
    mesh = single_device_mesh()
    with jax.set_mesh(mesh):
        counted = logits.lower(model, abstract_params(model, mesh), windows(model, 2, 256, 1)).compile()
    ours = 2 * 256 * flops_per_token(model, 256 / 2)
    assert 0.85 < ours / counted.cost_analysis()["flops"] < 1


def test_the_7b_s_flops_are_two_for_each_parameter_and_token():
    assert flops_per_token(DEEPSEEK_MATH_7B, 0) == pytest.approx(2 * (6.91e9 - 102_400 * 4096), rel=1e-3)


def test_windows_are_cut_into_documents():
    batch = windows(TINY, 2, 12, 4)
    np.testing.assert_array_equal(batch["segment_ids"], [[1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]] * 2)
    np.testing.assert_array_equal(batch["loss_mask"], [[0, 1, 1] * 4] * 2)


@pytest.mark.slow
def test_the_accelerator_s_benchmark(tmp_path):
    small = ("--rows", "1", "--time", "64", "--rounds", "1", "--model.n-layers", "1")
    out = tmp_path / "bench.json"
    ended = run(
        "check_accelerator.py", "--preset", "tiny", *small, "--json", str(out), "--profile", str(tmp_path / "trace")
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "parity: skipped" in ended.stdout
    found = json.loads(out.read_text())
    assert found["packed"]["bits changed"] == 0 and "parity" not in found
    assert found["one document"]["tokens/s"] > 0 and len(found["milliseconds"]) == 5


def test_the_benchmark_beside_a_peer_that_is_not_there(tmp_path):
    ended = run(
        "bench_model.py", "--preset", "tiny", "--peer", "torch", "--peer-python", str(tmp_path / "no")
    )
    assert ended.returncode == 2 and "--peer-python" in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("error: ")


@pytest.mark.slow
def test_the_benchmark_alone(tmp_path):
    out = tmp_path / "bench.json"
    small = ("--rows", "2", "--time", "16", "--rounds", "1", "--model.n-layers", "1")
    assert run("bench_model.py", "--preset", "tiny", *small, "--json", str(out)).returncode == 0
    assert json.loads(out.read_text())["workers"]["dsm_jax"]["train"]["tokens_per_second"] > 0


ONE_STEP = ("--rows", "2", "--micro-batch-rows", "1", "--time", "16", "--model.n-layers", "1")
KEYS = {
    "tokens_per_s",
    "cpu_seconds_per_step",
    "mfu",
    "matmul_share",
    "peak_bytes",
    "data_wait_share",
    "memory",
    "packed",
}


# 0 threads: the accelerator's way, here without one
@pytest.mark.parametrize("threads", ["1", pytest.param("0", marks=pytest.mark.slow)])
def test_the_training_step_s_benchmark(tmp_path, threads):
    out = tmp_path / "bench.json"
    ended = run("bench_train.py", "--preset", "tiny", *ONE_STEP, "--threads", threads, "--json", str(out))
    assert ended.returncode == 0, ended.stderr
    found = json.loads(out.read_text())
    assert found.keys() >= KEYS and found["tokens_per_s"] > 0
    assert 0 <= found["data_wait_share"] <= 1 and 0 < found["matmul_share"]
    parts = dict(found["memory"])
    assert parts.pop("total") == sum(parts.values()) and parts["moments"] > parts["weights"] > 0


@pytest.mark.parametrize("peer", ["tunix", "torch"])
def test_a_peer_of_the_training_step_that_is_not_there(tmp_path, peer):
    python = str(tmp_path / "no")
    ended = run("bench_train.py", "--preset", "tiny", *ONE_STEP, "--peer", peer, "--peer-python", python)
    assert ended.returncode == 2
    assert (
        ended.stderr.splitlines()[-1]
        == f"error: --peer-python {python}: no such program, or it cannot be run"
    )


def test_a_peer_that_computes_something_else_is_refused():
    reports = {bench_train.OURS: {"first_losses": [6.2, 6.1]}, "tunix": {"first_losses": [6.2, 6.1001]}}
    bench_train.require_same_work(reports)
    reports["tunix"]["first_losses"][1] = 6.2
    with pytest.raises(AssertionError, match="tunix computes something else"):
        bench_train.require_same_work(reports)


@pytest.mark.parametrize("peer", ["sentencepiece", "tokenizers"])
def test_the_benchmark_of_tokenising(tmp_path, peer):
    out = tmp_path / "bench.json"
    ended = run("bench_tokenize.py", "--preset", "smoke", "--peer", peer, "--json", str(out))
    assert ended.returncode == 0, ended.stderr
    found = json.loads(out.read_text())
    assert found["tokens_per_s"] > 0 and found["share_of_library_rate"] > 0


@pytest.mark.slow
def test_the_benchmark_of_the_sandbox(tmp_path):
    out = tmp_path / "bench.json"
    ended = run("bench_sandbox.py", "--preset", "smoke", "--json", str(out))
    assert ended.returncode == 0, ended.stderr
    found = json.loads(out.read_text())
    assert found["sandbox_per_s"] > found["fresh_interpreter_per_s"] > 0


@pytest.mark.slow
def test_the_benchmark_of_grading(tmp_path):
    out, cases = tmp_path / "bench.json", tmp_path / "cases.jsonl"
    case = {"source": "own", "form": "answer", "contested": False}
    rows = [
        case | {"gold": "1/2", "pred": "0.5", "expected": True},
        case | {"gold": "3", "pred": "4", "expected": False},
        case | {"gold": "3", "pred": "3?", "expected": False, "source": "adversarial"},
        case | {"gold": "3", "pred": "4", "expected": True, "contested": True},
    ]
    cases.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ended = run("bench_grader.py", "--preset", "smoke", "--cases", str(cases), "--json", str(out))
    assert ended.returncode == 0, ended.stderr
    found = json.loads(out.read_text())
    assert found["cases_right"] == 1
    assert 0 < found["ms_per_pair_simple"] < 50 and 0 < found["ms_per_pair_all"] <= found["max_ms"]
    ended = run("bench_grader.py", "--preset", "smoke", "--cases", str(tmp_path / "no"))
    assert ended.returncode == 2 and "no: No such file or directory; give --cases FILE" in ended.stderr


def test_parity_is_measured():
    """Of the CPU with itself, on another device of it."""
    found = parity(TINY, parse_mesh(("fsdp=1",), jax.devices()[1:2]))
    assert found["logits' standard deviation"] > 1
    assert found["largest difference of logits"] < 1e-4 and found["of gradients, over their largest"] < 1e-4


@pytest.mark.parametrize(
    "script, options, said",
    [
        (
            "bench_model.py",
            ("--json", "/nonexistent/x.json"),
            "--json /nonexistent/x.json: cannot be written",
        ),
        ("check_accelerator.py", ("--json", "/tmp"), "--json /tmp: cannot be written"),
        ("check_accelerator.py", ("--profile", "/proc/x/y"), "--profile /proc/x/y: cannot be written"),
        ("check_accelerator.py", ("--time", "5000"), "--time is 5000"),
        ("bench_model.py", ("--time", "5000"), "--time is 5000"),
        ("bench_model.py", ("--threads", "5000"), "--threads is 5000; there are"),
        ("bench_train.py", ("--threads", "5000"), "--threads is 5000; there are"),
        ("bench_train.py", ("--time", "8"), "--time is 8; it must be at least 16"),
        ("bench_train.py", ("--micro-batch-rows", "3"), "--micro-batch-rows is 3; it must divide --rows 16"),
        ("bench_train.py", ("--threads", "0", "--peer", "torch"), "--threads is 0; a peer needs at least 1"),
        ("bench_train.py", ("--json", "/nonexistent/x.json"), "--json /nonexistent/x.json: cannot be"),
    ],
)
def test_what_cannot_work_is_said_before_any_work(script, options, said):
    ended = run(script, "--preset", "tiny", *options)
    assert (
        ended.returncode == 2 and ended.stderr.startswith(f"error: {said}") and ended.stderr.count("\n") == 1
    )


@pytest.mark.parametrize("option", ["--rows", "--rounds"])
def test_a_number_that_is_none(option):
    ended = run("check_accelerator.py", "--preset", "tiny", option, "0")
    assert ended.returncode == 2 and ended.stderr == f"error: {option} is 0; it must be at least 1\n"
