"""Prompts that go through the update once for several completions: the numbers are those of plain rows."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dsm_jax.mesh import parse_mesh, single_device_mesh
from dsm_jax.model import lora
from dsm_jax.model.config import LoRA, RopeScaling
from dsm_jax.model.flat import Shared, flatten, unflatten
from dsm_jax.model.params import init_params
from dsm_jax.rl.micro_batches import Group, micro_batches
from dsm_jax.rl.objectives import GRPOConfig
from dsm_jax.rl.reference import make_reference
from dsm_jax.rl.update import Whole, make_gradients
from dsm_jax.sample.request import Completion
from dsm_jax.train.step import put_batch
from tests.rl.small import MODEL, TRAINING

GQA = dataclasses.replace(MODEL, n_layers=2, n_kv_heads=2)
EIGHT = "data=2,fsdp=2,tensor=2"


def random_groups(seed: int, prompts: int = 3, most: int = 6, longest: int = 40) -> list[Group]:
    """Of random sizes, with prompts and completions of random lengths."""
    rng = np.random.default_rng(seed)

    def completion() -> Completion:
        length = int(rng.integers(1, longest))
        tokens, logps = rng.integers(3, 64, length).astype(np.int32), rng.normal(-3, 1, length)
        return Completion("x", tokens, logps, logps, rng.random(length) < 0.1, "stop")

    def group() -> Group:
        count = int(rng.integers(1, most + 1))
        prompt = [1, *rng.integers(3, 64, rng.integers(0, 40)).tolist()]
        return Group(prompt, [completion() for _ in range(count)], rng.normal(size=count))

    return [group() for _ in range(prompts)]


def gradients_of(batches, config, model, mesh):
    """Over micro-batches: the sum of gradients, the loss, and log-probabilities by row."""
    with jax.set_mesh(mesh):
        base = init_params(lora.plain(model), 0, mesh)
        params = jax.tree.map(lambda a: a + 0.01, lora.start(model, base, 1, mesh))
        compiled = make_gradients(config, model, mesh)
        reference = make_reference(model, base, mesh)
        rows = sum(int(batch["segment_ids"].max(axis=1).sum()) for batch in batches)
        whole = Whole(rows, sum(int(batch["mask"].sum()) for batch in batches))
        total, loss, found = None, 0.0, {}
        for batch in batches:
            total, metrics, logps = compiled(total, params, reference, put_batch(batch, mesh), whole)
            loss += float(metrics["loss"].sum)
            found |= drawn(batch, np.asarray(logps))
    return jax.device_get(total), loss, found


def drawn(batch, logps):
    """Log-probabilities of drawn tokens, by the row's tokens."""
    rows = zip(batch["tokens"], batch["segment_ids"] > 0, batch["mask"] > 0, logps, strict=True)
    return {tuple(tokens[there]): logps[counts] for tokens, there, counts, logps in rows if there.any()}


def assert_same(groups, config, model, mesh, tokens=4096):
    make_batches = partial(micro_batches, groups, tokens, shards=mesh.size // mesh.shape["tensor"])
    shared = make_batches(share_prompts=True)
    assert all(batch["shared"].columns for batch in shared)
    wanted, loss, logps = gradients_of(make_batches(), config, model, mesh)
    ours, our_loss, our_logps = gradients_of(shared, config, model, mesh)
    assert our_loss == pytest.approx(loss, abs=1e-5)
    assert our_logps.keys() == logps.keys()
    for row, values in logps.items():
        np.testing.assert_allclose(our_logps[row], values, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours, wanted)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(wanted)) > 1e-2


def assert_works(model, remat="none", **loss):
    config = dataclasses.replace(TRAINING, remat=remat, loss=GRPOConfig(**loss))
    assert_same(random_groups(1), config, model, single_device_mesh())


def test_a_list_of_tokens_has_shared_columns_once():
    shared = Shared(columns=2, rows=2)
    rows = jnp.array([[1, 2, 3], [1, 2, 4], [5, 6, 7], [5, 6, 8]])
    with jax.set_mesh(single_device_mesh()):
        rows = jax.sharding.reshard(rows, jax.P(("data", "fsdp"), None))
        tokens = flatten(rows, shared)
        back = unflatten(tokens, rows.shape, shared)
    assert tokens.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    np.testing.assert_array_equal(back, rows)


def test_plain_rows():
    assert_works(GQA)


def test_scaled_rope_and_remat_dots():
    scaling = RopeScaling("linear", factor=2.0)
    assert_works(dataclasses.replace(GQA, rope_scaling=scaling), "dots", loss_type="dapo")


def test_lora_and_full_remat():
    assert_works(dataclasses.replace(GQA, lora=LoRA(rank=2)), "full", importance_sampling_level="sequence")


def test_eight_devices():
    assert_same(random_groups(2, prompts=5), TRAINING, GQA, parse_mesh((EIGHT,)))
