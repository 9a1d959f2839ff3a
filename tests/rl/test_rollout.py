"""The acting half: dynamic sampling, tools, and the journal that a restart reads."""

import dataclasses
import json
import os
import signal
import tempfile
import time
from itertools import chain
from pathlib import Path

import jax
import numpy as np
import pytest

from dsm_jax.errors import Preempted, UserError
from dsm_jax.mesh import parse_mesh, single_device_mesh
from dsm_jax.model import lora
from dsm_jax.model.config import LoRA
from dsm_jax.model.params import abstract_params, init_params
from dsm_jax.rl.grpo import run_grpo
from dsm_jax.rl.journal import Journal, Kept, name_of
from dsm_jax.rl.objectives import GRPOConfig
from dsm_jax.rl.reference import make_reference
from dsm_jax.rl.rollout_metrics import rollout_metrics
from dsm_jax.rl.speed import update_flops
from dsm_jax.rl.update import Whole, make_gradients
from dsm_jax.run import read_metrics
from dsm_jax.sample.request import Completion, Tool
from dsm_jax.sample.sampler import Sampler
from dsm_jax.train.checkpoint import Checkpoints
from dsm_jax.train.logps import token_logps
from dsm_jax.train.loop import LoopConfig
from dsm_jax.train.step import put_batch
from tests.rl.small import MODEL, TRAINING, advantages, make, rollout, short, start, update

DYNAMIC = dataclasses.replace(TRAINING, most_rollouts=3)


def numbered(draw):
    return [{"prompt": f"{draw * 4 + i} z"} for i in range(4)]


def spread_of(*numbers):
    """A reward that differs within the groups of these questions only."""

    def spread(prompts, completions):
        return [float(i % 2) if int(one.split()[0]) in numbers else 1.0 for i, one in enumerate(prompts)]

    return spread


def test_dynamic_sampling_replaces_groups_without_spread():
    grpo = make(DYNAMIC, prompts=numbered, reward=spread_of(1, 3, 5, 6, 7))
    found = rollout(grpo, start())
    assert found.draws == 2 and len(found.prompts) == 8
    used = [row["prompt"][0] for row, used in zip(found.prompts, found.used, strict=True) if used]
    assert used == list("1356")
    assert found.rows == 16 and (advantages(found)[~found.used] == 0).all()
    batches = grpo.micro_batches(found)
    assert sum(int(batch["segment_ids"][:, 0].sum()) for batch in batches) == 16
    assert update(grpo, grpo.start(start()), found)[1]["grad_norm"] > 0


def test_dynamic_sampling_ends_at_its_limit():
    """With the groups that it has; where none has a spread, with the first ones as they are."""
    few = rollout(make(DYNAMIC, prompts=numbered, reward=spread_of(1, 10)), start())
    assert few.draws == 3 and np.flatnonzero(few.used).tolist() == [1, 10] and few.rows == 8
    assert rollout_metrics(few)["groups_used"] == 2
    none = rollout(make(DYNAMIC, prompts=numbered, reward=spread_of()), start())
    assert none.draws == 3 and none.used.tolist() == [True] * 4 + [False] * 8
    assert (advantages(none) == 0).all()


def test_a_curriculum_s_further_draws_ask_other_questions():
    """And end where there are none."""
    rows = [{"prompt": f"{i} z"} for i in range(9)]
    config = dataclasses.replace(DYNAMIC, curriculum=True)
    grpo = make(config, prompts=rows, reward=spread_of(1))
    success = grpo.start(start()).success
    with tempfile.TemporaryDirectory() as folder:
        found, again = (
            grpo.actor.rollout(params, 0, Journal(Path(folder)), success=of)
            for params, of in ((start(), success), (None, None))
        )
    assert found.draws == again.draws == 2 and len(set(found.questions.tolist())) == 8
    assert found.questions.tolist() == again.questions.tolist()


@pytest.mark.slow
def test_what_a_tool_inserts_is_not_trained_on():
    """Its tokens are in the sequence, but neither in the mask nor in the counts of the loss."""
    calls = []

    def answer(text):
        calls.append(text)
        return "abc"

    tool = Tool(answer, stop="K", max_rounds=1)
    grpo = make(dataclasses.replace(TRAINING, max_completion_length=40), tool=tool)
    found = rollout(grpo, start())
    inserted = sum(int(one.inserted.sum()) for group in found.completions for one in group)
    assert calls and inserted > 0
    batches = grpo.micro_batches(found)
    drawn = sum(len(one.tokens) for group in found.completions for one in group) - inserted
    assert sum(int(batch["mask"].sum()) for batch in batches) == drawn
    _, metrics = update(grpo, grpo.start(start()), found)
    assert metrics["sampling/sampling_logp_difference/max"] < 1e-5 and metrics["kl"] == 0


