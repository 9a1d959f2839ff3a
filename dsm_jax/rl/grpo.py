"""Group Relative Policy Optimization (DeepSeekMath, section 4.1): rollout, rewards, advantages, update.

One process, one mesh: the sampler decodes from the parameters that the learner has just written. The reference policy
is the one training started from. Parameters are an fp32 master.
Left out on purpose: process rewards, reference refresh.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from jax.sharding import Mesh

from dsm_jax.model import lora
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.decoder import Params
from dsm_jax.model.params import abstract_params
from dsm_jax.rl.advantages import outcome_advantages
from dsm_jax.rl.config import GRPOTraining
from dsm_jax.rl.rewards import Reward, accuracy_reward, call_reward
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

Control = Callable[..., np.ndarray]  # rewards [N, G] -> other rewards [N, G]; see rewards.py


class Question(Protocol):
    """What a prompt source yields: the question and its gold answer."""

    @property
    def question(self) -> str: ...
    @property
    def answer(self) -> str: ...


class GRPOState(NamedTuple):
    """What a checkpoint holds: the policy with its optimiser, and the reference policy."""

    train: TrainState
    reference: Params


class Sampled(NamedTuple):
    """One step's rollout: questions [N], completions [N][G], and [N, G] each: what the reward function gave, the
    rewards used (others under a control), their advantages."""

    questions: list[Any]
    completions: list[list[Completion]]
    graded: np.ndarray
    rewards: np.ndarray
    advantages: np.ndarray


class GRPO:
    """The compiled programs of a run and the step that joins them.

    questions(step) gives the step's prompts_per_step questions; prompt(question) their text.
    """

    def __init__(
        self,
        config: GRPOTraining,
        model: ModelConfig,
        tokenizer: Tokenizer,
        mesh: Mesh,
        *,
        questions: Callable[[int], Sequence[Question]],
        prompt: Callable[[str], str],
        reward: Reward = accuracy_reward,
        control: Control | None = None,
        rng_seed: int = 0,
    ):
        model = replace(model, lora=config.lora)
        self.config, self.model, self.tokenizer, self.mesh = config, model, tokenizer, mesh
        self.questions, self.prompt, self.reward, self.control = questions, prompt, reward, control
        self.rng_seed = rng_seed
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
        """G completions of each of the step's questions, graded, with group-relative advantages."""
        config, questions = self.config, list(self.questions(step))
        self.sampler.load(params)
        completions = self.sampler.generate(
            [self.prompt(question.question) for question in questions],
            n=config.num_generations,
            max_new_tokens=config.max_completion_length,
            temperature=config.temperature,
            seed=self.rng_seed,
            prompt_ids=[step * config.prompts_per_step + i for i in range(len(questions))],
        )
        require_answers(completions)
        graded = self._graded(questions, completions)
        rewards = self.control(graded, rng_seed=self.rng_seed, step=step) if self.control else graded
        advantages = outcome_advantages(rewards, scale=config.loss.scale_rewards)
        return Sampled(questions, completions, graded, rewards, np.asarray(advantages))

    def _graded(self, questions: list, completions: list[list[Completion]]) -> np.ndarray:
        group = self.config.num_generations
        prompts = [question.question for question in questions for _ in range(group)]
        answers = [question.answer for question in questions for _ in range(group)]
        texts = [completion.text for row in completions for completion in row]
        return call_reward(self.reward, prompts, texts, {"answer": answers}).reshape(-1, group)

    def update(self, state: GRPOState, sampled: Sampled) -> tuple[GRPOState, dict[str, float]]:
        """mu optimiser updates from a rollout."""
        batch = self.micro_batches(sampled)
        train, metrics = self.learner.update(state.train, state.reference, batch, sampled.rewards.size)
        return GRPOState(train, state.reference), metrics

    def micro_batches(self, sampled: Sampled) -> list[dict[str, np.ndarray]]:
        """Of all completions, sorted by length."""
        groups = zip(sampled.questions, sampled.completions, sampled.advantages, strict=True)
        rollouts = [Rollout(self._prompt_ids(question), *rest) for question, *rest in groups]
        return micro_batches(rollouts, self.config.micro_batch_rows)

    def _prompt_ids(self, question: Question) -> list[int]:
        return [self.tokenizer.bos_id, *self.tokenizer.encode(self.prompt(question.question))]

    def step(self, state: GRPOState, step: int, folder: Path) -> tuple[GRPOState, dict[str, float]]:
        """Rollout and update; the completions go to folder/completions/STEP.jsonl."""
        began = time.monotonic()
        sampled = self.rollout(self.policy(state), step)
        sampled_at = time.monotonic()
        state, metrics = self.update(state, sampled)
        seconds = {"seconds/rollout": sampled_at - began, "seconds/update": time.monotonic() - sampled_at}
        write_text(folder / "completions" / f"{step:06d}.jsonl", _jsonl(_rows(sampled, self.prompt)))
        metrics |= reward_metrics(sampled.rewards) | length_metrics(sampled.completions)
        name = getattr(self.reward, "__name__", type(self.reward).__name__)
        return state, metrics | {f"rewards/{name}/mean": float(sampled.graded.mean())} | seconds


def run_grpo(grpo: GRPO, start: Callable[[], Params], folder: Path, *, description: str = "GRPO") -> Params:
    """Trains to the end, resuming from `folder`; start() gives the initial parameters when there is no checkpoint."""
    (folder / "completions").mkdir(parents=True, exist_ok=True)
    state = run_loop(
        lambda state, step: grpo.step(state, step, folder),
        lambda: grpo.start(start()),
        grpo.target(),
        grpo.config.loop,
        folder,
        description=description,
    )
    return lora.merged(grpo.model, state.reference, state.train.params, grpo.mesh)


def reward_metrics(rewards: np.ndarray) -> dict[str, float]:
    """TRL's names, over rewards [N, G]; zero-spread groups apart by whether all were right."""
    flat = rewards.max(axis=1) == rewards.min(axis=1)
    return {
        "reward": float(rewards.mean()),
        "reward_std": float(rewards.std(axis=1).mean()),
        "frac_reward_zero_std": float(flat.mean()),
        "frac_all_right": float((flat & (rewards.min(axis=1) > 0)).mean()),
    }


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


def _rows(sampled: Sampled, prompt: Callable[[str], str]) -> Iterable[Mapping[str, Any]]:
    for i, question in enumerate(sampled.questions):
        for j, completion in enumerate(sampled.completions[i]):
            yield {
                "prompt": prompt(question.question),
                "answer": question.answer,
                "completion": completion.text,
                "finish_reason": completion.finish_reason,
                "graded": float(sampled.graded[i, j]),
                "reward": float(sampled.rewards[i, j]),
                "advantage": round(float(sampled.advantages[i, j]), 6),
            }


def _jsonl(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
