"""The GRPO loop on a small model: micro-batches, the first step's identities, learning, controls, resume."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from dsm_jax.errors import UserError
from dsm_jax.mesh import parse_mesh, single_device_mesh
from dsm_jax.model.config import LoRA
from dsm_jax.model.params import init_params
from dsm_jax.rl import update as updating
from dsm_jax.rl.advantages import outcome_advantages
from dsm_jax.rl.controls import random_rewards, shuffled_rewards
from dsm_jax.rl.grpo import GRPO, halves, run_grpo, whole_of
from dsm_jax.rl.journal import Journal
from dsm_jax.rl.micro_batches import Group, micro_batches, padded, rows_of
from dsm_jax.rl.objectives import GRPOConfig
from dsm_jax.rl.rewards import Scores
from dsm_jax.rl.rollout_metrics import reward_metrics, rollout_sums
from dsm_jax.rl.update import Whole, make_gradients
from dsm_jax.run import read_metrics
from dsm_jax.sample.request import Completion
from dsm_jax.train.logps import token_logps
from dsm_jax.train.loop import LoopConfig
from dsm_jax.train.step import put_batch
from tests.rl.small import MODEL, TRAINING, advantages, make, rollout, short, start, update


def completion(length: int) -> Completion:
    logps = np.full(length, -0.5, np.float32)
    return Completion("x", np.arange(10, 10 + length, dtype=np.int32), logps, logps, logps > 0, "stop")


def test_micro_batches_hold_every_completion_once():
    groups = [
        Group([1, 5, 6], [completion(3), completion(40)], np.array([1.0, -1.0])),
        Group([1, 9], [completion(1), completion(7)], np.array([0.5, -0.5])),
    ]
    first, second = micro_batches(groups, tokens=128)
    assert first["tokens"].shape == (2, 48) and second["tokens"].shape == (2, 16)
    assert first["mask"].sum(axis=1).tolist() == [40, 7]
    assert second["mask"].sum(axis=1).tolist() == [3, 1]
    assert second["tokens"][1, :4].tolist() == [1, 9, 10, 0]
    assert first["segment_ids"].sum(axis=1).tolist() == [43, 9]
    assert first["advantages"].sum(axis=1).tolist() == [-40, -3.5] and second["advantages"].sum(
        axis=1
    ).tolist() == [3, 0.5]
    for batch in (first, second):
        np.testing.assert_array_equal(batch["advantages"] != 0, batch["mask"] > 0)
        np.testing.assert_array_equal(batch["sampler_logps"], -0.5 * batch["mask"])


def test_micro_batches_have_few_shapes_and_as_many_tokens():
    widths = {padded(length) for length in range(1, 2000)}
    assert len(widths) <= 40
    assert all(length <= padded(length) <= max(length + 15, 1.125 * length) for length in range(1, 2000))
    for width in widths:
        for shards in (1, 8):
            rows = rows_of(width, 16_384, shards)
            assert rows % shards == 0 and rows * width <= 16_384 < (rows + shards) * width or rows == shards
            at_end = {rows_of(width, 16_384, shards, left) for left in range(1, rows + 1)}
            assert len(at_end) <= 3 and all(one % shards == 0 for one in at_end)


def test_overlong_completions_can_be_left_out_of_the_loss():
    """They stay among the rows that the loss divides by."""
    cut = dataclasses.replace(completion(5), finish_reason="length")
    groups = [Group([1, 5], [cut, completion(3)], np.array([1.0, -1.0]))]
    (batch,) = micro_batches(groups, tokens=64, mask_truncated=True)
    assert batch["mask"].sum(axis=1).tolist()[:2] == [0, 3]
    assert batch["segment_ids"].sum(axis=1).tolist()[:2] == [7, 5]


def first_step(grpo: GRPO):
    state = grpo.start(init_params(MODEL, 0, grpo.mesh))
    return update(grpo, state, rollout(grpo, grpo.policy(state)))


def test_the_first_step_has_ratio_one_no_kl_and_the_sampler_s_log_probs():
    grpo = make()
    state, metrics = first_step(grpo)
    assert metrics["kl"] == 0 and metrics["clip_ratio/region_mean"] == 0
    assert metrics["sampling/sampling_logp_difference/max"] < 1e-5
    assert abs(metrics["loss"]) < 1e-5 and metrics["grad_norm"] > 0
    assert int(state.train.step) == 1


@pytest.mark.slow
def test_lora_trains_over_a_reference_that_stays():
    grpo = make(dataclasses.replace(TRAINING, lora=LoRA(rank=2)))
    state, first = first_step(grpo)
    before = jax.device_get(init_params(MODEL, 0, grpo.mesh))
    assert first["kl"] == 0 and first["sampling/sampling_logp_difference/max"] < 1e-5
    state, second = update(grpo, state, rollout(grpo, grpo.policy(state), 1))
    assert second["kl"] > 0 and second["sampling/sampling_logp_difference/max"] < 1e-5
    assert all("_lora_" in name for name in state.train.params["layers"])
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.reference), before)


@pytest.mark.parametrize("tokens", [pytest.param(64, marks=pytest.mark.slow), 1024])
def test_micro_batches_change_nothing(tokens):
    wanted, _ = first_step(make())
    other, _ = first_step(make(dataclasses.replace(TRAINING, micro_batch_tokens=tokens)))

    def close(a, b):
        np.testing.assert_allclose(a, b, atol=2e-5)

    jax.tree.map(close, jax.device_get(wanted.train.params), jax.device_get(other.train.params))


LOSSES = {
    "dapo": {"loss_type": "dapo"},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "cispo": {"loss_type": "cispo", "epsilon_high": 2.0},
    "top entropy": {"top_entropy_quantile": 0.3},
    "batch": {"scale_rewards": "batch"},
}


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_micro_batches_change_nothing_in_other_losses(loss):
    """Also where they are of other widths, and where a threshold is the whole batch's."""
    config = dataclasses.replace(TRAINING, loss=GRPOConfig(**LOSSES[loss]), num_iterations=2)
    (state, metrics), (other, apart) = (
        first_step(make(dataclasses.replace(config, micro_batch_tokens=tokens))) for tokens in (1024, 128)
    )
    for name in metrics.keys() - {"seconds/update", "tokens_per_second/update"}:
        assert metrics[name] == pytest.approx(apart[name], abs=2e-5), name
    # Adam makes of a gradient near 0, rounding and all, a share of its step of 3e-3.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4),
        *(jax.device_get(one.train.params) for one in (state, other)),
    )


