"""The GRPO loss: golden numbers of TRL and verl, the paper's identities, exactness over micro-batches and devices."""

from __future__ import annotations

import json
from functools import partial
from itertools import product
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
from dsm_jax.rl.advantages import outcome_advantages
from dsm_jax.rl.metrics import Max, merge_metrics, metric_values
from dsm_jax.rl.objectives import GRPOConfig, grpo_loss, k3, top_entropy_threshold
from tests.rl.small import OPTIONS

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


NAMES = {  # of the goldens' arguments, in ours
    "loss_type": "loss_type", "beta": "beta", "bias_kl": "use_bias_correction_kl", "eps": "epsilon",
    "eps_high": "epsilon_high", "clip_ratio_high": "epsilon_high", "delta": "delta", "level": "importance_sampling_level",
    "top_q": "top_entropy_quantile", "max_len": "max_completion_length",
}  # fmt: skip
AGGREGATES = {"token-mean": "dapo", "seq-mean-token-mean": "grpo"}  # verl's, in ours


def golden_config(case) -> GRPOConfig:
    args = case.get("args", case.get("cfg"))
    options = {"beta": 0.0} | {NAMES[name]: value for name, value in args.items() if name in NAMES}
    if "agg" in case:
        options["loss_type"] = AGGREGATES[case["agg"]]
    if "vllm" in args:
        mode, low, high = args["vllm"]
        assert mode == "token_truncate"
        options |= {"importance_sampling_correction": True}
        options |= {"importance_sampling_clip_min": low, "importance_sampling_clip_max": high}
    return GRPOConfig(**options)


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("paper")])
def test_golden_numbers(name):
    case, config = CASES[name], golden_config(CASES[name])
    args = case.get("args", case.get("cfg"))
    mask = MASK.copy()
    mask[args.get("mask_rows", [])] = False
    old = Z["old_logps"] if args.get("use_old", True) else None
    ref = Z["ref_logps"] if config.beta else None
    sampler = Z["sampler_logps"] if config.importance_sampling_correction else None
    tolerance = 1e-8 if name.startswith("verl") else 1e-9  # verl adds 1e-8 to each row's length

    def golden_loss(logits):
        logps, entropies = logps_and_entropies(logits, args.get("temp", 1.0))
        return by_logps(logps, entropies)

    def by_logps(logps, entropies):
        return grpo_loss(logps, old, ref, Z["adv"], mask, config, sampler_logps=sampler, entropies=entropies)

    logps, entropies = logps_and_entropies(Z["logits"], args.get("temp", 1.0))
    out = by_logps(logps, entropies)
    g_logps = jax.grad(lambda x: by_logps(x, entropies).loss)(logps)
    g_logits = jax.grad(lambda x: golden_loss(x).loss)(Z["logits"])
    np.testing.assert_allclose(out.loss, case["loss"], rtol=0, atol=tolerance)
    np.testing.assert_allclose(g_logps, Z[f"{name}/g_logps"], rtol=0, atol=tolerance)
    np.testing.assert_allclose(g_logits, Z[f"{name}/g_logits"], rtol=0, atol=tolerance)
    if name.startswith("trl"):
        ours = {key: value for key, value in metric_values(out.metrics).items() if "sampling" not in key}
        assert ours == pytest.approx(case["metrics"], abs=1e-9)


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_estimates_of_the_kl_are_verl_s(estimator):
    def loss(logps):
        config = GRPOConfig(beta=1.0, kl_estimator=estimator, loss_type="dapo")
        return grpo_loss(logps, None, Z["ref_logps"], 0 * Z["adv"], MASK, config)

    out, values = loss(Z["logps"]), np.where(MASK, Z[f"verl/kl_{estimator}/value"], 0)
    assert float(out.sum) == pytest.approx(values.sum(), abs=1e-12)
    assert metric_values(out.metrics)["kl"] == pytest.approx(values.sum() / MASK.sum(), abs=1e-12)
    if estimator == "k3":
        gradient = jax.grad(lambda x: jnp.sum(k3(x, Z["ref_logps"]) * MASK))(Z["logps"])
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


PAPER = GRPOConfig()
each_option = pytest.mark.parametrize("option", OPTIONS)


def full_loss(batch, config, denominators=None, threshold=None):
    batch = dict(batch)
    arrays = [batch.pop(name) for name in ("logps", "old_logps", "ref_logps", "advantages", "mask")]
    return grpo_loss(*arrays, config, denominators=denominators, entropy_threshold=threshold, **batch)


@partial(jax.jit, static_argnums=1)
def loss_and_grad(batch, config=PAPER, denominators=None, threshold=None):
    def loss(logps):
        out = full_loss({**batch, "logps": logps}, config, denominators, threshold)
        return out.loss, out

    gradient, out = jax.grad(loss, has_aux=True)(batch["logps"])
    return out, gradient


