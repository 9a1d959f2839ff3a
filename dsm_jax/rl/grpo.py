"""Group Relative Policy Optimization (DeepSeekMath, section 4.1): rollout, rewards, advantages, update.

One process, one mesh: the sampler decodes from the parameters that the learner has just written. A step is one update of
the policy, mu of which follow a rollout. The reference policy is the one training started from, or follows the policy
(sync_ref_model); with beta 0 there is none. Of several processes all sample and train; the first one calls the rewards and
writes the files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from dsm_jax.mesh import batch_shards, replicated
from dsm_jax.model import lora
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.decoder import Params
from dsm_jax.processes import on_first_process
from dsm_jax.rl.actor import Actor, Control
from dsm_jax.rl.alarms import Alarms
from dsm_jax.rl.completions_file import completions_text
from dsm_jax.rl.config import GRPOTraining
from dsm_jax.rl.journal import Journal
from dsm_jax.rl.micro_batches import Arrays, micro_batches, of_completions
from dsm_jax.rl.prompts import Prompts, Row
from dsm_jax.rl.reference import make_reference, mixed, reference_target
from dsm_jax.rl.reward_functions import accuracy_reward
from dsm_jax.rl.rollout import Rollout
from dsm_jax.rl.rollout_metrics import num_tokens, rollout_metrics, rollout_sums
from dsm_jax.rl.scoring import AnyReward, Scorer
from dsm_jax.rl.speed import compilations, rollout_speed, update_speed
from dsm_jax.rl.update import Learner
from dsm_jax.run import METRICS, read_metrics, write_text
from dsm_jax.sample.request import Tool
from dsm_jax.tokenizer import Tokenizer
from dsm_jax.train.loop import run_loop
from dsm_jax.train.step import TrainState, abstract_state, start_state

ROLLOUTS, COMPLETIONS = "rollouts", "completions"
Look = Callable[[Params, int], Mapping[str, float]]
OnUpdate = Callable[[int, Mapping[str, float]], None]


class GRPOState(NamedTuple):
    """What a checkpoint holds: the policy with its optimiser, the reference policy, and the data position."""

    train: TrainState
    reference: Params | None  # None: config.holds_reference is False
    draws: Any  # int32 [2]: the first draw of the rollout in hand, and of the next one
    num_tokens: (
        Any  # uint32 [2], halves() of a count: of all rollouts so far, each completion with its prompt
    )
    success: Any  # with a curriculum fp32 [questions], the share of right completions, NaN before the first; else None


class GRPO:
    """The compiled programs of a run and the step that joins them.

    prompts: rows with "prompt" and the columns that rewards take, of which each epoch has an order of its own; or a function
    that gives the prompts_per_rollout rows of a draw. tool: what completions may call; the tokens it inserts are no part of
    the loss.
    """

    def __init__(
        self,
        config: GRPOTraining,
        model: ModelConfig,
        tokenizer: Tokenizer,
        mesh: Mesh,
        *,
        prompts: Sequence[Row] | Prompts | Callable[[int], Sequence[Row]],
        reward: AnyReward | Sequence[AnyReward] = accuracy_reward,
        control: Control | None = None,
        tool: Tool | None = None,
        rng_seed: int = 0,
    ):
        model = replace(model, lora=config.lora)
        self.config, self.model, self.mesh, self.rng_seed = config, model, mesh, rng_seed
        self.scorer = Scorer(reward, config.rewards, tokenizer, config.splitting)
        if not callable(prompts):
            prompts = Prompts(prompts, config.prompts_per_rollout, rng_seed)
        self._questions = len(prompts.rows) if config.curriculum and isinstance(prompts, Prompts) else 0
        self.actor = Actor(
            config, model, tokenizer, mesh,
            prompts=prompts, scorer=self.scorer, control=control, tool=tool, rng_seed=rng_seed,
        )  # fmt: skip
        self.learner = Learner(config, model, mesh)

    def start(self, params: Params) -> GRPOState:
        """Step 0: the policy is a copy of `params`, or LoRA's updates over them; the reference is `params`."""
        part = lora.start(self.model, params, self.rng_seed, self.mesh)
        train = start_state(self.model, self.learner.optimizer, self.mesh, part)
        reference = make_reference(self.model, params, self.mesh) if self.config.holds_reference else None
        never = self._put(np.full(self._questions, np.nan, np.float32)) if self._questions else None
        draws, tokens = self._put(np.zeros(2, np.int32)), self._put(halves(0))
        return GRPOState(train, reference, draws, tokens, never)

    def target(self) -> GRPOState:
        """Shapes and shardings of the state, for a restore."""
        train = abstract_state(self.model, self.learner.optimizer, self.mesh)
        everywhere = replicated(self.mesh)
        draws = jax.ShapeDtypeStruct((2,), jnp.int32, sharding=everywhere)
        tokens = jax.ShapeDtypeStruct((2,), jnp.uint32, sharding=everywhere)
        success = jax.ShapeDtypeStruct((self._questions,), jnp.float32, sharding=everywhere)
        reference = reference_target(self.model, self.mesh) if self.config.holds_reference else None
        return GRPOState(train, reference, draws, tokens, success if self._questions else None)

    def policy(self, state: GRPOState) -> Params:
        """All of the policy's parameters."""
        return lora.whole(self.model, state.reference, state.train.params)

    def step(self, state: GRPOState, step: int, folder: Path) -> tuple[GRPOState, dict[str, float]]:
        """An update, after a rollout where the one before has served mu times.

        The rollout goes to folder/rollouts/, its completions to folder/completions/STEP.jsonl.
        """
        config, journal = self.config, Journal(folder / ROLLOUTS)
        place, compiled = step % config.num_iterations, compilations()
        self.actor.usage()
        first, following = (int(draw) for draw in np.asarray(state.draws))
        if place:
            rollout = self.actor.rollout(None, first, journal)
        else:
            first, is_queued = following, config.overlap and step > 0
            params = None if is_queued else self.policy(state)
            rollout = self.actor.rollout(params, first, journal, success=state.success)
            self._keep(rollout, step, folder, journal, first)
            tokens = whole_of(state.num_tokens) + num_tokens(rollout, self.actor.tokenizer)
            state = state._replace(num_tokens=self._put(halves(tokens)))
            if self._questions:
                state = state._replace(success=self._put(successes(state.success, rollout)))
        draws = np.array([first, first + rollout.draws], np.int32)
        state = state._replace(draws=self._put(draws))
        metrics = rollout_metrics(rollout) | ({} if place else rollout_sums(rollout))
        state, measured = self.update(state, rollout, journal, place)
        metrics |= measured | {"num_tokens": float(whole_of(state.num_tokens))}
        if not config.overlap:  # there the devices are shared with the update
            metrics |= rollout_speed(self.model, self.mesh, rollout, self.actor.usage())
        return state, metrics | {"compilations": float(compilations() - compiled)}

    def update(
        self, state: GRPOState, rollout: Rollout, journal: Journal, place: int = 0
    ) -> tuple[GRPOState, dict[str, float]]:
        """The update of this place among a rollout's mu; with `overlap` the next rollout is sampled beside the first."""
        began, (first, following) = time.monotonic(), (int(draw) for draw in np.asarray(state.draws))
        batch = self.micro_batches(rollout, journal.old_logps(first) if place else None)
        has_others = place == 0 and self.config.num_iterations > 1
        update = self.learner.update(state.train, state.reference, batch, rollout.rows, keep_logps=has_others)
        is_last = int(state.train.step) + self.config.num_iterations >= self.config.loop.steps
        beside: Mapping[str, float] = {}
        if self.config.overlap and place == 0 and not is_last:
            steps, policy = iter(update.advance, False), self.policy(state)
            beside = self.actor.rollout(
                policy, following, journal, success=state.success, meanwhile=steps
            ).seconds
        train, metrics, logps = update.finish()
        if has_others:
            journal.keep_old_logps(first, of_completions(batch, logps))
        reference, count = state.reference, int(train.step)
        if self.config.sync_ref_model and count % self.config.ref_model_sync_steps == 0:
            reference = mixed(reference, train.params, self.config.ref_model_mixup_alpha)
        seconds = time.monotonic() - began
        if not beside:  # there the seconds are the rollout's too
            lengths = [int(row) for micro in batch for row in micro["segment_ids"].sum(axis=1)]
            metrics |= update_speed(self.config, self.model, self.mesh, lengths, seconds)
        state = state._replace(train=train, reference=reference)
        metrics |= {f"seconds/{name}_beside_update": value for name, value in beside.items()}
        return state, metrics | {"seconds/update": seconds}

    def micro_batches(self, rollout: Rollout, old_logps: Sequence[np.ndarray] | None = None) -> list[Arrays]:
        """Of all completions that go into the update. old_logps: of each of them."""
        return micro_batches(
            self.actor.groups(rollout),
            self.config.micro_batch_tokens,
            shards=batch_shards(self.mesh),
            mask_truncated=self.config.mask_truncated_completions,
            share_prompts=self.config.share_prompts,
            old_logps=old_logps,
        )

    def _keep(self, rollout: Rollout, step: int, folder: Path, journal: Journal, first: int) -> None:
        """Writes the completions for people, and forgets the rollouts that no checkpoint needs any more."""
        name, loop = folder / COMPLETIONS / f"{step:06d}.jsonl", self.config.loop
        on_first_process(lambda: write_text(name, completions_text(rollout)))
        journal.forget(first - (loop.keep + 1) * loop.checkpoint_every * self.config.most_rollouts)

    def _put(self, array: np.ndarray) -> jax.Array:
        """On every device."""
        return jax.make_array_from_callback(array.shape, replicated(self.mesh), lambda index: array[index])


