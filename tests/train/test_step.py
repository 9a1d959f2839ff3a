"""The train step: accumulation equals the big batch; the master is fp32; moments in bf16 stay close to fp32's."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dsm_jax.errors import UserError
from dsm_jax.mesh import parse_mesh, single_device_mesh
from dsm_jax.model.config import SMOKE
from dsm_jax.model.flops import peak_flops
from dsm_jax.model.params import init_params
from dsm_jax.run import read_metrics
from dsm_jax.train.lm import LMTraining, train_lm
from dsm_jax.train.loop import LoopConfig
from dsm_jax.train.optimizer import OptimizerConfig, make_optimizer
from dsm_jax.train.step import accumulated, lm_loss, make_train_step, put_batch, start_state, targets_of

ROWS, TIME = 16, 32
MESHES = {1: single_device_mesh, 8: lambda: parse_mesh(("data=2,fsdp=2,tensor=2",))}


def batch_of(seed: int = 0) -> dict[str, np.ndarray]:
    """Rows with very different numbers of targets, one of them with none."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, SMOKE.vocab_size, (ROWS, TIME), dtype=np.int32)
    mask = (np.arange(TIME) < rng.integers(2, TIME, (ROWS, 1))).astype(np.float32)
    mask[:, 0] = mask[3] = 0
    return {"tokens": tokens, "segment_ids": np.ones_like(tokens), "loss_mask": mask}


@pytest.mark.parametrize("devices", MESHES)
@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_gradients_are_the_big_batch_s(devices, parts):
    mesh = MESHES[devices]()
    params = init_params(SMOKE, 0, mesh)

    def gradient(params, batch, parts):
        total = targets_of(batch["loss_mask"])
        return accumulated(
            lambda params, rows: lm_loss(SMOKE, params, rows, "full", 1e-3, total), params, batch, parts
        )

    with jax.set_mesh(mesh):
        run = jax.jit(gradient, static_argnums=2)
        (whole_loss, whole), (loss, summed) = (
            run(params, put_batch(batch_of(), mesh), count) for count in (1, parts)
        )
    assert abs(loss - whole_loss) <= 1e-6 * whole_loss
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(summed), strict=True):
        assert a.sharding == b.sharding and a.dtype == b.dtype == jnp.float32
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * np.abs(a).max())


def test_a_step_over_parts_is_the_big_batch_s_step():
    """From equal moments (the first update of AdamW would enlarge the rounding of a gradient near zero)."""
    mesh = MESHES[1]()
    optimizer, _ = make_optimizer(OptimizerConfig(peak_lr=1e-3, eps=1e-4), 10)
    states = []
    for parts in (1, 4):
        state = start_state(SMOKE, optimizer, mesh, init_params(SMOKE, 0, mesh))
        step = make_train_step(SMOKE, optimizer, mesh, micro_batches=parts)
        with jax.set_mesh(mesh):
            for seed in range(3):
                state, metrics = step(state, put_batch(batch_of(seed), mesh))
        states.append((state.params, metrics["loss"], metrics["num_tokens"]))
    for a, b in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_parameters_in_bf16_are_refused():
    mesh = MESHES[1]()
    params = jax.tree.map(lambda a: a.astype(jnp.bfloat16), init_params(SMOKE, 0, mesh))
    with pytest.raises(UserError, match=r"in bfloat16, where an update of 1e-6 is lost .* dtype float32"):
        start_state(SMOKE, make_optimizer(OptimizerConfig(1e-6), 10)[0], mesh, params)
    assert jnp.bfloat16(0.02) + jnp.bfloat16(1e-6) == jnp.bfloat16(0.02)  # the reason


