"""Prompts that go through the update once for several completions: the numbers are those of plain rows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dsm_jax.mesh import batch_shards, parse_mesh, single_device_mesh
from dsm_jax.model.config import LoRA, RopeScaling
from dsm_jax.model.flat import Shared, flatten, unflatten
from dsm_jax.model.params import init_params, param_shardings
from dsm_jax.rl.journal import Journal
from dsm_jax.rl.micro_batches import Group, micro_batches, of_completions
from dsm_jax.rl.update import Whole, make_gradients
from dsm_jax.sample.request import Completion
from dsm_jax.train.logps import token_logps
from dsm_jax.train.step import put_batch
from tests.rl.small import MODEL, TRAINING, make, rollout, update

GQA = dataclasses.replace(MODEL, n_layers=2, n_kv_heads=2)


def random_groups(seed: int, prompts: int = 3, most: int = 6) -> list[Group]:
    """Of random sizes, with prompts and completions of random lengths."""
    rng = np.random.default_rng(seed)

    def completion() -> Completion:
        length = int(rng.integers(1, 32))
        tokens, logps = rng.integers(3, 64, length).astype(np.int32), rng.normal(-3, 1, length)
        return Completion("x", tokens, logps, logps, rng.random(length) < 0.1, "stop")

    def group() -> Group:
        count = int(rng.integers(2, most + 1))
        prompt = [1, *rng.integers(3, 64, rng.integers(0, 31)).tolist()]
        return Group(prompt, [completion() for _ in range(count)], rng.normal(size=count))

    return [group() for _ in range(prompts)]


def random_params(model, mesh, seed=0):
    """init_params, with numbers also where it has zeros and ones."""
    rng = np.random.default_rng(seed)
    leaves, tree = jax.tree.flatten(jax.device_get(init_params(model, seed, mesh)))
    leaves = [np.float32(leaf + 0.05 * rng.normal(size=leaf.shape)) for leaf in leaves]
    return jax.device_put(jax.tree.unflatten(tree, leaves), param_shardings(model, mesh))


def both(groups, tokens, mesh):
    """The same rows as micro-batches, plain and with shared prompts."""
    shards = batch_shards(mesh)
    plain = micro_batches(groups, tokens, shards=shards)
    shared = micro_batches(groups, tokens, shards=shards, share_prompts=True)
    assert all(batch["shared"].columns and batch["shared"].rows > 1 for batch in shared)
    return plain, shared


def drawn(batch, values):
    """Values of the drawn tokens, by their row's text."""
    rows = zip(batch["tokens"], batch["segment_ids"] > 0, batch["mask"] > 0, np.asarray(values), strict=True)
    return {tuple(tokens[there]): found[counts] for tokens, there, counts, found in rows if there.any()}


def assert_close(ours, wanted):
    def close(a, b):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)

    jax.tree.map(close, *map(jax.device_get, (ours, wanted)))


@pytest.mark.parametrize(
    "model, remat",
    [
        (GQA, "none"),
        (dataclasses.replace(GQA, rope_scaling=RopeScaling("linear", factor=2.0)), "dots"),
        (dataclasses.replace(GQA, lora=LoRA(rank=2)), "full"),
    ],
    ids=["grouped heads", "scaled rope", "lora"],
)
def test_log_probabilities_entropies_and_their_gradients(model, remat):
    mesh = single_device_mesh()
    params = random_params(model, mesh)

    def scored(params, batch):
        found = token_logps(
            model, params, batch["tokens"], batch["segment_ids"], remat=remat, shared=batch["shared"]
        )
        weighted = (found.logps * batch["mask"] * batch["advantages"]).sum() / 10
        return weighted, found

    run = jax.jit(jax.grad(scored, has_aux=True))
    with jax.set_mesh(mesh):
        (plain,), (shared,) = both(random_groups(1), 4096, mesh)
        (wanted, there), (ours, here) = (run(params, put_batch(one, mesh)) for one in (plain, shared))
    for name in ("logps", "entropies"):
        assert_close(drawn(shared, getattr(here, name)), drawn(plain, getattr(there, name)))
    assert_close(ours, wanted)
    assert np.abs(wanted["layers"]["k"]).max() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize(
    "items, tokens", [("fsdp=1", 4096), pytest.param("data=2,fsdp=2,tensor=2", 1024, marks=pytest.mark.slow)]
)
def test_losses_and_their_gradients_over_micro_batches(items, tokens):
    mesh = single_device_mesh() if items == "fsdp=1" else parse_mesh((items,))
    params, reference = (random_params(GQA, mesh, seed) for seed in (0, 1))
    compiled, found = make_gradients(TRAINING, GQA, mesh), []
    with jax.set_mesh(mesh):
        for batches in both(random_groups(2, prompts=5), tokens, mesh):
            rows = sum(int(batch["segment_ids"].max(axis=1).sum()) for batch in batches)
            whole = Whole(rows, sum(int(batch["mask"].sum()) for batch in batches))
            total, losses, kls = None, [], []
            for batch in batches:
                total, metrics, _ = compiled(total, params, reference, put_batch(batch, mesh), whole)
                losses.append(float(metrics["loss"].sum))
                kls.append(float(metrics["kl"].sum))
            found.append((total, sum(losses), whole))
            assert sum(kls) > 1
    (wanted, loss, rows), (ours, our_loss, our_rows) = found
    assert rows == our_rows and our_loss == pytest.approx(loss, abs=1e-5)
    assert_close(ours, wanted)