def halves(count: int) -> np.ndarray:
    """A count that may be above 32 bits, which is all that the devices have, as uint32 [2]."""
    return np.array([count], np.uint64).view(np.uint32)


def whole_of(pair: jax.Array | np.ndarray) -> int:
    """The count that halves() parted."""
    return int(np.asarray(pair).view(np.uint64)[0])


def successes(before: jax.Array, rollout: Rollout) -> np.ndarray:
    """Success rates [questions] after a rollout: of what was asked the mean reward, taken to lie in 0..1."""
    after = np.array(before)
    for question, rewards in zip(rollout.questions, rollout.rewards, strict=False):
        there = rewards[~np.isnan(rewards)]
        if there.size:
            after[question] = np.clip(there, 0, 1).mean()
    return after


def run_grpo(
    grpo: GRPO,
    start: Callable[[], Params],
    folder: Path,
    *,
    look: Look | None = None,
    on_update: OnUpdate | None = None,
    description: str = "GRPO",
) -> Params:
    """Trains to the end, resuming from `folder`; start() gives the initial parameters when there is no checkpoint.

    look(policy, step): called before the first update, every loop.stop_every updates and after the last one; its numbers go
    to metrics.jsonl, but after the last update only where loop.stop_every divides the steps.
    on_update(step, metrics): called after each update.
    """
    (folder / COMPLETIONS).mkdir(parents=True, exist_ok=True)
    rows = read_metrics(folder / METRICS) if (folder / METRICS).exists() else []
    alarms = Alarms(grpo.config.alarms, next((row for row in rows if "entropy" in row), None))

    def update(state: GRPOState, step: int) -> tuple[GRPOState, dict[str, float]]:
        state, metrics = grpo.step(state, step, folder)
        metrics |= alarms(step + 1, metrics)
        if on_update:
            on_update(step + 1, metrics)
        return state, metrics

    def scores(state: GRPOState, step: int = 0) -> Mapping[str, float]:
        assert look is not None
        return look(grpo.policy(state), step)

    def begin() -> GRPOState:
        on_first_process(grpo.actor.check_rewards)
        return grpo.start(start())

    with grpo.scorer:
        state = run_loop(
            update,
            begin,
            grpo.target(),
            grpo.config.loop,
            folder,
            description=description,
            at_start=scores if look else None,
            stop=(lambda state, step: (False, scores(state, step))) if look else None,
        )
    if look:
        look(grpo.policy(state), grpo.config.loop.steps)
    return lora.merged(grpo.model, state.reference, state.train.params, grpo.mesh)
