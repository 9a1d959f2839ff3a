"""An update is exact: however its batch is cut up and wherever it lies, it is the paper's.

Of the loss as a function of log-probabilities test_objectives.py says more, of several processes test_two_processes.py.
"""

from __future__ import annotations

import dataclasses
import re
from itertools import product
from math import prod
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from jax.sharding import reshard

from dsm_jax.mesh import BATCH, batch_sharding, batch_shards, parse_mesh, single_device_mesh
from dsm_jax.model.config import SMOKE
from dsm_jax.model.decoder import abstract
from dsm_jax.model.params import abstract_params, param_shapes, param_shardings
from dsm_jax.rl import update as update_module
from dsm_jax.rl.micro_batches import Group, micro_batches
from dsm_jax.rl.objectives import GRPOConfig, grpo_loss
from dsm_jax.rl.update import Learner, Whole, make_gradients
from dsm_jax.sample.request import Completion
from dsm_jax.train.logps import CHUNK, TokenLogps
from dsm_jax.train.step import put_batch
from tests.rl.small import MODEL, OPTIONS, TRAINING

MESHES = {1: single_device_mesh, 8: lambda: parse_mesh("data=2,fsdp=2,tensor=2")}
GROUPS, EACH = 3, 4
ROWS = GROUPS * EACH
FAST = ("grpo",)


@pytest.fixture
def float64(monkeypatch):
    """The model's place is taken by one that computes in float64 (its own logits are float32): a token's distribution
    depends on the token before it, through the embedding and the head."""

    def logps(config, model, params, batch):
        tokens = reshard(batch["tokens"], P(BATCH, None))
        rows = reshard(params["embed"], P()).at[tokens[:, :-1]].get(out_sharding=P(BATCH, None, None))
        log_p = jax.nn.log_softmax(rows @ reshard(params["head"], P()))
        chosen = jnp.where(jnp.arange(model.vocab_size) == tokens[:, 1:, None], log_p, 0.0).sum(-1)
        found = chosen, -(jnp.exp(log_p) * log_p).sum(-1), jnp.zeros_like(chosen)
        return TokenLogps(*(jnp.pad(one, ((0, 0), (1, 0))) for one in found))

    with jax.enable_x64(True):
        abstract.cache_clear()  # shapes of other tests, in float32
        monkeypatch.setattr(update_module, "policy_logps", logps)
        yield logps
    abstract.cache_clear()


def params_of(seed: int, mesh=None):
    """Float64, a little apart from those of another seed."""
    rng, near = np.random.default_rng(0), np.random.default_rng(seed)
    made = jax.tree.map(
        lambda one: rng.normal(size=one.shape) * 0.4 + near.normal(size=one.shape) * 0.05, param_shapes(MODEL)
    )
    return jax.device_put(made, param_shardings(MODEL, mesh or single_device_mesh()))


def some_groups() -> list[Group]:
    """Prompts and completions of many lengths; a tool wrote some of the tokens, and a group has no spread."""
    rng = np.random.default_rng(0)

    def completion(length: int) -> Completion:
        logps = -rng.exponential(2.0, length).astype(np.float32)
        tokens = rng.integers(0, MODEL.vocab_size, length).astype(np.int32)
        return Completion("", tokens, logps, logps, rng.random(length) < 0.1, "stop")

    return [
        Group(
            rng.integers(0, MODEL.vocab_size, 4 + i).tolist(),
            [completion(int(length)) for length in rng.integers(2, 50, EACH)],
            (i < GROUPS - 1) * rng.normal(size=EACH),
        )
        for i in range(GROUPS)
    ]


def old_logps(batch) -> np.ndarray:
    """Of a policy near ours, [rows, T]."""
    params = jax.device_get(params_of(3))
    logits = params["embed"][batch["tokens"][:, :-1]] @ params["head"]
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    chosen = np.take_along_axis(log_p, batch["tokens"][:, 1:, None], axis=-1)[..., 0]
    return np.pad(chosen, ((0, 0), (1, 0)))


def in_micro_batches(config, mesh, old: bool):
    """Loss, gradient and metrics of an update as the learner makes it."""
    learner, caught = Learner(config, MODEL, mesh), []
    learner.apply = lambda train, gradients: caught.append(gradients) or (train, 0.0)
    batch = micro_batches(some_groups(), config.micro_batch_tokens, shards=batch_shards(mesh))
    assert len(batch) > 1 and len({micro["tokens"].shape for micro in batch}) > 1
    train = SimpleNamespace(params=params_of(1, mesh), step=1)
    batch = [micro | ({"old_logps": old_logps(micro)} if old else {}) for micro in batch]
    _, metrics, _ = learner.update(train, params_of(2, mesh), batch, ROWS).finish()
    return metrics, jax.device_get(caught[0])


