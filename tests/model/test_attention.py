"""Attention: every implementation equals the plain softmax, forward and backward, and keeps documents apart."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from dsm_jax.mesh import AXES, BATCH, EXPLICIT, parse_mesh, single_device_mesh
from dsm_jax.model.attention import (
    attention_for,
    blockwise_attention,
    on_each_device,
    pallas_attention,
    splash_attention,
)
from dsm_jax.model.config import SMOKE
from dsm_jax.model.params import abstract_params
from dsm_jax.train.step import lm_loss

IMPLEMENTATIONS = {
    "blockwise": partial(blockwise_attention, block=48),
    "pallas": partial(on_each_device, partial(pallas_attention, interpret=True)),
    "splash": partial(on_each_device, partial(splash_attention, interpret=True)),
}
ROWS, TIME, KV, GROUP, WIDTH = 2, 150, 2, 2, 128  # 150 fills no kernel's blocks
SEGMENTS = np.repeat([[1] * 70 + [2] * 60 + [0] * 20], ROWS, axis=0).astype(np.int32)


@pytest.fixture(autouse=True)
def one_device():
    with jax.set_mesh(single_device_mesh()):
        yield


def inputs(seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    shapes = (ROWS, TIME, KV, GROUP, WIDTH), (ROWS, TIME, KV, WIDTH), (ROWS, TIME, KV, WIDTH)
    return tuple(rng.standard_normal(shape).astype(np.float32) for shape in shapes)


def numpy_attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """In float64, from the definition."""
    scores = np.einsum("btkgh,bskh->bkgts", q, k, dtype=np.float64) / np.sqrt(q.shape[-1])
    allowed = np.tril(np.ones((q.shape[1], q.shape[1]), bool)) & (segments[:, :, None] == segments[:, None])
    scores = np.where(allowed[:, None, None], scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bkgts,bskh->btkgh", weights / weights.sum(-1, keepdims=True), v)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_equals_the_definition(name):
    out = jax.jit(IMPLEMENTATIONS[name])(*inputs(), SEGMENTS)
    np.testing.assert_allclose(out, numpy_attention(*inputs(), SEGMENTS), atol=1e-5)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_gradients_equal_the_plain_softmax(name):
    weights = np.random.default_rng(1).standard_normal(inputs()[0].shape).astype(np.float32)

    def loss(attend, q, k, v):
        return jnp.sum(attend(q, k, v, SEGMENTS) * weights)

    plain, ours = (
        jax.jit(jax.grad(partial(loss, attend), argnums=(0, 1, 2)))(*inputs())
        for attend in (partial(blockwise_attention, block=TIME), IMPLEMENTATIONS[name])
    )
    for a, b in zip(plain, ours, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_documents_never_see_each_other(name):
    attend = jax.jit(IMPLEMENTATIONS[name])
    before = attend(*inputs(), SEGMENTS)
    changed = [
        np.where(np.arange(TIME).reshape(1, -1, *[1] * (a.ndim - 2)) < 70, b, a)
        for a, b in zip(inputs(), inputs(9), strict=True)
    ]
    after = attend(*changed, SEGMENTS)
    np.testing.assert_array_equal(before[:, 70:], after[:, 70:])
    assert np.abs(before[:, :70] - after[:, :70]).max() > 0.1


def test_the_devices_decide_not_the_default_backend():
    assert attention_for("cpu", 128) is blockwise_attention
    assert attention_for("tpu", 64) is blockwise_attention  # splash takes heads of 128 only
    assert attention_for("tpu", 128).args == (splash_attention,)
    assert attention_for("gpu", 128).args == (pallas_attention,)
    with pytest.raises(ValueError, match="no attention for the platform 'npu'"):
        attention_for("npu", 128)


def mesh_of(platform: str) -> jax.sharding.AbstractMesh:
    """Of devices that are not here."""
    device = jax.sharding.AbstractDevice(platform, None, platform=platform)
    return jax.sharding.AbstractMesh((1, 1, 1), AXES, axis_types=EXPLICIT, abstract_device=device)


@pytest.mark.parametrize("remat, runs", [("none", 1), ("dots", 1), ("full", 2)])
@pytest.mark.parametrize("platform, kernel", [("tpu", "splash_mqa_fwd"), ("cuda", "mha_forward")])
def test_a_program_for_another_platform_has_its_kernel(platform, kernel, remat, runs):
    """Once, unless everything is to be made again; traced for a mesh of devices that are not here."""
    config, mesh = replace(SMOKE, head_dim=128), mesh_of(platform)

    def loss(params, ids):
        batch = {"tokens": ids, "segment_ids": ids, "loss_mask": ids}
        return lm_loss(config, params, batch, remat)

    with jax.sharding.use_abstract_mesh(mesh):
        ids = jax.ShapeDtypeStruct((2, 256), jnp.int32, sharding=jax.NamedSharding(mesh, P(BATCH)))
        text = str(jax.make_jaxpr(jax.grad(loss))(abstract_params(config, mesh), ids))
    assert text.count(f"name={kernel}") == runs and "pallas_call" in text


def test_a_mesh_changes_nothing():
    """The same numbers with rows over data and fsdp and heads over tensor."""
    mesh = parse_mesh(("data=1,fsdp=2,tensor=2",), jax.devices()[:4])
    q, k, v = inputs()
    with jax.set_mesh(mesh):
        grouped, heads = (
            P(("data", "fsdp"), None, "tensor", None, None),
            P(("data", "fsdp"), None, "tensor", None),
        )
        arrays = [
            jax.device_put(a, jax.NamedSharding(mesh, s)) for a, s in ((q, grouped), (k, heads), (v, heads))
        ]
        segments = jax.device_put(SEGMENTS, jax.NamedSharding(mesh, P(("data", "fsdp"), None)))
        for attend in IMPLEMENTATIONS.values():
            out = jax.jit(attend)(*arrays, segments)
            np.testing.assert_allclose(out, numpy_attention(q, k, v, SEGMENTS), atol=1e-5)


def test_long_sequences_keep_no_square_of_scores():
    t, block = 2048, 64
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((1, t, 1, 1, 16), (1, t, 1, 16), (1, t, 1, 16))]

    def loss(q, k, v):
        return jnp.sum(blockwise_attention(q, k, v, jnp.ones((1, t), jnp.int32), block=block) ** 2)

    compiled = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(*shapes).compile()
    assert f"{t},{t}]" not in compiled.as_text()
    assert compiled.memory_analysis().temp_size_in_bytes < 16 * block * t * 4 < t * t * 4
