"""What XLA made of the programs: no whole batch of logits, no copy of a weight in a decode step, no surprise reshard."""

from __future__ import annotations

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dsm_jax.mesh import batch_sharding, batch_shards, parse_mesh, single_device_mesh
from dsm_jax.model.attention import Seats
from dsm_jax.model.config import SMOKE, TINY, ModelConfig
from dsm_jax.model.decoder import bind, empty_caches, unstack
from dsm_jax.model.params import abstract_params, decode_shardings, init_params
from dsm_jax.train.logps import token_logps
from dsm_jax.train.step import lm_loss
from tests.train.steps import KINDS

# Large enough that weights and cache outweigh everything else; heads as wide as the 7B's.
WIDE = replace(TINY, vocab_size=2048, d_model=256, d_ff=1024, head_dim=128, max_seq_len=1024)
ROWS, PLACES = 12, 1024  # 12, so that no score has as many numbers as a weight


def compiled_decode_step(config: ModelConfig) -> tuple[jax.stages.Compiled, list, list]:
    """One step over ROWS rows; also its weights, abstract, and its caches."""
    mesh = single_device_mesh()
    shapes = jax.eval_shape(lambda: unstack(config, init_params(config, 0, mesh)))
    weights = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        decode_shardings(config, mesh),
    )
    empty = jax.jit(empty_caches, static_argnums=(0, 1, 2))
    with jax.set_mesh(mesh):
        caches, shared = empty(config, ROWS, PLACES), empty(config, 1, 64)

    def step(weights: dict, ids: jax.Array, own: list, shared: list, seats: Seats) -> tuple:
        decoder = bind(config, weights)
        hidden, own = decoder.decode(ids, own, shared, seats)
        return decoder.logits(hidden), own

    ids = jax.ShapeDtypeStruct((ROWS,), jnp.int32, sharding=batch_sharding(mesh))
    seats = Seats(jax.ShapeDtypeStruct((1, ROWS), jnp.int32, sharding=batch_sharding(mesh)), ids, ids, ids)
    with jax.set_mesh(mesh):
        lowered = jax.jit(step, donate_argnums=2).lower(weights, ids, caches, shared, seats)
    # As users' programs are compiled, not as most tests'. jax 0.11 has no such option, and no other way.
    own = {"xla_cpu_use_fusion_emitters": True} if jax.__version_info__ < (0, 11) else None
    compiled = lowered.compile(compiler_options=own)
    return compiled, jax.tree.leaves(weights), jax.tree.leaves(caches)


def nbytes(leaves: list) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_a_decode_step_moves_weights_and_cache_once(kv_heads: int) -> None:
    config = replace(WIDE, n_kv_heads=kv_heads)
    compiled, weights, caches = compiled_decode_step(config)
    text = compiled.as_text()
    sizes = {leaf.size for leaf in weights if leaf.size > 10_000}
    moves = re.findall(r"= f32\[([\d,]+)\]\S* (?:copy|slice|dynamic-slice|transpose)\(", text)
    assert moves and not sizes & {int(np.prod(list(map(int, dims.split(","))))) for dims in moves}
    assert compiled.memory_analysis().temp_size_in_bytes < 0.1 * nbytes(caches)
    assert compiled.memory_analysis().alias_size_in_bytes == nbytes(caches)  # written in place
    # The cost model counts a write at one place per row as a read and a write of the whole cache, which it is not: the
    # cache is aliased, and no temporary could hold it.
    writes = len(re.findall(r" scatter\(", text))
    assert writes == len(caches)
    moved = compiled.cost_analysis()["bytes accessed"] - 2 * nbytes(caches)
    assert moved <= 1.1 * (nbytes(weights) + nbytes(caches))


@pytest.mark.parametrize("mesh", ["fsdp=1", "data=2,fsdp=2,tensor=2"])
@pytest.mark.parametrize("rows, time", [(4, 96), (8, 2048)])
def test_logits_of_a_whole_batch_never_exist(mesh: str, rows: int, time: int) -> None:
    """No array has the vocabulary's axis (a device's part of it) times all of a device's tokens; forward and backward."""
    config = replace(SMOKE, vocab_size=6144, max_seq_len=4096)
    devices = parse_mesh((mesh,), jax.devices()[: 1 if mesh == "fsdp=1" else 8])
    ids = jax.ShapeDtypeStruct((rows, time), jnp.int32)
    with jax.set_mesh(devices):
        params = abstract_params(config, devices)
        programs = (
            lambda p, i: token_logps(config, p, i, i).logps,
            jax.grad(lambda p, i: lm_loss(config, p, {"tokens": i, "segment_ids": i, "loss_mask": i})),
        )
        texts = [jax.jit(program).lower(params, ids).compile().as_text() for program in programs]
    vocab, tokens = config.vocab_size // devices.shape["tensor"], rows * time // batch_shards(devices)
    for text in texts:
        arrays = {tuple(map(int, dims.split(","))) for dims in re.findall(r"f32\[([\d,]+)\]", text)}
        logits = [
            int(np.prod(dims)) // vocab for dims in arrays if vocab in dims and config.d_model not in dims
        ]
        assert logits and max(logits) < tokens


@pytest.mark.parametrize("kind", KINDS)
def test_no_step_is_resharded_by_surprise(kind: str, capfd) -> None:
    """Compiled anew: a program from the cache gives no warning."""
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        KINDS[kind](parse_mesh(("data=2,fsdp=2,tensor=2",)))
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
    assert "rematerialization" not in capfd.readouterr().err
