"""Group Relative Policy Optimization (DeepSeekMath, section 4.1): rollout, rewards, advantages, update.

One process, one mesh: the sampler decodes from the parameters that the learner has just written. One update
per rollout (mu = 1), so the old policy is the present one and the ratio is exactly 1. The reference policy is
the one training started from. Parameters are an fp32 master.
Left out on purpose: mu > 1, process rewards, reference refresh.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from dsm_jax.errors import UserError
from dsm_jax.mesh import batch_sharding, replicated
from dsm_jax.model import lora
from dsm_jax.model.config import LoRA, ModelConfig
from dsm_jax.model.decoder import Params, Remat
from dsm_jax.model.params import abstract_params, param_shapes, param_shardings
from dsm_jax.rl.advantages import outcome_advantages
from dsm_jax.rl.metrics import Mean, Metrics, merge_metrics, metric_values
from dsm_jax.rl.objectives import GRPOConfig, grpo_loss
from dsm_jax.rl.rewards import Reward, accuracy_reward, call_reward
from dsm_jax.rl.rollout import Rollout, micro_batches
from dsm_jax.run import write_text
from dsm_jax.sample.request import Completion, require_answers
from dsm_jax.sample.sampler import Sampler
from dsm_jax.tokenizer import Tokenizer
from dsm_jax.train.logps import token_logps
from dsm_jax.train.loop import LoopConfig, run_loop
from dsm_jax.train.optimizer import OptimizerConfig, make_optimizer
from dsm_jax.train.step import (
    TrainState,
    abstract_state,
    apply_gradients,
    put_batch,
    start_state,
    state_shardings,
)

Control = Callable[..., np.ndarray]  # rewards [N, G] -> other rewards [N, G]; see rewards.py


class Question(Protocol):
    """What a prompt source yields: the question and its gold answer."""

    @property
    def question(self) -> str: ...
    @property
    def answer(self) -> str: ...


@dataclass(frozen=True)
class GRPOTraining:
    """A GRPO run. The defaults are the paper's (section 4.2); names as TRL's where it has them."""

    loop: LoopConfig = LoopConfig(steps=9_000, log_every=1, checkpoint_every=100)  # 144K questions / 16
    prompts_per_step: int = 16  # 16 questions x 64 = the paper's batch of 1,024
    num_generations: int = 64  # G, completions of a question
    max_completion_length: int = 1024  # tokens
    temperature: float = 1.0  # of the rollouts; not stated in the paper
    loss: GRPOConfig = GRPOConfig()
    lora: LoRA = LoRA()  # train low-rank updates only; the reference is then the base, without a copy
    # Only the learning rate is stated in the paper.
    optimizer: OptimizerConfig = OptimizerConfig(peak_lr=1e-6, schedule="constant", weight_decay=0.0)
    micro_batch_rows: int = 64  # sequences whose activations exist at once
    slots: int = 256  # rows decoded at once
    remat: Remat = "full"  # made again in the backward pass: no activation, all but matmuls' (dots), or all

    def __post_init__(self) -> None:
        if self.num_generations < 2:
            raise UserError(
                f"num_generations is {self.num_generations}; a group needs at least 2 completions"
            )
        for name in ("prompts_per_step", "max_completion_length", "micro_batch_rows", "slots"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not self.temperature > 0:
            raise UserError(
                f"temperature is {self.temperature}; a rollout needs one above 0 (the paper's preset: 1)"
            )


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
        self.optimizer, self.schedule = make_optimizer(config.optimizer, config.loop.steps)
        self.sampler = Sampler(model, tokenizer, mesh, slots=config.slots)
        self._gradients = make_gradients(config, model, mesh)
        self._apply = make_apply(model, self.optimizer, mesh)

    def start(self, params: Params) -> GRPOState:
        """Step 0: the policy is a copy of `params`, or LoRA's updates over them; the reference is `params`."""
        part = lora.start(self.model, params, self.rng_seed, self.mesh)
        return GRPOState(start_state(self.model, self.optimizer, self.mesh, part), params)

    def target(self) -> GRPOState:
        """Shapes and shardings of the state, for a restore."""
        train = abstract_state(self.model, self.optimizer, self.mesh)
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
        return Sampled(questions, completions, graded, rewards, np.asarray(outcome_advantages(rewards)))

    def _graded(self, questions: list, completions: list[list[Completion]]) -> np.ndarray:
        group = self.config.num_generations
        prompts = [question.question for question in questions for _ in range(group)]
        answers = [question.answer for question in questions for _ in range(group)]
        texts = [completion.text for row in completions for completion in row]
        return call_reward(self.reward, prompts, texts, {"answer": answers}).reshape(-1, group)

    def update(self, state: GRPOState, sampled: Sampled) -> tuple[GRPOState, dict[str, float]]:
        """One optimiser update from a rollout: gradients summed over micro-batches sorted by length."""
        rollouts = [
            Rollout(self._prompt_ids(question), completions, advantages)
            for question, completions, advantages in zip(
                sampled.questions, sampled.completions, sampled.advantages, strict=True
            )
        ]
        total = (
            sampled.rewards.size,
            sum(int((~c.inserted).sum()) for row in sampled.completions for c in row),
        )
        gradients, metrics = None, None
        with jax.set_mesh(self.mesh):
            for micro in micro_batches(rollouts, self.config.micro_batch_rows):
                batch = put_batch(micro, self.mesh)
                gradients, measured = self._gradients(
                    gradients, state.train.params, state.reference, batch, total
                )
                metrics = measured if metrics is None else merge_metrics(metrics, measured)
            train, norm = self._apply(state.train, gradients)
        values = metric_values(jax.device_get(metrics))
        values |= {"grad_norm": float(norm), "learning_rate": float(self.schedule(int(train.step) - 1))}
        return GRPOState(train, state.reference), values

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


