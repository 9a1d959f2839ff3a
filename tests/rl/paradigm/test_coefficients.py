"""Each method's loss, differentiated, is eq. 5 with its coefficient: through free logits, a decoder, and by differences."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsm_jax.mesh import single_device_mesh
from dsm_jax.model.params import init_params
from dsm_jax.rl.paradigm import coefficients, objectives
from dsm_jax.rl.paradigm.coefficients import Constants, Terms
from dsm_jax.train.logps import token_logps
from tests.rl.small import MODEL

METHODS = {
    "likelihood": (coefficients.as_given, objectives.likelihood_loss),
    "DPO": (coefficients.preference, objectives.preference_loss),
    "DPO of sums": (coefficients.preference_of_sums, objectives.preference_loss_of_sums),
    "PPO": (coefficients.clipped, objectives.clipped_loss),
    "GRPO": (coefficients.group_relative, objectives.group_relative_loss),
}
VOCABULARY = 5


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def rows_of(seed: int, pairs: int, length: int, name: str, far: float = 0.3):
    """(tokens, mask, advantages, log-probabilities of an old policy and of a reference) of 2 * pairs rows, float64.

    Masks have holes, and one row of three has no token; rows of DPO are pairs of a better and a worse one."""
    rng, b = np.random.default_rng(seed), 2 * pairs
    mask = rng.random((b, length)) < 0.7
    mask[:, 0] = True
    if "DPO" not in name and b > 2:
        mask[b // 2] = False
    advantages = rng.normal(size=(b, length))
    if "DPO" in name:
        advantages = np.tile([[1.0], [-1.0]], (pairs, length))
    tokens = rng.integers(0, VOCABULARY, (b, length))
    return tokens, mask, advantages, *(-rng.exponential(1.0, (2, b, length)) * far)


def gradients(loss, coefficient, constants, score, params, fixed, count):
    """Of the method's own loss, and of eq. 5 with its sign turned."""
    mask, advantages, old, ref = fixed

    def terms(params):
        logps = score(params)
        held = None if old is None else jax.lax.stop_gradient(logps + old)
        return Terms(logps, mask, advantages, held, ref)

    def eq5(params):
        known = terms(params)
        factor = jax.lax.stop_gradient(coefficient(known, constants))
        tokens = jnp.where(mask, factor * known.logps, 0.0).sum(axis=1)
        return -(tokens / jnp.maximum(1, mask.sum(axis=1))).sum() / count

    known = jax.grad(lambda params: loss(terms(params), constants)[0] / len(mask))(params)
    return known, jax.grad(eq5)(params)


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.sampled_from([(1, 1), (2, 7)]),  # pairs, tokens: lengths are the mask's
    several=st.booleans(),
    beta=st.sampled_from([0.04, 2.0]),
)
def test_a_loss_s_gradient_is_its_coefficient_s_through_free_logits(name, seed, shape, several, beta):
    """several: the old policy is another one, as after the first of several updates."""
    rng = np.random.default_rng(seed)
    tokens, mask, advantages, _, ref = rows_of(seed, *shape, name)
    logits = rng.normal(size=(*tokens.shape, VOCABULARY))
    shift = rng.normal(size=tokens.shape) * 0.3 if several else None
    known, paper = of_free_logits(name, beta, tokens, logits, (mask, advantages, shift, ref))
    np.testing.assert_allclose(known, paper, rtol=1e-12, atol=1e-14)


@partial(jax.jit, static_argnums=(0, 1))
def of_free_logits(name, beta, tokens, logits, fixed):
    coefficient, loss = METHODS[name]

    def score(logits):
        return jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[..., None], axis=-1)[..., 0]

    count = len(tokens) // 2 if "DPO" in name else len(tokens)  # eq. 13's expectation is over pairs
    return gradients(loss, coefficient, Constants(beta=beta), score, logits, fixed, count)


@pytest.mark.parametrize("name", METHODS)
def test_a_loss_s_gradient_is_its_coefficient_s_through_a_decoder(name):
    """The decoder computes in float32."""
    coefficient, loss = METHODS[name]
    tokens, mask, advantages, _, ref = rows_of(3, 2, 12, name)
    mask[:, 0] = False  # entry 0 of the log-probabilities means nothing
    mesh = single_device_mesh()
    with jax.enable_x64(False), jax.set_mesh(mesh):
        params = init_params(MODEL, 0, mesh)
        fixed = mask, jnp.float32(advantages), None, jnp.float32(ref)

        def score(params):
            return token_logps(MODEL, params, jnp.int32(tokens), jnp.ones(tokens.shape, jnp.int32)).logps

        count = 2 if "DPO" in name else 4
        both = jax.jit(lambda params: gradients(loss, coefficient, Constants(), score, params, fixed, count))
        known, paper = both(params)
    for one, other in zip(jax.tree.leaves(known), jax.tree.leaves(paper), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6 * max(1e-3, float(jnp.abs(one).max())))
    assert max(float(jnp.abs(one).max()) for one in jax.tree.leaves(known)) > 1e-4