def test_a_column_that_a_row_lacks_is_none(tmp_path):
    """In whichever row it is missing; of a list of rows also where a whole draw lacks it."""
    seen = []

    def sees(completions, level, source):
        seen.append((level, source))
        return [0.0] * len(completions)

    rows = [{"prompt": str(i), ("source", "level")[i % 2]: i} for i in range(4)]
    completions = [[Completion("x", np.zeros(1, int), *[np.zeros(1)] * 3, "stop")]] * 2
    make(prompts=rows, reward=sees).actor._score(rows[:1] * 2, completions, 0, Journal(tmp_path))
    made = make(prompts=lambda draw: rows, reward=sees).actor
    made._score(rows[:2], completions, 1, Journal(tmp_path))
    made.check_rewards()
    assert seen == [([None, None], [0, 0]), ([None, 1], [0, None]), ([None, 1], [0, None])]
    made.prompts = lambda draw: [*rows, {"prompt": "x", "completions": 1}]
    with pytest.raises(UserError, match="a row has the field completions, which is a reward's own argument"):
        made.check_rewards()


def test_a_journal_gives_back_what_it_keeps(tmp_path):
    """But no scores that nobody could go on with: a reward that is mended is asked again."""
    grpo, journal = make(reward=lambda completions: [None] * len(completions)), Journal(tmp_path)
    with pytest.raises(UserError, match="rollout 0: no completion has a reward"):
        grpo.actor.rollout(start(), 0, journal)
    grpo.actor.scorer = make().scorer
    made = grpo.actor.rollout(start(), 0, journal)
    assert grpo.actor.usage().steps > 0
    again = grpo.actor.rollout(None, 0, journal)
    assert grpo.actor.usage().steps == 0
    for one, other in zip(*(chain(*one.completions) for one in (made, again)), strict=True):
        for field in dataclasses.fields(one):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))
    np.testing.assert_array_equal(made.scores.total, again.scores.total)
    assert list(made.scores.by_name) == list(again.scores.by_name) == ["short"]


def test_a_journal_of_other_prompts_is_not_used(tmp_path):
    """Others with the same numbers, or fewer than there were."""
    journal, logps = Journal(tmp_path), np.zeros(1, np.float32)
    one = Completion("x", np.array([5]), logps, logps, logps > 0, "stop")
    journal.keep_completions(0, Kept(np.array([1, 5]), [[one] * 4] * 2, name_of(["1 z", "5 z"])))
    config = dataclasses.replace(TRAINING, curriculum=True)
    rows = [{"prompt": f"{i} z"} for i in range(6)]
    assert make(config, prompts=rows).actor.rollout(None, 0, journal).rows == 8
    for others in ([{"prompt": f"{i} y"} for i in range(6)], rows[:4]):
        with pytest.raises(UserError, match="rollout 0 is of other prompts than those asked now; go on with"):
            make(config, prompts=others).actor.rollout(None, 0, journal)


def test_a_damaged_journal_is_made_again(tmp_path, capsys):
    grpo, journal = make(), Journal(tmp_path)
    made = grpo.actor.rollout(start(), 0, journal)
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:100])
    again = grpo.actor.rollout(start(), 0, journal)
    assert capsys.readouterr().err.count("is damaged") == 2
    np.testing.assert_array_equal(made.rewards, again.rewards)
    (tmp_path / "000000.completions.npz").unlink()
    with pytest.raises(
        UserError, match="rollout 0 is missing, and the policy that it was drawn from is gone"
    ):
        grpo.actor.rollout(None, 0, journal)
    with pytest.raises(
        UserError, match="log-probabilities of rollout 0 are missing, and that policy is gone"
    ):
        journal.old_logps(0)


