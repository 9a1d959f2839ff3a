"""The critic's values, its loss, and what PPO makes of them."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dsm_jax.mesh import parse_mesh, single_device_mesh
from dsm_jax.model.params import init_params
from dsm_jax.rl.micro_batches import Group, micro_batches
from dsm_jax.rl.paradigm.critic import Critic, make_forward, token_values, value_loss
from dsm_jax.rl.paradigm.gae import gae
from dsm_jax.rl.reward_model.readout import Readout
from dsm_jax.sample.request import Completion
from dsm_jax.train.logps import token_logps
from dsm_jax.train.step import put_batch
from tests.rl.paradigm.setting import CONFIG
from tests.rl.small import MODEL, Letters


def batch_of(tokens):
    return {"tokens": np.int32(tokens), "segment_ids": np.ones(np.shape(tokens), np.int32)}


def values_of(params, tokens, model=MODEL, mesh=None, column=1):
    mesh = mesh or single_device_mesh()

    def forward(config, model, params, batch):
        return token_values(config, model, params, batch, readout=Readout(column))

    with jax.set_mesh(mesh):
        program = make_forward(CONFIG.training, model, mesh, forward)
        return np.asarray(program(params, put_batch(batch_of(tokens), mesh)))


@pytest.mark.parametrize("tied", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_value_is_of_the_tokens_before_it(tied):
    """It is the logit of the readout's token where the token is drawn; the tokens from there on change nothing."""
    model = dataclasses.replace(MODEL, tie_embeddings=tied)
    params = init_params(model, 0, single_device_mesh())
    tokens = np.random.default_rng(0).integers(4, 60, (8, 6))
    values = values_of(params, tokens, model)
    asked = tokens.copy()
    with jax.set_mesh(single_device_mesh()):
        for t in (1, 3, 5):
            asked = tokens.copy()
            asked[:, t] = 1
            scored = token_logps(model, params, jnp.int32(asked), jnp.ones((8, 6), jnp.int32))
            np.testing.assert_allclose(values[:, t], (scored.logps + scored.normalizers)[:, t], atol=1e-5)
    later = tokens.copy()
    later[:, 3] = 5
    moved = values_of(params, later, model)
    np.testing.assert_array_equal(moved[:, :4], values[:, :4])
    assert (np.abs(moved - values)[:, 4:] > 1e-6)[tokens[:, 3] != 5].any()


def test_first_values_are_zero_and_the_trunk_is_the_policy_s():
    mesh = single_device_mesh()
    params = init_params(MODEL, 0, mesh)
    state = Critic(CONFIG, MODEL, Letters(), mesh).start(params)
    forward = Critic(CONFIG, MODEL, Letters(), mesh).values
    with jax.set_mesh(mesh):
        assert not np.asarray(forward(state.params, put_batch(batch_of(np.full((8, 5), 7)), mesh))).any()
    same = jax.tree.map(lambda a, b: bool((a == b).all()), state.params, params)
    assert not same.pop("head") and all(jax.tree.leaves(same))


def test_eight_devices_give_the_same_values():
    tokens = np.random.default_rng(0).integers(4, 60, (8, 6))
    found = [
        values_of(init_params(MODEL, 0, mesh), tokens, mesh=mesh)
        for mesh in (single_device_mesh(), parse_mesh(("data=2,fsdp=2,tensor=2",)))
    ]
    np.testing.assert_allclose(*found, atol=1e-5)
    assert np.abs(found[0]).max() > 0.01


@pytest.mark.parametrize("clip", [0.0, 0.2])
def test_the_value_loss(clip):
    rng = np.random.default_rng(0)
    values, returns, old = rng.normal(size=(3, 4, 7))
    mask = rng.random((4, 7)) < 0.6
    mask[2] = False
    found = value_loss(*map(jnp.asarray, (np.where(mask, values, np.nan), returns, old, mask)), clip)
    for row in range(4):
        errors = []
        for t in np.flatnonzero(mask[row]):
            v, r, o = values[row, t], returns[row, t], old[row, t]
            moved = o + min(max(v - o, -clip), clip)
            errors.append(max((v - r) ** 2, (moved - r) ** 2) if clip else (v - r) ** 2)
        assert float(found[row]) == pytest.approx(0.5 * np.mean(errors) if errors else 0.0, rel=1e-6)


def test_columns_are_gae_over_rewards_with_the_kl():
    """Against the pieces by hand, a completion at a time; the reference is another model."""
    mesh, rng = single_device_mesh(), np.random.default_rng(0)
    policy, reference, other = (init_params(MODEL, seed, mesh) for seed in range(3))
    nothing = np.zeros(5, np.float32)

    def completion(length: int) -> Completion:
        tokens = rng.integers(4, 60, length).astype(np.int32)
        return Completion("", tokens, nothing[:length], nothing[:length], np.zeros(length, bool), "stop")

    groups = [Group([1, 9, 8], [completion(t) for t in lengths], np.zeros(2)) for lengths in ((3, 5), (1, 4))]
    flat = [(group.prompt_ids, one) for group in groups for one in group.completions]
    placed = [rng.random(len(one.tokens)).astype(np.float32) for _, one in flat]
    critic = Critic(CONFIG, MODEL, Letters(), mesh)
    found = critic.columns(policy, reference, other, micro_batches(groups, 1024), placed)
    lengths = [len(one.tokens) for _, one in flat]
    tokens = np.stack([np.pad([*prompt, *one.tokens], (0, 5 - len(one.tokens))) for prompt, one in flat])
    score = jax.jit(partial(token_logps, MODEL))
    with jax.set_mesh(mesh):
        logps, refs = (
            score(params, jnp.int32(tokens), jnp.ones_like(tokens)).logps for params in (policy, reference)
        )
    kl, values = np.asarray(logps - refs)[:, 3:], values_of(other, tokens, column=0)[:, 3:]
    for at, t in enumerate(lengths):
        rewards = np.pad(placed[at], (0, 5 - t)) - CONFIG.training.loss.beta * kl[at]
        mask = np.arange(5)[None] < t
        wanted = gae(rewards[None], values[at : at + 1], mask, gamma=1.0, lam=0.95)
        np.testing.assert_allclose(found["advantages"][at], wanted[0][0, :t], atol=1e-5)
        np.testing.assert_allclose(found["returns"][at], wanted[1][0, :t], atol=1e-5)
        np.testing.assert_allclose(found["values"][at], values[at, :t], atol=1e-5)
