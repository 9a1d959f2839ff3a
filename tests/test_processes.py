"""Several processes: who joins, one clear line for what cannot be, the first one's work and its mistakes."""

import jax
import pytest

from dsm_jax import processes
from dsm_jax.errors import UserError
from tests.processes import run_processes


def test_who_joins_other_processes(tmp_path, monkeypatch) -> None:
    alone = tmp_path / "dev"
    alone.mkdir()
    assert not processes._is_one_of_several({}, alone)
    assert not processes._is_one_of_several({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, alone)
    assert not processes._is_one_of_several({"SLURM_NTASKS": "4"}, alone)  # an allocation's shell, no step
    assert processes._is_one_of_several({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, alone)
    (alone / "accel0").touch()
    assert not processes._is_one_of_several({}, alone)  # some other accelerator
    monkeypatch.setattr(processes, "find_spec", lambda name: name == "libtpu" or None)
    assert processes._is_one_of_several({}, alone)
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match="set JAX_NUM_PROCESSES and JAX_PROCESS_ID"):
        processes.join_processes()


def test_a_script_for_one_process_says_so(monkeypatch) -> None:
    processes.require_one_process("quickstart.py")
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    with pytest.raises(UserError, match="4 processes: quickstart.py runs in one"):
        processes.require_one_process("quickstart.py")


@pytest.mark.parametrize(
    ("address", "count", "own"),
    [("host:1", "2", "2"), ("host:1", "0", "0"), ("host:1", "2", "-1"), ("host", "2", "0")],
)
def test_processes_that_cannot_be(address: str, count: str, own: str, monkeypatch) -> None:
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", address)
    monkeypatch.setenv("JAX_NUM_PROCESSES", count)
    monkeypatch.setenv("JAX_PROCESS_ID", own)
    with pytest.raises(UserError, match="JAX_COORDINATOR_ADDRESS must be HOST:PORT, and JAX_PROCESS_ID"):
        processes.join_processes()


def test_the_first_one_s_mistake_ends_all(tmp_path) -> None:
    """Both say the line, and neither waits for the other."""
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a"}\n{"txt": "b"}\n')
    words = ["experiments/pretrain_7b.py", "--preset", "smoke", "--out", str(tmp_path / "run")]
    said = run_processes([*words, "--sources.arxiv", str(file), "--workers", "0"], 2, code=2)
    assert all("error: " in err and "rows.jsonl:2: no text in this row" in err for _, err in said)
    assert not any("Traceback" in err for _, err in said)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("file:///nowhere/run", "2 processes cannot share it"),
        ("gs://nowhere/run", "2 processes need --windows"),
    ],
)
def test_where_several_processes_cannot_work(url: str, said: str) -> None:
    words = ["experiments/pretrain_7b.py", "--preset", "smoke", "--out", url]
    for _, err in run_processes(words, 2, code=2):
        assert f"error: --out {url}: {said}" in err and "Traceback" not in err and "works in" not in err