@pytest.mark.slow
def test_a_restart_samples_nothing_that_it_has(tmp_path, monkeypatch):
    """Killed three updates after the last checkpoint: their rollouts are read."""
    config = dataclasses.replace(TRAINING, loop=LoopConfig(steps=6, log_every=1, checkpoint_every=10))
    whole = run_grpo(make(config), start, tmp_path / "a")

    def dies(prompts, completions):
        dies.calls += 1
        if dies.calls == 5:  # the first one tries it
            raise KeyboardInterrupt
        return short(prompts, completions)

    dies.calls, dies.__name__ = 0, "short"
    with pytest.raises(KeyboardInterrupt):
        run_grpo(make(config, reward=dies), start, tmp_path / "b")
    assert not list((tmp_path / "b/checkpoints").glob("[0-9]*"))
    calls, generate = [], Sampler.generate
    monkeypatch.setattr(
        Sampler, "generate", lambda *args, **names: calls.append(1) or generate(*args, **names)
    )
    resumed = run_grpo(make(config), start, tmp_path / "b")
    assert len(calls) == 2  # the fourth was sampled too, and is only scored
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(whole), jax.device_get(resumed))


@pytest.mark.slow
def test_a_restart_between_the_updates_of_a_rollout(tmp_path):
    """mu = 3, stopped after each of the updates in turn."""
    config = dataclasses.replace(
        TRAINING, num_iterations=3, loop=LoopConfig(steps=6, log_every=1, checkpoint_every=1)
    )
    whole = run_grpo(make(config), start, tmp_path / "a")
    for steps in range(1, 7):
        shorter = dataclasses.replace(config, loop=dataclasses.replace(config.loop, steps=steps))
        (tmp_path / "b/done.json").unlink(missing_ok=True)
        last = run_grpo(make(shorter), start, tmp_path / "b")
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(whole), jax.device_get(last))
    rows = [read_metrics(tmp_path / name / "metrics.jsonl") for name in "ab"]
    for a, b in zip(*rows, strict=True):
        assert a["loss"] == b["loss"] and a["reward"] == b["reward"]
        assert a["num_tokens"] == b["num_tokens"]
        for name in ("seconds/rollout", "seconds/rewards", "tools/inserted_tokens"):
            assert (name in a) == (name in b) == (a["step"] in (1, 4))  # a rollout counts once
    assert [row["clip_ratio/region_mean"] > 0 for row in rows[0]][0::3] == [False, False]


@pytest.mark.slow
def test_a_restart_on_another_mesh_between_the_updates_of_a_rollout(tmp_path):
    """The old policy's log-probabilities come with the completions: they are near the sampler's."""
    loop = LoopConfig(steps=2, log_every=1, checkpoint_every=1)
    config = dataclasses.replace(TRAINING, num_iterations=2, loop=loop)
    run_grpo(make(config), start, tmp_path / "a")
    mesh = parse_mesh("data=2,fsdp=2,tensor=2")
    once = dataclasses.replace(config, loop=dataclasses.replace(loop, steps=1))
    run_grpo(make(once), start, tmp_path / "b")
    (tmp_path / "b/done.json").unlink()
    other = dataclasses.replace(config, micro_batch_tokens=512)
    run_grpo(make(other, mesh), lambda: init_params(MODEL, 0, mesh), tmp_path / "b")
    a, b = (read_metrics(tmp_path / name / "metrics.jsonl")[1] for name in "ab")
    assert b["sampling/sampling_logp_difference/max"] < 1e-5
    for name in ("loss", "kl", "grad_norm", "clip_ratio/region_mean"):
        assert a[name] == pytest.approx(b[name], rel=1e-3, abs=1e-5), name


def test_sigterm_within_a_rollout_is_answered_at_once(tmp_path):
    """Not after the update: a step of a large model takes minutes. Nor after a reward that hangs; what was sampled stays.
    This run has no reference to go on with."""

    def prompts(draw):
        if draw == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return [{"prompt": f"{draw} {i}"} for i in range(4)]

    loop = LoopConfig(steps=4, log_every=1, checkpoint_every=100)
    config = dataclasses.replace(TRAINING, loop=loop, loss=GRPOConfig(beta=0.0))
    with pytest.raises(Preempted, match="saved at step 2"):
        run_grpo(make(config, prompts=prompts), start, tmp_path / "a")
    assert not (tmp_path / "a/rollouts/000002.completions.npz").exists()
    calm = lambda draw: [{"prompt": f"{draw} {i}"} for i in range(4)]

    def hangs(completions):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(600)

    hangs.__name__ = "short"
    with pytest.raises(Preempted, match="saved at step 2"):
        run_grpo(make(config, prompts=calm, reward=hangs), start, tmp_path / "a")
    assert (tmp_path / "a/rollouts/000002.completions.npz").exists()
    assert not (tmp_path / "a/rollouts/000002.scores.npz").exists()
    resumed = run_grpo(make(config, prompts=calm), start, tmp_path / "a")
    whole = run_grpo(make(config, prompts=calm), start, tmp_path / "b")
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(whole), jax.device_get(resumed))