def test_the_second_update_of_a_rollout_has_the_first_one_s_policy_for_the_old(monkeypatch):
    """Against two updates by hand: the ratio's denominator is what the rollout was drawn from."""
    fetched, on_host = [], updating.on_host
    monkeypatch.setattr(updating, "on_host", lambda array: fetched.append(array) or on_host(array))
    config = dataclasses.replace(TRAINING, micro_batch_tokens=1024, num_iterations=2)
    grpo = make(config)
    state = grpo.start(init_params(MODEL, 0, grpo.mesh))
    sampled = rollout(grpo, grpo.policy(state))
    ours, metrics = update(grpo, state, sampled)
    assert metrics["kl"] > 0 and int(ours.train.step) == 2
    assert len(fetched) == len(grpo.micro_batches(sampled)) == 1  # the second update's serve nothing

    mesh, (micro,) = grpo.mesh, grpo.micro_batches(sampled)
    whole = Whole(16, int(micro["mask"].sum()))
    by_hand = make(config)
    train = by_hand.start(init_params(MODEL, 0, mesh)).train
    with jax.set_mesh(mesh):
        batch = put_batch(micro, mesh)
        gradients = make_gradients(config, MODEL, mesh)
        old = jax.jit(lambda params: token_logps(MODEL, params, batch["tokens"], batch["segment_ids"]).logps)(
            train.params
        )
        for extra in ({}, {"old_logps": old}):
            found, *_ = gradients(None, train.params, state.reference, batch | extra, whole)
            train, _ = by_hand.learner.apply(train, found)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        *(jax.device_get(params) for params in (ours.train.params, train.params)),
    )


