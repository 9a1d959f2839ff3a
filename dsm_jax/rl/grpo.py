"""Group Relative Policy Optimization (DeepSeekMath, section 4.1): rollout, rewards, advantages, update.

One process, one mesh: the sampler decodes from the parameters that the learner has just written. The reference policy
is the one training started from. Parameters are an fp32 master.
Left out on purpose: process rewards, reference refresh.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from dsm_jax.errors import UserError
from dsm_jax.model import lora
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.decoder import Params
from dsm_jax.model.params import abstract_params
from dsm_jax.rl.advantages import outcome_advantages
from dsm_jax.rl.config import GRPOTraining
from dsm_jax.rl.reward_functions import accuracy_reward
from dsm_jax.rl.rewards import Reward, Rewards, Scores
from dsm_jax.rl.rollout import Rollout, micro_batches
from dsm_jax.rl.update import Learner
from dsm_jax.run import write_text
from dsm_jax.sample.request import Completion, require_answers
from dsm_jax.sample.sampler import Sampler
from dsm_jax.tokenizer import Tokenizer
from dsm_jax.train.loop import run_loop
from dsm_jax.train.step import (
    TrainState,
    abstract_state,
    start_state,
)

Row = Mapping[str, Any]  # "prompt", the text that is completed, and the columns that rewards take
Look = Callable[[Params, int], Mapping[str, float]]
Control = Callable[..., np.ndarray]  # rewards [N, G] -> other rewards [N, G]; see controls.py


class GRPOState(NamedTuple):
    """What a checkpoint holds: the policy with its optimiser, and the reference policy."""

    train: TrainState
    reference: Params


class Sampled(NamedTuple):
    """One step's rollout: prompts [N], completions [N][G], what the rewards gave [N * G], and [N, G] each: the rewards
    used (others under a control; NaN leaves a row out) and their advantages."""

    prompts: list[Row]
    completions: list[list[Completion]]
    scores: Scores
    rewards: np.ndarray
    advantages: np.ndarray


class GRPO:
    """The compiled programs of a run and the step that joins them.

    prompts(step) gives the step's prompts_per_step rows.
    """

    def __init__(
        self,
        config: GRPOTraining,
        model: ModelConfig,
        tokenizer: Tokenizer,
        mesh: Mesh,
        *,
        prompts: Callable[[int], Sequence[Row]],
        reward: Reward | Sequence[Reward] = accuracy_reward,
        control: Control | None = None,
        rng_seed: int = 0,
    ):
        model = replace(model, lora=config.lora)
        self.config, self.model, self.tokenizer, self.mesh = config, model, tokenizer, mesh
        self.prompts, self.control, self.rng_seed = prompts, control, rng_seed
        self.rewards = Rewards(reward, config.rewards)
        self.sampler = Sampler(model, tokenizer, mesh, slots=config.slots)
        self.learner = Learner(config, model, mesh)

    def start(self, params: Params) -> GRPOState:
        """Step 0: the policy is a copy of `params`, or LoRA's updates over them; the reference is `params`."""
        part = lora.start(self.model, params, self.rng_seed, self.mesh)
        return GRPOState(start_state(self.model, self.learner.optimizer, self.mesh, part), params)

    def target(self) -> GRPOState:
        """Shapes and shardings of the state, for a restore."""
        train = abstract_state(self.model, self.learner.optimizer, self.mesh)
        return GRPOState(train, abstract_params(lora.plain(self.model), self.mesh))

    def policy(self, state: GRPOState) -> Params:
        """All of the policy's parameters."""
        return lora.whole(self.model, state.reference, state.train.params)

    def rollout(self, params: Params, step: int) -> Sampled:
        """G completions of each of the step's prompts, graded, with group-relative advantages."""
        config, rows = self.config, list(self.prompts(step))
        self.sampler.load(params)
        completions = self.sampler.generate(
            [row["prompt"] for row in rows],
            n=config.num_generations,
            max_new_tokens=config.max_completion_length,
            temperature=config.temperature,
            seed=self.rng_seed,
            prompt_ids=[step * config.prompts_per_step + i for i in range(len(rows))],
        )
        require_answers(completions)
        scores = self._scores(rows, completions)
        rewards = scores.total.reshape(len(rows), -1)
        if np.isnan(rewards).all():
            raise UserError(f"step {step}: no completion has a reward, all are None; return some numbers")
        if self.control:
            rewards = self.control(rewards, rng_seed=self.rng_seed, step=step)
        advantages = outcome_advantages(rewards, scale=config.loss.scale_rewards)
        return Sampled(rows, completions, scores, rewards, np.asarray(advantages))

    def _scores(self, rows: list[Row], completions: list[list[Completion]]) -> Scores:
        flat = [(row, one) for row, group in zip(rows, completions, strict=True) for one in group]
        columns = {name: [row[name] for row, _ in flat] for name in rows[0] if name != "prompt"}
        columns["completion_ids"] = [one.tokens.tolist() for _, one in flat]
        return self.rewards([row["prompt"] for row, _ in flat], [one.text for _, one in flat], columns)

    def update(self, state: GRPOState, sampled: Sampled) -> tuple[GRPOState, dict[str, float]]:
        """mu optimiser updates from a rollout."""
        batch, rows = self.micro_batches(sampled), int((~np.isnan(sampled.rewards)).sum())
        train, metrics = self.learner.update(state.train, state.reference, batch, rows)
        return GRPOState(train, state.reference), metrics

    def micro_batches(self, sampled: Sampled) -> list[dict[str, np.ndarray]]:
        """Of all completions that have a reward, sorted by length."""
        rollouts = []
        groups = zip(sampled.prompts, sampled.completions, sampled.rewards, sampled.advantages, strict=True)
        for row, completions, rewards, advantages in groups:
            there = np.flatnonzero(~np.isnan(rewards))
            prompt = [self.tokenizer.bos_id, *self.tokenizer.encode(row["prompt"])]
            rollouts.append(Rollout(prompt, [completions[i] for i in there], advantages[there]))
        return micro_batches(rollouts, self.config.micro_batch_rows)

    def step(self, state: GRPOState, step: int, folder: Path) -> tuple[GRPOState, dict[str, float]]:
        """Rollout and update; the completions go to folder/completions/STEP.jsonl."""
        began = time.monotonic()
        sampled = self.rollout(self.policy(state), step)
        sampled_at = time.monotonic()
        state, metrics = self.update(state, sampled)
        seconds = {"seconds/rollout": sampled_at - began, "seconds/update": time.monotonic() - sampled_at}
        write_text(folder / "completions" / f"{step:06d}.jsonl", _jsonl(_rows(sampled)))
        metrics |= reward_metrics(sampled.rewards, sampled.scores) | length_metrics(sampled.completions)
        return state, metrics | seconds


