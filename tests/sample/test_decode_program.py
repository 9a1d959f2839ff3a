"""What XLA made of a chunk of decode steps: caches written in place, no copy of a weight or of a cache."""

import dataclasses
import re
from typing import Any

import jax
import numpy as np
import pytest

from dsm_jax.mesh import parse_mesh
from dsm_jax.model.config import TINY
from dsm_jax.sample.sampler import PROGRAMS, Sampler
from tests.sample.models import Endless, params_of

pytestmark = pytest.mark.slow  # compiles much

# Wide enough that weights and caches outweigh everything else, and no two of them have one size.
WIDE = dataclasses.replace(
    TINY, vocab_size=2048, d_model=256, d_ff=1024, n_kv_heads=2, head_dim=128, n_layers=2
)


def compiled_chunk(mesh: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, Any, Any]:
    """The program of a real call; its weights, rows' own caches and shared ones."""
    count = int(np.prod([int(size) for size in re.findall(r"\d+", mesh)]))
    sampler = Sampler(WIDE, Endless(), parse_mesh((mesh,), jax.devices()[:count]), slots=24)
    sampler.load(params_of(WIDE, sampler.mesh))
    asked: dict[str, Any] = {}
    run = sampler.call

    def call(program: Any, *args: Any, **static: Any) -> Any:
        if program.name == "decode":
            with jax.set_mesh(sampler.mesh):
                asked["compiled"] = PROGRAMS["decode"].lower(*args).compile()
            asked["arrays"] = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), args[1:4])
        return run(program, *args, **static)

    monkeypatch.setattr(sampler, "call", call)
    sampler.generate([f"{i} of several" for i in range(6)], n=4, max_new_tokens=200)
    return asked["compiled"], *asked["arrays"]


def nbytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("mesh", ["fsdp=1", "data=2,fsdp=2,tensor=2"])
def test_a_step_copies_no_weight_and_no_cache(mesh: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled, params, own, shared = compiled_chunk(mesh, monkeypatch)
    devices = 1 if mesh == "fsdp=1" else 8
    memory = compiled.memory_analysis()
    assert memory.alias_size_in_bytes >= nbytes(own) // devices
    assert memory.temp_size_in_bytes < 0.35 * nbytes(own) / devices
    moved = re.findall(
        r"= f32\[([\d,]+)\]\S* (?:copy|transpose|dynamic-slice|slice|pad)\(", compiled.as_text()
    )
    sizes = {int(np.prod(list(map(int, dims.split(","))))) for dims in moved}
    caches = {leaf.size // devices for leaf in jax.tree.leaves((own, shared))}
    split = 1 if devices == 1 else 2  # over tensor
    weights = {leaf.size // split for leaf in jax.tree.leaves(params) if leaf.size > 30_000}
    assert sizes and not sizes & (caches | weights) and max(sizes) < max(caches)