def test_moments_in_bf16_move_the_weights_as_fp32_does():
    """The mean change of a million weights after 20 updates at 1e-6 is within 1%; each moment is stored in bf16."""
    weights = {"w": jax.random.normal(jax.random.key(0), (1000, 1000)) * 0.02}
    moved = {}
    for moments in ("float32", "bfloat16"):
        config = OptimizerConfig(1e-6, schedule="constant", weight_decay=0.0, moments=moments)
        optimizer, _ = make_optimizer(config, 20)
        update = jax.jit(optimizer.update)
        params, state = weights, optimizer.init(weights)
        assert {leaf.dtype.name for leaf in jax.tree.leaves(state) if leaf.ndim} == {moments}
        for i in range(20):
            noise = jax.random.normal(jax.random.key(1 + i), (1000, 1000))
            gradient = {"w": 0.3 + noise * jnp.linspace(0.1, 3, 1000)}  # some weights agree, some do not
            updates, state = update(gradient, state, params)
            params = jax.tree.map(jnp.add, params, updates)
        moved[moments] = np.float64(params["w"]) - np.float64(weights["w"])
    assert np.abs(moved["float32"]).mean() > 5e-6
    assert np.abs(moved["bfloat16"]).mean() == pytest.approx(np.abs(moved["float32"]).mean(), rel=0.01)
    assert moved["bfloat16"].mean() == pytest.approx(moved["float32"].mean(), rel=0.01)
    assert not np.array_equal(moved["bfloat16"], moved["float32"])


TRAINING = LMTraining(
    LoopConfig(steps=2), OptimizerConfig(1e-3, schedule="constant", eps=1e-4), batch_size=ROWS, window=TIME
)


def train(config: LMTraining, folder, batch=lambda step, rows: batch_of(step), devices: int = 1):
    mesh = MESHES[devices]()
    return train_lm(
        config,
        SMOKE,
        mesh,
        batch=batch,
        start=lambda: init_params(SMOKE, 0, mesh),
        folder=folder,
        description="lm",
    )


def test_a_run_in_micro_batches_is_the_same_run(tmp_path):
    whole, parts = (
        train(replace(TRAINING, micro_batch_rows=rows), tmp_path / str(rows), devices=8) for rows in (0, 4)
    )
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-3 * 0.01)  # a hundredth of what two updates move
    (row,) = read_metrics(tmp_path / "4" / "metrics.jsonl")
    assert row["tokens_per_second"] == pytest.approx(ROWS * TIME / row["step_time"])
    assert 0 <= row["data_wait_share"] <= 1 and "mfu" not in row  # no peak is known of a CPU


