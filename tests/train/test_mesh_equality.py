"""One step of each kind on 8 devices (data=2, fsdp=2, tensor=2) equals one device's: loss and every gradient leaf."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
import pytest

from dsm_jax.mesh import batch_sharding, parse_mesh, single_device_mesh
from dsm_jax.model.config import SMOKE
from dsm_jax.model.decoder import init_params, param_shardings
from dsm_jax.rl.grpo import GRPOTraining, make_gradients
from dsm_jax.train import logps
from dsm_jax.train.optimizer import OptimizerConfig, make_optimizer
from dsm_jax.train.step import lm_loss, make_train_step, put_batch, start_state, state_shardings

CONFIG = dataclasses.replace(SMOKE, n_kv_heads=2, init_std=0.05)
MESHES = {1: single_device_mesh, 8: lambda: parse_mesh(("data=2,fsdp=2,tensor=2",))}
ROWS, TIME = 8, 48


def packed_batch(answer_only: bool) -> dict[str, np.ndarray]:
    """Two documents and padding a row; loss on all of them, or on each one's second half."""
    rng = np.random.default_rng(0)
    segments = np.repeat([[1] * 20 + [2] * 22 + [0] * 6], ROWS, axis=0).astype(np.int32)
    mask = (segments > 0).astype(np.float32)
    mask[:, [0, 20]] = 0
    if answer_only:
        mask[:, :10] = mask[:, 20:30] = 0
    return {"tokens": _tokens(rng), "segment_ids": segments, "loss_mask": mask}


def rollout_batch() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    lengths = rng.integers(20, TIME, (ROWS, 1))
    place = np.arange(TIME)[None]
    return {
        "tokens": _tokens(rng),
        "segment_ids": (place < lengths).astype(np.int32),
        "mask": ((place >= 10) & (place < lengths)).astype(np.float32),
        "sampler_logps": -rng.random((ROWS, TIME)).astype(np.float32),
        "advantages": rng.normal(size=ROWS).astype(np.float32),
    }


def _tokens(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, CONFIG.vocab_size, (ROWS, TIME)).astype(np.int32)


def lm_gradients(mesh: jax.sharding.Mesh, answer_only: bool, remat: str = "none") -> tuple[float, dict]:
    params = init_params(CONFIG, 0, mesh)
    step = jax.jit(
        jax.value_and_grad(lambda params, batch: lm_loss(CONFIG, params, batch, remat)),
        in_shardings=(param_shardings(CONFIG, mesh), batch_sharding(mesh)),
    )
    with jax.set_mesh(mesh):
        loss, gradients = step(params, put_batch(packed_batch(answer_only), mesh))
    return float(loss), jax.device_get(gradients)


def grpo_gradients(mesh: jax.sharding.Mesh) -> tuple[float, dict]:
    accumulate = make_gradients(GRPOTraining(num_generations=4, remat="none"), CONFIG, mesh)
    params, reference = init_params(CONFIG, 0, mesh), init_params(CONFIG, 1, mesh)
    with jax.set_mesh(mesh):
        batch = put_batch(rollout_batch(), mesh)
        gradients, metrics = accumulate(None, params, reference, batch, (ROWS, 1))
    return float(metrics["loss"].sum / metrics["loss"].denominator), jax.device_get(gradients)


KINDS: dict[str, Callable[[jax.sharding.Mesh], tuple[float, dict]]] = {
    "pretrain": lambda mesh: lm_gradients(mesh, answer_only=False),
    "sft": lambda mesh: lm_gradients(mesh, answer_only=True),
    "grpo": grpo_gradients,
}


@pytest.mark.parametrize("kind", KINDS)
def test_eight_devices_equal_one(kind: str) -> None:
    (one_loss, one), (eight_loss, eight) = (KINDS[kind](MESHES[count]()) for count in (1, 8))
    assert abs(one_loss - eight_loss) <= 1e-5 * abs(one_loss)

    def check(a: np.ndarray, b: np.ndarray) -> None:
        assert np.abs(b).max() > 0
        assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()

    jax.tree.map(check, eight, one)


@pytest.mark.parametrize("remat", ["none", "full"])
def test_logps_in_chunks_equal_one_chunk(monkeypatch, remat):
    """48 time steps in chunks of 7, on 8 devices, against one chunk on one device; loss and gradients."""
    (whole_loss, whole) = lm_gradients(MESHES[1](), answer_only=False)
    monkeypatch.setattr(logps, "CHUNK", 7)
    (chunked_loss, chunked) = lm_gradients(MESHES[8](), answer_only=False, remat=remat)
    assert abs(whole_loss - chunked_loss) <= 1e-5 * abs(whole_loss)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max()), chunked, whole)


def test_gradients_in_bf16_stay_close_to_fp32():
    mesh, batch = MESHES[1](), packed_batch(False)
    found = {}
    for dtype in ("float32", "bfloat16"):
        config = dataclasses.replace(CONFIG, dtype=dtype)

        def loss(params, batch, config=config):
            return lm_loss(config, params, batch)

        with jax.set_mesh(mesh):
            gradients = jax.jit(jax.grad(loss))(init_params(config, 0, mesh), put_batch(batch, mesh))
        found[dtype] = jax.device_get(gradients)
        assert {leaf.dtype.name for leaf in jax.tree.leaves(found[dtype])} == {"float32"}
    for wanted, got in zip(
        *(jax.tree.leaves(found[dtype]) for dtype in ("float32", "bfloat16")), strict=True
    ):
        assert np.linalg.norm(got - wanted) <= 0.02 * np.linalg.norm(wanted)


def test_a_step_keeps_the_declared_shardings_and_reuses_its_buffers() -> None:
    mesh = MESHES[8]()
    optimizer, _ = make_optimizer(OptimizerConfig(peak_lr=1e-3), 10)
    state = start_state(CONFIG, optimizer, mesh, init_params(CONFIG, 0, mesh))
    with jax.set_mesh(mesh):
        after, _ = make_train_step(CONFIG, optimizer, mesh)(state, put_batch(packed_batch(False), mesh))
    wanted = state_shardings(CONFIG, optimizer, mesh)
    jax.tree.map(lambda a, s: _same_sharding(a, s), after, wanted)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))
    assert any("tensor" in str(s.spec) and "fsdp" in str(s.spec) for s in jax.tree.leaves(wanted.opt_state))


def _same_sharding(array: jax.Array, sharding: jax.sharding.NamedSharding) -> None:
    assert array.sharding.is_equivalent_to(sharding, array.ndim), (array.sharding, sharding)


def test_micro_batches_add_up_to_the_batch() -> None:
    mesh = MESHES[1]()
    accumulate = make_gradients(GRPOTraining(num_generations=4, remat="none"), CONFIG, mesh)
    params, reference = init_params(CONFIG, 0, mesh), init_params(CONFIG, 1, mesh)
    batch = rollout_batch()
    with jax.set_mesh(mesh):
        whole, _ = accumulate(None, params, reference, put_batch(batch, mesh), (ROWS, 1))
        parts = None
        for rows in (slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 8)):
            micro = {name: array[rows] for name, array in batch.items()}
            parts, _ = accumulate(parts, params, reference, put_batch(micro, mesh), (ROWS, 1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7), parts, whole)