def test_it_learns_and_resumes_in_the_same_bits(tmp_path):
    start = lambda: init_params(MODEL, 0, single_device_mesh())
    longer = dataclasses.replace(TRAINING, loop=dataclasses.replace(TRAINING.loop, steps=12))
    whole = run_grpo(make(longer), start, tmp_path / "a")
    rewards = [row["reward"] for row in read_metrics(tmp_path / "a" / "metrics.jsonl")]
    assert np.mean(rewards[-3:]) > np.mean(rewards[:3]) + 0.1

    def dies(prompts, completions, **columns):
        dies.calls += 1
        if dies.calls == 9:  # the first one tries it
            raise KeyboardInterrupt
        return short(prompts, completions)

    dies.calls, dies.__name__ = 0, short.__name__
    with pytest.raises(KeyboardInterrupt):
        run_grpo(make(longer, reward=dies), start, tmp_path / "b")
    resumed = run_grpo(make(longer), start, tmp_path / "b")
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(whole), jax.device_get(resumed))
    texts = [sorted(folder.glob("completions/*.jsonl")) for folder in (tmp_path / "a", tmp_path / "b")]
    assert len(texts[0]) == 12 and [p.read_text() for p in texts[0]] == [p.read_text() for p in texts[1]]
    counts = [[row["num_tokens"] for row in read_metrics(tmp_path / name / "metrics.jsonl")] for name in "ab"]
    assert counts[0] == counts[1] == [tokens_to(tmp_path / "a", step) for step in range(12)]


def tokens_to(folder, step: int) -> float:
    """Of all rollouts up to this one: a token a letter, bos, and what was drawn."""
    rows = read_metrics(folder / "metrics.jsonl")[: step + 1]
    files = sorted(folder.glob("completions/*.jsonl"))[: step + 1]
    prompts = [1 + len(row["prompt"]) for file in files for row in read_metrics(file)]
    return sum(prompts) + sum(round(16 * row["completions/mean_length"]) for row in rows)


def test_a_count_of_tokens_may_be_long():
    parted = jax.numpy.asarray(halves(2**32 + 5))
    assert parted.dtype == np.uint32 and whole_of(parted) == 2**32 + 5 and whole_of(halves(7)) == 7


WRONG = ([], [float("nan")] * 16, RuntimeError("no server"))


@pytest.mark.parametrize(
    "wrong", [pytest.param(one, marks=[] if one == [] else pytest.mark.slow) for one in WRONG], ids=str
)
def test_a_reward_that_fails_ends_the_run_and_loses_no_step(wrong, tmp_path):
    calls = itertools.count()

    def fails(prompts, completions, **columns):
        if next(calls) < 3:  # the first one tries it
            return short(prompts, completions)
        if isinstance(wrong, Exception):
            raise wrong
        return wrong

    seldom = dataclasses.replace(TRAINING, loop=LoopConfig(steps=4, log_every=1, checkpoint_every=100))
    start = lambda: init_params(MODEL, 0, single_device_mesh())
    with pytest.raises(UserError, match="reward fails"):
        run_grpo(make(seldom, reward=fails), start, tmp_path / "a")
    assert (tmp_path / "a/checkpoints/2").is_dir()
    resumed = run_grpo(make(seldom), start, tmp_path / "a")
    whole = run_grpo(make(seldom), start, tmp_path / "b")
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(whole), jax.device_get(resumed))


def test_a_reward_of_the_wrong_length_is_found_before_anything_is_sampled(tmp_path):
    def one(prompts, completions):
        return [1.0]

    with pytest.raises(UserError, match="reward one returned 1 values for 2 completions"):
        run_grpo(make(reward=one), start, tmp_path)
    assert not (tmp_path / "rollouts").exists()


def test_eight_devices_sample_the_same_and_reward_the_same():
    sampled = []
    for mesh in (single_device_mesh(), parse_mesh(("data=2,fsdp=2,tensor=2",))):
        grpo = make(mesh=mesh)
        sampled.append(rollout(grpo, init_params(MODEL, 0, mesh), 3))
    for one, eight in zip(sampled[0].completions, sampled[1].completions, strict=True):
        assert [c.tokens.tolist() for c in one] == [c.tokens.tolist() for c in eight]
    np.testing.assert_array_equal(sampled[0].rewards, sampled[1].rewards)
    np.testing.assert_array_equal(*map(advantages, sampled))


@pytest.mark.slow
def test_an_update_keeps_the_declared_shardings():
    mesh = parse_mesh(("data=2,fsdp=2,tensor=2",))
    grpo = make(mesh=mesh)
    state, _ = first_step(grpo)

    def check(leaf, target):
        assert leaf.sharding.is_equivalent_to(target.sharding, leaf.ndim)

    jax.tree.map(check, state, grpo.target())
    assert any("tensor" in str(leaf.sharding.spec) for leaf in jax.tree.leaves(state.reference))