def in_one_batch(logps, config):
    """The same of the loss by itself, on one device, with neither totals nor a threshold given."""
    (batch,) = micro_batches(some_groups(), 16 * 64)
    del batch["shared"]
    batch = {name: array[:ROWS] for name, array in (batch | {"old": old_logps(batch)}).items()}

    @jax.jit
    def loss(params, other, batch):
        policy, ref = (logps(None, MODEL, one, batch) for one in (params, other))
        return grpo_loss(
            policy.logps, batch["old"], ref.logps, batch["advantages"], batch["mask"], config,
            sampler_logps=batch["sampler_logps"], entropies=policy.entropies,
        ).loss  # fmt: skip

    mesh = single_device_mesh()
    with jax.set_mesh(mesh):
        value, gradient = jax.value_and_grad(loss)(params_of(1), params_of(2), put_batch(batch, mesh))
    return float(value), jax.device_get(gradient)


CASES = [
    pytest.param(option, devices, marks=[] if devices == 8 and option in FAST else pytest.mark.slow)
    for option, devices in product(OPTIONS, MESHES)
]


@pytest.mark.parametrize("option, devices", CASES)
def test_micro_batches_are_one_batch(float64, option, devices):
    """Loss and gradient within 1e-12, of every kind of loss, on one device and on eight."""
    options = {"max_completion_length": 64} | OPTIONS[option]
    config = dataclasses.replace(TRAINING, loss=GRPOConfig(**options), micro_batch_tokens=128)
    metrics, gradient = in_micro_batches(config, MESHES[devices](), old=True)
    loss, expected = in_one_batch(float64, config.loss)
    assert metrics["loss"] == pytest.approx(loss, rel=0, abs=1e-12) and abs(loss) > 1e-3
    for name in ("embed", "head"):
        assert np.abs(expected[name]).max() > 1e-3
        np.testing.assert_allclose(gradient[name], expected[name], rtol=0, atol=1e-12)


@pytest.mark.slow
def test_the_first_update_of_a_rollout_follows_the_paper_s_eq_21(float64):
    """Ahat + beta (pi_ref / pi - 1) for each token, over its row's length and the number of rows."""
    config = dataclasses.replace(TRAINING, micro_batch_tokens=128)
    metrics, gradient = in_micro_batches(config, single_device_mesh(), old=False)
    (batch,), mesh = micro_batches(some_groups(), 16 * 64), single_device_mesh()
    with jax.set_mesh(mesh):
        there = put_batch(batch, mesh)
        logps, pull = jax.vjp(lambda params: float64(None, MODEL, params, there).logps, params_of(1))
        ref = float64(None, MODEL, params_of(2), there).logps
        mask, kl = batch["mask"].astype(float), np.exp(np.asarray(ref) - np.asarray(logps)) - 1
        weights = mask / np.maximum(mask.sum(axis=1, keepdims=True), 1) / ROWS
        coefficients = batch["advantages"] + 0.04 * kl
        (expected,) = pull(put_batch({"": -coefficients * weights}, mesh)[""])
    for name in ("embed", "head"):
        np.testing.assert_allclose(gradient[name], expected[name], rtol=0, atol=1e-12)
    assert metrics["clip_ratio/region_mean"] == 0  # all ratios are 1


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 8])
def test_no_array_of_an_update_has_a_number_for_each_token_and_word(devices, monkeypatch):
    """[B, T, V] never exists, nor a third of it: logits are made for CHUNK tokens at a time."""
    mesh, model, rows, time = MESHES[devices](), dataclasses.replace(SMOKE, vocab_size=6144), 1024, 32
    programs, jit = [], jax.jit
    with monkeypatch.context() as patch:
        patch.setattr(jax, "jit", lambda f, **options: programs.append(jit(f, **options)) or programs[-1])
        make_gradients(TRAINING, model, mesh)

    def array(shape, dtype):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=batch_sharding(mesh))

    batch = {
        name: array((rows, time), np.float32) for name in ("mask", "sampler_logps", "old_logps", "advantages")
    }
    batch |= {name: array((rows, time), np.int32) for name in ("tokens", "segment_ids")}
    params = abstract_params(model, mesh)
    with jax.set_mesh(mesh):
        text = programs[0].lower(params, params, params, batch, Whole(rows, 9)).compile().as_text()
    tokens, vocab = rows * time // batch_shards(mesh), model.vocab_size // mesh.shape["tensor"]
    sizes = [prod(map(int, dims.split(","))) for dims in re.findall(r"\w+\[([\d,]+)\]", text)]
    assert CHUNK * vocab in sizes and max(sizes) < tokens * vocab // 3
