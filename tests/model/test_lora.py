"""LoRA: nothing at the start, the same merged or not, and only the updates train."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from dsm_jax.errors import UserError
from dsm_jax.mesh import parse_mesh, single_device_mesh
from dsm_jax.model import Model, lora, save_hf
from dsm_jax.model.config import SMOKE, LoRA
from dsm_jax.model.params import init_params
from dsm_jax.train.logps import token_logps
from dsm_jax.train.optimizer import OptimizerConfig, make_optimizer
from dsm_jax.train.step import make_train_step, put_batch, start_state
from tests.train.steps import packed_batch

BASE = replace(SMOKE, n_kv_heads=2, init_std=0.1)
CONFIG = replace(BASE, lora=LoRA(rank=4, alpha=8.0))
IDS = np.random.default_rng(0).integers(0, SMOKE.vocab_size, (2, 20))


def parts(mesh: jax.sharding.Mesh, config=CONFIG) -> tuple[dict, dict]:
    """The base, and updates whose B is not zero."""
    base = init_params(BASE, 0, mesh)
    part = lora.start(config, base, 1, mesh)
    rng = np.random.default_rng(0)
    part = jax.tree.map(
        lambda a: jax.device_put(a + 0.1 * rng.standard_normal(a.shape).astype(np.float32), a.sharding), part
    )
    return base, part


def test_it_starts_as_the_base():
    mesh = single_device_mesh()
    base = init_params(BASE, 0, mesh)
    part = lora.start(CONFIG, base, 1, mesh)
    assert all("_lora_" in name for name in part["layers"]) and len(part["layers"]) == 2 * 7
    with_it = Model(CONFIG, lora.whole(CONFIG, base, part)).logits(IDS)
    np.testing.assert_array_equal(with_it, Model(BASE, base).logits(IDS))


@pytest.mark.parametrize("mesh", ["fsdp=1", "data=2,fsdp=2,tensor=2"])
@pytest.mark.parametrize("targets", [LoRA().targets, ("q", "down")])
def test_merged_equals_apart(mesh, targets):
    config = replace(CONFIG, lora=replace(CONFIG.lora, targets=targets))
    mesh = parse_mesh((mesh,), jax.devices()[: 1 if mesh == "fsdp=1" else 8])
    base, part = parts(mesh, config)
    whole = lora.whole(config, base, part)
    apart = Model(config, whole).logits(IDS)
    together = Model(BASE, lora.merged(config, base, part, mesh)).logits(IDS)
    np.testing.assert_allclose(apart, together, atol=2e-5)
    assert np.abs(apart - Model(BASE, base).logits(IDS)).max() > 0.5


def test_the_update_is_alpha_over_rank_times_a_b():
    mesh = single_device_mesh()
    base, part = parts(mesh)
    merged = lora.merged(CONFIG, base, part, mesh)["layers"]["o"]
    a, b = (
        np.asarray(part["layers"][f"o_lora_{name}"], np.float64) for name in "ab"
    )  # [L, K, G, h, r], [L, r, D]
    wanted = np.asarray(base["layers"]["o"]) + 8.0 / 4 * np.einsum("lkghr,lrd->lkghd", a, b)
    np.testing.assert_allclose(merged, wanted, atol=1e-6)


def test_only_the_updates_train():
    mesh = parse_mesh(("data=2,fsdp=2,tensor=2",))
    base = init_params(BASE, 0, mesh)
    before = jax.device_get(base)
    optimizer, _ = make_optimizer(OptimizerConfig(peak_lr=1e-2), 10)
    state = start_state(CONFIG, optimizer, mesh, lora.start(CONFIG, base, 1, mesh))
    step = make_train_step(CONFIG, optimizer, mesh)
    losses = []
    with jax.set_mesh(mesh):
        for _ in range(8):
            state, metrics = step(state, put_batch(packed_batch(False), mesh), base)
            losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0] - 0.3
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(base), before)
    sizes = [leaf.size for leaf in jax.tree.leaves((state.params, state.opt_state))]
    assert sum(sizes) < 0.5 * 3 * sum(leaf.size for leaf in jax.tree.leaves(base))


def test_log_probs_of_the_base_come_from_the_same_arrays():
    mesh = single_device_mesh()
    base, part = parts(mesh)
    with jax.set_mesh(mesh):
        score = jax.jit(token_logps, static_argnums=0)
        ids, ones = jnp.asarray(IDS, jnp.int32), jnp.ones(IDS.shape, jnp.int32)
        policy = score(CONFIG, lora.whole(CONFIG, base, part), ids, ones).logps
        reference = score(lora.plain(CONFIG), base, ids, ones).logps
    assert np.abs(policy - reference).max() > 0.1


def test_export_is_merged(tmp_path):
    mesh = single_device_mesh()
    base, part = parts(mesh)
    save_hf(Model(CONFIG, lora.whole(CONFIG, base, part)), tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert not any("lora" in name for name in saved)
    merged = lora.merged(CONFIG, base, part, mesh)["layers"]["down"]
    np.testing.assert_array_equal(saved["model.layers.1.mlp.down_proj.weight"], np.asarray(merged)[1].T)


@pytest.mark.parametrize(
    "options, said", [({"rank": -1}, "rank is -1"), ({"targets": ("qkv",)}, "targets qkv: use some of")]
)
def test_bad_options(options, said):
    with pytest.raises(UserError, match=said):
        LoRA(**options)