@pytest.mark.slow
def test_a_curriculum_keeps_what_came_of_the_questions(tmp_path):
    """Also over a restart between the updates of a rollout, whose questions are then chosen already."""
    rows = [{"prompt": f"{i} z"} for i in range(30)]
    loop = LoopConfig(steps=6, log_every=1, checkpoint_every=1)
    config = dataclasses.replace(TRAINING, curriculum=True, num_iterations=2, loop=loop)
    of_even = spread_of(*range(0, 30, 2))
    run_grpo(make(config, prompts=rows, reward=of_even), start, tmp_path / "a")
    asked = [asked_in(tmp_path / "a", step) for step in (0, 2, 4)]
    assert all(len(numbers) == 4 for numbers in asked)
    grpo = make(config, prompts=rows, reward=of_even)
    with Checkpoints(tmp_path / "a/checkpoints", read_only=True) as checkpoints:
        success = np.asarray(checkpoints.restore(grpo.target()).success)
    for number in range(30):
        if not any(number in numbers for numbers in asked):
            assert np.isnan(success[number])
        else:
            assert success[number] == (1.0 if number % 2 else 0.5)
    for steps in range(1, 7):
        shorter = dataclasses.replace(config, loop=dataclasses.replace(loop, steps=steps))
        (tmp_path / "b/done.json").unlink(missing_ok=True)
        run_grpo(make(shorter, prompts=rows, reward=of_even), start, tmp_path / "b")
    assert [asked_in(tmp_path / "b", step) for step in (0, 2, 4)] == asked


def asked_in(folder, step):
    lines = (folder / f"completions/{step:06d}.jsonl").read_text().splitlines()
    return {int(json.loads(line)["prompt"].split()[0]) for line in lines}


OVERLAP = dataclasses.replace(
    TRAINING, overlap=True, loss=GRPOConfig(importance_sampling_correction=True), micro_batch_tokens=64
)


@pytest.mark.slow
def test_overlap_samples_from_the_policy_one_update_ago(tmp_path):
    """Draws 0 and 1 are of the first policy, draw 2 of the second; the last update samples nothing."""
    loop = LoopConfig(steps=3, log_every=1, checkpoint_every=1, keep=5)
    config = dataclasses.replace(OVERLAP, loop=loop)
    run_grpo(make(config), start, tmp_path)
    once = dataclasses.replace(config, loop=dataclasses.replace(loop, steps=1))
    second = run_grpo(make(once), start, tmp_path / "once")
    journal = Journal(tmp_path / "rollouts")
    for draw, params in enumerate([start(), start(), second]):
        wanted, found = rollout(make(), params, draw), journal.completions(draw)
        assert found is not None
        for one, other in zip(chain(*wanted.completions), chain(*found.completions), strict=True):
            assert one.tokens.tolist() == other.tokens.tolist()
    assert journal.completions(3) is None
    rows = read_metrics(tmp_path / "metrics.jsonl")
    mismatch = [row["sampling/sampling_logp_difference/max"] for row in rows]
    assert mismatch[0] < 1e-5 < mismatch[1]
    beside = [row.get("seconds/rollout_beside_update", 0.0) for row in rows]
    assert beside[0] > 0 and beside[1] > 0 == beside[2]
    for row, seconds in zip(rows, beside, strict=True):
        assert ("tokens_per_second/update" in row) == (seconds == 0)
        assert seconds + row.get("seconds/rewards_beside_update", 0.0) < row["seconds/update"]
        assert row["seconds/rollout"] + row["seconds/rewards"] + row["seconds/update"] < row["step_time"]


