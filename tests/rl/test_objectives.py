"""The GRPO loss: golden numbers of TRL and verl, the paper's identities, exactness over micro-batches and devices."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from dsm_jax.errors import UserError
from dsm_jax.rl.objectives import GRPOConfig, Max, grpo_loss, k3, merge_metrics, metric_values

GOLDENS = Path(__file__).parents[1] / "data" / "grpo_goldens"
CASES = json.loads((GOLDENS / "goldens.json").read_text())["cases"]
Z = np.load(GOLDENS / "goldens.npz")
MASK = Z["mask"] > 0
B, T = MASK.shape


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def logps_and_entropies(logits, temperature):
    log_p = jax.nn.log_softmax(logits / temperature)
    logps = jnp.take_along_axis(log_p, Z["ids"][..., None], axis=-1)[..., 0]
    return logps, -(jnp.exp(log_p) * log_p).sum(-1)


def golden_inputs(case):
    """The arguments of one golden case, its verl or TRL configuration read into ours."""
    args = case.get("args", case.get("cfg"))
    mask = MASK.copy()
    mask[args.get("mask_rows", [])] = False
    config = GRPOConfig(beta=args.get("beta", 0.0))
    old = Z["old_logps"] if args.get("use_old", True) else None
    ref = Z["ref_logps"] if config.beta else None
    return args.get("temp", 1.0), old, ref, mask, config


@pytest.mark.parametrize("name", CASES)
def test_golden_numbers(name):
    case = CASES[name]
    temperature, old, ref, mask, config = golden_inputs(case)
    tolerance = 1e-8 if name.startswith("verl") else 1e-9  # verl adds 1e-8 to each row's length

    def by_logps(logps, entropies=None):
        return grpo_loss(logps, old, ref, Z["adv"], mask, config, entropies=entropies)

    logps, entropies = logps_and_entropies(Z["logits"], temperature)
    out = by_logps(logps, entropies)
    g_logps = jax.grad(lambda x: by_logps(x).loss)(logps)
    g_logits = jax.grad(lambda x: by_logps(logps_and_entropies(x, temperature)[0]).loss)(Z["logits"])
    np.testing.assert_allclose(out.loss, case["loss"], rtol=0, atol=tolerance)
    np.testing.assert_allclose(g_logps, Z[f"{name}/g_logps"], rtol=0, atol=tolerance)
    np.testing.assert_allclose(g_logits, Z[f"{name}/g_logits"], rtol=0, atol=tolerance)
    if name.startswith("trl"):
        ours = metric_values(out.metrics)
        shared = {key: value for key, value in case["metrics"].items() if key in ours}
        assert len(shared) == len(ours) >= 4
        for key, value in shared.items():
            assert ours[key] == pytest.approx(value, abs=1e-9), key


def test_k3_matches_verl():
    logps, ref = jnp.asarray(Z["logps"]), jnp.asarray(Z["ref_logps"])
    np.testing.assert_allclose(k3(logps, ref), Z["verl/kl_k3/value"], rtol=0, atol=1e-12)
    gradient = jax.grad(lambda x: jnp.sum(k3(x, ref) * MASK))(logps)
    np.testing.assert_allclose(gradient, Z["verl/kl_k3/g_logps"], rtol=0, atol=1e-12)


def test_gradient_at_the_old_policy_is_the_papers_coefficient():
    """Eq. 21: Ahat + beta (pi_ref / pi - 1), over the row's length and the number of rows."""

    def loss(logps):
        return grpo_loss(logps, None, Z["ref_logps"], Z["adv"], MASK, GRPOConfig(beta=0.04)).loss

    coefficient = Z["adv"][:, None] + 0.04 * (np.exp(Z["ref_logps"] - Z["logps"]) - 1)
    expected = -coefficient * MASK / MASK.sum(1, keepdims=True) / B
    np.testing.assert_allclose(jax.grad(loss)(Z["logps"]), expected, rtol=0, atol=1e-15)