@pytest.mark.parametrize(
    "kind, peak",
    [
        ("NVIDIA H200", 989e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5", 459e12),
        ("TPU v6 lite", 918e12),
        ("cpu", None),
    ],
)
def test_peaks(kind, peak):
    assert peak_flops(SimpleNamespace(device_kind=kind)) == peak


def test_what_cannot_be_trained_is_one_line(tmp_path):
    with pytest.raises(UserError, match="micro_batch_rows is 3; it must divide the batch_size 16"):
        replace(TRAINING, micro_batch_rows=3)
    with pytest.raises(UserError, match="2 rows at once .* do not divide over 4 devices"):
        train(replace(TRAINING, micro_batch_rows=2), tmp_path, devices=8)
    with pytest.raises(UserError, match="b2 is 0.999, at which a moment in bfloat16 stands still"):
        OptimizerConfig(1e-3, b2=0.999, moments="bfloat16")
    high = batch_of() | {"tokens": np.full((ROWS, TIME), SMOKE.vocab_size, np.int32)}
    with pytest.raises(UserError, match="step 0: token id 512 is outside the model's vocabulary of 512"):
        train(TRAINING, tmp_path / "ids", batch=lambda step, rows: high)


def poisoned(step: int, rows) -> dict:
    """A batch; update 3's has the one token whose weights are not numbers."""
    batch = batch_of(step)
    batch["tokens"] = np.where(batch["tokens"] == 7, 8, batch["tokens"])
    if step == 2:
        batch["tokens"][3, 5] = 7
    return batch


def poisoned_params(mesh) -> dict:
    params = init_params(SMOKE, 0, mesh)
    with jax.set_mesh(mesh):
        return params | {
            "embed": params["embed"] * jnp.where(jnp.arange(SMOKE.vocab_size) == 7, np.nan, 1)[:, None]
        }


def train_poisoned(folder, **options):
    mesh = MESHES[8]()
    params = poisoned_params(mesh)
    training = replace(TRAINING, loop=LoopConfig(steps=5, log_every=5, checkpoint_every=2), **options)
    return train_lm(
        training, SMOKE, mesh, batch=poisoned, start=lambda: params, folder=folder, description="lm"
    )


def test_an_update_that_is_not_finite_ends_the_run_and_its_batch_is_kept(tmp_path):
    with pytest.raises(
        UserError, match=r"step 3: the loss is nan; .*not_finite_000003_process_0.npz; --training.skip"
    ):
        train_poisoned(tmp_path)
    assert (tmp_path / "checkpoints/2").is_dir() and not (tmp_path / "checkpoints/4").exists()
    with np.load(tmp_path / "not_finite_000003_process_0.npz") as kept:
        np.testing.assert_array_equal(kept["tokens"], poisoned(2, None)["tokens"])
        np.testing.assert_array_equal(kept["rows"], range(ROWS))


def test_an_update_that_is_not_finite_can_be_left_out(tmp_path):
    """The run ends where one ends that never had this update; its row says so."""
    with_it = train_poisoned(tmp_path, skip_nonfinite=True)
    (row,) = read_metrics(tmp_path / "metrics.jsonl")
    assert row["skipped"] == 1 and np.isfinite(row["loss"])
    mesh, optimizer = MESHES[8](), make_optimizer(TRAINING.optimizer, 5)[0]
    state = start_state(SMOKE, optimizer, mesh, poisoned_params(mesh))
    step = make_train_step(SMOKE, optimizer, mesh)
    with jax.set_mesh(mesh):
        for number in (0, 1, 3, 4):
            state, _ = step(state, put_batch(poisoned(number, None), mesh))
    for a, b in zip(jax.tree.leaves(with_it), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_left_out_update_moves_the_schedule_on_and_nothing_else():
    mesh, optimizer = MESHES[8](), make_optimizer(OptimizerConfig(1e-3, warmup_steps=2), 10)[0]
    step = make_train_step(SMOKE, optimizer, mesh, skip_nonfinite=True)
    state = start_state(SMOKE, optimizer, mesh, poisoned_params(mesh))
    counts = []
    with jax.set_mesh(mesh):
        for number in range(4):
            state, metrics = step(state, put_batch(poisoned(number, None), mesh))
            names = {
                jax.tree_util.keystr(path): int(leaf)
                for path, leaf in jax.tree.leaves_with_path(state.opt_state)
                if leaf.dtype == jnp.int32
            }
            counts.append((*sorted(names.values()), int(state.step), bool(metrics["skipped"])))
    # Adam's count of the updates made, the schedule's place, the step
    assert counts == [(1, 1, 1, False), (2, 2, 2, False), (2, 3, 3, True), (3, 4, 4, False)]


@pytest.mark.parametrize("log_every", [1, 2])
def test_a_run_goes_on_after_updates_that_were_left_out(tmp_path, log_every):
    """Also where a row has no other update, and where a restart comes just before it."""

    def batch(step, rows):
        return poisoned(2 if step in (2, 3) else step, rows)

    def train_on(folder, steps):
        mesh = MESHES[8]()
        loop = LoopConfig(steps=steps, log_every=log_every, checkpoint_every=2)
        config = replace(TRAINING, loop=loop, skip_nonfinite=True)
        return train_lm(
            config,
            SMOKE,
            mesh,
            batch=batch,
            start=lambda: poisoned_params(mesh),
            folder=folder,
            description="lm",
        )

    whole = train_on(tmp_path / "whole", 6)
    train_on(tmp_path / "halves", 2)
    (tmp_path / "halves/done.json").unlink()
    halves = train_on(tmp_path / "halves", 6)
    jax.tree.map(np.testing.assert_array_equal, whole, halves)
    rows = read_metrics(tmp_path / "whole/metrics.jsonl")
    assert sum(row["skipped"] for row in rows) == 2 and [row["step"] for row in rows] == list(
        range(log_every, 7, log_every)
    )
    assert all("loss" in row or row["skipped"] == log_every for row in rows)
