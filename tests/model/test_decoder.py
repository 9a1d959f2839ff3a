"""The decoder against an independent numpy reading of Llama; packing, padding and decoding change no logit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from jax.sharding import reshard

from dsm_jax.mesh import BATCH, abstract_mesh, parse_mesh, single_device_mesh
from dsm_jax.mesh import PRESETS as MESHES
from dsm_jax.model.attention import Seats
from dsm_jax.model.config import DEEPSEEK_MATH_7B, SMOKE, ModelConfig, param_count
from dsm_jax.model.decoder import abstract, bind, empty_caches, segment_positions, unstack
from dsm_jax.model.layer import _product
from dsm_jax.model.params import decode_shardings, init_params, param_shapes, param_specs
from dsm_jax.train.optimizer import OptimizerConfig, make_optimizer
from dsm_jax.train.step import abstract_state, state_shardings

# Weights large enough that attention is far from uniform and logits have a spread above 1.
GQA = dataclasses.replace(SMOKE, n_kv_heads=2, init_std=0.15, rope_theta=500.0)
TIED = dataclasses.replace(GQA, tie_embeddings=True)


def logits_of(config: ModelConfig, params: dict, tokens: np.ndarray, segments: np.ndarray) -> np.ndarray:
    with jax.set_mesh(single_device_mesh()):

        def run(params: dict, tokens: jax.Array, segments: jax.Array) -> jax.Array:
            decoder = bind(config, params)
            return decoder.logits(decoder.hidden(tokens, segments))

        return np.asarray(jax.jit(run)(params, tokens, segments))


def numpy_llama(config: ModelConfig, params: dict, tokens: np.ndarray) -> np.ndarray:
    """One sequence [T] -> logits [T, V] in float64, written from the architecture's description."""
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)

    def norm(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + config.rms_eps) * scale

    def rope(x: np.ndarray) -> np.ndarray:  # [T, h]
        half = config.head_dim // 2
        angle = np.arange(len(x))[:, None] / config.rope_theta ** (np.arange(half) / half)
        turned = (x[:, :half] + 1j * x[:, half:]) * np.exp(1j * angle)
        return np.concatenate([turned.real, turned.imag], axis=-1)

    x = p["embed"][tokens]
    group = config.n_heads // config.n_kv_heads
    causal = np.tril(np.ones((len(tokens), len(tokens)), bool))
    for i in range(config.n_layers):
        w = {name: a[i] for name, a in p["layers"].items()}
        h, out = norm(x, w["attention_norm"]), np.zeros_like(x)
        for head in range(config.n_heads):
            kv, g = divmod(head, group)
            q, k, v = rope(h @ w["q"][:, kv, g]), rope(h @ w["k"][:, kv]), h @ w["v"][:, kv]
            score = np.where(causal, q @ k.T / np.sqrt(config.head_dim), -np.inf)
            weight = np.exp(score - score.max(-1, keepdims=True))
            out += weight / weight.sum(-1, keepdims=True) @ v @ w["o"][kv, g]
        x = x + out
        h = norm(x, w["mlp_norm"])
        gate = h @ w["gate"]
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w["up"])) @ w["down"]
    head = p["embed"].T if config.tie_embeddings else p["head"]
    return norm(x, p["final_norm"]) @ head


def random_norms(params: dict, seed: int = 1) -> dict:
    """Scales away from 1, so that a norm left out shows."""
    rng = np.random.default_rng(seed)

    def change(path: tuple, a: jax.Array) -> jax.Array:
        return a * rng.uniform(0.5, 1.5, a.shape).astype(np.float32) if "norm" in str(path) else a

    return jax.tree_util.tree_map_with_path(change, params)


@pytest.mark.parametrize("config", [GQA, TIED], ids=["gqa", "tied"])
def test_logits_equal_a_numpy_reading(config: ModelConfig) -> None:
    params = random_norms(init_params(config, 0, single_device_mesh()))
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (2, 24)).astype(np.int32)
    ours = logits_of(config, params, tokens, np.ones_like(tokens))
    theirs = np.stack([numpy_llama(config, params, row) for row in tokens])
    assert theirs.std() > 1
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_packed_documents_do_not_see_each_other() -> None:
    params = init_params(GQA, 0, single_device_mesh())
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, GQA.vocab_size, (2, 32)).astype(np.int32)
    segments = np.repeat([[1] * 12 + [2] * 14 + [0] * 6], 2, axis=0).astype(np.int32)
    before = logits_of(GQA, params, tokens, segments)
    changed = tokens.copy()
    changed[:, :12] = rng.integers(0, GQA.vocab_size, (2, 12))
    changed[:, 26:] = 7
    after = logits_of(GQA, params, changed, segments)
    np.testing.assert_array_equal(before[:, 12:26], after[:, 12:26])
    assert np.abs(before[:, :12] - after[:, :12]).max() > 0.1
    alone = logits_of(GQA, params, tokens[:, 12:26], np.ones((2, 14), np.int32))
    np.testing.assert_allclose(before[:, 12:26], alone, atol=1e-5)


def test_positions_restart_with_each_document() -> None:
    segments = jnp.array([[1, 1, 1, 2, 2, 0, 0], [1, 2, 3, 3, 3, 3, 0]])
    assert segment_positions(segments).tolist() == [[0, 1, 2, 0, 1, 0, 1], [0, 0, 0, 1, 2, 3, 0]]


