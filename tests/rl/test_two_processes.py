"""GRPO in two processes: one device's run, whatever cuts it; the first process calls the rewards and writes."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from shutil import copyfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dsm_jax.rl.journal import Journal
from dsm_jax.run import read_metrics
from dsm_jax.sample import Request
from tests.processes import run_processes, start_processes, wait_for
from tests.rl.run_of_two import Run
from tests.rl.small import MODEL, Letters, make, rollout, start
from tests.sample.ties import assert_same_or_near_tie

pytestmark = pytest.mark.slow


def command(out: Path, *words: str) -> list[str]:
    return ["-m", "tests.rl.run_of_two", "--out", str(out), *words]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The run's folder."""
    out = tmp_path_factory.mktemp("whole") / "run"
    first, second = run_processes(command(out), 2)
    assert "calls of the reward: 2" in first[0] and "calls of the reward: 0" in second[0]
    assert first[1].count("alarm at update") == 1 and "alarm" not in second[1]
    return out


def one_device(folder: Path, whole: Path) -> tuple[list, list[dict]]:
    """The policy before each update, and the metrics; the completions are the other run's, scored and trained on anew."""
    grpo = make(Run().training)
    for name in ("completions", "rollouts"):
        (folder / name).mkdir()
    for file in (whole / "rollouts").glob("*.completions.npz"):
        copyfile(file, folder / "rollouts" / file.name)
    state, policies, rows = grpo.start(start()), [], []
    for step in range(Run().training.loop.steps):
        policies.append(jax.tree.map(jnp.copy, grpo.policy(state)))
        state, metrics = grpo.step(state, step, folder)
        rows.append(metrics)
    return policies, rows


def check_samples(policy, draw: int, whole: Path) -> None:
    """One device draws the same from this policy, up to near-ties."""
    grpo, kept = make(Run().training), Journal(whole / "rollouts").completions(draw)
    rows, ours = grpo.actor.prompts(draw), rollout(grpo, policy, draw).completions
    pairs = zip(chain(*ours), chain(*kept.completions), strict=True)
    for i, (one, other) in enumerate(pairs):
        prompt, sample = divmod(i, Run().training.num_generations)
        ids = [Letters.bos_id, *Letters().encode(rows[prompt]["prompt"])]
        request = Request(ids, prompt_id=draw * len(rows) + prompt)
        assert_same_or_near_tie(MODEL, request, one, other, sample, params=policy)


def test_two_processes_train_as_one_device(whole, tmp_path):
    """The same completions, losses and lengths of gradients within 1e-5, in both updates of two rollouts."""
    policies, rows = one_device(tmp_path, whole)
    for draw in (0, 1):
        check_samples(policies[2 * draw], draw, whole)
    for step, (ours, theirs) in enumerate(zip(read_metrics(whole / "metrics.jsonl"), rows, strict=True)):
        for name in ("loss", "grad_norm", "reward", "kl", "entropy", "completions/mean_length", "num_tokens"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-5, abs=1e-5), (step, name)
    texts = [sorted(folder.glob("completions/*.jsonl")) for folder in (whole, tmp_path)]
    assert len(texts[0]) == 2 and [one.read_text() for one in texts[0]] == [
        one.read_text() for one in texts[1]
    ]


def test_a_reward_that_fails_ends_all_and_killed_ones_go_on(whole, tmp_path):
    """In the second rollout, which saves the first one's updates; then killed between its two updates."""
    out = tmp_path / "run"
    for _, err in run_processes(command(out, "--fails-at", "2"), 2, code=2):
        assert err.count("error: reward short, row 0: ValueError: no server") == 1 and "Traceback" not in err
    assert (out / "rollouts/000001.completions.npz").exists() and (out / "checkpoints/2").exists()
    running = start_processes(command(out), 2)
    wait_for(out / "checkpoints/3", running)  # every third is saved
    for process in running:
        process.kill()
        process.communicate()
    assert not (out / "done.json").exists()
    first, _ = run_processes(command(out), 2)
    assert "calls of the reward: 0" in first[0]  # the journal has what it gave
    with np.load(out / "last.npz") as ours, np.load(whole / "last.npz") as theirs:
        for name in theirs:
            np.testing.assert_array_equal(ours[name], theirs[name])
