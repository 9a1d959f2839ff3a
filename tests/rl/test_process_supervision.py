"""Rewards of steps in GRPO: from text to the advantage of each token, by way of the journal, and into the update."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from dsm_jax.errors import UserError
from dsm_jax.mesh import parse_mesh
from dsm_jax.model.params import init_params
from dsm_jax.rl.controls import random_rewards
from dsm_jax.rl.grpo import GRPO, run_grpo
from dsm_jax.rl.journal import Journal
from dsm_jax.rl.scoring import StepReward
from dsm_jax.run import read_metrics
from tests.rl.small import MODEL, TRAINING, Letters, make, rollout, short, start, update

CONFIG = dataclasses.replace(TRAINING, max_completion_length=24)
NEWLINES = range(10, 30)  # a third of the tokens, so that completions have several lines


class Lines(Letters):
    """Letters, some of which end a line."""

    def decode(self, ids):
        text = (chr(64 + token) if token not in NEWLINES else "\n" for token in ids if token != self.eos_id)
        return "".join(text)


def letters(completions, step):
    """A reward of a step: the share of its letters above "Z", less for steps that come late."""
    return [
        sum(c > "Z" for c in one) / max(1, len(one)) - len(text) / 64
        for one, text in zip(step, completions, strict=True)
    ]


class Parity:
    """What stands for a trained model: at each end, whether the token there is odd."""

    def __init__(self, kind):
        self.kind, self.calls = kind, 0

    def require_policy(self, tokenizer, splitting):
        assert splitting == "lines"

    def score(self, prompts, completions, ends):
        self.calls += 1
        assert all(isinstance(prompt, str) for prompt in prompts)
        pairs = zip(completions, ends, strict=True)
        return [np.array([one[end] % 2 for end in places], np.float32) for one, places in pairs]


def grpo_of(config=CONFIG, mesh=None, **options) -> GRPO:
    made = make(config, mesh, **options)
    return GRPO(
        config, MODEL, Lines(), made.mesh, prompts=made.actor.prompts, reward=options["reward"],
        control=options.get("control"),
    )  # fmt: skip


def by_hand(completions, reward_of, eps=1e-6):
    """Advantages of a group's tokens by loops, from section 4.1.3's words. reward_of(text up to a step, the step, its last
    token)."""
    found = []
    for one in completions:
        text, steps, seen = one.text, [], ""
        for at, token in enumerate(one.tokens):
            if token == Letters.eos_id:
                break
            letter = Lines().decode([token])
            seen += letter
            rest = text[len(seen) :]
            if letter != "\n" and (not rest.strip() or rest.startswith("\n")):
                steps.append([seen, seen.split("\n")[-1], at])
        if steps and one.finished:
            steps[-1][2] = len(one.tokens) - 1
        rewarded = [(reward_of(*step, one.tokens[step[2]]), step[2]) for step in steps]
        found.append([(reward, end) for reward, end in rewarded if reward is not None])
    pool = np.array([reward for steps in found for reward, _ in steps])
    spread = pool.std() if pool.size and np.ptp(pool) else np.inf
    return [
        [
            sum((r - pool.mean()) / (spread + eps) for r, end in steps if end >= t)
            for t in range(len(one.tokens))
        ]
        for one, steps in zip(completions, found, strict=True)
    ]


def expected_of(sampled, reward):
    return [
        by_hand(group, lambda text, step, end, token: reward([text], [step])[0])
        for group in sampled.completions
    ]


def check(sampled, expected):
    flat = [one for group in expected for one in group]
    for ours, theirs in zip(sampled.advantages, flat, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
    assert sum(len(set(one)) > 1 for one in flat) > 4  # or there is nothing to see


def test_a_token_has_the_rewards_of_the_steps_that_end_with_it_or_later():
    sampled = rollout(grpo_of(reward=StepReward(letters)), start())
    check(sampled, expected_of(sampled, letters))
    ended = [one.finished for group in sampled.completions for one in group]
    assert any(ended) and not all(ended)  # both kinds of last steps
    steps = sampled.scores.steps
    means = [np.mean(part) if len(part) else 0 for part in steps.of_completions(steps.rewards)]
    np.testing.assert_allclose(sampled.scores.total, means)


def even_only(completions, step):
    return [
        None if len(one) % 2 else reward for one, reward in zip(step, letters(completions, step), strict=True)
    ]


def test_a_step_without_a_reward_counts_nowhere():
    sampled = rollout(grpo_of(reward=StepReward(even_only)), start())
    check(sampled, expected_of(sampled, even_only))
    steps = sampled.scores.steps
    assert np.isnan(steps.rewards).any()
    for total, part in zip(sampled.scores.total, steps.of_completions(steps.rewards), strict=True):
        there = part[~np.isnan(part)]
        np.testing.assert_equal(total, there.mean() if there.size else np.nan if part.size else 0.0)


def test_the_steps_of_a_completion_that_is_left_out_count_nowhere():
    def long_only(completions):
        return [None if len(one) < 6 else 1.0 for one in completions]

    sampled = rollout(grpo_of(reward=[StepReward(letters), long_only]), start())
    left_out = np.isnan(sampled.rewards)
    assert left_out.any() and not left_out.all(axis=1).any()
    expected = [
        by_hand(
            [one for one, out in zip(group, outs, strict=True) if not out],
            lambda text, step, end, token: letters([text], [step])[0],
        )
        for group, outs in zip(sampled.completions, left_out, strict=True)
    ]
    stay = [one for one, out in zip(sampled.advantages, left_out.ravel(), strict=True) if not out]
    check(sampled._replace(advantages=stay), expected)


def test_a_process_model_scores_the_last_tokens_of_steps():
    model = Parity("process")
    sampled = rollout(grpo_of(reward=model), start())
    expected = [
        by_hand(group, lambda text, step, end, token: float(token % 2)) for group in sampled.completions
    ]
    check(sampled, expected)
    assert model.calls == 1 and list(sampled.scores.by_name) == ["process"]


def test_an_outcome_model_is_a_reward_of_whole_completions():
    sampled = rollout(grpo_of(reward=[Parity("outcome")]), start())
    last = [one.tokens[-1] % 2 for group in sampled.completions for one in group]
    np.testing.assert_array_equal(sampled.scores.total, last)
    assert sampled.scores.steps is None


def test_wholes_and_steps_are_normalised_apart_and_added_with_a_weight():
    params = start()
    whole, steps = (rollout(grpo_of(reward=one), params) for one in (short, StepReward(letters)))
    config = dataclasses.replace(CONFIG, process_weight=0.25)
    both = rollout(grpo_of(config, reward=[StepReward(letters), short]), params)
    for ours, a, b in zip(both.advantages, whole.advantages, steps.advantages, strict=True):
        np.testing.assert_allclose(ours, a + 0.25 * b, atol=1e-6)
    np.testing.assert_array_equal(both.scores.total, whole.scores.total)
    assert list(both.scores.by_name) == ["short", "letters"]


def test_weights_are_those_of_the_rewards_in_their_order():
    options = dataclasses.replace(CONFIG.rewards, weights=(0.5, 2.0, -1.0, 3.0))
    config = dataclasses.replace(CONFIG, rewards=options)
    rewards = [StepReward(letters), short, Parity("process"), Parity("outcome")]
    scores = rollout(grpo_of(config, reward=rewards), start()).scores
    by_name, steps = scores.by_name, scores.steps
    np.testing.assert_allclose(scores.total, 2 * by_name["short"] + 3 * by_name["outcome"])
    expected = 0.5 * steps.by_name["letters"] - steps.by_name["process"]
    np.testing.assert_allclose(steps.rewards, expected)


def test_steps_that_all_have_one_reward_teach_nothing():
    sampled = rollout(grpo_of(reward=StepReward(lambda completions: [0.3] * len(completions))), start())
    assert all((one == 0).all() for one in sampled.advantages)


def swings(prompts, step, completions):
    """Differs within groups of even questions only."""
    even = [int(prompt.split("q")[1].split()[1].split("z")[0]) % 2 == 0 for prompt in prompts]
    return [float(len(one) % 2) if ok else 1.0 for one, ok in zip(step, even, strict=True)]


def test_a_batch_s_spread_is_that_of_the_groups_that_are_used():
    loss = dataclasses.replace(CONFIG.loss, scale_rewards="batch")
    config = dataclasses.replace(CONFIG, most_rollouts=2, loss=loss)
    sampled = rollout(grpo_of(config, reward=StepReward(swings)), start())
    steps, groups = sampled.scores.steps, len(sampled.used)
    parts = steps.of_completions(steps.rewards)
    each = len(parts) // groups
    used = [parts[i * each : (i + 1) * each] for i in np.flatnonzero(sampled.used)]
    spread = np.concatenate([part for group in used for part in group]).std()
    advantages = [sampled.advantages[i * each : (i + 1) * each] for i in np.flatnonzero(sampled.used)]
    assert 0 < len(used) < groups
    for group, ours in zip(used, advantages, strict=True):
        mean = np.concatenate(group).mean()
        for part, one in zip(group, ours, strict=True):
            np.testing.assert_allclose(one[:1], (part - mean).sum() / (spread + 1e-6), atol=2e-5)


def test_a_weight_of_steps_needs_rewards_of_both_kinds():
    config = dataclasses.replace(CONFIG, process_weight=0.5)
    for reward in (StepReward(letters), short):
        with pytest.raises(UserError, match="process_weight is 0.5: .* there are not both"):
            grpo_of(config, reward=reward)
    grpo_of(config, reward=[StepReward(letters), short])


def test_dynamic_sampling_looks_at_steps_too():
    """Completions whose steps have the same mean may still have steps to tell apart."""
    config = dataclasses.replace(CONFIG, most_rollouts=2)
    sampled = rollout(grpo_of(config, reward=StepReward(swings)), start())
    assert sampled.used.tolist() == [True, False] * 4 and sampled.draws == 2
    assert [one.any() for one in sampled.advantages[4:8]] == [False] * 4


def test_the_journal_gives_back_scores_of_steps_and_models(tmp_path):
    model = Parity("process")
    grpo, journal = grpo_of(reward=[StepReward(letters), model]), Journal(tmp_path)
    made = grpo.actor.rollout(start(), 0, journal)
    again = grpo.actor.rollout(None, 0, journal)
    assert model.calls == 1
    jax.tree.map(np.testing.assert_array_equal, made.scores, again.scores)
    jax.tree.map(np.testing.assert_array_equal, made.advantages, again.advantages)
    (tmp_path / "000000.scores.npz").unlink()  # the models' stay
    third = grpo.actor.rollout(None, 0, journal)
    jax.tree.map(np.testing.assert_array_equal, made.scores, third.scores)


@pytest.mark.parametrize("share", [pytest.param(False, marks=pytest.mark.slow), True])
def test_micro_batches_change_nothing_of_a_process_supervised_update(share):
    """And each token's advantage stands at its place."""
    updates = []
    for tokens in (128, 4096):
        config = dataclasses.replace(CONFIG, micro_batch_tokens=tokens, share_prompts=share)
        grpo = grpo_of(config, reward=StepReward(letters))
        sampled = rollout(grpo, start())
        state, metrics = update(grpo, grpo.start(start()), sampled)
        updates.append((metrics["grad_norm"], jax.device_get(state.train.params["embed"])))
        placed = sum(float((one["advantages"] * one["mask"]).sum()) for one in grpo.micro_batches(sampled))
        assert placed == pytest.approx(sum(one.sum() for one in sampled.advantages), rel=1e-4)
    np.testing.assert_allclose(updates[0][0], updates[1][0], rtol=1e-5)
    np.testing.assert_allclose(updates[0][1], updates[1][1], atol=2e-5)