def by_hand(name: str, logps, mask, advantages, old, ref, beta, epsilon=0.2) -> float:
    """The losses as the papers print them, a token at a time."""
    rows = range(len(logps))
    there = [[t for t in range(logps.shape[1]) if mask[i, t]] for i in rows]

    def mean(i, one):
        return sum(one(i, t) for t in there[i]) / max(1, len(there[i]))

    def surrogate(i, t):
        ratio, a = math.exp(logps[i, t] - old[i, t]), advantages[i, t]
        return min(ratio * a, min(max(ratio, 1 - epsilon), 1 + epsilon) * a)

    def k3(i, t):
        r = math.exp(ref[i, t] - logps[i, t])
        return r - math.log(r) - 1

    if name == "likelihood":
        return -sum(mean(i, lambda i, t: advantages[i, t] * logps[i, t]) for i in rows) / len(logps)
    if name == "PPO":
        return -sum(mean(i, surrogate) for i in rows) / len(logps)
    if name == "GRPO":
        each = (mean(i, lambda i, t: surrogate(i, t) - beta * k3(i, t)) for i in rows)
        return -sum(each) / len(logps)
    total = 0.0
    for i in range(0, len(logps), 2):
        d = [
            mean(j, lambda i, t: logps[i, t] - ref[i, t]) * (len(there[j]) if "sums" in name else 1)
            for j in (i, i + 1)
        ]
        total += math.log1p(math.exp(-beta * (d[0] - d[1])))
    return total / (len(logps) // 2)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("seed", range(4))
def test_losses_and_coefficients_against_the_papers_formulas_and_differences(name, seed):
    coefficient, loss = METHODS[name]
    _, mask, advantages, old, ref = rows_of(seed, 2, 5, name)
    logps = old + np.random.default_rng(seed).normal(size=old.shape) * 0.3
    constants = Constants(beta=0.3)
    terms = Terms(*map(jnp.asarray, (logps, mask, advantages, old, ref)))
    wanted = by_hand(name, logps, mask, advantages, old, ref, 0.3)
    assert float(loss(terms, constants)[0]) / len(logps) == pytest.approx(wanted, rel=1e-12)

    factors, step = np.asarray(coefficient(terms, constants)), 1e-6
    count = 2 if "DPO" in name else 4
    for i, t in np.ndindex(*logps.shape):
        near = []
        for sign in (1, -1):
            moved = logps.copy()
            moved[i, t] += sign * step
            near.append(by_hand(name, moved, mask, advantages, old, ref, 0.3))
        slope = (near[0] - near[1]) / (2 * step)
        assert -factors[i, t] / (count * max(1, mask[i].sum())) == pytest.approx(slope, abs=1e-8)


def test_at_the_old_policy_a_clip_changes_nothing():
    """Eq. 18 and 21: with pi_theta = pi_old the coefficients are A and A + beta (pi_ref / pi - 1)."""
    _, mask, advantages, logps, ref = rows_of(0, 2, 6, "GRPO")
    for old in (None, logps):
        terms = Terms(logps, mask, advantages, old, ref)
        ppo = coefficients.clipped(terms, Constants())
        np.testing.assert_array_equal(ppo, np.where(mask, advantages, 0))
        grpo = coefficients.group_relative(terms, Constants(beta=0.04))
        wanted = np.where(mask, advantages + 0.04 * (np.exp(ref - logps) - 1), 0)
        np.testing.assert_allclose(grpo, wanted, rtol=1e-13)


def test_dpo_s_coefficient_at_the_reference_is_half_of_beta():
    _, mask, advantages, logps, _ = rows_of(0, 2, 6, "DPO")
    terms = Terms(logps, mask, advantages, None, logps)
    found = coefficients.preference(terms, Constants(beta=0.1))
    np.testing.assert_allclose(found, np.where(mask, 0.05 * advantages, 0), rtol=1e-14)
    sums = coefficients.preference_of_sums(terms, Constants(beta=0.1))
    np.testing.assert_allclose(sums, found * mask.sum(axis=1, keepdims=True), rtol=1e-14)


@pytest.mark.parametrize("name", METHODS)
def test_nothing_under_a_false_mask_is_read(name):
    coefficient, loss = METHODS[name]
    _, mask, advantages, old, ref = rows_of(1, 2, 6, name)
    torn = [np.where(mask, one, np.nan) for one in (old - 0.1, advantages, old, ref)]
    terms = Terms(torn[0], mask, *torn[1:])
    found = coefficient(terms, Constants())
    assert np.isfinite(found).all() and (np.asarray(found)[~mask] == 0).all()
    assert np.isfinite(loss(terms, Constants())[0])
