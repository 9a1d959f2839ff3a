"""The one loop of all methods: what each learns, that GRPO in it is GRPO, and that a killed run ends in the same bits."""

import dataclasses
import json
import os
import subprocess
import sys
import weakref

import jax
import numpy as np
import pytest

from dsm_jax.data.prompts import prompt_text
from dsm_jax.errors import UserError
from dsm_jax.mesh import parse_mesh, single_device_mesh
from dsm_jax.model import Model
from dsm_jax.model.params import init_params
from dsm_jax.rl.alarms import AlarmOptions
from dsm_jax.rl.config import GRPOTraining
from dsm_jax.rl.grpo import GRPO
from dsm_jax.rl.objectives import GRPOConfig
from dsm_jax.rl.paradigm.config import ParadigmTraining
from dsm_jax.rl.paradigm.loop import Paradigm, run_paradigm
from dsm_jax.rl.paradigm.method import METHODS
from dsm_jax.rl.scoring import StepReward
from dsm_jax.run import read_metrics
from dsm_jax.train.loop import LoopConfig
from tests.rl import small
from tests.rl.paradigm.setting import CONFIG, Lines, early, letters, make, steps_of, training
from tests.rl.small import MODEL, Letters, start


def equal(one, other, atol=0.0):
    pairs = zip(*(jax.tree.leaves(jax.device_get(tree)) for tree in (one, other)), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, atol=atol, rtol=0)


def begun(paradigm, folder):
    params = init_params(MODEL, 0, paradigm.mesh)
    (folder / "completions").mkdir(parents=True, exist_ok=True)
    paradigm.prepare(params, folder)
    return paradigm.start(params)


