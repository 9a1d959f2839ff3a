"""Where completions come from: each once, in order, counted."""

import jax
import numpy as np
import pytest

from dsm_jax.data.sft import encode_example
from dsm_jax.errors import UserError
from dsm_jax.rl.journal import Journal
from dsm_jax.rl.paradigm.method import METHODS
from dsm_jax.train.loop import LoopConfig
from tests.rl.paradigm.setting import SOLUTIONS, make, training
from tests.rl.small import Letters, start


def test_the_table_is_the_paper_s():
    """Table 10: reference and critic are held by the methods that need them, and by no other."""
    offline = {name for name, one in METHODS.items() if one.source.is_kept or not one.source.is_sampled}
    assert offline == {"sft", "rft", "dpo", "dpo_of_sums"}
    assert {name for name, one in METHODS.items() if one.needs_critic} == {"ppo", "ppo_steps"}
    assert {name for name, one in METHODS.items() if one.needs_reference} == {
        *("dpo", "dpo_of_sums", "ppo", "ppo_steps", "grpo", "grpo_steps")
    }
    rule = {name for name, one in METHODS.items() if one.reward == "rule"}
    assert rule == {"rft", "dpo", "dpo_of_sums", "online_rft"}


def test_worked_solutions_are_those_of_sft_each_once_an_epoch():
    source = make("sft", training(batch_size=10, num_generations=2)).source
    fetched = [source(draw, None, None) for draw in range(2)]
    rows = [(*one.prompt_ids, *one.completions[0].tokens) for part in fetched for one in part.groups]
    wanted = [tuple(encode_example(*pair, Letters()).ids) for pair in SOLUTIONS]
    assert sorted(rows) == sorted(wanted)
    for one in fetched[0].groups:
        assert one.completions[0].tokens[-1] == Letters.eos_id and not one.completions[0].inserted.any()


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Three rollouts of the start policy, by run's folder."""
    folder = tmp_path_factory.mktemp("kept")
    make("rft", training(loop=LoopConfig(steps=3))).prepare(start(), folder)
    return folder


@pytest.mark.parametrize("method", ["rft", "dpo"])
def test_kept_samples_are_graded_and_each_is_dealt_once(method, kept):
    paradigm = make(method, training(loop=LoopConfig(steps=3)))
    paradigm.prepare(None, kept)  # nothing is drawn a second time, by any method
    source, actor = paradigm.source, paradigm.actor
    drawn = [actor.rollout(None, draw, Journal(kept / "samples")) for draw in range(3)]
    rewards = np.concatenate([one.rewards for one in drawn])
    right, wrong = (rewards == 1).sum(axis=1), (rewards == 0).sum(axis=1)
    there = int(right.sum()) if method == "rft" else int(np.minimum(right, wrong).sum())
    fetched = [source(draw, None, kept / "samples") for draw in range(3)]
    groups = [group for part in fetched for group in part.groups]
    assert len(groups) == there // 3 * 3 and source.samples(0) == source.samples(2) == 48
    seen = [id for group in groups for id in map(key, group.completions, [group] * 2)]
    every = [
        (tuple(paradigm.source.given.tokenizer.encode(row["prompt"])), one.tokens.tobytes(), float(reward))
        for part in drawn
        for row, completions, marks in zip(part.prompts, part.completions, part.rewards, strict=True)
        for one, reward in zip(completions, marks, strict=True)
    ]
    marked = [
        (*one, float(reward))
        for one, reward in zip(
            seen, np.concatenate([part.graded.rewards.ravel() for part in fetched]), strict=True
        )
    ]
    assert all(every.count(one) >= marked.count(one) for one in marked)
    for part in fetched:
        wanted = [1.0, 0.0] if method == "dpo" else [1.0]
        assert part.graded.rewards.tolist() == [wanted] * len(part.groups)


def test_a_folder_of_samples_is_of_one_kind(kept):
    hotter = make("rft", training(loop=LoopConfig(steps=3), temperature=0.5))
    with pytest.raises(UserError, match=r"--samples.temperature \(there 1.0, now 0.5\)"):
        hotter.prepare(None, kept)


def test_samples_of_another_start_or_another_rule_are_not_taken(kept):
    def other(prompts, completions):
        return [1.0] * len(completions)

    config = training(loop=LoopConfig(steps=3))
    with pytest.raises(UserError, match=r"--samples.rewards.early \(there 1.0, now absent\)"):
        make("dpo", config, reward=other).prepare(start(), kept)
    moved = jax.tree.map(lambda leaf: leaf + 0.1, start())
    with pytest.raises(UserError, match="--samples.start"):
        make("dpo", config).prepare(moved, kept)
    make("dpo", config).prepare(start(), kept)


def key(one, group):
    return tuple(group.prompt_ids[1:]), one.tokens.tobytes()