@pytest.mark.slow
def test_overlap_changes_no_update_and_restarts_in_the_same_bits(tmp_path):
    config = dataclasses.replace(OVERLAP, num_iterations=2)
    grpo, alone = make(config), make(dataclasses.replace(config, overlap=False))
    found = rollout(grpo, start())
    states = [update(one, one.start(start()), found)[0] for one in (grpo, alone)]
    jax.tree.map(np.testing.assert_array_equal, *(jax.device_get(state.train) for state in states))

    def dies(prompts, completions):
        dies.calls += 1
        if dies.calls == 4:  # the first one tries it
            raise KeyboardInterrupt
        return short(prompts, completions)

    dies.calls, dies.__name__ = 0, "short"
    config = dataclasses.replace(config, loop=dataclasses.replace(config.loop, steps=6))
    whole = run_grpo(make(config), start, tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        run_grpo(make(config, reward=dies), start, tmp_path / "b")
    resumed = run_grpo(make(config), start, tmp_path / "b")
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(whole), jax.device_get(resumed))


@pytest.mark.slow
def test_old_rollouts_go(tmp_path):
    loop = LoopConfig(steps=8, log_every=1, checkpoint_every=1, keep=1)
    run_grpo(make(dataclasses.replace(TRAINING, loop=loop)), start, tmp_path)
    kept = {int(file.name[:6]) for file in (tmp_path / "rollouts").iterdir()}
    assert kept == {5, 6, 7}


def test_with_beta_0_there_is_no_reference():
    """Neither in the state nor in the update; LoRA keeps its base, and does not run it."""
    without, low = dataclasses.replace(TRAINING, loss=GRPOConfig(beta=0.0)), LoRA(rank=2)
    with pytest.raises(UserError, match="sync_ref_model: with loss.beta 0 there is no reference"):
        dataclasses.replace(without, sync_ref_model=True)
    grpo = make(without)
    assert grpo.start(start()).reference is grpo.target().reference is None
    assert make(dataclasses.replace(without, lora=low)).target().reference is not None
    for config in (TRAINING, dataclasses.replace(TRAINING, lora=low)):
        lengths, other = [16] * 16, dataclasses.replace(config, loss=GRPOConfig(beta=0.0))
        less = flops(config) - flops(other)
        wanted = update_flops(config, MODEL, lengths) - update_flops(other, MODEL, lengths)
        assert less > 0.8 * wanted > 0


def flops(config) -> float:
    """XLA's count for an update of 16 rows of 16 tokens."""
    mesh, model = single_device_mesh(), dataclasses.replace(MODEL, lora=config.lora)
    programs, jit = [], jax.jit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "jit", lambda f, **options: programs.append(jit(f, **options)) or programs[-1])
        make_gradients(config, model, mesh)
    tokens, numbers = np.ones((16, 16), np.int32), np.ones((16, 16), np.float32)
    batch = {"tokens": tokens, "segment_ids": tokens, "mask": numbers, "sampler_logps": numbers}
    params = lora.trained(model, abstract_params(model, mesh))
    reference = make(config).target().reference
    with jax.set_mesh(mesh):
        batch = put_batch(batch | {"advantages": numbers[0]}, mesh)
        return programs[0].lower(params, params, reference, batch, Whole(16, 256)).cost_analysis()["flops"]


@pytest.mark.slow
def test_the_reference_follows_the_policy():
    config = dataclasses.replace(
        TRAINING, sync_ref_model=True, ref_model_sync_steps=2, ref_model_mixup_alpha=0.25
    )
    grpo = make(config)
    state = grpo.start(start())
    first = jax.device_get(state.reference)
    state, _ = update(grpo, state, rollout(grpo, grpo.policy(state), 0))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.reference), first)
    state, metrics = update(grpo, state, rollout(grpo, grpo.policy(state), 1))
    assert metrics["kl"] > 0
    wanted = jax.tree.map(lambda a, b: 0.75 * a + 0.25 * b, first, jax.device_get(state.train.params))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8),
        jax.device_get(state.reference),
        wanted,
    )


def test_the_reference_computes_as_the_policy_does():
    """In bf16 it takes half the memory, and the first KL is 0 all the same."""
    model = dataclasses.replace(MODEL, dtype="bfloat16")
    grpo = make()
    reference = make_reference(model, start(), grpo.mesh)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(reference)} == {"bfloat16", "float32"}
    assert reference["layers"]["q"].dtype.name == "bfloat16"
    ids = np.arange(4, 36, dtype=np.int32).reshape(2, 16)
    with jax.set_mesh(grpo.mesh):
        scores = [
            jax.jit(lambda params: token_logps(model, params, ids, np.ones_like(ids)).logps)(params)
            for params in (start(), reference)
        ]
    np.testing.assert_array_equal(*scores)