@pytest.mark.slow
def test_two_updates_of_a_rollout():
    """The first one's log-probabilities come back as the old ones of the second."""
    found = []
    for share in (False, True):
        grpo = make(dataclasses.replace(TRAINING, num_iterations=2, share_prompts=share))
        state = grpo.start(init_params(MODEL, 0, grpo.mesh))
        found.append(update(grpo, state, rollout(grpo, grpo.policy(state))))
    (wanted, metrics), (ours, our_metrics) = found
    for name in ("kl", "loss", "entropy", "grad_norm", "clip_ratio/region_mean"):
        assert our_metrics[name] == pytest.approx(metrics[name], abs=2e-5), name
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4),
        *(jax.device_get(one.train.params) for one in (ours, wanted)),
    )


def test_a_list_of_tokens_has_shared_columns_once():
    shared = Shared(columns=2, rows=2)
    rows = jnp.array([[1, 2, 3], [1, 2, 4], [5, 6, 7], [5, 6, 8]])
    with jax.set_mesh(single_device_mesh()):
        rows = jax.sharding.reshard(rows, jax.P(("data", "fsdp"), None))
        tokens = flatten(rows, shared)
        back = unflatten(tokens, rows.shape, shared)
    assert tokens.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    np.testing.assert_array_equal(back, rows)


@pytest.mark.parametrize("tokens, shards, share", [(128, 1, False), (4096, 8, False), (2048, 4, True)])
def test_log_probabilities_of_completions_fit_any_micro_batches(tokens, shards, share, tmp_path):
    """Kept from one device's, and laid out for a restart with another mesh: each token has its own again."""
    groups, rng, journal = random_groups(3, prompts=12, most=9), np.random.default_rng(0), Journal(tmp_path)
    batches = micro_batches(groups, 512)
    values = [rng.normal(size=batch["tokens"].shape).astype(np.float32) for batch in batches]
    journal.keep_old_logps(0, of_completions(batches, values))
    others = micro_batches(groups, tokens, shards=shards, share_prompts=share, old_logps=journal.old_logps(0))
    wanted, found = {}, {}
    for batch, value in zip(batches, values, strict=True):
        wanted |= drawn(batch, value)
    for batch in others:
        found |= drawn(batch, batch["old_logps"])
    assert len(batches) != len(others) and any(batch["shared"].columns for batch in others) == share
    assert len(wanted) == sum(len(group.completions) for group in groups)
    assert found.keys() == wanted.keys()
    for text in wanted:
        np.testing.assert_array_equal(found[text], wanted[text])


@pytest.mark.parametrize("prompt", [0, 60])
def test_micro_batches_hold_every_completion_once_and_fewer_tokens(prompt):
    """Of short prompts it may be that none is shared."""
    groups = random_groups(3, prompts=12, most=9)
    if prompt:
        groups = [dataclasses.replace(one, prompt_ids=[i + 3] * prompt) for i, one in enumerate(groups)]
    for shards in (1, 4):
        batches = micro_batches(groups, 512 * shards, shards=shards, share_prompts=True)
        ran = 0
        for batch in batches:
            shared, (rows, width) = batch["shared"], batch["tokens"].shape
            assert rows % (shards * shared.rows) == 0
            if not shared.columns:
                ran += rows * width
                continue
            prompts = batch["tokens"][:, : shared.columns].reshape(-1, shared.rows, shared.columns)
            there = (batch["segment_ids"] > 0).any(axis=1).reshape(-1, shared.rows)
            assert (np.where(there[..., None], prompts, prompts[:, :1]) == prompts[:, :1]).all()
            part = shared.columns + shared.rows * (width - shared.columns)
            ran += rows // shared.rows * part
            assert rows // shared.rows * part <= 512 * shards
        plain = micro_batches(groups, 512 * shards, shards=shards)
        texts = [
            sorted(text for batch in some for text in drawn(batch, batch["mask"]))
            for some in (plain, batches)
        ]
        assert texts[0] == texts[1]
        most = sum(batch["tokens"].size for batch in plain)
        assert ran < most if prompt else ran <= most