@pytest.mark.slow
def test_a_run_with_rewards_of_steps_resumes_in_the_same_bits(tmp_path):
    def run(folder: Path, fails_at: int):
        calls = 0

        def reward(completions, step):
            nonlocal calls
            calls += 1
            if calls == fails_at:
                raise KeyboardInterrupt
            return letters(completions, step)

        reward.__name__ = "letters"
        return run_grpo(grpo_of(reward=[StepReward(reward), Parity("outcome")]), start, folder)

    whole = run(tmp_path / "whole", 0)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", 4)
    cut = run(tmp_path / "cut", 0)
    jax.tree.map(np.testing.assert_array_equal, *map(jax.device_get, (whole, cut)))
    rows = read_metrics(tmp_path / "cut" / "metrics.jsonl")
    assert {"rewards/letters/mean", "rewards/outcome/std"} <= rows[-1].keys()


@pytest.mark.slow
def test_eight_devices_give_the_same_advantages():
    mesh = parse_mesh(("data=2,fsdp=2,tensor=2",))
    ours, one = (
        rollout(
            grpo_of(mesh=on, reward=StepReward(letters)),
            init_params(MODEL, 0, grpo_of(mesh=on, reward=short).mesh),
        )
        for on in (mesh, None)
    )
    jax.tree.map(np.testing.assert_array_equal, ours.advantages, one.advantages)


def test_a_control_has_no_steps_to_replace():
    with pytest.raises(UserError, match="a control replaces rewards of whole completions"):
        grpo_of(reward=StepReward(letters), control=random_rewards)


def test_two_rewards_of_one_name_are_refused():
    with pytest.raises(UserError, match="two rewards have the same name: letters, letters"):
        grpo_of(reward=[StepReward(letters), letters])


def test_a_step_reward_must_give_a_number_for_each_step():
    grpo = grpo_of(reward=StepReward(lambda completions: [0.0]))
    with pytest.raises(UserError, match=r"returned 1 values for \d+ completions; return one number for each"):
        rollout(grpo, start())
