"""The same call in two processes gives in both what one device gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dsm_jax.mesh import single_device_mesh
from tests.processes import run_processes
from tests.sample.calls import alone, heard, make
from tests.sample.models import assert_same


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["fsdp=4,tensor=2", pytest.param("tensor=8", marks=pytest.mark.exhaustive)])
def test_two_processes_sample_as_one_device(mesh: str, tmp_path: Path) -> None:
    """Refilled slots, grown and shrunk caches, stop strings, truncated draws, and a tool that is called in the first
    process only: late, raising, and given up."""
    run_processes(["-m", "tests.sample.calls", str(tmp_path), mesh], 2)
    here = make(single_device_mesh())
    errors = [one["error"] for one in here["asked"].values()]
    assert any("raised ValueError: of" in error for error in errors)
    assert any("gave no answer within 3 s" in error for error in errors)
    assert sum(any(one["inserted"]) for one in here["asked"].values()) > 3
    by_itself = alone()
    assert any(any(one["inserted"]) for one in by_itself)
    for process in range(2):
        there = json.loads((tmp_path / f"{mesh}-{process}.json").read_text())
        for call in ("streamed", "asked", "last"):
            assert there[call].keys() == here[call].keys()
            for row, one in there[call].items():
                assert_same(heard(one), heard(here[call][row]))
        for one, other in zip(there["alone"], by_itself, strict=True):
            assert_same(heard(one), heard(other))
        assert there["shown"] == here["shown"] and there["fingerprint"] == here["fingerprint"]
        assert there["calls"] == (here["calls"] if process == 0 else 0)
        assert {"empty", "prefill", "place", "decode", "grow", "take"} == {*there["programs"]}