@each_option
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_micro_batches_add_up_to_the_batch(option, seed):
    batch, config = random_batch(seed), GRPOConfig(**OPTIONS[option])
    whole, gradient = loss_and_grad(batch, config)
    totals, threshold = (B, batch["mask"].sum()), None
    if config.top_entropy_quantile < 1:
        threshold = top_entropy_threshold(batch["entropies"], batch["mask"], config.top_entropy_quantile)
    pieces = []
    for rows in np.split(np.arange(B), 4):
        # a micro-batch is cut to its longest row, padded
        longest = -(-batch["mask"][rows].sum(1).max() // 4) * 4
        pieces.append({k: v[rows] if v.ndim == 1 else v[rows, :longest] for k, v in batch.items()})
    outs, gradients = zip(*(loss_and_grad(piece, config, totals, threshold) for piece in pieces), strict=True)

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


@each_option
def test_eight_devices_give_the_numbers_of_one(option):
    assert jax.device_count() == 8
    batch, config = random_batch(0), GRPOConfig(**OPTIONS[option])
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        spread = {k: jax.device_put(v, NamedSharding(mesh, P("data"))) for k, v in batch.items()}
        many, many_gradient = loss_and_grad(spread, config)
    one, one_gradient = loss_and_grad(batch, config)
    assert float(many.loss) == pytest.approx(float(one.loss), abs=1e-12)
    np.testing.assert_allclose(many_gradient, one_gradient, rtol=0, atol=1e-12)
    assert metric_values(many.metrics) == pytest.approx(metric_values(one.metrics), abs=1e-12)


@each_option
def test_far_log_ratios_stay_finite_in_float32(option):
    logps = np.full((2, 3), -1.0, np.float32)
    for log_ratio, advantage in product((100, -100), (1, -1)):
        batch = dict.fromkeys(("old_logps", "ref_logps"), logps - np.float32(log_ratio))
        batch |= {"logps": logps, "sampler_logps": logps, "entropies": -logps, "mask": logps < 0}
        batch |= {"advantages": np.full(2, advantage, np.float32)}
        out, gradient = loss_and_grad(batch, GRPOConfig(**OPTIONS[option]))
        assert out.loss.dtype == jnp.float32
        assert np.isfinite(out.loss) and np.isfinite(gradient).all()


def test_a_policy_far_above_its_reference_is_still_pulled_back():
    """The clamp of k3 is one-sided: at log(pi / pi_ref) = 100 the gradient keeps its size, beta."""
    logps = jnp.full((1, 1), -1.0)
    ref = logps - 100.0

    def loss(logps):
        return grpo_loss(logps, None, ref, jnp.zeros(1), jnp.ones((1, 1)), GRPOConfig()).loss

    assert float(jax.grad(loss)(logps)[0, 0]) == pytest.approx(0.04, abs=1e-12)


def test_on_policy_ratio_is_exactly_one():
    out = grpo_loss(Z["logps"], None, Z["logps"], Z["adv"], MASK, GRPOConfig())
    clipped = ("low_mean", "high_mean", "region_mean", "low_min", "high_max")
    assert metric_values(out.metrics) == {f"clip_ratio/{name}": 0.0 for name in clipped} | {"kl": 0.0}
    assert float(out.loss) == pytest.approx(-Z["adv"].mean(), abs=1e-15)


@pytest.mark.parametrize("option", ["grpo", "dapo", "dr_grpo", "cispo"])
def test_a_group_without_spread_gets_exactly_no_gradient(option):
    """Off the old policy too; beside a group that gets one."""
    advantages = outcome_advantages(np.array([[0.1] * 4, [0.1, 0.7, 0.1, 0.1]])).ravel()
    batch = random_batch(6) | {"advantages": np.asarray(advantages)}
    _, gradient = loss_and_grad(batch, GRPOConfig(**OPTIONS[option], beta=0.0))
    assert (np.asarray(gradient)[:4] == 0).all() and np.asarray(gradient)[4:].any(axis=1).all()


@each_option
def test_values_under_a_false_mask_are_never_read(option):
    batch, config = random_batch(1), GRPOConfig(**OPTIONS[option])
    clean, clean_gradient = loss_and_grad(batch, config)
    garbage = {
        k: np.where(batch["mask"], v, np.nan) if v.ndim == 2 and v.dtype == float else v
        for k, v in batch.items()
    }
    dirty, dirty_gradient = loss_and_grad(garbage, config)
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
    measured = full_loss(batch, GRPOConfig())
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


@pytest.mark.parametrize(
    "option, lacks",
    [
        ({"importance_sampling_correction": True}, "sampler_logps"),
        ({"top_entropy_quantile": 0.2}, "entropies"),
    ],
)
def test_an_option_without_its_numbers_is_refused(option, lacks):
    with pytest.raises(UserError, match=f"grpo_loss: {next(iter(option))} needs {lacks}"):
        grpo_loss(Z["logps"], None, None, Z["adv"], MASK, GRPOConfig(beta=0.0, **option))


def test_a_micro_batch_does_not_know_the_batch_s_entropies():
    batch, config = random_batch(5), GRPOConfig(top_entropy_quantile=0.2)
    with pytest.raises(UserError, match="in micro-batches needs the whole batch's entropy_threshold"):
        full_loss(batch, config, denominators=(16, 100))


@pytest.mark.parametrize(
    "option",
    [
        {"beta": -0.1},
        {"epsilon": 0.0},
        {"epsilon_high": 0.0},
        {"epsilon_high": None, "loss_type": "cispo"},
        {"epsilon_high": 0.2, "loss_type": "cispo"},
        {"delta": 1.2},
        {"delta": 5.0, "loss_type": "cispo", "epsilon_high": 2.0},
        {"use_bias_correction_kl": True, "kl_estimator": "k1"},
        {"top_entropy_quantile": 0.0},
        {"top_entropy_quantile": 1.1},
        {"max_completion_length": 0},
        {"importance_sampling_clip_min": -1.0},
        {"importance_sampling_clip_max": 0.5, "importance_sampling_clip_min": 0.6},
    ],
)
def test_values_out_of_range_are_refused(option):
    with pytest.raises(UserError, match=next(iter(option)) if "clip_max" not in str(option) else "clip_min"):
        GRPOConfig(**option)
