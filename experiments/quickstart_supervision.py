"""Process supervision of the quickstart: steps labelled by Math-Shepherd, and a reward model that learns from them.

The SFT model's solutions are labelled by completions of SFT continued; the reward model begins as the SFT model. Not a
script: quickstart.py --full calls it. Left out on purpose: GRPO with that reward model, which is as with any other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from label_steps_report import collect
from reward_model_report import measured
from small_model import SmallModel, questions
from worked_solutions import worked_solutions

from dsm_jax.data.prompts import prompt_text
from dsm_jax.errors import UserError
from dsm_jax.model import Model
from dsm_jax.model.decoder import Params
from dsm_jax.rl.reward_model.examples import make_examples
from dsm_jax.rl.reward_model.folder import save_reward_model
from dsm_jax.rl.reward_model.form import FILE, Form
from dsm_jax.rl.reward_model.readout import start_params, two_tokens
from dsm_jax.rl.reward_model.score import RewardModel
from dsm_jax.rl.reward_model.train import of_epochs, train_reward_model
from dsm_jax.rl.shepherd.config import Shepherd
from dsm_jax.rl.shepherd.run import LABELS, fill_pools, label_chunks
from dsm_jax.rl.steps.labelled import Labelled, read_labelled
from dsm_jax.rl.steps.truths import solution_truths
from dsm_jax.run import is_done, mark_done
from dsm_jax.sample.sampler import Sampler
from dsm_jax.tokenizer import Tokenizer
from dsm_jax.train.lm import LMTraining
from dsm_jax.train.loop import LoopConfig
from dsm_jax.train.optimizer import OptimizerConfig

MODEL = "model"  # the reward model in its stage's folder


@dataclass(frozen=True)
class Supervision:
    """How steps are labelled, and how the reward model learns from them."""

    problems: int = 500  # that are labelled, of the split that GRPO asks
    labels: Shepherd = Shepherd(solutions=4, n=4, temperature=1.0)
    # problems whose worked solutions, some with wrong steps, are learned from too, labelled by their truth: for a model
    # that finds hardly any right answer
    worked: int = 0
    held_out: int = 1_500  # questions of 10,000 on whose solutions the reward model is measured
    reward_model: LMTraining = LMTraining(
        loop=LoopConfig(steps=100, log_every=10, checkpoint_every=50),
        optimizer=OptimizerConfig(peak_lr=1e-3, warmup_steps=10, schedule="cosine", weight_decay=0.0),
        batch_size=16,
        window=256,
        micro_batch_rows=8,
    )
    epochs: float = 3.0  # passes over the windows, which give the number of updates
    weight: float = 0.1  # in GRPO, of the steps' advantages beside those of the 1-0 reward of the answer

    def __post_init__(self) -> None:
        for name, least in {"problems": 1, "worked": 0, "held_out": 1}.items():
            if getattr(self, name) < least:
                option = f"--supervision.{name.replace('_', '-')}"
                raise UserError(f"{option} is {getattr(self, name)}; it must be at least {least}")
        if not 0 < self.epochs < float("inf"):
            raise UserError(f"--supervision.epochs is {self.epochs}; it must be above 0")
        if not self.weight > 0:
            raise UserError(f"--supervision.weight is {self.weight}; it must be above 0")
        if self.held_out >= 10_000:
            raise UserError(
                f"--supervision.held-out is {self.held_out}; it must be below 10,000 (questions of 10,000)"
            )


SMOKE = Supervision(
    problems=8,
    labels=Shepherd(solutions=2, n=2, temperature=1.0, chunk=4, patience=0),
    worked=60,
    reward_model=replace(
        Supervision().reward_model,
        loop=LoopConfig(steps=10, log_every=5, checkpoint_every=5),
        optimizer=OptimizerConfig(peak_lr=1e-3, warmup_steps=1),
        window=128,
    ),
    epochs=1.0,
)


class Supervised:
    """The two stages, over the quickstart's mesh, tokenizer and sampler."""

    def __init__(
        self,
        config: Supervision,
        small: SmallModel,
        tokenizer: Tokenizer,
        mesh: Mesh,
        sampler: Sampler,
        out: Path,
        rng_seed: int,
    ):
        self.config, self.small, self.tokenizer, self.mesh, self.out = config, small, tokenizer, mesh, out
        self.sampler, self.rng_seed = sampler, rng_seed
        longest = small.grpo.max_completion_length
        self.shepherd = replace(config.labels, max_new_tokens=longest, rng_seed=rng_seed)
        self.problems = questions(small, "labels", rng_seed).distinct(config.problems)
        self.by_question = {one.question: one for one in self.problems}

    def label(self, policy: Params, completer: Params) -> dict[str, Any]:
        """out/labels: solutions of the policy, completed from each step; what results.json says of them."""
        out = self.out / "labels"
        if not is_done(out):
            self.sampler.load(policy)
            rows = [
                {
                    "question": p.question,
                    "answer": p.answer,
                    "prompt": prompt_text(p.question),
                    "task": p.family,
                }
                for p in self.problems
            ]
            fill_pools(self.sampler, rows, out, self.shepherd)
            self.sampler.load(completer)
            label_chunks(self.sampler, out, self.shepherd)
            self.sampler.unload()
            mark_done(out)
        return collect(out, self.shepherd, self.truth)

    def train(self, policy: Params) -> tuple[RewardModel, dict[str, Any]]:
        """out/reward_model: trained from the policy; how it judges held-out solutions beside the truth of their steps."""
        out, config, form = self.out / "reward_model", self.config, Form(two_tokens(self.tokenizer))
        train = questions(self.small, "sft", self.rng_seed)
        worked = worked_solutions(train, config.worked, self.rng_seed)
        solutions = chain(read_labelled([self.out / "labels" / LABELS]), worked)
        training = config.reward_model
        examples = make_examples(solutions, form, self.tokenizer, training.window, held_out=config.held_out)
        training = of_epochs(training, len(examples.train), config.epochs)
        params = train_reward_model(
            training, self.small.model, self.mesh, form.readout, examples.train,
            start=partial(start_params, self.small.model, policy, form.readout, self.mesh), folder=out,
            rng_seed=self.rng_seed,
        )  # fmt: skip
        model = Model(self.small.model, params)
        if not (out / MODEL / FILE).exists():
            save_reward_model(model, form, out / MODEL, self.out / "tokenizer" / "tokenizer.model")
        judge = RewardModel(model, form, self.tokenizer, self.mesh)
        held_out = measured(judge, [self._with_truth(one) for one in examples.held_out])
        return judge, {"updates": training.loop.steps, "examples": examples.counts, "held_out": held_out}

    def truth(self, one: Labelled) -> tuple[bool, ...] | None:
        """Of each step; None of a solution of another problem."""
        problem = self.by_question.get(one.question)
        return solution_truths(problem, one.completion, one.ends) if problem else None

    def _with_truth(self, one: Labelled) -> Labelled:
        """With the truth of its steps in the place of their labels, which of a worked solution they are."""
        truths = self.truth(one)
        return one if truths is None else replace(one, labels=tuple(map(float, truths)))