@pytest.mark.parametrize("mu", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_grpo_in_this_loop_is_grpo(mu, tmp_path):
    """Sampled from the same keys, and the same parameters after each of mu updates of a rollout."""
    config = training(num_iterations=mu)
    ours = make("grpo", config)
    state, _ = steps_of(ours, begun(ours, tmp_path), tmp_path, 1 + mu)
    grpo = GRPO(
        config.training, MODEL, ours.actor.tokenizer, ours.mesh, prompts=ours.actor.prompts, reward=early
    )
    wanted = grpo.start(init_params(MODEL, 0, grpo.mesh))
    (tmp_path / "grpo/completions").mkdir(parents=True)
    for step in range(1 + mu):
        wanted, _ = grpo.step(wanted, step, tmp_path / "grpo")
    equal(state.train.params, wanted.train.params, atol=2e-5)
    assert float(jax.numpy.abs(state.train.params["head"] - start()["head"]).max()) > 1e-3


def written(folder):
    """The first rollout's completions, as people see them."""
    rows = (folder / "completions/000000.jsonl").read_text().splitlines()
    return [json.loads(row) for row in rows]


def rewarded_first_letters(params) -> float:
    """The probability of a first letter that is rewarded, in the mean of some questions."""
    tokenizer, model = Lines(), Model(MODEL, params)
    prompts = [[tokenizer.bos_id, *tokenizer.encode(prompt_text(f"q{i} 0"))] for i in range(10)]
    logits = np.asarray(model.logits(np.array(prompts)))[:, -1]
    early_ones = [token for token in range(32) if token not in (tokenizer.bos_id, tokenizer.eos_id)]
    return float(jax.nn.softmax(logits)[:, early_ones].sum(axis=1).mean())


FAST = ("reinforce",)


@pytest.mark.parametrize(
    "method", [pytest.param(one, marks=() if one in FAST else pytest.mark.slow) for one in METHODS]
)
def test_a_method_learns_and_a_killed_run_ends_in_the_same_bits(method, tmp_path):
    longer = training(loop=LoopConfig(steps=10, log_every=1, checkpoint_every=2), num_iterations=2)
    whole = run_paradigm(make(method, longer), start, tmp_path / "a")
    rows = read_metrics(tmp_path / "a" / "metrics.jsonl")
    assert all(np.isfinite(value) for row in rows for value in row.values())
    if method == "reinforce":
        assert all(one["advantage"] == one["reward"] for one in written(tmp_path / "a"))
    if method == "sft":
        assert rows[-1]["loss"] < rows[0]["loss"] - 0.5
    else:
        assert rewarded_first_letters(whole) > rewarded_first_letters(start()) + 0.1
    if METHODS[method].reward == "outcome":
        assert rows[-1]["reward"] > rows[0]["reward"] + 0.1
    assert rows[-1]["num_samples"] == (0 if method == "sft" else 80)  # 5 rollouts of 16

    killed = make(method, longer)
    step, calls = killed.step, iter(range(100))

    def dies(*args):
        found = step(*args)
        if next(calls) == 4:  # between two checkpoints, and between the two updates of a rollout
            raise KeyboardInterrupt
        return found

    killed.step = dies
    with pytest.raises(KeyboardInterrupt):
        run_paradigm(killed, start, tmp_path / "b")
    resumed = run_paradigm(make(method, longer), start, tmp_path / "b")
    equal(whole, resumed)
    looked = []  # of a run that was killed after its last update, at its policy all the same
    run_paradigm(make(method, longer), start, tmp_path / "b", look=lambda _, step: looked.append(step) or {})
    assert looked == [10]
    timeless = [
        [
            {name: value for name, value in row.items() if "second" not in name and name != "step_time"}
            for row in read_metrics(tmp_path / run / "metrics.jsonl")
        ]
        for run in "ab"
    ]
    assert timeless[0] == timeless[1]


CHILD = """
import os, sys
from pathlib import Path
os.environ["JAX_PLATFORMS"] = "cpu"
from dsm_jax.rl.paradigm.loop import run_paradigm
from dsm_jax.train.loop import LoopConfig
from tests.rl.paradigm.setting import make, training
from tests.rl.small import start
config = training(loop=LoopConfig(steps=6, log_every=1, checkpoint_every=1))
paradigm, kill_at = make(sys.argv[1], config), int(sys.argv[3])
journal_write = __import__("dsm_jax.rl.journal", fromlist=["Journal"]).Journal._write
count = iter(range(10_000))
def write(self, *args):
    if next(count) == kill_at:
        os.kill(os.getpid(), 9)
    journal_write(self, *args)
__import__("dsm_jax.rl.journal", fromlist=["Journal"]).Journal._write = write
run_paradigm(paradigm, start, Path(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dpo", "ppo"])
def test_kill_9_in_the_midst_of_sampling(method, tmp_path):
    config = training(loop=LoopConfig(steps=6, log_every=1, checkpoint_every=1))
    for at in (3, 7, 10_000):
        command = [sys.executable, "-c", CHILD, method, str(tmp_path / "b"), str(at)]
        done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
        assert done.returncode == (-9 if at < 10_000 else 0), done.stderr
    command[-2] = str(tmp_path / "a")
    subprocess.run(command, env=os.environ, capture_output=True, check=True)
    equal(*(run_paradigm(make(method, config), start, tmp_path / name) for name in "ab"))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dpo", "ppo"])
def test_eight_devices_make_the_same_update(method, tmp_path):
    found = []
    for name, mesh in (("one", None), ("eight", parse_mesh(("data=2,fsdp=2,tensor=2",)))):
        paradigm = make(method, training(loop=LoopConfig(steps=2)), mesh)
        folder = tmp_path / name
        state, metrics = steps_of(paradigm, begun(paradigm, folder), folder, 1)
        found.append((state, metrics))
        jax.tree.map(
            lambda leaf, target: leaf.sharding.is_equivalent_to(target.sharding, leaf.ndim) or pytest.fail(),
            state,
            paradigm.target(),
        )
    equal(found[0][0].train.params, found[1][0].train.params, atol=1e-4)
    assert found[0][1]["loss"] == pytest.approx(found[1][1]["loss"], abs=1e-5)


def test_micro_batches_change_nothing(tmp_path):
    found = []
    for name, tokens in (("few", 64), ("one", 2048)):
        paradigm = make("dpo", training(loop=LoopConfig(steps=2), micro_batch_tokens=tokens))
        folder = tmp_path / name
        state = begun(paradigm, folder)
        fetched = paradigm.source(0, None, folder / "samples")
        batch = paradigm.micro_batches(fetched.groups)
        found.append(paradigm._update(state, batch, paradigm._columns(state, fetched, batch), None, 0, 0))
        assert (len(batch) == 1) == (name == "one")
    (_, few), (_, one) = found
    assert one["loss"] == pytest.approx(np.log(2), abs=1e-6)  # the policy is the reference
    for name in few:
        assert few[name] == pytest.approx(one[name], abs=1e-5), name


def test_the_first_update_of_ppo_has_the_return_for_an_advantage(tmp_path):
    """A critic that says 0 everywhere: with lam 1 and no KL yet A_t is the outcome's reward, on every token."""
    config = dataclasses.replace(CONFIG, lam=1.0)
    paradigm = make("ppo", config)
    state = begun(paradigm, tmp_path)
    after, metrics = steps_of(paradigm, state, tmp_path, 1)
    by_tokens = metrics["coefficient/mean"]
    assert metrics["critic/value"] == 0 and metrics["critic/return"] == pytest.approx(by_tokens, abs=1e-6)
    assert metrics["critic/loss"] == pytest.approx(0.5 * metrics["reward"], abs=1e-6)  # rewards are 0 or 1
    assert metrics["loss"] == pytest.approx(-metrics["reward"], abs=1e-6)
    assert all(one["advantage"] == pytest.approx(one["reward"], abs=1e-5) for one in written(tmp_path))
    assert float(jax.numpy.abs(after.critic.params["head"][:, 0]).max()) > 0


class Judge:
    """An outcome reward model."""

    kind = "outcome"

    def require_policy(self, tokenizer, splitting):
        pass

    def score(self, prompts, completions, ends):
        return [np.full(len(one), 0.3) for one in ends]


WRONG = {
    "learns from rewards of steps": lambda: make("grpo_steps", reward=early),
    "learns from rewards of whole completions": lambda: make("grpo", reward=StepReward(letters)),
    "grpo_steps does not learn from rewards of whole completions": lambda: make(
        "grpo_steps", reward=[early, StepReward(letters)]
    ),
    "reinforce does not learn from rewards of steps": lambda: make(
        "reinforce", reward=[early, StepReward(letters)]
    ),
    "0 or 1, which no model gives": lambda: make("online_rft", reward=[early, Judge()]),
    "give some": lambda: make("sft", solutions=()),
    "no overlap": lambda: ParadigmTraining(
        GRPOTraining(overlap=True, loss=GRPOConfig(importance_sampling_correction=True))
    ),
    "no alarms": lambda: ParadigmTraining(GRPOTraining(alarms=AlarmOptions(kl=0.01))),
    "only beta and epsilon": lambda: ParadigmTraining(GRPOTraining(loss=GRPOConfig(loss_type="dapo"))),
    "lam is 2": lambda: ParadigmTraining(lam=2.0),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_cannot_work_is_one_line(message):
    with pytest.raises(UserError, match=message):
        WRONG[message]()


def test_an_unknown_method_is_one_line():
    with pytest.raises(UserError, match="there is no method best; take one of sft, rft"):
        Paradigm("best", CONFIG, MODEL, Letters(), single_device_mesh())


def test_samples_that_teach_nothing_end_the_run_in_one_line(tmp_path):
    def never(prompts, completions):
        return [0.0] * len(completions)

    with pytest.raises(UserError, match="of 64 samples of the start policy none"):
        run_paradigm(make("dpo", reward=never), start, tmp_path)


@pytest.mark.parametrize("method", ["online_rft", "rft"])
def test_a_rule_is_0_or_1(method, tmp_path):
    paradigm = make(method, reward=small.short)
    with pytest.raises(UserError, match="needs a reward that is 0 or 1"):
        run_paradigm(paradigm, start, tmp_path)


def test_the_policy_s_gradients_are_gone_when_the_critic_s_are_made(tmp_path):
    paradigm = make("ppo")
    policy, critic = paradigm.learner.gradients, paradigm.critic.learner.gradients
    made, alive = [], []

    def of_policy(*args):
        found = policy(*args)
        made.extend(map(weakref.ref, jax.tree.leaves(found[0])))
        return found

    def of_critic(*args):
        arrays = [one() for one in made]
        alive.extend(one.shape for one in arrays if one is not None and not one.is_deleted())
        return critic(*args)

    paradigm.learner.gradients, paradigm.critic.learner.gradients = of_policy, of_critic
    steps_of(paradigm, begun(paradigm, tmp_path), tmp_path, 1)
    assert made and not alive


def test_a_folder_is_of_one_method_and_its_options(tmp_path):
    class Stopped(Exception):
        pass

    def stopped():
        raise Stopped

    begun = 'there "online_rft", now "reinforce_baseline"'
    with pytest.raises(Stopped):
        run_paradigm(make("online_rft"), stopped, tmp_path)
    with pytest.raises(UserError, match=begun):
        run_paradigm(make("reinforce_baseline"), stopped, tmp_path)
    with pytest.raises(UserError, match="--rewards"):
        run_paradigm(make("online_rft", reward=small.short), stopped, tmp_path)
    rarer = dataclasses.replace(CONFIG.training.loop, keep=5)  # changes no result
    with pytest.raises(Stopped):
        run_paradigm(make("online_rft", training(loop=rarer)), stopped, tmp_path)
