"""One step of each kind on 8 devices, on every mesh shape, equals one device's: loss and every gradient leaf."""

import dataclasses
from functools import lru_cache
from pathlib import Path

import jax
import numpy as np
import pytest

from dsm_jax.mesh import parse_mesh, single_device_mesh
from dsm_jax.model.decoder import bind
from dsm_jax.model.params import init_params
from dsm_jax.rl.config import GRPOTraining
from dsm_jax.rl.update import Whole, make_gradients
from dsm_jax.train import logps
from dsm_jax.train.optimizer import OptimizerConfig, make_optimizer
from dsm_jax.train.step import lm_loss, make_train_step, put_batch, start_state, state_shardings
from tests.processes import run_processes
from tests.train.steps import CONFIG, KINDS, MESH, ROWS, lm_gradients, packed_batch, rollout_batch

MESHES = {1: single_device_mesh, 8: lambda: parse_mesh((MESH,))}
OTHERS = ("data=8", "fsdp=8", "data=2,fsdp=4", "data=4,tensor=2", "fsdp=4,tensor=2", "fsdp=2,tensor=4")


@lru_cache
def one_device(kind: str) -> tuple[float, dict]:
    return KINDS[kind](single_device_mesh())


def assert_equal(ours: tuple[float, list], theirs: tuple[float, list]) -> None:
    assert abs(ours[0] - theirs[0]) <= 1e-5 * abs(theirs[0])
    for a, b in zip(ours[1], theirs[1], strict=True):
        assert np.abs(b).max() > 0
        assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [MESH, *(pytest.param(shape, marks=pytest.mark.slow) for shape in OTHERS)])
def test_eight_devices_equal_one(shape: str, kind: str) -> None:
    eight, one = KINDS[kind](parse_mesh((shape,))), one_device(kind)
    assert_equal(*((loss, jax.tree.leaves(gradients)) for loss, gradients in (eight, one)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_equal_one_device(kind: str, tmp_path: Path) -> None:
    """Four devices each, over loopback."""
    run_processes(["-m", "tests.train.steps", kind, str(tmp_path / "step.npz")], 2)
    loss, *gradients = np.load(tmp_path / "step.npz").values()
    assert_equal((float(loss), gradients), (one_device(kind)[0], jax.tree.leaves(one_device(kind)[1])))


@pytest.mark.parametrize("remat", ["none", "dots", "full"])
def test_logps_in_chunks_equal_one_chunk(monkeypatch, remat):
    """47 time steps in chunks of 7, on 8 devices, against two chunks on one device; loss and gradients."""
    (whole_loss, whole) = lm_gradients(MESHES[1](), answer_only=False)
    monkeypatch.setattr(logps, "CHUNK", 2 * 7)  # of the two rows on a device
    (chunked_loss, chunked) = lm_gradients(MESHES[8](), answer_only=False, remat=remat)
    assert abs(whole_loss - chunked_loss) <= 1e-5 * abs(whole_loss)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max()), chunked, whole)


def test_z_loss_adds_the_mean_square_of_log_z():
    mesh, batch = MESHES[1](), packed_batch(True)
    params = init_params(CONFIG, 0, mesh)
    with jax.set_mesh(mesh):
        decoder = bind(CONFIG, params)
        logits = np.float64(decoder.logits(decoder.hidden(batch["tokens"], batch["segment_ids"])))[:, :-1]
        plain, with_z = (float(lm_loss(CONFIG, params, batch, z_loss=weight)) for weight in (0.0, 0.1))
    log_z = np.log(np.exp(logits).sum(-1))
    mask = batch["loss_mask"][:, 1:]
    np.testing.assert_allclose(with_z - plain, 0.1 * (log_z**2 * mask).sum() / mask.sum(), rtol=1e-5)


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
        whole, *_ = accumulate(None, params, reference, put_batch(batch, mesh), Whole(ROWS, 1))
        parts = None
        for rows in (slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 8)):
            micro = {name: array[rows] for name, array in batch.items()}
            parts, *_ = accumulate(parts, params, reference, put_batch(micro, mesh), Whole(ROWS, 1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7), parts, whole)
