"""A run goes on with other meshes and another number of processes, and after SIGTERM, as if nothing had been."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from dsm_jax.run import read_json, read_metrics
from tests.processes import run_processes, said_by, start_processes, wait_for

pytestmark = pytest.mark.slow
STEPS, HALF = 20, 10
A, B = "data=2,fsdp=2,tensor=2", "fsdp=8"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    file = tmp_path_factory.mktemp("source") / "rows.jsonl"
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 4)) for _ in range(300)]
    texts = (f"{' '.join(rng.choice(words, 12))} and {n}." for n in range(1000))
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return file


def command(source: Path, out: Path, mesh: str) -> list[str]:
    words = ["experiments/pretrain_7b.py", "--preset", "smoke", "--out", str(out), "--mesh", mesh]
    words += ["--sources.math-corpus", str(source), "--workers", "0"]
    return [*words, "--training.loop.log-every", "1", "--training.loop.keep", "4"]


def losses(out: Path) -> list[float]:
    rows = [row for row in read_metrics(out / "metrics.jsonl") if "loss" in row]
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    return [row["loss"] for row in rows]


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """A run of one process on mesh A."""
    out = tmp_path_factory.mktemp("whole") / "run"
    run_processes(command(source, out, A), 1)
    assert len(losses(out)) == STEPS
    return out


def half_of(whole: Path, out: Path) -> Path:
    """The run as it stood at half its steps."""
    shutil.copytree(whole, out)
    for step in ("15", "20"):
        shutil.rmtree(out / "checkpoints" / step)
    for name in ("done.json", "results.json"):
        (out / name).unlink()
    shutil.rmtree(out / "model")
    return out


@pytest.mark.parametrize(("processes", "mesh"), [(1, B), (2, A), (2, B)])
def test_the_second_half_elsewhere(source, whole, tmp_path, processes, mesh):
    out = half_of(whole, tmp_path / "run")
    for count, file in ((1, "one.npz"), (processes, "here.npz")):
        words = ["-m", "tests.train.restored", str(out), A if count == 1 else mesh, str(tmp_path / file)]
        run_processes(words, count)
    with np.load(tmp_path / "one.npz") as one, np.load(tmp_path / "here.npz") as here:
        assert len(one.files) > 20 and one.files == here.files
        assert all(np.array_equal(one[name], here[name]) for name in one.files)
    run_processes(command(source, out, mesh), processes)
    np.testing.assert_allclose(losses(out), losses(whole), rtol=1e-5)
    ours, theirs = (read_json(run / "results.json")["held_out"]["math_corpus"] for run in (out, whole))
    assert ours["bits_per_byte"] == pytest.approx(theirs["bits_per_byte"], rel=1e-4)


def test_two_processes_train_checkpoint_and_are_killed_and_resume(source, whole, tmp_path):
    out = tmp_path / "run"
    words = command(source, out, A)
    running = start_processes(words, 2)
    wait_for(out / "checkpoints" / "5", running)
    for process in running:
        process.kill()
        process.communicate()
    assert not (out / "results.json").exists()
    first, second = run_processes(words, 2)
    assert "bits per byte" in first[0] and "bits per byte" not in second[0]
    np.testing.assert_allclose(losses(out), losses(whole), rtol=1e-5)
    assert (out / "model/model.safetensors").is_file()


@pytest.mark.parametrize("processes", [1, 2])
def test_sigterm_in_a_step_saves_that_step(source, whole, tmp_path, processes):
    """To one of two processes: both save, at one step."""
    out = tmp_path / "run"
    running = start_processes(command(source, out, A), processes)
    wait_for(out / "metrics.jsonl", running)
    while not read_metrics(out / "metrics.jsonl"):
        time.sleep(0.01)
    running[-1].send_signal(signal.SIGTERM)
    said = [err for _, err in said_by(running, code=75)]
    saved = max(int(path.name) for path in (out / "checkpoints").iterdir() if path.name.isdigit())
    assert 1 <= saved < STEPS
    assert "stopped by SIGTERM; the same command goes on from here" in said[0]
    run_processes(command(source, out, A), processes)
    exact = np.testing.assert_array_equal if processes == 1 else np.testing.assert_allclose
    exact(losses(out), losses(whole), **({} if processes == 1 else {"rtol": 1e-5}))


@pytest.mark.parametrize("process", [0, 1])
def test_sigterm_while_the_first_process_tokenises(source, tmp_path, process):
    out = tmp_path / "run"
    words = command(source, out, A)
    words[words.index("--workers") + 1] = "1"
    running = start_processes([*words, "--sources.arxiv", *[str(source)] * 500], 2)
    wait_for(out / "windows/math_corpus/manifest.json", running)
    asked = time.monotonic()
    running[process].send_signal(signal.SIGTERM)
    said = said_by(running, code=75)
    assert time.monotonic() - asked < 15
    assert all("stopped by SIGTERM; the same command goes on from here" in err for _, err in said)
    assert not (out / "checkpoints").exists() and not (out / "windows/arxiv/manifest.json").exists()


def test_two_hosts_without_a_disk_in_common_train_in_the_cloud(source, whole, tmp_path):
    """Stopped, and gone on with by two others; the windows alone are on a disk that all see."""
    url, windows = f"file://{tmp_path}/run", tmp_path / "windows"
    words = ["-m", "tests.direct_place", *command(source, tmp_path, A), "--windows", str(windows)]
    words[words.index("--out") + 1] = url
    homes = [tmp_path / name for name in ("one", "two", "three", "four")]
    for home in homes:
        home.mkdir()
    running = start_processes(words, 2, homes[:2])
    wait_for(tmp_path / "run/checkpoints/5", running)
    running[1].send_signal(signal.SIGTERM)
    said_by(running, code=75)
    assert not (tmp_path / "run/results.json").exists()
    run_processes(words, 2, homes=homes[2:])
    np.testing.assert_allclose(
        losses(next(homes[2].glob(".cache/dsm_jax/runs/run-*[!k]"))), losses(whole), rtol=1e-5
    )
    assert (tmp_path / "run/model/model.safetensors").is_file() and (tmp_path / "run/results.json").is_file()
    assert not any((home / ".cache/dsm_jax/runs").exists() for home in (homes[1], homes[3]))
