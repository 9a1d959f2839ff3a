"""The loss against its closed form and finite differences; over micro-batches and meshes it is one batch's."""

from __future__ import annotations

from functools import lru_cache, partial

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.mesh import parse_mesh, single_device_mesh
from dsm_jax.model.params import init_params
from dsm_jax.rl.reward_model.loss import LABELS, MASK, at_step_ends, binary_cross_entropy
from dsm_jax.rl.reward_model.readout import Readout, step_scores
from dsm_jax.train.optimizer import OptimizerConfig, make_optimizer
from dsm_jax.train.step import accumulated, make_train_step, put_batch, start_state, targets_of
from tests.rl.reward_model.cases import CONFIG, MESH, PLUS_MINUS

ROWS, TIME = 16, 24
CROSS_ENTROPY = jax.jit(binary_cross_entropy)
MESHES = {1: single_device_mesh, 8: lambda: parse_mesh((MESH,))}


def batch_of(seed: int = 0) -> dict[str, np.ndarray]:
    """Two solutions a row; rows with very different numbers of steps, one of them with none."""
    rng = np.random.default_rng(seed)
    mask = (rng.random((ROWS, TIME)) < rng.random((ROWS, 1)) ** 2).astype(np.float32)
    mask[3] = 0
    return {
        "tokens": rng.integers(0, 100, (ROWS, TIME)).astype(np.int32),
        "segment_ids": np.repeat([[1] * 11 + [2] * 13], ROWS, axis=0).astype(np.int32),
        LABELS: rng.random((ROWS, TIME)).astype(np.float32),  # also where no step ends: it must not count
        MASK: mask,
    }


def loss_of(params, batch, mask=MASK):
    return at_step_ends(PLUS_MINUS).loss(CONFIG, params, batch, "none", targets_of(batch[mask]))


@given(st.floats(-30, 30), st.floats(0, 1))
def test_cross_entropy_is_its_closed_form(score, label):
    p = 1 / (1 + np.exp(-np.float64(np.float32(score))))
    expected = -(np.float32(label) * np.log(p) + (1 - np.float64(np.float32(label))) * np.log1p(-p))
    found = float(CROSS_ENTROPY(np.float32(score), np.float32(label)))
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-12)


def test_large_scores_stay_exact_and_finite():
    scores = np.array([1e4, -1e4, 1e4, -1e4, 40.0, -40.0], np.float32)
    labels = np.array([1, 0, 0, 1, 1, 0.5], np.float32)
    losses, gradients = jax.vmap(jax.value_and_grad(binary_cross_entropy))(scores, labels)
    np.testing.assert_allclose(losses, [0, 0, 1e4, 1e4, np.exp(-40.0), 20], rtol=1e-6)
    np.testing.assert_allclose(gradients, [0, 0, 1, -1, -np.exp(-40.0), -0.5], rtol=1e-6, atol=1e-17)


def test_only_step_ends_count():
    mesh = MESHES[1]()
    params, batch = init_params(CONFIG, 0, mesh), batch_of()
    scores_of = jax.jit(lambda p, b: step_scores(CONFIG, p, b["tokens"], b["segment_ids"], PLUS_MINUS))
    value = jax.jit(jax.value_and_grad(loss_of))
    with jax.set_mesh(mesh):
        scores = np.float64(scores_of(params, batch))
        found, gradient = value(params, batch)
        batch[LABELS] = np.where(batch[MASK] > 0, batch[LABELS], 7.0)
        again, same = value(params, batch)
    assert again == found
    jax.tree.map(np.testing.assert_array_equal, gradient, same)
    here = batch[MASK] > 0
    p = 1 / (1 + np.exp(-scores[here]))
    labels = batch[LABELS][here]
    assert float(found) == pytest.approx(
        -(labels * np.log(p) + (1 - labels) * np.log(1 - p)).mean(), rel=1e-5
    )


def test_the_gradient_is_that_of_finite_differences():
    mesh = MESHES[1]()
    params, batch = init_params(CONFIG, 0, mesh), batch_of()
    rng = np.random.default_rng(1)
    with jax.set_mesh(mesh):
        value = jax.jit(partial(loss_of, batch=batch))
        gradient = jax.jit(jax.grad(partial(loss_of, batch=batch)))(params)
        for _ in range(3):
            way = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), params)
            slope = sum(map(np.vdot, jax.tree.leaves(jax.device_get(gradient)), jax.tree.leaves(way)))
            near = [jax.tree.map(lambda p, w, e=e: p + e * w, params, way) for e in (1e-3, -1e-3)]
            differences = (float(value(near[0])) - float(value(near[1]))) / 2e-3
            assert differences == pytest.approx(slope, rel=2e-2, abs=2e-3)
    for token, column in enumerate(np.asarray(gradient["head"]).T):
        assert column.any() == (token in PLUS_MINUS.ids)


@lru_cache
def loss_and_gradient(devices, parts):
    mesh = MESHES[devices]()

    def gradient(params, batch):
        total = targets_of(batch[MASK])

        def part(params, rows):
            return at_step_ends(Readout(100)).loss(CONFIG, params, rows, "full", total)

        return accumulated(part, params, batch, parts)

    with jax.set_mesh(mesh):
        return jax.device_get(jax.jit(gradient)(init_params(CONFIG, 0, mesh), put_batch(batch_of(), mesh)))


@pytest.mark.parametrize(("devices", "parts"), [(1, 2), (8, 1), (8, 2)])
def test_micro_batches_and_meshes_are_one_batch(devices, parts):
    (whole_loss, whole), (loss, summed) = loss_and_gradient(1, 1), loss_and_gradient(devices, parts)
    assert abs(loss - whole_loss) <= 1e-6 * whole_loss
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(summed), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(a).max())


def test_a_train_step_lowers_the_loss_and_counts_the_steps():
    mesh = MESHES[1]()
    optimizer, _ = make_optimizer(OptimizerConfig(peak_lr=3e-3, schedule="constant"), 20)
    state = start_state(CONFIG, optimizer, mesh, init_params(CONFIG, 0, mesh))
    step = make_train_step(CONFIG, optimizer, mesh, micro_batches=4, objective=at_step_ends(PLUS_MINUS))
    losses = []
    with jax.set_mesh(mesh):
        for _ in range(20):
            state, metrics = step(state, put_batch(batch_of(), mesh))
            losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.7 * losses[0]
    assert int(metrics["num_steps"]) == batch_of()[MASK].sum() and "num_tokens" not in metrics
