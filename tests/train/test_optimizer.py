"""Schedules against the paper's numbers, the update against numpy, decay on matrices only."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dsm_jax.errors import UserError
from dsm_jax.mesh import parse_mesh
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.params import param_shapes
from dsm_jax.train.optimizer import OptimizerConfig, decayed, make_optimizer, make_schedule
from dsm_jax.train.step import state_shardings


def test_multi_step_has_the_paper_s_numbers():
    """DeepSeekMath 2.3: 500B tokens in batches of 10M, peak 4.2e-4, 2,000 warm-up steps."""
    lr = make_schedule(OptimizerConfig(peak_lr=4.2e-4, warmup_steps=2_000), 50_000)
    steps = {0: 2.1e-7, 999: 2.1e-4, 1_999: 4.2e-4, 2_000: 4.2e-4, 39_999: 4.2e-4}
    steps |= {40_000: 4.2e-4 * 0.316, 44_999: 4.2e-4 * 0.316, 45_000: 4.2e-5, 49_999: 4.2e-5}
    for step, expected in steps.items():
        assert float(lr(jnp.int32(step))) == pytest.approx(expected, rel=1e-4), step


def test_multi_step_of_the_1b_and_of_a_few_steps():
    lr = make_schedule(OptimizerConfig(peak_lr=5.3e-4, warmup_steps=2_000), 37_500)
    shares = [float(lr(step)) / 5.3e-4 for step in (29_999, 30_000, 33_749, 33_750)]
    assert shares == pytest.approx([1, 0.316, 0.316, 0.10], rel=1e-5)
    lr = make_schedule(OptimizerConfig(peak_lr=1.0), 5)
    assert [float(lr(step)) for step in range(6)] == pytest.approx([1, 1, 1, 1, 0.316, 0.10])


def test_other_schedules():
    constant = make_schedule(OptimizerConfig(5e-5, schedule="constant"), 500)
    assert {float(constant(step)) for step in (0, 250, 499)} == {5e-5}
    one = make_schedule(OptimizerConfig(1.0, warmup_steps=1, schedule="constant"), 500)
    assert [float(one(step)) for step in range(3)] == [1, 1, 1]
    cosine = make_schedule(OptimizerConfig(1.0, warmup_steps=10, schedule="cosine"), 110)
    expected = [0.1, 1.0, 1.0, 0.1 + 0.9 * 0.5, 0.1]
    assert [float(cosine(step)) for step in (0, 9, 10, 60, 110)] == pytest.approx(expected, rel=1e-5)


def params_and_gradients():
    rng = np.random.default_rng(0)
    shapes = {
        "layers": {"q": (2, 3, 4), "attn_norm": (2, 3)},
        "final_norm": (3,),
        "head": (3, 5),
        "bias": (2, 5),
    }

    def draw(scale):
        return jax.tree.map(
            lambda s: (scale * rng.normal(size=s)).astype(np.float32),
            shapes,
            is_leaf=lambda s: isinstance(s, tuple),
        )

    return draw(1.0), [draw(3.0), draw(0.01), draw(1.0), draw(0.3)]


def test_decay_is_on_matrices_only():
    params, _ = params_and_gradients()
    assert decayed(params) == {
        "layers": {"q": True, "attn_norm": False}, "final_norm": False, "head": True, "bias": False
    }  # fmt: skip


def test_update_equals_adamw_by_hand():
    config = OptimizerConfig(1e-2, warmup_steps=3, weight_decay=0.1, clip_norm=1.0)
    optimizer, _ = make_optimizer(config, 10)
    params, gradients = params_and_gradients()
    leaves = [np.float64(leaf) for leaf in jax.tree.leaves(params)]
    shrinks = jax.tree.leaves(decayed(params))
    first = [np.zeros_like(leaf) for leaf in leaves]
    second = [np.zeros_like(leaf) for leaf in leaves]
    state = optimizer.init(params)
    for i, gradient in enumerate(gradients):
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        flat = [np.float64(leaf) for leaf in jax.tree.leaves(gradient)]
        norm = np.sqrt(sum((leaf**2).sum() for leaf in flat))
        for k, leaf in enumerate(flat):
            leaf = leaf / max(1.0, norm)
            first[k] = 0.9 * first[k] + 0.1 * leaf
            second[k] = 0.95 * second[k] + 0.05 * leaf**2
            mean, square = first[k] / (1 - 0.9 ** (i + 1)), second[k] / (1 - 0.95 ** (i + 1))
            decay = 0.1 * leaves[k] if shrinks[k] else 0.0
            leaves[k] = leaves[k] - 1e-2 * min(1, (i + 1) / 3) * (mean / (np.sqrt(square) + 1e-8) + decay)
    for ours, expected in zip(jax.tree.leaves(params), leaves, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=2e-6)


def test_every_moment_lies_as_its_parameter():
    """The decay mask reads names and shapes; sharding the state must not trip over it."""
    model = ModelConfig(
        vocab_size=16, d_model=8, n_layers=2, n_heads=2, n_kv_heads=2, head_dim=4, d_ff=8, max_seq_len=8
    )
    optimizer, _ = make_optimizer(OptimizerConfig(1e-3), 10)
    shardings = state_shardings(model, optimizer, parse_mesh(("fsdp=4,tensor=2",)))
    moments = optax.tree_utils.tree_get(shardings.opt_state, "mu")
    assert jax.tree.leaves(moments) == jax.tree.leaves(shardings.params)
    flags = jax.tree_util.tree_leaves_with_path(decayed(param_shapes(model)))
    names = {jax.tree_util.keystr(path, simple=True, separator="."): flag for path, flag in flags}
    assert {name for name, flag in names.items() if not flag} == {name for name in names if "norm" in name}
    assert any(names.values()) and not all(names.values())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"peak_lr": 0.0}, "peak_lr is 0"),
        ({"peak_lr": float("nan")}, "peak_lr is nan"),
        ({"warmup_steps": -1}, "warmup_steps is -1"),
        ({"b2": 1.0}, "b2 is 1"),
        ({"warmup_steps": 80}, "80 warmup_steps do not end before"),
        ({"warmup_steps": 100, "schedule": "cosine"}, "step 100 of 100"),
    ],
)
def test_bad_values(options, message):
    with pytest.raises(UserError, match=message):
        make_schedule(OptimizerConfig(**{"peak_lr": 1e-3} | options), 100)