def test_gradient_by_finite_differences():
    @jax.jit
    def loss(logps):
        return grpo_loss(logps, Z["old_logps"], Z["ref_logps"], Z["adv"], MASK, GRPOConfig(beta=0.04)).loss

    gradient = jax.grad(loss)(Z["logps"])
    step = 1e-6
    for row, column in np.argwhere(MASK)[::3]:
        nudge = np.zeros((B, T))
        nudge[row, column] = step
        numeric = (loss(Z["logps"] + nudge) - loss(Z["logps"] - nudge)) / (2 * step)
        assert gradient[row, column] == pytest.approx(float(numeric), abs=1e-9)


def random_batch(seed, rows=8, length=12):
    rng = np.random.default_rng(seed)
    logps = -rng.exponential(1.0, (rows, length))

    def near(scale):
        return logps + scale * rng.standard_normal((rows, length))

    lengths = rng.integers(1, length + 1, rows)
    return {
        "logps": logps,
        "old_logps": near(0.3),
        "ref_logps": near(0.5),
        "advantages": rng.standard_normal(rows),
        "mask": np.arange(length) < lengths[:, None],
        "sampler_logps": near(0.01),
        "entropies": rng.exponential(1.0, (rows, length)),
    }


def full_loss(batch, denominators=None):
    batch = dict(batch)
    arrays = [batch.pop(name) for name in ("logps", "old_logps", "ref_logps", "advantages", "mask")]
    return grpo_loss(*arrays, GRPOConfig(), denominators=denominators, **batch)


