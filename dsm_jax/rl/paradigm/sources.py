"""Where the completions of an update come from (Table 10's first column): worked solutions, samples of the start policy that
are drawn once and kept, or samples of the policy as it is.

For a rollout's number a source gives groups of completions with what they were graded. The kept ones cost as many samples as
the policy's own: all rollouts of the run, drawn before the first update. Of these RFT takes the right completions, DPO pairs
of a right and a wrong one of the same question, each completion once; they are dealt out evenly in the order in which they
were drawn, so that every update has as many, and each is seen about once.
Left out on purpose: removal of equal completions; weights of questions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dsm_jax.data.sft import encode_example
from dsm_jax.errors import UserError
from dsm_jax.model.decoder import Params
from dsm_jax.processes import on_first_process
from dsm_jax.rl.actor import Actor
from dsm_jax.rl.journal import Journal
from dsm_jax.rl.micro_batches import Group
from dsm_jax.rl.paradigm.config import ParadigmTraining
from dsm_jax.rl.paradigm.credit import Graded, require_rule
from dsm_jax.rl.prompts import Prompts
from dsm_jax.rl.rollout import Rollout
from dsm_jax.run import open_run
from dsm_jax.sample.request import Completion
from dsm_jax.tokenizer import Tokenizer


class Given(NamedTuple):
    """What sources are made from."""

    config: ParadigmTraining
    actor: Actor
    tokenizer: Tokenizer
    solutions: Sequence[tuple[str, str]]  # questions with worked solutions
    rng_seed: int


class Fetched(NamedTuple):
    """What the updates of a rollout learn from."""

    groups: list[Group]  # completions without a reward left out
    graded: Graded
    rollout: Rollout | None = None  # drawn for this one


class Source(ABC):
    """Completions by the number of the rollout."""

    is_sampled = True  # else nothing is drawn
    is_kept = False  # drawn before the first update, and never forgotten

    def __init__(self, given: Given):
        self.given = given

    def prepare(self, start: Params | None, folder: Path) -> None:  # noqa: B027 (most have nothing to do)
        """Called before the first call; start: the policy that the run starts from, None after a restart."""

    @abstractmethod
    def __call__(self, draw: int, params: Params | None, folder: Path) -> Fetched:
        """params: the present policy, None where the rollout has been drawn before."""

    @abstractmethod
    def samples(self, draw: int) -> int:
        """Completions drawn up to this rollout, whether they are learned from or not."""


class WorkedSolutions(Source):
    """batch_size of the SFT set, each epoch in an order of its own."""

    is_sampled = False

    def __init__(self, given: Given):
        super().__init__(given)
        if not given.solutions:
            raise UserError("this method learns from worked solutions; give some")
        rows = [{"prompt": question, "solution": solution} for question, solution in given.solutions]
        self._rows = Prompts(rows, given.config.training.batch_size, given.rng_seed)

    def __call__(self, draw: int, params: Params | None, folder: Path) -> Fetched:
        rows = self._rows(draw)
        groups = [_worked(row["prompt"], row["solution"], self.given.tokenizer) for row in rows]
        return Fetched(groups, _graded(groups, [[1.0]] * len(groups)))

    def samples(self, draw: int) -> int:
        return 0


class PolicySamples(Source):
    """Samples of the present policy."""

    def __call__(self, draw: int, params: Params | None, folder: Path) -> Fetched:
        rollout = self.given.actor.rollout(params, draw, Journal(folder))
        lengths = np.array([[len(one.tokens) for one in group] for group in rollout.completions])
        graded = Graded(rollout.rewards, lengths, rollout.scores.steps)
        return Fetched(self.given.actor.groups(rollout), graded, rollout)

    def samples(self, draw: int) -> int:
        return (draw + 1) * self.given.config.training.batch_size


class KeptSamples(Source):
    """Samples of the start policy; `choose` says which of a question's completions make a group."""

    is_kept = True

    def prepare(self, start: Params | None, folder: Path) -> None:
        drawn_with = self._drawn_with(start)  # other runs may share the folder
        free = ("--samples.start",) if start is None else ()
        on_first_process(lambda: open_run(folder, drawn_with, free))
        chosen = []
        for draw in range(self.given.config.rollouts):
            rewards = require_rule(self._rollout(draw, start, folder).rewards)
            chosen += [(draw, i, kept) for i, row in enumerate(rewards) for kept in self.choose(row)]
        if not chosen:
            raise UserError(
                f"{folder}: of {self.samples(0):,} samples of the start policy none can be learned from; draw more, or "
                "start from a policy that is sometimes right and sometimes wrong"
            )
        self._chosen = chosen

    @abstractmethod
    def choose(self, rewards: np.ndarray) -> Iterator[list[int]]:
        """Of a question's rewards [G]: which completions make a group, right ones first."""

    def __call__(self, draw: int, params: Params | None, folder: Path) -> Fetched:
        each = max(1, len(self._chosen) // self.given.config.rollouts)
        mine = [self._chosen[i % len(self._chosen)] for i in range(draw * each, (draw + 1) * each)]
        drawn = {number: self._rollout(number, None, folder) for number in {one[0] for one in mine}}
        groups = [_part(drawn[number], i, kept, self.given.tokenizer) for number, i, kept in mine]
        return Fetched(groups, _graded(groups, [drawn[number].rewards[i, kept] for number, i, kept in mine]))

    def samples(self, draw: int) -> int:
        return self.given.config.rollouts * self.given.config.training.batch_size

    def _drawn_with(self, start: Params | None) -> dict[str, Any]:
        """What the samples and their rewards are a function of, beside the prompts, which the journal looks at."""
        names = ("batch_size", "num_generations", "max_completion_length", "temperature")
        actor = self.given.actor
        found = {name: getattr(self.given.config.training, name) for name in names}
        found |= {"rng_seed": self.given.rng_seed, "rewards": actor.scorer.weights}
        if start is not None:
            actor.sampler.load(start)  # what the first rollout is drawn with
            found["start"] = actor.sampler.fingerprint()
        return {"samples": found}

    def _rollout(self, draw: int, params: Params | None, folder: Path) -> Rollout:
        return self.given.actor.rollout(params, draw, Journal(folder))


class RightSamples(KeptSamples):
    """RFT: the right ones, each for itself."""

    def choose(self, rewards: np.ndarray) -> Iterator[list[int]]:
        return ([int(i)] for i in np.flatnonzero(rewards == 1))


class SamplePairs(KeptSamples):
    """DPO: a right one and a wrong one, in the order in which they were drawn."""

    def choose(self, rewards: np.ndarray) -> Iterator[list[int]]:
        pairs = zip(np.flatnonzero(rewards == 1), np.flatnonzero(rewards == 0), strict=False)
        return ([int(right), int(wrong)] for right, wrong in pairs)


def _worked(question: str, solution: str, tokenizer: Tokenizer) -> Group:
    """The solution as a completion, in the ids of SFT."""
    example = encode_example(question, solution, tokenizer)
    ids, written = np.array(example.ids, np.int32), np.array(example.is_target)
    first = int(written.argmax())
    tokens, written = ids[first:], written[first:]
    nothing = np.zeros(len(tokens), np.float32)
    return Group(
        ids[:first].tolist(), [Completion(solution, tokens, nothing, nothing, ~written, "stop")], [0.0]
    )


def _part(rollout: Rollout, question: int, kept: Sequence[int], tokenizer: Tokenizer) -> Group:
    prompt = [tokenizer.bos_id, *tokenizer.encode(rollout.prompts[question]["prompt"])]
    return Group(prompt, [rollout.completions[question][i] for i in kept], [0.0] * len(kept))


def _graded(groups: Sequence[Group], rewards: Sequence[Sequence[float] | np.ndarray]) -> Graded:
    lengths = [[len(one.tokens) for one in group.completions] for group in groups]
    return Graded(np.array(rewards, float), np.array(lengths))