def test_decoding_token_by_token_equals_the_whole_sequence() -> None:
    mesh = single_device_mesh()
    params = init_params(GQA, 0, mesh)
    tokens = np.random.default_rng(0).integers(0, GQA.vocab_size, (3, 20)).astype(np.int32)
    whole = logits_of(GQA, params, tokens, np.ones_like(tokens))

    def run(params: dict, tokens: jax.Array) -> jax.Array:
        decoder, logits, own = bind(GQA, unstack(GQA, params)), [], empty_caches(GQA, 3, 12)
        (_, shared), rows = decoder.prefill(tokens[:, :8]), reshard(jnp.arange(3), P(BATCH))
        for t in range(8, 20):
            seats = Seats(rows[:, None], rows, rows * 0 + 8, rows * 0 + t - 8)
            hidden, own = decoder.decode(tokens[:, t], own, shared, seats)
            logits.append(decoder.logits(hidden))
        return jnp.stack(logits, axis=1)

    with jax.set_mesh(mesh):
        np.testing.assert_allclose(jax.jit(run)(params, tokens), whole[:, 8:], atol=2e-5)


def test_rematerialisation_changes_no_gradient() -> None:
    params = init_params(GQA, 0, single_device_mesh())
    tokens = np.random.default_rng(0).integers(0, GQA.vocab_size, (2, 16)).astype(np.int32)

    def loss(params: dict, remat: str) -> jax.Array:
        decoder = bind(GQA, params)
        return jax.nn.logsumexp(decoder.logits(decoder.hidden(tokens, tokens * 0, remat)), -1).sum()

    with jax.set_mesh(single_device_mesh()):
        kept, recomputed = (jax.jit(jax.grad(loss), static_argnums=1)(params, r) for r in ("none", "full"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), kept, recomputed)


def test_a_frequent_token_s_gradient_is_summed_in_fp32():
    """4,096 terms of 1 make 4,096; summed in bf16 they would stall at 256."""
    config = dataclasses.replace(SMOKE, dtype="bfloat16")
    params = init_params(config, 0, single_device_mesh())

    def total(params: dict) -> jax.Array:
        return bind(config, params).embed_tokens(jnp.full(4096, 7)).astype(jnp.float32).sum()

    with jax.set_mesh(single_device_mesh()):
        gradient = jax.jit(jax.grad(total))(params)["embed"]
    np.testing.assert_array_equal(gradient[7], np.full(SMOKE.d_model, 4096.0))


@pytest.mark.parametrize("inputs, outputs", [(8, 32), (32, 8)])
def test_a_weight_s_gradient_is_summed_in_the_weight_s_dtype(inputs: int, outputs: int) -> None:
    """1,000 ones and then 1,000 times 2**-7, in bf16: 1,007.8125; rounded to bf16 on the way out it would be 1,008."""
    x = np.ones((2000, inputs), jnp.bfloat16)
    x[1000:] = 2.0**-7

    def total(w: jax.Array) -> jax.Array:
        return _product(jnp.asarray(x), w).astype(jnp.float32).sum()

    with jax.set_mesh(single_device_mesh()):
        gradient = jax.jit(jax.grad(total))(jnp.ones((inputs, outputs)))
    assert gradient.dtype == jnp.float32
    np.testing.assert_array_equal(gradient, np.full((inputs, outputs), 1007.8125))


def test_the_same_seed_gives_the_same_parameters_on_every_mesh() -> None:
    one = init_params(SMOKE, 3, single_device_mesh())
    eight = init_params(SMOKE, 3, parse_mesh(("data=2,fsdp=2,tensor=2",)))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), one, eight)


@pytest.mark.parametrize("named", MESHES.values())
def test_no_large_parameter_of_the_7b_is_whole_on_every_device(named: str) -> None:
    """On every named mesh, without its devices: split over all of fsdp x tensor."""
    mesh = abstract_mesh((named,))
    shapes = param_shapes(DEEPSEEK_MATH_7B)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == param_count(DEEPSEEK_MATH_7B)
    optimizer, _ = make_optimizer(OptimizerConfig(peak_lr=1e-3), 10)
    state = state_shardings(DEEPSEEK_MATH_7B, optimizer, mesh)
    leaves = jax.tree.leaves(abstract_state(DEEPSEEK_MATH_7B, optimizer, mesh))
    for leaf, sharding in zip(leaves, jax.tree.leaves(state), strict=True):
        parts = leaf.size // np.prod(sharding.shard_shape(leaf.shape), dtype=int)
        assert leaf.size <= 1_000_000 or parts == mesh.shape["fsdp"] * mesh.shape["tensor"], leaf


def test_decoding_parameters_are_whole_along_fsdp() -> None:
    mesh = parse_mesh(("fsdp=4,tensor=2",))
    specs = jax.tree.leaves(jax.tree.map(lambda s: str(s.spec), decode_shardings(SMOKE, mesh)))
    assert not any("fsdp" in spec for spec in specs)
    assert jax.tree.structure(decode_shardings(SMOKE, mesh)) == jax.tree.structure(
        unstack(SMOKE, param_shapes_zeros())
    )
    assert any("fsdp" in str(spec) for spec in jax.tree.leaves(jax.tree.map(str, param_specs(SMOKE))))


def param_shapes_zeros() -> dict:
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), param_shapes(SMOKE))


def test_shapes_are_of_no_mesh_whichever_is_set_when_they_are_first_asked_for():
    config = dataclasses.replace(SMOKE, d_ff=48)  # of no other test
    with jax.set_mesh(single_device_mesh()):
        abstract(config, True)
    assert {leaf.sharding for leaf in jax.tree.leaves(param_shapes(config))} == {None}