def run_grpo(
    grpo: GRPO,
    start: Callable[[], Params],
    folder: Path,
    *,
    look: Look | None = None,
    description: str = "GRPO",
) -> Params:
    """Trains to the end, resuming from `folder`; start() gives the initial parameters when there is no checkpoint.

    look(policy, step): called before the first update, every loop.stop_every updates and after the last one.
    """
    (folder / "completions").mkdir(parents=True, exist_ok=True)

    def begin() -> GRPOState:
        state = grpo.start(start())
        if look:
            look(grpo.policy(state), 0)
        return state

    def seen(state: GRPOState, step: int) -> tuple[bool, Mapping[str, float]]:
        return False, look(grpo.policy(state), step) if look else {}

    with grpo.rewards:
        state = run_loop(
            lambda state, step: grpo.step(state, step, folder),
            begin,
            grpo.target(),
            grpo.config.loop,
            folder,
            description=description,
            stop=seen if look else None,
        )
    if look:
        look(grpo.policy(state), grpo.config.loop.steps)
    return lora.merged(grpo.model, state.reference, state.train.params, grpo.mesh)


def reward_metrics(rewards: np.ndarray, scores: Scores) -> dict[str, float]:
    """TRL's names, over rewards [N, G], NaN apart; zero-spread groups apart by whether all were right."""
    groups = [row[~np.isnan(row)] for row in rewards]
    flat = [group for group in groups if group.size and group.max() == group.min()]
    right = [group for group in flat if group.min() > 0]
    metrics = {
        "reward": float(np.nanmean(rewards)),
        "reward_std": float(np.mean([group.std() for group in groups if group.size])),
        "frac_reward_zero_std": len(flat) / len(groups),
        "frac_all_right": len(right) / len(groups),
        "rewards/failed": float(scores.failures),
        "rewards/left_out": float(np.isnan(rewards).sum()),
    }
    for name, values in scores.by_name.items():
        there = values[~np.isnan(values)]
        metrics[f"rewards/{name}/mean"] = float(there.mean()) if there.size else 0.0
        metrics[f"rewards/{name}/std"] = float(there.std()) if there.size else 0.0
    return metrics


def length_metrics(completions: list[list[Completion]]) -> dict[str, float]:
    """Lengths in tokens, end of sequence included, and the share cut at the limit."""
    lengths = np.array([len(c.tokens) for row in completions for c in row])
    cut = np.array([not c.finished for row in completions for c in row])
    return {
        "completions/mean_length": float(lengths.mean()),
        "completions/max_length": float(lengths.max()),
        "completions/clipped_ratio": float(cut.mean()),
        "num_tokens": float(lengths.sum()),
    }


def _rows(sampled: Sampled) -> Iterable[Mapping[str, Any]]:
    groups = zip(sampled.prompts, sampled.completions, sampled.rewards, sampled.advantages, strict=True)
    at = itertools.count()
    for row, completions, rewards, advantages in groups:
        for completion, reward, advantage in zip(completions, rewards, advantages, strict=True):
            i = next(at)
            yield {
                **row,
                "completion": completion.text,
                "finish_reason": completion.finish_reason,
                "rewards": {name: _plain(values[i]) for name, values in sampled.scores.by_name.items()},
                "reward": _plain(reward),
                "advantage": round(float(advantage), 6),
            }


def _plain(reward: float) -> float | None:
    return None if np.isnan(reward) else float(reward)


def _jsonl(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