@pytest.mark.slow
def test_groups_without_spread_leave_the_policy_as_it_is():
    """No advantage, without a KL no gradient, no step: exactly."""
    config = dataclasses.replace(TRAINING, loss=GRPOConfig(beta=0.0))
    grpo = make(config, reward=lambda prompts, completions: [0.1] * len(prompts))
    state = grpo.start(start())
    before, sampled = jax.device_get(state.train.params), rollout(grpo, start())
    assert not advantages(sampled).any()
    state, metrics = update(grpo, state, sampled)
    assert metrics["grad_norm"] == 0 and metrics["loss"] == 0
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.train.params), before)


def test_a_completion_and_its_reward_do_not_depend_on_the_batch(tmp_path):
    """Questions in another order, and one by itself: the same completions, rewards and advantages."""
    grpo = make()
    sampled, actor = rollout(grpo, start()), grpo.actor
    actor.sampler.load(start())

    def again(places, folder):
        rows = [sampled.prompts[i] for i in places]
        completions = actor.sampler.generate(
            [row["prompt"] for row in rows],
            n=TRAINING.num_generations,
            max_new_tokens=TRAINING.max_completion_length,
            temperature=1.0,
            prompt_ids=places,
        )
        scores = actor._score(rows, completions, 0, Journal(folder))
        return completions, scores.total.reshape(len(rows), -1)

    for places in ([2, 0, 3, 1], [1]):
        completions, rewards = again(places, tmp_path / str(len(places)))
        for i, group in zip(places, completions, strict=True):
            tokens = [one.tokens.tolist() for one in group]
            assert tokens == [one.tokens.tolist() for one in sampled.completions[i]]
        np.testing.assert_array_equal(rewards, sampled.rewards[places])
        np.testing.assert_array_equal(outcome_advantages(rewards), advantages(sampled)[places])


def test_controls_replace_the_rewards():
    params = init_params(MODEL, 0, single_device_mesh())
    true = rollout(make(), params)
    coins = rollout(make(control=random_rewards), params)
    shuffled = rollout(make(control=shuffled_rewards), params)
    assert set(coins.rewards.ravel()) == {0.0, 1.0}
    np.testing.assert_array_equal(np.sort(shuffled.rewards), np.sort(true.rewards))
    assert not np.array_equal(shuffled.rewards, true.rewards)


def test_reward_metrics_tell_groups_that_are_all_0_from_others():
    rewards = np.array([[1, 1], [0, 0], [0, np.nan], [0, 1.0]])
    scores = Scores(rewards.ravel(), {"one": rewards.ravel()}, 1)
    assert reward_metrics(rewards, scores) == pytest.approx(
        {
            "reward": 3 / 7,
            "reward_std": 0.125,
            "frac_reward_zero_std": 0.75,
            "frac_reward_zero_std_above_0": 0.25,
            "rewards/one/mean": 3 / 7,
            "rewards/one/std": np.sqrt(12) / 7,
        }
    )


def test_a_row_without_a_reward_is_left_out():
    """Its group's advantages are those of the rows that have one, and the update does not see it."""

    def some(prompts, completions):
        return [None if i % 4 == 3 else float(i % 4 == 0) for i in range(len(completions))]

    grpo = make(reward=some)
    state = grpo.start(init_params(MODEL, 0, grpo.mesh))
    sampled = rollout(grpo, grpo.policy(state))
    np.testing.assert_allclose(advantages(sampled)[0, 0], np.sqrt(2), rtol=1e-4)
    assert (advantages(sampled)[:, 3] == 0).all() and rollout_sums(sampled)["rewards/left_out"] == 4
    batches = grpo.micro_batches(sampled)
    assert sum(int(batch["segment_ids"][:, 0].sum()) for batch in batches) == 12
    nothing = make(reward=lambda prompts, completions: [None] * len(prompts))
    with pytest.raises(UserError, match="rollout 0: no completion has a reward"):
        rollout(nothing, grpo.policy(state))


def test_a_group_of_one_is_refused():
    with pytest.raises(UserError, match="num_generations is 1"):
        dataclasses.replace(TRAINING, num_generations=1)
