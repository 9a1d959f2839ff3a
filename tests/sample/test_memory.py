"""The memory that a call is said to take: at least what XLA says of its programs, and not much more."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from dsm_jax.mesh import parse_mesh, single_device_mesh
from dsm_jax.sample import sampler as module
from dsm_jax.sample.memory import free_everywhere
from tests.sample.models import CONFIG, Endless, sampler_of

pytestmark = pytest.mark.slow  # compiles much

LARGE = dataclasses.replace(CONFIG, vocab_size=4096, n_layers=4, d_ff=352)
CALLS = {  # configuration, mesh, tokens of the prompts, completions of each, new tokens
    "many rows of few prompts": (LARGE, "", (250, 200), 32, 60),
    "long prompts": (CONFIG, "", (370, 360, 350, 340), 1, 100),
    "long completions": (LARGE, "", (20,), 16, 200),
    "a quarter of a mesh": (LARGE, "data=2,fsdp=2,tensor=2", (100, 100, 100, 100), 16, 30),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_estimate_is_what_xla_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches as they are, and beside them the largest program's results and temporary arrays, on one device."""
    config, mesh, prompts, n, new = CALLS[name]
    sampler = sampler_of(
        config, parse_mesh(mesh) if mesh else single_device_mesh(), tokenizer=Endless(), slots=256
    )
    beside: dict[str, int] = {}
    caches: list[int] = []

    def watched(program: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **static: Any) -> Any:
            said = run.lower(*args, **static).compile().memory_analysis()
            took = said.temp_size_in_bytes + said.output_size_in_bytes - said.alias_size_in_bytes
            beside[program] = max(beside.get(program, 0), took)
            if program == "decode":
                caches.append(
                    sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(args[2:4]))
                )
            return run(*args, **static)

        return call

    monkeypatch.setattr(
        module, "PROGRAMS", {program: watched(program, run) for program, run in module.PROGRAMS.items()}
    )
    sampler.generate([[5 + i] * length for i, length in enumerate(prompts)], n=n, max_new_tokens=new)
    truth = max(caches) + max(beside.values())
    print(f"{name}: said {sampler.usage.memory:,}, found {truth:,}, caches {max(caches):,}, beside {beside}")
    assert truth <= sampler.usage.memory <= 2.5 * truth


def test_the_least_free_memory_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all processes, and more than 32 bits hold."""
    gathered: list[np.ndarray] = []

    def gather(own: np.ndarray) -> np.ndarray:
        gathered.append(own)
        return np.array([own, own + 7])

    class Several:
        is_multi_process = True

    monkeypatch.setattr("dsm_jax.sample.memory.process_allgather", gather)
    monkeypatch.setattr("dsm_jax.sample.memory.free_memory", lambda mesh: 40 << 30)
    assert free_everywhere(Several()) == int(0.9 * (40 << 30))
    assert gathered[0].dtype.itemsize == 4  # what jax makes of it
    monkeypatch.setattr("dsm_jax.sample.memory.free_memory", lambda mesh: None)
    assert free_everywhere(Several()) is None