@jax.jit
def loss_and_grad(batch, denominators=None):
    def loss(logps):
        out = full_loss({**batch, "logps": logps}, denominators)
        return out.loss, out

    gradient, out = jax.grad(loss, has_aux=True)(batch["logps"])
    return out, gradient


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), parts=st.sampled_from([2, 4, 8]))
def test_micro_batches_add_up_to_the_batch(seed, parts):
    batch = random_batch(seed)
    whole, gradient = loss_and_grad(batch)
    totals = (B, batch["mask"].sum())
    pieces = []
    for rows in np.split(np.arange(B), parts):
        longest = (
            -(-batch["mask"][rows].sum(1).max() // 4) * 4
        )  # a micro-batch is cut to its longest row, padded
        pieces.append({k: v[rows] if v.ndim == 1 else v[rows, :longest] for k, v in batch.items()})
    outs, gradients = zip(*(loss_and_grad(piece, totals) for piece in pieces), strict=True)

    assert sum(out.loss for out in outs) == pytest.approx(float(whole.loss), abs=1e-12)
    assert sum(out.sum for out in outs) / sum(out.denominator for out in outs) == pytest.approx(
        float(whole.loss), abs=1e-12
    )
    padded = [np.pad(g, ((0, 0), (0, T - g.shape[1]))) for g in gradients]
    np.testing.assert_allclose(np.concatenate(padded), gradient, rtol=0, atol=1e-12)
    metrics = outs[0].metrics
    for out in outs[1:]:
        metrics = merge_metrics(metrics, out.metrics)
    assert metric_values(metrics) == pytest.approx(metric_values(whole.metrics), abs=1e-12)


def test_eight_devices_give_the_numbers_of_one():
    assert jax.device_count() == 8
    batch = random_batch(0)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        spread = {k: jax.device_put(v, NamedSharding(mesh, P("data"))) for k, v in batch.items()}
        many, many_gradient = loss_and_grad(spread)
    one, one_gradient = loss_and_grad(batch)
    assert float(many.loss) == pytest.approx(float(one.loss), abs=1e-12)
    np.testing.assert_allclose(many_gradient, one_gradient, rtol=0, atol=1e-12)
    assert metric_values(many.metrics) == pytest.approx(metric_values(one.metrics), abs=1e-12)


@pytest.mark.parametrize("log_ratio", [100.0, -100.0])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_far_log_ratios_stay_finite_in_float32(log_ratio, advantage):
    logps = jnp.full((2, 3), -1.0, jnp.float32)
    far, advantages, mask = logps - log_ratio, jnp.full(2, advantage, jnp.float32), jnp.ones((2, 3))

    def loss(logps):
        return grpo_loss(logps, far, far, advantages, mask, GRPOConfig()).loss

    value, gradient = jax.value_and_grad(loss)(logps)
    assert value.dtype == jnp.float32
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_a_policy_far_above_its_reference_is_still_pulled_back():
    """The clamp of k3 is one-sided: at log(pi / pi_ref) = 100 the gradient keeps its size, beta."""
    logps = jnp.full((1, 1), -1.0)
    ref = logps - 100.0

    def loss(logps):
        return grpo_loss(logps, None, ref, jnp.zeros(1), jnp.ones((1, 1)), GRPOConfig()).loss

    assert float(jax.grad(loss)(logps)[0, 0]) == pytest.approx(0.04, abs=1e-12)


def test_on_policy_ratio_is_exactly_one():
    out = grpo_loss(Z["logps"], None, Z["logps"], Z["adv"], MASK, GRPOConfig())
    values = metric_values(out.metrics)
    assert values == {
        "clip_ratio/low_mean": 0.0,
        "clip_ratio/high_mean": 0.0,
        "clip_ratio/region_mean": 0.0,
        "kl": 0.0,
    }
    assert float(out.loss) == pytest.approx(-Z["adv"].mean(), abs=1e-15)


def test_values_under_a_false_mask_are_never_read():
    batch = random_batch(1)
    clean, clean_gradient = loss_and_grad(batch)
    garbage = {
        k: np.where(batch["mask"], v, np.nan) if v.ndim == 2 and v.dtype == float else v
        for k, v in batch.items()
    }
    dirty, dirty_gradient = loss_and_grad(garbage)
    assert float(dirty.loss) == float(clean.loss)
    np.testing.assert_array_equal(dirty_gradient, clean_gradient)
    assert metric_values(dirty.metrics) == metric_values(clean.metrics)
    assert (np.asarray(clean_gradient)[~batch["mask"]] == 0).all()


def test_a_fully_masked_row_counts_and_leaves_the_others_their_weight():
    batch = random_batch(2)
    _, before = loss_and_grad(batch)
    batch["mask"] = batch["mask"].copy()
    batch["mask"][3] = False
    out, after = loss_and_grad(batch)
    others = np.arange(B) != 3
    np.testing.assert_array_equal(np.asarray(after)[others], np.asarray(before)[others])
    assert (np.asarray(after)[3] == 0).all()
    assert float(out.denominator) == B


def test_advantages_per_row_and_per_token_agree():
    batch = random_batch(3)
    by_row, _ = loss_and_grad(batch)
    by_token, _ = loss_and_grad({**batch, "advantages": np.repeat(batch["advantages"][:, None], T, axis=1)})
    assert float(by_row.loss) == float(by_token.loss)


def test_sampler_and_entropies_are_only_measured():
    batch = random_batch(4)
    plain = grpo_loss(
        *[batch[k] for k in ("logps", "old_logps", "ref_logps", "advantages", "mask")], GRPOConfig()
    )
    measured = full_loss(batch)
    assert float(plain.loss) == float(measured.loss)
    difference = np.abs(batch["old_logps"] - batch["sampler_logps"])[batch["mask"]]
    values = metric_values(measured.metrics)
    assert values["sampling/sampling_logp_difference/mean"] == pytest.approx(difference.mean())
    assert values["sampling/sampling_logp_difference/max"] == pytest.approx(difference.max())
    assert values["entropy"] == pytest.approx(batch["entropies"][batch["mask"]].mean())
    assert isinstance(measured.metrics["sampling/sampling_logp_difference/max"], Max)


def test_beta_without_a_reference_is_refused():
    with pytest.raises(UserError, match="ref_logps is None"):
        grpo_loss(Z["logps"], None, None, Z["adv"], MASK, GRPOConfig(beta=0.04))


@pytest.mark.parametrize("option", [{"beta": -0.1}, {"epsilon": 0.0}])
def test_values_out_of_range_are_refused(option):
    with pytest.raises(UserError, match=next(iter(option))):
        GRPOConfig(**option)