def make_gradients(config: GRPOTraining, model: ModelConfig, mesh: Mesh) -> Callable:
    """(sum so far or None, params, reference, micro-batch, (rows, tokens) of the whole batch) -> (sum, metrics).

    The reference's log-probabilities are computed in the same program, without a gradient. Of a model with LoRA,
    `params` is the part that trains, and the reference its base.
    """
    base = lora.plain(model)

    def loss(part: Params, reference: Params, batch: dict, total: tuple) -> tuple[jax.Array, Metrics]:
        logps = partial(
            token_logps, tokens=batch["tokens"], segment_ids=batch["segment_ids"],
            temperature=config.temperature, remat=config.remat,
        )  # fmt: skip
        policy = logps(model, lora.whole(model, reference, part))
        ref = jax.lax.stop_gradient(logps(base, reference).logps)
        output = grpo_loss(
            policy.logps, None, ref, batch["advantages"], batch["mask"], config.loss,
            sampler_logps=batch["sampler_logps"], entropies=policy.entropies, denominators=total,
        )  # fmt: skip
        return output.loss, output.metrics | {"loss": Mean(output.sum, batch["segment_ids"][:, 0].sum())}

    def gradients(accumulated: Params, params: Params, reference: Params, batch: dict, total: tuple) -> tuple:
        grads, metrics = jax.grad(loss, has_aux=True)(params, reference, batch, total)
        return jax.tree.map(jnp.add, accumulated, grads), metrics

    params = lora.trained(model, param_shardings(model, mesh))
    compiled = jax.jit(
        gradients,
        donate_argnums=0,
        in_shardings=(params, params, param_shardings(base, mesh), batch_sharding(mesh), None),
        out_shardings=(params, replicated(mesh)),
    )
    zeros = jax.jit(
        lambda: jax.tree.map(lambda a: jnp.zeros(a.shape), lora.trained(model, param_shapes(model))),
        out_shardings=params,
    )

    def accumulate(accumulated: Params | None, *args: Any) -> tuple[Params, Metrics]:
        return compiled(zeros() if accumulated is None else accumulated, *args)

    return accumulate


def make_apply(model: ModelConfig, optimizer: optax.GradientTransformation, mesh: Mesh) -> Callable:
    """(TrainState, gradients) -> (TrainState, gradient norm); the state's buffers are donated."""
    shardings = state_shardings(model, optimizer, mesh)
    return jax.jit(
        partial(apply_gradients, optimizer),
        donate_argnums=0,
        in_shardings=(shardings, shardings.params),
        out_shardings=(shardings, replicated(mesh)),
    )


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
